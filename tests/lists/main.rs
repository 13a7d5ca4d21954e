//! Lists of sequences of any lengths: the results of each against the reference, which takes a list
//! and knows of no schedule, and the bits of each alone, however the list is laid out, divided and
//! run.

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod list;
mod properties;
mod reference;
