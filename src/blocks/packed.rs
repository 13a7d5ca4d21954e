//! The parameters of a block in the form that its passes read, and the gradients that a pass must
//! compute, on which this form depends. Must not know which form a block uses.

use crate::error::check_len;
use crate::{Error, Format};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::Pass as Threads;
use std::any::Any;
use std::fmt::Debug;

/// The gradients that a pass must compute. With [none](Self::NONE) of them no backward pass follows,
/// and nothing has to be kept for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Whether to compute the gradients of the parameters.
    pub parameters: bool,
    /// Whether to compute the gradient of the input. Only an input of features has one.
    pub input: bool,
    /// Whether to compute the gradient of the state before the first step.
    pub state: bool,
    /// Whether to compute the gradient of the input of the [encoder](crate::Encoder).
    pub source: bool,
}

impl Wanted {
    /// No gradients, as in inference.
    pub const NONE: Self = Self { parameters: false, input: false, state: false, source: false };

    /// Returns whether there are gradients to compute.
    pub fn any(self) -> bool {
        self != Self::NONE
    }

    /// Returns these gradients with that of the input, which the block before needs to compute its
    /// own; [none](Self::NONE) stay none.
    pub(crate) fn through_input(self) -> Self {
        Self { input: self.any(), ..self }
    }

    /// Returns an error unless a backward pass was planned.
    pub(crate) fn check_backward(self) -> Result<(), Error> {
        if self.any() {
            return Ok(());
        }
        let (given, expected) = ("planned for inference".into(), "planned with gradients".into());
        Err(Error::Mismatch { what: "the pass", given, expected })
    }

    /// Returns the gradients that `self` or `other` asks for.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            parameters: self.parameters || other.parameters,
            input: self.input || other.input,
            state: self.state || other.state,
            source: self.source || other.source,
        }
    }
}

/// The parameters of a block in the form that its passes read.
pub trait Packed: Any + Debug + Send + Sync {
    /// Makes room for everything that a pass with the gradients `wanted` reads. Returns whether it
    /// added room: if so, the parameters must be packed again with [`update`](Self::update).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the room cannot be allocated; [`Error::Mismatch`] if the weights
    /// are stored in a format for inference only.
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error>;

    /// Returns an error unless [`update`](Self::update) would accept `parameters`.
    ///
    /// # Errors
    /// [`Error::Length`] unless there are as many `parameters` as the block has; [`Error::Value`]
    /// if the format is int8 and a weight is ∞ or NaN.
    fn check(&self, parameters: &[f32]) -> Result<(), Error>;

    /// Packs `parameters`. Allocates nothing.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check); nothing is written then.
    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error>;

    /// Returns the format in which the weights are stored.
    fn format(&self) -> Format {
        Format::F32
    }

    /// Returns the size of the packed parameters in bytes.
    fn bytes(&self) -> usize;
}

impl dyn Packed {
    /// Returns the parameters as `P`, the type in which a block packs them.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if another kind of block packed them.
    #[inline]
    pub fn as_form<P: Packed>(&self) -> Result<&P, Error> {
        let any: &dyn Any = self;
        any.downcast_ref().ok_or_else(|| Error::Mismatch {
            what: "packed parameters",
            given: "another kind of block".into(),
            expected: std::any::type_name::<P>().into(),
        })
    }
}

/// Parameters as they are, for blocks whose passes need no other form.
#[derive(Debug)]
pub struct Plain(AlignedBuffer);

impl Plain {
    /// Allocates room for `len` parameters, all zero.
    pub(crate) fn zeros(len: usize) -> Result<Self, Error> {
        Ok(Self(AlignedBuffer::try_new(len)?))
    }

    /// Returns the parameters, in the order in which the block declared them.
    pub fn parameters(&self) -> &[f32] {
        &self.0
    }
}

impl Packed for Plain {
    fn require(&mut self, _wanted: Wanted) -> Result<bool, Error> {
        Ok(false)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        check_len("parameters", parameters.len(), self.0.len())
    }

    fn update(&mut self, parameters: &[f32], _threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        self.0.copy_from_slice(parameters);
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of_val::<[f32]>(&self.0)
    }
}
