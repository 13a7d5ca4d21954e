//! The cells: equations that turn the sums of a step into states, and their gradients. One file for
//! each cell, which knows its equations on vectors of units; must not know products, steps, batches
//! or threads, which are in [`recurrence`](crate::recurrence).

mod activations;
mod epilogue;
mod functions;
mod gru;
mod hard;
mod leaky;
mod lstm;
mod projected;
mod vanilla;

pub use activations::Activations;
pub use gru::{GruAfter, GruBefore};
pub use hard::{Activation, Hard, HardSigmoid};
pub use leaky::Leaky;
pub use lstm::Lstm;
pub use projected::Projected;
pub use vanilla::Vanilla;

pub use epilogue::BackwardLhs;
pub(crate) use epilogue::{
    BackwardPointers, BackwardUnits, Epilogue, ForwardPointers, ForwardUnits, MOST_SUMS,
};
pub(crate) use functions::{Functions, Phi};

/// A cell of this crate, as [`Forward`](crate::recurrence::Forward),
/// [`Backward`](crate::recurrence::Backward) and [`Single`](crate::recurrence::Single) take it.
///
/// It is an enum so that the code of these passes is compiled in this crate, once for each cell and
/// each type of functions, and not in the crates that use them. A pass looks once at which it is.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// A cell with the usual functions.
    Usual(Equations<'a>),
    /// A cell with any functions.
    Hard(Equations<'a, Hard>),
}

impl<'a> From<Equations<'a>> for Cell<'a> {
    fn from(usual: Equations<'a>) -> Self {
        Self::Usual(usual)
    }
}

impl<'a> From<Equations<'a, Hard>> for Cell<'a> {
    fn from(hard: Equations<'a, Hard>) -> Self {
        Self::Hard(hard)
    }
}

/// The equations of a cell, with functions of type `F`.
#[derive(Clone, Copy, Debug)]
pub enum Equations<'a, F = Activations> {
    /// See [`Vanilla`].
    Vanilla(Vanilla<F>),
    /// See [`Leaky`]; α is given, not learned.
    Leaky(Leaky<'a, false, F>),
    /// See [`Leaky`]; α is learned.
    LeakyLearned(Leaky<'a, true, F>),
    /// See [`GruAfter`].
    GruAfter(GruAfter<'a, F>),
    /// See [`GruBefore`].
    GruBefore(GruBefore<F>),
    /// See [`Lstm`].
    Lstm(Lstm<'a, 4, F>),
    /// An LSTM with coupled input and forget gates.
    LstmCoupled(Lstm<'a, 3, F>),
    /// An LSTM with a projection; see [`Projected`].
    LstmProjected(Projected<Lstm<'a, 4, F>>),
    /// An LSTM with coupled gates and a projection.
    LstmCoupledProjected(Projected<Lstm<'a, 3, F>>),
}

/// Evaluates `$body` with `$cell` bound to the cell inside `$equations`, whose type is then known.
macro_rules! with_equations {
    ($equations:expr, |$cell:ident| $body:expr) => {
        match $equations {
            $crate::cells::Equations::Vanilla($cell) => $body,
            $crate::cells::Equations::Leaky($cell) => $body,
            $crate::cells::Equations::LeakyLearned($cell) => $body,
            $crate::cells::Equations::GruAfter($cell) => $body,
            $crate::cells::Equations::GruBefore($cell) => $body,
            $crate::cells::Equations::Lstm($cell) => $body,
            $crate::cells::Equations::LstmCoupled($cell) => $body,
            $crate::cells::Equations::LstmProjected($cell) => $body,
            $crate::cells::Equations::LstmCoupledProjected($cell) => $body,
        }
    };
}
pub(crate) use with_equations;

/// As [`with_equations`], for a [`Cell`].
macro_rules! with_cell {
    ($any:expr, |$cell:ident| $body:expr) => {
        match $any {
            $crate::cells::Cell::Usual(equations) => {
                $crate::cells::with_equations!(equations, |$cell| $body)
            }
            $crate::cells::Cell::Hard(equations) => {
                $crate::cells::with_equations!(equations, |$cell| $body)
            }
        }
    };
}
pub(crate) use with_cell;

impl Cell<'_> {
    /// Returns the sizes that a caller needs to allocate memory for the cell's passes and to pack
    /// its weights.
    #[inline]
    pub fn geometry(&self) -> Geometry {
        with_cell!(self, |cell| Geometry::of(cell))
    }

    /// Checks that the cell's own vectors (bias, peepholes, α) fit `hidden` units.
    ///
    /// # Errors
    /// [`KernelError::Length`](crate::KernelError) if one of them has another length.
    #[inline]
    pub(crate) fn check(&self, hidden: usize) -> Result<(), crate::KernelError> {
        with_cell!(self, |cell| cell.check(hidden))
    }
}

/// The sizes of a step's second product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondProduct {
    /// Outputs of the product, in the forward pass.
    pub units: usize,
    /// Terms of the sum of each output.
    pub depth: usize,
}

impl SecondProduct {
    /// Returns the sizes of the product with the transposed weights, as the backward pass computes
    /// it.
    #[inline]
    pub const fn turned(self) -> Self {
        Self { units: self.depth, depth: self.units }
    }
}

/// The sizes by which a caller allocates memory for a cell's passes and packs its weights.
///
/// W is `[GH, R]`. Its first `sums` blocks of H rows are packed by rows for the first product of a
/// step. The other blocks, if there are any, are packed by rows for the second product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Gates, G: blocks of H that the input's product has, and that are kept of each step.
    pub gates: usize,
    /// Extra blocks of H that are kept of each step beside the gates, E.
    pub extra: usize,
    /// Gates whose sums the first product of a step computes.
    pub sums: usize,
    /// Whether there is a cell state c beside the hidden state h.
    pub cells: bool,
    /// Whether the product with the input can be computed as part of the step.
    pub fuses: bool,
    /// The gate to whose sum the second product, of the extra block, is added.
    pub second: Option<usize>,
    /// Whether h is the second product: a projection of the extra block.
    pub projects: bool,
    /// Sums of a unit that layer normalisation normalises, N: one for each gate and, if the
    /// recurrent sums are separate from the input's part, one more for the recurrent sum of the
    /// last gate.
    pub norms: usize,
    /// Whether a part of ∂L/∂h is carried from step to step beside the products.
    pub carries: bool,
    /// The left operands of the products of a step backward. The blocks of W are packed by columns
    /// for them in order: the first operand takes as many blocks as it has itself, from the first
    /// block of W on, and the next operand takes the blocks that follow.
    pub back: &'static [BackwardLhs],
}

impl Geometry {
    /// Returns the geometry of a cell's type.
    #[inline]
    fn of<C: Epilogue>(_cell: &C) -> Self {
        Self::new::<C>()
    }

    /// Returns the geometry of the cell type `C`. Does not compile if its constants contradict each
    /// other.
    pub(crate) const fn new<C: Epilogue>() -> Self {
        assert!(0 < C::SUMS && C::SUMS <= C::GATES && C::GATES <= MOST_SUMS);
        assert!(!C::SEPARATE_SUMS || C::SUMS == C::GATES, "the input's part is of the gates");
        assert!(!C::CARRIES || !C::PROJECTS, "what is carried is of units");
        if let Some(gate) = C::SECOND {
            assert!(gate < C::GATES && !C::PROJECTS, "a second product is of one kind");
        }
        assert!(C::EXTRA > 0 || !(C::PROJECTS || C::SECOND.is_some()), "a second product reads it");
        let mut term = 0;
        while term < C::BACK.len() {
            match C::BACK[term] {
                BackwardLhs::Gates { first, count } => assert!(first + count <= C::GATES),
                BackwardLhs::Extra => assert!(C::EXTRA > 0),
            }
            term += 1;
        }
        Self {
            gates: C::GATES,
            extra: C::EXTRA,
            sums: C::SUMS,
            cells: C::CELLS,
            fuses: !C::SEPARATE_SUMS && C::SUMS == C::GATES,
            second: C::SECOND,
            projects: C::PROJECTS,
            norms: C::GATES + C::SEPARATE_SUMS as usize,
            carries: C::CARRIES,
            back: C::BACK,
        }
    }

    /// Returns whether a step has two products, one after the other.
    #[inline]
    pub const fn is_double(&self) -> bool {
        self.projects || self.second.is_some()
    }

    /// Returns the sizes of the second product, if there is one, from H (`hidden`) and R
    /// (`outputs`).
    #[inline]
    pub fn second_product(&self, hidden: usize, outputs: usize) -> Option<SecondProduct> {
        match (self.projects, self.second) {
            (true, _) => Some(SecondProduct { units: outputs, depth: hidden }),
            (_, Some(_)) => Some(SecondProduct { units: hidden, depth: hidden }),
            _ => None,
        }
    }
}
