//! Models and states with drawn values.

use bptt::{Model, Network, Runtime, State};
use bptt_reference::sample::uniform;

/// A model of the network with the same drawn parameters each time.
pub fn drawn_model(network: &Network, runtime: Runtime) -> Model {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.4);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, runtime).unwrap()
}

/// A drawn state of `batch` sequences, before their first step.
pub fn drawn_state(model: &Model, batch: usize, seed: u64) -> State {
    let mut state = model.state(batch).unwrap();
    let values = uniform(seed, state.as_slice().len(), 1.0);
    state.as_mut_slice().copy_from_slice(&values);
    state
}
