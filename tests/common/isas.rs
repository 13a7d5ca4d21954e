//! The instruction sets that a suite runs on, and how much of it. Knows the table's names.

use bptt_kernels::{ISA_VARIABLE, Isa};
use std::io::Write;
use std::sync::OnceLock;

/// Every name of the table.
const TABLE: [&str; 4] = ["avx512", "avx2", "neon", "portable"];

/// The instruction set that `BPTT_ISA` names, or all that this machine has. Prints once which ones
/// of the table are left out.
pub fn isas() -> &'static [Isa] {
    static ISAS: OnceLock<Vec<Isa>> = OnceLock::new();
    ISAS.get_or_init(|| {
        let isas = match std::env::var_os(ISA_VARIABLE) {
            Some(_) => vec![Isa::best().unwrap()],
            None => Isa::available().to_vec(),
        };
        let (run, left): (Vec<&str>, Vec<&str>) =
            TABLE.iter().partition(|name| isas.iter().any(|isa| isa.name() == **name));
        say(&format!("run on {}; NOT run on {}", run.join(", "), left.join(", ")));
        isas
    })
}

/// Whether the CPU is emulated or the code instrumented, so that it is tens of times slower.
pub fn is_slow() -> bool {
    std::env::var_os("EMULATED").is_some()
}

/// All of them, or the first few where all would take minutes.
pub fn fewer<T>(all: &[T], few: usize) -> &[T] {
    if is_slow() { &all[..few] } else { all }
}

/// Prints the line even if the test passes, when the harness swallows `eprintln!`.
pub fn say(what: &str) {
    let mut log = std::io::stderr();
    writeln!(log, "{what}").unwrap();
}
