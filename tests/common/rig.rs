//! A model with a workspace, and passes on it.

use super::{Data, assert_bits, filled, rows_of};
use bptt::{Accumulate, Isa, Model, State, Workspace};
use bptt_reference::cells::Outcome;

/// The results of a forward and a backward pass.
pub type Pass = Outcome<Vec<f32>>;

/// Everything that a pass runs on.
#[derive(Debug)]
pub struct Rig {
    pub model: Model,
    pub workspace: Workspace,
}

/// The parts of a state of the network's one layer, or nothing.
pub fn part(state: &State, name: &str) -> Vec<f32> {
    state.tensor(&format!("0.{name}")).map_or(Vec::new(), <[f32]>::to_vec)
}

impl Rig {
    /// A rig for passes over `data` and other data of its shape.
    pub fn new(isa: Isa, data: &Data) -> Self {
        Self::with_threads(isa, data, 1)
    }

    /// The same on several threads. Work is cut for `threads` threads if the pool has them,
    /// whatever cores this machine has.
    pub fn with_threads(isa: Isa, data: &Data, threads: usize) -> Self {
        bptt_kernels::team::set_cores(8);
        let mut model = data.model(isa, threads);
        let training = model.training(data.schedule());
        let training = training.with_input_gradients().with_state_gradients();
        let workspace = training.workspace().unwrap();
        Self { model, workspace }
    }

    /// Runs a forward pass and returns its results; there are no gradients yet.
    pub fn forward(&mut self, data: &Data) -> Pass {
        let Self { model, workspace } = self;
        workspace.set_noise(data.noise);
        workspace.set_state(&data.initial()).unwrap();
        let h = model.forward(workspace, &data.inputs.x).unwrap().to_vec();
        let shown = data.layer.equations().shown() > 0;
        let left = |name: &str| workspace.activations(name).map_or(Vec::new(), <[f32]>::to_vec);
        let gates = if shown { left("0.gates") } else { Vec::new() };
        let (c, none) = (left("0.c"), Vec::new);
        let (params, dx, dh0, dc0, dx0) = (none(), none(), none(), none(), none());
        Pass { gates, h, c, dz: none(), params, dx, dh0, dc0, dx0 }
    }

    /// Runs a backward pass whose parameter gradients go into `parameters` as `accumulate` says;
    /// adds the gradients to the results of the forward pass.
    pub fn backward(
        &mut self,
        data: &Data,
        parameters: &mut [f32],
        accumulate: Accumulate,
        forward: Pass,
    ) -> Pass {
        let Self { model, workspace } = self;
        workspace.gradients_mut().as_mut_slice().copy_from_slice(parameters);
        workspace.set_last_gradient(Some(&data.last_gradient())).unwrap();
        model.backward(workspace, &data.inputs.x, &data.loss(), accumulate).unwrap();
        parameters.copy_from_slice(workspace.gradients().as_slice());
        let dz = workspace.activations("0.preactivation_gradients").unwrap();
        let dz = data.layer.all_steps(dz, data.first, data.steps, data.batch);
        let dx = workspace.input_gradients().unwrap().to_vec();
        let initial = workspace.state_gradients().unwrap();
        let [dh0, dc0, dx0] = ["h", "c", "x"].map(|name| part(&initial, name));
        Pass { params: parameters.to_vec(), dx, dh0, dc0, dx0, dz, ..forward }
    }

    /// Runs forward and backward, into buffers full of NaN.
    pub fn run(&mut self, data: &Data) -> Pass {
        let forward = self.forward(data);
        let mut parameters = filled(data.inputs.params.len());
        self.backward(data, &mut parameters, Accumulate::No, forward)
    }
}

/// Asserts that every gate, state and gradient is equal to the bit.
#[track_caller]
pub fn assert_same(given: &Pass, expected: &Pass) {
    for ((name, given), (_, expected)) in given.parts().into_iter().zip(expected.parts()) {
        assert_bits(name, given, expected);
    }
}

/// Sequence `n` of a pass over a batch, without the parameters' gradients, which are sums over the
/// batch.
pub fn sequence(pass: &Pass, data: &Data, n: usize) -> Pass {
    let of = |values: &[f32], width| rows_of(values, width, data.batch, n);
    let (inputs, hidden, outputs) =
        (data.layer.input_size(), data.layer.hidden_size(), data.layer.output_size());
    let gates = data.layer.equations().gates() * hidden;
    Pass {
        gates: of(&pass.gates, gates),
        h: of(&pass.h, outputs),
        c: of(&pass.c, hidden),
        dz: of(&pass.dz, gates),
        params: Vec::new(),
        dx: of(&pass.dx, inputs),
        dh0: of(&pass.dh0, outputs),
        dc0: of(&pass.dc0, hidden),
        dx0: of(&pass.dx0, inputs),
    }
}
