//! Every cell with every option.

use bptt::{
    Activation, Candidate, ClockGroup, Clockwork, GateActivation, Gru, Layer, LayerNorm, Leak,
    Leaky, Lstm, Pooling, Reset, Skip, Vanilla,
};
use bptt_reference::sample::uniform;

/// The options of a layer, without its sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Vanilla(Activation),
    /// Leaky units with one α for the layer, one α per unit, or a learned α.
    Leaky(Activation, Alpha),
    /// Skip connections with these delays.
    Skip(Activation, &'static [usize]),
    /// A clockwork with groups of these periods; the first groups, as many as there are units for.
    Clockwork(Activation, &'static [usize]),
    Gru(Reset, Candidate),
    /// A GRU whose gates are not logistic.
    HardGru(Reset, Candidate, GateActivation),
    /// A GRU with a delayed input; with the reset gate before the product and a logistic candidate
    /// it is the book's.
    LateGru(Reset, Candidate),
    /// An LSTM with a delayed input, whose state has all parts.
    LateLstm(Options),
    Lstm(Options),
    /// Layers with normalised gates.
    NormedLeaky(Activation, Alpha),
    NormedSkip(Activation, &'static [usize]),
    NormedGru(Reset, Candidate),
    NormedLstm(Options),
    /// Layers with normalised gates and a delayed input.
    NormedLateGru(Reset, Candidate),
    /// Cells that are scanned, of which the minimal ones may have a positive candidate.
    MinGru {
        positive: bool,
    },
    MinLstm {
        positive: bool,
    },
    /// With as many inputs as units, which pass by the products.
    Sru {
        square: bool,
    },
    Qrnn(Pooling),
    IndRnn(Activation),
    RgLru,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alpha {
    Layer,
    Units,
    Learned,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    pub candidate: Candidate,
    pub peepholes: bool,
    pub coupled: bool,
    pub projected: bool,
    pub hard: Hard,
}

/// Gates and limits of an LSTM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hard {
    pub gates: GateActivation,
    pub cell_clip: Option<f32>,
    /// Only with a projection.
    pub projection_clip: Option<f32>,
}

impl Hard {
    /// Logistic gates, and no limits.
    pub const NONE: Self =
        Self { gates: GateActivation::Logistic, cell_clip: None, projection_clip: None };
}

impl Options {
    /// No options, and the usual candidate.
    pub const NONE: Self = Self {
        candidate: Candidate::Tanh,
        peepholes: false,
        coupled: false,
        projected: false,
        hard: Hard::NONE,
    };
}

impl Kind {
    /// An LSTM without options.
    pub const LSTM: Self = Self::Lstm(Options::NONE);

    /// All kinds.
    pub fn all() -> Vec<Self> {
        use Activation::{Identity, Logistic, Relu, Tanh};
        let mut all = vec![];
        all.extend([Tanh, Relu, Logistic, Identity].map(Self::Vanilla));
        for alpha in [Alpha::Layer, Alpha::Units, Alpha::Learned] {
            all.extend([Tanh, Relu, Logistic].map(|phi| Self::Leaky(phi, alpha)));
        }
        for delays in [&[1, 3][..], &[5, 2], &[4]] {
            all.extend([Tanh, Relu].map(|phi| Self::Skip(phi, delays)));
        }
        for periods in [&[1, 2, 4][..], &[1, 3], &[2, 5], &[1], &[3]] {
            all.extend([Tanh, Relu].map(|phi| Self::Clockwork(phi, periods)));
        }
        for candidate in [Candidate::Tanh, Candidate::Logistic] {
            all.extend([Reset::After, Reset::Before].map(|reset| Self::Gru(reset, candidate)));
            all.extend([Reset::After, Reset::Before].map(|reset| Self::LateGru(reset, candidate)));
            all.push(Self::LateLstm(Options { candidate, ..Options::NONE }));
            for options in 0..8 {
                let [peepholes, coupled, projected] = [1, 2, 4].map(|bit| options & bit != 0);
                let hard = Hard::NONE;
                all.push(Self::Lstm(Options { candidate, peepholes, coupled, projected, hard }));
            }
        }
        all.extend([Tanh, Relu].map(|phi| Self::NormedLeaky(phi, Alpha::Learned)));
        all.push(Self::NormedSkip(Tanh, &[1, 3]));
        all.push(Self::NormedSkip(Identity, &[1]));
        for reset in [Reset::After, Reset::Before] {
            all.push(Self::NormedGru(reset, Candidate::Tanh));
            all.push(Self::NormedLateGru(reset, Candidate::Logistic));
        }
        for (peepholes, coupled, projected) in
            [(false, false, false), (true, false, true), (true, true, false)]
        {
            all.push(Self::NormedLstm(Options { peepholes, coupled, projected, ..Options::NONE }));
        }
        for positive in [false, true] {
            all.extend([Self::MinGru { positive }, Self::MinLstm { positive }]);
        }
        all.extend([false, true].map(|square| Self::Sru { square }));
        let poolings = [Pooling::Forget, Pooling::ForgetOutput, Pooling::ForgetInputOutput];
        all.extend(poolings.map(Self::Qrnn));
        all.extend([Tanh, Relu].map(Self::IndRnn));
        all.push(Self::RgLru);
        all.extend(Self::hard());
        all
    }

    /// Kinds with hard activations and limits.
    pub fn hard() -> Vec<Self> {
        use GateActivation::{HardSigmoid, HardSigmoid02};
        let gates = |gates| Hard { gates, ..Hard::NONE };
        let clipped = |cell_clip, projection_clip| Hard {
            cell_clip: Some(cell_clip),
            projection_clip: Some(projection_clip),
            ..Hard::NONE
        };
        let coupled = Options {
            candidate: Candidate::Relu,
            coupled: true,
            projected: true,
            hard: Hard { projection_clip: Some(0.125), ..gates(HardSigmoid) },
            ..Options::NONE
        };
        let peepholes = Options {
            peepholes: true,
            hard: Hard { cell_clip: Some(0.25), ..gates(HardSigmoid02) },
            ..Options::NONE
        };
        let hard = clipped(0.375, 0.0625);
        let projected = Options { projected: true, peepholes: true, hard, ..Options::NONE };
        let late = Options { candidate: Candidate::HardSigmoid02, ..Options::NONE };
        vec![
            Self::Vanilla(Activation::HardSigmoid),
            Self::Leaky(Activation::HardSigmoid02, Alpha::Learned),
            Self::Gru(Reset::After, Candidate::Relu),
            Self::HardGru(Reset::After, Candidate::Tanh, HardSigmoid02),
            Self::HardGru(Reset::Before, Candidate::HardSigmoid, HardSigmoid),
            Self::Lstm(coupled),
            Self::Lstm(peepholes),
            Self::Lstm(projected),
            Self::LateLstm(late),
            Self::NormedLstm(projected),
        ]
    }

    /// Whether no unit sees the state of another.
    pub fn is_scan(self) -> bool {
        let short = matches!(self, Self::MinGru { .. } | Self::MinLstm { .. } | Self::Sru { .. });
        short || matches!(self, Self::Qrnn(_) | Self::IndRnn(_) | Self::RgLru)
    }

    /// Whether there are as many inputs as units.
    pub fn is_square(self) -> bool {
        matches!(self, Self::Sru { square: true } | Self::RgLru)
    }

    /// Whether all rows of a step share one clock, so that there are no resets.
    pub fn is_clocked(self) -> bool {
        matches!(self, Self::Clockwork(..))
    }

    /// Whether there can be noise in the recurrence.
    pub fn takes_noise(self) -> bool {
        !self.is_clocked() && !self.is_scan()
    }

    /// The same kind without normalisation.
    pub fn plain(self) -> Self {
        match self {
            Self::NormedLeaky(phi, alpha) => Self::Leaky(phi, alpha),
            Self::NormedSkip(phi, delays) => Self::Skip(phi, delays),
            Self::NormedGru(reset, candidate) => Self::Gru(reset, candidate),
            Self::NormedLateGru(reset, candidate) => Self::LateGru(reset, candidate),
            Self::NormedLstm(options) => Self::Lstm(options),
            plain => plain,
        }
    }

    /// One kind of each kernel, for tests that do not depend on a non-linearity.
    pub fn kernels() -> Vec<Self> {
        let usual = |kind: &Self| match kind {
            Self::Vanilla(phi)
            | Self::Skip(phi, _)
            | Self::NormedLeaky(phi, _)
            | Self::Clockwork(phi, _)
            | Self::IndRnn(phi) => *phi == Activation::Tanh,
            Self::Leaky(phi, alpha) => *phi == Activation::Tanh && *alpha != Alpha::Layer,
            Self::Gru(_, candidate) | Self::LateGru(_, candidate) => *candidate == Candidate::Tanh,
            Self::HardGru(..) => false,
            Self::Lstm(options) | Self::LateLstm(options) => {
                options.candidate == Candidate::Tanh && options.hard == Hard::NONE
            }
            Self::NormedLstm(options) => options.hard == Hard::NONE,
            Self::NormedSkip(..) | Self::NormedGru(..) | Self::NormedLateGru(..) => true,
            Self::MinGru { positive } | Self::MinLstm { positive } => !positive,
            Self::Sru { .. } | Self::Qrnn(_) | Self::RgLru => true,
        };
        Self::all().into_iter().filter(usual).collect()
    }
}

/// Whether a derivative jumps, as that of max(0, a) does.
pub fn has_jump(kind: Kind) -> bool {
    use Activation::{HardSigmoid, HardSigmoid02, Relu};
    let jumps = |phi| matches!(phi, Relu | HardSigmoid | HardSigmoid02);
    let smooth = |phi| matches!(phi, Candidate::Tanh | Candidate::Logistic);
    match kind.plain() {
        Kind::Vanilla(phi) | Kind::Leaky(phi, _) | Kind::Skip(phi, _) => jumps(phi),
        Kind::Clockwork(phi, _) | Kind::IndRnn(phi) => jumps(phi),
        Kind::HardGru(..) => true,
        Kind::Gru(_, phi) | Kind::LateGru(_, phi) => !smooth(phi),
        Kind::Lstm(options) | Kind::LateLstm(options) => {
            !smooth(options.candidate) || options.hard != Hard::NONE
        }
        Kind::MinGru { positive } | Kind::MinLstm { positive } => positive,
        Kind::Sru { .. } | Kind::Qrnn(_) | Kind::RgLru => false,
        normed => unreachable!("{normed:?} is not plain"),
    }
}

/// The ε of layers that are normalised.
pub const EPSILON: f32 = 1e-2;

/// Uses an ε so large that the small variance of a few units does not matter too much.
pub fn normed(layer: impl Layer) -> LayerNorm {
    LayerNorm::new(layer).unwrap().with_epsilon(EPSILON).unwrap()
}

pub fn vanilla(phi: Activation, inputs: usize, hidden: usize) -> Vanilla {
    Vanilla::new(inputs, hidden, phi).unwrap()
}

impl Alpha {
    /// α of each unit, if it is given.
    pub fn values(self, hidden: usize) -> Vec<f32> {
        match self {
            Self::Units => uniform(9, hidden, 0.45).iter().map(|a| a + 0.45).collect(),
            _ => vec![0.3; hidden],
        }
    }
}

pub fn leaky(phi: Activation, alpha: Alpha, inputs: usize, hidden: usize) -> Leaky {
    let leak = match alpha {
        Alpha::Layer => Leak::Layer(0.3),
        Alpha::Units => Leak::Units(alpha.values(hidden).into()),
        Alpha::Learned => Leak::Learned { initial: 0.3 },
    };
    Leaky::new(inputs, hidden, phi, leak).unwrap()
}

pub fn skip(phi: Activation, delays: &[usize], inputs: usize, hidden: usize) -> Skip {
    Skip::new(inputs, hidden, phi, delays).unwrap()
}

/// Groups of about equally many units.
pub fn clockwork(phi: Activation, periods: &[usize], inputs: usize, hidden: usize) -> Clockwork {
    let count = periods.len().min(hidden);
    let groups: Vec<ClockGroup> = (0..count)
        .map(|n| ClockGroup {
            units: hidden * (n + 1) / count - hidden * n / count,
            period: periods[n],
        })
        .collect();
    Clockwork::new(inputs, phi, &groups).unwrap()
}

pub fn gru(reset: Reset, candidate: Candidate, inputs: usize, hidden: usize) -> Gru {
    Gru::new(inputs, hidden, reset).unwrap().with_candidate(candidate)
}

/// The number of features after a projection: half as many as units, or one more if there is one
/// unit.
pub fn lstm(options: Options, inputs: usize, hidden: usize) -> Lstm {
    let Hard { gates, cell_clip, projection_clip } = options.hard;
    let mut lstm = Lstm::new(inputs, hidden).unwrap().with_candidate(options.candidate);
    lstm = lstm.with_gate_activation(gates);
    if options.peepholes {
        lstm = lstm.with_peepholes().unwrap();
    }
    if options.coupled {
        lstm = lstm.with_coupled_gates();
    }
    if options.projected {
        lstm = lstm.with_projection(if hidden == 1 { 2 } else { hidden / 2 }).unwrap();
    }
    if let Some(limit) = cell_clip {
        lstm = lstm.with_cell_clip(limit).unwrap();
    }
    if let Some(limit) = projection_clip {
        lstm = lstm.with_projection_clip(limit).unwrap();
    }
    lstm
}

/// Runs an expression on the layer of a kind with the given numbers of inputs and units.
#[macro_export]
macro_rules! with_layer {
    ($kind:expr, ($inputs:expr, $hidden:expr), |$layer:ident| $body:expr) => {{
        let $layer = $crate::common::Subject { kind: $kind, inputs: $inputs, hidden: $hidden };
        $body
    }};
}
