//! What the blocks of a decoder read of its encoder beside their input. Must not know encoders or
//! what a block does with it.

use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Where the gradients of a [`Source`] go. Each block that reads it adds to a part of its own, with the
/// number that it got when it was [planned](SourceRows::outputs_reader). So no sum depends on the order
/// in which blocks run, or on how a pass is divided.
#[derive(Debug, Default)]
pub struct SourceGradients<'a> {
    /// Those of the outputs, `[readers, Σ lengths, outputs]`.
    pub outputs: &'a mut [f32],
    /// Those of the context, `[readers, B, context]`.
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

/// The rows of a [`Source`], and the blocks that are planned to read them.
#[derive(Debug)]
pub struct SourceRows {
    /// The floats in a row.
    pub size: SourceSize,
    /// The sequence in row n of each step of the decoder has the rows `starts[n]..starts[n + 1]` of
    /// the encoder's outputs. There may be none.
    pub starts: Vec<usize>,
    readers: Readers<AtomicUsize>,
}

/// The numbers of blocks that read the outputs and the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readers<N = usize> {
    pub outputs: N,
    pub context: N,
}

impl SourceRows {
    /// Makes the rows of sources without a reader yet.
    pub(crate) fn new(size: SourceSize, starts: Vec<usize>) -> Self {
        Self { size, starts, readers: Readers::default() }
    }

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

    /// Returns the number of a new reader of the outputs, for a block that is planned. Its backward
    /// passes add to this part of [`SourceGradients::outputs`].
    pub fn outputs_reader(&self) -> usize {
        self.readers.outputs.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the number of a new reader of the context, as [`outputs_reader`](Self::outputs_reader).
    pub fn context_reader(&self) -> usize {
        self.readers.context.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns how many readers there are.
    pub(crate) fn readers(&self) -> Readers {
        let Readers { outputs, context } = &self.readers;
        let [outputs, context] = [outputs, context].map(|count| count.load(Ordering::Relaxed));
        Readers { outputs, context }
    }

    /// Goes back to this many readers, before the same blocks are planned again.
    pub(crate) fn plan_again(&self, readers: Readers) {
        self.readers.outputs.store(readers.outputs, Ordering::Relaxed);
        self.readers.context.store(readers.context, Ordering::Relaxed);
    }
}
