//! Training passes of an sLSTM layer: their memory, and the forward pass.

use super::packed::SlstmPacked;
use super::spec::{ForgetGate, Sections, Sizes, Slstm};
use super::walk::{States, Step, Walk};
use crate::blocks::recurrent::ago;
use crate::blocks::{Backward, Forward, Found, LeftBy, Pass, Plan, Wanted};
use crate::error::product;
use crate::memory::{Region, regions};
use crate::sequence::Schedule;
use crate::{Error, Isa};
use bptt_kernels::gemm;
use bptt_kernels::gemm::weight_gradients;
use bptt_kernels::rowwise::StridedMut;
use bptt_kernels::slstm::SlstmKept;
use bptt_kernels::tuning::{SCAN_ROWS, STRETCH_WORTH_CALLING};

regions! {
    /// The memory that a pass books.
    pub(super) struct Regions {
        /// i', f', z and o, `[rows, 4, H]`. The backward pass replaces them with ∂L/∂ of the gates'
        /// sums.
        gates,
        /// The cell state after each step, `[rows, H]`.
        c,
        /// The normaliser after each step, `[rows, H]`.
        n,
        /// The derivative of log f of a logistic forget gate, `[rows, H]`.
        slopes,
        /// The sums of the heads, `[K, B, sums_stride]`; backward their gradients, `[K, B, 4, D]`.
        sums,
        /// The hidden state, or its gradient, `[K, B, D]`.
        hidden,
        scratch,
    }
}

/// A planned pass of an sLSTM layer.
///
/// # Memory
///
/// A pass over τ steps of B sequences, of a layer of H units in heads of D, books, in f32 and with each
/// part rounded up to 16:
///
/// - the gates, `4τBH`, the cell states and the normalisers, `2τBH`, and with a logistic forget gate
///   its derivative, `τBH`;
/// - the sums of a step, `4BH`, with 16 more in each row of a head if 4D is a multiple of 256, and the
///   hidden state, `BH`;
/// - scratch, the largest of
///   - `min(τB, 96 N) · max(I, 4H)` for N threads: packed rows of a product's lhs, each rounded up
///     to 16;
///   - for the weight gradients, d = `min(τB, 256)` floats for each column of U or R, padded to a
///     multiple of two vectors, and 96 N times d rounded up to 16.
///
/// The scratch and the memory of a step do not grow with τ.
#[derive(Debug)]
pub(super) struct SlstmPass {
    pub layer: Slstm,
    /// Where the parameters' gradients lie in their buffer.
    pub sections: Sections<Region>,
    pub schedule: Schedule,
    /// Where each row finds the hidden state before it: see [`ago`]. Empty where the sequences have the
    /// same length, since the states lie in order then.
    pub ago: Vec<usize>,
    /// Rows whose products are computed at a time.
    at_once: usize,
    pub isa: Isa,
    pub wanted: Wanted,
    pub regions: Regions<Region>,
}

impl SlstmPass {
    pub fn planned(layer: Slstm, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let schedule = plan.schedule.clone();
        let (rows, isa) = (schedule.checked_rows()?, plan.runtime.isa());
        let threads = plan.runtime.checked_threads()?;
        let sizes @ Sizes { input, hidden, heads, units } = layer.sizes();
        product("the inputs", &[rows, input])?;
        let batch = schedule.batch();
        let product = gemm::team_scratch_len(threads, rows, input.max(4 * hidden))?;
        let sums = weight_gradients::scratch_len(isa, threads, rows, &[input.max(units)])?;
        let slopes = usize::from(layer.forget() == ForgetGate::Logistic);
        let dims: Regions<&[usize]> = Regions {
            gates: &[rows, 4, hidden],
            c: &[rows, hidden],
            n: &[rows, hidden],
            slopes: &[slopes, rows, hidden],
            sums: &[heads, batch, sizes.sums_stride()],
            hidden: &[batch, hidden],
            scratch: &[product.max(sums)],
        };
        let regions = dims.booked(plan.layout)?;
        let ago = if schedule.is_dense() { Vec::new() } else { ago(&schedule, 1, 1) };
        let (sections, wanted, at_once) =
            (layer.sections()?, plan.gradients, SCAN_ROWS.saturating_mul(threads));
        Ok(Self { layer, sections, schedule, ago, at_once, isa, wanted, regions })
    }

    pub fn rows(&self) -> usize {
        self.schedule.rows()
    }
}

impl Pass for SlstmPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, y, y_stride, memory, state, last, threads, .. } = forward;
        let packed = packed.as_form::<SlstmPacked>()?;
        let (sizes, batch) = (self.layer.sizes(), self.schedule.batch());
        let Sizes { input, hidden, .. } = sizes;
        let x = x.features(self.rows(), input)?;
        let Regions { gates, c, n, slopes, sums, hidden: h, scratch } =
            self.regions.granted(memory);
        // The steps carry the state on in place.
        last.copy_from_slice(state);
        let States { h: last_h, c: last_c, n: last_n, m: last_m } = States::of_mut(last);
        sizes.to_heads(last_h, h);
        let state = States { h: &mut *h, c: last_c, n: last_n, m: last_m };
        let (layer, isa) = (self.layer, self.isa);
        let mut walk = Walk { layer, packed, isa, batch, state, sums, scratch, threads };
        let stride = 4 * hidden;
        for stretch in self.schedule.stretches(self.at_once) {
            let (first, end) =
                (self.schedule.start(stretch.start), self.schedule.start(stretch.end));
            let gates_of_stretch = &mut gates[first * stride..end * stride];
            walk.inputs(&x[first * input..end * input], gates_of_stretch, stride)?;
            for step in stretch {
                let (first, end) = (self.schedule.start(step), self.schedule.start(step + 1));
                let units = first * hidden..end * hidden;
                let slopes = if slopes.is_empty() { &mut [] } else { &mut slopes[units.clone()] };
                walk.step(Step {
                    rows: end - first,
                    gates: &mut gates[first * stride..end * stride],
                    gates_stride: stride,
                    y: StridedMut { values: &mut y[first * y_stride..], stride: y_stride },
                    kept: Some(SlstmKept { c: &mut c[units.clone()], n: &mut n[units], slopes }),
                })?;
            }
        }
        sizes.to_rows(h, last_h);
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        self.back(backward)
    }

    fn work(&self) -> [usize; 2] {
        let all = self.layer.multiply_adds(self.rows());
        let stretch = self.layer.multiply_adds(self.at_once.min(self.rows()));
        [if stretch < STRETCH_WORTH_CALLING { 0 } else { all }, all.saturating_mul(2)]
    }

    /// Finds `gates` `[rows, 4, H]` after a forward pass: what the backward pass reads, which may
    /// change in later versions. After a backward pass it finds `preactivation_gradients` of the same
    /// shape, and `c` and `n` `[rows, H]` after both.
    fn find(&self, name: &str, left_by: LeftBy, _step: u64) -> Option<Found> {
        let Regions { gates, c, n, .. } = self.regions;
        match (name, left_by) {
            ("gates", LeftBy::Forward) | ("preactivation_gradients", LeftBy::Backward) => {
                Some(Found::Memory(gates))
            }
            ("c", _) => Some(Found::Memory(c)),
            ("n", _) => Some(Found::Memory(n)),
            _ => None,
        }
    }
}
