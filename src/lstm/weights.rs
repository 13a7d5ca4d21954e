//! An LSTM's parameters in the layouts that its passes read.

use super::{Lstm, LstmParameters};
use crate::error::check_threads;
use crate::{Error, Format, Isa};
use bptt_kernels::lstm::GATES;
use bptt_kernels::team::Team;
use bptt_kernels::{AlignedBuffer, PackedMatrix};

/// What weights are packed for: each need has panels of its own, which cost
/// memory and the time to pack them after each update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward passes and streams only.
    Inference,
    /// Forward and backward, without the gradient of the input: a first layer.
    Training,
    /// Forward and backward, with the gradient of the input.
    TrainingWithInputGradient,
}

/// An LSTM's parameters, packed for one instruction set.
#[derive(Clone, Debug)]
pub struct LstmWeights {
    pub(super) lstm: Lstm,
    isa: Isa,
    pub(super) bias: AlignedBuffer,
    /// U and W by rows: `x Uᵀ`, `h Wᵀ`.
    pub(super) input: PackedMatrix,
    pub(super) recurrent: PackedMatrix,
    /// W by columns, `dz W`, and U, `dz U`.
    pub(super) recurrent_back: Option<PackedMatrix>,
    pub(super) input_back: Option<PackedMatrix>,
    team: Team,
}

impl LstmWeights {
    pub(super) fn new(
        lstm: Lstm,
        parameters: &LstmParameters,
        purpose: Purpose,
        format: Format,
        isa: Isa,
    ) -> Result<Self, Error> {
        let (i, h) = (lstm.input_size, lstm.hidden_size);
        let back = |wanted: bool, units: usize| {
            wanted.then(|| PackedMatrix::zeros(isa, 1, units, GATES * h)).transpose()
        };
        let mut weights = Self {
            lstm,
            isa,
            bias: AlignedBuffer::try_new(GATES * h)?,
            input: PackedMatrix::zeros_as(format, isa, GATES, h, i)?,
            recurrent: PackedMatrix::zeros_as(format, isa, GATES, h, h)?,
            recurrent_back: back(purpose != Purpose::Inference, h)?,
            input_back: back(purpose == Purpose::TrainingWithInputGradient, i)?,
            team: Team::serial(),
        };
        weights.update(parameters)?;
        Ok(weights)
    }

    /// The same weights, which [`update`](Self::update) packs on up to `threads` threads,
    /// as [`LstmPlan::with_threads`](super::LstmPlan::with_threads) has it. What passes
    /// run on is their plan's affair.
    ///
    /// # Errors
    /// [`Error::Value`] where `threads` is 0 or above 256.
    pub fn with_threads(self, threads: usize) -> Result<Self, Error> {
        let team = Team::new(check_threads(threads)?)?;
        Ok(Self { team, ..self })
    }

    /// Packs changed parameters; on one thread it allocates nothing.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the parameters are of other sizes, [`Error::Value`] where
    /// the format is int8 and a weight is ∞ or NaN; nothing is written then.
    pub fn update(&mut self, parameters: &LstmParameters) -> Result<(), Error> {
        let sizes = (parameters.input_size(), parameters.hidden_size());
        if sizes != (self.lstm.input_size, self.lstm.hidden_size) {
            return Err(Error::Mismatch {
                what: "parameters",
                given: format!("I {}, H {}", sizes.0, sizes.1),
                expected: self.lstm.describe(),
            });
        }
        self.input.check_rows(parameters.input_weights())?;
        self.recurrent.check_rows(parameters.recurrent_weights())?;
        self.bias.copy_from_slice(parameters.bias());
        let (u, w) = (parameters.input_weights(), parameters.recurrent_weights());
        let Self { input, recurrent, recurrent_back, input_back, team, .. } = self;
        // Moving a value takes as long as some 16 multiply-adds.
        team.pass(16 * (u.len() + w.len()), |pass| {
            input.pack_rows(u, pass)?;
            recurrent.pack_rows(w, pass)?;
            if let Some(back) = recurrent_back {
                back.pack_columns(w, pass)?;
            }
            if let Some(back) = input_back {
                back.pack_columns(u, pass)?;
            }
            Ok(())
        })
    }

    /// The instruction set that they are packed for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How they are stored.
    pub fn format(&self) -> Format {
        self.recurrent.format()
    }

    /// The bytes that they take.
    pub fn bytes(&self) -> usize {
        let back = [&self.recurrent_back, &self.input_back].into_iter().flatten();
        let packed = [&self.input, &self.recurrent].into_iter().chain(back);
        size_of_val::<[f32]>(&self.bias) + packed.map(PackedMatrix::bytes).sum::<usize>()
    }

    /// `Ok` where a pass planned for `lstm` on `isa` can use them.
    #[inline]
    pub(super) fn check(&self, lstm: &Lstm, isa: Isa) -> Result<(), Error> {
        lstm.check_same("weights", &self.lstm)?;
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
