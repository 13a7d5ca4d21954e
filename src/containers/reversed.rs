//! A wrapper that runs a block backwards in time. Must not know what the inner block computes.

use super::parallel::{Branches, Direction, Merge};
use crate::blocks::{Block, Config, delegate_block};
use std::sync::Arc;

/// A block that goes through each sequence from its last step to its first: it is the inner block
/// run on the reversed sequence, with the outputs back in the order of the input. Row t of the
/// output has seen the inputs of step t and of all later steps of its sequence. Sequences of
/// different lengths each begin at their own last step.
///
/// The parameters and the state are those of the inner block. A state that is given is the one
/// before a sequence's last step, and the state after a pass is the one after its first step. So a
/// long sequence that is cut into several passes carries its state from its last part to the one
/// before. [Noise](crate::Noise) and the [clock](crate::Clockwork) count steps from the last step
/// of a sequence; so do [`activations`](crate::Workspace::activations), which are those of the
/// inner block, except `n.y`.
///
/// A pass keeps what the inner block's pass keeps. In addition it keeps the reversed input,
/// `[rows, features]`, and the outputs in the inner block's order, `[rows, outputs]`. Their gradient
/// takes as much again if the inner block's backward pass [reads
/// outputs](crate::blocks::Pass::reads_output).
///
/// There is no [`Stream`](crate::Stream) of a network with a reversed block, since its first output
/// needs the last input, and for the same reason no [budget](crate::Training::with_budget) and no
/// [truncation](crate::Truncated).
///
/// ```
/// use bptt::{Gru, Network, Reset, Reversed, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// let network = Network::new(Reversed::new(Gru::new(2, 5, Reset::After)?));
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// // Two sequences of 3 and 1 steps, one after the other.
/// let mut workspace = model.training_workspace(Schedule::packed(&[3, 1])?)?;
/// let x = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.5, 0.6];
/// let y = model.forward(&mut workspace, &x)?;
/// // Both sequences end with the same input, which is the first that the GRU sees.
/// assert_eq!(y[2 * 5..3 * 5], y[3 * 5..]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reversed {
    branches: Branches,
}

impl Reversed {
    /// Runs `inner` backwards in time.
    pub fn new(inner: impl Block) -> Self {
        Self::of(Arc::new(inner))
    }

    /// Runs `inner`, which was read from a file, backwards in time.
    pub(crate) fn of(inner: Arc<dyn Block>) -> Self {
        let branches = Branches::new(Merge::Concatenate);
        Self { branches: branches.with(None, inner, Direction::Reverse) }
    }

    fn described(&self) -> Config {
        let inner = self.branches.blocks().map(Block::config).next();
        inner.map_or(Config::new("Reversed"), |inner| Config::new("Reversed").with("block", inner))
    }
}

delegate_block!(Reversed, |this| this.branches, config: this.described());
