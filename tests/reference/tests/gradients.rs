//! Back-propagation against central finite differences, in `f64`, with a tolerance that is derived.
//!
//! The rounding of a loss is bounded by the same analysis as that of an `f32` pass, at 2⁻⁵³ instead of 2⁻²⁴: every
//! term of a [`Bounded`] is proportional to the unit roundoff, so 2⁻²⁹ of it is the bound for `f64`.

use bptt_reference::bounds::Bounded;
use bptt_reference::finite::gradient_with_error;
use bptt_reference::readout::{Reduction, softmax, softmax_cross_entropy};
use bptt_reference::sample::{uniform, widen};
use bptt_reference::{Activation, Lstm, Number, Readout};

/// The unit roundoff of `f64` over that of `f32`.
const F64_OVER_F32: f64 = 1.0 / (1u64 << 29) as f64;

const STEP: f64 = 1e-6;

/// Compares `actual` with the differences of `loss`, whose own errors are given, and gives the largest error allowed.
fn assert_gradient(
    name: &str,
    loss: impl FnMut(&[f64]) -> f64,
    loss_error: f64,
    at: &[f64],
    actual: &[f64],
    actual_error: impl Fn(usize) -> f64,
) -> f64 {
    assert_eq!(at.len(), actual.len(), "{name}");
    let mut loosest = 0.0f64;
    for (k, difference) in gradient_with_error(loss, at, STEP, loss_error).into_iter().enumerate() {
        let tolerance = difference.error + actual_error(k);
        let error = (actual[k] - difference.value).abs();
        assert!(error <= tolerance, "{name}[{k}]: {} by the chain rule, {difference:?}", actual[k]);
        loosest = loosest.max(tolerance);
    }
    loosest
}

/// What the loss of an LSTM depends on, each a flat slice, and the slices that its gradient is made of.
const INPUTS: [&str; 4] = ["params", "x", "h0", "c0"];

/// L = Σ dy⊙h + Σ dh_last⊙h⁽ᵀ⁾ + Σ dc_last⊙c⁽ᵀ⁾: its gradients with respect to h and c are dy, dh_last and dc_last.
fn lstm_loss<N: Number>(lstm: &Lstm, inputs: &[Vec<N>; 4], outer: &[Vec<N>; 3]) -> N {
    let [params, x, h0, c0] = inputs;
    let [dy, dh_last, dc_last] = outer;
    let trace = lstm.forward(params, x, h0, c0);
    let last = trace.h.len() - h0.len();
    let pairs = |a: &[N], b: &[N]| a.iter().copied().zip(b.iter().copied()).collect::<Vec<_>>();
    let all =
        [pairs(dy, &trace.h), pairs(dh_last, &trace.h[last..]), pairs(dc_last, &trace.c[last..])]
            .concat();
    N::dot(all)
}

fn check_lstm(lstm: Lstm, steps: usize, batch: usize) {
    let state = batch * lstm.hidden_size;
    let f32s = |seed, len| uniform(seed, len, 0.75);
    let inputs = [
        f32s(1, lstm.params_len()),
        f32s(2, steps * batch * lstm.input_size),
        f32s(3, state),
        f32s(4, state),
    ];
    let outer = [f32s(5, steps * state), f32s(6, state), f32s(7, state)];
    fn lift<N: Number, const K: usize>(slices: &[Vec<f32>; K]) -> [Vec<N>; K] {
        std::array::from_fn(|k| slices[k].iter().map(|&value| N::exact(f64::from(value))).collect())
    }

    let (inputs64, outer64): ([Vec<f64>; 4], [Vec<f64>; 3]) = (lift(&inputs), lift(&outer));
    let (bounded, bounded_outer): ([Vec<Bounded>; 4], [Vec<Bounded>; 3]) =
        (lift(&inputs), lift(&outer));
    let loss_error = F64_OVER_F32 * lstm_loss(&lstm, &bounded, &bounded_outer).bound;

    let [params, x, h0, c0] = &bounded;
    let [dy, dh_last, dc_last] = &bounded_outer;
    let trace = lstm.forward(params, x, h0, c0);
    let gradients = lstm.backward(params, x, h0, c0, &trace, dy, dh_last, dc_last);

    let actual = [&gradients.params, &gradients.dx, &gradients.dh0, &gradients.dc0];
    for (which, actual) in actual.into_iter().enumerate() {
        let values: Vec<f64> = actual.iter().map(|b| b.value).collect();
        let loss = |at: &[f64]| {
            let mut moved = inputs64.clone();
            moved[which].copy_from_slice(at);
            lstm_loss(&lstm, &moved, &outer64)
        };
        let error = |k: usize| F64_OVER_F32 * actual[k].bound;
        let loosest =
            assert_gradient(INPUTS[which], loss, loss_error, &inputs64[which], &values, error);
        println!("{lstm:?}: {} within {loosest:.1e}", INPUTS[which]);
        assert!(loosest < 1e-6, "{}: a tolerance of {loosest:e} finds no fault", INPUTS[which]);
    }
}

#[test]
fn lstm_with_the_usual_candidate() {
    check_lstm(Lstm::new(3, 4, Activation::Tanh), 4, 2);
}

#[test]
fn lstm_with_the_logistic_candidate_of_eq_10_41() {
    check_lstm(Lstm::new(2, 3, Activation::Logistic), 5, 2);
}

#[test]
fn lstm_of_identities() {
    let identity = Activation::Identity;
    check_lstm(Lstm { gate: identity, cell: identity, ..Lstm::new(2, 3, identity) }, 3, 2);
}

#[test]
fn lstm_of_one_unit_and_one_step() {
    check_lstm(Lstm::new(1, 1, Activation::Tanh), 1, 1);
}

/// By hand: one unit and one step of identities, with U = 2, 3, 5, 7, W = 1, 2, 1, 3 and b = 1, 0, −1, 2 for i, f, g,
/// o, x = 1, h₋ = 2, c₋ = 10: z = i, f, g, o = 5, 7, 6, 15; c = 7·10 + 5·6 = 100; h = 1500.
#[test]
fn lstm_by_hand() {
    let identity = Activation::Identity;
    let lstm = Lstm { gate: identity, cell: identity, ..Lstm::new(1, 1, identity) };
    let params = [2.0, 3.0, 5.0, 7.0, 1.0, 2.0, 1.0, 3.0, 1.0, 0.0, -1.0, 2.0];
    let (x, h0, c0) = ([1.0], [2.0], [10.0]);
    let trace = lstm.forward(&params, &x, &h0, &c0);
    let gates = [trace.i[0], trace.f[0], trace.g[0], trace.o[0]];
    assert_eq!((gates, trace.c[0], trace.h[0]), ([5.0, 7.0, 6.0, 15.0], 100.0, 1500.0));

    // dh = 1 + 1 = 2; dc = 1 + 2·15 = 31; dz = 31·6, 31·10, 31·5, 2·100.
    let gradients = lstm.backward(&params, &x, &h0, &c0, &trace, &[1.0], &[1.0], &[1.0]);
    let dz = [186.0, 310.0, 155.0, 200.0];
    assert_eq!(gradients.dz, dz);
    assert_eq!(gradients.params, [dz, dz.map(|dz| 2.0 * dz), dz].concat());
    assert_eq!(gradients.dx, [2.0 * 186.0 + 3.0 * 310.0 + 5.0 * 155.0 + 7.0 * 200.0]);
    assert_eq!(gradients.dh0, [186.0 + 2.0 * 310.0 + 155.0 + 3.0 * 200.0]);
    assert_eq!(gradients.dc0, [31.0 * 7.0]);
}

/// A split sequence is the whole: the second half's ∂L/∂h⁽⁰⁾ and ∂L/∂c⁽⁰⁾ are the first half's `dh_last`, `dc_last`.
#[test]
fn lstm_in_two_halves() {
    let lstm = Lstm::new(3, 4, Activation::Tanh);
    let (steps, batch) = (6, 2);
    let draw = |seed, len| widen(&uniform(seed, len, 0.75));
    let (params, x) = (draw(1, lstm.params_len()), draw(2, steps * batch * 3));
    let (h0, c0, dy) = (draw(3, batch * 4), draw(4, batch * 4), draw(5, steps * batch * 4));
    let zero = vec![0.0; batch * 4];
    let whole = lstm.forward(&params, &x, &h0, &c0);
    let of_whole = lstm.backward(&params, &x, &h0, &c0, &whole, &dy, &zero, &zero);

    let (x1, x2) = x.split_at(x.len() / 2);
    let (dy1, dy2) = dy.split_at(dy.len() / 2);
    let first = lstm.forward(&params, x1, &h0, &c0);
    let (h1, c1) = (&first.h[first.h.len() - batch * 4..], &first.c[first.c.len() - batch * 4..]);
    let second = lstm.forward(&params, x2, h1, c1);
    assert_eq!(whole.h, [&first.h[..], &second.h].concat());
    let of_second = lstm.backward(&params, x2, h1, c1, &second, dy2, &zero, &zero);
    let of_first =
        lstm.backward(&params, x1, &h0, &c0, &first, dy1, &of_second.dh0, &of_second.dc0);

    let close = |a: f64, b: f64| (a - b).abs() <= 1e-13 * (1.0 + b.abs()); // the order of some sums differs
    let dz = [&of_first.dz[..], &of_second.dz].concat();
    assert!(dz.iter().zip(&of_whole.dz).all(|(&a, &b)| close(a, b)));
    assert!(of_first.dc0.iter().zip(&of_whole.dc0).all(|(&a, &b)| close(a, b)));
    let params = of_first.params.iter().zip(&of_second.params).map(|(a, b)| a + b);
    assert!(params.zip(&of_whole.params).all(|(a, &b)| close(a, b)));
}

#[test]
fn readout_and_cross_entropy() {
    let readout = Readout { hidden_size: 4, output_size: 3 };
    let rows = 5;
    let params = widen(&uniform(1, readout.params_len(), 1.0));
    let h = widen(&uniform(2, rows * 4, 1.0));
    let targets = [0, 2, 1, 99, 2];
    let mask = [true, true, true, false, true];
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let loss = |params: &[f64], h: &[f64]| {
            softmax_cross_entropy(&readout.forward(params, h), &targets, Some(&mask), reduction)
        };
        let at = loss(&params, &h);
        let gradients = readout.backward(&params, &h, &at.d_o);
        // An output is off by γ₅·Σ|a||b| ≤ 5·5·2⁻⁵³; exp, log and sums of three at most double that, and the loss has
        // four rows: 200·2⁻⁵³. The gradient is a sum of at most five such errors, times weights of at most one.
        let loss_error = 200.0 * f64::EPSILON / 2.0;
        let error = |_| 5.0 * loss_error;
        assert_gradient(
            "params",
            |p| loss(p, &h).value,
            loss_error,
            &params,
            &gradients.params,
            error,
        );
        assert_gradient("h", |h| loss(&params, h).value, loss_error, &h, &gradients.dh, error);
    }
}

#[test]
fn sum_and_mean_differ_by_the_rows_that_count() {
    let o = widen(&uniform(3, 4 * 3, 2.0));
    let (targets, mask) = ([0, 1, 2, 0], [true, false, true, true]);
    let sum = softmax_cross_entropy(&o, &targets, Some(&mask), Reduction::Sum);
    let mean = softmax_cross_entropy(&o, &targets, Some(&mask), Reduction::Mean);
    assert!((sum.value - 3.0 * mean.value).abs() < 1e-14);
    assert_eq!(sum.d_o[3..6], [0.0; 3]);

    let by_hand: f64 =
        [0, 2, 3].map(|row| -softmax(&o[row * 3..][..3])[targets[row]].ln()).iter().sum();
    assert!((sum.value - by_hand).abs() < 1e-14);

    let none = softmax_cross_entropy(&o, &targets, Some(&[false; 4]), Reduction::Mean);
    assert_eq!((none.value, none.d_o), (0.0, vec![0.0; 12]));
}

#[test]
fn softmax_of_large_outputs_does_not_overflow() {
    let y_hat = softmax(&[1000.0, 1000.0, -1000.0]);
    assert!((y_hat[0] - 0.5).abs() < 1e-12 && y_hat[2] == 0.0, "{y_hat:?}");
    let loss = softmax_cross_entropy(&[1000.0, 0.0], &[1], None, Reduction::Sum);
    assert_eq!((loss.value, loss.d_o), (1000.0, vec![1.0, -1.0]));
}
