//! One output for a whole sequence: the mean and the maximum over time, and losses of the last step,
//! against sums by hand in f64; in batches, in parts, in streams and under a budget.

mod common;

use bptt::{
    Accumulate, Ctc, Dense, Error, Gru, LastStep, Loss, Network, Pool, Reset, Runtime, Schedule,
    SoftmaxCrossEntropy, SquaredError,
};
use bptt_reference::sample::uniform;
use common::tree::{Given, Sequences, model_of, run};
use common::{Layout, assert_bits};

const SIZE: usize = 3;

/// What a pool of one sequence computes in f64: the outputs, and the gradient by each input and by the
/// state before.
fn by_hand(
    max: bool,
    (state, count): (&[f64], usize),
    x: &[f64],
    dy: &[f64],
    dlast: &[f64],
) -> [Vec<f64>; 3] {
    let steps = x.len() / SIZE;
    let (mut y, mut dx, mut dstate) = (x.to_vec(), vec![0.0; x.len()], vec![0.0; SIZE]);
    for k in 0..SIZE {
        // The inputs so far, with the state as one of them where it stands for some.
        let of = |t: usize| -> Vec<(f64, f64)> {
            let seen = (count > 0).then_some((state[k], count as f64));
            seen.into_iter().chain((0..=t).map(|s| (x[s * SIZE + k], 1.0))).collect()
        };
        let mut d = |t: usize, dy: f64| {
            let all = of(t);
            let weight: f64 = all.iter().map(|(_, weight)| weight).sum();
            let largest = all.iter().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
            let first = all.iter().position(|(x, _)| *x == largest).unwrap();
            for (at, (_, of_one)) in all.iter().enumerate() {
                let part = match max {
                    true => f64::from(u8::from(at == first)),
                    false => of_one / weight,
                };
                match at.checked_sub(usize::from(count > 0)) {
                    None => dstate[k] += dy * part,
                    Some(s) => dx[s * SIZE + k] += dy * part,
                }
            }
            match max {
                true => largest,
                false => all.iter().map(|(x, weight)| x * weight).sum::<f64>() / weight,
            }
        };
        for t in 0..steps {
            y[t * SIZE + k] = d(t, dy[t * SIZE + k]);
        }
        match steps.checked_sub(1) {
            Some(last) => _ = d(last, dlast[k]),
            None => dstate[k] += dlast[k],
        }
    }
    [y, dx, dstate]
}

#[test]
fn pools_are_as_by_hand() {
    let lengths = vec![5, 0, 9, 1];
    for (pool, max) in [(Pool::mean(SIZE).unwrap(), false), (Pool::max(SIZE).unwrap(), true)] {
        let network = Network::new(pool);
        for layout in [Layout::Packed, Layout::TimeMajor(9), Layout::BatchFirst(10)] {
            for count in [0, 4] {
                let sequences = Sequences { layout, lengths: lengths.clone() };
                let rows = sequences.rows();
                let batch = lengths.len();
                // Halves, so that values come several times.
                let halves = |seed, len| {
                    uniform(seed, len, 2.0).iter().map(|x| (x * 2.0).round() / 2.0).collect()
                };
                let state = |seed| {
                    let mut state: Vec<f32> = halves(seed, batch * SIZE);
                    state.extend(vec![count as f32; batch]);
                    state
                };
                let given = Given {
                    parameters: vec![],
                    x: halves(1, rows * SIZE),
                    dy: halves(2, rows * SIZE),
                    state: state(3),
                    dlast: state(4),
                };
                let results = run(&network, Runtime::best().unwrap(), &sequences, &given);
                for (n, len) in lengths.iter().enumerate() {
                    let own = |all: &[f32]| layout.of(all, &lengths, n, SIZE);
                    let wide = |all: &[f32]| all.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
                    let [s, d] =
                        [&given.state, &given.dlast].map(|all| wide(&all[n * SIZE..][..SIZE]));
                    let (x, dy) = (wide(&own(&given.x)), wide(&own(&given.dy)));
                    let [y, dx, dstate] = by_hand(max, (&s, count), &x, &dy, &d);
                    let close = |what: &str, given: &[f32], expected: &[f64]| {
                        for (given, expected) in given.iter().zip(expected) {
                            // Some ten roundings, of sums of some ten numbers of at most 2.
                            let most = 10.0 * 20.0 * f64::from(f32::EPSILON);
                            assert!(
                                (f64::from(*given) - expected).abs() <= most,
                                "{what} {max} {n}"
                            );
                        }
                    };
                    close("y", &own(&results.y), &y);
                    close("dx", &own(&results.dx), &dx);
                    close("dstate", &results.dstate[n * SIZE..][..SIZE], &dstate);
                    let last_count = results.last[batch * SIZE + n];
                    assert_eq!(last_count, (count + len) as f32);
                }
            }
        }
    }
}

/// A network of each pool: what a sequence gets alone, in a batch, in parts, in a stream and under a
/// budget.
#[test]
fn sequences_have_bits_of_their_own() {
    let lengths = [40, 3, 0, 25];
    for pool in [Pool::mean(6).unwrap(), Pool::max(6).unwrap()] {
        let network = Network::new(Gru::new(2, 6, Reset::After).unwrap())
            .then(pool)
            .then(Dense::new(6, 4).unwrap());
        let values = uniform(1, network.manifest().unwrap().len(), 0.8);
        let mut model = model_of(&network, Runtime::best().unwrap(), &values);
        let sequences: Vec<_> =
            (0..4).map(|n| uniform(10 + n as u64, lengths[n] * 2, 1.0)).collect();
        let (layout, classes) = (Layout::Packed, [3, 0, 2, 1]);
        let x = layout.joined(&sequences, 2, 0.0);
        let loss = LastStep::new(SoftmaxCrossEntropy::sum(&classes));
        let mut all = model.training_workspace(layout.schedule(&lengths)).unwrap();
        let y = model.forward(&mut all, &x).unwrap().to_vec();
        let value = model.gradients(&mut all, &x, &loss, Accumulate::No).unwrap();
        let training = model.training(layout.schedule(&lengths)).with_budget(all.bytes() / 3);
        let mut small = training.workspace().unwrap();
        assert_eq!(model.gradients(&mut small, &x, &loss, Accumulate::No).unwrap(), value);
        assert_bits("a budget", small.gradients().as_slice(), all.gradients().as_slice());
        let training = model.training(layout.schedule(&lengths)).with_chunked_outputs(7);
        let mut chunks = training.workspace().unwrap();
        assert_eq!(model.gradients(&mut chunks, &x, &loss, Accumulate::No).unwrap(), value);
        assert_bits("chunks", chunks.gradients().as_slice(), all.gradients().as_slice());
        let mut sum = 0.0;
        for (n, x) in sequences.iter().enumerate().filter(|(_, x)| !x.is_empty()) {
            let expected = layout.of(&y, &lengths, n, 4);
            let mut streamed = vec![0.0; expected.len()];
            let mut stream = model.stream(1).unwrap();
            let (first, rest) = streamed.split_at_mut(4);
            stream.step(&x[..2], first).unwrap();
            stream.forward(&x[2..], rest).unwrap();
            assert_bits("a stream", &streamed, &expected);
            let class = &classes[n..n + 1];
            let one = LastStep::new(SoftmaxCrossEntropy::sum(class));
            let mut alone = model.training_workspace(Schedule::dense(lengths[n], 1)).unwrap();
            sum += model.evaluate(&mut alone, x, &one).unwrap();
            let last = &expected[expected.len() - 4..];
            let total: f64 = last.iter().map(|o| f64::from(*o).exp()).sum();
            let own = total.ln() - f64::from(last[class[0] as usize]);
            assert!((model.evaluate(&mut alone, x, &one).unwrap() - own).abs() < 1e-6);
        }
        assert!((value - sum).abs() < 1e-12 * sum.abs().max(1.0));
    }
}

/// Outputs of other steps have no gradient, and a mean is one over all sequences.
#[test]
fn only_the_last_step_counts() {
    let lengths = [2, 0, 3];
    let network = Network::new(Dense::new(1, 1).unwrap());
    let mut model = model_of(&network, Runtime::best().unwrap(), &[1.0, 0.0]);
    for layout in [Layout::Packed, Layout::TimeMajor(4), Layout::BatchFirst(3)] {
        let x = layout.joined(&[vec![9.0, 1.0], vec![], vec![9.0, 9.0, 4.0]], 1, 9.0);
        let training = model.training(layout.schedule(&lengths)).with_input_gradients();
        let mut workspace = training.workspace().unwrap();
        let targets = [0.0, 50.0, 1.0];
        let loss = LastStep::new(SquaredError::mean(&targets));
        let value = model.gradients(&mut workspace, &x, &loss, Accumulate::No).unwrap();
        assert_eq!(value, 1.0 / 3.0 + 9.0 / 3.0);
        let third = (2.0f64 / 3.0) as f32;
        let dx = layout.joined(&[vec![0.0, third], vec![], vec![0.0, 0.0, 3.0 * third]], 1, 0.0);
        assert_eq!(workspace.input_gradients().unwrap(), dx);
    }
    // A reset does not end a sequence.
    let schedule = Schedule::dense(4, 1).with_resets(&[(0, 2)]).unwrap();
    let mut workspace = model.training_workspace(schedule).unwrap();
    let loss = LastStep::new(SquaredError::sum(&[1.0]));
    assert_eq!(model.evaluate(&mut workspace, &[5.0, 5.0, 5.0, 3.0], &loss).unwrap(), 4.0);
}

#[test]
fn what_does_not_fit_is_refused() {
    assert!(Pool::mean(0).is_err() && Pool::max(0).is_err());
    let network = Network::new(Dense::new(1, 3).unwrap());
    let mut model = model_of(&network, Runtime::best().unwrap(), &[0.0; 6]);
    let mut workspace = model.training_workspace(Schedule::packed(&[2, 1]).unwrap()).unwrap();
    let mut refused = |loss: &dyn Loss| {
        model.gradients(&mut workspace, &[0.0; 3], loss, Accumulate::No).unwrap_err()
    };
    let error = refused(&LastStep::new(SoftmaxCrossEntropy::mean(&[0, 1, 2])));
    assert!(matches!(error, Error::Length { what: "classes", given: 3, expected: 2 }), "{error}");
    let error = refused(&LastStep::new(SoftmaxCrossEntropy::mean(&[0, 3])));
    assert!(matches!(error, Error::Target { row: 1, given: 3, .. }), "{error}");
    let ctc = Ctc::mean(&[1], &[1, 0]);
    let error = refused(&LastStep::new(ctc));
    assert!(matches!(error, Error::Mismatch { what: "the loss of the last steps", .. }), "{error}");
}
