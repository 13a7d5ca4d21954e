//! The [`Steps`] trait, the planned steps of a stream, and its default for blocks: a pass
//! for each step.

use super::packed::Packed;
use super::pass::{Forward, Pass};
use super::source::Source;
use crate::Error;
use crate::memory::Region;
use crate::regularisation::{Mode, Noise};
use crate::sequence::{Input, InputSize};
use bptt_kernels::team::Pass as Threads;
use std::fmt::Debug;

/// The arguments of [`Steps::run`]. The caller has checked the lengths of all slices.
#[derive(Debug)]
pub struct Next<'a, 't> {
    /// The block's parameters, packed.
    pub packed: &'a dyn Packed,
    /// The inputs of `steps` steps, with one row for each sequence at each step.
    pub x: Input<'a>,
    /// What the encoder has made, if there is one.
    pub source: Source<'a>,
    /// Where the outputs go, one row after the other without gaps.
    pub y: &'a mut [f32],
    /// The number of steps to take.
    pub steps: usize,
    /// The memory that the steps booked when they were planned.
    pub memory: &'a mut [f32],
    /// The state: the one before these steps when `run` is called, the one after them when it
    /// returns.
    pub state: &'a mut [f32],
    /// The number of steps that the sequences took before these.
    pub step: u64,
    /// The seed and the position from which the steps draw random numbers.
    pub noise: Noise,
    /// The probability with which a block that reads [its own outputs](crate::OutputRecurrent) reads
    /// those that the caller gives instead.
    pub teacher_forcing: f32,
    /// The threads.
    pub threads: &'a mut Threads<'t>,
}

/// The planned steps of a stream. Each call takes any number of steps.
pub trait Steps: Debug + Send + Sync {
    /// Computes what depends on the parameters alone, in the memory that the steps booked. It is
    /// called once, before the first steps are taken. By default there is nothing to compute.
    ///
    /// # Errors
    /// [`Error`] if an argument does not fit the steps.
    fn prepare(
        &mut self,
        _packed: &dyn Packed,
        _memory: &mut [f32],
        _threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the multiply-adds of [`prepare`](Self::prepare).
    fn work_to_prepare(&self) -> usize {
        0
    }

    /// Takes the next steps.
    ///
    /// # Errors
    /// [`Error`] if an argument does not fit the steps; nothing is written then.
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error>;

    /// Returns the multiply-adds of the given number of steps.
    fn work(&self, _steps: usize) -> usize {
        0
    }
}

/// The steps of a stream, each of which is a pass of one step.
#[derive(Debug)]
pub(super) struct OneByOne {
    pub pass: Box<dyn Pass>,
    pub memory: Region,
    /// Room for the state after a step.
    pub last: Region,
    pub batch: usize,
    pub input: InputSize,
    pub output: usize,
}

impl Steps for OneByOne {
    fn run(&mut self, next: Next<'_, '_>) -> Result<(), Error> {
        let Next { packed, x, source, y, steps, memory, state, step, noise, threads, .. } = next;
        let mode = Mode { teacher_forcing: next.teacher_forcing, ..Mode::INFERENCE };
        let Self { batch, output, .. } = *self;
        let (own, rest) = memory[self.memory.range().start..].split_at_mut(self.memory.len());
        let between = self.last.range().start - self.memory.range().end;
        let last = &mut rest[between..][..self.last.len()];
        for (nth, y) in (0..steps).zip(y.chunks_mut(batch * output)) {
            let x = match (x, self.input) {
                (Input::Features(x), InputSize::Features(size)) => {
                    Input::Features(&x[nth * batch * size..][..batch * size])
                }
                (Input::Tokens(x), _) => Input::Tokens(&x[nth * batch..][..batch]),
                (x, _) => x,
            };
            self.pass.forward(Forward {
                packed,
                x,
                source,
                y,
                y_stride: output,
                memory: &mut *own,
                state: &*state,
                last: &mut *last,
                step: step + nth as u64,
                noise: noise.later(nth),
                mode,
                threads: &mut *threads,
            })?;
            state.copy_from_slice(last);
        }
        Ok(())
    }
}
