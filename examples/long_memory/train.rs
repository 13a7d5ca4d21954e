//! One entry of the table: a cell that is trained on a task at a lag until it has learned the task
//! or its updates are used up.

use super::args::Options;
use super::cells::{Kind, model};
use super::norms::{Norms, norms};
use super::tasks::{Batch, Task};
use bptt::{Adam, Error, Init, Model, Schedule};
use rand::{SeedableRng, rngs::StdRng};

/// The error below which a task counts as learned. Guessing the mean of the sums gives 1/6,
/// guessing symbols 3/4.
pub const LEARNED_BELOW: f64 = 0.01;

/// One cell to train on one task at one lag.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub kind: Kind,
    pub task: Task,
    pub lag: usize,
    /// Whether the norms of the gradients are wanted; they are computed on the adding task.
    pub with_norms: bool,
    pub options: &'a Options,
}

/// The result of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub kind: &'static str,
    pub task: Task,
    pub lag: usize,
    /// The updates it took, if the task was learned.
    pub learned: Option<usize>,
    /// The error at the last evaluation; NaN if gradients became NaN.
    pub error: f64,
    /// The norms of gradients before and after training.
    pub norms: Option<[Norms; 2]>,
}

impl Job<'_> {
    /// Trains, and calls `progress` with the number of updates since the last call.
    pub fn run(self, progress: impl Fn(usize)) -> Result<Outcome, Error> {
        let Self { kind, task, lag, with_norms, options } = self;
        // Cells draw different numbers of weights. A separate generator for the data makes these
        // the same for all cells.
        let [mut weights, mut data] =
            [options.seed, options.seed.wrapping_add(1)].map(StdRng::seed_from_u64);
        let (inputs, outputs) = task.sizes();
        let mut model = model(kind, [inputs, options.hidden, outputs], &mut weights)?;
        model.change(|parameters| {
            let weight = parameters.tensor_mut("1.weight")?;
            Init::Glorot.fill(weight, outputs, options.hidden, &mut data)
        })?;
        let mut draw = || task.draw(lag, options.batch, &mut data);
        // The data of an evaluation.
        let unseen: Vec<Batch> = (0..16).map(|_| draw()).collect();
        let norms = |model: &mut Model| norms(model, &unseen[0].x, options.batch);
        let before = with_norms.then(|| norms(&mut model)).transpose()?;
        let (learned, error) = self.train(&mut model, &unseen, draw, progress)?;
        let norms =
            before.map(|before| Ok::<_, Error>([before, norms(&mut model)?])).transpose()?;
        Ok(Outcome { kind: kind.0, task, lag, learned, error, norms })
    }

    /// Returns the updates it took, if it learned the task, and the last error.
    fn train(
        self,
        model: &mut Model,
        unseen: &[Batch],
        mut draw: impl FnMut() -> Batch,
        progress: impl Fn(usize),
    ) -> Result<(Option<usize>, f64), Error> {
        let Options { batch, updates, look, learning_rate, clip, .. } = *self.options;
        let schedule = Schedule::dense(self.task.steps(self.lag), batch);
        let mut workspace = model.training_workspace(&schedule)?;
        let mut adam = Adam::new(learning_rate);
        let (mut done, mut error) = (0, f64::NAN);
        while done < updates {
            let now = look.min(updates - done);
            for _ in 0..now {
                let batch = draw();
                let adam = &mut adam.clip_norm(clip);
                match model.train(&mut workspace, &batch.x, &batch, adam) {
                    // The gradients grew beyond all bounds, so training ends here.
                    Err(Error::Value { .. }) => return Ok((None, f64::NAN)),
                    result => result?,
                };
            }
            done += now;
            progress(now);
            error = 0.0;
            for batch in unseen {
                let y = model.forward(&mut workspace, &batch.x)?;
                error += batch.error(y, model.output_size()) / unseen.len() as f64;
            }
            if error < LEARNED_BELOW {
                return Ok((Some(done), error));
            }
        }
        Ok((None, error))
    }
}
