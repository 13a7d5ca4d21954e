//! The configuration of an sLSTM layer, with its equations. Knows sizes and options; must not know
//! passes.

use crate::Error;
use crate::blocks::Config;
use crate::blocks::recurrent::named;
use crate::error::{check_size, product};
use crate::memory::{Layout, Region, regions};
use bptt_kernels::slstm::SlstmForget;

/// How the forget gate of an [`Slstm`] becomes a factor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForgetGate {
    /// f = exp(f̃), so that a state can grow, too.
    #[default]
    Exponential,
    /// f = σ(f̃), as in the authors' code.
    Logistic,
}

named! {
    ForgetGate { Exponential = "exponential", Logistic = "logistic" }
}

impl ForgetGate {
    pub(super) fn kernel(self) -> SlstmForget {
        match self {
            Self::Exponential => SlstmForget::Exponential,
            Self::Logistic => SlstmForget::Logistic,
        }
    }
}

/// A layer of long short-term memory with exponential gates and a normaliser (Beck et al. 2024,
/// "xLSTM: Extended Long Short-Term Memory"):
///
/// ```text
/// ĩ, f̃, z̃, õ = b + U x + R h₋
/// m = max(f̃ + m₋, ĩ)             stabiliser
/// i' = exp(ĩ − m)                input gate
/// f' = exp(f̃ + m₋ − m)           forget gate
/// c = f' ⊙ c₋ + i' ⊙ tanh(z̃)     cell state
/// n = f' ⊙ n₋ + i'               normaliser
/// h = σ(õ) ⊙ c / n               hidden state, the output
/// ```
///
/// With [`ForgetGate::Logistic`] log σ(f̃) takes the place of f̃. The units are in heads, and R joins
/// only units of the same head: the more heads there are, the fewer weights it has. Layers of other
/// kinds with heads are a [`Parallel`](crate::Parallel) of smaller layers over the same input.
///
/// The stabiliser changes no output, since c and n are both smaller by eᵐ. It keeps them finite
/// whatever the gates are: an exponent beyond ±10³⁰ counts as ±10³⁰. A unit whose n₋ is not a positive
/// number holds nothing, as before the first step: m = ĩ then, c = tanh(z̃) and n = 1, and c₋ and m₋
/// are not read. So n is at least 1 from the first step on, and |h| is at most about 1. In gradients
/// m is a constant. The gradients of outputs are exact; that of the state's m is 0.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[4H, I]` | U, with the gates in the order i, f, z, o |
/// | `weight_hh` | `[4H, H / heads]` | R: the row of a gate's unit has the weights of the outputs of the unit's head |
/// | `bias` | `[4H]` | b, which begins as 0, but see below |
///
/// The weights of each gate, and in R of each head too, are drawn as a matrix of their own. All f
/// begin open: exp(0) = 1; and with a logistic forget gate the biases of f are even between 3 and 6 in
/// each head, as in the authors' code.
///
/// The state is `h`, `c`, `n` and `m`, each `[B, H]`; only `h` can be
/// [learned](crate::Network::with_learned_state) or come over a [`Bridge`](crate::Bridge). A pass over τ
/// steps of B sequences keeps 6H floats per step and sequence beside the outputs: the gates, c and n;
/// and the derivative of a logistic forget gate, 7H.
///
/// ```
/// use bptt::{ForgetGate, Network, Runtime, Slstm};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let layer = Slstm::new(8, 16, 4)?.with_forget(ForgetGate::Logistic);
/// let model = Network::new(layer).init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// assert_eq!(model.parameters().tensor("0.weight_hh")?.len(), 4 * 16 * 4);
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slstm {
    input_size: usize,
    hidden_size: usize,
    heads: usize,
    forget: ForgetGate,
}

regions! {
    /// The parameters, in the order in which they are declared.
    pub(super) struct Sections {
        /// `[4H, I]`.
        weight_ih,
        /// `[4H, D]`.
        weight_hh,
        /// `[4H]`.
        bias,
    }
}

/// The sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Features in a row of the input, I.
    pub input: usize,
    /// Units, H.
    pub hidden: usize,
    /// Heads, K.
    pub heads: usize,
    /// Units in a head, D.
    pub units: usize,
}

impl Slstm {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units in `heads` heads.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0, or the heads do not have equally many units;
    /// [`Error::TooLarge`] if the weights do not fit the address space.
    pub fn new(input_size: usize, hidden_size: usize, heads: usize) -> Result<Self, Error> {
        check_size("input_size", input_size)?;
        check_size("hidden_size", hidden_size)?;
        check_size("heads", heads)?;
        if !hidden_size.is_multiple_of(heads) {
            let (given, expected) =
                (heads.to_string(), format!("a divisor of {hidden_size}").into());
            return Err(Error::Value { what: "heads", given, expected });
        }
        let layer = Self { input_size, hidden_size, heads, forget: ForgetGate::Exponential };
        layer.sections()?;
        Ok(layer)
    }

    /// Sets how the forget gate becomes a factor.
    pub fn with_forget(self, forget: ForgetGate) -> Self {
        Self { forget, ..self }
    }

    /// Returns how the forget gate becomes a factor.
    pub fn forget(&self) -> ForgetGate {
        self.forget
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "hidden_size", "heads", "forget"])?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        let layer = Self::new(input, hidden, config.size("heads")?)?;
        Ok(layer.with_forget(ForgetGate::of(config, "forget")?))
    }

    pub(super) fn described(&self) -> Config {
        Config::new("Slstm")
            .with("input_size", self.input_size)
            .with("hidden_size", self.hidden_size)
            .with("heads", self.heads)
            .with("forget", self.forget.name())
    }

    pub(super) fn sizes(&self) -> Sizes {
        let Self { input_size: input, hidden_size: hidden, heads, .. } = *self;
        Sizes { input, hidden, heads, units: hidden / heads }
    }

    /// Returns where each parameter lies in the buffer that holds them all.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they do not fit the address space.
    pub(super) fn sections(&self) -> Result<Sections<Region>, Error> {
        let Sizes { input, hidden, units, .. } = self.sizes();
        let dims: Sections<&[usize]> = Sections {
            weight_ih: &[4, hidden, input],
            weight_hh: &[4, hidden, units],
            bias: &[4, hidden],
        };
        let mut layout = Layout::without_gaps("the parameters");
        let sections = dims.booked(&mut layout)?;
        product("the parameters", &[layout.floats()])?;
        Ok(sections)
    }

    /// Returns the multiply-adds of a forward pass over `rows` rows; saturates.
    pub(super) fn multiply_adds(&self, rows: usize) -> usize {
        let Sizes { input, hidden, units, .. } = self.sizes();
        rows.saturating_mul(4 * hidden * input + 4 * hidden * units)
    }
}
