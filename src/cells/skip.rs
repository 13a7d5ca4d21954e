//! Units with connections through time of any length.

use super::{Activation, check_sizes, checked};
use crate::spec::{Sizes, Spec};
use crate::{DelayLine, Error, Parameters};
use bptt_kernels::cells::{self, Cell};
use std::sync::Arc;

/// The longest delay.
const MOST: usize = 1 << 16;

/// A recurrent layer with skip connections through time (sections 10.9.1 and 10.9.3; Lin et
/// al. 1996):
///
/// ```text
/// h⁽ᵗ⁾ = φ(b + Σ_d W_d h⁽ᵗ⁻ᵈ⁾ + U x⁽ᵗ⁾)
/// ```
///
/// for each delay d of a set. With `{1, d}` the edges of d steps are added to those of one,
/// and gradients vanish as τ / d and not as τ along them; a set without 1 removes the short
/// ones.
///
/// The state is the [line](DelayLine) of the last D hidden states, D being the longest delay.
/// Its parameters are U `[H, I]`, a W `[H, H]` for each delay, the longest first, and b `[H]`.
///
/// ```
/// use bptt::{Activation, Layer, Isa, Purpose, Skip};
///
/// // What comes in comes out again two steps later, halved.
/// let layer = Skip::new(1, 1, Activation::Identity, &[2])?;
/// let mut parameters = layer.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1.0, 0.5, 0.0]);
/// let weights = layer.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let mut y = [0.0; 5];
/// layer.stream(1, Isa::best()?)?.forward(&weights, &[8.0, 0.0, 0.0, 0.0, 0.0], &mut y)?;
/// assert_eq!(y, [8.0, 0.0, 4.0, 0.0, 2.0]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Skip {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
    /// The longest first.
    delays: Arc<[usize]>,
}

impl Skip {
    /// `input_size` (I) inputs, `hidden_size` (H) units and these delays in steps, in any
    /// order.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, or the delays are none, not each 1 to 65536, or not
    /// each another; [`Error::TooLarge`] where the weights do not fit the address space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
        delays: &[usize],
    ) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        let mut sorted: Vec<usize> = delays.to_vec();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let within = delays.iter().all(|delay| (1..=MOST).contains(delay));
        if sorted.is_empty() || !within || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            let expected = "one or more, each 1 to 65536 and another".into();
            return Err(Error::Value { what: "delays", given: format!("{delays:?}"), expected });
        }
        checked(Self { input_size, hidden_size, activation, delays: sorted.into() })
    }

    /// φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The delays, the longest first, as the parameters have them.
    pub fn delays(&self) -> &[usize] {
        &self.delays
    }
}

impl Parameters<Skip> {
    /// The W `[H, H]` of a delay.
    ///
    /// # Errors
    /// [`Error::Value`] where the layer has no such delay.
    pub fn delay(&self, delay: usize) -> Result<&[f32], Error> {
        let layer = self.layer();
        let place = layer.delays.iter().position(|&other| other == delay);
        let place = place.ok_or_else(|| Error::Value {
            what: "delay",
            given: delay.to_string(),
            expected: format!("one of the layer's, {:?}", layer.delays).into(),
        })?;
        let len = layer.hidden_size * layer.hidden_size;
        Ok(&self.recurrent_weights()[place * len..(place + 1) * len])
    }
}

impl Spec for Skip {
    type State<S: Default> = DelayLine<S>;

    #[inline]
    fn sizes(&self) -> Sizes {
        Sizes { input: self.input_size, hidden: self.hidden_size, output: self.hidden_size }
    }

    #[inline]
    fn cell<'a>(&self, _vectors: &'a [f32]) -> Cell<'a> {
        Cell::Vanilla(cells::Vanilla { activations: self.activation.into() })
    }

    #[inline]
    fn delays(&self) -> &[usize] {
        &self.delays
    }

    fn describe(&self) -> String {
        let Self { input_size, hidden_size, activation, delays } = self;
        format!("I {input_size}, H {hidden_size}, {activation:?}, delays {delays:?}")
    }
}
