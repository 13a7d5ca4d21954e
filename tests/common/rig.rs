//! A plan with weights and an arena, and passes on it.

use super::{Data, assert_bits, filled};
use bptt::{Isa, LstmArena, LstmGradients, LstmParameters, LstmPlan, LstmWeights, Purpose, Write};
use bptt_reference::lstm::{Gradients, Trace};

/// What a forward and a backward pass gave.
#[derive(Clone, Debug)]
pub struct Pass {
    pub trace: Trace<f32>,
    pub gradients: Gradients<f32>,
}

/// All that a pass runs on.
#[derive(Debug)]
pub struct Rig {
    pub plan: LstmPlan,
    pub weights: LstmWeights,
    pub arena: LstmArena,
}

impl Rig {
    /// For passes over `data` and others of its shape.
    pub fn new(isa: Isa, data: &Data) -> Self {
        Self::with_threads(isa, data, 1)
    }

    pub fn with_threads(isa: Isa, data: &Data, threads: usize) -> Self {
        let (lstm, purpose) = (data.shape.lstm(), Purpose::TrainingWithInputGradient);
        let plan = lstm.plan(data.shape.steps, data.shape.batch, isa).unwrap();
        let plan = plan.with_threads(threads).unwrap();
        let mut weights =
            lstm.pack(&data.parameters(), purpose, isa).unwrap().with_threads(threads).unwrap();
        weights.update(&data.parameters()).unwrap();
        let arena = plan.allocate().unwrap();
        Self { plan, weights, arena }
    }

    pub fn forward(&mut self, data: &Data) -> Trace<f32> {
        self.plan.forward(&self.weights, &data.x, data.initial(), &mut self.arena).unwrap();
        trace(&self.arena, data.shape.hidden)
    }

    /// With the parameter gradients going into `parameters` as `write` says.
    pub fn backward(
        &mut self,
        data: &Data,
        parameters: &mut LstmParameters,
        write: Write,
    ) -> Gradients<f32> {
        let state = data.shape.state();
        let (mut dx, mut dh0, mut ds0) = (filled(data.x.len()), filled(state), filled(state));
        let gradients = LstmGradients {
            parameters,
            write,
            dx: Some(&mut dx),
            dh0: Some(&mut dh0),
            ds0: Some(&mut ds0),
        };
        let Self { plan, weights, arena } = self;
        plan.backward(weights, &data.x, data.outputs(), arena, gradients).unwrap();
        let dz = arena.preactivation_gradients().unwrap().to_vec();
        Gradients { params: parameters.as_slice().to_vec(), dx, dh0, ds0, dz }
    }

    /// Forward and backward, into buffers full of NaN.
    pub fn run(&mut self, data: &Data) -> Pass {
        let trace = self.forward(data);
        let mut parameters = data.shape.lstm().parameters().unwrap();
        parameters.as_mut_slice().copy_from_slice(&filled(data.params.len()));
        Pass { trace, gradients: self.backward(data, &mut parameters, Write::Overwrite) }
    }
}

/// What a forward pass left in the arena, gate by gate.
pub fn trace(arena: &LstmArena, hidden: usize) -> Trace<f32> {
    let gates = arena.gates().unwrap();
    let gate = |which: usize| -> Vec<f32> {
        gates.chunks(hidden).skip(which).step_by(4).flatten().copied().collect()
    };
    Trace {
        i: gate(0),
        f: gate(1),
        g: gate(2),
        o: gate(3),
        s: arena.cells().unwrap().to_vec(),
        h: arena.hidden().unwrap().to_vec(),
    }
}

/// Every gate, state and gradient, to the bit.
pub fn assert_same(given: &Pass, expected: &Pass) {
    let parts = |pass: &Pass| {
        let trace = pass.trace.parts().map(|(name, part)| (name, part.to_vec()));
        let gradients = pass.gradients.parts().map(|(name, part)| (name, part.to_vec()));
        trace.into_iter().chain(gradients).collect::<Vec<_>>()
    };
    for ((name, given), (_, expected)) in parts(given).into_iter().zip(parts(expected)) {
        assert_bits(name, &given, &expected);
    }
}
