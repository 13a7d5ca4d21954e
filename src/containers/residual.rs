//! A skip connection around a block. Must not know what the block computes.

use super::parallel::{Branches, Direction, Merge};
use crate::Error;
use crate::blocks::{Block, Config, Identity, delegate_block};
use crate::sequence::InputSize;
use std::sync::Arc;

/// A skip connection around a block (section 10.5 of *Deep Learning*, figure 10.13c): y = x + f(x),
/// where f is the block, whose outputs have the size of its input. For other combinations of a block
/// and its input, [`Parallel`](crate::Parallel) puts them next to each other.
///
/// The names of the parameters and of the state of the block begin with `block.`. A pass keeps two
/// copies of the outputs, and one of ∂L/∂x, beside what the block's pass keeps.
///
/// ```
/// use bptt::{Dense, Lstm, Network, Residual, Runtime};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // Deep stacks learn more easily with skip connections.
/// let mut network = Network::new(Dense::new(3, 16)?);
/// for _ in 0..4 {
///     network = network.then(Residual::new(Lstm::new(16, 16)?)?);
/// }
/// let model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// let mut y = [0.0; 16];
/// model.stream(1)?.step(&[0.5; 3], &mut y)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Residual {
    branches: Branches,
}

impl Residual {
    /// Adds the input of `block` to its output.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if they have different sizes, or the input is tokens.
    pub fn new(block: impl Block) -> Result<Self, Error> {
        Self::of(Arc::new(block))
    }

    /// Adds the input of a block that was read from a file to its output.
    pub(crate) fn of(block: Arc<dyn Block>) -> Result<Self, Error> {
        let size = block.output_size();
        if block.input() != InputSize::Features(size) {
            return Err(Error::Mismatch {
                what: "a skip connection",
                given: format!("{}, with {size} outputs", block.config()),
                expected: "a block with as many outputs as it has inputs".into(),
            });
        }
        let branches = Branches::new(Merge::Sum)
            .with(Some("input"), Arc::new(Identity::new(size)?), Direction::Forward)
            .with(Some("block"), block, Direction::Forward);
        Ok(Self { branches })
    }

    fn described(&self) -> Config {
        let block = self.branches.blocks().last().map(Block::config);
        block.map_or(Config::new("Residual"), |block| Config::new("Residual").with("block", block))
    }
}

delegate_block!(Residual, |this| this.branches, config: this.described());
