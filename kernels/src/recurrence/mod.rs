//! Passes over time. Each step multiplies states by packed weights, and a cell turns the sums into
//! new states while they are in registers or in the cache. Knows steps, rows, groups of units and
//! threads; must not know a cell's equations, which are in [`cells`](crate::cells).

mod backward;
mod clocked;
mod dims;
mod forward;
mod noise;
mod norm;
mod pass;
mod row;
mod schedule;
mod single;
mod step;
mod sweep;

pub use backward::{Backward, DropoutBack, ZoneoutBack, backward_scratch_len};
pub use clocked::{
    Clock, ClockedBackward, ClockedForward, Group, MoveRows, RaggedMoves, clocked_scratch_len,
};
pub use dims::{Dims, Recurrent};
pub use forward::{CellStates, Forward, Gates, forward_scratch_len};
pub use noise::{Dropout, Zoneout};
pub use norm::{Norm, NormBack};
pub use schedule::{RaggedRows, StepRows};
pub use single::{Single, single_room};
