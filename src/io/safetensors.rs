//! Models as safetensors files: the parameters under the names of their manifest, and the
//! configuration of the network as JSON in the metadata.

use super::json;
use super::kinds::Loader;
use super::tensors::{self, Content};
use crate::blocks::Block;
use crate::{Bridge, Encoder, Error, Model, Network, Runtime};
use std::path::Path;
use std::sync::Arc;

/// The name of the member of the metadata that holds the configuration.
const NETWORK: &str = "network";

/// The members of networks with an encoder: its configuration, and that of its bridge.
const ENCODER: &str = "encoder";
const BRIDGE: &str = "bridge";

/// The member of the metadata of networks whose state before the first step is learned.
const INITIAL_STATE: (&str, &str) = ("initial_state", "learned");

impl Model {
    /// Writes the model to a file: the parameters, always in f32, and the configuration of the
    /// network, so that [`load`](Self::load) can make the model again without other code. An
    /// existing file is replaced only when the new one is complete: the new one is written beside
    /// it first, and then renamed.
    ///
    /// ```
    /// use bptt::{Dense, Lstm, Model, Network, Runtime};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// # let dir = std::env::temp_dir().join(format!("bptt-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let path = dir.join("amp.safetensors");
    /// let network = Network::new(Lstm::new(1, 16)?).then(Dense::new(16, 1)?);
    /// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// model.save(&path)?;
    ///
    /// let again = Model::load(&path, Runtime::best()?)?;
    /// assert_eq!(again.parameters().as_slice(), model.parameters().as_slice());
    /// # std::fs::remove_dir_all(&dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; an existing file is unchanged then. The errors
    /// of [`to_safetensors`](Self::to_safetensors).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        tensors::write(path.as_ref(), &self.to_safetensors()?)
    }

    /// Returns the bytes that [`save`](Self::save) writes.
    ///
    /// # Errors
    /// [`Error::File`] if the tensors are more than the format can hold.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let network = json::to_text(&self.network().configs());
        let mut members = vec![(NETWORK, network)];
        if self.network().has_learned_state() {
            members.push((INITIAL_STATE.0, INITIAL_STATE.1.into()));
        }
        if let Some(encoder) = self.network().encoder() {
            members.push((ENCODER, json::to_text(&encoder.configs())));
            let bridge: Vec<_> = encoder.bridge().iter().map(Bridge::config).collect();
            members.push((BRIDGE, json::to_text(&bridge)));
        }
        tensors::to_bytes(self.manifest(), self.parameters().as_slice(), &members)
    }

    /// Loads a model from a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::File`] if the file is incomplete, was not
    /// written by this crate, or has another version of its form; also if a tensor is missing, has
    /// a wrong shape or type, or belongs to no block, and the message names that tensor. The errors
    /// of the blocks if their options are wrong.
    pub fn load(path: impl AsRef<Path>, runtime: Runtime) -> Result<Self, Error> {
        Loader::new().load(path, runtime)
    }

    /// Makes a model from bytes that [`to_safetensors`](Self::to_safetensors) returned.
    ///
    /// # Errors
    /// The errors of [`load`](Self::load), except [`Error::Io`].
    pub fn of_safetensors(bytes: &[u8], runtime: Runtime) -> Result<Self, Error> {
        Loader::new().of_safetensors(bytes, runtime)
    }
}

impl Loader {
    /// Makes the blocks of a configuration in JSON.
    fn blocks_of(&self, text: Option<&str>) -> Result<Vec<Arc<dyn Block>>, Error> {
        let blocks = self.blocks(&json::of_text(text.unwrap_or("[]"))?)?;
        if blocks.is_empty() {
            return Err(Error::File {
                what: "the configuration".into(),
                given: "without blocks".into(),
                expected: "one block or more".into(),
            });
        }
        Ok(blocks)
    }

    /// Loads a model as [`Model::load`] does, with blocks of the added kinds as well.
    ///
    /// # Errors
    /// The errors of [`Model::load`].
    pub fn load(&self, path: impl AsRef<Path>, runtime: Runtime) -> Result<Model, Error> {
        self.of_safetensors(&tensors::read(path.as_ref())?, runtime)
    }

    /// Makes a model as [`Model::of_safetensors`] does, with blocks of the added kinds as well.
    ///
    /// # Errors
    /// The errors of [`Model::of_safetensors`].
    pub fn of_safetensors(&self, bytes: &[u8], runtime: Runtime) -> Result<Model, Error> {
        let content = Content::of(bytes)?;
        let mut network = Network::of(self.blocks_of(content.member(NETWORK))?);
        if let Some(encoder) = content.member(ENCODER) {
            let encoder = Encoder::of(self.blocks_of(Some(encoder))?);
            let bridge = json::of_text(content.member(BRIDGE).unwrap_or("[]"))?;
            let encoder = match bridge.first() {
                Some(bridge) => encoder.with_bridge(Bridge::of(bridge)?),
                None => encoder,
            };
            network = network.with_encoder(encoder)?;
        }
        match content.member(INITIAL_STATE.0) {
            None => {}
            Some(learned) if learned == INITIAL_STATE.1 => network = network.with_learned_state(),
            Some(other) => {
                return Err(Error::File {
                    what: "the initial state".into(),
                    given: other.into(),
                    expected: format!("{} or not given", INITIAL_STATE.1),
                });
            }
        }
        let manifest = network.manifest()?;
        content.check(&manifest)?;
        let mut parameters = network.parameters()?;
        content.copy_to(&manifest, parameters.as_mut_slice())?;
        network.model(parameters, runtime)
    }
}
