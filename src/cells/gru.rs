//! The gated recurrent unit.

use super::{Candidate, check_sizes, checked, gate, gate_mut};
use crate::sections::Own;
use crate::spec::{Sizes, Spec};
use crate::{Error, HiddenState, Parameters};
use bptt_kernels::cells::{self, Cell};

/// Where the reset gate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// After the recurrent product: `n = φ(b_n + U_n x + r ⊙ (b_hn + W_n h₋))`, as in PyTorch,
    /// cuDNN and, as "lbr", oneDNN. b_hn stays inside the bracket, so there are 4H biases.
    After,
    /// Before it: `n = φ(b_n + U_n x + W_n (r ⊙ h₋))`, as Cho et al. (2014) have it, ONNX by
    /// default, and the book (equation 10.45, where φ = σ).
    Before,
}

/// The gates, in the order in which weights, activations and gradients hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GruGate {
    /// r: how much of the state the candidate sees.
    Reset,
    /// u: how much of the state stays (PyTorch's z).
    Update,
    /// n: what may replace the state.
    Candidate,
}

impl GruGate {
    /// All three, in their order.
    pub const ALL: [Self; 3] = [Self::Reset, Self::Update, Self::Candidate];
}

/// A layer of gated recurrent units (Cho et al. 2014; equations 10.45 to 10.47):
///
/// ```text
/// r = σ(b_r + U_r x + W_r h₋)     reset gate
/// u = σ(b_u + U_u x + W_u h₋)     update gate
/// n = φ(…)                        candidate: see Reset
/// h = u ⊙ h₋ + (1 − u) ⊙ n        hidden state, the output
/// ```
///
/// φ is tanh unless said otherwise. Its parameters are U `[3H, I]`, W `[3H, H]` and b `[3H]`,
/// and with [`Reset::After`] b_hn `[H]`.
///
/// ```
/// use bptt::{Layer, Gru, Init, Isa, Purpose, Reset};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let gru = Gru::new(8, 16, Reset::After)?;
/// let parameters = gru.init(Init::Orthogonal, &mut SmallRng::seed_from_u64(1))?;
/// let weights = gru.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// gru.stream(1, Isa::best()?)?.forward(&weights, &x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gru {
    input_size: usize,
    hidden_size: usize,
    reset: Reset,
    candidate: Candidate,
}

impl Gru {
    /// `input_size` (I) inputs and `hidden_size` (H) units, tanh candidate.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`] where the weights do
    /// not fit the address space.
    pub fn new(input_size: usize, hidden_size: usize, reset: Reset) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        checked(Self { input_size, hidden_size, reset, candidate: Candidate::Tanh })
    }

    /// The candidate's non-linearity.
    pub fn with_candidate(self, candidate: Candidate) -> Self {
        Self { candidate, ..self }
    }

    /// Where the reset gate stands.
    pub fn reset(&self) -> Reset {
        self.reset
    }

    /// The candidate's non-linearity.
    pub fn candidate(&self) -> Candidate {
        self.candidate
    }
}

impl Parameters<Gru> {
    /// One gate's rows: its U `[H, I]`, W `[H, H]` and b `[H]`.
    pub fn gate(&self, which: GruGate) -> [&[f32]; 3] {
        gate(self, which as usize)
    }

    /// One gate's rows, to be changed: its U `[H, I]`, W `[H, H]` and b `[H]`.
    pub fn gate_mut(&mut self, which: GruGate) -> [&mut [f32]; 3] {
        gate_mut(self, which as usize)
    }

    /// b_hn `[H]` of [`Reset::After`]. Empty where the gate stands before the product.
    pub fn candidate_bias(&self) -> &[f32] {
        self.named_own().extra_bias
    }
}

impl Spec for Gru {
    type State<S: Default> = HiddenState<S>;

    fn sizes(&self) -> Sizes {
        Sizes { input: self.input_size, hidden: self.hidden_size, output: self.hidden_size }
    }

    #[inline]
    fn cell<'a>(&self, bias: &'a [f32]) -> Cell<'a> {
        let activations = self.candidate.into();
        match self.reset {
            Reset::After => Cell::GruAfter(cells::GruAfter { activations, bias }),
            Reset::Before => Cell::GruBefore(cells::GruBefore { activations }),
        }
    }

    fn own(&self) -> Own<usize> {
        Own { extra_bias: usize::from(self.reset == Reset::After), ..Own::default() }
    }

    fn describe(&self) -> String {
        let Self { input_size, hidden_size, reset, candidate } = self;
        format!("I {input_size}, H {hidden_size}, reset {reset:?}, candidate {candidate:?}")
    }
}
