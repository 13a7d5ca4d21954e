//! The gradients of the parameters: sums over all steps and sequences of products of what the
//! backward steps left. Knows which operands are multiplied; must not know cells.

use crate::blocks::recurrent::sections::{All, Extra, Sections};
use crate::blocks::recurrent::{Diagonal, Recurrent, Sizes};
use crate::memory::first;
use crate::{Error, Isa};
use bptt_kernels::cells::{BackwardLhs, Geometry};
use bptt_kernels::diagonal;
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients};
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{Joined, KernelError};
use std::ops::Range;

/// What the gradients are computed from: the values that the backward steps left, and the inputs
/// and states that the forward steps read.
pub(super) struct Sums<'a, 'p> {
    pub isa: Isa,
    /// The rows of all steps, and the sequences, B.
    pub rows: usize,
    pub batch: usize,
    /// For each delay, where each row finds the hidden state of that many steps before, if the
    /// states do not lie in order.
    pub ago: &'a [Vec<usize>],
    pub sizes: Sizes,
    pub geometry: Geometry,
    pub accumulate: bool,
    /// The gradients of what the cell read: ∂L/∂z of the gates, `[τ, B, G, H]`.
    pub dz: &'a [f32],
    /// The extra block beside them, `[τ, B, H]`.
    pub extra: &'a [f32],
    /// The gradients of the products' sums: the same as `dz` and `extra`, unless layer
    /// normalisation lies between the sums and the cell.
    pub da: &'a [f32],
    pub da_extra: &'a [f32],
    /// With layer normalisation, the sums that the cell read.
    pub normal: Option<Normal<'a>>,
    /// With a projection, ∂L/∂h of all steps, `[τ, B, R]`; otherwise nothing.
    pub dh_all: &'a [f32],
    /// The input that waited in the state, `[B, I]`, or nothing; and the input of the pass.
    pub waiting: &'a [f32],
    pub x: &'a [f32],
    /// The hidden states before the first step and after each step, as the products saw them.
    pub h0: &'a [f32],
    pub h: &'a [f32],
    pub h_stride: usize,
    /// The cell states before the first step and after each step.
    pub c0: &'a [f32],
    pub c: &'a [f32],
    /// The cell states after each step as the gates saw them, which is before zoneout.
    pub c_after: &'a [f32],
    pub scratch: &'a mut [f32],
    pub threads: &'a mut Threads<'p>,
}

/// The normalised sums x̂ that the cell read: of the gates, and of the recurrent sum that a GRU
/// with its reset gate after the product keeps apart.
#[derive(Clone, Copy)]
pub(super) struct Normal<'a> {
    pub gates: &'a [f32],
    pub extra: &'a [f32],
}

/// The lhs of a weight gradient `aᵀ b`. Its rows are `stride` floats apart, and the first `rows`
/// floats of each are used: they become the rows of the result.
#[derive(Clone, Copy)]
struct Lhs<'a> {
    a: &'a [f32],
    stride: usize,
    rows: usize,
}

/// Where the gradients of some gates' input weights and biases go.
struct OfInput<'c> {
    /// The blocks of these gates in the gradient of U.
    du: &'c mut [f32],
    /// The blocks of these gates in the gradient of b.
    db: &'c mut [f32],
}

/// Joins `rows` rows of `columns` floats: first the rows of `first`, then rows of `rest`, which are
/// `stride` floats apart.
fn joined<'a>(
    first: &'a [f32],
    rest: &'a [f32],
    stride: usize,
    rows: usize,
    columns: usize,
) -> Joined<'a> {
    let count = first.len() / columns;
    let first = &first[..rows.min(count) * columns];
    let left = match rows.saturating_sub(count) {
        0 => 0,
        left => (left - 1) * stride + columns,
    };
    Joined { first, rest: &rest[..left], stride, order: None }
}

impl<'a> Sums<'a, '_> {
    /// Computes all gradients: of U, W, b, the vectors that only this kind of layer has, and P.
    pub(super) fn add_up(
        mut self,
        layer: &Recurrent,
        sections: &Sections,
        gradients: &mut [f32],
    ) -> Result<(), Error> {
        let (all, extra) = sections.granted(gradients);
        let All { weight_ih: du, weight_hh: mut dw, bias: db, weight_hr: dp, .. } = all;
        let Extra { bias: extra_bias, diagonal, gain, gain_extra: extra_gain } = extra;
        let Sizes { input, hidden, output } = self.sizes;
        let (u, w) = (hidden * input, hidden * output);
        let (geometry, delays) = (self.geometry, &layer.delays);
        let mut met = 0;
        for (nth, &delay) in delays.iter().enumerate() {
            for &source in geometry.back {
                let c = first(&mut dw, source.blocks() * w);
                let product = Rhs { b: self.hidden_ago(nth, delay), c, columns: output };
                match source {
                    // The gradients of U and b are computed once, with the first delay.
                    BackwardLhs::Gates { first, count } if nth == 0 => {
                        let du = &mut du[first * u..(first + count) * u];
                        let db = &mut db[first * hidden..(first + count) * hidden];
                        self.gates(first..first + count, Some(product), Some(OfInput { du, db }))?;
                        met = first + count;
                    }
                    BackwardLhs::Gates { first, count } => {
                        self.gates(first..first + count, Some(product), None)?;
                    }
                    BackwardLhs::Extra => {
                        let sums = self.sums(extra_bias);
                        self.block((self.da_extra, hidden), product, sums)?;
                    }
                }
            }
        }
        // The gates that are not part of the step's first product. One of them may be part of a
        // second product.
        for gate in met..geometry.gates {
            let du = &mut du[gate * u..(gate + 1) * u];
            let db = &mut db[gate * hidden..(gate + 1) * hidden];
            let second = (geometry.second == Some(gate))
                .then(|| Rhs::new(self.extra, first(&mut dw, w), hidden));
            self.gates(gate..gate + 1, second, Some(OfInput { du, db }))?;
        }
        if geometry.projects {
            self.block((self.dh_all, output), Rhs::new(self.extra, dp, hidden), None)?;
        }
        let Some(normal) = self.normal else {
            return Ok(self.diagonals(layer.diagonals(), diagonal)?);
        };
        // The sums above were of gradients before normalisation. Biases are added after it and
        // gains are part of it, so their gradients come from `dz`.
        let (dz, extra) = (self.dz, self.extra);
        self.over_time(dz, None, db)?;
        self.over_time(dz, Some(normal.gates), gain)?;
        if !extra_bias.is_empty() {
            self.over_time(extra, None, extra_bias)?;
            self.over_time(extra, Some(normal.extra), extra_gain)?;
        }
        Ok(self.diagonals(layer.diagonals(), diagonal)?)
    }

    /// Computes c = Σ a ⊙ b over all rows, or Σ a without `b`. Rows have the length of `c`.
    fn over_time(
        &mut self,
        a: &[f32],
        b: Option<&[f32]>,
        c: &mut [f32],
    ) -> Result<(), KernelError> {
        let (depth, accumulate, stride) = (self.rows, self.accumulate, c.len());
        let b = b.map(|b| Joined::whole(b, stride));
        diagonal::Diagonal { depth, a, stride, b, c, accumulate }.run(self.isa, self.threads)
    }

    /// Returns for each row the hidden state of `delay` steps before, as the products saw it, where
    /// `delay` is number `nth` of the delays.
    fn hidden_ago(&self, nth: usize, delay: usize) -> Joined<'a> {
        let Sizes { output, .. } = self.sizes;
        if let Some(ago) = self.ago.get(nth) {
            return Joined {
                first: self.h0,
                rest: self.h,
                stride: self.h_stride,
                order: Some(ago),
            };
        }
        let before = delay * self.batch * output;
        let first = &self.h0[self.h0.len() - before..];
        joined(first, self.h, self.h_stride, self.rows, output)
    }

    /// Returns the input that each row read. If the input is late, this is the input that waited in
    /// the state, followed by all of the pass's inputs but the last.
    fn inputs(&self) -> Joined<'a> {
        joined(self.waiting, self.x, self.sizes.input, self.rows, self.sizes.input)
    }

    /// Computes the weight gradients of some gates: with the rhs `recurrent`, and, if `input` is
    /// given, for U and b.
    fn gates(
        &mut self,
        gates: Range<usize>,
        recurrent: Option<Rhs<'_>>,
        input: Option<OfInput<'_>>,
    ) -> Result<(), KernelError> {
        let (hidden, columns) = (self.sizes.hidden, self.sizes.input);
        let a = Lhs {
            a: &self.da[gates.start * hidden..],
            stride: self.geometry.gates * hidden,
            rows: gates.len() * hidden,
        };
        let Some(OfInput { du, db }) = input else {
            return match recurrent {
                None => Ok(()),
                Some(recurrent) => self.outer(a, [recurrent], None),
            };
        };
        let input = Rhs { b: self.inputs(), c: du, columns };
        match recurrent {
            None => self.outer(a, [input], self.sums(db)),
            Some(recurrent) => self.outer(a, [recurrent, input], self.sums(db)),
        }
    }

    /// Returns `db` if the gradient of the bias is the sum of the lhs's rows, which it is not with
    /// normalisation.
    fn sums<'c>(&self, db: &'c mut [f32]) -> Option<&'c mut [f32]> {
        if self.normal.is_some() { None } else { Some(db) }
    }

    /// Computes the weight gradient of a block of units that lies by itself, with one rhs and, with
    /// `sums`, for its bias.
    fn block(
        &mut self,
        (a, rows): (&[f32], usize),
        product: Rhs<'_>,
        sums: Option<&mut [f32]>,
    ) -> Result<(), KernelError> {
        self.outer(Lhs { a, stride: rows, rows }, [product], sums)
    }

    /// Computes the weight gradients of one lhs with each rhs.
    fn outer<const N: usize>(
        &mut self,
        Lhs { a, stride, rows }: Lhs<'_>,
        products: [Rhs<'_>; N],
        sums: Option<&mut [f32]>,
    ) -> Result<(), KernelError> {
        let (depth, accumulate, scratch) = (self.rows, self.accumulate, &mut *self.scratch);
        WeightGradients { depth, a, stride, rows, products, sums, accumulate, scratch }
            .run(self.isa, self.threads)
    }

    /// Computes the gradients of the `vectors` that only this kind of layer has.
    fn diagonals(
        &mut self,
        diagonals: &[Diagonal],
        vectors: &mut [f32],
    ) -> Result<(), KernelError> {
        let (hidden, gates) = (self.sizes.hidden, self.geometry.gates);
        for (diagonal, c) in diagonals.iter().zip(vectors.chunks_mut(hidden)) {
            let (a, stride, b) = match *diagonal {
                Diagonal::GateBefore(gate) => {
                    let before = match self.ago.first() {
                        // Cells with such a vector have one delay, of one step.
                        Some(ago) => Joined {
                            first: self.c0,
                            rest: self.c,
                            stride: hidden,
                            order: Some(ago),
                        },
                        None => joined(self.c0, self.c, hidden, self.rows, hidden),
                    };
                    (&self.dz[gate * hidden..], gates * hidden, Some(before))
                }
                Diagonal::GateAfter(gate) => {
                    let after = Joined::whole(self.c_after, hidden);
                    (&self.dz[gate * hidden..], gates * hidden, Some(after))
                }
                Diagonal::Extra => (self.extra, hidden, None),
            };
            let (depth, accumulate) = (self.rows, self.accumulate);
            diagonal::Diagonal { depth, a, stride, b, c, accumulate }
                .run(self.isa, self.threads)?;
        }
        Ok(())
    }
}
