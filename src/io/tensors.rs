//! Safetensors files of this crate: the tensors of a manifest by their names, and metadata that says
//! what they are. Must not know what the tensors mean.

use crate::Error;
use crate::params::{Manifest, Tensor};
use ::safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The member of the metadata that marks a file as one of this crate, with the version of its form.
const FORM: (&str, &str) = ("bptt", "1");

/// Returns the bytes of a file with the tensors of `manifest`, whose values are `values`, and with
/// these members in its metadata.
pub(super) fn to_bytes(
    manifest: &Manifest,
    values: &[f32],
    members: &[(&str, String)],
) -> Result<Vec<u8>, Error> {
    let values: Vec<(&Tensor, Vec<u8>)> = manifest
        .tensors()
        .iter()
        .map(|tensor| {
            let values = &values[tensor.range()];
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
    let mut metadata = HashMap::from([(FORM.0.to_string(), FORM.1.to_string())]);
    metadata.extend(members.iter().map(|(name, value)| (name.to_string(), value.clone())));
    views.and_then(|views| serialize(views, Some(metadata))).map_err(|error| refused(&error))
}

/// Writes a file. An existing file is replaced only when the new one is complete: the new one is
/// written beside it first, and then renamed.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // The file may not exist, so a failure to remove it is ignored.
        let _ = std::fs::remove_file(&beside);
        io_error(path, &error)
    })
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| io_error(path, &error))
}

/// The content of a file of this crate.
pub(super) struct Content<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
}

impl<'a> Content<'a> {
    /// Returns an error unless the bytes are a whole file of this crate and of this version.
    pub fn of(bytes: &'a [u8]) -> Result<Self, Error> {
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
        Ok(Self { tensors, metadata })
    }

    /// Returns the member `name` of the metadata, if there is one.
    pub fn member(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// Returns an error unless the tensors are exactly those of the manifest. To be called before
    /// their memory is allocated, so that a file cannot ask for more memory than it has tensors.
    pub fn check(&self, manifest: &Manifest) -> Result<(), Error> {
        for tensor in manifest.tensors() {
            let what = format!("tensor {}", tensor.name());
            let expected = format!("F32 {:?}", tensor.shape());
            let given = match self.tensors.tensor(tensor.name()) {
                Ok(view) if (view.dtype(), view.shape()) == (Dtype::F32, tensor.shape()) => {
                    continue;
                }
                Ok(view) => format!("{:?} {:?}", view.dtype(), view.shape()),
                Err(_) => "missing".into(),
            };
            return Err(Error::File { what, given, expected });
        }
        let unread = self.tensors.names().into_iter().find(|name| manifest.find(name).is_none());
        match unread {
            None => Ok(()),
            Some(name) => Err(Error::File {
                what: format!("tensor {name}"),
                given: "in the file".into(),
                expected: format!("one of {manifest}"),
            }),
        }
    }

    /// Copies the tensors of the manifest, which have been checked, to `values`.
    pub fn copy_to(&self, manifest: &Manifest, values: &mut [f32]) -> Result<(), Error> {
        for tensor in manifest.tensors() {
            let view = self.tensors.tensor(tensor.name()).map_err(|error| refused(&error))?;
            let to = &mut values[tensor.range()];
            for (to, bytes) in to.iter_mut().zip(view.data().as_chunks().0) {
                *to = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
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
