//! The parameters of attention in the form that its passes read.

use super::Attention;
use crate::blocks::{Block, Packed, Plain, Wanted};
use crate::error::check_len;
use crate::params::Manifest;
use crate::{Error, Format, Runtime};
use bptt_kernels::team::Pass as Threads;

/// The packed map of the query, and the vector after it.
#[derive(Debug)]
pub(crate) struct AttentionPacked {
    query: Option<Box<dyn Packed>>,
    /// The number of the map's parameters.
    of_query: usize,
    vector: Plain,
}

impl AttentionPacked {
    /// Allocates room for the parameters.
    pub fn zeros(attention: &Attention, format: Format, runtime: Runtime) -> Result<Self, Error> {
        let (query, mut of_query) = (attention.query()?, Manifest::default());
        if let Some(query) = &query {
            query.parameters(&mut of_query)?;
        }
        let query = query.map(|query| query.pack(format, runtime)).transpose()?;
        let vector = Plain::zeros(attention.vector_len())?;
        Ok(Self { query, of_query: of_query.len(), vector })
    }

    /// Returns the map of the query, if there is one.
    pub fn query(&self) -> Option<&dyn Packed> {
        self.query.as_deref()
    }

    /// Returns the number of the map's parameters, before the vector.
    pub fn of_query(&self) -> usize {
        self.of_query
    }

    /// Returns the vector; empty if there is none.
    pub fn vector(&self) -> &[f32] {
        self.vector.parameters()
    }
}

impl Packed for AttentionPacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        // The gradient goes through the map in any case.
        let wanted = Wanted { input: true, ..wanted };
        self.query.as_mut().map_or(Ok(false), |query| query.require(wanted))
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        let len = self.of_query + self.vector().len();
        check_len("parameters", parameters.len(), len)?;
        let of_query = &parameters[..self.of_query];
        self.query.as_ref().map_or(Ok(()), |query| query.check(of_query))
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        let (of_query, of_vector) = parameters.split_at(self.of_query);
        if let Some(query) = &mut self.query {
            query.update(of_query, threads)?;
        }
        self.vector.update(of_vector, threads)
    }

    fn format(&self) -> Format {
        self.query.as_ref().map_or(Format::F32, |query| query.format())
    }

    fn bytes(&self) -> usize {
        self.vector.bytes() + self.query.as_ref().map_or(0, |query| query.bytes())
    }
}
