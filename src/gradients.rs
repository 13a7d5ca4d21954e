//! How gradients reach the caller's buffer.

/// What a backward pass does to the parameter gradients that it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// The buffer holds this pass's gradients afterwards, whatever it held before.
    No,
    /// This pass's gradients are added: a batch in several passes, or a sequence
    /// in several stretches of time.
    Yes,
}
