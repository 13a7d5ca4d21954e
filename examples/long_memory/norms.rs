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

use super::tasks::Task;
use bptt::{Accumulate, Error, Model, Schedule, State};

/// The gradients' norms over ‖∂L/∂h⁽τ⁾‖, for t from 0, the initial state, to τ: the root of the
/// mean square over the sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Norms {
    /// Of ∂L/∂h⁽ᵗ⁾.
    pub h: Vec<f64>,
    /// Of ∂L/∂c⁽ᵗ⁾; empty where the cell has no cell state.
    pub c: Vec<f64>,
}

/// ∂L/∂ of the states τ to 0 over `x` `[τ, B, I]`, of ∂L/∂h⁽τ⁾ `[B, H]`.
pub fn walk(model: &mut Model, x: &[f32], batch: usize, last: &[f32]) -> Result<Vec<State>, Error> {
    let step = model.training(Schedule::dense(1, batch));
    let mut workspace = step.with_state_gradients().workspace()?;
    let row = batch * Task::Adding.sizes().0;
    let (mut states, mut gradients) = (vec![model.state(batch)?], vec![model.state(batch)?]);
    for x in x.chunks_exact(row) {
        workspace.set_state(&states[states.len() - 1])?;
        model.forward(&mut workspace, x)?;
        states.push(workspace.last_state()?);
    }
    gradients[0].tensor_mut("0.h")?.copy_from_slice(last);
    let nothing = |y: &mut [f32]| {
        y.fill(0.0);
        0.0
    };
    for (x, state) in x.chunks_exact(row).zip(&states).rev() {
        workspace.set_state(state)?;
        workspace.set_last_gradient(gradients.last())?;
        model.gradients(&mut workspace, x, &nothing, Accumulate::No)?;
        gradients.push(workspace.state_gradients()?);
    }
    Ok(gradients)
}

/// The norms over `x` `[τ, B, I]` of the model's first output.
pub fn norms(model: &mut Model, x: &[f32], batch: usize) -> Result<Norms, Error> {
    let hidden = model.state(1)?.tensor("0.h")?.len();
    let last = model.parameters().tensor("1.weight")?[..hidden].repeat(batch);
    let walk = walk(model, x, batch, &last)?;
    let norms = |name: &str| -> Vec<f64> {
        let parts = walk.iter().rev().filter_map(|gradient| gradient.tensor(name).ok());
        let squares = |part: &[f32]| part.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>();
        parts.map(|part| (squares(part) / batch as f64).sqrt()).collect()
    };
    let [mut h, mut c] = ["0.h", "0.c"].map(norms);
    let last = h[h.len() - 1];
    h.iter_mut().chain(&mut c).for_each(|norm| *norm /= last);
    Ok(Norms { h, c })
}
