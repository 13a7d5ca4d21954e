//! Noise in the recurrence of training passes: its configuration, and how it is drawn. Must not
//! know what a pass does with it.

use crate::Error;
use crate::sequence::Schedule;
use bptt_kernels::threefry;

/// The noise in the recurrence of a [`Regularised`](crate::Regularised) layer: dropout and zoneout.
/// Both are off by default.
///
/// - *Dropout* of the recurrent input (Gal and Ghahramani 2016): the recurrent products of a
///   training pass read `mask ⊙ h₋`. The mask of a unit is 0 with the given probability p and
///   `1 / (1 − p)` otherwise, and stays the same at all steps of a sequence. Uses of h₋ outside
///   the matrix products (`u ⊙ h₋` in a GRU, `α ⊙ h₋` in a leaky unit) are not masked; a GRU with
///   the reset gate before the product computes `r ⊙ (mask ⊙ h₋)`. Inference has no dropout.
///   A sequence that is cut into several passes gets gradients with the same bits as in one pass,
///   except in a layer with [longer delays](crate::Skip), where they differ by rounding.
/// - *Zoneout* (Krueger et al. 2017): at each step of a training pass a unit keeps its old h with
///   one probability, `h = m ⊙ h₋ + (1 − m) ⊙ ĥ`, and its old c with another; m is 1 with that
///   probability and 0 otherwise. ĥ is computed from the cell's new c, before zoneout of c. In
///   inference m is the probability itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Regularisation {
    dropout: f32,
    zoneout: [f32; 2],
}

impl Regularisation {
    /// Returns no regularisation: neither dropout nor zoneout.
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets the probability of dropout of the recurrent input.
    ///
    /// # Errors
    /// [`Error::Value`] unless `probability` is 0 or more and below 1.
    pub fn with_dropout(self, probability: f32) -> Result<Self, Error> {
        if (0.0..1.0).contains(&probability) {
            return Ok(Self { dropout: probability, ..self });
        }
        let (given, expected) = (probability.to_string(), "0 or more and below 1".into());
        Err(Error::Value { what: "dropout", given, expected })
    }

    /// Sets the probabilities of zoneout: `hidden` of h, `cell` of the cell state c.
    ///
    /// # Errors
    /// [`Error::Value`] unless both are from 0 to 1.
    pub fn with_zoneout(self, hidden: f32, cell: f32) -> Result<Self, Error> {
        for (what, rate) in [("zoneout of h", hidden), ("zoneout of c", cell)] {
            if !(0.0..=1.0).contains(&rate) {
                let (given, expected) = (rate.to_string(), "0 to 1".into());
                return Err(Error::Value { what, given, expected });
            }
        }
        Ok(Self { zoneout: [hidden, cell], ..self })
    }

    /// Returns the probability of dropout.
    pub fn dropout(&self) -> f32 {
        self.dropout
    }

    /// Returns the probabilities of zoneout, of h and of c.
    pub fn zoneout(&self) -> [f32; 2] {
        self.zoneout
    }

    pub(crate) fn has_dropout(&self) -> bool {
        self.dropout > 0.0
    }

    /// Returns the probabilities of zoneout, of h and of c, or `None` if both are 0.
    pub(crate) fn rates(&self) -> Option<[f32; 2]> {
        (self.zoneout != [0.0; 2]).then_some(self.zoneout)
    }

    /// Returns an error if it has zoneout of c but the layer has no cell state (`has_cells`).
    pub(crate) fn check(&self, has_cells: bool) -> Result<(), Error> {
        if has_cells || self.zoneout[1] == 0.0 {
            return Ok(());
        }
        let (given, expected) = (self.zoneout[1].to_string(), "0, for a cell without c".into());
        Err(Error::Value { what: "zoneout of c", given, expected })
    }
}

/// The seed of a pass's noise, and the position of the pass in the data.
///
/// Each random number is a function of these three values and of its own step, sequence and unit
/// ([Threefry](bptt_kernels::threefry)). So two passes with the same `Noise` draw the same numbers,
/// on any instruction set and any number of threads. A sequence gets the same noise alone or in a
/// batch, in one pass or in several, provided that `step` and `sequence` say where each pass
/// begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// The seed. Use a new one for each pass over the data.
    pub seed: u64,
    /// The number of the pass's first step in its sequences: 0, unless earlier passes took the
    /// beginning of these sequences.
    pub step: u64,
    /// The number of the pass's first sequence; the others follow it. 0, unless the batch is
    /// divided among several passes with this seed.
    pub sequence: u64,
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mode {
    /// Whether it is a training pass, in which dropout and zoneout are drawn. Inference has no
    /// dropout, and zoneout by its mean.
    pub training: bool,
    /// The probability with which a block that reads [its own
    /// outputs](crate::OutputRecurrent) reads those that the caller gives instead.
    pub teacher_forcing: f32,
}

impl Mode {
    /// Inference with the inputs that the caller gives.
    pub const INFERENCE: Self = Self { training: false, teacher_forcing: 1.0 };
    /// Training with the inputs that the caller gives.
    pub const TRAINING: Self = Self { training: true, teacher_forcing: 1.0 };
}

/// Returns the `probability` of teacher forcing, or an error unless it is from 0 to 1.
pub(crate) fn check_teacher_forcing(probability: f32) -> Result<f32, Error> {
    if (0.0..=1.0).contains(&probability) {
        return Ok(probability);
    }
    let (given, expected) = (probability.to_string(), "0 to 1".into());
    Err(Error::Value { what: "teacher_forcing", given, expected })
}

/// The second word of the counter of a dropout mask. Zoneout has 0 there as long as there are fewer
/// than 2³² sequences, so the two never draw the same number from one key.
const DROPOUT: u32 = 1;

/// The second word of the counter of a block's seed, which no step or sequence below 2³³ has.
const BLOCK: u32 = 2;

/// The second word of the counter of the seed of the blocks within a block, as [`BLOCK`].
const WITHIN: u32 = 3;

/// The second word of the counter of the seed of an encoder, as [`BLOCK`].
const ENCODER: u32 = 4;

fn words(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

impl Noise {
    /// Returns the noise of block number `block` of a network: block 0 uses this noise, each other
    /// block a seed of its own that is derived from this one.
    pub(crate) fn of_block(self, block: usize) -> Self {
        if block == 0 {
            return self;
        }
        self.derived([block as u32, BLOCK])
    }

    /// Returns the noise of the blocks within a block that has this noise, so that none of them has
    /// the seed of a block outside.
    pub(crate) fn within_a_block(self) -> Self {
        self.derived([0, WITHIN])
    }

    /// Returns the noise of the encoder of a network that has this noise.
    pub(crate) fn of_encoder(self) -> Self {
        self.derived([0, ENCODER])
    }

    /// Returns the noise of a pass that begins `steps` steps later.
    pub(crate) fn later(self, steps: usize) -> Self {
        Self { step: self.step.wrapping_add(steps as u64), ..self }
    }

    fn derived(self, counter: [u32; 2]) -> Self {
        let [low, high] = threefry(words(self.seed), counter);
        Self { seed: u64::from(low) | u64::from(high) << 32, ..self }
    }

    /// Draws dropout masks with probability `dropout` for all sequences: `masks` `[B, R]`.
    pub(crate) fn draw_masks(&self, dropout: f32, schedule: &Schedule, masks: &mut [f32]) {
        let width = masks.len() / schedule.batch();
        for (n, mask) in masks.chunks_exact_mut(width).enumerate() {
            let n = schedule.sequence(n) as u64;
            let key = threefry(words(self.seed), words(self.sequence.wrapping_add(n)));
            for (unit, mask) in mask.iter_mut().enumerate() {
                let [drawn, _] = threefry(key, [unit as u32, DROPOUT]);
                let kept = bptt_kernels::unit_interval(drawn) >= dropout;
                *mask = if kept { 1.0 / (1.0 - dropout) } else { 0.0 };
            }
        }
    }

    /// Derives the key of zoneout of each row: `keys` `[rows, 2]`, or nothing without zoneout.
    pub(crate) fn derive_keys(&self, schedule: &Schedule, keys: &mut [u32]) {
        if keys.is_empty() {
            return;
        }
        for t in 0..schedule.steps() {
            let of_step = |step: usize| {
                threefry(words(self.seed), words(self.step.wrapping_add(step as u64)))
            };
            let of_first = of_step(t);
            let rows = 2 * schedule.start(t)..2 * schedule.start(t + 1);
            for (n, key) in keys[rows].chunks_exact_mut(2).enumerate() {
                // A row that begins at a reset keeps the steps of its sequence.
                let first = schedule.first_step(n);
                let step = if first == 0 { of_first } else { of_step(first + t) };
                let sequence = words(self.sequence.wrapping_add(schedule.sequence(n) as u64));
                key.copy_from_slice(&threefry(step, sequence));
            }
        }
    }
}
