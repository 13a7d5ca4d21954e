//! The plan of a network's passes: the pass of its blocks, and the layout of the workspace.

mod encoder;

pub(super) use encoder::{BridgePlan, EncoderParts, SourcePlan};

use super::Network;
use super::encoder::Encoder;
use crate::blocks::{Block, Keeps, Pass, Plan, SourceRows, Wanted};
use crate::error::{check_size, product};
use crate::memory::{Layout, Region, regions};
use crate::params::{Manifest, Sequences};
use crate::sequence::{InputSize, Schedule};
use crate::{Error, Runtime};
use std::ops::Range;
use std::sync::Arc;

regions! {
    /// The regions of a workspace.
    pub(super) struct Parts {
        /// The state before the first step.
        state,
        /// The state after the last step.
        last,
        /// The gradient with respect to `state`.
        dstate,
        /// The gradient with respect to `last`.
        dlast,
        /// The memory that the pass of the blocks has booked.
        own,
        /// The output, `[rows, outputs]`, which its gradient may overwrite.
        y,
        /// The gradient with respect to the output, if the backward pass reads the output.
        dy,
        /// ∂L/∂x, `[rows, features]`, or an empty region.
        dx,
        /// The input in the order of the passes, `[rows, features]`, or tokens. This and the next two
        /// are empty if the caller's arrays have that order, too.
        x_of_passes,
        /// The output in the order of the caller, `[given rows, outputs]`.
        y_of_caller,
        /// ∂L/∂x in the order of the caller, `[given rows, features]`.
        dx_of_caller,
        /// The memory of the blocks that run in chunks of rows.
        tail,
    }
}

/// An order of sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The longest first, as in the passes.
    OfPasses,
    /// As the caller gave the lengths.
    OfCaller,
}

/// A state that a workspace holds, or a gradient with respect to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The state before the first step.
    State,
    /// The state after the last step.
    Last,
    /// The gradient with respect to the state before the first step.
    StateGradient,
    /// The gradient with respect to the state after the last step.
    LastGradient,
}

/// What the passes of a network are planned for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    pub runtime: Runtime,
    /// The gradients that the caller asks for.
    pub gradients: Wanted,
    /// Whether the schedule is a stretch of a longer one, whose inputs, outputs and ∂L/∂x the caller
    /// sees as a whole.
    pub is_stretch: bool,
    /// Whether blocks compute again what they keep.
    pub recompute: bool,
    /// The rows at a time of the last blocks, if they run in chunks of rows.
    pub chunk: Option<usize>,
    /// The schedule of the encoder's source, if there is one.
    pub sources: Option<&'a Schedule>,
    /// The rows of the source, if the schedule is a stretch and the encoder is planned for all of them.
    pub source: Option<&'a SourceRows>,
}

/// The planned pass of a network, or of some of its blocks.
#[derive(Debug)]
pub(super) struct Planned {
    pub schedule: Schedule,
    pub rows: usize,
    /// The pass of the blocks.
    pub pass: Box<dyn Pass>,
    /// The blocks after these, if they run in chunks of rows.
    pub tail: Option<Tail>,
    /// The encoder, if there is one.
    pub encoder: Option<EncoderPlan>,
    /// The gradients that it computes.
    pub wanted: Wanted,
    pub parts: Parts<Region>,
    /// Features in a row of the output.
    pub output: usize,
    /// The tensors of the state of all blocks, for all rows that a step may have.
    pub state: Arc<Manifest>,
    /// The tensors of the state of the caller's sequences: the same, unless there are resets.
    pub given_state: Arc<Manifest>,
    pub layout: Layout,
}

/// The planned pass of an encoder, and what the decoder reads of it.
#[derive(Debug)]
pub(super) struct EncoderPlan {
    pub planned: Box<Planned>,
    pub source: SourcePlan,
    /// The regions of its memory, which is the end of that of the decoder.
    pub parts: EncoderParts<Region>,
    /// Where that begins.
    pub start: usize,
}

/// The planned passes of the last blocks of a network, each of which looks at each row alone, over
/// some of the rows at a time. They follow one another in the same memory.
#[derive(Debug)]
pub(super) struct Tail {
    /// The rows of a chunk.
    chunk: usize,
    /// The plan of a chunk, and that of the last chunk if it has fewer rows.
    plans: Vec<Planned>,
    /// The range of the parameters of its blocks in those of all blocks.
    pub parameters: Range<usize>,
}

const WHAT: &str = "the workspace";

impl Tail {
    /// Plans the blocks from number `first` on, as many of `rows` rows at a time as the options say.
    fn new(
        network: &Network,
        first: usize,
        (rows, chunk): (usize, usize),
        options: Options<'_>,
    ) -> Result<Self, Error> {
        let chunk = check_size("rows of a chunk", chunk)?.min(rows.max(1));
        let gradients = Wanted { state: false, ..options.gradients.through_input() };
        let options = Options {
            gradients,
            recompute: false,
            chunk: None,
            sources: None,
            source: None,
            ..options
        };
        let blocks = first..network.blocks().len();
        let plan = |rows: usize| {
            let schedule = Schedule::dense(rows, 1);
            Planned::of_blocks(network, blocks.clone(), schedule, options, None)
        };
        let mut plans = vec![plan(chunk)?];
        if !rows.is_multiple_of(chunk) {
            plans.push(plan(rows % chunk)?);
        }
        let mut parameters = Manifest::default();
        network.blocks.parameters(&mut parameters)?;
        let mut before = Manifest::default();
        network.blocks().take(first).enumerate().try_for_each(|(nth, block)| {
            before.within(&nth.to_string(), |before| block.parameters(before)).map(|_| ())
        })?;
        Ok(Self { chunk, plans, parameters: before.len()..parameters.len() })
    }

    /// Returns the floats of its memory.
    fn floats(&self) -> usize {
        self.plans.iter().map(|plan| plan.layout.floats()).max().unwrap_or(0)
    }

    /// Returns the chunks of `rows` rows, the first rows first, each with its plan.
    pub(super) fn chunks(
        &self,
        rows: usize,
    ) -> impl DoubleEndedIterator<Item = (Range<usize>, &Planned)> {
        let starts = (0..rows.div_ceil(self.chunk)).map(|nth| nth * self.chunk);
        starts.map(move |start| {
            let rows = start..(start + self.chunk).min(rows);
            let plan = self.plans.iter().find(|plan| plan.rows == rows.len());
            (rows, plan.expect("a chunk has all its rows or those that are left over"))
        })
    }
}

impl EncoderPlan {
    /// Plans the pass of the encoder of `network` over sources, for passes of the decoder over targets.
    pub(super) fn new(
        network: &Network,
        encoder: &Encoder,
        targets: &Schedule,
        sources: &Schedule,
        options: Options<'_>,
    ) -> Result<Self, Error> {
        encoder::check_sources(targets, sources)?;
        let Options { runtime, gradients, .. } = options;
        let gradients =
            Wanted { input: gradients.source, state: false, source: false, ..gradients };
        let own = Options {
            gradients,
            sources: None,
            source: None,
            chunk: None,
            recompute: false,
            ..options
        };
        let planned = Planned::new(&Network::of_encoder(encoder), sources.clone(), own)?;
        let (decoder, floats) = (network.learned_manifest()?, planned.layout.floats());
        let source =
            SourcePlan::new(encoder, &decoder, targets, sources, floats, runtime, gradients)?;
        let (planned, parts) = (Box::new(planned), EncoderParts::default());
        Ok(Self { planned, source, parts, start: 0 })
    }

    /// Books its memory, once all blocks that read the source have been planned.
    pub(super) fn booked(self, layout: &mut Layout) -> Result<Self, Error> {
        let mut own = Layout::in_lines(WHAT);
        self.source.booked(&mut own)?;
        layout.book(&[own.floats()])?;
        self.ending(*layout)
    }

    /// Says that its memory is the end of what `layout` has booked.
    pub(super) fn ending(self, layout: Layout) -> Result<Self, Error> {
        let mut own = Layout::in_lines(WHAT);
        let parts = self.source.booked(&mut own)?;
        Ok(Self { parts, start: layout.floats() - own.floats(), ..self })
    }
}

impl Planned {
    /// Plans the pass of a network.
    pub(super) fn new(
        network: &Network,
        schedule: Schedule,
        options: Options<'_>,
    ) -> Result<Self, Error> {
        schedule.checked_rows()?;
        if schedule.has_resets() && network.reads_step() {
            return Err(Error::Mismatch {
                what: "resets",
                given: "sequences that take steps of their own from there on".into(),
                expected: "none, since a block reads the number of steps, which is one for all"
                    .into(),
            });
        }
        let encoder = match (network.encoder(), options.sources) {
            (None, None) => None,
            (Some(_), None) if options.source.is_some() => None,
            (Some(encoder), Some(sources)) => {
                Some(EncoderPlan::new(network, encoder, &schedule, sources, options)?)
            }
            (given, _) => {
                let describe = |given: bool| if given { "a source" } else { "no source" };
                let expected = format!("{} for this network", describe(given.is_some()));
                let given = describe(given.is_none()).into();
                return Err(Error::Mismatch { what: "the plan", given, expected });
            }
        };
        let rows = encoder.as_ref().map(|encoder| &encoder.source.rows).or(options.source);
        let blocks = match options.chunk {
            Some(_) => network.check_tail()?,
            None => network.blocks().len(),
        };
        let mut planned = Self::of_blocks(network, 0..blocks, schedule, options, rows)?;
        if let Some(chunk) = options.chunk {
            let tail = Tail::new(network, blocks, (planned.rows, chunk), options)?;
            planned.parts.tail = planned.layout.book(&[tail.floats()])?;
            planned.tail = Some(tail);
        }
        if let Some(encoder) = encoder {
            planned.encoder = Some(encoder.booked(&mut planned.layout)?);
        }
        Ok(planned)
    }

    /// Plans the pass of the blocks with these numbers.
    fn of_blocks(
        network: &Network,
        blocks: Range<usize>,
        schedule: Schedule,
        options: Options<'_>,
        source: Option<&SourceRows>,
    ) -> Result<Self, Error> {
        let Options { runtime, gradients, is_stretch, recompute, chunk, .. } = options;
        let (rows, batch) = (schedule.checked_rows()?, schedule.batch());
        let whole = |error: Error| error.of_whole(WHAT);
        // The blocks after the first ones have no state.
        let state_of = |batch| match blocks.start {
            0 => network.state_manifest(batch).map_err(whole).map(Arc::new),
            _ => Ok(Arc::default()),
        };
        let state = state_of(batch)?;
        if !schedule.is_dense() {
            Sequences::new("state of sequences of different lengths", &state, batch)?;
        }
        let given_state = match schedule.sequences() {
            same if same == batch => state.clone(),
            fewer => state_of(fewer)?,
        };
        let first = network.blocks().nth(blocks.start).map(|block| block.input());
        let last = network.blocks().nth(blocks.end - 1).map(|block| block.output_size());
        let (input, output) = (first.unwrap_or(network.input()), last.unwrap_or(0));
        let mut own = Layout::in_lines(WHAT);
        let (schedule_of_pass, layout) = (schedule.clone(), &mut own);
        let plan =
            &mut Plan { schedule: schedule_of_pass, runtime, gradients, recompute, source, layout };
        let pass = network.blocks.plan_outermost(blocks, plan).map_err(whole)?;
        let (features, width) = match input {
            InputSize::Features(size) => (size, size),
            InputSize::Tokens(_) => (0, 1),
        };
        let given = schedule.given_rows();
        // The input is not in the workspace, but its length has to fit as well.
        product("the input", &[given.max(rows), width])?;
        let dx = features * usize::from(gradients.input);
        let other = usize::from(!schedule.is_dense());
        // A stretch has its results copied to where those of all stretches are, and outputs in chunks
        // are not kept.
        let of_caller = other * usize::from(!is_stretch);
        let keeps_outputs = usize::from(chunk.is_none());
        let backward = usize::from(gradients.any());
        let dims: Parts<&[usize]> = Parts {
            state: &[state.len()],
            last: &[state.len()],
            dstate: &[backward, state.len()],
            dlast: &[backward, state.len()],
            own: &[own.floats()],
            y: &[rows, output],
            dy: &[backward, usize::from(pass.reads_output()), rows, output],
            dx: &[rows, dx],
            x_of_passes: &[other, rows, width],
            y_of_caller: &[of_caller, keeps_outputs, given, output],
            dx_of_caller: &[of_caller, given, dx],
            tail: &[],
        };
        let mut layout = Layout::in_lines(WHAT);
        let parts = dims.booked(&mut layout)?;
        Ok(Self {
            schedule,
            rows,
            pass,
            tail: None,
            encoder: None,
            wanted: gradients,
            parts,
            output,
            state,
            given_state,
            layout,
        })
    }

    /// Returns where a state lies in the memory of the pass.
    pub(super) fn place(&self, place: Place) -> Range<usize> {
        let region = match place {
            Place::State => self.parts.state,
            Place::Last => self.parts.last,
            Place::StateGradient => self.parts.dstate,
            Place::LastGradient => self.parts.dlast,
        };
        region.range()
    }

    /// Copies the state at `place` to or from the order of the caller's sequences. The rows that
    /// begin at a reset, or end at one, are none of the caller's: they are left as they are.
    pub(super) fn copy_state(&self, place: Place, from: &[f32], to: &mut [f32], order: Order) {
        if self.schedule.is_dense() {
            return to.copy_from_slice(from);
        }
        let (batch, sequences) = (self.schedule.batch(), self.schedule.sequences());
        for tensor in self.state.tensors() {
            let width = tensor.shape()[tensor.shape().len() - 1];
            let range = tensor.range();
            let given_start = range.start / batch * sequences;
            for index in 0..range.len() / width {
                let (nth, row) = (index / batch, index % batch);
                let sequence = match place {
                    Place::State | Place::StateGradient => self.schedule.begins(row),
                    Place::Last | Place::LastGradient => self.schedule.ends(row),
                };
                let Some(n) = sequence else { continue };
                let in_passes = range.start + index * width;
                let given = given_start + (nth * sequences + n) * width;
                let (from_at, to_at) = match order {
                    Order::OfPasses => (given, in_passes),
                    Order::OfCaller => (in_passes, given),
                };
                to[to_at..to_at + width].copy_from_slice(&from[from_at..from_at + width]);
            }
        }
    }

    /// Whether there is a state.
    pub(super) fn has_state(&self) -> bool {
        !self.state.is_empty()
    }

    /// Returns where that lies in the memory from which the blocks compute again what they keep, or
    /// `None` if they cannot.
    pub(super) fn keeps(&self) -> Option<Vec<Region>> {
        if !self.has_state() {
            return Some(Vec::new());
        }
        let Keeps { regions, output } = self.pass.keeps()?;
        let output = output.then_some(self.parts.y);
        let own = regions.into_iter().map(|region| region.within(self.parts.own));
        Some(output.into_iter().chain(own).collect())
    }
}
