//! Layer normalisation of the gates.

use crate::sections::Own;
use crate::spec::{Diagonal, Sizes, Spec};
use crate::{Error, Parameters};
use bptt_kernels::cells::{Cell, Geometry};

/// A layer whose gates' pre-activations are normalised over the units (Ba et al. 2016), gate by
/// gate: wherever the layer's equations have `b + a`, with `a = U x + W h₋`, stands
///
/// ```text
/// b + γ ⊙ (a − μ) / √(σ² + ε)
/// ```
///
/// with the mean μ and the variance σ² of the gate's H values of a, and a gain γ `[H]` for each
/// gate, which is a parameter and begins as 1. Peepholes come after it, projections are not
/// normalised. A GRU with its reset gate after the product has two sums in its candidate, and
/// normalises each: `n = φ(b_n + γ_n ⊙ norm(U_n x) + r ⊙ (b_hn + γ_hn ⊙ norm(W_n h₋)))`.
///
/// γ comes after the [layer's own parameters](Parameters::own), in the order of the gates.
///
/// ```
/// use bptt::{Layer, Init, Isa, LayerNorm, Lstm, Purpose};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let (layer, isa) = (LayerNorm::new(Lstm::new(8, 16)?)?, Isa::best()?);
/// let parameters = layer.init(Init::Orthogonal, &mut SmallRng::seed_from_u64(1))?;
/// assert_eq!(parameters.gain(), [1.0; 4 * 16]);
/// let weights = layer.pack(&parameters, Purpose::Inference, isa)?;
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// layer.stream(1, isa)?.forward(&weights, &x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm<C> {
    layer: C,
    epsilon: f32,
}

impl<C: Spec> LayerNorm<C> {
    /// `layer` with its gates normalised, with an ε of 10⁻⁵. A
    /// [`Clockwork`](crate::Clockwork), which has no gate of all units at once, does not compile,
    /// nor does one that is normalised already:
    ///
    /// ```compile_fail
    /// # use bptt::{LayerNorm, Lstm};
    /// let once = LayerNorm::new(Lstm::new(2, 5)?)?;
    /// let twice = LayerNorm::new(once)?;
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] where the parameters do not fit the address space.
    pub fn new(layer: C) -> Result<Self, Error> {
        const { assert!(!C::NORMED, "what is normalised is not normalised again") };
        const { assert!(!C::CLOCKED, "groups that move at their own periods have no whole gate") };
        super::checked(Self { layer, epsilon: 1e-5 })
    }

    /// The same with another ε.
    ///
    /// # Errors
    /// [`Error::Value`] where it is not positive and finite.
    pub fn with_epsilon(self, epsilon: f32) -> Result<Self, Error> {
        if epsilon > 0.0 && epsilon.is_finite() {
            return Ok(Self { epsilon, ..self });
        }
        let (given, expected) = (epsilon.to_string(), "positive and finite".into());
        Err(Error::Value { what: "epsilon", given, expected })
    }

    /// The layer itself.
    pub fn layer(&self) -> &C {
        &self.layer
    }

    /// ε.
    pub fn epsilon(&self) -> f32 {
        self.epsilon
    }
}

impl<C: Spec> Parameters<LayerNorm<C>> {
    /// γ, `[N, H]`: of each gate, and, of a GRU with its reset gate after the product, of the
    /// candidate's recurrent sum.
    pub fn gain(&self) -> &[f32] {
        self.gains()
    }
}

impl<C: Spec> Spec for LayerNorm<C> {
    type State<S: Default> = C::State<S>;
    const LATE: bool = C::LATE;
    const NORMED: bool = true;

    #[inline]
    fn sizes(&self) -> Sizes {
        self.layer.sizes()
    }

    #[inline]
    fn cell<'a>(&self, vectors: &'a [f32]) -> Cell<'a> {
        self.layer.cell(vectors)
    }

    #[inline]
    fn delays(&self) -> &[usize] {
        self.layer.delays()
    }

    fn own(&self) -> Own<usize> {
        let Geometry { gates, norms, .. } = self.layer.geometry();
        Own { gain: gates, extra_gain: norms - gates, ..self.layer.own() }
    }

    fn vectors(&self) -> usize {
        self.layer.vectors()
    }

    fn prepare(&self, own: Own<&[f32]>, vectors: &mut [f32]) {
        self.layer.prepare(own, vectors);
    }

    #[inline]
    fn norm(&self) -> Option<f32> {
        Some(self.epsilon)
    }

    fn diagonals(&self) -> &'static [Diagonal] {
        self.layer.diagonals()
    }

    fn initialise(&self, bias: &mut [f32], mut own: Own<&mut [f32]>) {
        [&mut own.gain, &mut own.extra_gain].into_iter().for_each(|gain| gain.fill(1.0));
        self.layer.initialise(bias, own);
    }

    #[inline]
    fn computes_as(&self, other: &Self) -> bool {
        self.epsilon == other.epsilon && self.layer.computes_as(&other.layer)
    }

    fn describe(&self) -> String {
        format!("{}, normalised with ε {}", self.layer.describe(), self.epsilon)
    }

    fn describe_beside(&self, other: &Self) -> String {
        let layer = self.layer.describe_beside(&other.layer);
        format!("{layer}, normalised with ε {}", self.epsilon)
    }
}
