//! States as safetensors files: the tensors under the names of their manifest, and the numbers of
//! sequences and of steps in the metadata.

use super::tensors::{self, Content};
use crate::error::check_step;
use crate::{Error, Model, State};
use std::path::Path;

/// The name of the member of the metadata that holds the number of sequences.
const BATCH: &str = "batch";

/// The name of the member of the metadata that holds the number of steps.
const STEP: &str = "step";

impl State {
    /// Writes the state to a file, which [`Model::load_state`] reads. An existing file is replaced
    /// only when the new one is complete, as by [`Model::save`].
    ///
    /// ```
    /// use bptt::{Lstm, Network, Runtime};
    /// use rand::{SeedableRng, rngs::SmallRng};
    ///
    /// # let dir = std::env::temp_dir().join(format!("bptt-state-{}", std::process::id()));
    /// # std::fs::create_dir_all(&dir)?;
    /// # let path = dir.join("state.safetensors");
    /// let network = Network::new(Lstm::new(1, 16)?);
    /// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
    /// let mut stream = model.stream(1)?;
    /// stream.step(&[0.5], &mut [0.0; 16])?;
    /// stream.state()?.save(&path)?;
    ///
    /// // Later the stream goes on.
    /// let mut again = model.stream(1)?;
    /// again.set_state(&model.load_state(&path)?)?;
    /// assert_eq!(again.state()?, stream.state()?);
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
    /// [`Error::Value`] if the sequences have taken 2⁶³ steps or more; [`Error::File`] if the
    /// tensors are more than the format can hold.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let step = check_step(self.step())?;
        let members = [(BATCH, self.batch().to_string()), (STEP, step.to_string())];
        tensors::to_bytes(self.manifest(), self.as_slice(), &members)
    }
}

impl Model {
    /// Loads a state of this model's network from a file that [`State::save`] wrote. The number of
    /// sequences is that of the file.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::File`] if the file is incomplete, is not a
    /// state of this crate, or has another version of its form; also if a tensor is missing, has a
    /// wrong shape or type, or is not of this network's state, and the message names that tensor.
    /// [`Error::TooLarge`] or [`Error::OutOfMemory`] if the state cannot be allocated.
    pub fn load_state(&self, path: impl AsRef<Path>) -> Result<State, Error> {
        self.state_of_safetensors(&tensors::read(path.as_ref())?)
    }

    /// Makes a state from bytes that [`State::to_safetensors`] returned.
    ///
    /// # Errors
    /// The errors of [`load_state`](Self::load_state), except [`Error::Io`].
    pub fn state_of_safetensors(&self, bytes: &[u8]) -> Result<State, Error> {
        let content = Content::of(bytes)?;
        let batch = number(&content, BATCH, 1..=usize::MAX as u64)? as usize;
        let step = number(&content, STEP, 0..=(1 << 63) - 1)?;
        let manifest = self.network().state_manifest(batch)?;
        content.check(&manifest)?;
        let mut state = self.network().state(batch)?;
        content.copy_to(&manifest, state.as_mut_slice())?;
        state.set_step(step)?;
        Ok(state)
    }
}

/// Returns the number in the member `name` of the metadata, which must be in the range `within`.
fn number(
    content: &Content<'_>,
    name: &str,
    within: std::ops::RangeInclusive<u64>,
) -> Result<u64, Error> {
    let given = content.member(name);
    let number = given.and_then(|text| text.parse().ok());
    number.filter(|number| within.contains(number)).ok_or_else(|| Error::File {
        what: format!("the number {name} of a state"),
        given: given.unwrap_or("not given").into(),
        expected: format!("{} to {}", within.start(), within.end()),
    })
}
