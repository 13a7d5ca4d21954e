//! What the targets share: numbers made of the fuzzer's bytes, and layers and passes of the
//! crate's own suites.

#![allow(dead_code, reason = "the targets use parts of what the suites share")]

pub mod common;
pub mod kernels;
pub mod sequences;

use bptt::Isa;
use common::{Kind, Shape};

/// The fuzzer's bytes, handed out from the front and then over again, so that a
/// short input is a whole case.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    /// None where there are none.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (!bytes.is_empty()).then_some(Self { bytes, at: 0 })
    }

    /// The next.
    pub fn byte(&mut self) -> u8 {
        let byte = self.bytes[self.at % self.bytes.len()];
        self.at += 1;
        byte
    }

    /// One of 1 to `most`.
    pub fn size(&mut self, most: usize) -> usize {
        1 + usize::from(self.byte()) % most
    }

    /// One of 0 to `most`, of two bytes.
    pub fn below(&mut self, most: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % (most + 1)
    }

    /// Any f32 at all.
    pub fn raw(&mut self) -> f32 {
        f32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// In [−1, 1), by eighths of a thousandth or so; odd places move the sum's
    /// terms apart where the bytes start over.
    pub fn moderate(&mut self) -> f32 {
        let bits = i16::from_le_bytes([self.byte(), self.byte()]);
        let turn = (self.at / self.bytes.len()) as i16;
        f32::from(bits.wrapping_add(turn.wrapping_mul(12_289))) / 32_768.0
    }

    /// Any cell with any options.
    pub fn kind(&mut self) -> Kind {
        let all = Kind::all();
        all[usize::from(self.byte()) % all.len()]
    }

    /// The sizes of a pass.
    pub fn shape(&mut self) -> Shape {
        let (inputs, hidden) = (self.size(40), self.size(40));
        Shape { inputs, hidden, batch: self.size(14), steps: self.size(4) }
    }
}

/// Panics unless the two have the same bits; a NaN is as any other NaN.
pub fn assert_same(what: &str, isa: Isa, given: &[f32], expected: &[f32]) {
    assert_eq!(given.len(), expected.len(), "{what} on {isa}");
    for (k, (a, b)) in given.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{what}[{k}] on {isa} is {a:e}, expected {b:e}");
    }
}
