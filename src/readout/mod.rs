//! From hidden units to outputs, and to a loss.
//!
//! With `h ∈ ℝᴴ` and `o ∈ ℝᴼ` (Goodfellow et al., *Deep Learning*, equations
//! 10.10, 10.11, 10.14 and 10.18):
//!
//! ```text
//! o = c + V h                   the outputs
//! ŷ = softmax(o)                ŷₖ = exp oₖ / Σ exp o
//! L = −log ŷ_y                  the loss of the target y
//! ∂L/∂o = ŷ − 1[y]
//! ```
//!
//! A row is one step of one sequence: the hidden states `[τ, B, H]` of a pass are
//! τB rows.

mod parameters;
mod plan;
mod weights;

pub use parameters::ReadoutParameters;
pub use plan::{ReadoutArena, ReadoutGradients, ReadoutPlan, Reduction, Targets};
pub use weights::ReadoutWeights;

use crate::Error;
use crate::error::{check_size, product};

/// The configuration of an affine readout: what everything else is made from.
///
/// ```
/// use bptt::{Init, Isa, Purpose, Readout, ReadoutGradients, Reduction, Targets, Accumulate};
/// # use rand::{SeedableRng, rngs::SmallRng};
///
/// let rows = 20 * 4; // τB
/// let readout = Readout::new(16, 10)?;
/// let parameters = readout.init(Init::Glorot, &mut SmallRng::seed_from_u64(1))?;
/// let weights = readout.pack(&parameters, Purpose::TrainingWithInputGradient, Isa::best()?)?;
/// let plan = readout.plan(rows, Isa::best()?)?;
/// println!("a pass takes {} bytes", plan.arena_bytes());
///
/// let mut arena = plan.allocate()?;
/// let (h, classes) = (vec![0.1; rows * 16], vec![3; rows]);
/// let targets = Targets { classes: &classes, mask: None, reduction: Reduction::Mean };
/// let loss = plan.loss(&weights, &h, targets, &mut arena)?;
/// assert!(loss > 0.0);
///
/// let (mut gradients, mut dh) = (readout.parameters()?, vec![0.0; rows * 16]);
/// let to = ReadoutGradients {
///     parameters: &mut gradients,
///     accumulate: Accumulate::No,
///     dh: Some(&mut dh),
/// };
/// plan.backward(&weights, &h, &mut arena, to)?;
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readout {
    input_size: usize,
    output_size: usize,
}

impl Readout {
    /// `input_size` (H) inputs and `output_size` (O) outputs.
    ///
    /// # Errors
    /// [`Error::Value`] where a size is 0, [`Error::TooLarge`] where the weights do
    /// not fit the address space.
    pub fn new(input_size: usize, output_size: usize) -> Result<Self, Error> {
        let readout = Self {
            input_size: check_size("input_size", input_size)?,
            output_size: check_size("output_size", output_size)?,
        };
        let inputs = input_size.checked_add(1).ok_or(Error::TooLarge { what: "the parameters" })?;
        product("the parameters", &[output_size, inputs])?;
        Ok(readout)
    }

    /// H.
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// O.
    pub fn output_size(&self) -> usize {
        self.output_size
    }

    /// The number of parameters: `O (H + 1)`.
    pub fn parameter_count(&self) -> usize {
        self.output_size * (self.input_size + 1)
    }

    /// `Ok` where `other` has the same sizes.
    #[inline]
    fn check_same(&self, what: &'static str, other: &Self) -> Result<(), Error> {
        if self == other {
            return Ok(());
        }
        Err(Error::Mismatch { what, given: other.describe(), expected: self.describe() })
    }

    fn describe(&self) -> String {
        format!("{} inputs, {} outputs", self.input_size, self.output_size)
    }
}
