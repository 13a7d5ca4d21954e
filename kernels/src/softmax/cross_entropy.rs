//! Cross-entropy of the softmax of rows, with integer targets. Knows rows and their targets; must not
//! know how losses are averaged.

use super::{Normalise, Sum, Summed, largest};
use crate::denormals::Flushed;
use crate::error::check_len;
use crate::simd::{Kernel, Simd};
use crate::{Isa, KernelError, MAX_LANES, checked_len};

/// Finds the largest logit of a row.
struct Largest<'a> {
    row: &'a [f32],
}

impl Kernel for Largest<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        largest(simd, self.row)
    }
}

/// Returns Σ wₖ (oₖ − largest) over a row in f64, where the weights w are all 1 if there are none. A
/// class without weight has no part in it, whatever its logit.
struct Below<'a> {
    row: &'a [f32],
    weights: Option<&'a [f32]>,
    largest: f32,
}

impl Kernel for Below<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let largest = f64::from(self.largest);
        let mut sums = [0.0; MAX_LANES];
        let (whole, rest) = self.row.as_chunks::<MAX_LANES>();
        match self.weights {
            None => {
                for row in whole {
                    for (sum, &o) in sums.iter_mut().zip(row) {
                        *sum += f64::from(o) - largest;
                    }
                }
                for (sum, &o) in sums.iter_mut().zip(rest) {
                    *sum += f64::from(o) - largest;
                }
            }
            Some(weights) => {
                let (weights, last) = weights.as_chunks::<MAX_LANES>();
                for (row, weights) in whole.iter().zip(weights) {
                    for ((sum, &o), &w) in sums.iter_mut().zip(row).zip(weights) {
                        let term = f64::from(w) * (f64::from(o) - largest);
                        *sum += if w == 0.0 { 0.0 } else { term };
                    }
                }
                for ((sum, &o), &w) in sums.iter_mut().zip(rest).zip(last) {
                    let term = f64::from(w) * (f64::from(o) - largest);
                    *sum += if w == 0.0 { 0.0 } else { term };
                }
            }
        }
        sums.iter().sum()
    }
}

/// Subtracts `by` · w from a row, where the weights w are all 1 if there are none.
struct Subtract<'a> {
    row: &'a mut [f32],
    weights: Option<&'a [f32]>,
    by: f32,
}

impl Kernel for Subtract<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        match self.weights {
            None => {
                for y in self.row {
                    *y -= self.by;
                }
            }
            Some(weights) => {
                for (y, &w) in self.row.iter_mut().zip(weights) {
                    *y -= self.by * w;
                }
            }
        }
    }
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
///
/// With [`with_smoothing`](Self::with_smoothing) a share ε of each target is spread evenly over all
/// K classes, and with [`with_weights`](Self::with_weights) class k has the weight wₖ. The loss of a
/// row is then Σₖ −tₖ wₖ log ŷₖ with t = (1 − ε) 1\[y\] + ε / K.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a> {
    classes: usize,
    targets: &'a [u32],
    mask: Option<&'a [bool]>,
    smoothing: f64,
    weights: Option<&'a [f32]>,
    /// Σ w.
    weight: f64,
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
        let (smoothing, weights, weight) = (0.0, None, classes as f64);
        let this = Self { classes, targets, mask, smoothing, weights, weight, order };
        let wrong = |&row: &usize| this.counts(row) && targets[row] as usize >= classes;
        match (0..this.rows()).map(|row| this.index(row)).find(wrong) {
            Some(row) => Err(KernelError::Target { row, given: targets[row], classes }),
            None => Ok(this),
        }
    }

    /// Spreads a share `smoothing` of each target evenly over all classes.
    pub fn with_smoothing(self, smoothing: f32) -> Self {
        Self { smoothing: smoothing.into(), ..self }
    }

    /// Gives each class a weight, by which its part of a loss is multiplied.
    ///
    /// # Errors
    /// [`KernelError::Length`] where there is not one weight per class.
    pub fn with_weights(self, weights: &'a [f32]) -> Result<Self, KernelError> {
        check_len("class weights", weights.len(), self.classes)?;
        let weight = weights.iter().copied().map(f64::from).sum();
        Ok(Self { weights: Some(weights), weight, ..self })
    }

    /// Returns the weight of `target`, and what of it smoothing leaves there.
    fn weight_of(&self, target: usize) -> f64 {
        (1.0 - self.smoothing) * self.weights.map_or(1.0, |weights| weights[target].into())
    }

    /// Returns the loss of a row, given Σ exp of it and the logit of its target. If the row is smoothed,
    /// `below` is Σ wₖ (oₖ − largest).
    fn loss_of(&self, summed: Summed, logit: f32, target: usize, below: f64) -> f64 {
        // A class without weight costs nothing, even if its probability is 0.
        let weight = self.weight_of(target);
        let of_target = if weight == 0.0 { 0.0 } else { weight * summed.loss(logit) };
        if self.smoothing == 0.0 {
            return of_target;
        }
        let all = self.weight * f64::from(summed.sum).ln() - below;
        of_target + self.smoothing / self.classes as f64 * all
    }

    /// Returns Σ wₖ (oₖ − largest) of a row if it is smoothed, or 0.
    fn below(&self, isa: Isa, row: &[f32], largest: f32) -> f64 {
        match self.smoothing == 0.0 {
            true => 0.0,
            false => isa.enter(Below { row, weights: self.weights, largest }),
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
                let (summed, target) = (isa.enter(Sum { row }), self.targets[i] as usize);
                let below = self.below(isa, row, summed.largest);
                add(self.loss_of(summed, row[target], target, below));
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
            let below = match self.smoothing == 0.0 {
                true => 0.0,
                false => self.below(isa, row, isa.enter(Largest { row })),
            };
            let of_target = (f64::from(scale) * self.weight_of(target)) as f32;
            let of_each = f64::from(scale) * self.smoothing / self.classes as f64;
            let total = of_target + (of_each * self.weight) as f32;
            let summed = isa.enter(Normalise { row: &mut *row, total });
            add(self.loss_of(summed, logit, target, below));
            if self.smoothing != 0.0 {
                isa.enter(Subtract { row: &mut *row, weights: self.weights, by: of_each as f32 });
            }
            row[target] -= of_target;
        }
        Ok(())
    }
}
