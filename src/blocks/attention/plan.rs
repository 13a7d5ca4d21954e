//! The planned attention of the rows of a pass, all at once or step by step. Knows which rows of the
//! source are those of which row; must not know where queries come from.

use super::packed::AttentionPacked;
use super::{Attention, Score};
use crate::blocks::{
    Backward, Block, Forward, Pass, Plan, Source, SourceGradients, SourceRows, Wanted,
};
use crate::memory::{Layout, Region, regions};
use crate::regularisation::{Mode, Noise};
use crate::sequence::{Input, Schedule};
use crate::{Error, Isa, Runtime};
use bptt_kernels::attention::{
    AdditiveGradients, AdditiveScores, Alignment, Contexts, DotScores, Softmax, SoftmaxGradients,
    SourceGradients as AddToSource,
};
use bptt_kernels::rowwise::{Strided, StridedMut};
use bptt_kernels::team::Pass as Threads;
use std::ops::Range;

regions! {
    /// The memory of attention.
    pub(crate) struct Parts {
        /// The queries, after their map, `[rows, K]`.
        queries,
        /// The gradient with respect to them.
        dqueries,
        /// The weights α, `[rows, steps of the longest source]`.
        weights,
        /// The gradient with respect to them, then that with respect to the scores.
        dweights,
        /// What the maps of the windows' queries have booked.
        map,
    }
}

/// The planned attention of all rows of a pass.
#[derive(Debug)]
pub(crate) struct AttentionPlan {
    attention: Attention,
    isa: Isa,
    runtime: Runtime,
    gradients: Wanted,
    rows: usize,
    alignment: Alignment,
    /// The stride of the weights: the steps of the longest source, 1 or more.
    longest: usize,
    /// The floats of the largest map of queries so far.
    map: usize,
    /// The floats of the source's outputs, and the parts of their gradients: that of the values and that
    /// of the keys.
    outputs: usize,
    readers: [usize; 2],
    parts: Parts<Region>,
}

/// Rows that attend at the same time: those of some steps, and the map of their queries.
#[derive(Debug)]
pub(crate) struct AttentionWindow {
    rows: usize,
    map: Option<Box<dyn Pass>>,
}

/// What attention reads in any run.
pub(crate) struct AttentionRead<'a> {
    pub packed: &'a AttentionPacked,
    pub source: Source<'a>,
    /// The rows that attend.
    pub window: &'a AttentionWindow,
    /// The steps that these rows are.
    pub steps: Range<usize>,
    /// The first of these rows.
    pub first: usize,
    /// Their queries, `[rows of the window, Q]`.
    pub queries: &'a [f32],
}

/// Where the gradients of attention go.
pub(crate) struct AttentionGradients<'a> {
    /// The gradient with respect to the contexts, with a row for each row of the pass.
    pub dcontexts: Strided<'a>,
    /// The gradient with respect to the queries of the window, `[rows of the window, Q]`.
    pub dqueries: &'a mut [f32],
    pub dsource: SourceGradients<'a>,
    /// The gradients of the parameters.
    pub parameters: &'a mut [f32],
    pub accumulate: bool,
}

impl AttentionWindow {
    /// Returns the number of its rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

impl AttentionPlan {
    /// Plans the attention of the rows of `schedule`. Windows are added to it, then it is
    /// [booked](Self::booked).
    pub fn new(
        attention: Attention,
        schedule: &Schedule,
        source: Option<&SourceRows>,
        runtime: Runtime,
        gradients: Wanted,
    ) -> Result<Self, Error> {
        attention.check_outputs(source.map(|source| source.size))?;
        let starts = source.map_or(Vec::new(), |source| source.starts.clone());
        let longest = source.map_or(0, SourceRows::longest).max(1);
        let (mut bounds, mut rows) = (vec![0], Vec::with_capacity(schedule.rows()));
        for n in 0..schedule.batch() {
            rows.extend((0..schedule.len_of(n)).map(|step| schedule.start(step) + n));
            bounds.push(rows.len());
        }
        let alignment = Alignment::new(starts, bounds, rows)?;
        let (isa, rows) = (runtime.isa(), schedule.checked_rows()?);
        let outputs = source.map_or(0, |source| source.len() * source.size.outputs);
        let readers = match source {
            Some(source) if gradients.any() => [source.outputs_reader(), source.outputs_reader()],
            _ => [0; 2],
        };
        Ok(Self {
            attention,
            isa,
            runtime,
            gradients,
            rows,
            alignment,
            longest,
            map: 0,
            outputs,
            readers,
            parts: Parts::default(),
        })
    }

    /// Plans a window of `rows` rows.
    pub fn window(&mut self, rows: usize) -> Result<AttentionWindow, Error> {
        let Some(query) = self.attention.query()? else {
            return Ok(AttentionWindow { rows, map: None });
        };
        let mut layout = Layout::in_lines("the workspace");
        let map = query.plan(&mut Plan {
            schedule: Schedule::dense(1, rows),
            runtime: self.runtime,
            gradients: self.gradients.through_input(),
            recompute: false,
            source: None,
            layout: &mut layout,
        })?;
        self.map = self.map.max(layout.floats());
        Ok(AttentionWindow { rows, map: Some(map) })
    }

    /// Books the memory of all windows.
    pub fn booked(mut self, layout: &mut Layout) -> Result<Self, Error> {
        let (rows, key) = (self.rows, self.attention.key_size);
        let backward = usize::from(self.gradients.any());
        let dims: Parts<&[usize]> = Parts {
            queries: &[rows, key],
            dqueries: &[backward, rows, key],
            weights: &[rows, self.longest],
            dweights: &[backward, rows, self.longest],
            map: &[self.map],
        };
        self.parts = dims.booked(layout)?;
        Ok(self)
    }

    /// Returns where the weights are.
    pub fn weights(&self) -> Region {
        self.parts.weights
    }

    /// Returns the multiply-adds of a forward and of a backward pass over all rows.
    pub fn work(&self) -> [usize; 2] {
        let Attention { query_size, value_size, key_size, .. } = self.attention;
        let scores = self.longest.saturating_mul(key_size + value_size);
        let map = match self.attention.score {
            Score::Dot => 0,
            Score::General | Score::Additive => query_size * key_size,
        };
        let forward = self.rows.saturating_mul(scores + map);
        [forward, forward.saturating_mul(2)]
    }

    /// Returns the values and the keys of the source.
    fn values_and_keys<'s>(&self, source: Source<'s>) -> [Strided<'s>; 2] {
        let stride = self.attention.source_size();
        [0, self.attention.key_start()].map(|first| {
            let values = source.outputs.get(first..).unwrap_or(&[]);
            Strided { values, stride }
        })
    }

    /// Computes the contexts of a window's rows, in their rows of `contexts`.
    pub fn forward(
        &self,
        read: AttentionRead<'_>,
        memory: &mut [f32],
        contexts: StridedMut<'_>,
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let AttentionRead { packed, source, window, steps, first, queries: x } = read;
        let Attention { score, value_size, key_size, .. } = self.attention;
        let Parts { queries, weights, map, .. } = self.parts.granted(memory);
        let mapped = &mut queries[first * key_size..][..window.rows * key_size];
        match (&window.map, packed.query()) {
            (Some(pass), Some(packed)) => pass.forward(Forward {
                packed,
                x: Input::Features(x),
                source: Source::default(),
                y: mapped,
                y_stride: key_size,
                memory: map,
                state: &[],
                last: &mut [],
                step: 0,
                noise: Noise::default(),
                mode: Mode::INFERENCE,
                threads: &mut *threads,
            })?,
            _ => mapped.copy_from_slice(x),
        }
        let stretch = self.alignment.stretch(steps)?;
        let [values, keys] = self.values_and_keys(source);
        let queries = Strided { values: queries, stride: key_size };
        let scores = StridedMut { values: &mut *weights, stride: self.longest };
        match score {
            Score::Dot | Score::General => {
                let width = key_size;
                DotScores { stretch, width, queries, keys, scores }.run(self.isa, threads)?;
            }
            Score::Additive => {
                let vector = packed.vector();
                AdditiveScores { stretch, vector, queries, keys, scores }.run(self.isa, threads)?;
            }
        }
        let scores = StridedMut { values: &mut *weights, stride: self.longest };
        Softmax { stretch, scores }.run(self.isa, threads)?;
        let weights = Strided { values: weights, stride: self.longest };
        let (width, accumulate) = (value_size, false);
        Ok(Contexts { stretch, width, weights, values, contexts, accumulate }
            .run(self.isa, threads)?)
    }

    /// Computes the gradients of a window's rows, of which the memory holds a forward pass. The windows
    /// of later steps come first.
    pub fn backward(
        &self,
        read: AttentionRead<'_>,
        memory: &mut [f32],
        to: AttentionGradients<'_>,
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let AttentionRead { packed, source, window, steps, first, queries: x } = read;
        let AttentionGradients { dcontexts, dqueries: dx, dsource, parameters, accumulate } = to;
        let Attention { score, value_size, key_size, .. } = self.attention;
        let Parts { queries, dqueries, weights, dweights, map } = self.parts.granted(memory);
        let stretch = self.alignment.stretch(steps)?;
        let ([values, keys], stride) = (self.values_and_keys(source), self.longest);
        let weights = Strided { values: weights, stride };
        let scores = StridedMut { values: &mut *dweights, stride };
        let (width, of_scores) = (value_size, dcontexts);
        DotScores { stretch, width, queries: of_scores, keys: values, scores }
            .run(self.isa, threads)?;
        let gradients = StridedMut { values: &mut *dweights, stride };
        SoftmaxGradients { stretch, weights, gradients }.run(self.isa, threads)?;
        let dscores = Strided { values: dweights, stride };
        let of_source = self.attention.source_size();
        let dvalues = &mut dsource.outputs[self.readers[0] * self.outputs..][..self.outputs];
        let dvalues = StridedMut { values: dvalues, stride: of_source };
        AddToSource { stretch, width, weights, rows: dcontexts, gradients: dvalues }
            .run(self.isa, threads)?;
        let dkeys = &mut dsource.outputs[self.readers[1] * self.outputs..][..self.outputs];
        let dkeys = dkeys.get_mut(self.attention.key_start()..).unwrap_or(&mut []);
        let dkeys = StridedMut { values: dkeys, stride: of_source };
        let (of_map, of_vector) = parameters.split_at_mut(packed.of_query());
        let (queries, width) = (Strided { values: queries, stride: key_size }, key_size);
        let mapped = StridedMut { values: &mut *dqueries, stride: key_size };
        match score {
            Score::Dot | Score::General => {
                let (weights, accumulate) = (dscores, false);
                Contexts { stretch, width, weights, values: keys, contexts: mapped, accumulate }
                    .run(self.isa, threads)?;
                AddToSource { stretch, width, weights, rows: queries, gradients: dkeys }
                    .run(self.isa, threads)?;
            }
            Score::Additive => {
                if !accumulate {
                    of_vector.fill(0.0);
                }
                AdditiveGradients {
                    stretch,
                    vector: packed.vector(),
                    queries,
                    keys,
                    dscores,
                    dvector: of_vector,
                    dqueries: mapped,
                    dkeys,
                }
                .run(self.isa, threads)?;
            }
        }
        let mapped = &dqueries[first * key_size..][..window.rows * key_size];
        match (&window.map, packed.query()) {
            (Some(pass), Some(packed)) => pass.backward(Backward {
                packed,
                x: Input::Features(x),
                source: Source::default(),
                y: &[],
                y_stride: key_size,
                dy: mapped,
                dy_stride: key_size,
                memory: map,
                state: &[],
                step: 0,
                dlast: None,
                dstate: &mut [],
                dx: Some(dx),
                dsource: SourceGradients::default(),
                gradients: of_map,
                accumulate,
                threads,
            }),
            _ => {
                dx.copy_from_slice(mapped);
                Ok(())
            }
        }
    }
}
