//! Hashes of the results of a pass. Knows numbers; must not know what they mean.

/// The hashes of a case, each with the name of the part that was hashed.
pub type Hashes = Vec<(&'static str, u32)>;

/// FNV-1a of 64 bits over the bits of f32 numbers; at the end the two halves are combined. A change
/// goes unnoticed by chance once in 2³² times.
#[derive(Clone, Copy)]
pub struct Hash(u64);

impl Hash {
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// The hash of several buffers, one after the other.
    #[track_caller]
    pub fn of(buffers: &[&[f32]]) -> u32 {
        let Self(hash) = buffers.iter().fold(Self::new(), |hash, buffer| hash.and(buffer));
        (hash ^ hash >> 32) as u32
    }

    /// Continues a hash with `values`, whose number counts too. NaN must not occur: which NaN an
    /// operation gives is not promised.
    #[track_caller]
    pub fn and(self, values: &[f32]) -> Self {
        assert!(values.iter().all(|value| !value.is_nan()), "a NaN among {values:?}");
        let bits = values.iter().map(|value| value.to_bits());
        let words = std::iter::once(values.len() as u32).chain(bits);
        words.flat_map(u32::to_le_bytes).fold(self, |Self(hash), byte| {
            Self((hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        })
    }
}
