//! A plan with weights and an arena, and passes on it.

use super::{Data, Subject, assert_bits, filled, rows_of};
use bptt::{Accumulate, Arena, Gradients, Isa, Parameters, Plan, Purpose, State, Weights};
use bptt_reference::cells::Outcome;

/// What a forward and a backward pass gave.
pub type Pass = Outcome<Vec<f32>>;

/// All that a pass runs on.
#[derive(Debug)]
pub struct Rig<C: Subject> {
    pub plan: Plan<C>,
    pub weights: Weights<C>,
    pub arena: Arena<C>,
}

impl<C: Subject> Rig<C> {
    /// For passes over `data` and others of its shape.
    pub fn new(isa: Isa, data: &Data<C>) -> Self {
        Self::with_threads(isa, data, 1)
    }

    /// Work is cut for so many threads if the pool has them, whatever cores this machine has.
    pub fn with_threads(isa: Isa, data: &Data<C>, threads: usize) -> Self {
        bptt_kernels::team::set_cores(8);
        let (layer, purpose) = (&data.layer, Purpose::TrainingWithInputGradient);
        let plan = layer.plan(data.steps, data.batch, isa).unwrap();
        let plan = plan.with_threads(threads).unwrap();
        let plan = plan.with_regularisation(data.regularisation).unwrap();
        let weights = layer.pack(&data.parameters(), purpose, isa).unwrap();
        let mut weights = weights.with_threads(threads).unwrap();
        weights.update(&data.parameters()).unwrap();
        let arena = plan.allocate().unwrap();
        Self { plan, weights, arena }
    }

    /// Runs it, and gives what it left; there are no gradients yet.
    pub fn forward(&mut self, data: &Data<C>) -> Pass {
        let Self { plan, weights, arena } = self;
        plan.forward_with(weights, &data.inputs.x, data.initial(), data.noise, arena).unwrap();
        let shown = data.layer.equations().shown() > 0;
        let gates = if shown { arena.gates().unwrap().to_vec() } else { Vec::new() };
        let (h, c) = (arena.hidden().unwrap().to_vec(), arena.cell_states().unwrap().to_vec());
        let none = Vec::new;
        let (params, dx, dh0, dc0, dx0) = (none(), none(), none(), none(), none());
        Pass { gates, h, c, dz: none(), params, dx, dh0, dc0, dx0 }
    }

    /// With the parameter gradients going into `parameters` as `accumulate` says; adds the
    /// gradients to what a forward pass has left.
    pub fn backward(
        &mut self,
        data: &Data<C>,
        parameters: &mut Parameters<C>,
        accumulate: Accumulate,
        forward: Pass,
    ) -> Pass {
        let given = &data.inputs;
        let mut dx = filled(given.x.len());
        let (mut dh0, mut dc0) = (filled(given.h0.len()), filled(given.c0.len()));
        let mut dx0 = filled(given.x0.len());
        let initial = Some(State::from_parts(&mut dh0[..], &mut dc0[..], &mut dx0[..]));
        let gradients = Gradients { parameters, accumulate, dx: Some(&mut dx), initial };
        let Self { plan, weights, arena } = self;
        plan.backward(weights, &given.x, data.outputs(), arena, gradients).unwrap();
        let dz = arena.preactivation_gradients().unwrap();
        let dz = data.layer.all_steps(dz, data.first, data.steps, data.batch);
        Pass { params: parameters.as_slice().to_vec(), dx, dh0, dc0, dx0, dz, ..forward }
    }

    /// Forward and backward, into buffers full of NaN.
    pub fn run(&mut self, data: &Data<C>) -> Pass {
        let forward = self.forward(data);
        let mut parameters = data.layer.parameters().unwrap();
        parameters.as_mut_slice().copy_from_slice(&filled(data.inputs.params.len()));
        self.backward(data, &mut parameters, Accumulate::No, forward)
    }
}

/// Every gate, state and gradient, to the bit.
#[track_caller]
pub fn assert_same(given: &Pass, expected: &Pass) {
    for ((name, given), (_, expected)) in given.parts().into_iter().zip(expected.parts()) {
        assert_bits(name, given, expected);
    }
}

/// Sequence `n` of a pass over a batch, but for the parameters' gradients, which
/// are sums over the batch.
pub fn sequence<C: Subject>(pass: &Pass, data: &Data<C>, n: usize) -> Pass {
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
