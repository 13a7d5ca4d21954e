//! A dense layer, `c = bias + W a`, which turns hidden states into outputs. Knows which
//! layout of W suits a number of outputs; must not know what the outputs mean.

use crate::error::{check_len, check_room};
use crate::format::Format;
use crate::gemm::dots::{self, Dots};
use crate::gemm::{self, Gemm, Start};
use crate::rows::RowsMut;
use crate::simd::{Kernel, Simd};
use crate::team::Pass;
use crate::tuning::suits_dots;
use crate::{AlignedBuffer, Isa, KernelError, PackedMatrix, checked_len};

/// The weights W and the bias of a dense layer, in the layout that the product reads.
#[derive(Clone, Debug)]
pub struct Dense {
    isa: Isa,
    format: Format,
    bias: AlignedBuffer,
    weights: Weights,
    depth: usize,
}

#[derive(Clone, Debug)]
enum Weights {
    Packed(PackedMatrix),
    /// `[outputs, depth]`, for few outputs. The weights are rounded to the format but stored as
    /// f32, since smaller values would save next to nothing.
    Rows(AlignedBuffer),
}

impl Dense {
    /// Allocates a layer from `depth` inputs to `outputs`, all weights zero, in f32.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where a dimension is 0, `TooLarge` where the weights do not fit
    /// the address space, `OutOfMemory` where the allocator has no room for them.
    pub fn zeros(isa: Isa, outputs: usize, depth: usize) -> Result<Self, KernelError> {
        Self::zeros_as(Format::F32, isa, outputs, depth)
    }

    /// Allocates a layer as [`zeros`](Self::zeros) does, with weights of `format`.
    ///
    /// # Errors
    /// As for [`zeros`](Self::zeros).
    pub fn zeros_as(
        format: Format,
        isa: Isa,
        outputs: usize,
        depth: usize,
    ) -> Result<Self, KernelError> {
        for (what, given) in [("outputs", outputs), ("depth", depth)] {
            if given == 0 {
                return Err(KernelError::Dimension { what, given, expected: "1 or more".into() });
            }
        }
        let weights = if suits_dots(outputs, isa.lanes()) {
            let len = checked_len("weights", &[outputs, depth])?;
            Weights::Rows(AlignedBuffer::try_new(len)?)
        } else {
            Weights::Packed(PackedMatrix::zeros_as(format, isa, 1, outputs, depth)?)
        };
        Ok(Self { isa, format, bias: AlignedBuffer::try_new(outputs)?, weights, depth })
    }

    /// Returns an error unless [`pack`](Self::pack) accepts `weights`.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `weights` is not `[outputs, depth]`, `NotFinite` where the
    /// format is int8 and a weight is ∞ or NaN.
    pub fn check_weights(&self, weights: &[f32]) -> Result<(), KernelError> {
        let expected = checked_len("weights", &[self.bias.len(), self.depth])?;
        check_len("weights", weights.len(), expected)?;
        self.format.check(weights)
    }

    /// Copies W, `[outputs, depth]` row-major, and the bias, `[outputs]`, into the layer.
    ///
    /// # Errors
    /// As for [`check_weights`](Self::check_weights), and [`KernelError::Length`] where the bias
    /// has another length; nothing is written then.
    pub fn pack(
        &mut self,
        weights: &[f32],
        bias: &[f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        self.check_weights(weights)?;
        check_len("bias", bias.len(), self.bias.len())?;
        self.bias.copy_from_slice(bias);
        match &mut self.weights {
            Weights::Packed(packed) => packed.pack_rows(weights, pass),
            Weights::Rows(rows) => {
                let of_outputs = weights.chunks_exact(self.depth);
                for (to, row) in rows.chunks_exact_mut(self.depth).zip(of_outputs) {
                    let largest = row.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                    let rounded = row.iter().map(|&w| self.format.rounded(w, largest));
                    to.iter_mut().zip(rounded).for_each(|(to, w)| *to = w);
                }
                Ok(())
            }
        }
    }

    /// Returns the bytes of memory that the weights and the bias take.
    pub fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Packed(packed) => packed.bytes(),
            Weights::Rows(rows) => size_of_val::<[f32]>(rows),
        };
        size_of_val::<[f32]>(&self.bias) + weights
    }

    /// Computes `c` `[rows, outputs]`, whose rows are `stride` floats apart, from `a`
    /// `[rows, depth]`. `scratch` has [`gemm::team_scratch_len`] floats or more.
    ///
    /// Each output sums its terms in the order of the depth; if there are at most half a vector
    /// of outputs, it sums them in vectors side by side and adds the lanes last. Neither order
    /// depends on the number of rows, so a row gives the same bits alone and among others.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `a` or `c` does not fit, `Short` where the stride or the
    /// scratch is too short, `TooLarge` where the dimensions do not fit the address space; nothing
    /// is written then.
    pub fn run(
        &self,
        rows: usize,
        a: &[f32],
        c: &mut [f32],
        stride: usize,
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let start = Start::Bias(&self.bias);
        match &self.weights {
            Weights::Packed(weights) => {
                Gemm { rows, a, weights, start, c, stride, scratch }.run(self.isa, pass)
            }
            Weights::Rows(weights) => {
                check_len("a", a.len(), checked_len("a", &[rows, self.depth])?)?;
                check_room("stride", stride, self.bias.len())?;
                check_len("c", c.len(), checked_len("c", &[rows, stride])?)?;
                let c = RowsMut::new(c.as_mut_ptr(), stride);
                // SAFETY: A and C have these lengths, as was just checked, and were borrowed for
                // this call.
                unsafe { pass.run(self.isa, &self.dots(weights, rows, a.as_ptr(), c)) };
                Ok(())
            }
        }
    }

    /// Returns the product of `rows` rows of A with weights that are stored by rows.
    ///
    /// # Safety
    /// As for [`Dots::new`], as far as A and C are concerned.
    #[inline(always)]
    unsafe fn dots(&self, weights: &[f32], rows: usize, a: *const f32, c: RowsMut) -> Dots {
        let operands = dots::Operands {
            rows,
            depth: self.depth,
            outputs: self.bias.len(),
            a,
            weights: weights.as_ptr(),
            bias: self.bias.as_ptr(),
            c,
        };
        // SAFETY: this function asks for the same of A and C; the weights were made with depth
        // floats for each output, and the bias with one float.
        unsafe { Dots::new(operands) }
    }

    /// Returns an error unless the layer is packed for `isa` and has these dimensions.
    #[inline(always)]
    pub(crate) fn check(&self, isa: Isa, outputs: usize, depth: usize) -> Result<(), KernelError> {
        if (self.isa, self.bias.len(), self.depth) == (isa, outputs, depth) {
            return Ok(());
        }
        Err(self.mismatch(isa, outputs, depth))
    }

    #[cold]
    fn mismatch(&self, isa: Isa, outputs: usize, depth: usize) -> KernelError {
        let tell = |isa: Isa, outputs: usize, depth: usize| {
            format!("for {isa}, {outputs} outputs of {depth} inputs")
        };
        let given = tell(self.isa, self.bias.len(), self.depth);
        KernelError::Packing { given, expected: tell(isa, outputs, depth) }
    }

    /// Computes the outputs `c` `[outputs]` of one row `a` `[depth]`, inside a kernel.
    ///
    /// # Safety
    /// `a` is readable for the depth, and `c` is writable for the outputs; S is the instruction
    /// set that was passed to [`check`](Self::check).
    #[inline(always)]
    pub(crate) unsafe fn row<S: Simd>(&self, simd: S, a: *const f32, c: *mut f32) {
        // SAFETY: A and C have the lengths of the layer, for which the weights were made.
        unsafe {
            match &self.weights {
                Weights::Packed(packed) => {
                    for group in 0..packed.groups() {
                        gemm::row(simd, a, packed, Some(self.bias.as_ptr()), c, group);
                    }
                }
                Weights::Rows(weights) => self.dots(weights, 1, a, RowsMut::new(c, 0)).run(simd),
            }
        }
    }
}
