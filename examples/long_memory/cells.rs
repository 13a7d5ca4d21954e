//! The cells that are compared, and how each begins.

use bptt::{
    Activation, Error, Gru, GruGate, Init, Layer, Leak, Leaky, Lstm, Parameters, Reset, Vanilla,
};
use rand::rngs::StdRng;

/// α of the leaky cell whose α stays as it is; its name says it too.
pub const FIXED_ALPHA: f32 = 0.98;

/// α with which the other begins.
pub const INITIAL_ALPHA: f32 = 0.9;

/// The bias of the gates that keep the state, an LSTM's f and a GRU's u, before training:
/// untrained cells remember alike then.
const KEEPING_BIAS: f32 = 1.0;

/// A cell with its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tanh,
    Relu,
    LeakyLearned,
    LeakyFixed,
    GruAfter,
    GruBefore,
    Lstm,
    LstmCoupled,
    LstmPeepholes,
}

/// What is done with a layer, of whichever type it is.
pub trait Visit {
    type Output;

    fn visit<C: Layer>(self, layer: C, parameters: Parameters<C>) -> Result<Self::Output, Error>;
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Tanh,
        Self::Relu,
        Self::LeakyLearned,
        Self::LeakyFixed,
        Self::GruAfter,
        Self::GruBefore,
        Self::Lstm,
        Self::LstmCoupled,
        Self::LstmPeepholes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Tanh => "vanilla, tanh",
            Self::Relu => "vanilla, ReLU, W = 1",
            Self::LeakyLearned => "leaky, α learned",
            Self::LeakyFixed => "leaky, α = 0.98",
            Self::GruAfter => "GRU, reset after",
            Self::GruBefore => "GRU, reset before",
            Self::Lstm => "LSTM",
            Self::LstmCoupled => "LSTM, coupled",
            Self::LstmPeepholes => "LSTM, peepholes",
        }
    }

    /// Makes the layer and its first parameters, and hands them on.
    pub fn visit<V: Visit>(
        self,
        (input, hidden): (usize, usize),
        rng: &mut StdRng,
        visitor: V,
    ) -> Result<V::Output, Error> {
        let leaky = |leak| Leaky::new(input, hidden, Activation::Tanh, leak);
        match self {
            Self::Tanh => with(Vanilla::new(input, hidden, Activation::Tanh)?, rng, visitor),
            Self::Relu => {
                let layer = Vanilla::new(input, hidden, Activation::Relu)?;
                let mut parameters = layer.init(Init::Orthogonal, rng)?;
                identity(&mut parameters);
                visitor.visit(layer, parameters)
            }
            Self::LeakyLearned => {
                with(leaky(Leak::Learned { initial: INITIAL_ALPHA })?, rng, visitor)
            }
            Self::LeakyFixed => with(leaky(Leak::Layer(FIXED_ALPHA))?, rng, visitor),
            Self::GruAfter | Self::GruBefore => {
                let reset = if self == Self::GruAfter { Reset::After } else { Reset::Before };
                let layer = Gru::new(input, hidden, reset)?;
                let mut parameters = layer.init(Init::Orthogonal, rng)?;
                let [_, _, bias] = parameters.gate_mut(GruGate::Update);
                bias.fill(KEEPING_BIAS);
                visitor.visit(layer, parameters)
            }
            Self::Lstm | Self::LstmCoupled | Self::LstmPeepholes => {
                let lstm = Lstm::new(input, hidden)?.with_forget_bias(KEEPING_BIAS)?;
                let lstm = match self {
                    Self::LstmCoupled => lstm.with_coupled_gates(),
                    Self::LstmPeepholes => lstm.with_peepholes()?,
                    _ => lstm,
                };
                with(lstm, rng, visitor)
            }
        }
    }
}

fn with<C: Layer, V: Visit>(layer: C, rng: &mut StdRng, visitor: V) -> Result<V::Output, Error> {
    let parameters = layer.init(Init::Orthogonal, rng)?;
    visitor.visit(layer, parameters)
}

/// W = 1: a rectified unit that is not disturbed keeps what it has (Le et al. 2015).
fn identity(parameters: &mut Parameters<Vanilla>) {
    let hidden = parameters.layer().hidden_size();
    let [_, w, ..] = parameters.split_mut();
    for (at, w) in w.iter_mut().enumerate() {
        *w = if at % (hidden + 1) == 0 { 1.0 } else { 0.0 };
    }
}
