//! Memory between two pages that may not be touched.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::{Deref, DerefMut};

/// Bytes of a page.
fn page() -> usize {
    // SAFETY: it reads a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}

/// Whole pages for `bytes`, zeroed, with a guard page before and after; null where
/// there is no memory. Gives the first byte after the first guard.
fn map(bytes: usize) -> *mut u8 {
    let (page, whole) = (page(), bytes.next_multiple_of(page()));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever the system puts it, takes no one's memory, and
    // the pages that are unlocked lie in it.
    unsafe {
        let start =
            libc::mmap(std::ptr::null_mut(), whole + 2 * page, libc::PROT_NONE, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        let inner = start.cast::<u8>().add(page);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // Of no pages an emulator refuses to change anything.
        assert!(whole == 0 || libc::mprotect(inner.cast(), whole, protection) == 0);
        inner
    }
}

/// # Safety
/// [`map`] gave `inner` for so many bytes, and nothing uses them any more.
unsafe fn unmap(inner: *mut u8, bytes: usize) {
    let whole = bytes.next_multiple_of(page()) + 2 * page();
    // SAFETY: the caller's: this is the whole mapping.
    unsafe { libc::munmap(inner.sub(page()).cast(), whole) };
}

/// Where a slice lies between its guard pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It begins right after one.
    Begin,
    /// It ends right before one.
    End,
}

/// A slice beside a guard page.
#[derive(Debug)]
pub struct Guarded {
    inner: *mut u8,
    start: *mut f32,
    len: usize,
}

impl Guarded {
    pub fn new(values: &[f32], side: Side) -> Self {
        let bytes = size_of_val(values);
        let inner = map(bytes);
        assert!(!inner.is_null());
        let skipped = match side {
            Side::Begin => 0,
            Side::End => bytes.next_multiple_of(page()) - bytes,
        };
        let start = inner.wrapping_add(skipped).cast();
        let mut guarded = Self { inner, start, len: values.len() };
        guarded.copy_from_slice(values);
        guarded
    }
}

impl Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `new` has mapped `len` floats there, zeroed.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: `new` has mapped it, for so many floats.
        unsafe { unmap(self.inner, self.len * size_of::<f32>()) };
    }
}

/// Puts what is aligned to cache lines, as packed matrices are, right before a guard
/// page, and leaves the rest to the system.
pub struct GuardLines;

const LINE: usize = bptt_kernels::ALIGNMENT;

// SAFETY: the system's allocator keeps the contract where it is asked; a mapping is
// fresh, zeroed, large enough, and a line's multiple before a page's end is aligned.
unsafe impl GlobalAlloc for GuardLines {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() != LINE {
            // SAFETY: the caller's.
            return unsafe { System.alloc(layout) };
        }
        let bytes = layout.size().next_multiple_of(LINE);
        let inner = map(bytes);
        if inner.is_null() {
            return inner;
        }
        inner.wrapping_add(bytes.next_multiple_of(page()) - bytes)
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if layout.align() != LINE {
            // SAFETY: the caller's.
            return unsafe { System.dealloc(start, layout) };
        }
        let bytes = layout.size().next_multiple_of(LINE);
        let skipped = bytes.next_multiple_of(page()) - bytes;
        // SAFETY: `alloc` mapped it for so many bytes.
        unsafe { unmap(start.wrapping_sub(skipped), bytes) };
    }
}
