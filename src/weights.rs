//! A layer's parameters in the layouts that its passes read.

mod clocked;

use crate::error::check_threads;
use crate::spec::{Sizes, Spec};
use crate::{Error, Format, Isa, Parameters};
use bptt_kernels::cells::{BackwardLhs, Geometry};
use bptt_kernels::gemm::Start;
use bptt_kernels::recurrence::Recurrent;
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::{AlignedBuffer, KernelError, PackedMatrix};
use std::sync::atomic::{AtomicU64, Ordering};

/// What weights are packed for: each need has panels of its own, which cost
/// memory and the time to pack them after each update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward passes and streams only.
    Inference,
    /// Forward and backward, without the gradient of the input: a first layer.
    Training,
    /// Forward and backward, with the gradient of the input.
    TrainingWithInputGradient,
}

/// A number for what weights hold, which no others have and they themselves have no longer once
/// they hold something else: a backward pass has to have the weights of its forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    /// That of weights that hold nothing yet.
    pub(crate) const NONE: Self = Self(0);

    /// One that there has not been in this process.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// What an arena holds where weights are not those of its pass, or not any more.
pub(crate) const OF_OTHERS: &str = "a pass of other weights, or of these before an update";

/// A layer's parameters, packed for one instruction set. A backward pass takes the ones that its
/// forward pass had, or a clone of them, as they were then.
#[derive(Clone, Debug)]
pub struct Weights<C> {
    pub(crate) layer: C,
    isa: Isa,
    pub(crate) bias: AlignedBuffer,
    /// What the kernel's cell reads.
    pub(crate) vectors: AlignedBuffer,
    /// The gains of normalisation.
    gains: AlignedBuffer,
    /// U by rows, `x Uᵀ`.
    pub(crate) input: PackedMatrix,
    /// W by rows, `h Wᵀ`.
    forward: Products,
    /// W by columns, `dz W`, and U, `dz U`.
    back: Option<Products>,
    pub(crate) input_back: Option<PackedMatrix>,
    /// Where a layer is clocked, U is that of its first group, and these of the others.
    others: Vec<PackedMatrix>,
    others_back: Vec<PackedMatrix>,
    version: Version,
    team: Team,
}

/// The recurrent weights of passes in one direction.
#[derive(Clone, Debug)]
struct Products {
    weights: Vec<PackedMatrix>,
    delays: Vec<usize>,
    second: Option<PackedMatrix>,
}

impl Products {
    #[inline]
    fn as_recurrent(&self) -> Recurrent<'_> {
        let Self { weights, delays, second } = self;
        Recurrent { weights, delays, second: second.as_ref() }
    }

    fn bytes(&self) -> usize {
        self.weights.iter().chain(&self.second).map(PackedMatrix::bytes).sum()
    }

    /// For each block of W that products are of, and each delay, room for the blocks.
    fn zeros(
        delays: &[usize],
        blocks: &[usize],
        second: Option<PackedMatrix>,
        zeros: impl Fn(usize) -> Result<PackedMatrix, KernelError>,
    ) -> Result<Self, KernelError> {
        let mut products = Self { weights: Vec::new(), delays: Vec::new(), second };
        for &delay in delays {
            for &blocks in blocks {
                products.weights.push(zeros(blocks)?);
                products.delays.push(delay);
            }
        }
        Ok(products)
    }

    /// Packs W, `[delays, GH, R]`, by `pack`, and the rest of it, or P, as the second.
    fn pack(
        &mut self,
        (w, projection): (&[f32], &[f32]),
        (delays, blocks, block): (usize, &[usize], usize),
        mut pack: impl FnMut(&mut PackedMatrix, &[f32]) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut packed = self.weights.iter_mut();
        let mut rest = w;
        for w in w.chunks_exact(w.len() / delays) {
            rest = w;
            for &blocks in blocks {
                let (rows, tail) = rest.split_at(blocks * block);
                packed.next().map_or(Ok(()), |packed| pack(packed, rows))?;
                rest = tail;
            }
        }
        match &mut self.second {
            Some(second) if projection.is_empty() => pack(second, rest),
            Some(second) => pack(second, projection),
            None => Ok(()),
        }
    }
}

/// The blocks of W that backward's products are of.
fn back_blocks(geometry: &Geometry) -> Vec<usize> {
    geometry.back.iter().copied().map(BackwardLhs::blocks).collect()
}

impl<C: Spec> Weights<C> {
    pub(crate) fn new(
        layer: C,
        parameters: &Parameters<C>,
        purpose: Purpose,
        format: Format,
        isa: Isa,
    ) -> Result<Self, Error> {
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes(), layer.geometry());
        if C::CLOCKED {
            return Self::clocked(layer, parameters, purpose, format, isa);
        }
        let (gates, delays) = (geometry.gates, layer.delays());
        let by_rows =
            |gates, units, depth| PackedMatrix::zeros_as(format, isa, gates, units, depth);
        let by_columns = |units, depth| PackedMatrix::zeros(isa, 1, units, depth);
        // The second product, its units and its depth.
        let double = geometry.is_double().then_some(match geometry.projects {
            true => (output, hidden),
            false => (hidden, hidden),
        });
        let second = double.map(|(units, depth)| by_rows(1, units, depth)).transpose()?;
        let forward = Products::zeros(delays, &[geometry.sums], second, |sums| {
            by_rows(sums, hidden, output)
        })?;
        let back = match purpose {
            Purpose::Inference => None,
            _ => {
                let second = double.map(|(units, depth)| by_columns(depth, units)).transpose()?;
                Some(Products::zeros(delays, &back_blocks(&geometry), second, |blocks| {
                    by_columns(output, blocks * hidden)
                })?)
            }
        };
        let input_back = match purpose {
            Purpose::TrainingWithInputGradient => Some(by_columns(input, gates * hidden)?),
            _ => None,
        };
        let mut weights = Self {
            isa,
            bias: AlignedBuffer::try_new(gates * hidden)?,
            vectors: AlignedBuffer::try_new(layer.vectors() * hidden)?,
            gains: AlignedBuffer::try_new(parameters.gains().len())?,
            input: by_rows(gates, hidden, input)?,
            forward,
            back,
            input_back,
            others: Vec::new(),
            others_back: Vec::new(),
            version: Version::NONE,
            team: Team::serial(),
            layer,
        };
        weights.update(parameters)?;
        Ok(weights)
    }

    /// The same weights, which [`update`](Self::update) packs on up to `threads` threads,
    /// as [`Plan::with_threads`](crate::Plan::with_threads) has it. What passes
    /// run on is their plan's affair.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        let team = Team::new(check_threads(threads)?)?;
        Ok(Self { team, ..self })
    }

    /// Packs changed parameters; on one thread it allocates nothing. Forward passes from before
    /// it have no backward pass any more, since their weights are gone.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of another layer, [`Error::Value`] where
    /// the format is int8 and a weight is ∞ or NaN; nothing is written then.
    pub fn update(&mut self, parameters: &Parameters<C>) -> Result<(), Error> {
        self.layer.check_same("parameters", parameters.layer())?;
        if C::CLOCKED {
            return self.update_clocked(parameters);
        }
        let (Sizes { hidden, output, .. }, geometry) = (self.layer.sizes(), self.layer.geometry());
        let (u, w) = (parameters.input_weights(), parameters.recurrent_weights());
        let (p, block) = (parameters.projection(), hidden * output);
        let (delays, sums) = (self.layer.delays().len(), [geometry.sums]);
        self.input.check_rows(u)?;
        self.forward.pack((w, p), (delays, &sums, block), |to, rows| to.check_rows(rows))?;

        self.version = Version::next();
        self.bias.copy_from_slice(parameters.bias());
        self.layer.prepare(parameters.named_own(), &mut self.vectors);
        self.gains.copy_from_slice(parameters.gains());
        let Self { input, forward, back, input_back, team, .. } = self;
        // Moving a value takes as long as some 16 multiply-adds.
        team.pass((u.len() + w.len()).saturating_mul(16), |pass: &mut Pass<'_>| {
            input.pack_rows(u, pass)?;
            forward.pack((w, p), (delays, &sums, block), |to, rows| to.pack_rows(rows, pass))?;
            if let Some(back) = back {
                let blocks = &mut [0; 2][..geometry.back.len()];
                for (blocks, source) in blocks.iter_mut().zip(geometry.back) {
                    *blocks = source.blocks();
                }
                back.pack((w, p), (delays, blocks, block), |to, rows| to.pack_columns(rows, pass))?;
            }
            if let Some(back) = input_back {
                back.pack_columns(u, pass)?;
            }
            Ok(())
        })
    }

    #[inline]
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// That they are not packed for a backward pass, with the gradient of the input or without.
    #[cold]
    pub(crate) fn not_for(&self, with_input: bool) -> Error {
        let purpose = match (&self.back, &self.input_back) {
            (None, _) => Purpose::Inference,
            (Some(_), None) => Purpose::Training,
            (Some(_), Some(_)) => Purpose::TrainingWithInputGradient,
        };
        let needed = if with_input { "" } else { "Purpose::Training or " };
        Error::Mismatch {
            what: "weights",
            given: format!("Purpose::{purpose:?}"),
            expected: format!("{needed}Purpose::TrainingWithInputGradient"),
        }
    }

    /// The instruction set that they are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How they are stored.
    pub fn format(&self) -> Format {
        self.input.format()
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        let vectors = [&self.bias, &self.vectors, &self.gains];
        let vectors: usize = vectors.map(|vector| size_of_val::<[f32]>(vector)).iter().sum();
        let back = self.back.as_ref().map_or(0, Products::bytes);
        let input_back = self.input_back.as_ref().map_or(0, PackedMatrix::bytes);
        let others: usize =
            self.others.iter().chain(&self.others_back).map(PackedMatrix::bytes).sum();
        vectors + self.input.bytes() + self.forward.bytes() + back + input_back + others
    }

    /// The recurrent weights of forward passes.
    #[inline]
    pub(crate) fn forward(&self) -> Recurrent<'_> {
        self.forward.as_recurrent()
    }

    /// What the products of the input start from: the bias, unless it comes after
    /// normalisation.
    #[inline]
    pub(crate) fn start(&self) -> Start<'_> {
        if C::NORMED { Start::Zero } else { Start::Bias(&self.bias) }
    }

    /// ε and the gains of normalisation.
    #[inline]
    pub(crate) fn norm(&self) -> Option<(f32, &[f32])> {
        Some((self.layer.norm()?, &self.gains))
    }

    /// Those of backward passes, if they were packed.
    pub(crate) fn back(&self) -> Option<Recurrent<'_>> {
        self.back.as_ref().map(Products::as_recurrent)
    }

    /// `Ok` where a pass planned for `layer` on `isa` can use them.
    #[inline]
    pub(crate) fn check(&self, layer: &C, isa: Isa) -> Result<(), Error> {
        layer.check_same("weights", &self.layer)?;
        if self.isa == isa {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "weights",
            given: format!("instruction set {}", self.isa),
            expected: format!("instruction set {isa}"),
        })
    }
}
