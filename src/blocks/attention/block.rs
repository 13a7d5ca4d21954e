//! Attention as a block after a decoder's recurrence. Must not know the decoder.

use super::plan::{AttentionGradients, AttentionPlan, AttentionRead, AttentionWindow};
use super::{Attention, AttentionPacked};
use crate::blocks::{
    Backward, Block, Config, Forward, Found, LeftBy, Packed, Pass, Plan, SourceSize,
};
use crate::error::check_len;
use crate::memory::{Layout, Region, regions};
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use bptt_kernels::rowwise::{Strided, StridedMut};
use rand_core::Rng;

impl Block for Attention {
    fn config(&self) -> Config {
        self.described()
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.query_size)
    }

    fn output_size(&self) -> usize {
        self.value_size + self.query_size
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        if let Some(query) = self.query()? {
            manifest.within("query", |manifest| query.parameters(manifest))?;
        }
        match self.vector_len() {
            0 => Ok(()),
            len => manifest.declare("vector", &[len]),
        }
    }

    fn check_source(&self, source: Option<SourceSize>) -> Result<(), Error> {
        self.check_outputs(source)
    }

    /// Draws the map of the query and the vector, a row of weights; biases begin as 0.
    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let mut manifest = Manifest::default();
        Block::parameters(self, &mut manifest)?;
        check_len("parameters", parameters.len(), manifest.len())?;
        let (of_query, vector) = parameters.split_at_mut(manifest.len() - self.vector_len());
        if let Some(query) = self.query()? {
            query.initialise(of_query, init, rng)?;
        }
        match vector.len() {
            0 => Ok(()),
            len => init.fill(vector, 1, len, rng),
        }
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        Ok(Box::new(AttentionPacked::zeros(self, format, runtime)?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let Plan { schedule, runtime, gradients, source, layout, .. } = plan;
        let mut planned = AttentionPlan::new(*self, schedule, *source, *runtime, *gradients)?;
        let (rows, steps) = (schedule.rows(), schedule.steps());
        let window = planned.window(rows.max(1))?;
        let mut own = Layout::in_lines("the workspace");
        let planned = planned.booked(&mut own)?;
        let alone = usize::from(gradients.parameters && !gradients.input);
        let dims: Parts<&[usize]> =
            Parts { own: &[own.floats()], dqueries: &[alone, rows, self.query_size] };
        let parts = dims.booked(layout)?;
        Ok(Box::new(AttentionPass { attention: *self, planned, window, rows, steps, parts }))
    }
}

regions! {
    /// The memory of a pass.
    struct Parts {
        /// That of the attention.
        own,
        /// The gradient with respect to the queries, `[rows, Q]`, if it is not ∂L/∂x.
        dqueries,
    }
}

/// A planned pass, in which all rows attend at the same time.
#[derive(Debug)]
struct AttentionPass {
    attention: Attention,
    planned: AttentionPlan,
    window: AttentionWindow,
    rows: usize,
    steps: usize,
    parts: Parts<Region>,
}

impl Pass for AttentionPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        let Forward { packed, x, source, y, y_stride, memory, threads, .. } = forward;
        let Attention { query_size, value_size, .. } = self.attention;
        let queries = x.features(self.rows, query_size)?;
        if self.rows == 0 {
            return Ok(());
        }
        let (packed, window, steps) = (packed.as_form()?, &self.window, 0..self.steps);
        let read = AttentionRead { packed, source, window, steps, first: 0, queries };
        let contexts = StridedMut { values: &mut *y, stride: y_stride };
        self.planned.forward(read, self.parts.own.of_mut(memory), contexts, threads)?;
        for (y, query) in y.chunks_mut(y_stride).zip(queries.chunks_exact(query_size)) {
            y[value_size..][..query_size].copy_from_slice(query);
        }
        Ok(())
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { packed, x, source, dy, dy_stride, memory, dx, dsource, .. } = backward;
        let Backward { gradients: parameters, accumulate, threads, .. } = backward;
        let Attention { query_size, value_size, .. } = self.attention;
        let queries = x.features(self.rows, query_size)?;
        if self.rows == 0 {
            if !accumulate {
                parameters.fill(0.0);
            }
            return Ok(());
        }
        let Parts { own, dqueries } = self.parts.granted(memory);
        let (wants_dx, dqueries) = match dx {
            Some(dx) => (true, dx),
            None => (false, dqueries),
        };
        let (packed, window, steps) = (packed.as_form()?, &self.window, 0..self.steps);
        let read = AttentionRead { packed, source, window, steps, first: 0, queries };
        let dcontexts = Strided { values: dy, stride: dy_stride };
        let to = AttentionGradients {
            dcontexts,
            dqueries: &mut *dqueries,
            dsource,
            parameters,
            accumulate,
        };
        self.planned.backward(read, own, to, threads)?;
        if wants_dx {
            for (dx, dy) in dqueries.chunks_exact_mut(query_size).zip(dy.chunks(dy_stride)) {
                let dy = &dy[value_size..][..query_size];
                dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy);
            }
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        false
    }

    fn work(&self) -> [usize; 2] {
        self.planned.work()
    }

    fn find(&self, name: &str, _left_by: LeftBy, _step: u64) -> Option<Found> {
        let own = self.parts.own;
        (name == "weights").then(|| Found::Memory(self.planned.weights().within(own)))
    }
}
