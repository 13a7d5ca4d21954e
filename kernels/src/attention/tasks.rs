//! How attention is split among threads: over query rows, or over source rows. Knows alignments;
//! must not know what is computed.

use super::alignment::Stretch;
use crate::gemm::layout::Span;
use crate::simd::Simd;
use crate::team::{Pass, Phases};
use crate::{Isa, tuning::ATTENTION_TASK};

/// The most query rows, or source rows, that a kernel gets at a time.
pub(super) const BLOCK: usize = 6;

/// A computation on a few query rows of a sequence, or on a few of its source rows.
///
/// # Safety
/// The implementor promises that a call writes rows of `queries` only if [`BY`](Self::BY) is
/// `Queries`, source rows of `part` only if it is `Source`, and nothing else; and that it reads
/// nothing that a call for other such rows writes.
pub(super) unsafe trait Blockwise: Sync {
    /// The rows that are shared among threads.
    const BY: By;

    /// Computes the query rows `queries` with the source rows `part`, which are all of the
    /// sequence's or one block of them.
    ///
    /// # Safety
    /// The rows are a sequence's of the stretch for which the kernel's memory was checked, and that
    /// memory is valid and nobody else's. `place` is where `part` begins among the sequence's
    /// source rows. Neither kind of rows is empty for `Source`, and `queries` is not for `Queries`.
    unsafe fn block<S: Simd>(&self, simd: S, queries: &[usize], part: Span, place: usize);
}

/// Which rows are shared among threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Query rows, each with all source rows of its sequence.
    Queries,
    /// Source rows, each with all query rows of its sequence.
    Source,
}

/// A kernel over a stretch, in tasks of one block or several.
struct Tasks<'a, K> {
    kernel: &'a K,
    stretch: Stretch<'a>,
    /// Blocks of the sequence that has the most.
    blocks: usize,
    /// Blocks of a task.
    of_task: usize,
}

// SAFETY: the number of tasks follows from the sizes. Tasks have query rows, or source rows, of
// their own, since an alignment has no row twice; the kernel promises to write to no others.
unsafe impl<K: Blockwise> Phases for Tasks<'_, K> {
    fn phases(&self) -> usize {
        1
    }

    fn tasks(&self, _phase: usize) -> usize {
        (self.stretch.sequences() * self.blocks).div_ceil(self.of_task)
    }

    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S, _thread: usize, _phase: usize, task: usize) {
        let all = self.stretch.sequences() * self.blocks;
        let first = task * self.of_task;
        for number in first..all.min(first + self.of_task) {
            let (sequence, block) = (number / self.blocks, number % self.blocks);
            let (queries, source) = (self.stretch.rows(sequence), self.stretch.source(sequence));
            let place = block * BLOCK;
            match K::BY {
                By::Queries if place < queries.len() => {
                    let queries = &queries[place..queries.len().min(place + BLOCK)];
                    // SAFETY: these are rows of the stretch, one or more; whoever made the tasks
                    // lends the memory.
                    unsafe { self.kernel.block(simd, queries, source, 0) };
                }
                By::Source if place < source.len && !queries.is_empty() => {
                    let part =
                        Span { first: source.first + place, len: BLOCK.min(source.len - place) };
                    // SAFETY: as for `Queries`.
                    unsafe { self.kernel.block(simd, queries, part, place) };
                }
                By::Queries | By::Source => {}
            }
        }
    }
}

/// Runs a kernel that takes as long as about `work` multiply-adds for each pair of a query row and a
/// source row.
///
/// # Safety
/// The kernel's memory is valid for the stretch, and nobody else uses it.
pub(super) unsafe fn run<K: Blockwise>(
    kernel: &K,
    stretch: Stretch<'_>,
    work: usize,
    isa: Isa,
    pass: &mut Pass<'_>,
) {
    let (steps, usual) = (stretch.steps(), stretch.usual());
    if steps == 0 {
        return;
    }
    let (most, others) = match K::BY {
        By::Queries => (steps, usual),
        By::Source => (stretch.longest(), steps),
    };
    let blocks = most.div_ceil(BLOCK);
    // In a step of one query row a block is one row.
    let of_block = BLOCK.min(most).saturating_mul(others).saturating_mul(work).max(1);
    let of_task = (ATTENTION_TASK / of_block).max(1);
    let tasks = Tasks { kernel, stretch, blocks, of_task };
    // SAFETY: the caller lends the memory.
    unsafe { pass.run(isa, &tasks) };
}
