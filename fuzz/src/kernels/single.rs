//! Single steps of every cell.

use super::Drawn;
use super::passes::{Case, case, second, zeros};
use bptt_kernels::Dense;
use bptt_kernels::recurrence::{Dims, Recurrent, Single, single_room};

/// A single step, with a layer after it or without.
pub fn single(drawn: &mut Drawn<'_>) {
    let Case { which, geometry, made, dims, vectors } = case(drawn);
    let Dims { hidden, outputs, .. } = dims;
    let inputs = drawn.size(20);
    let input = zeros(drawn, geometry.gates, made.hidden, inputs);
    let weights = zeros(drawn, geometry.sums, made.hidden, made.outputs);
    let second = second(drawn, &geometry, (made.hidden, made.outputs), false);
    let mut delays = vec![1];
    if drawn.seldom() {
        delays = vec![drawn.choice(3); drawn.choice(3)];
    }
    drawn.demand(delays == [1]);
    let recurrent = Recurrent {
        weights: std::slice::from_ref(&weights),
        delays: &delays,
        second: second.as_ref(),
    };
    let (bias, x) = (drawn.floats(&[geometry.gates, hidden]), drawn.floats(&[inputs]));
    let mut h = drawn.floats(&[outputs]);
    let mut c = drawn.floats(&[usize::from(geometry.cells), hidden]);
    let mut next = drawn.floats(&[outputs]);
    // Of another H no room is asked for.
    let [z, extra] = if hidden == made.hidden { single_room(&geometry, hidden) } else { [0; 2] };
    let (mut z, mut extra) = (drawn.floats(&[z]), drawn.floats(&[extra]));
    let of_output = drawn.size(12);
    let dense = Dense::zeros(drawn.isa, of_output, made.outputs).unwrap();
    let output = drawn.flip().then_some(&dense);
    let mut o = match output {
        Some(_) => drawn.floats(&[of_output]),
        // Nobody looks at it.
        None => Vec::new(),
    };
    let step = Single {
        hidden,
        cell: &which.cell(&vectors),
        input: &input,
        recurrent,
        bias: &bias,
        x: &x,
        h: &mut h,
        c: &mut c,
        next: &mut next,
        z: &mut z,
        extra: &mut extra,
        backwards: drawn.flip(),
        output,
        o: &mut o,
    };
    let result = step.run(drawn.isa);
    drawn.check(result, &[&h, &c, &next, &z, &extra, &o]);
}
