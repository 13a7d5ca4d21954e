//! Equality to the bit, and buffers that show whether they were written to.

/// A NaN that no computation makes.
pub const SENTINEL: f32 = f32::from_bits(0x7FC5_A5A5);

/// `len` sentinels.
pub fn filled(len: usize) -> Vec<f32> {
    vec![SENTINEL; len]
}

/// Panics at the first element whose bits differ.
#[track_caller]
pub fn assert_bits(name: &str, given: &[f32], expected: &[f32]) {
    assert_eq!(given.len(), expected.len(), "length of {name}");
    for (k, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert_eq!(
            given.to_bits(),
            expected.to_bits(),
            "{name}[{k}] is {given:e}, expected the bits of {expected:e}"
        );
    }
}

/// The bits of several buffers, to show that a refused call left them alone.
#[derive(Debug, PartialEq)]
pub struct Snapshot(Vec<Vec<u32>>);

impl Snapshot {
    /// The current bits of the buffers.
    pub fn of(buffers: &[&[f32]]) -> Self {
        Self(buffers.iter().map(|b| b.iter().map(|x| x.to_bits()).collect()).collect())
    }
}
