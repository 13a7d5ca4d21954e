//! Models as safetensors files: the parameters under the names of their manifest, and the
//! configuration of the network as JSON in the metadata.

use super::json;
use super::kinds::Loader;
use crate::params::{Manifest, Tensor};
use crate::{Error, Model, Network, Runtime};
use ::safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The member of the metadata that marks a file as one of this crate, with the version of its form.
const FORM: (&str, &str) = ("bptt", "1");

/// The name of the member of the metadata that holds the configuration.
const NETWORK: &str = "network";

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
        let path = path.as_ref();
        let bytes = self.to_safetensors()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|error| {
            // The file may not exist, so a failure to remove it is ignored.
            let _ = std::fs::remove_file(&beside);
            io_error(path, &error)
        })
    }

    /// Returns the bytes that [`save`](Self::save) writes.
    ///
    /// # Errors
    /// [`Error::File`] if the tensors are more than the format can hold.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let parameters = self.parameters();
        let values: Vec<(&Tensor, Vec<u8>)> = parameters
            .manifest()
            .tensors()
            .iter()
            .map(|tensor| {
                let values = &parameters.as_slice()[tensor.range()];
                (tensor, values.iter().flat_map(|value| value.to_le_bytes()).collect())
            })
            .collect();
        let views: Result<Vec<_>, _> = values
            .iter()
            .map(|(tensor, bytes)| {
                let view = TensorView::new(Dtype::F32, tensor.shape().to_vec(), bytes)?;
                Ok((tensor.name(), view))
            })
            .collect();
        let network = json::to_text(&self.network().configs());
        let metadata = HashMap::from([
            (FORM.0.to_string(), FORM.1.to_string()),
            (NETWORK.to_string(), network),
        ]);
        views.and_then(|views| serialize(views, Some(metadata))).map_err(|error| refused(&error))
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
    /// Loads a model as [`Model::load`] does, with blocks of the added kinds as well.
    ///
    /// # Errors
    /// The errors of [`Model::load`].
    pub fn load(&self, path: impl AsRef<Path>, runtime: Runtime) -> Result<Model, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| io_error(path, &error))?;
        self.of_safetensors(&bytes, runtime)
    }

    /// Makes a model as [`Model::of_safetensors`] does, with blocks of the added kinds as well.
    ///
    /// # Errors
    /// The errors of [`Model::of_safetensors`].
    pub fn of_safetensors(&self, bytes: &[u8], runtime: Runtime) -> Result<Model, Error> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| refused(&error))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| refused(&error))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get(FORM.0).map(String::as_str) != Some(FORM.1) {
            let given = metadata.get(FORM.0);
            return Err(Error::File {
                what: "the form of the file".into(),
                given: given.map_or("not given".into(), |form| format!("{} {form}", FORM.0)),
                expected: format!("{} {}", FORM.0, FORM.1),
            });
        }
        let network = metadata.get(NETWORK).map_or("[]", String::as_str);
        let blocks: Result<Vec<_>, Error> =
            json::of_text(network)?.iter().map(|config| self.block(config)).collect();
        let blocks = blocks?;
        if blocks.is_empty() {
            return Err(Error::File {
                what: "the configuration".into(),
                given: "without blocks".into(),
                expected: "one block or more".into(),
            });
        }
        let network = Network::of(blocks);
        // This check comes before the parameters are allocated, so that a file cannot ask for more
        // memory than the tensors in it.
        check(&network.manifest()?, &tensors)?;
        let mut parameters = network.parameters()?;
        for tensor in parameters.manifest().clone().tensors() {
            let view = tensors.tensor(tensor.name()).map_err(|error| refused(&error))?;
            let to = &mut parameters.as_mut_slice()[tensor.range()];
            for (to, bytes) in to.iter_mut().zip(view.data().as_chunks().0) {
                *to = f32::from_le_bytes(*bytes);
            }
        }
        network.model(parameters, runtime)
    }
}

/// Returns an error unless the tensors of a file are exactly those of the manifest.
fn check(manifest: &Manifest, tensors: &SafeTensors<'_>) -> Result<(), Error> {
    for tensor in manifest.tensors() {
        let what = format!("tensor {}", tensor.name());
        let expected = format!("F32 {:?}", tensor.shape());
        let given = match tensors.tensor(tensor.name()) {
            Ok(view) if (view.dtype(), view.shape()) == (Dtype::F32, tensor.shape()) => continue,
            Ok(view) => format!("{:?} {:?}", view.dtype(), view.shape()),
            Err(_) => "missing".into(),
        };
        return Err(Error::File { what, given, expected });
    }
    let unread = tensors.names().into_iter().find(|name| manifest.find(name).is_none());
    match unread {
        None => Ok(()),
        Some(name) => Err(Error::File {
            what: format!("tensor {name}"),
            given: "in the file".into(),
            expected: format!("one of {manifest}"),
        }),
    }
}

fn refused(error: &::safetensors::SafeTensorError) -> Error {
    let (what, expected) = ("the file".into(), "a whole file of safetensors".into());
    Error::File { what, given: error.to_string(), expected }
}

fn io_error(path: &Path, error: &std::io::Error) -> Error {
    let (path, message) = (path.display().to_string(), error.to_string());
    Error::Io { path, kind: error.kind(), message }
}
