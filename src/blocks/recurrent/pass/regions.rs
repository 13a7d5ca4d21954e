//! The memory that a pass books, and is granted when it runs. Knows lengths; must not know what the
//! memory is used for.

use crate::Error;
use crate::blocks::recurrent::{Diagonal, Recurrent, Sizes};
use crate::blocks::{Plan, Wanted};
use crate::error::product;
use crate::memory::{Region, regions};
use bptt_kernels::recurrence::{Dims, StepRows, backward_scratch_len, forward_scratch_len};
use bptt_kernels::tuning::CHUNK_ROWS;
use bptt_kernels::{KernelError, gemm, gemm::weight_gradients};

regions! {
    /// The memory that a pass books.
    pub(super) struct Regions {
        /// The gates, `[τ, B, G, H]`. The backward pass replaces them with ∂L/∂z.
        gates,
        /// The extra block that a cell keeps beside the gates, `[τ, B, H]`.
        extra,
        /// The cell state after each step, `[τ, B, H]`.
        c,
        /// With dropout: the hidden states before the first step as the products see them,
        /// `[D, B, R]`.
        seen_before,
        /// With dropout: the hidden states after each step as the products see them, `[τ, B, R]`.
        seen,
        /// The masks of dropout, `[B, R]`.
        mask,
        /// The keys of zoneout, `[τ, B, 2]`.
        keys,
        /// The part of ∂L/∂h that zoneout carries to the step before, `[B, R]`.
        dh_kept,
        /// The part of ∂L/∂c that zoneout carries to the step before, `[B, H]`.
        dc_kept,
        /// The new cell states before zoneout, if a gate sees them, `[τ, B, H]`.
        c_made,
        /// With layer normalisation: the normalised sums of the gates, `[τ, B, G, H]`.
        normal,
        /// The normalised recurrent sum of a GRU's candidate, if it is apart, `[τ, B, H]`.
        normal_extra,
        /// The inverse deviation of each normalised sum.
        inverse,
        /// With layer normalisation: the gradients of the sums before it, as `normal`.
        da,
        /// The gradient of the sum that is apart, as `normal_extra`.
        da_extra,
        /// With a projection: ∂L/∂h of all steps, `[τ, B, R]`.
        dh_all,
        /// If the input is late, and the sequences have different lengths or gates are computed again:
        /// the input that each row reads, and later its gradient, `[rows, I]`.
        read,
        /// To compute gates again: the hidden states that some rows begin from, `[D, rows, R]`.
        h_before,
        /// The cell states that these rows begin from, `[rows, H]`.
        c_before,
        scratch,
    }
}

impl Regions<Region> {
    /// Books all regions of a pass.
    pub(super) fn book(layer: &Recurrent, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let (schedule, regularisation) = (&plan.schedule, layer.regularisation);
        let (rows, batch) = (schedule.checked_rows()?, schedule.batch());
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes, layer.geometry());
        let (cells, projected) = (usize::from(geometry.cells), usize::from(geometry.projects));
        product("the inputs", &[rows, input])?;
        let (normed, apart) = (usize::from(layer.is_normed()), geometry.norms - geometry.gates);
        if !plan.gradients.any() {
            return Self::book_for_inference(layer, plan);
        }
        let dropout = usize::from(regularisation.has_dropout());
        let zoneout = usize::from(regularisation.rates().is_some());
        let sees_states = |diagonal: &Diagonal| matches!(diagonal, Diagonal::GateAfter(_));
        let c_made = regularisation.zoneout()[1] > 0.0 && layer.diagonals().iter().any(sees_states);
        let again = if plan.recompute { rows.min(CHUNK_ROWS) } else { 0 };
        let dims: Regions<&[usize]> = Regions {
            gates: &[rows, geometry.gates, hidden],
            extra: &[rows, geometry.extra, hidden],
            c: &[cells, rows, hidden],
            seen_before: &[dropout, layer.history(), batch, output],
            seen: &[dropout, rows, output],
            mask: &[dropout, batch, output],
            keys: &[zoneout, rows, 2],
            dh_kept: &[zoneout, batch, output],
            dc_kept: &[zoneout * cells, batch, hidden],
            c_made: &[usize::from(c_made), rows, hidden],
            normal: &[normed, rows, geometry.gates, hidden],
            normal_extra: &[normed, rows, apart, hidden],
            inverse: &[normed, rows, geometry.norms],
            da: &[normed, rows, geometry.gates, hidden],
            da_extra: &[normed, rows, apart, hidden],
            dh_all: &[projected, rows, output],
            read: &[
                usize::from(layer.late && (!schedule.is_dense() || plan.recompute)),
                rows,
                input,
            ],
            h_before: &[layer.history(), again, output],
            c_before: &[cells, again, hidden],
            scratch: &[scratch_len(layer, plan)?],
        };
        dims.booked(plan.layout)
    }

    /// Books what a pass for inference needs: the memory of a stretch of time and of a step.
    fn book_for_inference(layer: &Recurrent, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let (schedule, geometry) = (&plan.schedule, layer.geometry());
        let (rows, batch) = (schedule.checked_rows()?, schedule.batch());
        let Sizes { input, hidden, output } = layer.sizes;
        let stretch = schedule.most_rows(CHUNK_ROWS);
        let normed = usize::from(layer.is_normed());
        let extra = if geometry.is_double() { geometry.extra } else { 0 };
        let dims = Dims { schedule: schedule.step_rows(), hidden, outputs: output };
        let threads = plan.runtime.checked_threads()?;
        let product = gemm::team_scratch_len(threads, stretch, input)?;
        let step = forward_scratch_len(&geometry, dims, layer.delays.len(), 0)?;
        let dims: Regions<&[usize]> = Regions {
            gates: &[stretch, gemm::spread(geometry.gates * hidden)],
            extra: &[extra, batch, hidden],
            c: &[usize::from(keeps_cells(layer, Wanted::NONE)), rows, hidden],
            normal: &[normed, batch, geometry.gates, hidden],
            normal_extra: &[normed, batch, geometry.norms - geometry.gates, hidden],
            inverse: &[normed, batch, geometry.norms],
            read: &[usize::from(layer.late && !schedule.is_dense()), rows, input],
            scratch: &[product.max(step)],
            ..Regions::default()
        };
        dims.booked(plan.layout)
    }
}

/// Returns whether all cell states are kept: for a backward pass, and for zoneout, which reads the one
/// before each step.
pub(super) fn keeps_cells(layer: &Recurrent, wanted: Wanted) -> bool {
    layer.geometry().cells && (wanted.any() || layer.regularisation.rates().is_some())
}

/// Returns the floats of scratch that the most demanding of a pass's products needs.
fn scratch_len(layer: &Recurrent, plan: &Plan<'_>) -> Result<usize, Error> {
    let (schedule, isa) = (&plan.schedule, plan.runtime.isa());
    let threads = plan.runtime.checked_threads()?;
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes, layer.geometry());
    let dims = Dims { schedule: schedule.step_rows(), hidden, outputs: output };
    let rows = schedule.checked_rows()?;
    let delays = layer.delays.len();
    let recurrent = if geometry.is_double() { hidden.max(output) } else { output };
    // The scratch is a part of the workspace: if it is too large, the error names the workspace.
    let again = Dims { schedule: StepRows::dense(1, rows.min(CHUNK_ROWS)), ..dims };
    let needs = || -> Result<[usize; 6], KernelError> {
        Ok([
            gemm::team_scratch_len(threads, rows, input)?,
            forward_scratch_len(&geometry, dims, delays, 0)?,
            if plan.recompute { forward_scratch_len(&geometry, again, delays, 0)? } else { 0 },
            backward_scratch_len(&geometry, dims, delays)?,
            weight_gradients::scratch_len(isa, threads, rows, &[input, recurrent])?,
            gemm::team_scratch_len(threads, rows, geometry.gates * hidden)?,
        ])
    };
    let needs = needs().map_err(|_| Error::TooLarge { what: "the workspace" })?;
    Ok(needs.into_iter().fold(0, usize::max))
}
