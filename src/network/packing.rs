//! The parameters of a network in the layouts that its passes read.

mod encoder;

pub(super) use encoder::EncoderPacked;

use super::Network;
use crate::blocks::{Packed, Wanted};
use crate::containers::ChildrenPacked;
use crate::params::{Manifest, Parameters};
use crate::{Error, Format, Runtime};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::{Pass as Threads, Team};
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
    blocks: ChildrenPacked,
    /// The encoder and its bridge, whose parameters come next.
    encoder: Option<EncoderPacked>,
    /// The manifest of the parameters.
    manifest: Arc<Manifest>,
    /// A copy of the learned state of one sequence, the last of the parameters, if it is learned.
    learned_state: Option<AlignedBuffer>,
    /// The gradients that backward passes can compute with what is packed.
    wanted: Wanted,
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
        let learned_state = match network.has_learned_state() {
            true => Some(AlignedBuffer::try_new(network.learned_manifest()?.len())?),
            false => None,
        };
        let encoder = network.encoder();
        let packed = |encoder| EncoderPacked::zeros(encoder, network, format, runtime);
        Ok(Self {
            blocks: network.blocks.packed(format, runtime)?,
            encoder: encoder.map(packed).transpose()?,
            manifest,
            learned_state,
            wanted: Wanted::NONE,
            unfilled: true,
            version: Version::NONE,
        })
    }

    /// Packs the layouts that passes with the gradients `wanted` read, unless they have been packed
    /// already. `parameters` must be the ones that are packed here.
    pub(super) fn require(
        &mut self,
        wanted: Wanted,
        parameters: &Parameters,
        team: &mut Team,
    ) -> Result<(), Error> {
        parameters.check_same("parameters", &self.manifest)?;
        let all = self.wanted.and(wanted);
        if self.wanted != all {
            // If allocating for one of the blocks fails, those before it are still to fill.
            let added = self.blocks.require(all);
            self.unfilled |= !matches!(added, Ok(false));
            added?;
            let added = self.encoder.as_mut().map_or(Ok(false), |encoder| encoder.require(all));
            self.unfilled |= !matches!(added, Ok(false));
            added?;
            self.wanted = all;
        }
        if self.unfilled { self.fill(parameters.as_slice(), team) } else { Ok(()) }
    }

    /// Returns an error unless the parameters are packed for passes with the gradients `wanted`, and
    /// `gradients` has the tensors of the parameters.
    pub(super) fn check_gradients(
        &self,
        wanted: Wanted,
        gradients: &Parameters,
    ) -> Result<(), Error> {
        gradients.check_same("parameter gradients", &self.manifest)?;
        if self.wanted.and(wanted) == self.wanted {
            return Ok(());
        }
        let what = "weights";
        let format = self.blocks.format();
        if format != Format::F32 {
            let given = format!("{format:?}, which are for inference");
            return Err(Error::Mismatch { what, given, expected: "F32, for training".into() });
        }
        let (given, expected) = (describe(self.wanted), describe(wanted));
        Err(Error::Mismatch { what, given, expected })
    }

    /// Returns the packed parameters of the blocks.
    #[inline]
    pub(super) fn blocks(&self) -> &ChildrenPacked {
        &self.blocks
    }

    /// Returns the packed parameters of the encoder, if there is one.
    pub(super) fn encoder(&self) -> Option<&EncoderPacked> {
        self.encoder.as_ref()
    }

    /// Returns the packing mutably if no stream shares it.
    pub(super) fn exclusive(shared: &mut Arc<Self>) -> Option<&mut Self> {
        let packing = Arc::get_mut(shared)?;
        let encoder = packing.encoder.as_mut().is_none_or(EncoderPacked::is_exclusive);
        (packing.blocks.is_exclusive() && encoder).then_some(packing)
    }

    /// Returns the manifest of the parameters.
    pub(super) fn manifest(&self) -> Arc<Manifest> {
        self.manifest.clone()
    }

    /// Returns the gradients that backward passes can compute with what is packed.
    pub(super) fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Packs all parameters. If they do not fit, those of another network for example, it returns
    /// an error and packs none.
    pub(super) fn update(&mut self, parameters: &Parameters, team: &mut Team) -> Result<(), Error> {
        parameters.check_same("parameters", &self.manifest)?;
        let parameters = parameters.as_slice();
        let (of_blocks, of_encoder) = (self.blocks.len(), self.of_encoder());
        self.blocks.check(&parameters[..of_blocks])?;
        if let Some(encoder) = &self.encoder {
            encoder.check(&parameters[of_encoder.clone()])?;
        }
        self.version = Version::next();
        if let Some(state) = &mut self.learned_state {
            state.copy_from_slice(&parameters[of_encoder.end..]);
        }
        self.fill(parameters, team)
    }

    fn fill(&mut self, parameters: &[f32], team: &mut Team) -> Result<(), Error> {
        let of_encoder = self.of_encoder();
        // Packing a value takes as long as some 16 multiply-adds.
        team.pass(parameters.len().saturating_mul(16), |threads: &mut Threads<'_>| {
            self.blocks.update(&parameters[..self.blocks.len()], threads)?;
            match &mut self.encoder {
                Some(encoder) => encoder.update(&parameters[of_encoder], threads),
                None => Ok(()),
            }
        })?;
        self.unfilled = false;
        Ok(())
    }

    /// Returns the range of the parameters of the encoder and its bridge, which come after those of the
    /// blocks. A learned state comes after them.
    pub(super) fn of_encoder(&self) -> Range<usize> {
        let learned = self.learned_state.as_ref().map_or(0, |state| state.len());
        self.blocks.len()..self.manifest.len() - learned
    }

    /// Returns the state of one sequence before its first step, if it is learned. It is the last of
    /// the parameters.
    pub(super) fn learned_state(&self) -> Option<&[f32]> {
        self.learned_state.as_deref()
    }

    /// Returns the bytes that the packed parameters take.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.bytes() + self.encoder.as_ref().map_or(0, EncoderPacked::bytes)
    }
}

/// Names the gradients that the passes of a network compute, for a message.
fn describe(Wanted { parameters, input, state, source }: Wanted) -> String {
    let names = [
        (parameters, "the parameters"),
        (input, "the input"),
        (state, "the state"),
        (source, "the source"),
    ];
    let names: Vec<_> = names.iter().filter(|name| name.0).map(|name| name.1).collect();
    if names.is_empty() {
        return "inference".into();
    }
    format!("gradients by {}", names.join(", "))
}
