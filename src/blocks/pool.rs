//! The mean or the maximum over time. Knows steps and sequences; must not know what made the rows.

use super::{Backward, Block, Config, Forward, Next, Pass, Plan, Steps, StreamPlan};
use crate::Error;
use crate::error::check_size;
use crate::params::Manifest;
use crate::sequence::{InputSize, Schedule};

/// The mean or the maximum over time, of each feature: row t of the output is that of the rows 1 to t
/// of its sequence, so the last row is that of the whole sequence. A block after it that sees the whole
/// sequence reads that row (figure 10.5 of *Deep Learning* with the mean or the maximum in place of the
/// last state), and so does a loss [of the last steps](crate::LastStep) alone.
///
/// As each row needs only the rows before it, a pass may be divided, and a stream has the mean of all
/// that it has seen. The state is the output of the last step, `mean` or `max` `[B, size]`, and the
/// number of steps, `count` `[B, 1]`. The mean is computed as `m + (x − m) / n`, which stays exact for
/// long sequences of similar rows. If a value comes several times, the gradient of a maximum goes to the
/// first of them. A pass keeps nothing but its outputs, which the backward pass of a maximum reads.
///
/// ```
/// use bptt::{Accumulate, Dense, LastStep, Lstm, Network, Pool, Runtime, Schedule, SoftmaxCrossEntropy};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // One of 5 classes for each sequence.
/// let network = Network::new(Lstm::new(2, 16)?).then(Pool::mean(16)?).then(Dense::new(16, 5)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::packed(&[4, 2, 3])?)?;
/// let loss = LastStep::new(SoftmaxCrossEntropy::mean(&[0, 4, 1]));
/// model.gradients(&mut workspace, &[0.5; 9 * 2], &loss, Accumulate::No)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    size: usize,
    over: Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Mean,
    Max,
}

impl Over {
    /// Returns the name of the state, and in files.
    fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Max => "max",
        }
    }
}

impl Pool {
    /// The mean over time of `size` features.
    ///
    /// # Errors
    /// [`Error::Value`] if `size` is 0.
    pub fn mean(size: usize) -> Result<Self, Error> {
        Ok(Self { size: check_size("size", size)?, over: Over::Mean })
    }

    /// The maximum over time of `size` features.
    ///
    /// # Errors
    /// [`Error::Value`] if `size` is 0.
    pub fn max(size: usize) -> Result<Self, Error> {
        Ok(Self { size: check_size("size", size)?, over: Over::Max })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["size", "over"])?;
        let size = config.size("size")?;
        match config.word("over")? {
            "mean" => Self::mean(size),
            "max" => Self::max(size),
            given => Err(Error::Value {
                what: "option",
                given: format!("over {given}"),
                expected: "mean or max".into(),
            }),
        }
    }

    /// Computes a row from its input and the row before, if it is not the first; `count` is its number,
    /// from 1.
    fn row(&self, x: &[f32], before: &[f32], count: f32, y: &mut [f32]) {
        let rows = y.iter_mut().zip(x).zip(before);
        match self.over {
            _ if count == 1.0 => y.copy_from_slice(x),
            Over::Mean => rows.for_each(|((y, x), m)| *y = m + (x - m) / count),
            Over::Max => rows.for_each(|((y, x), m)| *y = if x > m { *x } else { *m }),
        }
    }
}

impl Block for Pool {
    fn config(&self) -> Config {
        Config::new("Pool").with("size", self.size).with("over", self.over.name())
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.size)
    }

    fn output_size(&self) -> usize {
        self.size
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare_zero(self.over.name(), &[batch, self.size])?;
        manifest.declare_zero("count", &[batch, 1])
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        plan.schedule.checked_rows()?;
        Ok(Box::new(PoolPass { pool: *self, schedule: plan.schedule.clone() }))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        Ok(Box::new(PoolSteps { pool: *self, batch: plan.batch }))
    }
}

/// A planned pass. It books no memory.
#[derive(Debug)]
struct PoolPass {
    pool: Pool,
    schedule: Schedule,
}

impl PoolPass {
    /// Returns the last row of the sequence in row `n` of each step, if it has a step.
    fn last_row(&self, n: usize) -> Option<usize> {
        let last = self.schedule.len_of(n).checked_sub(1)?;
        Some(self.schedule.start(last) + n)
    }
}

impl Pass for PoolPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { x, y, y_stride, state, last, .. } = forward;
        let (size, schedule, batch) = (self.pool.size, &self.schedule, self.schedule.batch());
        let x = x.features(schedule.rows(), size)?;
        let (state, counts) = state.split_at(batch * size);
        for t in 0..schedule.steps() {
            let (first, end) = (schedule.start(t), schedule.start(t + 1));
            let (done, rest) = y.split_at_mut(first * y_stride);
            for n in 0..end - first {
                let before = match t.checked_sub(1) {
                    None => &state[n * size..][..size],
                    Some(t) => &done[(schedule.start(t) + n) * y_stride..][..size],
                };
                let x = &x[(first + n) * size..][..size];
                let count = counts[n] + (t + 1) as f32;
                self.pool.row(x, before, count, &mut rest[n * y_stride..][..size]);
            }
        }
        let (last, last_counts) = last.split_at_mut(batch * size);
        for n in 0..batch {
            let from = match self.last_row(n) {
                Some(row) => &y[row * y_stride..],
                None => &state[n * size..],
            };
            last[n * size..][..size].copy_from_slice(&from[..size]);
            last_counts[n] = counts[n] + schedule.len_of(n) as f32;
        }
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { x, y, y_stride, dy, dy_stride, state, dlast, dstate, mut dx, .. } = backward;
        let (Pool { size, over }, schedule) = (self.pool, &self.schedule);
        let batch = schedule.batch();
        let x = x.features(schedule.rows(), size)?;
        let (state, counts) = state.split_at(batch * size);
        // The gradient with respect to the outputs of the current step, from all later steps.
        let (d, d_counts) = dstate.split_at_mut(batch * size);
        d_counts.fill(0.0);
        match dlast {
            Some(dlast) => d.copy_from_slice(&dlast[..batch * size]),
            None => d.fill(0.0),
        }
        for t in (0..schedule.steps()).rev() {
            let (first, end) = (schedule.start(t), schedule.start(t + 1));
            for n in 0..end - first {
                let (row, count) = (first + n, counts[n] + (t + 1) as f32);
                let d = &mut d[n * size..][..size];
                d.iter_mut().zip(&dy[row * dy_stride..]).for_each(|(d, dy)| *d += dy);
                let mut none = [];
                let dx = match &mut dx {
                    Some(dx) => &mut dx[row * size..][..size],
                    None => &mut none[..],
                };
                let before = match t.checked_sub(1) {
                    None => &state[n * size..][..size],
                    Some(t) if over == Over::Max => {
                        &y[(schedule.start(t) + n) * y_stride..][..size]
                    }
                    Some(_) => &[],
                };
                let x = &x[row * size..][..size];
                // A maximum is a new one where the input is above the one before.
                for (k, d) in d.iter_mut().enumerate() {
                    let is_first = count == 1.0;
                    let of_x = match over {
                        Over::Mean if is_first => *d,
                        Over::Mean => *d / count,
                        Over::Max if is_first || x[k] > before[k] => *d,
                        Over::Max => 0.0,
                    };
                    *d = if is_first { 0.0 } else { *d - of_x };
                    if let Some(dx) = dx.get_mut(k) {
                        *dx = of_x;
                    }
                }
            }
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        self.pool.over == Over::Max
    }
}

/// The planned steps of a stream.
#[derive(Debug)]
struct PoolSteps {
    pool: Pool,
    batch: usize,
}

impl Steps for PoolSteps {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { x, y, steps, state, .. } = next;
        let (size, batch) = (self.pool.size, self.batch);
        let x = x.features(steps * batch, size)?;
        let (state, counts) = state.split_at_mut(batch * size);
        for (x, y) in x.chunks(batch * size).zip(y.chunks_mut(batch * size)) {
            for (n, (x, y)) in x.chunks(size).zip(y.chunks_mut(size)).enumerate() {
                counts[n] += 1.0;
                self.pool.row(x, &state[n * size..][..size], counts[n], y);
            }
            state.copy_from_slice(y);
        }
        Ok(())
    }
}
