//! One step of the forward pass, as kernels over pointers that have been checked: packing
//! the left operands, one group of units for several rows and for one, and the cell.

use crate::fetch::When;
use crate::left;
use crate::lstm::{Activations, GATES, after, sum};
use crate::pack::PackedMatrix;
use crate::scratch::{self, row_blocks};
use crate::simd::{Kernel, Simd};
use crate::tile::{GROUP, Sums, load_lanes, store_lanes};

/// Where the input's part of the gates comes from.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    Computed { z: *const f32, stride: usize },
    Fused { x: *const f32, weights: &'a PackedMatrix, bias: *const f32 },
}

/// One step: pointers to the first row of each operand.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub batch: usize,
    pub hidden: usize,
    pub activations: Activations,
    pub recurrent: &'a PackedMatrix,
    pub input: Input<'a>,
    pub stored: Option<*mut f32>,
    pub h_prev: *const f32,
    pub h: *mut f32,
    pub s_prev: *const f32,
    pub s: *mut f32,
    /// Room for the rows of `h_prev` and `x`.
    pub scratch: *mut f32,
}

impl<'a> Step<'a> {
    /// Some of its rows.
    #[inline(always)]
    pub(super) fn rows(self, row: usize, rows: usize) -> Step<'a> {
        let (gates, state) = (row * GATES * self.hidden, row * self.hidden);
        let (input, depth) = match self.input {
            Input::Computed { z, stride } => {
                (Input::Computed { z: z.wrapping_add(row * stride), stride }, 0)
            }
            Input::Fused { x, weights, bias } => {
                let x = x.wrapping_add(row * weights.depth());
                (Input::Fused { x, weights, bias }, weights.depth())
            }
        };
        let scratch = left::len(row, self.hidden) + left::len(row, depth);
        Step {
            batch: rows,
            input,
            stored: self.stored.map(|stored| stored.wrapping_add(gates)),
            h_prev: self.h_prev.wrapping_add(state),
            h: self.h.wrapping_add(state),
            s_prev: self.s_prev.wrapping_add(state),
            s: self.s.wrapping_add(state),
            scratch: self.scratch.wrapping_add(scratch),
            ..self
        }
    }

    /// Packs a part of the left operands.
    ///
    /// # Safety
    /// The pointers are good for `batch` rows of their kind.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(&self, s: S, part: usize) {
        s.call(Pack { step: self, part });
    }

    /// The gates and states of one group of units.
    ///
    /// # Safety
    /// As [`pack`](Self::pack), which has been done; the group is one of the weights'.
    #[inline(always)]
    pub(super) unsafe fn sweep<S: Simd>(&self, s: S, group: usize, backwards: bool) {
        if self.batch > 1 {
            s.call(Sweep { step: self, group, backwards });
            return;
        }
        s.call(Row { step: self, group, backwards });
    }
}

/// [`Step::pack`].
struct Pack<'a> {
    step: &'a Step<'a>,
    part: usize,
}

impl Kernel for Pack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, part } = self;
        let (batch, hidden) = (step.batch, step.hidden);
        // SAFETY: the caller's of `Step::pack`: `scratch` has room for the rows of h
        // and of x.
        unsafe {
            left::pack_batch(s, step.h_prev, batch, hidden, step.scratch, part);
            if let Input::Fused { x, weights, .. } = step.input {
                let to = step.scratch.add(left::len(batch, hidden));
                left::pack_batch(s, x, batch, weights.depth(), to, part);
            }
        }
    }
}

/// [`Step::sweep`] of one row.
pub(super) struct Row<'a> {
    pub step: &'a Step<'a>,
    pub group: usize,
    pub backwards: bool,
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, group, backwards } = self;
        let first = group * (GROUP / GATES * S::LANES);
        let place = (group, after(group, step.recurrent.groups(), backwards));
        // A group has the gates of one vector of units or of two.
        // SAFETY: the caller's of `Step::sweep`.
        unsafe {
            if step.hidden - first > S::LANES {
                row::<S, GROUP>(s, step, first, place);
            } else {
                row::<S, GATES>(s, step, first, place);
            }
        }
    }
}

/// The units from `first` of one row, whose `V` sums stay in the registers until they are
/// done.
///
/// # Safety
/// The caller's of [`Step::sweep`]; the units are those of the place's group.
#[inline(always)]
unsafe fn row<S: Simd, const V: usize>(s: S, step: &Step<'_>, first: usize, place: (usize, usize)) {
    let hidden = step.hidden;
    // Whatever V is, a loop over two vectors of units is one that the compiler
    // may leave rolled; the sums must be indexed by constants.
    let second = first + S::LANES;
    let lanes = [S::LANES.min(hidden - first), S::LANES.min(hidden.saturating_sub(second))];
    let start = match step.input {
        Input::Computed { z, .. } => z,
        Input::Fused { bias, .. } => bias,
    };
    let mut z = [[s.zero(); V]; 1];
    // SAFETY: the caller's; a row lies as it would be packed.
    unsafe {
        for v in 0..V {
            let at = start.add(v % GATES * hidden + first + v / GATES * S::LANES);
            z[0][v] = load_lanes(s, at, lanes[v / GATES]);
        }
        if let Input::Fused { x, weights, .. } = step.input {
            weights.multiply_row(s, x, place, &mut z);
        }
        step.recurrent.multiply_row(s, step.h_prev, place, &mut z);
        cell(s, step, 0, first, lanes[0], [z[0][0], z[0][1], z[0][2], z[0][3]]);
        if V > GATES {
            let z = [z[0][V - 4], z[0][V - 3], z[0][V - 2], z[0][V - 1]];
            cell(s, step, 0, second, lanes[1], z);
        }
    }
}

/// [`Step::sweep`] of several rows.
struct Sweep<'a> {
    step: &'a Step<'a>,
    group: usize,
    backwards: bool,
}

impl Kernel for Sweep<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { step, group, backwards } = self;
        let hidden = step.hidden;
        let mut z = scratch::For::<S>::new();
        let packed = step.scratch.cast_const();
        let (h_prev, x) = (packed, packed.wrapping_add(left::len(step.batch, hidden)));
        let place = (group, after(group, step.recurrent.groups(), backwards));
        let columns = step.recurrent.columns(group, S::LANES).swept(backwards);
        for (row, rows) in row_blocks(step.batch) {
            // SAFETY: the caller's of `Step::sweep`: the rows lie in the batch, so in every
            // operand; the group is one of both matrices.
            unsafe {
                let (start, stride) = match step.input {
                    Input::Computed { z, stride } => (z.add(row * stride), stride),
                    Input::Fused { bias, .. } => (bias, 0),
                };
                let to = z.grid();
                let from = Some(columns.grid(start.cast_mut(), stride));
                let mut sums = Sums { from, to, lanes: columns.lanes, whole: columns.whole };
                let units = |start: *const f32| {
                    columns.fetch(start.wrapping_add(row * hidden), hidden, GATES, When::After)
                };
                // What is kept goes to memory that no step has touched before.
                let fetches = [
                    columns.fetch(start, stride, 1, When::Start),
                    units(step.s_prev),
                    units(step.s),
                    units(step.h),
                ];
                let fetches = &fetches[..if step.stored.is_some() { 4 } else { 2 }];
                let state = (h_prev.add(left::len(row, hidden)), step.recurrent);
                let inputs = match step.input {
                    Input::Computed { .. } => [None, Some(state)],
                    Input::Fused { weights, .. } => {
                        [Some((x.add(left::len(row, weights.depth())), weights)), Some(state)]
                    }
                };
                for (a, weights) in inputs.into_iter().flatten() {
                    sum(s, rows, a, weights, place, sums, fetches);
                    sums = sums.resumed();
                }
                for vec in (0..columns.vecs).step_by(GATES) {
                    let (unit, lanes) = (columns.offset[vec], columns.lanes[vec]);
                    for r in 0..rows {
                        let z = [
                            z.get(r, vec),
                            z.get(r, vec + 1),
                            z.get(r, vec + 2),
                            z.get(r, vec + 3),
                        ];
                        cell(s, step, row + r, unit, lanes, z);
                    }
                }
            }
        }
    }
}

/// Finishes a vector of units of a row from the gates' four sums.
///
/// # Safety
/// The row and its `lanes` units from `unit` lie in the operands of `step`.
#[inline(always)]
unsafe fn cell<S: Simd>(
    s: S,
    step: &Step<'_>,
    row: usize,
    unit: usize,
    lanes: usize,
    z: [S::V; GATES],
) {
    let act = step.activations;
    let at = row * step.hidden + unit;
    // SAFETY: the caller's.
    unsafe {
        let i = act.gate(s, z[0]);
        let f = act.gate(s, z[1]);
        let g = act.candidate(s, z[2]);
        let o = act.gate(s, z[3]);
        let s_prev = load_lanes(s, step.s_prev.add(at), lanes);
        let state = s.mul_add(f, s_prev, s.mul(i, g));
        let h = s.mul(o, act.cell(s, state));
        store_lanes(s, step.s.add(at), state, lanes);
        store_lanes(s, step.h.add(at), h, lanes);
        if let Some(gates) = step.stored {
            let gates = gates.add(row * GATES * step.hidden + unit);
            store_lanes(s, gates, i, lanes);
            store_lanes(s, gates.add(step.hidden), f, lanes);
            store_lanes(s, gates.add(2 * step.hidden), g, lanes);
            store_lanes(s, gates.add(3 * step.hidden), o, lanes);
        }
    }
}
