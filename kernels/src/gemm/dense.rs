//! A dense layer, `c = bias + W a`: what turns hidden units into outputs. Knows which
//! layout of W suits how many outputs; must not know what the outputs mean.

use crate::error::{check_len, check_room};
use crate::format::Format;
use crate::gemm::dots::{self, Dots};
use crate::gemm::{self, Gemm, Start};
use crate::rows::RowsMut;
use crate::simd::{Kernel, Simd};
use crate::team::Pass;
use crate::tuning::suits_dots;
use crate::{AlignedBuffer, Isa, KernelError, PackedMatrix, checked_len};

/// W and the bias, in the layout that the product reads.
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
    /// `[outputs, depth]`, for few outputs, in f32: rounded to the format, which would save next
    /// to nothing.
    Rows(AlignedBuffer),
}

impl Dense {
    /// From `depth` inputs to `outputs`, all zero.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where a dimension is 0, `TooLarge` or `OutOfMemory`
    /// where there is no room.
    pub fn zeros(isa: Isa, outputs: usize, depth: usize) -> Result<Self, KernelError> {
        Self::zeros_as(Format::F32, isa, outputs, depth)
    }

    /// [`zeros`](Self::zeros) with weights of another format.
    ///
    /// # Errors
    /// As [`zeros`](Self::zeros).
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

    /// `Ok` where [`pack`](Self::pack) would take the weights.
    ///
    /// # Errors
    /// [`KernelError::Length`] where they are not `[outputs, depth]`, `NotFinite` where the format
    /// is int8 and one of them is ∞ or NaN.
    pub fn check_weights(&self, weights: &[f32]) -> Result<(), KernelError> {
        let expected = checked_len("weights", &[self.bias.len(), self.depth])?;
        check_len("weights", weights.len(), expected)?;
        self.format.check(weights)
    }

    /// Takes over W, `[outputs, depth]` row-major, and the bias, `[outputs]`.
    ///
    /// # Errors
    /// As [`check_weights`](Self::check_weights), and [`KernelError::Length`] where the bias is of
    /// another length; nothing is written then.
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

    /// The bytes that it holds.
    pub fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Packed(packed) => packed.bytes(),
            Weights::Rows(rows) => size_of_val::<[f32]>(rows),
        };
        size_of_val::<[f32]>(&self.bias) + weights
    }

    /// `c` `[rows, outputs]`, whose rows are `stride` floats apart, of `a` `[rows, depth]`;
    /// `scratch` is what [`gemm::team_scratch_len`] says, or more. A sum's order is that of the depth,
    /// and with outputs for up to half a vector that of vectors side by side, whose lanes
    /// are added last: it knows the depth alone, so a row gives the same bits alone and
    /// among others.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `a`, `c`, the stride or the scratch does not fit; nothing is
    /// written then.
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
                // SAFETY: A and C have just been seen to be of these lengths, and were borrowed
                // for this call.
                unsafe { pass.run(self.isa, &self.dots(weights, rows, a.as_ptr(), c)) };
                Ok(())
            }
        }
    }

    /// # Safety
    /// As [`Dots::new`], of A and C.
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
        // SAFETY: A and C are this function's own promise; the weights were made with depth
        // floats for each output, and the bias with one.
        unsafe { Dots::new(operands) }
    }

    /// `Ok` where it is for `isa` and has these dimensions.
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

    /// One row, within a kernel.
    ///
    /// # Safety
    /// `a` is readable for the depth, `c` writable for the outputs; S is the set that
    /// [`check`](Self::check) was asked for.
    #[inline(always)]
    pub(crate) unsafe fn row<S: Simd>(&self, simd: S, a: *const f32, c: *mut f32) {
        // SAFETY: A and C are as long as the layer says, for which the weights were made.
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
