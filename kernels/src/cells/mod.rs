//! Cells: what becomes of the sums of a step, forward and backward. One file each, which
//! knows its equations on vectors; must not know products, steps, batches or threads,
//! which are [`recurrence`](crate::recurrence)'s.

mod activations;
mod epilogue;
mod gru;
mod leaky;
mod lstm;
mod projected;
mod vanilla;

pub use activations::Activations;
pub use gru::{GruAfter, GruBefore};
pub use leaky::Leaky;
pub use lstm::Lstm;
pub use projected::Projected;
pub use vanilla::Vanilla;

pub use epilogue::BackwardLhs;
pub(crate) use epilogue::{
    BackwardPointers, BackwardUnits, Epilogue, ForwardPointers, ForwardUnits, MOST_SUMS,
};

/// A cell of this crate: what [`Forward`](crate::recurrence::Forward),
/// [`Backward`](crate::recurrence::Backward) and
/// [`Single`](crate::recurrence::Single) are passes of. Their code is compiled here, once
/// for each, and not where they are used.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// See [`Vanilla`].
    Vanilla(Vanilla),
    /// See [`Leaky`]; α is given.
    Leaky(Leaky<'a, false>),
    /// α is learned.
    LeakyLearned(Leaky<'a, true>),
    /// See [`GruAfter`].
    GruAfter(GruAfter<'a>),
    /// See [`GruBefore`].
    GruBefore(GruBefore),
    /// See [`Lstm`].
    Lstm(Lstm<'a, 4>),
    /// With coupled gates.
    LstmCoupled(Lstm<'a, 3>),
    /// With a projection.
    LstmProjected(Projected<Lstm<'a, 4>>),
    /// With coupled gates and a projection.
    LstmCoupledProjected(Projected<Lstm<'a, 3>>),
}

/// An expression of the cell itself, of its own type.
macro_rules! with_cell {
    ($any:expr, |$cell:ident| $body:expr) => {
        match $any {
            $crate::cells::Cell::Vanilla($cell) => $body,
            $crate::cells::Cell::Leaky($cell) => $body,
            $crate::cells::Cell::LeakyLearned($cell) => $body,
            $crate::cells::Cell::GruAfter($cell) => $body,
            $crate::cells::Cell::GruBefore($cell) => $body,
            $crate::cells::Cell::Lstm($cell) => $body,
            $crate::cells::Cell::LstmCoupled($cell) => $body,
            $crate::cells::Cell::LstmProjected($cell) => $body,
            $crate::cells::Cell::LstmCoupledProjected($cell) => $body,
        }
    };
}
pub(crate) use with_cell;

impl Cell<'_> {
    /// What there is of it to make room for.
    #[inline]
    pub fn geometry(&self) -> Geometry {
        with_cell!(self, |cell| Geometry::of(cell))
    }

    /// `Ok` where the cell's own vectors fit so many units.
    ///
    /// # Errors
    /// [`KernelError::Length`](crate::KernelError).
    #[inline]
    pub(crate) fn check(&self, hidden: usize) -> Result<(), crate::KernelError> {
        with_cell!(self, |cell| cell.check(hidden))
    }
}

/// The sizes of a step's second product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondProduct {
    /// Its outputs, forward.
    pub units: usize,
    /// The terms of each.
    pub depth: usize,
}

impl SecondProduct {
    /// Those of the product with its weights the other way round, as backward has it.
    #[inline]
    pub const fn turned(self) -> Self {
        Self { units: self.depth, depth: self.units }
    }
}

/// What a caller has to know of a cell to make room for its passes and to pack its
/// weights: W is `[GH, R]`, of which the first `sums` blocks of H rows are packed by rows
/// for the step's product, and the others, if there is a second product, for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Gates, G: blocks of H of the input's product, and of what is kept of a step.
    pub gates: usize,
    /// Blocks that are kept beside them, E.
    pub extra: usize,
    /// Gates of the step's product.
    pub sums: usize,
    /// Whether there is a cell state beside h.
    pub cells: bool,
    /// Whether the product with the input can be part of the step.
    pub fuses: bool,
    /// The gate of which a second product, of the extra block, is a part.
    pub second: Option<usize>,
    /// Whether the second product makes h of the extra block.
    pub projects: bool,
    /// Sums that layer normalisation is of, N: the gates, and, where the recurrent sums are
    /// apart from the input's part, one more of the last gate.
    pub norms: usize,
    /// Whether a part of ∂L/∂h is carried from step to step.
    pub carries: bool,
    /// What backward's products are of: as many blocks of W as each says, from the first,
    /// are packed by columns for it.
    pub back: &'static [BackwardLhs],
}

impl Geometry {
    /// That of a cell.
    #[inline]
    fn of<C: Epilogue>(_cell: &C) -> Self {
        Self::new::<C>()
    }

    /// The same of its type; where its constants contradict each other it does not compile.
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

    /// Whether a step has two products, one after the other.
    #[inline]
    pub const fn is_double(&self) -> bool {
        self.projects || self.second.is_some()
    }

    /// The sizes of the second product, if there is one, of H and R.
    #[inline]
    pub fn second_product(&self, hidden: usize, outputs: usize) -> Option<SecondProduct> {
        match (self.projects, self.second) {
            (true, _) => Some(SecondProduct { units: outputs, depth: hidden }),
            (_, Some(_)) => Some(SecondProduct { units: hidden, depth: hidden }),
            _ => None,
        }
    }
}
