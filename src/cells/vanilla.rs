//! The vanilla recurrent unit.

use super::{Activation, check_sizes, checked};
use crate::spec::{Sizes, Spec};
use crate::{Error, HiddenState};
use bptt_kernels::cells::{self, Cell};

/// A vanilla recurrent layer (equations 10.8 and 10.9):
///
/// ```text
/// h = φ(b + U x + W h₋)
/// ```
///
/// Its parameters are U `[H, I]`, W `[H, H]` and b `[H]`.
///
/// ```
/// use bptt::{Activation, Layer, Isa, Purpose, Vanilla};
///
/// let layer = Vanilla::new(1, 1, Activation::Relu)?;
/// let mut parameters = layer.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1.0, 2.0, 0.5]);
/// let weights = layer.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let mut y = [0.0; 3];
/// layer.stream(1, Isa::best()?)?.forward(&weights, &[1.0, 1.0, -9.0], &mut y)?;
/// assert_eq!(y, [1.5, 4.5, 0.5]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vanilla {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
}

impl Vanilla {
    /// `input_size` (I) inputs and `hidden_size` (H) units.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`] where the weights do
    /// not fit the address space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
    ) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        checked(Self { input_size, hidden_size, activation })
    }

    /// φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }
}

impl Spec for Vanilla {
    type State<S: Default> = HiddenState<S>;

    fn sizes(&self) -> Sizes {
        Sizes { input: self.input_size, hidden: self.hidden_size, output: self.hidden_size }
    }

    #[inline]
    fn cell<'a>(&self, _vectors: &'a [f32]) -> Cell<'a> {
        Cell::Vanilla(cells::Vanilla { activations: self.activation.into() })
    }

    fn describe(&self) -> String {
        format!("I {}, H {}, {:?}", self.input_size, self.hidden_size, self.activation)
    }
}
