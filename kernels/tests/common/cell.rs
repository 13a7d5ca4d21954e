//! Drawn cells, and passes over them in buffers of the caller's making.

use super::{by_columns, by_rows, filled};
use bptt_kernels::cells::{
    Activations, BackwardLhs, Cell, Geometry, GruAfter, GruBefore, Leaky, Lstm, Projected, Vanilla,
};
use bptt_kernels::gemm::{self, Start, gemm};
use bptt_kernels::recurrence::{
    Backward, CellStates, Dims, Dropout, DropoutBack, Forward, Gates, Norm, NormBack, RaggedRows,
    Recurrent, Single, StepRows, Zoneout, ZoneoutBack, backward_scratch_len, forward_scratch_len,
    single_room,
};
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::{Dense, Isa, PackedMatrix};
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

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

    /// The kernel's cell with these vectors.
    pub fn cell(self, activations: Activations, vectors: &[f32]) -> Cell<'_> {
        match self {
            Self::Vanilla => Cell::Vanilla(Vanilla { activations }),
            Self::Leaky { learned: false } => Cell::Leaky(Leaky { activations, alpha: vectors }),
            Self::Leaky { learned: true } => {
                Cell::LeakyLearned(Leaky { activations, alpha: vectors })
            }
            Self::GruAfter => Cell::GruAfter(GruAfter { activations, bias: vectors }),
            Self::GruBefore => Cell::GruBefore(GruBefore { activations }),
            Self::Lstm { peepholes, coupled, projected } => {
                let peepholes = peepholes.then_some(vectors);
                let (all, three) =
                    (Lstm { activations, peepholes }, Lstm { activations, peepholes });
                match (coupled, projected) {
                    (false, false) => Cell::Lstm(all),
                    (true, false) => Cell::LstmCoupled(three),
                    (false, true) => Cell::LstmProjected(Projected(all)),
                    (true, true) => Cell::LstmCoupledProjected(Projected(three)),
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

    /// ∂L/∂h of each sequence's last D steps, the last one last, in the order of the kernel, which
    /// has step t at index t mod D.
    fn in_turns(&self, dh: &[f32]) -> Vec<f32> {
        let Dims { schedule, outputs, .. } = self.dims;
        let (batch, history) = (schedule.batch(), self.delays[0]);
        let mut turned = vec![f32::NAN; dh.len()];
        for n in 0..batch {
            let steps = (0..schedule.steps()).filter(|&step| schedule.count(step) > n).count();
            for nth in 0..history {
                let row = |index: usize| (index * batch + n) * outputs;
                let to = row((steps + nth) % history);
                turned[to..to + outputs].copy_from_slice(&dh[row(nth)..][..outputs]);
            }
        }
        turned
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
        let schedule = Box::leak(Box::new(rows)).step_rows();
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

    /// The rows without it.
    fn joined(&self, spread: &[f32]) -> Vec<f32> {
        let width = self.dims.outputs;
        spread.chunks(width + self.gap).flat_map(|row| &row[..width]).copied().collect()
    }

    /// `b + U x`, `[τ, B, G, H]`.
    pub fn input_part(&self, isa: Isa) -> Vec<f32> {
        let (rows, gates) = (self.rows(), self.which.geometry().gates);
        let mut z = filled(rows * self.b.len());
        let input = by_rows(isa, gates, self.inputs, &self.u);
        let mut scratch = filled(gemm::scratch_len(rows, self.inputs).unwrap());
        gemm(isa, rows, &self.x, &input, Start::Bias(&self.b), &mut z, &mut scratch).unwrap();
        z
    }

    /// The rows of all steps.
    pub fn rows(&self) -> usize {
        self.dims.schedule.start(self.dims.steps())
    }

    /// The recurrent weights of forward passes, one for each delay, and the second.
    fn forward_weights(&self, isa: Isa) -> (Vec<PackedMatrix>, Option<PackedMatrix>) {
        let (geometry, Dims { hidden, outputs, .. }) = (self.which.geometry(), self.dims);
        let of_delay = geometry.sums * hidden * outputs;
        let (first, rest) = self.w.split_at(self.delays.len() * of_delay);
        let rest = if geometry.projects { &self.p[..] } else { rest };
        let second = geometry.is_double().then(|| by_rows(isa, 1, hidden, rest));
        let first = first.chunks(of_delay).map(|w| by_rows(isa, geometry.sums, outputs, w));
        (first.collect(), second)
    }

    /// Those of backward passes.
    fn back_weights(&self, isa: Isa) -> (Vec<PackedMatrix>, Option<PackedMatrix>) {
        let (geometry, Dims { hidden, outputs, .. }) = (self.which.geometry(), self.dims);
        let mut rest = &self.w[..];
        let mut weights = Vec::new();
        for _ in self.delays {
            for source in geometry.back.iter().copied().map(BackwardLhs::blocks) {
                let (rows, tail) = rest.split_at(source * hidden * outputs);
                weights.push(by_columns(isa, source * hidden, rows));
                rest = tail;
            }
        }
        let (rest, depth) = if geometry.projects { (&self.p[..], outputs) } else { (rest, hidden) };
        (weights, geometry.is_double().then(|| by_columns(isa, depth, rest)))
    }

    /// What a forward pass has left on buffers that `make` makes: without `Keep` no gates,
    /// and the last of the cell states.
    pub fn forward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        activations: Activations,
        variant: Variant,
        make: impl Fn(&[f32]) -> B,
    ) -> Kept {
        let (keep, dims, geometry) = (variant == Variant::Keep, self.dims, self.which.geometry());
        let mut z = make(&self.input_part(isa));
        let (row, stride) = (self.b.len(), self.b.len() + 3);
        let spread: Vec<f32> =
            z.chunks(row).flat_map(|row| row.iter().copied().chain([f32::NAN; 3])).collect();
        let spread = make(&spread);
        let (x, bias, h0, c0) = (make(&self.x), make(&self.b), make(&self.h0), make(&self.c0));
        let vectors = make(&self.vectors);
        let rows = self.rows();
        let mut h = make(&self.spread(&filled(self.dy.len())));
        let cells = if geometry.cells { rows * dims.hidden } else { 0 };
        let mut states = make(&filled(cells));
        let mut state = make(&self.c0);
        let mut other = make(&self.c0);
        let extra = match (keep, geometry.is_double()) {
            (true, _) => rows,
            (false, true) => dims.batch(),
            (false, false) => 0,
        };
        let mut extra = make(&filled(extra * geometry.extra * dims.hidden));
        let input = by_rows(isa, geometry.gates, self.inputs, &self.u);
        let (recurrent, second) = self.forward_weights(isa);
        let (weights, second) = (&recurrent[..], second.as_ref());
        let recurrent = Recurrent { weights, delays: self.delays, second };
        let delays = self.delays.len();
        let inputs = if variant == Variant::Fused { self.inputs } else { 0 };
        let mut scratch =
            make(&filled(forward_scratch_len(&geometry, dims, delays, inputs).unwrap()));
        let cell = self.which.cell(activations, &vectors);
        let [keys, mask, seen0] = self.noise().map(|values| make(&values));
        let mut seen = make(&filled(if self.noisy { self.dy.len() } else { 0 }));
        let keys = Some(bytemuck::cast_slice(&keys));
        let zoneout = self.noisy.then_some(Zoneout { rates: RATES, keys });
        let at_once = if keep { rows } else { dims.batch() };
        let [gain, norm_bias] = [geometry.norms, geometry.gates]
            .map(|blocks| make(&uniform(13, blocks * dims.hidden, 1.0)));
        let [mut normal, mut normal_extra, mut inverse] =
            self.norm_lens(at_once).map(|len| make(&filled(len)));
        let stretches = [0..self.cut, self.cut..dims.steps()];
        for stretch in stretches.into_iter().filter(|stretch| !stretch.is_empty()) {
            let norm = Norm {
                epsilon: 1e-2,
                gain: &gain,
                bias: &norm_bias,
                normal: &mut normal,
                normal_extra: &mut normal_extra,
                inverse: &mut inverse,
            };
            let dropout = Dropout { mask: &mask, before: &seen0, seen: &mut seen };
            let forward = Forward {
                dims,
                stretch,
                cell,
                recurrent,
                gates: match variant {
                    Variant::Keep => Gates::Keep(&mut z),
                    Variant::Discard => Gates::Discard { z: &spread, stride },
                    Variant::Fused => Gates::Fused { x: &x, input: &input, bias: &bias },
                },
                extra: &mut extra,
                h0: &h0,
                h: &mut h,
                h_stride: dims.outputs + self.gap,
                cells: match (geometry.cells, keep) {
                    (false, _) => CellStates::None,
                    (true, true) => CellStates::Keep { c0: &c0, c: &mut states },
                    (true, false) if self.noisy => {
                        CellStates::InTurns { c: &mut state, other: &mut other }
                    }
                    (true, false) => CellStates::InPlace(&mut state),
                },
                zoneout,
                dropout: self.noisy.then_some(dropout),
                norm: self.noisy.then_some(norm),
                scratch: &mut scratch,
            };
            self.on_threads(|pass| forward.run(isa, pass)).unwrap();
        }
        Kept {
            gates: if keep { z.to_vec() } else { Vec::new() },
            extra: if keep { extra.to_vec() } else { Vec::new() },
            h: self.joined(&h),
            c: match keep {
                true => states.to_vec(),
                false if self.noisy && dims.steps() % 2 == 1 => other.to_vec(),
                false => state.to_vec(),
            },
            seen: seen.to_vec(),
            normal: [normal, normal_extra, inverse].map(|kept| kept.to_vec()),
        }
    }

    /// `h`, the last cell state and the outputs of a dense layer after each step, of a batch
    /// of one that goes step by step, on buffers that `make` makes.
    pub fn singly<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        activations: Activations,
        dense: &Dense,
        outputs: usize,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 3] {
        let (geometry, hidden) = (self.which.geometry(), self.dims.hidden);
        assert_eq!(self.dims.batch(), 1);
        let input = by_rows(isa, geometry.gates, self.inputs, &self.u);
        let (recurrent, second) = self.forward_weights(isa);
        let recurrent = Recurrent { second: second.as_ref(), ..Recurrent::of(&recurrent[0]) };
        let (mut h, mut c) = (make(&self.h0), make(&self.c0));
        let (mut next, bias) = (make(&filled(self.dims.outputs)), make(&self.b));
        let [mut z, mut extra] = single_room(&geometry, hidden).map(|len| make(&filled(len)));
        let vectors = make(&self.vectors);
        let (mut states, mut all) = (Vec::new(), Vec::new());
        for (t, x) in self.x.chunks(self.inputs).enumerate() {
            let (x, mut o) = (make(x), make(&filled(outputs)));
            Single {
                hidden,
                cell: &self.which.cell(activations, &vectors),
                input: &input,
                recurrent,
                bias: &bias,
                x: &x,
                h: &mut h,
                c: &mut c,
                next: &mut next,
                z: &mut z,
                extra: &mut extra,
                backwards: t % 2 == 1,
                output: Some(dense),
                o: &mut o,
            }
            .run(isa)
            .unwrap();
            states.extend_from_slice(&h);
            all.extend_from_slice(&o);
        }
        [states, c.to_vec(), all]
    }

    /// dz, the extra block, ∂L/∂h₀, ∂L/∂s₀ and all of ∂L/∂h of a backward pass on buffers that
    /// `make` makes, over what a forward pass kept.
    pub fn backward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        activations: Activations,
        kept: &Kept,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 5] {
        let (geometry, dims) = (self.which.geometry(), self.dims);
        let (weights, second) = self.back_weights(isa);
        let of_delay = geometry.back.len();
        let delays: Vec<_> = self.delays.iter().flat_map(|&delay| vec![delay; of_delay]).collect();
        let recurrent = Recurrent { weights: &weights, delays: &delays, second: second.as_ref() };
        let (mut gates, mut extra) = (make(&kept.gates), make(&kept.extra));
        let (h0, h) = (make(&self.h0), make(&self.spread(&kept.h)));
        let (c0, c) = (make(&self.c0), make(&kept.c));
        let vectors = make(&self.vectors);
        let (mut dh, mut dc) = (make(&self.in_turns(&self.dh)), make(&self.dc));
        let dy = make(&self.spread(&self.dy));
        let all = if geometry.projects { self.dy.len() } else { 0 };
        let mut dh_all = make(&filled(all));
        let mut scratch =
            make(&filled(backward_scratch_len(&geometry, dims, self.delays.len()).unwrap()));
        let [keys, mask, seen0] = self.noise().map(|values| make(&values));
        let seen = make(&kept.seen);
        let noise = |len: usize| make(&filled(if self.noisy { len } else { 0 }));
        let (mut dh_kept, mut dc_kept) = (noise(self.mask.len()), noise(self.dc.len()));
        let mut c_made = noise(kept.c.len());
        let zoneout = Zoneout { rates: RATES, keys: Some(bytemuck::cast_slice(&keys)) };
        let zoneout = ZoneoutBack { zoneout, dh_kept: &mut dh_kept, dc_kept: &mut dc_kept };
        let dropout = DropoutBack { mask: &mask, before: &seen0, seen: &seen };
        let gain = make(&uniform(13, geometry.norms * dims.hidden, 1.0));
        let lens = self.norm_lens(self.rows());
        let [normal, normal_extra, inverse] = &kept.normal;
        let [normal, normal_extra, inverse] =
            [normal, normal_extra, inverse].map(|values| make(values));
        let [mut da, mut da_extra] = [lens[0], lens[1]].map(|len| make(&filled(len)));
        let norm = NormBack {
            gain: &gain,
            normal: &normal,
            normal_extra: &normal_extra,
            inverse: &inverse,
            da: &mut da,
            da_extra: &mut da_extra,
        };
        let backward = Backward {
            dims,
            cell: self.which.cell(activations, &vectors),
            recurrent,
            gates: &mut gates,
            extra: &mut extra,
            h0: &h0,
            h: &h,
            h_stride: dims.outputs + self.gap,
            c0: &c0,
            c: &c,
            dy: Some(&dy),
            dy_stride: dims.outputs + self.gap,
            dh: &mut dh,
            dc: &mut dc,
            dh_all: &mut dh_all,
            zoneout: self.noisy.then_some(zoneout),
            dropout: self.noisy.then_some(dropout),
            norm: self.noisy.then_some(norm),
            c_made: &mut c_made,
            scratch: &mut scratch,
        };
        self.on_threads(|pass| backward.run(isa, pass)).unwrap();
        [gates, extra, dh, dc, dh_all].map(|buffer| buffer.to_vec())
    }
}
