//! The cells, as their equations are written, on a [`Tape`](crate::tape::Tape): one function each, forward only.

mod pass;
mod scan;
mod step;

use crate::Activation;
use crate::noise::Masks;

/// A recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Features of an input, I.
    pub inputs: usize,
    /// Units, H.
    pub hidden: usize,
    /// Features of an output, R: H where it is not projected.
    pub outputs: usize,
    /// Its equations.
    pub cell: Cell,
    /// Whether a step sees the input of the step before.
    pub late: bool,
    /// Whether gates, and what shows of a cell state, are identities too: for tests, to tell a fault of a product
    /// from an error of an activation.
    pub linear: bool,
    /// What gates and states that are not the usual ones are.
    pub hard: Hard,
    /// ε, if the gates' sums are normalised.
    pub norm: Option<f64>,
    /// What the products see of the states, and what steps keep of them.
    pub masks: Masks,
}

/// Hard limits of a layer with gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hard {
    /// The function of the gates.
    pub gates: Activation,
    /// The limit of an LSTM's cell state, which h and the output gate's peephole see.
    pub cell_clip: Option<f64>,
    /// The limit of a projected h.
    pub projection_clip: Option<f64>,
}

impl Default for Hard {
    fn default() -> Self {
        Hard { gates: Activation::Logistic, cell_clip: None, projection_clip: None }
    }
}

/// The equations of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// h = φ(b + U x + W h₋).
    Vanilla(Activation),
    /// h = α ⊙ h₋ + (1 − α) ⊙ φ(b + U x + W h₋), of a given α for each unit.
    Leaky(Activation, Vec<f32>),
    /// The same with α = σ(ρ), where ρ is the layer's own parameter.
    LeakyLearned(Activation),
    /// h = φ(b + Σ W_d h⁽ᵗ⁻ᵈ⁾ + U x) over these delays, the longest first.
    Skip(Activation, Vec<usize>),
    /// Groups of so many units and such a period, the shortest first: at the steps t, from 0, that its period divides
    /// a group is φ(b + U x + W h₋) of all units from its first, else what it was.
    Clockwork(Activation, Vec<(usize, usize)>),
    /// The gated recurrent unit with the reset gate after the recurrent product.
    GruAfter(Activation),
    /// The same with the gate before it.
    GruBefore(Activation),
    /// Long short-term memory.
    Lstm {
        /// φ of the candidate.
        candidate: Activation,
        /// Whether gates see the cell state.
        peepholes: bool,
        /// Whether i = 1 − f.
        coupled: bool,
        /// Whether h = P (o ⊙ tanh(c)).
        projected: bool,
    },
    /// The minimal GRU, with φ of its candidate.
    MinGru(Activation),
    /// The minimal LSTM with normalised gates, with φ of its candidate.
    MinLstm(Activation),
    /// The simple recurrent unit; with a fourth product in the place of the input, or without.
    Sru {
        /// Whether there is a fourth product.
        fourth: bool,
    },
    /// The pooling of a quasi-recurrent network: with an output gate or without, and with an input gate or 1 − f.
    Qrnn {
        /// Whether there is an output gate, and so a cell state.
        output: bool,
        /// Whether there is an input gate.
        input: bool,
    },
    /// h = φ(b + U x + w ⊙ h₋).
    IndRnn(Activation),
    /// The real-gated linear recurrent unit.
    RgLru,
}

impl Cell {
    /// Blocks of H in b.
    pub fn gates(&self) -> usize {
        match self {
            Cell::Vanilla(_) | Cell::Leaky(..) | Cell::LeakyLearned(_) => 1,
            Cell::Skip(..) | Cell::Clockwork(..) => 1,
            Cell::GruAfter(_) | Cell::GruBefore(_) => 3,
            Cell::Lstm { coupled, .. } => 4 - usize::from(*coupled),
            Cell::MinGru(_) | Cell::RgLru => 2,
            Cell::MinLstm(_) => 3,
            Cell::Sru { fourth } => 3 + usize::from(*fourth),
            Cell::Qrnn { output, input } => 2 + usize::from(*output) + usize::from(*input),
            Cell::IndRnn(_) => 1,
        }
    }

    /// Whether no unit sees the state of another, so that there is no W.
    pub fn is_scan(&self) -> bool {
        let short = matches!(self, Cell::MinGru(_) | Cell::MinLstm(_) | Cell::Sru { .. });
        short || matches!(self, Cell::Qrnn { .. } | Cell::IndRnn(_) | Cell::RgLru)
    }

    /// Of those, the ones whose value a pass shows.
    pub fn shown(&self) -> usize {
        match self {
            Cell::Vanilla(_) | Cell::Leaky(..) | Cell::LeakyLearned(_) => 0,
            Cell::Skip(..) | Cell::Clockwork(..) => 0,
            scan if scan.is_scan() => 0,
            _ => self.gates(),
        }
    }

    /// Blocks of H that are the cell's own parameters.
    pub fn own(&self) -> usize {
        match self {
            Cell::LeakyLearned(_) | Cell::GruAfter(_) => 1,
            Cell::IndRnn(_) | Cell::RgLru => 1,
            Cell::Sru { .. } => 2,
            Cell::Lstm { peepholes: true, .. } => self.gates() - 1,
            _ => 0,
        }
    }

    /// The sums that are normalised, if any are: those that a bias is added to.
    pub fn norms(&self) -> usize {
        self.gates() + usize::from(matches!(self, Cell::GruAfter(_)))
    }

    /// The delays at which a step sees hidden states.
    pub fn delays(&self) -> &[usize] {
        if let Cell::Skip(_, delays) = self { delays } else { &[1] }
    }

    /// Whether there is a cell state.
    pub fn has_state(&self) -> bool {
        matches!(self, Cell::Lstm { .. } | Cell::Sru { .. } | Cell::Qrnn { output: true, .. })
    }

    /// How many hidden states are carried on, D: none where a step sees the cell state only.
    pub fn history(&self) -> usize {
        if self.is_scan() && self.has_state() { 0 } else { self.delays()[0] }
    }
}

/// What a pass is given; `T` is a flat slice of numbers, or what stands for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs<T> {
    /// U, W, b, the cell's own, P.
    pub params: T,
    /// `[τ, B, I]`.
    pub x: T,
    /// `[D, B, R]`, the oldest first, D being the number of hidden states that are carried on.
    pub h0: T,
    /// `[B, H]`, or nothing.
    pub c0: T,
    /// The input that the first step sees where it is late, `[B, I]`, or nothing.
    pub x0: T,
    /// ∂L/∂h of each step from outside, `[τ, B, R]`.
    pub dy: T,
    /// ∂L/∂ of the last D states, beside `dy`.
    pub dh_last: T,
    /// The same of the cell state, or nothing.
    pub dc_last: T,
    /// The same of the input that is still to be seen, or nothing.
    pub dx_last: T,
}

impl<T> Inputs<T> {
    /// The same of something else.
    pub fn map<U>(&self, to: impl Fn(&T) -> U) -> Inputs<U> {
        Inputs {
            params: to(&self.params),
            x: to(&self.x),
            h0: to(&self.h0),
            c0: to(&self.c0),
            x0: to(&self.x0),
            dy: to(&self.dy),
            dh_last: to(&self.dh_last),
            dc_last: to(&self.dc_last),
            dx_last: to(&self.dx_last),
        }
    }
}

/// What a pass leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// The gates that it shows, `[τ, B, G, H]`.
    pub gates: T,
    /// `[τ, B, R]`.
    pub h: T,
    /// `[τ, B, H]`, or nothing.
    pub c: T,
    /// ∂L/∂z, `[τ, B, G, H]`.
    pub dz: T,
    /// As the parameters.
    pub params: T,
    /// As x.
    pub dx: T,
    /// As h₀.
    pub dh0: T,
    /// As s₀.
    pub dc0: T,
    /// As x₀.
    pub dx0: T,
}

impl<T> Outcome<T> {
    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, &T); 9] {
        let Self { gates, h, c, dz, params, dx, dh0, dc0, dx0 } = self;
        [
            ("gates", gates),
            ("h", h),
            ("c", c),
            ("dz", dz),
            ("params", params),
            ("dx", dx),
            ("dh0", dh0),
            ("dc0", dc0),
            ("dx0", dx0),
        ]
    }

    /// The same of something else.
    pub fn map<U>(&self, to: impl Fn(&T) -> U) -> Outcome<U> {
        Outcome {
            gates: to(&self.gates),
            h: to(&self.h),
            c: to(&self.c),
            dz: to(&self.dz),
            params: to(&self.params),
            dx: to(&self.dx),
            dh0: to(&self.dh0),
            dc0: to(&self.dc0),
            dx0: to(&self.dx0),
        }
    }
}

/// What a list of sequences leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct List<N> {
    /// ∂L/∂ of the parameters, each a sum over all sequences.
    pub params: Vec<N>,
    /// What each sequence leaves, without gradients of the parameters.
    pub sequences: Vec<Outcome<Vec<N>>>,
}

impl Layer {
    /// The state of a sequence after its last step, which is the initial one if it has no steps: the last D of h₀ and
    /// the outputs, the last of c₀ and the cell states, and the last of x₀ and the inputs where the layer is late.
    pub fn last_state<N: Copy>(
        &self,
        inputs: &Inputs<Vec<N>>,
        own: &Outcome<Vec<N>>,
    ) -> [Vec<N>; 3] {
        let last = |first: &[N], rest: &[N]| [first, rest].concat().split_off(rest.len());
        [last(&inputs.h0, &own.h), last(&inputs.c0, &own.c), last(&inputs.x0, &inputs.x)]
    }
}
