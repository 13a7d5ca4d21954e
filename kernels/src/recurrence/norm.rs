//! Layer normalisation of a step's sums (Ba et al. 2016), for each gate over the units:
//! `x̂ = (a − μ) / √(σ² + ε)`. The cell gets `b + γ ⊙ x̂`. It needs all sums of a row, so the sweep
//! of a stage only stores the sums, and a kernel for each row then normalises them and runs the
//! cell. Knows what is normalised and its lengths; must not know cells.

use super::dims::Dims;
use crate::cells::Geometry;
use crate::error::check_len;
use crate::{KernelError, checked_len};

/// The layer normalisation of a forward pass. If the recurrent sums are separate from the input's
/// part, both are normalised for the last gate, the recurrent sum as an extra block.
#[derive(Debug)]
pub struct Norm<'a> {
    /// ε.
    pub epsilon: f32,
    /// γ, `[N, H]`: for each gate, and for the extra block if there is one.
    pub gain: &'a [f32],
    /// b, `[G, H]`, which the input's part must not include. The bias of the extra block is in the
    /// cell.
    pub bias: &'a [f32],
    /// Output: x̂, `[τ, B, G, H]` if gates are kept, else `[B, G, H]` of one step.
    pub normal: &'a mut [f32],
    /// Output: x̂ of the extra block, `[τ, B, H]` or `[B, H]` of one step; empty if there is none.
    pub normal_extra: &'a mut [f32],
    /// Output: 1 / √(σ² + ε), `[τ, B, N]` or `[B, N]` of one step.
    pub inverse: &'a mut [f32],
}

/// The normalisation of a backward pass.
#[derive(Debug)]
pub struct NormBack<'a> {
    /// γ, as in the forward pass.
    pub gain: &'a [f32],
    /// x̂, as the forward pass has stored it: see [`Norm::normal`].
    pub normal: &'a [f32],
    /// See [`Norm::normal_extra`].
    pub normal_extra: &'a [f32],
    /// See [`Norm::inverse`].
    pub inverse: &'a [f32],
    /// Output: ∂L/∂a, `[τ, B, G, H]`. The gradient by `b + γ ⊙ x̂`, which the cell got, is left in
    /// the place of the gates.
    pub da: &'a mut [f32],
    /// Output: ∂L/∂a of the extra block, `[τ, B, H]`; empty if there is none.
    pub da_extra: &'a mut [f32],
}

/// Returns the floats of `normal`, `normal_extra` and `inverse` for `rows` rows.
fn lens(cell: &Geometry, rows: usize, hidden: usize) -> Result<[usize; 3], KernelError> {
    Ok([
        checked_len("normal", &[rows, cell.gates, hidden])?,
        checked_len("normal_extra", &[rows, cell.norms - cell.gates, hidden])?,
        checked_len("inverse", &[rows, cell.norms])?,
    ])
}

impl Norm<'_> {
    /// Checks that the slices fit a pass that keeps all steps (`keeps`) or only one.
    pub(super) fn check(
        &self,
        cell: &Geometry,
        dims: Dims<'_>,
        keeps: bool,
    ) -> Result<(), KernelError> {
        let rows = if keeps { dims.rows("rows", 1, 1)? } else { dims.batch() };
        check_len("gain", self.gain.len(), cell.norms * dims.hidden)?;
        check_len("norm bias", self.bias.len(), cell.gates * dims.hidden)?;
        let [normal, extra, inverse] = lens(cell, rows, dims.hidden)?;
        check_len("normal", self.normal.len(), normal)?;
        check_len("normal_extra", self.normal_extra.len(), extra)?;
        check_len("inverse", self.inverse.len(), inverse)
    }
}

impl NormBack<'_> {
    /// Checks that the slices fit a pass.
    pub(super) fn check(&self, cell: &Geometry, dims: Dims<'_>) -> Result<(), KernelError> {
        let rows = dims.rows("rows", 1, 1)?;
        check_len("gain", self.gain.len(), cell.norms * dims.hidden)?;
        let [normal, extra, inverse] = lens(cell, rows, dims.hidden)?;
        check_len("normal", self.normal.len(), normal)?;
        check_len("normal_extra", self.normal_extra.len(), extra)?;
        check_len("inverse", self.inverse.len(), inverse)?;
        check_len("da", self.da.len(), normal)?;
        check_len("da_extra", self.da_extra.len(), extra)
    }
}
