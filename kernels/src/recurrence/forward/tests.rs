//! Every state that a step may see.

use super::History;

#[test]
fn a_state_of_so_many_steps_ago_is_that_of_the_step() {
    const STEPS: usize = 20;
    for depth in 1..=12 {
        for state in [1, 3] {
            // Each state is the number of its step; of those before the first, minus how many
            // before it.
            let of = |step: usize| (step / state) as f32;
            let before: Vec<f32> = (0..depth * state).map(|at| of(at) - depth as f32).collect();
            let mut h: Vec<f32> = (0..STEPS * state).map(of).collect();
            let all = (before.as_ptr_range(), h.as_ptr_range());
            for t in 0..STEPS {
                let (before, h) = (before.as_ptr(), h.as_mut_ptr());
                let history = History { before, h, depth, state, t };
                for delay in 1..=depth {
                    for floats in 0..state {
                        let ago = history.from(floats).ago(delay);
                        assert!(all.0.contains(&ago) || all.1.contains(&ago), "{delay} before {t}");
                        // SAFETY: it is one of those.
                        let ago = unsafe { *ago };
                        assert_eq!(ago, t as f32 - delay as f32, "{delay} before {t}");
                    }
                }
                assert_eq!(history.now(), h.wrapping_add(t * state));
            }
        }
    }
}
