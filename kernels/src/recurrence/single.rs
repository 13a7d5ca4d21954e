//! One step of one sequence, as real-time audio has it, some tens of nanoseconds long:
//! what [`Forward`](super::Forward) spends on steps, batches and threads would be a third
//! of it.

use super::dims::Recurrent;
use super::forward::{History, Input, Operands, Second, Step};
use super::row::Row;
use super::schedule::Schedule;
use super::step;
use crate::cells::{Cell, Epilogue, Geometry, with_cell};
use crate::denormals::Flushed;
use crate::each::each;
use crate::error::check_len;
use crate::gemm;
use crate::gemm::Dense;
use crate::gemm::rhs::PackedMatrix;
use crate::gemm::tile::{load_lanes, store_lanes};
use crate::rows::{Rows, RowsMut};
use crate::simd::{Kernel, Simd};
use crate::{Isa, KernelError};
use std::ptr::dangling_mut;

/// A step of one sequence, with the product of the input, on the calling thread. R is
/// the length of `h`, I that of `x`. For cells whose state is that of the step before.
///
/// Of an LSTM of 16 units more than half of the time is the latency of instructions that wait
/// for one another; of one of 64 the weights no longer fit the first-level cache.
/// `cargo bench --bench latency` measures it.
#[derive(Debug)]
pub struct Single<'a> {
    /// H.
    pub hidden: usize,
    /// The cell. By reference: a copy would load, a vector at a time, what has just been
    /// stored in words.
    pub cell: &'a Cell<'a>,
    /// U packed by rows, with G gates.
    pub input: &'a PackedMatrix,
    /// The recurrent weights, packed by rows, as [`Forward`](super::Forward) has them.
    pub recurrent: Recurrent<'a>,
    /// b, `[G, H]`.
    pub bias: &'a [f32],
    /// `[I]`.
    pub x: &'a [f32],
    /// The hidden state, `[R]`.
    pub h: &'a mut [f32],
    /// The cell state, `[H]`, or nothing.
    pub c: &'a mut [f32],
    /// Room for the next hidden state, `[R]`.
    pub next: &'a mut [f32],
    /// Room for the input's part, `[G, H]`, where it is no part of the step's product.
    pub z: &'a mut [f32],
    /// Room for what is beside the gates, `[E, H]`, where a second product reads it.
    pub extra: &'a mut [f32],
    /// Whether the units are swept from the last to the first. In turns with the other way
    /// it finds what the step before has left in the cache.
    pub backwards: bool,
    /// A layer that the hidden state goes through.
    pub output: Option<&'a Dense>,
    /// Where its outputs go, `[O]`.
    pub o: &'a mut [f32],
}

/// Floats of room that a [`Single`] of so many units needs for its `z` and `extra`.
#[inline]
pub fn single_room(cell: &Geometry, hidden: usize) -> [usize; 2] {
    let z = if cell.fuses { 0 } else { cell.gates * hidden };
    [z, if cell.is_double() { cell.extra * hidden } else { 0 }]
}

impl Single<'_> {
    /// Takes the step; the bits are those of [`Forward`](super::Forward) and of
    /// [`Dense::run`].
    ///
    /// # Errors
    /// [`KernelError`] where a slice does not fit the dimensions or weights are packed
    /// for something else; nothing is written then.
    #[inline]
    pub fn run(mut self, isa: Isa) -> Result<(), KernelError> {
        self.dispatch(isa)
    }

    /// Compiled here, not where it is called; by reference for the same reason as the cell.
    #[inline(never)]
    fn dispatch(&mut self, isa: Isa) -> Result<(), KernelError> {
        with_cell!(self.cell, |cell| self.take(isa, cell))
    }

    /// With the cell's type known, so that what is checked against it are constants.
    #[inline(always)]
    fn take<C: Epilogue>(&mut self, isa: Isa, cell: &C) -> Result<(), KernelError> {
        let geometry = const { Geometry::new::<C>() };
        let (hidden, outputs) = (self.hidden, self.h.len());
        check_len("recurrent weights", self.recurrent.weights.len(), 1)?;
        check_len("delays", self.recurrent.delays.len(), 1)?;
        check_len("delay", self.recurrent.delays[0], 1)?;
        self.recurrent.weights[0].check(isa, C::SUMS, hidden, outputs)?;
        self.recurrent.check_second(isa, geometry.second_product(hidden, outputs))?;
        if !C::PROJECTS {
            check_len("h", outputs, hidden)?;
        }
        cell.check(hidden)?;
        self.input.check(isa, C::GATES, hidden, self.x.len())?;
        check_len("bias", self.bias.len(), C::GATES * hidden)?;
        check_len("c", self.c.len(), if C::CELLS { hidden } else { 0 })?;
        check_len("next", self.next.len(), outputs)?;
        let [z, extra] = single_room(&geometry, hidden);
        check_len("z", self.z.len(), z)?;
        check_len("extra", self.extra.len(), extra)?;
        if let Some(dense) = self.output {
            dense.check(isa, self.o.len(), outputs)?;
        }
        let _flushed = Flushed::new();
        isa.enter(Checked { single: self, cell });
        Ok(())
    }
}

/// A step whose slices have been checked.
struct Checked<'s, 'a, C> {
    single: &'s mut Single<'a>,
    cell: &'s C,
}

impl<C: Epilogue> Checked<'_, '_, C> {
    const TWO: bool = Geometry::new::<C>().is_double();
    const FUSES: bool = Geometry::new::<C>().fuses;
}

impl<C: Epilogue> Kernel for Checked<'_, '_, C> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { single, cell } = self;
        let Single { hidden, input: u, recurrent, backwards, .. } = *single;
        let outputs = single.h.len();
        let (h, next) = (single.h.as_mut_ptr(), single.next.as_mut_ptr());
        let (cells, z) = (single.c.as_mut_ptr(), single.z.as_mut_ptr());
        let (x, bias) = (single.x.as_ptr(), single.bias.as_ptr());
        let groups = recurrent.weights[0].groups();
        // A group has read all of h before it writes its units.
        let in_place = groups == 1 && const { !Self::TWO };
        let input = if const { Self::FUSES } {
            Input::Fused { x: Rows::new(x, u.depth()), weights: u, bias }
        } else {
            for group in 0..u.groups() {
                // SAFETY: `Single::take` has checked x, z, the bias and the weights, of which
                // this is a group.
                unsafe { gemm::row(simd, x, u, Some(bias), z, group) };
            }
            Input::Computed(Rows::new(z, C::GATES * hidden))
        };
        let now = if in_place { h } else { next };
        let history = History {
            before: Rows::new(h, outputs),
            h: RowsMut::new(now, outputs),
            depth: 1,
            schedule: Schedule::dense(1, 1),
        };
        let operands = Operands {
            batch: 1,
            hidden,
            outputs,
            cell: *cell,
            recurrent,
            input,
            gates: None,
            extra: single.extra.as_mut_ptr(),
            t: 0,
            h_prev: history.before,
            h: history.h,
            history: &history,
            noise: None,
            norm: None,
            first_row: 0,
            c_prev: cells,
            c: cells,
            // One row lies as it would be packed.
            scratch: dangling_mut(),
            room: 0,
        };
        // SAFETY: `Single::take` has seen that all slices fit the cell and the units, and that
        // the weights are packed for them; what is read and written has one pointer for both.
        // Where h is overwritten, its one group has been summed before.
        let step = unsafe { Step::new(operands) };
        for turn in 0..groups {
            let group = if backwards { groups - 1 - turn } else { turn };
            // Not called: the step would have to be in memory for it, which takes as long as
            // the products of 16 units.
            Row { step: &step, group, backwards }.run(simd);
        }
        if const { Self::TWO }
            && let Some(step) = Second::of(step)
        {
            let groups = step::Step::weights(&step).groups();
            for turn in 0..groups {
                let group = if backwards { groups - 1 - turn } else { turn };
                simd.call(Row { step: &step, group, backwards });
            }
        }
        // SAFETY: `Single::take` has checked every slice against H, the layer and the outputs.
        unsafe {
            if !in_place {
                each!(S, outputs, |at, lanes| {
                    store_lanes(simd, h.add(at), load_lanes(simd, next.add(at), lanes), lanes);
                });
            }
            if let Some(dense) = single.output {
                dense.row(simd, h, single.o.as_mut_ptr());
            }
        }
    }
}
