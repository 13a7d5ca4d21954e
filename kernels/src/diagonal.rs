//! Sums of element-wise products over time, `c += Σ a ⊙ b`: the gradients of weights of which
//! each unit has one (peepholes, leaks, biases). Knows strides; must not know cells.

use crate::error::{check_room, checked_sum};
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::rows::{Joined, JoinedAt};
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::{Isa, KernelError, checked_len};

/// Vectors of columns that are summed at once: enough chains to hide the latency of an
/// addition.
const WIDTH: usize = 4;

/// `c = Σ a ⊙ b`, or `c += Σ a ⊙ b`, over the rows of A and B. Each element of C is one chain
/// of additions from the last row to the first. A caller may therefore split the rows among
/// several calls, the last rows first, and gets the same bits as from one call.
#[derive(Debug)]
pub struct Diagonal<'a> {
    /// Rows of A and B: the terms of each sum.
    pub depth: usize,
    /// A, `[depth, columns]`, whose rows are `stride` floats apart.
    pub a: &'a [f32],
    /// Floats from one row of A to the next: the number of columns or more.
    pub stride: usize,
    /// B, `[depth, columns]`; `None` stands for a matrix of ones.
    pub b: Option<Joined<'a>>,
    /// C, the sums, `[columns]`.
    pub c: &'a mut [f32],
    /// Whether the sums are added to C; otherwise they replace it.
    pub accumulate: bool,
}

impl Diagonal<'_> {
    /// Computes the sums.
    ///
    /// # Errors
    /// [`KernelError::Short`] where A or a stride is too short, `Length` where B does not have
    /// `depth` rows of the columns, `TooLarge` where the dimensions do not fit the address space;
    /// nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let columns = self.c.len();
        check_room("stride", self.stride, columns)?;
        if self.depth > 0 {
            let others = checked_len("a", &[self.depth - 1, self.stride])?;
            check_room("a", self.a.len(), checked_sum("a", &[others, columns])?)?;
        }
        if let Some(b) = self.b {
            b.check("b", self.depth, columns)?;
        }
        let work = Work {
            depth: self.depth,
            a: self.a.as_ptr(),
            stride: self.stride,
            b: self.b.map(|b| JoinedAt::new(b, columns)),
            columns,
            c: self.c.as_mut_ptr(),
            accumulate: self.accumulate,
            block: WIDTH * isa.lanes(),
        };
        // SAFETY: A, B and C were borrowed for this call.
        unsafe { pass.run(isa, &work) };
        Ok(())
    }
}

/// The operands of a [`Diagonal`], after the checks. A task is a block of columns.
struct Work<'a> {
    depth: usize,
    a: *const f32,
    stride: usize,
    b: Option<JoinedAt<'a>>,
    columns: usize,
    c: *mut f32,
    accumulate: bool,
    /// Columns per task.
    block: usize,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl Sync for Work<'_> {}

// SAFETY: the number of tasks follows from the sizes, and a task writes its own columns of C.
unsafe impl Phases for Work<'_> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        self.columns.div_ceil(self.block)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let first = task * self.block;
        let columns = self.block.min(self.columns - first);
        let mut lanes = [0; WIDTH];
        let mut offset = [0; WIDTH];
        for v in 0..WIDTH {
            offset[v] = first + (v * S::LANES).min(columns);
            lanes[v] = S::LANES.min(first + columns - offset[v]);
        }
        let mut sums = [simd.zero(); WIDTH];
        // SAFETY: `Diagonal::run` has checked that A, B and C have these columns, in rows of
        // the strides used here.
        unsafe {
            if self.accumulate {
                for v in 0..WIDTH {
                    sums[v] = load_lanes(simd, self.c.add(offset[v]), lanes[v]);
                }
            }
            for row in (0..self.depth).rev() {
                let b = self.b.map(|b| b.at(row, 0));
                for v in 0..WIDTH {
                    let a = load_lanes(simd, self.a.add(row * self.stride + offset[v]), lanes[v]);
                    sums[v] = match b {
                        Some(b) => {
                            let b = load_lanes(simd, b.add(offset[v]), lanes[v]);
                            simd.mul_add(a, b, sums[v])
                        }
                        None => simd.add(sums[v], a),
                    };
                }
            }
            for v in 0..WIDTH {
                store_lanes(simd, self.c.add(offset[v]), sums[v], lanes[v]);
            }
        }
    }
}
