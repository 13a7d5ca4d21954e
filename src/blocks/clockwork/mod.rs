//! The clockwork layer: units in groups, and each group moves at its own period. It has passes of
//! its own; no other module needs to know whether a layer is a clockwork.

mod groups;
mod layer;
mod moves;
mod packed;
mod pass;
mod steps;

pub use layer::{ClockGroup, Clockwork};
