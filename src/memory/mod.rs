//! Memory that is booked first and then allocated. Knows lengths; must not know blocks.

mod layout;

pub use layout::{Layout, Region};
pub(crate) use layout::{Rest, first, regions};
