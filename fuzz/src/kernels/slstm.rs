//! Steps of the sLSTM, forward and backward.

use super::Drawn;
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::slstm::{SlstmBackward, SlstmForget, SlstmForward, SlstmKept, SlstmSizes};
use bptt_kernels::team::Pass;

/// The sizes that a step is told of, and the lengths that follow from them.
struct Case {
    sizes: SlstmSizes,
    forget: SlstmForget,
    /// H, and the floats of a row of gates.
    hidden: usize,
    gates: usize,
}

fn case(drawn: &mut Drawn<'_>) -> Case {
    let forget = if drawn.flip() { SlstmForget::Logistic } else { SlstmForget::Exponential };
    let (batch, heads, units) = (drawn.size(9), drawn.size(4), drawn.size(40));
    let rows = batch.min(drawn.size(9));
    let [batch, rows, heads, units] = [batch, rows, heads, units].map(|size| drawn.near(size));
    drawn.demand(rows <= batch);
    let hidden = heads.saturating_mul(units);
    let sizes = SlstmSizes { batch, rows, heads, units };
    Case { sizes, forget, hidden, gates: hidden.saturating_mul(4) }
}

impl Case {
    /// The slopes of the forget gate, which only a logistic one has.
    fn slopes(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        let count = usize::from(self.forget == SlstmForget::Logistic);
        drawn.floats(&[count, self.sizes.rows, self.hidden])
    }

    /// A value for each unit of each sequence.
    fn of_sequences(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        drawn.floats(&[self.sizes.batch, self.hidden])
    }

    /// A value for each unit of each row.
    fn of_rows(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        drawn.floats(&[self.sizes.rows, self.hidden])
    }
}

pub fn slstm_forward(drawn: &mut Drawn<'_>) {
    let case = case(drawn);
    let SlstmSizes { batch, rows, heads, units } = case.sizes;
    let (mut gates, gates_stride) = drawn.strided(rows, case.gates);
    let of_head = units.saturating_mul(4);
    let wider = of_head.saturating_add(drawn.choice(3));
    let recurrent_stride = drawn.near(wider);
    drawn.demand(recurrent_stride >= of_head);
    let recurrent = drawn.floats(&[heads, batch, recurrent_stride]);
    let [mut c, mut n, mut m, mut h] = [(); 4].map(|()| case.of_sequences(drawn));
    let (mut y, stride) = drawn.strided(rows, case.hidden);
    let mut kept = [const { Vec::new() }; 3];
    let keeps = drawn.flip();
    if keeps {
        kept = [case.of_rows(drawn), case.of_rows(drawn), case.slopes(drawn)];
    }
    let [kept_c, kept_n, slopes] = &mut kept;
    let step = SlstmForward {
        sizes: case.sizes,
        forget: case.forget,
        gates: &mut gates,
        gates_stride,
        recurrent: &recurrent,
        recurrent_stride,
        c: &mut c,
        n: &mut n,
        m: &mut m,
        y: StridedMut { values: &mut y, stride },
        h: &mut h,
        kept: keeps.then_some(SlstmKept { c: kept_c, n: kept_n, slopes }),
    };
    let result = step.run(drawn.isa, &mut Pass::serial());
    let [kept_c, kept_n, slopes] = &kept;
    drawn.check(result, &[&gates, &c, &n, &m, &h, &y, kept_c, kept_n, slopes]);
}

pub fn slstm_backward(drawn: &mut Drawn<'_>) {
    let case = case(drawn);
    let SlstmSizes { batch, rows, heads, units } = case.sizes;
    let mut gates = drawn.floats(&[rows, case.gates]);
    let slopes = case.slopes(drawn);
    let before = drawn.product(&[rows, case.hidden]);
    let [c_before, n_before] = [(); 2].map(|()| drawn.room(before));
    let n = case.of_rows(drawn);
    let [(y, y_stride), (dy, dy_stride)] = [(); 2].map(|()| drawn.strided(rows, case.hidden));
    let [dh, mut dc, mut dn] = [(); 3].map(|()| case.of_sequences(drawn));
    let mut dz = drawn.floats(&[heads, batch, 4, units]);
    let step = SlstmBackward {
        sizes: case.sizes,
        forget: case.forget,
        gates: &mut gates,
        slopes: &slopes,
        c_before: &c_before,
        n_before: &n_before,
        n: &n,
        y: Strided { values: &y, stride: y_stride },
        dy: Strided { values: &dy, stride: dy_stride },
        dh: &dh,
        dc: &mut dc,
        dn: &mut dn,
        dz: &mut dz,
    };
    let result = step.run(drawn.isa, &mut Pass::serial());
    drawn.check(result, &[&gates, &dc, &dn, &dz]);
}
