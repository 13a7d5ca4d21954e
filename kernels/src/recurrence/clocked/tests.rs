//! Tests when groups move, for periods of 1 to 12 and some long ones, wherever a pass begins.

use super::{Clock, Group};

/// Steps of a pass: several times the longest of the short periods.
const STEPS: usize = 40;

/// Returns numbers of steps that a sequence may have taken before the pass: the first ones, and
/// those near the limits of 31 to 64 bits.
fn starts() -> impl Iterator<Item = u64> {
    let ends = [1 << 31, 1 << 32, 1 << 63, u64::MAX - 30];
    let about = ends.into_iter().flat_map(|end| end - 30..=end + 30);
    (0..30).chain(about)
}

#[test]
fn groups_move_where_their_period_divides_the_step() {
    for period in (1..=12).chain([STEPS - 1, STEPS, 1 << 16, usize::MAX]) {
        let groups = [1, period].map(|period| Group { units: 1, first: 0, period });
        for start in starts() {
            let clock = Clock { groups: &groups, start };
            let moves: Vec<usize> = (0..STEPS)
                .filter(|&step| (u128::from(start) + step as u128).is_multiple_of(period as u128))
                .collect();
            let what = format!("a period of {period} from step {start}");
            for step in 0..STEPS {
                assert_eq!(clock.moves_at(1, step), moves.contains(&step), "{what}, step {step}");
                assert!(clock.moves_at(0, step));
            }
            for steps in 0..=STEPS {
                let expected = moves.iter().filter(|&&step| step < steps).count();
                assert_eq!(clock.moves(1, steps), expected, "{what}, {steps} steps");
                assert_eq!(clock.moves(0, steps), steps);
            }
            for (nth, &step) in moves.iter().enumerate() {
                assert_eq!(clock.step_of(1, nth), step, "{what}, move {nth}");
            }
        }
    }
}
