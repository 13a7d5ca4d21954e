//! Tests that hold for every cell. They are one program, since separate suites would each compile
//! the same cells and the same helpers again.
//!
//!     cargo test --test cells bits::

#[path = "../common/mod.rs"]
mod common;

mod bits;
mod clockwork;
mod dirty;
mod errors;
mod faulty_sequence;
mod formats;
mod last_state;
mod limits;
mod normalised;
mod reference;
mod regularised;
mod saturation;
mod sizes;
mod threads;
mod versions;
