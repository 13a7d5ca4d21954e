//! Noise in the recurrence of training passes: what is configured, and what is drawn.

use crate::Error;
use crate::spec::Spec;
use bptt_kernels::threefry;

/// Regularisation of a layer's recurrence, for [`Plan::with_regularisation`] and
/// [`Stream::with_regularisation`]. None unless said otherwise.
///
/// - *Dropout* of the recurrent input (Gal and Ghahramani 2016): the recurrent products of a
///   training pass see `mask ⊙ h₋`, where a unit's mask is 0 with the given probability p and
///   else `1 / (1 − p)`, the same at all steps of a sequence. What of h₋ enters other than by
///   a product (`u ⊙ h₋` of a GRU, `α ⊙ h₋` of a leaky unit) is not masked; a GRU's reset gate
///   before the product takes `r ⊙ (mask ⊙ h₋)`. In inference there is none. The gradients of
///   a sequence in several passes have the bits of one pass but for a layer with
///   [longer delays](crate::Skip), where they differ by what is rounded.
/// - *Zoneout* (Krueger et al. 2017): at each step of a training pass a unit keeps its h with a
///   probability, `h = m ⊙ h₋ + (1 − m) ⊙ ĥ`, and its c with another; ĥ is of the cell's
///   new c, before some of it was kept. In inference m is the probability.
///
/// ```
/// use bptt::{Layer, Init, Isa, Lstm, Noise, Purpose, Regularisation};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let (lstm, isa) = (Lstm::new(8, 16)?, Isa::best()?);
/// let parameters = lstm.init(Init::Glorot, &mut SmallRng::seed_from_u64(1))?;
/// let weights = lstm.pack(&parameters, Purpose::Training, isa)?;
/// let regularisation = Regularisation::none().with_dropout(0.25)?.with_zoneout(0.1, 0.05)?;
/// let plan = lstm.plan(20, 4, isa)?.with_regularisation(regularisation)?;
/// let mut arena = plan.allocate()?;
/// let x = vec![0.1; 20 * 4 * 8];
///
/// let noise = Noise { seed: 7, ..Noise::default() };
/// plan.forward_with(&weights, &x, None, noise, &mut arena)?;
/// let first = arena.hidden()?.to_vec();
/// plan.forward_with(&weights, &x, None, noise, &mut arena)?;
/// assert_eq!(arena.hidden()?, first);
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// [`Plan::with_regularisation`]: crate::Plan::with_regularisation
/// [`Stream::with_regularisation`]: crate::Stream::with_regularisation
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Regularisation {
    dropout: f32,
    zoneout: [f32; 2],
}

impl Regularisation {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Dropout of the recurrent input with this probability.
    ///
    /// # Errors
    /// [`Error::Value`] where it is not 0 or more and below 1.
    pub fn with_dropout(self, probability: f32) -> Result<Self, Error> {
        if (0.0..1.0).contains(&probability) {
            return Ok(Self { dropout: probability, ..self });
        }
        let (given, expected) = (probability.to_string(), "0 or more and below 1".into());
        Err(Error::Value { what: "dropout", given, expected })
    }

    /// Zoneout of h and of the cell state c with these probabilities.
    ///
    /// # Errors
    /// [`Error::Value`] where one is not from 0 to 1.
    pub fn with_zoneout(self, hidden: f32, cell: f32) -> Result<Self, Error> {
        for (what, rate) in [("zoneout of h", hidden), ("zoneout of c", cell)] {
            if !(0.0..=1.0).contains(&rate) {
                let (given, expected) = (rate.to_string(), "0 to 1".into());
                return Err(Error::Value { what, given, expected });
            }
        }
        Ok(Self { zoneout: [hidden, cell], ..self })
    }

    /// The probability of dropout.
    pub fn dropout(&self) -> f32 {
        self.dropout
    }

    /// The probabilities of zoneout, of h and of c.
    pub fn zoneout(&self) -> [f32; 2] {
        self.zoneout
    }

    pub(crate) fn has_dropout(&self) -> bool {
        self.dropout > 0.0
    }

    /// The rates of zoneout, if there is any.
    pub(crate) fn rates(&self) -> Option<[f32; 2]> {
        (self.zoneout != [0.0; 2]).then_some(self.zoneout)
    }

    /// What there is of it, for messages.
    pub(crate) fn describe(&self) -> String {
        let (dropout, [h, c]) = (self.dropout, self.zoneout);
        format!("dropout {dropout}, zoneout {h} and {c}")
    }

    /// `Ok` where a layer can have it.
    pub(crate) fn check<C: Spec>(&self, layer: &C) -> Result<(), Error> {
        if C::CLOCKED && *self != Self::none() {
            let expected = "none, for units that move at periods of their own".into();
            return Err(Error::Value { what: "regularisation", given: self.describe(), expected });
        }
        if layer.geometry().cells || self.zoneout[1] == 0.0 {
            return Ok(());
        }
        let (given, expected) = (self.zoneout[1].to_string(), "0, for a cell without c".into());
        Err(Error::Value { what: "zoneout of c", given, expected })
    }
}

/// What the noise of a pass is drawn from: a seed, and where the pass lies in the whole of the
/// data. Each number is a function of these alone ([Threefry](bptt_kernels::threefry)), so a
/// pass with the same has the same noise, on any number of threads and instruction sets, and
/// so do a sequence alone and in a batch, and a sequence in one pass and in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// The seed. Another one for each pass over the data.
    pub seed: u64,
    /// The number of the pass's first step in its sequences: 0, unless an earlier pass has
    /// had their beginning.
    pub step: u64,
    /// The number of the pass's first sequence, the others being those after it: 0, unless
    /// another pass with this seed has some of the batch.
    pub sequence: u64,
}

/// The counters of dropout and of the first key of zoneout, which differ.
const DROPOUT: u32 = 1;

fn words(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

impl Noise {
    /// The masks of `batch` sequences, `[B, R]`.
    pub(crate) fn draw_masks(&self, dropout: f32, batch: usize, masks: &mut [f32]) {
        let width = masks.len() / batch;
        for (n, mask) in masks.chunks_exact_mut(width).enumerate() {
            let key = threefry(words(self.seed), words(self.sequence.wrapping_add(n as u64)));
            for (unit, mask) in mask.iter_mut().enumerate() {
                let [drawn, _] = threefry(key, [unit as u32, DROPOUT]);
                let kept = bptt_kernels::unit_interval(drawn) >= dropout;
                *mask = if kept { 1.0 / (1.0 - dropout) } else { 0.0 };
            }
        }
    }

    /// The keys of zoneout, `[τ, B, 2]`.
    pub(crate) fn derive_keys(&self, batch: usize, keys: &mut [u32]) {
        for (t, keys) in keys.chunks_exact_mut(2 * batch).enumerate() {
            let step = threefry(words(self.seed), words(self.step.wrapping_add(t as u64)));
            for (n, key) in keys.chunks_exact_mut(2).enumerate() {
                let sequence = words(self.sequence.wrapping_add(n as u64));
                key.copy_from_slice(&threefry(step, sequence));
            }
        }
    }
}
