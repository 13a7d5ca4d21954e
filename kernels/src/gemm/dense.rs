//! A dense layer, `c = bias + W a`: what turns hidden units into outputs. Knows which
//! layout of W suits how many outputs; must not know what the outputs mean.

use crate::error::check_len;
use crate::gemm::dots::Dots;
use crate::gemm::{self, Gemm, Start};
use crate::simd::{Kernel, Simd};
use crate::team::Pass;
use crate::tuning::suits_dots;
use crate::{AlignedBuffer, Isa, KernelError, PackedMatrix, checked_len};

/// W and the bias, in the layout that the product reads.
#[derive(Clone, Debug)]
pub struct Dense {
    isa: Isa,
    bias: AlignedBuffer,
    weights: Weights,
    depth: usize,
}

#[derive(Clone, Debug)]
enum Weights {
    Packed(PackedMatrix),
    /// `[outputs, depth]`, for few outputs.
    Rows(AlignedBuffer),
}

impl Dense {
    /// From `depth` inputs to `outputs`, all zero.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where a dimension is 0, `TooLarge` or `OutOfMemory`
    /// where there is no room.
    pub fn zeros(isa: Isa, outputs: usize, depth: usize) -> Result<Self, KernelError> {
        for (what, given) in [("outputs", outputs), ("depth", depth)] {
            if given == 0 {
                return Err(KernelError::Dimension { what, given, expected: "1 or more".into() });
            }
        }
        let weights = if suits_dots(outputs, isa.lanes()) {
            let len = checked_len("weights", &[outputs, depth])?;
            Weights::Rows(AlignedBuffer::try_new(len)?)
        } else {
            Weights::Packed(PackedMatrix::zeros(isa, 1, outputs, depth)?)
        };
        Ok(Self { isa, bias: AlignedBuffer::try_new(outputs)?, weights, depth })
    }

    /// Takes over W, `[outputs, depth]` row-major, and the bias, `[outputs]`.
    ///
    /// # Errors
    /// [`KernelError::Length`] where one is of another length; nothing is written then.
    pub fn pack(
        &mut self,
        weights: &[f32],
        bias: &[f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let expected = checked_len("weights", &[self.bias.len(), self.depth])?;
        check_len("weights", weights.len(), expected)?;
        check_len("bias", bias.len(), self.bias.len())?;
        self.bias.copy_from_slice(bias);
        match &mut self.weights {
            Weights::Packed(packed) => packed.pack_rows(weights, pass),
            Weights::Rows(rows) => {
                rows.copy_from_slice(weights);
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

    /// `c` `[rows, outputs]` of `a` `[rows, depth]`; `scratch` is what
    /// [`gemm::team_scratch_len`] says, or more. A sum's order is that of the depth,
    /// and with outputs for up to half a vector that of vectors side by side, whose lanes
    /// are added last: it knows the depth alone, so a row gives the same bits alone and
    /// among others.
    ///
    /// Measured on one core (Zen 5, AVX-512), 100 rows: one output of 64 inputs takes
    /// 3.0 ns, where one padded to a panel would take 26; eight take 15.
    ///
    /// # Errors
    /// [`KernelError::Length`] where `a`, `c` or the scratch does not fit, `Packing` where
    /// the weights are packed for another instruction set; nothing is written then.
    pub fn run(
        &self,
        isa: Isa,
        rows: usize,
        a: &[f32],
        c: &mut [f32],
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let start = Start::Bias(&self.bias);
        match &self.weights {
            Weights::Packed(weights) => {
                let stride = weights.outputs();
                Gemm { rows, a, weights, start, c, stride, scratch }.run(isa, pass)
            }
            Weights::Rows(weights) => {
                self.check(isa, self.bias.len(), self.depth)?;
                check_len("a", a.len(), checked_len("a", &[rows, self.depth])?)?;
                check_len("c", c.len(), checked_len("c", &[rows, self.bias.len()])?)?;
                // SAFETY: A and C have just been seen to be of these lengths, and were borrowed
                // for this call.
                unsafe { pass.run(isa, &self.dots(weights, rows, a.as_ptr(), c.as_mut_ptr())) };
                Ok(())
            }
        }
    }

    /// # Safety
    /// As [`Dots::new`], of A and C.
    #[inline(always)]
    unsafe fn dots(&self, weights: &[f32], rows: usize, a: *const f32, c: *mut f32) -> Dots {
        let sizes = (rows, self.depth, self.bias.len());
        // SAFETY: A and C are this function's own promise; the weights were made with depth
        // floats for each output, and the bias with one.
        unsafe { Dots::new(sizes, a, (weights.as_ptr(), self.bias.as_ptr()), c) }
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
                Weights::Rows(weights) => self.dots(weights, 1, a, c).run(simd),
            }
        }
    }
}
