//! The parameters of a network in the layouts that its passes read.

use super::Network;
use crate::blocks::{Packed, Wanted};
use crate::params::{Manifest, Parameters};
use crate::{Error, Format, Runtime};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::{Pass as Threads, Team};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that identifies the values of packed parameters. It is unique in the process, and
/// changes whenever the values change. With it a backward pass checks that it has the parameters of
/// its forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(u64);

impl Version {
    /// The version before any parameters have been packed.
    pub(super) const NONE: Self = Self(0);

    /// Returns a version that this process has not used before.
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The parameters of a network in the layouts that its passes read, in one format, for one
/// instruction set.
#[derive(Debug)]
pub(super) struct Packing {
    /// Shared with the single steps of streams, which know their types.
    blocks: Vec<Arc<dyn Packed>>,
    /// The manifest of the parameters.
    manifest: Arc<Manifest>,
    /// The range of each block's parameters in the buffer of all parameters.
    ranges: Vec<Range<usize>>,
    /// A copy of the learned state of one sequence, the last of the parameters, if it is learned.
    learned_state: Option<AlignedBuffer>,
    /// For each block, the gradients that backward passes can compute with what is packed.
    wanted: Vec<Wanted>,
    /// Whether some of the memory has been allocated but not filled yet.
    unfilled: bool,
    pub version: Version,
}

impl Packing {
    /// Allocates memory for the parameters of `network`, whose manifest is `manifest`, without any
    /// parameters in it.
    pub(super) fn zeros(
        network: &Network,
        manifest: Arc<Manifest>,
        format: Format,
        runtime: Runtime,
    ) -> Result<Self, Error> {
        let (_, ranges) = network.declared_parameters()?;
        let of_blocks = ranges.last().map_or(0, |last| last.end);
        let learned_state = match network.has_learned_state() {
            true => Some(AlignedBuffer::try_new(manifest.len() - of_blocks)?),
            false => None,
        };
        let blocks: Result<_, Error> =
            network.blocks().map(|block| block.pack(format, runtime).map(Arc::from)).collect();
        let wanted = vec![Wanted::default(); ranges.len()];
        Ok(Self {
            blocks: blocks?,
            manifest,
            ranges,
            learned_state,
            wanted,
            unfilled: true,
            version: Version::NONE,
        })
    }

    /// Packs the layouts that passes with the gradients `wanted` of each block read, unless they
    /// have been packed already. `parameters` must be the ones that are packed here.
    pub(super) fn require(
        &mut self,
        wanted: &[Wanted],
        parameters: &Parameters,
        team: &mut Team,
    ) -> Result<(), Error> {
        parameters.check_same("parameters", &self.manifest)?;
        let blocks = self.blocks.iter_mut().map(exclusive).zip(&mut self.wanted);
        for ((block, had), &wanted) in blocks.zip(wanted) {
            let all = had.and(wanted);
            if *had != all {
                // Noted at once: if allocating for a later block fails, this one is still to fill.
                self.unfilled |= block.require(all)?;
                *had = all;
            }
        }
        if self.unfilled { self.fill(parameters.as_slice(), team) } else { Ok(()) }
    }

    /// Returns an error unless the parameters are packed for passes with the gradients `wanted` of
    /// each block, and `gradients` has the tensors of the parameters.
    pub(super) fn check_gradients(
        &self,
        wanted: &[Wanted],
        gradients: &Parameters,
    ) -> Result<(), Error> {
        gradients.check_same("parameter gradients", &self.manifest)?;
        let blocks = self.wanted.iter().zip(wanted);
        if blocks.clone().all(|(had, wanted)| had.and(*wanted) == *had) {
            return Ok(());
        }
        let what = "weights";
        if let Some(block) = self.blocks.iter().find(|block| block.format() != Format::F32) {
            let given = format!("{:?}, which are for inference", block.format());
            return Err(Error::Mismatch { what, given, expected: "F32, for training".into() });
        }
        let (given, expected) = (describe(&self.wanted), describe(wanted));
        Err(Error::Mismatch { what, given, expected })
    }

    /// Returns the packed parameters of block `nth`.
    #[inline]
    pub(super) fn block(&self, nth: usize) -> &dyn Packed {
        &*self.blocks[nth]
    }

    /// Returns the packed parameters of block `nth`, which has the type `P`, for an owner that looks
    /// them up at every step.
    pub(super) fn share<P: Packed>(&self, nth: usize) -> Result<Arc<P>, Error> {
        self.blocks[nth].as_form::<P>()?;
        let any: Arc<dyn Any + Send + Sync> = self.blocks[nth].clone();
        Ok(any.downcast().expect("it has just been seen to have the type"))
    }

    /// Returns the packing mutably if no stream shares it.
    pub(super) fn exclusive(shared: &mut Arc<Self>) -> Option<&mut Self> {
        let packing = Arc::get_mut(shared)?;
        packing.blocks.iter_mut().all(|block| Arc::get_mut(block).is_some()).then_some(packing)
    }

    /// Returns the manifest of the parameters.
    pub(super) fn manifest(&self) -> Arc<Manifest> {
        self.manifest.clone()
    }

    /// Returns, for each block, the gradients that backward passes can compute with what is packed.
    pub(super) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Packs all parameters. If they do not fit, those of another network for example, it returns
    /// an error and packs none.
    pub(super) fn update(&mut self, parameters: &Parameters, team: &mut Team) -> Result<(), Error> {
        parameters.check_same("parameters", &self.manifest)?;
        let parameters = parameters.as_slice();
        for (block, range) in self.blocks.iter().zip(&self.ranges) {
            block.check(&parameters[range.clone()])?;
        }
        self.version = Version::next();
        if let Some(state) = &mut self.learned_state {
            let first = parameters.len() - state.len();
            state.copy_from_slice(&parameters[first..]);
        }
        self.fill(parameters, team)
    }

    fn fill(&mut self, parameters: &[f32], team: &mut Team) -> Result<(), Error> {
        // Packing a value takes as long as some 16 multiply-adds.
        team.pass(parameters.len().saturating_mul(16), |threads: &mut Threads<'_>| {
            for (block, range) in self.blocks.iter_mut().map(exclusive).zip(&self.ranges) {
                block.update(&parameters[range.clone()], threads)?;
            }
            Ok::<(), Error>(())
        })?;
        self.unfilled = false;
        Ok(())
    }

    /// Returns the range of each block's parameters in the buffer of all parameters.
    pub(super) fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Returns the state of one sequence before its first step, if it is learned. It is the last of
    /// the parameters.
    pub(super) fn learned_state(&self) -> Option<&[f32]> {
        self.learned_state.as_deref()
    }

    /// Returns the bytes that the packed parameters take.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes()).sum()
    }
}

/// Returns a block's packed parameters mutably. Whoever calls has seen that no stream shares them.
fn exclusive(block: &mut Arc<dyn Packed>) -> &mut dyn Packed {
    Arc::get_mut(block).expect("no stream shares the packing")
}

/// Names the gradients that the passes of a network compute, for a message.
fn describe(wanted: &[Wanted]) -> String {
    let Wanted { parameters, input, state } = wanted[0];
    let names = [(parameters, "the parameters"), (input, "the input"), (state, "the state")];
    let names: Vec<_> = names.iter().filter(|name| name.0).map(|name| name.1).collect();
    if names.is_empty() {
        return "inference".into();
    }
    format!("gradients by {}", names.join(", "))
}
