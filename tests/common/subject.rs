//! A layer of a kind and sizes that the suites run on, with its network, the reference's equations,
//! and how much a pass keeps.

use super::{Alpha, Kind, Options, clockwork, gru, leaky, lstm, normed, skip, vanilla};
use bptt::blocks::Block;
use bptt::{
    Activation, Candidate, ClockGroup, Delayed, GateActivation, IndRnn, Init, Isa, Layer, MinGru,
    MinLstm, Model, Network, Parameters, Pooling, Qrnn, Recurrent, Regularisation, Regularised,
    Reset, Reversed, RgLru, Runtime, Sru, State,
};
use bptt_reference::cells::{Cell as Equations, Hard as ReferenceHard, Layer as ReferenceLayer};
use bptt_reference::noise::Masks;

/// A layer of a kind, with its numbers of inputs and units. A [square](Kind::is_square) kind has as
/// many inputs as units, whatever `inputs` says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subject {
    pub kind: Kind,
    pub inputs: usize,
    pub hidden: usize,
}

fn phi(activation: Activation) -> bptt_reference::Activation {
    match activation {
        Activation::Tanh => bptt_reference::Activation::Tanh,
        Activation::Relu => bptt_reference::Activation::Relu,
        Activation::Logistic => bptt_reference::Activation::Logistic,
        Activation::Identity => bptt_reference::Activation::Identity,
        Activation::HardSigmoid => bptt_reference::Activation::HardSigmoid,
        Activation::HardSigmoid02 => bptt_reference::Activation::HardSigmoid02,
    }
}

fn gates(gates: GateActivation) -> bptt_reference::Activation {
    match gates {
        GateActivation::Logistic => bptt_reference::Activation::Logistic,
        GateActivation::HardSigmoid => bptt_reference::Activation::HardSigmoid,
        GateActivation::HardSigmoid02 => bptt_reference::Activation::HardSigmoid02,
    }
}

fn candidate(candidate: Candidate) -> bptt_reference::Activation {
    match candidate {
        Candidate::Tanh => bptt_reference::Activation::Tanh,
        Candidate::Logistic => bptt_reference::Activation::Logistic,
        Candidate::Relu => bptt_reference::Activation::Relu,
        Candidate::HardSigmoid => bptt_reference::Activation::HardSigmoid,
        Candidate::HardSigmoid02 => bptt_reference::Activation::HardSigmoid02,
    }
}

/// φ of a minimal cell's candidate.
fn minimal(positive: bool) -> bptt_reference::Activation {
    use bptt_reference::Activation::{Identity, Positive};
    if positive { Positive } else { Identity }
}

impl Subject {
    /// The network of the layer alone, with noise in its recurrence if there is any.
    pub fn network_with(&self, noise: Regularisation) -> Network {
        self.network_of(None, noise, false)
    }

    /// The same after the blocks of another network.
    pub fn network_after(&self, before: &Network, noise: Regularisation) -> Network {
        self.network_of(Some(before), noise, false)
    }

    /// The network of the layer alone, run backwards in time.
    pub fn reversed_with(&self, noise: Regularisation) -> Network {
        self.network_of(None, noise, true)
    }

    fn network_of(
        &self,
        before: Option<&Network>,
        noise: Regularisation,
        reversed: bool,
    ) -> Network {
        fn after(before: Option<&Network>, block: impl Block) -> Network {
            match before {
                Some(network) => network.clone().then(block),
                None => Network::new(block),
            }
        }
        let (kind, inputs, hidden) = (self.kind, self.input_size(), self.hidden);
        assert!(noise == Regularisation::none() || kind.takes_noise(), "noise in {kind:?}");
        let network = |layer: Recurrent| match reversed {
            true => after(before, Reversed::new(layer)),
            false => after(before, layer),
        };
        fn scan(before: Option<&Network>, block: impl Block, reversed: bool) -> Network {
            match reversed {
                true => after(before, Reversed::new(block)),
                false => after(before, block),
            }
        }
        let of = |layer: Recurrent, noise: Regularisation| match noise == Regularisation::none() {
            true => network(layer),
            false => network(Regularised::new(layer, noise).unwrap().recurrent()),
        };
        match kind {
            Kind::Vanilla(phi) => of(vanilla(phi, inputs, hidden).recurrent(), noise),
            Kind::Leaky(phi, alpha) => of(leaky(phi, alpha, inputs, hidden).recurrent(), noise),
            Kind::Skip(phi, delays) => of(skip(phi, delays, inputs, hidden).recurrent(), noise),
            Kind::Clockwork(phi, periods) if reversed => {
                after(before, Reversed::new(clockwork(phi, periods, inputs, hidden)))
            }
            Kind::Clockwork(phi, periods) => after(before, clockwork(phi, periods, inputs, hidden)),
            Kind::Gru(reset, candidate) => {
                of(gru(reset, candidate, inputs, hidden).recurrent(), noise)
            }
            Kind::HardGru(reset, candidate, gates) => {
                let gru = gru(reset, candidate, inputs, hidden).with_gate_activation(gates);
                of(gru.recurrent(), noise)
            }
            Kind::LateGru(reset, candidate) => {
                of(Delayed::new(gru(reset, candidate, inputs, hidden)).unwrap().recurrent(), noise)
            }
            Kind::LateLstm(options) => {
                of(Delayed::new(lstm(options, inputs, hidden)).unwrap().recurrent(), noise)
            }
            Kind::Lstm(options) => of(lstm(options, inputs, hidden).recurrent(), noise),
            Kind::NormedLeaky(phi, alpha) => {
                of(normed(leaky(phi, alpha, inputs, hidden)).recurrent(), noise)
            }
            Kind::NormedSkip(phi, delays) => {
                of(normed(skip(phi, delays, inputs, hidden)).recurrent(), noise)
            }
            Kind::NormedGru(reset, candidate) => {
                of(normed(gru(reset, candidate, inputs, hidden)).recurrent(), noise)
            }
            Kind::NormedLstm(options) => {
                of(normed(lstm(options, inputs, hidden)).recurrent(), noise)
            }
            Kind::NormedLateGru(reset, candidate) => {
                let normed = normed(gru(reset, candidate, inputs, hidden));
                of(Delayed::new(normed).unwrap().recurrent(), noise)
            }
            Kind::MinGru { positive } => {
                let layer = MinGru::new(inputs, hidden).unwrap();
                let layer = if positive { layer.with_positive_candidate() } else { layer };
                scan(before, layer, reversed)
            }
            Kind::MinLstm { positive } => {
                let layer = MinLstm::new(inputs, hidden).unwrap();
                let layer = if positive { layer.with_positive_candidate() } else { layer };
                scan(before, layer, reversed)
            }
            Kind::Sru { .. } => scan(before, Sru::new(inputs, hidden).unwrap(), reversed),
            Kind::Qrnn(pooling) => {
                scan(before, Qrnn::new(inputs, hidden, pooling).unwrap(), reversed)
            }
            Kind::IndRnn(phi) => scan(before, IndRnn::new(inputs, hidden, phi).unwrap(), reversed),
            Kind::RgLru => scan(before, RgLru::new(hidden).unwrap(), reversed),
        }
    }

    /// The network of the layer alone.
    pub fn network(&self) -> Network {
        self.network_with(Regularisation::none())
    }

    /// A model of these parameters on one thread.
    pub fn model(&self, isa: Isa, parameters: &[f32]) -> Model {
        self.network().model(self.parameters(parameters), Runtime::new(isa)).unwrap()
    }

    /// A model with drawn parameters on one thread.
    pub fn init(&self, isa: Isa, init: Init, seed: u64) -> Model {
        use rand::SeedableRng;
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        self.network().init_with(init, &mut rng, Runtime::new(isa)).unwrap()
    }

    /// Parameters with these values.
    pub fn parameters(&self, values: &[f32]) -> Parameters {
        let mut parameters = self.network().parameters().unwrap();
        parameters.as_mut_slice().copy_from_slice(values);
        parameters
    }

    /// A state made of the parts that the layer has, after `step` steps.
    pub fn state(&self, batch: usize, h: &[f32], c: &[f32], x: &[f32], step: u64) -> State {
        let mut state = self.network().state(batch).unwrap();
        state.as_mut_slice().copy_from_slice(&[h, c, x].concat());
        state.set_step(step).unwrap();
        state
    }

    pub fn input_size(&self) -> usize {
        if self.kind.is_square() { self.hidden } else { self.inputs }
    }

    pub fn hidden_size(&self) -> usize {
        self.hidden
    }

    pub fn output_size(&self) -> usize {
        self.network().output_size()
    }

    pub fn parameter_count(&self) -> usize {
        self.network().manifest().unwrap().len()
    }

    /// The same layer in the reference.
    pub fn reference(&self) -> ReferenceLayer {
        ReferenceLayer {
            inputs: self.input_size(),
            hidden: self.hidden,
            outputs: self.output_size(),
            cell: self.equations(),
            late: self.is_late(),
            linear: false,
            masks: Masks::default(),
            hard: self.hard(),
            norm: self.epsilon(),
        }
    }

    /// Gates and limits that are not the usual ones.
    fn hard(&self) -> ReferenceHard {
        match self.kind.plain() {
            Kind::HardGru(.., activation) => {
                ReferenceHard { gates: gates(activation), ..Default::default() }
            }
            Kind::Lstm(Options { hard, .. }) | Kind::LateLstm(Options { hard, .. }) => {
                ReferenceHard {
                    gates: gates(hard.gates),
                    cell_clip: hard.cell_clip.map(f64::from),
                    projection_clip: hard.projection_clip.map(f64::from),
                }
            }
            _ => ReferenceHard::default(),
        }
    }

    pub fn equations(&self) -> Equations {
        match self.kind.plain() {
            Kind::Vanilla(activation) => Equations::Vanilla(phi(activation)),
            Kind::Leaky(activation, Alpha::Learned) => Equations::LeakyLearned(phi(activation)),
            Kind::Leaky(activation, alpha) => {
                Equations::Leaky(phi(activation), alpha.values(self.hidden))
            }
            Kind::Skip(activation, delays) => {
                let mut delays = delays.to_vec();
                delays.sort_unstable_by(|a, b| b.cmp(a));
                Equations::Skip(phi(activation), delays)
            }
            Kind::Clockwork(activation, _) => {
                let groups = self.groups().into_iter().map(|group| (group.units, group.period));
                Equations::Clockwork(phi(activation), groups.collect())
            }
            Kind::Gru(reset, phi) | Kind::HardGru(reset, phi, _) | Kind::LateGru(reset, phi) => {
                match reset {
                    Reset::After => Equations::GruAfter(candidate(phi)),
                    Reset::Before => Equations::GruBefore(candidate(phi)),
                }
            }
            Kind::Lstm(options) | Kind::LateLstm(options) => Equations::Lstm {
                candidate: candidate(options.candidate),
                peepholes: options.peepholes,
                coupled: options.coupled,
                projected: options.projected,
            },
            Kind::MinGru { positive } => Equations::MinGru(minimal(positive)),
            Kind::MinLstm { positive } => Equations::MinLstm(minimal(positive)),
            Kind::Sru { .. } => Equations::Sru { fourth: self.input_size() != self.hidden },
            Kind::Qrnn(pooling) => Equations::Qrnn {
                output: pooling != Pooling::Forget,
                input: pooling == Pooling::ForgetInputOutput,
            },
            Kind::IndRnn(activation) => Equations::IndRnn(phi(activation)),
            Kind::RgLru => Equations::RgLru,
            normed => unreachable!("{normed:?} is not plain"),
        }
    }

    /// The groups of a clockwork, the shortest period first.
    pub fn groups(&self) -> Vec<ClockGroup> {
        match self.kind {
            Kind::Clockwork(activation, periods) => {
                clockwork(activation, periods, self.inputs, self.hidden).groups().collect()
            }
            _ => Vec::new(),
        }
    }

    pub fn is_late(&self) -> bool {
        matches!(self.kind, Kind::LateGru(..) | Kind::LateLstm(..) | Kind::NormedLateGru(..))
    }

    /// ε, if gates are normalised.
    pub fn epsilon(&self) -> Option<f64> {
        (self.kind != self.kind.plain()).then_some(f64::from(super::kinds::EPSILON))
    }

    /// Whether the backward pass reads the outputs. A scan with a cell state reads that instead.
    pub fn reads_output(&self) -> bool {
        !(self.kind.is_scan() && self.equations().has_state())
    }

    /// Floats that a pass keeps for `steps` steps of a sequence, with its outputs.
    pub fn floats_of_steps(&self, steps: usize) -> usize {
        let (hidden, output) = (self.hidden, self.output_size());
        let of_step = match self.kind.plain() {
            Kind::Vanilla(_) | Kind::Skip(..) => 2 * hidden,
            Kind::Leaky(_, alpha) => (2 + usize::from(alpha == Alpha::Learned)) * hidden,
            Kind::Clockwork(..) => {
                let moved = self.groups().into_iter().map(|g| steps / g.period * g.units);
                return steps * hidden + moved.sum::<usize>();
            }
            Kind::Gru(..) | Kind::HardGru(..) | Kind::LateGru(..) => 5 * hidden,
            Kind::Lstm(options) | Kind::LateLstm(options) => {
                let Options { coupled, projected, .. } = options;
                let projected = if projected { hidden + output } else { 0 };
                (4 - usize::from(coupled) + 1) * hidden + output + projected
            }
            scan if scan.is_scan() => {
                let equations = self.equations();
                (equations.gates() + usize::from(equations.has_state()) + 1) * hidden
            }
            normed => unreachable!("{normed:?} is not plain"),
        };
        // The normalised sums, their gradients, and a deviation for each.
        let norms = if self.epsilon().is_some() { self.equations().norms() } else { 0 };
        steps * (of_step + norms * (2 * hidden + 1))
    }

    /// ∂L/∂z as the reference has it, `[τ, B, G, H]`, from the results of a pass over `steps` steps
    /// from step `first` on.
    pub fn all_steps(&self, dz: &[f32], first: u64, steps: usize, batch: usize) -> Vec<f32> {
        if self.groups().is_empty() {
            return dz.to_vec();
        }
        let (hidden, mut rest, mut before) = (self.hidden, dz, 0);
        let mut all = vec![0.0; steps * batch * hidden];
        for ClockGroup { units, period } in self.groups() {
            let moves = (0..steps).filter(|&t| (first + t as u64).is_multiple_of(period as u64));
            for (t, n) in moves.flat_map(|t| (0..batch).map(move |n| (t, n))) {
                let (row, tail) = rest.split_at(units);
                all[(t * batch + n) * hidden + before..][..units].copy_from_slice(row);
                rest = tail;
            }
            before += units;
        }
        assert!(rest.is_empty(), "a group's dz at each of its moves");
        all
    }
}
