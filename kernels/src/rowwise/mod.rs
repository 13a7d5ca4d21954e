//! Computations on each row alone, whose rows the threads share: activation functions, layer
//! normalisation and dropout between layers. Must not know blocks or time.

mod activation;
mod dropout;
mod normalisation;

pub use activation::{activate, activation_gradients};
pub use dropout::drop_out;
pub use normalisation::{LayerNormBackward, LayerNormForward};

use crate::error::{check_room, checked_sum};
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::{Isa, KernelError, checked_len};

/// About how many floats a task computes: enough for a task to be worth handing out.
const TASK: usize = 4096;

/// A computation on rows.
///
/// # Safety
/// The implementor promises that [`row`](Self::row) writes nothing that it reads or writes for another
/// row.
unsafe trait RowKernel: Sync {
    /// Computes row `row`.
    ///
    /// # Safety
    /// The row is below the number of rows for which the kernel's memory was checked, and that memory is
    /// valid and nobody else's.
    unsafe fn row<S: Simd>(&self, simd: S, row: usize);
}

/// The rows of a kernel, in tasks of several rows.
struct Tasks<'a, K> {
    kernel: &'a K,
    rows: usize,
    /// Rows of a task.
    of_task: usize,
}

// SAFETY: the number of tasks follows from the sizes; tasks have rows of their own, and the kernel
// promises that rows do not touch each other.
unsafe impl<K: RowKernel> Phases for Tasks<'_, K> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.rows.div_ceil(self.of_task)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let first = task * self.of_task;
        for row in first..self.rows.min(first + self.of_task) {
            // SAFETY: the row is below `rows`; whoever made the tasks lends the memory.
            unsafe { self.kernel.row(simd, row) };
        }
    }
}

/// Runs a kernel on `rows` rows of `width` floats.
///
/// # Safety
/// The kernel's memory is valid for that many rows, and nobody else uses it.
unsafe fn run<K: RowKernel>(kernel: &K, rows: usize, width: usize, isa: Isa, pass: &mut Pass<'_>) {
    let tasks = Tasks { kernel, rows, of_task: (TASK / width.max(1)).max(1) };
    // SAFETY: the caller lends the memory.
    unsafe { pass.run(isa, &tasks) };
}

/// Rows of floats that are a stride apart.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// The floats of all rows. After the last row's there may be fewer than a stride.
    pub values: &'a [f32],
    /// Floats from one row to the next.
    pub stride: usize,
}

/// Rows of floats that are a stride apart, to be written.
#[derive(Debug)]
pub struct StridedMut<'a> {
    /// The floats of all rows. After the last row's there may be fewer than a stride.
    pub values: &'a mut [f32],
    /// Floats from one row to the next.
    pub stride: usize,
}

/// Returns an error unless there is room for `rows` rows of `width` floats, `stride` floats apart.
pub(crate) fn check(
    what: &'static str,
    len: usize,
    stride: usize,
    rows: usize,
    width: usize,
) -> Result<(), KernelError> {
    check_room("stride", stride, width)?;
    if rows > 0 {
        let others = checked_len(what, &[rows - 1, stride])?;
        check_room(what, len, checked_sum(what, &[others, width])?)?;
    }
    Ok(())
}
