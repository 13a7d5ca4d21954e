//! The file of hashes: a line for each case and instruction set. Knows text; must not know what is
//! computed.

use super::hash::Hashes;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The key of a line: the names of a case and of an instruction set.
pub type Key = (String, String);

/// Lines in the order of their keys.
#[derive(Debug, Default)]
pub struct Table {
    lines: BTreeMap<Key, String>,
}

/// The parts of a case with their hashes, as a line has them.
fn text(hashes: &Hashes) -> String {
    let words: Vec<String> =
        hashes.iter().map(|(part, hash)| format!("{part} {hash:08x}")).collect();
    words.join("  ")
}

/// The parts of a line and their hashes.
fn parts(line: &str) -> BTreeMap<&str, &str> {
    line.split("  ").filter_map(|part| part.split_once(' ')).collect()
}

impl Table {
    /// Reads the table from the text of a file.
    pub fn parse(file: &str) -> Self {
        let lines = file.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let [case, isa, rest] = line.splitn(3, "  ").collect::<Vec<_>>()[..] else {
                panic!("no case, instruction set and hashes in the line {line:?}");
            };
            ((case.into(), isa.into()), rest.into())
        });
        Self { lines: lines.collect() }
    }

    /// The text of a file with this table.
    pub fn print(&self, head: &str) -> String {
        let mut file: String = head.lines().map(|line| format!("# {line}\n")).collect();
        for ((case, isa), rest) in &self.lines {
            writeln!(file, "{case}  {isa}  {rest}").unwrap();
        }
        file
    }

    pub fn insert(&mut self, case: &str, isa: &str, hashes: &Hashes) {
        let key = (case.to_owned(), isa.to_owned());
        let before = self.lines.insert(key, text(hashes));
        assert!(before.is_none(), "two cases are called {case}");
    }

    /// The differences from `expected` in the lines of these instruction sets, one sentence per
    /// line. Lines that were not computed are left out unless `whole` is true.
    pub fn differences(&self, expected: &Self, isas: &[&str], whole: bool) -> Vec<String> {
        let mut found = Vec::new();
        for ((case, isa), given) in &self.lines {
            match expected.lines.get(&(case.clone(), isa.clone())) {
                None if expected.has(case) => {}
                None => found.push(format!("{case} on {isa}: no such line")),
                Some(expected) if expected != given => {
                    found.push(format!("{case} on {isa}: {}", unequal(given, expected)));
                }
                Some(_) => {}
            }
        }
        let of_these = expected.lines.keys().filter(|(_, isa)| isas.contains(&isa.as_str()));
        for key @ (case, isa) in of_these.filter(|_| whole) {
            if !self.lines.contains_key(key) {
                found.push(format!("{case} on {isa}: a line of what is computed no more"));
            }
        }
        found
    }

    /// Whether there is a line of the case on any instruction set.
    fn has(&self, case: &str) -> bool {
        let first = (case.to_owned(), String::new());
        self.lines.range(first..).next().is_some_and(|((next, _), _)| next == case)
    }

    /// The instruction sets on which cases have no line in `expected` that have one on another,
    /// with their number: they have not been recorded on a machine with this instruction set yet.
    pub fn unrecorded(&self, expected: &Self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        let missing = self.lines.keys().filter(|key| !expected.lines.contains_key(key));
        for (_, isa) in missing.filter(|(case, _)| expected.has(case)) {
            *counts.entry(isa.as_str()).or_default() += 1;
        }
        counts
    }

    /// Replaces all lines of these instruction sets by `lines`.
    pub fn replace(&mut self, isas: &[&str], by: Self) {
        self.lines.retain(|(_, isa), _| !isas.contains(&isa.as_str()));
        self.lines.extend(by.lines);
    }
}

/// The parts in which two lines differ.
fn unequal(given: &str, expected: &str) -> String {
    let (now, before) = (parts(given), parts(expected));
    let mut names: Vec<&str> = now.keys().chain(before.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let different = names.into_iter().filter(|name| now.get(name) != before.get(name));
    let hash = |of: &BTreeMap<&str, &str>, name| of.get(name).copied().unwrap_or("-").to_owned();
    let words: Vec<String> = different
        .map(|name| format!("{name} {}, recorded {}", hash(&now, name), hash(&before, name)))
        .collect();
    words.join("; ")
}
