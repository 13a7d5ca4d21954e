//! A forward step of an sLSTM. Knows where the units lie in memory; must not know the equations.

use super::cell::{self, Made, State};
use super::sizes::{HeadKernel, SlstmForget, SlstmSizes, Tasks};
use crate::each::each;
use crate::error::{check_len, check_room};
use crate::rows::{At, Rows, RowsMut};
use crate::rowwise::{StridedMut, check};
use crate::simd::Simd;
use crate::team::Pass;
use crate::{Isa, KernelError, checked_len};

/// Where a forward step leaves what a backward step reads, beside the gates.
#[derive(Debug)]
pub struct SlstmKept<'a> {
    /// c after the step, `[rows, H]`.
    pub c: &'a mut [f32],
    /// n after the step, `[rows, H]`.
    pub n: &'a mut [f32],
    /// d log f / df̃, `[rows, H]`, if the forget gate is logistic; otherwise nothing.
    pub slopes: &'a mut [f32],
}

/// A forward step.
#[derive(Debug)]
pub struct SlstmForward<'a> {
    /// The sizes.
    pub sizes: SlstmSizes,
    /// The forget gate.
    pub forget: SlstmForget,
    /// `b + U x`, of the gates i, f, z and o: `[rows, gates_stride]`, where the first 4H floats of a
    /// row are `[4, H]`. If anything is [kept](Self::kept), i', f', z and o replace them.
    pub gates: &'a mut [f32],
    /// Floats from one row of `gates` to the next, 4H or more.
    pub gates_stride: usize,
    /// `R h₋`, `[K, B, recurrent_stride]`, where the first 4D floats of a row are `[4, D]`.
    pub recurrent: &'a [f32],
    /// Floats from one row of `recurrent` to the next, 4D or more.
    pub recurrent_stride: usize,
    /// c, `[B, H]`: before the step when this is called, and after it when it returns.
    pub c: &'a mut [f32],
    /// n, as c.
    pub n: &'a mut [f32],
    /// m, as c.
    pub m: &'a mut [f32],
    /// Where h goes, one row after the other.
    pub y: StridedMut<'a>,
    /// Where h goes a second time, `[K, B, D]`, as the products of the next step read it.
    pub h: &'a mut [f32],
    /// Where the rest of what a backward step reads goes, if there will be one.
    pub kept: Option<SlstmKept<'a>>,
}

impl SlstmForward<'_> {
    /// Computes the step.
    ///
    /// # Errors
    /// [`KernelError::Length`] or `Short` if a slice or a stride does not fit, `TooLarge` if the sizes
    /// do not fit the address space; nothing is written then.
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let SlstmSizes { batch, rows, heads, units } = self.sizes;
        let hidden = self.sizes.check()?;
        check("gates", self.gates.len(), self.gates_stride, rows, 4 * hidden)?;
        check_room("recurrent_stride", self.recurrent_stride, 4 * units)?;
        let recurrent = checked_len("recurrent", &[heads, batch, self.recurrent_stride])?;
        check_len("recurrent", self.recurrent.len(), recurrent)?;
        let of_sequences = batch * hidden;
        check_len("c", self.c.len(), of_sequences)?;
        check_len("n", self.n.len(), of_sequences)?;
        check_len("m", self.m.len(), of_sequences)?;
        check("y", self.y.values.len(), self.y.stride, rows, hidden)?;
        check_len("h", self.h.len(), of_sequences)?;
        let kept = match self.kept {
            None => None,
            Some(SlstmKept { c, n, slopes }) => {
                check_len("kept c", c.len(), rows * hidden)?;
                check_len("kept n", n.len(), rows * hidden)?;
                let count = usize::from(self.forget == SlstmForget::Logistic);
                check_len("slopes", slopes.len(), count * rows * hidden)?;
                Some([c, n, slopes].map(|of| RowsMut::new(of.as_mut_ptr(), hidden)))
            }
        };
        let kernel = Step {
            forget: self.forget,
            batch,
            units,
            hidden,
            gates: RowsMut::new(self.gates.as_mut_ptr(), self.gates_stride),
            recurrent: Rows::new(self.recurrent.as_ptr(), self.recurrent_stride),
            c: RowsMut::new(self.c.as_mut_ptr(), hidden),
            n: RowsMut::new(self.n.as_mut_ptr(), hidden),
            m: RowsMut::new(self.m.as_mut_ptr(), hidden),
            y: RowsMut::new(self.y.values.as_mut_ptr(), self.y.stride),
            h: RowsMut::new(self.h.as_mut_ptr(), units),
            kept,
        };
        // SAFETY: all slices were just checked and were borrowed for this call.
        unsafe { pass.run(isa, &Tasks::new(&kernel, self.sizes)) };
        Ok(())
    }
}

/// A step after the checks.
struct Step {
    forget: SlstmForget,
    batch: usize,
    units: usize,
    hidden: usize,
    gates: RowsMut,
    recurrent: Rows,
    c: RowsMut,
    n: RowsMut,
    m: RowsMut,
    y: RowsMut,
    h: RowsMut,
    /// c, n and the slopes.
    kept: Option<[RowsMut; 3]>,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl Sync for Step {}

// SAFETY: a head of a row reads and writes its own units of that row, and writes those of its own row
// of `h`.
unsafe impl HeadKernel for Step {
    #[inline(always)]
    unsafe fn head<S: Simd>(&self, simd: S, row: usize, head: usize) {
        // SAFETY: `SlstmForward::run` has checked that all of these have the rows of the step or of all
        // sequences, with D units for each of the heads, of which these are some.
        unsafe {
            each!(S, self.units, |unit, lanes| {
                let column = head * self.units + unit;
                let (at, of_head) = (At { row, column }, head * self.batch + row);
                let mut sums = [simd.zero(); 4];
                for gate in 0..4 {
                    let of_input = At { row, column: gate * self.hidden + column };
                    let of_state = At { row: of_head, column: gate * self.units + unit };
                    sums[gate] = simd.add(
                        self.gates.load(simd, of_input, lanes),
                        self.recurrent.load(simd, of_state, lanes),
                    );
                }
                let before = State {
                    c: self.c.load(simd, at, lanes),
                    n: self.n.load(simd, at, lanes),
                    m: self.m.load(simd, at, lanes),
                };
                let made = cell::forward(simd, self.forget, sums, before);
                let Made { gates, state: State { c, n, m }, h } = made;
                self.c.store(simd, at, c, lanes);
                self.n.store(simd, at, n, lanes);
                self.m.store(simd, at, m, lanes);
                self.y.store(simd, at, h, lanes);
                self.h.store(simd, At { row: of_head, column: unit }, h, lanes);
                if let Some([kept_c, kept_n, slopes]) = self.kept {
                    for gate in 0..4 {
                        let at = At { row, column: gate * self.hidden + column };
                        self.gates.store(simd, at, gates[gate], lanes);
                    }
                    kept_c.store(simd, at, c, lanes);
                    kept_n.store(simd, at, n, lanes);
                    if let Some(slope) = cell::slope(simd, self.forget, sums[1]) {
                        slopes.store(simd, at, slope, lanes);
                    }
                }
            });
        }
    }
}
