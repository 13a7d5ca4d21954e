//! A backward step of an sLSTM. Knows where the units lie in memory; must not know the equations.

use super::cell::{self, Gradients, Later};
use super::sizes::{HeadKernel, SlstmForget, SlstmSizes, Tasks};
use crate::each::each;
use crate::error::{check_len, check_room};
use crate::rows::{At, Rows, RowsMut};
use crate::rowwise::{Strided, check};
use crate::simd::Simd;
use crate::team::Pass;
use crate::{Isa, KernelError};

/// A backward step.
#[derive(Debug)]
pub struct SlstmBackward<'a> {
    /// The sizes.
    pub sizes: SlstmSizes,
    /// The forget gate.
    pub forget: SlstmForget,
    /// What the forward step has left, `[rows, 4, H]`. ∂L/∂ of the gates' sums replaces it.
    pub gates: &'a mut [f32],
    /// The slopes that the forward step has kept, if any.
    pub slopes: &'a [f32],
    /// c before the step, `[rows, H]`; there may be more rows.
    pub c_before: &'a [f32],
    /// n before the step, as c.
    pub n_before: &'a [f32],
    /// n after the step, `[rows, H]`.
    pub n: &'a [f32],
    /// h.
    pub y: Strided<'a>,
    /// ∂L/∂ of the output.
    pub dy: Strided<'a>,
    /// ∂L/∂h through the later steps, `[K, B, D]`.
    pub dh: &'a [f32],
    /// ∂L/∂c, `[B, H]`: after the step, without the part that comes through h, when this is called,
    /// and before it when it returns. m counts as a constant.
    pub dc: &'a mut [f32],
    /// ∂L/∂n, as dc.
    pub dn: &'a mut [f32],
    /// Where ∂L/∂ of the gates' sums goes a second time, `[K, B, 4, D]`, as the products read it.
    pub dz: &'a mut [f32],
}

impl SlstmBackward<'_> {
    /// Computes the step.
    ///
    /// # Errors
    /// As for [`SlstmForward::run`](super::SlstmForward::run).
    pub fn run(self, isa: Isa, pass: &mut Pass<'_>) -> Result<(), KernelError> {
        let SlstmSizes { batch, rows, units, .. } = self.sizes;
        let hidden = self.sizes.check()?;
        let (of_rows, of_sequences) = (rows * hidden, batch * hidden);
        check_len("gates", self.gates.len(), 4 * of_rows)?;
        let slopes = self.forget == SlstmForget::Logistic;
        check_len("slopes", self.slopes.len(), usize::from(slopes) * of_rows)?;
        check_room("c before", self.c_before.len(), of_rows)?;
        check_room("n before", self.n_before.len(), of_rows)?;
        check_len("n", self.n.len(), of_rows)?;
        check("y", self.y.values.len(), self.y.stride, rows, hidden)?;
        check("dy", self.dy.values.len(), self.dy.stride, rows, hidden)?;
        check_len("dh", self.dh.len(), of_sequences)?;
        check_len("dc", self.dc.len(), of_sequences)?;
        check_len("dn", self.dn.len(), of_sequences)?;
        check_len("dz", self.dz.len(), 4 * of_sequences)?;
        let kernel = Step {
            batch,
            units,
            hidden,
            gates: RowsMut::new(self.gates.as_mut_ptr(), 4 * hidden),
            slopes: slopes.then(|| Rows::new(self.slopes.as_ptr(), hidden)),
            c_before: Rows::new(self.c_before.as_ptr(), hidden),
            n_before: Rows::new(self.n_before.as_ptr(), hidden),
            n: Rows::new(self.n.as_ptr(), hidden),
            y: Rows::new(self.y.values.as_ptr(), self.y.stride),
            dy: Rows::new(self.dy.values.as_ptr(), self.dy.stride),
            dh: Rows::new(self.dh.as_ptr(), units),
            dc: RowsMut::new(self.dc.as_mut_ptr(), hidden),
            dn: RowsMut::new(self.dn.as_mut_ptr(), hidden),
            dz: RowsMut::new(self.dz.as_mut_ptr(), 4 * units),
        };
        // SAFETY: all slices were just checked and were borrowed for this call.
        unsafe { pass.run(isa, &Tasks::new(&kernel, self.sizes)) };
        Ok(())
    }
}

/// A step after the checks.
struct Step {
    batch: usize,
    units: usize,
    hidden: usize,
    gates: RowsMut,
    slopes: Option<Rows>,
    c_before: Rows,
    n_before: Rows,
    n: Rows,
    y: Rows,
    dy: Rows,
    dh: Rows,
    dc: RowsMut,
    dn: RowsMut,
    dz: RowsMut,
}

// SAFETY: tasks write disjoint parts of the memory behind the pointers, which nobody else uses
// meanwhile.
unsafe impl Sync for Step {}

// SAFETY: a head of a row reads and writes its own units of that row, and its own row of `dh` and `dz`.
unsafe impl HeadKernel for Step {
    #[inline(always)]
    unsafe fn head<S: Simd>(&self, simd: S, row: usize, head: usize) {
        // SAFETY: `SlstmBackward::run` has checked that all of these have the rows of the step or of
        // all sequences, with D units for each of the heads, of which these are some; the slopes are
        // only used if they are there.
        unsafe {
            each!(S, self.units, |unit, lanes| {
                let column = head * self.units + unit;
                let (at, of_head) = (At { row, column }, head * self.batch + row);
                let mut gates = [simd.zero(); 4];
                for gate in 0..4 {
                    let at = At { row, column: gate * self.hidden + column };
                    gates[gate] = self.gates.load(simd, at, lanes);
                }
                // A closure for `map` might be compiled without the instruction set.
                let mut slope = None;
                if let Some(slopes) = self.slopes {
                    slope = Some(slopes.load(simd, at, lanes));
                }
                let later = self.dh.load(simd, At { row: of_head, column: unit }, lanes);
                let made = cell::backward(
                    simd,
                    Later {
                        gates,
                        slope,
                        before: [
                            self.c_before.load(simd, at, lanes),
                            self.n_before.load(simd, at, lanes),
                        ],
                        n: self.n.load(simd, at, lanes),
                        h: self.y.load(simd, at, lanes),
                        dh: simd.add(later, self.dy.load(simd, at, lanes)),
                        d_state: [self.dc.load(simd, at, lanes), self.dn.load(simd, at, lanes)],
                    },
                );
                let Gradients { gates, before: [dc, dn] } = made;
                for gate in 0..4 {
                    let of_row = At { row, column: gate * self.hidden + column };
                    self.gates.store(simd, of_row, gates[gate], lanes);
                    let of_head = At { row: of_head, column: gate * self.units + unit };
                    self.dz.store(simd, of_head, gates[gate], lanes);
                }
                self.dc.store(simd, at, dc, lanes);
                self.dn.store(simd, at, dn, lanes);
            });
        }
    }
}
