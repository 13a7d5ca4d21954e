//! Two blocks that go through each sequence in both directions. Must not know what they compute.

use super::parallel::{Branches, Direction, Merge};
use crate::blocks::{Block, Config, delegate_block};
use std::sync::Arc;

/// A bidirectional block (section 10.3 of *Deep Learning*). One block goes through each sequence from
/// its first step to its last, and its outputs are h. Another one goes from the last step to the first,
/// and its outputs are g. Row t of the output has h⁽ᵗ⁾ and g⁽ᵗ⁾. They are next to each other, `[h, g]`,
/// or [summed](Self::summed), h + g. The two blocks may be of any kinds and sizes
/// that read the same input. Sequences of different lengths are reversed each within its own length.
///
/// The names of the parameters and of the state begin with `forward.` and `reverse.`. As to the state,
/// the noise and the memory of the reverse block, see [`Reversed`](crate::Reversed); both blocks keep
/// their outputs, and the gradient of these if their backward passes [read
/// outputs](crate::blocks::Pass::reads_output). If ∂L/∂x is computed, a pass keeps it once more for the
/// reverse block. Since the first output needs the last input, there are no streams, no budgets and no
/// truncation.
///
/// With two threads, both blocks run at the same time if their work is about equal, so that a thread need
/// not wait for the other one at each step. With more threads they do so if there are fewer sequences
/// than threads; otherwise all threads share the sequences of one block and then of the other.
///
/// ```
/// use bptt::{Bidirectional, Dense, Lstm, Network, Runtime, Schedule};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// // A tagger: each output has seen the whole sequence.
/// let both = Bidirectional::new(Lstm::new(3, 8)?, Lstm::new(3, 8)?);
/// let network = Network::new(both).then(Dense::new(16, 2)?);
/// let mut model = network.init(&mut SmallRng::seed_from_u64(1), Runtime::best()?)?;
/// assert!(model.parameters().tensor("0.reverse.weight_hh").is_ok());
/// let mut workspace = model.training_workspace(Schedule::packed(&[4, 2])?)?;
/// let y = model.forward(&mut workspace, &[0.5; 6 * 3])?;
/// assert_eq!(y.len(), 6 * 2);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bidirectional {
    branches: Branches,
}

impl Bidirectional {
    /// Runs `forward` from the first step to the last and `reverse` from the last to the first. If
    /// they read different inputs, making a model fails with [`Error::Mismatch`](crate::Error).
    pub fn new(forward: impl Block, reverse: impl Block) -> Self {
        Self::of(Arc::new(forward), Arc::new(reverse), false)
    }

    /// Makes the output the sum of both outputs, which must have the same size.
    pub fn summed(self) -> Self {
        Self { branches: self.branches.merged(Merge::Sum) }
    }

    /// Runs two blocks that were read from a file.
    pub(crate) fn of(forward: Arc<dyn Block>, reverse: Arc<dyn Block>, is_summed: bool) -> Self {
        let branches = Branches::new(Merge::of(is_summed))
            .with(Some("forward"), forward, Direction::Forward)
            .with(Some("reverse"), reverse, Direction::Reverse);
        Self { branches }
    }

    fn described(&self) -> Config {
        let names = ["forward", "reverse"].into_iter().zip(self.branches.blocks());
        let add =
            |config: Config, (name, block): (&str, &dyn Block)| config.with(name, block.config());
        names.fold(Config::new("Bidirectional"), add).with("summed", self.branches.is_summed())
    }
}

delegate_block!(Bidirectional, |this| this.branches, config: this.described());
