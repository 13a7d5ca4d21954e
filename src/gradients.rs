//! How gradients reach the caller's buffer.

/// What a backward pass does to the parameter gradients that it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The buffer holds this pass's gradients afterwards, whatever it held before.
    Overwrite,
    /// This pass's gradients are added: a batch in several passes, or a sequence
    /// in several stretches of time.
    Accumulate,
}
