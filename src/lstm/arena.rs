//! What a plan's passes leave in memory, and views of it. Knows the regions; must not
//! know how they are computed.

use super::{Gate, LstmPlan, LstmState};
use crate::Error;
use crate::arena::Region;
use bptt_kernels::AlignedBuffer;
use bptt_kernels::lstm::GATES;
use bptt_kernels::team::Team;

/// The memory of a plan's passes, and views of what they left there.
#[derive(Debug)]
pub struct LstmArena {
    pub(super) plan: LstmPlan,
    pub(super) memory: AlignedBuffer,
    pub(super) team: Team,
    pub(super) holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    Forward,
    Backward,
}

impl Holds {
    fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "no pass",
            Self::Forward => "a forward pass",
            Self::Backward => "a backward pass",
        }
    }
}

impl LstmArena {
    pub(super) fn expect(&self, call: &'static str, expected: Holds) -> Result<(), Error> {
        if self.holds == expected {
            return Ok(());
        }
        let (given, expected) = (self.holds.describe(), expected.describe());
        Err(Error::Order { call, given, expected })
    }

    fn states(&self, call: &'static str, region: Region) -> Result<&[f32], Error> {
        if self.holds == Holds::Nothing {
            self.expect(call, Holds::Forward)?;
        }
        Ok(&region.of(&self.memory)[self.plan.state_len()..])
    }

    /// The hidden states h⁽¹⁾ to h⁽τ⁾, `[τ, B, H]`: the layer's output. There after
    /// a forward and after a backward pass.
    ///
    /// # Errors
    /// [`Error::Order`] where no pass was run.
    pub fn hidden(&self) -> Result<&[f32], Error> {
        self.states("hidden", self.plan.regions.h)
    }

    /// The cell states s⁽¹⁾ to s⁽τ⁾, `[τ, B, H]`.
    ///
    /// # Errors
    /// [`Error::Order`] where no pass was run.
    pub fn cells(&self) -> Result<&[f32], Error> {
        self.states("cells", self.plan.regions.s)
    }

    /// The state after the last step, to start the next pass from.
    ///
    /// # Errors
    /// [`Error::Order`] where no pass was run.
    pub fn last(&self) -> Result<LstmState<'_>, Error> {
        let last = (self.plan.steps - 1) * self.plan.state_len();
        Ok(LstmState { h: &self.hidden()?[last..], s: &self.cells()?[last..] })
    }

    /// All gates, `[τ, B, 4, H]` in the order i, f, g, o.
    ///
    /// # Errors
    /// [`Error::Order`] where the last pass was not a forward one.
    pub fn gates(&self) -> Result<&[f32], Error> {
        self.expect("gates", Holds::Forward)?;
        Ok(self.plan.regions.gates.of(&self.memory))
    }

    /// One gate of one sequence at one step (from 0), `[H]`.
    ///
    /// # Errors
    /// [`Error::Order`] where the last pass was not a forward one, [`Error::Value`]
    /// where `step` or `sequence` is not in the plan.
    pub fn gate(&self, gate: Gate, step: usize, sequence: usize) -> Result<&[f32], Error> {
        let gates = self.gates()?;
        let within = |what, given: usize, limit: usize| {
            let expected = "below the plan's number of them";
            let error = Error::Value { what, given: given.to_string(), expected };
            if given < limit { Ok(()) } else { Err(error) }
        };
        within("step", step, self.plan.steps)?;
        within("sequence", sequence, self.plan.batch)?;
        let hidden = self.plan.lstm.hidden_size;
        let start = ((step * self.plan.batch + sequence) * GATES + gate as usize) * hidden;
        Ok(&gates[start..start + hidden])
    }

    /// The gradients of the gates' pre-activations, `[τ, B, 4, H]`.
    ///
    /// # Errors
    /// [`Error::Order`] where the last pass was not a backward one.
    pub fn preactivation_gradients(&self) -> Result<&[f32], Error> {
        self.expect("preactivation_gradients", Holds::Backward)?;
        Ok(self.plan.regions.gates.of(&self.memory))
    }
}
