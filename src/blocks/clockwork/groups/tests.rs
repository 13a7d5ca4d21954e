//! Tests over many small passes of groups: a pass never keeps more than is booked for it, and each
//! move belongs to exactly one run.

use super::*;
use bptt_kernels::recurrence::StepRows;

const PERIODS: std::ops::RangeInclusive<usize> = 1..=12;

/// Makes a layer of these groups with one input.
fn clocked(groups: &[Group]) -> Clocked {
    let hidden = groups.iter().map(|group| group.units).sum();
    Clocked { groups: groups.into(), activations: Activations::Tanh, input: 1, hidden }
}

#[test]
fn no_pass_keeps_more_than_is_booked() {
    for period in PERIODS {
        let groups = [(2, 0, 1), (3, 2, period)];
        let groups = groups.map(|(units, first, period)| Group { units, first, period });
        let clocked = clocked(&groups);
        for steps in 0..40 {
            let schedule = StepRows::dense(steps, 2);
            let most = clocked.most_kept(schedule).unwrap();
            assert_eq!(clocked.kept_len(0, schedule), most, "a period of {period}, {steps} steps");
            for start in (0..30).chain(u64::MAX - 30..=u64::MAX) {
                let kept = clocked.kept_len(start, schedule);
                assert!(kept <= most, "a period of {period}, {steps} steps from {start}");
            }
        }
    }
}

#[test]
fn runs_have_each_move_once_and_fit_what_is_gathered() {
    for period in PERIODS {
        let groups = [Group { units: 1, first: 0, period }];
        let clocked = clocked(&groups);
        for batch in [1, 2, 3, ROWS_ALONE - 1, ROWS_ALONE, CHUNK_ROWS / 2, CHUNK_ROWS + 1] {
            for steps in 0..300 {
                let gathered = clocked.gathered(StepRows::dense(steps, batch)).unwrap();
                let Gathered { inputs, states } = gathered;
                let moves = clocked.at(0).moves(0, steps);
                for (first, alone) in [(0, false), (0, true), (moves / 2, false), (moves / 2, true)]
                {
                    let what = format!("{first} to {moves}, a batch of {batch}, period {period}");
                    let end =
                        runs(first..moves, &groups[0], batch, alone).fold(first, |end, run| {
                            assert!(run.start == end && !run.is_empty(), "{what}");
                            let together = period == 1 || run.len() == 1;
                            assert!(together || run.len() * batch <= inputs.min(states), "{what}");
                            run.end
                        });
                    assert_eq!(end, moves, "{what}");
                }
            }
        }
    }
}
