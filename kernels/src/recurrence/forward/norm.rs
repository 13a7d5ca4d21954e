//! Layer normalisation in a forward step: the sums are stored, and each row is normalised when it
//! is complete.

use super::step::{NormAt, Step};
use crate::cells::{Epilogue, Geometry, MOST_SUMS};
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::normalise::Normalise;
use crate::recurrence::step::{Block, Units};
use crate::simd::Simd;

impl NormAt {
    /// Returns b + γ ⊙ x̂ for some units. x̂ begins at `normal`, and γ and b begin at float `at` of
    /// the gain and the bias.
    ///
    /// # Safety
    /// `normal` is readable for `lanes` floats, and so are the gain and the bias from `at` on.
    #[inline(always)]
    pub(super) unsafe fn scaled<S: Simd>(
        &self,
        simd: S,
        normal: *const f32,
        at: usize,
        lanes: usize,
    ) -> S::V {
        // SAFETY: all three are readable for `lanes` floats.
        unsafe {
            let gain = load_lanes(simd, self.gain.add(at), lanes);
            let bias = load_lanes(simd, self.bias.add(at), lanes);
            simd.mul_add(gain, load_lanes(simd, normal, lanes), bias)
        }
    }
}

impl<C: Epilogue> Step<'_, C> {
    /// Returns the place of the step's row `row` in the normalisation's outputs, which have the
    /// rows of all steps if gates are kept, else the rows of one step.
    #[inline(always)]
    pub(super) fn kept_row(&self, row: usize) -> usize {
        row + if self.gates.is_none() { self.first_row } else { self.schedule_row() }
    }

    /// Returns where a gate's sums of a row are stored and normalised.
    #[inline(always)]
    pub(super) fn normal(&self, norm: &NormAt, row: usize, gate: usize) -> *mut f32 {
        norm.normal.wrapping_add((self.kept_row(row) * C::GATES + gate) * self.hidden)
    }

    /// Returns where the separate recurrent sums of the last gate are stored and normalised.
    #[inline(always)]
    pub(super) fn normal_extra(&self, norm: &NormAt, row: usize) -> *mut f32 {
        norm.normal_extra.wrapping_add(self.kept_row(row) * self.hidden)
    }

    /// Stores the sums of some units, to be normalised when their row is complete.
    ///
    /// # Safety
    /// The units are of the step, and nobody else has them.
    #[inline(always)]
    pub(super) unsafe fn store_sums<S: Simd>(
        &self,
        simd: S,
        norm: &NormAt,
        at: Units,
        z: [S::V; MOST_SUMS],
    ) {
        // SAFETY: the units are of the step, and so of its blocks, one for each gate.
        unsafe {
            let place = self.place(at);
            for gate in 0..MOST_SUMS {
                if gate >= C::SUMS {
                    continue;
                }
                let mut sum = z[gate];
                if const { C::SEPARATE_SUMS } {
                    if gate == C::SUMS - 1 {
                        let extra = self.normal_extra(norm, at.row).add(at.first);
                        store_lanes(simd, extra, sum, at.lanes);
                        sum = place.input(simd, gate);
                    } else {
                        sum = simd.add(place.input(simd, gate), sum);
                    }
                }
                store_lanes(simd, self.normal(norm, at.row, gate).add(at.first), sum, at.lanes);
            }
        }
    }

    /// Normalises one block of sums of a row. Blocks below `GATES` are gates; block `GATES` is the
    /// separate recurrent sums.
    ///
    /// # Safety
    /// The row is of the step, nobody else has it, and there is such a block.
    #[inline(always)]
    pub(super) unsafe fn normalise<S: Simd>(
        &self,
        simd: S,
        norm: &NormAt,
        row: usize,
        block: usize,
    ) {
        let norms = const { Geometry::new::<C>().norms };
        let is_extra = const { C::SEPARATE_SUMS } && block == C::GATES;
        let sums = match is_extra {
            true => self.normal_extra(norm, row),
            false => self.normal(norm, row, block),
        };
        let inverse = norm.inverse.wrapping_add(self.kept_row(row) * norms + block);
        // SAFETY: `Step::new` has been promised both for each row and block.
        simd.call(unsafe { Normalise::new(sums, self.hidden, norm.epsilon, inverse) });
    }

    /// Normalises a row's sums of the first stage, and computes the states from them.
    ///
    /// # Safety
    /// The row is of the step, all of its units have been finished, and nobody else has it.
    #[inline(always)]
    pub(super) unsafe fn end_first<S: Simd>(&self, simd: S, row: usize) {
        let Some(norm) = self.norm else { return };
        let (two, hidden) = (const { Geometry::new::<C>().is_double() }, self.hidden);
        let normal = self.normal(norm, row, 0);
        let extra = self.normal_extra(norm, row);
        // SAFETY: the row is of the step, and has a block for each gate, with a gain and a bias
        // for each unit.
        unsafe {
            for gate in 0..C::GATES {
                if const { C::SECOND.is_none() } || C::SECOND != Some(gate) {
                    self.normalise(simd, norm, row, gate);
                }
            }
            if const { C::SEPARATE_SUMS } {
                self.normalise(simd, norm, row, C::GATES);
            }
            for first in (0..hidden).step_by(S::LANES) {
                let lanes = S::LANES.min(hidden - first);
                let mut z = [simd.zero(); MOST_SUMS];
                for gate in 0..MOST_SUMS {
                    if gate < C::GATES {
                        let at = gate * hidden + first;
                        z[gate] = norm.scaled(simd, normal.add(at), at, lanes);
                    }
                }
                let mut recurrent = simd.zero();
                if const { C::SEPARATE_SUMS } {
                    let gain = norm.gain.add(C::GATES * hidden + first);
                    let gain = load_lanes(simd, gain, lanes);
                    recurrent = simd.mul(gain, load_lanes(simd, extra.add(first), lanes));
                }
                let place = self.place(Units { row, first, lanes });
                self.cell.forward_normed(simd, &place, z, recurrent);
            }
            if self.noise.is_some() && (!two || C::CELLS) {
                self.perturb(simd, Block { row, rows: 1, first: 0, end: hidden }, !two, C::CELLS);
            }
        }
    }
}
