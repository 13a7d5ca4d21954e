//! The planned encoder of a stream. Must not know how a block computes its steps.

use crate::blocks::Wanted;
use crate::memory::{Layout, Region};
use crate::network::Network;
use crate::network::begins::Learned;
use crate::network::plan::{EncoderPlan, Options};
use crate::sequence::Schedule;
use crate::{Error, Runtime};

/// The encoder of a stream.
#[derive(Debug)]
pub(super) struct StreamEncoder {
    pub plan: EncoderPlan,
    /// Its memory.
    pub own: Region,
    /// The state before the first step.
    pub begin: Region,
    /// The sequences whose state its bridge makes.
    pub begins: Learned,
    /// Whether it has read a source.
    pub has_read: bool,
}

impl StreamEncoder {
    /// Plans the pass of the network's encoder, if it has one.
    pub fn new(
        network: &Network,
        batch: usize,
        sources: Option<&Schedule>,
        runtime: Runtime,
    ) -> Result<Option<Self>, Error> {
        let (encoder, sources) = match (network.encoder(), sources) {
            (None, None) => return Ok(None),
            (Some(encoder), Some(sources)) => (encoder, sources),
            (encoder, _) => {
                let (given, expected) = match encoder {
                    Some(_) => ("no source", "a stream with a source, since there is an encoder"),
                    None => ("a source", "no source, since there is no encoder"),
                };
                let (given, expected) = (given.into(), expected.into());
                return Err(Error::Mismatch { what: "stream", given, expected });
            }
        };
        let options = Options {
            runtime,
            gradients: Wanted::NONE,
            is_stretch: false,
            recompute: false,
            chunk: None,
            sources: None,
            source: None,
        };
        let targets = Schedule::dense(1, batch);
        let plan = EncoderPlan::new(network, encoder, &targets, sources, options)?;
        let begins = Learned::all(network.has_bridge(), batch);
        let (own, begin) = (Region::default(), Region::default());
        Ok(Some(Self { plan, own, begin, begins, has_read: false }))
    }

    /// Books its memory; a state has `state` floats.
    pub fn booked(mut self, state: usize, layout: &mut Layout) -> Result<Self, Error> {
        let start = layout.floats();
        self.plan = self.plan.booked(layout)?;
        self.own = layout.since(start);
        self.begin = layout.book(&[state])?;
        Ok(self)
    }
}
