//! Everything that passes of units in groups refuse: what it says, and that nothing has been
//! written.

use super::{STEPS, groups, hidden, kept, ragged, weights};
use crate::common::{Snapshot, filled, isas};
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{
    Clock, ClockedBackward, ClockedForward, Group, MoveRows, RaggedMoves, StepRows,
    clocked_scratch_len,
};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, KernelError, PackedMatrix};
use std::ops::Range;

const BATCH: usize = 2;
/// The units of all groups of a [`Call`].
const STATE: usize = 9;

/// The arguments of a call: the lengths of its slices, and the others.
#[derive(Clone)]
struct Call {
    groups: Vec<Group>,
    rows: MoveRows<'static>,
    stretch: Range<usize>,
    lens: Vec<(&'static str, usize)>,
}

impl Call {
    fn new(back: bool) -> Self {
        let groups = groups(&[(3, 1), (5, 2), (1, 5)]);
        let hidden = hidden(&groups);
        let stretch = if back { 0..STEPS } else { 2..5 };
        let states = STEPS * BATCH * hidden;
        let scratch = clocked_scratch_len(BATCH, hidden).unwrap();
        let rows = MoveRows::dense(STEPS, BATCH);
        let z = kept(&groups, 3, rows);
        let lens = if back {
            let state = BATCH * hidden;
            vec![("z", z), ("h", states), ("dy", states), ("dh", state), ("scratch", scratch)]
        } else {
            vec![("z", z), ("h0", BATCH * hidden), ("h", states), ("scratch", scratch)]
        };
        Self { groups, rows, stretch, lens }
    }

    fn with(&self, what: &str, len: usize) -> Self {
        let mut call = self.clone();
        for (name, old) in &mut call.lens {
            *old = if *name == what { len } else { *old };
        }
        call
    }

    fn buffers<const N: usize>(&self) -> [Vec<f32>; N] {
        let buffers: Vec<_> = self.lens.iter().map(|&(_, len)| filled(len)).collect();
        buffers.try_into().unwrap()
    }

    /// Asserts that nothing is written when the call is refused.
    fn run(&self, isa: Isa, back: bool, weights: &[PackedMatrix]) -> Result<(), KernelError> {
        let clock = Clock { groups: &self.groups, start: 3 };
        let (schedule, activation) = (self.rows, Activations::Tanh.into());
        let stride = STATE;
        if back {
            let [mut z, h, dy, mut dh, mut scratch] = self.buffers();
            let before = Snapshot::of(&[&z, &dh]);
            let (dy, scratch) = (Some(&dy[..]), &mut scratch[..]);
            let (z_of, dh_of, h) = (&mut z[..], &mut dh[..], &h[..]);
            let pass = ClockedBackward {
                clock,
                schedule,
                activation,
                weights,
                z: z_of,
                h,
                h_stride: stride,
                dy,
                dy_stride: stride,
                dh: dh_of,
                scratch,
            };
            let result = pass.run(isa, &mut Pass::serial());
            if result.is_err() {
                assert_eq!(Snapshot::of(&[&z, &dh]), before);
            }
            return result;
        }
        let [z, h0, mut h, mut scratch] = self.buffers();
        let before = Snapshot::of(&[&h]);
        let (stretch, scratch) = (self.stretch.clone(), &mut scratch[..]);
        let (z, h0, h_of) = (&z[..], &h0[..], &mut h[..]);
        let pass = ClockedForward {
            clock,
            schedule,
            stretch,
            activation,
            weights,
            z,
            h0,
            h: h_of,
            h_stride: stride,
            scratch,
        };
        let result = pass.run(isa, &mut Pass::serial());
        if result.is_err() {
            assert_eq!(Snapshot::of(&[&h]), before);
        }
        result
    }
}

#[test]
fn lengths() {
    for back in [false, true] {
        let call = Call::new(back);
        for &isa in isas() {
            let weights = weights(isa, &call.groups, back);
            assert_eq!(call.run(isa, back, &weights), Ok(()));
            for &(what, expected) in &call.lens {
                // Scratch may be longer than is needed.
                let longer = (what != "scratch").then_some(expected + 1);
                for given in [expected - 1].into_iter().chain(longer) {
                    let error = match what {
                        "scratch" => KernelError::Short { what, given, least: expected },
                        _ => KernelError::Length { what, given, expected },
                    };
                    let error = Err(error);
                    assert_eq!(call.with(what, given).run(isa, back, &weights), error);
                }
            }
        }
    }
}

#[test]
fn groups_stretches_and_weights() {
    for back in [false, true] {
        let call = Call::new(back);
        for &isa in isas() {
            let fit = weights(isa, &call.groups, back);
            let refused = |change: fn(&mut Call)| {
                let mut call = call.clone();
                change(&mut call);
                call.run(isa, back, &fit).unwrap_err().to_string()
            };
            let text = refused(|call| call.groups[1].units = 0);
            assert_eq!(text, "units of a group is 0, expected 1 or more");
            assert_eq!(
                refused(|call| call.groups[2].period = 0),
                "period is 0, expected 1 or more"
            );
            let text = refused(|call| call.groups[1].first = 4);
            assert_eq!(text, "units before a group has 4 elements, expected 3");
            assert_eq!(refused(|call| call.groups.clear()), "groups is 0, expected 1 or more");
            let text = refused(|call| call.groups.truncate(2));
            assert_eq!(text, "group weights has 3 elements, expected 2");
            let text = refused(|call| call.groups[2].units = usize::MAX);
            assert_eq!(text, "the groups: too large for the address space");
            let text = refused(|call| call.rows = MoveRows::dense(usize::MAX / 2, BATCH));
            assert_eq!(text, "z: too large for the address space");
            if !back {
                let text = refused(|call| call.stretch = 5..8);
                assert_eq!(text, "the stretch's end is 8, expected 5 to 7");
                let text = refused(|call| call.stretch = Range { start: 3, end: 2 });
                assert_eq!(text, "the stretch's end is 2, expected 3 to 7");
            }
            let mut wrong = weights(isa, &call.groups, back);
            wrong[1] = PackedMatrix::zeros(isa, 1, 5, 7).unwrap();
            let text = call.run(isa, back, &wrong).unwrap_err().to_string();
            let expected =
                if back { "1 × 6 outputs of 5 inputs" } else { "1 × 5 outputs of 6 inputs" };
            assert!(text.contains("5 outputs of 7 inputs") && text.contains(expected), "{text}");
            for &other in Isa::available().iter().filter(|&&other| other != isa) {
                let foreign = weights(other, &call.groups, back);
                let text = call.run(isa, back, &foreign).unwrap_err().to_string();
                assert!(text.contains(other.name()) && text.contains(isa.name()), "{text}");
            }
        }
    }
}

#[test]
fn lengths_of_ragged_passes() {
    let rows = ragged(&[STEPS, 2], &Call::new(false).groups);
    for back in [false, true] {
        let dense = Call::new(back);
        let weights = |isa| weights(isa, &dense.groups, back);
        // The second sequence has 2 of the 7 steps.
        let (all, z) = ((STEPS + 2) * STATE, kept(&dense.groups, 3, rows));
        let mut call = Call { rows, ..dense.clone() };
        for (what, len) in &mut call.lens {
            match *what {
                "z" => *len = z,
                "h" | "dy" => *len = all,
                _ => {}
            }
        }
        assert!(z < dense.lens[0].1);
        for &isa in isas() {
            assert_eq!(call.run(isa, back, &weights(isa)), Ok(()));
            for (what, expected) in [("z", z), ("h", all)] {
                for given in [expected - 1, expected + 1] {
                    let error = Err(KernelError::Length { what, given, expected });
                    assert_eq!(call.with(what, given).run(isa, back, &weights(isa)), error);
                }
            }
        }
    }
}

#[test]
fn rows_of_other_groups() {
    for back in [false, true] {
        let call = Call::new(back);
        for &isa in isas() {
            let fit = weights(isa, &call.groups, back);
            for (of, expected) in [
                (&[(3, 1), (5, 2)][..], "groups of the schedule has 2 elements, expected 3"),
                (&[(3, 1), (5, 3), (1, 5)], "period of the schedule is 3, expected 2"),
            ] {
                let rows = ragged(&[STEPS; BATCH], &groups(of));
                let error = Call { rows, ..call.clone() }.run(isa, back, &fit).unwrap_err();
                assert_eq!(error.to_string(), expected);
            }
        }
    }
    let error = RaggedMoves::new(StepRows::dense(2, 2), &groups(&[(1, 1), (1, 0)])).unwrap_err();
    assert_eq!(error.to_string(), "period is 0, expected 1 or more");
}
