//! One step of one sequence, as real-time audio has it, some tens of nanoseconds long:
//! what [`Forward`](super::Forward) spends on steps, batches and threads would be a third
//! of it.

use super::forward::{Input, Step};
use super::{Activations, GATES};
use crate::denormals::Flushed;
use crate::dense::Dense;
use crate::each::each;
use crate::error::check_len;
use crate::pack::PackedMatrix;
use crate::recurrence::Row;
use crate::simd::{Kernel, Simd};
use crate::tile::{load_lanes, store_lanes};
use crate::{Isa, KernelError};

/// A step of one sequence, with the product of the input, on the calling thread. H is
/// the length of `h`, I that of `x`.
///
/// Measured on one core (Zen 5, AVX-512, 4.4 GHz), of one input, with an output of one:
/// 65 to 75 ns for H 16, of which some 46 are the latency of instructions that wait for one
/// another; 96 to 105 ns for H 32; 296 to 325 ns for H 64, whose weights no longer fit the
/// first-level cache. `cargo bench --bench latency`.
#[derive(Debug)]
pub struct Single<'a> {
    /// The non-linearities.
    pub activations: Activations,
    /// U packed by rows, with 4 gates.
    pub input: &'a PackedMatrix,
    /// W packed by rows, with 4 gates.
    pub recurrent: &'a PackedMatrix,
    /// b, `[4, H]`.
    pub bias: &'a [f32],
    /// `[I]`.
    pub x: &'a [f32],
    /// The hidden state, `[H]`.
    pub h: &'a mut [f32],
    /// The cell state, `[H]`.
    pub s: &'a mut [f32],
    /// Room for the next hidden state, `[H]`.
    pub next: &'a mut [f32],
    /// Whether the units are swept from the last to the first. In turns with the other way
    /// it finds what the step before has left in the cache.
    pub backwards: bool,
    /// A layer that the hidden state goes through.
    pub output: Option<&'a Dense>,
    /// Where its outputs go, `[O]`.
    pub o: &'a mut [f32],
}

impl Single<'_> {
    /// Takes the step; the bits are those of [`Forward`](super::Forward) and of
    /// [`Dense::run`].
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are packed
    /// for something else; nothing is written then.
    #[inline]
    pub fn run(self, isa: Isa) -> Result<(), KernelError> {
        let hidden = self.h.len();
        self.recurrent.check(isa, GATES, hidden, hidden)?;
        self.input.check(isa, GATES, hidden, self.x.len())?;
        check_len("bias", self.bias.len(), GATES * hidden)?;
        check_len("s", self.s.len(), hidden)?;
        check_len("next", self.next.len(), hidden)?;
        if let Some(dense) = self.output {
            dense.check(isa, self.o.len(), hidden)?;
        }
        self.take(isa);
        Ok(())
    }

    /// What [`run`](Self::run) has checked. Compiled here, not where it is called.
    fn take(self, isa: Isa) {
        let _flushed = Flushed::new();
        isa.enter(self);
    }
}

impl Kernel for Single<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (hidden, groups) = (self.h.len(), self.recurrent.groups());
        let (h, cells, next) = (self.h.as_mut_ptr(), self.s.as_mut_ptr(), self.next.as_mut_ptr());
        let (x, bias) = (self.x.as_ptr(), self.bias.as_ptr());
        let step = Step {
            batch: 1,
            hidden,
            activations: self.activations,
            recurrent: self.recurrent,
            input: Input::Fused { x, weights: self.input, bias },
            stored: None,
            h_prev: h,
            // A group has read all of h before it writes its units.
            h: if groups == 1 { h } else { next },
            s_prev: cells,
            s: cells,
            // One row lies as it would be packed.
            scratch: std::ptr::null_mut(),
        };
        for turn in 0..groups {
            let group = if self.backwards { groups - 1 - turn } else { turn };
            Row { step: &step, group, backwards: self.backwards }.run(s);
        }
        // SAFETY: `Single::run` has checked every slice against H, the layer and the outputs.
        unsafe {
            if groups > 1 {
                each!(S, hidden, |at, lanes| {
                    store_lanes(s, h.add(at), load_lanes(s, next.add(at), lanes), lanes);
                });
            }
            if let Some(dense) = self.output {
                dense.row(s, h, self.o.as_mut_ptr());
            }
        }
    }
}
