//! The source of a stream: its encoder reads it, and the steps read what the encoder has made. Must not
//! know how a block computes its steps.

use super::Stream;
use crate::Error;
use crate::network::workspace::{EncoderRun, check_input};
use crate::params::Sequences;
use crate::regularisation::Mode;
use crate::sequence::Input;

impl Stream {
    /// Runs the encoder over a source, with the rows of the schedule that the stream was [made
    /// for](crate::Model::stream_with_source). The sequences begin anew, and their steps read this
    /// source from now on.
    ///
    /// # Errors
    /// [`Error::Order`] if the network has no encoder; [`Error::Length`], [`Error::Token`] or
    /// [`Error::Mismatch`] if the source does not fit it. Nothing is written then.
    pub fn read_source<'x>(&mut self, source: impl Into<Input<'x>>) -> Result<(), Error> {
        let x = source.into();
        let (Some(encoder), Some(packed), Some(of)) =
            (&mut self.encoder, self.packing.encoder(), self.network.encoder())
        else {
            return Err(Error::Order {
                call: "read_source",
                given: "a network without an encoder",
                expected: "one with an encoder",
            });
        };
        check_input(&encoder.plan.planned.schedule, x, of.input())?;
        let (memory, begin) = (&mut self.memory, encoder.begin.range());
        memory[begin.clone()].fill(0.0);
        let (before, rest) = memory.split_at_mut(begin.start);
        let decoder = Sequences::new("state", &self.manifest, self.batch)?.of_learned();
        if let Some(one) = self.packing.learned_state() {
            (0..self.batch).for_each(|n| decoder.write(n, &mut rest[..begin.len()], one));
        }
        encoder.has_read = false;
        let run = EncoderRun {
            plan: &encoder.plan,
            packed,
            x,
            noise: self.noise.of_encoder(),
            mode: Mode::INFERENCE,
            runtime: self.runtime,
            begins: &encoder.begins,
            decoder,
        };
        run.forward(encoder.own.of_mut(before), &mut rest[..begin.len()], &mut self.team)?;
        encoder.has_read = true;
        self.reset();
        Ok(())
    }

    /// Returns an error if steps need a source and none was read.
    pub(super) fn check_source(&self) -> Result<(), Error> {
        match &self.encoder {
            Some(encoder) if !encoder.has_read => Err(Error::Order {
                call: "step",
                given: "a stream that has read no source",
                expected: "one that has read a source",
            }),
            _ => Ok(()),
        }
    }
}
