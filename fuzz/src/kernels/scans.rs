//! Scans of every cell, forward and backward.

use super::Drawn;
use super::drawn::BEFORE;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::StepRows;
use bptt_kernels::scan::{Pooling, Scan, ScanBackward, ScanForward, ScanGeometry};
use bptt_kernels::team::Pass;

/// A cell, and the sizes that a scan is told of.
struct Case {
    cell: Scan,
    geometry: ScanGeometry,
    hidden: usize,
    steps: usize,
    batch: usize,
}

fn case(drawn: &mut Drawn<'_>) -> Case {
    let flag = drawn.flip();
    let cell = match drawn.choice(8) {
        0 => Scan::MinGru { positive: flag },
        1 => Scan::MinLstm { positive: flag },
        2 => Scan::Sru { fourth: flag },
        3 => Scan::Qrnn(Pooling::Forget),
        4 => Scan::Qrnn(Pooling::ForgetOutput),
        5 => Scan::Qrnn(Pooling::ForgetInputOutput),
        6 => Scan::IndRnn(if flag { Activations::Relu } else { Activations::Tanh }.into()),
        _ => Scan::RgLru,
    };
    let sizes = [drawn.size(40), drawn.size(5), drawn.size(14)];
    let [hidden, steps, batch] = sizes.map(|size| drawn.near(size));
    Case { cell, geometry: cell.geometry(), hidden, steps, batch }
}

impl Case {
    /// The floats of rows that are `stride` floats apart.
    fn rows(&self, drawn: &mut Drawn<'_>, stride: usize) -> Vec<f32> {
        drawn.floats(&[self.steps, self.batch, stride])
    }

    /// Rows that may be left out, of the right length if they are there.
    fn optional(&self, drawn: &mut Drawn<'_>, rows: usize, width: usize) -> Vec<f32> {
        let has = drawn.flip();
        let length = drawn.product(&[rows, self.batch, width]).filter(|_| has);
        vec![BEFORE; length.unwrap_or(0)]
    }

    fn of_input(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        self.rows(drawn, if self.geometry.input { self.hidden } else { 0 })
    }
}

pub fn scan_forward(drawn: &mut Drawn<'_>) {
    let case = case(drawn);
    let &Case { cell, geometry, hidden, steps, batch } = &case;
    let row = geometry.gates.saturating_mul(hidden);
    let gates_stride = drawn.near(row);
    drawn.demand(gates_stride >= row);
    let (keep, stretch) = (drawn.flip(), drawn.stretch(steps));
    let rows = if keep { steps } else { stretch.len() };
    let mut gates = drawn.floats(&[rows, batch, gates_stride]);
    let (vectors, x) = (drawn.floats(&[geometry.vectors, hidden]), case.of_input(drawn));
    let mut state = drawn.floats(&[batch, hidden]);
    let mut c = case.optional(drawn, steps, if geometry.cells { hidden } else { 0 });
    let mut h = case.rows(drawn, hidden);
    let forward = ScanForward {
        schedule: StepRows::dense(steps, batch),
        stretch,
        hidden,
        cell,
        vectors: &vectors,
        gates: &mut gates,
        gates_stride,
        keep,
        x: &x,
        state: &mut state,
        c: &mut c,
        h: &mut h,
        h_stride: hidden,
    };
    let result = forward.run(drawn.isa, &mut Pass::serial());
    drawn.check(result, &[&gates, &state, &c, &h]);
}

pub fn scan_backward(drawn: &mut Drawn<'_>) {
    let case = case(drawn);
    let &Case { cell, geometry, hidden, steps, batch } = &case;
    let mut gates = case.rows(drawn, geometry.gates.saturating_mul(hidden));
    let (vectors, x) = (drawn.floats(&[geometry.vectors, hidden]), case.of_input(drawn));
    let (state, mut dstate) = (drawn.floats(&[batch, hidden]), drawn.floats(&[batch, hidden]));
    let (states, dy) = (case.rows(drawn, hidden), case.rows(drawn, hidden));
    let mut dx = case.optional(drawn, steps, if geometry.input { hidden } else { 0 });
    let mut dvectors = match drawn.flip() {
        true => vec![BEFORE; geometry.learned * hidden.min(1 << 10)],
        false => Vec::new(),
    };
    let backward = ScanBackward {
        schedule: StepRows::dense(steps, batch),
        stretch: 0..steps,
        hidden,
        cell,
        vectors: &vectors,
        gates: &mut gates,
        x: &x,
        state: &state,
        states: &states,
        states_stride: hidden,
        dy: &dy,
        dy_stride: hidden,
        dstate: &mut dstate,
        dx: &mut dx,
        dvectors: &mut dvectors,
    };
    let result = backward.run(drawn.isa, &mut Pass::serial());
    drawn.check(result, &[&gates, &dstate, &dx, &dvectors]);
}
