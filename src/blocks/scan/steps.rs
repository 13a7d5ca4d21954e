//! The steps of a stream through a scanned layer: they carry the state on and keep nothing else.

use super::packed::ScanPacked;
use super::spec::ScanLayer;
use crate::blocks::{Next, Steps};
use crate::memory::{Layout, Region, regions};
use crate::{Error, Isa, Runtime};
use bptt_kernels::gemm::{self, Gemm};
use bptt_kernels::recurrence::StepRows;
use bptt_kernels::scan::ScanForward;
use bptt_kernels::tuning::{SCAN_ROWS, STRETCH_WORTH_CALLING};

regions! {
    /// The memory that the steps of a stream book.
    struct Regions {
        /// The pre-activations of a stretch of time.
        gates,
        scratch,
    }
}

/// The planned steps of a scanned layer. For N threads their memory, in f32 and each part rounded
/// up to 16, is
///
/// - the pre-activations of T = max(1, ⌊192 N / B⌋) · B rows: `GTH`, and 16T more if GH is a
///   multiple of 256;
/// - packed rows of a product's lhs, each rounded up to 16: `min(T, 96 N) · I`.
#[derive(Debug)]
pub(super) struct ScanSteps {
    layer: ScanLayer,
    batch: usize,
    /// Steps at a time.
    at_once: usize,
    isa: Isa,
    regions: Regions<Region>,
}

impl ScanSteps {
    pub fn planned(
        layer: ScanLayer,
        batch: usize,
        runtime: Runtime,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let threads = runtime.checked_threads()?;
        let at_once = (SCAN_ROWS.saturating_mul(threads) / batch.max(1)).max(1);
        let rows = crate::error::product("the stream", &[at_once, batch])?;
        let dims: Regions<&[usize]> = Regions {
            gates: &[rows, gemm::spread(layer.gate_row())],
            scratch: &[gemm::team_scratch_len(threads, rows, layer.input)?],
        };
        let regions = dims.booked(layout)?;
        Ok(Self { layer, batch, at_once, isa: runtime.isa(), regions })
    }
}

impl Steps for ScanSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, y, steps, memory, state, threads, .. } = next;
        let packed = packed.as_form::<ScanPacked>()?;
        let (batch, &ScanLayer { input, hidden, cell, .. }) = (self.batch, &self.layer);
        let x = x.features(steps * batch, input)?;
        let Regions { gates, scratch } = self.regions.granted(memory);
        let (most, stride) = (self.at_once * batch, gemm::spread(self.layer.gate_row()));
        for (x, y) in x.chunks(most * input).zip(y.chunks_mut(most * hidden)) {
            let rows = y.len() / hidden;
            let gates = &mut gates[..rows * stride];
            let (weights, start, c) = (&packed.input, packed.start(), &mut *gates);
            Gemm { rows, a: x, weights, start, c, stride, scratch: &mut *scratch }
                .run(self.isa, threads)?;
            ScanForward {
                schedule: StepRows::dense(rows / batch, batch),
                stretch: 0..rows / batch,
                hidden,
                cell,
                vectors: &packed.vectors,
                gates,
                gates_stride: stride,
                keep: false,
                x: if cell.geometry().input { x } else { &[] },
                state: &mut *state,
                c: &mut [],
                h: y,
                h_stride: hidden,
            }
            .run(self.isa, threads)?;
        }
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        let (all, stretch) = (steps * self.batch, self.at_once * self.batch);
        let short = self.layer.multiply_adds(stretch.min(all)) < STRETCH_WORTH_CALLING;
        if steps > 1 && short { 0 } else { self.layer.multiply_adds(all) }
    }
}
