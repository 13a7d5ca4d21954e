//! The steps of a stream through an sLSTM layer: they carry the state on and keep nothing else.

use super::packed::SlstmPacked;
use super::spec::{Sizes, Slstm};
use super::walk::{States, Step, Walk};
use crate::blocks::{Next, Steps, StreamPlan};
use crate::error::product;
use crate::memory::{Region, regions};
use crate::{Error, Isa};
use bptt_kernels::gemm;
use bptt_kernels::rowwise::StridedMut;
use bptt_kernels::tuning::{SCAN_ROWS, STRETCH_WORTH_CALLING};

regions! {
    /// The memory that the steps of a stream book.
    struct Regions {
        /// The gates' sums of a stretch of time, of the inputs.
        gates,
        /// The sums of the heads at one step.
        sums,
        /// The hidden state, head by head.
        hidden,
        scratch,
    }
}

/// The planned steps of an sLSTM layer. For N threads their memory, in f32 and each part rounded up to
/// 16, is
///
/// - the sums of the inputs of T = max(1, ⌊192 N / B⌋) · B rows: `4TH`, and 16T more if 4H is a multiple
///   of 256;
/// - the sums of the heads, `4BH`, and 16 more in each row of a head if 4D is a multiple of 256; and the
///   hidden state, `BH`;
/// - packed rows of a product's lhs, each rounded up to 16: `min(T, 96 N) · max(I, D)`.
#[derive(Debug)]
pub(super) struct SlstmSteps {
    layer: Slstm,
    batch: usize,
    /// Steps at a time.
    at_once: usize,
    isa: Isa,
    regions: Regions<Region>,
}

impl SlstmSteps {
    pub fn planned(layer: Slstm, plan: &mut StreamPlan<'_>) -> Result<Self, Error> {
        let StreamPlan { batch, runtime, .. } = *plan;
        let threads = runtime.checked_threads()?;
        let at_once = (SCAN_ROWS.saturating_mul(threads) / batch.max(1)).max(1);
        let rows = product("the stream", &[at_once, batch])?;
        let sizes @ Sizes { input, hidden, heads, units } = layer.sizes();
        let dims: Regions<&[usize]> = Regions {
            gates: &[rows, gemm::spread(4 * hidden)],
            sums: &[heads, batch, sizes.sums_stride()],
            hidden: &[batch, hidden],
            scratch: &[gemm::team_scratch_len(threads, rows, input.max(units))?],
        };
        let regions = dims.booked(plan.layout)?;
        Ok(Self { layer, batch, at_once, isa: runtime.isa(), regions })
    }
}

impl Steps for SlstmSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, y, steps, memory, state, threads, .. } = next;
        let packed = packed.as_form::<SlstmPacked>()?;
        let (layer, batch, isa) = (self.layer, self.batch, self.isa);
        let sizes @ Sizes { input, hidden, .. } = layer.sizes();
        let x = x.features(steps * batch, input)?;
        let Regions { gates, sums, hidden: h, scratch } = self.regions.granted(memory);
        let States { h: last, c, n, m } = States::of_mut(state);
        sizes.to_heads(last, h);
        let state = States { h: &mut *h, c, n, m };
        let mut walk = Walk { layer, packed, isa, batch, state, sums, scratch, threads };
        let (most, stride) = (self.at_once * batch, gemm::spread(4 * hidden));
        for (x, y) in x.chunks(most * input).zip(y.chunks_mut(most * hidden)) {
            let gates = &mut gates[..y.len() / hidden * stride];
            walk.inputs(x, gates, stride)?;
            for (gates, y) in gates.chunks_mut(batch * stride).zip(y.chunks_mut(batch * hidden)) {
                let y = StridedMut { values: y, stride: hidden };
                walk.step(Step { rows: batch, gates, gates_stride: stride, y, kept: None })?;
            }
        }
        sizes.to_rows(h, last);
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        let (all, stretch) = (steps * self.batch, self.at_once * self.batch);
        let short = self.layer.multiply_adds(stretch.min(all)) < STRETCH_WORTH_CALLING;
        if steps > 1 && short { 0 } else { self.layer.multiply_adds(all) }
    }
}
