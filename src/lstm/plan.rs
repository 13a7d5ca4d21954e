//! Training passes: all activations of τ steps in an arena, and back-propagation
//! through time over them.

use super::arena::Holds;
use super::{Lstm, LstmArena, LstmParameters, LstmState, LstmWeights};
use crate::arena::{Layout, Region, grant};
use crate::error::{check_len, check_optional, check_size, check_threads, product};
use crate::{Error, Isa, Write};
use bptt_kernels::gemm::{self, Gemm, Start};
use bptt_kernels::lstm::{self, Backward, Cells, Dims, Forward, GATES, Gates};
use bptt_kernels::outer::{self, Outer, Right};
use bptt_kernels::team::Team;

/// Rows of the input product computed at a time, so that they are in the cache
/// still when the steps read them.
pub(super) const CHUNK_ROWS: usize = 192;

/// A forward and a backward pass over τ steps of B sequences, laid out once.
///
/// # Memory
///
/// The arena holds, in f32 and each rounded up to 16: the gates `4τBH`, the hidden
/// and the cell states with the initial ones `2 (τ+1) BH`, ∂L/∂h and ∂L/∂s of one
/// step `2BH`, and scratch, the largest of
///
/// - `min(τB, 96 N) · max(I, 4H)` for N threads: rows of a product's left operand,
///   packed, each row rounded up to 16;
/// - `4BH`: the same for a step, so rounded too;
/// - for the weight gradients, 256 floats for each column of U and of W, each padded
///   to two vectors, and 24 576 N floats.
///
/// So it grows by 6H floats per step and sequence, and the scratch not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct LstmPlan {
    pub(super) lstm: Lstm,
    pub(super) steps: usize,
    pub(super) batch: usize,
    isa: Isa,
    threads: usize,
    layout: Layout,
    pub(super) regions: Regions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Regions {
    pub(super) gates: Region,
    pub(super) h: Region,
    pub(super) s: Region,
    dh: Region,
    ds: Region,
    scratch: Region,
}

/// Where the loss's gradient enters. What is `None` is zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutputGradients<'a> {
    /// ∂L/∂h⁽ᵗ⁾ of each step, `[τ, B, H]`.
    pub dy: Option<&'a [f32]>,
    /// ∂L/∂h of the last step, beside `dy`, `[B, H]`.
    pub dh_last: Option<&'a [f32]>,
    /// ∂L/∂s of the last step, `[B, H]`.
    pub ds_last: Option<&'a [f32]>,
}

/// Where the gradients go. What is `None` is not computed.
#[derive(Debug)]
pub struct LstmGradients<'a> {
    /// ∂L/∂U, ∂L/∂W and ∂L/∂b.
    pub parameters: &'a mut LstmParameters,
    /// Whether `parameters` are overwritten or added to. The others are overwritten.
    pub write: Write,
    /// ∂L/∂x, `[τ, B, I]`.
    pub dx: Option<&'a mut [f32]>,
    /// ∂L/∂h of the initial state, `[B, H]`.
    pub dh0: Option<&'a mut [f32]>,
    /// ∂L/∂s of the initial state, `[B, H]`.
    pub ds0: Option<&'a mut [f32]>,
}

impl<'a> LstmGradients<'a> {
    /// The parameters' gradients alone.
    pub fn of(parameters: &'a mut LstmParameters, write: Write) -> Self {
        Self { parameters, write, dx: None, dh0: None, ds0: None }
    }
}

/// What the most demanding of a pass's products needs.
fn scratch_len(
    lstm: &Lstm,
    (steps, batch): (usize, usize),
    isa: Isa,
    threads: usize,
) -> Result<usize, Error> {
    let (input, hidden) = (lstm.input_size, lstm.hidden_size);
    let rows = steps * batch;
    let needs = [
        gemm::team_scratch_len(threads, rows, input)?,
        lstm::forward_scratch_len(batch, hidden, 0)?,
        lstm::backward_scratch_len(batch, hidden)?,
        outer::scratch_len(isa, threads, &[input, hidden])?,
        gemm::team_scratch_len(threads, rows, GATES * hidden)?,
    ];
    Ok(needs.into_iter().fold(0, usize::max))
}

impl LstmPlan {
    pub(super) fn new(lstm: Lstm, steps: usize, batch: usize, isa: Isa) -> Result<Self, Error> {
        Self::laid_out(lstm, steps, batch, isa, 1)
    }

    /// The same passes on up to `threads` threads: the one that calls and helpers
    /// from the rayon pool that it calls in, as many as come. One, which is what a
    /// plan has from the start, never touches rayon. The results have the same bits
    /// for any number, and none is waited for that has not come: a busy pool makes
    /// a pass slower and does not stop it. A pass of less than 2²¹ multiply-adds, 4TBH(I + H)
    /// forward, stays with its caller, since it is done before helpers could be there; so
    /// does a forward pass of less than 2²⁰ in each of its stretches of some 192 rows. Helpers stay awake for the length of a
    /// pass; calling each allocates a job of rayon's, where a pass on one thread
    /// allocates nothing.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256, [`Error::TooLarge`] where
    /// the scratch of so many does not fit the address space.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        let threads = check_threads(threads)?;
        Self::laid_out(self.lstm, self.steps, self.batch, self.isa, threads)
    }

    fn laid_out(
        lstm: Lstm,
        steps: usize,
        batch: usize,
        isa: Isa,
        threads: usize,
    ) -> Result<Self, Error> {
        check_size("steps", steps)?;
        check_size("batch", batch)?;
        let hidden = lstm.hidden_size;
        let states = steps.checked_add(1).ok_or(Error::TooLarge { what: "the arena" })?;
        product("the inputs", &[steps, batch, lstm.input_size])?;
        let mut layout = Layout::default();
        let regions = Regions {
            gates: layout.book(&[steps, batch, GATES, hidden])?,
            h: layout.book(&[states, batch, hidden])?,
            s: layout.book(&[states, batch, hidden])?,
            dh: layout.book(&[batch, hidden])?,
            ds: layout.book(&[batch, hidden])?,
            scratch: layout.book(&[scratch_len(&lstm, (steps, batch), isa, threads)?])?,
        };
        Ok(Self { lstm, steps, batch, isa, threads, layout, regions })
    }

    /// τ.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The instruction set of the passes.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The most threads of a pass.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The arena's size in bytes, to the byte.
    pub fn arena_bytes(&self) -> usize {
        self.layout.bytes()
    }

    /// The arena: the one allocation of all passes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn allocate(&self) -> Result<LstmArena, Error> {
        let memory = self.layout.allocate()?;
        let team = Team::new(self.threads)?;
        Ok(LstmArena { plan: self.clone(), memory, team, holds: Holds::Nothing })
    }

    fn input_len(&self) -> usize {
        self.steps * self.batch * self.lstm.input_size
    }

    pub(super) fn state_len(&self) -> usize {
        self.batch * self.lstm.hidden_size
    }

    fn check(&self, weights: &LstmWeights, x: &[f32], arena: &LstmArena) -> Result<(), Error> {
        weights.check(&self.lstm, self.isa)?;
        check_len("x", x.len(), self.input_len())?;
        if *self == arena.plan {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "arena",
            given: arena.plan.describe(),
            expected: self.describe(),
        })
    }

    fn describe(&self) -> String {
        let (lstm, steps, batch, isa) = (self.lstm.describe(), self.steps, self.batch, self.isa);
        format!("{lstm}, {steps} steps, batch {batch} on {isa}, threads {}", self.threads)
    }

    /// Runs all steps over `x` `[τ, B, I]` from `initial` (zero where `None`) and
    /// leaves every gate and state in the arena.
    ///
    /// A sequence gets the same bits alone and in a batch, in one pass, in several
    /// that hand the state on, and step by step in a [stream](super::LstmStream).
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// plan; nothing is written then.
    pub fn forward(
        &self,
        weights: &LstmWeights,
        x: &[f32],
        initial: Option<LstmState<'_>>,
        arena: &mut LstmArena,
    ) -> Result<(), Error> {
        self.check(weights, x, arena)?;
        let state = self.state_len();
        check_optional("h0", initial.map(|initial| initial.h), state)?;
        check_optional("s0", initial.map(|initial| initial.s), state)?;

        arena.holds = Holds::Nothing;
        let Regions { gates, h, s, scratch, .. } = self.regions;
        let [gates, h, s, scratch] = grant(&mut arena.memory, [gates, h, s, scratch]);
        let (mut h0, mut h) = h.split_at_mut(state);
        let (mut s0, mut s) = s.split_at_mut(state);
        match initial {
            Some(initial) => {
                h0.copy_from_slice(initial.h);
                s0.copy_from_slice(initial.s);
            }
            None => {
                h0.fill(0.0);
                s0.fill(0.0);
            }
        }
        let chunk = (CHUNK_ROWS / self.batch).max(1);
        let work = self.lstm.work_in_stretches(self.steps * self.batch, chunk * self.batch);
        arena.team.pass(work, |pass| -> Result<(), Error> {
            let inputs = x.chunks(chunk * self.batch * self.lstm.input_size);
            for (x, gates) in inputs.zip(gates.chunks_mut(chunk * GATES * state)) {
                let rows = gates.len() / (GATES * self.lstm.hidden_size);
                let start = Start::Bias(&weights.bias);
                let input = &weights.input;
                let stride = input.outputs();
                Gemm { rows, a: x, weights: input, start, c: gates, stride, scratch }
                    .run(self.isa, pass)?;
                let (h_now, h_rest) = h.split_at_mut(rows * self.lstm.hidden_size);
                let (s_now, s_rest) = s.split_at_mut(rows * self.lstm.hidden_size);
                Forward {
                    dims: Dims {
                        steps: rows / self.batch,
                        batch: self.batch,
                        hidden: self.lstm.hidden_size,
                    },
                    activations: self.lstm.activations(),
                    recurrent: &weights.recurrent,
                    gates: Gates::Keep(gates),
                    h0,
                    h: h_now,
                    cells: Cells::Keep { s0, s: s_now },
                    scratch,
                }
                .run(self.isa, pass)?;
                let last = h_now.len() - state;
                (h0, h) = (&mut h_now[last..], h_rest);
                (s0, s) = (&mut s_now[last..], s_rest);
            }
            Ok(())
        })?;
        arena.holds = Holds::Forward;
        Ok(())
    }

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
        weights: &LstmWeights,
        x: &[f32],
        outputs: OutputGradients<'_>,
        arena: &mut LstmArena,
        mut gradients: LstmGradients<'_>,
    ) -> Result<(), Error> {
        self.check(weights, x, arena)?;
        arena.expect("backward", Holds::Forward)?;
        let state = self.state_len();
        check_optional("dy", outputs.dy, self.steps * state)?;
        check_optional("dh_last", outputs.dh_last, state)?;
        check_optional("ds_last", outputs.ds_last, state)?;
        check_optional("dx", gradients.dx.as_deref(), self.input_len())?;
        check_optional("dh0", gradients.dh0.as_deref(), state)?;
        check_optional("ds0", gradients.ds0.as_deref(), state)?;
        let (i, hidden) = (self.lstm.input_size, self.lstm.hidden_size);
        let sizes = (gradients.parameters.input_size(), gradients.parameters.hidden_size());
        if sizes != (i, hidden) {
            return Err(Error::Mismatch {
                what: "parameter gradients",
                given: format!("I {}, H {}", sizes.0, sizes.1),
                expected: self.lstm.describe(),
            });
        }
        let missing = |expected: &str| Error::Mismatch {
            what: "weights",
            given: "less".into(),
            expected: format!("Purpose::{expected}"),
        };
        let recurrent = weights.recurrent_back.as_ref().ok_or_else(|| missing("Training"))?;
        let input = match (&gradients.dx, &weights.input_back) {
            (None, _) => None,
            (Some(_), Some(input)) => Some(input),
            (Some(_), None) => return Err(missing("TrainingWithInputGradient")),
        };

        arena.holds = Holds::Backward;
        let Regions { gates, h, s, dh, ds, scratch } = self.regions;
        let [gates, h, s, dh, ds, scratch] =
            grant(&mut arena.memory, [gates, h, s, dh, ds, scratch]);
        for (to, from) in [(&mut *dh, outputs.dh_last), (&mut *ds, outputs.ds_last)] {
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0.0),
            }
        }
        let [du, dw, db] = gradients.parameters.split_mut();
        let accumulate = gradients.write == Write::Accumulate;
        let work = self.lstm.multiply_adds(self.steps * self.batch).saturating_mul(2);
        arena.team.pass(work, |pass| -> Result<(), Error> {
            Backward {
                dims: Dims { steps: self.steps, batch: self.batch, hidden },
                activations: self.lstm.activations(),
                recurrent,
                gates: &mut *gates,
                s,
                dy: outputs.dy,
                dh: &mut *dh,
                ds: &mut *ds,
                scratch: &mut *scratch,
            }
            .run(self.isa, pass)?;

            let (dz, depth, rows) = (&*gates, self.steps * self.batch, GATES * hidden);
            let h_prev = &h[..depth * hidden];
            let products =
                [Right { b: h_prev, c: dw, columns: hidden }, Right { b: x, c: du, columns: i }];
            let (sums, scratch) = (db, &mut *scratch);
            Outer { depth, a: dz, rows, products, sums, accumulate, scratch }
                .run(self.isa, pass)?;
            if let (Some(dx), Some(input)) = (gradients.dx.as_deref_mut(), input) {
                let start = Start::Zero;
                let stride = self.lstm.input_size;
                Gemm { rows: depth, a: dz, weights: input, start, c: dx, stride, scratch }
                    .run(self.isa, pass)?;
            }
            Ok(())
        })?;
        for (to, from) in [(gradients.dh0, dh), (gradients.ds0, ds)] {
            if let Some(to) = to {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }
}
