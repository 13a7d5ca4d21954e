//! Which query rows attend to which source rows. Knows numbers of rows; must not know what rows
//! hold.

use crate::error::{check_len, check_room};
use crate::gemm::layout::Span;
use crate::{KernelError, checked_len};
use std::ops::Range;

/// Which query rows attend to which source rows, for several sequences. The kernels rely on what
/// [`new`](Self::new) has checked, so a plan makes an alignment once and keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    source: Vec<usize>,
    queries: Vec<usize>,
    rows: Vec<usize>,
    /// The greatest row number of a query, plus 1.
    query_rows: usize,
    /// The most source rows of a sequence.
    longest: usize,
    /// The most query rows of a sequence.
    steps: usize,
}

impl Alignment {
    /// Takes N sequences. Sequence n has the source rows `source[n]..source[n + 1]`, and its query
    /// rows, in order of time, are those numbered `rows[queries[n]..queries[n + 1]]`. A sequence
    /// may have none of either.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] where offsets do not begin with 0 or decrease, or where a row
    /// number is there twice; `Length` where `source` and `queries` have different lengths, or
    /// `rows` is not as long as the last offset of `queries` says; `TooLarge` where a row number
    /// does not fit the address space.
    pub fn new(
        source: Vec<usize>,
        queries: Vec<usize>,
        rows: Vec<usize>,
    ) -> Result<Self, KernelError> {
        let longest = most("source", &source)?;
        let steps = most("queries", &queries)?;
        check_len("queries", queries.len(), source.len())?;
        check_len("rows", rows.len(), queries[queries.len() - 1])?;
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let expected = "each row at most once".to_owned();
            return Err(KernelError::Dimension { what: "rows", given: twice[0], expected });
        }
        let query_rows = match sorted.last() {
            Some(&last) => checked_len("rows", &[last])? + 1,
            None => 0,
        };
        Ok(Self { source, queries, rows, query_rows, longest, steps })
    }

    /// The number of sequences, N.
    pub fn sequences(&self) -> usize {
        self.source.len() - 1
    }

    /// The number of source rows of all sequences.
    pub fn source_rows(&self) -> usize {
        self.source[self.sequences()]
    }

    /// The greatest row number of a query, plus 1: the rows that matrices of queries, weights and
    /// contexts have to have.
    pub fn query_rows(&self) -> usize {
        self.query_rows
    }

    /// The most source rows of a sequence: the least stride of scores and weights.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The most query rows of a sequence.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns all query rows.
    pub fn whole(&self) -> Stretch<'_> {
        Stretch { alignment: self, first: 0, end: self.steps }
    }

    /// Returns a stretch of time: of each sequence the query rows at the places `steps`, as far as
    /// the sequence has them.
    ///
    /// # Errors
    /// [`KernelError::Dimension`] unless `steps` begins no later than it ends, and ends no later
    /// than [`steps`](Self::steps).
    pub fn stretch(&self, steps: Range<usize>) -> Result<Stretch<'_>, KernelError> {
        let Range { start: first, end } = steps;
        if first > end || end > self.steps {
            let given = if first > end { first } else { end };
            let expected = format!("within {} steps", self.steps);
            return Err(KernelError::Dimension { what: "stretch", given, expected });
        }
        Ok(Stretch { alignment: self, first, end })
    }
}

/// Returns the greatest difference of successive offsets.
fn most(what: &'static str, offsets: &[usize]) -> Result<usize, KernelError> {
    let refuse = |given, expected: &str| {
        Err(KernelError::Dimension { what, given, expected: expected.to_owned() })
    };
    match offsets.first() {
        None => return refuse(0, "one offset or more"),
        Some(0) => {}
        Some(&first) => return refuse(first, "offsets from 0"),
    }
    let mut most = 0;
    for pair in offsets.windows(2) {
        match pair[1].checked_sub(pair[0]) {
            Some(len) => most = most.max(len),
            None => return refuse(pair[1], "offsets that do not decrease"),
        }
    }
    Ok(most)
}

/// The query rows of a stretch of time, of all sequences of an [`Alignment`].
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    alignment: &'a Alignment,
    /// The places in time.
    first: usize,
    end: usize,
}

impl<'a> Stretch<'a> {
    /// The number of sequences.
    #[inline(always)]
    pub(super) fn sequences(self) -> usize {
        self.alignment.sequences()
    }

    /// The most query rows of a sequence.
    #[inline(always)]
    pub(super) fn steps(self) -> usize {
        self.end - self.first
    }

    /// The most source rows of a sequence.
    #[inline(always)]
    pub(super) fn longest(self) -> usize {
        self.alignment.longest
    }

    /// The source rows of a sequence: their last is below [`Alignment::source_rows`], and their
    /// number at most [`Alignment::longest`].
    #[inline(always)]
    pub(super) fn source(self, sequence: usize) -> Span {
        let first = self.alignment.source[sequence];
        Span { first, len: self.alignment.source[sequence + 1] - first }
    }

    /// The numbers of a sequence's query rows, which are below [`Alignment::query_rows`]. No number
    /// is there twice, in this sequence and all others.
    #[inline(always)]
    pub(super) fn rows(self, sequence: usize) -> &'a [usize] {
        let Self { alignment: Alignment { queries, rows, .. }, first, end } = self;
        let rows = &rows[queries[sequence]..queries[sequence + 1]];
        &rows[first.min(rows.len())..end.min(rows.len())]
    }

    /// About how many source rows a sequence has.
    pub(super) fn usual(self) -> usize {
        self.alignment.source_rows() / self.sequences().max(1)
    }

    /// Returns an error unless a matrix has a row of `width` floats, `stride` floats apart, for
    /// each query.
    pub(super) fn check_queries(
        self,
        what: &'static str,
        len: usize,
        stride: usize,
        width: usize,
    ) -> Result<(), KernelError> {
        crate::rowwise::check(what, len, stride, self.alignment.query_rows, width)
    }

    /// Returns an error unless scores or weights have a stride of floats for each query, and the
    /// stride has one for each source row of any sequence.
    pub(super) fn check_weights(
        self,
        what: &'static str,
        len: usize,
        stride: usize,
    ) -> Result<(), KernelError> {
        check_room("stride", stride, self.alignment.longest)?;
        check_room(what, len, checked_len(what, &[self.alignment.query_rows, stride])?)
    }

    /// Returns an error unless a matrix has a row of `width` floats, `stride` floats apart, for each
    /// source row.
    pub(super) fn check_source(
        self,
        what: &'static str,
        len: usize,
        stride: usize,
        width: usize,
    ) -> Result<(), KernelError> {
        crate::rowwise::check(what, len, stride, self.alignment.source_rows(), width)
    }
}
