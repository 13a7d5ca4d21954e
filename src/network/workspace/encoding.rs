//! The encoder of a workspace's passes, if there is one, with its memory. Knows where that lies; must not
//! know the decoder's passes.

use super::encoder::EncoderRun;
use super::passes::{FromEncoder, Sums};
use crate::blocks::Source;
use crate::network::begins::Learned;
use crate::network::division::Plans;
use crate::network::packing::Packing;
use crate::params::Sequences;
use crate::regularisation::{Mode, Noise};
use crate::sequence::Input;
use crate::{Error, Runtime};
use bptt_kernels::team::Team;

/// The run of an encoder and its memory, or nothing.
pub(super) struct Encoding<'a> {
    run: Option<EncoderRun<'a>>,
    memory: &'a mut [f32],
}

/// What the caller asked of a pass.
pub(super) struct AskedOfEncoder<'a> {
    pub source: Option<Input<'a>>,
    pub noise: Noise,
    pub mode: Mode,
    pub runtime: Runtime,
}

impl<'a> Encoding<'a> {
    /// Returns the encoder of the planned passes, if there is one, and the memory of the decoder, which
    /// is the first part of `memory`.
    pub(super) fn of(
        plans: &'a Plans,
        packing: &'a Packing,
        asked: AskedOfEncoder<'a>,
        begins: &'a Learned,
        memory: &'a mut [f32],
    ) -> Result<(Self, &'a mut [f32]), Error> {
        let AskedOfEncoder { source, noise, mode, runtime } = asked;
        let (Some(plan), Some(packed), Some(x)) = (plans.encoder(), packing.encoder(), source)
        else {
            return Ok((Self { run: None, memory: &mut [] }, memory));
        };
        let (decoder, noise) = (plans.first(), noise.of_encoder());
        let batch = decoder.schedule.batch();
        let decoder = Sequences::new("state", &decoder.state, batch)?.of_learned();
        let run = Some(EncoderRun { plan, packed, x, noise, mode, runtime, begins, decoder });
        let (of_decoder, memory) = memory.split_at_mut(plan.start);
        Ok((Self { run, memory }, of_decoder))
    }

    /// Runs the encoder, and writes the state that the bridge makes to the decoder's `state`.
    pub(super) fn forward(&mut self, state: &mut [f32], team: &mut Team) -> Result<(), Error> {
        match &self.run {
            Some(run) => run.forward(self.memory, state, team),
            None => Ok(()),
        }
    }

    /// Returns what the decoder reads.
    pub(super) fn source(&self) -> Source<'_> {
        self.run.as_ref().map_or(Source::default(), |run| run.plan.read(self.memory))
    }

    /// Sets the gradients of what the decoder reads to zero, before its backward pass.
    pub(super) fn clear_gradients(&mut self) {
        if let Some(run) = &self.run {
            run.plan.clear_gradients(self.memory);
        }
    }

    /// Returns what the decoder reads, and where the gradients of that go.
    pub(super) fn with_gradients(&mut self) -> FromEncoder<'_> {
        match &self.run {
            Some(run) => run.plan.with_gradients(self.memory),
            None => FromEncoder::default(),
        }
    }

    /// Computes the gradients of the encoder's parameters after the backward pass of the decoder, whose
    /// gradient with respect to the state before the first step is `dstate`.
    pub(super) fn backward(
        &mut self,
        dstate: &[f32],
        team: &mut Team,
        sums: Sums<'_>,
    ) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let Sums { gradients, accumulate } = sums;
        let sums = Sums { gradients: &mut gradients[..run.packed.len()], accumulate };
        run.backward(self.memory, dstate, team, sums)
    }
}
