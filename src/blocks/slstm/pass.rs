//! Training passes of an sLSTM layer: their memory, and the forward pass.

use super::packed::SlstmPacked;
use super::spec::{ForgetGate, Sections, Sizes, Slstm};
use super::walk::{States, Step, Walk};
use crate::blocks::recurrent::ago;
use crate::blocks::{Backward, Forward, Found, LeftBy, Pass, Plan, Wanted};
use crate::error::product;
use crate::memory::{self, Region, regions};
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
/// The scratch and the memory of a step do not grow with τ. A pass for inference keeps the gates of a
/// stretch of time in the place of all gates, and no cell states, normalisers or derivatives.
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
        let (sections, wanted, at_once) =
            (layer.sections()?, plan.gradients, SCAN_ROWS.saturating_mul(threads));
        let of_step: Regions<&[usize]> = Regions {
            sums: &[heads, batch, sizes.sums_stride()],
            hidden: &[batch, hidden],
            ..Regions::default()
        };
        let regions = if wanted.any() {
            let product = gemm::team_scratch_len(threads, rows, input.max(4 * hidden))?;
            let sums = weight_gradients::scratch_len(isa, threads, rows, &[input.max(units)])?;
            let slopes = usize::from(layer.forget() == ForgetGate::Logistic);
            let dims: Regions<&[usize]> = Regions {
                gates: &[rows, 4, hidden],
                c: &[rows, hidden],
                n: &[rows, hidden],
                slopes: &[slopes, rows, hidden],
                scratch: &[product.max(sums)],
                ..of_step
            };
            dims.booked(plan.layout)?
        } else {
            let stretch = schedule.most_rows(at_once);
            let scratch = gemm::team_scratch_len(threads, stretch.max(batch), input.max(units))?;
            let gates = [stretch, gemm::spread(4 * hidden)];
            let dims: Regions<&[usize]> = Regions { gates: &gates, scratch: &[scratch], ..of_step };
            dims.booked(plan.layout)?
        };
        let ago = if schedule.is_dense() { Vec::new() } else { ago(&schedule, 1, 1) };
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
        let keep = self.wanted.any();
        let stride = if keep { 4 * hidden } else { gemm::spread(4 * hidden) };
        for stretch in self.schedule.stretches(self.at_once) {
            let (first, end) =
                (self.schedule.start(stretch.start), self.schedule.start(stretch.end));
            // Of a pass for inference there is memory for this stretch only.
            let kept_before = if keep { first } else { 0 };
            let mut gates = &mut gates[kept_before * stride..][..(end - first) * stride];
            walk.inputs(&x[first * input..end * input], gates, stride)?;
            for step in stretch {
                let (first, end) = (self.schedule.start(step), self.schedule.start(step + 1));
                let units = first * hidden..end * hidden;
                let kept = keep.then(|| SlstmKept {
                    c: &mut c[units.clone()],
                    n: &mut n[units.clone()],
                    slopes: if slopes.is_empty() { &mut [] } else { &mut slopes[units] },
                });
                walk.step(Step {
                    rows: end - first,
                    gates: memory::first(&mut gates, (end - first) * stride),
                    gates_stride: stride,
                    y: StridedMut { values: &mut y[first * y_stride..], stride: y_stride },
                    kept,
                })?;
            }
        }
        sizes.to_rows(h, last_h);
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        self.wanted.check_backward()?;
        self.back(backward)
    }

    fn work(&self) -> [usize; 2] {
        let all = self.layer.multiply_adds(self.rows());
        let stretch = self.layer.multiply_adds(self.at_once.min(self.rows()));
        [if stretch < STRETCH_WORTH_CALLING { 0 } else { all }, all.saturating_mul(2)]
    }

    /// Finds `gates` `[rows, 4, H]` after a forward pass: what the backward pass reads, which may
    /// change in later versions. After a backward pass it finds `preactivation_gradients` of the same
    /// shape, and `c` and `n` `[rows, H]` after both. A pass for inference keeps none of them.
    fn find(&self, name: &str, left_by: LeftBy, _step: u64) -> Option<Found> {
        let Regions { gates, c, n, .. } = self.regions;
        match (name, left_by) {
            _ if !self.wanted.any() => None,
            ("gates", LeftBy::Forward) | ("preactivation_gradients", LeftBy::Backward) => {
                Some(Found::Memory(gates))
            }
            ("c", _) => Some(Found::Memory(c)),
            ("n", _) => Some(Found::Memory(n)),
            _ => None,
        }
    }
}
