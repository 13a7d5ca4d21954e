//! Passes of units in groups (the clockwork RNN, Koutník et al. 2014). A group moves only at the
//! steps that its period divides, and reads the groups with the same period or a longer one. A
//! group that does not move is copied, and nothing else is done for it. Knows periods, steps and
//! places; must not know products, which all passes share.

mod clock;
mod product;
mod rows;
mod step;
#[cfg(test)]
mod tests;

pub use clock::{Clock, Group};
pub use rows::{MoveRows, RaggedMoves};

use super::dims::{Dims, Recurrent};
use super::pass::parts;
use crate::cells::{Activation, Activations, Phi};
use crate::error::{check_len, check_room};
use crate::gemm::lhs;
use crate::gemm::rhs::PackedMatrix;
use crate::rows::{Rows, RowsMut};
use crate::team::Pass;
use crate::{Isa, KernelError, checked_len};
use std::ops::Range;
use step::{Ends, Operands, Work};

/// Returns the floats of scratch that a [`ClockedForward`] or a [`ClockedBackward`] of `hidden`
/// units needs.
///
/// # Errors
/// [`KernelError::TooLarge`] if the result does not fit the address space.
pub fn clocked_scratch_len(batch: usize, hidden: usize) -> Result<usize, KernelError> {
    checked_len("scratch", &[batch, lhs::checked_len(1, hidden)?])
}

/// A forward pass over a stretch of time: `h = φ(z + W h₋)` for the groups that move, and `h = h₋`
/// for the others.
///
/// `cargo run --release --example rnnbench -- --cell clockwork --batch 32` measures it.
#[derive(Debug)]
pub struct ClockedForward<'a> {
    /// The groups. H is the number of all their units.
    pub clock: Clock<'a>,
    /// The schedule of τ steps of B sequences, for which `z` and `h` have rows.
    pub schedule: MoveRows<'a>,
    /// The steps of the schedule that this pass takes.
    pub stretch: Range<usize>,
    /// φ.
    pub activation: Activation,
    /// W of each group, packed by rows. The outputs are the group's units; the inputs are all units
    /// from the group's first on.
    pub weights: &'a [PackedMatrix],
    /// The input's part, `b + U x`, `[moves, B, units]` for each group, one group after the other.
    /// `moves` is the number of the τ steps at which the group moves. With sequences of different
    /// lengths a move has only the rows of its step.
    pub z: &'a [f32],
    /// The state before the schedule's first step, `[B, H]`.
    pub h0: &'a [f32],
    /// The states after each step, `[τ, B, H]`. The one before the stretch is read.
    pub h: &'a mut [f32],
    /// Floats from one row of `h` to the next, H or more.
    pub h_stride: usize,
    /// Scratch of [`clocked_scratch_len`] floats or more.
    pub scratch: &'a mut [f32],
}

/// A backward pass over τ steps, the last step first. At each step the groups that moved get
/// `dz = (dh + dy) ⊙ φ'`. Their ∂L/∂h of the step before is the sum of `dz W` of all groups that
/// moved. For the other groups it is `dh + dy` plus that sum.
#[derive(Debug)]
pub struct ClockedBackward<'a> {
    /// The groups, as in the forward pass.
    pub clock: Clock<'a>,
    /// The schedule of τ steps of B sequences.
    pub schedule: MoveRows<'a>,
    /// φ.
    pub activation: Activation,
    /// W of each group, packed by columns. The outputs are all units from the group's first on; the
    /// inputs are the group's units.
    pub weights: &'a [PackedMatrix],
    /// Output: ∂L/∂z, the gradients of the pre-activations, laid out as `z` of the forward pass.
    pub z: &'a mut [f32],
    /// The state after each step, `[τ, B, H]`.
    pub h: &'a [f32],
    /// Floats from one row of `h` to the next, H or more.
    pub h_stride: usize,
    /// ∂L/∂h of each step from outside, `[τ, B, H]`; `None` is zero.
    pub dy: Option<&'a [f32]>,
    /// Floats from one row of `dy` to the next, H or more.
    pub dy_stride: usize,
    /// ∂L/∂h of the last step, `[B, H]`, to which the pass adds `dy`. The pass replaces it with
    /// ∂L/∂h of the state before the first step.
    pub dh: &'a mut [f32],
    /// Scratch of [`clocked_scratch_len`] floats or more.
    pub scratch: &'a mut [f32],
}

/// The sizes of a group's weights.
#[derive(Clone, Copy, Debug)]
struct Sides {
    /// Outputs of the product.
    outputs: usize,
    /// Terms of the sum of each output.
    inputs: usize,
}

/// The arguments of both directions that are checked alike.
struct Sizes<'a> {
    isa: Isa,
    clock: Clock<'a>,
    schedule: MoveRows<'a>,
    weights: &'a [PackedMatrix],
}

impl Sizes<'_> {
    /// Checks the groups, the weights, and the lengths of `z` and of `scratch`, and returns H.
    /// `sides` returns the sizes of a group's weights, given the group and H.
    fn check(
        &self,
        sides: impl Fn(&Group, usize) -> Sides,
        z: usize,
        scratch: usize,
    ) -> Result<usize, KernelError> {
        let hidden = self.clock.check()?;
        self.schedule.check(&self.clock)?;
        check_len("group weights", self.weights.len(), self.clock.groups.len())?;
        for (weights, group) in self.weights.iter().zip(self.clock.groups) {
            let Sides { outputs, inputs } = sides(group, hidden);
            weights.check(self.isa, 1, outputs, inputs)?;
        }
        check_len("z", z, self.schedule.all_floats(&self.clock, hidden)?)?;
        let batch = self.schedule.schedule().batch();
        check_room("scratch", scratch, clocked_scratch_len(batch, hidden)?)?;
        Ok(hidden)
    }

    /// Returns in how many parts the batch goes through `stretch`, as in every pass.
    fn parts(&self, threads: usize, stretch: &Range<usize>) -> usize {
        let recurrent = Recurrent { weights: self.weights, delays: &[], second: None };
        parts(threads, self.schedule.schedule(), stretch, &recurrent)
    }
}

impl ClockedForward<'_> {
    /// Runs the pass. The order of each sum is fixed: a sequence gives the same bits alone and in a
    /// batch, in one call and in several.
    ///
    /// # Errors
    /// [`KernelError`] if a slice does not fit the others, the groups do not follow one another, or
    /// weights are packed for something else; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { clock, schedule, weights, .. } = self;
        let sizes = Sizes { isa, clock, schedule, weights };
        let sides = |group: &Group, hidden: usize| Sides {
            outputs: group.units,
            inputs: hidden - group.first,
        };
        let hidden = sizes.check(sides, self.z.len(), self.scratch.len())?;
        let dims = Dims { schedule: schedule.schedule(), hidden, outputs: hidden };
        dims.check_stretch(&self.stretch)?;
        check_len("h0", self.h0.len(), dims.sequences("h0", hidden)?)?;
        dims.check_rows("h", self.h.len(), hidden, self.h_stride)?;
        // Empty slices fit any number of steps.
        if dims.batch() == 0 {
            return Ok(());
        }
        // SAFETY: all slices have been checked.
        unsafe {
            match self.activation {
                Activation::Usual(phi) => self.run_checked(phi, hidden, isa, pass),
                phi => self.run_checked(phi, hidden, isa, pass),
            }
        }
        Ok(())
    }

    /// # Safety
    /// `run` has checked all slices for `hidden` units.
    unsafe fn run_checked<F: Phi + From<Activations>>(
        self,
        phi: F,
        hidden: usize,
        isa: Isa,
        pass: &mut Pass<'_>,
    ) {
        let Self { clock, schedule, stretch, weights, z, h0, h, h_stride, scratch, .. } = self;
        let parts = Sizes { isa, clock, schedule, weights }.parts(pass.threads(), &stretch);
        let work = Operands {
            clock,
            schedule,
            stretch,
            hidden,
            phi,
            weights,
            z: z.as_ptr().cast_mut(),
            ends: Ends::Forward {
                before: Rows::new(h0.as_ptr(), hidden),
                h: RowsMut::new(h.as_mut_ptr(), h_stride),
            },
            scratch: scratch.as_mut_ptr(),
            parts,
        };
        // SAFETY: all slices have been checked, and they are borrowed for this call; z is not
        // written forward.
        unsafe { pass.run(isa, &Work::new(work)) };
    }
}

impl ClockedBackward<'_> {
    /// Runs the pass.
    ///
    /// # Errors
    /// As [`ClockedForward::run`].
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let Self { clock, schedule, weights, .. } = self;
        let sizes = Sizes { isa, clock, schedule, weights };
        let sides = |group: &Group, hidden: usize| Sides {
            outputs: hidden - group.first,
            inputs: group.units,
        };
        let hidden = sizes.check(sides, self.z.len(), self.scratch.len())?;
        let dims = Dims { schedule: schedule.schedule(), hidden, outputs: hidden };
        dims.check_rows("h", self.h.len(), hidden, self.h_stride)?;
        check_len("dh", self.dh.len(), dims.sequences("dh", hidden)?)?;
        if let Some(dy) = self.dy {
            dims.check_rows("dy", dy.len(), hidden, self.dy_stride)?;
        }
        if dims.batch() == 0 {
            return Ok(());
        }
        // SAFETY: all slices have been checked.
        unsafe {
            match self.activation {
                Activation::Usual(phi) => self.run_checked(phi, hidden, isa, pass),
                phi => self.run_checked(phi, hidden, isa, pass),
            }
        }
        Ok(())
    }

    /// # Safety
    /// `run` has checked all slices for `hidden` units.
    unsafe fn run_checked<F: Phi + From<Activations>>(
        self,
        phi: F,
        hidden: usize,
        isa: Isa,
        pass: &mut Pass<'_>,
    ) {
        let Self { clock, schedule, weights, z, dy, dh, scratch, .. } = self;
        let stretch = 0..schedule.schedule().steps();
        let parts = Sizes { isa, clock, schedule, weights }.parts(pass.threads(), &stretch);
        let h = Rows::new(self.h.as_ptr(), self.h_stride);
        let dy = dy.map(|dy| Rows::new(dy.as_ptr(), self.dy_stride));
        let work = Operands {
            clock,
            schedule,
            stretch,
            hidden,
            phi,
            weights,
            z: z.as_mut_ptr(),
            ends: Ends::Backward { h, dy, dh: dh.as_mut_ptr() },
            scratch: scratch.as_mut_ptr(),
            parts,
        };
        // SAFETY: all slices have been checked, and they are borrowed for this call.
        unsafe { pass.run(isa, &Work::new(work)) };
    }
}
