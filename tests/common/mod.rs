//! Code that the suites share: the instruction sets to run on, passes over drawn data, and
//! comparisons to the bit.
#![allow(dead_code, unused_imports, reason = "each suite uses its own part")]

mod bits;
mod cases;
mod data;
mod drawn;
mod errors;
mod isas;
mod kinds;
mod list;
mod ragged;
mod rig;
mod seen;
mod strategies;
mod stretches;
mod subject;
pub mod tree;

pub use bits::{SENTINEL, Snapshot, assert_bits, filled};
pub use cases::check;
pub use data::{Data, Shape, rows_of};
pub use drawn::{drawn_model, drawn_state};
pub use errors::{assert_mismatch, length, value};
pub use isas::{fewer, is_slow, isas, say};
pub use kinds::{
    Alpha, Hard, Kind, Options, clockwork, gru, has_jump, leaky, lstm, normed, skip, vanilla,
};
pub use list::{Own, Sequence, draw_list, features_of, joined, lengths_of, run_alone, run_list};
pub use ragged::{Given, Layout};
pub use rig::{Pass, Rig, assert_same, part, sequence};
pub use seen::Seen;
pub use strategies::{any_of, shapes, shared_out};
pub use stretches::in_stretches;
pub use subject::Subject;
