//! Denormal numbers count as zero while a pass computes, and the caller's mode
//! comes back after it. A state that decays passes through them, and there an
//! operation takes up to a hundred times as long on some CPUs. Knows the control
//! register; must not know what is computed.
//!
//! The compiler takes the mode for the default one, and Rust does not define what code does
//! in another. What compilers are seen to do is to compute an operation on constants, or to
//! move one out of the guard's life; both give a number that differs by less than the
//! smallest normal one.
//!
//! Miri runs no assembly, and nothing is flushed there.

#[cfg(not(miri))]
use std::arch::asm;

/// The register's bits that flush results to zero and take operands for zero.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const FLUSH: u64 = 1 << 15 | 1 << 6;
#[cfg(all(target_arch = "aarch64", not(miri)))]
const FLUSH: u64 = 1 << 24;
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
const FLUSH: u64 = 0;

/// While it lives this thread's denormals are zero.
pub(crate) struct Flushed {
    /// The caller's mode.
    before: u64,
    /// The guard is the thread's own.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Flushed {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        let before = mode();
        // Audio threads have it set.
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
        // SAFETY: only `FLUSH`, and the exceptions that were raised since, differ from what the
        // thread had; see the module. The flags of exceptions count as flags, so those are not
        // preserved. No memory clobber is left out: loads and stores stay on their side of the
        // block.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mode, options(nostack)) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above, but the flags of exceptions are in another register.
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
