//! The parts of a recurrent layer's state, which lie in one buffer. Knows lengths; must not know
//! cells.

use crate::sequence::Schedule;

/// The lengths of the parts of a state, in floats. The parts lie in the buffer in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateLens {
    /// The last D hidden states, `[D, B, R]`.
    pub h: usize,
    /// The cell state, `[B, H]`, or 0.
    pub c: usize,
    /// The input that waits for the next step, `[B, I]`, or 0.
    pub x: usize,
}

/// A state, divided into its parts as in [`StateLens`].
pub(super) struct StateParts<S> {
    pub h: S,
    pub c: S,
    pub x: S,
}

impl StateLens {
    #[inline]
    pub fn split(self, state: &[f32]) -> StateParts<&[f32]> {
        let (h, rest) = state.split_at(self.h);
        let (c, x) = rest.split_at(self.c);
        StateParts { h, c, x }
    }

    #[inline]
    pub fn split_mut(self, state: &mut [f32]) -> StateParts<&mut [f32]> {
        let (h, rest) = state.split_at_mut(self.h);
        let (c, x) = rest.split_at_mut(self.c);
        StateParts { h, c, x }
    }
}

/// Returns for each row the index of the hidden state of `delay` steps before, among the states
/// before the first step, `[D, B]`, followed by those of all rows.
pub(crate) fn ago(schedule: &Schedule, history: usize, delay: usize) -> Vec<usize> {
    let batch = schedule.batch();
    let of_step = |step: usize| {
        let first = match step.checked_sub(delay) {
            Some(before) => history * batch + schedule.start(before),
            None => (history + step - delay) * batch,
        };
        first..first + schedule.step_rows().count(step)
    };
    (0..schedule.steps()).flat_map(of_step).collect()
}

/// Copies the last D rows that each sequence has read or made to `last` `[D, B, width]`, the oldest
/// first: rows of `y`, which are `stride` floats apart, and, where a sequence has fewer than D steps,
/// the latest of those from before the first step, `[D, B, width]`.
pub(crate) fn last_rows(
    schedule: &Schedule,
    before: &[f32],
    y: &[f32],
    stride: usize,
    width: usize,
    last: &mut [f32],
) {
    if schedule.is_dense() {
        last.copy_from_slice(before);
        return remember(last, y, stride, width);
    }
    let batch = schedule.batch();
    let history = last.len() / (batch * width);
    for (index, last) in last.chunks_exact_mut(width).enumerate() {
        let (nth, n) = (index / batch, index % batch);
        let len = schedule.len_of(n);
        let from = match (len + nth).checked_sub(history) {
            Some(step) => &y[(schedule.start(step) + n) * stride..],
            None => &before[((len + nth) * batch + n) * width..],
        };
        last.copy_from_slice(&from[..width]);
    }
}

/// Appends the rows of `y` to `states`, the oldest row first, and drops the oldest rows so that the
/// length stays. A row has `width` floats, and the rows of `y` are `stride` floats apart.
pub(crate) fn remember(states: &mut [f32], y: &[f32], stride: usize, width: usize) {
    let came = (y.len() + stride - width) / stride;
    let new = came.min(states.len() / width);
    states.copy_within(new * width.., 0);
    let kept = states.len() - new * width;
    let rows = (came - new..came).map(|row| &y[row * stride..][..width]);
    states[kept..].chunks_exact_mut(width).zip(rows).for_each(|(to, row)| to.copy_from_slice(row));
}
