//! Passes of every cell, forward and backward.

use super::Drawn;
use bptt_kernels::PackedMatrix;
use bptt_kernels::cells::{
    Activations, Cell, Equations, Geometry, GruAfter, GruBefore, Hard, HardSigmoid, Leaky, Lstm,
    Projected, Vanilla,
};
use bptt_kernels::recurrence::{
    Backward, CellStates, Dims, Dropout, DropoutBack, Forward, Gates, Norm, NormBack, Recurrent,
    StepRows, Zoneout, ZoneoutBack, backward_scratch_len, forward_scratch_len,
};
use bptt_kernels::team::Pass;

/// The shares that zoneout keeps.
const RATES: [f32; 2] = [0.4, 0.2];

/// A cell whose vectors are to be drawn.
#[derive(Clone, Copy)]
pub(super) struct Which {
    number: usize,
    peepholes: bool,
    hard: bool,
}

impl Which {
    fn draw(drawn: &mut Drawn<'_>) -> Self {
        Self { number: drawn.choice(9), peepholes: drawn.flip(), hard: drawn.flip() }
    }

    pub(super) fn cell(self, vectors: &[f32]) -> Cell<'_> {
        let usual = Activations::Tanh;
        if !self.hard {
            return self.equations(usual, vectors).into();
        }
        let gates = Some(HardSigmoid::FIFTH);
        let hard = Hard { candidate: usual.into(), gates, cell_clip: 0.5, projection_clip: 0.25 };
        self.equations(hard, vectors).into()
    }

    fn equations<F: Copy>(self, activations: F, vectors: &[f32]) -> Equations<'_, F> {
        let peepholes = self.peepholes.then_some(vectors);
        let all = Lstm { activations, peepholes };
        let coupled = Lstm { activations, peepholes };
        match self.number {
            0 => Equations::Vanilla(Vanilla { activations }),
            1 => Equations::Leaky(Leaky { activations, alpha: vectors }),
            2 => Equations::LeakyLearned(Leaky { activations, alpha: vectors }),
            3 => Equations::GruAfter(GruAfter { activations, bias: vectors }),
            4 => Equations::GruBefore(GruBefore { activations }),
            5 => Equations::Lstm(all),
            6 => Equations::LstmCoupled(coupled),
            7 => Equations::LstmProjected(Projected(all)),
            _ => Equations::LstmCoupledProjected(Projected(coupled)),
        }
    }

    /// Vectors that the cell reads, or any where it reads none.
    fn vectors(self, drawn: &mut Drawn<'_>, hidden: usize) -> Vec<f32> {
        let blocks = match self.number {
            1..=3 => 1,
            5 | 7 if self.peepholes => 3,
            6 | 8 if self.peepholes => 2,
            _ => return Vec::new(),
        };
        drawn.floats(&[blocks, hidden])
    }
}

/// A cell, the sizes of its weights, and those that a pass is told of.
pub(super) struct Case {
    pub(super) which: Which,
    pub(super) geometry: Geometry,
    pub(super) made: Dims<'static>,
    pub(super) dims: Dims<'static>,
    pub(super) vectors: Vec<f32>,
}

pub(super) fn case(drawn: &mut Drawn<'_>) -> Case {
    let which = Which::draw(drawn);
    let geometry = which.cell(&[]).geometry();
    let hidden = drawn.size(24);
    let outputs = if geometry.projects { drawn.size(24) } else { hidden };
    let (steps, batch) = (drawn.size(5), drawn.size(14));
    let made = Dims { schedule: StepRows::dense(steps, batch), hidden, outputs };
    let [steps, batch, hidden] = [steps, batch, hidden].map(|size| drawn.near(size));
    let outputs = if geometry.projects { drawn.near(outputs) } else { hidden };
    let dims = Dims { schedule: StepRows::dense(steps, batch), hidden, outputs };
    drawn.demand((hidden, outputs) == (made.hidden, made.outputs));
    let vectors = which.vectors(drawn, hidden);
    Case { which, geometry, made, dims, vectors }
}

/// Delays from the longest, mostly, for `products` of each.
fn delays(drawn: &mut Drawn<'_>, products: usize) -> Vec<usize> {
    let mut delay = drawn.size(3);
    let mut delays = Vec::new();
    while delay > 0 {
        delays.extend([delay].repeat(products));
        delay -= drawn.size(3).min(delay);
    }
    if drawn.seldom() {
        let at = drawn.choice(delays.len());
        delays[at] = drawn.near(delays[at]);
    }
    let sorted = delays.is_sorted_by(|a, b| a >= b);
    drawn.demand(sorted && delays.last().is_some_and(|&last| last > 0));
    delays
}

pub(super) fn zeros(drawn: &Drawn<'_>, gates: usize, units: usize, depth: usize) -> PackedMatrix {
    PackedMatrix::zeros(drawn.isa, gates, units, depth).unwrap()
}

/// A second product's weights where a cell has one, mostly.
pub(super) fn second(
    drawn: &mut Drawn<'_>,
    geometry: &Geometry,
    (hidden, outputs): (usize, usize),
    turned: bool,
) -> Option<PackedMatrix> {
    let sizes = geometry.second_product(hidden, outputs);
    if drawn.seldom() {
        drawn.demand(sizes.is_none());
        return None;
    }
    let sizes = if turned { sizes?.turned() } else { sizes? };
    Some(zeros(drawn, 1, sizes.units, sizes.depth))
}

/// Keys of zoneout.
fn keys(drawn: &mut Drawn<'_>, dims: Dims) -> Vec<u32> {
    let right = drawn.product(&[dims.steps(), dims.batch(), 2]);
    vec![7; drawn.length(right)]
}

/// A forward pass of any kind.
pub fn forward(drawn: &mut Drawn<'_>) {
    let Case { which, geometry, made, dims, vectors } = case(drawn);
    let Dims { hidden, outputs, .. } = dims;
    let (steps, batch) = (dims.steps(), dims.batch());
    let delays = delays(drawn, 1);
    let weights: Vec<_> =
        delays.iter().map(|_| zeros(drawn, geometry.sums, made.hidden, made.outputs)).collect();
    let second = second(drawn, &geometry, (made.hidden, made.outputs), false);
    let second = second.as_ref();
    let recurrent = Recurrent { weights: &weights, delays: &delays, second };
    let history = delays[0];

    let stretch = drawn.stretch(steps);
    let (kind, inputs) = (drawn.choice(3), drawn.size(20));
    let (mut kept, mut x, mut bias) = (Vec::new(), Vec::new(), Vec::new());
    let mut stride = 0;
    let input = zeros(drawn, geometry.gates, made.hidden, inputs);
    match kind {
        0 => kept = drawn.floats(&[steps, batch, geometry.gates, hidden]),
        1 => {
            let row = drawn.product(&[geometry.gates, hidden]);
            let wider = row.unwrap_or(0) + 1 + drawn.choice(3);
            stride = drawn.near(wider);
            drawn.demand(row.is_some_and(|row| stride >= row));
            x = drawn.floats(&[stretch.len(), batch, stride]);
        }
        _ => {
            drawn.demand(geometry.fuses);
            x = drawn.floats(&[steps, batch, inputs]);
            bias = drawn.floats(&[geometry.gates, hidden]);
        }
    }
    let mut extra = match kind {
        0 => drawn.floats(&[steps, batch, geometry.extra, hidden]),
        _ if geometry.is_double() => drawn.floats(&[batch, geometry.extra, hidden]),
        _ => drawn.floats(&[0]),
    };
    let h0 = drawn.floats(&[history, batch, outputs]);
    let (mut h, h_stride) = drawn.rows([steps, batch], outputs);

    let zoneout = drawn.seldom();
    let keys = (zoneout && drawn.flip()).then(|| keys(drawn, dims));
    let zoneout = zoneout.then_some(Zoneout { rates: RATES, keys: keys.as_deref() });
    let cells = usize::from(geometry.cells);
    let states = if geometry.cells { 1 + drawn.choice(3) } else { drawn.choice(4) };
    let (mut c, mut other) = (Vec::new(), Vec::new());
    match states {
        0 => {}
        1 => {
            other = drawn.floats(&[cells, batch, hidden]);
            c = drawn.floats(&[steps, cells, batch, hidden]);
        }
        2 => {
            c = drawn.floats(&[cells, batch, hidden]);
            drawn.demand(!geometry.cells || zoneout.is_none());
        }
        _ => {
            c = drawn.floats(&[cells, batch, hidden]);
            other = drawn.floats(&[cells, batch, hidden]);
        }
    }

    let (mut mask, mut before, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let dropout = drawn.seldom();
    if dropout {
        mask = drawn.floats(&[batch, outputs]);
        before = drawn.floats(&[history, batch, outputs]);
        seen = drawn.floats(&[steps, batch, outputs]);
    }
    let normed = drawn.seldom();
    let (mut gain, mut norm_bias) = (Vec::new(), Vec::new());
    let mut normal = [const { Vec::new() }; 3];
    if normed {
        let rows = if kind == 0 { steps } else { 1 };
        gain = drawn.floats(&[geometry.norms, hidden]);
        norm_bias = drawn.floats(&[geometry.gates, hidden]);
        normal = [
            drawn.floats(&[rows, batch, geometry.gates, hidden]),
            drawn.floats(&[rows, batch, geometry.norms - geometry.gates, hidden]),
            drawn.floats(&[rows, batch, geometry.norms]),
        ];
    }
    let input_depth = if kind == 2 { inputs } else { 0 };
    let least = forward_scratch_len(&geometry, dims, delays.len(), input_depth).ok();
    let mut scratch = drawn.room(least);

    let [normed_all, normed_extra, inverse] = &mut normal;
    let pass = Forward {
        dims,
        stretch,
        cell: which.cell(&vectors),
        recurrent,
        gates: match kind {
            0 => Gates::Keep(&mut kept),
            1 => Gates::Discard { z: &x, stride },
            _ => Gates::Fused { x: &x, input: &input, bias: &bias },
        },
        extra: &mut extra,
        h0: &h0,
        h: &mut h,
        h_stride,
        cells: match states {
            0 => CellStates::None,
            1 => CellStates::Keep { c0: &other, c: &mut c },
            2 => CellStates::InPlace(&mut c),
            _ => CellStates::InTurns { c: &mut c, other: &mut other },
        },
        zoneout,
        dropout: dropout.then_some(Dropout { mask: &mask, before: &before, seen: &mut seen }),
        norm: normed.then_some(Norm {
            epsilon: 1e-5,
            gain: &gain,
            bias: &norm_bias,
            normal: normed_all,
            normal_extra: normed_extra,
            inverse,
        }),
        scratch: &mut scratch,
    };
    let result = pass.run(drawn.isa, &mut Pass::serial());
    let [normal, normal_extra, inverse] = &normal;
    let written = [&kept, &extra, &h, &c, &other, &seen, normal, normal_extra, inverse, &scratch];
    drawn.check(result, &written.map(|slice| &slice[..]));
}

/// A backward pass of any kind.
pub fn backward(drawn: &mut Drawn<'_>) {
    let Case { which, geometry, made, dims, vectors } = case(drawn);
    let Dims { hidden, outputs, .. } = dims;
    let (steps, batch) = (dims.steps(), dims.batch());
    let delays = delays(drawn, geometry.back.len());
    let sources = geometry.back.iter().cycle().take(delays.len());
    let weights: Vec<_> = sources
        .map(|source| zeros(drawn, 1, made.outputs, source.blocks() * made.hidden))
        .collect();
    let second = second(drawn, &geometry, (made.hidden, made.outputs), true);
    let second = second.as_ref();
    let recurrent = Recurrent { weights: &weights, delays: &delays, second };
    let history = delays[0];
    drawn.demand(!geometry.carries || history == 1);

    let mut gates = drawn.floats(&[steps, batch, geometry.gates, hidden]);
    let mut extra = drawn.floats(&[steps, batch, geometry.extra, hidden]);
    let h0 = drawn.floats(&[history, batch, outputs]);
    let (h, h_stride) = drawn.rows([steps, batch], outputs);
    let cells = usize::from(geometry.cells);
    let c0 = drawn.floats(&[cells, batch, hidden]);
    let c = drawn.floats(&[cells, steps, batch, hidden]);
    let dy = drawn.flip().then(|| drawn.rows([steps, batch], outputs));
    let mut dh = drawn.floats(&[history, batch, outputs]);
    let mut dc = drawn.floats(&[cells, batch, hidden]);
    let mut dh_all = drawn.floats(&[usize::from(geometry.projects), steps, batch, outputs]);
    let zoneout = drawn.seldom();
    let (mut keys_given, mut dh_kept, mut dc_kept) = (Vec::new(), Vec::new(), Vec::new());
    if zoneout {
        keys_given = keys(drawn, dims);
        dh_kept = drawn.floats(&[batch, outputs]);
        dc_kept = drawn.floats(&[cells, batch, hidden]);
    }
    let rates = Zoneout { rates: RATES, keys: Some(&keys_given) };
    let dropout = drawn.seldom();
    let (mut mask, mut before, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    if dropout {
        mask = drawn.floats(&[batch, outputs]);
        before = drawn.floats(&[history, batch, outputs]);
        seen = drawn.floats(&[steps, batch, outputs]);
    }
    let mut c_made =
        if drawn.seldom() { drawn.floats(&[steps, cells, batch, hidden]) } else { Vec::new() };
    let normed = drawn.seldom();
    let mut gain = Vec::new();
    let mut normal = [const { Vec::new() }; 5];
    if normed {
        let apart = geometry.norms - geometry.gates;
        gain = drawn.floats(&[geometry.norms, hidden]);
        normal = [
            drawn.floats(&[steps, batch, geometry.gates, hidden]),
            drawn.floats(&[steps, batch, apart, hidden]),
            drawn.floats(&[steps, batch, geometry.norms]),
            drawn.floats(&[steps, batch, geometry.gates, hidden]),
            drawn.floats(&[steps, batch, apart, hidden]),
        ];
    }
    let terms = delays.len() / geometry.back.len();
    let mut scratch = drawn.room(backward_scratch_len(&geometry, dims, terms).ok());

    let [normed_all, normed_extra, inverse, da, da_extra] = &mut normal;
    let pass = Backward {
        dims,
        cell: which.cell(&vectors),
        recurrent,
        gates: &mut gates,
        extra: &mut extra,
        h0: &h0,
        h: &h,
        h_stride,
        c0: &c0,
        c: &c,
        dy: dy.as_ref().map(|(dy, _)| &dy[..]),
        dy_stride: dy.as_ref().map_or(0, |(_, stride)| *stride),
        dh: &mut dh,
        dc: &mut dc,
        dh_all: &mut dh_all,
        zoneout: zoneout.then_some(ZoneoutBack {
            zoneout: rates,
            dh_kept: &mut dh_kept,
            dc_kept: &mut dc_kept,
        }),
        dropout: dropout.then_some(DropoutBack { mask: &mask, before: &before, seen: &seen }),
        c_made: &mut c_made,
        norm: normed.then_some(NormBack {
            gain: &gain,
            normal: normed_all,
            normal_extra: normed_extra,
            inverse,
            da,
            da_extra,
        }),
        scratch: &mut scratch,
    };
    let result = pass.run(drawn.isa, &mut Pass::serial());
    let [.., da, da_extra] = &normal;
    let written =
        [&gates, &extra, &dh, &dc, &dh_all, &dh_kept, &dc_kept, &c_made, da, da_extra, &scratch];
    drawn.check(result, &written.map(|slice| &slice[..]));
}
