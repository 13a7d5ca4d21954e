//! Every small pass of groups: what is booked for it is what it takes at the most, and each move
//! is handled in one run.

use super::*;

const PERIODS: std::ops::RangeInclusive<usize> = 1..=12;

#[test]
fn no_pass_keeps_more_than_is_booked() {
    for period in PERIODS {
        let groups = [(2, 0, 1), (3, 2, period)];
        let groups = groups.map(|(units, first, period)| Group { units, first, period });
        let clocked = Clocked { groups: &groups, activations: Activations::Tanh };
        for steps in 0..40 {
            let most = clocked.most_kept(steps, 2).unwrap();
            assert_eq!(clocked.kept_len(0, steps, 2), most, "a period of {period}, {steps} steps");
            for start in (0..30).chain(u64::MAX - 30..=u64::MAX) {
                let kept = clocked.kept_len(start, steps, 2);
                assert!(kept <= most, "a period of {period}, {steps} steps from {start}");
            }
        }
    }
}

#[test]
fn runs_have_each_move_once_and_fit_what_is_gathered() {
    for period in PERIODS {
        let groups = [Group { units: 1, first: 0, period }];
        let clocked = Clocked { groups: &groups, activations: Activations::Tanh };
        for batch in [1, 2, 3, ROWS_ALONE - 1, ROWS_ALONE, CHUNK_ROWS / 2, CHUNK_ROWS + 1] {
            for steps in 0..300 {
                let [inputs, seen] = clocked.gathered((steps, batch), (1, 1)).unwrap();
                let moves = clocked.at(0).moves(0, steps);
                for (first, alone) in [(0, false), (0, true), (moves / 2, false), (moves / 2, true)]
                {
                    let what = format!("{first} to {moves}, a batch of {batch}, period {period}");
                    let end =
                        runs(first..moves, &groups[0], batch, alone).fold(first, |end, run| {
                            assert!(run.start == end && !run.is_empty(), "{what}");
                            let together = period == 1 || run.len() == 1;
                            assert!(together || run.len() * batch <= inputs.min(seen), "{what}");
                            run.end
                        });
                    assert_eq!(end, moves, "{what}");
                }
            }
        }
    }
}
