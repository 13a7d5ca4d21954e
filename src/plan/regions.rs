//! What a plan books in its arena, in one list, and gives out again in the same order. Knows
//! lengths; must not know what is done with them.

use crate::arena::{Layout, Region, regions};
use crate::error::product;
use crate::layer::{Diagonal, Layer, Sizes};
use crate::{Error, Isa, Regularisation};
use bptt_kernels::recurrence::{Dims, backward_scratch_len, forward_scratch_len};
use bptt_kernels::{gemm, outer};

regions! {
    gates
    extra
    h
    s
    /// What the products see of the hidden states where there is dropout.
    seen
    /// The masks of dropout.
    mask
    /// The keys of zoneout.
    keys
    /// What zoneout carries of ∂L/∂h and ∂L/∂s to the step before.
    dh_kept
    ds_kept
    /// The cell states before zoneout, where gates see them.
    s_made
    /// What is normalised, the inverse deviations, and the gradients by the sums.
    normal
    normal_extra
    inverse
    da
    da_extra
    dh
    ds
    dh_all
    /// The inputs that wait before the first step and after the last.
    x
    scratch
}

impl Regions<Region> {
    /// Books them all.
    pub(super) fn book<C: Layer>(
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
        let s_made = regularisation.zoneout()[1] > 0.0 && layer.diagonals().iter().any(sees_states);
        // In the order of the list.
        Ok(Self {
            gates: layout.book(&[steps, batch, geometry.gates, hidden])?,
            extra: layout.book(&[steps, batch, geometry.extra, hidden])?,
            h: layout.book(&[hidden_states, batch, output])?,
            s: layout.book(&[cells, cell_states, batch, hidden])?,
            seen: layout.book(&[dropout, hidden_states, batch, output])?,
            mask: layout.book(&[dropout, batch, output])?,
            keys: layout.book(&[zoneout, steps, batch, 2])?,
            dh_kept: layout.book(&[zoneout, batch, output])?,
            ds_kept: layout.book(&[zoneout * cells, batch, hidden])?,
            s_made: layout.book(&[usize::from(s_made), steps, batch, hidden])?,
            normal: layout.book(&[normed, steps, batch, geometry.gates, hidden])?,
            normal_extra: layout.book(&[normed, steps, batch, apart, hidden])?,
            inverse: layout.book(&[normed, steps, batch, geometry.norms])?,
            da: layout.book(&[normed, steps, batch, geometry.gates, hidden])?,
            da_extra: layout.book(&[normed, steps, batch, apart, hidden])?,
            dh: layout.book(&[history, batch, output])?,
            ds: layout.book(&[cells, batch, hidden])?,
            dh_all: layout.book(&[projected, steps, batch, output])?,
            x: layout.book(&[2 * usize::from(C::LATE), batch, input])?,
            scratch: layout.book(&[scratch_len(layer, (steps, batch), isa, threads)?])?,
        })
    }
}

/// What the most demanding of a pass's products needs.
fn scratch_len<C: Layer>(
    layer: &C,
    (steps, batch): (usize, usize),
    isa: Isa,
    threads: usize,
) -> Result<usize, Error> {
    let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
    let dims = Dims { steps, batch, hidden, outputs: output };
    let (rows, delays) = (product("the inputs", &[steps, batch])?, layer.delays().len());
    let recurrent = if geometry.is_double() { hidden.max(output) } else { output };
    let needs = [
        gemm::team_scratch_len(threads, rows, input)?,
        forward_scratch_len(&geometry, dims, delays, 0)?,
        backward_scratch_len(&geometry, dims, delays)?,
        outer::scratch_len(isa, threads, &[input, recurrent])?,
        gemm::team_scratch_len(threads, rows, geometry.gates * hidden)?,
    ];
    Ok(needs.into_iter().fold(0, usize::max))
}
