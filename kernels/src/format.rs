//! The formats of packed weights, and how each of them rounds a weight. Knows numbers; must
//! not know where they are stored.

use crate::KernelError;

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
            Self::Bf16 => of_bf16(to_bf16(weight)),
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

/// Rounds a weight to the nearest bf16, the upper half of an f32's bits; a finite weight stays
/// finite.
pub(crate) fn to_bf16(weight: f32) -> u16 {
    let bits = weight.to_bits();
    let upper = (bits >> 16) as u16;
    if weight.is_nan() {
        // The quiet bit, since the upper half alone may have no bit of the NaN.
        return upper | 0x0040;
    }
    // Carries into the upper half from one half on, and at exactly one half if that is odd.
    let nearest = ((bits + 0x7fff + u32::from(upper & 1)) >> 16) as u16;
    let is_infinite = nearest & 0x7fff == 0x7f80;
    // The largest finite value is the one before ∞.
    if is_infinite && weight.is_finite() { nearest - 1 } else { nearest }
}

/// Returns the value of a bf16.
fn of_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
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

#[cfg(test)]
mod tests {
    use super::{of_bf16, to_bf16};

    /// Every upper half with the lower halves about where rounding changes, by the definition: no
    /// bf16 is nearer, and of two that are equally near it is the one whose last bit is 0.
    #[test]
    fn bf16_is_the_nearest() {
        for upper in 0..=u16::MAX {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let weight = f32::from_bits(u32::from(upper) << 16 | lower);
                let (bits, rounded) = (to_bf16(weight), of_bf16(to_bf16(weight)));
                if !weight.is_finite() {
                    assert!(rounded == weight || rounded.is_nan() && weight.is_nan());
                    continue;
                }
                assert!(rounded.is_finite(), "{weight:e}");
                let error = |bits: u16| (f64::from(of_bf16(bits)) - f64::from(weight)).abs();
                for neighbour in [bits.wrapping_sub(1), bits.wrapping_add(1)] {
                    let (here, there) = (error(bits), error(neighbour));
                    let nearer = here < there || here == there && bits & 1 == 0;
                    assert!(nearer || !of_bf16(neighbour).is_finite(), "{weight:e}");
                }
            }
        }
    }
}
