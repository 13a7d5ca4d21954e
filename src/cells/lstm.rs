//! Long short-term memory.

use super::{Candidate, check_sizes, checked, gate, gate_mut};
use crate::error::check_size;
use crate::sections::Own;
use crate::spec::{Diagonal, Sizes, Spec};
use crate::{Error, LstmState, Parameters};
use bptt_kernels::cells::{self, Cell, Projected};

/// The gates, in the order in which weights, activations and gradients hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LstmGate {
    /// i: how much of the candidate enters the cell.
    Input,
    /// f: how much of the cell's state stays.
    Forget,
    /// g: what may enter the cell.
    Candidate,
    /// o: how much of the cell shows.
    Output,
}

impl LstmGate {
    /// All four, in their order.
    pub const ALL: [Self; 4] = [Self::Input, Self::Forget, Self::Candidate, Self::Output];
    /// Those that a cell with coupled gates has weights for.
    pub const COUPLED: [Self; 3] = [Self::Forget, Self::Candidate, Self::Output];
}

/// A layer of long short-term memory.
///
/// With `x⁽ᵗ⁾ ∈ ℝᴵ`, `h⁽ᵗ⁾, c⁽ᵗ⁾ ∈ ℝᴴ`, σ the logistic function and ⊙ the
/// element-wise product (Goodfellow et al., *Deep Learning*, equations 10.40 to
/// 10.44; the book calls the input gate g and the output gate q):
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
/// φ is tanh unless said otherwise; [`Candidate::Logistic`] is the book's. Three options go
/// with each other in any combination:
///
/// - [peepholes](Self::with_peepholes): the gates see the cell state as well;
/// - [coupled gates](Self::with_coupled_gates): `i = 1 − f`;
/// - a [projection](Self::with_projection): `h = P (o ⊙ tanh(c))`.
///
/// Its parameters are U `[4H, I]`, W `[4H, R]` and b `[4H]` (3H where gates are coupled), the
/// peepholes, and P.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm {
    input_size: usize,
    hidden_size: usize,
    forget_bias: f32,
    candidate: Candidate,
    peepholes: bool,
    coupled: bool,
    projection: Option<usize>,
}

impl Lstm {
    /// `input_size` (I) inputs and `hidden_size` (H) units, forget bias 1, tanh
    /// candidate, no options.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`] where the weights do
    /// not fit the address space.
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
        })
    }

    /// The forget gate's bias at [initialisation](crate::Layer::init): 1 by default, so that
    /// an untrained cell remembers. Layers that differ in it alone compute the same of the same
    /// parameters, and what is made for one fits the other.
    ///
    /// # Errors
    /// [`Error::Value`] where it is not finite.
    pub fn with_forget_bias(self, forget_bias: f32) -> Result<Self, Error> {
        if forget_bias.is_finite() {
            return Ok(Self { forget_bias, ..self });
        }
        let (given, expected) = (forget_bias.to_string(), "finite".into());
        Err(Error::Value { what: "forget_bias", given, expected })
    }

    /// The candidate's non-linearity.
    pub fn with_candidate(self, candidate: Candidate) -> Self {
        Self { candidate, ..self }
    }

    /// Gates that see the cell state through a weight per unit (Gers and Schmidhuber
    /// 2000): `pᵢ ⊙ c₋` is part of i's sum, `p_f ⊙ c₋` of f's, and `pₒ ⊙ c`, with the new
    /// state, of o's. The parameters p are `[3, H]` in the order i, f, o, or `[2, H]`, f and o,
    /// where gates are coupled.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where the weights do not fit the address space.
    pub fn with_peepholes(self) -> Result<Self, Error> {
        checked(Self { peepholes: true, ..self })
    }

    /// `i = 1 − f`: what is forgotten is what is replaced. There are three gates then, f, g and
    /// o, and no weights for i.
    pub fn with_coupled_gates(self) -> Self {
        Self { coupled: true, ..self }
    }

    /// A projection to `output_size` (R) units (Sak et al. 2014): `h = P (o ⊙ tanh(c))`, P
    /// `[R, H]` without a bias; h is what shows and what recurs, so W is `[4H, R]`.
    ///
    /// # Errors
    /// [`Error::Value`] where the size is 0, [`Error::TooLarge`] where the weights do not fit
    /// the address space.
    pub fn with_projection(self, output_size: usize) -> Result<Self, Error> {
        check_size("output_size", output_size)?;
        checked(Self { projection: Some(output_size), ..self })
    }

    /// The candidate's non-linearity.
    pub fn candidate(&self) -> Candidate {
        self.candidate
    }

    /// Whether gates see the cell state.
    pub fn has_peepholes(&self) -> bool {
        self.peepholes
    }

    /// Whether `i = 1 − f`.
    pub fn has_coupled_gates(&self) -> bool {
        self.coupled
    }

    /// Whether the hidden state is projected.
    pub fn is_projected(&self) -> bool {
        self.projection.is_some()
    }

    /// The gates that there are weights for, in their order.
    pub fn gates(&self) -> &'static [LstmGate] {
        if self.coupled { &LstmGate::COUPLED } else { &LstmGate::ALL }
    }

    /// Where a gate stands.
    pub(crate) fn place(&self, gate: LstmGate) -> Result<usize, Error> {
        let place = self.gates().iter().position(|&other| other == gate);
        place.ok_or_else(|| Error::Value {
            what: "gate",
            given: format!("{gate:?}"),
            expected: "one with weights: where gates are coupled, i is 1 − f".into(),
        })
    }
}

impl Parameters<Lstm> {
    /// One gate's rows: its U `[H, I]`, W `[H, R]` and b `[H]`.
    ///
    /// # Errors
    /// [`Error::Value`] where the gates are coupled and it is the input gate.
    pub fn gate(&self, which: LstmGate) -> Result<[&[f32]; 3], Error> {
        Ok(gate(self, self.layer().place(which)?))
    }

    /// One gate's rows, to be changed: its U `[H, I]`, W `[H, R]` and b `[H]`.
    ///
    /// # Errors
    /// [`Error::Value`] where the gates are coupled and it is the input gate.
    pub fn gate_mut(&mut self, which: LstmGate) -> Result<[&mut [f32]; 3], Error> {
        let place = self.layer().place(which)?;
        Ok(gate_mut(self, place))
    }

    /// p, `[3, H]` in the order i, f, o, or `[2, H]`, f and o. Empty without peepholes.
    pub fn peepholes(&self) -> &[f32] {
        self.named_own().diagonal
    }
}

impl Spec for Lstm {
    type State<S: Default> = LstmState<S>;

    #[inline]
    fn sizes(&self) -> Sizes {
        let output = self.projection.unwrap_or(self.hidden_size);
        Sizes { input: self.input_size, hidden: self.hidden_size, output }
    }

    #[inline]
    fn cell<'a>(&self, vectors: &'a [f32]) -> Cell<'a> {
        let activations = self.candidate.into();
        let peepholes = self.peepholes.then_some(vectors);
        let (all, coupled) =
            (cells::Lstm { activations, peepholes }, cells::Lstm { activations, peepholes });
        match (self.coupled, self.projection) {
            (false, None) => Cell::Lstm(all),
            (true, None) => Cell::LstmCoupled(coupled),
            (false, Some(_)) => Cell::LstmProjected(Projected(all)),
            (true, Some(_)) => Cell::LstmCoupledProjected(Projected(coupled)),
        }
    }

    fn diagonals(&self) -> &'static [Diagonal] {
        const ALL: [Diagonal; 3] =
            [Diagonal::GateBefore(0), Diagonal::GateBefore(1), Diagonal::GateAfter(3)];
        const COUPLED: [Diagonal; 2] = [Diagonal::GateBefore(0), Diagonal::GateAfter(2)];
        match (self.peepholes, self.coupled) {
            (false, _) => &[],
            (true, false) => &ALL,
            (true, true) => &COUPLED,
        }
    }

    fn initialise(&self, bias: &mut [f32], _own: Own<&mut [f32]>) {
        let hidden = self.hidden_size;
        let forget = self.gates().iter().position(|&gate| gate == LstmGate::Forget).unwrap_or(0);
        bias[forget * hidden..(forget + 1) * hidden].fill(self.forget_bias);
    }

    /// The forget bias matters at initialisation only.
    #[inline]
    fn computes_as(&self, other: &Self) -> bool {
        *self == Self { forget_bias: self.forget_bias, ..*other }
    }

    fn describe(&self) -> String {
        let Self { input_size, hidden_size, candidate, .. } = self;
        let mut text = format!("I {input_size}, H {hidden_size}, candidate {candidate:?}");
        for (has, option) in [(self.peepholes, ", peepholes"), (self.coupled, ", coupled gates")] {
            text.push_str(if has { option } else { "" });
        }
        self.projection.into_iter().for_each(|size| text.push_str(&format!(", R {size}")));
        text
    }
}
