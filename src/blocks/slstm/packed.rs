//! The parameters of an sLSTM layer, packed in the layouts that its passes read. Must not know what the
//! cell computes.

use super::spec::{Sections, Sizes, Slstm};
use crate::blocks::{Packed, Wanted};
use crate::error::check_len;
use crate::memory::Region;
use crate::{Error, Format, Isa};
use bptt_kernels::gemm::Start;
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{AlignedBuffer, PackedMatrix};

/// A layer's parameters, packed for one instruction set.
#[derive(Debug)]
pub(super) struct SlstmPacked {
    layer: Slstm,
    /// Where the parameters lie in their buffer.
    sections: Sections<Region>,
    isa: Isa,
    /// b, `[4H]`.
    bias: AlignedBuffer,
    /// U by rows, for `x Uᵀ`.
    pub input: PackedMatrix,
    /// R of each head by rows, for `h Rᵀ`.
    pub heads: Vec<PackedMatrix>,
    /// Room for R of a head, `[4, D, D]`, since its gates do not lie next to each other.
    gathered: AlignedBuffer,
    /// R of each head by columns, for `dz R`. Present only if there are backward passes.
    heads_back: Vec<PackedMatrix>,
    /// U by columns, for `dz U`. Present only if the gradient of the input is wanted.
    input_back: Option<PackedMatrix>,
}

impl SlstmPacked {
    /// Allocates the parameters that forward passes read.
    pub fn zeros(layer: Slstm, format: Format, isa: Isa) -> Result<Self, Error> {
        let Sizes { input, hidden, heads, units } = layer.sizes();
        let of_head = |_| PackedMatrix::zeros_as(format, isa, 1, 4 * units, units);
        Ok(Self {
            sections: layer.sections()?,
            isa,
            bias: AlignedBuffer::try_new(4 * hidden)?,
            input: PackedMatrix::zeros_as(format, isa, 1, 4 * hidden, input)?,
            heads: (0..heads).map(of_head).collect::<Result<_, _>>()?,
            gathered: AlignedBuffer::try_new(4 * units * units)?,
            heads_back: Vec::new(),
            input_back: None,
            layer,
        })
    }

    /// Returns what the products with the input start from.
    pub fn start(&self) -> Start<'_> {
        Start::Bias(&self.bias)
    }

    /// Returns R of each head for the gradients of the hidden states.
    ///
    /// # Errors
    /// [`Error::Mismatch`] unless it has been [required](Packed::require).
    pub fn heads_back(&self) -> Result<&[PackedMatrix], Error> {
        match self.heads_back.is_empty() {
            true => Err(forward_only("gradients too")),
            false => Ok(&self.heads_back),
        }
    }

    /// Returns U for the gradient of the input.
    ///
    /// # Errors
    /// [`Error::Mismatch`] unless it has been [required](Packed::require).
    pub fn input_back(&self) -> Result<&PackedMatrix, Error> {
        self.input_back.as_ref().ok_or_else(|| forward_only("the gradient of the input too"))
    }
}

fn forward_only(expected: &'static str) -> Error {
    let given = "forward passes only".into();
    Error::Mismatch { what: "packed parameters", given, expected: expected.into() }
}

impl Packed for SlstmPacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        if self.format() != Format::F32 {
            return Err(Error::Mismatch {
                what: "weights",
                given: format!("{:?}, which are for inference", self.format()),
                expected: "F32, for training".into(),
            });
        }
        let (Sizes { input, hidden, heads, units }, isa) = (self.layer.sizes(), self.isa);
        let (mut heads_back, mut input_back) = (Vec::new(), None);
        if self.heads_back.is_empty() {
            let of_head = |_| PackedMatrix::zeros(isa, 1, units, 4 * units);
            heads_back = (0..heads).map(of_head).collect::<Result<_, _>>()?;
        }
        if wanted.input && self.input_back.is_none() {
            input_back = Some(PackedMatrix::zeros(isa, 1, input, 4 * hidden)?);
        }
        let anew = !heads_back.is_empty() || input_back.is_some();
        self.heads_back.extend(heads_back);
        self.input_back = input_back.or(self.input_back.take());
        Ok(anew)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        let Sections { weight_ih, weight_hh, bias } = self.sections;
        check_len("parameters", parameters.len(), weight_ih.through(bias).len())?;
        self.input.check_rows(weight_ih.of(parameters))?;
        // As many rows as a head has, though not those of one head.
        let rows = weight_hh.of(parameters).chunks_exact(self.gathered.len());
        rows.zip(&self.heads).try_for_each(|(rows, head)| Ok(head.check_rows(rows)?))
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        let (sections, Sizes { heads, units, .. }) = (self.sections, self.layer.sizes());
        let weights = sections.weight_ih.of(parameters);
        self.bias.copy_from_slice(sections.bias.of(parameters));
        self.input.pack_rows(weights, threads)?;
        if let Some(back) = &mut self.input_back {
            back.pack_columns(weights, threads)?;
        }
        let block = units * units;
        let weights = sections.weight_hh.of(parameters);
        for (nth, head) in self.heads.iter_mut().enumerate() {
            for (gate, to) in self.gathered.chunks_exact_mut(block).enumerate() {
                to.copy_from_slice(&weights[(gate * heads + nth) * block..][..block]);
            }
            head.pack_rows(&self.gathered, threads)?;
            if let Some(back) = self.heads_back.get_mut(nth) {
                back.pack_columns(&self.gathered, threads)?;
            }
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.input.format()
    }

    fn bytes(&self) -> usize {
        let vectors = size_of_val::<[f32]>(&self.bias) + size_of_val::<[f32]>(&self.gathered);
        let matrices = self.heads.iter().chain(&self.heads_back).chain(&self.input_back);
        vectors + self.input.bytes() + matrices.map(PackedMatrix::bytes).sum::<usize>()
    }
}
