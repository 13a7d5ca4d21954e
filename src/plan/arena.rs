//! What a plan's passes leave in memory, and views of it. Knows the regions; must not
//! know how they are computed.

use super::Plan;
use crate::arena::Region;
use crate::error::check_len;
use crate::spec::Spec;
use crate::state::State;
use crate::weights::{OF_OTHERS, Version};
use crate::{Error, Lstm, LstmGate, Weights};
use bptt_kernels::AlignedBuffer;
use bptt_kernels::team::Team;

/// The memory of a plan's passes, and views of what they left there.
#[derive(Debug)]
pub struct Arena<C> {
    pub(super) plan: Plan<C>,
    pub(super) memory: AlignedBuffer,
    pub(super) team: Team,
    pub(super) holds: Holds,
    /// The weights of the forward pass that it holds.
    pub(super) version: Version,
    /// The steps before the pass that it holds, where they are counted.
    pub(super) step: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    Forward,
    Backward,
}

/// What an arena has to hold before a backward pass.
const OF_THESE: &str = "a forward pass of these weights";

impl Holds {
    fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "no pass",
            Self::Forward => "a forward pass",
            Self::Backward => "a backward pass",
        }
    }
}

impl<C: Spec> Plan<C> {
    /// The arena: the one allocation of all passes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn allocate(&self) -> Result<Arena<C>, Error> {
        let memory = self.layout.allocate()?;
        let team = Team::new(self.threads)?;
        let (holds, version) = (Holds::Nothing, Version::NONE);
        Ok(Arena { plan: self.clone(), memory, team, holds, version, step: 0 })
    }

    /// `Ok` where these are for the plan's passes.
    pub(super) fn check(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        arena: &Arena<C>,
    ) -> Result<(), Error> {
        weights.check(&self.layer, self.isa)?;
        check_len("x", x.len(), self.input_len())?;
        if self.passes_are_those_of(&arena.plan) {
            return Ok(());
        }
        let (given, expected) =
            (arena.plan.describe_beside(self), self.describe_beside(&arena.plan));
        Err(Error::Mismatch { what: "arena", given, expected })
    }
}

impl<C: Spec> Arena<C> {
    pub(super) fn expect(&self, call: &'static str, expected: Holds) -> Result<(), Error> {
        if self.holds == expected {
            return Ok(());
        }
        let (given, expected) = (self.holds.describe(), expected.describe());
        Err(Error::Order { call, given, expected })
    }

    /// `Ok` where it holds a forward pass of these weights, as they are now.
    pub(super) fn expect_forward_of(&self, weights: Version) -> Result<(), Error> {
        let call = "backward";
        self.expect(call, Holds::Forward)?;
        if self.version == weights {
            return Ok(());
        }
        Err(Error::Order { call, given: OF_OTHERS, expected: OF_THESE })
    }

    /// A region of states, without those from before the first step.
    fn states(&self, call: &'static str, region: Region, before: usize) -> Result<&[f32], Error> {
        if self.holds == Holds::Nothing {
            self.expect(call, Holds::Forward)?;
        }
        Ok(&region.of(&self.memory)[before..])
    }

    /// The hidden states h⁽¹⁾ to h⁽τ⁾, `[τ, B, R]`: the layer's output. There after
    /// a forward and after a backward pass.
    ///
    /// # Errors
    /// [`Error::Order`] where no pass was run.
    pub fn hidden(&self) -> Result<&[f32], Error> {
        self.states("hidden", self.plan.regions.h, self.plan.before_len())
    }

    /// The cell states c⁽¹⁾ to c⁽τ⁾, `[τ, B, H]`; empty where the cell has none.
    ///
    /// # Errors
    /// [`Error::Order`] where no pass was run.
    pub fn cell_states(&self) -> Result<&[f32], Error> {
        self.states("cell_states", self.plan.regions.c, self.plan.cell_len())
    }

    /// The state after the last step, to start the next pass from.
    ///
    /// # Errors
    /// [`Error::Order`] where no pass was run.
    pub fn last(&self) -> Result<C::State<&[f32]>, Error> {
        let (before, cell) = (self.plan.before_len(), self.plan.cell_len());
        let h = self.states("last", self.plan.regions.h, 0)?;
        let c = self.states("last", self.plan.regions.c, 0)?;
        let x = self.states("last", self.plan.regions.x, self.plan.late_len())?;
        let last: C::State<&[f32]> =
            State::from_parts(&h[h.len() - before..], &c[c.len() - cell..], x);
        Ok(last.at_step(self.step + self.plan.steps as u64))
    }

    /// What a pass keeps of the gates.
    fn kept(&self) -> &[f32] {
        let kept = self.plan.regions.gates.of(&self.memory);
        match self.plan.layer.clocked() {
            None => kept,
            Some(clocked) => &kept[..clocked.kept_len(self.step, self.plan.steps, self.plan.batch)],
        }
    }

    /// All gates, `[τ, B, G, H]` in the cell's order. Of a cell without gates: what its
    /// backward pass needs there, which may change.
    ///
    /// # Errors
    /// [`Error::Order`] where the last pass was not a forward one.
    pub fn gates(&self) -> Result<&[f32], Error> {
        self.expect("gates", Holds::Forward)?;
        Ok(self.kept())
    }

    /// The gradients of the gates' pre-activations, `[τ, B, G, H]`; of a
    /// [`Clockwork`](crate::Clockwork) those of each group, one after the other, at the steps
    /// at which it moved, `[moves, B, units]`.
    ///
    /// # Errors
    /// [`Error::Order`] where the last pass was not a backward one.
    pub fn preactivation_gradients(&self) -> Result<&[f32], Error> {
        self.expect("preactivation_gradients", Holds::Backward)?;
        Ok(self.kept())
    }
}

impl Arena<Lstm> {
    /// One gate of one sequence at one step (from 0), `[H]`.
    ///
    /// # Errors
    /// [`Error::Order`] where the last pass was not a forward one, [`Error::Value`]
    /// where `step` or `sequence` is not in the plan, or gates are coupled and it is the
    /// input gate.
    pub fn gate(&self, gate: LstmGate, step: usize, sequence: usize) -> Result<&[f32], Error> {
        let gates = self.gates()?;
        let within = |what, given: usize, limit: usize| {
            let expected = format!("below {limit}, as the plan has them").into();
            let error = Error::Value { what, given: given.to_string(), expected };
            if given < limit { Ok(()) } else { Err(error) }
        };
        within("step", step, self.plan.steps)?;
        within("sequence", sequence, self.plan.batch)?;
        let (layer, hidden) = (&self.plan.layer, self.plan.layer.sizes().hidden);
        let row = (step * self.plan.batch + sequence) * layer.gates().len();
        let start = (row + layer.place(gate)?) * hidden;
        Ok(&gates[start..start + hidden])
    }
}
