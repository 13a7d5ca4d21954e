//! The parameters of an encoder and its bridge in the layouts that their passes read.

use crate::blocks::{Block, Packed, Wanted};
use crate::containers::ChildrenPacked;
use crate::network::Network;
use crate::network::encoder::Encoder;
use crate::params::Manifest;
use crate::{Error, Format, Runtime};
use bptt_kernels::team::Pass as Threads;

/// The packed parameters of an encoder, and of the dense layer of its bridge after them.
#[derive(Debug)]
pub(in crate::network) struct EncoderPacked {
    pub blocks: ChildrenPacked,
    pub bridge: Option<Box<dyn Packed>>,
    /// The number of the bridge's parameters.
    of_bridge: usize,
}

impl EncoderPacked {
    /// Allocates memory for the parameters of the encoder of `decoder`.
    pub(super) fn zeros(
        encoder: &Encoder,
        decoder: &Network,
        format: Format,
        runtime: Runtime,
    ) -> Result<Self, Error> {
        let (dense, mut of_bridge) =
            (encoder.dense(&decoder.learned_manifest()?)?, Manifest::default());
        if let Some(dense) = &dense {
            dense.parameters(&mut of_bridge)?;
        }
        let bridge = dense.map(|dense| dense.pack(format, runtime)).transpose()?;
        let blocks = encoder.stack().packed(format, runtime)?;
        Ok(Self { blocks, bridge, of_bridge: of_bridge.len() })
    }

    /// Returns the number of the parameters.
    pub(in crate::network) fn len(&self) -> usize {
        self.blocks.len() + self.of_bridge
    }

    /// Returns whether no stream shares a block's parameters.
    pub(super) fn is_exclusive(&mut self) -> bool {
        self.blocks.is_exclusive()
    }

    /// Makes room for what backward passes read. The gradient by the context goes through the bridge
    /// in any case.
    pub(super) fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        let input = wanted.source;
        let mut added = self.blocks.require(Wanted { input, ..wanted })?;
        if let Some(bridge) = &mut self.bridge {
            added |= bridge.require(Wanted { input: true, ..wanted })?;
        }
        Ok(added)
    }

    pub(super) fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        let (of_blocks, of_bridge) = parameters.split_at(self.blocks.len());
        self.blocks.check(of_blocks)?;
        self.bridge.as_ref().map_or(Ok(()), |bridge| bridge.check(of_bridge))
    }

    pub(super) fn update(
        &mut self,
        parameters: &[f32],
        threads: &mut Threads<'_>,
    ) -> Result<(), Error> {
        let (of_blocks, of_bridge) = parameters.split_at(self.blocks.len());
        self.blocks.update(of_blocks, threads)?;
        self.bridge.as_mut().map_or(Ok(()), |bridge| bridge.update(of_bridge, threads))
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.bytes() + self.bridge.as_ref().map_or(0, |bridge| bridge.bytes())
    }
}
