//! The cells that are compared, and their initial values.

use bptt::{
    Activation, Dense, Error, Gru, GruGate, Init, Leak, Leaky, Lstm, Model, Network, Reset,
    Runtime, Vanilla,
};
use rand::rngs::StdRng;

/// The initial bias of the gates that keep the state, an LSTM's f and a GRU's u, so that untrained
/// cells remember equally well.
const KEEPING_BIAS: f32 = 1.0;

/// A cell with its options: its name, and a function that makes its layer from the numbers of
/// inputs and units.
pub type Kind = (&'static str, fn(usize, usize) -> Result<Network, Error>);

/// All cells that are compared.
pub const KINDS: [Kind; 9] = [
    ("vanilla, tanh", |i, h| Vanilla::new(i, h, Activation::Tanh).map(Network::new)),
    (RELU, |i, h| Vanilla::new(i, h, Activation::Relu).map(Network::new)),
    ("leaky, α learned", |i, h| leaky(i, h, Leak::Learned { initial: 0.9 })),
    ("leaky, α = 0.98", |i, h| leaky(i, h, Leak::Layer(0.98))),
    ("GRU, reset after", |i, h| Gru::new(i, h, Reset::After).map(Network::new)),
    ("GRU, reset before", |i, h| Gru::new(i, h, Reset::Before).map(Network::new)),
    ("LSTM", |i, h| lstm(i, h).map(Network::new)),
    ("LSTM, coupled", |i, h| Ok(Network::new(lstm(i, h)?.with_coupled_gates()))),
    ("LSTM, peepholes", |i, h| lstm(i, h)?.with_peepholes().map(Network::new)),
];

/// The cell whose recurrent weights begin as the identity matrix.
pub const RELU: &str = "vanilla, ReLU, W = 1";

fn leaky(input: usize, hidden: usize, leak: Leak) -> Result<Network, Error> {
    Leaky::new(input, hidden, Activation::Tanh, leak).map(Network::new)
}

fn lstm(input: usize, hidden: usize) -> Result<Lstm, Error> {
    Lstm::new(input, hidden)?.with_forget_bias(KEEPING_BIAS)
}

/// The cell's layer and a dense one after it, with these numbers of inputs, units and outputs.
pub fn model((name, layer): Kind, [i, h, o]: [usize; 3], rng: &mut StdRng) -> Result<Model, Error> {
    let network = layer(i, h)?.then(Dense::new(h, o)?);
    let mut model = network.init_with(Init::Orthogonal, rng, Runtime::best()?)?;
    model.change(|parameters| {
        if name == RELU {
            // With the identity as weights, a rectified unit that nothing disturbs keeps its state
            // (Le et al. 2015).
            let w = parameters.tensor_mut("0.weight_hh")?;
            w.fill(0.0);
            w.iter_mut().step_by(h + 1).for_each(|w| *w = 1.0);
        } else if name.starts_with("GRU") {
            let update = Gru::new(i, h, Reset::After)?.rows(GruGate::Update);
            parameters.tensor_mut("0.bias")?[update].fill(KEEPING_BIAS);
        }
        Ok::<(), Error>(())
    })?;
    Ok(model)
}
