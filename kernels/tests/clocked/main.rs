//! Passes of units in groups: what is refused, with nothing written; slices that end at pages that
//! may not be touched; and sequences of different lengths, each of which has the bits of itself
//! alone.

#[path = "../common/mod.rs"]
mod common;

mod case;
mod errors;
mod passes;

use bptt_kernels::recurrence::{Clock, Group, MoveRows, RaggedMoves, RaggedRows};
use bptt_kernels::{Isa, PackedMatrix};
use bptt_reference::sample::uniform;
use common::{by_columns, by_rows, keep};

#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: common::guarded::GuardLines = common::guarded::GuardLines;

const STEPS: usize = 7;

/// Groups with these units and periods, one after the other.
fn groups(of: &[(usize, usize)]) -> Vec<Group> {
    let mut first = 0;
    let place = |&(units, period): &(usize, usize)| {
        first += units;
        Group { units, first: first - units, period }
    };
    of.iter().map(place).collect()
}

fn hidden(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.units).sum()
}

/// W of each group, packed by rows or by columns.
fn weights(isa: Isa, groups: &[Group], back: bool) -> Vec<PackedMatrix> {
    let pack = |group: &Group| {
        let depth = hidden(groups) - group.first;
        let w = uniform(group.first as u64, group.units * depth, 0.5);
        if back { by_columns(isa, group.units, &w) } else { by_rows(isa, 1, depth, &w) }
    };
    groups.iter().map(pack).collect()
}

/// The rows of sequences of these lengths, the longest first.
fn ragged(lengths: &[usize], groups: &[Group]) -> MoveRows<'static> {
    let mut starts = vec![0];
    for step in 0..lengths[0] {
        starts.push(starts[step] + lengths.iter().filter(|&&len| len > step).count());
    }
    let rows = RaggedRows::new(starts, lengths.len()).unwrap();
    keep(RaggedMoves::new(rows.step_rows(), groups).unwrap()).move_rows()
}

/// The steps of a pass from `start` on at which a group moves.
fn moves(group: &Group, start: u64, steps: usize) -> impl Iterator<Item = usize> {
    let period = group.period as u128;
    (0..steps).filter(move |&step| (u128::from(start) + step as u128).is_multiple_of(period))
}

/// Floats of z.
fn kept(groups: &[Group], start: u64, rows: MoveRows<'_>) -> usize {
    let schedule = rows.schedule();
    let of_group = |group| moves(group, start, schedule.steps()).map(|step| schedule.count(step));
    groups.iter().map(|group| of_group(group).sum::<usize>() * group.units).sum()
}

#[test]
fn moves_are_counted() {
    let groups = groups(&[(1, 1), (1, 2), (1, 3), (1, 7), (1, 65_536)]);
    let lengths = [40, 40, 31, 8, 8, 8, 1, 0];
    for start in (0..20).chain([u64::MAX - 20]) {
        let clock = Clock { groups: &groups, start };
        let (dense, ragged) = (MoveRows::dense(40, 3), ragged(&lengths, &groups));
        for (at, group) in groups.iter().enumerate() {
            let all: Vec<usize> = moves(group, start, 40).collect();
            for steps in 0..=40 {
                let expected = all.iter().filter(|&&t| t < steps).count();
                assert_eq!(clock.moves(at, steps), expected, "{group:?} from {start}");
            }
            let mut rows = 0;
            for (nth, &t) in all.iter().enumerate() {
                assert_eq!(clock.step_of(at, nth), t);
                assert_eq!(dense.before(&clock, at, nth), 3 * nth);
                assert_eq!(ragged.before(&clock, at, nth), rows, "{group:?} from {start}");
                rows += lengths.iter().filter(|&&len| len > t).count();
            }
            assert_eq!(ragged.before(&clock, at, all.len()), rows);
        }
    }
}
