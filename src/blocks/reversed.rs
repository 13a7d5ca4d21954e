//! A wrapper that runs a block backwards in time. Knows which row is which step of which sequence;
//! must not know what the inner block computes.

use super::{Backward, Block, Config, Forward, LeftBy, Packed, Pass, Plan, Steps};
use crate::memory::{Layout, Region, Rest};
use crate::params::{Init, Manifest};
use crate::sequence::{Input, InputSize, Schedule};
use crate::{Error, Format, Runtime};
use rand_core::Rng;
use std::sync::Arc;

/// A block that goes through each sequence from its last step to its first: it is the inner block
/// run on the reversed sequence, with the outputs back in the order of the input. Row t of the
/// output has seen the inputs of step t and of all later steps of its sequence. Sequences of
/// different lengths each begin at their own last step.
///
/// The parameters and the state are those of the inner block. A state that is given is the one
/// before a sequence's last step, and the state after a pass is the one after its first step. So a
/// long sequence that is cut into several passes carries its state from its last part to the one
/// before. [Noise](crate::Noise) and the [clock](crate::Clockwork) count steps from the last step
/// of a sequence; so do [`activations`](crate::Workspace::activations), which are those of the
/// inner block, except `n.y`.
///
/// A pass keeps what the inner block's pass keeps. In addition it keeps the reversed input,
/// `[rows, features]`, and the outputs in the inner block's order, `[rows, outputs]`. Their gradient
/// takes as much again if the inner block's backward pass [reads outputs](Pass::reads_output).
///
/// There is no [`Stream`](crate::Stream) of a network with a reversed block, since its first output
/// needs the last input, and for the same reason no [budget](crate::Training::with_budget) and no
/// [truncation](crate::Truncated).
///
/// ```
/// use bptt::{Gru, Network, Reset, Reversed, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Reversed::new(Gru::new(2, 5, Reset::After)?));
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// // Two sequences of 3 and 1 steps, one after the other.
/// let mut workspace = model.training_workspace(Schedule::packed(&[3, 1])?)?;
/// let x = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.6];
/// let y = model.forward(&mut workspace, &x)?;
/// // Both sequences end with the same input, which is the first that the GRU sees.
/// assert_eq!(y[2 * 5..3 * 5], y[3 * 5..]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reversed {
    inner: Arc<dyn Block>,
}

impl Reversed {
    /// Runs `inner` backwards in time.
    pub fn new(inner: impl Block) -> Self {
        Self::of(Arc::new(inner))
    }

    /// Runs `inner`, which was read from a file, backwards in time.
    pub(crate) fn of(inner: Arc<dyn Block>) -> Self {
        Self { inner }
    }
}

impl Block for Reversed {
    fn config(&self) -> Config {
        Config::new("Reversed").with("block", self.inner.config())
    }

    fn input(&self) -> InputSize {
        self.inner.input()
    }

    fn output_size(&self) -> usize {
        self.inner.output_size()
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        self.inner.parameters(manifest)
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        self.inner.state(batch, manifest)
    }

    fn is_causal(&self) -> bool {
        false
    }

    fn reads_step(&self) -> bool {
        self.inner.reads_step()
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        self.inner.initialise(parameters, init, rng)
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        self.inner.pack(format, runtime)
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(ReversedPass::planned(&*self.inner, plan)?))
    }

    fn stream(
        &self,
        _batch: usize,
        _runtime: Runtime,
        _layout: &mut Layout,
    ) -> Result<Box<dyn Steps>, Error> {
        let expected = "one that needs no later steps: a stream does not have them yet";
        Err(Error::Value {
            what: "a block of the stream",
            given: self.config().to_string(),
            expected: expected.into(),
        })
    }
}

/// A planned pass of a reversed block. Its memory is that of the inner pass, followed by rows in
/// the inner pass's order.
#[derive(Debug)]
struct ReversedPass {
    inner: Box<dyn Pass>,
    schedule: Schedule,
    input: InputSize,
    output: usize,
    /// The input, `[rows, features]`, or tokens. The forward pass leaves it there for the backward
    /// pass.
    x: Region,
    /// The outputs, `[rows, outputs]`.
    y: Region,
    /// The gradient of the outputs, `[rows, outputs]`. `None` if it may overwrite them.
    dy: Option<Region>,
}

impl ReversedPass {
    fn planned(inner: &dyn Block, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let rows = plan.schedule.checked_rows()?;
        let (input, output) = (inner.input(), inner.output_size());
        // The inner pass comes first, so that its regions are the same in this pass's memory.
        let inner = inner.plan(plan)?;
        let width = match input {
            InputSize::Features(size) => size,
            InputSize::Tokens(_) => 1,
        };
        let (x, y) = (plan.layout.book(&[rows, width])?, plan.layout.book(&[rows, output])?);
        let reads = inner.reads_output();
        let dy = reads.then(|| plan.layout.book(&[rows, output])).transpose()?;
        Ok(Self { inner, schedule: plan.schedule.clone(), input, output, x, y, dy })
    }

    /// Returns, for each row in order, its mirror: the row of step n − 1 − t of a sequence with n
    /// steps is the mirror of the row of its step t.
    fn mirrors(&self) -> impl Iterator<Item = usize> {
        let (schedule, rows) = (&self.schedule, self.schedule.step_rows());
        (0..rows.steps()).flat_map(move |step| {
            let mirror = move |n| rows.start(schedule.len_of(n) - 1 - step) + n;
            (0..rows.count(step)).map(mirror)
        })
    }

    /// Copies `width` elements of each row of `from` to its mirror in `to`; the rows are the given
    /// strides apart.
    fn copy<T: Copy>(&self, width: usize, (from, apart): (&[T], usize), to: (&mut [T], usize)) {
        let (to, to_apart) = to;
        for (row, mirror) in self.mirrors().enumerate() {
            to[mirror * to_apart..][..width].copy_from_slice(&from[row * apart..][..width]);
        }
    }

    /// Exchanges each row of `rows`, `[rows, width]`, with its mirror.
    fn exchange(&self, rows: &mut [f32], width: usize) {
        for (row, mirror) in self.mirrors().enumerate().filter(|(row, mirror)| row < mirror) {
            let (head, tail) = rows.split_at_mut(mirror * width);
            head[row * width..][..width].swap_with_slice(&mut tail[..width]);
        }
    }
}

impl Pass for ReversedPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, y, y_stride, memory, state, last, step, noise, threads } = forward;
        x.check(self.schedule.rows(), self.input)?;
        let mut rest = Rest::all(memory);
        let memory = rest.grant_up_to(self.x.range().start);
        let (x_mirrored, y_mirrored) = (rest.grant(self.x), rest.grant(self.y));
        let x = match (x, self.input) {
            (Input::Features(x), InputSize::Features(width)) => {
                self.copy(width, (x, width), (&mut *x_mirrored, width));
                Input::Features(x_mirrored)
            }
            (Input::Tokens(x), _) => {
                let tokens: &mut [u32] = bytemuck::cast_slice_mut(x_mirrored);
                self.copy(1, (x, 1), (&mut *tokens, 1));
                Input::Tokens(tokens)
            }
            (x, _) => x,
        };
        self.inner.forward(Forward {
            packed,
            x,
            y: &mut *y_mirrored,
            y_stride: self.output,
            memory,
            state,
            last,
            step,
            noise,
            threads,
        })?;
        self.copy(self.output, (y_mirrored, self.output), (y, y_stride));
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { x, dy, dy_stride, memory, mut dx, .. } = backward;
        let mut rest = Rest::all(memory);
        let memory = rest.grant_up_to(self.x.range().start);
        // The forward pass has left the mirrored input there.
        let x_mirrored = &*rest.grant(self.x);
        let x = match x {
            Input::Features(_) => Input::Features(x_mirrored),
            Input::Tokens(_) => Input::Tokens(bytemuck::cast_slice(x_mirrored)),
        };
        let y = rest.grant(self.y);
        let (y, dy_mirrored) = match self.dy {
            Some(dy) => (&*y, rest.grant(dy)),
            None => (&[][..], y),
        };
        self.copy(self.output, (dy, dy_stride), (&mut *dy_mirrored, self.output));
        self.inner.backward(Backward {
            x,
            y,
            y_stride: self.output,
            dy: dy_mirrored,
            dy_stride: self.output,
            memory,
            dx: dx.as_deref_mut(),
            ..backward
        })?;
        if let (Some(dx), InputSize::Features(width)) = (dx, self.input) {
            self.exchange(dx, width);
        }
        Ok(())
    }

    /// The inner pass may read outputs, but those are in this pass's memory.
    fn reads_output(&self) -> bool {
        false
    }

    fn work(&self) -> [usize; 2] {
        self.inner.work()
    }

    fn find(&self, name: &str, left_by: LeftBy, step: u64) -> Option<Region> {
        self.inner.find(name, left_by, step)
    }
}
