//! Softmax over rows, alone and as part of cross-entropy with integer targets. Knows
//! rows of logits; must not know layers, time or how losses are averaged.
//!
//! A row takes three sweeps: the first finds the largest logit, the second computes the
//! exponentials exp(o − largest) and their sum, and the third scales them. Only these sweeps
//! are compiled per instruction set; logarithms and targets, one of each per row, are not.
//! Denormals are treated as zero throughout, as in a pass.

mod cross_entropy;

pub use cross_entropy::CrossEntropy;

use crate::denormals::Flushed;
use crate::each::each;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::vmath::exp;
use crate::{Isa, KernelError, MAX_LANES};

/// Running maxima side by side: a single one would wait for the latency of each maximum.
const CHAINS: usize = 4;

/// The index of each lane, to tell a row's last logits from the padding.
static LANE: [f32; MAX_LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// The largest logit of a row, and Σ exp(o − largest).
#[derive(Clone, Copy)]
pub(crate) struct Summed {
    largest: f32,
    sum: f32,
}

impl Summed {
    /// Returns −log ŷ of `logit` o: log Σ exp(o − max) − (o − max). The difference is computed
    /// in f64, so that a loss stays finite where o − max overflows f32.
    fn loss(self, logit: f32) -> f64 {
        f64::from(self.sum).ln() - (f64::from(logit) - f64::from(self.largest))
    }
}

/// Computes the sum of a row's exponentials and leaves the row as it is.
struct Sum<'a> {
    row: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = Summed;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Summed {
        let largest = largest(simd, self.row);
        let row = self.row.as_ptr().cast_mut();
        // SAFETY: the pointer and the length are the row's; without KEEP the row is only
        // read.
        let sum = unsafe { exponentials::<S, false>(simd, row, self.row.len(), largest) };
        Summed { largest, sum }
    }
}

/// Replaces the row with `total` · softmax of it.
pub(crate) struct Normalise<'a> {
    pub row: &'a mut [f32],
    pub total: f32,
}

impl Kernel for Normalise<'_> {
    type Output = Summed;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Summed {
        let largest = largest(simd, self.row);
        let (row, len) = (self.row.as_mut_ptr(), self.row.len());
        // SAFETY: the pointer and the length are the row's, and `each!` stays within its
        // length.
        unsafe {
            let sum = exponentials::<S, true>(simd, row, len, largest);
            let factor = simd.splat(self.total / sum);
            each!(S, len, |at, lanes| {
                let e = load_lanes(simd, row.add(at), lanes);
                store_lanes(simd, row.add(at), simd.mul(e, factor), lanes);
            });
            Summed { largest, sum }
        }
    }
}

/// Returns log Σ exp o of a row of logits, in f64. It is NaN where the row has a NaN, a +∞ or
/// nothing but −∞.
///
/// # Example
/// ```
/// use bptt_kernels::{Isa, softmax::log_sum_exp};
///
/// let sum = log_sum_exp(Isa::best()?, &[1e30, 1e30, f32::NEG_INFINITY]);
/// assert_eq!(sum, f64::from(1e30f32) + 2f64.ln());
/// # Ok::<(), bptt_kernels::IsaError>(())
/// ```
pub fn log_sum_exp(isa: Isa, row: &[f32]) -> f64 {
    let _flushed = Flushed::new();
    let Summed { largest, sum } = isa.enter(Sum { row });
    f64::from(largest) + f64::from(sum).ln()
}

/// Returns a vector with the first `n` lanes of `v` and the other lanes of `other`.
#[inline(always)]
fn first<S: Simd>(simd: S, v: S::V, other: S::V, n: usize) -> S::V {
    const { assert!(S::LANES <= MAX_LANES) }
    if n == S::LANES {
        return v;
    }
    // SAFETY: the table has MAX_LANES ≥ LANES floats.
    let lane = unsafe { simd.load(LANE.as_ptr()) };
    simd.select(simd.lt(lane, simd.splat(n as f32)), v, other)
}

/// Returns the largest logit of a row. If the row has a NaN, the result may be any value,
/// since the sum of the exponentials is NaN then in any case.
#[inline(always)]
fn largest<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let least = simd.splat(f32::NEG_INFINITY);
    let mut chains = [least; CHAINS];
    let stride = CHAINS * S::LANES;
    let whole = row.len() - row.len() % stride;
    // SAFETY: at + CHAINS · LANES ≤ whole ≤ len in the first loop, and the second loop stays
    // within the row's remaining len − whole floats.
    unsafe {
        for at in (0..whole).step_by(stride) {
            for (c, chain) in chains.iter_mut().enumerate() {
                *chain = simd.max(simd.load(row.as_ptr().add(at + c * S::LANES)), *chain);
            }
        }
        each!(S, row.len() - whole, |at, lanes| {
            let o = load_lanes(simd, row.as_ptr().add(whole + at), lanes);
            chains[0] = simd.max(first(simd, o, least, lanes), chains[0]);
        });
    }
    simd.largest(simd.max(simd.max(chains[0], chains[1]), simd.max(chains[2], chains[3])))
}

/// Returns Σ exp(o − `largest`) over a row. With `KEEP` each logit is replaced with its
/// exponential.
///
/// # Safety
/// `row` is readable for `len` floats, and with `KEEP` also writable.
#[inline(always)]
unsafe fn exponentials<S: Simd, const KEEP: bool>(
    simd: S,
    row: *mut f32,
    len: usize,
    largest: f32,
) -> f32 {
    let largest = simd.splat(largest);
    // Two exponentials side by side: one alone is a long chain of dependent instructions.
    let mut sums = [simd.zero(); 2];
    let pairs = len - len % (2 * S::LANES);
    // SAFETY: at + 2 · LANES ≤ pairs ≤ len in the first loop, and the second loop stays within
    // the row's remaining len − pairs floats.
    unsafe {
        for at in (0..pairs).step_by(2 * S::LANES) {
            let (p, q) = (row.add(at), row.add(at + S::LANES));
            let (a, b) = (simd.sub(simd.load(p), largest), simd.sub(simd.load(q), largest));
            let (a, b) = (exp(simd, a), exp(simd, b));
            if KEEP {
                simd.store(p, a);
                simd.store(q, b);
            }
            sums = [simd.add(sums[0], a), simd.add(sums[1], b)];
        }
        each!(S, len - pairs, |at, lanes| {
            let p = row.add(pairs + at);
            let e = exp(simd, simd.sub(load_lanes(simd, p, lanes), largest));
            if KEEP {
                store_lanes(simd, p, e, lanes);
            }
            sums[0] = simd.add(sums[0], first(simd, e, simd.zero(), lanes));
        });
    }
    simd.sum(simd.add(sums[0], sums[1]))
}

/// Replaces each row of `logits` `[rows, classes]` with its softmax, ŷₖ = exp oₖ / Σ exp o.
///
/// The row's largest logit is subtracted first, so that no finite logits overflow. A logit of
/// −∞ has the probability 0, and so has a logit whose probability would be denormal. A row
/// with a NaN, with a +∞ or with nothing but −∞ becomes NaN.
///
/// # Errors
/// [`KernelError::Dimension`] where `classes` is 0 or does not divide the number of logits;
/// nothing is written then.
///
/// # Example
/// ```
/// use bptt_kernels::{Isa, softmax::softmax};
///
/// let mut y = [1000.0, 1000.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
/// softmax(Isa::best()?, 4, &mut y)?;
/// assert_eq!(y, [0.5, 0.5, 0.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn softmax(isa: Isa, classes: usize, logits: &mut [f32]) -> Result<(), KernelError> {
    if classes == 0 || !logits.len().is_multiple_of(classes) {
        let expected = format!("a divisor of the {} logits", logits.len());
        return Err(KernelError::Dimension { what: "classes", given: classes, expected });
    }
    let _flushed = Flushed::new();
    for row in logits.chunks_exact_mut(classes) {
        isa.enter(Normalise { row, total: 1.0 });
    }
    Ok(())
}
