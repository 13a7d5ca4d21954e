//! Units in groups that move at periods of their own.

use super::{Activation, check_sizes, checked};
use crate::clocked::{Clocked, Place};
use crate::spec::{Sizes, Spec};
use crate::{ClockedState, Error, Parameters};
use bptt_kernels::cells::{self, Cell};
use bptt_kernels::recurrence::Group;
use std::sync::Arc;

/// The longest period.
const MOST: usize = 1 << 16;

/// Units of a [`Clockwork`] that move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockGroup {
    /// How many, Hᵢ.
    pub units: usize,
    /// The period kᵢ in steps: they move where t mod kᵢ = 0.
    pub period: usize,
}

/// A recurrent layer at several time scales (section 10.9; the clockwork RNN, Koutník et al.
/// 2014): units in groups, of which each moves at its own period and reads the groups of its
/// own period or a longer one,
///
/// ```text
/// hᵢ⁽ᵗ⁾ = φ(bᵢ + Uᵢ x⁽ᵗ⁾ + Σ_{j: kⱼ ≥ kᵢ} Wᵢⱼ hⱼ⁽ᵗ⁻¹⁾)   where t mod kᵢ = 0
/// hᵢ⁽ᵗ⁾ = hᵢ⁽ᵗ⁻¹⁾                                        elsewhere
/// ```
///
/// t is 0 in the first step of a sequence, where all groups move. Between its moves a group
/// holds what it has, and gradients pass through unchanged: along the slow groups τ steps are
/// τ / kᵢ factors. A group that does not move costs a copy of its state: no product, no input,
/// no memory for a gate.
///
/// The groups stand in the order of their periods, the shortest first, so that what one reads
/// are all units from its own first. Its parameters are U `[H, I]`, W of only the blocks that
/// there are, for each group `[Hᵢ, Hᵢ + Hᵢ₊₁ + …]`, one after the other, and b `[H]`;
/// [`Parameters::clock_group`] has a group's.
///
/// The [state](ClockedState) counts the steps, so that a sequence may be cut anywhere.
///
/// ```
/// use bptt::{Activation, Layer, ClockGroup, Clockwork, Isa, Purpose};
///
/// // One unit adds up all inputs, one every third.
/// let groups = [1, 3].map(|period| ClockGroup { units: 1, period });
/// let layer = Clockwork::new(1, Activation::Identity, &groups)?;
/// let mut parameters = layer.parameters()?;
/// parameters.clock_group_mut(1)?[0].fill(1.0);
/// parameters.clock_group_mut(1)?[1].copy_from_slice(&[1.0, 0.0]);
/// parameters.clock_group_mut(3)?[0].fill(1.0);
/// parameters.clock_group_mut(3)?[1].fill(1.0);
/// let weights = layer.pack(&parameters, Purpose::Inference, Isa::best()?)?;
/// let mut stream = layer.stream(1, Isa::best()?)?;
/// let mut y = [0.0; 8];
/// stream.forward(&weights, &[1.0, 2.0, 3.0, 4.0], &mut y)?;
/// assert_eq!(y, [1.0, 1.0, 3.0, 1.0, 6.0, 1.0, 10.0, 5.0]);
/// assert_eq!(stream.state().step, 4);
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Clockwork {
    input_size: usize,
    hidden_size: usize,
    activation: Activation,
    /// The shortest period first.
    groups: Arc<[Group]>,
}

impl Clockwork {
    /// `input_size` (I) inputs and these groups, in any order; H are the units of all.
    ///
    /// # Errors
    /// [`Error::Value`] where `input_size` is 0, or the groups are none, not each of 1 unit or
    /// more with a period of 1 to 65536, or not each of another period; [`Error::TooLarge`]
    /// where the weights do not fit the address space.
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
                            which is another for each"
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
        checked(Self { input_size, hidden_size, activation, groups: placed.into() })
    }

    /// φ.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The groups, the shortest period first, as their units stand in the state.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = ClockGroup> + '_ {
        self.groups.iter().map(|&Group { units, period, .. }| ClockGroup { units, period })
    }

    /// The periods, for a message.
    fn periods(&self) -> String {
        let periods: Vec<_> = self.groups.iter().map(|group| group.period).collect();
        format!("that of one of the layer's groups, {periods:?}")
    }

    /// Where the parameters of the group of this period lie.
    fn place(&self, period: usize) -> Result<Place, Error> {
        let sizes = (self.input_size, self.hidden_size);
        let clocked = Clocked { groups: &self.groups, activations: self.activation.into() };
        let place = clocked.places(sizes).find(|place| place.group.period == period);
        place.ok_or_else(|| Error::Value {
            what: "period",
            given: period.to_string(),
            expected: self.periods().into(),
        })
    }
}

impl Parameters<Clockwork> {
    /// Those of the group of this period: its U `[Hᵢ, I]`, its W `[Hᵢ, Hᵢ + Hᵢ₊₁ + …]` by the
    /// units of all groups from itself, and its b `[Hᵢ]`.
    ///
    /// # Errors
    /// [`Error::Value`] where the layer has no such group.
    pub fn clock_group(&self, period: usize) -> Result<[&[f32]; 3], Error> {
        let Place { u, w, b, .. } = self.layer().place(period)?;
        let (inputs, recurrent) = (self.input_weights(), self.recurrent_weights());
        Ok([&inputs[u], &recurrent[w], &self.bias()[b]])
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// As [`clock_group`](Self::clock_group).
    pub fn clock_group_mut(&mut self, period: usize) -> Result<[&mut [f32]; 3], Error> {
        let place = self.layer().place(period)?;
        let [u, w, b, ..] = self.split_mut();
        Ok([&mut u[place.u], &mut w[place.w], &mut b[place.b]])
    }
}

impl Spec for Clockwork {
    type State<S: Default> = ClockedState<S>;
    const CLOCKED: bool = true;

    #[inline]
    fn sizes(&self) -> Sizes {
        Sizes { input: self.input_size, hidden: self.hidden_size, output: self.hidden_size }
    }

    #[inline]
    fn cell<'a>(&self, _vectors: &'a [f32]) -> Cell<'a> {
        Cell::Vanilla(cells::Vanilla { activations: self.activation.into() })
    }

    #[inline]
    fn clocked(&self) -> Option<Clocked<'_>> {
        Some(Clocked { groups: &self.groups, activations: self.activation.into() })
    }

    fn multiply_adds(&self, rows: usize) -> usize {
        let clocked = Clocked { groups: &self.groups, activations: self.activation.into() };
        clocked.multiply_adds(rows, self.input_size, self.hidden_size)
    }

    fn describe(&self) -> String {
        let Self { input_size, hidden_size, activation, .. } = self;
        let groups: Vec<_> = self.groups().map(|group| (group.units, group.period)).collect();
        let groups = format!("groups of (units, period) {groups:?}");
        format!("I {input_size}, H {hidden_size}, {activation:?}, {groups}")
    }
}
