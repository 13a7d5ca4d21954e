//! Passes over many rows: outputs, loss and gradients.

use super::{Readout, ReadoutParameters, ReadoutWeights};
use crate::arena::{Layout, Region, regions};
use crate::error::{check_len, check_optional, check_size, product};
use crate::weights::{OF_OTHERS, Version};
use crate::{Accumulate, Error, Isa};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::gemm::weight_gradients::{self, Rhs, WeightGradients};
use bptt_kernels::gemm::{self, Start, gemm};
use bptt_kernels::softmax::CrossEntropy;
use bptt_kernels::team::Pass;
use bptt_kernels::tuning::CHUNK_ROWS;

regions! {
    /// The regions of a readout's arena.
    struct Regions {
        /// The outputs, which become their own gradient.
        outputs,
        scratch,
    }
}

/// Passes over `rows` rows, laid out once.
///
/// # Memory
///
/// The arena holds, in f32 and each rounded up to 16: the outputs, which become
/// their own gradient, `rows · O`, and scratch, the larger of `min(rows, 96) · max(H, O)`
/// (rows of a product's left operand, packed, each rounded up to 16) and, for the
/// weight gradient, 256 floats for each column of V, padded to two vectors, and 24 576
/// floats.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadoutPlan {
    readout: Readout,
    rows: usize,
    isa: Isa,
    layout: Layout,
    regions: Regions<Region>,
}

/// The memory of a plan's passes, and a view of what they left there.
#[derive(Debug)]
pub struct ReadoutArena {
    plan: ReadoutPlan,
    memory: AlignedBuffer,
    /// Whether the memory holds ∂L/∂o, and of which weights, if it is of a loss of ours.
    holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// Of a loss.
    OfLoss(Version),
    /// Of the caller's, who alone knows of which weights.
    OfCaller,
}

/// How the losses of the rows become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their sum divided by the number of rows that count; 0 where none does.
    Mean,
}

/// What the outputs should have been.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// The class y of each row, below O.
    pub classes: &'a [u32],
    /// Which rows count; `None` is all of them. The class of one that does not is
    /// not looked at, and its loss and ∂L/∂o are 0. Its h takes part in the products
    /// of the backward pass, so it has to be finite.
    pub mask: Option<&'a [bool]>,
    /// How the losses of the rows that count become one.
    pub reduction: Reduction,
}

/// Where the gradients go. What is `None` is not computed.
#[derive(Debug)]
pub struct ReadoutGradients<'a> {
    /// ∂L/∂V and ∂L/∂c.
    pub parameters: &'a mut ReadoutParameters,
    /// Whether `parameters` are overwritten or added to. `dh` is overwritten.
    pub accumulate: Accumulate,
    /// ∂L/∂h, `[rows, H]`.
    pub dh: Option<&'a mut [f32]>,
}

impl<'a> ReadoutGradients<'a> {
    /// The parameters' gradients alone.
    pub fn of(parameters: &'a mut ReadoutParameters, accumulate: Accumulate) -> Self {
        Self { parameters, accumulate, dh: None }
    }
}

impl Readout {
    /// A plan for passes over `rows` rows: τB.
    ///
    /// # Errors
    /// [`Error::Value`] where `rows` is 0, [`Error::TooLarge`].
    pub fn plan(&self, rows: usize, isa: Isa) -> Result<ReadoutPlan, Error> {
        ReadoutPlan::new(*self, rows, isa)
    }
}

impl ReadoutPlan {
    pub(super) fn new(readout: Readout, rows: usize, isa: Isa) -> Result<Self, Error> {
        check_size("rows", rows)?;
        product("the inputs", &[rows, readout.input_size])?;
        let widest = readout.input_size.max(readout.output_size);
        let product = gemm::scratch_len(rows, widest)?;
        let gradient = weight_gradients::scratch_len(isa, 1, &[readout.input_size])?;
        let dims: Regions<&[usize]> =
            Regions { outputs: &[rows, readout.output_size], scratch: &[product.max(gradient)] };
        let mut layout = Layout::in_lines("the arena");
        let regions = dims.booked(&mut layout)?;
        Ok(Self { readout, rows, isa, layout, regions })
    }

    /// The rows of a pass.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The instruction set of the passes.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The arena's size in bytes, to the byte.
    pub fn arena_bytes(&self) -> usize {
        self.layout.bytes()
    }

    /// The arena: the one allocation of all passes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn allocate(&self) -> Result<ReadoutArena, Error> {
        let memory = self.layout.allocate()?;
        Ok(ReadoutArena { plan: self.clone(), memory, holds: Holds::Nothing })
    }

    fn check(&self, weights: &ReadoutWeights, h: &[f32]) -> Result<(), Error> {
        weights.check(&self.readout, self.isa)?;
        check_len("h", h.len(), self.rows * self.readout.input_size)
    }

    fn check_arena(&self, arena: &ReadoutArena) -> Result<(), Error> {
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
        format!("{}, {} rows on {}", self.readout.describe(), self.rows, self.isa)
    }

    /// o = c + V h: `o` `[rows, O]` of `h` `[rows, H]`, for a loss of the caller's
    /// own or for predictions. Of the arena only the scratch is used.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// plan; nothing is written then.
    pub fn forward(
        &self,
        weights: &ReadoutWeights,
        h: &[f32],
        o: &mut [f32],
        arena: &mut ReadoutArena,
    ) -> Result<(), Error> {
        self.check(weights, h)?;
        self.check_arena(arena)?;
        check_len("o", o.len(), self.rows * self.readout.output_size)?;
        let Regions { scratch, .. } = self.regions.granted(&mut arena.memory);
        weights.forward.run(self.isa, self.rows, h, o, scratch, &mut Pass::serial())?;
        Ok(())
    }

    /// The softmax cross-entropy of the outputs, in nats; leaves its gradient
    /// ∂L/∂o = ŷ − 1\[y\] in the arena, for [`backward`](Self::backward).
    ///
    /// A row that counts and has an output of NaN or +∞ makes the loss and its row of
    /// ∂L/∂o NaN.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Mismatch`] where an argument is not for this
    /// plan, [`Error::Target`] where a class is not below O; nothing is written
    /// then.
    pub fn loss(
        &self,
        weights: &ReadoutWeights,
        h: &[f32],
        targets: Targets<'_>,
        arena: &mut ReadoutArena,
    ) -> Result<f64, Error> {
        let isa = self.isa;
        let counted = self.check_loss(weights, h, targets, arena)?;
        let scale = 1.0 / counted as f64;
        let loss = self.each_chunk(weights, h, targets, arena, |entropy, o| {
            entropy.gradient(isa, scale as f32, o)
        })?;
        arena.holds = Holds::OfLoss(weights.version);
        Ok(loss / counted as f64)
    }

    /// The same loss without its gradient, for data that is only looked at. The
    /// arena serves as memory and holds no gradient afterwards.
    ///
    /// The log-likelihood of sequences, `Σ log P(y⁽ᵗ⁾ | …)`, is this with
    /// [`Reduction::Sum`], negated.
    ///
    /// # Errors
    /// Those of [`loss`](Self::loss).
    pub fn evaluate(
        &self,
        weights: &ReadoutWeights,
        h: &[f32],
        targets: Targets<'_>,
        arena: &mut ReadoutArena,
    ) -> Result<f64, Error> {
        let isa = self.isa;
        let counted = self.check_loss(weights, h, targets, arena)?;
        let loss =
            self.each_chunk(weights, h, targets, arena, |entropy, o| entropy.loss(isa, o))?;
        Ok(loss / counted as f64)
    }

    /// Checks all that a loss is computed from; gives what the sum is divided by.
    fn check_loss(
        &self,
        weights: &ReadoutWeights,
        h: &[f32],
        targets: Targets<'_>,
        arena: &ReadoutArena,
    ) -> Result<usize, Error> {
        self.check(weights, h)?;
        self.check_arena(arena)?;
        check_len("classes", targets.classes.len(), self.rows)?;
        check_optional("mask", targets.mask, self.rows)?;
        let entropy = CrossEntropy::new(self.readout.output_size, targets.classes, targets.mask)?;
        Ok(match targets.reduction {
            Reduction::Sum => 1,
            Reduction::Mean => entropy.counted().max(1),
        })
    }

    /// Computes the outputs in the arena and sums what `loss` makes of them.
    fn each_chunk(
        &self,
        weights: &ReadoutWeights,
        h: &[f32],
        targets: Targets<'_>,
        arena: &mut ReadoutArena,
        loss: impl Fn(CrossEntropy<'_>, &mut [f32]) -> Result<f64, bptt_kernels::KernelError>,
    ) -> Result<f64, Error> {
        arena.holds = Holds::Nothing;
        let Readout { input_size, output_size } = self.readout;
        let Regions { outputs: o, scratch } = self.regions.granted(&mut arena.memory);
        let mut sum = 0.0;
        for (chunk, o) in o.chunks_mut(CHUNK_ROWS * output_size).enumerate() {
            let first = chunk * CHUNK_ROWS;
            let rows = first..self.rows.min(first + CHUNK_ROWS);
            let h = &h[rows.start * input_size..rows.end * input_size];
            weights.forward.run(self.isa, rows.len(), h, o, scratch, &mut Pass::serial())?;
            let mask = targets.mask.map(|mask| &mask[rows.clone()]);
            sum += loss(CrossEntropy::new(output_size, &targets.classes[rows], mask)?, o)?;
        }
        Ok(sum)
    }

    /// From the ∂L/∂o that the arena holds: dV = Σ do hᵀ and dc = Σ do, each sum
    /// from the last row to the first, and dh = Vᵀ do of each row (equations 10.24,
    /// 10.22 and 10.19). `h` is what the loss had. The arena goes on holding ∂L/∂o.
    ///
    /// # Errors
    /// Nothing is written where there is one.
    ///
    /// - [`Error::Order`]: the arena holds no ∂L/∂o, or `dh` is wanted and the loss was of other
    ///   weights, or of these before an update.
    /// - [`Error::Length`], [`Error::Mismatch`]: an argument is not for this plan, or `dh` is
    ///   wanted and the weights are not packed for it.
    pub fn backward(
        &self,
        weights: &ReadoutWeights,
        h: &[f32],
        arena: &mut ReadoutArena,
        gradients: ReadoutGradients<'_>,
    ) -> Result<(), Error> {
        self.check(weights, h)?;
        self.check_arena(arena)?;
        arena.expect_gradient("backward")?;
        self.readout.check_same("parameter gradients", gradients.parameters.readout())?;
        let (rows, inputs) = (self.rows, self.readout.input_size);
        check_optional("dh", gradients.dh.as_deref(), rows * inputs)?;
        let input = match (gradients.dh, &weights.back) {
            (None, _) => None,
            (Some(dh), Some(back)) => Some((dh, back)),
            (Some(_), None) => {
                return Err(Error::Mismatch {
                    what: "readout weights",
                    given: "Purpose::Inference or Purpose::Training".into(),
                    expected: "Purpose::TrainingWithInputGradient".into(),
                });
            }
        };
        // V is read for dh alone.
        if let Holds::OfLoss(version) = arena.holds
            && version != weights.version
            && input.is_some()
        {
            let (given, expected) = (OF_OTHERS, "the gradient of a loss of these weights");
            return Err(Error::Order { call: "backward", given, expected });
        }

        let Regions { outputs: d_o, scratch } = self.regions.granted(&mut arena.memory);
        let [dv, dc] = gradients.parameters.split_mut();
        let accumulate = gradients.accumulate == Accumulate::Yes;
        WeightGradients {
            depth: rows,
            a: d_o,
            stride: self.readout.output_size,
            rows: self.readout.output_size,
            products: [Rhs::new(h, dv, inputs)],
            sums: Some(dc),
            accumulate,
            scratch: &mut *scratch,
        }
        .run(self.isa, &mut Pass::serial())?;
        if let Some((dh, back)) = input {
            gemm(self.isa, rows, d_o, back, Start::Zero, dh, scratch)?;
        }
        Ok(())
    }
}

impl ReadoutArena {
    fn expect_gradient(&self, call: &'static str) -> Result<(), Error> {
        if self.holds != Holds::Nothing {
            return Ok(());
        }
        Err(Error::Order { call, given: "no gradient of a loss", expected: "that of a loss" })
    }

    /// ∂L/∂o, `[rows, O]`.
    ///
    /// # Errors
    /// [`Error::Order`] where the last call was not one that leaves it here.
    pub fn output_gradients(&self) -> Result<&[f32], Error> {
        self.expect_gradient("output_gradients")?;
        Ok(self.plan.regions.outputs.of(&self.memory))
    }

    /// Room for ∂L/∂o `[rows, O]` of a loss of the caller's own, to be filled before
    /// [`ReadoutPlan::backward`]; what stands there is unspecified.
    pub fn output_gradients_mut(&mut self) -> &mut [f32] {
        self.holds = Holds::OfCaller;
        self.plan.regions.granted(&mut self.memory).outputs
    }
}
