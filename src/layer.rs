//! What every cell can do.

use crate::spec::Spec;
use crate::{Error, Format, Init, Isa, Parameters, Plan, Purpose, Stream, Weights};
use rand_core::Rng;

/// A recurrent layer: the configuration from which parameters, packed weights, plans and
/// streams are made.
///
/// ```
/// use bptt::{Layer, Gradients, Init, Isa, Lstm, OutputGradients, Purpose, Accumulate};
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
///     OutputGradients { dy: Some(&dy), last: None },
///     &mut arena,
///     Gradients::of(&mut gradients, Accumulate::No),
/// )?;
/// # Ok::<(), bptt::Error>(())
/// ```
pub trait Layer: Spec {
    /// I, the features of an input.
    fn input_size(&self) -> usize {
        self.sizes().input
    }

    /// H, the units.
    fn hidden_size(&self) -> usize {
        self.sizes().hidden
    }

    /// R, the features of an output: H, but where the hidden state is projected.
    fn output_size(&self) -> usize {
        self.sizes().output
    }

    /// The number of parameters.
    fn parameter_count(&self) -> usize {
        self.sections().expect("a configuration was made that fits").len()
    }

    /// Parameters that are all zero, or room for their gradients.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn parameters(&self) -> Result<Parameters<Self>, Error> {
        Parameters::zeros(self.clone())
    }

    /// Parameters drawn by `init` from the caller's generator (the same seed gives
    /// the same bits): U and W each gate by gate; biases are zero, but where the cell's own
    /// page says otherwise.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Value`] where `init`'s limit is not finite.
    fn init<R: Rng + ?Sized>(&self, init: Init, rng: &mut R) -> Result<Parameters<Self>, Error> {
        Parameters::drawn(self.clone(), init, rng)
    }

    /// The parameters, packed for passes on `isa`. [`Weights::update`] packs
    /// anew after the parameters have changed, without allocating.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of another layer,
    /// [`Error::OutOfMemory`].
    fn pack(
        &self,
        parameters: &Parameters<Self>,
        purpose: Purpose,
        isa: Isa,
    ) -> Result<Weights<Self>, Error> {
        Weights::new(self.clone(), parameters, purpose, Format::F32, isa)
    }

    /// The parameters, packed for [`Purpose::Inference`] in a format of fewer bits: a
    /// stream of one sequence, or of few, is bound by reading its weights, and goes as
    /// much faster as they are smaller. Biases, states and arithmetic stay f32: the
    /// outputs have the bits of one whose f32 weights were rounded by
    /// [`Format::rounded`].
    ///
    /// ```
    /// use bptt::{Layer, Format, Init, Isa, Lstm, Purpose};
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
    /// [`Error::Mismatch`] where the parameters are of another layer, [`Error::Value`] where
    /// the format is int8 and a weight is ∞ or NaN, [`Error::OutOfMemory`].
    fn pack_inference(
        &self,
        parameters: &Parameters<Self>,
        format: Format,
        isa: Isa,
    ) -> Result<Weights<Self>, Error> {
        Weights::new(self.clone(), parameters, Purpose::Inference, format, isa)
    }

    /// A plan for training passes over `steps` (τ) steps of `batch` (B) sequences.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`].
    fn plan(&self, steps: usize, batch: usize, isa: Isa) -> Result<Plan<Self>, Error> {
        Plan::new(self.clone(), steps, batch, isa)
    }

    /// A stream of `batch` sequences: inference that carries its state from call to
    /// call, in memory that does not depend on how long it runs.
    ///
    /// # Errors
    /// [`Error::Value`] where `batch` is 0, [`Error::TooLarge`],
    /// [`Error::OutOfMemory`].
    fn stream(&self, batch: usize, isa: Isa) -> Result<Stream<Self>, Error> {
        Stream::new(self.clone(), batch, isa)
    }
}

impl<C: Spec> Layer for C {}
