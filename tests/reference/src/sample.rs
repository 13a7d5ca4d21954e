//! Inputs for tests: the same numbers for the same seed, on every machine.

/// `len` numbers drawn evenly from [−limit, limit), from SplitMix64 (Steele, Lea and Flood, 2014).
pub fn uniform(seed: u64, len: usize, limit: f32) -> Vec<f32> {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (z ^ (z >> 31)) >> 40; // 24 bits, as many as an f32 holds
        (bits as f32 / (1u32 << 23) as f32 - 1.0) * limit
    };
    (0..len).map(|_| draw()).collect()
}

/// The same numbers as `f64`.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}
