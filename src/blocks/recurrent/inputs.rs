//! The inputs of a pass in the order in which its steps read them. If the layer reads its input a
//! step late, the input that waits in the state comes first, and the last input of the pass is left
//! over for the next pass. Knows lengths; must not know products.

/// The inputs that the steps have not read yet.
pub(crate) struct Inputs<'a> {
    waiting: &'a [f32],
    rest: &'a [f32],
}

impl<'a> Inputs<'a> {
    /// The inputs `waiting`, which may be empty, followed by `x`.
    pub(crate) fn new(waiting: &'a [f32], x: &'a [f32]) -> Self {
        Self { waiting, rest: x }
    }

    /// Returns the next `len` floats, in one part or two; no part is empty.
    #[inline]
    pub(crate) fn next(&mut self, len: usize) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let (first, waiting) = self.waiting.split_at(len.min(self.waiting.len()));
        let (second, rest) = self.rest.split_at(len - first.len());
        (self.waiting, self.rest) = (waiting, rest);
        [first, second].into_iter().filter(|part| !part.is_empty())
    }
}
