//! The blocks of a stack, and what they declare. Must not know passes.

use crate::Error;
use crate::blocks::Block;
use crate::params::Manifest;
use crate::sequence::InputSize;
use std::ops::Range;
use std::sync::Arc;

/// Blocks one above the other: the output of each block is the input of the next. A
/// [`Network`](crate::Network) is a stack already; this one is for the inside of other blocks.
///
/// The names of the parameters and of the state of block n begin with `n.`. A pass keeps what the
/// passes of the blocks keep, the outputs of all blocks but the last one, and two regions for
/// gradients of those outputs, each as wide as the widest output that uses it.
///
/// ```
/// use bptt::{Dense, Gru, Network, Reset, Residual, Runtime, Schedule, Stack};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // A skip connection around two blocks: y = x + f(x).
/// let inner = Stack::new(Gru::new(4, 8, Reset::After)?).then(Dense::new(8, 4)?);
/// let network = Network::new(Residual::new(inner)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// assert!(model.parameters().tensor("0.block.0.weight_ih").is_ok());
/// let mut workspace = model.training_workspace(Schedule::dense(3, 1))?;
/// let y = model.forward(&mut workspace, &[0.5; 3 * 4])?;
/// assert_eq!(y.len(), 3 * 4);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stack {
    blocks: Vec<Arc<dyn Block>>,
    /// The input of the first block and the output of the last one. They are stored, since each
    /// pass needs them and a block may have to compute them.
    pub(super) input: InputSize,
    pub(super) output: usize,
}

impl Stack {
    /// Makes a stack of one block.
    pub fn new(block: impl Block) -> Self {
        Self::of(vec![Arc::new(block)])
    }

    /// Appends a block, whose input is the output of the blocks so far. If it needs another input,
    /// declaring the parameters of the stack fails with [`Error::Mismatch`].
    pub fn then(mut self, block: impl Block) -> Self {
        self.output = block.output_size();
        self.blocks.push(Arc::new(block));
        self
    }

    /// Makes a stack of one or more `blocks`, which were read from a file.
    pub(crate) fn of(blocks: Vec<Arc<dyn Block>>) -> Self {
        let (input, output) = (blocks[0].input(), blocks[blocks.len() - 1].output_size());
        Self { blocks, input, output }
    }

    /// Returns the blocks in order.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &dyn Block> {
        self.blocks.iter().map(|block| &**block)
    }

    /// Returns whether both stacks compute the same outputs from the same parameters.
    pub(crate) fn computes_as(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<dyn Block>, &Arc<dyn Block>)| {
            Arc::ptr_eq(a, b) || a.config().computes_as(&b.config())
        };
        self.blocks.len() == other.blocks.len() && self.blocks.iter().zip(&other.blocks).all(same)
    }

    /// Returns an error unless the input of each block fits the output of the block before it.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (nth, pair) in self.blocks.windows(2).enumerate() {
            let given = pair[0].output_size();
            if pair[1].input() != InputSize::Features(given) {
                return Err(Error::Mismatch {
                    what: "network",
                    given: format!("{given} features of block {nth}, {}", pair[0].config()),
                    expected: format!("the input of block {}, {}", nth + 1, pair[1].config()),
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
        let blocks = self.blocks().enumerate();
        let ranges = blocks.map(|(nth, block)| {
            manifest.within(&nth.to_string(), |manifest| declare(block, manifest))
        });
        ranges.collect()
    }
}
