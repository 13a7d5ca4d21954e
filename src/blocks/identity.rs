//! A block whose output is its input, to be put beside other blocks.

use super::{Backward, Block, Config, Forward, Next, Pass, Plan, Steps, StreamPlan};
use crate::Error;
use crate::error::check_size;
use crate::sequence::InputSize;
use bptt_kernels::rowwise::{Strided, StridedMut};

/// The identity, y = x. It carries a block's input past the block: beside it in
/// [`Parallel`](crate::Parallel), the output is `[x, f(x)]`.
///
/// It has no parameters and keeps nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    size: usize,
}

impl Identity {
    /// Makes the identity of `size` features.
    ///
    /// # Errors
    /// [`Error::Value`] if `size` is 0.
    pub fn new(size: usize) -> Result<Self, Error> {
        Ok(Self { size: check_size("size", size)? })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["size"])?;
        Self::new(config.size("size")?)
    }
}

impl Block for Identity {
    fn config(&self) -> Config {
        Config::new("Identity").with("size", self.size)
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.size)
    }

    fn output_size(&self) -> usize {
        self.size
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(IdentityPass { size: self.size, rows: plan.schedule.checked_rows()? }))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(IdentitySteps { row: plan.batch * self.size }))
    }
}

/// A planned pass of the identity. It books no memory.
#[derive(Debug)]
struct IdentityPass {
    size: usize,
    rows: usize,
}

/// Copies the first `width` floats of each row.
pub(super) fn copy(width: usize, from: Strided<'_>, to: StridedMut<'_>) {
    for (to, from) in to.values.chunks_mut(to.stride).zip(from.values.chunks(from.stride)) {
        to[..width].copy_from_slice(&from[..width]);
    }
}

impl Pass for IdentityPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let x = forward.x.features(self.rows, self.size)?;
        let from = Strided { values: x, stride: self.size };
        copy(self.size, from, StridedMut { values: forward.y, stride: forward.y_stride });
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        if let Some(dx) = backward.dx {
            let from = Strided { values: backward.dy, stride: backward.dy_stride };
            copy(self.size, from, StridedMut { values: dx, stride: self.size });
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        false
    }
}

/// The planned steps of the identity.
#[derive(Debug)]
struct IdentitySteps {
    /// Floats of a step of all sequences.
    row: usize,
}

impl Steps for IdentitySteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        next.y.copy_from_slice(next.x.features(next.steps, self.row)?);
        Ok(())
    }
}
