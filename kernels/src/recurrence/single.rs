//! One step of one sequence, as real-time audio needs it. Such a step is so short that the work of
//! [`Forward`](super::Forward) for steps, batches and threads would be a large part of it.

use super::dims::Recurrent;
use super::forward::{History, Input, Operands, Second, Step};
use super::row::Row;
use super::schedule::StepRows;
use super::step;
use crate::cells::{Cell, Epilogue, Equations, Geometry, Hard, with_equations};
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

/// One step of one sequence, with the product of the input, on the calling thread. R is the length
/// of `h`, and I is the length of `x`. The only delay must be 1: the step reads the state of the
/// step before and no older one.
///
/// With few units most of the time is the latency of instructions that wait for one another. With
/// more units the weights no longer fit the first-level cache, and reading them takes longer.
/// `cargo bench --bench latency` measures it.
#[derive(Debug)]
pub struct Single<'a> {
    /// Hidden units, H.
    pub hidden: usize,
    /// The cell. It is a reference because copying the cell would stall: the copy loads whole
    /// vectors from memory that has just been written in words.
    pub cell: &'a Cell<'a>,
    /// U packed by rows, with G gates.
    pub input: &'a PackedMatrix,
    /// The recurrent weights, packed by rows, as for [`Forward`](super::Forward).
    pub recurrent: Recurrent<'a>,
    /// b, `[G, H]`.
    pub bias: &'a [f32],
    /// The input, `[I]`.
    pub x: &'a [f32],
    /// The hidden state, `[R]`, which the step replaces with the next one.
    pub h: &'a mut [f32],
    /// The cell state, `[H]`, which the step replaces with the next one; empty if the cell has
    /// none.
    pub c: &'a mut [f32],
    /// Scratch for the next hidden state, `[R]`.
    pub next: &'a mut [f32],
    /// Scratch for the input's part, `[G, H]`; empty if the step's product includes the input.
    /// [`single_room`] gives its length.
    pub z: &'a mut [f32],
    /// Scratch for the extra blocks, `[E, H]`; empty if no second product reads them.
    /// [`single_room`] gives its length.
    pub extra: &'a mut [f32],
    /// Whether the units are swept from the last to the first. Callers alternate it from step to
    /// step, so that a step first reads the weights that the step before has left in the cache.
    pub backwards: bool,
    /// A layer that is applied to the new hidden state, if any.
    pub output: Option<&'a Dense>,
    /// Where the outputs of that layer are stored, `[O]`.
    pub o: &'a mut [f32],
}

/// Returns the floats that a [`Single`] of `hidden` units needs for its `z` and for its `extra`.
#[inline]
pub fn single_room(cell: &Geometry, hidden: usize) -> [usize; 2] {
    let z = if cell.fuses { 0 } else { cell.gates * hidden };
    [z, if cell.is_double() { cell.extra * hidden } else { 0 }]
}

impl Single<'_> {
    /// Takes the step. The results have the same bits as the results of [`Forward`](super::Forward)
    /// and [`Dense::run`].
    ///
    /// # Errors
    /// [`KernelError`] if a slice does not fit the sizes or weights are packed for something else;
    /// nothing is written then.
    #[inline]
    pub fn run(mut self, isa: Isa) -> Result<(), KernelError> {
        self.dispatch(isa)
    }

    /// Calls `take` for the type of the cell. It is compiled once, here, and not where `run` is
    /// called; `self` is a reference for the same reason as `cell`.
    #[inline(never)]
    fn dispatch(&mut self, isa: Isa) -> Result<(), KernelError> {
        match self.cell {
            Cell::Usual(equations) => with_equations!(equations, |cell| self.take(isa, cell)),
            Cell::Hard(equations) => self.dispatch_hard(isa, equations),
        }
    }

    /// As `dispatch`. It is a function of its own so that the usual cells' does not grow.
    #[inline(never)]
    fn dispatch_hard(
        &mut self,
        isa: Isa,
        equations: &Equations<'_, Hard>,
    ) -> Result<(), KernelError> {
        with_equations!(equations, |cell| self.take(isa, cell))
    }

    /// Takes the step for a cell of known type, so that the sizes to check are constants.
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
        // A single group has read all of h before it writes its units, and so it may overwrite h.
        let in_place = groups == 1 && const { !Self::TWO };
        let input = if const { Self::FUSES } {
            Input::Fused { x: Rows::new(x, u.depth()), weights: u, bias }
        } else {
            for group in 0..u.groups() {
                // SAFETY: `Single::take` has checked x, z, the bias and the weights, and `group` is
                // one of the weights' groups.
                unsafe { gemm::row(simd, x, u, Some(bias), z, group) };
            }
            Input::Computed(Rows::new(z, C::GATES * hidden))
        };
        let now = if in_place { h } else { next };
        let history = History {
            before: Rows::new(h, outputs),
            h: RowsMut::new(now, outputs),
            depth: 1,
            schedule: StepRows::dense(1, 1),
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
            // A single row is not packed.
            scratch: dangling_mut(),
            room: 0,
        };
        // SAFETY: `Single::take` has verified that all slices fit the cell and the units, and that
        // the weights are packed for them. What is both read and written has one pointer for both.
        // Where h is overwritten, the sums of its one group have been computed before.
        let step = unsafe { Step::new(operands) };
        for index in 0..groups {
            let group = if backwards { groups - 1 - index } else { index };
            // `run` and not `simd.call`: a call needs the step in memory, and storing it there
            // takes as long as the products of a small layer. A cell that has no short kernels
            // shares the one that passes call.
            let row = Row { step: &step, group, backwards };
            if const { C::SHORT } { row.run(simd) } else { simd.call(row) }
        }
        if const { Self::TWO }
            && let Some(step) = Second::of(step)
        {
            let groups = step::Step::weights(&step).groups();
            for index in 0..groups {
                let group = if backwards { groups - 1 - index } else { index };
                simd.call(Row { step: &step, group, backwards });
            }
        }
        // SAFETY: `Single::take` has checked every slice against H, R and the outputs of the layer.
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
