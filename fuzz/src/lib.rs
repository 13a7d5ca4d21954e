//! What the targets share: numbers made of the fuzzer's bytes, and one pass of an
//! LSTM over them on each instruction set.

use bptt::{
    Candidate, Isa, Lstm, LstmArena, LstmGradients, LstmPlan, LstmState, LstmWeights,
    OutputGradients, Purpose, Write,
};
use bptt_reference::lstm::{Gradients, Trace};

/// The fuzzer's bytes, handed out from the front and then over again, so that a
/// short input is a whole case.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    /// None where there are none.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self { bytes, at: 0 })
    }

    /// The next.
    pub fn byte(&mut self) -> u8 {
        let byte = self.bytes[self.at % self.bytes.len()];
        self.at += 1;
        byte
    }

    /// One of 1 to `most`.
    pub fn size(&mut self, most: usize) -> usize {
        1 + usize::from(self.byte()) % most
    }

    /// One of 0 to `most`, of two bytes.
    pub fn below(&mut self, most: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % (most + 1)
    }

    /// Any f32 at all.
    pub fn raw(&mut self) -> f32 {
        f32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// In [−1, 1), by eighths of a thousandth or so; odd places move the sum's
    /// terms apart where the bytes start over.
    pub fn moderate(&mut self) -> f32 {
        let bits = i16::from_le_bytes([self.byte(), self.byte()]);
        let turn = (self.at / self.bytes.len()) as i16;
        f32::from(bits.wrapping_add(turn.wrapping_mul(12_289))) / 32_768.0
    }
}

/// The sizes of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub inputs: usize,
    pub hidden: usize,
    pub batch: usize,
    pub steps: usize,
    pub candidate: Candidate,
}

impl Shape {
    pub fn draw(bytes: &mut Bytes) -> Self {
        let candidate = [Candidate::Tanh, Candidate::Logistic][usize::from(bytes.byte() % 2)];
        let (inputs, hidden) = (bytes.size(40), bytes.size(40));
        Self { inputs, hidden, batch: bytes.size(14), steps: bytes.size(4), candidate }
    }

    pub fn lstm(&self) -> Lstm {
        Lstm::new(self.inputs, self.hidden).unwrap().with_candidate(self.candidate)
    }

    /// Floats of a state.
    pub fn state(&self) -> usize {
        self.batch * self.hidden
    }
}

/// All that a pass is given.
#[derive(Clone, Debug)]
pub struct Data {
    pub shape: Shape,
    pub params: Vec<f32>,
    pub x: Vec<f32>,
    pub h0: Vec<f32>,
    pub s0: Vec<f32>,
    pub dy: Vec<f32>,
    pub dh_last: Vec<f32>,
    pub ds_last: Vec<f32>,
}

impl Data {
    pub fn draw(shape: Shape, mut number: impl FnMut() -> f32) -> Self {
        let mut draw = |len| (0..len).map(|_| number()).collect();
        let (state, states) = (shape.state(), shape.steps * shape.state());
        Self {
            shape,
            params: draw(shape.lstm().parameter_count()),
            x: draw(shape.steps * shape.batch * shape.inputs),
            h0: draw(state),
            s0: draw(state),
            dy: draw(states),
            dh_last: draw(state),
            ds_last: draw(state),
        }
    }

    /// Sequence `n` alone.
    pub fn sequence(&self, n: usize) -> Self {
        let Shape { inputs, hidden, batch, .. } = self.shape;
        let of = |values: &[f32], width| rows_of(values, width, batch, n);
        Self {
            shape: Shape { batch: 1, ..self.shape },
            params: self.params.clone(),
            x: of(&self.x, inputs),
            h0: of(&self.h0, hidden),
            s0: of(&self.s0, hidden),
            dy: of(&self.dy, hidden),
            dh_last: of(&self.dh_last, hidden),
            ds_last: of(&self.ds_last, hidden),
        }
    }

    pub fn initial(&self) -> LstmState<'_> {
        LstmState { h: &self.h0, s: &self.s0 }
    }
}

/// The rows, `width` floats each, of sequence `n` in `values`, `[steps, batch, width]`.
pub fn rows_of(values: &[f32], width: usize, batch: usize, n: usize) -> Vec<f32> {
    values.chunks(width).skip(n).step_by(batch).flatten().copied().collect()
}

/// All that a pass runs on.
pub struct Rig {
    pub plan: LstmPlan,
    pub weights: LstmWeights,
    pub arena: LstmArena,
}

impl Rig {
    pub fn new(isa: Isa, data: &Data) -> Self {
        let lstm = data.shape.lstm();
        let mut parameters = lstm.parameters().unwrap();
        parameters.as_mut_slice().copy_from_slice(&data.params);
        let weights = lstm.pack(&parameters, Purpose::TrainingWithInputGradient, isa).unwrap();
        let plan = lstm.plan(data.shape.steps, data.shape.batch, isa).unwrap();
        let arena = plan.allocate().unwrap();
        Self { plan, weights, arena }
    }

    /// Forward and backward. The buffers have exactly the length that they need, so
    /// that an access beyond is one beyond the allocation.
    pub fn run(&mut self, data: &Data) -> (Trace<f32>, Gradients<f32>) {
        let Self { plan, weights, arena } = self;
        plan.forward(weights, &data.x, Some(data.initial()), arena).unwrap();
        let gates = arena.gates().unwrap().to_vec();
        let gate = |which| rows_of(&gates, data.shape.hidden, 4, which);
        let trace = Trace {
            i: gate(0),
            f: gate(1),
            g: gate(2),
            o: gate(3),
            s: arena.cells().unwrap().to_vec(),
            h: arena.hidden().unwrap().to_vec(),
        };

        let state = data.shape.state();
        let mut parameters = data.shape.lstm().parameters().unwrap();
        let (mut dx, mut dh0, mut ds0) =
            (vec![f32::NAN; data.x.len()], vec![f32::NAN; state], vec![f32::NAN; state]);
        let outputs = OutputGradients {
            dy: Some(&data.dy),
            dh_last: Some(&data.dh_last),
            ds_last: Some(&data.ds_last),
        };
        let gradients = LstmGradients {
            parameters: &mut parameters,
            write: Write::Overwrite,
            dx: Some(&mut dx),
            dh0: Some(&mut dh0),
            ds0: Some(&mut ds0),
        };
        plan.backward(weights, &data.x, outputs, arena, gradients).unwrap();
        let dz = arena.preactivation_gradients().unwrap().to_vec();
        (trace, Gradients { params: parameters.as_slice().to_vec(), dx, dh0, ds0, dz })
    }
}

/// Panics unless the two have the same bits; a NaN is as any other NaN.
pub fn assert_same(what: &str, isa: Isa, given: &[f32], expected: &[f32]) {
    assert_eq!(given.len(), expected.len(), "{what} on {isa}");
    for (k, (a, b)) in given.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{what}[{k}] on {isa} is {a:e}, expected {b:e}");
    }
}
