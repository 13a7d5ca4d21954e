//! A layer and the dense layer after it, which a stream runs as one in a single step.

use super::Network;
use super::packing::Packing;
use crate::blocks::recurrent::{RecurrentPacked, RecurrentSteps};
use crate::blocks::{Block, Dense, DensePacked};
use crate::memory::Layout;
use crate::{Error, Runtime};
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
        let is_dense = |block: &dyn Block| {
            (block as &dyn Any).downcast_ref::<Dense>().is_some_and(Dense::is_linear)
        };
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
        let blocks = packing.blocks();
        let dense = dense.map(|_| blocks.share(1)).transpose()?;
        Ok(Some(Self { steps, packed: blocks.share(0)?, dense }))
    }
}
