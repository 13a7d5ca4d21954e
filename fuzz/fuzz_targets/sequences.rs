//! Sequences of drawn lengths in a drawn network: each has the bits of itself alone, and the loss and
//! all gradients have the same bits in any layout, in any order, under any budget and in chunks; and a
//! sequence with resets has those of its parts.
#![no_main]

use bptt::{Error, Model, Padding};
use bptt_fuzz::Bytes;
use bptt_fuzz::common::Layout;
use bptt_fuzz::sequences::{
    Arrangement, Case, Own, Results, Sequence, arrangement, lengths_of, run, training, workspace,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(mut bytes) = Bytes::new(input) else { return };
    let mut case = Case::draw(&mut bytes);
    let mut model = case.model();
    let mut whole = workspace(&mut model, &case.arrangement.schedule(&case.lengths()));
    let mut pass =
        || run((&model, &mut whole, case.targets), &case.sequences, case.arrangement, None);
    let results = pass();
    assert_same("again", &case, &pass(), &results);
    alone(&case, &mut model, &results);
    under_budgets(&mut bytes, &case, &mut model, &results);
    in_chunks(&mut bytes, &case, &mut model, &results);
    // The noise of a part depends on its place in its sequence.
    if case.has_resets && !case.noisy {
        with_resets(&mut bytes, &case, &mut model);
    }
    if !case.arrangement.dense {
        laid_out(&mut bytes, &case, &mut model, &results);
        // The noise of a sequence depends on its place.
        if !case.noisy {
            reordered(&mut bytes, &mut case, &mut model, results);
        }
    }
});

fn assert_same(what: &str, case: &Case, given: &Results, expected: &Results) {
    assert_eq!(given.loss.to_bits(), expected.loss.to_bits(), "loss, {what}");
    bptt_fuzz::assert_same(what, case.isa, &given.gradients, &expected.gradients);
    for (given, expected) in given.sequences.iter().zip(&expected.sequences) {
        given.assert_same(what, case.isa, expected);
    }
}

/// A sequence without a step keeps its state and its gradient.
fn alone(case: &Case, model: &mut Model, results: &Results) {
    for (sequence, given) in case.sequences.iter().zip(&results.sequences) {
        let steps = sequence.x.len() / case.inputs;
        if steps == 0 {
            let Sequence { state, dlast, .. } = sequence.clone();
            let (y, dx) = (Some(Vec::new()), Vec::new());
            given.assert_same("no steps", case.isa, &Own { y, last: state, dx, dstate: dlast });
            continue;
        }
        let (own, alone) = (std::slice::from_ref(sequence), Arrangement::dense(steps));
        let mut workspace = workspace(model, &alone.schedule(&[steps]));
        let expected = run((model, &mut workspace, case.targets), own, alone, None);
        given.assert_same("alone", case.isa, &expected.sequences[0]);
    }
}

/// The least budget, one byte less, and any more.
fn under_budgets(bytes: &mut Bytes<'_>, case: &Case, model: &mut Model, expected: &Results) {
    let schedule = case.arrangement.schedule(&case.lengths());
    let mut with = |budget: usize, result: &mut Option<Results>| {
        let mut workspace = training(model, &schedule).with_budget(budget).workspace()?;
        assert!(workspace.bytes() <= budget);
        *result = Some(run(
            (model, &mut workspace, case.targets),
            &case.sequences,
            case.arrangement,
            None,
        ));
        Ok(workspace.bytes())
    };
    let mut least_for = |budget| match with(budget, &mut None) {
        Err(Error::Value { what: "budget", expected, .. }) => {
            expected.split(' ').next().unwrap().parse::<usize>().unwrap()
        }
        other => panic!("a budget of {budget} bytes: {other:?}"),
    };
    let least = least_for(1);
    assert_eq!(least_for(least - 1), least);
    for more in [0, bytes.below(1 << 10), 8 * bytes.below(u16::MAX.into())] {
        let mut given = None;
        with(least + more, &mut given).unwrap();
        assert_same(&format!("{more} bytes above {least}"), case, &given.unwrap(), expected);
    }
}

/// The steps `from..to` of a sequence.
fn cut(case: &Case, sequence: &Sequence, (from, to): (usize, usize)) -> Sequence {
    let steps = sequence.x.len() / case.inputs;
    let (from, to) = (from.min(steps), to.min(steps));
    let of = |all: &[f32]| match all.len().checked_div(steps) {
        Some(width) => all[from * width..to * width].to_vec(),
        None => Vec::new(),
    };
    Sequence { x: of(&sequence.x), targets: of(&sequence.targets), ..sequence.clone() }
}

/// Chunks of time with the states carried on, and the gradients carried back.
fn in_chunks(bytes: &mut Bytes<'_>, case: &Case, model: &mut Model, expected: &Results) {
    let longest = case.lengths().into_iter().max().unwrap();
    let mut borders = vec![0, longest];
    borders.extend((0..bytes.size(3)).map(|_| bytes.below(longest)));
    borders.sort_unstable();
    if case.arrangement.dense {
        borders.dedup();
    }
    let mut chunks: Vec<(Arrangement, Vec<Sequence>)> = Vec::new();
    let mut states: Vec<_> = case.sequences.iter().map(|sequence| sequence.state.clone()).collect();
    let mut y = vec![Vec::new(); states.len()];
    for ends in borders.windows(2) {
        let cut = |(n, sequence): (usize, _)| Sequence {
            state: states[n].clone(),
            ..cut(case, sequence, (ends[0], ends[1]))
        };
        let chunk: Vec<Sequence> = case.sequences.iter().enumerate().map(cut).collect();
        let arranged = match case.arrangement.dense {
            true => Arrangement::dense(ends[1] - ends[0]),
            false => arrangement(bytes, ends[1] - ends[0]),
        };
        let schedule = arranged.schedule(&lengths_of(&chunk, case.inputs));
        let mut workspace = workspace(model, &schedule);
        let results = run((model, &mut workspace, case.targets), &chunk, arranged, None);
        for (n, own) in results.sequences.into_iter().enumerate() {
            states[n] = own.last;
            y[n].extend(own.y.unwrap());
        }
        chunks.push((arranged, chunk));
    }
    for (own, (y, state)) in expected.sequences.iter().zip(y.iter().zip(&states)) {
        bptt_fuzz::assert_same("y in chunks", case.isa, y, own.y.as_ref().unwrap());
        bptt_fuzz::assert_same("last", case.isa, state.as_slice(), own.last.as_slice());
    }

    let mut carried: Vec<_> =
        case.sequences.iter().map(|sequence| sequence.dlast.clone()).collect();
    let mut dx = vec![Vec::new(); carried.len()];
    let mut gradients: Option<Vec<f32>> = None;
    for (arranged, mut chunk) in chunks.into_iter().rev() {
        for (sequence, dlast) in chunk.iter_mut().zip(&carried) {
            sequence.dlast = dlast.clone();
            sequence.dlast.set_step(sequence.state.step()).unwrap();
        }
        let schedule = arranged.schedule(&lengths_of(&chunk, case.inputs));
        let mut workspace = workspace(model, &schedule);
        let results =
            run((model, &mut workspace, case.targets), &chunk, arranged, gradients.as_deref());
        for (n, own) in results.sequences.into_iter().enumerate() {
            carried[n] = own.dstate;
            dx[n].splice(0..0, own.dx);
        }
        gradients = Some(results.gradients);
    }
    for (own, (dx, dstate)) in expected.sequences.iter().zip(dx.iter().zip(&carried)) {
        bptt_fuzz::assert_same("dx in chunks", case.isa, dx, &own.dx);
        bptt_fuzz::assert_same("dstate", case.isa, dstate.as_slice(), own.dstate.as_slice());
    }
    // In a chunk, sequences of different lengths may have the same one and so another order.
    if case.arrangement.dense {
        bptt_fuzz::assert_same("chunks", case.isa, &gradients.unwrap(), &expected.gradients);
    }
}

/// Sequences that begin anew from a drawn state have the bits of their parts.
fn with_resets(bytes: &mut Bytes<'_>, case: &Case, model: &mut Model) {
    let (lengths, anew) = (case.lengths(), &case.sequences[0].dlast);
    let steps = lengths.iter().enumerate().flat_map(|(n, &len)| (0..len).map(move |t| (n, t)));
    let resets: Vec<_> = steps.filter(|_| bytes.byte().is_multiple_of(5)).collect();
    if resets.is_empty() {
        return;
    }
    // The parts of each sequence, which begin at these steps or where the sequence begins.
    let mut parts = Vec::new();
    for (n, sequence) in case.sequences.iter().enumerate() {
        let mut ends: Vec<_> = resets.iter().filter(|r| r.0 == n && r.1 > 0).map(|r| r.1).collect();
        ends.push(lengths[n]);
        let mut first = 0;
        for end in ends {
            let mut part = cut(case, sequence, (first, end));
            if resets.contains(&(n, first)) {
                part.state = anew.clone();
            }
            if end < lengths[n] {
                part.dlast.as_mut_slice().fill(0.0);
            }
            parts.push((n, first, end, part));
            first = end;
        }
    }

    let schedule = case.arrangement.schedule(&lengths).with_resets(&resets).unwrap();
    let mut whole = workspace(model, &schedule);
    whole.set_reset_state(anew).unwrap();
    let given = run((model, &mut whole, case.targets), &case.sequences, case.arrangement, None);
    let own: Vec<Sequence> = parts.iter().map(|part| part.3.clone()).collect();
    let packed = Arrangement { layout: Layout::Packed, dense: false, padding: Padding::Zeros };
    let mut workspace = workspace(model, &packed.schedule(&lengths_of(&own, case.inputs)));
    let expected = run((model, &mut workspace, case.targets), &own, packed, None);
    assert_eq!(given.loss.to_bits(), expected.loss.to_bits(), "loss, {resets:?}");
    bptt_fuzz::assert_same("with resets", case.isa, &given.gradients, &expected.gradients);
    for ((n, first, end, _), expected) in parts.into_iter().zip(expected.sequences) {
        let given = &given.sequences[n];
        let of = |all: &[f32]| match all.len().checked_div(lengths[n]) {
            Some(width) => all[first * width..end * width].to_vec(),
            None => Vec::new(),
        };
        // What is not known of a part is as expected.
        let (mut last, mut dstate) = (expected.last.clone(), expected.dstate.clone());
        if end == lengths[n] {
            last = given.last.clone();
        }
        if first == 0 && !resets.contains(&(n, 0)) {
            dstate = given.dstate.clone();
        }
        let y = given.y.as_deref().map(of);
        let part = Own { y, last, dx: of(&given.dx), dstate };
        part.assert_same(&format!("{first}..{end} of {n}, {resets:?}"), case.isa, &expected);
    }
}

fn laid_out(bytes: &mut Bytes<'_>, case: &Case, model: &mut Model, expected: &Results) {
    let lengths = case.lengths();
    let other = arrangement(bytes, lengths.iter().copied().max().unwrap());
    let mut workspace = workspace(model, &other.schedule(&lengths));
    let given = run((model, &mut workspace, case.targets), &case.sequences, other, None);
    assert_same(&format!("as {other:?}"), case, &given, expected);
}

/// Another order of the sequences, in a workspace that had them in this one.
fn reordered(bytes: &mut Bytes<'_>, case: &mut Case, model: &mut Model, mut expected: Results) {
    let mut workspace = workspace(model, &case.arrangement.schedule(&case.lengths()));
    for last in (1..case.sequences.len()).rev() {
        let other = bytes.below(last);
        case.sequences.swap(last, other);
        expected.sequences.swap(last, other);
    }
    let lengths = case.lengths();
    workspace.replan(case.arrangement.schedule(&lengths)).unwrap();
    let given = run((model, &mut workspace, case.targets), &case.sequences, case.arrangement, None);
    for (given, expected) in given.sequences.iter().zip(&expected.sequences) {
        given.assert_same("reordered", case.isa, expected);
    }
    // Sequences of one length are summed in their order.
    let mut sorted: Vec<_> = lengths.into_iter().filter(|&len| len > 0).collect();
    sorted.sort_unstable();
    if sorted.is_sorted_by(|a, b| a < b) {
        assert_same("reordered", case, &given, &expected);
    }
}
