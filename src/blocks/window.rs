//! The inputs of the last steps side by side. Must not know the blocks around it.

use super::recurrent::last_rows;
use super::{Backward, Block, Config, Forward, Pass, Plan};
use crate::Error;
use crate::error::{check_size, product};
use crate::params::Manifest;
use crate::sequence::{InputSize, Schedule};

/// The inputs of the last k steps side by side, the oldest first: `[x⁽ᵗ⁻ᵏ⁺¹⁾, …, x⁽ᵗ⁾]`. A layer behind it
/// sees them as a causal convolution over time with a kernel of k steps does: a [`Dense`](crate::Dense)
/// layer is that convolution, and a [`Qrnn`](crate::Qrnn) behind a window of 2 is the one of its paper.
///
/// The state is `x` `[k − 1, B, I]`, the inputs before the next step, 0 at first. A pass keeps nothing.
///
/// ```
/// use bptt::{Network, Pooling, Qrnn, Runtime, Window};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Window::new(8, 2)?).then(Qrnn::new(2 * 8, 16, Pooling::ForgetOutput)?);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    size: usize,
    steps: usize,
}

impl Window {
    /// Puts the inputs of `steps` (k) steps, of `size` (I) features each, side by side.
    ///
    /// # Errors
    /// [`Error::Value`] if one of them is 0, [`Error::TooLarge`] if a row does not fit the address space.
    pub fn new(size: usize, steps: usize) -> Result<Self, Error> {
        check_size("size", size)?;
        check_size("steps", steps)?;
        product("a window", &[size, steps])?;
        Ok(Self { size, steps })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["size", "steps"])?;
        Self::new(config.size("size")?, config.size("steps")?)
    }
}

impl Block for Window {
    fn config(&self) -> Config {
        Config::new("Window").with("size", self.size).with("steps", self.steps)
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.size)
    }

    fn output_size(&self) -> usize {
        self.size * self.steps
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        match self.steps {
            1 => Ok(()),
            steps => manifest.declare("x", &[steps - 1, batch, self.size]),
        }
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        plan.schedule.checked_rows()?;
        Ok(Box::new(WindowPass { window: *self, schedule: plan.schedule.clone() }))
    }
}

/// A planned pass. It books no memory.
#[derive(Debug)]
struct WindowPass {
    window: Window,
    schedule: Schedule,
}

impl WindowPass {
    /// Returns the first feature of the input of `ago` steps before in a row of the output.
    fn column(&self, ago: usize) -> usize {
        (self.window.steps - 1 - ago) * self.window.size
    }
}

impl Pass for WindowPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { x, y, y_stride, state, last, .. } = forward;
        let (Window { size, steps }, schedule) = (self.window, &self.schedule);
        let (x, batch) = (x.features(schedule.rows(), size)?, schedule.batch());
        for step in 0..schedule.steps() {
            for (n, row) in (schedule.start(step)..schedule.start(step + 1)).enumerate() {
                for ago in 0..steps {
                    let from = match step.checked_sub(ago) {
                        Some(step) => &x[(schedule.start(step) + n) * size..],
                        None => &state[((steps - 1 + step - ago) * batch + n) * size..],
                    };
                    let to = &mut y[row * y_stride + self.column(ago)..][..size];
                    to.copy_from_slice(&from[..size]);
                }
            }
        }
        last_rows(schedule, state, x, size, size, last);
        Ok(())
    }

    /// The gradient of an input is a sum over the steps whose windows it is in, from the last of them to
    /// its own.
    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { dy, dy_stride, dlast, dstate, mut dx, .. } = backward;
        let (Window { size, steps }, schedule) = (self.window, &self.schedule);
        let batch = schedule.batch();
        let history = steps - 1;
        for n in 0..batch {
            let len = schedule.len_of(n);
            // Inputs are counted from the oldest one in the state.
            for input in 0..history + len {
                let to = match input.checked_sub(history) {
                    None => &mut dstate[(input * batch + n) * size..][..size],
                    Some(step) => match &mut dx {
                        Some(dx) => &mut dx[(schedule.start(step) + n) * size..][..size],
                        None => break,
                    },
                };
                match (dlast, input.checked_sub(len)) {
                    (Some(dlast), Some(nth)) => {
                        to.copy_from_slice(&dlast[(nth * batch + n) * size..][..size]);
                    }
                    _ => to.fill(0.0),
                }
                for ago in (0..steps).rev() {
                    let step = (input + ago).checked_sub(history).filter(|step| *step < len);
                    let Some(step) = step else { continue };
                    let row = schedule.start(step) + n;
                    let from = &dy[row * dy_stride + self.column(ago)..][..size];
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        false
    }
}
