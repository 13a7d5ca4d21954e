//! What a cell carries from step to step.

/// The state of a cell that carries its hidden state alone.
///
/// `S` is `&[f32]` for states that are given or shown and `&mut [f32]` for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenState<S> {
    /// The hidden state h, `[B, H]`.
    pub h: S,
}

/// The state of an LSTM between two steps. Also a gradient by it.
///
/// `S` is `&[f32]` for states that are given or shown and `&mut [f32]` for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LstmState<S> {
    /// The hidden state h, `[B, R]`, where R is H unless it is projected.
    pub h: S,
    /// The cell state s, `[B, H]`.
    pub s: S,
}

/// The state of a cell that looks back further than a step.
///
/// `S` is `&[f32]` for states that are given or shown and `&mut [f32]` for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayLine<S> {
    /// The last D hidden states, the oldest first, `[D, B, H]`, D being the longest delay.
    pub h: S,
}

/// A state as its parts: h, and the cell state where the cell has one.
pub trait State<S> {
    /// The parts.
    fn into_parts(self) -> (S, Option<S>);
    /// The state of them; a cell state that the cell has not is left out.
    fn from_parts(h: S, s: S) -> Self;
}

impl<S> State<S> for HiddenState<S> {
    #[inline]
    fn into_parts(self) -> (S, Option<S>) {
        (self.h, None)
    }

    #[inline]
    fn from_parts(h: S, _s: S) -> Self {
        Self { h }
    }
}

impl<S> State<S> for DelayLine<S> {
    #[inline]
    fn into_parts(self) -> (S, Option<S>) {
        (self.h, None)
    }

    #[inline]
    fn from_parts(h: S, _s: S) -> Self {
        Self { h }
    }
}

impl<S> State<S> for LstmState<S> {
    #[inline]
    fn into_parts(self) -> (S, Option<S>) {
        (self.h, Some(self.s))
    }

    #[inline]
    fn from_parts(h: S, s: S) -> Self {
        Self { h, s }
    }
}
