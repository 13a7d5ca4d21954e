//! Sizes and slices that are mostly what a call expects.

use crate::Bytes;
use bptt_kernels::{Isa, KernelError};
use std::ops::Range;

/// What stands in slices before a call.
pub(super) const BEFORE: f32 = 12_345.678;
/// The longest slice of a call.
const LONGEST: u128 = 1 << 18;

/// Draws what a call is given, and keeps in mind whether that is right.
#[derive(Clone, Debug)]
pub struct Drawn<'a> {
    bytes: Bytes<'a>,
    right: bool,
    /// Whether a size is 0 and another one that no slice has: such a call is refused or has
    /// nothing to do.
    either: bool,
    pub isa: Isa,
}

impl<'a> Drawn<'a> {
    pub fn new(mut bytes: Bytes<'a>) -> Self {
        let available = Isa::available();
        let isa = available[usize::from(bytes.byte()) % available.len()];
        Self { bytes, right: true, either: false, isa }
    }

    /// One of so many.
    pub fn choice(&mut self, count: usize) -> usize {
        usize::from(self.bytes.byte()) % count
    }

    pub(super) fn flip(&mut self) -> bool {
        self.choice(2) == 1
    }

    /// Less often than once in a dozen.
    pub(super) fn seldom(&mut self) -> bool {
        self.choice(16) == 0
    }

    /// From 1 to `most`.
    pub(super) fn size(&mut self, most: usize) -> usize {
        self.bytes.size(most)
    }

    /// Any number of steps.
    pub(super) fn count(&mut self) -> u64 {
        match self.choice(3) {
            0 => u64::from(self.bytes.byte()),
            1 => u64::MAX - u64::from(self.bytes.byte()),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.bytes.byte())),
        }
    }

    /// A size that a call is told of: mostly `size`, else one near it, 0, or one that no slice
    /// has.
    pub(super) fn near(&mut self, size: usize) -> usize {
        match self.choice(64) {
            0 => size.saturating_sub(1),
            1 => size.saturating_add(1),
            2 => 0,
            3 => usize::MAX - self.choice(3),
            4 => 1 << (usize::BITS - 1 - self.choice(4) as u32),
            5 => usize::MAX / self.size(255),
            _ => size,
        }
    }

    /// Some of the steps, most often all.
    pub(super) fn stretch(&mut self, steps: usize) -> Range<usize> {
        let end = if self.flip() { steps } else { self.choice(10) };
        let stretch = (if self.flip() { 0 } else { self.choice(10) })..end;
        self.demand(stretch.start <= stretch.end && stretch.end <= steps);
        stretch
    }

    /// Whether the call is right so far.
    pub(super) fn demand(&mut self, right: bool) {
        self.right &= right;
    }

    /// The same of a call that has something to do whatever its sizes.
    pub(super) fn demand_alone(&mut self, right: bool) {
        (self.right, self.either) = (self.right && right, false);
    }

    /// The product of dims, if a slice can have it.
    pub(super) fn product(&mut self, dims: &[usize]) -> Option<usize> {
        let product = dims.iter().try_fold(1u128, |product, &dim| product.checked_mul(dim as u128));
        let large = |&dim: &usize| dim as u128 > LONGEST;
        self.either |= dims.contains(&0) && dims.iter().any(large);
        if dims.contains(&0) {
            return Some(0);
        }
        product.filter(|&len| len <= LONGEST).map(|len| len as usize)
    }

    /// A length that a slice has, where `right` is expected, or where no slice has what is.
    pub(super) fn length(&mut self, right: Option<usize>) -> usize {
        let Some(right) = right else {
            self.demand(false);
            return self.choice(64);
        };
        let length = match self.choice(128) {
            0 => right.saturating_sub(1),
            1 => right + 1,
            2 => 0,
            3 => self.bytes.below(2 * right.min(1000)),
            4 => right * 2,
            _ => right,
        };
        self.demand(length == right);
        length
    }

    /// A slice of the product of dims.
    pub(super) fn floats(&mut self, dims: &[usize]) -> Vec<f32> {
        let right = self.product(dims);
        vec![BEFORE; self.length(right)]
    }

    /// Rows of `width` floats, so many as the product of dims, and floats from one to the next,
    /// mostly as many or more. What lies between them may be missing after the last.
    pub(super) fn rows(&mut self, dims: [usize; 2], width: usize) -> (Vec<f32>, usize) {
        let wider = width.saturating_add(self.choice(3));
        let stride = self.near(wider);
        self.demand(stride >= width);
        let (right, dims) = (self.right, [dims[0], dims[1], stride]);
        let product = self.product(&dims);
        let length = self.length(product);
        // A row alone may have a stride that no slice has.
        let all = dims.iter().try_fold(1u128, |all, &dim| all.checked_mul(dim as u128));
        let all = all.filter(|&all| all <= isize::MAX as u128 / 4);
        let least = |all: u128| all.saturating_sub(stride.saturating_sub(width) as u128);
        self.right = right && all.is_some_and(|all| (least(all)..=all).contains(&(length as u128)));
        (vec![BEFORE; length], stride)
    }

    /// So many rows of `width` floats, and floats from one to the next, mostly as many or more. There
    /// may be any number of floats after the last row.
    pub(super) fn strided(&mut self, rows: usize, width: usize) -> (Vec<f32>, usize) {
        let wider = width.saturating_add(self.choice(3));
        let stride = self.near(wider);
        self.demand(stride >= width);
        let least = match rows.checked_sub(1) {
            None => Some(0),
            Some(others) => {
                self.product(&[others, stride]).and_then(|others| others.checked_add(width))
            }
        };
        (self.room(least), stride)
    }

    /// A slice of so many or more.
    pub(super) fn room(&mut self, least: Option<usize>) -> Vec<f32> {
        let Some(least) = least.filter(|&least| least as u128 <= LONGEST) else {
            self.demand(false);
            return vec![BEFORE; self.choice(64)];
        };
        let length = match self.choice(64) {
            0 => least.saturating_sub(1),
            1 => 0,
            2 => least + self.choice(40),
            _ => least,
        };
        self.demand(length >= least);
        vec![BEFORE; length]
    }

    /// Demands that a call that was right succeeded, and that any other has left what was to be
    /// written as it was.
    #[track_caller]
    pub(super) fn check<T>(&self, result: Result<T, KernelError>, written: &[&[f32]]) -> Option<T> {
        match result {
            Ok(value) => {
                assert!(self.right || self.either, "what is wrong was taken");
                Some(value)
            }
            Err(error) => {
                assert!(!self.right || self.either, "what is right was refused: {error}");
                let untouched = written.iter().all(|slice| slice.iter().all(|&v| v == BEFORE));
                assert!(untouched, "written before it was refused: {error}");
                None
            }
        }
    }

    /// The next call is right again.
    pub(super) fn anew(&mut self) {
        (self.right, self.either) = (true, false);
    }
}
