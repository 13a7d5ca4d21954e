//! Every cell on lists of sequences against the `f64` reference, within bounds that are derived for
//! each case and not tuned. The reference runs each sequence by itself; where a sequence begins
//! anew, its parts are sequences of their own.

use crate::common::{Kind, Layout, Subject, draw_list, has_jump, isas, run_list};
use crate::list::{List, Part, inputs, tensors};
use bptt::{Accumulate, State};
use bptt_reference::bounds::{assert_within, exact};
use bptt_reference::cells::List as Outcomes;
use bptt_reference::sample::uniform;
use bptt_reference::{Bounded, Number};
use std::iter::once;

/// Lengths of sequences: in no order and with zeros, with no step at all, one long sequence and many
/// short ones, all the same, and one sequence.
const LENGTHS: [&[usize]; 5] =
    [&[3, 0, 5, 1, 4, 0, 2], &[0; 3], &[1, 2, 1, 8, 1, 0, 2, 1, 1], &[4; 3], &[6]];

/// Steps of padded arrays: more than any sequence has.
const STEPS: usize = 9;

const LAYOUTS: [Layout; 3] = [Layout::TimeMajor(STEPS), Layout::BatchFirst(STEPS), Layout::Packed];

/// Resets of sequences of these lengths, the number of the sequence and the step of each: before the first step of some, and in the
/// middle, one step after another among them.
fn resets(lengths: &[usize]) -> Vec<(usize, usize)> {
    let of = |(n, &len): (usize, &usize)| (0..len).map(move |step| (n, step));
    let all = lengths.iter().enumerate().flat_map(of);
    all.filter(|(n, step)| [0, 3, 5, 6].contains(&((n + 4 * step) % 7))).collect()
}

/// What the reference expects of one sequence of the list.
struct Expected {
    y: Vec<Bounded>,
    dx: Vec<Bounded>,
    /// The last h, c and x, and the gradients by the first, by which none is asked for if the
    /// sequence begins at a reset.
    last: [Vec<Bounded>; 3],
    dstate: Option<[Vec<Bounded>; 3]>,
}

/// What the reference expects of all sequences, the gradients of the parameters, and those of the
/// state that sequences have after a reset.
fn expected(list: &List, parameters: &[f32]) -> (Vec<Expected>, Vec<Bounded>, [Vec<Bounded>; 3]) {
    let layer = list.subject.reference();
    let parts: Vec<Vec<Part>> = (0..list.sequences.len()).map(|n| list.parts(n)).collect();
    let given: Vec<_> = parts.iter().flatten().map(|part| inputs(&part.sequence)).collect();
    let Outcomes { params, sequences } = layer.run_list(&exact(parameters), &given);
    let mut results = given.iter().zip(sequences);
    let (mut all, mut of_anew) = (Vec::new(), Vec::new());
    for parts in &parts {
        let (mut y, mut dx, mut last, mut dstate) = (vec![], vec![], None, None);
        for part in parts {
            let (inputs, outcome) = results.next().expect("results of each part");
            last = Some(layer.last_state(inputs, &outcome));
            y.extend(outcome.h);
            dx.extend(outcome.dx);
            let gradients = [outcome.dh0, outcome.dc0, outcome.dx0];
            match part.begins_anew {
                true => of_anew.push(gradients),
                false => dstate = Some(gradients),
            }
        }
        all.push(Expected { y, dx, last: last.expect("a part of each sequence"), dstate });
    }
    // The gradients by the state after a reset are sums over the resets, from 0.
    let danew = [0, 1, 2].map(|which| {
        let sum = |k: usize| {
            let terms = of_anew.iter().map(|of: &[Vec<Bounded>; 3]| of[which][k]);
            Bounded::dot(once(Bounded::zero()).chain(terms).map(|term| (term, Bounded::one())))
        };
        (0..tensors(&list.anew)[which].len()).map(sum).collect()
    });
    (all, params, danew)
}

fn assert_states(what: &str, given: &State, expected: &[Vec<Bounded>; 3]) {
    for (name, (given, expected)) in
        ["h", "c", "x"].into_iter().zip(tensors(given).iter().zip(expected))
    {
        assert_within(&format!("{name} of {what}"), given, expected);
    }
}

/// Compares the results in each layout on each instruction set. Returns how many bounds there are,
/// and how many are so wide that they would find no fault.
fn compare(
    subject: &Subject,
    lengths: &[usize],
    resets: &[(usize, usize)],
    seed: u64,
) -> [usize; 2] {
    let list = List {
        subject: *subject,
        sequences: draw_list(subject, lengths, seed, 0),
        resets: resets.to_vec(),
        anew: draw_list(subject, &[0], seed + 1, 0).remove(0).state,
    };
    let parameters = uniform(1, subject.parameter_count(), 0.1);
    let (all, params, danew) = expected(&list, &parameters);
    for &isa in isas() {
        let mut model = subject.model(isa, &parameters);
        for layout in LAYOUTS {
            let mut schedule = layout.schedule(lengths);
            if !resets.is_empty() {
                schedule = schedule.with_resets(resets).unwrap();
            }
            let training = model.training(schedule).with_input_gradients().with_state_gradients();
            let mut workspace = training.workspace().unwrap();
            workspace.set_reset_state(&list.anew).unwrap();
            let own = run_list((&model, &mut workspace), layout, &list.sequences, Accumulate::No);
            let case = format!("{subject:?} on {isa}, {lengths:?}, {resets:?}, {layout:?}");
            for (n, (own, expected)) in own.iter().zip(&all).enumerate() {
                let what = format!("sequence {n}, {case}");
                assert_within(&format!("y, {what}"), own.y.as_ref().unwrap(), &expected.y);
                assert_within(&format!("dx, {what}"), &own.dx, &expected.dx);
                assert_states(&format!("the last state, {what}"), &own.last, &expected.last);
                if let Some(expected) = &expected.dstate {
                    assert_states(&format!("dstate, {what}"), &own.dstate, expected);
                }
            }
            assert_within(&format!("params, {case}"), workspace.gradients().as_slice(), &params);
            let given = workspace.reset_state_gradients().unwrap();
            assert_states(&format!("the gradient of the reset state, {case}"), &given, &danew);
        }
    }
    let of_sequence = |own: &Expected| {
        let states = own.last.iter().chain(own.dstate.iter().flatten());
        let of_rows = [&own.y, &own.dx].into_iter();
        of_rows.chain(states).flatten().map(|b| b.bound).collect::<Vec<_>>()
    };
    let own = all.iter().flat_map(of_sequence);
    let of_all = danew.iter().flatten().chain(&params).map(|b| b.bound);
    let bounds: Vec<f64> = own.chain(of_all).collect();
    [bounds.len(), bounds.iter().filter(|&&bound| bound > 2e-2).count()]
}

/// Runs a test that counts bounds on each kind, and asserts that nearly all would find a fault.
fn each_kind(test: impl Fn(&Subject, u64) -> [usize; 2]) {
    let mut all = [0; 2];
    for (nth, kind) in Kind::all().into_iter().enumerate() {
        let subject = Subject { kind, inputs: 1 + nth % 4, hidden: 5 + 7 * (nth % 3) };
        let [bounds, loose] = test(&subject, nth as u64);
        // Where the slope of max(0, a) is not certain, its bound is 1.
        if !has_jump(subject.kind) {
            all = [all[0] + bounds, all[1] + loose];
        }
    }
    let [bounds, loose] = all;
    println!("{loose} of {bounds} bounds above 0.02");
    assert!(loose * 200 < bounds, "{loose} of {bounds} bounds find no fault");
}

#[test]
fn lists_of_any_lengths() {
    each_kind(|subject, seed| {
        let counts = LENGTHS.map(|lengths| compare(subject, lengths, &[], seed));
        [0, 1].map(|which| counts.iter().map(|counts| counts[which]).sum())
    });
}

/// A sequence with resets is its parts.
#[test]
fn lists_with_resets() {
    each_kind(|subject, seed| {
        // A clockwork has no resets.
        if matches!(subject.kind, Kind::Clockwork(..)) {
            return [0; 2];
        }
        let counts = LENGTHS.map(|lengths| compare(subject, lengths, &resets(lengths), seed));
        [0, 1].map(|which| counts.iter().map(|counts| counts[which]).sum())
    });
}
