//! Passes over drawn groups and sequences, in buffers of the caller's making.

use super::{groups, hidden, kept, moves, weights};
use crate::common::filled;
use bptt_kernels::Isa;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{
    Clock, ClockedBackward, ClockedForward, Group, MoveRows, clocked_scratch_len,
};
use bptt_kernels::team::Team;
use bptt_reference::sample::uniform;
use std::ops::DerefMut;

/// All that the passes over groups are given.
#[derive(Clone, Debug)]
pub struct Case {
    pub groups: Vec<Group>,
    pub rows: MoveRows<'static>,
    /// The steps that the sequences have taken before.
    pub start: u64,
    pub z: Vec<f32>,
    pub h0: Vec<f32>,
    pub dy: Vec<f32>,
    pub dh: Vec<f32>,
    pub threads: usize,
    /// Floats between the rows of h, and between those of dy.
    pub gap: usize,
    /// The steps of the first of two stretches in which forward passes run.
    pub cut: usize,
}

/// What passes leave. All but ∂L/∂h₀ have the rows of the case.
pub struct Results {
    pub h: Vec<f32>,
    pub dz: Vec<f32>,
    pub dh: Vec<f32>,
}

impl Case {
    pub fn draw(of: &[(usize, usize)], rows: MoveRows<'static>, start: u64) -> Self {
        let (groups, schedule) = (groups(of), rows.schedule());
        let (hidden, all) = (hidden(&groups), schedule.start(schedule.steps()));
        let state = schedule.batch() * hidden;
        Self {
            z: uniform(1, kept(&groups, start, rows), 1.0),
            h0: uniform(2, state, 1.0),
            dy: uniform(3, all * hidden, 1.0),
            dh: uniform(4, state, 1.0),
            groups,
            rows,
            start,
            threads: 1,
            gap: 0,
            cut: 0,
        }
    }

    /// Row `n` of each step, of `width` floats.
    pub fn rows_of(&self, n: usize, width: usize, all: &[f32]) -> Vec<f32> {
        let schedule = self.rows.schedule();
        let steps = (0..schedule.steps()).filter(|&step| schedule.count(step) > n);
        steps
            .flat_map(|step| &all[(schedule.start(step) + n) * width..][..width])
            .copied()
            .collect()
    }

    /// Row `n` of each move of each group.
    pub fn moves_of(&self, n: usize, all: &[f32]) -> Vec<f32> {
        let (schedule, mut rest, mut own) = (self.rows.schedule(), all, vec![]);
        for group in &self.groups {
            for step in moves(group, self.start, schedule.steps()) {
                let (rows, tail) = rest.split_at(schedule.count(step) * group.units);
                rest = tail;
                own.extend(rows.chunks(group.units).nth(n).into_iter().flatten());
            }
        }
        assert!(rest.is_empty(), "rows at each move of each group");
        own
    }

    /// Row `n` of a state.
    pub fn state_of<'a>(&self, n: usize, all: &'a [f32]) -> &'a [f32] {
        let hidden = hidden(&self.groups);
        &all[n * hidden..][..hidden]
    }

    /// Sequence `n` alone, on one thread.
    pub fn alone(&self, n: usize) -> Self {
        let schedule = self.rows.schedule();
        let len = (0..schedule.steps()).filter(|&step| schedule.count(step) > n).count();
        Self {
            groups: self.groups.clone(),
            rows: MoveRows::dense(len, 1),
            start: self.start,
            z: self.moves_of(n, &self.z),
            h0: self.state_of(n, &self.h0).to_vec(),
            dy: self.rows_of(n, hidden(&self.groups), &self.dy),
            dh: self.state_of(n, &self.dh).to_vec(),
            threads: 1,
            gap: 0,
            cut: 0,
        }
    }

    /// Runs a forward and a backward pass in buffers that `make` makes.
    pub fn run<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        make: impl Fn(&[f32]) -> B,
    ) -> Results {
        let Self { groups, rows: schedule, start, gap, .. } = self;
        let (clock, schedule, hidden) =
            (Clock { groups, start: *start }, *schedule, hidden(groups));
        let (activation, h_stride) = (Activations::Tanh.into(), hidden + gap);
        let (steps, batch) = (schedule.schedule().steps(), schedule.schedule().batch());
        let (mut z, h0, mut dh) = (make(&self.z), make(&self.h0), make(&self.dh));
        let mut scratch = make(&filled(clocked_scratch_len(batch, hidden).unwrap()));
        let [forward, back] = [false, true].map(|back| weights(isa, groups, back));
        let spread =
            |rows: &[f32]| rows.chunks(hidden).collect::<Vec<_>>().join(&vec![f32::NAN; *gap][..]);
        let (mut h, dy) = (make(&spread(&filled(self.dy.len()))), make(&spread(&self.dy)));
        let mut team = Team::new(self.threads).unwrap();
        for stretch in [0..self.cut, self.cut..steps] {
            let pass = ClockedForward {
                clock,
                schedule,
                stretch,
                activation,
                weights: &forward,
                z: &z,
                h0: &h0,
                h: &mut h,
                h_stride,
                scratch: &mut scratch,
            };
            team.pass(usize::MAX, |threads| pass.run(isa, threads)).unwrap();
        }
        let pass = ClockedBackward {
            clock,
            schedule,
            activation,
            weights: &back,
            z: &mut z,
            h: &h,
            h_stride,
            dy: Some(&dy),
            dy_stride: h_stride,
            dh: &mut dh,
            scratch: &mut scratch,
        };
        team.pass(usize::MAX, |threads| pass.run(isa, threads)).unwrap();
        let h = h.chunks(h_stride).flat_map(|row| &row[..hidden]).copied().collect();
        Results { h, dz: z.to_vec(), dh: dh.to_vec() }
    }
}
