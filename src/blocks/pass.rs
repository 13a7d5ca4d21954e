//! The [`Pass`] trait, a planned pass of a block over a schedule, and the arguments of its forward
//! and backward runs.

use super::packed::Packed;
use super::source::{Source, SourceGradients};
use crate::Error;
use crate::memory::Region;
use crate::regularisation::{Mode, Noise};
use crate::sequence::Input;
use bptt_kernels::team::Pass as Threads;
use std::fmt::Debug;

/// The arguments of a forward pass. The caller has checked the lengths of all slices.
#[derive(Debug)]
pub struct Forward<'a, 't> {
    /// The block's parameters, packed.
    pub packed: &'a dyn Packed,
    /// The input, with one row for each row of the schedule.
    pub x: Input<'a>,
    /// What the encoder has made, if there is one.
    pub source: Source<'a>,
    /// Where the output goes, `[rows, y_stride]`. The pass writes the first `output_size` floats of
    /// each row.
    pub y: &'a mut [f32],
    /// Floats from one row of `y` to the next.
    pub y_stride: usize,
    /// The memory that the pass booked.
    pub memory: &'a mut [f32],
    /// The state before the first step, in the order in which the block declared it.
    pub state: &'a [f32],
    /// Where the state after the last step goes.
    pub last: &'a mut [f32],
    /// The number of steps that the sequences took before this pass.
    pub step: u64,
    /// The seed and the position from which the pass draws random numbers.
    pub noise: Noise,
    /// What the pass is for.
    pub mode: Mode,
    /// The threads.
    pub threads: &'a mut Threads<'t>,
}

/// The arguments of a backward pass. The caller has checked the lengths of all slices. `memory`
/// holds a forward pass with the same parameters.
#[derive(Debug)]
pub struct Backward<'a, 't> {
    /// As in the forward pass.
    pub packed: &'a dyn Packed,
    /// As in the forward pass.
    pub x: Input<'a>,
    /// As in the forward pass.
    pub source: Source<'a>,
    /// The output of the forward pass, or an empty slice if the pass does not [read
    /// it](Pass::reads_output).
    pub y: &'a [f32],
    /// Floats from one row of `y` to the next.
    pub y_stride: usize,
    /// ∂L/∂y, `[rows, dy_stride]`.
    pub dy: &'a [f32],
    /// Floats from one row of `dy` to the next.
    pub dy_stride: usize,
    /// The memory that the forward pass filled.
    pub memory: &'a mut [f32],
    /// As in the forward pass.
    pub state: &'a [f32],
    /// The number of steps that the sequences took before the forward pass.
    pub step: u64,
    /// The gradient of the state after the last step, without the part that comes through `dy`.
    /// `None` means zero.
    pub dlast: Option<&'a [f32]>,
    /// Where the gradient of the state before the first step goes.
    pub dstate: &'a mut [f32],
    /// Where ∂L/∂x goes, `[rows, features]`, if it is wanted.
    pub dx: Option<&'a mut [f32]>,
    /// Where the gradients of the source are added, if there is one.
    pub dsource: SourceGradients<'a>,
    /// Where the gradients of the parameters go, in the order in which the block declared the
    /// parameters.
    pub gradients: &'a mut [f32],
    /// Whether the parameter gradients are added to `gradients` or replace its contents.
    pub accumulate: bool,
    /// The threads.
    pub threads: &'a mut Threads<'t>,
}

/// A planned pass of a block. It owns no buffers: it runs in memory that the caller lends it.
///
/// # A block of your own
///
/// ```
/// use bptt::blocks::{Backward, Block, Config, Forward, Pass, Plain, Plan};
/// use bptt::{Error, Init, InputSize, Manifest};
/// use rand_core::Rng;
///
/// /// y = g ⊙ x, with a gain g for each feature.
/// #[derive(Debug)]
/// struct Gain {
///     size: usize,
/// }
///
/// impl Block for Gain {
///     fn config(&self) -> Config {
///         Config::new("Gain").with("size", self.size)
///     }
///     fn input(&self) -> InputSize {
///         InputSize::Features(self.size)
///     }
///     fn output_size(&self) -> usize {
///         self.size
///     }
///     fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
///         manifest.declare("gain", &[self.size])
///     }
///     fn initialise(&self, gain: &mut [f32], _: Init, _: &mut dyn Rng) -> Result<(), Error> {
///         gain.fill(1.0);
///         Ok(())
///     }
///     fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
///         let rows = plan.schedule.start(plan.schedule.steps());
///         Ok(Box::new(GainPass { rows, size: self.size }))
///     }
/// }
///
/// #[derive(Debug)]
/// struct GainPass {
///     rows: usize,
///     size: usize,
/// }
///
/// impl Pass for GainPass {
///     fn forward(&self, f: Forward<'_, '_>) -> Result<(), Error> {
///         let gain = f.packed.as_form::<Plain>()?.parameters();
///         let x = f.x.features(self.rows, self.size)?.chunks(self.size);
///         for (y, x) in f.y.chunks_mut(f.y_stride).zip(x) {
///             y.iter_mut().zip(x).zip(gain).for_each(|((y, x), g)| *y = g * x);
///         }
///         Ok(())
///     }
///     fn backward(&self, b: Backward<'_, '_>) -> Result<(), Error> {
///         let gain = b.packed.as_form::<Plain>()?.parameters();
///         let x = b.x.features(self.rows, self.size)?.chunks(self.size);
///         if !b.accumulate {
///             b.gradients.fill(0.0);
///         }
///         for (dy, x) in b.dy.chunks(b.dy_stride).zip(x) {
///             b.gradients.iter_mut().zip(dy).zip(x).for_each(|((dg, dy), x)| *dg += dy * x);
///         }
///         if let Some(dx) = b.dx {
///             for (dx, dy) in dx.chunks_mut(self.size).zip(b.dy.chunks(b.dy_stride)) {
///                 dx.iter_mut().zip(dy).zip(gain).for_each(|((dx, dy), g)| *dx = g * dy);
///             }
///         }
///         Ok(())
///     }
///     fn reads_output(&self) -> bool {
///         false
///     }
/// }
///
/// use bptt::{Accumulate, Dense, Network, Runtime, Schedule, SquaredError};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Dense::new(2, 3)?).then(Gain { size: 3 });
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut workspace = model.training_workspace(Schedule::dense(4, 1))?;
/// let (x, targets) = ([0.5; 4 * 2], [1.0; 4 * 3]);
/// let loss = SquaredError::mean(&targets);
/// model.gradients(&mut workspace, &x, &loss, Accumulate::No)?;
/// assert!(workspace.gradients().tensor("1.gain")?.iter().any(|&dg| dg != 0.0));
/// let mut y = [0.0; 3];
/// model.stream(1)?.step(&[0.5, 0.5], &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Pass: Debug + Send + Sync {
    /// Computes the outputs, and the state after the last step.
    ///
    /// # Errors
    /// [`Error`] if an argument does not fit the pass; nothing is written then.
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error>;

    /// Computes the state after the last step. It may leave outputs that this state does not need
    /// unwritten. By default it runs a forward pass.
    ///
    /// # Errors
    /// [`Error`] if an argument does not fit the pass; nothing is written then.
    fn advance(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.forward(forward)
    }

    /// Returns what of a forward pass has to be kept so that [`recompute`](Self::recompute) can
    /// compute the rest of the memory without any step waiting for another one. `None`, the default,
    /// means that only a forward pass can. It is not asked of a block without a state.
    fn keeps(&self) -> Option<Keeps> {
        None
    }

    /// Computes again what a forward pass left in the memory and in the outputs. What the pass
    /// [`keeps`](Self::keeps) holds what the forward pass left there. By default it runs a forward
    /// pass.
    ///
    /// # Errors
    /// [`Error`] if an argument does not fit the pass; nothing is written then.
    fn recompute(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.forward(forward)
    }

    /// Computes the gradients. It may overwrite the values that the forward pass left in the
    /// memory, so each forward pass serves for one backward pass.
    ///
    /// # Errors
    /// [`Error`] if an argument does not fit the pass; nothing is written then.
    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error>;

    /// Returns whether the backward pass reads the outputs. If it does not, the caller may use the
    /// same memory for the outputs and then for their gradients.
    fn reads_output(&self) -> bool {
        true
    }

    /// Returns the multiply-adds of the forward pass and of the backward pass. With less than some
    /// 10⁶, a pass ends before other threads could help, and they are not called.
    fn work(&self) -> [usize; 2] {
        [0; 2]
    }

    /// Returns where the values called `name` are after the pass `left_by`, if the pass keeps such
    /// values. `step` is the number of steps that the sequences took before the pass.
    fn find(&self, _name: &str, _left_by: LeftBy, _step: u64) -> Option<Found> {
        None
    }
}

/// What of a forward pass has to be kept so that the rest can be computed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeps {
    /// Regions of the pass's memory.
    pub regions: Vec<Region>,
    /// Whether the outputs have to be kept, too.
    pub output: bool,
}

/// Where a pass has left certain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In this region of its memory.
    Memory(Region),
    /// In its outputs.
    Output,
}

/// The pass that filled the memory last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftBy {
    /// A forward pass.
    Forward,
    /// A backward pass, which came after a forward pass.
    Backward,
}
