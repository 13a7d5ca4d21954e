//! Where the values of each sequence lie in a state, and copies of single sequences. Knows shapes;
//! must not know blocks.

use super::manifest::Manifest;
use crate::Error;
use std::ops::Range;

/// The places of the sequences in a state: each tensor has the shape `[…, B, width]`, so sequence n
/// has every B-th row of it, from row n on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences<'a> {
    manifest: &'a Manifest,
    batch: usize,
    /// Whether tensors are left out that are zero before the first step in any case.
    only_learned: bool,
}

/// A part of the work of reordering sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Sequence `to` becomes sequence `from`.
    Copy { from: usize, to: usize },
    /// The two sequences change places.
    Swap(usize, usize),
}

impl<'a> Sequences<'a> {
    /// The places of `batch` sequences in the tensors of `manifest`.
    ///
    /// # Errors
    /// [`Error::Mismatch`], about `what`, unless the last dimension but one of each tensor is the
    /// batch, so that single sequences can be found in it.
    pub fn new(what: &'static str, manifest: &'a Manifest, batch: usize) -> Result<Self, Error> {
        let fits = |shape: &[usize]| shape.len() >= 2 && shape[shape.len() - 2] == batch;
        match manifest.tensors().iter().find(|tensor| !fits(tensor.shape())) {
            None => Ok(Self { manifest, batch, only_learned: false }),
            Some(tensor) => Err(Error::Mismatch {
                what,
                given: format!("{} {:?}", tensor.name(), tensor.shape()),
                expected: format!("[{batch}, …] or […, {batch}, …], the batch last but one"),
            }),
        }
    }

    /// Leaves out the tensors that are zero before the first step in any case.
    pub fn of_learned(self) -> Self {
        Self { only_learned: true, ..self }
    }

    /// Returns the tensors that are [left](Self::of_learned) then.
    pub fn learned(self) -> Result<Manifest, Error> {
        let mut learned = Manifest::default();
        for tensor in self.manifest.tensors().iter().filter(|tensor| !tensor.begins_at_zero()) {
            learned.declare(tensor.name(), tensor.shape())?;
        }
        Ok(learned)
    }

    /// Returns an error unless there is a sequence `n`.
    pub fn check(self, n: usize) -> Result<(), Error> {
        if n < self.batch {
            return Ok(());
        }
        let expected = format!("below {}, the number of sequences", self.batch).into();
        Err(Error::Value { what: "sequence", given: n.to_string(), expected })
    }

    /// Returns the number of steps that all sequences have taken after one of them was set to a
    /// state after `one` steps, when the others have taken `others`. Without a block that reads the
    /// number (`reads_step`), it may stay as it is.
    ///
    /// # Errors
    /// [`Error::Value`] if the numbers differ and a block reads them.
    pub fn joined_step(self, one: u64, others: u64, reads_step: bool) -> Result<u64, Error> {
        if self.batch == 1 {
            return Ok(one);
        }
        if one == others || !reads_step {
            return Ok(others);
        }
        let expected = format!("{others}, as of the other sequences, since a block reads it");
        Err(Error::Value { what: "step", given: one.to_string(), expected: expected.into() })
    }

    /// Returns the tensors of `batch` sequences instead of these.
    pub fn with_batch(self, batch: usize) -> Result<Manifest, Error> {
        let mut manifest = Manifest::default();
        for tensor in self.manifest.tensors() {
            let mut shape = tensor.shape().to_vec();
            let last_but_one = shape.len() - 2;
            shape[last_but_one] = batch;
            match tensor.begins_at_zero() {
                true => manifest.declare_zero(tensor.name(), &shape)?,
                false => manifest.declare(tensor.name(), &shape)?,
            }
        }
        Ok(manifest)
    }

    /// Returns the places of sequence `n` in the state, in their order.
    fn rows(self, n: usize) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let Self { batch, only_learned, manifest } = self;
        let tensors = manifest.tensors().iter();
        let tensors = tensors.filter(move |tensor| !(only_learned && tensor.begins_at_zero()));
        let tensors = tensors.map(|tensor| (tensor.shape(), tensor.range()));
        tensors.flat_map(move |(shape, range)| {
            let (width, first) = (shape[shape.len() - 1], range.start);
            let place = move |nth: usize| {
                let row = first + (nth * batch + n) * width;
                row..row + width
            };
            (0..shape[..shape.len() - 2].iter().product()).map(place)
        })
    }

    /// Copies sequence `n` of the state `values` to `one`, a state of one sequence.
    pub fn read(self, n: usize, values: &[f32], one: &mut [f32]) {
        let mut to = 0;
        for row in self.rows(n) {
            one[to..to + row.len()].copy_from_slice(&values[row.clone()]);
            to += row.len();
        }
    }

    /// Adds sequence `n` of the state `values` to `sum`, a state of one sequence.
    pub fn add(self, n: usize, values: &[f32], sum: &mut [f32]) {
        let mut to = 0;
        for row in self.rows(n) {
            let sum = &mut sum[to..to + row.len()];
            to += row.len();
            sum.iter_mut().zip(&values[row]).for_each(|(sum, value)| *sum += value);
        }
    }

    /// Adds `one`, a state of one sequence, to sequence `n` of the state `values`.
    pub fn add_to(self, n: usize, values: &mut [f32], one: &[f32]) {
        let mut from = 0;
        for row in self.rows(n) {
            let one = &one[from..from + row.len()];
            from += row.len();
            values[row].iter_mut().zip(one).for_each(|(value, one)| *value += one);
        }
    }

    /// Copies `one`, a state of one sequence, to sequence `n` of the state `values`.
    pub fn write(self, n: usize, values: &mut [f32], one: &[f32]) {
        let mut from = 0;
        for row in self.rows(n) {
            let len = row.len();
            values[row].copy_from_slice(&one[from..from + len]);
            from += len;
        }
    }

    /// Sets sequence `n` of the state `values` to zero.
    pub fn reset(self, n: usize, values: &mut [f32]) {
        self.rows(n).for_each(|row| values[row].fill(0.0));
    }

    /// Makes these moves, one after the other, in the state `values`.
    pub fn make(self, moves: &[Move], values: &mut [f32]) {
        for &one in moves {
            let (Move::Copy { from: a, to: b } | Move::Swap(a, b)) = one;
            for (a, b) in self.rows(a).zip(self.rows(b)) {
                match one {
                    Move::Copy { .. } => values.copy_within(a, b.start),
                    Move::Swap(..) => {
                        let (first, second) = if a.start < b.start { (a, b) } else { (b, a) };
                        let (head, tail) = values.split_at_mut(second.start);
                        head[first].swap_with_slice(&mut tail[..second.len()]);
                    }
                }
            }
        }
    }

    /// Returns the moves after which each sequence i is the former sequence `order[i]`.
    ///
    /// # Errors
    /// [`Error::Length`] unless `order` has a number for each sequence, [`Error::Value`] if one of
    /// them is no sequence.
    pub fn moves(self, order: &[usize]) -> Result<Vec<Move>, Error> {
        crate::error::check_len("order", order.len(), self.batch)?;
        order.iter().try_for_each(|&n| self.check(n))?;
        let mut order = order.to_vec();
        // How many other sequences still become this one.
        let mut wanted = vec![0; order.len()];
        (0..order.len()).filter(|&i| order[i] != i).for_each(|i| wanted[order[i]] += 1);
        let mut moves = Vec::new();
        // A sequence that no other one becomes can be replaced. Then the one that it was replaced
        // by is wanted once less.
        for first in 0..order.len() {
            let mut to = first;
            while wanted[to] == 0 && order[to] != to {
                let from = std::mem::replace(&mut order[to], to);
                moves.push(Move::Copy { from, to });
                wanted[from] -= 1;
                to = from;
            }
        }
        // The others are in circles.
        for first in 0..order.len() {
            let mut at = first;
            while order[at] != first {
                let next = std::mem::replace(&mut order[at], at);
                moves.push(Move::Swap(at, next));
                at = next;
            }
            order[at] = at;
        }
        Ok(moves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders of up to five sequences: each sequence is copied or swapped into its place, and
    /// those that stay are not touched.
    #[test]
    fn moves_give_the_order_and_touch_no_other() {
        for batch in 1..=5usize {
            let mut manifest = Manifest::default();
            manifest.declare("h", &[2, batch, 3]).unwrap();
            manifest.declare("c", &[batch, 1]).unwrap();
            let sequences = Sequences::new("state", &manifest, batch).unwrap();
            let before: Vec<f32> = (0..manifest.len()).map(|at| at as f32).collect();
            let of = |values: &[f32], n: usize| -> Vec<f32> {
                let mut one = vec![0.0; 7];
                sequences.read(n, values, &mut one);
                one
            };
            for code in 0..batch.pow(batch as u32) {
                let order: Vec<_> =
                    (0..batch).map(|i| code / batch.pow(i as u32) % batch).collect();
                let moves = sequences.moves(&order).unwrap();
                let mut values = before.clone();
                sequences.make(&moves, &mut values);
                for (n, &old) in order.iter().enumerate() {
                    assert_eq!(of(&values, n), of(&before, old), "{order:?}: {moves:?}");
                    let touches = |one: &Move| match *one {
                        Move::Copy { to, .. } => to == n,
                        Move::Swap(a, b) => a == n || b == n,
                    };
                    assert!(old != n || !moves.iter().any(touches), "{order:?}: {moves:?}");
                }
                assert!(moves.len() <= order.len());
            }
        }
    }

    #[test]
    fn what_cannot_be_divided_is_refused() {
        let mut manifest = Manifest::default();
        manifest.declare("0.h", &[2, 3]).unwrap();
        manifest.declare("0.count", &[2]).unwrap();
        let error = Sequences::new("state", &manifest, 2).unwrap_err();
        let text =
            "state: made for 0.count [2], expected [2, …] or […, 2, …], the batch last but one";
        assert_eq!(error.to_string(), text);
    }
}
