//! Training passes of a scanned layer: stretches of rows whose products are scanned while they are
//! in the cache, and back-propagation over all of them.

use super::packed::ScanPacked;
use super::spec::{ScanLayer, Sections};
use crate::blocks::{Backward, Forward, Found, Keeps, LeftBy, Pass, Plan, Wanted};
use crate::error::product;
use crate::memory::{Region, regions};
use crate::sequence::Schedule;
use crate::{Error, Isa};
use bptt_kernels::gemm::weight_gradients::{self, Rhs, WeightGradients};
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::scan::{ScanBackward, ScanForward, ScanGeometry};
use bptt_kernels::tuning::{SCAN_ROWS, STRETCH_WORTH_CALLING};

regions! {
    /// The memory that a pass books.
    struct Regions {
        /// What the cell keeps in the place of the pre-activations, `[rows, G, H]`. The backward
        /// pass replaces it with ∂L/∂z.
        gates,
        /// The cell state after each step, `[rows, H]`, if it is not the output.
        c,
        scratch,
    }
}

/// A planned pass of a scanned layer.
///
/// # Memory
///
/// A pass over τ steps of B sequences, of a layer of H units with G gates, books, in f32 and with
/// each part rounded up to 16:
///
/// - what the backward scan reads, `GτBH`; and the cell state, if it is not the output, `τBH`. The
///   outputs, `τBH`, belong to the network, and so do the states at both ends, `BH`;
/// - scratch, the largest of
///   - `min(τB, 96 N) · max(I, GH)` for N threads: packed rows of a product's lhs, each rounded up
///     to 16;
///   - for the weight gradients, d = `min(τB, 256)` floats for each column of U, padded to a
///     multiple of two vectors, and 96 N times d rounded up to 16.
///
/// The scratch does not grow with τ.
///
/// A pass for inference books only the pre-activations of a stretch of s rows, `Gs`, and 16s more if GH
/// is a multiple of 256, and `min(s, 96 N) · I` of scratch. s is at most 192 N, or the rows of one step.
#[derive(Debug)]
pub(super) struct ScanPass {
    layer: ScanLayer,
    /// Where the parameters' gradients lie in their buffer.
    sections: Sections<Region>,
    schedule: Schedule,
    /// Rows whose products are computed at a time.
    at_once: usize,
    isa: Isa,
    wanted: Wanted,
    regions: Regions<Region>,
}

impl ScanPass {
    pub fn planned(layer: ScanLayer, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let schedule = plan.schedule.clone();
        let (rows, isa) = (schedule.checked_rows()?, plan.runtime.isa());
        let threads = plan.runtime.checked_threads()?;
        let ScanLayer { input, hidden, .. } = layer;
        product("the inputs", &[rows, input])?;
        let ScanGeometry { gates, cells, .. } = layer.geometry();
        let (sections, wanted, at_once) =
            (layer.sections()?, plan.gradients, SCAN_ROWS.saturating_mul(threads));
        let regions = if wanted.any() {
            let product = gemm::team_scratch_len(threads, rows, input.max(layer.gate_row()))?;
            let sums = weight_gradients::scratch_len(isa, threads, rows, &[input])?;
            let dims: Regions<&[usize]> = Regions {
                gates: &[rows, gates, hidden],
                c: &[usize::from(cells), rows, hidden],
                scratch: &[product.max(sums)],
            };
            dims.booked(plan.layout)?
        } else {
            let stretch = schedule.most_rows(at_once);
            let dims: Regions<&[usize]> = Regions {
                gates: &[stretch, gemm::spread(layer.gate_row())],
                scratch: &[gemm::team_scratch_len(threads, stretch, input)?],
                ..Regions::default()
            };
            dims.booked(plan.layout)?
        };
        Ok(Self { layer, sections, schedule, at_once, isa, wanted, regions })
    }

    fn rows(&self) -> usize {
        self.schedule.rows()
    }

    /// Returns the input as the cell reads it beside the products, which may be nothing.
    fn read<'a>(&self, x: &'a [f32]) -> &'a [f32] {
        if self.layer.geometry().input { x } else { &[] }
    }
}

impl Pass for ScanPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, y, y_stride, memory, state, last, threads, .. } = forward;
        let packed = packed.as_form::<ScanPacked>()?;
        let ScanLayer { input, hidden, cell, .. } = self.layer;
        let x = x.features(self.rows(), input)?;
        let Regions { gates, c, scratch } = self.regions.granted(memory);
        let keep = self.wanted.any();
        let stride = match keep {
            true => self.layer.gate_row(),
            false => gemm::spread(self.layer.gate_row()),
        };
        // The scan carries the state on in place.
        last.copy_from_slice(state);
        for stretch in self.schedule.stretches(self.at_once) {
            let rows = self.schedule.start(stretch.start)..self.schedule.start(stretch.end);
            let (a, first) =
                (rows.start * input..rows.end * input, if keep { rows.start } else { 0 });
            let to = first * stride..(first + rows.len()) * stride;
            Gemm {
                rows: rows.len(),
                a: &x[a],
                weights: &packed.input,
                start: packed.start(),
                c: &mut gates[to.clone()],
                stride,
                scratch: &mut *scratch,
            }
            .run(self.isa, threads)?;
            ScanForward {
                schedule: self.schedule.step_rows(),
                stretch,
                hidden,
                cell,
                vectors: &packed.vectors,
                gates: if keep { &mut *gates } else { &mut gates[to] },
                gates_stride: stride,
                keep,
                x: self.read(x),
                state: &mut *last,
                c: &mut *c,
                h: &mut *y,
                h_stride: y_stride,
            }
            .run(self.isa, threads)?;
        }
        Ok(())
    }

    /// Nothing has to be kept: a forward pass computes everything again, to the bit, as fast as
    /// anything else could, since only the products take time.
    fn keeps(&self) -> Option<Keeps> {
        Some(Keeps::default())
    }

    /// Scans from the last step to the first. Then the gradients of the parameters are sums over
    /// all rows, from the last one to the first, and `∂L/∂x = dz U`, to which the scan adds what
    /// does not come through the products.
    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { packed, x, y, y_stride, dy, dy_stride, memory, state, dlast, .. } = backward;
        let Backward { dstate, dx, gradients, accumulate, threads, .. } = backward;
        self.wanted.check_backward()?;
        let packed = packed.as_form::<ScanPacked>()?;
        let ScanLayer { input, hidden, cell, .. } = self.layer;
        let x = x.features(self.rows(), input)?;
        let back = dx.is_some().then(|| packed.back()).transpose()?;
        match dlast {
            Some(dlast) => dstate.copy_from_slice(dlast),
            None => dstate.fill(0.0),
        }
        if self.wanted.parameters && !accumulate {
            gradients.fill(0.0);
        }
        if self.rows() == 0 {
            return Ok(());
        }
        let Regions { gates, c, scratch } = self.regions.granted(memory);
        let Sections { weight_ih: dw, bias: db, own: dvectors } = match self.wanted.parameters {
            true => self.sections.granted(gradients),
            false => Sections { weight_ih: &mut [][..], bias: &mut [], own: &mut [] },
        };
        let geometry = self.layer.geometry();
        let (states, states_stride) = if geometry.cells { (&*c, hidden) } else { (y, y_stride) };
        let dx = dx.unwrap_or_default();
        ScanBackward {
            schedule: self.schedule.step_rows(),
            stretch: 0..self.schedule.steps(),
            hidden,
            cell,
            vectors: &packed.vectors,
            gates: &mut *gates,
            x: self.read(x),
            state,
            states,
            states_stride,
            dy,
            dy_stride,
            dstate,
            dx: if geometry.input { &mut *dx } else { &mut [] },
            dvectors,
        }
        .run(self.isa, threads)?;
        if self.wanted.parameters {
            WeightGradients {
                depth: self.rows(),
                a: &*gates,
                stride: self.layer.gate_row(),
                rows: self.layer.gate_row(),
                products: [Rhs::new(x, dw, input)],
                sums: Some(db),
                accumulate: true,
                scratch: &mut *scratch,
            }
            .run(self.isa, threads)?;
        }
        let Some(weights) = back else { return Ok(()) };
        let start = if geometry.input { Start::Accumulate } else { Start::Zero };
        let (rows, stride) = (self.rows(), input);
        Gemm { rows, a: gates, weights, start, c: &mut *dx, stride, scratch }
            .run(self.isa, threads)?;
        Ok(())
    }

    fn reads_output(&self) -> bool {
        !self.layer.geometry().cells
    }

    fn work(&self) -> [usize; 2] {
        let all = self.layer.multiply_adds(self.rows());
        let stretch = self.layer.multiply_adds(self.at_once.min(self.rows()));
        [if stretch < STRETCH_WORTH_CALLING { 0 } else { all }, all.saturating_mul(2)]
    }

    /// Finds `gates` `[rows, G, H]` after a forward pass: what the backward pass reads, which may
    /// change in later versions. After a backward pass it finds `preactivation_gradients` of the
    /// same shape, and `c` `[rows, H]` after both. A pass for inference keeps none of them.
    fn find(&self, name: &str, left_by: LeftBy, _step: u64) -> Option<Found> {
        match (name, left_by) {
            _ if !self.wanted.any() => None,
            ("gates", LeftBy::Forward) | ("preactivation_gradients", LeftBy::Backward) => {
                Some(Found::Memory(self.regions.gates))
            }
            ("c", _) if self.layer.geometry().cells => Some(Found::Memory(self.regions.c)),
            _ => None,
        }
    }
}
