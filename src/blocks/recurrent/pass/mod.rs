//! Training passes of a recurrent layer: the activations of τ steps in booked memory, and
//! back-propagation through time over them.

mod backward;
mod forward;
mod recompute;
mod regions;
mod sums;

use super::sections::Sections;
use super::state::{StateLens, ago};
use super::{Recurrent, RecurrentPacked};
use crate::blocks::{Backward, Forward, Found, Keeps, LeftBy, Pass, Plan, Wanted};
use crate::memory::Region;
use crate::sequence::Schedule;
use crate::{Error, Isa};
use bptt_kernels::recurrence::Dims;
use bptt_kernels::tuning::CHUNK_ROWS;
use regions::{Regions, keeps_cells};

/// A planned pass of a recurrent layer.
///
/// # Memory
///
/// The layer has H units with G gates. Its hidden state has R features (H unless there is a
/// projection), and its longest delay is D (1 unless there are others). A pass over τ steps of B
/// sequences books, in f32 and with each part rounded up to 16:
///
/// - the gates, `GτBH`; in a GRU, with learned leaks and with a projection, the extra block beside
///   the gates, `τBH`; and the cell state, if there is one, `τBH`. The outputs, `τBR`, belong to
///   the network, and so do the states at both ends: `DBR`, `BH` if there is a cell state, and `BI`
///   if the input is [late](crate::Delayed);
/// - with a projection, ∂L/∂h of all steps, `τBR`;
/// - with [dropout](crate::Regularisation), the hidden states as the products see them, `DBR`
///   before the first step and `τBR` after the steps, and the masks, `BR`;
/// - with zoneout, its keys, `2τB`; the part of ∂L/∂h that it carries to the step before, `BR`; if
///   there is a cell state, the same part of ∂L/∂c, `BH`; and, with zoneout of c in a cell whose
///   output gate sees c ([peepholes](crate::Lstm::with_peepholes)), the new c before zoneout,
///   `τBH`;
/// - with [layer normalisation](crate::LayerNorm), the normalised sums, `GτBH`, the gradients of
///   the sums, `GτBH`, and the inverse deviations, `GτB`; in a GRU with its reset gate after the
///   product, another `τBH` of normalised sums and `τBH` of gradients, and `(G + 1) τB` inverse
///   deviations instead of `GτB`;
/// - scratch, the largest of
///   - `min(τB, 96 N) · max(I, GH)` for N threads: packed rows of a product's lhs, each rounded up
///     to 16;
///   - the packed lhs rows of one stage of a step, B rows. In the first stage a row has, for each
///     delay, the larger of R and GH; in a GRU 2H takes the place of GH, with another H if its
///     reset gate comes after the product; each is rounded up to 16. In a second stage a row has H,
///     or R if that is more;
///   - for the weight gradients, d = `min(τB, 256)` floats for each column of U and of W, each matrix
///     padded to a multiple of two vectors, and 96 N times d rounded up to 16. Here W has H columns
///     if there is a second stage and H is more than R.
///
/// The scratch does not grow with τ.
///
/// A pass for inference has, instead of all this,
///
/// - the gates of a stretch of s rows, `Gs`, and 16s more if GH is a multiple of 256; s is the most
///   rows of a stretch, which has at most 192 rows or one step;
/// - with zoneout, the cell state, if there is one, `τBH`;
/// - if a step has a second product, its lhs, `BH`; with layer normalisation, the normalised sums and
///   inverse deviations of a step;
/// - scratch: the larger of `min(s, 96 N) · I` and the packed lhs rows of one stage of a step.
#[derive(Debug)]
pub(super) struct RecurrentPass {
    layer: Recurrent,
    /// Where the parameters' gradients lie in their buffer.
    sections: Sections,
    schedule: Schedule,
    /// For each delay, where each row finds the hidden state of that many steps before: see [`ago`].
    /// Empty where the sequences have the same length, since the states lie in order then.
    ago: Vec<Vec<usize>>,
    isa: Isa,
    wanted: Wanted,
    regions: Regions<Region>,
}

impl RecurrentPass {
    pub(super) fn planned(layer: Recurrent, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let regions = Regions::book(&layer, plan)?;
        let (isa, wanted) = (plan.runtime.isa(), plan.gradients);
        let sections = layer.sections()?;
        let schedule = plan.schedule.clone();
        let ago = match schedule.is_dense() {
            true => Vec::new(),
            false => {
                layer.delays.iter().map(|&delay| ago(&schedule, layer.history(), delay)).collect()
            }
        };
        Ok(Self { layer, sections, schedule, ago, isa, wanted, regions })
    }

    /// Returns the number of rows, τB if the sequences have the same length.
    fn rows(&self) -> usize {
        self.schedule.rows()
    }

    /// Returns the sizes that the kernels need.
    fn dims(&self) -> Dims<'_> {
        let (schedule, sizes) = (self.schedule.step_rows(), self.layer.sizes);
        Dims { schedule, hidden: sizes.hidden, outputs: sizes.output }
    }

    fn keeps_cells(&self) -> bool {
        keeps_cells(&self.layer, self.wanted)
    }

    fn state_lens(&self) -> StateLens {
        self.layer.state_lens(self.schedule.batch())
    }
}

impl Pass for RecurrentPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let packed = forward.packed.as_form::<RecurrentPacked>()?;
        self.run_forward(packed, forward)
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        self.wanted.check_backward()?;
        let packed = backward.packed.as_form::<RecurrentPacked>()?;
        self.run_backward(packed, backward)
    }

    fn keeps(&self) -> Option<Keeps> {
        let keeps = || Keeps { regions: vec![self.regions.c], output: true };
        self.can_recompute().then(keeps)
    }

    fn recompute(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let packed = forward.packed.as_form::<RecurrentPacked>()?;
        match self.can_recompute() {
            true => self.run_recompute(packed, forward),
            false => self.run_forward(packed, forward),
        }
    }

    fn work(&self) -> [usize; 2] {
        let (rows, batch) = (self.rows(), self.schedule.batch());
        let stretch = (CHUNK_ROWS / batch).max(1) * batch;
        let forward = self.layer.work_in_stretches(rows, stretch);
        [forward, self.layer.multiply_adds(rows).saturating_mul(2)]
    }

    /// Finds `gates` `[τ, B, G, H]` after a forward pass, `preactivation_gradients` of the same
    /// shape after a backward pass, and `c` `[τ, B, H]` after both. In a cell without gates,
    /// `gates` holds whatever the backward pass needs; this may change in later versions. A pass for
    /// inference keeps none of them.
    fn find(&self, name: &str, left_by: LeftBy, _step: u64) -> Option<Found> {
        match (name, left_by) {
            ("gates", LeftBy::Forward) | ("preactivation_gradients", LeftBy::Backward)
                if self.wanted.any() =>
            {
                Some(Found::Memory(self.regions.gates))
            }
            ("c", _) if self.keeps_cells() => Some(Found::Memory(self.regions.c)),
            _ => None,
        }
    }
}
