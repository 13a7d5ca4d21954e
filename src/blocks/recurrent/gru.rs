//! The gated recurrent unit (GRU).

use super::layer::{Layer, checked};
use super::options::{Candidate, GateActivation, check_sizes, named, sized};
use super::spec::{Kind, Recurrent, Sizes};
use crate::Error;
use crate::blocks::Config;
use bptt_kernels::cells::Hard;
use std::ops::Range;

/// Where the reset gate is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// After the recurrent product: `n = φ(b_n + U_n x + r ⊙ (b_hn + W_n h₋))`, as in PyTorch, in
    /// cuDNN and, under the name "lbr", in oneDNN. r multiplies b_hn, which therefore cannot be
    /// part of b_n: there are 4H biases.
    After,
    /// Before the recurrent product: `n = φ(b_n + U_n x + W_n (r ⊙ h₋))`, as in Cho et al. (2014),
    /// in ONNX by default, and in the book (equation 10.45, where φ = σ).
    Before,
}

/// The gates of a [`Gru`], in the order in which weights, activations and gradients hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GruGate {
    /// r: how much of the hidden state the candidate sees.
    Reset,
    /// u: how much of the hidden state stays (PyTorch's z).
    Update,
    /// n: what may replace the hidden state.
    Candidate,
}

impl GruGate {
    /// All three gates, in their order.
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
/// φ is tanh by default; [`with_candidate`](Self::with_candidate) sets it. σ is the logistic
/// function by default; [`with_gate_activation`](Self::with_gate_activation) sets a hard sigmoid
/// instead.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[3H, I]` | U, with the gates in the order r, u, n |
/// | `weight_hh` | `[3H, H]` | W |
/// | `bias` | `[3H]` | b |
/// | `bias_hn` | `[H]` | b_hn, with [`Reset::After`] |
///
/// The state is `h` `[B, H]`.
///
/// ```
/// use bptt::{Gru, Init, Network, Reset, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Gru::new(8, 16, Reset::After)?);
/// let mut rng = SmallRng::seed_from_u64(1);
/// let model = network.init_with(Init::Orthogonal, &mut rng, Runtime::best()?)?;
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gru {
    input_size: usize,
    hidden_size: usize,
    reset: Reset,
    candidate: Candidate,
    gates: GateActivation,
}

impl Gru {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units. The candidate's
    /// non-linearity is tanh.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(input_size: usize, hidden_size: usize, reset: Reset) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        let (candidate, gates) = (Candidate::Tanh, GateActivation::Logistic);
        checked(Self { input_size, hidden_size, reset, candidate, gates })
    }

    /// Sets the candidate's non-linearity φ.
    pub fn with_candidate(self, candidate: Candidate) -> Self {
        Self { candidate, ..self }
    }

    /// Sets the non-linearity of the gates r and u, which is the logistic function by default.
    pub fn with_gate_activation(self, gates: GateActivation) -> Self {
        Self { gates, ..self }
    }

    /// Returns where the reset gate is applied.
    pub fn reset(&self) -> Reset {
        self.reset
    }

    /// Returns the candidate's non-linearity φ.
    pub fn candidate(&self) -> Candidate {
        self.candidate
    }

    /// Returns the non-linearity of the gates.
    pub fn gate_activation(&self) -> GateActivation {
        self.gates
    }
}

named! {
    Reset { After = "after", Before = "before" }
}

impl Gru {
    /// Returns the rows of `gate` in `weight_ih`, `weight_hh` and `bias`.
    pub fn rows(&self, gate: GruGate) -> Range<usize> {
        let place = gate as usize;
        place * self.hidden_size..(place + 1) * self.hidden_size
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        let names = ["input_size", "hidden_size", "reset", "candidate", "gate_activation"];
        config.expect_only(&names)?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        let gru = Self::new(input, hidden, Reset::of(config, "reset")?)?;
        let gru = gru.with_candidate(Candidate::of(config, "candidate")?);
        Ok(gru.with_gate_activation(GateActivation::from_config(config)?))
    }
}

impl Layer for Gru {
    fn recurrent(&self) -> Recurrent {
        let Self { input_size, hidden_size, reset, candidate, gates } = *self;
        let config = sized("Gru", input_size, hidden_size)
            .with("reset", reset.name())
            .with("candidate", candidate.name());
        let config = gates.add_to(config);
        let kind = match reset {
            Reset::After => Kind::GruAfter,
            Reset::Before => Kind::GruBefore,
        };
        let sizes = Sizes { input: input_size, hidden: hidden_size, output: hidden_size };
        let layer = Recurrent::new(config, kind, candidate, sizes);
        layer.with_hard(|usual| Hard { gates: gates.hard(), ..usual })
    }
}
