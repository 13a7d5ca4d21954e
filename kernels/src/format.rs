//! How packed weights are stored, and what a weight is rounded to. Knows numbers; must not
//! know where they lie.

use crate::KernelError;
use half::bf16;

/// How packed weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// As they are.
    #[default]
    F32,
    /// Rounded to 8 significant bits, ties to even, and to the largest that there is where that
    /// would be ∞: off by 2⁻⁸ of the value at most. An ∞ and a NaN stay what they are.
    Bf16,
    /// Rounded to multiples of a scale per output, a 127th of the largest of its
    /// weights: off by half of that at most.
    Int8,
}

impl Format {
    /// Bytes of a weight.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// The f32 that a weight of an output, the largest of which has the magnitude
    /// `largest`, is taken for.
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

    /// `Ok` where all of `weights` can be stored so: int8 has no infinity and no NaN.
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

/// The nearest that is finite, of a weight that is.
pub(crate) fn to_bf16(weight: f32) -> bf16 {
    let nearest = bf16::from_f32(weight);
    if nearest.is_infinite() && weight.is_finite() {
        return bf16::MAX.copysign(nearest);
    }
    nearest
}

/// The scale of an output: 127 of it are finite. One that is not normal would be flushed in a
/// pass.
pub(crate) fn scale(largest: f32) -> f32 {
    let scale = largest / 127.0;
    match scale.is_normal() {
        true if (127.0 * scale).is_infinite() => scale.next_down(),
        true => scale,
        false => 0.0,
    }
}

pub(crate) fn quantised(weight: f32, scale: f32) -> i8 {
    // The cast saturates, and takes the 0 / 0 of an output without weights for 0.
    (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8
}
