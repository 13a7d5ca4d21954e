//! The parameters of an LSTM, or their gradients: one contiguous buffer.

use super::Gate;
use crate::Error;
use crate::error::product;
use bptt_kernels::AlignedBuffer;
use std::ops::Range;

/// The parameters of an LSTM, or their gradients, in one contiguous buffer that
/// starts on a cache line: U `[4H, I]`, W `[4H, H]`, b `[4H]`, each row-major with
/// the gates in the order i, f, g, o. An optimiser, a norm, a file or an
/// all-reduce sees one slice.
#[derive(Clone, Debug)]
pub struct LstmParameters {
    input_size: usize,
    hidden_size: usize,
    buffer: AlignedBuffer,
}

impl LstmParameters {
    pub(crate) fn zeros(input_size: usize, hidden_size: usize) -> Result<Self, Error> {
        let len = product("the parameters", &[4, hidden_size, input_size + hidden_size + 1])?;
        Ok(Self { input_size, hidden_size, buffer: AlignedBuffer::try_new(len)? })
    }

    /// I.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// H.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// All of them: U, then W, then b.
    pub fn as_slice(&self) -> &[f32] {
        &self.buffer
    }

    /// All of them, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.buffer
    }

    /// All of them as bytes in the machine's order, for a file or the network.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.buffer)
    }

    /// U: input to hidden, `[4H, I]`.
    pub fn input_weights(&self) -> &[f32] {
        &self.buffer[..4 * self.hidden_size * self.input_size]
    }

    /// W: hidden to hidden, `[4H, H]`.
    pub fn recurrent_weights(&self) -> &[f32] {
        let start = 4 * self.hidden_size * self.input_size;
        &self.buffer[start..start + 4 * self.hidden_size * self.hidden_size]
    }

    /// b, `[4H]`.
    pub fn bias(&self) -> &[f32] {
        &self.buffer[self.buffer.len() - 4 * self.hidden_size..]
    }

    /// One gate's rows: its U `[H, I]`, W `[H, H]` and b `[H]`.
    pub fn gate(&self, gate: Gate) -> [&[f32]; 3] {
        let [u, w, b] = self.gate_rows(gate);
        [&self.input_weights()[u], &self.recurrent_weights()[w], &self.bias()[b]]
    }

    /// One gate's rows, to be changed: its U `[H, I]`, W `[H, H]` and b `[H]`.
    pub fn gate_mut(&mut self, gate: Gate) -> [&mut [f32]; 3] {
        let rows = self.gate_rows(gate);
        let [u, w, b] = self.split_mut();
        let [in_u, in_w, in_b] = rows;
        [&mut u[in_u], &mut w[in_w], &mut b[in_b]]
    }

    /// Where a gate's rows lie in U, W and b.
    fn gate_rows(&self, gate: Gate) -> [Range<usize>; 3] {
        let (first, h) = (gate as usize * self.hidden_size, self.hidden_size);
        [self.input_size, h, 1].map(|width| first * width..(first + h) * width)
    }

    /// U, W and b, to be changed.
    pub fn split_mut(&mut self) -> [&mut [f32]; 3] {
        let (h, i) = (self.hidden_size, self.input_size);
        let (u, rest) = self.buffer.split_at_mut(4 * h * i);
        let (w, b) = rest.split_at_mut(4 * h * h);
        [u, w, b]
    }
}
