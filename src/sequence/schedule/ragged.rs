//! Sequences of different lengths and with resets: which segment of which sequence has a row at which
//! step, and where that row lies in the caller's arrays. Knows steps; must not know what a row holds.

use crate::Error;
use crate::error::{check_size, product};
use bptt_kernels::recurrence::RaggedRows;
use std::cmp::Reverse;
use std::ops::Range;

/// How the caller's arrays are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[steps, B, features]`.
    TimeMajor { steps: usize },
    /// `[B, steps, features]`.
    BatchFirst { steps: usize },
    /// The sequences one after the other, without padding.
    Packed,
}

/// What the outputs hold after the end of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Zeros, as in PyTorch and ONNX.
    #[default]
    Zeros,
    /// The last output of the sequence, as in TensorFlow; zeros if it has none.
    LastOutput,
}

/// A part of a sequence that begins from a state of its own: all of it, unless it has resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of the sequence, in the order given.
    pub sequence: usize,
    /// The step of the sequence at which the segment begins.
    pub first: usize,
    pub len: usize,
    /// Whether it begins at a reset.
    pub is_reset: bool,
    /// Whether the sequence ends with it.
    pub is_last: bool,
}

/// The rows of sequences of different lengths, or in another order than that of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ragged {
    /// The length of each sequence, in the order given.
    pub lengths: Vec<usize>,
    /// The segment of each row of a step, the longest first.
    pub segments: Vec<Segment>,
    /// The rows of all steps.
    pub rows: RaggedRows,
    /// For each row, the row of the caller's arrays.
    pub given: Vec<usize>,
    /// The rows of the caller's arrays, with padding.
    pub given_rows: usize,
    pub layout: Layout,
    pub padding: Padding,
}

impl Ragged {
    /// Orders the rows of sequences of these lengths, each of which begins anew at its steps in
    /// `resets`: pairs of a sequence and a step, in any order.
    pub fn new(
        lengths: Vec<usize>,
        layout: Layout,
        padding: Padding,
        resets: &[(usize, usize)],
    ) -> Result<Self, Error> {
        const WHAT: &str = "the schedule";
        let batch = check_size("batch", lengths.len())?;
        let sum = lengths.iter().try_fold(0usize, |sum, &len| sum.checked_add(len));
        let rows = product(WHAT, &[sum.ok_or(Error::TooLarge { what: WHAT })?])?;
        let given_rows = match layout {
            Layout::Packed => rows,
            Layout::TimeMajor { steps } | Layout::BatchFirst { steps } => {
                if let Some(&longest) = lengths.iter().find(|&&len| len > steps) {
                    let (what, given) = ("length", longest.to_string());
                    let expected = format!("at most the {steps} steps of the arrays").into();
                    return Err(Error::Value { what, given, expected });
                }
                product(WHAT, &[batch, steps])?
            }
        };
        let mut segments = segments(&lengths, resets)?;
        segments.sort_by_key(|segment| Reverse(segment.len));
        let place = Place::new(layout, &lengths);
        let (mut starts, mut given) = (vec![0], Vec::with_capacity(rows));
        let mut count = segments.len();
        for step in 0..segments[0].len {
            while segments[count - 1].len <= step {
                count -= 1;
            }
            let rows = segments[..count].iter().map(|s| place.row(s.sequence, s.first + step));
            given.extend(rows);
            starts.push(given.len());
        }
        let rows = RaggedRows::new(starts, segments.len())?;
        Ok(Self { lengths, segments, rows, given, given_rows, layout, padding })
    }

    /// Returns the number of steps if the rows of the passes are those of the caller's arrays, in the
    /// same order, so that nothing has to be copied: sequences of one length without padding, and
    /// time-major unless there is only one.
    pub fn dense_steps(&self) -> Option<usize> {
        let steps = self.lengths[0];
        let is_dense = steps > 0
            && self.given_rows == steps * self.lengths.len()
            && self.lengths.iter().all(|&len| len == steps)
            && self.given.iter().enumerate().all(|(row, &given)| row == given);
        is_dense.then_some(steps)
    }

    /// Returns the rows of the steps `steps` of the passes alone. Segments that end before these steps
    /// have no row.
    pub fn stretch(&self, steps: &Range<usize>) -> Self {
        let all = self.rows.step_rows();
        let rows = all.start(steps.start)..all.start(steps.end);
        let starts = (steps.start..=steps.end).map(|step| all.start(step) - rows.start).collect();
        let within = |segment: &Segment| {
            let len = segment.len.min(steps.end).saturating_sub(steps.start);
            Segment { len, ..*segment }
        };
        Self {
            lengths: self.lengths.clone(),
            segments: self.segments.iter().map(within).collect(),
            rows: RaggedRows::new(starts, all.batch()).expect("steps of a schedule are a schedule"),
            given: self.given[rows].to_vec(),
            ..*self
        }
    }

    /// Fills the rows of the caller's array `y` that are padding.
    pub fn fill_padding(&self, y: &mut [f32], width: usize) {
        let steps = match self.layout {
            Layout::Packed => return,
            Layout::TimeMajor { steps } | Layout::BatchFirst { steps } => steps,
        };
        let place = Place::new(self.layout, &self.lengths);
        for (n, &len) in self.lengths.iter().enumerate() {
            for step in len..steps {
                let to = place.row(n, step) * width;
                match self.padding {
                    Padding::LastOutput if len > 0 => {
                        let from = place.row(n, len - 1) * width;
                        y.copy_within(from..from + width, to);
                    }
                    _ => y[to..to + width].fill(0.0),
                }
            }
        }
    }

    /// Returns the resets where `mask`, which has the rows of the caller's arrays, is true.
    pub fn resets_of(&self, mask: &[bool]) -> Vec<(usize, usize)> {
        let place = Place::new(self.layout, &self.lengths);
        let steps = self.lengths.iter().enumerate();
        let all = steps.flat_map(|(n, &len)| (0..len).map(move |step| (n, step)));
        all.filter(|&(n, step)| mask[place.row(n, step)]).collect()
    }
}

/// Cuts sequences of these lengths at their resets.
fn segments(lengths: &[usize], resets: &[(usize, usize)]) -> Result<Vec<Segment>, Error> {
    for &(sequence, step) in resets {
        if lengths.get(sequence).is_none_or(|&len| step >= len) {
            let given = format!("step {step} of sequence {sequence}");
            let expected = match lengths.get(sequence) {
                Some(len) => format!("below the {len} steps of the sequence"),
                None => format!("a sequence below {}", lengths.len()),
            };
            return Err(Error::Value { what: "a reset", given, expected: expected.into() });
        }
    }
    let mut resets = resets.to_vec();
    resets.sort_unstable();
    resets.dedup();
    let (mut resets, mut segments) = (resets.into_iter().peekable(), Vec::new());
    for (sequence, &len) in lengths.iter().enumerate() {
        let mut is_reset = resets.next_if_eq(&(sequence, 0)).is_some();
        let mut first = 0;
        while let Some((_, step)) = resets.next_if(|&(of, _)| of == sequence) {
            let len = step - first;
            segments.push(Segment { sequence, first, len, is_reset, is_last: false });
            (first, is_reset) = (step, true);
        }
        segments.push(Segment { sequence, first, len: len - first, is_reset, is_last: true });
    }
    Ok(segments)
}

/// Where each step of each sequence lies in the caller's arrays.
struct Place {
    layout: Layout,
    batch: usize,
    /// The first row of each sequence, if the arrays have no padding.
    firsts: Vec<usize>,
}

impl Place {
    fn new(layout: Layout, lengths: &[usize]) -> Self {
        let mut firsts = Vec::new();
        if layout == Layout::Packed {
            firsts.extend(lengths.iter().scan(0, |before, len| {
                *before += len;
                Some(*before - len)
            }));
        }
        Self { layout, batch: lengths.len(), firsts }
    }

    fn row(&self, sequence: usize, step: usize) -> usize {
        match self.layout {
            Layout::TimeMajor { .. } => step * self.batch + sequence,
            Layout::BatchFirst { steps } => sequence * steps + step,
            Layout::Packed => self.firsts[sequence] + step,
        }
    }
}
