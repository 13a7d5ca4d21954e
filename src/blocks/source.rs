//! What the blocks of a decoder read of its encoder beside their input. Must not know encoders or
//! what a block does with it.

/// What the blocks of a decoder read of its [encoder](crate::Network::with_encoder) beside their own
/// input. Both slices are empty in a network without an encoder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Source<'a> {
    /// The outputs of the encoder, `[Σ lengths, outputs]`, one sequence after the other:
    /// [`SourceRows`] says which rows are those of which sequence.
    pub outputs: &'a [f32],
    /// The context C of each sequence, `[B, context]`: see [`Encoder`](crate::Encoder).
    pub context: &'a [f32],
}

/// Where the gradients of a [`Source`] go. Backward passes add to them.
#[derive(Debug, Default)]
pub struct SourceGradients<'a> {
    /// As [`Source::outputs`].
    pub outputs: &'a mut [f32],
    /// As [`Source::context`].
    pub context: &'a mut [f32],
}

impl SourceGradients<'_> {
    /// Lends the gradients to one of several blocks.
    pub fn reborrow(&mut self) -> SourceGradients<'_> {
        SourceGradients { outputs: &mut *self.outputs, context: &mut *self.context }
    }
}

/// The floats in a row of a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceSize {
    /// Features in a row of the encoder's outputs.
    pub outputs: usize,
    /// Features of the context of a sequence.
    pub context: usize,
}

/// The rows of a [`Source`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRows {
    /// The floats in a row.
    pub size: SourceSize,
    /// The sequence in row n of each step of the decoder has the rows `starts[n]..starts[n + 1]` of
    /// the encoder's outputs. There may be none.
    pub starts: Vec<usize>,
}

impl SourceRows {
    /// Returns the number of rows of the encoder's outputs.
    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Returns whether the encoder has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the most rows that a sequence has.
    pub fn longest(&self) -> usize {
        self.starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}
