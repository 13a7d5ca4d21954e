//! A pass through the blocks of a stack, one after the other. Must not know what a block keeps.

use super::blocks::Stack;
use crate::Error;
use crate::blocks::{Backward, Forward, Found, Keeps, LeftBy, Pass, Plan};
use crate::containers::ChildrenPacked;
use crate::memory::{Layout, Region};
use crate::params::Manifest;
use crate::sequence::Input;
use std::ops::Range;

/// A planned pass of a stack. Its memory is, for each block, what the block's pass has booked and,
/// unless it is the last block, its outputs; then two regions for gradients of these outputs.
#[derive(Debug)]
pub(super) struct StackPass {
    links: Vec<Link>,
    /// The number of the first of these blocks in the stack.
    first: usize,
    rows: usize,
    /// Two regions for gradients with respect to the outputs of blocks. The blocks alternate between
    /// them, the second to last block with the first region.
    turns: [Region; 2],
    /// Whether the stack is the block of another block.
    is_within: bool,
}

/// A block of the stack.
#[derive(Debug)]
struct Link {
    pass: Box<dyn Pass>,
    /// The memory that its pass has booked.
    own: Region,
    /// Its outputs, `[rows, output]`, which its gradient may overwrite. Empty for the last block,
    /// whose outputs are those of the stack.
    y: Region,
    /// Features in a row of its output.
    output: usize,
    /// The range of its state in the state of all blocks.
    state: Range<usize>,
    /// The range of its parameters in those of all blocks of the stack.
    parameters: Range<usize>,
}

/// What a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compute {
    Forward,
    Again,
    /// Only the state after the last step, for which the blocks after the last one with a state are
    /// not needed.
    State,
}

impl StackPass {
    /// Plans the passes of the blocks with the numbers `range`.
    pub(super) fn planned(
        stack: &Stack,
        range: Range<usize>,
        plan: &mut Plan<'_>,
    ) -> Result<Self, Error> {
        let (rows, batch) = (plan.schedule.checked_rows()?, plan.schedule.batch());
        let (mut parameters, mut states) = (Manifest::default(), Manifest::default());
        let parameters = stack.declared(&mut parameters, |block, all| block.parameters(all))?;
        let states = stack.declared(&mut states, |block, all| block.state(batch, all))?;
        let (first, last) = (range.start, range.len() - 1);
        let of_first = states[first].start;
        let of_blocks = states.into_iter().zip(parameters);
        let blocks = stack.blocks().zip(of_blocks).skip(first).take(range.len());
        let mut links: Vec<Link> = Vec::new();
        for (nth, (block, (state, parameters))) in blocks.enumerate() {
            let state = state.start - of_first..state.end - of_first;
            let gradients = match nth {
                0 => plan.gradients,
                _ => plan.gradients.through_input(),
            };
            let mut own = Layout::in_lines("the workspace");
            let pass = block.plan(&mut Plan {
                schedule: plan.schedule.clone(),
                gradients,
                layout: &mut own,
                ..*plan
            })?;
            let output = block.output_size();
            let own = plan.layout.book(&[own.floats()])?;
            let y = plan.layout.book(&[usize::from(nth != last), rows, output])?;
            links.push(Link { pass, own, y, output, state, parameters });
        }
        // The gradients of the outputs go to one of two regions in turns, from the second to last
        // block. Each region is as wide as the widest output that uses it.
        let with_gradients = if plan.gradients.any() { last } else { 0 };
        let widths = |turn: usize| links[..with_gradients].iter().rev().skip(turn).step_by(2);
        let widest = |turn: usize| widths(turn).map(|link| link.output).max().unwrap_or(0);
        let turns = [plan.layout.book(&[rows, widest(0)])?, plan.layout.book(&[rows, widest(1)])?];
        Ok(Self { links, first, rows, turns, is_within: false })
    }

    /// Makes this the pass of a stack that is a block of another block.
    pub(super) fn within_a_block(self) -> Self {
        Self { is_within: true, ..self }
    }

    /// Returns the number of blocks up to the last one that has a state.
    fn stateful(&self) -> usize {
        self.links.iter().rposition(|link| !link.state.is_empty()).map_or(0, |last| last + 1)
    }

    /// Runs a pass through the first `count` blocks.
    fn run(&self, forward: Forward<'_, '_>, compute: Compute) -> Result<(), Error> {
        let Forward { packed, x, source, y, y_stride, memory, state, last, .. } = forward;
        let Forward { step, noise, mode, threads, .. } = forward;
        let packed = packed.as_form::<ChildrenPacked>()?;
        let noise = if self.is_within { noise.within_a_block() } else { noise };
        let count = match compute {
            Compute::State => self.stateful(),
            _ => self.links.len(),
        };
        for (nth, link) in self.links[..count].iter().enumerate() {
            let is_last = nth + 1 == self.links.len();
            let (before, own) = memory.split_at_mut(link.own.range().start);
            let (own, rest) = own.split_at_mut(link.y.range().start - link.own.range().start);
            let forward = Forward {
                packed: packed.block(self.first + nth),
                x: match nth.checked_sub(1) {
                    None => x,
                    Some(previous) => Input::Features(self.links[previous].y.of(before)),
                },
                source,
                y: if is_last { &mut *y } else { &mut rest[..link.y.len()] },
                y_stride: if is_last { y_stride } else { link.output },
                memory: &mut own[..link.own.len()],
                state: &state[link.state.clone()],
                last: &mut last[link.state.clone()],
                step,
                noise: noise.of_block(self.first + nth),
                mode,
                threads: &mut *threads,
            };
            match compute {
                Compute::Again => link.pass.recompute(forward)?,
                Compute::State if nth + 1 == count => link.pass.advance(forward)?,
                _ => link.pass.forward(forward)?,
            }
        }
        Ok(())
    }
}

impl Pass for StackPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.run(forward, Compute::Forward)
    }

    fn advance(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.run(forward, Compute::State)
    }

    fn recompute(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.run(forward, Compute::Again)
    }

    /// A block without a state can be computed again from the block before it.
    fn keeps(&self) -> Option<Keeps> {
        let mut all = Keeps::default();
        for (nth, link) in self.links.iter().enumerate().filter(|(_, l)| !l.state.is_empty()) {
            let Keeps { regions, output } = link.pass.keeps()?;
            match (output, nth + 1 == self.links.len()) {
                (true, true) => all.output = true,
                (true, false) => all.regions.push(link.y),
                (false, _) => {}
            }
            all.regions.extend(regions.iter().map(|region| region.within(link.own)));
        }
        Some(all)
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { x, y, y_stride, dy, dy_stride, memory, state, dlast, .. } = backward;
        let Backward { source, dstate, mut dx, mut dsource, gradients, threads, .. } = backward;
        let packed = backward.packed.as_form::<ChildrenPacked>()?;
        let (blocks, turns) = memory.split_at_mut(self.turns[0].range().start);
        let (first, second) =
            turns.split_at_mut(self.turns[1].range().start - self.turns[0].range().start);
        // `now` holds the gradient with respect to the outputs of the current block, `next` receives
        // the gradient with respect to its inputs.
        let (mut now, mut next) = (second, first);
        for (nth, link) in self.links.iter().enumerate().rev() {
            let is_last = nth + 1 == self.links.len();
            let (before, own) = blocks.split_at_mut(link.own.range().start);
            let (own, rest) = own.split_at_mut(link.y.range().start - link.own.range().start);
            let (x, dx) = match nth.checked_sub(1) {
                None => (x, dx.take()),
                Some(previous) => {
                    let previous = &self.links[previous];
                    let dx = &mut next[..self.rows * previous.output];
                    (Input::Features(previous.y.of(before)), Some(dx))
                }
            };
            link.pass.backward(Backward {
                packed: packed.block(self.first + nth),
                x,
                source,
                y: if is_last { y } else { &rest[..link.y.len()] },
                y_stride: if is_last { y_stride } else { link.output },
                dy: if is_last { dy } else { &now[..self.rows * link.output] },
                dy_stride: if is_last { dy_stride } else { link.output },
                memory: &mut own[..link.own.len()],
                state: &state[link.state.clone()],
                step: backward.step,
                dlast: dlast.map(|dlast| &dlast[link.state.clone()]),
                dstate: &mut dstate[link.state.clone()],
                dx,
                dsource: dsource.reborrow(),
                gradients: &mut gradients[link.parameters.clone()],
                accumulate: backward.accumulate,
                threads: &mut *threads,
            })?;
            std::mem::swap(&mut now, &mut next);
        }
        Ok(())
    }

    fn reads_output(&self) -> bool {
        self.links[self.links.len() - 1].pass.reads_output()
    }

    fn work(&self) -> [usize; 2] {
        [0, 1].map(|way| {
            let works = self.links.iter().map(|link| link.pass.work()[way]);
            works.fold(0, usize::saturating_add)
        })
    }

    fn find(&self, name: &str, left_by: LeftBy, step: u64) -> Option<Found> {
        let (block, name) = name.split_once('.')?;
        let nth = block.parse::<usize>().ok()?.checked_sub(self.first)?;
        let link = self.links.get(nth)?;
        let found = match name {
            "y" => Found::Output,
            name => link.pass.find(name, left_by, step)?,
        };
        Some(match found {
            Found::Memory(region) => Found::Memory(region.within(link.own)),
            Found::Output if nth + 1 == self.links.len() => Found::Output,
            Found::Output => Found::Memory(link.y),
        })
    }
}
