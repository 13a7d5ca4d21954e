//! Long short-term memory.
//!
//! With `x⁽ᵗ⁾ ∈ ℝᴵ`, `h⁽ᵗ⁾, s⁽ᵗ⁾ ∈ ℝᴴ`, σ the logistic function and ⊙ the
//! element-wise product (Goodfellow et al., *Deep Learning*, equations 10.40 to
//! 10.44):
//!
//! ```text
//! i = σ(bᵢ + Uᵢ x + Wᵢ h₋)      input gate
//! f = σ(b_f + U_f x + W_f h₋)   forget gate
//! g = φ(b_g + U_g x + W_g h₋)   candidate
//! o = σ(bₒ + Uₒ x + Wₒ h₋)      output gate
//! s = f ⊙ s₋ + i ⊙ g            cell state
//! h = o ⊙ tanh(s)               hidden state, the output
//! ```
//!
//! φ is tanh unless said otherwise; [`Candidate::Logistic`] is the book's.

mod arena;
mod parameters;
mod plan;
mod stream;
mod weights;

pub use arena::LstmArena;
pub use parameters::LstmParameters;
pub use plan::{LstmGradients, LstmPlan, OutputGradients};
pub use stream::LstmStream;
pub use weights::{LstmWeights, Purpose};

use crate::error::check_size;
use crate::{Error, Format, Init, Isa};
use bptt_kernels::lstm::Activations;
use rand_core::Rng;

/// The gates, in the order in which weights, activations and gradients hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// i: how much of the candidate enters the cell.
    Input,
    /// f: how much of the cell's state stays.
    Forget,
    /// g: what may enter the cell.
    Candidate,
    /// o: how much of the cell shows.
    Output,
}

impl Gate {
    /// All four, in their order.
    pub const ALL: [Self; 4] = [Self::Input, Self::Forget, Self::Candidate, Self::Output];
}

/// The non-linearity φ of the candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Candidate {
    /// tanh, as all libraries have it.
    #[default]
    Tanh,
    /// The logistic function, as in equation 10.41.
    Logistic,
}

/// The state between two steps: `h` and `s`, each `[B, H]`.
#[derive(Clone, Copy, Debug)]
pub struct LstmState<'a> {
    /// Hidden state.
    pub h: &'a [f32],
    /// Cell state.
    pub s: &'a [f32],
}

/// The configuration of an LSTM layer: what everything else is made from.
///
/// ```
/// use bptt::{Init, Isa, Lstm, LstmGradients, OutputGradients, Purpose, Write};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let (steps, batch) = (20, 4);
/// let lstm = Lstm::new(8, 16)?;
/// let parameters = lstm.init(Init::Glorot, &mut SmallRng::seed_from_u64(1))?;
/// let weights = lstm.pack(&parameters, Purpose::Training, Isa::best()?)?;
/// let plan = lstm.plan(steps, batch, Isa::best()?)?;
/// println!("a pass takes {} bytes", plan.arena_bytes());
///
/// let mut arena = plan.allocate()?;
/// let x = vec![0.1; steps * batch * 8];
/// plan.forward(&weights, &x, None, &mut arena)?;
/// assert_eq!(arena.hidden()?.len(), steps * batch * 16);
///
/// let dy = vec![1.0; steps * batch * 16];
/// let mut gradients = lstm.parameters()?;
/// plan.backward(
///     &weights,
///     &x,
///     OutputGradients { dy: Some(&dy), ..Default::default() },
///     &mut arena,
///     LstmGradients::of(&mut gradients, Write::Overwrite),
/// )?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm {
    input_size: usize,
    hidden_size: usize,
    forget_bias: f32,
    candidate: Candidate,
}

impl Lstm {
    /// `input_size` (I) inputs and `hidden_size` (H) units, forget bias 1, tanh
    /// candidate.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`] where the weights do
    /// not fit the address space.
    pub fn new(input_size: usize, hidden_size: usize) -> Result<Self, Error> {
        let lstm = Self {
            input_size: check_size("input_size", input_size)?,
            hidden_size: check_size("hidden_size", hidden_size)?,
            forget_bias: 1.0,
            candidate: Candidate::Tanh,
        };
        let inputs = input_size.checked_add(hidden_size).and_then(|n| n.checked_add(1));
        let inputs = inputs.ok_or(Error::TooLarge { what: "the parameters" })?;
        crate::error::product("the parameters", &[4, hidden_size, inputs])?;
        Ok(lstm)
    }

    /// The forget gate's bias at [initialisation](Self::init): 1 by default, so that
    /// an untrained cell remembers.
    pub fn with_forget_bias(self, forget_bias: f32) -> Self {
        Self { forget_bias, ..self }
    }

    /// The candidate's non-linearity.
    pub fn with_candidate(self, candidate: Candidate) -> Self {
        Self { candidate, ..self }
    }

    /// I.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// H.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// The candidate's non-linearity.
    pub fn candidate(&self) -> Candidate {
        self.candidate
    }

    /// The number of parameters: `4H (I + H + 1)`.
    pub fn parameter_count(&self) -> usize {
        4 * self.hidden_size * (self.input_size + self.hidden_size + 1)
    }

    /// Parameters that are all zero, or room for their gradients.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn parameters(&self) -> Result<LstmParameters, Error> {
        LstmParameters::zeros(self.input_size, self.hidden_size)
    }

    /// Parameters drawn by `init` from the caller's generator (the same seed gives
    /// the same bits): U and W each gate by gate, biases zero but for the forget
    /// gate's.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Value`] where `init`'s limit is not finite.
    pub fn init<R: Rng + ?Sized>(&self, init: Init, rng: &mut R) -> Result<LstmParameters, Error> {
        let mut parameters = self.parameters()?;
        for gate in Gate::ALL {
            let [u, w, b] = parameters.gate_mut(gate);
            init.fill(u, self.hidden_size, self.input_size, rng)?;
            init.fill(w, self.hidden_size, self.hidden_size, rng)?;
            b.fill(if gate == Gate::Forget { self.forget_bias } else { 0.0 });
        }
        Ok(parameters)
    }

    /// The parameters, packed for passes on `isa`. [`LstmWeights::update`] packs
    /// anew after the parameters have changed, without allocating.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of other sizes,
    /// [`Error::OutOfMemory`].
    pub fn pack(
        &self,
        parameters: &LstmParameters,
        purpose: Purpose,
        isa: Isa,
    ) -> Result<LstmWeights, Error> {
        LstmWeights::new(*self, parameters, purpose, Format::F32, isa)
    }

    /// The parameters, packed for [`Purpose::Inference`] in a format of fewer bits: a
    /// stream of one sequence, or of few, is bound by reading its weights, and goes as
    /// much faster as they are smaller. Biases, states and arithmetic stay f32: the
    /// outputs have the bits of one whose f32 weights were rounded by
    /// [`Format::rounded`].
    ///
    /// ```
    /// use bptt::{Format, Init, Isa, Lstm, Purpose};
    /// # use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// let lstm = Lstm::new(64, 64)?;
    /// let parameters = lstm.init(Init::Glorot, &mut SmallRng::seed_from_u64(1))?;
    /// let isa = Isa::best()?;
    /// let whole = lstm.pack(&parameters, Purpose::Inference, isa)?;
    /// let quarter = lstm.pack_inference(&parameters, Format::Int8, isa)?;
    /// assert!(3 * quarter.bytes() < whole.bytes());
    ///
    /// let (x, mut exact, mut y) = ([0.5; 64], [0.0; 64], [0.0; 64]);
    /// lstm.stream(1, isa)?.step(&whole, &x, &mut exact)?;
    /// lstm.stream(1, isa)?.step(&quarter, &x, &mut y)?;
    /// assert!(y.iter().zip(exact).all(|(y, exact)| (y - exact).abs() < 0.01));
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of other sizes, [`Error::Value`] where
    /// the format is int8 and a weight is ∞ or NaN, [`Error::OutOfMemory`].
    pub fn pack_inference(
        &self,
        parameters: &LstmParameters,
        format: Format,
        isa: Isa,
    ) -> Result<LstmWeights, Error> {
        LstmWeights::new(*self, parameters, Purpose::Inference, format, isa)
    }

    /// A plan for training passes over `steps` (τ) steps of `batch` (B) sequences.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`].
    pub fn plan(&self, steps: usize, batch: usize, isa: Isa) -> Result<LstmPlan, Error> {
        LstmPlan::new(*self, steps, batch, isa)
    }

    /// A stream of `batch` sequences: inference that carries its state from call to
    /// call, in memory that does not depend on how long it runs.
    ///
    /// # Errors
    /// [`Error::Value`] where `batch` is 0, [`Error::TooLarge`],
    /// [`Error::OutOfMemory`].
    pub fn stream(&self, batch: usize, isa: Isa) -> Result<LstmStream, Error> {
        LstmStream::new(*self, batch, isa)
    }

    /// The multiply-adds of a forward pass over so many rows; saturates.
    #[inline]
    fn multiply_adds(&self, rows: usize) -> usize {
        rows.saturating_mul(4 * self.hidden_size * (self.input_size + self.hidden_size))
    }

    /// What a team is told of a forward pass in stretches of so many rows: threads meet
    /// twice in each, so where a stretch is short they are better not called.
    fn work_in_stretches(&self, rows: usize, stretch: usize) -> usize {
        const WORTH_MEETING: usize = 1 << 20;
        let work = self.multiply_adds(rows);
        if self.multiply_adds(stretch.min(rows)) < WORTH_MEETING { 0 } else { work }
    }

    fn activations(&self) -> Activations {
        match self.candidate {
            Candidate::Tanh => Activations::Tanh,
            Candidate::Logistic => Activations::Logistic,
        }
    }

    /// `Ok` where `other` has what two objects have to agree on to be used together.
    #[inline]
    fn check_same(&self, what: &'static str, other: &Self) -> Result<(), Error> {
        let key = |lstm: &Self| (lstm.input_size, lstm.hidden_size, lstm.candidate);
        if key(self) == key(other) {
            return Ok(());
        }
        Err(Error::Mismatch { what, given: other.describe(), expected: self.describe() })
    }

    fn describe(&self) -> String {
        format!("I {}, H {}, candidate {:?}", self.input_size, self.hidden_size, self.candidate)
    }
}
