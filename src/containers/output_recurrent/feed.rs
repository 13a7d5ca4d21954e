//! What a block that reads its own outputs reads in a step. Knows coins and rows; must not know the
//! block.

use super::choice::Choice;
use crate::sequence::{Input, InputSize};
use bptt_kernels::{threefry, unit_interval};

/// How the inputs of a step are put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    pub input: InputSize,
    /// Features in a row of the output.
    pub output: usize,
    pub choice: Choice,
}

/// What is known of a row of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// The key of the random numbers of its step and sequence.
    pub key: [u32; 2],
    /// The outputs of the step before, if there are any.
    pub before: Option<&'a [f32]>,
}

impl Feed {
    /// Returns the floats of a row of the input; a token is one.
    pub fn width(&self) -> usize {
        match self.input {
            InputSize::Features(size) => size,
            InputSize::Tokens(_) => 1,
        }
    }

    /// Puts together the input of a row, whose input by the caller is row `at` of `x`, in `to`.
    /// Returns whether it reads outputs of its own.
    pub fn put(
        &self,
        x: Input<'_>,
        at: usize,
        row: Row<'_>,
        teacher_forcing: f32,
        to: &mut [f32],
    ) -> bool {
        let [coin, drawn] = threefry(row.key, [0, 0]).map(unit_interval);
        let own = row.before.filter(|_| coin >= teacher_forcing);
        match (x, own) {
            (Input::Features(x), own) => {
                to.copy_from_slice(&x[at * to.len()..][..to.len()]);
                if let Some(before) = own {
                    let first = to.len() - self.output;
                    to[first..].copy_from_slice(before);
                }
            }
            (Input::Tokens(tokens), own) => {
                let token = match own {
                    Some(before) => self.choice.token(before, drawn),
                    None => tokens[at],
                };
                bytemuck::cast_slice_mut::<f32, u32>(to)[0] = token;
            }
        }
        own.is_some()
    }

    /// Returns rows that [`put`](Self::put) has made as an input.
    pub fn input<'a>(&self, rows: &'a [f32]) -> Input<'a> {
        match self.input {
            InputSize::Features(_) => Input::Features(rows),
            InputSize::Tokens(_) => Input::Tokens(bytemuck::cast_slice(rows)),
        }
    }
}
