//! Where the steps of sequences lie in a schedule, and losses of outputs that lie there.

use crate::common::Layout;
use crate::kind::{Kind, Own, Targets};
use bptt::loss::Reduction;
use bptt::{Outputs, Runtime, Schedule};

/// Sequences in a schedule.
#[derive(Debug)]
pub struct Placed {
    pub name: String,
    pub schedule: Schedule,
    /// For each step of each sequence, its row in a pass and in the caller's arrays.
    pub pass: Vec<Vec<usize>>,
    pub given: Vec<Vec<usize>>,
}

impl Placed {
    pub fn new(layout: Layout, lengths: &[usize], resets: &[(usize, usize)]) -> Self {
        let mut schedule = layout.schedule(lengths);
        if !resets.is_empty() {
            schedule = schedule.with_resets(resets).unwrap();
        }
        let mut pass: Vec<Vec<usize>> = lengths.iter().map(|&len| vec![usize::MAX; len]).collect();
        for row in 0..schedule.batch() {
            for step in 0..schedule.steps() {
                if schedule.start(step) + row < schedule.start(step + 1) {
                    let own = &mut pass[schedule.sequence(row)];
                    own[schedule.first_step(row) + step] = schedule.start(step) + row;
                }
            }
        }
        let of = |n: usize| (0..lengths[n]).map(|step| layout.row(lengths, n, step)).collect();
        let given = (0..lengths.len()).map(of).collect();
        Self { name: format!("{layout:?} of {lengths:?}, {resets:?}"), schedule, pass, given }
    }

    /// Sequences of these lengths in all layouts, with and without resets.
    pub fn all(lengths: &[usize]) -> Vec<Self> {
        let most = *lengths.iter().max().unwrap();
        let layouts = [Layout::TimeMajor(most), Layout::BatchFirst(most + 1), Layout::Packed];
        let resets = lengths.iter().enumerate().flat_map(|(n, &len)| {
            [0, 2, 3].into_iter().filter(move |&step| step < len).map(move |step| (n, step))
        });
        let resets: Vec<_> = resets.skip(1).collect();
        let of = |layout| [&[][..], &resets].map(|resets| Self::new(layout, lengths, resets));
        layouts.into_iter().flat_map(of).collect()
    }

    /// The targets in the rows of the caller's arrays. What no loss may read is NaN, or no class.
    pub fn targets(&self, kind: Kind, owns: &[Own], is_masked: bool) -> Targets {
        let (rows, width) = (self.schedule.given_rows(), kind.width());
        let mut targets = Targets {
            values: vec![f32::NAN; rows * width],
            classes: vec![u32::MAX; rows],
            mask: is_masked.then(|| vec![true; rows]),
            ..Targets::default()
        };
        for (own, rows) in owns.iter().zip(&self.given) {
            targets.labels.extend(&own.labels);
            targets.label_lengths.push(own.labels.len());
            for (step, &row) in rows.iter().enumerate() {
                if let Some(mask) = &mut targets.mask {
                    mask[row] = own.mask[step];
                    if !own.mask[step] {
                        continue;
                    }
                }
                targets.classes[row] = own.classes[step];
                targets.values[row * width..][..width]
                    .copy_from_slice(&own.values[step * width..][..width]);
            }
        }
        targets
    }

    /// The value of a loss after 1, and its gradient by the outputs of each sequence.
    pub fn gradient(
        &self,
        runtime: Runtime,
        (kind, reduction): (Kind, Reduction),
        sequences: &[Vec<f32>],
        targets: &Targets,
    ) -> (f64, Vec<Vec<f32>>) {
        let (loss, size) = (kind.loss(targets, reduction), kind.outputs());
        let mut y = vec![f32::NAN; self.schedule.rows() * size];
        for (own, rows) in sequences.iter().zip(&self.pass) {
            for (y_of_step, row) in own.chunks(size).zip(rows) {
                y[row * size..][..size].copy_from_slice(y_of_step);
            }
        }
        let mut again = y.clone();
        let outputs = |y| Outputs { loss_so_far: 1.0, ..Outputs::of(&self.schedule, y, size) };
        let value = loss.value(runtime, outputs(&mut again)).unwrap();
        let with_gradient = loss.gradient(runtime, outputs(&mut y)).unwrap();
        // A value alone may be summed by another kernel, but in the same order.
        assert_eq!(value.to_bits(), with_gradient.to_bits(), "{kind:?}, {}", self.name);
        let of = |rows: &Vec<usize>| {
            rows.iter().flat_map(|row| y[row * size..][..size].to_vec()).collect()
        };
        (value, self.pass.iter().map(of).collect())
    }
}
