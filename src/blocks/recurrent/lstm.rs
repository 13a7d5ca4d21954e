//! Long short-term memory (LSTM).

use super::layer::{Layer, checked};
use super::options::{Candidate, GateActivation, check_limit, check_sizes, sized};
use super::spec::{Kind, Recurrent, Sizes};
use crate::Error;
use crate::blocks::Config;
use crate::error::check_size;
use bptt_kernels::cells::Hard;
use std::ops::Range;

/// The gates of an [`Lstm`], in the order in which weights, activations and gradients hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LstmGate {
    /// i: how much of the candidate enters the cell state.
    Input,
    /// f: how much of the cell state stays.
    Forget,
    /// g: what may enter the cell state.
    Candidate,
    /// o: how much of the cell state shows in the hidden state.
    Output,
}

impl LstmGate {
    /// All four gates, in their order.
    pub const ALL: [Self; 4] = [Self::Input, Self::Forget, Self::Candidate, Self::Output];
    /// The gates that have weights in a layer with coupled gates.
    pub const COUPLED: [Self; 3] = [Self::Forget, Self::Candidate, Self::Output];
}

/// A layer of long short-term memory.
///
/// With `x⁽ᵗ⁾ ∈ ℝᴵ`, `h⁽ᵗ⁾, c⁽ᵗ⁾ ∈ ℝᴴ`, σ the logistic function and ⊙ the element-wise product
/// (Goodfellow et al., *Deep Learning*, equations 10.40 to 10.44; the book calls the input gate g,
/// the output gate q and the cell state s):
///
/// ```text
/// i = σ(bᵢ + Uᵢ x + Wᵢ h₋)      input gate
/// f = σ(b_f + U_f x + W_f h₋)   forget gate
/// g = φ(b_g + U_g x + W_g h₋)   candidate
/// o = σ(bₒ + Uₒ x + Wₒ h₋)      output gate
/// c = f ⊙ c₋ + i ⊙ g            cell state
/// h = o ⊙ tanh(c)               hidden state, the output
/// ```
///
/// φ is tanh by default; the book has [`Candidate::Logistic`]. Four options can be combined in any
/// way:
///
/// - [peepholes](Self::with_peepholes): the gates see the cell state as well;
/// - [coupled gates](Self::with_coupled_gates): `i = 1 − f`;
/// - a [projection](Self::with_projection): `h = P (o ⊙ tanh(c))`;
/// - [hard sigmoids](Self::with_gate_activation) in place of σ.
///
/// The cell state can be [clipped](Self::with_cell_clip), and so can a
/// [projected](Self::with_projection_clip) hidden state.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[4H, I]` | U, with the gates in the order i, f, g, o |
/// | `weight_hh` | `[4H, R]` | W, R being H unless it is projected |
/// | `bias` | `[4H]` | b; f's begins as the [forget bias](Self::with_forget_bias) |
/// | `weight_peephole` | `[3, H]` | of i, f and o, with peepholes |
/// | `weight_hr` | `[R, H]` | P, with a projection |
///
/// With coupled gates the gate i has no weights: shapes are `[3H, …]` in the order f, g, o, and the
/// peepholes are `[2, H]` for f and o. The state is `h` `[B, R]` and `c` `[B, H]`.
///
/// ```
/// use bptt::{Lstm, LstmGate, Network, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let lstm = Lstm::new(8, 16)?;
/// let network = Network::new(lstm);
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let forget = lstm.rows(LstmGate::Forget)?;
/// assert_eq!(model.parameters().tensor("0.bias")?[forget], [1.0; 16]);
///
/// let (x, mut y) = ([0.5; 20 * 8], [0.0; 20 * 16]);
/// model.stream(1)?.forward(&x, &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm {
    input_size: usize,
    hidden_size: usize,
    forget_bias: f32,
    candidate: Candidate,
    peepholes: bool,
    coupled: bool,
    projection: Option<usize>,
    gates: GateActivation,
    clips: Clips,
}

/// The limits to which an LSTM's states are clipped, if they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Clips {
    /// That of the cell state.
    cell: Option<f32>,
    /// That of a projected hidden state.
    projection: Option<f32>,
}

impl Lstm {
    /// Makes a layer with `input_size` (I) inputs and `hidden_size` (H) units. The forget bias is
    /// 1, the candidate's non-linearity is tanh, and all options are off.
    ///
    /// # Errors
    /// [`Error::Value`] if a size is 0; [`Error::TooLarge`] if the weights do not fit the address
    /// space.
    pub fn new(input_size: usize, hidden_size: usize) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        checked(Self {
            input_size,
            hidden_size,
            forget_bias: 1.0,
            candidate: Candidate::Tanh,
            peepholes: false,
            coupled: false,
            projection: None,
            gates: GateActivation::Logistic,
            clips: Clips::default(),
        })
    }

    /// Sets the forget gate's bias in [initial parameters](crate::Network::init). It is 1 by
    /// default, so that an untrained cell remembers. Layers that differ only in this bias compute
    /// the same outputs from the same parameters, and everything made for one fits the other.
    ///
    /// # Errors
    /// [`Error::Value`] unless `forget_bias` is finite.
    pub fn with_forget_bias(self, forget_bias: f32) -> Result<Self, Error> {
        if forget_bias.is_finite() {
            return Ok(Self { forget_bias, ..self });
        }
        let (given, expected) = (forget_bias.to_string(), "finite".into());
        Err(Error::Value { what: "forget_bias", given, expected })
    }

    /// Sets the candidate's non-linearity φ.
    pub fn with_candidate(self, candidate: Candidate) -> Self {
        Self { candidate, ..self }
    }

    /// Sets the non-linearity of the gates i, f and o, which is the logistic function by default.
    pub fn with_gate_activation(self, gates: GateActivation) -> Self {
        Self { gates, ..self }
    }

    /// Adds peepholes: the gates i, f and o see the cell state through one weight per unit (Gers
    /// and Schmidhuber 2000). `pᵢ ⊙ c₋` is added to the sum of i, `p_f ⊙ c₋` to the sum of f, and
    /// `pₒ ⊙ c`, with the new cell state, to the sum of o. The weights p are `[3, H]` in the order
    /// i, f, o, or `[2, H]` in the order f, o if the gates are coupled.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the weights do not fit the address space.
    pub fn with_peepholes(self) -> Result<Self, Error> {
        checked(Self { peepholes: true, ..self })
    }

    /// Couples the input gate to the forget gate: `i = 1 − f`, so that the candidate replaces as
    /// much as is forgotten. There are then three gates, f, g and o, and no weights for i.
    pub fn with_coupled_gates(self) -> Self {
        Self { coupled: true, ..self }
    }

    /// Adds a projection of the hidden state to `output_size` (R) features (Sak et al. 2014):
    /// `h = P (o ⊙ tanh(c))`, where P is `[R, H]` and there is no bias. The projected h is both the
    /// output and the input of the recurrent product, so W is `[4H, R]`.
    ///
    /// # Errors
    /// [`Error::Value`] if `output_size` is 0; [`Error::TooLarge`] if the weights do not fit the
    /// address space.
    pub fn with_projection(self, output_size: usize) -> Result<Self, Error> {
        check_size("output_size", output_size)?;
        checked(Self { projection: Some(output_size), ..self })
    }

    /// Clips the cell state to ±`limit`, before h is made of it (TensorFlow's `cell_clip`):
    ///
    /// ```text
    /// c = min(max(f ⊙ c₋ + i ⊙ g, −limit), limit)
    /// ```
    ///
    /// The output gate's peephole, h, and the next step all see the clipped c. The gradient goes
    /// through where |f ⊙ c₋ + i ⊙ g| < limit, and is 0 where it is at the limit or beyond: what has
    /// been clipped does not depend on the gates.
    ///
    /// ONNX's `clip` is something else: it clips the sums that go into the activation functions.
    ///
    /// ```
    /// use bptt::{GateActivation, Lstm, Network, Runtime};
    ///
    /// let lstm = Lstm::new(1, 1)?.with_gate_activation(GateActivation::HardSigmoid);
    /// let network = Network::new(lstm.with_cell_clip(0.75)?);
    /// let mut parameters = network.parameters()?;
    /// parameters.tensor_mut("0.bias")?.fill(3.0); // all gates are open
    /// let model = network.model(parameters, Runtime::best()?)?;
    /// let (mut stream, mut y) = (model.stream(1)?, [0.0]);
    /// stream.step(&[0.0], &mut y)?;
    /// assert_eq!(stream.state()?.tensor("0.c")?, [0.75]); // and not tanh(3)
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] unless `limit` is positive and finite.
    pub fn with_cell_clip(self, limit: f32) -> Result<Self, Error> {
        check_limit("cell_clip", limit)?;
        Ok(Self { clips: Clips { cell: Some(limit), ..self.clips }, ..self })
    }

    /// Clips the projected hidden state to ±`limit` (TensorFlow's `proj_clip`):
    ///
    /// ```text
    /// h = min(max(P (o ⊙ tanh(c)), −limit), limit)
    /// ```
    ///
    /// The gradient goes through where the h before clipping is between the limits, and is 0 where
    /// it is at a limit or beyond.
    ///
    /// # Errors
    /// [`Error::Value`] unless `limit` is positive and finite, and if there is no
    /// [projection](Self::with_projection), which therefore has to be added first.
    pub fn with_projection_clip(self, limit: f32) -> Result<Self, Error> {
        check_limit("projection_clip", limit)?;
        if !self.is_projected() {
            let given = format!("{limit} for a layer without a projection");
            let expected = "a projection, added before".into();
            return Err(Error::Value { what: "projection_clip", given, expected });
        }
        Ok(Self { clips: Clips { projection: Some(limit), ..self.clips }, ..self })
    }

    /// Returns the candidate's non-linearity φ.
    pub fn candidate(&self) -> Candidate {
        self.candidate
    }

    /// Returns the non-linearity of the gates.
    pub fn gate_activation(&self) -> GateActivation {
        self.gates
    }

    /// Returns the limit of the cell state, if it is clipped.
    pub fn cell_clip(&self) -> Option<f32> {
        self.clips.cell
    }

    /// Returns the limit of the projected hidden state, if it is clipped.
    pub fn projection_clip(&self) -> Option<f32> {
        self.clips.projection
    }

    /// Returns whether the layer has peepholes: gates that see the cell state.
    pub fn has_peepholes(&self) -> bool {
        self.peepholes
    }

    /// Returns whether the gates are coupled: `i = 1 − f`.
    pub fn has_coupled_gates(&self) -> bool {
        self.coupled
    }

    /// Returns whether the hidden state is projected.
    pub fn is_projected(&self) -> bool {
        self.projection.is_some()
    }

    /// Returns the gates that have weights, in their order.
    pub fn gates(&self) -> &'static [LstmGate] {
        if self.coupled { &LstmGate::COUPLED } else { &LstmGate::ALL }
    }

    /// Returns the index of `gate` among the gates that have weights.
    pub(crate) fn place(&self, gate: LstmGate) -> Result<usize, Error> {
        let place = self.gates().iter().position(|&other| other == gate);
        place.ok_or_else(|| Error::Value {
            what: "gate",
            given: format!("{gate:?}"),
            expected: "one with weights: where gates are coupled, i is 1 − f".into(),
        })
    }
}

impl Lstm {
    /// Returns the rows of `gate` in `weight_ih`, `weight_hh` and `bias`.
    ///
    /// # Errors
    /// [`Error::Value`] if `gate` is the input gate and the gates are coupled.
    pub fn rows(&self, gate: LstmGate) -> Result<Range<usize>, Error> {
        let place = self.place(gate)?;
        Ok(place * self.hidden_size..(place + 1) * self.hidden_size)
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        let names = [
            "input_size",
            "hidden_size",
            "candidate",
            "peepholes",
            "coupled_gates",
            "projection_size",
            "forget_bias",
            "gate_activation",
            "cell_clip",
            "projection_clip",
        ];
        config.expect_only(&names)?;
        let (input, hidden) = (config.size("input_size")?, config.size("hidden_size")?);
        let mut lstm = Self::new(input, hidden)?
            .with_candidate(Candidate::of(config, "candidate")?)
            .with_forget_bias(config.number("forget_bias")?)?
            .with_gate_activation(GateActivation::from_config(config)?);
        if config.flag("peepholes")? {
            lstm = lstm.with_peepholes()?;
        }
        if config.flag("coupled_gates")? {
            lstm = lstm.with_coupled_gates();
        }
        if config.get("projection_size").is_some() {
            lstm = lstm.with_projection(config.size("projection_size")?)?;
        }
        if config.get("cell_clip").is_some() {
            lstm = lstm.with_cell_clip(config.number("cell_clip")?)?;
        }
        if config.get("projection_clip").is_some() {
            lstm = lstm.with_projection_clip(config.number("projection_clip")?)?;
        }
        Ok(lstm)
    }
}

impl Layer for Lstm {
    fn recurrent(&self) -> Recurrent {
        let Self {
            input_size,
            hidden_size,
            forget_bias,
            candidate,
            peepholes,
            coupled,
            projection,
            gates,
            clips,
        } = *self;
        let mut config = sized("Lstm", input_size, hidden_size)
            .with("candidate", candidate.name())
            .with("peepholes", peepholes)
            .with("coupled_gates", coupled);
        if let Some(size) = projection {
            config = config.with("projection_size", size);
        }
        config = gates.add_to(config);
        for (name, limit) in [("cell_clip", clips.cell), ("projection_clip", clips.projection)] {
            if let Some(limit) = limit {
                config = config.with(name, limit);
            }
        }
        let config = config.with_initial("forget_bias", forget_bias);
        let projected = projection.is_some();
        let kind = Kind::Lstm { peepholes, coupled, projected, forget_bias };
        let output = projection.unwrap_or(hidden_size);
        let sizes = Sizes { input: input_size, hidden: hidden_size, output };
        let limit = |clip: Option<f32>| clip.unwrap_or(f32::INFINITY);
        let (gates, cell_clip) = (gates.hard(), limit(clips.cell));
        let projection_clip = limit(clips.projection);
        let layer = Recurrent::new(config, kind, candidate, sizes);
        layer.with_hard(|usual| Hard { gates, cell_clip, projection_clip, ..usual })
    }
}
