//! Tests that a step finds every earlier state that it may see.

use super::History;
use crate::recurrence::schedule::StepRows;
use crate::rows::{Rows, RowsMut};

#[test]
fn a_state_of_so_many_steps_ago_is_that_of_the_step() {
    const STEPS: usize = 20;
    const WIDTH: usize = 2;
    for depth in 1..=12 {
        for (batch, stride) in [(1, WIDTH), (3, WIDTH), (3, WIDTH + 1)] {
            // Each float is the number of its step; the numbers before the first step are negative.
            let before: Vec<f32> =
                (0..depth * batch * WIDTH).map(|at| (at / (batch * WIDTH)) as f32).collect();
            let before: Vec<f32> = before.iter().map(|step| step - depth as f32).collect();
            let mut h: Vec<f32> =
                (0..STEPS * batch * stride).map(|at| (at / (batch * stride)) as f32).collect();
            let all = (before.as_ptr_range(), h.as_ptr_range());
            for t in 0..STEPS {
                let (before, h) = (Rows::new(before.as_ptr(), WIDTH), h.as_mut_ptr());
                let (h, schedule) = (RowsMut::new(h, stride), StepRows::dense(STEPS, batch));
                let history = History { before, h, depth, schedule };
                for row in 0..batch {
                    for delay in 1..=depth {
                        let ago = history.ago(t, delay).at(row, WIDTH - 1);
                        let inside = all.0.contains(&ago) || all.1.contains(&ago);
                        assert!(inside, "{delay} before {t}");
                        // SAFETY: `ago` is inside one of the two slices.
                        let ago = unsafe { *ago };
                        assert_eq!(ago, t as f32 - delay as f32, "{delay} before {t}");
                    }
                    assert_eq!(history.of(t).at(row, 0), h.at(t * batch + row, 0));
                }
            }
        }
    }
}
