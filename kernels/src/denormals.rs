//! Counts denormal numbers as zero while a pass computes, and then gives the thread back its
//! caller's mode. A state that decays passes through denormals, and operations on these take many
//! times as long on some CPUs. Knows the control register; must not know what is computed.
//!
//! The compiler assumes the default mode, and Rust does not define what code does in another one.
//! In practice a compiler may compute an operation on constants beforehand, or move an operation
//! out of the guard's life; in both cases the result differs by less than the smallest normal
//! number.
//!
//! Miri runs no assembly, so nothing is flushed there.

#[cfg(not(miri))]
use std::arch::asm;

/// The register's bits that flush denormal results to zero and treat denormal operands as zero.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const FLUSH: u64 = 1 << 15 | 1 << 6;
#[cfg(all(target_arch = "aarch64", not(miri)))]
const FLUSH: u64 = 1 << 24;
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
const FLUSH: u64 = 0;

/// While this guard lives, denormals count as zero on its thread.
pub(crate) struct Flushed {
    /// The mode in which the caller was.
    before: u64,
    /// Keeps the guard on its thread, since the mode belongs to the thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Flushed {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        let before = mode();
        // The mode may be set already: audio threads usually set it.
        if before & FLUSH != FLUSH {
            set_mode(before | FLUSH);
        }
        Self { before, _thread: std::marker::PhantomData }
    }
}

impl Drop for Flushed {
    #[inline(always)]
    fn drop(&mut self) {
        if self.before & FLUSH != FLUSH {
            set_mode(self.before);
        }
    }
}

#[inline(always)]
fn mode() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut mode = 0u32;
        // SAFETY: SSE is part of x86_64; the register is stored to a local.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mode, options(nostack, preserves_flags)) };
        u64::from(mode)
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        let mode: u64;
        // SAFETY: reading the control register has no effect.
        unsafe { asm!("mrs {}, fpcr", out(reg) mode, options(nomem, nostack, preserves_flags)) };
        mode
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        FLUSH
    }
}

#[inline(always)]
fn set_mode(mode: u64) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mode = mode as u32;
        // SAFETY: only the bits of `FLUSH`, and of exceptions that were raised since, differ from
        // the mode that the thread had; see the module. The register holds the flags of
        // exceptions, so `preserves_flags` is not promised. Without `nomem` the block counts as
        // touching memory: loads and stores are not moved across it.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack)) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above, but on aarch64 the flags of exceptions are in another register.
    unsafe {
        asm!("msr fpcr, {}", in(reg) mode, options(nostack, preserves_flags))
    };
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = mode;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    fn smallest_halved() -> f32 {
        black_box(f32::MIN_POSITIVE) * black_box(0.5)
    }

    #[test]
    fn denormals_are_zero_within_and_themselves_again_after() {
        let before = mode();
        {
            let _flushed = Flushed::new();
            if FLUSH != 0 {
                assert_eq!(smallest_halved(), 0.0);
            }
            {
                let _inner = Flushed::new();
            }
            assert_eq!(mode() & FLUSH, FLUSH, "an inner guard took the outer one's mode");
        }
        assert_eq!(mode() & !0x3f, before & !0x3f);
        assert_ne!(smallest_halved(), 0.0);
    }

    #[test]
    fn the_mode_comes_back_after_a_panic() {
        let caught = std::panic::catch_unwind(|| {
            let _flushed = Flushed::new();
            panic!("within");
        });
        assert!(caught.is_err());
        assert_ne!(smallest_halved(), 0.0);
    }

    #[test]
    fn a_caller_who_flushes_goes_on_flushing() {
        let outer = Flushed::new();
        drop(Flushed::new());
        if FLUSH != 0 {
            assert_eq!(smallest_halved(), 0.0);
        }
        drop(outer);
    }
}
