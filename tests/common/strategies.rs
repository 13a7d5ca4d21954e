//! Shapes and kinds to draw from.

use super::{Kind, Shape};
use proptest::prelude::*;

/// Shapes from 1 to these sizes.
pub fn shapes(
    inputs: usize,
    hidden: usize,
    batch: usize,
    steps: usize,
) -> impl Strategy<Value = Shape> {
    (1..=inputs, 1..=hidden, 1..=batch, 1..=steps)
        .prop_map(|(inputs, hidden, batch, steps)| Shape { inputs, hidden, batch, steps })
}

/// Any of some kinds.
pub fn any_of(kinds: Vec<Kind>) -> impl Strategy<Value = Kind> {
    proptest::sample::select(kinds)
}

/// Large shapes, distributed over the kernels: each kernel has `each` of them and the plain LSTM
/// has all, so that each shape is tested with some kernels.
pub fn shared_out<T: Copy>(shapes: &[T], each: usize) -> Vec<(Kind, T)> {
    let mut pairs = Vec::new();
    for (nth, kind) in Kind::kernels().into_iter().enumerate() {
        let count = if kind == Kind::LSTM { shapes.len() } else { each };
        let own = shapes.iter().cycle().skip(nth * each).take(count);
        pairs.extend(own.map(|&shape| (kind, shape)));
    }
    pairs
}
