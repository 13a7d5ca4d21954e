//! The steps of a stream through blocks side by side. Must not know how a block computes its steps.

use super::branches::{Branches, Child, Direction, Merge};
use crate::Error;
use crate::blocks::{Block, Config, Next, Packed, Steps, StreamPlan};
use crate::containers::{CHUNK, ChildrenPacked};
use crate::memory::{Layout, Region, first};
use crate::params::Manifest;
use crate::sequence::{Input, InputSize};
use bptt_kernels::team::Pass as Threads;

/// The planned steps of blocks side by side. Their memory is, for each block, what its steps need;
/// then T = max(1, ⌊192 / B⌋) · B rows for the outputs of one block.
#[derive(Debug)]
pub(super) struct ParallelSteps {
    branches: Vec<Branch>,
    merge: Merge,
    batch: usize,
    input: InputSize,
    output: usize,
    y: Region,
}

/// The planned steps of a block.
#[derive(Debug)]
struct Branch {
    steps: Box<dyn Steps>,
    /// The region of the memory that the steps have booked.
    own: Region,
    /// The floats of its state.
    state: usize,
    /// Features in a row of its output.
    output: usize,
}

impl ParallelSteps {
    /// Plans the steps of the blocks.
    pub(super) fn planned(blocks: &Branches, plan: &mut StreamPlan<'_>) -> Result<Self, Error> {
        let (batch, what) = (plan.batch, "the stream");
        let reversed = |child: &&Child| child.direction == Direction::Reverse;
        if let Some(child) = blocks.children.iter().find(reversed) {
            let expected = "one that needs no later steps: a stream does not have them yet";
            return Err(Error::Value {
                what: "a block of the stream",
                given: Config::new("Reversed").with("block", child.block.config()).to_string(),
                expected: expected.into(),
            });
        }
        let mut states = Manifest::default();
        let states = blocks.declared(&mut states, |block, all| block.state(batch, all))?;
        let mut branches = Vec::new();
        for (block, state) in blocks.blocks().zip(states) {
            let mut own = Layout::in_lines(what);
            let steps = block.stream(&mut StreamPlan { layout: &mut own, ..*plan })?;
            let (own, output) = (plan.layout.book(&[own.floats()])?, block.output_size());
            branches.push(Branch { steps, own, state: state.len(), output });
        }
        let widest = branches.iter().map(|branch| branch.output).max().unwrap_or(0);
        let y = plan.layout.book(&[(CHUNK / batch).max(1), batch, widest])?;
        let (input, output) = (blocks.input(), blocks.output_size());
        Ok(Self { branches, merge: blocks.merge, batch, input, output, y })
    }
}

impl Steps for ParallelSteps {
    fn prepare(
        &mut self,
        packed: &dyn Packed,
        memory: &mut [f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let packed = packed.as_form::<ChildrenPacked>()?;
        for (nth, branch) in self.branches.iter_mut().enumerate() {
            branch.steps.prepare(packed.block(nth), branch.own.of_mut(memory), threads)?;
        }
        Ok(())
    }

    fn work_to_prepare(&self) -> usize {
        let works = self.branches.iter().map(|branch| branch.steps.work_to_prepare());
        works.fold(0, usize::saturating_add)
    }

    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, source, y, memory, state, step, .. } = next;
        let (teacher_forcing, threads) = (next.teacher_forcing, next.threads);
        let noise = next.noise.within_a_block();
        let packed = packed.as_form::<ChildrenPacked>()?;
        let Self { merge, batch, input, output, .. } = *self;
        let (owns, of_one) = memory.split_at_mut(self.y.range().start);
        let size = match input {
            InputSize::Features(size) => batch * size,
            InputSize::Tokens(_) => batch,
        };
        let chunk = (CHUNK / batch).max(1);
        for (nth, y) in y.chunks_mut(chunk * batch * output).enumerate() {
            let (steps, first_step) = (y.len() / (batch * output), nth * chunk);
            let range = first_step * size..(first_step + steps) * size;
            let x = match x {
                Input::Features(x) => Input::Features(&x[range]),
                Input::Tokens(x) => Input::Tokens(&x[range]),
            };
            let (mut states, mut column) = (&mut *state, 0);
            for (nth, branch) in self.branches.iter_mut().enumerate() {
                let of_one = &mut of_one[..steps * batch * branch.output];
                branch.steps.run(Next {
                    packed: packed.block(nth),
                    x,
                    source,
                    y: &mut *of_one,
                    steps,
                    memory: branch.own.of_mut(owns),
                    state: first(&mut states, branch.state),
                    step: step + first_step as u64,
                    noise: noise.of_block(nth).later(first_step),
                    teacher_forcing,
                    threads: &mut *threads,
                })?;
                let rows = y.chunks_exact_mut(output).zip(of_one.chunks_exact(branch.output));
                for (y, of_one) in rows {
                    let y = &mut y[column..][..branch.output];
                    match (merge, nth) {
                        (Merge::Sum, 1..) => y.iter_mut().zip(of_one).for_each(|(y, x)| *y += x),
                        _ => y.copy_from_slice(of_one),
                    }
                }
                if merge == Merge::Concatenate {
                    column += branch.output;
                }
            }
        }
        Ok(())
    }

    fn work(&self, steps: usize) -> usize {
        let works = self.branches.iter().map(|branch| branch.steps.work(steps));
        works.fold(0, usize::saturating_add)
    }
}
