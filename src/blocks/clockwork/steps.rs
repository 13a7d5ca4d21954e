//! The steps of a stream through a clockwork layer: they carry the state on and keep nothing else.

use super::groups::{Clocked, Gathered, InputProduct};
use super::packed::ClockworkPacked;
use crate::blocks::recurrent::{chunk_steps, remember};
use crate::blocks::{Next, Steps};
use crate::memory::{Layout, Region, regions};
use crate::{Error, Isa, Runtime};
use bptt_kernels::gemm;
use bptt_kernels::recurrence::{ClockedForward, MoveRows, clocked_scratch_len};
use bptt_kernels::tuning::{ROWS_ALONE, STRETCH_WORTH_CALLING};

regions! {
    /// The memory that the steps of a stream book.
    struct Regions {
        /// `b + U x` of each group at the steps at which it moves.
        z,
        /// The inputs of moves that are gathered.
        inputs,
        scratch,
    }
}

/// The planned steps of a clockwork. Their memory, in f32 and each part rounded up to 16, with t =
/// max(1, ⌊192 / B⌋), is
///
/// - `⌈t / kᵢ⌉ B Hᵢ` for each group;
/// - if there are fewer than 16 sequences and a period above 1, of which the shortest is k,
///   `⌈t / k⌉ B I`;
/// - packed rows of a product's lhs, each rounded up to 16: the larger of `min(tB, 96 N) · I` for N
///   threads and B rows of H.
#[derive(Debug)]
pub(super) struct ClockworkSteps {
    clocked: Clocked,
    batch: usize,
    isa: Isa,
    regions: Regions<Region>,
}

impl ClockworkSteps {
    pub(super) fn planned(
        clocked: Clocked,
        batch: usize,
        runtime: Runtime,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let rows = MoveRows::dense(chunk_steps(batch), batch);
        let Gathered { inputs, .. } = clocked.gathered(rows)?;
        let all = chunk_steps(batch) * batch;
        let product = gemm::team_scratch_len(runtime.checked_threads()?, all, clocked.input)?;
        let scratch = product.max(clocked_scratch_len(batch, clocked.hidden)?);
        let dims: Regions<&[usize]> = Regions {
            z: &[clocked.most_kept(rows)?],
            inputs: &[if batch < ROWS_ALONE { inputs } else { 0 }],
            scratch: &[scratch],
        };
        let regions = dims.booked(layout)?;
        Ok(Self { clocked, batch, isa: runtime.isa(), regions })
    }
}

impl Steps for ClockworkSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, y, steps, memory, state, mut step, threads, .. } = next;
        let packed = packed.as_form::<ClockworkPacked>()?;
        let (clocked, batch, isa) = (&self.clocked, self.batch, self.isa);
        let (input, hidden) = (clocked.input, clocked.hidden);
        let x = x.features(steps * batch, input)?;
        let stretch = chunk_steps(batch) * batch;
        let Regions { z, inputs, scratch } = self.regions.granted(memory);
        for (x, y) in x.chunks(stretch * input).zip(y.chunks_mut(stretch * hidden)) {
            let steps = y.len() / (batch * hidden);
            let rows = MoveRows::dense(steps, batch);
            let (clock, stretch) = (clocked.at(step), 0..steps);
            let z = &mut z[..clocked.kept_len(step, rows)];
            let product = InputProduct {
                isa,
                clock,
                rows,
                stretch: stretch.clone(),
                x,
                bias: &packed.bias,
                z: &mut *z,
                gathered: &mut *inputs,
                scratch: &mut *scratch,
            };
            product.run(packed.inputs.iter(), threads)?;
            let forward = ClockedForward {
                clock,
                schedule: rows,
                stretch,
                activation: clocked.activation,
                weights: &packed.forward,
                z,
                h0: &*state,
                h: &mut *y,
                h_stride: hidden,
                scratch: &mut *scratch,
            };
            forward.run(isa, threads)?;
            remember(state, y, hidden, hidden);
            step += steps as u64;
        }
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        let work = self.clocked.multiply_adds(steps * self.batch);
        let rows = (chunk_steps(self.batch) * self.batch).min(steps * self.batch);
        let short = self.clocked.multiply_adds(rows) < STRETCH_WORTH_CALLING;
        if steps > 1 && short { 0 } else { work }
    }
}
