//! Networks with an encoder: the names of its parameters and those of its bridge. Knows their order;
//! must not know passes.

use super::Network;
use super::encoder::Encoder;
use crate::Error;
use crate::blocks::Block;
use crate::params::{Init, Manifest};
use rand_core::Rng;
use std::sync::Arc;

impl Network {
    /// Gives the network, which is the decoder then, an encoder. Its blocks read what the encoder has
    /// made, passes take the encoder's input as [`Inputs`](crate::Inputs), and the workspace is planned
    /// [with a source](crate::Training::with_source).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if neighbouring blocks of the encoder do not fit, a block of the decoder needs
    /// another source, or the bridge does not fit the decoder's state.
    pub fn with_encoder(self, encoder: Encoder) -> Result<Self, Error> {
        encoder.stack().parameters(&mut Manifest::default())?;
        encoder.stack().check_source(None)?;
        encoder.check_bridge(&self.learned_manifest()?, self.learned_state)?;
        self.blocks.check_source(Some(encoder.size()?))?;
        Ok(Self { encoder: Some(Arc::new(encoder)), ..self })
    }

    /// Returns the encoder, if the network has one.
    pub fn encoder(&self) -> Option<&Encoder> {
        self.encoder.as_deref()
    }

    /// Returns whether the state before the first step is made by a bridge.
    pub(super) fn has_bridge(&self) -> bool {
        self.encoder().is_some_and(|encoder| encoder.bridge().is_some())
    }

    /// Returns whether sequences begin from another state than zero.
    pub(super) fn begins_otherwise(&self) -> bool {
        self.learned_state || self.has_bridge()
    }

    /// Returns the blocks of the encoder as a network.
    pub(super) fn of_encoder(encoder: &Encoder) -> Self {
        Self { blocks: encoder.stack().clone(), learned_state: false, encoder: None }
    }

    /// Declares the parameters of the encoder and of its bridge, after those of the blocks.
    pub(super) fn declare_encoder(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let Some(encoder) = self.encoder() else {
            return self.blocks.check_source(None);
        };
        manifest.within("encoder", |manifest| encoder.stack().parameters(manifest))?;
        if let Some(dense) = encoder.dense(&self.learned_manifest()?)? {
            manifest.within("bridge", |manifest| dense.parameters(manifest))?;
        }
        Ok(())
    }

    /// Initialises the parameters of the encoder and of its bridge.
    pub(super) fn initialise_encoder(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let Some(encoder) = self.encoder() else { return Ok(()) };
        let mut of_blocks = Manifest::default();
        encoder.stack().parameters(&mut of_blocks)?;
        let (of_blocks, of_bridge) = parameters.split_at_mut(of_blocks.len());
        encoder.stack().initialise(of_blocks, init, rng)?;
        match encoder.dense(&self.learned_manifest()?)? {
            Some(dense) => dense.initialise(of_bridge, init, rng),
            None => Ok(()),
        }
    }
}
