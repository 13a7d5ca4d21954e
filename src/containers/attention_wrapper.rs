//! Attention inside the recurrence of a block. Must not know what the block computes.

use super::ChildrenPacked;
use super::step_by_step::{
    Before, Fed, Feed, FeedGradients, FeedPlan, Shape, StepByStepPass, StepByStepSteps,
};
use crate::blocks::{
    Attention, AttentionGradients, AttentionPlan, AttentionRead, AttentionWindow, Block, Config,
    Packed, Pass, Plan, SourceRows, SourceSize, Steps, StreamPlan, Wanted,
};
use crate::memory::{Layout, Region};
use crate::params::{Init, Manifest};
use crate::sequence::{InputSize, Schedule};
use crate::{Error, Format, Runtime};
use bptt_kernels::rowwise::StridedMut;
use rand_core::Rng;
use std::sync::Arc;

/// A recurrent block that attends to the outputs of an encoder in each step (Bahdanau et al. 2015;
/// section 12.4.5.1 of *Deep Learning*): the query is the block's output of the step before, and the
/// block reads `[x⁽ᵗ⁾, c⁽ᵗ⁾]` with the context `c⁽ᵗ⁾` that [`Attention`] makes of it.
///
/// At the first step the query is the output that the state holds before it: h of a recurrent layer,
/// which a [`Bridge`](crate::Bridge) can make. So the block is a layer or a [`Stack`](crate::Stack) that
/// ends with one.
///
/// Names of parameters begin with `attention.` and `block.`; the state is that of the block. A pass keeps
/// what a pass of one step of the block keeps, for each step, with what it reads, the state, and what
/// attention keeps. Weights are found as `weights`, as those of [`Attention`].
///
/// ```
/// use bptt::{Activation, Attention, AttentionWrapper, Bidirectional, Bridge, Dense, Embedding};
/// use bptt::{Encoder, Gru, Keys, Network, Reset, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // Both directions of 8 units: values of 16 features, and keys of 10.
/// let reader = Encoder::new(Embedding::new(20, 8)?)
///     .then(Bidirectional::new(Gru::new(8, 8, Reset::After)?, Gru::new(8, 8, Reset::After)?))
///     .then(Keys::new(16, 10)?);
/// let attention = Attention::additive(12, 16, 10)?;
/// let writer = Network::new(Embedding::new(30, 8)?)
///     .then(AttentionWrapper::new(Gru::new(8 + 16, 12, Reset::After)?, attention)?)
///     .then(Dense::new(12, 30)?);
/// let bridge = Bridge::Dense(Activation::Tanh);
/// let network = writer.with_encoder(reader.with_bridge(bridge))?;
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
///
/// // Translation step by step.
/// let mut stream = model.stream_with_source(Schedule::packed(&[5])?)?;
/// stream.read_source(bptt::Tokens(&[3, 1, 4, 1, 5]))?;
/// let mut scores = [0.0; 30];
/// stream.step(bptt::Tokens(&[0]), &mut scores)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionWrapper {
    block: Arc<dyn Block>,
    attention: Attention,
    shape: Shape,
}

impl AttentionWrapper {
    /// Lets `block` read what `attention` makes of its output of the step before.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the block does not read more features than a context has, its outputs are not
    /// the queries of the attention, or its state does not hold its last output.
    pub fn new(block: impl Block, attention: Attention) -> Result<Self, Error> {
        Self::of(Arc::new(block), attention)
    }

    /// Lets a block that was read from a file attend.
    pub(crate) fn of(block: Arc<dyn Block>, attention: Attention) -> Result<Self, Error> {
        let (output, value) = (block.output_size(), attention.value_size());
        let refused = |expected: String| {
            let (what, given) = ("a block that attends", block.config().to_string());
            Err(Error::Mismatch { what, given, expected })
        };
        let Some(start) = block.output_in_state().filter(|_| block.is_causal()) else {
            return refused(
                "a layer or a stack that ends with one, whose state has its output".into(),
            );
        };
        if output != attention.query_size() {
            return refused(format!("{} outputs, the query", attention.query_size()));
        }
        match block.input() {
            InputSize::Features(size) if size > value => {
                let (input, of_block) = (size - value, size);
                let shape = Shape { input, of_block, output, before: Before::OfBlock(start) };
                Ok(Self { block, attention, shape })
            }
            _ => refused(format!("a block that reads x and then {value} features, the context")),
        }
    }

    fn parameters_of_attention(&self) -> Result<usize, Error> {
        let mut manifest = Manifest::default();
        Block::parameters(&self.attention, &mut manifest)?;
        Ok(manifest.len())
    }

    /// Plans the attention of the rows of `schedule`, step by step.
    fn feed(
        &self,
        schedule: &Schedule,
        source: Option<&SourceRows>,
        runtime: Runtime,
        gradients: Wanted,
    ) -> Result<FeedPlan, Error> {
        let attention = self.attention;
        let mut plan = AttentionPlan::new(attention, schedule, source, runtime, gradients)?;
        let mut windows: Vec<AttentionWindow> = Vec::new();
        let mut window_of = Vec::with_capacity(schedule.steps());
        for step in 0..schedule.steps() {
            let rows = schedule.start(step + 1) - schedule.start(step);
            if windows.last().is_none_or(|window| window.rows() != rows) {
                windows.push(plan.window(rows)?);
            }
            window_of.push(windows.len() - 1);
        }
        let mut layout = Layout::in_lines("the workspace");
        let plan = plan.booked(&mut layout)?;
        let parameters = self.parameters_of_attention()?;
        let feed = Box::new(Attending { plan, windows, window_of });
        Ok(FeedPlan { feed, floats: layout.floats(), parameters })
    }
}

impl Block for AttentionWrapper {
    fn config(&self) -> Config {
        let config = Config::new("AttentionWrapper").with("block", self.block.config());
        config.with("attention", self.attention.described())
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.shape.input)
    }

    fn output_size(&self) -> usize {
        self.shape.output
    }

    fn output_in_state(&self) -> Option<usize> {
        self.block.output_in_state()
    }

    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.within("attention", |manifest| Block::parameters(&self.attention, manifest))?;
        manifest.within("block", |manifest| self.block.parameters(manifest)).map(|_| ())
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        self.block.state(batch, manifest)
    }

    fn reads_step(&self) -> bool {
        self.block.reads_step()
    }

    fn check_source(&self, source: Option<SourceSize>) -> Result<(), Error> {
        self.attention.check_source(source)?;
        self.block.check_source(source)
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let len = self.parameters_of_attention()?;
        let (of_attention, of_block) = parameters.split_at_mut(len.min(parameters.len()));
        self.attention.initialise(of_attention, init, rng)?;
        self.block.initialise(of_block, init, rng)
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        let blocks: [(&dyn Block, bool); 2] = [(&self.attention, true), (&*self.block, true)];
        Ok(Box::new(ChildrenPacked::zeros(blocks.into_iter(), format, runtime)?))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        let Plan { schedule, source, runtime, gradients, .. } = plan;
        let feed = self.feed(schedule, *source, *runtime, *gradients)?;
        Ok(Box::new(StepByStepPass::planned(&*self.block, self.shape, feed, plan)?))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let StreamPlan { batch, runtime, source, .. } = *plan;
        let feed = self.feed(&Schedule::dense(1, batch), source, runtime, Wanted::NONE)?;
        Ok(Box::new(StepByStepSteps::planned(&*self.block, self.shape, feed, plan)?))
    }
}

/// Attention to an encoder, by the outputs of the step before.
#[derive(Debug)]
struct Attending {
    plan: AttentionPlan,
    windows: Vec<AttentionWindow>,
    /// For each step, its window. Steps with the same number of rows have the same.
    window_of: Vec<usize>,
}

impl Attending {
    fn read<'a>(&'a self, step: &Fed<'a, '_>) -> Result<AttentionRead<'a>, Error> {
        let packed = step.packed.ok_or(Error::Order {
            call: "attention",
            given: "no parameters",
            expected: "those of attention",
        })?;
        Ok(AttentionRead {
            packed: packed.as_form()?,
            source: step.source,
            window: &self.windows[self.window_of[step.step]],
            steps: step.step..step.step + 1,
            first: step.rows.start,
            queries: step.before,
        })
    }
}

impl Feed for Attending {
    fn forward(&self, step: Fed<'_, '_>, to: StridedMut<'_>) -> Result<(), Error> {
        let read = self.read(&step)?;
        self.plan.forward(read, step.memory, to, step.threads)
    }

    fn backward(&self, step: Fed<'_, '_>, to: FeedGradients<'_>) -> Result<(), Error> {
        let read = self.read(&step)?;
        let FeedGradients { made, before, source, parameters, accumulate } = to;
        let (dcontexts, dqueries, dsource) = (made, before, source);
        let to = AttentionGradients { dcontexts, dqueries, dsource, parameters, accumulate };
        self.plan.backward(read, step.memory, to, step.threads)
    }

    fn work(&self) -> [usize; 2] {
        self.plan.work()
    }

    fn find(&self, name: &str) -> Option<Region> {
        (name == "weights").then(|| self.plan.weights())
    }
}
