//! Input that comes a step late.

use crate::sections::Own;
use crate::spec::{Diagonal, Sizes, Spec};
use crate::state::DelayedState;
use bptt_kernels::cells::Cell;

/// A layer whose step t sees the input of step t − 1: `h⁽ᵗ⁾` is a function of `h⁽ᵗ⁻¹⁾` and
/// `x⁽ᵗ⁻¹⁾`, as the book writes its gated recurrent unit (equation 10.45). The input that is
/// waiting is [part of the state](DelayedState).
///
/// The book's unit, with all gates from `x⁽ᵗ⁻¹⁾` and a logistic candidate:
///
/// ```
/// use bptt::{Candidate, Layer, Delayed, Gru, Init, Isa, Purpose, Reset};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let gru = Gru::new(2, 5, Reset::Before)?.with_candidate(Candidate::Logistic);
/// let book = Delayed::new(gru);
/// let parameters = book.init(Init::Glorot, &mut SmallRng::seed_from_u64(1))?;
/// let weights = book.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let mut stream = book.stream(1, Isa::best()?)?;
/// let mut y = [0.0; 5];
/// stream.step(&weights, &[0.5, -0.5], &mut y)?; // sees zero
/// stream.step(&weights, &[0.0, 0.0], &mut y)?; // sees 0.5 and −0.5
/// assert_eq!(stream.state().x, [0.0, 0.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delayed<C> {
    layer: C,
}

impl<C: Spec> Delayed<C> {
    /// `layer` with its input a step late. One that is late already does not compile:
    ///
    /// ```compile_fail
    /// # use bptt::{Delayed, Gru, Reset};
    /// let late = Delayed::new(Gru::new(2, 5, Reset::Before)?);
    /// let later = Delayed::new(late);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    ///
    /// Nor does a [`Clockwork`](crate::Clockwork), whose groups see the input at steps of
    /// their own:
    ///
    /// ```compile_fail
    /// # use bptt::{Activation, ClockGroup, Clockwork, Delayed};
    /// let groups = [ClockGroup { units: 5, period: 1 }];
    /// let late = Delayed::new(Clockwork::new(2, Activation::Tanh, &groups)?);
    /// # Ok::<(), bptt::Error>(())
    /// ```
    pub fn new(layer: C) -> Self {
        const { assert!(!C::LATE, "the input is late by one step and not by more") };
        const { assert!(!C::CLOCKED, "the input of a clocked layer is not late") };
        Self { layer }
    }

    /// The layer itself.
    pub fn layer(&self) -> &C {
        &self.layer
    }
}

impl<C: Spec> Spec for Delayed<C> {
    type State<S: Default> = DelayedState<C::State<S>, S>;
    const LATE: bool = true;
    const NORMED: bool = C::NORMED;

    #[inline]
    fn sizes(&self) -> Sizes {
        self.layer.sizes()
    }

    #[inline]
    fn cell<'a>(&self, vectors: &'a [f32]) -> Cell<'a> {
        self.layer.cell(vectors)
    }

    #[inline]
    fn delays(&self) -> &[usize] {
        self.layer.delays()
    }

    fn own(&self) -> Own<usize> {
        self.layer.own()
    }

    fn vectors(&self) -> usize {
        self.layer.vectors()
    }

    fn prepare(&self, own: Own<&[f32]>, vectors: &mut [f32]) {
        self.layer.prepare(own, vectors);
    }

    #[inline]
    fn norm(&self) -> Option<f32> {
        self.layer.norm()
    }

    fn diagonals(&self) -> &'static [Diagonal] {
        self.layer.diagonals()
    }

    fn initialise(&self, bias: &mut [f32], own: Own<&mut [f32]>) {
        self.layer.initialise(bias, own);
    }

    #[inline]
    fn computes_as(&self, other: &Self) -> bool {
        self.layer.computes_as(&other.layer)
    }

    fn describe(&self) -> String {
        format!("{}, input a step late", self.layer.describe())
    }

    fn describe_beside(&self, other: &Self) -> String {
        format!("{}, input a step late", self.layer.describe_beside(&other.layer))
    }
}
