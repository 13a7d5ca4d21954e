//! A readout's parameters in the layouts that its passes read.

use super::{Readout, ReadoutParameters};
use crate::{Error, Isa, Purpose};
use bptt_kernels::{AlignedBuffer, PackedMatrix, team::Pass};

/// A readout's parameters, packed for one instruction set.
#[derive(Clone, Debug)]
pub struct ReadoutWeights {
    readout: Readout,
    isa: Isa,
    pub(super) bias: AlignedBuffer,
    /// V by rows, `h Vᵀ`.
    pub(super) forward: PackedMatrix,
    /// V by columns, `do V`.
    pub(super) back: Option<PackedMatrix>,
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
            bias: AlignedBuffer::try_new(outputs)?,
            forward: PackedMatrix::zeros(isa, 1, outputs, inputs)?,
            back: back.transpose()?,
        };
        weights.update(parameters)?;
        Ok(weights)
    }

    /// Packs changed parameters; allocates nothing.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of other sizes.
    pub fn update(&mut self, parameters: &ReadoutParameters) -> Result<(), Error> {
        self.readout.check_same("parameters", parameters.readout())?;
        self.bias.copy_from_slice(parameters.bias());
        self.forward.pack_rows(parameters.weights(), &mut Pass::serial())?;
        if let Some(back) = &mut self.back {
            back.pack_columns(parameters.weights(), &mut Pass::serial())?;
        }
        Ok(())
    }

    /// The instruction set that they are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// `Ok` where a pass planned for `readout` on `isa` can use them.
    pub(super) fn check(&self, readout: &Readout, isa: Isa) -> Result<(), Error> {
        readout.check_same("weights", &self.readout)?;
        if self.isa == isa {
            return Ok(());
        }
        Err(Error::Mismatch {
            what: "weights",
            given: format!("instruction set {}", self.isa),
            expected: format!("instruction set {isa}"),
        })
    }
}
