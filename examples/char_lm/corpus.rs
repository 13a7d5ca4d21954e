//! The text: where it comes from, and which part of it is held out.
//!
//! The text is cut into blocks of 4096 bytes (less where it is short), and every
//! tenth, or less often where that would be more than 32, is held out: blocks from
//! all over the text. The rest, spliced together, is what models are fitted on.
//!
//! Both models see a held-out block by itself: its first byte is given and not
//! scored, and each byte after it is predicted from the bytes of its block before
//! it. Neither has any context at a block's start, and neither sees the training
//! text around it.

use super::Failure;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What of the repository is read: these directories and the files beside them.
const DIRECTORIES: [&str; 7] =
    ["src", "kernels", "tests", "benches", "examples", "fuzz", "scripts"];

/// The kinds of files that are sources and documents.
const EXTENSIONS: [&str; 5] = ["rs", "md", "toml", "py", "sh"];

const BLOCK: usize = 4096;
const MOST_HELD_OUT: usize = 32;

/// Texts with less than this many bytes are refused.
const SHORTEST: usize = 1000;

/// A text, split.
pub struct Corpus {
    /// What it is, for people.
    pub name: String,
    /// What models are fitted on.
    pub train: Vec<u8>,
    /// What they are compared on: blocks of one length.
    pub held_out: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads a file, or this repository's text, for training with `batch` streams.
    pub fn read(file: Option<&Path>, batch: usize) -> Result<Self, Failure> {
        let (name, text) = match file {
            Some(file) => {
                let name = file.display().to_string();
                let text = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
                (name, text)
            }
            None => {
                let root = repository();
                (format!("the text of {}", root.display()), repository_text(&root)?)
            }
        };
        if text.len() < SHORTEST {
            let len = text.len();
            return Err(format!("{name}: {len} bytes, need {SHORTEST} or more").into());
        }
        let corpus = Self::split(name, &text);
        if corpus.train.len() < 2 * batch {
            let (name, len) = (corpus.name, corpus.train.len());
            return Err(
                format!("{name}: {len} bytes to train on, too few for {batch} streams").into()
            );
        }
        Ok(corpus)
    }

    fn split(name: String, text: &[u8]) -> Self {
        let block = BLOCK.min(text.len() / 20);
        let blocks = text.len() / block;
        let period = blocks.div_ceil(MOST_HELD_OUT).max(10);
        let (mut train, mut held_out) = (Vec::with_capacity(text.len()), Vec::new());
        for (number, block) in text.chunks(block).enumerate() {
            if number < blocks && number % period == period / 2 {
                held_out.push(block.to_vec());
            } else {
                train.extend_from_slice(block);
            }
        }
        Self { name, train, held_out }
    }
}

/// Where cargo says that the package is, or said so when this was built.
fn repository() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into()).into()
}

/// All sources and documents, in the order of their paths.
fn repository_text(root: &Path) -> Result<Vec<u8>, Failure> {
    let mut files = Vec::new();
    list(root, false, &mut files)?;
    for directory in DIRECTORIES.map(|name| root.join(name)) {
        if directory.is_dir() {
            list(&directory, true, &mut files)?;
        }
    }
    files.sort();
    let mut text = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        text.extend(bytes);
    }
    Ok(text)
}

/// Adds the directory's files; follows no links and enters no build directory.
fn list(directory: &Path, deep: bool, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let context = |error| format!("{}: {error}; --text FILE trains on a file", directory.display());
    for entry in std::fs::read_dir(directory).map_err(context)? {
        let entry = entry.map_err(context)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(context)?);
        let wanted = |extension| EXTENSIONS.map(OsStr::new).contains(&extension);
        if kind.is_file() && path.extension().is_some_and(wanted) {
            files.push(path);
        } else if kind.is_dir() && deep && !path.join("CACHEDIR.TAG").exists() {
            list(&path, deep, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_on_one_side() {
        for len in [1000, 40_960, 1_000_000, 3_000_001] {
            let text: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let corpus = Corpus::split(String::new(), &text);
            let held_out: usize = corpus.held_out.iter().map(Vec::len).sum();
            assert_eq!(corpus.train.len() + held_out, len);
            assert!((2..=MOST_HELD_OUT).contains(&corpus.held_out.len()), "{len}");
            assert!(held_out * 9 <= len, "{len}");
            assert!(corpus.held_out.iter().all(|block| block.len() == corpus.held_out[0].len()));
        }
    }

    #[test]
    fn the_repository_has_a_text() {
        let text = repository_text(&repository()).unwrap();
        let here = include_bytes!("corpus.rs");
        assert!(text.windows(here.len()).any(|window| window == here));
    }
}
