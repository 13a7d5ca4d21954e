//! A pass through blocks side by side. Knows which row is which step of which sequence; must not know
//! what a block keeps.

use super::branches::{Branches, Direction, Merge};
use crate::Error;
use crate::blocks::{Backward, Forward, Found, Keeps, LeftBy, Pass, Plan, Source, SourceGradients};
use crate::containers::ChildrenPacked;
use crate::memory::{Layout, Region, first, regions};
use crate::params::Manifest;
use crate::regularisation::{Mode, Noise};
use crate::sequence::{Input, InputSize, Schedule};
use bptt_kernels::team::Pass as Threads;
use std::ops::Range;

regions! {
    /// The memory of a block.
    struct Parts {
        /// What its pass has booked.
        own,
        /// The input in the order of the block, `[rows, features]`, or tokens; for a block that goes
        /// through the sequences in reverse. The forward pass leaves it there for the backward pass.
        x,
        /// Its outputs, `[rows, outputs]`, in its order.
        y,
        /// The gradient of the outputs, unless it may overwrite them.
        dy,
        /// Its gradient of the input, `[rows, features]`, for all blocks but the first one.
        dx,
    }
}

/// A planned pass of blocks side by side. Its memory is that of the blocks, one after the other.
#[derive(Debug)]
pub(super) struct ParallelPass {
    branches: Vec<Branch>,
    merge: Merge,
    order: Mirror,
    input: InputSize,
    /// Whether blocks add to the gradients of the source, so that they run one after the other.
    reads_source: bool,
}

/// A block and what it has booked.
#[derive(Debug)]
struct Branch {
    name: Option<String>,
    pass: Box<dyn Pass>,
    direction: Direction,
    /// Features in a row of its output.
    output: usize,
    /// All of its memory, and the regions within it.
    memory: Region,
    parts: Parts<Region>,
    /// The floats of its state and of its parameters.
    state: usize,
    parameters: usize,
}

/// The rows of sequences, in order and in reverse.
#[derive(Debug)]
struct Mirror {
    schedule: Schedule,
    /// Elements in a row of the input.
    width: usize,
}

/// Rows of floats or of tokens, a given number of elements apart.
struct Rows<T> {
    rows: T,
    stride: usize,
}

impl Mirror {
    /// Returns, for each row in order, its mirror: the row of step n − 1 − t of a sequence with n
    /// steps is the mirror of the row of its step t.
    fn mirrors(&self) -> impl Iterator<Item = usize> {
        let (schedule, rows) = (&self.schedule, self.schedule.step_rows());
        (0..rows.steps()).flat_map(move |step| {
            let mirror = move |n| rows.start(schedule.len_of(n) - 1 - step) + n;
            (0..rows.count(step)).map(mirror)
        })
    }

    /// Calls `put` with the first `width` elements of each row of `to` and of the row of `from` that
    /// belongs there: the same one, or its mirror.
    fn each<T>(
        &self,
        direction: Direction,
        width: usize,
        from: Rows<&[T]>,
        to: Rows<&mut [T]>,
        put: impl Fn(&mut [T], &[T]),
    ) {
        let from_row = |row: usize| &from.rows[row * from.stride..][..width];
        match direction {
            Direction::Forward => {
                for (row, to) in to.rows.chunks_mut(to.stride).enumerate() {
                    put(&mut to[..width], from_row(row));
                }
            }
            Direction::Reverse => {
                for (row, mirror) in self.mirrors().enumerate() {
                    put(&mut to.rows[mirror * to.stride..][..width], from_row(row));
                }
            }
        }
    }

    /// Exchanges each row of `rows`, `[rows, width]`, with its mirror.
    fn exchange(&self, rows: &mut [f32], width: usize) {
        for (row, mirror) in self.mirrors().enumerate().filter(|(row, mirror)| row < mirror) {
            let (head, tail) = rows.split_at_mut(mirror * width);
            head[row * width..][..width].swap_with_slice(&mut tail[..width]);
        }
    }
}

/// Adds `from` to `to`.
fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

/// What a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compute {
    Forward,
    Again,
    /// Only the state after the last step.
    State,
}

/// The run of one block in a forward pass.
struct ForwardRun<'a> {
    branch: &'a Branch,
    order: &'a Mirror,
    packed: &'a ChildrenPacked,
    nth: usize,
    x: Input<'a>,
    source: Source<'a>,
    parts: Parts<&'a mut [f32]>,
    state: &'a [f32],
    last: &'a mut [f32],
    step: u64,
    noise: Noise,
    mode: Mode,
    compute: Compute,
}

impl ForwardRun<'_> {
    /// Runs the block. Its outputs stay in its memory.
    fn run(self, threads: &mut Threads<'_>) -> Result<(), Error> {
        let Self { branch, order, packed, nth, x, source, parts, state, last, step, .. } = self;
        let Self { noise, mode, compute, .. } = self;
        let x = match (branch.direction, x) {
            (Direction::Forward, x) => x,
            (_, Input::Features(x)) => {
                let stride = order.width;
                let to = Rows { rows: &mut *parts.x, stride };
                let copy = <[f32]>::copy_from_slice;
                order.each(branch.direction, stride, Rows { rows: x, stride }, to, copy);
                Input::Features(parts.x)
            }
            (_, Input::Tokens(x)) => {
                let tokens: &mut [u32] = bytemuck::cast_slice_mut(parts.x);
                let to = Rows { rows: &mut *tokens, stride: 1 };
                let copy = <[u32]>::copy_from_slice;
                order.each(branch.direction, 1, Rows { rows: x, stride: 1 }, to, copy);
                Input::Tokens(tokens)
            }
        };
        let (packed, memory) = (packed.block(nth), parts.own);
        let forward = Forward {
            packed,
            x,
            source,
            y: parts.y,
            y_stride: branch.output,
            memory,
            state,
            last,
            step,
            noise,
            mode,
            threads,
        };
        match compute {
            Compute::Forward => branch.pass.forward(forward),
            // Without a state there is nothing that has been kept.
            Compute::Again if branch.state == 0 => branch.pass.forward(forward),
            Compute::Again => branch.pass.recompute(forward),
            Compute::State => branch.pass.advance(forward),
        }
    }
}

/// The run of one block in a backward pass.
struct BackwardRun<'a> {
    branch: &'a Branch,
    order: &'a Mirror,
    packed: &'a ChildrenPacked,
    nth: usize,
    x: Input<'a>,
    source: Source<'a>,
    dy: Rows<&'a [f32]>,
    parts: Parts<&'a mut [f32]>,
    state: &'a [f32],
    step: u64,
    dlast: Option<&'a [f32]>,
    dstate: &'a mut [f32],
    dx: Option<&'a mut [f32]>,
    gradients: &'a mut [f32],
    accumulate: bool,
}

impl BackwardRun<'_> {
    /// Runs the block. The gradient of its input has the order of the block.
    fn run(self, dsource: SourceGradients<'_>, threads: &mut Threads<'_>) -> Result<(), Error> {
        let Self { branch, order, packed, nth, x, dy, parts, state, step, dlast, .. } = self;
        let x = match (branch.direction, x) {
            (Direction::Forward, x) => x,
            (_, Input::Features(_)) => Input::Features(parts.x),
            (_, Input::Tokens(_)) => Input::Tokens(bytemuck::cast_slice(parts.x)),
        };
        let stride = branch.output;
        let (y, dy_of_block): (&[f32], _) = match branch.pass.reads_output() {
            true => (parts.y, parts.dy),
            false => (&[], parts.y),
        };
        let to = Rows { rows: &mut *dy_of_block, stride };
        order.each(branch.direction, stride, dy, to, <[f32]>::copy_from_slice);
        branch.pass.backward(Backward {
            packed: packed.block(nth),
            x,
            source: self.source,
            y,
            y_stride: stride,
            dy: dy_of_block,
            dy_stride: stride,
            memory: parts.own,
            state,
            step,
            dlast,
            dstate: self.dstate,
            dx: self.dx,
            dsource,
            gradients: self.gradients,
            accumulate: self.accumulate,
            threads,
        })
    }
}

impl ParallelPass {
    /// Plans the passes of the blocks.
    pub(super) fn planned(blocks: &Branches, plan: &mut Plan<'_>) -> Result<Self, Error> {
        let (rows, batch) = (plan.schedule.checked_rows()?, plan.schedule.batch());
        let (mut parameters, mut states) = (Manifest::default(), Manifest::default());
        let parameters = blocks.declared(&mut parameters, |block, all| block.parameters(all))?;
        let states = blocks.declared(&mut states, |block, all| block.state(batch, all))?;
        let (input, width) = match crate::blocks::Block::input(blocks) {
            InputSize::Features(size) => (InputSize::Features(size), size),
            tokens @ InputSize::Tokens(_) => (tokens, 1),
        };
        let mut branches = Vec::new();
        let ranges = states.into_iter().zip(parameters);
        for (child, (state, parameters)) in blocks.children.iter().zip(ranges) {
            let mut own = Layout::in_lines("the workspace");
            let layout = &mut own;
            let pass =
                child.block.plan(&mut Plan { schedule: plan.schedule.clone(), layout, ..*plan })?;
            let output = child.block.output_size();
            let reversed = usize::from(child.direction == Direction::Reverse);
            let has_dy = plan.gradients.any() && pass.reads_output();
            let has_dx = plan.gradients.input && !branches.is_empty();
            let dims: Parts<&[usize]> = Parts {
                own: &[own.floats()],
                x: &[reversed, rows, width],
                y: &[rows, output],
                dy: &[usize::from(has_dy), rows, output],
                dx: &[usize::from(has_dx), rows, width],
            };
            let mut within = Layout::in_lines("the workspace");
            let parts = dims.booked(&mut within)?;
            branches.push(Branch {
                name: child.name.clone(),
                pass,
                direction: child.direction,
                output,
                memory: plan.layout.book(&[within.floats()])?,
                parts,
                state: state.len(),
                parameters: parameters.len(),
            });
        }
        let order = Mirror { schedule: plan.schedule.clone(), width };
        let reads_source = crate::blocks::Block::check_source(blocks, None).is_err();
        Ok(Self { branches, merge: blocks.merge, order, input, reads_source })
    }

    /// Whether two blocks run at the same time, each on one thread, rather than one after the other on
    /// all threads.
    fn at_once(&self, threads: &Threads<'_>) -> bool {
        let [first, second] = &self.branches[..] else { return false };
        let ([first, _], [second, _]) = (first.pass.work(), second.pass.work());
        // More than two threads are of use only to one block after the other.
        let threads = threads.threads();
        let enough = threads == 2 || threads > 2 && self.order.schedule.batch() < threads;
        // The thread with the shorter block waits for the other.
        !self.reads_source && enough && first.min(second) >= first.max(second) / 2
    }

    /// Runs all blocks.
    fn run_all<R: Send>(
        &self,
        mut runs: impl Iterator<Item = R>,
        run: impl Fn(R, SourceGradients<'_>, &mut Threads<'_>) -> Result<(), Error> + Sync,
        mut dsource: SourceGradients<'_>,
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        if self.at_once(threads)
            && let (Some(first), Some(second)) = (runs.next(), runs.next())
        {
            // Neither of them reads the source.
            let alone = |one: R, threads: &mut Threads<'_>| run(one, Default::default(), threads);
            let (first, second) =
                threads.join(|threads| alone(first, threads), |threads| alone(second, threads));
            return first.and(second);
        }
        runs.try_for_each(|one| run(one, dsource.reborrow(), threads))
    }

    /// Returns the columns of the output, in each row, that are those of each block.
    fn columns(&self) -> impl Iterator<Item = Range<usize>> {
        let mut next = 0;
        self.branches.iter().map(move |branch| {
            let start = next;
            if self.merge == Merge::Concatenate {
                next += branch.output;
            }
            start..start + branch.output
        })
    }

    fn run(&self, forward: Forward<'_, '_>, compute: Compute) -> Result<(), Error> {
        let Forward { packed, x, source, y, y_stride, memory, state, last, .. } = forward;
        let Forward { step, noise, mode, threads, .. } = forward;
        let packed = packed.as_form::<ChildrenPacked>()?;
        x.check(self.order.schedule.rows(), self.input)?;
        // A block that is only turned round is in the place of its container.
        let is_alone = matches!(&self.branches[..], [Branch { name: None, .. }]);
        let noise = if is_alone { noise } else { noise.within_a_block() };
        let (mut memories, mut state, mut last) = (&mut *memory, state, last);
        let runs = self.branches.iter().enumerate().map(|(nth, branch)| {
            let memory = first(&mut memories, branch.memory.len());
            let before;
            (before, state) = state.split_at(branch.state);
            ForwardRun {
                branch,
                order: &self.order,
                packed,
                nth,
                x,
                source,
                parts: branch.parts.granted(memory),
                state: before,
                last: first(&mut last, branch.state),
                step,
                noise: noise.of_block(nth),
                mode,
                compute,
            }
        });
        let no_gradients = SourceGradients::default();
        self.run_all(runs, |run, _, threads| run.run(threads), no_gradients, threads)?;
        if compute == Compute::State {
            return Ok(());
        }
        for (nth, (branch, columns)) in self.branches.iter().zip(self.columns()).enumerate() {
            let rows = branch.parts.y.within(branch.memory).of(memory);
            let from = Rows { rows, stride: branch.output };
            let to = Rows { rows: &mut y[columns.start..], stride: y_stride };
            let put = match (self.merge, nth) {
                (Merge::Sum, 1..) => add,
                _ => <[f32]>::copy_from_slice,
            };
            self.order.each(branch.direction, branch.output, from, to, put);
        }
        Ok(())
    }
}

impl Pass for ParallelPass {
    fn forward(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.run(forward, Compute::Forward)
    }

    fn advance(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.run(forward, Compute::State)
    }

    fn recompute(&self, forward: Forward<'_, '_>) -> Result<(), Error> {
        self.run(forward, Compute::Again)
    }

    fn keeps(&self) -> Option<Keeps> {
        let mut all = Keeps::default();
        for branch in self.branches.iter().filter(|branch| branch.state > 0) {
            let Keeps { regions, output } = branch.pass.keeps()?;
            let own = regions.iter().map(|region| region.within(branch.parts.own));
            let of_branch = own.chain(output.then_some(branch.parts.y));
            all.regions.extend(of_branch.map(|region| region.within(branch.memory)));
        }
        Some(all)
    }

    fn backward(&self, backward: Backward<'_, '_>) -> Result<(), Error> {
        let Backward { x, dy, dy_stride, memory, state, step, dlast, dstate, dx, .. } = backward;
        let Backward { source, dsource, gradients, accumulate, threads, .. } = backward;
        let packed = backward.packed.as_form::<ChildrenPacked>()?;
        let (mut memories, mut states, mut dstates) = (&mut *memory, state, dstate);
        let (mut dlasts, mut gradients, mut columns) = (dlast, gradients, self.columns());
        let wants_dx = dx.is_some();
        let mut dx = dx;
        let mut dx_of_first = dx.as_deref_mut();
        let runs = self.branches.iter().enumerate().map(|(nth, branch)| {
            let mut parts = branch.parts.granted(first(&mut memories, branch.memory.len()));
            let (state, dlast);
            (state, states) = states.split_at(branch.state);
            (dlast, dlasts) = dlasts.map(|dlast| dlast.split_at(branch.state)).unzip();
            let dx = match nth {
                0 => dx_of_first.take(),
                _ => wants_dx.then(|| std::mem::take(&mut parts.dx)),
            };
            let start = columns.next().map_or(0, |columns| columns.start);
            BackwardRun {
                branch,
                order: &self.order,
                packed,
                nth,
                x,
                source,
                dy: Rows { rows: &dy[start..], stride: dy_stride },
                parts,
                state,
                step,
                dlast,
                dstate: first(&mut dstates, branch.state),
                dx,
                gradients: first(&mut gradients, branch.parameters),
                accumulate,
            }
        });
        self.run_all(runs, BackwardRun::run, dsource, threads)?;
        let (Some(dx), InputSize::Features(width)) = (dx, self.input) else { return Ok(()) };
        if self.branches[0].direction == Direction::Reverse {
            self.order.exchange(dx, width);
        }
        for branch in &self.branches[1..] {
            let rows = branch.parts.dx.within(branch.memory).of(memory);
            let (from, to) = (Rows { rows, stride: width }, Rows { rows: &mut *dx, stride: width });
            self.order.each(branch.direction, width, from, to, add);
        }
        Ok(())
    }

    /// A block may read its outputs, but those are in its memory.
    fn reads_output(&self) -> bool {
        false
    }

    fn work(&self) -> [usize; 2] {
        [0, 1].map(|way| {
            let works = self.branches.iter().map(|branch| branch.pass.work()[way]);
            works.fold(0, usize::saturating_add)
        })
    }

    fn find(&self, name: &str, left_by: LeftBy, step: u64) -> Option<Found> {
        for branch in &self.branches {
            let of_branch = match &branch.name {
                Some(prefix) => {
                    name.strip_prefix(prefix.as_str()).and_then(|n| n.strip_prefix('.'))
                }
                None => Some(name),
            };
            let Some(name) = of_branch else { continue };
            let region = match (name, branch.pass.find(name, left_by, step)) {
                (_, Some(Found::Memory(region))) => region.within(branch.parts.own),
                ("y", _) | (_, Some(Found::Output)) => branch.parts.y,
                _ => return None,
            };
            return Some(Found::Memory(region.within(branch.memory)));
        }
        None
    }
}
