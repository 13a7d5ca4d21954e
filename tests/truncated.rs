//! Truncated back-propagation through time: the gradient is that of the loss of the last chunk, back
//! through the window, from a state that has no gradient.

mod common;

use bptt::{
    Accumulate, Adam, Dense, Embedding, Error, Isa, Lstm, Model, Network, Runtime, Schedule,
    SoftmaxCrossEntropy, SquaredError, Tokens, Truncated,
};
use bptt_reference::lstm::Lstm as Reference;
use bptt_reference::sample::{uniform, widen};
use bptt_reference::{Activation, finite};
use common::{Kind, Subject, assert_bits, isas};

fn model(network: &Network, isa: Isa) -> Model {
    let mut parameters = network.parameters().unwrap();
    let values = uniform(1, parameters.as_slice().len(), 0.6);
    parameters.as_mut_slice().copy_from_slice(&values);
    network.model(parameters, Runtime::new(isa)).unwrap()
}

/// With k₂ = τ it is back-propagation through time, of all layers.
#[test]
fn over_all_steps_it_is_the_whole_gradient() {
    let (steps, batch) = (19, 3);
    for kind in Kind::kernels() {
        let subject = Subject { kind, inputs: 2, hidden: 9 };
        let (inputs, outputs) = (subject.input_size(), subject.output_size());
        let (x, y) =
            (uniform(2, steps * batch * inputs, 1.0), uniform(3, steps * batch * outputs, 1.0));
        let loss = SquaredError::mean(&y);
        for &isa in isas() {
            let mut model = model(&subject.network(), isa);
            let mut truncated = Truncated::new(&mut model, steps, steps, batch).unwrap();
            let mut whole = model.training_workspace(Schedule::dense(steps, batch)).unwrap();
            let expected = model.gradients(&mut whole, &x, &loss, Accumulate::No).unwrap();
            assert_eq!(truncated.gradients(&model, &x, &loss).unwrap(), expected);
            let given = truncated.workspace().gradients().as_slice();
            assert_bits(&format!("{kind:?}"), given, whole.gradients().as_slice());
        }
    }
}

/// Chunks of k₁ steps with windows of k₂, against passes by hand: a forward pass up to the window and
/// a pass over the window, whose last steps alone have a loss.
#[test]
fn windows_are_as_by_hand() {
    let batch = 2;
    for kind in Kind::kernels() {
        let subject = Subject { kind, inputs: 2, hidden: 5 };
        let network = subject.network().then(Dense::new(subject.output_size(), 3).unwrap());
        let inputs = subject.input_size();
        for (every, back, steps) in [(3, 3, 14), (3, 9, 20), (2, 7, 15), (5, 8, 16), (1, 4, 9)] {
            let (x, y) =
                (uniform(2, steps * batch * inputs, 1.0), uniform(3, steps * batch * 3, 1.0));
            let mut model = model(&network, Isa::best().unwrap());
            let mut truncated = Truncated::new(&mut model, every, back, batch).unwrap();
            let bytes = truncated.workspace().bytes();
            let mut begin = 0;
            for first in (0..steps).step_by(every) {
                let end = (first + every).min(steps);
                let row = |step: usize, width: usize| step * batch * width;
                let targets = &y[row(first, 3)..row(end, 3)];
                let loss = SquaredError::sum(targets);
                let chunk = &x[row(first, inputs)..row(end, inputs)];
                let value = truncated.gradients(&model, chunk, &loss).unwrap();

                let mut state = model.state(batch).unwrap();
                if begin > 0 {
                    let mut before =
                        model.training_workspace(Schedule::dense(begin, batch)).unwrap();
                    model.forward(&mut before, &x[..row(begin, inputs)]).unwrap();
                    state = before.last_state().unwrap();
                }
                let window = Schedule::dense(end - begin, batch);
                let mut by_hand = model.training_workspace(window).unwrap();
                by_hand.set_state(&state).unwrap();
                let zeros = row(first - begin, 3);
                let of_last = |y: &mut [f32]| {
                    let mut loss = 0.0;
                    y[..zeros].fill(0.0);
                    for (y, target) in y[zeros..].chunks_mut(3).zip(targets.chunks(3)).rev() {
                        let each = y.iter_mut().zip(target).map(|(y, &target)| {
                            let error = f64::from(*y) - f64::from(target);
                            *y = 2.0 * error as f32;
                            error * error
                        });
                        loss += each.sum::<f64>();
                    }
                    loss
                };
                let x = &x[row(begin, inputs)..row(end, inputs)];
                let expected = model.gradients(&mut by_hand, x, &of_last, Accumulate::No).unwrap();
                let what = format!("{kind:?}, TBPTT({every}, {back}), steps {begin} to {end}");
                assert_eq!(value, expected, "{what}");
                let given = truncated.workspace().gradients().as_slice();
                assert_bits(&what, given, by_hand.gradients().as_slice());
                // The next window begins so that it is full when the next k₁ steps have come.
                begin = begin.max((end + every).saturating_sub(back).min(end));
                assert_eq!(
                    truncated.workspace().bytes(),
                    truncated.workspace().recomputation().bytes
                );
                assert!(truncated.workspace().bytes() <= bytes);
            }
        }
    }
}

/// The terms of the truncated gradient, in f64: central differences of the loss of the last chunk,
/// with the state before the window held fast.
#[test]
fn the_gradient_is_the_truncated_one() {
    let (inputs, hidden, every, back, steps) = (2, 3, 2, 5, 12);
    let reference = Reference::new(inputs, hidden, Activation::Tanh);
    let network = Network::new(Lstm::new(inputs, hidden).unwrap());
    let (x, y) = (uniform(2, steps * inputs, 1.0), uniform(3, steps * hidden, 1.0));
    for &isa in isas() {
        let mut model = model(&network, isa);
        let mut truncated = Truncated::new(&mut model, every, back, 1).unwrap();
        for first in (0..steps).step_by(every) {
            let chunk = first..first + every;
            let loss = SquaredError::sum(&y[chunk.start * hidden..chunk.end * hidden]);
            let x_of = |steps: std::ops::Range<usize>| &x[steps.start * inputs..steps.end * inputs];
            truncated.gradients(&model, x_of(chunk.clone()), &loss).unwrap();
        }
        let window = steps - back..steps;
        let (wide, zeros) = (widen(model.parameters().as_slice()), vec![0.0; hidden]);
        let (x, y) = (widen(&x), widen(&y));
        // The windows of earlier updates have moved on by k₁ steps each, to step 12 − 5.
        let before = reference.forward(&wide, &x[..window.start * inputs], &zeros, &zeros);
        let last = (window.start - 1) * hidden;
        let (h0, c0) = (&before.h[last..], &before.c[last..]);
        let loss = |parameters: &[f64]| -> f64 {
            let trace = reference.forward(parameters, &x[window.start * inputs..], h0, c0);
            let from = (back - every) * hidden;
            let targets = &y[(steps - every) * hidden..];
            trace.h[from..].iter().zip(targets).map(|(h, y)| (h - y).powi(2)).sum()
        };
        // The loss is a sum of some 6 terms below 4 that are each rounded to 2⁻⁵³.
        let expected = finite::gradient_with_error(loss, &wide, 1e-4, 24.0 * f64::EPSILON);
        let given = truncated.workspace().gradients().as_slice();
        let largest = expected.iter().fold(0.0f64, |most, d| most.max(d.value.abs()));
        // Each element is a sum over 5 steps of products of some 10 rounded factors.
        let bound = 50.0 * f64::from(f32::EPSILON) * largest;
        for (at, (&given, expected)) in given.iter().zip(&expected).enumerate() {
            let error = (f64::from(given) - expected.value).abs();
            assert!(error <= bound + expected.error, "{at}: {given}, {expected:?} ± {bound}");
        }
        // It differs from the whole gradient by more than that.
        let whole = |parameters: &[f64]| -> f64 {
            let trace = reference.forward(parameters, &x, &zeros, &zeros);
            let from = (steps - every) * hidden;
            trace.h[from..].iter().zip(&y[from..]).map(|(h, y)| (h - y).powi(2)).sum()
        };
        let whole = finite::gradient(whole, &wide, 1e-4);
        assert!(whole.iter().zip(&expected).any(|(w, e)| (w - e.value).abs() > 100.0 * bound));
    }
}

#[test]
fn warm_up_moves_the_state_and_is_not_learned_from() {
    let network = Network::new(Lstm::new(1, 4).unwrap());
    let mut model = model(&network, Isa::best().unwrap());
    let (x, y) = (uniform(2, 50, 1.0), uniform(3, 5 * 4, 1.0));
    let mut truncated = Truncated::new(&mut model, 5, 10, 1).unwrap();
    truncated.warm_up(&model, &x[..20]).unwrap();
    truncated.warm_up(&model, &x[20..37]).unwrap();
    let loss = SquaredError::mean(&y);
    truncated.gradients(&model, &x[37..42], &loss).unwrap();

    let mut before = model.training_workspace(Schedule::dense(37, 1)).unwrap();
    model.forward(&mut before, &x[..37]).unwrap();
    let mut after = model.training_workspace(Schedule::dense(5, 1)).unwrap();
    after.set_state(&before.last_state().unwrap()).unwrap();
    model.gradients(&mut after, &x[37..42], &loss, Accumulate::No).unwrap();
    assert_eq!(truncated.workspace().gradients().as_slice(), after.gradients().as_slice());
    // A new sequence.
    truncated.begin(&model.state(1).unwrap()).unwrap();
    truncated.gradients(&model, &x[37..42], &loss).unwrap();
    after.reset_state();
    model.gradients(&mut after, &x[37..42], &loss, Accumulate::No).unwrap();
    assert_eq!(truncated.workspace().gradients().as_slice(), after.gradients().as_slice());
}

#[test]
fn it_learns_from_tokens() {
    let network = Network::new(Embedding::new(5, 4).unwrap())
        .then(Lstm::new(4, 8).unwrap())
        .then(Dense::new(8, 5).unwrap());
    let mut model = model(&network, Isa::best().unwrap());
    let mut truncated = Truncated::new(&mut model, 4, 8, 1).unwrap();
    let mut adam = Adam::new(0.05);
    let text: Vec<u32> = (0..401).map(|at| at % 5).collect();
    let mut losses = Vec::new();
    for (x, y) in text[..400].chunks(4).zip(text[1..].chunks(4)) {
        let loss = SoftmaxCrossEntropy::mean(y);
        losses.push(truncated.train(&mut model, Tokens(x), &loss, &mut adam).unwrap());
    }
    assert!(losses[0] > 1.0 && losses[99] < 0.1, "{} {}", losses[0], losses[99]);
}

#[test]
fn refusals() {
    let network = Network::new(Lstm::new(2, 3).unwrap());
    let mut model = model(&network, Isa::best().unwrap());
    let error = |every, back, batch| {
        let network = Network::new(Lstm::new(2, 3).unwrap());
        let mut model = self::model(&network, Isa::best().unwrap());
        Truncated::new(&mut model, every, back, batch).unwrap_err().to_string()
    };
    assert_eq!(error(0, 3, 1), "k₁ is 0, expected 1 or more");
    assert_eq!(error(3, 2, 1), "k₂ is 2, expected k₁, which is 3, or more");
    assert_eq!(error(3, 3, 0), "batch is 0, expected 1 or more");
    let mut truncated = Truncated::new(&mut model, 2, 4, 2).unwrap();
    let y = [0.0; 6 * 3];
    let loss = SquaredError::mean(&y);
    let mut error = |x: &[f32]| truncated.gradients(&model, x, &loss).unwrap_err();
    assert_eq!(error(&[0.0; 6]), Error::Multiple { what: "x", given: 6, of: 4 });
    assert_eq!(error(&[]).to_string(), "steps of a chunk is 0, expected 1 to 2");
    assert_eq!(error(&[0.0; 12]).to_string(), "steps of a chunk is 3, expected 1 to 2");
    assert!(matches!(error(&[0.0; 8]), Error::Length { what: "targets", .. }));
    assert!(truncated.warm_up(&model, Tokens(&[1, 2])).is_err());
    let other = Network::new(Lstm::new(2, 4).unwrap()).state(2).unwrap();
    assert!(matches!(truncated.begin(&other), Err(Error::Mismatch { .. })));
    // Nothing was taken in.
    assert_eq!(truncated.window_state(), None);
}
