//! What plans, streams and weights know of a cell. Public and not to be named outside, so
//! that the cells are those of this crate.

use crate::Error;
use crate::clocked::{self, Clocked};
use crate::sections::{All, Own, Sections};
use crate::state::State;
use bptt_kernels::cells::{Cell, Geometry};
use bptt_kernels::checked_len;
use bptt_kernels::tuning::STRETCH_WORTH_CALLING;
use std::fmt::Debug;

/// The sizes of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// I.
    pub input: usize,
    /// H.
    pub hidden: usize,
    /// R: H, but where the hidden state is projected.
    pub output: usize,
}

/// The gradient of a block of a layer's own parameters: `Σ a ⊙ b` over the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagonal {
    /// ∂L/∂z of a gate times the cell state before the step.
    GateBefore(usize),
    /// The same with the cell state after it.
    GateAfter(usize),
    /// The extra block.
    Extra,
}

/// A configuration: sizes, options, and the kernel's cell that they make.
pub trait Spec: Clone + PartialEq + Debug {
    /// The state between two steps.
    type State<S: Default>: State<S>;

    /// Whether a step sees the input of the step before.
    const LATE: bool = false;

    /// Whether its gates are normalised.
    const NORMED: bool = false;

    /// Whether it is [clocked](Self::clocked).
    const CLOCKED: bool = false;

    /// I, H and R.
    fn sizes(&self) -> Sizes;

    /// The kernel's cell, whose own vectors are `vectors`.
    fn cell<'a>(&self, vectors: &'a [f32]) -> Cell<'a>;

    /// How many steps before the hidden states lie that a step sees, the longest delay
    /// first.
    fn delays(&self) -> &[usize] {
        &[1]
    }

    /// The groups of a layer whose units move in such: its passes are others.
    #[inline]
    fn clocked(&self) -> Option<Clocked<'_>> {
        None
    }

    /// Blocks of H that are parameters of the layer's own.
    fn own(&self) -> Own<usize> {
        Own { diagonal: self.diagonals().len(), ..Own::default() }
    }

    /// Blocks of H that the kernel's cell reads.
    fn vectors(&self) -> usize {
        self.own().of_the_cell()
    }

    /// Makes these of the layer's own parameters.
    fn prepare(&self, own: Own<&[f32]>, vectors: &mut [f32]) {
        let (bias, diagonal) = vectors.split_at_mut(own.extra_bias.len());
        bias.copy_from_slice(own.extra_bias);
        diagonal.copy_from_slice(own.diagonal);
    }

    /// ε, where its gates are normalised.
    #[inline]
    fn norm(&self) -> Option<f32> {
        None
    }

    /// The gradients of its own vectors, a block each.
    fn diagonals(&self) -> &'static [Diagonal] {
        &[]
    }

    /// Initial biases and own parameters, where they are not zero.
    fn initialise(&self, _bias: &mut [f32], _own: Own<&mut [f32]>) {}

    /// Whether both make the same of the same parameters.
    fn computes_as(&self, other: &Self) -> bool {
        self == other
    }

    /// The layer, for messages.
    fn describe(&self) -> String;

    /// The same for a message that names `other` as well, which it has to tell it from.
    fn describe_beside(&self, _other: &Self) -> String {
        self.describe()
    }

    /// What there is of it to make room for.
    #[inline]
    fn geometry(&self) -> Geometry {
        self.cell(&[]).geometry()
    }

    /// `Ok` where `other` makes the same of the same parameters.
    #[inline]
    fn check_same(&self, what: &'static str, other: &Self) -> Result<(), Error> {
        if self.computes_as(other) {
            return Ok(());
        }
        let (given, expected) = (other.describe_beside(self), self.describe_beside(other));
        Err(Error::Mismatch { what, given, expected })
    }

    /// The multiply-adds of a forward pass over so many rows; saturates.
    #[inline]
    fn multiply_adds(&self, rows: usize) -> usize {
        let (Sizes { input, hidden, output }, geometry) = (self.sizes(), self.geometry());
        let gate = input + self.delays().len() * output;
        let projection = if geometry.projects { output } else { 0 };
        rows.saturating_mul(hidden * (geometry.gates * gate + projection))
    }

    /// What a team is told of a forward pass in stretches of so many rows: threads meet
    /// twice in each, so where a stretch is short they are better not called.
    fn work_in_stretches(&self, rows: usize, stretch: usize) -> usize {
        let work = self.multiply_adds(rows);
        if self.multiply_adds(stretch.min(rows)) < STRETCH_WORTH_CALLING { 0 } else { work }
    }

    /// Where the parameters lie, all of them in one buffer.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where they do not fit the address space.
    fn sections(&self) -> Result<Sections, Error> {
        let (Sizes { input, hidden, output }, geometry) = (self.sizes(), self.geometry());
        let what = "the parameters";
        let rows = checked_len(what, &[geometry.gates, hidden])?;
        let inputs = checked_len(what, &[rows, input])?;
        let recurrent = match self.clocked() {
            None => checked_len(what, &[self.delays().len(), rows, output])?,
            Some(Clocked { groups, .. }) => clocked::recurrent_len(what, groups, hidden)?,
        };
        let all: All<&[usize]> = All {
            input: &[inputs],
            recurrent: &[recurrent],
            bias: &[rows],
            projection: &[usize::from(geometry.projects), output, hidden],
            ..All::default()
        };
        Sections::booked(all, self.own(), hidden)
    }
}
