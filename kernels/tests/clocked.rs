//! Passes of units in groups: everything that is refused, with nothing written, and slices that end
//! at pages that may not be touched.

mod common;

use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{
    Clock, ClockedBackward, ClockedForward, Group, StepRows, clocked_scratch_len,
};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, KernelError, PackedMatrix};
use bptt_reference::sample::uniform;
use common::{Snapshot, by_columns, by_rows, filled, isas};
#[cfg(unix)]
use std::ops::DerefMut;
use std::ops::Range;

#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: common::guarded::GuardLines = common::guarded::GuardLines;

const STEPS: usize = 7;
const BATCH: usize = 2;
/// The units of all groups of a [`Call`].
const STATE: usize = 9;

/// Groups with these units and periods, one after the other.
fn groups(of: &[(usize, usize)]) -> Vec<Group> {
    let mut first = 0;
    let place = |&(units, period): &(usize, usize)| {
        first += units;
        Group { units, first: first - units, period }
    };
    of.iter().map(place).collect()
}

fn hidden(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.units).sum()
}

/// W of each group, packed by rows or by columns.
fn weights(isa: Isa, groups: &[Group], back: bool) -> Vec<PackedMatrix> {
    let pack = |group: &Group| {
        let depth = hidden(groups) - group.first;
        let w = uniform(group.first as u64, group.units * depth, 0.5);
        if back { by_columns(isa, group.units, &w) } else { by_rows(isa, 1, depth, &w) }
    };
    groups.iter().map(pack).collect()
}

/// Floats of z.
fn kept(clock: Clock<'_>, steps: usize, batch: usize) -> usize {
    let groups = clock.groups.iter().enumerate();
    groups.map(|(at, group)| clock.moves(at, steps) * batch * group.units).sum()
}

#[test]
fn moves_are_counted() {
    let groups = groups(&[(1, 1), (1, 2), (1, 3), (1, 7), (1, 65_536)]);
    for start in (0..20).chain([u64::MAX - 20]) {
        let clock = Clock { groups: &groups, start };
        for (at, group) in groups.iter().enumerate() {
            let moves =
                |t: &usize| (u128::from(start) + *t as u128).is_multiple_of(group.period as u128);
            let all: Vec<usize> = (0..40).filter(moves).collect();
            for steps in 0..=40 {
                let expected = all.iter().filter(|&&t| t < steps).count();
                assert_eq!(clock.moves(at, steps), expected, "{group:?} from {start}");
            }
            for (nth, &t) in all.iter().enumerate() {
                assert_eq!(clock.step_of(at, nth), t);
            }
        }
    }
}

/// The arguments of a call: the lengths of its slices, and the others.
#[derive(Clone)]
struct Call {
    groups: Vec<Group>,
    steps: usize,
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
        let z = kept(Clock { groups: &groups, start: 3 }, STEPS, BATCH);
        let lens = if back {
            let state = BATCH * hidden;
            vec![("z", z), ("h", states), ("dy", states), ("dh", state), ("scratch", scratch)]
        } else {
            vec![("z", z), ("h0", BATCH * hidden), ("h", states), ("scratch", scratch)]
        };
        Self { groups, steps: STEPS, stretch, lens }
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
        let (schedule, activations) = (StepRows::dense(self.steps, BATCH), Activations::Tanh);
        let stride = STATE;
        if back {
            let [mut z, h, dy, mut dh, mut scratch] = self.buffers();
            let before = Snapshot::of(&[&z, &dh]);
            let (dy, scratch) = (Some(&dy[..]), &mut scratch[..]);
            let (z_of, dh_of, h) = (&mut z[..], &mut dh[..], &h[..]);
            let pass = ClockedBackward {
                clock,
                schedule,
                activations,
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
            activations,
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
            let text = refused(|call| call.steps = usize::MAX / 2);
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

/// h, dz and ∂L/∂h₀ of a forward and a backward pass in two stretches, with extra floats between
/// the rows of h and of dy.
#[cfg(unix)]
fn passes<B: DerefMut<Target = [f32]>>(
    isa: Isa,
    of: &[(usize, usize)],
    (batch, start): (usize, u64),
    gap: usize,
    make: impl Fn(&[f32]) -> B,
) -> [Vec<f32>; 3] {
    let groups = groups(of);
    let (hidden, clock) = (hidden(&groups), Clock { groups: &groups, start });
    let (steps, activations, state) = (STEPS, Activations::Tanh, batch * hidden);
    let mut z = make(&uniform(1, kept(clock, steps, batch), 1.0));
    let mut scratch = make(&filled(clocked_scratch_len(batch, hidden).unwrap()));
    let forward = weights(isa, &groups, false);
    let (h0, mut h) =
        (make(&uniform(2, state, 1.0)), make(&filled(steps * batch * (hidden + gap))));
    let schedule = StepRows::dense(steps, batch);
    for stretch in [0..3, 3..steps] {
        let pass = ClockedForward {
            clock,
            schedule,
            stretch,
            activations,
            weights: &forward,
            z: &z,
            h0: &h0,
            h: &mut h,
            h_stride: hidden + gap,
            scratch: &mut scratch,
        };
        pass.run(isa, &mut Pass::serial()).unwrap();
    }
    let apart = vec![f32::NAN; gap];
    let dy = uniform(3, steps * state, 1.0);
    let dy = make(&dy.chunks(hidden).collect::<Vec<_>>().join(&apart[..]));
    let (mut dh, back) = (make(&uniform(4, state, 1.0)), weights(isa, &groups, true));
    let pass = ClockedBackward {
        clock,
        schedule,
        activations,
        weights: &back,
        z: &mut z,
        h: &h,
        h_stride: hidden + gap,
        dy: Some(&dy),
        dy_stride: hidden + gap,
        dh: &mut dh,
        scratch: &mut scratch,
    };
    pass.run(isa, &mut Pass::serial()).unwrap();
    let h = h.chunks(hidden + gap).flat_map(|row| &row[..hidden]).copied().collect();
    [h, z.to_vec(), dh.to_vec()]
}

#[cfg(unix)]
#[test]
fn passes_stay_in_their_slices() {
    use common::guarded::{Guarded, Side};
    let sets = [&[(1, 1)][..], &[(3, 1), (5, 2), (8, 4)], &[(16, 2), (1, 3)], &[(17, 5), (4, 6)]];
    for of in sets {
        for case in [(1, 0), (5, 4), (67, 1)] {
            for &isa in isas() {
                let expected = passes(isa, of, case, 0, <[f32]>::to_vec);
                for (side, gap) in
                    [(Side::Begin, 0), (Side::End, 0), (Side::Begin, 3), (Side::End, 3)]
                {
                    println!("{of:?}, batch and start {case:?} on {isa}, {side:?}");
                    let given = passes(isa, of, case, gap, |values| Guarded::new(values, side));
                    for (given, expected) in given.iter().zip(&expected) {
                        common::assert_bits("clocked", given, expected);
                    }
                }
            }
        }
    }
}
