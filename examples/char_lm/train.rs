//! Training: truncated back-propagation through time, Adam, a learning rate that
//! rises and falls with the run.
//!
//! The training text is a ring. B streams start at equal distances and read on from
//! chunk to chunk, τ bytes each, their states handed on, so that the model learns
//! from more context than its gradients reach back through. Each thread takes some
//! of the streams, with an arena and gradients of its own; the gradients are added
//! in the order of the threads, so a result depends on their number but not on
//! their timing.

use super::Failure;
use super::model::{BYTES, Model, Parameters};
use bptt::{
    Adam, AdamConfig, Error, LstmArena, LstmGradients, LstmPlan, LstmState, OutputGradients,
    ReadoutArena, ReadoutGradients, ReadoutPlan, Reduction, Targets, Write, clip_global_norm,
};
use std::ops::Range;

/// The part of a run over which the learning rate rises; it falls over the rest.
const WARM_UP: f64 = 0.03;

/// What the learning rate ends at, as a part of its highest.
const LAST_RATE: f64 = 0.02;

/// How fast [`Trainer::recent_bits`] forgets.
const SMOOTHING: f64 = 0.98;

/// What training depends on, beside model and text.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Streams side by side, B.
    pub batch: usize,
    /// Steps of a chunk, τ.
    pub steps: usize,
    /// Threads.
    pub threads: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// The norm that gradients are clipped to.
    pub clip: f64,
}

/// A model in training.
pub struct Trainer<'a> {
    model: Model,
    text: &'a [u8],
    settings: Settings,
    shards: Vec<Shard>,
    adam: [Adam; 3],
    /// How far each stream has read.
    position: usize,
    updates: u64,
    /// Exponentially smoothed bits per byte, and the sum of their weights.
    bits: [f64; 2],
}

impl<'a> Trainer<'a> {
    /// Prepares the training of `model` on `text`.
    pub fn new(model: Model, text: &'a [u8], settings: Settings) -> Result<Self, Failure> {
        let Settings { batch, steps, threads, .. } = settings;
        if threads > batch {
            return Err(format!("--threads {threads}: more than --batch {batch}").into());
        }
        let starts = |streams: Range<usize>| streams.map(|b| b * text.len() / batch).collect();
        let shards = (0..threads)
            .map(|t| starts(t * batch / threads..(t + 1) * batch / threads))
            .map(|starts| Shard::new(&model, steps, starts))
            .collect::<Result<_, _>>()?;
        let config = AdamConfig { beta2: 0.99, ..AdamConfig::default() };
        let [a, b, c] = model.parameters.parts().map(|p| Adam::new(p.len(), config, model.isa));
        let adam = [a?, b?, c?];
        Ok(Self { model, text, settings, shards, adam, position: 0, updates: 0, bits: [0.0; 2] })
    }

    /// The model as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model at the end.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The updates made.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Bits per byte of the training text, over the last some fifty updates.
    pub fn recent_bits(&self) -> f64 {
        self.bits[0] / self.bits[1]
    }

    /// One chunk of every stream and one step of Adam, at this fraction of the run.
    pub fn update(&mut self, fraction: f64) -> Result<(), Failure> {
        let (model, text, position) = (&self.model, self.text, self.position);
        let (first, others) = self.shards.split_first_mut().expect("a thread or more");
        let nats = std::thread::scope(|scope| {
            let run = |shard: &'_ mut Shard| shard.run(model, text, position);
            let others: Vec<_> =
                others.iter_mut().map(|shard| scope.spawn(move || run(shard))).collect();
            let mut nats = run(first)?;
            for other in others {
                nats += other.join().expect("passes do not panic")?;
            }
            Ok::<_, Error>(nats)
        })?;
        let rows = self.settings.batch * self.settings.steps;
        self.position = (position + self.settings.steps) % text.len();
        let bits = nats / std::f64::consts::LN_2 / rows as f64;
        let [sum, weight] = self.bits;
        self.bits = [sum * SMOOTHING + bits, weight * SMOOTHING + 1.0];
        for shard in others.iter() {
            add(&mut first.gradients, &shard.gradients);
        }

        let mut gradients = first.gradients.parts_mut();
        let scale = 1.0 / rows as f32;
        gradients.iter_mut().flat_map(|part| part.iter_mut()).for_each(|g| *g *= scale);
        clip_global_norm(&mut gradients, self.settings.clip as f32)
            .map_err(|error| format!("training diverged: {error}; try a lower --learning-rate"))?;
        let rate = self.settings.learning_rate * rate(fraction);
        let parameters = self.model.parameters.parts_mut();
        for ((adam, parameters), gradients) in self.adam.iter_mut().zip(parameters).zip(gradients) {
            adam.set_learning_rate(rate as f32)?;
            adam.step(parameters, gradients)?;
        }
        self.model.pack()?;
        self.updates += 1;
        Ok(())
    }
}

/// The learning rate at a fraction of the run, as a part of its highest: a short
/// rise and half a period of the cosine.
fn rate(fraction: f64) -> f64 {
    let fall = (1.0 + (std::f64::consts::PI * fraction.min(1.0)).cos()) / 2.0;
    let rise = (fraction / WARM_UP + 0.01).min(1.0);
    rise * (LAST_RATE + (1.0 - LAST_RATE) * fall)
}

fn add(to: &mut Parameters, from: &Parameters) {
    for (to, from) in to.parts_mut().into_iter().zip(from.parts()) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    }
}

/// One thread's streams, and the memory of their passes.
struct Shard {
    starts: Vec<usize>,
    plan: LstmPlan,
    arena: LstmArena,
    readout_plan: ReadoutPlan,
    readout_arena: ReadoutArena,
    /// The state after the last chunk.
    h: Vec<f32>,
    s: Vec<f32>,
    bytes: Vec<u8>,
    classes: Vec<u32>,
    x: Vec<f32>,
    dx: Vec<f32>,
    dh: Vec<f32>,
    gradients: Parameters,
}

impl Shard {
    fn new(model: &Model, steps: usize, starts: Vec<usize>) -> Result<Self, Error> {
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
            s: vec![0.0; batch * h],
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
    fn run(&mut self, model: &Model, text: &[u8], position: usize) -> Result<f64, Error> {
        let batch = self.starts.len();
        for step in 0..self.plan.steps() {
            for (stream, start) in self.starts.iter().enumerate() {
                let at = (start + position + step) % text.len();
                self.bytes[step * batch + stream] = text[at];
                self.classes[step * batch + stream] = u32::from(text[(at + 1) % text.len()]);
            }
        }
        model.embed(self.bytes.iter().copied(), &mut self.x);
        let state = LstmState { h: &self.h, s: &self.s };
        self.plan.forward(&model.lstm_weights, &self.x, Some(state), &mut self.arena)?;
        let last = self.arena.last()?;
        self.h.copy_from_slice(last.h);
        self.s.copy_from_slice(last.s);

        let hidden = self.arena.hidden()?;
        let targets = Targets { classes: &self.classes, mask: None, reduction: Reduction::Sum };
        let weights = &model.readout_weights;
        let loss = self.readout_plan.loss(weights, hidden, targets, &mut self.readout_arena)?;
        let gradients = ReadoutGradients {
            parameters: &mut self.gradients.readout,
            write: Write::Overwrite,
            dh: Some(&mut self.dh),
        };
        self.readout_plan.backward(weights, hidden, &mut self.readout_arena, gradients)?;
        let outputs = OutputGradients { dy: Some(&self.dh), ..Default::default() };
        let gradients = LstmGradients {
            dx: Some(&mut self.dx),
            ..LstmGradients::of(&mut self.gradients.lstm, Write::Overwrite)
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

    fn model() -> Model {
        Model::new(5, 7, &mut StdRng::seed_from_u64(5)).unwrap()
    }

    #[test]
    fn threads_share_the_streams_and_add_their_gradients() {
        let trained = |threads| {
            let settings = Settings { batch: 5, steps: 6, threads, learning_rate: 1e-2, clip: 0.1 };
            let mut trainer = Trainer::new(model(), TEXT, settings).unwrap();
            (0..4).for_each(|update| trainer.update(f64::from(update) / 4.0).unwrap());
            (trainer.recent_bits(), trainer.into_model().parameters.parts().concat())
        };
        let (bits, parameters) = trained(1);
        for threads in [2, 3, 5] {
            let (same_bits, same_parameters) = trained(threads);
            assert!((bits - same_bits).abs() < 1e-5);
            for (a, b) in parameters.iter().zip(&same_parameters) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
            assert_eq!(trained(threads).1, same_parameters);
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        let mut model = model();
        let mut run = |model: &mut Model, part: usize, at: usize, by: f32| {
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

    #[test]
    fn the_rate_rises_and_falls() {
        assert!(rate(0.0) > 0.0 && rate(0.0) < 0.02);
        assert!(rate(WARM_UP) > 0.99);
        assert!((rate(1.0) - LAST_RATE).abs() < 1e-12);
        assert!((rate(7.0) - LAST_RATE).abs() < 1e-12);
    }
}
