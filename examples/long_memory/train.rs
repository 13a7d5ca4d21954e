//! One entry of the table: a cell, trained on a task at a lag until it has learned it or
//! its updates are used up.

use super::cells::{Kind, Visit};
use super::model::{Model, Settings, readout};
use super::norms::{Norms, norms};
use super::tasks::{Batch, Task};
use bptt::{Error, Init, Layer, Parameters};
use rand::{SeedableRng, rngs::StdRng};

/// The error below which a task counts as learned. Guessing the mean of the sums has 1/6,
/// guessing symbols 3/4.
pub const LEARNED_BELOW: f64 = 0.01;

/// Batches that a look takes.
const LOOK_BATCHES: usize = 16;

/// What is trained.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub kind: Kind,
    pub task: Task,
    pub lag: usize,
    pub settings: Settings,
    /// The most updates.
    pub updates: usize,
    /// Updates between two looks.
    pub look: usize,
    pub seed: u64,
    /// Whether the norms of the gradients are wanted; they are of the adding task.
    pub with_norms: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub kind: Kind,
    pub task: Task,
    pub lag: usize,
    /// The updates it took, where it was learned.
    pub learned: Option<usize>,
    /// The error at the last look; NaN where gradients became so.
    pub error: f64,
    /// The norms of gradients before and after training.
    pub norms: Option<[Norms; 2]>,
}

impl Job {
    /// Trains; calls `progress` with the updates since the last call.
    pub fn run(self, progress: impl Fn(usize)) -> Result<Outcome, Error> {
        // Cells draw different numbers of weights. Data from a generator of their own are the
        // same for all of them.
        let [mut weights, mut data] =
            [self.seed, self.seed.wrapping_add(1)].map(StdRng::seed_from_u64);
        let sizes = (self.task.inputs(), self.settings.hidden);
        self.kind.visit(sizes, &mut weights, Run { job: self, rng: &mut data, progress })
    }
}

struct Run<'a, P> {
    job: Job,
    rng: &'a mut StdRng,
    progress: P,
}

impl<P: Fn(usize)> Visit for Run<'_, P> {
    type Output = Outcome;

    fn visit<C: Layer>(self, _layer: C, parameters: Parameters<C>) -> Result<Outcome, Error> {
        let Job { kind, task, lag, settings, with_norms, .. } = self.job;
        let head = readout(task, settings.hidden)?.init(Init::Glorot, self.rng)?;
        let mut model = Model::new((task, lag), parameters, head, settings)?;
        let unseen: Vec<Batch> =
            (0..LOOK_BATCHES).map(|_| task.draw(lag, settings.batch, self.rng)).collect();
        let norms = |model: &Model<C>| {
            let v = model.readout.weights();
            norms(&model.parameters, &unseen[0].x, settings.batch, v)
        };
        let before = with_norms.then(|| norms(&model)).transpose()?;
        let (learned, error) = self.train(&mut model, &unseen)?;
        let norms = match before {
            Some(before) => Some([before, norms(&model)?]),
            None => None,
        };
        Ok(Outcome { kind, task, lag, learned, error, norms })
    }
}

impl<P: Fn(usize)> Run<'_, P> {
    /// Gives the updates it took, if it did, and the last error.
    fn train<C: Layer>(
        self,
        model: &mut Model<C>,
        unseen: &[Batch],
    ) -> Result<(Option<usize>, f64), Error> {
        let Job { task, lag, settings, updates, look, .. } = self.job;
        let (mut done, mut error) = (0, f64::NAN);
        while done < updates {
            let now = look.min(updates - done);
            for _ in 0..now {
                let batch = task.draw(lag, settings.batch, self.rng);
                match model.update(&batch) {
                    // The gradients grew beyond all bounds, and training ends there.
                    Err(Error::Value { .. }) => return Ok((None, f64::NAN)),
                    result => result?,
                }
            }
            done += now;
            (self.progress)(now);
            error = model.error(unseen)?;
            if error < LEARNED_BELOW {
                return Ok((Some(done), error));
            }
        }
        Ok((None, error))
    }
}
