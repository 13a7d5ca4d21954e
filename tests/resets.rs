//! Sequences that begin anew in the middle: everything is as if they had been cut by hand.

mod common;

use bptt::{
    Accumulate, Error, Isa, Lstm, Network, Noise, Regularisation, Runtime, Schedule, SquaredError,
    State,
};
use bptt_reference::sample::uniform;
use common::{Kind, Subject, assert_bits, drawn_model, drawn_state, features_of, isas};

/// All results of a pass.
struct Results {
    loss: f64,
    gradients: Vec<f32>,
    dx: Vec<f32>,
    dstate: State,
    last: State,
}

/// A pass over sequences with resets, and one with the parts as sequences, cut by hand: the same
/// sequences in the same order, so that the sums over rows have one order, too.
fn check(network: &Network, lengths: &[usize], resets: &[(usize, usize)], isa: Isa, what: &str) {
    let steps = *lengths.iter().max().unwrap();
    let inputs = features_of(&drawn_model(network, Runtime::new(isa)));
    let outputs = network.output_size();
    let mut parts = Vec::new();
    for (n, &len) in lengths.iter().enumerate() {
        let mut cuts: Vec<_> = resets.iter().filter(|reset| reset.0 == n).map(|r| r.1).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let begins_anew = cuts.first() == Some(&0);
        let mut first = 0;
        for cut in cuts.into_iter().chain([len]).filter(|&cut| cut > 0 || len == 0) {
            parts.push((n, first, cut - first, first > 0 || begins_anew, cut == len));
            first = cut;
        }
    }
    let cut = Schedule::packed(&parts.iter().map(|part| part.2).collect::<Vec<_>>()).unwrap();
    let rows = steps * lengths.len();
    let (x, targets) = (uniform(2, rows * inputs, 1.0), uniform(3, rows * outputs, 1.0));
    let row = |n: usize, step: usize| n * steps + step;
    let part_rows = || {
        parts.iter().flat_map(|&(n, first, len, ..)| (first..first + len).map(move |t| row(n, t)))
    };
    let packed = |all: &[f32], width: usize| -> Vec<f32> {
        part_rows().flat_map(|row| &all[row * width..][..width]).copied().collect()
    };

    for (threads, budget) in [(1, false), (2, false), (1, true)] {
        let mut model = drawn_model(network, Runtime::new(isa).threads(threads));
        let schedule = Schedule::batch_first(lengths, steps).unwrap().with_resets(resets).unwrap();
        let given = drawn_state(&model, lengths.len(), 4);
        let dlast = drawn_state(&model, lengths.len(), 5);
        let anew = drawn_state(&model, 1, 6);

        let mut run = |schedule: &Schedule, whole: bool, x: &[f32], targets: &[f32]| {
            let training = model.training(schedule).with_input_gradients().with_state_gradients();
            let mut workspace = match budget && whole {
                true => {
                    let bytes = training.bytes().unwrap();
                    training.with_budget(bytes - 1).workspace().unwrap()
                }
                false => training.workspace().unwrap(),
            };
            if whole {
                workspace.set_reset_state(&anew).unwrap();
                workspace.set_state(&given).unwrap();
                workspace.set_last_gradient(Some(&dlast)).unwrap();
            } else {
                let mut first = model.state(parts.len()).unwrap();
                let mut last = model.state(parts.len()).unwrap();
                for (at, &(n, _, _, is_reset, is_last)) in parts.iter().enumerate() {
                    let begin = if is_reset { anew.clone() } else { given.sequence(n).unwrap() };
                    first.set_sequence(at, &begin).unwrap();
                    if is_last {
                        last.set_sequence(at, &dlast.sequence(n).unwrap()).unwrap();
                    }
                }
                workspace.set_state(&first).unwrap();
                workspace.set_last_gradient(Some(&last)).unwrap();
            }
            workspace.set_noise(Noise { seed: 3, step: 0, sequence: 0 });
            let loss = SquaredError::sum(targets);
            let loss = model.gradients(&mut workspace, x, &loss, Accumulate::No).unwrap();
            let anew = whole.then(|| workspace.reset_state_gradients().unwrap());
            let results = Results {
                loss,
                gradients: workspace.gradients().as_slice().to_vec(),
                dx: workspace.input_gradients().unwrap().to_vec(),
                dstate: workspace.state_gradients().unwrap(),
                last: workspace.last_state().unwrap(),
            };
            (results, anew)
        };
        let (whole, danew) = run(&schedule, true, &x, &targets);
        let (by_hand, _) = run(&cut, false, &packed(&x, inputs), &packed(&targets, outputs));

        let what = format!("{what}, {threads} threads, budget: {budget}");
        assert_eq!(whole.loss.to_bits(), by_hand.loss.to_bits(), "{what}");
        assert_bits(&what, &whole.gradients, &by_hand.gradients);
        assert_bits(&what, &packed(&whole.dx, inputs), &by_hand.dx);
        let mut sum = vec![0.0f64; anew.as_slice().len()];
        for (at, &(n, _, _, is_reset, is_last)) in parts.iter().enumerate() {
            let dstate = by_hand.dstate.sequence(at).unwrap();
            if is_reset {
                sum.iter_mut().zip(dstate.as_slice()).for_each(|(s, d)| *s += f64::from(*d));
            } else {
                let given = whole.dstate.sequence(n).unwrap();
                assert_bits(&what, given.as_slice(), dstate.as_slice());
            }
            if is_last {
                let last = by_hand.last.sequence(at).unwrap();
                assert_bits(&what, whole.last.sequence(n).unwrap().as_slice(), last.as_slice());
            }
        }
        // A sum of as many terms as there are resets, each rounded once.
        let terms = resets.len() as f64 * f64::from(f32::EPSILON);
        let largest = by_hand.dstate.as_slice().iter().fold(0.0f32, |most, d| most.max(d.abs()));
        let danew = danew.unwrap();
        for (given, expected) in danew.as_slice().iter().zip(&sum) {
            let error = (f64::from(*given) - expected).abs();
            assert!(error <= terms * resets.len() as f64 * f64::from(largest), "{what}");
        }
    }
}

fn kinds() -> Vec<Kind> {
    Kind::kernels().into_iter().filter(|kind| !matches!(kind, Kind::Clockwork(..))).collect()
}

#[test]
fn resets_are_as_cut_by_hand() {
    let lengths = [9, 0, 14, 3];
    let resets = [(2, 5), (0, 1), (2, 6), (3, 0), (0, 8), (2, 5)];
    for (nth, kind) in kinds().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 3, hidden: 5 + 7 * (nth % 3) };
        for &isa in isas() {
            check(&subject.network(), &lengths, &resets, isa, &format!("{kind:?}"));
        }
    }
}

/// In 0.1 % and in 10 % of the steps.
#[test]
fn rare_and_frequent_resets() {
    let subject = Subject { kind: Kind::LSTM, inputs: 3, hidden: 9 };
    for every in [1000, 10] {
        let resets: Vec<_> = (0..3)
            .flat_map(|n| (n * 7 % every..1000).step_by(every).map(move |step| (n, step)))
            .collect();
        let isa = Isa::best().unwrap();
        check(&subject.network(), &[1000; 3], &resets, isa, "LSTM");
    }
}

/// Noise is drawn by the place in the sequence, whether it begins anew or not.
#[test]
fn noise_keeps_its_place() {
    let noise = Regularisation::none().with_dropout(0.3).unwrap().with_zoneout(0.3, 0.2).unwrap();
    let network = Network::new(bptt::Regularised::new(Lstm::new(3, 8).unwrap(), noise).unwrap());
    let isa = Isa::best().unwrap();
    let mut model = drawn_model(&network, Runtime::new(isa));
    let x = uniform(2, 12 * 2 * 3, 1.0);
    let whole = Schedule::dense(12, 2).with_resets(&[(0, 5), (1, 5)]).unwrap();
    let mut whole = model.training_workspace(whole).unwrap();
    whole.set_noise(Noise { seed: 9, step: 40, sequence: 3 });
    let y = model.forward(&mut whole, &x).unwrap().to_vec();
    // By hand: five steps, then seven from the zero state.
    for (first, end) in [(0, 5), (5, 12)] {
        let mut part = model.training_workspace(Schedule::dense(end - first, 2)).unwrap();
        part.set_noise(Noise { seed: 9, step: 40 + first as u64, sequence: 3 });
        let given = model.forward(&mut part, &x[first * 6..end * 6]).unwrap();
        assert_bits("y", given, &y[first * 16..end * 16]);
    }
}

#[test]
fn a_mask_is_the_same_as_a_list() {
    let lengths = [4, 2];
    let resets = [(0, 3), (1, 1)];
    let list = Schedule::padded(&lengths, 5).unwrap().with_resets(&resets).unwrap();
    let mut mask = [false; 10];
    (mask[3 * 2], mask[2 + 1]) = (true, true);
    // Padding is not read.
    mask[4 * 2 + 1] = true;
    assert_eq!(Schedule::padded(&lengths, 5).unwrap().with_reset_mask(&mask).unwrap(), list);
    assert_eq!((list.batch(), list.sequences(), list.steps(), list.rows()), (4, 2, 3, 6));
    let mask = [false, false, false, true, false, true];
    let packed = Schedule::packed(&lengths).unwrap();
    assert_eq!(
        packed.clone().with_reset_mask(&mask).unwrap(),
        packed.with_resets(&resets).unwrap()
    );
}

/// Chunks with the state carried on are as one pass.
#[test]
fn chunks_with_resets() {
    let subject = Subject { kind: Kind::LSTM, inputs: 3, hidden: 9 };
    let mut model = drawn_model(&subject.network(), Runtime::best().unwrap());
    let x = uniform(2, 20 * 2 * 3, 1.0);
    let resets = [(0, 3), (1, 7), (1, 12), (0, 10)];
    let whole = Schedule::dense(20, 2).with_resets(&resets).unwrap();
    let mut whole = model.training_workspace(whole).unwrap();
    let y = model.forward(&mut whole, &x).unwrap().to_vec();
    let mut carried: Option<State> = None;
    for chunk in 0..4 {
        let (first, end) = (5 * chunk, 5 * chunk + 5);
        let within = resets.iter().filter(|reset| (first..end).contains(&reset.1));
        let within: Vec<_> = within.map(|&(n, step)| (n, step - first)).collect();
        let schedule = Schedule::dense(5, 2).with_resets(&within).unwrap();
        let mut part = model.training_workspace(schedule).unwrap();
        if let Some(state) = &carried {
            part.set_state(state).unwrap();
        }
        let given = model.forward(&mut part, &x[first * 6..end * 6]).unwrap();
        assert_bits("y", given, &y[first * 18..end * 18]);
        let last = part.last_state().unwrap();
        assert_eq!(last.step(), end as u64);
        part.carry_state().unwrap();
        // A sequence that begins at a reset has no state to begin from.
        for n in 0..2 {
            match within.contains(&(n, 0)) {
                true => assert!(part.sequence_state(n).is_err()),
                false => {
                    assert_eq!(part.sequence_state(n).unwrap(), last.sequence(n).unwrap());
                }
            }
        }
        carried = Some(last);
    }
    assert_eq!(carried.unwrap().as_slice(), whole.last_state().unwrap().as_slice());
}

#[test]
fn refusals() {
    let schedule = || Schedule::packed(&[3, 0]).unwrap();
    let error = |resets: &[(usize, usize)]| schedule().with_resets(resets).unwrap_err().to_string();
    assert_eq!(
        error(&[(0, 3)]),
        "a reset is step 3 of sequence 0, expected below the 3 steps of the sequence"
    );
    assert_eq!(
        error(&[(1, 0)]),
        "a reset is step 0 of sequence 1, expected below the 0 steps of the sequence"
    );
    assert_eq!(error(&[(2, 0)]), "a reset is step 0 of sequence 2, expected a sequence below 2");
    let twice = schedule().with_resets(&[(0, 1)]).unwrap().with_resets(&[(0, 2)]).unwrap_err();
    assert!(matches!(twice, Error::Value { what: "the schedule", .. }), "{twice}");
    let mask = schedule().with_reset_mask(&[true; 4]).unwrap_err();
    assert_eq!(mask, Error::Length { what: "the mask of resets", given: 4, expected: 3 });

    let clockwork =
        Subject { kind: Kind::Clockwork(bptt::Activation::Tanh, &[1, 2]), inputs: 3, hidden: 4 };
    let mut model = drawn_model(&clockwork.network(), Runtime::best().unwrap());
    let resets = schedule().with_resets(&[(0, 1)]).unwrap();
    let error = model.training_workspace(resets).unwrap_err();
    assert!(error.to_string().starts_with("resets: made for"), "{error}");
}
