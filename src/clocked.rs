//! What plans, streams and weights of a layer share whose units move in groups: how much
//! there is of what, and the input's part at the steps at which a group moves. Knows groups
//! and steps; must not know states.

#[cfg(test)]
mod tests;

use crate::error::product;
use crate::{Error, Isa};
use bptt_kernels::cells::Activations;
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Clock, Group};
use bptt_kernels::team::Pass;
use bptt_kernels::tuning::{CHUNK_ROWS, ROWS_ALONE};
use bptt_kernels::{KernelError, PackedMatrix};
use std::ops::Range;

/// Of a layer that is clocked: its groups, the shortest period first, and φ.
#[derive(Clone, Copy, Debug)]
pub struct Clocked<'a> {
    pub(crate) groups: &'a [Group],
    pub(crate) activations: Activations,
}

/// A group, and where its rows of U, its W and its biases lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub group: Group,
    pub u: Range<usize>,
    pub w: Range<usize>,
    pub b: Range<usize>,
}

/// The floats of W: of each group its units by all units from its first.
pub(crate) fn recurrent_len(
    what: &'static str,
    groups: &[Group],
    hidden: usize,
) -> Result<usize, KernelError> {
    groups.iter().try_fold(0, |before: usize, group| {
        let len = bptt_kernels::checked_len(what, &[group.units, hidden - group.first])?;
        let end = before.checked_add(len).ok_or(KernelError::TooLarge { what })?;
        bptt_kernels::checked_len(what, &[end])
    })
}

/// How many moves of a group of this period have gathered rows together, in a pass over so
/// many steps.
fn most_gathered(steps: usize, batch: usize, period: usize) -> usize {
    (CHUNK_ROWS / batch).max(1).min(steps.div_ceil(period))
}

impl<'a> Clocked<'a> {
    /// The clock of a pass that begins after so many steps.
    pub(crate) fn at(self, start: u64) -> Clock<'a> {
        Clock { groups: self.groups, start }
    }

    /// The groups in their order, of a layer with so many inputs and units.
    pub(crate) fn places(
        self,
        (input, hidden): (usize, usize),
    ) -> impl Iterator<Item = Place> + use<'a> {
        let mut end = 0;
        self.groups.iter().map(move |&group| {
            let Group { units, first, .. } = group;
            let (start, b) = (end, first..first + units);
            end += units * (hidden - first);
            Place { group, u: b.start * input..b.end * input, w: start..end, b }
        })
    }

    /// Draws the U and W of each group by `fill`, which is given outputs and inputs.
    pub(crate) fn draw(
        self,
        (input, hidden): (usize, usize),
        (u, w): (&mut [f32], &mut [f32]),
        mut fill: impl FnMut(&mut [f32], usize, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for place in self.places((input, hidden)) {
            let Group { units, first, .. } = place.group;
            fill(&mut u[place.u], units, input)?;
            fill(&mut w[place.w], units, hidden - first)?;
        }
        Ok(())
    }

    /// Floats of `[moves, B, units]` of all groups, at the most of any place in a sequence.
    pub(crate) fn most_kept(self, steps: usize, batch: usize) -> Result<usize, Error> {
        self.groups.iter().try_fold(0, |before: usize, group| {
            let moves = steps.div_ceil(group.period);
            let len = product("the arena", &[moves, batch, group.units])?;
            before.checked_add(len).ok_or(Error::TooLarge { what: "the arena" })
        })
    }

    /// The same of a pass that begins there.
    pub(crate) fn kept_len(self, start: u64, steps: usize, batch: usize) -> usize {
        let clock = self.at(start);
        let groups = self.groups.iter().enumerate();
        groups.map(|(at, group)| clock.moves(at, steps) * batch * group.units).sum()
    }

    /// The multiply-adds of so many rows, as many as there are on average.
    pub(crate) fn multiply_adds(self, rows: usize, input: usize, hidden: usize) -> usize {
        let row: f64 = self
            .groups
            .iter()
            .map(|group| {
                group.units as f64 * (input + hidden - group.first) as f64 / group.period as f64
            })
            .sum();
        // A conversion of what is too large gives the largest.
        (row * rows as f64) as usize
    }

    /// Floats of gathered inputs and of gathered states in passes over so many steps. The
    /// group that moves at every step has no need of them.
    pub(crate) fn gathered(
        self,
        (steps, batch): (usize, usize),
        (input, hidden): (usize, usize),
    ) -> Result<[usize; 2], Error> {
        let Some(group) = self.groups.iter().find(|group| group.period > 1) else {
            return Ok([0, 0]);
        };
        let moves = most_gathered(steps, batch, group.period);
        let len = |width| product("the arena", &[moves, batch, width]);
        Ok([len(input)?, len(hidden - group.first)?])
    }
}

/// Moves of a group in runs whose rows are handled together, `alone` saying whether a move
/// is better handled by itself than gathered. Without either the rows lie together already.
pub(crate) fn runs(
    moves: Range<usize>,
    group: &Group,
    batch: usize,
    alone: bool,
) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
    let together = match group.period {
        1 => moves.len().max(1),
        _ if alone && batch >= ROWS_ALONE => 1,
        _ => (CHUNK_ROWS / batch).max(1),
    };
    let end = moves.end;
    moves.step_by(together).map(move |first| first..end.min(first + together))
}

/// Copies the blocks, `len` floats each, of these moves of a group from their steps.
pub(crate) fn gather(
    (clock, group): (&Clock<'_>, usize),
    moves: Range<usize>,
    from: &[f32],
    to: &mut [f32],
) {
    let len = to.len() / moves.len();
    for (nth, to) in moves.zip(to.chunks_exact_mut(len)) {
        to.copy_from_slice(&from[clock.step_of(group, nth) * len..][..len]);
    }
}

/// The input's part of all groups in a stretch of a pass.
pub(crate) struct InputProduct<'a> {
    pub isa: Isa,
    pub clock: Clock<'a>,
    /// The steps that z is for, and those of them that are meant.
    pub steps: usize,
    pub stretch: Range<usize>,
    pub batch: usize,
    /// The input of all of the steps.
    pub x: &'a [f32],
    pub bias: &'a [f32],
    pub z: &'a mut [f32],
    /// Room for the inputs of moves that are gathered.
    pub gathered: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl InputProduct<'_> {
    /// Computes `b + U x` for each group where it moves.
    pub(crate) fn run<'w>(
        self,
        weights: impl Iterator<Item = &'w PackedMatrix>,
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let Self { isa, clock, steps, stretch, batch, x, bias, gathered, scratch, .. } = self;
        let mut rest = self.z;
        for ((at, group), weights) in clock.groups.iter().enumerate().zip(weights) {
            let (move_len, row) = (batch * group.units, batch * weights.depth());
            let (z, tail) = rest.split_at_mut(clock.moves(at, steps) * move_len);
            rest = tail;
            let bias = &bias[group.first..][..group.units];
            let moves = clock.moves(at, stretch.start)..clock.moves(at, stretch.end);
            for run in runs(moves, group, batch, true) {
                let first = clock.step_of(at, run.start);
                let a = if run.len() == 1 || group.period == 1 {
                    &x[first * row..][..run.len() * row]
                } else {
                    let gathered = &mut gathered[..run.len() * row];
                    gather((&clock, at), run.clone(), x, gathered);
                    gathered
                };
                let c = &mut z[run.start * move_len..run.end * move_len];
                let (rows, start, stride) = (run.len() * batch, Start::Bias(bias), group.units);
                Gemm { rows, a, weights, start, c, stride, scratch }.run(isa, pass)?;
            }
        }
        Ok(())
    }
}
