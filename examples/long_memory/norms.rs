//! ‖∂L/∂h⁽ᵗ⁾‖ over t, for a loss after the last step.
//!
//! A backward pass over the steps after t gives ∂L/∂h⁽ᵗ⁾ as the gradient by its initial state. So
//! passes over one step each, from the last to the first, with the gradient handed on from one to
//! the next, give this gradient for every t, with the bits of longer passes. The forward passes
//! keep the states from which each step begins. An LSTM's state has two parts, so it has two
//! gradients: ∂L/∂h counts the paths through the gates of the next step and leaves out those
//! through the cell state, which are ∂L/∂c.
//!
//! With one output o, ∂L/∂h⁽ᵗ⁾ of a sequence is ∂L/∂o times ∂o/∂h⁽ᵗ⁾ for any L. So the norm divided
//! by the norm at the last step depends on the network alone, whatever the loss and however small
//! it has become. These ratios are what this file computes.

use super::tasks::Task;
use bptt::{Accumulate, Error, Model, Schedule, State};

/// The norms of the gradients divided by ‖∂L/∂h⁽τ⁾‖, for t from 0, the initial state, to τ: the
/// root of the mean square over the sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Norms {
    /// For ∂L/∂h⁽ᵗ⁾.
    pub h: Vec<f64>,
    /// For ∂L/∂c⁽ᵗ⁾; empty if the cell has no cell state.
    pub c: Vec<f64>,
}

/// The gradients by the states τ to 0 over `x` `[τ, B, I]`, from ∂L/∂h⁽τ⁾ `[B, H]`.
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

/// The norms over `x` `[τ, B, I]`, for the model's first output.
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
