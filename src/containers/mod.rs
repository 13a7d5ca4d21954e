//! Blocks that hold blocks. Knows only what every block has in common; must not know networks, or
//! what a block within computes.

mod attention_wrapper;
mod bidirectional;
mod deep_transition;
mod keys;
mod output_recurrent;
mod packed;
mod parallel;
mod residual;
mod reversed;
mod stack;
mod step_by_step;

pub use attention_wrapper::AttentionWrapper;
pub use bidirectional::Bidirectional;
pub use deep_transition::DeepTransition;
pub use keys::Keys;
pub use output_recurrent::{Choice, OutputRecurrent};
pub(crate) use packed::ChildrenPacked;
pub use parallel::Parallel;
pub use residual::Residual;
pub use reversed::Reversed;
pub use stack::Stack;
pub(crate) use stack::StackSteps;

/// The rows of a stream that go through all blocks of a container together before the next rows do.
const CHUNK: usize = 192;
