//! The size of the cache that each core has for itself, its second level. Knows the CPU; must not know
//! what is kept in the cache.

use crate::tuning::OWN_CACHE;
use std::sync::OnceLock;

/// Returns the bytes of that cache, as the CPU says, or [`OWN_CACHE`] if it does not.
#[inline]
pub(crate) fn own_cache() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| second_level().unwrap_or(OWN_CACHE))
}

/// Leaf 0x8000_0006 of CPUID has the kibibytes of the second-level cache in the upper half of ECX, on CPUs
/// of AMD and of Intel.
#[cfg(all(target_arch = "x86_64", not(miri)))]
fn second_level() -> Option<usize> {
    use std::arch::x86_64::__cpuid;
    const LEAVES: u32 = 0x8000_0000;
    const CACHES: u32 = 0x8000_0006;
    #[allow(unused_unsafe, reason = "a safe function in later versions of Rust")]
    // SAFETY: each x86-64 CPU has CPUID, and this leaf, which gives the number of the last leaf of its
    // kind.
    let last = unsafe { __cpuid(LEAVES) }.eax;
    if last < CACHES {
        return None;
    }
    #[allow(unused_unsafe, reason = "a safe function in later versions of Rust")]
    // SAFETY: the CPU has this leaf.
    let caches = unsafe { __cpuid(CACHES) };
    let kibibytes = (caches.ecx >> 16) as usize;
    (kibibytes > 0).then_some(kibibytes << 10)
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn second_level() -> Option<usize> {
    None
}

#[cfg(all(test, target_arch = "x86_64", not(miri)))]
mod tests {
    use super::*;

    /// No x86-64 CPU has had less than 128 KiB or more than 16 MiB there.
    #[test]
    fn the_cache_has_a_size_that_there_is() {
        let bytes = second_level().expect("a size");
        assert!((128 << 10..=16 << 20).contains(&bytes), "{bytes}");
        assert_eq!(own_cache(), bytes);
    }
}
