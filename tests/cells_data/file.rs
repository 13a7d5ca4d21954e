//! A file of cases, and the tensors of a case. Knows no library's conventions.

use safetensors::{Dtype, SafeTensors};
use std::fmt::{self, Debug, Formatter};

/// A file of `tests/data`.
pub struct File {
    pub name: &'static str,
    tensors: SafeTensors<'static>,
}

/// The file of this name, read when the test is compiled.
#[macro_export]
macro_rules! data_file {
    ($name:literal) => {
        $crate::file::File::parsed(
            $name,
            include_bytes!(concat!("../data/", $name, ".safetensors")),
        )
    };
}

impl Debug for File {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl File {
    pub fn parsed(name: &'static str, bytes: &'static [u8]) -> Self {
        Self { name, tensors: SafeTensors::deserialize(bytes).unwrap() }
    }

    /// The cases of the file; the name of each tensor begins with the number of its case.
    pub fn cases(&self) -> Vec<Case<'_>> {
        let has = |number: &usize| {
            let prefix = format!("{number}/");
            self.tensors.names().iter().any(|name| name.starts_with(&prefix))
        };
        let cases: Vec<_> =
            (0..).take_while(has).map(|number| Case { file: self, number }).collect();
        assert!(!cases.is_empty(), "{self:?} has no cases");
        cases
    }
}

/// One case of a file.
#[derive(Debug)]
pub struct Case<'a> {
    file: &'a File,
    number: usize,
}

impl Case<'_> {
    /// A tensor's values, of `N` bytes each, converted by `number`; `None` if there is no such
    /// tensor.
    fn read<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        number: impl Fn([u8; N]) -> T,
    ) -> Option<Vec<T>> {
        let tensor = self.file.tensors.tensor(&format!("{}/{name}", self.number)).ok()?;
        assert_eq!(tensor.dtype(), dtype, "{self:?}: {name}");
        let (numbers, rest) = tensor.data().as_chunks::<N>();
        assert!(rest.is_empty(), "{self:?}: {name}");
        Some(numbers.iter().map(|&bytes| number(bytes)).collect())
    }

    /// An input of the library, if it had one.
    pub fn option(&self, name: &str) -> Option<Vec<f32>> {
        self.read(name, Dtype::F32, f32::from_le_bytes)
    }

    /// An input of the library.
    pub fn given(&self, name: &str) -> Vec<f32> {
        self.option(name).unwrap_or_else(|| panic!("{self:?}: no {name}"))
    }

    /// A result of the library, if it gave one.
    pub fn result_option(&self, name: &str) -> Option<Vec<f64>> {
        self.read(name, Dtype::F64, f64::from_le_bytes)
    }

    /// A result of the library.
    pub fn result(&self, name: &str) -> Vec<f64> {
        self.result_option(name).unwrap_or_else(|| panic!("{self:?}: no {name}"))
    }

    /// Whole numbers: lengths or classes.
    pub fn indices(&self, name: &str) -> Vec<usize> {
        let indices = self.read(name, Dtype::I64, i64::from_le_bytes);
        let indices = indices.unwrap_or_else(|| panic!("{self:?}: no {name}"));
        indices.into_iter().map(|index| usize::try_from(index).unwrap()).collect()
    }

    /// The lengths of the sequences, where they differ.
    pub fn lengths(&self) -> Vec<usize> {
        self.indices("lengths")
    }

    fn shape(&self, name: &str) -> Vec<usize> {
        let tensor = self.file.tensors.tensor(&format!("{}/{name}", self.number));
        tensor.unwrap_or_else(|e| panic!("{self:?}: {name}: {e}")).shape().to_vec()
    }

    /// The last dimension of a tensor.
    pub fn width(&self, name: &str) -> usize {
        self.shape(name)[self.shape(name).len() - 1]
    }

    /// The steps and sequences of a tensor `[τ, B, …]`.
    pub fn steps_and_batch(&self, name: &str) -> (usize, usize) {
        let shape = self.shape(name);
        (shape[0], shape[1])
    }
}
