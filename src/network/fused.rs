//! Pairs of blocks that a stream runs as one: a layer and the dense layer after it in a single
//! step, and an embedding and the layer after it.

use super::Network;
use super::packing::Packing;
use crate::blocks::recurrent::{EmbeddedSteps, RecurrentPacked, RecurrentSteps};
use crate::blocks::{Block, Dense, DensePacked, Embedding, EmbeddingPacked, Steps};
use crate::memory::Layout;
use crate::{Error, Runtime};
use bptt_kernels::team::{Pass as Threads, Team};
use std::any::Any;
use std::sync::Arc;

/// A layer whose single step has a kernel of its own, alone or with a dense layer after it.
#[derive(Debug)]
pub(super) struct Single {
    pub steps: RecurrentSteps,
    pub packed: Arc<RecurrentPacked>,
    /// The dense layer after it, if there is one.
    pub dense: Option<Arc<DensePacked>>,
}

impl Single {
    /// Plans the single step of a network that is one layer, or a layer and a dense layer. Returns
    /// `None` for any other network, and if no kernel does a single step of this layer and `batch`.
    pub fn of(
        network: &Network,
        packing: &Packing,
        runtime: Runtime,
        batch: usize,
    ) -> Result<Option<Self>, Error> {
        let mut blocks = network.blocks();
        let (Some(layer), dense) = (blocks.next().and_then(Block::as_recurrent), blocks.next())
        else {
            return Ok(None);
        };
        let is_dense = |block: &dyn Block| (block as &dyn Any).is::<Dense>();
        if dense.is_some_and(|block| !is_dense(block)) || blocks.next().is_some() {
            return Ok(None);
        }
        // Single steps use the memory that the stream has booked for the layer's other steps, so
        // this layout is not allocated.
        let mut layout = Layout::in_lines("the stream");
        let steps = RecurrentSteps::planned(layer, batch, runtime, &mut layout)?;
        if !steps.is_single() {
            return Ok(None);
        }
        let dense = dense.map(|_| packing.share(1)).transpose()?;
        Ok(Some(Self { steps, packed: packing.share(0)?, dense }))
    }
}

/// An embedding and the layer after it, which run as one.
pub(super) struct Embedded(EmbeddedSteps);

impl Embedded {
    /// Plans the steps of a network that begins with an embedding and a layer. Returns `None` for
    /// any other network, and if the table of the tokens would be too large to pay off.
    pub fn planned(
        network: &Network,
        batch: usize,
        runtime: Runtime,
        layout: &mut Layout,
    ) -> Result<Option<Self>, Error> {
        let mut blocks = network.blocks();
        let first = blocks.next().and_then(|block| (block as &dyn Any).downcast_ref::<Embedding>());
        let (Some(embedding), Some(layer)) = (first, blocks.next().and_then(Block::as_recurrent))
        else {
            return Ok(None);
        };
        let tokens = embedding.tokens();
        Ok(EmbeddedSteps::planned(tokens, &layer, batch, runtime, layout)?.map(Self))
    }

    /// Returns the steps of the layer, which take tokens.
    pub fn steps(&self) -> Box<dyn Steps> {
        Box::new(self.0.clone())
    }

    /// Computes the table of the tokens, in the `memory` that was booked for it.
    pub fn fill(
        &self,
        packing: &Packing,
        memory: &mut [f32],
        team: &mut Team,
    ) -> Result<(), Error> {
        let embedding = packing.block(0).as_form::<EmbeddingPacked>()?.table();
        let layer = packing.block(1).as_form::<RecurrentPacked>()?;
        team.pass(self.0.work_to_fill(), |threads: &mut Threads<'_>| {
            self.0.fill(embedding, layer, memory, threads)
        })
    }
}
