//! Compares the results of every cell and option, to the bit, with hashes that were recorded
//! before. A change that was meant to change nothing fails here if it does, and the effect of any
//! other change shows as lines of a diff.
//!
//! `hashes.txt` has a line for each case and instruction set. Each case is computed on one thread
//! and on three, in one pass and in several, by a plan and by a stream, and has the same hashes in
//! all of these ways. The inputs are made with integers and the four operations on f32, and values
//! that the system's libraries compute in f64 are rounded to f32 before they are hashed, so the
//! hashes of portable code are the same on every machine and with every compiler.
//!
//! Lines of an instruction set that this machine lacks are not compared, and the test says so. So
//! it does of cases that are recorded, but not on an instruction set that this machine has. If a
//! change is meant, this records the lines of the instruction sets that the machine has:
//!
//! ```text
//! BPTT_GOLDEN=record cargo test -p bptt --test golden
//! scripts/neon.sh golden
//! ```

mod cells;
#[path = "../common/mod.rs"]
mod common;
mod hash;
mod networks;
mod optimisers;
mod readout;
mod table;

use common::{is_slow, isas, say};
use hash::Hashes;
use std::path::Path;
use table::Table;

const HEAD: &str = "\
Hashes of what each case computes on each instruction set: the case, the set, and each part
with its hash. tests/golden/main.rs says what they are for and how they are recorded.";

/// The cases on the instruction sets of this machine, and the promises that were broken.
#[derive(Default)]
pub struct Log {
    table: Table,
    broken: Vec<String>,
}

impl Log {
    /// Adds the hashes of a case.
    pub fn add(&mut self, case: &str, isa: bptt::Isa, hashes: &Hashes) {
        self.table.insert(case, isa.name(), hashes);
    }

    /// Notes if a part has other bits in another way of computing it.
    pub fn expect(&mut self, same: bool, case: &str, isa: bptt::Isa, way: &str) {
        if !same {
            self.broken.push(format!("{case} on {isa}: other bits {way}"));
        }
    }
}

#[test]
fn hashes_are_those_recorded() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hashes.txt");
    let names: Vec<&str> = isas().iter().map(|isa| isa.name()).collect();
    let mut log = Log::default();
    for &isa in isas() {
        cells::run(isa, &mut log);
        readout::run(isa, &mut log);
        networks::run(isa, &mut log);
        optimisers::run(isa, &mut log);
    }
    let Log { table, broken } = log;
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    let mut recorded = Table::parse(&recorded);
    if std::env::var_os("BPTT_GOLDEN").is_some_and(|what| what == "record") {
        assert!(!is_slow(), "with EMULATED set some cases are left out: recorded without it only");
        assert!(broken.is_empty(), "nothing is recorded:\n{}", broken.join("\n"));
        recorded.replace(&names, table);
        std::fs::write(&file, recorded.print(HEAD)).unwrap();
        say(&format!("recorded the hashes of {}", names.join(", ")));
        return;
    }
    for (isa, count) in table.unrecorded(&recorded) {
        say(&format!(
            "NOT compared on {isa}: {count} cases, which BPTT_GOLDEN=record would record"
        ));
    }
    let found = table.differences(&recorded, &names, !is_slow());
    assert!(
        found.is_empty() && broken.is_empty(),
        "{} promises are broken and {} lines of {} differ; where that is meant, \
         BPTT_GOLDEN=record records them anew:\n{}",
        broken.len(),
        found.len(),
        file.display(),
        [broken, found].concat().join("\n")
    );
}
