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
use super::model::{Model, Parameters};
use super::shard::Shard;
use bptt::{Adam, AdamConfig, Error, clip_global_norm};
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
    fn the_rate_rises_and_falls() {
        assert!(rate(0.0) > 0.0 && rate(0.0) < 0.02);
        assert!(rate(WARM_UP) > 0.99);
        assert!((rate(1.0) - LAST_RATE).abs() < 1e-12);
        assert!((rate(7.0) - LAST_RATE).abs() < 1e-12);
    }
}
