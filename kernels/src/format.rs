//! The formats of packed weights, and how each of them rounds a weight. Knows numbers; must
//! not know where they are stored.

use crate::KernelError;
use half::bf16;

/// The number format in which packed weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// The weights are f32 and are not rounded.
    #[default]
    F32,
    /// Weights are rounded to 8 significant bits, ties to even, with an error of at most 2⁻⁸ of
    /// the value. A finite weight that would become ∞ becomes the largest finite value instead;
    /// ∞ and NaN are kept.
    Bf16,
    /// Weights are rounded to multiples of a scale, with an error of at most half the scale.
    /// Each output has its own scale: the largest magnitude of its weights, divided by 127.
    Int8,
}

impl Format {
    /// Returns the number of bytes that a weight takes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Returns the value that `weight` has after rounding to this format; `largest` is the
    /// largest magnitude among the weights of the same output.
    ///
    /// ```
    /// use bptt_kernels::Format;
    ///
    /// assert_eq!(Format::Bf16.rounded(1.003, 2.0), 1.0);
    /// assert_eq!(Format::Int8.rounded(0.6, 127.0), 1.0);
    /// ```
    pub fn rounded(self, weight: f32, largest: f32) -> f32 {
        match self {
            Self::F32 => weight,
            Self::Bf16 => to_bf16(weight).to_f32(),
            Self::Int8 => f32::from(quantised(weight, scale(largest))) * scale(largest),
        }
    }

    /// Returns an error unless all `weights` can be stored in this format: int8 has no ∞ and no
    /// NaN.
    pub(crate) fn check(self, weights: &[f32]) -> Result<(), KernelError> {
        if self != Self::Int8 {
            return Ok(());
        }
        match weights.iter().position(|weight| !weight.is_finite()) {
            None => Ok(()),
            Some(at) => Err(KernelError::NotFinite { what: "weights", at }),
        }
    }
}

/// Rounds a weight to the nearest bf16; a finite weight stays finite.
pub(crate) fn to_bf16(weight: f32) -> bf16 {
    let nearest = bf16::from_f32(weight);
    if nearest.is_infinite() && weight.is_finite() {
        return bf16::MAX.copysign(nearest);
    }
    nearest
}

/// Returns the scale of an output whose weights have magnitudes up to `largest`. 127 · scale is
/// finite. A scale that is not normal becomes 0, as a pass would flush it to 0.
pub(crate) fn scale(largest: f32) -> f32 {
    let scale = largest / 127.0;
    match scale.is_normal() {
        true if (127.0 * scale).is_infinite() => scale.next_down(),
        true => scale,
        false => 0.0,
    }
}

/// Returns `weight` as an integer multiple of `scale`, from −127 to 127.
pub(crate) fn quantised(weight: f32, scale: f32) -> i8 {
    // If all weights of an output are 0, so is the scale; the cast turns the NaN of 0 / 0 into 0.
    (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8
}
