//! The inputs of a pass as its steps see them: those that wait first, where the input is
//! late, and then as many of the pass's own. Knows lengths; must not know products.

/// Inputs that are handed out from the front.
pub(crate) struct Inputs<'a> {
    waiting: &'a [f32],
    rest: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// What waits, or nothing, and then `x`.
    pub(crate) fn new(waiting: &'a [f32], x: &'a [f32]) -> Self {
        Self { waiting, rest: x }
    }

    /// The next `len` floats, in one part or two; neither is empty.
    #[inline]
    pub(crate) fn next(&mut self, len: usize) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let (first, waiting) = self.waiting.split_at(len.min(self.waiting.len()));
        let (second, rest) = self.rest.split_at(len - first.len());
        (self.waiting, self.rest) = (waiting, rest);
        [first, second].into_iter().filter(|part| !part.is_empty())
    }
}
