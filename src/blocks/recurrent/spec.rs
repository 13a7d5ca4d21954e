//! The description of a recurrent layer: its sizes, the kernel's cell, and the options that go with
//! any cell.

use super::leak::Leak;
use super::sections::{All, Extra, Sections};
use super::state::StateLens;
use crate::Error;
use crate::blocks::Config;
use crate::regularisation::Regularisation;
use bptt_kernels::cells::{
    self, Activation, Activations, Cell, Equations, Geometry, Hard, Projected,
};
use bptt_kernels::checked_len;
use bptt_kernels::tuning::STRETCH_WORTH_CALLING;
use std::sync::Arc;

/// The sizes of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Features in a row of the input, I.
    pub input: usize,
    /// Units, H.
    pub hidden: usize,
    /// Features of the hidden state, R: H unless there is a projection.
    pub output: usize,
}

/// The kind of the kernel's cell, without the vectors that it reads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Vanilla,
    Leaky(Leak),
    GruAfter,
    GruBefore,
    Lstm { peepholes: bool, coupled: bool, projected: bool, forget_bias: f32 },
}

/// The functions of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Functions {
    /// The usual ones, for which the kernels are made.
    Usual(Activations),
    /// Any.
    Hard(Hard),
}

impl Functions {
    /// Returns the usual functions if `hard` has no others.
    fn of(kind: &Kind, hard: Hard) -> Self {
        let unlimited = hard.cell_clip.min(hard.projection_clip) == f32::INFINITY;
        // The usual formula of a GRU loses h₋ in h₋ − n if n is large.
        let bounded = !matches!(kind, Kind::GruAfter | Kind::GruBefore)
            || hard.candidate != Activation::Usual(Activations::Relu);
        match hard.candidate {
            Activation::Usual(usual) if hard.gates.is_none() && unlimited && bounded => {
                Self::Usual(usual)
            }
            _ => Self::Hard(hard),
        }
    }
}

/// Returns φ beside the usual functions, and no limits.
fn hard(candidate: Activation) -> Hard {
    Hard { candidate, gates: None, cell_clip: f32::INFINITY, projection_clip: f32::INFINITY }
}

/// How to compute the gradient of a vector that only some layers have, such as a peephole weight:
/// `Σ a ⊙ b` over all rows of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Diagonal {
    /// a is ∂L/∂z of this gate, and b is the cell state before the step.
    GateBefore(usize),
    /// a is ∂L/∂z of this gate, and b is the cell state after the step.
    GateAfter(usize),
    /// a is the extra block that the backward pass leaves beside the gates, and b is 1.
    Extra,
}

/// The description of a recurrent layer: its sizes, the kernel's cell, and the options that go with
/// any cell. Each layer makes its description, and wrappers change it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    pub(crate) config: Config,
    pub(crate) sizes: Sizes,
    pub(crate) kind: Kind,
    pub(crate) functions: Functions,
    /// The delays in steps: a step sees the hidden states that lie this many steps before it. The
    /// longest delay comes first.
    pub(crate) delays: Arc<[usize]>,
    /// Whether a step sees the input of the step before instead of its own.
    pub(crate) late: bool,
    /// ε of layer normalisation, if the gates are normalised.
    pub(crate) epsilon: Option<f32>,
    /// Noise in the recurrence.
    pub(crate) regularisation: Regularisation,
}

impl Recurrent {
    /// Describes a layer of these `sizes`, whose steps see the hidden state of the step before.
    pub(crate) fn new(
        config: Config,
        kind: Kind,
        activation: impl Into<Activation>,
        sizes: Sizes,
    ) -> Self {
        Self {
            config,
            sizes,
            functions: Functions::of(&kind, hard(activation.into())),
            kind,
            delays: [1].into(),
            late: false,
            epsilon: None,
            regularisation: Regularisation::none(),
        }
    }

    /// Sets functions and limits other than the usual ones, for which `change` is given the usual
    /// ones with the layer's φ.
    pub(crate) fn with_hard(self, change: impl FnOnce(Hard) -> Hard) -> Self {
        let functions = match self.functions {
            Functions::Usual(usual) => hard(usual.into()),
            Functions::Hard(hard) => hard,
        };
        Self { functions: Functions::of(&self.kind, change(functions)), ..self }
    }

    /// Returns the kernel's cell, which reads `vectors`.
    #[inline]
    pub(crate) fn cell<'a>(&self, vectors: &'a [f32]) -> Cell<'a> {
        match self.functions {
            Functions::Usual(usual) => Cell::Usual(self.equations(usual, vectors)),
            Functions::Hard(hard) => Cell::Hard(self.equations(hard, vectors)),
        }
    }

    /// Returns the equations of the kernel's cell with these functions.
    #[inline]
    fn equations<'a, F: Copy>(&self, activations: F, vectors: &'a [f32]) -> Equations<'a, F> {
        match self.kind {
            Kind::Vanilla => Equations::Vanilla(cells::Vanilla { activations }),
            Kind::Leaky(Leak::Learned { .. }) => {
                Equations::LeakyLearned(cells::Leaky { activations, alpha: vectors })
            }
            Kind::Leaky(_) => Equations::Leaky(cells::Leaky { activations, alpha: vectors }),
            Kind::GruAfter => Equations::GruAfter(cells::GruAfter { activations, bias: vectors }),
            Kind::GruBefore => Equations::GruBefore(cells::GruBefore { activations }),
            Kind::Lstm { peepholes, coupled, projected, .. } => {
                let peepholes = peepholes.then_some(vectors);
                let (all, three) = (
                    cells::Lstm { activations, peepholes },
                    cells::Lstm { activations, peepholes },
                );
                match (coupled, projected) {
                    (false, false) => Equations::Lstm(all),
                    (true, false) => Equations::LstmCoupled(three),
                    (false, true) => Equations::LstmProjected(Projected(all)),
                    (true, true) => Equations::LstmCoupledProjected(Projected(three)),
                }
            }
        }
    }

    /// Sizes needed to book memory for one step.
    #[inline]
    pub(crate) fn geometry(&self) -> Geometry {
        self.cell(&[]).geometry()
    }

    /// Returns D, the longest delay: how many steps a step looks back.
    pub(crate) fn history(&self) -> usize {
        self.delays[0]
    }

    pub(crate) fn is_normed(&self) -> bool {
        self.epsilon.is_some()
    }

    /// Returns how to compute the gradients of the vectors that only this kind of layer has, in the
    /// order of the parameters. Each gradient is a sum over time of element-wise products.
    pub(crate) fn diagonals(&self) -> &'static [Diagonal] {
        const ALL: [Diagonal; 3] =
            [Diagonal::GateBefore(0), Diagonal::GateBefore(1), Diagonal::GateAfter(3)];
        const COUPLED: [Diagonal; 2] = [Diagonal::GateBefore(0), Diagonal::GateAfter(2)];
        match self.kind {
            Kind::Lstm { peepholes: true, coupled: false, .. } => &ALL,
            Kind::Lstm { peepholes: true, coupled: true, .. } => &COUPLED,
            Kind::Leaky(Leak::Learned { .. }) => &[Diagonal::Extra],
            _ => &[],
        }
    }

    /// Returns how many vectors of H floats are parameters beside U, W, b and P, of each kind.
    pub(super) fn extra(&self) -> Extra<usize> {
        let Geometry { gates, norms, .. } = self.geometry();
        let normed = usize::from(self.is_normed());
        Extra {
            bias: usize::from(self.kind == Kind::GruAfter),
            diagonal: self.diagonals().len(),
            gain: normed * gates,
            gain_extra: normed * (norms - gates),
        }
    }

    /// Returns how many vectors of H floats the kernel's cell reads.
    pub(super) fn vectors(&self) -> usize {
        match self.kind {
            Kind::Leaky(_) => 1,
            _ => self.extra().bias + self.extra().diagonal,
        }
    }

    /// Computes the `vectors` that the kernel's cell reads from the parameters `extra`.
    pub(super) fn prepare(&self, extra: Extra<&[f32]>, vectors: &mut [f32]) {
        if let Kind::Leaky(leak) = &self.kind {
            return leak.prepare(extra.diagonal, vectors);
        }
        let (bias, diagonal) = vectors.split_at_mut(extra.bias.len());
        bias.copy_from_slice(extra.bias);
        diagonal.copy_from_slice(extra.diagonal);
    }

    /// Returns where each parameter lies in the buffer that holds them all.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they do not fit the address space.
    pub(super) fn sections(&self) -> Result<Sections, Error> {
        let (Sizes { input, hidden, output }, geometry) = (self.sizes, self.geometry());
        let what = "the parameters";
        let rows = checked_len(what, &[geometry.gates, hidden])?;
        let all: All<&[usize]> = All {
            weight_ih: &[checked_len(what, &[rows, input])?],
            weight_hh: &[checked_len(what, &[self.delays.len(), rows, output])?],
            bias: &[rows],
            weight_hr: &[usize::from(geometry.projects), output, hidden],
            ..All::default()
        };
        Sections::booked(all, self.extra(), hidden)
    }

    /// Returns an error unless the parameters fit the address space.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.sections().map(|_| ())
    }

    /// Returns the number of terms in a gate's sum: its inputs and the hidden states that it sees.
    pub(super) fn terms(&self) -> usize {
        self.sizes.input + self.delays.len() * self.sizes.output
    }

    /// Returns the multiply-adds of a forward pass over `rows` rows; saturates.
    #[inline]
    pub(super) fn multiply_adds(&self, rows: usize) -> usize {
        let (Sizes { hidden, output, .. }, geometry) = (self.sizes, self.geometry());
        let gate = self.terms();
        let projection = if geometry.projects { output } else { 0 };
        rows.saturating_mul(hidden * (geometry.gates * gate + projection))
    }

    /// Returns the multiply-adds that a team of threads is told for a forward pass over `rows` rows
    /// in stretches of `stretch` rows. Threads meet twice in each stretch, so helpers do not pay if
    /// a stretch is short: the result is then 0, and none is called.
    pub(super) fn work_in_stretches(&self, rows: usize, stretch: usize) -> usize {
        let work = self.multiply_adds(rows);
        if self.multiply_adds(stretch.min(rows)) < STRETCH_WORTH_CALLING { 0 } else { work }
    }

    /// Returns the floats in each part of the state of `batch` sequences.
    pub(super) fn state_lens(&self, batch: usize) -> StateLens {
        let (Sizes { input, hidden, output }, geometry) = (self.sizes, self.geometry());
        StateLens {
            h: self.history() * batch * output,
            c: if geometry.cells { batch * hidden } else { 0 },
            x: if self.late { batch * input } else { 0 },
        }
    }
}
