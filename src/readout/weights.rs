//! A readout's parameters in the layouts that its passes read.

use super::{Readout, ReadoutParameters};
use crate::weights::Version;
use crate::{Error, Isa, Purpose};
use bptt_kernels::{Dense, PackedMatrix, team::Pass};

/// A readout's parameters, packed for one instruction set.
#[derive(Clone, Debug)]
pub struct ReadoutWeights {
    readout: Readout,
    isa: Isa,
    /// c + V h.
    pub(crate) forward: Dense,
    /// V by columns, `do V`.
    pub(super) back: Option<PackedMatrix>,
    pub(super) version: Version,
}

impl Readout {
    /// The parameters, packed for passes on `isa`. ∂L/∂h needs
    /// [`Purpose::TrainingWithInputGradient`]; the other two are the same here.
    /// [`ReadoutWeights::update`] packs anew after the parameters have changed,
    /// without allocating.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of other sizes,
    /// [`Error::OutOfMemory`].
    pub fn pack(
        &self,
        parameters: &ReadoutParameters,
        purpose: Purpose,
        isa: Isa,
    ) -> Result<ReadoutWeights, Error> {
        ReadoutWeights::new(*self, parameters, purpose, isa)
    }
}

impl ReadoutWeights {
    pub(super) fn new(
        readout: Readout,
        parameters: &ReadoutParameters,
        purpose: Purpose,
        isa: Isa,
    ) -> Result<Self, Error> {
        let (inputs, outputs) = (readout.input_size, readout.output_size);
        let back = (purpose == Purpose::TrainingWithInputGradient)
            .then(|| PackedMatrix::zeros(isa, 1, inputs, outputs));
        let mut weights = Self {
            readout,
            isa,
            forward: Dense::zeros(isa, outputs, inputs)?,
            back: back.transpose()?,
            version: Version::NONE,
        };
        weights.update(parameters)?;
        Ok(weights)
    }

    /// Packs changed parameters; allocates nothing. Losses from before it have no backward pass
    /// any more, since their weights are gone.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of other sizes.
    pub fn update(&mut self, parameters: &ReadoutParameters) -> Result<(), Error> {
        self.readout.check_same("parameters", parameters.readout())?;
        self.version = Version::next();
        self.forward.pack(parameters.weights(), parameters.bias(), &mut Pass::serial())?;
        if let Some(back) = &mut self.back {
            back.pack_columns(parameters.weights(), &mut Pass::serial())?;
        }
        Ok(())
    }

    /// The instruction set that they are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        self.forward.bytes() + self.back.as_ref().map_or(0, PackedMatrix::bytes)
    }

    #[inline]
    pub(crate) fn output_size(&self) -> usize {
        self.readout.output_size
    }

    /// `Ok` where they are for so many inputs, on `isa`.
    #[inline]
    pub(crate) fn check_inputs(&self, input_size: usize, isa: Isa) -> Result<(), Error> {
        self.check(&Readout { input_size, ..self.readout }, isa)
    }

    /// `Ok` where a pass planned for `readout` on `isa` can use them.
    #[inline]
    pub(super) fn check(&self, readout: &Readout, isa: Isa) -> Result<(), Error> {
        readout.check_same("readout weights", &self.readout)?;
        if self.isa == isa {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "readout weights",
            given: format!("instruction set {}", self.isa),
            expected: format!("instruction set {isa}"),
        })
    }
}
