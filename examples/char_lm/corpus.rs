//! The text: where it comes from, and which part of it is held out.
//!
//! The text is cut into blocks of 4096 bytes (less if it is short). Every tenth block is held out,
//! or fewer if that would be more than 32; they come from all over the text. The rest, joined
//! together, is the training text.
//!
//! Both models see each held-out block by itself: its first byte is given and not scored, and each
//! later byte is predicted from the bytes before it in the block. At a block's start neither model
//! has any context, and neither sees the training text around the block.

use super::Failure;
use std::path::{Path, PathBuf};

/// The most blocks that are held out.
pub const MOST_HELD_OUT: usize = 32;

/// A text, split.
pub struct Corpus {
    /// A description for people.
    pub name: String,
    /// The training text.
    pub train: Vec<u8>,
    /// The held-out text: blocks of one length.
    pub held_out: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads a file, or this repository's text, for training with `batch` streams.
    pub fn read(file: Option<&Path>, batch: usize) -> Result<Self, Failure> {
        let (name, text) = match file {
            Some(file) => (file.display().to_string(), read(file)?),
            None => (format!("the text of {}", repository().display()), repository_text()?),
        };
        if text.len() < 1000 {
            Err(format!("{name}: {} bytes, need 1000 or more", text.len()))?;
        }
        let (train, held_out) = split(&text);
        if train.len() < 2 * batch {
            Err(format!("{name}: {} bytes to train on, too few for {batch} streams", train.len()))?;
        }
        Ok(Self { name, train, held_out })
    }
}

/// The training text and the held-out blocks.
pub fn split(text: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let block = 4096.min(text.len() / 20);
    let period = (text.len() / block).div_ceil(MOST_HELD_OUT).max(10);
    let (mut train, mut held_out) = (Vec::with_capacity(text.len()), Vec::new());
    for (number, part) in text.chunks(block).enumerate() {
        if part.len() == block && number % period == period / 2 {
            held_out.push(part.to_vec());
        } else {
            train.extend_from_slice(part);
        }
    }
    (train, held_out)
}

/// The folder that cargo names as the package's when the program runs, or named when it was built.
fn repository() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into()).into()
}

/// All source files and documents, in the order of their paths.
pub fn repository_text() -> Result<Vec<u8>, Failure> {
    let mut files = Vec::new();
    list(&repository(), &mut files).map_err(|error| format!("{error}; try --text FILE"))?;
    files.sort();
    Ok(files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?.concat())
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    Ok(std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?)
}

/// Adds the files below a directory. Follows no links, and skips build directories and hidden ones.
fn list(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let context = |error| format!("{}: {error}", directory.display());
    for entry in std::fs::read_dir(directory).map_err(context)? {
        let entry = entry.map_err(context)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(context)?);
        let extension = path.extension().and_then(|extension| extension.to_str());
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_file() && matches!(extension, Some("rs" | "md" | "toml" | "py" | "sh")) {
            files.push(path);
        } else if kind.is_dir() && !hidden && !path.join("CACHEDIR.TAG").exists() {
            list(&path, files)?;
        }
    }
    Ok(())
}
