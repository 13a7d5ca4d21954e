//! The backward pass: the steps from the last, and the gradients that are sums over all
//! of them.

use super::arena::Holds;
use super::{Arena, Gradients, OutputGradients, Plan};
use crate::arena::grant;
use crate::error::check_optional;
use crate::layer::{Diagonal, Layer, Sizes};
use crate::state::{Parts, State};
use crate::{Error, Isa, Weights, Write};
use bptt_kernels::cells::Source;
use bptt_kernels::diagonal;
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::outer::{Outer, Right};
use bptt_kernels::recurrence::Backward;
use bptt_kernels::team::Pass;
use bptt_kernels::{KernelError, PackedMatrix};

fn right<'a>(b: &'a [f32], c: &'a mut [f32], columns: usize) -> Right<'a> {
    Right { b, c, columns }
}

/// What the steps have left, which the gradients of weights are sums over.
struct Sums<'a> {
    isa: Isa,
    /// τB.
    depth: usize,
    sizes: Sizes,
    gates: usize,
    accumulate: bool,
    /// ∂L/∂z, what is kept beside it, and all of ∂L/∂h where it is projected.
    dz: &'a [f32],
    extra: &'a [f32],
    dh_all: &'a [f32],
    /// The input that was waiting, and the pass's own.
    waiting: &'a [f32],
    x: &'a [f32],
    h: &'a [f32],
    s: &'a [f32],
}

impl Sums<'_> {
    /// Products of some blocks of ∂L/∂z with two operands, or one, and the sums of the
    /// blocks.
    fn of_gates<const N: usize>(
        &self,
        (first, count): (usize, usize),
        products: [Right<'_>; N],
        sums: Option<&mut [f32]>,
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let (hidden, stride) = (self.sizes.hidden, self.gates * self.sizes.hidden);
        let (depth, rows, accumulate) = (self.depth, count * hidden, self.accumulate);
        let a = &self.dz[first * hidden..];
        Outer { depth, a, stride, rows, products, sums, accumulate, scratch }.run(self.isa, pass)
    }

    /// The products of some blocks of ∂L/∂z with the input, where it is late: the first rows
    /// are with what was waiting, and as sums go from the last row come last.
    fn of_late_input(
        &self,
        (first, count): (usize, usize),
        du: &mut [f32],
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let Sizes { input, hidden, .. } = self.sizes;
        let (rows, stride) = (count * hidden, self.gates * hidden);
        let waited = self.waiting.len() / input;
        let seen = &self.x[..self.x.len() - self.waiting.len()];
        for (row, b, accumulate) in [(waited, seen, self.accumulate), (0, self.waiting, true)] {
            let (depth, a) = (b.len() / input, &self.dz[(row * stride).min(self.dz.len())..]);
            let a = if depth > 0 { &a[first * hidden..] } else { a };
            let products = [right(b, &mut *du, input)];
            Outer {
                depth,
                a,
                stride,
                rows,
                products,
                sums: None,
                accumulate,
                scratch: &mut *scratch,
            }
            .run(self.isa, pass)?;
        }
        Ok(())
    }

    /// The same of a block that lies alone.
    fn of_block(
        &self,
        (a, rows): (&[f32], usize),
        product: Right<'_>,
        sums: Option<&mut [f32]>,
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let (depth, accumulate, products) = (self.depth, self.accumulate, [product]);
        Outer { depth, a, stride: rows, rows, products, sums, accumulate, scratch }
            .run(self.isa, pass)
    }

    /// A layer's own parameters.
    fn diagonals(
        &self,
        diagonals: &[Diagonal],
        own: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let hidden = self.sizes.hidden;
        let state = self.depth * hidden;
        for (diagonal, c) in diagonals.iter().zip(own.chunks_mut(hidden)) {
            let (a, stride, b) = match *diagonal {
                Diagonal::GateBefore(gate) => {
                    (&self.dz[gate * hidden..], self.gates * hidden, Some(&self.s[..state]))
                }
                Diagonal::GateAfter(gate) => {
                    let after = &self.s[self.s.len() - state..];
                    (&self.dz[gate * hidden..], self.gates * hidden, Some(after))
                }
                Diagonal::Extra => (self.extra, hidden, None),
            };
            let (depth, accumulate) = (self.depth, self.accumulate);
            diagonal::Diagonal { depth, a, stride, b, c, accumulate }.run(self.isa, pass)?;
        }
        Ok(())
    }
}

impl<C: Layer> Plan<C> {
    /// Back-propagation through time over the forward pass that the arena holds;
    /// `x` is what that pass had. The gates in the arena become the gradients of
    /// their pre-activations, so a forward pass is good for one backward pass.
    ///
    /// Parameter gradients are sums over all steps and sequences, each in one fixed
    /// order, last step first: adding up a sequence in several stretches, the last
    /// one first, gives the bits of one pass.
    ///
    /// # Errors
    /// [`Error::Order`] where the arena holds no forward pass, [`Error::Length`] or
    /// [`Error::Mismatch`] where an argument is not for this plan, or `dx` is wanted
    /// of weights not packed for it; nothing is written then.
    pub fn backward(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        outputs: OutputGradients<'_, C::State<&[f32]>>,
        arena: &mut Arena<C>,
        gradients: Gradients<'_, C>,
    ) -> Result<(), Error> {
        self.check(weights, x, arena)?;
        arena.expect("backward", Holds::Forward)?;
        let (before, cell) = (self.before_len(), self.cell_len());
        let depth = self.steps * self.batch;
        let Gradients { parameters, write, dx, initial } = gradients;
        let late = self.late_len();
        let (dh_last, ds_last, dx_last) = match outputs.last.map(State::into_parts) {
            Some(Parts { h, s, x }) => (Some(h), s, x),
            None => (None, None, None),
        };
        let (dh0, ds0, dx0) = match initial.map(State::into_parts) {
            Some(Parts { h, s, x }) => (Some(h), s, x),
            None => (None, None, None),
        };
        check_optional("dy", outputs.dy, depth * self.layer.sizes().output)?;
        check_optional("dh_last", dh_last, before)?;
        check_optional("ds_last", ds_last, cell)?;
        check_optional("dx", dx.as_deref(), self.input_len())?;
        check_optional("dh0", dh0.as_deref(), before)?;
        check_optional("ds0", ds0.as_deref(), cell)?;
        check_optional("dx_last", dx_last, late)?;
        check_optional("dx0", dx0.as_deref(), late)?;
        self.layer.check_same("parameter gradients", parameters.layer())?;
        let missing = |expected: &str| Error::Mismatch {
            what: "weights",
            given: "less".into(),
            expected: format!("Purpose::{expected}"),
        };
        let recurrent = weights.back().ok_or_else(|| missing("Training"))?;
        let input = match (dx.is_some() || dx0.is_some(), &weights.input_back) {
            (false, _) => None,
            (true, Some(input)) => Some(input),
            (true, None) => return Err(missing("TrainingWithInputGradient")),
        };

        arena.holds = Holds::Backward;
        let Arena { memory, team, .. } = arena;
        let r = self.regions;
        let regions = [r.gates, r.extra, r.h, r.s, r.dh, r.ds, r.dh_all, r.x, r.scratch];
        let [gates, extra, h, s, dh, ds, dh_all, waiting, scratch] = grant(memory, regions);
        for (to, from) in [(&mut *dh, dh_last), (&mut *ds, ds_last)] {
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0.0),
            }
        }
        let work = self.layer.multiply_adds(depth).saturating_mul(2);
        team.pass(work, |pass| -> Result<(), Error> {
            Backward {
                dims: self.dims(self.steps),
                cell: self.layer.cell(&weights.vectors),
                recurrent,
                gates: &mut *gates,
                extra: &mut *extra,
                h,
                s,
                dy: outputs.dy,
                dh: &mut *dh,
                ds: &mut *ds,
                dh_all: &mut *dh_all,
                scratch: &mut *scratch,
            }
            .run(self.isa, pass)?;
            let sums = Sums {
                isa: self.isa,
                depth,
                sizes: self.layer.sizes(),
                gates: self.layer.geometry().gates,
                accumulate: write == Write::Accumulate,
                dz: gates,
                extra,
                dh_all,
                waiting: &waiting[..late],
                x,
                h,
                s,
            };
            self.add_up(&sums, parameters.split_mut(), scratch, pass)?;
            let Some(input) = input else { return Ok(()) };
            // The first rows of dz are what the input that was waiting has made.
            let (first, rest) =
                gates.split_at(if late > 0 { input.depth() * self.batch } else { 0 });
            if let Some(dx0) = dx0 {
                self.by_input(input, first, dx0, scratch, pass)?;
            }
            if let Some(dx) = dx {
                let (seen, waits) = dx.split_at_mut(dx.len() - late);
                self.by_input(input, rest, seen, scratch, pass)?;
                match dx_last {
                    Some(dx_last) => waits.copy_from_slice(dx_last),
                    None => waits.fill(0.0),
                }
            }
            Ok(())
        })?;
        for (to, from) in [(dh0, dh), (ds0, ds)] {
            if let Some(to) = to {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// ∂L/∂x = dz U.
    fn by_input(
        &self,
        input: &PackedMatrix,
        dz: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let (rows, stride, start) = (dz.len() / input.depth(), input.outputs(), Start::Zero);
        Gemm { rows, a: dz, weights: input, start, c: dx, stride, scratch }.run(self.isa, pass)
    }

    /// The parameters' gradients.
    fn add_up(
        &self,
        sums: &Sums<'_>,
        [du, dw, db, mut own, dp]: [&mut [f32]; 5],
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let Sizes { input, hidden, output } = self.layer.sizes();
        let geometry = self.layer.geometry();
        let (u, w) = (hidden * input, hidden * output);
        let state = self.batch * output;
        let history = self.layer.delays()[0];
        let (mut rest, delays) = (dw, self.layer.delays());
        // What each gate's sums meet: states before, and, with the first delay, the input.
        let mut gate_of_input = 0;
        for (nth, &delay) in delays.iter().enumerate() {
            // The hidden state so many steps before each row.
            let first = (history - delay) * state;
            let ago = &sums.h[first..first + sums.depth * output];
            for source in geometry.back {
                let (dw, tail) = std::mem::take(&mut rest).split_at_mut(source.blocks() * w);
                rest = tail;
                match *source {
                    Source::Gates { first, count } if nth == 0 => {
                        let du = &mut du[first * u..(first + count) * u];
                        let db = &mut db[first * hidden..(first + count) * hidden];
                        let blocks = (first, count);
                        if sums.waiting.is_empty() {
                            let products = [right(ago, dw, output), right(sums.x, du, input)];
                            sums.of_gates(blocks, products, Some(db), scratch, pass)?;
                        } else {
                            let products = [right(ago, dw, output)];
                            sums.of_gates(blocks, products, Some(db), scratch, pass)?;
                            sums.of_late_input(blocks, du, scratch, pass)?;
                        }
                        gate_of_input = first + count;
                    }
                    Source::Gates { first, count } => {
                        sums.of_gates(
                            (first, count),
                            [right(ago, dw, output)],
                            None,
                            scratch,
                            pass,
                        )?;
                    }
                    Source::Extra => {
                        let (bias, others) = own.split_at_mut(hidden);
                        own = others;
                        let block = (sums.extra, hidden);
                        sums.of_block(block, right(ago, dw, output), Some(bias), scratch, pass)?;
                    }
                }
            }
        }
        // Gates that the step's product is not of: the second's.
        for gate in gate_of_input..geometry.gates {
            let du = &mut du[gate * u..(gate + 1) * u];
            let db = Some(&mut db[gate * hidden..(gate + 1) * hidden]);
            let late = !sums.waiting.is_empty();
            if late {
                sums.of_late_input((gate, 1), du, scratch, pass)?;
            }
            if geometry.second == Some(gate) {
                let (dw, tail) = std::mem::take(&mut rest).split_at_mut(w);
                rest = tail;
                let recurrent = right(sums.extra, dw, hidden);
                if late {
                    sums.of_gates((gate, 1), [recurrent], db, scratch, pass)?;
                } else {
                    let products = [recurrent, right(sums.x, du, input)];
                    sums.of_gates((gate, 1), products, db, scratch, pass)?;
                }
            } else if late {
                sums.of_gates((gate, 1), [], db, scratch, pass)?;
            } else {
                sums.of_gates((gate, 1), [right(sums.x, du, input)], db, scratch, pass)?;
            }
        }
        if geometry.projects {
            let (block, product) = ((sums.dh_all, output), right(sums.extra, dp, hidden));
            sums.of_block(block, product, None, scratch, pass)?;
        }
        sums.diagonals(self.layer.diagonals(), own, pass)
    }
}
