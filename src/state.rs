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
    /// The cell state c, `[B, H]`.
    pub c: S,
}

/// The state of a cell that looks back further than a step.
///
/// `S` is `&[f32]` for states that are given or shown and `&mut [f32]` for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayLine<S> {
    /// The last D hidden states, the oldest first, `[D, B, H]`, D being the longest delay.
    pub h: S,
}

/// The state of a layer whose input comes a step late.
///
/// `S` is `&[f32]` for states that are given or shown and `&mut [f32]` for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedState<T, S> {
    /// The layer's own state.
    pub inner: T,
    /// The input that has come and not been seen yet, `[B, I]`.
    pub x: S,
}

/// The state of a layer whose units move each at its period.
///
/// `S` is `&[f32]` for states that are given or shown and `&mut [f32]` for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockedState<S> {
    /// The hidden state h, `[B, H]`.
    pub h: S,
    /// The steps that the sequences have taken, below 2⁶³: what the periods count from. In a
    /// gradient it means nothing and is not looked at.
    pub step: u64,
}

/// A state in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<S> {
    /// The hidden states.
    pub h: S,
    /// The cell state, where the cell has one.
    pub c: Option<S>,
    /// The input that is waiting, where it comes late.
    pub x: Option<S>,
    /// The steps that have been taken, where the cell counts them.
    pub step: Option<u64>,
}

/// A state as its parts.
pub trait State<S> {
    /// The parts.
    fn into_parts(self) -> Parts<S>;
    /// The state of them; one that the cell has not is left out.
    fn from_parts(h: S, c: S, x: S) -> Self;

    /// The same after so many steps, where the cell counts them; a state of parts is from
    /// before the first.
    fn at_step(self, _step: u64) -> Self
    where
        Self: Sized,
    {
        self
    }
}

/// States that are h alone.
macro_rules! hidden_alone {
    ($($state:ident)+) => {
        $(impl<S> State<S> for $state<S> {
            #[inline]
            fn into_parts(self) -> Parts<S> {
                Parts { h: self.h, c: None, x: None, step: None }
            }

            #[inline]
            fn from_parts(h: S, _s: S, _x: S) -> Self {
                Self { h }
            }
        })+
    };
}
hidden_alone!(HiddenState DelayLine);

impl<S> State<S> for LstmState<S> {
    #[inline]
    fn into_parts(self) -> Parts<S> {
        Parts { h: self.h, c: Some(self.c), x: None, step: None }
    }

    #[inline]
    fn from_parts(h: S, c: S, _x: S) -> Self {
        Self { h, c }
    }
}

impl<S, T: State<S>> State<S> for DelayedState<T, S>
where
    S: Default,
{
    #[inline]
    fn into_parts(self) -> Parts<S> {
        Parts { x: Some(self.x), ..self.inner.into_parts() }
    }

    #[inline]
    fn from_parts(h: S, c: S, x: S) -> Self {
        Self { inner: T::from_parts(h, c, S::default()), x }
    }
}

impl<S> State<S> for ClockedState<S> {
    #[inline]
    fn into_parts(self) -> Parts<S> {
        Parts { h: self.h, c: None, x: None, step: Some(self.step) }
    }

    #[inline]
    fn from_parts(h: S, _s: S, _x: S) -> Self {
        Self { h, step: 0 }
    }

    #[inline]
    fn at_step(self, step: u64) -> Self {
        Self { step, ..self }
    }
}
