//! Passes of a block that run one step after the other, since what the block reads in a step depends on
//! its output of the step before. Must not know how it depends, or what the block computes.

mod pass;
mod steps;

pub(super) use pass::StepByStepPass;
pub(super) use steps::StepByStepSteps;

use crate::Error;
use crate::blocks::{Packed, Source, SourceGradients};
use crate::memory::Region;
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::Pass as Threads;
use std::fmt::Debug;
use std::ops::Range;

/// How a block is run step by step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Features that the caller gives in each row.
    pub input: usize,
    /// Features that the block reads in each row: those of the caller, then those of the feed.
    pub of_block: usize,
    /// Features of the block's output, which the feed reads.
    pub output: usize,
    /// Where the output of the step before lies.
    pub before: Before,
}

/// Where the output of the step before lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// It is a state of its own, `h` `[B, output]`, before that of the block.
    Own,
    /// It is a part of the block's state, whose first float has this number times B.
    OfBlock(usize),
}

impl Shape {
    /// Returns the floats of a state of its own for `batch` sequences, which come before the block's.
    pub fn own_state(&self, batch: usize) -> usize {
        match self.before {
            Before::Own => batch * self.output,
            Before::OfBlock(_) => 0,
        }
    }

    /// Returns where the output of the step before lies in the state of `batch` sequences, for the first
    /// `rows` of them.
    pub fn before(&self, batch: usize, rows: usize) -> Range<usize> {
        let start = match self.before {
            Before::Own => 0,
            Before::OfBlock(start) => start * batch,
        };
        start..start + rows * self.output
    }
}

/// What a feed reads in a step.
pub(super) struct Fed<'a, 't> {
    /// The parameters of the feed, packed, if it has any.
    pub packed: Option<&'a dyn Packed>,
    pub source: Source<'a>,
    pub step: usize,
    /// The rows of the step.
    pub rows: Range<usize>,
    /// The block's outputs of the step before, `[rows of the step, output]`.
    pub before: &'a [f32],
    /// The memory of the feed.
    pub memory: &'a mut [f32],
    pub threads: &'a mut Threads<'t>,
}

/// What a feed has planned.
pub(super) struct FeedPlan {
    pub feed: Box<dyn Feed>,
    /// The floats of its memory.
    pub floats: usize,
    /// The number of its parameters.
    pub parameters: usize,
}

/// Where the gradients of a feed go.
pub(super) struct FeedGradients<'a> {
    /// The gradient with respect to what it has made, with a row for each row of the pass.
    pub made: Strided<'a>,
    /// That with respect to the outputs of the step before, `[rows of the step, output]`.
    pub before: &'a mut [f32],
    pub source: SourceGradients<'a>,
    /// Those of its parameters.
    pub parameters: &'a mut [f32],
    pub accumulate: bool,
}

/// What a block reads beside the caller's features: a function of its output of the step before.
pub(super) trait Feed: Debug + Send + Sync {
    /// Makes what the rows of a step read, in their rows of `to`, which has one for each row of the
    /// pass.
    fn forward(&self, step: Fed<'_, '_>, to: StridedMut<'_>) -> Result<(), Error>;

    /// Computes the gradients of a step, of which the memory holds a forward pass. Later steps come
    /// first.
    fn backward(&self, step: Fed<'_, '_>, to: FeedGradients<'_>) -> Result<(), Error>;

    /// Returns the multiply-adds of a forward and of a backward pass.
    fn work(&self) -> [usize; 2];

    /// Returns where the values of this name are in the memory of the feed.
    fn find(&self, name: &str) -> Option<Region>;
}
