//! Drawn scans, and passes over them in buffers of the caller's making. Knows what scans are given;
//! must not know how they run.

use super::filled;
use bptt_kernels::Isa;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{RaggedRows, StepRows};
use bptt_kernels::scan::{Pooling, Scan, ScanBackward, ScanForward, ScanGeometry};
use bptt_kernels::team::Team;
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

/// All cells, with each option that is a kernel of its own, and each function that is not.
pub fn scans() -> Vec<Scan> {
    let mut all = Vec::new();
    for flag in [false, true] {
        all.extend([Scan::MinGru { positive: flag }, Scan::MinLstm { positive: flag }]);
        all.push(Scan::Sru { fourth: flag });
    }
    let poolings = [Pooling::Forget, Pooling::ForgetOutput, Pooling::ForgetInputOutput];
    all.extend(poolings.map(Scan::Qrnn));
    all.extend([Activations::Tanh, Activations::Relu].map(|phi| Scan::IndRnn(phi.into())));
    all.push(Scan::RgLru);
    all
}

/// What a scan is given, with a gap after each row of outputs and of ∂L/∂y.
#[derive(Clone, Debug)]
pub struct ScanCase {
    pub cell: Scan,
    pub schedule: StepRows<'static>,
    pub hidden: usize,
    pub z: Vec<f32>,
    pub x: Vec<f32>,
    pub vectors: Vec<f32>,
    pub state: Vec<f32>,
    pub dy: Vec<f32>,
    pub dstate: Vec<f32>,
    pub dvectors: Vec<f32>,
    pub threads: usize,
    pub gap: usize,
    /// The steps of the first of two stretches.
    pub cut: usize,
}

/// What a forward scan leaves.
#[derive(Clone, Debug)]
pub struct Scanned {
    pub gates: Vec<f32>,
    pub state: Vec<f32>,
    pub c: Vec<f32>,
    pub h: Vec<f32>,
}

impl ScanCase {
    /// Drawn evenly up to ±1, pre-activations up to ±`z`. A step's rate is below 0, as that of an
    /// RG-LRU has to be.
    pub fn draw(cell: Scan, schedule: StepRows<'static>, hidden: usize, seed: u64, z: f32) -> Self {
        let ScanGeometry { gates, vectors, learned, input, .. } = cell.geometry();
        let (rows, batch) = (schedule.start(schedule.steps()), schedule.batch());
        let draw = |k: u64, len, limit| uniform(seed.wrapping_add(k << 32), len, limit);
        let mut vectors = draw(3, vectors * hidden, 1.0);
        if cell == Scan::RgLru {
            vectors.iter_mut().for_each(|rate| *rate = -rate.abs());
        }
        Self {
            cell,
            schedule,
            hidden,
            z: draw(1, rows * gates * hidden, z),
            x: draw(2, if input { rows * hidden } else { 0 }, 1.0),
            vectors,
            state: draw(4, batch * hidden, 1.0),
            dy: draw(5, rows * hidden, 1.0),
            dstate: draw(6, batch * hidden, 1.0),
            dvectors: draw(7, learned * hidden, 1.0),
            threads: 1,
            gap: 0,
            cut: 0,
        }
    }

    /// The schedule of sequences of these lengths.
    pub fn schedule(mut lengths: Vec<usize>) -> StepRows<'static> {
        lengths.sort_by(|a, b| b.cmp(a));
        let mut starts = vec![0];
        for step in 0..lengths[0] {
            let count = lengths.iter().filter(|&&len| len > step).count();
            starts.push(starts[step] + count);
        }
        super::keep(RaggedRows::new(starts, lengths.len()).unwrap()).step_rows()
    }

    pub fn rows(&self) -> usize {
        self.schedule.start(self.schedule.steps())
    }

    fn stretches(&self) -> [std::ops::Range<usize>; 2] {
        let steps = self.schedule.steps();
        [0..self.cut.min(steps), self.cut.min(steps)..steps]
    }

    /// Rows with a gap between them, and none after the last.
    fn spread(&self, rows: &[f32], width: usize) -> Vec<f32> {
        let gap = vec![f32::NAN; self.gap];
        rows.chunks(width).collect::<Vec<_>>().join(&gap[..])
    }

    fn joined(&self, spread: &[f32]) -> Vec<f32> {
        let rows = spread.chunks(self.hidden + self.gap);
        rows.flat_map(|row| &row[..self.hidden]).copied().collect()
    }

    /// A forward scan on buffers that `make` makes. Without `keep` the gates are not stored, and
    /// neither are the cell states.
    pub fn forward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        keep: bool,
        make: impl Fn(&[f32]) -> B,
    ) -> Scanned {
        let geometry = self.cell.geometry();
        let (row, rows) = (geometry.gates * self.hidden, self.rows());
        let z: Vec<f32> = self.z.chunks(row).flat_map(|z| [z, &[f32::NAN; 3]].concat()).collect();
        let (stride, z) = if keep { (row, self.z.clone()) } else { (row + 3, z) };
        let (mut gates, mut state) = (make(&z), make(&self.state));
        let cells = if geometry.cells && keep { rows * self.hidden } else { 0 };
        let (mut c, mut h) =
            (make(&filled(cells)), make(&self.spread(&filled(rows * self.hidden), self.hidden)));
        let (x, vectors) = (make(&self.x), make(&self.vectors));
        for stretch in self.stretches() {
            let [first, end] = match keep {
                true => [0, rows],
                false => [stretch.start, stretch.end].map(|step| self.schedule.start(step)),
            };
            let forward = ScanForward {
                schedule: self.schedule,
                stretch,
                hidden: self.hidden,
                cell: self.cell,
                vectors: &vectors,
                gates: &mut gates[first * stride..end * stride],
                gates_stride: stride,
                keep,
                x: &x,
                state: &mut state,
                c: &mut c,
                h: &mut h,
                h_stride: self.hidden + self.gap,
            };
            let mut team = Team::new(self.threads).unwrap();
            team.pass(usize::MAX, |pass| forward.run(isa, pass)).unwrap();
        }
        let gates = if keep { gates.to_vec() } else { Vec::new() };
        Scanned { gates, state: state.to_vec(), c: c.to_vec(), h: self.joined(&h) }
    }

    /// dz, ∂L/∂ of the state before, dx and the gradients of the vectors, which are added to those
    /// that are there, of a backward scan on buffers that `make` makes.
    pub fn backward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        kept: &Scanned,
        make: impl Fn(&[f32]) -> B,
    ) -> [Vec<f32>; 4] {
        let geometry = self.cell.geometry();
        let (mut gates, mut dstate) = (make(&kept.gates), make(&self.dstate));
        let (mut dx, mut dvectors) = (make(&filled(self.x.len())), make(&self.dvectors));
        let (x, vectors, state) = (make(&self.x), make(&self.vectors), make(&self.state));
        let states = if geometry.cells { &kept.c } else { &kept.h };
        let (states, dy) =
            (make(&self.spread(states, self.hidden)), make(&self.spread(&self.dy, self.hidden)));
        for stretch in self.stretches().into_iter().rev() {
            let backward = ScanBackward {
                schedule: self.schedule,
                stretch,
                hidden: self.hidden,
                cell: self.cell,
                vectors: &vectors,
                gates: &mut gates,
                x: &x,
                state: &state,
                states: &states,
                states_stride: self.hidden + self.gap,
                dy: &dy,
                dy_stride: self.hidden + self.gap,
                dstate: &mut dstate,
                dx: &mut dx,
                dvectors: &mut dvectors,
            };
            let mut team = Team::new(self.threads).unwrap();
            team.pass(usize::MAX, |pass| backward.run(isa, pass)).unwrap();
        }
        [gates.to_vec(), dstate.to_vec(), dx.to_vec(), dvectors.to_vec()]
    }
}
