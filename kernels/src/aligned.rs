//! A buffer of f32 that starts on a cache line. Knows how to allocate memory; must not know
//! how values are laid out in it.

use crate::KernelError;
use crate::tuning::HUGE_PAGE;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The alignment of a buffer in bytes: a cache line, which is also the widest vector.
pub const ALIGNMENT: usize = 64;

/// A buffer of a fixed number of f32, aligned to [`ALIGNMENT`] bytes and filled with zeros
/// when it is made.
pub struct AlignedBuffer {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: the buffer owns its memory and hands it out by the usual borrow rules.
unsafe impl Send for AlignedBuffer {}
// SAFETY: as above; shared access is read-only.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// Returns a buffer without floats, which takes no memory.
    pub fn empty() -> Self {
        Self { start: NonNull::<Line>::dangling().cast(), len: 0 }
    }

    /// Allocates a buffer of `len` zeros.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`] where the allocator refuses or the size does
    /// not fit the address space.
    pub fn try_new(len: usize) -> Result<Self, KernelError> {
        if len == 0 {
            return Ok(Self::empty());
        }
        let out_of_memory = KernelError::OutOfMemory { bytes: len.saturating_mul(4) };
        let Some(layout) = Self::layout(len) else { return Err(out_of_memory) };
        // SAFETY: the layout's size is not zero, since len > 0.
        let start =
            unsafe { if layout.size() < HUGE_PAGE { alloc_zeroed(layout) } else { alloc(layout) } };
        let start = NonNull::new(start).ok_or(out_of_memory)?;
        if layout.size() >= HUGE_PAGE {
            // SAFETY: the allocation has `layout.size()` bytes.
            unsafe {
                ask_for_huge_pages(start, layout.size());
                start.write_bytes(0, layout.size());
            }
        }
        Ok(Self { start: start.cast(), len })
    }

    fn layout(len: usize) -> Option<Layout> {
        let layout = Layout::array::<f32>(len).ok()?;
        layout.align_to(if layout.size() < HUGE_PAGE { ALIGNMENT } else { HUGE_PAGE }).ok()
    }
}

/// Asks the operating system for huge pages, which need fewer entries in the TLB.
///
/// # Safety
/// The `bytes` bytes from `start` on are an allocation.
unsafe fn ask_for_huge_pages(start: NonNull<u8>, bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: the bytes are an allocation, and the advice changes none of them. An operating
    // system that does not follow the advice leaves the pages as they are.
    unsafe {
        libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
    }
    #[cfg(any(miri, not(target_os = "linux")))]
    let _ = (start, bytes);
}

/// A type with the alignment of a buffer, for the dangling address of an empty one.
#[repr(align(64))]
struct Line;

const _: () = assert!(align_of::<Line>() == ALIGNMENT);

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        if let (1.., Some(layout)) = (self.len, Self::layout(self.len)) {
            // SAFETY: `try_new` allocated this address with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        let mut copy = Self::try_new(self.len).unwrap_or_else(|_| {
            handle_alloc_error(Self::layout(self.len).unwrap_or(Layout::new::<Line>()))
        });
        copy.copy_from_slice(self);
        copy
    }
}

impl Deref for AlignedBuffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `try_new` allocated len floats and zeroed them; where len = 0 the pointer is
        // dangling and aligned.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuffer({} f32)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_line_and_is_zero() {
        for len in [0, 1, 15, 16, 17, 4097] {
            let buffer = AlignedBuffer::try_new(len).unwrap();
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    fn a_size_beyond_memory_is_an_error() {
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4 - 64] {
            let error = AlignedBuffer::try_new(len).unwrap_err();
            assert!(matches!(error, KernelError::OutOfMemory { .. }), "{error}");
        }
    }
}
