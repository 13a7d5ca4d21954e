//! Softmax over rows, alone and as part of cross-entropy with integer targets. Knows
//! rows of logits; must not know layers, time or how losses are averaged.
//!
//! A row takes three sweeps: the first finds the largest logit, the second computes the
//! exponentials exp(o − largest) and their sum, and the third scales them. Only these sweeps
//! are compiled per instruction set; logarithms and targets, one of each per row, are not.
//! Denormals are treated as zero throughout, as in a pass.

use crate::denormals::Flushed;
use crate::each::each;
use crate::error::check_len;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::simd::{Kernel, Simd};
use crate::vmath::exp;
use crate::{Isa, KernelError, MAX_LANES, checked_len};

/// Running maxima side by side: a single one would wait for the latency of each maximum.
const CHAINS: usize = 4;

/// The index of each lane, to tell a row's last logits from the padding.
static LANE: [f32; MAX_LANES] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0];

/// The largest logit of a row, and Σ exp(o − largest).
#[derive(Clone, Copy)]
struct Summed {
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
struct Normalise<'a> {
    row: &'a mut [f32],
    total: f32,
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

/// Softmax cross-entropy. The loss of a row of logits o with target y is
/// −log ŷ_y = log Σ exp o − o_y, and the gradient is ŷ − 1\[y\] (Goodfellow et al.,
/// equations 10.14 and 10.18).
///
/// [`new`](Self::new) checks the targets, so that no later call fails half-way. Rows where
/// the mask is `false` do not count: their loss and gradient are 0 whatever their logits and
/// targets are.
///
/// A logit of −∞ has the probability 0, so the loss is +∞ where it is the target. A row with
/// a NaN, with a +∞ or with nothing but −∞ has a loss and gradients of NaN.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    classes: usize,
    targets: &'a [u32],
    mask: Option<&'a [bool]>,
    /// For each row of logits the index of its target.
    order: Option<&'a [usize]>,
}

impl<'a> CrossEntropy<'a> {
    /// Takes `targets` `[rows]`, each the index of one of `classes`, and `mask` `[rows]`. A row
    /// counts where `mask` is `true`; without a mask every row counts.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where `classes` is 0, [`KernelError::Length`] where the mask
    /// does not have one entry per target, [`KernelError::Target`] where the target of a row
    /// that counts is not less than `classes`.
    pub fn new(
        classes: usize,
        targets: &'a [u32],
        mask: Option<&'a [bool]>,
    ) -> Result<Self, KernelError> {
        Self::in_order(classes, targets, mask, None)
    }

    /// As [`new`](Self::new), for rows of logits in another order than that of the targets: row i
    /// has target `order[i]`. Targets that no row has are not read.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`KernelError::Dimension`] where an index is not below the number
    /// of targets.
    pub fn in_order(
        classes: usize,
        targets: &'a [u32],
        mask: Option<&'a [bool]>,
        order: Option<&'a [usize]>,
    ) -> Result<Self, KernelError> {
        if classes == 0 {
            let expected = "1 or more".into();
            return Err(KernelError::Dimension { what: "classes", given: classes, expected });
        }
        check_len("mask", mask.map_or(targets.len(), <[bool]>::len), targets.len())?;
        let far = |&&index: &&usize| index >= targets.len();
        if let Some(&given) = order.and_then(|order| order.iter().find(far)) {
            let expected = format!("below the {} targets", targets.len());
            return Err(KernelError::Dimension { what: "the index of a target", given, expected });
        }
        let this = Self { classes, targets, mask, order };
        let wrong = |&row: &usize| this.counts(row) && targets[row] as usize >= classes;
        match (0..this.rows()).map(|row| this.index(row)).find(wrong) {
            Some(row) => Err(KernelError::Target { row, given: targets[row], classes }),
            None => Ok(this),
        }
    }

    /// Returns the number of rows of logits.
    fn rows(&self) -> usize {
        self.order.map_or(self.targets.len(), <[usize]>::len)
    }

    /// Returns the index of the target of row `row`.
    fn index(&self, row: usize) -> usize {
        self.order.map_or(row, |order| order[row])
    }

    /// Returns the number of rows that count.
    pub fn counted(&self) -> usize {
        (0..self.rows()).filter(|&row| self.counts(self.index(row))).count()
    }

    /// Whether the target of index `row` counts.
    fn counts(&self, row: usize) -> bool {
        self.mask.is_none_or(|mask| mask[row])
    }

    fn check(&self, logits: &[f32]) -> Result<(), KernelError> {
        check_len("logits", logits.len(), checked_len("logits", &[self.rows(), self.classes])?)
    }

    /// Returns the sum of the losses of `logits` `[rows, classes]`, in nats.
    ///
    /// # Errors
    /// [`KernelError::Length`] where there are not `classes` logits for each target.
    pub fn loss(&self, isa: Isa, logits: &[f32]) -> Result<f64, KernelError> {
        let mut sum = 0.0;
        self.losses(isa, logits, |loss| sum += loss)?;
        Ok(sum)
    }

    /// Calls `add` with the loss of each row of `logits` `[rows, classes]` that counts, in nats, from
    /// the last row to the first.
    ///
    /// # Errors
    /// As [`loss`](Self::loss).
    pub fn losses(
        &self,
        isa: Isa,
        logits: &[f32],
        mut add: impl FnMut(f64),
    ) -> Result<(), KernelError> {
        self.check(logits)?;
        let _flushed = Flushed::new();
        for (i, row) in logits.chunks_exact(self.classes).enumerate().rev() {
            let i = self.index(i);
            if self.counts(i) {
                add(isa.enter(Sum { row }).loss(row[self.targets[i] as usize]));
            }
        }
        Ok(())
    }

    /// Returns the sum of the losses of `logits` `[rows, classes]`, in nats, and replaces the
    /// logits with the gradient of `scale` times this sum, (ŷ − 1\[y\]) · `scale`.
    ///
    /// # Errors
    /// [`KernelError::Length`] where there are not `classes` logits for each target; nothing is
    /// written then.
    ///
    /// # Example
    /// ```
    /// use bptt_kernels::{Isa, softmax::CrossEntropy};
    ///
    /// let mut o = [0.0, 0.0, f32::NAN, f32::NAN];
    /// let (targets, mask) = ([1, 7], [true, false]);
    /// let entropy = CrossEntropy::new(2, &targets, Some(&mask))?;
    /// let loss = entropy.gradient(Isa::best()?, 1.0, &mut o)?;
    /// assert_eq!(loss, 2f64.ln());
    /// assert_eq!(o, [0.5, -0.5, 0.0, 0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn gradient(&self, isa: Isa, scale: f32, logits: &mut [f32]) -> Result<f64, KernelError> {
        let mut sum = 0.0;
        self.gradients(isa, scale, logits, |loss| sum += loss)?;
        Ok(sum)
    }

    /// As [`gradient`](Self::gradient), but calls `add` with the loss of each row that counts, from
    /// the last row to the first.
    ///
    /// # Errors
    /// As [`gradient`](Self::gradient).
    pub fn gradients(
        &self,
        isa: Isa,
        scale: f32,
        logits: &mut [f32],
        mut add: impl FnMut(f64),
    ) -> Result<(), KernelError> {
        self.check(logits)?;
        let _flushed = Flushed::new();
        for (i, row) in logits.chunks_exact_mut(self.classes).enumerate().rev() {
            let i = self.index(i);
            if !self.counts(i) {
                row.fill(0.0);
                continue;
            }
            let target = self.targets[i] as usize;
            let logit = row[target];
            add(isa.enter(Normalise { row: &mut *row, total: scale }).loss(logit));
            row[target] -= scale;
        }
        Ok(())
    }
}
