//! Passes of units in groups.

use super::Drawn;
use bptt_kernels::PackedMatrix;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{
    Clock, ClockedBackward, ClockedForward, Group, MoveRows, clocked_scratch_len,
};
use bptt_kernels::team::Pass;

/// Groups that follow one another, or not quite, and the sizes of a pass.
struct Case {
    groups: Vec<Group>,
    start: u64,
    steps: usize,
    batch: usize,
    hidden: usize,
    weights: Vec<PackedMatrix>,
}

/// Weights of each group have as many outputs and inputs as `dims` says, which is told of the
/// group and H.
fn case(drawn: &mut Drawn<'_>, dims: impl Fn(Group, usize) -> (usize, usize)) -> Case {
    let mut hidden = 0;
    let mut groups = Vec::new();
    for _ in 0..drawn.size(4) {
        let (units, period) = (drawn.size(12), drawn.size(6));
        groups.push(Group { units, first: hidden, period });
        hidden += units;
    }
    let weights = groups.iter().map(|&group| {
        let (units, depth) = dims(group, hidden);
        PackedMatrix::zeros(drawn.isa, 1, units, depth).unwrap()
    });
    let weights = weights.collect();
    let right = groups.clone();
    for group in &mut groups {
        group.units = drawn.near(group.units);
        group.first = if group.first == 0 { 0 } else { drawn.near(group.first) };
        let period = drawn.near(group.period);
        drawn.demand(period > 0);
        // Any other period is as good.
        group.period = period;
    }
    let places = |groups: &[Group]| -> Vec<_> {
        groups.iter().map(|group| (group.units, group.first)).collect()
    };
    drawn.demand(places(&groups) == places(&right));
    let (steps, batch) = (drawn.size(9), drawn.size(9));
    let (steps, batch) = (drawn.near(steps), drawn.near(batch));
    Case { groups, start: drawn.count(), steps, batch, hidden, weights }
}

impl Case {
    /// The floats of `[moves, B, units]` of all groups.
    fn z(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        let mut all = drawn.product(&[self.steps, self.batch, self.hidden]);
        if all.is_some() && self.groups.iter().all(|group| group.period > 0) {
            let moves = |group: &Group| {
                let moves = |&step: &usize| {
                    (u128::from(self.start) + step as u128).is_multiple_of(group.period as u128)
                };
                // Without a batch there are none of any number of steps.
                if self.batch == 0 { 0 } else { (0..self.steps).filter(moves).count() }
            };
            let floats = self.groups.iter().map(|group| moves(group) as u128 * group.units as u128);
            let floats: u128 = floats.sum::<u128>() * self.batch as u128;
            all = usize::try_from(floats).ok().filter(|&floats| floats < 1 << 18);
        }
        let length = drawn.length(all);
        vec![super::drawn::BEFORE; length]
    }

    fn scratch(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        drawn.room(clocked_scratch_len(self.batch, self.hidden).ok())
    }
}

/// A stretch of the steps forward.
pub fn clocked_forward(drawn: &mut Drawn<'_>) {
    let case = case(drawn, |group, hidden| (group.units, hidden - group.first));
    let Case { groups, start, steps, batch, hidden, weights } = &case;
    let (steps, batch, hidden) = (*steps, *batch, *hidden);
    let stretch = drawn.stretch(steps);
    let z = case.z(drawn);
    let h0 = drawn.floats(&[batch, hidden]);
    let (mut h, h_stride) = drawn.rows([steps, batch], hidden);
    let mut scratch = case.scratch(drawn);
    let (clock, activation) = (Clock { groups, start: *start }, Activations::Tanh.into());
    let pass = ClockedForward {
        clock,
        schedule: MoveRows::dense(steps, batch),
        stretch,
        activation,
        weights,
        z: &z,
        h0: &h0,
        h: &mut h,
        h_stride,
        scratch: &mut scratch,
    };
    let result = pass.run(drawn.isa, &mut Pass::serial());
    drawn.check(result, &[&h, &scratch]);
}

/// All of the steps backward.
pub fn clocked_backward(drawn: &mut Drawn<'_>) {
    let case = case(drawn, |group, hidden| (hidden - group.first, group.units));
    let Case { groups, start, steps, batch, hidden, weights } = &case;
    let (steps, batch, hidden) = (*steps, *batch, *hidden);
    let mut z = case.z(drawn);
    let (h, h_stride) = drawn.rows([steps, batch], hidden);
    let dy = drawn.flip().then(|| drawn.rows([steps, batch], hidden));
    let mut dh = drawn.floats(&[batch, hidden]);
    let mut scratch = case.scratch(drawn);
    let (clock, activation) = (Clock { groups, start: *start }, Activations::Tanh.into());
    let pass = ClockedBackward {
        clock,
        schedule: MoveRows::dense(steps, batch),
        activation,
        weights,
        z: &mut z,
        h: &h,
        h_stride,
        dy: dy.as_ref().map(|(dy, _)| &dy[..]),
        dy_stride: dy.as_ref().map_or(0, |(_, stride)| *stride),
        dh: &mut dh,
        scratch: &mut scratch,
    };
    let result = pass.run(drawn.isa, &mut Pass::serial());
    drawn.check(result, &[&z, &dh, &scratch]);
}
