//! Drawn lists of sequences: whatever their lengths, order, layout and resets, the borders of chunks,
//! the budget and the threads, each sequence has the bits of itself alone, run part by part between
//! its resets; and the gradients of the parameters have those of one pass over all parts.

use crate::common::{
    Kind, Layout, Own, Sequence, Subject, any_of, assert_bits, check, draw_list, drawn_model, isas,
    lengths_of, run_alone, run_list,
};
use crate::list::{List, Part};
use bptt::{Accumulate, Error, Isa, Model, Noise, Runtime, Schedule, State, Training, Workspace};
use proptest::prelude::*;
use proptest::sample::Index;

/// How a list of sequences is run.
#[derive(Clone, Debug)]
struct Run {
    /// 0: time-major, 1: batch-first, 2: packed; and steps of padding after the longest sequence.
    layout: (u8, usize),
    /// Steps at which the list is cut into chunks of time.
    borders: Vec<Index>,
    /// Which part of the way a budget is from the least to the one that needs no division.
    budget: Option<u8>,
    threads: usize,
}

/// Lengths of sequences in any order: drawn, nearly all 0, all 0, all the same, one long sequence and
/// many short ones, and from the longest to the shortest.
fn lengths() -> impl Strategy<Value = Vec<usize>> {
    let drawn = || proptest::collection::vec(0..=14usize, 1..=9);
    let one_long = (proptest::collection::vec(0..=3usize, 1..=12), any::<Index>(), 15..=60usize);
    let sorted = |mut lengths: Vec<usize>| {
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths
    };
    prop_oneof![
        3 => drawn(),
        1 => proptest::collection::vec(prop_oneof![4 => Just(0), 1 => Just(5usize)], 1..=9),
        1 => (1..=5usize).prop_map(|batch| vec![0; batch]),
        1 => (1..=9usize, 1..=14usize).prop_map(|(batch, steps)| vec![steps; batch]),
        2 => one_long.prop_map(|(mut lengths, at, long)| {
            let at = at.index(lengths.len());
            lengths[at] = long;
            lengths
        }),
        2 => drawn().prop_map(sorted),
    ]
}

fn runs() -> impl Strategy<Value = Run> {
    let layout = (0..3u8, 0..3usize);
    let borders = prop_oneof![Just(vec![]), proptest::collection::vec(any::<Index>(), 1..=3)];
    let budget = prop_oneof![Just(None), (0..4u8).prop_map(Some)];
    (layout, borders, budget, 1..=3usize).prop_map(|(layout, borders, budget, threads)| Run {
        layout,
        borders,
        budget,
        threads,
    })
}

/// The results of sequence `n`, from its parts alone. By a state that it does not begin from it has
/// no gradient.
fn alone(model: &mut Model, list: &List, n: usize) -> Own {
    let parts = list.parts(n);
    let of = |part: &Part| run_alone(model, &part.sequence, Noise::default()).0;
    let mut all: Vec<Own> = parts.iter().map(of).collect();
    if parts[0].begins_anew {
        all[0].dstate.as_mut_slice().fill(0.0);
    }
    Own {
        y: Some(all.iter().flat_map(|own| own.y.clone().unwrap()).collect()),
        last: all[all.len() - 1].last.clone(),
        dx: all.iter().flat_map(|own| own.dx.clone()).collect(),
        dstate: all[0].dstate.clone(),
    }
}

/// The gradients of one pass over all parts, from the shortest to the longest.
fn gradients_of_parts(model: &mut Model, list: &List) -> Vec<f32> {
    let parts = (0..list.sequences.len()).flat_map(|n| list.parts(n));
    let mut parts: Vec<Sequence> = parts.map(|part| part.sequence).collect();
    parts.sort_by_key(|part| part.x.len());
    let schedule = Schedule::packed(&lengths_of(model, &parts)).unwrap();
    let training = model.training(schedule).with_input_gradients().with_state_gradients();
    let mut workspace = training.workspace().unwrap();
    run_list((model, &mut workspace), Layout::Packed, &parts, Accumulate::No);
    workspace.gradients().as_slice().to_vec()
}

/// A workspace under the budget, if there is one.
fn workspace(model: &mut Model, schedule: &Schedule, budget: Option<u8>) -> Workspace {
    fn training<'a>(model: &'a mut Model, schedule: &Schedule) -> Training<'a> {
        model.training(schedule).with_input_gradients().with_state_gradients()
    }
    let Some(share) = budget else { return training(model, schedule).workspace().unwrap() };
    let whole = training(model, schedule).bytes().unwrap();
    // The error of a budget that is too small says the least that would do.
    let least = match training(model, schedule).with_budget(1).bytes() {
        Err(Error::Value { what: "budget", expected, .. }) => {
            expected.split(' ').next().unwrap().parse::<usize>().unwrap()
        }
        other => panic!("a budget of 1 byte: {other:?}"),
    };
    let bytes = least + (whole - least) * usize::from(share) / 4;
    let workspace = training(model, schedule).with_budget(bytes).workspace().unwrap();
    assert!(workspace.bytes() <= bytes);
    workspace
}

/// The list in chunks of time: forward from the first to the last, with the states carried on, and
/// backward from the last to the first, with the gradients carried back and added up. Returns the
/// gradients of the parameters, and how many chunks there were.
fn in_chunks(model: &mut Model, list: &List, run: &Run) -> (Vec<Own>, Vec<f32>, usize) {
    let batch = list.sequences.len();
    let longest = (0..batch).map(|n| list.len(n)).max().unwrap();
    let mut borders: Vec<usize> = run.borders.iter().map(|at| at.index(longest + 1)).collect();
    borders.extend([0, longest]);
    borders.sort_unstable();
    borders.dedup();
    if longest == 0 {
        borders.push(0);
    }
    let layout = |steps: usize| match run.layout {
        (0, more) => Layout::TimeMajor((steps + more).max(1)),
        (1, more) => Layout::BatchFirst((steps + more).max(1)),
        _ => Layout::Packed,
    };
    let mut chunks: Vec<(Layout, Vec<Sequence>, Workspace)> = Vec::new();
    let mut states: Vec<State> = list.sequences.iter().map(|own| own.state.clone()).collect();
    let mut outputs: Vec<Option<Vec<f32>>> = vec![Some(Vec::new()); batch];
    for ends in borders.windows(2) {
        let (from, to) = (ends[0], ends[1]);
        let of = |n: usize| {
            let steps = from.min(list.len(n))..to.min(list.len(n));
            let state = states[n].clone();
            Sequence { state, ..list.steps(n, steps) }
        };
        let chunk: Vec<Sequence> = (0..batch).map(of).collect();
        let within = list.resets.iter().filter(|reset| (from..to).contains(&reset.1));
        let resets: Vec<_> = within.map(|&(n, step)| (n, step - from)).collect();
        let layout = layout(to - from);
        let mut schedule = layout.schedule(&lengths_of(model, &chunk));
        if !resets.is_empty() {
            schedule = schedule.with_resets(&resets).unwrap();
        }
        let mut workspace = workspace(model, &schedule, run.budget);
        workspace.set_reset_state(&list.anew).unwrap();
        let own = run_list((model, &mut workspace), layout, &chunk, Accumulate::No);
        for (n, own) in own.into_iter().enumerate() {
            states[n] = own.last;
            outputs[n] = outputs[n].take().zip(own.y).map(|(all, y)| [all, y].concat());
        }
        chunks.push((layout, chunk, workspace));
    }

    let count = chunks.len();
    let mut carried: Vec<State> = list.sequences.iter().map(|own| own.dlast.clone()).collect();
    let mut dx = vec![Vec::new(); batch];
    let mut gradients: Option<Vec<f32>> = None;
    for (layout, mut chunk, mut workspace) in chunks.into_iter().rev() {
        for (own, dlast) in chunk.iter_mut().zip(&carried) {
            own.dlast = dlast.clone();
            // A gradient has no number of steps, and is joined to those of the other sequences.
            own.dlast.set_step(0).unwrap();
        }
        let accumulate = match &gradients {
            Some(before) => {
                workspace.gradients_mut().as_mut_slice().copy_from_slice(before);
                Accumulate::Yes
            }
            None => Accumulate::No,
        };
        let own = run_list((model, &mut workspace), layout, &chunk, accumulate);
        for (n, own) in own.into_iter().enumerate() {
            carried[n] = own.dstate;
            dx[n].splice(0..0, own.dx);
        }
        gradients = Some(workspace.gradients().as_slice().to_vec());
    }
    let all = outputs.into_iter().zip(states).zip(dx).zip(carried);
    let own = all.map(|(((y, last), dx), dstate)| Own { y, last, dx, dstate }).collect();
    (own, gradients.unwrap(), count)
}

fn is_as_alone(isa: Isa, list: &List, run: &Run) {
    let network = list.subject.network();
    let mut single = drawn_model(&network, Runtime::new(isa));
    let mut model = drawn_model(&network, Runtime::new(isa).threads(run.threads));
    let (own, gradients, chunks) = in_chunks(&mut model, list, run);
    for (n, own) in own.iter().enumerate() {
        own.assert_same(&format!("sequence {n} on {isa}"), &alone(&mut single, list, n));
    }
    // In a chunk, sequences of different lengths may have the same one, and then they are summed from
    // the last one given to the first: in the order of the whole if that is the shortest one. Parts
    // between resets run beside each other in one pass, and one after the other in several.
    let lengths = || (0..list.sequences.len()).map(|n| list.len(n));
    if chunks == 1 || list.resets.is_empty() && lengths().rev().is_sorted() {
        let expected = gradients_of_parts(&mut single, list);
        assert_bits(&format!("gradients on {isa}"), &gradients, &expected);
    }
}

#[test]
fn lists_are_as_their_sequences_alone() {
    bptt_kernels::team::set_cores(8);
    let sizes = (1..=9usize, prop_oneof![1..=24usize, 25..=70usize]);
    let resets = prop_oneof![
        Just(vec![]),
        proptest::collection::vec((any::<Index>(), any::<Index>()), 1..=8)
    ];
    let case = (any_of(Kind::kernels()), sizes, lengths(), resets, runs(), any::<u64>());
    check(400, case, |(kind, (inputs, hidden), lengths, resets, run, seed)| {
        let subject = Subject { kind, inputs, hidden };
        let is_clocked = matches!(kind, Kind::Clockwork(..));
        // Which groups of a clockwork move depends on where its clock stands.
        let start = if is_clocked { seed % 7 } else { 0 };
        let sequences = draw_list(&subject, &lengths, seed, start);
        let anew = draw_list(&subject, &[0], !seed, start).remove(0).state;
        let with_steps: Vec<usize> = (0..lengths.len()).filter(|&n| lengths[n] > 0).collect();
        let mut list = List { subject, sequences, resets: Vec::new(), anew };
        // A clockwork has no resets.
        if !is_clocked && !with_steps.is_empty() {
            let reset = |(n, step): &(Index, Index)| {
                let n = *n.get(&with_steps);
                (n, step.index(lengths[n]))
            };
            list.resets = resets.iter().map(reset).collect();
        }
        for &isa in isas() {
            is_as_alone(isa, &list, &run);
        }
    });
}
