//! The plan of a network's training passes: a pass for each block, and the layout of the workspace.

use super::Network;
use crate::blocks::{Pass, Plan, Wanted};
use crate::error::{check_size, product};
use crate::memory::{Layout, Region, regions};
use crate::params::{Manifest, Sequences};
use crate::sequence::{InputSize, Schedule};
use crate::{Error, Runtime};
use std::ops::Range;
use std::sync::Arc;

regions! {
    /// The regions that a network books for one block.
    pub(super) struct Parts {
        /// The state before the first step.
        state,
        /// The state after the last step.
        last,
        /// The gradient with respect to `state`.
        dstate,
        /// The gradient with respect to `last`.
        dlast,
        /// The memory that the block's pass has booked.
        own,
        /// The output, `[rows, outputs]`, which its gradient may overwrite.
        y,
    }
}

/// What a network books if the rows of its passes are not in the order of the caller's arrays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Other {
    /// The input in the order of the passes, `[rows, features]`, or tokens.
    pub x: Region,
    /// The output in the order of the caller, `[given rows, outputs]`.
    pub y: Region,
    /// ∂L/∂x in the order of the caller, `[given rows, features]`.
    pub dx: Region,
}

/// A planned pass of a block.
#[derive(Debug)]
pub(super) struct Step {
    pub pass: Box<dyn Pass>,
    /// The regions of its parts, counted from `start`.
    pub parts: Parts<Region>,
    /// Where its parts begin in the memory of the workspace.
    pub start: usize,
    /// Features in a row of its output.
    pub output: usize,
    /// The range of its state in the state of all blocks.
    pub state: Range<usize>,
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
pub(super) struct Options {
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
}

/// The planned passes of a network, or of some of its blocks.
#[derive(Debug)]
pub(super) struct Planned {
    pub schedule: Schedule,
    pub rows: usize,
    /// The number of the first block in the network.
    pub first: usize,
    pub steps: Vec<Step>,
    /// The blocks after these, if they run in chunks of rows.
    pub tail: Option<Tail>,
    /// The gradients that each block computes, those of the tail included.
    pub wanted: Vec<Wanted>,
    /// Two regions for gradients with respect to the outputs of blocks; the blocks alternate
    /// between them.
    pub turns: [Region; 2],
    /// The region of ∂L/∂x, or an empty one.
    pub dx: Region,
    /// Input, output and ∂L/∂x in the other order.
    pub other: Other,
    /// The tensors of the state of all blocks, for all rows that a step may have.
    pub state: Arc<Manifest>,
    /// The tensors of the state of the caller's sequences: the same, unless there are resets.
    pub given_state: Arc<Manifest>,
    pub layout: Layout,
}

/// The planned passes of the last blocks of a network, each of which looks at each row alone, over
/// some of the rows at a time. They follow one another in the same memory.
#[derive(Debug)]
pub(super) struct Tail {
    /// The rows of a chunk.
    chunk: usize,
    /// The plan of a chunk, and that of the last chunk if it has fewer rows.
    plans: Vec<Planned>,
    /// The memory of one of them.
    pub region: Region,
}

const WHAT: &str = "the workspace";

impl Step {
    /// Returns where a state of the block lies in the memory of the pass.
    pub(super) fn place(&self, place: Place) -> Range<usize> {
        let region = match place {
            Place::State => self.parts.state,
            Place::Last => self.parts.last,
            Place::StateGradient => self.parts.dstate,
            Place::LastGradient => self.parts.dlast,
        };
        self.within(region)
    }

    /// Returns where the outputs of the block lie in the memory of the pass.
    pub(super) fn outputs(&self) -> Range<usize> {
        self.within(self.parts.y)
    }

    /// Returns where a region of the block lies in the memory of the pass.
    fn within(&self, region: Region) -> Range<usize> {
        self.start + region.range().start..self.start + region.range().end
    }
}

/// Blocks of a network that follow one another.
struct Blocks<'a> {
    network: &'a Network,
    /// The number of the first of them.
    first: usize,
    /// The range of the state of each in the state of all.
    states: &'a [Range<usize>],
    state: Arc<Manifest>,
    given_state: Arc<Manifest>,
}

impl Blocks<'_> {
    fn planned(self, schedule: Schedule, options: Options) -> Result<Planned, Error> {
        let Self { network, first, states, state, given_state } = self;
        let Options { runtime, gradients: asked, is_stretch, recompute, chunk } = options;
        let (rows, whole) = (schedule.checked_rows()?, |error: Error| error.of_whole(WHAT));
        let input = match first.checked_sub(1).and_then(|before| network.blocks().nth(before)) {
            None => network.input(),
            Some(before) => InputSize::Features(before.output_size()),
        };
        let mut layout = Layout::in_lines(WHAT);
        let (mut steps, mut wanted) = (Vec::new(), Vec::new());
        let blocks = network.blocks().skip(first).zip(states);
        for (nth, (block, state)) in blocks.enumerate() {
            let gradients = Wanted { input: nth > 0 || asked.input, ..asked };
            let mut own = Layout::in_lines(WHAT);
            let mut plan = Plan {
                schedule: schedule.clone(),
                runtime,
                gradients,
                recompute,
                layout: &mut own,
            };
            let pass = block.plan(&mut plan).map_err(whole)?;
            let output = block.output_size();
            let parts: Parts<&[usize]> = Parts {
                state: &[state.len()],
                last: &[state.len()],
                dstate: &[state.len()],
                dlast: &[state.len()],
                own: &[own.floats()],
                y: &[rows, output],
            };
            let (start, mut within) = (layout.floats(), Layout::in_lines(WHAT));
            let parts = parts.booked(&mut within)?;
            layout.book(&[within.floats()])?;
            steps.push(Step { pass, parts, start, output, state: state.clone() });
            wanted.push(gradients);
        }
        // The gradient with respect to the last output overwrites it, unless the backward pass
        // reads that output. Then it needs one of the two regions as well.
        let reads = steps[steps.len() - 1].pass.reads_output();
        let but_last = &steps[..steps.len() - usize::from(!reads)];
        // The gradients of the other outputs go to one of two regions in turns, from the last
        // block. Each region is as wide as the widest output that uses it.
        let widths = |turn: usize| but_last.iter().rev().skip(turn).step_by(2).map(|s| s.output);
        let widest = |turn: usize| widths(turn).max().unwrap_or(0);
        let turns = [layout.book(&[rows, widest(0)])?, layout.book(&[rows, widest(1)])?];
        if let InputSize::Features(size) = input {
            // The input is not in the workspace, but its length has to fit as well.
            product("the input", &[rows, size])?;
        }
        let dx = match (input, asked.input) {
            (InputSize::Features(size), true) => layout.book(&[rows, size])?,
            _ => Region::default(),
        };
        let mut other = Other::default();
        if !schedule.is_dense() {
            let width = match input {
                InputSize::Features(size) => size,
                InputSize::Tokens(_) => 1,
            };
            let given = schedule.given_rows();
            product("the input", &[given, width])?;
            // A stretch has its results copied to where those of all stretches are.
            // Outputs in chunks are not kept.
            let y = usize::from(!is_stretch && chunk.is_none());
            let dx = usize::from(!is_stretch && asked.input);
            other = Other {
                x: layout.book(&[rows, width])?,
                y: layout.book(&[y, given, network.output_size()])?,
                dx: layout.book(&[dx, given, width])?,
            };
        }
        let tail = None;
        Ok(Planned {
            schedule,
            rows,
            first,
            steps,
            tail,
            wanted,
            turns,
            dx,
            other,
            state,
            given_state,
            layout,
        })
    }
}

impl Tail {
    /// Plans the blocks from number `first` on over `chunk` rows at a time, after `head`, which the
    /// memory and the gradients that they need are added to.
    fn new(
        network: &Network,
        first: usize,
        chunk: usize,
        head: &mut Planned,
        options: Options,
    ) -> Result<Self, Error> {
        let chunk = check_size("rows of a chunk", chunk)?.min(head.rows.max(1));
        let gradients = Wanted { input: true, state: false, ..options.gradients };
        let options = Options { gradients, recompute: false, chunk: None, ..options };
        let states = vec![0..0; network.blocks().len() - first];
        let plan = |rows: usize| {
            let (state, given_state) = Default::default();
            let blocks = Blocks { network, first, states: &states, state, given_state };
            blocks.planned(Schedule::dense(rows, 1), options)
        };
        let mut plans = vec![plan(chunk)?];
        if !head.rows.is_multiple_of(chunk) {
            plans.push(plan(head.rows % chunk)?);
        }
        let floats = plans.iter().map(|plan| plan.layout.floats()).max().unwrap_or(0);
        head.wanted.extend(&plans[0].wanted);
        Ok(Self { chunk, region: head.layout.book(&[floats])?, plans })
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

    /// Returns the numbers of its blocks in the network.
    pub(super) fn blocks(&self) -> Range<usize> {
        let Planned { first, steps, .. } = &self.plans[0];
        *first..first + steps.len()
    }
}

impl Planned {
    pub(super) fn new(
        network: &Network,
        schedule: Schedule,
        options: Options,
    ) -> Result<Self, Error> {
        let batch = schedule.batch();
        schedule.checked_rows()?;
        let whole = |error: Error| error.of_whole(WHAT);
        let (state, states) =
            network.declared(|block, manifest| block.state(batch, manifest)).map_err(whole)?;
        if !schedule.is_dense() {
            Sequences::new("state of sequences of different lengths", &state, batch)?;
        }
        if schedule.has_resets() && network.reads_step() {
            return Err(Error::Mismatch {
                what: "resets",
                given: "sequences that take steps of their own from there on".into(),
                expected: "none, since a block reads the number of steps, which is one for all"
                    .into(),
            });
        }
        let state = Arc::new(state);
        let given_state = match schedule.sequences() {
            same if same == batch => state.clone(),
            fewer => {
                let declare = network.declared(|block, manifest| block.state(fewer, manifest));
                Arc::new(declare.map_err(whole)?.0)
            }
        };
        let head = match options.chunk {
            None => states.len(),
            Some(_) => network.check_tail(&states)?,
        };
        let blocks = Blocks { network, first: 0, states: &states[..head], state, given_state };
        let mut planned = blocks.planned(schedule, options)?;
        if let Some(chunk) = options.chunk {
            planned.tail = Some(Tail::new(network, head, chunk, &mut planned, options)?);
        }
        Ok(planned)
    }

    /// Returns the range of a block's state in a state of the caller's sequences; `at` is its range in
    /// the state of a pass.
    pub(super) fn given_state_of(&self, at: &Range<usize>) -> Range<usize> {
        let of = |place: usize| place / self.schedule.batch() * self.schedule.sequences();
        of(at.start)..of(at.end)
    }

    /// Copies the state of a block at `place`, whose tensors are the range `at` of the state of all
    /// blocks, to or from the order of the caller's sequences. The rows that begin at a reset, or end
    /// at one, are none of the caller's: they are left as they are.
    pub(super) fn copy_state(
        &self,
        place: Place,
        at: &Range<usize>,
        from: &[f32],
        to: &mut [f32],
        order: Order,
    ) {
        if self.schedule.is_dense() {
            return to.copy_from_slice(from);
        }
        let (batch, sequences) = (self.schedule.batch(), self.schedule.sequences());
        let tensors = self.state.tensors().iter().map(|tensor| (tensor, tensor.range()));
        for (tensor, range) in tensors.filter(|(_, range)| at.contains(&range.start)) {
            let width = tensor.shape()[tensor.shape().len() - 1];
            let range = range.start - at.start..range.end - at.start;
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

    /// Returns the number of blocks up to the last one that has a state.
    pub(super) fn stateful(&self) -> usize {
        self.steps.iter().rposition(|step| !step.state.is_empty()).map_or(0, |last| last + 1)
    }

    /// Whether all blocks with a state can compute again what they keep.
    pub(super) fn can_recompute(&self) -> bool {
        self.steps.iter().all(|step| step.state.is_empty() || step.pass.kept().is_some())
    }

    /// Returns where that lies in the memory from which the blocks compute again what they keep:
    /// their outputs, and what their passes name.
    pub(super) fn kept(&self) -> impl Iterator<Item = Range<usize>> {
        self.steps.iter().filter(|step| !step.state.is_empty()).flat_map(|step| {
            let own = step.within(step.parts.own).start;
            let kept = step.pass.kept().unwrap_or_default().range();
            [step.within(step.parts.y), own + kept.start..own + kept.end]
        })
    }

    /// Returns the floats of the regions [`kept`](Self::kept).
    pub(super) fn kept_len(&self) -> usize {
        self.kept().map(|range| range.len()).sum()
    }

    /// Returns the work of the forward and of the backward pass through all blocks, in
    /// multiply-adds.
    pub(super) fn work(&self) -> [usize; 2] {
        [0, 1].map(|way| {
            let works = self.steps.iter().map(|step| step.pass.work()[way]);
            works.fold(0, usize::saturating_add)
        })
    }
}
