//! Truncated back-propagation through time. Knows chunks of time and windows of chunks; must not know
//! blocks.

use super::{Model, Workspace};
use crate::error::check_size;
use crate::loss::{Loss, Outputs, TargetRows};
use crate::params::State;
use crate::sequence::{Input, InputSize, Schedule};
use crate::train::Optimizer;
use crate::{Accumulate, Error, Runtime};

/// Truncated back-propagation through time, TBPTT(k₁, k₂) (Williams and Peng 1990): training on
/// sequences of any length, which arrive in chunks of up to k₁ steps. After each chunk there is one
/// update. Its gradient is that of the loss of this chunk, back through the last k₂ steps; what comes
/// before them is a state without a gradient.
///
/// The workspace has room for k₂ steps, however long the sequences are. With k₂ = k₁ each step is run
/// once. With k₂ > k₁ each update runs all steps of a window, with the parameters before this update.
/// Its first k₁ steps are run twice, to find the state that the next window begins from.
///
/// ```
/// use bptt::{Lstm, Network, Runtime, Sgd, SquaredError, Truncated};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Lstm::new(1, 1)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut sgd = Sgd::new(0.1);
/// // Updates after 50 steps, with gradients over the last 200.
/// let mut truncated = Truncated::new(&mut model, 50, 200, 1)?;
/// let (x, y) = (vec![0.5; 10_000], vec![0.25; 10_000]);
/// // The first 1000 steps bring the state to where it usually is; they are not learned from.
/// truncated.warm_up(&model, &x[..1000])?;
/// for (x, y) in x[1000..].chunks(50).zip(y[1000..].chunks(50)) {
///     truncated.train(&mut model, x, &SquaredError::mean(y), &mut sgd)?;
/// }
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Debug)]
pub struct Truncated {
    workspace: Workspace,
    every: usize,
    back: usize,
    batch: usize,
    /// The state that the window begins from; `None` is that before the first step, which may be
    /// learned.
    begin: Option<State>,
    window: Window,
}

/// The inputs of the last steps, at most k₂.
#[derive(Clone, Debug)]
enum Window {
    Features { x: Vec<f32>, row: usize },
    Tokens(Vec<u32>),
}

impl Window {
    /// Returns the number of rows in the window.
    fn rows(&self) -> usize {
        match self {
            Self::Features { x, row } => x.len() / row,
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    fn input(&self) -> Input<'_> {
        match self {
            Self::Features { x, .. } => Input::Features(x),
            Self::Tokens(tokens) => Input::Tokens(tokens),
        }
    }

    /// Returns the first `rows` rows.
    fn first(&self, rows: usize) -> Input<'_> {
        match self {
            Self::Features { x, row } => Input::Features(&x[..rows * row]),
            Self::Tokens(tokens) => Input::Tokens(&tokens[..rows]),
        }
    }

    /// Drops the first `rows` rows.
    fn drop_first(&mut self, rows: usize) {
        match self {
            Self::Features { x, row } => drop(x.drain(..rows * *row)),
            Self::Tokens(tokens) => drop(tokens.drain(..rows)),
        }
    }

    /// Appends the rows of `x`, which has been checked.
    fn push(&mut self, x: Input<'_>) {
        match (self, x) {
            (Self::Features { x: all, .. }, Input::Features(x)) => all.extend_from_slice(x),
            (Self::Tokens(all), Input::Tokens(tokens)) => all.extend_from_slice(tokens),
            _ => unreachable!("the kind of the input has been checked"),
        }
    }
}

impl Truncated {
    /// Allocates truncated training of `batch` sequences with an update after every `every` (k₁)
    /// steps and gradients through the last `back` (k₂) steps.
    ///
    /// # Errors
    /// [`Error::Value`] if one of the numbers is 0 or `back` is below `every`; [`Error::Mismatch`] if
    /// a block is [reversed](crate::Reversed); the errors of
    /// [`Training::workspace`](crate::Training::workspace).
    pub fn new(model: &mut Model, every: usize, back: usize, batch: usize) -> Result<Self, Error> {
        check_size("k₁", every)?;
        check_size("batch", batch)?;
        if back < every {
            let expected = format!("k₁, which is {every}, or more").into();
            return Err(Error::Value { what: "k₂", given: back.to_string(), expected });
        }
        model.network().check_causal("truncation")?;
        let workspace = model.training_workspace(Schedule::dense(back, batch))?;
        let rows = back * batch;
        let window = match model.input() {
            InputSize::Features(row) => Window::Features { x: Vec::with_capacity(rows * row), row },
            InputSize::Tokens(_) => Window::Tokens(Vec::with_capacity(rows)),
        };
        Ok(Self { workspace, every, back, batch, begin: None, window })
    }

    /// Returns the workspace, which has the gradients of the last update and the noise of the next.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Returns the workspace, mutably: to set the noise, or to clip gradients that
    /// [`gradients`](Self::gradients) has computed.
    pub fn workspace_mut(&mut self) -> &mut Workspace {
        &mut self.workspace
    }

    /// Begins new sequences, from `state`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if `state` belongs to another network or has another batch size,
    /// [`Error::Value`] if it has taken 2⁶³ steps or more.
    pub fn begin(&mut self, state: &State) -> Result<(), Error> {
        // The workspace checks whether the state fits.
        self.workspace.set_state(state)?;
        self.reset();
        self.begin = Some(state.clone());
        Ok(())
    }

    /// Begins new sequences from the state before the first step: zero, or the
    /// [learned](crate::Network::with_learned_state) one, which updates whose gradients go back to it
    /// learn.
    pub fn reset(&mut self) {
        self.begin = None;
        self.window.drop_first(self.window.rows());
    }

    /// Returns the state that the gradients of the next update go back to at most, or `None` if that
    /// is the state before the first step.
    pub fn window_state(&self) -> Option<&State> {
        self.begin.as_ref()
    }

    /// Runs any number of steps without learning from them. The gradients of later updates do not go
    /// back through them.
    ///
    /// # Errors
    /// The errors of [`Model::forward`]; [`Error::Multiple`] if `x` is not a whole number of steps.
    pub fn warm_up<'x>(&mut self, model: &Model, x: impl Into<Input<'x>>) -> Result<(), Error> {
        let x = x.into();
        let row = self.check(model, x)?;
        self.advance(model, self.window.rows())?;
        let all = x.len() / row;
        let most = self.back * self.batch;
        for first in (0..all).step_by(most) {
            let rows = first..(first + most).min(all);
            self.window.push(match x {
                Input::Features(x) => Input::Features(&x[rows.start * row..rows.end * row]),
                Input::Tokens(tokens) => Input::Tokens(&tokens[rows]),
            });
            self.advance(model, self.window.rows())?;
        }
        Ok(())
    }

    /// Computes the gradients of the loss of the next steps, at most k₁, without an update. They are
    /// in the [workspace](Self::workspace). `loss` has targets for the rows of `x` only. Returns the
    /// loss.
    ///
    /// # Errors
    /// The errors of [`Model::gradients`]; [`Error::Multiple`] if `x` is not a whole number of steps,
    /// [`Error::Value`] if it has none or more than k₁.
    pub fn gradients<'x>(
        &mut self,
        model: &Model,
        x: impl Into<Input<'x>>,
        loss: &dyn Loss,
    ) -> Result<f64, Error> {
        let x = x.into();
        let row = self.check(model, x)?;
        let (rows, most) = (x.len() / row, self.every * self.batch);
        if rows == 0 || rows > most {
            let expected = format!("1 to {}", self.every).into();
            let given = (rows / self.batch).to_string();
            return Err(Error::Value { what: "steps of a chunk", given, expected });
        }
        loss.check(TargetRows::dense(rows / self.batch, self.batch), model.output_size())?;
        self.window.push(x);
        self.plan(self.window.rows())?;
        self.restore()?;
        let (x, last) = (self.window.input(), OfLast { loss, rows, batch: self.batch });
        let value = model.gradients(&mut self.workspace, x, &last, Accumulate::No)?;
        // Moves the window on, so that there is room for the next k₁ steps.
        let all = self.window.rows();
        let dropped = (all + most).saturating_sub(self.back * self.batch).min(all);
        if dropped == all {
            self.begin = Some(self.workspace.last_state()?);
            self.window.drop_first(all);
        } else {
            self.advance(model, dropped)?;
        }
        Ok(value)
    }

    /// Trains the parameters by one update with the loss of the next steps, at most k₁. Returns the
    /// loss before the update.
    ///
    /// # Errors
    /// The errors of [`gradients`](Self::gradients) and of the optimiser.
    pub fn train<'x>(
        &mut self,
        model: &mut Model,
        x: impl Into<Input<'x>>,
        loss: &dyn Loss,
        optimizer: &mut dyn Optimizer,
    ) -> Result<f64, Error> {
        let value = self.gradients(model, x, loss)?;
        model.update(&mut self.workspace, optimizer)?;
        Ok(value)
    }

    /// Returns the elements of a row of `x`, which has a whole number of steps.
    fn check(&self, model: &Model, x: Input<'_>) -> Result<usize, Error> {
        x.check_kind(model.input())?;
        let row = match model.input() {
            InputSize::Features(row) => row,
            InputSize::Tokens(_) => 1,
        };
        crate::error::check_multiple("x", x.len(), row * self.batch)?;
        x.check(x.len() / row, model.input())?;
        Ok(row)
    }

    /// Plans the workspace for passes over `rows` rows, unless it is.
    fn plan(&mut self, rows: usize) -> Result<(), Error> {
        let schedule = Schedule::dense(rows / self.batch, self.batch);
        if *self.workspace.schedule() != schedule {
            self.workspace.replan(schedule)?;
        }
        Ok(())
    }

    /// Makes the next pass begin where the window begins.
    fn restore(&mut self) -> Result<(), Error> {
        match &self.begin {
            Some(state) => self.workspace.set_state(state)?,
            None => self.workspace.reset_state(),
        }
        Ok(())
    }

    /// Moves the beginning of the window on by `rows` rows.
    fn advance(&mut self, model: &Model, rows: usize) -> Result<(), Error> {
        if rows == 0 {
            return Ok(());
        }
        self.plan(rows)?;
        self.restore()?;
        model.forward(&mut self.workspace, self.window.first(rows))?;
        self.begin = Some(self.workspace.last_state()?);
        self.window.drop_first(rows);
        Ok(())
    }
}

/// A loss of the last `rows` rows of a pass; the others have none.
struct OfLast<'a> {
    loss: &'a dyn Loss,
    rows: usize,
    batch: usize,
}

impl OfLast<'_> {
    fn targets<'t>(&self) -> TargetRows<'t> {
        TargetRows::dense(self.rows / self.batch, self.batch)
    }

    /// Returns the outputs of the last rows, and those before them.
    fn split<'o>(&self, outputs: Outputs<'o>) -> (&'o mut [f32], Outputs<'o>) {
        let Outputs { y, size, loss_so_far, .. } = outputs;
        let (before, y) = y.split_at_mut(y.len() - self.rows * size);
        (before, Outputs { y, size, targets: self.targets(), loss_so_far })
    }
}

impl Loss for OfLast<'_> {
    fn check(&self, _targets: TargetRows<'_>, size: usize) -> Result<(), Error> {
        self.loss.check(self.targets(), size)
    }

    fn value(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        self.loss.value(runtime, self.split(outputs).1)
    }

    fn gradient(&self, runtime: Runtime, outputs: Outputs<'_>) -> Result<f64, Error> {
        let (before, last) = self.split(outputs);
        before.fill(0.0);
        self.loss.gradient(runtime, last)
    }
}
