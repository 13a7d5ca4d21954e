//! ‖∂L/∂h⁽ᵗ⁾‖ over t, for a loss after the last step.
//!
//! A backward pass over the steps after t gives ∂L/∂h⁽ᵗ⁾ as the gradient by its initial
//! state, so passes over one step each, from the last, the gradient handed on from one to
//! the next, give that of every t, with the bits of longer passes. The states that each
//! begins from are kept on the way there. The state of an LSTM has two parts, so it has
//! two gradients: ∂L/∂h counts what goes through the gates of the next step and leaves out
//! what the cell state carries past them, which is ∂L/∂c.
//!
//! With one output o, ∂L/∂h⁽ᵗ⁾ of a sequence is ∂L/∂o times ∂o/∂h⁽ᵗ⁾ for any L. A norm over
//! that at the last step is of the network alone, whatever the loss and however small it has
//! become, so these are what is given.

use bptt::{
    Accumulate, Error, Gradients, Isa, Layer, OutputGradients, Parameters, Purpose, State, Weights,
};

/// The gradients' norms over ‖∂L/∂h⁽τ⁾‖, for t from 0, the initial state, to τ: the root of the
/// mean square over the sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Norms {
    /// Of ∂L/∂h⁽ᵗ⁾.
    pub h: Vec<f64>,
    /// Of ∂L/∂c⁽ᵗ⁾; empty where the cell has no cell state.
    pub c: Vec<f64>,
}

/// The gradients by the states from the last to the first: h, then c of each.
pub type Walk = Vec<Parts>;

/// The gradients by h and by c of one state.
type Parts = (Vec<f32>, Vec<f32>);

/// Whether the cell has a cell state beside the hidden one.
fn has_cell_state<C: Layer>() -> bool {
    let empty: &[f32] = &[];
    <C::State<&[f32]> as State<&[f32]>>::from_parts(empty, empty, empty).into_parts().c.is_some()
}

/// ∂L/∂ of the states τ to 0 over `x` `[τ, B, I]`, of ∂L/∂h⁽τ⁾ `[B, H]`.
pub fn walk<C: Layer>(
    parameters: &Parameters<C>,
    x: &[f32],
    batch: usize,
    last: &[f32],
) -> Result<Walk, Error> {
    let (layer, isa) = (parameters.layer(), Isa::best()?);
    let weights: Weights<C> = layer.pack(parameters, Purpose::Training, isa)?;
    let plan = layer.plan(1, batch, isa)?;
    let (mut arena, mut unused) = (plan.allocate()?, layer.parameters()?);
    let (h_len, row) = (batch * layer.output_size(), batch * layer.input_size());
    let s_len = if has_cell_state::<C>() { batch * layer.hidden_size() } else { 0 };

    let mut states = vec![(vec![0.0; h_len], vec![0.0; s_len])];
    for x in x.chunks_exact(row) {
        let (h, c) = &states[states.len() - 1];
        plan.forward(&weights, x, Some(State::from_parts(&h[..], c, &[][..])), &mut arena)?;
        states.push((arena.hidden()?.to_vec(), arena.cell_states()?.to_vec()));
    }
    let mut gradients = vec![(last.to_vec(), vec![0.0; s_len])];
    for (x, (h, c)) in x.chunks_exact(row).zip(&states).rev() {
        plan.forward(&weights, x, Some(State::from_parts(&h[..], c, &[][..])), &mut arena)?;
        let (dh, ds) = &gradients[gradients.len() - 1];
        let outputs =
            OutputGradients { dy: None, last: Some(State::from_parts(&dh[..], ds, &[][..])) };
        let (mut dh, mut ds) = (vec![0.0; h_len], vec![0.0; s_len]);
        let to = Gradients {
            initial: Some(State::from_parts(&mut dh[..], &mut ds[..], &mut [][..])),
            ..Gradients::of(&mut unused, Accumulate::No)
        };
        plan.backward(&weights, x, outputs, &mut arena, to)?;
        gradients.push((dh, ds));
    }
    Ok(gradients)
}

/// The norms over `x` `[τ, B, I]` where the output is `v · h` with `v` `[H]`.
pub fn norms<C: Layer>(
    parameters: &Parameters<C>,
    x: &[f32],
    batch: usize,
    v: &[f32],
) -> Result<Norms, Error> {
    let walk = walk(parameters, x, batch, &v.repeat(batch))?;
    let norm = |gradient: &[f32]| {
        let squares: f64 = gradient.iter().map(|&g| f64::from(g).powi(2)).sum();
        (squares / batch as f64).sqrt()
    };
    let last = norm(&walk[0].0);
    let over = |part: fn(&Parts) -> &[f32]| {
        walk.iter().rev().map(|state| norm(part(state)) / last).collect()
    };
    let c = if has_cell_state::<C>() { over(|state| &state.1) } else { Vec::new() };
    Ok(Norms { h: over(|state| &state.0), c })
}
