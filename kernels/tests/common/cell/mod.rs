//! Drawn cells, and passes over them in buffers of the caller's making. Knows what passes are given;
//! must not know how they run.

mod backward;
mod forward;

use bptt_kernels::cells::{
    Activation, Activations, Cell, Equations, Geometry, GruAfter, GruBefore, Hard, HardSigmoid,
    Leaky, Lstm, Projected, Vanilla,
};
use bptt_kernels::recurrence::{Dims, RaggedRows, StepRows};
use bptt_kernels::team::{Pass, Team};
use bptt_reference::sample::uniform;

/// The functions of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Functions {
    Usual(Activations),
    Hard(Hard),
}

impl Functions {
    /// A hard sigmoid for the gates and ReLU for the candidate, and limits that some states reach.
    pub const LIMITED: Self = Self::Hard(Hard {
        candidate: Activation::Usual(Activations::Relu),
        gates: Some(HardSigmoid::SIXTH),
        cell_clip: 0.5,
        projection_clip: 0.25,
    });
}

impl From<Activations> for Functions {
    fn from(usual: Activations) -> Self {
        Self::Usual(usual)
    }
}

/// A cell, without its vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Vanilla,
    Leaky { learned: bool },
    GruAfter,
    GruBefore,
    Lstm { peepholes: bool, coupled: bool, projected: bool },
}

impl Which {
    /// An LSTM without options.
    pub const LSTM: Self = Self::Lstm { peepholes: false, coupled: false, projected: false };

    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::Vanilla, Self::GruAfter, Self::GruBefore];
        all.extend([false, true].map(|learned| Self::Leaky { learned }));
        all.extend((0..8).map(|options| {
            let [peepholes, coupled, projected] = [1, 2, 4].map(|bit| options & bit != 0);
            Self::Lstm { peepholes, coupled, projected }
        }));
        all
    }

    /// The kernel's cell with these functions and vectors.
    pub fn cell(self, functions: impl Into<Functions>, vectors: &[f32]) -> Cell<'_> {
        match functions.into() {
            Functions::Usual(usual) => self.equations(usual, vectors).into(),
            Functions::Hard(hard) => self.equations(hard, vectors).into(),
        }
    }

    fn equations<F: Copy>(self, activations: F, vectors: &[f32]) -> Equations<'_, F> {
        match self {
            Self::Vanilla => Equations::Vanilla(Vanilla { activations }),
            Self::Leaky { learned: false } => {
                Equations::Leaky(Leaky { activations, alpha: vectors })
            }
            Self::Leaky { learned: true } => {
                Equations::LeakyLearned(Leaky { activations, alpha: vectors })
            }
            Self::GruAfter => Equations::GruAfter(GruAfter { activations, bias: vectors }),
            Self::GruBefore => Equations::GruBefore(GruBefore { activations }),
            Self::Lstm { peepholes, coupled, projected } => {
                let peepholes = peepholes.then_some(vectors);
                let (all, three) =
                    (Lstm { activations, peepholes }, Lstm { activations, peepholes });
                match (coupled, projected) {
                    (false, false) => Equations::Lstm(all),
                    (true, false) => Equations::LstmCoupled(three),
                    (false, true) => Equations::LstmProjected(Projected(all)),
                    (true, true) => Equations::LstmCoupledProjected(Projected(three)),
                }
            }
        }
    }

    pub fn geometry(self) -> Geometry {
        self.cell(Activations::Tanh, &[]).geometry()
    }

    /// Blocks of H that the cell reads.
    pub fn vectors(self) -> usize {
        match self {
            Self::Leaky { .. } | Self::GruAfter => 1,
            Self::Lstm { peepholes: true, coupled, .. } => 3 - usize::from(coupled),
            _ => 0,
        }
    }

    /// The sizes of a pass; a projection is to two features more than half of the units.
    pub fn dims(self, steps: usize, batch: usize, hidden: usize) -> Dims<'static> {
        let outputs = if self.geometry().projects { hidden / 2 + 2 } else { hidden };
        Dims { schedule: StepRows::dense(steps, batch), hidden, outputs }
    }
}

/// All that the passes over a cell are given.
#[derive(Clone, Debug)]
pub struct Case {
    pub which: Which,
    pub dims: Dims<'static>,
    pub inputs: usize,
    pub u: Vec<f32>,
    pub w: Vec<f32>,
    pub b: Vec<f32>,
    pub p: Vec<f32>,
    pub vectors: Vec<f32>,
    pub x: Vec<f32>,
    pub h0: Vec<f32>,
    pub c0: Vec<f32>,
    pub dy: Vec<f32>,
    pub dh: Vec<f32>,
    pub dc: Vec<f32>,
    /// The delays of the recurrent products, the longest first; W has a block for each.
    pub delays: &'static [usize],
    /// The keys of zoneout, two words for each row.
    pub keys: Vec<u32>,
    /// The mask of dropout.
    pub mask: Vec<f32>,
    /// Whether there is zoneout, dropout and normalisation; single steps have zoneout alone.
    pub noisy: bool,
    /// The threads of batched passes.
    pub threads: usize,
    /// Floats between the rows of h, and between those of dy.
    pub gap: usize,
    /// The steps of the first of two stretches in which forward passes run, or 0 for one.
    pub cut: usize,
}

/// The shares that zoneout keeps.
const RATES: [f32; 2] = [0.4, 0.2];

/// What a forward pass has left.
#[derive(Clone, Debug)]
pub struct Kept {
    pub gates: Vec<f32>,
    pub extra: Vec<f32>,
    pub h: Vec<f32>,
    pub c: Vec<f32>,
    /// What the products saw of h, where that was not all.
    pub seen: Vec<f32>,
    /// What was normalised, where it was: of the gates, of the sums apart, and the deviations.
    pub normal: [Vec<f32>; 3],
}

/// How a forward pass is given the input's part, and what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Keep,
    Discard,
    Fused,
}

impl Variant {
    /// Those that a cell has.
    pub fn of(which: Which) -> &'static [Self] {
        let all = &[Self::Keep, Self::Discard, Self::Fused];
        if which.geometry().fuses { all } else { &all[..2] }
    }
}

impl Case {
    /// Drawn evenly, parameters up to ±`weights`, the rest up to ±1.
    pub fn draw(which: Which, inputs: usize, dims: Dims<'static>, seed: u64, weights: f32) -> Self {
        Self::with_delays(which, &[1], inputs, dims, seed, weights)
    }

    /// As `draw`, for a cell without a state of its own and with these delays.
    pub fn with_delays(
        which: Which,
        delays: &'static [usize],
        inputs: usize,
        dims: Dims<'static>,
        seed: u64,
        weights: f32,
    ) -> Self {
        let draw = |k: u64, len, limit| uniform(seed.wrapping_add(k << 32), len, limit);
        let (geometry, Dims { hidden, outputs, .. }) = (which.geometry(), dims);
        let (steps, batch) = (dims.steps(), dims.batch());
        let (rows, state) = (geometry.gates * hidden, batch * outputs);
        let before = delays[0] * state;
        let cells = if geometry.cells { batch * hidden } else { 0 };
        Self {
            which,
            dims,
            inputs,
            u: draw(1, rows * inputs, weights),
            w: draw(2, delays.len() * rows * outputs, weights),
            b: draw(3, rows, weights),
            p: draw(4, if geometry.projects { hidden * outputs } else { 0 }, weights),
            vectors: draw(5, which.vectors() * hidden, weights),
            x: draw(6, steps * batch * inputs, 1.0),
            h0: draw(7, before, 1.0),
            c0: draw(8, cells, 1.0),
            dy: draw(9, steps * state, 1.0),
            dh: draw(10, before, 1.0),
            dc: draw(11, cells, 1.0),
            delays,
            keys: (0..2 * (steps * batch) as u32).collect(),
            mask: uniform(12, state, 1.0),
            noisy: false,
            threads: 1,
            gap: 0,
            cut: 0,
        }
    }

    /// Joins cases of single sequences with the same parameters, the longest first, to a case of
    /// all of them.
    pub fn joined_with(parts: &[Self]) -> Self {
        let first = &parts[0];
        let lens: Vec<_> = parts.iter().map(Self::rows).collect();
        let counts = (0..lens[0]).map(|step| lens.iter().filter(|&&len| len > step).count());
        let mut starts = vec![0];
        for count in counts.clone() {
            starts.push(starts[starts.len() - 1] + count);
        }
        let rows = RaggedRows::new(starts, parts.len()).unwrap();
        let schedule = crate::common::keep(rows).step_rows();
        let rows = |width: usize, of: fn(&Self) -> &[f32]| -> Vec<f32> {
            let row = |(step, n): (usize, usize)| &of(&parts[n])[step * width..][..width];
            let places = counts.clone().enumerate();
            let places = places.flat_map(|(step, count)| (0..count).map(move |n| (step, n)));
            places.flat_map(row).copied().collect()
        };
        let states = |width: usize, times: usize, of: fn(&Self) -> &[f32]| -> Vec<f32> {
            let at = move |nth: usize, n: usize| &of(&parts[n])[nth * width..][..width];
            let all = (0..times).flat_map(|nth| (0..parts.len()).map(move |n| at(nth, n)));
            all.flatten().copied().collect()
        };
        let Dims { hidden, outputs, .. } = first.dims;
        let (history, cells) = (first.delays[0], first.c0.len());
        let keys = rows(2, |part| bytemuck::cast_slice(&part.keys));
        Self {
            dims: Dims { schedule, hidden, outputs },
            x: rows(first.inputs, |part| &part.x),
            h0: states(outputs, history, |part| &part.h0),
            c0: states(cells, 1, |part| &part.c0),
            dy: rows(outputs, |part| &part.dy),
            dh: states(outputs, history, |part| &part.dh),
            dc: states(cells, 1, |part| &part.dc),
            keys: bytemuck::cast_slice(&keys).to_vec(),
            mask: states(outputs, 1, |part| &part.mask),
            ..first.clone()
        }
    }

    /// Runs a pass on the threads, however little there is to do.
    fn on_threads<R>(&self, pass: impl FnOnce(&mut Pass<'_>) -> R) -> R {
        Team::new(self.threads).unwrap().pass(usize::MAX, pass)
    }

    /// Floats of what is normalised in so many rows, of the sums apart, and of deviations.
    pub fn norm_lens(&self, rows: usize) -> [usize; 3] {
        let geometry = self.which.geometry();
        let rows = if self.noisy { rows } else { 0 };
        let apart = geometry.norms - geometry.gates;
        let hidden = self.dims.hidden;
        [rows * geometry.gates * hidden, rows * apart * hidden, rows * geometry.norms]
    }

    /// The keys of zoneout, the mask of dropout, and what it leaves of h₀.
    fn noise(&self) -> [Vec<f32>; 3] {
        if !self.noisy {
            return [const { Vec::new() }; 3];
        }
        let keys = bytemuck::cast_slice(&self.keys).to_vec();
        let seen = self.h0.iter().zip(self.mask.iter().cycle()).map(|(h, m)| h * m).collect();
        [keys, self.mask.clone(), seen]
    }

    /// Rows of outputs with the gap between them, and none after the last.
    fn spread(&self, rows: &[f32]) -> Vec<f32> {
        let gap = vec![f32::NAN; self.gap];
        rows.chunks(self.dims.outputs).collect::<Vec<_>>().join(&gap[..])
    }

    /// The rows of all steps.
    pub fn rows(&self) -> usize {
        self.dims.schedule.start(self.dims.steps())
    }
}
