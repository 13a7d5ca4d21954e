//! What the crate's suites share, by the names that it has there.

#[path = "../../../tests/common/bits.rs"]
mod bits;
#[path = "../../../tests/common/data.rs"]
mod data;
#[path = "../../../tests/common/kinds.rs"]
mod kinds;
#[path = "../../../tests/common/list.rs"]
mod list;
#[path = "../../../tests/common/ragged.rs"]
mod ragged;
#[path = "../../../tests/common/rig.rs"]
mod rig;
#[path = "../../../tests/common/subject.rs"]
mod subject;
#[path = "../../../tests/common/tree.rs"]
pub mod tree;

pub use bits::{assert_bits, filled};
pub use data::{Data, Shape, rows_of};
pub use kinds::{Alpha, Kind, Options, clockwork, gru, leaky, lstm, normed, skip, vanilla};
pub use list::joined;
pub use ragged::{Given, Layout};
pub use rig::{Pass, Rig, part};
pub use subject::Subject;
