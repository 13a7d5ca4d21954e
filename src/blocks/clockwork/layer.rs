//! The clockwork layer as a block: its configuration, its parameters and its state. Must not know
//! how its passes run.

use super::groups::{Clocked, recurrent_len};
use super::packed::ClockworkPacked;
use super::pass::ClockworkPass;
use super::steps::ClockworkSteps;
use crate::blocks::recurrent::{Activation, check_sizes};
use crate::blocks::{Block, Config, Packed, Pass, Plan, Steps, StreamPlan};
use crate::error::{check_len, product};
use crate::params::{Init, Manifest};
use crate::sequence::InputSize;
use crate::{Error, Format, Runtime};
use bptt_kernels::recurrence::Group;
use rand_core::Rng;

/// The longest period that a group may have.
const MOST: usize = 1 << 16;

/// A group of units of a [`Clockwork`], which move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockGroup {
    /// The number of units, Hᵢ.
    pub units: usize,
    /// The period kᵢ in steps: the group moves at each step t with t mod kᵢ = 0.
    pub period: usize,
}

/// A recurrent layer at several time scales (section 10.9; the clockwork RNN, Koutník et al. 2014).
/// Its units are in groups. Each group moves at its own period, and reads the groups whose period
/// is the same or longer:
///
/// ```text
/// hᵢ⁽ᵗ⁾ = φ(bᵢ + Uᵢ x⁽ᵗ⁾ + Σ_{j: kⱼ ≥ kᵢ} Wᵢⱼ hⱼ⁽ᵗ⁻¹⁾)   where t mod kᵢ = 0
/// hᵢ⁽ᵗ⁾ = hᵢ⁽ᵗ⁻¹⁾                                        elsewhere
/// ```
///
/// t is 0 at the first step of a sequence, where all groups move. Between its moves a group holds
/// its state, and gradients pass through the group unchanged: over τ steps, a gradient through
/// group i is a product of only τ / kᵢ factors. A group that does not move costs only a copy of its
/// state: no product, no input, and no memory for a gate.
///
/// The groups are stored in the order of their periods, the shortest first. Each group therefore
/// reads all units from its own first unit on.
///
/// | parameter | shape | |
/// | --- | --- | --- |
/// | `weight_ih` | `[H, I]` | U of all groups, one after the other |
/// | `weight_hh_k` | `[Hᵢ, Hᵢ + Hᵢ₊₁ + …]` | W of the group with the period k, a tensor for each |
/// | `bias` | `[H]` | b |
///
/// The state is `h` `[B, H]`, and the number of [steps](crate::State::step) that the sequences have
/// taken: with it a sequence may be divided among passes at any step. It is one number for all
/// sequences. So where sequences of different lengths go on after a pass, it is right for the longest
/// ones only: the others need a state of their own, with the [number](crate::State::set_step) of their
/// steps.
///
/// ```
/// use bptt::{Activation, ClockGroup, Clockwork, Network, Runtime};
///
/// // One unit adds up all inputs, one every third.
/// let groups = [1, 3].map(|period| ClockGroup { units: 1, period });
/// let network = Network::new(Clockwork::new(1, Activation::Identity, &groups)?);
/// let mut parameters = network.parameters()?;
/// parameters.tensor_mut("0.weight_ih")?.fill(1.0);
/// parameters.tensor_mut("0.weight_hh_1")?.copy_from_slice(&[1.0, 0.0]);
/// parameters.tensor_mut("0.weight_hh_3")?.fill(1.0);
/// let model = network.model(parameters, Runtime::best()?)?;
/// let mut stream = model.stream(1)?;
/// let mut y = [0.0; 8];
/// stream.forward(&[1.0, 2.0, 3.0, 4.0], &mut y)?;
/// assert_eq!(y, [1.0, 1.0, 3.0, 1.0, 6.0, 1.0, 10.0, 5.0]);
/// assert_eq!(stream.state()?.step(), 4);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Clockwork {
    activation: Activation,
    pub(super) clocked: Clocked,
}

impl Clockwork {
    /// Makes a layer with `input_size` (I) inputs and these `groups`, in any order. H is the number
    /// of units in all groups together.
    ///
    /// # Errors
    /// [`Error::Value`] if `input_size` is 0, if there are no groups, if a group has no units or a
    /// period outside 1 to 65536, or if two groups have the same period; [`Error::TooLarge`] if the
    /// weights do not fit the address space.
    pub fn new(
        input_size: usize,
        activation: Activation,
        groups: &[ClockGroup],
    ) -> Result<Self, Error> {
        let mut sorted = groups.to_vec();
        sorted.sort_unstable_by_key(|group| group.period);
        let within = |group: &ClockGroup| group.units > 0 && (1..=MOST).contains(&group.period);
        let twice = sorted.windows(2).any(|pair| pair[0].period == pair[1].period);
        if sorted.is_empty() || !sorted.iter().all(within) || twice {
            let expected = "one or more, each of 1 unit or more and a period of 1 to 65536, \
                            no period twice"
                .into();
            let pairs: Vec<_> = groups.iter().map(|group| (group.units, group.period)).collect();
            return Err(Error::Value { what: "groups", given: format!("{pairs:?}"), expected });
        }
        let mut hidden_size = 0usize;
        let mut placed = Vec::with_capacity(sorted.len());
        for ClockGroup { units, period } in sorted {
            placed.push(Group { units, first: hidden_size, period });
            let all = hidden_size.checked_add(units);
            hidden_size = all.ok_or(Error::TooLarge { what: "the parameters" })?;
        }
        check_sizes(input_size, hidden_size)?;
        let groups = placed.into();
        let phi = activation.into();
        let clocked = Clocked { groups, activation: phi, input: input_size, hidden: hidden_size };
        let clockwork = Self { activation, clocked };
        clockwork.recurrent_len()?;
        Ok(clockwork)
    }

    /// Returns the non-linearity φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// Returns the groups, the shortest period first. Their units lie in the state in this order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = ClockGroup> + '_ {
        self.clocked.groups.iter().map(|&Group { units, period, .. }| ClockGroup { units, period })
    }

    /// Returns H, the number of units in all groups together.
    pub fn hidden_size(&self) -> usize {
        self.clocked.hidden
    }

    /// Returns I, the number of features in a row of the input.
    pub fn input_size(&self) -> usize {
        self.clocked.input
    }

    /// Returns the number of floats in W, or an error if the parameters do not fit the address
    /// space.
    fn recurrent_len(&self) -> Result<usize, Error> {
        let Clocked { groups, input, hidden, .. } = &self.clocked;
        let what = "the parameters";
        let recurrent = recurrent_len(what, groups, *hidden)?;
        let all = product(what, &[*hidden, input.saturating_add(1)])?.checked_add(recurrent);
        product(what, &[all.ok_or(Error::TooLarge { what })?])?;
        Ok(recurrent)
    }

    /// Builds the layer from a configuration read from a file.
    pub(crate) fn from_config(config: &Config) -> Result<Self, Error> {
        config.expect_only(&["input_size", "activation", "units", "periods"])?;
        let (units, periods) = (config.sizes("units")?, config.sizes("periods")?);
        check_len("units", units.len(), periods.len())?;
        let groups: Vec<_> = units
            .iter()
            .zip(periods)
            .map(|(&units, &period)| ClockGroup { units, period })
            .collect();
        let activation = Activation::of(config, "activation")?;
        Self::new(config.size("input_size")?, activation, &groups)
    }
}

impl Block for Clockwork {
    fn config(&self) -> Config {
        Config::new("Clockwork")
            .with("input_size", self.clocked.input)
            .with("activation", self.activation.name())
            .with("units", self.groups().map(|group| group.units).collect::<Vec<_>>())
            .with("periods", self.groups().map(|group| group.period).collect::<Vec<_>>())
    }

    fn input(&self) -> InputSize {
        InputSize::Features(self.clocked.input)
    }

    fn output_size(&self) -> usize {
        self.clocked.hidden
    }

    /// Declares U of all groups, W of each group, named after its period, and b of all groups.
    fn parameters(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let Clocked { groups, input, hidden, .. } = &self.clocked;
        manifest.declare("weight_ih", &[*hidden, *input])?;
        for Group { units, first, period } in groups.iter() {
            manifest.declare(&format!("weight_hh_{period}"), &[*units, hidden - first])?;
        }
        manifest.declare("bias", &[*hidden])
    }

    fn state(&self, batch: usize, manifest: &mut Manifest) -> Result<(), Error> {
        manifest.declare("h", &[batch, self.clocked.hidden])
    }

    /// The number of steps tells which groups move at a step.
    fn reads_step(&self) -> bool {
        true
    }

    fn initialise(
        &self,
        parameters: &mut [f32],
        init: Init,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        let Clocked { input, hidden, .. } = self.clocked;
        let recurrent = self.recurrent_len()?;
        check_len("parameters", parameters.len(), hidden * (input + 1) + recurrent)?;
        let (u, rest) = parameters.split_at_mut(hidden * input);
        let (w, _) = rest.split_at_mut(recurrent);
        for place in self.clocked.places() {
            let Group { units, first, .. } = place.group;
            init.fill(&mut u[place.u], units, input, rng)?;
            init.fill(&mut w[place.w], units, hidden - first, rng)?;
        }
        Ok(())
    }

    fn pack(&self, format: Format, runtime: Runtime) -> Result<Box<dyn Packed>, Error> {
        let recurrent = self.recurrent_len()?;
        let packed =
            ClockworkPacked::zeros(self.clocked.clone(), recurrent, format, runtime.isa())?;
        Ok(Box::new(packed))
    }

    fn plan(&self, plan: &mut Plan<'_>) -> Result<Box<dyn Pass>, Error> {
        Ok(Box::new(ClockworkPass::planned(self.clocked.clone(), plan)?))
    }

    fn stream(&self, plan: &mut StreamPlan<'_>) -> Result<Box<dyn Steps>, Error> {
        let StreamPlan { batch, runtime, .. } = *plan;
        let clocked = self.clocked.clone();
        let steps = ClockworkSteps::planned(clocked, batch, runtime, plan.layout)?;
        Ok(Box::new(steps))
    }
}
