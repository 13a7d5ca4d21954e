//! The steps of a stream through the blocks of a stack, and an embedding and the layer after it that
//! run as one. Must not know how a block computes its steps.

use super::blocks::Stack;
use crate::blocks::recurrent::{EmbeddedSteps, RecurrentPacked};
use crate::blocks::{Block, Embedding, EmbeddingPacked, Next, Packed, Steps, StreamPlan};
use crate::containers::{CHUNK, ChildrenPacked};
use crate::error::product;
use crate::memory::{Layout, Region, Rest};
use crate::params::Manifest;
use crate::sequence::{Input, InputSize};
use crate::{Error, Runtime};
use bptt_kernels::team::Pass as Threads;
use std::any::Any;
use std::ops::Range;

/// The planned steps of a stack. Their memory is, for each block, what its steps need; then two
/// regions of T = max(1, ⌊192 / B⌋) · B rows for outputs that one block hands to the next.
#[derive(Debug)]
pub(crate) struct StackSteps {
    links: Vec<Link>,
    /// The steps of an embedding and the layer after it, if they run as one. They are the first of
    /// the links, too.
    embedded: Option<EmbeddedSteps>,
    batch: usize,
    input: InputSize,
    output: usize,
    /// Two regions for outputs that one block hands to the next; the blocks alternate between them.
    turns: [Region; 2],
    /// Whether the stack is the block of another block.
    is_within: bool,
}

/// The planned steps of a block, or of an embedding and a layer that run as one.
#[derive(Debug)]
struct Link {
    steps: Box<dyn Steps>,
    /// The number of the block; for an embedding and a layer, of the layer.
    block: usize,
    /// The region of the memory that the steps have booked.
    own: Region,
    /// The range of the block's state in the state of all blocks.
    state: Range<usize>,
    /// Features in a row of the block's input; 0 if the input is tokens.
    input: usize,
    /// Features in a row of the block's output.
    output: usize,
}

impl StackSteps {
    /// Plans the steps of the blocks.
    pub(super) fn planned(stack: &Stack, plan: &mut StreamPlan<'_>) -> Result<Self, Error> {
        let StreamPlan { batch, runtime, .. } = *plan;
        let what = "the stream";
        let mut states = Manifest::default();
        let states = stack.declared(&mut states, |block, all| block.state(batch, all))?;
        let mut links: Vec<Link> = Vec::new();
        let mut own = Layout::in_lines(what);
        let embedded = embedded(stack, batch, runtime, &mut own)?;
        // An embedding has no link of its own if the layer after it takes the tokens.
        let skipped = usize::from(embedded.is_some());
        for (nth, (block, state)) in stack.blocks().zip(states).enumerate().skip(skipped) {
            let steps: Box<dyn Steps> = match &embedded {
                Some(embedded) if links.is_empty() => Box::new(embedded.clone()),
                _ => {
                    own = Layout::in_lines(what);
                    block.stream(&mut StreamPlan { layout: &mut own, ..*plan })?
                }
            };
            let own = plan.layout.book(&[own.floats()])?;
            product(what, &[batch, block.output_size()])?;
            let input = match block.input() {
                InputSize::Features(size) => size,
                InputSize::Tokens(_) => 0,
            };
            links.push(Link { steps, block: nth, own, state, input, output: block.output_size() });
        }
        if let InputSize::Features(size) = stack.input() {
            product(what, &[batch, size])?;
        }
        let rows = (CHUNK / batch).max(1) * batch;
        let widths = |turn: usize| links[..links.len() - 1].iter().skip(turn).step_by(2);
        let widest = |turn: usize| widths(turn).map(|link| link.output).max().unwrap_or(0);
        // The first block writes its outputs to the second region, since `run` begins with `next`.
        let turns = [plan.layout.book(&[rows, widest(1)])?, plan.layout.book(&[rows, widest(0)])?];
        let (input, output) = (stack.input(), stack.output_size());
        Ok(Self { links, embedded, batch, input, output, turns, is_within: false })
    }

    /// Makes these the steps of a stack that is a block of another block.
    pub(super) fn within_a_block(self) -> Self {
        Self { is_within: true, ..self }
    }

    /// Returns the memory of the first block's steps.
    pub(crate) fn first(&self) -> Region {
        self.links[0].own
    }
}

/// Plans the steps of an embedding and the layer after it, if a stack begins with them and the table
/// of the tokens is not too large to pay off.
fn embedded(
    stack: &Stack,
    batch: usize,
    runtime: Runtime,
    layout: &mut Layout,
) -> Result<Option<EmbeddedSteps>, Error> {
    let mut blocks = stack.blocks();
    let first = blocks.next().and_then(|block| (block as &dyn Any).downcast_ref::<Embedding>());
    let (Some(embedding), Some(layer)) = (first, blocks.next().and_then(Block::as_recurrent))
    else {
        return Ok(None);
    };
    EmbeddedSteps::planned(embedding.tokens(), &layer, batch, runtime, layout)
}

impl Steps for StackSteps {
    fn prepare(
        &mut self,
        packed: &dyn Packed,
        memory: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let packed = packed.as_form::<ChildrenPacked>()?;
        if let Some(embedded) = &self.embedded {
            let embedding = packed.block(0).as_form::<EmbeddingPacked>()?.table();
            let layer = packed.block(1).as_form::<RecurrentPacked>()?;
            let own = self.links[0].own.of_mut(memory);
            embedded.fill(embedding, layer, own, threads)?;
        }
        for link in &mut self.links {
            let (packed, own) = (packed.block(link.block), link.own.of_mut(memory));
            link.steps.prepare(packed, own, threads)?;
        }
        Ok(())
    }

    fn work_to_prepare(&self) -> usize {
        let embedded = self.embedded.as_ref().map_or(0, EmbeddedSteps::work_to_fill);
        let works = self.links.iter().map(|link| link.steps.work_to_prepare());
        works.fold(embedded, usize::saturating_add)
    }

    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, source, y, steps, memory, state, step, .. } = next;
        let (teacher_forcing, threads) = (next.teacher_forcing, next.threads);
        let noise = if self.is_within { next.noise.within_a_block() } else { next.noise };
        let packed = packed.as_form::<ChildrenPacked>()?;
        let Self { batch, output, input, .. } = *self;
        let mut rest = Rest::all(memory);
        let owns = rest.grant_up_to(self.turns[0].range().start);
        let mut turns = self.turns.map(|turn| rest.grant(turn));
        let last = self.links.len() - 1;
        // With a single block there is nothing to hand over, so all steps go through it at once.
        let chunk = if last == 0 { steps.max(1) } else { (CHUNK / batch).max(1) };
        let size = match input {
            InputSize::Features(size) => batch * size,
            InputSize::Tokens(_) => batch,
        };
        for (nth, y) in y.chunks_mut(chunk * batch * output).enumerate() {
            let (steps, first) = (y.len() / (batch * output), nth * chunk);
            let range = first * size..(first + steps) * size;
            let rows = steps * batch;
            // Each chunk begins with the same region, since each region is as wide as the outputs of
            // certain blocks.
            let [now, next] = &mut turns;
            let (mut now, mut next) = (&mut **now, &mut **next);
            for (at, link) in self.links.iter_mut().enumerate() {
                let x = match (at, x) {
                    (0, Input::Features(x)) => Input::Features(&x[range.clone()]),
                    (0, Input::Tokens(x)) => Input::Tokens(&x[range.clone()]),
                    _ => Input::Features(&now[..rows * link.input]),
                };
                let y = if at == last { &mut *y } else { &mut next[..rows * link.output] };
                link.steps.run(Next {
                    packed: packed.block(link.block),
                    x,
                    source,
                    y,
                    steps,
                    memory: link.own.of_mut(owns),
                    state: &mut state[link.state.clone()],
                    step: step + first as u64,
                    noise: noise.of_block(link.block).later(first),
                    teacher_forcing,
                    threads: &mut *threads,
                })?;
                std::mem::swap(&mut now, &mut next);
            }
        }
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        let works = self.links.iter().map(|link| link.steps.work(steps));
        works.fold(0, usize::saturating_add)
    }
}
