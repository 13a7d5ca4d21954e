//! Alignments of queries with a source, and all that attention computes over them.

use super::Drawn;
use super::drawn::BEFORE;
use bptt_kernels::attention::{
    AdditiveGradients, AdditiveScores, Alignment, Contexts, DotScores, Softmax, SoftmaxGradients,
    SourceGradients, Stretch,
};
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::Pass;
use std::ops::Range;

/// An alignment of a few sequences, or nothing where what was drawn is refused.
fn alignment(drawn: &mut Drawn<'_>) -> Option<Alignment> {
    let sequences = drawn.choice(5);
    let (mut source, mut queries, mut rows) = (vec![0], vec![0], Vec::new());
    let mut row = 0;
    for sequence in 0..sequences {
        source.push(source[sequence] + drawn.choice(12));
        queries.push(queries[sequence] + drawn.choice(6));
        while rows.len() < queries[sequence + 1] {
            row += 1 + drawn.choice(3);
            rows.push(row - 1);
        }
    }
    if drawn.seldom() {
        let offsets = if drawn.flip() { &mut source } else { &mut queries };
        let at = drawn.choice(sequences + 1);
        offsets[at] = drawn.near(offsets[at]);
    }
    if drawn.seldom() && !rows.is_empty() {
        let at = drawn.choice(rows.len());
        rows[at] = drawn.near(rows[at]);
    }
    let offsets = |of: &[usize]| of[0] == 0 && of.is_sorted();
    // The floats of the longest slice, for which `checked_len` leaves room to be aligned.
    let most = isize::MAX as usize / 4 - 64;
    let mut once = rows.clone();
    once.sort_unstable();
    drawn.demand(
        offsets(&source)
            && offsets(&queries)
            && rows.len() == queries[sequences]
            && once.windows(2).all(|pair| pair[0] < pair[1])
            && once.last().is_none_or(|&last| last <= most),
    );
    let made = Alignment::new(source, queries, rows);
    drawn.check(made, &[])
}

/// What the entries are told of: some steps of an alignment, and sizes.
struct Case {
    alignment: Alignment,
    steps: Range<usize>,
    width: usize,
    weights_stride: usize,
}

/// A case, or nothing where its alignment or its stretch is refused.
fn case(drawn: &mut Drawn<'_>) -> Option<Case> {
    let alignment = alignment(drawn)?;
    drawn.anew();
    let (first, end) = (drawn.choice(alignment.steps() + 1), drawn.near(alignment.steps()));
    drawn.demand(first <= end && end <= alignment.steps());
    drawn.check(alignment.stretch(first..end), &[])?;
    drawn.anew();
    let (size, wider) = (drawn.size(40), alignment.longest() + drawn.choice(3));
    let (width, weights_stride) = (drawn.near(size), drawn.near(wider));
    Some(Case { alignment, steps: first..end, width, weights_stride })
}

impl Case {
    fn stretch(&self) -> Stretch<'_> {
        self.alignment.stretch(self.steps.clone()).unwrap()
    }

    /// Scores or weights.
    fn weights(&self, drawn: &mut Drawn<'_>) -> Vec<f32> {
        drawn.demand(self.weights_stride >= self.alignment.longest());
        let least = drawn.product(&[self.alignment.query_rows(), self.weights_stride]);
        drawn.room(least)
    }

    fn queries(&self, drawn: &mut Drawn<'_>) -> (Vec<f32>, usize) {
        drawn.strided(self.alignment.query_rows(), self.width)
    }

    fn source(&self, drawn: &mut Drawn<'_>) -> (Vec<f32>, usize) {
        drawn.strided(self.alignment.source_rows(), self.width)
    }

    /// The vector of additive attention, whose length is the width from then on.
    fn vector(&mut self) -> Vec<f32> {
        self.width = self.width.min(1 << 10);
        vec![BEFORE; self.width]
    }
}

/// Scores of either kind.
pub fn attention_scores(drawn: &mut Drawn<'_>) {
    let Some(mut case) = case(drawn) else { return };
    let vector = drawn.flip().then(|| case.vector());
    let ((queries, stride), (keys, keys_stride)) = (case.queries(drawn), case.source(drawn));
    let mut made = case.weights(drawn);
    let (stretch, width, isa, pass) = (case.stretch(), case.width, drawn.isa, &mut Pass::serial());
    let queries = Strided { values: &queries, stride };
    let keys = Strided { values: &keys, stride: keys_stride };
    let scores = StridedMut { values: &mut made, stride: case.weights_stride };
    let result = match &vector {
        None => DotScores { stretch, width, queries, keys, scores }.run(isa, pass),
        Some(vector) => AdditiveScores { stretch, vector, queries, keys, scores }.run(isa, pass),
    };
    drawn.check(result, &[&made]);
}

/// The softmax of scores, or its gradients.
pub fn attention_weights(drawn: &mut Drawn<'_>) {
    let Some(case) = case(drawn) else { return };
    let weights = drawn.flip().then(|| case.weights(drawn));
    let mut made = case.weights(drawn);
    let (stretch, stride, pass) = (case.stretch(), case.weights_stride, &mut Pass::serial());
    let to = StridedMut { values: &mut made, stride };
    let result = match &weights {
        None => Softmax { stretch, scores: to }.run(drawn.isa, pass),
        Some(values) => {
            let weights = Strided { values, stride };
            SoftmaxGradients { stretch, weights, gradients: to }.run(drawn.isa, pass)
        }
    };
    drawn.check(result, &[&made]);
}

/// Contexts, or the gradients of the source.
pub fn attention_sums(drawn: &mut Drawn<'_>) {
    let Some(case) = case(drawn) else { return };
    let weights = case.weights(drawn);
    let ((mut queries, stride), (mut source, source_stride)) =
        (case.queries(drawn), case.source(drawn));
    let (stretch, width, isa, pass) = (case.stretch(), case.width, drawn.isa, &mut Pass::serial());
    let weights = Strided { values: &weights, stride: case.weights_stride };
    if drawn.flip() {
        let values = Strided { values: &source, stride: source_stride };
        let contexts = StridedMut { values: &mut queries, stride };
        let accumulate = drawn.flip();
        let sums = Contexts { stretch, width, weights, values, contexts, accumulate };
        drawn.check(sums.run(isa, pass), &[&queries]);
    } else {
        let rows = Strided { values: &queries, stride };
        let gradients = StridedMut { values: &mut source, stride: source_stride };
        let sums = SourceGradients { stretch, width, weights, rows, gradients };
        drawn.check(sums.run(isa, pass), &[&source]);
    }
}

/// The gradients of additive scores.
pub fn attention_gradients(drawn: &mut Drawn<'_>) {
    let Some(mut case) = case(drawn) else { return };
    let vector = case.vector();
    let (queries, keys) = (case.queries(drawn), case.source(drawn));
    let (mut dqueries, mut dkeys) = (case.queries(drawn), case.source(drawn));
    let (dscores, mut dvector) = (case.weights(drawn), drawn.floats(&[case.width]));
    let gradients = AdditiveGradients {
        stretch: case.stretch(),
        vector: &vector,
        queries: Strided { values: &queries.0, stride: queries.1 },
        keys: Strided { values: &keys.0, stride: keys.1 },
        dscores: Strided { values: &dscores, stride: case.weights_stride },
        dvector: &mut dvector,
        dqueries: StridedMut { values: &mut dqueries.0, stride: dqueries.1 },
        dkeys: StridedMut { values: &mut dkeys.0, stride: dkeys.1 },
    };
    let result = gradients.run(drawn.isa, &mut Pass::serial());
    drawn.check(result, &[&dvector, &dqueries.0, &dkeys.0]);
}
