//! Backward passes of an sLSTM layer: the steps from the last one to the first, and then the sums over
//! all rows. Knows which operands are multiplied; must not know the cell.

use super::packed::SlstmPacked;
use super::pass::{Regions, SlstmPass};
use super::spec::{Sections, Sizes};
use super::walk::States;
use crate::Error;
use crate::blocks::Backward;
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::rowwise::Strided;
use bptt_kernels::slstm::{SlstmBackward, SlstmSizes};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::tuning::STEP_WORTH_SPLITTING;
use bptt_kernels::{Joined, PackedMatrix};

/// What the steps read, and what they carry on.
struct Sweep<'a, 't> {
    heads_back: &'a [PackedMatrix],
    /// ∂L/∂ of the gates' sums, once a step has been taken, `[rows, 4, H]`.
    gates: &'a mut [f32],
    slopes: &'a [f32],
    c: &'a [f32],
    n: &'a [f32],
    y: Strided<'a>,
    dy: Strided<'a>,
    /// The state before the first step.
    state: States<&'a [f32]>,
    dh: &'a mut [f32],
    dc: &'a mut [f32],
    dn: &'a mut [f32],
    dz: &'a mut [f32],
    scratch: &'a mut [f32],
    threads: &'a mut Threads<'t>,
}

/// What the gradients of R are computed from, and where they go.
struct OfHeads<'a, 't> {
    dz: &'a [f32],
    /// The hidden state before the first step, `[K, B, D]`.
    before: &'a [f32],
    y: Strided<'a>,
    dw: &'a mut [f32],
    accumulate: bool,
    scratch: &'a mut [f32],
    threads: &'a mut Threads<'t>,
}

impl SlstmPass {
    /// Takes the steps from the last one to the first. Then the gradients of the parameters are sums
    /// over all rows, from the last one to the first, and `∂L/∂x = dz U`.
    pub(super) fn back(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { packed, x, y, y_stride, dy, dy_stride, memory, state, dlast, .. } = backward;
        let Backward { dstate, dx, gradients, accumulate, threads, .. } = backward;
        let packed = packed.as_form::<SlstmPacked>()?;
        let (sizes, rows) = (self.layer.sizes(), self.rows());
        let Sizes { input, hidden, .. } = sizes;
        let x = x.features(rows, input)?;
        let input_back = dx.is_some().then(|| packed.input_back()).transpose()?;
        let heads_back = packed.heads_back()?;
        let Regions { gates, c, n, slopes, sums, hidden: h, scratch } =
            self.regions.granted(memory);
        match dlast {
            Some(dlast) => dstate.copy_from_slice(dlast),
            None => dstate.fill(0.0),
        }
        let States { h: dh, c: dc, n: dn, m: dm } = States::of_mut(dstate);
        dm.fill(0.0);
        let y = Strided { values: y, stride: y_stride };
        let (state, dz) = (States::of(state), &mut sums[..4 * dh.len()]);
        sizes.to_heads(dh, h);
        Sweep {
            heads_back,
            gates: &mut *gates,
            slopes,
            c,
            n,
            y,
            dy: Strided { values: dy, stride: dy_stride },
            state: States { ..state },
            dh: &mut *h,
            dc,
            dn,
            dz,
            scratch: &mut *scratch,
            threads: &mut *threads,
        }
        .steps(self)?;
        sizes.to_rows(h, dh);
        if self.wanted.parameters {
            let Sections { weight_ih, weight_hh, bias } = self.sections.granted(gradients);
            WeightGradients {
                depth: rows,
                a: &*gates,
                stride: 4 * hidden,
                rows: 4 * hidden,
                products: [Rhs::new(x, weight_ih, input)],
                sums: Some(bias),
                accumulate,
                scratch: &mut *scratch,
            }
            .run(self.isa, threads)?;
            sizes.to_heads(state.h, h);
            let (dz, before, dw, scratch) = (&*gates, &*h, weight_hh, &mut *scratch);
            OfHeads { dz, before, y, dw, accumulate, scratch, threads }.sum(self)?;
        }
        let (Some(c), Some(weights)) = (dx, input_back) else { return Ok(()) };
        let (start, stride) = (Start::Zero, input);
        Gemm { rows, a: gates, weights, start, c, stride, scratch }.run(self.isa, threads)?;
        Ok(())
    }
}

impl Sweep<'_, '_> {
    /// Takes all steps. Before each of them dh is the gradient through the later steps.
    fn steps(self, pass: &SlstmPass) -> Result<(), Error> {
        let Sizes { hidden, heads, units, .. } = pass.layer.sizes();
        let (schedule, batch) = (&pass.schedule, pass.schedule.batch());
        let mut alone = Threads::serial();
        for step in (0..schedule.steps()).rev() {
            let (first, end) = (schedule.start(step), schedule.start(step + 1));
            let rows = end - first;
            let shared = 4 * rows * hidden * units >= STEP_WORTH_SPLITTING;
            let threads = if shared { &mut *self.threads } else { &mut alone };
            let (c_before, n_before) = match step.checked_sub(1) {
                None => (self.state.c, self.state.n),
                Some(before) => {
                    let before = schedule.start(before) * hidden;
                    (&self.c[before..], &self.n[before..])
                }
            };
            let slopes = match self.slopes.is_empty() {
                true => self.slopes,
                false => &self.slopes[first * hidden..end * hidden],
            };
            let of_row =
                |Strided { values, stride }| Strided { values: &values[first * stride..], stride };
            SlstmBackward {
                sizes: SlstmSizes { batch, rows, heads, units },
                forget: pass.layer.forget().kernel(),
                gates: &mut self.gates[4 * first * hidden..4 * end * hidden],
                slopes,
                c_before,
                n_before,
                n: &self.n[first * hidden..end * hidden],
                y: of_row(self.y),
                dy: of_row(self.dy),
                dh: &*self.dh,
                dc: &mut *self.dc,
                dn: &mut *self.dn,
                dz: &mut *self.dz,
            }
            .run(pass.isa, threads)?;
            for (head, weights) in self.heads_back.iter().enumerate() {
                let a = &self.dz[4 * head * batch * units..][..4 * rows * units];
                let c = &mut self.dh[head * batch * units..][..rows * units];
                let (start, stride, scratch) = (Start::Zero, units, &mut *self.scratch);
                Gemm { rows, a, weights, start, c, stride, scratch }.run(pass.isa, threads)?;
            }
        }
        Ok(())
    }
}

impl OfHeads<'_, '_> {
    /// Computes dR = Σ dz h₋ᵀ of each gate and head.
    fn sum(self, pass: &SlstmPass) -> Result<(), Error> {
        let Sizes { hidden, heads, units, .. } = pass.layer.sizes();
        let (rows, batch) = (pass.rows(), pass.schedule.batch());
        for (nth, c) in self.dw.chunks_exact_mut(units * units).enumerate() {
            let head = nth % heads;
            let first = &self.before[head * batch * units..][..batch * units];
            let Strided { values, stride } = self.y;
            // Without any later row there may be no output at all.
            let rest = values.get(head * units..).unwrap_or_default();
            let b = match pass.ago.is_empty() {
                false => Joined { first, rest, stride, order: Some(&pass.ago) },
                true => {
                    let left = match rows.saturating_sub(batch) {
                        0 => 0,
                        left => (left - 1) * stride + units,
                    };
                    Joined { first, rest: &rest[..left], stride, order: None }
                }
            };
            WeightGradients {
                depth: rows,
                a: self.dz.get(nth * units..).unwrap_or_default(),
                stride: 4 * hidden,
                rows: units,
                products: [Rhs { b, c, columns: units }],
                sums: None,
                accumulate: self.accumulate,
                scratch: &mut *self.scratch,
            }
            .run(pass.isa, self.threads)?;
        }
        Ok(())
    }
}
