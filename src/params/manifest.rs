//! The tensors of a buffer: their names, their shapes and their ranges.

use crate::Error;
use crate::error::product;
use std::fmt;
use std::ops::Range;

/// The name, the shape and the range of a tensor in a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    shape: Vec<usize>,
    range: Range<usize>,
    begins_at_zero: bool,
}

impl Tensor {
    /// Returns the full name, with the number of the block in front: `1.weight_ih`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the shape. The layout is row-major: elements along the last dimension are adjacent.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns whether the tensor is zero before the first step in any case: see
    /// [`Manifest::declare_zero`].
    pub(crate) fn begins_at_zero(&self) -> bool {
        self.begins_at_zero
    }

    /// Returns the range of the tensor's floats in the buffer.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// The tensors of a buffer in order, without gaps between them. Blocks declare their tensors, each
/// under a name of its own.
///
/// ```
/// use bptt::{Dense, Lstm, Network};
///
/// let network = Network::new(Lstm::new(3, 16)?).then(Dense::new(16, 2)?);
/// for tensor in network.manifest()?.tensors() {
///     println!("{} {:?}", tensor.name(), tensor.shape());
/// }
/// assert_eq!(network.manifest()?.find("0.weight_hh").map(|w| w.shape()), Some(&[64, 16][..]));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    tensors: Vec<Tensor>,
    /// The prefix of the names of tensors that are declared now.
    prefix: String,
    len: usize,
}

impl Manifest {
    /// Declares the next tensor, under `name` and with `shape`.
    ///
    /// # Errors
    /// [`Error::Value`] if the name has been declared already, [`Error::TooLarge`] if the buffer
    /// would not fit the address space.
    pub fn declare(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.declare_tensor(name, shape, false)
    }

    /// Declares the next tensor of a state as [`declare`](Self::declare) does. It is zero before the
    /// first step, whatever makes the rest of the state: neither a learned state nor a bridge sets it.
    ///
    /// # Errors
    /// The errors of [`declare`](Self::declare).
    pub fn declare_zero(&mut self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.declare_tensor(name, shape, true)
    }

    fn declare_tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        begins_at_zero: bool,
    ) -> Result<(), Error> {
        let what = "the tensors";
        let name = format!("{}{name}", self.prefix);
        if self.find(&name).is_some() {
            let expected = "a name that no other tensor has".into();
            return Err(Error::Value { what: "tensor", given: name, expected });
        }
        let end = self.len.checked_add(product(what, shape)?);
        let end = product(what, &[end.ok_or(Error::TooLarge { what })?])?;
        let (shape, range) = (shape.to_vec(), self.len..end);
        self.tensors.push(Tensor { name, shape, range, begins_at_zero });
        self.len = end;
        Ok(())
    }

    /// Runs `declare` with `name` and a dot as prefix of the names that it declares. Returns the
    /// range of all the tensors that it declared.
    ///
    /// # Errors
    /// The errors of `declare`.
    pub fn within(
        &mut self,
        name: &str,
        declare: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Range<usize>, Error> {
        let (start, outer) = (self.len, self.prefix.len());
        self.prefix.push_str(name);
        self.prefix.push('.');
        let declared = declare(self);
        self.prefix.truncate(outer);
        declared.map(|()| start..self.len)
    }

    /// Returns all tensors in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Returns the tensor named `name`, if there is one.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Returns the tensor named `name`, or an error that lists all tensors.
    pub(crate) fn expect(&self, name: &str) -> Result<&Tensor, Error> {
        self.find(name).ok_or_else(|| Error::Value {
            what: "tensor",
            given: name.into(),
            expected: format!("one of {self}").into(),
        })
    }

    /// Returns the number of floats in all tensors together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the tensors have no floats.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Display for Manifest {
    /// Writes the tensors with their shapes: `0.weight [2, 3], 0.bias [2]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, Tensor { name, shape, .. }) in self.tensors.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {shape:?}")?;
        }
        Ok(())
    }
}
