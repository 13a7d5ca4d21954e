//! The context of an encoder as a part of each row. Must not know the encoder.

use super::{Backward, Block, Config, Forward, Pass, Plan, SourceRows, SourceSize};
use crate::Error;
use crate::error::check_size;
use crate::sequence::{InputSize, Schedule};

/// Appends the context C of a sequence to each row: `[xₜ, C]`, so that the layer behind it reads the
/// context as an extra input in each step (figure 10.9 and section 10.4 of *Deep Learning*). The columns
/// of that layer's input weights that meet C are the matrix R of figure 10.9, beside U for x.
///
/// C is what the [`Encoder`](crate::Encoder) of the network has read. A pass keeps nothing.
///
/// ```
/// use bptt::{Context, Dense, Encoder, Gru, Inputs, Network, Reset, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // One vector of 5 features to a sequence, as a picture to its caption.
/// let picture = Encoder::new(Dense::new(5, 8)?);
/// let caption = Network::new(Context::new(2, 8)?)
///     .then(Gru::new(2 + 8, 16, Reset::After)?)
///     .then(Dense::new(16, 3)?);
/// let network = caption.with_encoder(picture)?;
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let (one, steps) = (Schedule::dense(1, 1), Schedule::dense(4, 1));
/// let mut workspace = model.training(steps).with_source(one).workspace()?;
/// let inputs = Inputs::new(&[0.5; 4 * 2]).with_source(&[0.25; 5]);
/// let y = model.forward(&mut workspace, inputs)?;
/// assert_eq!(y.len(), 4 * 3);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    input_size: usize,
    context_size: usize,
}

impl Context {
    /// Appends a context of `context_size` features to rows of `input_size`.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0.
    pub fn new(input_size: usize, context_size: usize) -> Result<Self, Error> {
        check_size("input_size", input_size)?;
        check_size("context_size", context_size)?;
        input_size.checked_add(context_size).ok_or(Error::TooLarge { what: "a row" })?;
        Ok(Self { input_size, context_size })
    }

    /// Builds the block from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "context_size"])?;
        Self::new(config.size("input_size")?, config.size("context_size")?)
    }
}

impl Block for Context {
    fn config(&self) -> Config {
        let config = Config::new("Context").with("input_size", self.input_size);
        config.with("context_size", self.context_size)
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.input_size)
    }

    fn output_size(&self) -> usize {
        self.input_size + self.context_size
    }

    fn check_source(&self, source: Option<SourceSize>) -> Result<(), Error> {
        let given = source.map(|source| source.context);
        if given == Some(self.context_size) {
            return Ok(());
        }
        let given = given.map_or("none".into(), |given| format!("a context of {given} features"));
        let expected = format!("one with a context of {}", self.context_size);
        Err(Error::Mismatch { what: "encoder", given, expected })
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        self.check_source(plan.source.map(|source| source.size))?;
        let reader = plan.source.map_or(0, SourceRows::context_reader);
        Ok(Box::new(ContextPass { context: *self, schedule: plan.schedule.clone(), reader }))
    }
}

/// A planned pass. It books no memory.
#[derive(Debug)]
struct ContextPass {
    context: Context,
    schedule: Schedule,
    /// The part of the gradients of the context that it adds to.
    reader: usize,
}

impl Pass for ContextPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { x, source, y, y_stride, .. } = forward;
        let (Context { input_size, context_size }, rows) =
            (self.context, self.schedule.step_rows());
        let x = x.features(self.schedule.rows(), input_size)?;
        for step in 0..rows.steps() {
            for (n, row) in (rows.start(step)..rows.start(step + 1)).enumerate() {
                let (to, from) = (&mut y[row * y_stride..], &x[row * input_size..][..input_size]);
                to[..input_size].copy_from_slice(from);
                let context = &source.context[n * context_size..][..context_size];
                to[input_size..][..context_size].copy_from_slice(context);
            }
        }
        Ok(())
    }

    /// Adds up the gradient of the context from the last step to the first.
    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { dy, dy_stride, mut dx, dsource, .. } = backward;
        let (Context { input_size, context_size }, rows) =
            (self.context, self.schedule.step_rows());
        let first = self.reader * self.schedule.batch() * context_size;
        for step in (0..rows.steps()).rev() {
            for (n, row) in (rows.start(step)..rows.start(step + 1)).enumerate() {
                let dy = &dy[row * dy_stride..][..input_size + context_size];
                if let Some(dx) = &mut dx {
                    dx[row * input_size..][..input_size].copy_from_slice(&dy[..input_size]);
                }
                let dcontext = &mut dsource.context[first + n * context_size..][..context_size];
                dcontext.iter_mut().zip(&dy[input_size..]).for_each(|(to, from)| *to += from);
            }
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        false
    }
}
