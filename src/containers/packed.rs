//! The packed parameters of the blocks within a container. Must not know how the blocks are
//! connected.

use crate::blocks::{Block, Packed, Wanted};
use crate::params::Manifest;
use crate::{Error, Format, Runtime};
use bptt_kernels::team::Pass as Threads;
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// The packed parameters of several blocks, which lie one after the other.
#[derive(Debug)]
pub(crate) struct ChildrenPacked {
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    /// Shared with the single steps of streams, which know its type.
    packed: Arc<dyn Packed>,
    /// The range of the block's parameters in those of all.
    range: Range<usize>,
    /// Whether its backward passes always compute the gradient of the input.
    needs_input_gradient: bool,
}

impl ChildrenPacked {
    /// Allocates room for the parameters of `blocks`. Each comes with whether its backward passes
    /// compute the gradient of the input even if the container is not asked for that of its own.
    pub(super) fn zeros<'a>(
        blocks: impl Iterator<Item = (&'a dyn Block, bool)>,
        format: Format,
        runtime: Runtime,
    ) -> Result<Self, Error> {
        let mut children = Vec::new();
        let mut end = 0;
        for (block, needs_input_gradient) in blocks {
            let mut manifest = Manifest::default();
            block.parameters(&mut manifest)?;
            let range = end..end + manifest.len();
            end = range.end;
            let packed = Arc::from(block.pack(format, runtime)?);
            children.push(Child { packed, range, needs_input_gradient });
        }
        Ok(Self { children })
    }

    /// Returns the number of the parameters.
    pub(crate) fn len(&self) -> usize {
        self.children.last().map_or(0, |child| child.range.end)
    }

    /// Returns the packed parameters of block `nth`.
    #[inline]
    pub(crate) fn block(&self, nth: usize) -> &dyn Packed {
        &*self.children[nth].packed
    }

    /// Returns the packed parameters of the last block, and of the one before it, if there is one.
    pub(super) fn last_of_two(&self) -> (Option<&dyn Packed>, &dyn Packed) {
        let last = self.children.len() - 1;
        (last.checked_sub(1).map(|before| self.block(before)), self.block(last))
    }

    /// Returns the packed parameters of block `nth`, which has the type `P`, for an owner that looks
    /// them up at every step.
    pub(crate) fn share<P: Packed>(&self, nth: usize) -> Result<Arc<P>, Error> {
        self.block(nth).as_form::<P>()?;
        let any: Arc<dyn Any + Send + Sync> = self.children[nth].packed.clone();
        Ok(any.downcast().expect("it has just been seen to have the type"))
    }

    /// Returns whether no stream [shares](Self::share) a block's parameters.
    pub(crate) fn is_exclusive(&mut self) -> bool {
        self.children.iter_mut().all(|child| Arc::get_mut(&mut child.packed).is_some())
    }
}

/// Returns a block's packed parameters mutably. Whoever calls has seen that no stream shares them.
fn exclusive(packed: &mut Arc<dyn Packed>) -> &mut dyn Packed {
    Arc::get_mut(packed).expect("no stream shares the parameters")
}

impl Packed for ChildrenPacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        let mut added = false;
        for Child { packed, needs_input_gradient, .. } in &mut self.children {
            let input = wanted.input || *needs_input_gradient;
            added |= exclusive(packed).require(Wanted { input, ..wanted })?;
        }
        Ok(added)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        crate::error::check_len("parameters", parameters.len(), self.len())?;
        let mut children = self.children.iter();
        children.try_for_each(|child| child.packed.check(&parameters[child.range.clone()]))
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        for Child { packed, range, .. } in &mut self.children {
            exclusive(packed).update(&parameters[range.clone()], threads)?;
        }
        Ok(())
    }

    fn format(&self) -> Format {
        let formats = || self.children.iter().map(|child| child.packed.format());
        formats().find(|&format| format != Format::F32).unwrap_or(Format::F32)
    }

    fn bytes(&self) -> usize {
        self.children.iter().map(|child| child.packed.bytes()).sum()
    }
}
