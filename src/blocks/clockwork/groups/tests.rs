//! Tests over many small passes of groups: a pass never keeps more than is booked for it, and each
//! move belongs to exactly one run.

use super::*;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{RaggedMoves, RaggedRows};
use bptt_kernels::tuning::{CHUNK_ROWS, ROWS_ALONE};

const PERIODS: std::ops::RangeInclusive<usize> = 1..=12;

/// Lengths of sequences, the longest first.
const LENGTHS: [&[usize]; 6] =
    [&[0], &[1], &[40, 40, 3], &[9, 7, 7, 2, 1, 0, 0], &[120, 100, 100, 31, 31, 31, 5], &[17; 20]];

/// Makes a layer of these groups with one input.
fn clocked(groups: &[Group]) -> Clocked {
    let hidden = groups.iter().map(|group| group.units).sum();
    Clocked { groups: groups.into(), activation: Activations::Tanh.into(), input: 1, hidden }
}

/// The rows of sequences of different lengths, the longest first.
fn ragged(lengths: &[usize], groups: &[Group]) -> RaggedMoves {
    let mut starts = vec![0];
    for step in 0..lengths[0] {
        let count = lengths.iter().filter(|&&len| len > step).count();
        starts.push(starts[step] + count);
    }
    let rows = RaggedRows::new(starts, lengths.len()).unwrap();
    RaggedMoves::new(rows.step_rows(), groups).unwrap()
}

fn keeps_what_is_booked(clocked: &Clocked, rows: MoveRows<'_>, what: &str) {
    let most = clocked.most_kept(rows).unwrap();
    assert_eq!(clocked.kept_len(0, rows), most, "{what}");
    for start in (0..30).chain(u64::MAX - 30..=u64::MAX) {
        assert!(clocked.kept_len(start, rows) <= most, "{what}, from {start}");
    }
}

#[test]
fn no_pass_keeps_more_than_is_booked() {
    for period in PERIODS {
        let groups = [(2, 0, 1), (3, 2, period)];
        let groups = groups.map(|(units, first, period)| Group { units, first, period });
        let clocked = clocked(&groups);
        for steps in 0..40 {
            let what = format!("a period of {period}, {steps} steps");
            keeps_what_is_booked(&clocked, MoveRows::dense(steps, 2), &what);
        }
        for lengths in LENGTHS {
            let (what, moves) = (format!("{period}, {lengths:?}"), ragged(lengths, &groups));
            keeps_what_is_booked(&clocked, moves.move_rows(), &what);
            let rows = |period: usize| {
                (0..lengths[0])
                    .step_by(period)
                    .flat_map(|step| lengths.iter().filter(move |&&len| len > step))
            };
            let expected = 2 * rows(1).count() + 3 * rows(period).count();
            assert_eq!(clocked.most_kept(moves.move_rows()).unwrap(), expected, "{what}");
        }
    }
}

/// Splits the moves from `first` on into runs.
fn has_each_move_once(
    clocked: &Clocked,
    rows: MoveRows<'_>,
    moves: Moves<'_>,
    (first, alone): (usize, bool),
) {
    let Gathered { inputs, states } = clocked.gathered(rows).unwrap();
    let (what, all) = (format!("{moves:?} from {first}, alone: {alone}"), moves.all().end);
    let begin = moves.runs(first..all, alone).fold(all, |begin, run| {
        assert!(run.end == begin && !run.is_empty(), "{what}");
        let rows: usize = run.clone().map(|nth| moves.rows_of_step(nth).len()).sum();
        assert_eq!(moves.rows(&run).len(), rows, "{what}");
        match moves.together(&run) {
            None => assert!(rows <= inputs.min(states), "{what}"),
            Some(together) => {
                let of_steps = run.clone().flat_map(|nth| moves.rows_of_step(nth));
                assert!(together.eq(of_steps), "{what}");
            }
        }
        // Of a group that does not move at each step, all states are gathered.
        assert!(moves.group().period == 1 || rows <= states, "{what}");
        run.start
    });
    assert_eq!(begin, first.min(all), "{what}");
}

#[test]
fn runs_have_each_move_once_and_fit_what_is_gathered() {
    for period in PERIODS {
        let groups = [Group { units: 1, first: 0, period }];
        let clocked = clocked(&groups);
        let check = |rows: MoveRows<'_>, start: u64| {
            let moves = Moves::of_groups(clocked.at(start), rows).next().unwrap();
            let all = moves.all().end;
            for ways in [(0, false), (0, true), (all / 2, false), (all / 2, true)] {
                has_each_move_once(&clocked, rows, moves, ways);
            }
        };
        for batch in [1, 2, 3, ROWS_ALONE - 1, ROWS_ALONE, CHUNK_ROWS / 2, CHUNK_ROWS + 1] {
            (0..300).for_each(|steps| check(MoveRows::dense(steps, batch), 0));
        }
        for lengths in LENGTHS.into_iter().chain([&[300; 2 * ROWS_ALONE][..]]) {
            let rows = ragged(lengths, &groups);
            (0..13).for_each(|start| check(rows.move_rows(), start));
        }
    }
}
