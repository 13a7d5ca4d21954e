//! The parameters of a recurrent layer, packed in the layouts that its passes read. Must not know
//! what a cell computes.

use super::sections::{All, Extra, Sections};
use super::{Recurrent, Sizes};
use crate::blocks::{Packed, Wanted};
use crate::error::check_len;
use crate::{Error, Format, Isa};
use bptt_kernels::cells::{BackwardLhs, Geometry, SecondProduct};
use bptt_kernels::gemm::Start;
use bptt_kernels::recurrence;
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{AlignedBuffer, KernelError, PackedMatrix};

/// A layer's parameters, packed for one instruction set.
#[derive(Debug)]
pub(crate) struct RecurrentPacked {
    pub(super) layer: Recurrent,
    /// Where the parameters lie in their buffer.
    sections: Sections,
    isa: Isa,
    /// b, `[GH]`.
    pub(super) bias: AlignedBuffer,
    /// The vectors that the kernel's cell reads, such as peephole weights.
    pub(super) vectors: AlignedBuffer,
    /// The gains γ of layer normalisation, or nothing.
    gains: AlignedBuffer,
    /// U by rows, for `x Uᵀ`.
    pub(super) input: PackedMatrix,
    /// W by rows, for `h Wᵀ`.
    forward: Products,
    /// W by columns, for `dz W`. Present only if there are backward passes.
    back: Option<Products>,
    /// U by columns, for `dz U`. Present only if the gradient of the input is wanted, or of an
    /// input that waits in the state.
    pub(super) input_back: Option<PackedMatrix>,
}

/// The recurrent weights, packed for passes in one direction.
#[derive(Debug)]
struct Products {
    /// One matrix for each product of a step, in the order of `delays`.
    weights: Vec<PackedMatrix>,
    /// The delay of each product, in steps.
    delays: Vec<usize>,
    /// The weights of a second product, where a step has one.
    second: Option<PackedMatrix>,
}

/// How W is divided among the products of a step: for each delay into blocks of H rows.
#[derive(Clone, Copy)]
struct Blocks<'a> {
    /// The number of delays.
    delays: usize,
    /// The number of blocks that each product with one delay takes, in their order.
    of_products: &'a [usize],
    /// Floats in a block.
    len: usize,
}

impl Products {
    #[inline]
    fn as_recurrent(&self) -> recurrence::Recurrent<'_> {
        let Self { weights, delays, second } = self;
        recurrence::Recurrent { weights, delays, second: second.as_ref() }
    }

    fn bytes(&self) -> usize {
        self.weights.iter().chain(&self.second).map(PackedMatrix::bytes).sum()
    }

    /// Allocates a matrix for each product: for each of `delays`, one product for each entry of
    /// `blocks`, which is the number of blocks of W that this product takes.
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

    /// Packs W, `[delays, GH, R]`, with `pack`. A second product takes P, or, if there is no
    /// `projection`, the last blocks of W, which no other product takes.
    fn pack(
        &mut self,
        w: &[f32],
        projection: &[f32],
        blocks: Blocks<'_>,
        mut pack: impl FnMut(&mut PackedMatrix, &[f32]) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let mut packed = self.weights.iter_mut();
        let mut rest = w;
        for w in w.chunks_exact(w.len() / blocks.delays) {
            rest = w;
            for &of_product in blocks.of_products {
                let (rows, tail) = rest.split_at(of_product * blocks.len);
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

    /// Returns an error unless these weights can be [packed](Self::pack).
    fn check(&self, w: &[f32], projection: &[f32], blocks: Blocks<'_>) -> Result<(), KernelError> {
        let mut packed = self.weights.iter();
        let mut rest = w;
        for w in w.chunks_exact(w.len() / blocks.delays) {
            rest = w;
            for &of_product in blocks.of_products {
                let (rows, tail) = rest.split_at(of_product * blocks.len);
                packed.next().map_or(Ok(()), |packed| packed.check_rows(rows))?;
                rest = tail;
            }
        }
        let rest = if projection.is_empty() { rest } else { projection };
        self.second.as_ref().map_or(Ok(()), |second| second.check_rows(rest))
    }
}

/// Returns the number of blocks of W that each product of a backward step takes.
fn back_blocks(geometry: &Geometry) -> Vec<usize> {
    geometry.back.iter().copied().map(BackwardLhs::blocks).collect()
}

/// Returns the units and the depth of a step's second product, if it has one.
fn second(geometry: &Geometry, Sizes { hidden, output, .. }: Sizes) -> Option<SecondProduct> {
    geometry.second_product(hidden, output)
}

impl RecurrentPacked {
    /// Allocates the parameters that forward passes read.
    pub(super) fn zeros(layer: Recurrent, format: Format, isa: Isa) -> Result<Self, Error> {
        let (Sizes { input, hidden, output }, geometry) = (layer.sizes, layer.geometry());
        let by_rows =
            |gates, units, depth| PackedMatrix::zeros_as(format, isa, gates, units, depth);
        let second = second(&geometry, layer.sizes);
        let second =
            second.map(|SecondProduct { units, depth }| by_rows(1, units, depth)).transpose()?;
        let forward = Products::zeros(&layer.delays, &[geometry.sums], second, |sums| {
            by_rows(sums, hidden, output)
        })?;
        let Extra { gain, gain_extra, .. } = layer.extra();
        Ok(Self {
            sections: layer.sections()?,
            isa,
            bias: AlignedBuffer::try_new(geometry.gates * hidden)?,
            vectors: AlignedBuffer::try_new(layer.vectors() * hidden)?,
            gains: AlignedBuffer::try_new((gain + gain_extra) * hidden)?,
            input: by_rows(geometry.gates, hidden, input)?,
            forward,
            back: None,
            input_back: None,
            layer,
        })
    }

    /// Returns the recurrent weights for forward passes.
    #[inline]
    pub(super) fn forward(&self) -> recurrence::Recurrent<'_> {
        self.forward.as_recurrent()
    }

    /// Returns the recurrent weights for backward passes.
    ///
    /// # Errors
    /// [`Error::Mismatch`] unless they have been [required](Packed::require).
    pub(super) fn back(&self) -> Result<recurrence::Recurrent<'_>, Error> {
        self.back.as_ref().map(Products::as_recurrent).ok_or_else(not_packed)
    }

    /// Returns U for the gradient of the input.
    ///
    /// # Errors
    /// [`Error::Mismatch`] unless it has been [required](Packed::require).
    pub(super) fn input_back(&self) -> Result<&PackedMatrix, Error> {
        self.input_back.as_ref().ok_or_else(not_packed)
    }

    /// Returns what the products with the input start from: the bias, unless there is layer
    /// normalisation, which adds the bias later.
    #[inline]
    pub(super) fn start(&self) -> Start<'_> {
        if self.layer.is_normed() { Start::Zero } else { Start::Bias(&self.bias) }
    }

    /// Returns the instruction set for which the parameters are packed.
    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// Returns ε and the gains of layer normalisation, if there is one.
    #[inline]
    pub(super) fn norm(&self) -> Option<(f32, &[f32])> {
        Some((self.layer.epsilon?, &self.gains))
    }

    /// Returns how W is divided in forward passes: for each delay, the first product takes
    /// `sums[0]` blocks.
    fn forward_blocks<'a>(&self, sums: &'a [usize; 1]) -> Blocks<'a> {
        let Sizes { hidden, output, .. } = self.layer.sizes;
        Blocks { delays: self.layer.delays.len(), of_products: sums, len: hidden * output }
    }
}

#[cold]
fn not_packed() -> Error {
    Error::Mismatch {
        what: "packed parameters",
        given: "forward passes only".into(),
        expected: "these gradients too".into(),
    }
}

impl Packed for RecurrentPacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        if self.format() != Format::F32 {
            return Err(Error::Mismatch {
                what: "weights",
                given: format!("{:?}, which are for inference", self.format()),
                expected: "F32, for training".into(),
            });
        }
        let (Sizes { input, hidden, output }, geometry) = (self.layer.sizes, self.layer.geometry());
        let by_columns = |units, depth| PackedMatrix::zeros(self.isa, 1, units, depth);
        let (mut back, mut input_back) = (None, None);
        if self.back.is_none() {
            let second = second(&geometry, self.layer.sizes).map(SecondProduct::turned);
            let second = second
                .map(|SecondProduct { units, depth }| by_columns(units, depth))
                .transpose()?;
            let blocks = back_blocks(&geometry);
            back = Some(Products::zeros(&self.layer.delays, &blocks, second, |blocks| {
                by_columns(output, blocks * hidden)
            })?);
        }
        if (wanted.input || wanted.state && self.layer.late) && self.input_back.is_none() {
            input_back = Some(by_columns(input, geometry.gates * hidden)?);
        }
        let anew = back.is_some() || input_back.is_some();
        self.back = back.or(self.back.take());
        self.input_back = input_back.or(self.input_back.take());
        Ok(anew)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        check_len("parameters", parameters.len(), self.sections.len())?;
        let (all, _) = self.sections.of(parameters);
        let All { weight_ih: u, weight_hh: w, weight_hr: p, .. } = all;
        self.input.check_rows(u)?;
        let sums = [self.layer.geometry().sums];
        Ok(self.forward.check(w, p, self.forward_blocks(&sums))?)
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        let (sections, geometry) = (self.sections, self.layer.geometry());
        let (all, extra) = sections.of(parameters);
        let All { weight_ih: u, weight_hh: w, bias, weight_hr: p, .. } = all;
        self.bias.copy_from_slice(bias);
        self.layer.prepare(extra, &mut self.vectors);
        self.gains.copy_from_slice(sections.gains(parameters));
        let sums = [geometry.sums];
        let blocks = self.forward_blocks(&sums);
        let Self { input, forward, back, input_back, .. } = self;
        input.pack_rows(u, threads)?;
        forward.pack(w, p, blocks, |to, rows| to.pack_rows(rows, threads))?;
        if let Some(back) = back {
            let of_products = &mut [0; 2][..geometry.back.len()];
            for (blocks, lhs) in of_products.iter_mut().zip(geometry.back) {
                *blocks = lhs.blocks();
            }
            let blocks = Blocks { of_products, ..blocks };
            back.pack(w, p, blocks, |to, rows| to.pack_columns(rows, threads))?;
        }
        if let Some(back) = input_back {
            back.pack_columns(u, threads)?;
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.input.format()
    }

    fn bytes(&self) -> usize {
        let vectors = [&self.bias, &self.vectors, &self.gains];
        let vectors: usize = vectors.map(|vector| size_of_val::<[f32]>(vector)).iter().sum();
        let back = self.back.as_ref().map_or(0, Products::bytes);
        let input_back = self.input_back.as_ref().map_or(0, PackedMatrix::bytes);
        vectors + self.input.bytes() + self.forward.bytes() + back + input_back
    }
}
