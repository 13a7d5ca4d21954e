//! One thread's part of a training step: the passes over its streams' next chunk.

use super::model::{BYTES, Model, Parameters};
use bptt::{
    Accumulate, Arena, Error, Gradients, Layer, Lstm, LstmState, OutputGradients, Plan,
    ReadoutArena, ReadoutGradients, ReadoutPlan, Reduction, Targets,
};

/// One thread's streams, and the memory of their passes.
pub struct Shard {
    starts: Vec<usize>,
    plan: Plan<Lstm>,
    arena: Arena<Lstm>,
    readout_plan: ReadoutPlan,
    readout_arena: ReadoutArena,
    /// The state after the last chunk.
    h: Vec<f32>,
    c: Vec<f32>,
    bytes: Vec<u8>,
    classes: Vec<u32>,
    x: Vec<f32>,
    dx: Vec<f32>,
    dh: Vec<f32>,
    /// Of the last chunk.
    pub gradients: Parameters,
}

impl Shard {
    /// Streams that start at these positions of the text, with zero states.
    pub fn new(model: &Model, steps: usize, starts: Vec<usize>) -> Result<Self, Error> {
        let (i, h, batch) = (model.embedding_size(), model.hidden_size(), starts.len());
        let rows = steps * batch;
        let plan = model.lstm.plan(steps, batch, model.isa)?;
        let readout_plan = model.readout.plan(rows, model.isa)?;
        Ok(Self {
            starts,
            arena: plan.allocate()?,
            plan,
            readout_arena: readout_plan.allocate()?,
            readout_plan,
            h: vec![0.0; batch * h],
            c: vec![0.0; batch * h],
            bytes: vec![0; rows],
            classes: vec![0; rows],
            x: vec![0.0; rows * i],
            dx: vec![0.0; rows * i],
            dh: vec![0.0; rows * h],
            gradients: Parameters {
                embedding: vec![0.0; BYTES * i],
                lstm: model.lstm.parameters()?,
                readout: model.readout.parameters()?,
            },
        })
    }

    /// Passes over the next chunk; leaves the gradients, summed over all bytes, and
    /// gives the sum of the losses.
    pub fn run(&mut self, model: &Model, text: &[u8], position: usize) -> Result<f64, Error> {
        let batch = self.starts.len();
        for step in 0..self.plan.steps() {
            for (stream, start) in self.starts.iter().enumerate() {
                let at = (start + position + step) % text.len();
                self.bytes[step * batch + stream] = text[at];
                self.classes[step * batch + stream] = u32::from(text[(at + 1) % text.len()]);
            }
        }
        model.embed(self.bytes.iter().copied(), &mut self.x);
        let state = LstmState { h: &self.h[..], c: &self.c[..] };
        self.plan.forward(&model.lstm_weights, &self.x, Some(state), &mut self.arena)?;
        let last = self.arena.last()?;
        self.h.copy_from_slice(last.h);
        self.c.copy_from_slice(last.c);

        let hidden = self.arena.hidden()?;
        let targets = Targets { classes: &self.classes, mask: None, reduction: Reduction::Sum };
        let weights = &model.readout_weights;
        let loss = self.readout_plan.loss(weights, hidden, targets, &mut self.readout_arena)?;
        let gradients = ReadoutGradients {
            parameters: &mut self.gradients.readout,
            accumulate: Accumulate::No,
            dh: Some(&mut self.dh),
        };
        self.readout_plan.backward(weights, hidden, &mut self.readout_arena, gradients)?;
        let outputs = OutputGradients { dy: Some(&self.dh), ..Default::default() };
        let gradients = Gradients {
            dx: Some(&mut self.dx),
            ..Gradients::of(&mut self.gradients.lstm, Accumulate::No)
        };
        self.plan.backward(&model.lstm_weights, &self.x, outputs, &mut self.arena, gradients)?;

        let size = model.embedding_size();
        self.gradients.embedding.fill(0.0);
        for (&byte, dx) in self.bytes.iter().zip(self.dx.chunks_exact(size)) {
            let row = &mut self.gradients.embedding[usize::from(byte) * size..][..size];
            row.iter_mut().zip(dx).for_each(|(g, dx)| *g += dx);
        }
        Ok(loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    const TEXT: &[u8] = b"It is a truth universally acknowledged, that a single man.";

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let mut model = Model::new(5, 7, &mut StdRng::seed_from_u64(5)).unwrap();
        let run = |model: &mut Model, part: usize, at: usize, by: f32| {
            model.parameters.parts_mut()[part][at] += by;
            model.pack().unwrap();
            let mut shard = Shard::new(model, 6, vec![0, 20]).unwrap();
            let loss = shard.run(model, TEXT, 3).unwrap();
            model.parameters.parts_mut()[part][at] -= by;
            (loss, shard.gradients.parts()[part][at])
        };
        // The embedding of "i", which the chunks contain, an entry of U, one of V.
        for (part, at) in [(0, 5 * usize::from(b'i') + 2), (1, 3), (2, 7 * usize::from(b'n'))] {
            let (_, gradient) = run(&mut model, part, at, 0.0);
            let (above, below) =
                (run(&mut model, part, at, 1e-2).0, run(&mut model, part, at, -1e-2).0);
            let slope = (above - below) / 2e-2;
            assert!(slope != 0.0, "{part}");
            assert!((slope - f64::from(gradient)).abs() < 1e-3, "{part}: {slope} {gradient}");
        }
    }
}
