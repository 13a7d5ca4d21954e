//! One training: the network, its initial values, and the updates.

use super::args::Options;
use super::task::{Batch, INPUTS, SYMBOLS, steps};
use bptt::{
    Adam, AdamConfig, Dense, Error, Lstm, LstmGate, Model, Network, Optimizer, Recomputation,
    Runtime, Schedule, Truncated, Workspace,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::f64::consts::PI;
use std::time::Instant;

/// Adam's learning rate at the first update.
const LEARNING_RATE: f64 = 0.02;

/// The learning rate after the last update, as a share of the first.
const LAST_RATE: f64 = 0.05;

/// Adam's β₂. Gradients grow by orders of magnitude once the network begins to see the symbol; Adam
/// divides by their average over some hundred updates, so it follows them within the run.
const BETA2: f32 = 0.99;

/// The norm to which gradients are clipped. Those that matter are small after thousands of steps, and
/// a single large one would undo what they taught.
const CLIP: f32 = 0.1;

/// The longest time over which a unit remembers at first, as a multiple of the lag.
const LONGEST: f32 = 8.0;

/// Batches that are not trained on, for the share of right answers.
const UNSEEN: usize = 16;

/// How gradients go back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through all steps, whose activations are all kept.
    Full,
    /// Through all steps, within `Options::budget` per cent of the memory.
    Budget,
    /// Through the last steps only, as many as `Options::window` says.
    Truncated,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Full, Self::Budget, Self::Truncated];

    /// The name in tables, plots and progress.
    pub fn name(self, options: &Options) -> String {
        match self {
            Self::Full => "in full".into(),
            Self::Budget => format!("in {} % of the memory", options.budget),
            Self::Truncated => format!("truncated to {} steps", options.window()),
        }
    }
}

/// The result of a training.
#[derive(Debug)]
pub struct Outcome {
    pub way: Way,
    /// The bytes of the workspace, and what each of its passes computes again.
    pub again: Recomputation,
    /// The seconds of an update, drawing the sequences included.
    pub seconds: f64,
    /// The loss of each update.
    pub losses: Vec<f64>,
    /// The share of right answers on sequences that were not trained on.
    pub right: f64,
    /// The parameters after the last update.
    pub parameters: Vec<f32>,
}

/// The memory of a training.
enum Memory {
    Whole(Workspace),
    /// With k₁ = k₂, and the step at which the last k₂ steps begin.
    Truncated(Truncated, usize),
}

/// The network: an LSTM and a dense layer. Its gates begin with biases that suit the lag (chrono
/// initialisation, Tallec and Ollivier 2018). A unit whose forget gate is σ(log(T)) forgets over T + 1
/// steps. T is drawn uniformly from the lag to 8 times the lag: of the symbol e⁻¹ or more is left at the
/// last step, and the same holds for the gradient at the first. With T up to the lag only, most units
/// lose the symbol, and training stalls. The input gate begins with the opposite bias, so that what
/// comes in at each step is as little as what is forgotten.
pub fn model(options: &Options, rng: &mut StdRng) -> Result<Model, Error> {
    let Options { lag, hidden, threads, .. } = *options;
    let lstm = Lstm::new(INPUTS, hidden)?;
    let [input, forget] = [lstm.rows(LstmGate::Input)?, lstm.rows(LstmGate::Forget)?];
    let network = Network::new(lstm).then(Dense::new(hidden, SYMBOLS)?);
    let mut model = network.init(rng, Runtime::best()?.threads(threads))?;
    model.change(|parameters| {
        let bias = parameters.tensor_mut("0.bias")?;
        for (i, f) in input.zip(forget) {
            bias[f] = rng.random_range(lag as f32..LONGEST * lag as f32).ln();
            bias[i] = -bias[f];
        }
        Ok::<(), Error>(())
    })?;
    Ok(model)
}

impl Memory {
    fn of(way: Way, model: &mut Model, options: &Options) -> Result<Self, Error> {
        let Options { lag, batch, budget, .. } = *options;
        let (steps, window) = (steps(lag), options.window());
        let training = model.training(Schedule::dense(steps, batch));
        Ok(match way {
            Way::Full => Self::Whole(training.workspace()?),
            Way::Budget => {
                let bytes = training.bytes()? / 100 * budget;
                Self::Whole(training.with_budget(bytes).workspace()?)
            }
            Way::Truncated => {
                Self::Truncated(Truncated::new(model, window, window, batch)?, steps - window)
            }
        })
    }

    fn recomputation(&self) -> Recomputation {
        match self {
            Self::Whole(workspace) => workspace.recomputation(),
            Self::Truncated(truncated, _) => truncated.workspace().recomputation(),
        }
    }

    /// Trains by one update, and returns the loss before it.
    fn update(
        &mut self,
        model: &mut Model,
        batch: &Batch,
        optimizer: &mut dyn Optimizer,
    ) -> Result<f64, Error> {
        match self {
            Self::Whole(workspace) => {
                model.train(workspace, &batch.x, &batch.loss_from(0), optimizer)
            }
            Self::Truncated(truncated, first) => {
                // The steps before the last k₁ have no loss, and so no gradient of their own: they
                // only bring the state to where the last ones begin.
                let (before, x) = batch.split(*first);
                truncated.begin(&model.state(batch.batch)?)?;
                truncated.warm_up(model, before)?;
                truncated.train(model, x, &batch.loss_from(*first), optimizer)
            }
        }
    }
}

/// The learning rate after this fraction of the updates. It falls like half a period of the cosine:
/// late updates are small, so that the last losses are not those of a lucky update.
fn learning_rate(fraction: f64) -> f32 {
    let fall = (1.0 + (PI * fraction).cos()) / 2.0;
    (LEARNING_RATE * (LAST_RATE + (1.0 - LAST_RATE) * fall)) as f32
}

/// Trains, and calls `progress` with the number of updates so far and the last loss. The seed alone
/// decides on the initial values and the sequences, so they are the same for all ways.
pub fn train(
    way: Way,
    options: &Options,
    mut progress: impl FnMut(usize, f64),
) -> Result<Outcome, Error> {
    let Options { lag, batch, updates, seed, .. } = *options;
    let rng = &mut StdRng::seed_from_u64(seed);
    let mut model = model(options, rng)?;
    let mut memory = Memory::of(way, &mut model, options)?;
    let mut adam = Adam::with_config(AdamConfig { beta2: BETA2, ..AdamConfig::default() })?;
    let (begin, mut losses) = (Instant::now(), Vec::with_capacity(updates));
    for update in 1..=updates {
        let drawn = Batch::draw(lag, batch, rng);
        adam.set_learning_rate(learning_rate((update - 1) as f64 / updates as f64))?;
        let loss = memory.update(&mut model, &drawn, &mut adam.clip_norm(CLIP))?;
        losses.push(loss);
        progress(update, loss);
    }
    let seconds = begin.elapsed().as_secs_f64() / updates as f64;
    let (mut stream, mut right) = (model.stream(batch)?, 0);
    let mut y = vec![0.0; steps(lag) * batch * SYMBOLS];
    for _ in 0..UNSEEN {
        let drawn = Batch::draw(lag, batch, rng);
        stream.reset();
        stream.forward(&drawn.x, &mut y)?;
        right += drawn.right(&y);
    }
    Ok(Outcome {
        way,
        again: memory.recomputation(),
        seconds,
        losses,
        right: right as f64 / (UNSEEN * batch) as f64,
        parameters: model.parameters().as_slice().to_vec(),
    })
}
