//! What a call checks before a pass begins. Knows lengths and what was planned; must not know what a
//! pass computes.

use super::{Holds, Workspace};
use crate::error::check_len;
use crate::loss::{Loss, TargetRows};
use crate::network::Network;
use crate::network::division::Plans;
use crate::network::packing::{Packing, Version};
use crate::sequence::{Input, InputSize, Inputs, Schedule};
use crate::{Error, Runtime};

impl Workspace {
    /// Returns an error unless the workspace holds a forward pass with the parameters of `version`.
    pub(in super::super) fn expect_forward_of(&self, version: Version) -> Result<(), Error> {
        let call = "backward";
        self.expect(call, Holds::Forward)?;
        if self.version == version {
            return Ok(());
        }
        let given = "a pass of other parameters, or of these before a change";
        Err(Error::Order { call, given, expected: "a forward pass of these parameters" })
    }

    /// Returns an error if the pass is divided or its outputs come in chunks, so that the workspace
    /// keeps no outputs.
    pub(in super::super) fn check_keeps_outputs(&self) -> Result<(), Error> {
        let (given, expected) = match (&self.plans, &self.plans.first().tail) {
            (Plans::Divided(_), _) => ("a budget, within which it keeps no outputs", "no budget"),
            (Plans::Whole(_), Some(_)) => {
                ("outputs in chunks, which it does not keep", "no chunks")
            }
            (Plans::Whole(_), None) => return Ok(()),
        };
        let expected = format!("{expected}, for outputs; or a call that needs a loss");
        Err(Error::Mismatch { what: "workspace", given: given.into(), expected })
    }

    /// Returns an error unless the workspace is for passes of `network` on `runtime`.
    pub(in super::super) fn check(&self, network: &Network, runtime: Runtime) -> Result<(), Error> {
        if self.runtime == runtime && self.network.computes_as(network) {
            return Ok(());
        }
        let describe = |network: &Network, runtime: Runtime, other: &Network| {
            let (isa, threads) = (runtime.isa(), runtime.thread_count());
            format!("{} on {isa}, threads {threads}", network.describe_beside(other))
        };
        Err(Error::Mismatch {
            what: "workspace",
            given: describe(&self.network, self.runtime, network),
            expected: describe(network, runtime, &self.network),
        })
    }

    /// Returns an error unless there can be backward passes in the workspace.
    pub(in super::super) fn check_backward(&self) -> Result<(), Error> {
        if self.asked.wanted.any() {
            return Ok(());
        }
        let (given, expected) = ("one for inference".into(), "one for training".into());
        Err(Error::Mismatch { what: "workspace", given, expected })
    }

    /// Returns an error unless backward passes with `packing` can compute the gradients of this
    /// workspace.
    pub(in super::super) fn check_gradients(&self, packing: &Packing) -> Result<(), Error> {
        self.check_backward()?;
        packing.check_gradients(self.plans.wanted(), &self.gradients)
    }

    /// Returns an error unless the inputs fit the network. Tokens of padding are not looked at.
    pub(in super::super) fn check_inputs(&self, inputs: Inputs<'_>) -> Result<(), Error> {
        check_input(&self.schedule, inputs.x, self.network.input())?;
        let refused = |given: &str, expected: &str| {
            let (given, expected) = (given.into(), expected.into());
            Err(Error::Mismatch { what: "inputs", given, expected })
        };
        match (inputs.source, self.network.encoder(), self.plans.encoder()) {
            (Some(source), Some(encoder), Some(plan)) => {
                check_input(&plan.planned.schedule, source, encoder.input())
            }
            (None, Some(_), _) => refused("no source", "one, for the encoder"),
            (Some(_), None, _) => refused("a source", "none, since there is no encoder"),
            (None, None, _) | (_, _, None) => Ok(()),
        }
    }

    /// Returns an error unless the inputs fit the network and `loss` fits its outputs.
    pub(in super::super) fn check_loss(
        &self,
        inputs: Inputs<'_>,
        loss: &dyn Loss,
        outputs: usize,
    ) -> Result<(), Error> {
        self.check_inputs(inputs)?;
        let divider = match (&self.plans, &self.plans.first().tail) {
            (Plans::Divided(_), _) => Some("a workspace with a budget divides them"),
            (Plans::Whole(_), Some(_)) => Some("they come in chunks"),
            (Plans::Whole(_), None) => None,
        };
        if let (Some(divider), false) = (divider, loss.is_sum_over_rows()) {
            return Err(Error::Mismatch {
                what: "loss",
                given: "all outputs at once".into(),
                expected: format!("a sum over rows, since {divider}"),
            });
        }
        loss.check(TargetRows::of(&self.schedule), outputs)
    }
}

/// Returns an error unless `x` has the rows of the schedule, of this size. Tokens of padding are not
/// looked at.
pub(in super::super) fn check_input(
    schedule: &Schedule,
    x: Input<'_>,
    size: InputSize,
) -> Result<(), Error> {
    match (schedule.given(), x, size) {
        (Some(given), Input::Tokens(tokens), InputSize::Tokens(size)) => {
            check_len("tokens", tokens.len(), schedule.given_rows())?;
            match given.iter().find(|&&row| tokens[row] as usize >= size) {
                Some(&row) => Err(Error::Token { row, given: tokens[row], tokens: size }),
                None => Ok(()),
            }
        }
        _ => x.check(schedule.given_rows(), size),
    }
}
