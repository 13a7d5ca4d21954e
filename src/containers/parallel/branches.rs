//! Blocks that read the same input, and what they declare. Must not know passes.

use crate::Error;
use crate::blocks::Block;
use crate::params::Manifest;
use std::ops::Range;
use std::sync::Arc;

/// How the outputs of blocks side by side become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Merge {
    /// Those of each block follow those of the block before it, in each row.
    Concatenate,
    /// They are added up.
    Sum,
}

impl Merge {
    /// Returns the sum, or else the concatenation.
    pub(in super::super) fn of(is_summed: bool) -> Self {
        if is_summed { Self::Sum } else { Self::Concatenate }
    }
}

/// The direction in which a block goes through each sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last step to the first.
    Reverse,
}

/// One of the blocks.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// What the names of its parameters and of its state begin with, before a dot. With `None` they
    /// have the names that the block gives them.
    pub name: Option<String>,
    pub block: Arc<dyn Block>,
    pub direction: Direction,
}

/// Blocks that read the same input, each in its own direction.
#[derive(Clone, Debug)]
pub(in super::super) struct Branches {
    pub(super) children: Vec<Child>,
    pub(super) merge: Merge,
}

impl Branches {
    /// Begins without any block.
    pub(in super::super) fn new(merge: Merge) -> Self {
        Self { children: Vec::new(), merge }
    }

    /// Adds a block.
    pub(in super::super) fn with(
        mut self,
        name: Option<&str>,
        block: Arc<dyn Block>,
        direction: Direction,
    ) -> Self {
        self.children.push(Child { name: name.map(String::from), block, direction });
        self
    }

    /// Adds a block whose name is its number.
    pub(super) fn numbered(self, block: Arc<dyn Block>) -> Self {
        let name = self.children.len().to_string();
        self.with(Some(&name), block, Direction::Forward)
    }

    /// Sets how the outputs become one.
    pub(in super::super) fn merged(self, merge: Merge) -> Self {
        Self { merge, ..self }
    }

    /// Returns whether the outputs are summed.
    pub(in super::super) fn is_summed(&self) -> bool {
        self.merge == Merge::Sum
    }

    /// Returns the blocks in order.
    pub(in super::super) fn blocks(&self) -> impl ExactSizeIterator<Item = &dyn Block> {
        self.children.iter().map(|child| &*child.block)
    }

    /// Returns an error unless all blocks read the same input, and can be summed if they are to be.
    pub(super) fn check(&self) -> Result<(), Error> {
        let first = &*self.children[0].block;
        for block in self.blocks().skip(1) {
            if block.input() != first.input() {
                return Err(Error::Mismatch {
                    what: "blocks side by side",
                    given: format!("{:?} of {}", block.input(), block.config()),
                    expected: format!("{:?}, the input of {}", first.input(), first.config()),
                });
            }
            if self.merge == Merge::Sum && block.output_size() != first.output_size() {
                return Err(Error::Mismatch {
                    what: "outputs to be summed",
                    given: format!("{} features of {}", block.output_size(), block.config()),
                    expected: format!("{}, those of {}", first.output_size(), first.config()),
                });
            }
        }
        Ok(())
    }

    /// Declares all tensors that the blocks declare with `declare`, and returns the range of each
    /// block's tensors.
    pub(super) fn declared(
        &self,
        manifest: &mut Manifest,
        declare: impl Fn(&dyn Block, &mut Manifest) -> Result<(), Error>,
    ) -> Result<Vec<Range<usize>>, Error> {
        self.check()?;
        let ranges = self.children.iter().map(|child| match &child.name {
            Some(name) => manifest.within(name, |manifest| declare(&*child.block, manifest)),
            None => {
                let start = manifest.len();
                declare(&*child.block, manifest)?;
                Ok(start..manifest.len())
            }
        });
        ranges.collect()
    }
}
