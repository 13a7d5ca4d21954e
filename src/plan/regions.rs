//! What a plan books in its arena and gives out again. Knows lengths; must not know what is done
//! with them.

use crate::arena::{Layout, Region, regions};
use crate::error::product;
use crate::spec::{Diagonal, Sizes, Spec};
use crate::{Error, Isa, Regularisation};
use bptt_kernels::recurrence::{Dims, Schedule, backward_scratch_len, forward_scratch_len};
use bptt_kernels::{KernelError, gemm, gemm::weight_gradients};

regions! {
    /// The regions of a plan's arena.
    pub(super) struct Regions {
        gates,
        extra,
        h,
        c,
        /// What the products see of the hidden states where there is dropout.
        seen,
        /// The masks of dropout.
        mask,
        /// The keys of zoneout.
        keys,
        /// What zoneout carries of ∂L/∂h and ∂L/∂c to the step before.
        dh_kept,
        dc_kept,
        /// The cell states before zoneout, where gates see them.
        c_made,
        /// What is normalised, the inverse deviations, and the gradients by the sums.
        normal,
        normal_extra,
        inverse,
        da,
        da_extra,
        dh,
        dc,
        dh_all,
        /// The inputs that wait before the first step and after the last.
        x,
        scratch,
    }
}

impl Regions<Region> {
    /// Books them all.
    pub(super) fn book<C: Spec>(
        layer: &C,
        (steps, batch): (usize, usize),
        isa: Isa,
        threads: usize,
        regularisation: Regularisation,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
        let history = layer.delays()[0];
        let states =
            |before: usize| steps.checked_add(before).ok_or(Error::TooLarge { what: "the arena" });
        let (hidden_states, cell_states) = (states(history)?, states(1)?);
        let (cells, projected) = (usize::from(geometry.cells), usize::from(geometry.projects));
        product("the inputs", &[steps, batch, input])?;
        let (normed, apart) = (usize::from(C::NORMED), geometry.norms - geometry.gates);
        let dropout = usize::from(regularisation.has_dropout());
        let zoneout = usize::from(regularisation.rates().is_some());
        let sees_states = |diagonal: &Diagonal| matches!(diagonal, Diagonal::GateAfter(_));
        let c_made = regularisation.zoneout()[1] > 0.0 && layer.diagonals().iter().any(sees_states);
        let dims: Regions<&[usize]> = Regions {
            gates: &[steps, batch, geometry.gates, hidden],
            extra: &[steps, batch, geometry.extra, hidden],
            h: &[hidden_states, batch, output],
            c: &[cells, cell_states, batch, hidden],
            seen: &[dropout, hidden_states, batch, output],
            mask: &[dropout, batch, output],
            keys: &[zoneout, steps, batch, 2],
            dh_kept: &[zoneout, batch, output],
            dc_kept: &[zoneout * cells, batch, hidden],
            c_made: &[usize::from(c_made), steps, batch, hidden],
            normal: &[normed, steps, batch, geometry.gates, hidden],
            normal_extra: &[normed, steps, batch, apart, hidden],
            inverse: &[normed, steps, batch, geometry.norms],
            da: &[normed, steps, batch, geometry.gates, hidden],
            da_extra: &[normed, steps, batch, apart, hidden],
            dh: &[history, batch, output],
            dc: &[cells, batch, hidden],
            dh_all: &[projected, steps, batch, output],
            x: &[2 * usize::from(C::LATE), batch, input],
            scratch: &[scratch_len(layer, (steps, batch), isa, threads)?],
        };
        dims.booked(layout)
    }
}

/// What the most demanding of a pass's products needs.
fn scratch_len<C: Spec>(
    layer: &C,
    (steps, batch): (usize, usize),
    isa: Isa,
    threads: usize,
) -> Result<usize, Error> {
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
    let dims = Dims { schedule: Schedule::dense(steps, batch), hidden, outputs: output };
    let (rows, delays) = (product("the inputs", &[steps, batch])?, layer.delays().len());
    let recurrent = if geometry.is_double() { hidden.max(output) } else { output };
    // What is too large here is the arena, of which this is a part.
    let needs = || -> Result<[usize; 5], KernelError> {
        Ok([
            gemm::team_scratch_len(threads, rows, input)?,
            forward_scratch_len(&geometry, dims, delays, 0)?,
            backward_scratch_len(&geometry, dims, delays)?,
            weight_gradients::scratch_len(isa, threads, &[input, recurrent])?,
            gemm::team_scratch_len(threads, rows, geometry.gates * hidden)?,
        ])
    };
    let needs = needs().map_err(|_| Error::TooLarge { what: "the arena" })?;
    Ok(needs.into_iter().fold(0, usize::max))
}
