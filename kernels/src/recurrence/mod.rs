//! Passes over time: in each step products with packed weights, whose sums a cell turns
//! into states while they are at hand. Knows steps, rows, groups of units and threads;
//! must not know a cell's equations, which are those of [`cells`](crate::cells).

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
pub use clocked::{Clock, ClockedBackward, ClockedForward, Group, clocked_scratch_len};
pub use dims::{Dims, Recurrent};
pub use forward::{CellStates, Forward, Gates, forward_scratch_len};
pub use noise::{Dropout, Zoneout};
pub use norm::{Norm, NormBack};
pub use schedule::Schedule;
pub use single::{Single, single_room};
