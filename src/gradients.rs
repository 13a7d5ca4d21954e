//! Whether a backward pass overwrites gradients or adds to them.

/// Whether a backward pass overwrites the parameter gradients or adds to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// Overwrites the buffer with the gradients of this pass.
    No,
    /// Adds the gradients of this pass to those in the buffer, for a batch that takes several
    /// passes, or a long sequence that is cut into several.
    Yes,
}
