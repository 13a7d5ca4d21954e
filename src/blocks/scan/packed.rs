//! The parameters of a scanned layer, packed in the layouts that its passes read. Must not know
//! what a cell computes.

use super::spec::{ScanLayer, Sections};
use crate::blocks::{Packed, Wanted};
use crate::error::check_len;
use crate::memory::Region;
use crate::{Error, Format, Isa};
use bptt_kernels::gemm::Start;
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{AlignedBuffer, PackedMatrix};

/// A layer's parameters, packed for one instruction set.
#[derive(Debug)]
pub(super) struct ScanPacked {
    layer: ScanLayer,
    /// Where the parameters lie in their buffer.
    sections: Sections<Region>,
    isa: Isa,
    /// b, `[GH]`.
    bias: AlignedBuffer,
    /// The vectors that the kernel's cell reads, `[vectors, H]`.
    pub vectors: AlignedBuffer,
    /// U by rows, for `x Uᵀ`.
    pub input: PackedMatrix,
    /// U by columns, for `dz U`. Present only if the gradient of the input is wanted.
    back: Option<PackedMatrix>,
}

impl ScanPacked {
    /// Allocates the parameters that forward passes read.
    pub fn zeros(layer: ScanLayer, format: Format, isa: Isa) -> Result<Self, Error> {
        let (gate_row, vectors) = (layer.gate_row(), layer.geometry().vectors);
        Ok(Self {
            sections: layer.sections()?,
            isa,
            bias: AlignedBuffer::try_new(gate_row)?,
            vectors: AlignedBuffer::try_new(vectors * layer.hidden)?,
            input: PackedMatrix::zeros_as(format, isa, 1, gate_row, layer.input)?,
            back: None,
            layer,
        })
    }

    /// Returns what the products with the input start from.
    pub fn start(&self) -> Start<'_> {
        Start::Bias(&self.bias)
    }

    /// Returns U for the gradient of the input.
    ///
    /// # Errors
    /// [`Error::Mismatch`] unless it has been [required](Packed::require).
    pub fn back(&self) -> Result<&PackedMatrix, Error> {
        self.back.as_ref().ok_or_else(|| Error::Mismatch {
            what: "packed parameters",
            given: "forward passes only".into(),
            expected: "the gradient of the input too".into(),
        })
    }
}

impl Packed for ScanPacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        if self.format() != Format::F32 {
            return Err(Error::Mismatch {
                what: "weights",
                given: format!("{:?}, which are for inference", self.format()),
                expected: "F32, for training".into(),
            });
        }
        if !wanted.input || self.back.is_some() {
            return Ok(false);
        }
        let (input, depth) = (self.layer.input, self.layer.gate_row());
        self.back = Some(PackedMatrix::zeros(self.isa, 1, input, depth)?);
        Ok(true)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        let Sections { weight_ih, own, .. } = self.sections;
        check_len("parameters", parameters.len(), weight_ih.through(own).len())?;
        Ok(self.input.check_rows(weight_ih.of(parameters))?)
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        let Sections { weight_ih, bias, own } = self.sections;
        let weights = weight_ih.of(parameters);
        self.bias.copy_from_slice(bias.of(parameters));
        self.layer.own.prepare(own.of(parameters), &mut self.vectors);
        self.input.pack_rows(weights, threads)?;
        if let Some(back) = &mut self.back {
            back.pack_columns(weights, threads)?;
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.input.format()
    }

    fn bytes(&self) -> usize {
        let vectors = size_of_val::<[f32]>(&self.bias) + size_of_val::<[f32]>(&self.vectors);
        vectors + self.input.bytes() + self.back.as_ref().map_or(0, PackedMatrix::bytes)
    }
}
