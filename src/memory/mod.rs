//! Memory that is booked first and then allocated. Knows lengths; must not know blocks.

mod checkpoints;
mod held;
mod layout;

pub(crate) use checkpoints::{Action, Course, repeated};
pub use held::Memory;
pub use layout::{Layout, Region};
pub(crate) use layout::{Rest, first, regions};
