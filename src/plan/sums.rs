//! The gradients of parameters: sums over all steps and sequences of what the backward steps
//! have left. Knows which operands meet; must not know cells.

use crate::Isa;
use crate::arena::first;
use crate::sections::{All, Own};
use crate::spec::{Diagonal, Sizes, Spec};
use bptt_kernels::cells::{BackwardLhs, Geometry};
use bptt_kernels::diagonal;
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients};
use bptt_kernels::team::Pass;
use bptt_kernels::{Joined, KernelError};

/// What the steps have left, and what they had.
pub(super) struct Sums<'a, 'p> {
    pub isa: Isa,
    /// τB.
    pub depth: usize,
    pub batch: usize,
    pub sizes: Sizes,
    pub geometry: Geometry,
    pub accumulate: bool,
    /// ∂L/∂z, what is kept beside it, and all of ∂L/∂h where it is projected.
    pub dz: &'a [f32],
    pub extra: &'a [f32],
    /// The gradients by sums of products: those, unless the cell saw them normalised, and then
    /// what it saw.
    pub da: &'a [f32],
    pub da_extra: &'a [f32],
    pub normal: Option<(&'a [f32], &'a [f32])>,
    pub dh_all: &'a [f32],
    /// The input that was waiting, and the pass's own.
    pub waiting: &'a [f32],
    pub x: &'a [f32],
    /// The states before the first step and after each; of the hidden ones what the products
    /// saw.
    pub h0: &'a [f32],
    pub h: &'a [f32],
    pub c0: &'a [f32],
    pub c: &'a [f32],
    /// The cell states after each step as gates saw them.
    pub c_after: &'a [f32],
    pub scratch: &'a mut [f32],
    pub pass: &'a mut Pass<'p>,
}

/// So many rows of `columns` floats: those that come first, and as many others as are left.
fn joined<'a>(first: &'a [f32], rest: &'a [f32], rows: usize, columns: usize) -> Joined<'a> {
    let (first, left) = match (rows * columns).checked_sub(first.len()) {
        Some(left) => (first, left),
        None => (&first[..rows * columns], 0),
    };
    Joined { first, rest: &rest[..left], stride: columns }
}

impl<'a> Sums<'a, '_> {
    /// Adds all of them up: those of U, W, b, the layer's own and P.
    pub(super) fn add_up<C: Spec>(
        mut self,
        layer: &C,
        (all, own): (All<&mut [f32]>, Own<&mut [f32]>),
    ) -> Result<(), KernelError> {
        let All { input: du, recurrent: mut dw, bias: db, projection: dp, .. } = all;
        let Own { extra_bias, diagonal, gain, extra_gain } = own;
        let Sizes { input, hidden, output } = self.sizes;
        let (u, w) = (hidden * input, hidden * output);
        let (geometry, delays) = (self.geometry, layer.delays());
        let mut met = 0;
        for (nth, &delay) in delays.iter().enumerate() {
            for &source in geometry.back {
                let c = first(&mut dw, source.blocks() * w);
                let product = Rhs { b: self.hidden_ago(delay), c, columns: output };
                match source {
                    // What meets the input and the bias meets them once.
                    BackwardLhs::Gates { first, count } if nth == 0 => {
                        let du = &mut du[first * u..(first + count) * u];
                        let db = &mut db[first * hidden..(first + count) * hidden];
                        self.gates((first, count), Some(product), Some((du, db)))?;
                        met = first + count;
                    }
                    BackwardLhs::Gates { first, count } => {
                        self.gates((first, count), Some(product), None)?;
                    }
                    BackwardLhs::Extra => {
                        let sums = self.sums(extra_bias);
                        self.block((self.da_extra, hidden), product, sums)?;
                    }
                }
            }
        }
        // The gates that the step's product is not of; one of them may be a second's.
        for gate in met..geometry.gates {
            let du = &mut du[gate * u..(gate + 1) * u];
            let db = &mut db[gate * hidden..(gate + 1) * hidden];
            let second = (geometry.second == Some(gate))
                .then(|| Rhs::new(self.extra, first(&mut dw, w), hidden));
            self.gates((gate, 1), second, Some((du, db)))?;
        }
        if geometry.projects {
            self.block((self.dh_all, output), Rhs::new(self.extra, dp, hidden), None)?;
        }
        let Some((normal, normal_extra)) = self.normal else {
            return self.diagonals(layer.diagonals(), diagonal);
        };
        // The sums above were of what products made, and so were no gradients of biases.
        let (dz, extra) = (self.dz, self.extra);
        self.over_time(dz, None, db)?;
        self.over_time(dz, Some(normal), gain)?;
        if !extra_bias.is_empty() {
            self.over_time(extra, None, extra_bias)?;
            self.over_time(extra, Some(normal_extra), extra_gain)?;
        }
        self.diagonals(layer.diagonals(), diagonal)
    }

    /// Blocks of A, of B's or C's length, times B or ones, summed over the rows.
    fn over_time(
        &mut self,
        a: &[f32],
        b: Option<&[f32]>,
        c: &mut [f32],
    ) -> Result<(), KernelError> {
        let (depth, accumulate, stride) = (self.depth, self.accumulate, c.len());
        let b = b.map(|b| Joined::whole(b, stride));
        diagonal::Diagonal { depth, a, stride, b, c, accumulate }.run(self.isa, self.pass)
    }

    /// The hidden states of so many steps before each row's, as the products saw them.
    fn hidden_ago(&self, delay: usize) -> Joined<'a> {
        let Sizes { output, .. } = self.sizes;
        let before = delay * self.batch * output;
        joined(&self.h0[self.h0.len() - before..], self.h, self.depth, output)
    }

    /// The inputs that the rows saw: where they come late, those that were waiting and then all
    /// but as many of the pass's own.
    fn inputs(&self) -> Joined<'a> {
        joined(self.waiting, self.x, self.depth, self.sizes.input)
    }

    /// Blocks of ∂L/∂z with what recurs, and with the input and ones.
    fn gates(
        &mut self,
        (first, count): (usize, usize),
        recurrent: Option<Rhs<'_>>,
        input: Option<(&mut [f32], &mut [f32])>,
    ) -> Result<(), KernelError> {
        let (hidden, columns) = (self.sizes.hidden, self.sizes.input);
        let (a, rows) = (&self.da[first * hidden..], count * hidden);
        let a = (a, self.geometry.gates * hidden, rows);
        let Some((du, db)) = input else {
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

    /// The columns' sums, where they are the bias's gradient.
    fn sums<'c>(&self, db: &'c mut [f32]) -> Option<&'c mut [f32]> {
        if self.normal.is_some() { None } else { Some(db) }
    }

    /// A block that lies alone, with one operand and with ones.
    fn block(
        &mut self,
        (a, rows): (&[f32], usize),
        product: Rhs<'_>,
        sums: Option<&mut [f32]>,
    ) -> Result<(), KernelError> {
        self.outer((a, rows, rows), [product], sums)
    }

    /// Rows of A, `stride` floats apart, of which the first so many are meant, with what they
    /// meet.
    fn outer<const N: usize>(
        &mut self,
        (a, stride, rows): (&[f32], usize, usize),
        products: [Rhs<'_>; N],
        sums: Option<&mut [f32]>,
    ) -> Result<(), KernelError> {
        let (depth, accumulate, scratch) = (self.depth, self.accumulate, &mut *self.scratch);
        WeightGradients { depth, a, stride, rows, products, sums, accumulate, scratch }
            .run(self.isa, self.pass)
    }

    /// A layer's own vectors.
    fn diagonals(
        &mut self,
        diagonals: &[Diagonal],
        vectors: &mut [f32],
    ) -> Result<(), KernelError> {
        let (hidden, gates) = (self.sizes.hidden, self.geometry.gates);
        for (diagonal, c) in diagonals.iter().zip(vectors.chunks_mut(hidden)) {
            let (a, stride, b) = match *diagonal {
                Diagonal::GateBefore(gate) => {
                    let before = joined(self.c0, self.c, self.depth, hidden);
                    (&self.dz[gate * hidden..], gates * hidden, Some(before))
                }
                Diagonal::GateAfter(gate) => {
                    let after = Joined::whole(self.c_after, hidden);
                    (&self.dz[gate * hidden..], gates * hidden, Some(after))
                }
                Diagonal::Extra => (self.extra, hidden, None),
            };
            let (depth, accumulate) = (self.depth, self.accumulate);
            diagonal::Diagonal { depth, a, stride, b, c, accumulate }.run(self.isa, self.pass)?;
        }
        Ok(())
    }
}
