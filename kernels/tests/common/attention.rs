//! Drawn attention, and passes over it in buffers of the caller's making. Knows what attention is
//! given; must not know how it runs.

use super::{SENTINEL, filled};
use bptt_kernels::Isa;
use bptt_kernels::attention::{
    AdditiveGradients, AdditiveScores, Alignment, Contexts, DotScores, Softmax, SoftmaxGradients,
    SourceGradients, Stretch,
};
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::{Pass, Team};
use bptt_reference::sample::uniform;
use std::ops::{DerefMut, Range};

/// How many rows a sequence has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    pub source: usize,
    pub queries: usize,
}

/// The kinds of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    Dot,
    Additive,
}

/// What attention is given. Each strided row has a gap after it, but for the last row of queries
/// and of contexts.
#[derive(Clone, Debug)]
pub struct AttentionCase {
    pub scores: Scores,
    pub lengths: Vec<Lengths>,
    pub alignment: Alignment,
    /// The query rows of each sequence.
    pub rows: Vec<Vec<usize>>,
    /// The source rows of each sequence.
    pub source: Vec<Range<usize>>,
    pub width: usize,
    pub queries: Vec<f32>,
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
    pub vector: Vec<f32>,
    pub dcontexts: Vec<f32>,
    pub dvector: Vec<f32>,
    pub dkeys: Vec<f32>,
    pub dvalues: Vec<f32>,
    /// The queries' gradients from before, to which dot-product attention adds.
    pub dqueries: Vec<f32>,
    pub threads: usize,
    pub gap: usize,
    /// The steps of the first of two stretches.
    pub cut: usize,
}

/// What a forward pass leaves. Scores and weights have a stride of the longest source.
#[derive(Clone, Debug, PartialEq)]
pub struct Attended {
    pub scores: Vec<f32>,
    pub weights: Vec<f32>,
    pub contexts: Vec<f32>,
}

/// What a backward pass leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionGradients {
    pub dweights: Vec<f32>,
    pub dscores: Vec<f32>,
    pub dqueries: Vec<f32>,
    pub dkeys: Vec<f32>,
    pub dvalues: Vec<f32>,
    pub dvector: Vec<f32>,
}

impl AttentionCase {
    /// Drawn evenly up to ±1. Rows are in the order of time, as in a pass over several sequences,
    /// and a row before each step is nobody's.
    pub fn draw(scores: Scores, lengths: &[Lengths], width: usize, seed: u64) -> Self {
        let mut rows = vec![Vec::new(); lengths.len()];
        let steps = lengths.iter().map(|of| of.queries).max().unwrap_or(0);
        let mut count = 0;
        for step in 0..steps {
            count += 1;
            for (rows, _) in rows.iter_mut().zip(lengths).filter(|(_, of)| of.queries > step) {
                rows.push(count);
                count += 1;
            }
        }
        let mut end = 0;
        let source: Vec<Range<usize>> = lengths
            .iter()
            .map(|of| {
                end += of.source;
                end - of.source..end
            })
            .collect();
        let draw = |k: u64, rows| uniform(seed.wrapping_add(k << 32), rows * width, 1.0);
        Self {
            scores,
            lengths: lengths.to_vec(),
            alignment: aligned(&source, &rows),
            rows,
            source,
            width,
            queries: draw(1, count),
            keys: draw(2, end),
            values: draw(3, end),
            vector: draw(4, 1),
            dcontexts: draw(5, count),
            dvector: draw(6, 1),
            dkeys: draw(7, end),
            dvalues: draw(8, end),
            dqueries: draw(9, count),
            threads: 1,
            gap: 0,
            cut: 0,
        }
    }

    /// One of the sequences, in rows of its own.
    pub fn alone(&self, sequence: usize) -> Self {
        let (lengths, width) = (self.lengths[sequence], self.width);
        let (rows, source) = (&self.rows[sequence], self.source[sequence].clone());
        let of_queries = |all: &[f32]| -> Vec<f32> {
            rows.iter().flat_map(|row| &all[row * width..][..width]).copied().collect()
        };
        let of_source = |all: &[f32]| all[source.start * width..source.end * width].to_vec();
        let (own_rows, own_source) =
            (vec![(0..lengths.queries).collect()], vec![Range { start: 0, end: lengths.source }]);
        Self {
            lengths: vec![lengths],
            alignment: aligned(&own_source, &own_rows),
            rows: own_rows,
            source: own_source,
            queries: of_queries(&self.queries),
            keys: of_source(&self.keys),
            values: of_source(&self.values),
            dcontexts: of_queries(&self.dcontexts),
            dkeys: of_source(&self.dkeys),
            dvalues: of_source(&self.dvalues),
            dqueries: of_queries(&self.dqueries),
            ..self.clone()
        }
    }

    pub fn query_rows(&self) -> usize {
        self.queries.len() / self.width
    }

    pub fn longest(&self) -> usize {
        self.alignment.longest()
    }

    fn stretches(&self) -> [Stretch<'_>; 2] {
        let (steps, cut) = (self.alignment.steps(), self.cut.min(self.alignment.steps()));
        [0..cut, cut..steps].map(|steps| self.alignment.stretch(steps).unwrap())
    }

    fn team<R>(&self, pass: impl FnOnce(&mut Pass<'_>) -> R) -> R {
        Team::new(self.threads).unwrap().pass(usize::MAX, pass)
    }

    /// Rows with a gap between them, and none after the last.
    fn spread(&self, rows: &[f32]) -> Vec<f32> {
        let gap = filled(self.gap);
        rows.chunks(self.width).collect::<Vec<_>>().join(&gap[..])
    }

    /// The rows without the gaps, which have stayed as they were.
    fn joined(&self, spread: &[f32]) -> Vec<f32> {
        joined(spread, self.width, self.width + self.gap, SENTINEL)
    }

    /// Scores or weights without the gaps, in which is `gap`.
    fn scored(&self, spread: &[f32], gap: f32) -> Vec<f32> {
        joined(spread, self.longest(), self.longest() + self.gap, gap)
    }

    /// Room for scores.
    fn room(&self) -> Vec<f32> {
        filled(self.query_rows() * (self.longest() + self.gap))
    }

    /// A forward pass on buffers that `make` makes.
    pub fn forward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        make: impl Fn(&[f32]) -> B,
    ) -> Attended {
        let (width, gap) = (self.width, self.gap);
        let [queries, keys, values] =
            [&self.queries, &self.keys, &self.values].map(|rows| make(&self.spread(rows)));
        let stride = width + gap;
        let [keys, values] = [&keys, &values].map(|values| Strided { values, stride });
        let (vector, mut weights) = (make(&self.vector), make(&self.room()));
        let mut contexts = make(&self.spread(&filled(self.queries.len())));
        let queries = Strided { values: &queries, stride };
        let longest = self.longest() + gap;
        self.team(|pass| {
            for stretch in self.stretches() {
                let scores = StridedMut { values: &mut weights, stride: longest };
                let vector = &vector[..];
                match self.scores {
                    Scores::Dot => {
                        DotScores { stretch, width, queries, keys, scores }.run(isa, pass)
                    }
                    Scores::Additive => {
                        AdditiveScores { stretch, vector, queries, keys, scores }.run(isa, pass)
                    }
                }
                .unwrap();
            }
        });
        let scores = self.scored(&weights, SENTINEL);
        self.team(|pass| {
            for stretch in self.stretches() {
                let scores = StridedMut { values: &mut weights, stride: longest };
                Softmax { stretch, scores }.run(isa, pass).unwrap();
                let weights = Strided { values: &weights, stride: longest };
                let contexts = StridedMut { values: &mut contexts, stride: width + gap };
                Contexts { stretch, width, weights, values, contexts, accumulate: false }
                    .run(isa, pass)
                    .unwrap();
            }
        });
        let weights = self.zeroed(&weights);
        Attended { scores, weights, contexts: self.joined(&contexts) }
    }

    /// The weights without the gaps, which are zeros where a sequence has the row.
    fn zeroed(&self, spread: &[f32]) -> Vec<f32> {
        let longest = self.longest();
        let mut all = spread.to_vec();
        for (rows, source) in self.rows.iter().zip(&self.source) {
            for row in rows {
                let row = &mut all[row * (longest + self.gap)..][..longest + self.gap];
                assert!(row[source.len()..].iter().all(|w| w.to_bits() == 0), "after the length");
                row[longest..].fill(SENTINEL);
            }
        }
        self.scored(&all, SENTINEL)
    }

    /// A backward pass on buffers that `make` makes, from weights that `forward` has left.
    pub fn backward<B: DerefMut<Target = [f32]>>(
        &self,
        isa: Isa,
        weights: &[f32],
        make: impl Fn(&[f32]) -> B,
    ) -> AttentionGradients {
        let (width, gap) = (self.width, self.gap);
        let (stride, longest) = (width + gap, self.longest() + gap);
        let queries = make(&self.spread(&self.queries));
        let dcontexts = make(&self.spread(&self.dcontexts));
        let [keys, values] = [&self.keys, &self.values].map(|rows| make(&self.spread(rows)));
        let [keys, values] = [&keys, &values].map(|values| Strided { values, stride });
        let vector = make(&self.vector);
        let weights: Vec<f32> = match self.longest() {
            0 => self.room(),
            row => weights.chunks(row).flat_map(|row| [row, &filled(gap)].concat()).collect(),
        };
        let (weights, mut dscores) = (make(&weights), make(&self.room()));
        let [mut dkeys, mut dvalues] =
            [&self.dkeys, &self.dvalues].map(|rows| make(&self.spread(rows)));
        let (mut dqueries, mut dvector) = (make(&self.spread(&self.dqueries)), make(&self.dvector));
        let queries = Strided { values: &queries, stride };
        let dcontexts = Strided { values: &dcontexts, stride };
        let weights = Strided { values: &weights, stride: longest };
        let mut dweights = make(&self.room());
        let vector = &vector[..];
        self.team(|pass| {
            for stretch in self.stretches().into_iter().rev() {
                let scores = StridedMut { values: &mut dweights, stride: longest };
                DotScores { stretch, width, queries: dcontexts, keys: values, scores }
                    .run(isa, pass)
                    .unwrap();
                let gradients = StridedMut { values: &mut dvalues, stride };
                SourceGradients { stretch, width, weights, rows: dcontexts, gradients }
                    .run(isa, pass)
                    .unwrap();
            }
        });
        dscores.copy_from_slice(&dweights);
        self.team(|pass| {
            for stretch in self.stretches().into_iter().rev() {
                let gradients = StridedMut { values: &mut dscores, stride: longest };
                SoftmaxGradients { stretch, weights, gradients }.run(isa, pass).unwrap();
                let dscores = Strided { values: &dscores, stride: longest };
                let gradients = StridedMut { values: &mut dkeys, stride };
                let contexts = StridedMut { values: &mut dqueries, stride };
                match self.scores {
                    Scores::Dot => {
                        let weights = dscores;
                        Contexts {
                            stretch,
                            width,
                            weights,
                            values: keys,
                            contexts,
                            accumulate: true,
                        }
                        .run(isa, pass)
                        .unwrap();
                        SourceGradients { stretch, width, weights, rows: queries, gradients }
                            .run(isa, pass)
                    }
                    Scores::Additive => AdditiveGradients {
                        stretch,
                        vector,
                        queries,
                        keys,
                        dscores,
                        dvector: &mut dvector,
                        dqueries: contexts,
                        dkeys: gradients,
                    }
                    .run(isa, pass),
                }
                .unwrap();
            }
        });
        AttentionGradients {
            dweights: self.scored(&dweights, SENTINEL),
            dscores: self.zeroed(&dscores),
            dqueries: self.joined(&dqueries),
            dkeys: self.joined(&dkeys),
            dvalues: self.joined(&dvalues),
            dvector: dvector.to_vec(),
        }
    }
}

fn aligned(source: &[Range<usize>], rows: &[Vec<usize>]) -> Alignment {
    let (mut offsets, mut queries) = (vec![0], vec![0]);
    for (source, rows) in source.iter().zip(rows) {
        offsets.push(source.end);
        queries.push(queries[queries.len() - 1] + rows.len());
    }
    Alignment::new(offsets, queries, rows.concat()).unwrap()
}

/// Rows of `width` floats without what is between them, which has to be `gap`.
fn joined(spread: &[f32], width: usize, stride: usize, gap: f32) -> Vec<f32> {
    if stride == 0 {
        return Vec::new();
    }
    let mut all = Vec::new();
    for row in spread.chunks(stride) {
        let (row, between) = row.split_at(width);
        assert!(between.iter().all(|x| x.to_bits() == gap.to_bits()), "between the rows");
        all.extend(row);
    }
    all
}
