//! Leaky units.

use super::{Activation, check_sizes, checked};
use crate::error::check_len;
use crate::sections::Own;
use crate::spec::{Diagonal, Sizes, Spec};
use crate::{Error, HiddenState, Parameters};
use bptt_kernels::cells::{self, Cell};
use std::sync::Arc;

/// How much of its state a leaky unit keeps, α.
#[derive(Clone, Debug, PartialEq)]
pub enum Leak {
    /// The same for all units, in [0, 1).
    Layer(f32),
    /// One for each unit, `[H]`, in [0, 1) each; shared by all that is made from the layer.
    Units(Arc<[f32]>),
    /// Learned, `α = σ(ρ)` of each unit: the parameters ρ `[H]` come after b.
    Learned {
        /// α at [initialisation](crate::Layer::init), in (0, 1).
        initial: f32,
    },
}

/// A layer of leaky units (section 10.9.2):
///
/// ```text
/// h = α ⊙ h₋ + (1 − α) ⊙ φ(b + U x + W h₋)
/// ```
///
/// With α near 1 a unit remembers for some 1 / (1 − α) steps. Its parameters are U
/// `[H, I]`, W `[H, H]`, b `[H]` and, where α is [learned](Leak::Learned), ρ `[H]`.
///
/// ```
/// use bptt::{Activation, Layer, Isa, Leak, Leaky, Purpose};
///
/// let layer = Leaky::new(1, 1, Activation::Identity, Leak::Layer(0.75))?;
/// let mut parameters = layer.parameters()?;
/// parameters.as_mut_slice().copy_from_slice(&[1.0, 0.0, 0.0]);
/// let weights = layer.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let mut y = [0.0; 3];
/// layer.stream(1, Isa::best()?)?.forward(&weights, &[4.0, 0.0, 0.0], &mut y)?;
/// assert_eq!(y, [1.0, 0.75, 0.5625]);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Leaky {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
    leak: Leak,
}

impl Leaky {
    /// `input_size` (I) inputs and `hidden_size` (H) units.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0 or an α is outside its range,
    /// [`Error::Length`] where there are not as many as units, [`Error::TooLarge`] where
    /// the weights do not fit the address space.
    pub fn new(
        input_size: usize,
        hidden_size: usize,
        activation: Activation,
        leak: Leak,
    ) -> Result<Self, Error> {
        check_sizes(input_size, hidden_size)?;
        let refused = |given: String, expected: &'static str| {
            Err(Error::Value { what: "alpha", given, expected: expected.into() })
        };
        let (fits, expected) = (|alpha: f32| (0.0..1.0).contains(&alpha), "0 or more and below 1");
        match &leak {
            Leak::Layer(alpha) if !fits(*alpha) => refused(alpha.to_string(), expected)?,
            Leak::Units(alphas) => {
                check_len("alpha", alphas.len(), hidden_size)?;
                if let Some(unit) = alphas.iter().position(|&alpha| !fits(alpha)) {
                    refused(format!("{} of unit {unit}", alphas[unit]), expected)?;
                }
            }
            Leak::Learned { initial } if !(*initial > 0.0 && *initial < 1.0) => {
                refused(initial.to_string(), "above 0 and below 1")?;
            }
            _ => {}
        }
        checked(Self { input_size, hidden_size, activation, leak })
    }

    /// φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// α.
    pub fn leak(&self) -> &Leak {
        &self.leak
    }
}

impl Parameters<Leaky> {
    /// ρ, `[H]`, of `α = σ(ρ)`. Empty where α is not learned.
    pub fn leak(&self) -> &[f32] {
        self.named_own().diagonal
    }
}

/// α of ρ, as exact as an f32 can be.
fn logistic(rho: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(rho)).exp())) as f32
}

impl Spec for Leaky {
    type State<S: Default> = HiddenState<S>;

    fn sizes(&self) -> Sizes {
        Sizes { input: self.input_size, hidden: self.hidden_size, output: self.hidden_size }
    }

    #[inline]
    fn cell<'a>(&self, alpha: &'a [f32]) -> Cell<'a> {
        let activations = self.activation.into();
        match self.leak {
            Leak::Learned { .. } => Cell::LeakyLearned(cells::Leaky { activations, alpha }),
            _ => Cell::Leaky(cells::Leaky { activations, alpha }),
        }
    }

    fn vectors(&self) -> usize {
        1
    }

    fn prepare(&self, own: Own<&[f32]>, alpha: &mut [f32]) {
        match &self.leak {
            Leak::Layer(given) => alpha.fill(*given),
            Leak::Units(given) => alpha.copy_from_slice(given),
            Leak::Learned { .. } => {
                alpha.iter_mut().zip(own.diagonal).for_each(|(alpha, &rho)| *alpha = logistic(rho));
            }
        }
    }

    fn diagonals(&self) -> &'static [Diagonal] {
        match self.leak {
            Leak::Learned { .. } => &[Diagonal::Extra],
            _ => &[],
        }
    }

    fn initialise(&self, _bias: &mut [f32], own: Own<&mut [f32]>) {
        if let Leak::Learned { initial } = self.leak {
            own.diagonal.fill((initial / (1.0 - initial)).ln());
        }
    }

    /// What a learned α begins from matters at initialisation only.
    fn computes_as(&self, other: &Self) -> bool {
        match (&self.leak, &other.leak) {
            (Leak::Learned { .. }, Leak::Learned { .. }) => {
                *self == Self { leak: self.leak.clone(), ..other.clone() }
            }
            _ => self == other,
        }
    }

    fn describe(&self) -> String {
        let Self { input_size, hidden_size, activation, leak } = self;
        let leak = match leak {
            Leak::Layer(alpha) => format!("α {alpha}"),
            Leak::Units(_) => "α of each unit".into(),
            Leak::Learned { .. } => "α learned".into(),
        };
        format!("I {input_size}, H {hidden_size}, {activation:?}, {leak}")
    }

    /// Of so many α the first that differs.
    fn describe_beside(&self, other: &Self) -> String {
        let (Leak::Units(alphas), Leak::Units(others)) = (&self.leak, &other.leak) else {
            return self.describe();
        };
        match alphas.iter().zip(others.iter()).position(|(alpha, other)| alpha != other) {
            Some(unit) => format!("{}, {} of unit {unit}", self.describe(), alphas[unit]),
            None => self.describe(),
        }
    }
}
