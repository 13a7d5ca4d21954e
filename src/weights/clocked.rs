//! The weights of a layer whose units move in groups: of each group its rows of U, and its W
//! from all units from its first.

use super::{Products, Purpose, Version, Weights};
use crate::clocked::Place;
use crate::spec::{Sizes, Spec};
use crate::{Error, Format, Isa, Parameters};
use bptt_kernels::recurrence::Group;
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::{AlignedBuffer, KernelError, PackedMatrix};
use std::iter::once;

fn places<C: Spec>(layer: &C) -> impl Iterator<Item = Place> {
    let Sizes { input, hidden, .. } = layer.sizes();
    layer.clocked().into_iter().flat_map(move |clocked| clocked.places((input, hidden)))
}

/// A matrix of each group.
fn of_groups<C: Spec>(
    layer: &C,
    zeros: impl Fn(Group) -> Result<PackedMatrix, KernelError>,
) -> Result<Vec<PackedMatrix>, KernelError> {
    places(layer).map(|place| zeros(place.group)).collect()
}

impl<C: Spec> Weights<C> {
    pub(super) fn clocked(
        layer: C,
        parameters: &Parameters<C>,
        purpose: Purpose,
        format: Format,
        isa: Isa,
    ) -> Result<Self, Error> {
        let Sizes { input, hidden, .. } = layer.sizes();
        let by_rows = |units, depth| PackedMatrix::zeros_as(format, isa, 1, units, depth);
        let by_columns = |units, depth| PackedMatrix::zeros(isa, 1, units, depth);
        let products = |weights: Vec<PackedMatrix>| {
            let delays = vec![1; weights.len()];
            Products { weights, delays, second: None }
        };
        let mut others = of_groups(&layer, |group| by_rows(group.units, input))?;
        let first = others.remove(0);
        let forward = of_groups(&layer, |group| by_rows(group.units, hidden - group.first))?;
        let back = match purpose {
            Purpose::Inference => None,
            _ => {
                let back = of_groups(&layer, |g| by_columns(hidden - g.first, g.units))?;
                Some(products(back))
            }
        };
        let mut others_back = match purpose {
            Purpose::TrainingWithInputGradient => {
                of_groups(&layer, |group| by_columns(input, group.units))?
            }
            _ => Vec::new(),
        };
        let input_back = (!others_back.is_empty()).then(|| others_back.remove(0));
        let mut weights = Self {
            isa,
            bias: AlignedBuffer::try_new(hidden)?,
            vectors: AlignedBuffer::try_new(0)?,
            gains: AlignedBuffer::try_new(0)?,
            input: first,
            forward: products(forward),
            back,
            input_back,
            others,
            others_back,
            version: Version::NONE,
            team: Team::serial(),
            layer,
        };
        weights.update(parameters)?;
        Ok(weights)
    }

    /// What [`update`](Self::update) does, with parameters of the same layer.
    pub(super) fn update_clocked(&mut self, parameters: &Parameters<C>) -> Result<(), Error> {
        let (u, w) = (parameters.input_weights(), parameters.recurrent_weights());
        let Self { layer, input, others, forward, .. } = &*self;
        let packed = once(input).chain(others).zip(&forward.weights);
        for (place, (by_input, by_state)) in places(layer).zip(packed) {
            by_input.check_rows(&u[place.u])?;
            by_state.check_rows(&w[place.w])?;
        }

        self.version = Version::next();
        self.bias.copy_from_slice(parameters.bias());
        let Self { layer, input, others, forward, back, input_back, others_back, team, .. } = self;
        // Moving a value takes as long as some 16 multiply-adds.
        team.pass((u.len() + w.len()).saturating_mul(16), |pass: &mut Pass<'_>| {
            let packed = once(input).chain(others).zip(&mut forward.weights);
            for (place, (by_input, by_state)) in places(layer).zip(packed) {
                by_input.pack_rows(&u[place.u], pass)?;
                by_state.pack_rows(&w[place.w], pass)?;
            }
            let back = back.iter_mut().flat_map(|back| &mut back.weights);
            for (place, by_state) in places(layer).zip(back) {
                by_state.pack_columns(&w[place.w], pass)?;
            }
            for (place, by_input) in places(layer).zip(input_back.iter_mut().chain(others_back)) {
                by_input.pack_columns(&u[place.u], pass)?;
            }
            Ok(())
        })
    }

    /// U of each group by rows.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &PackedMatrix> {
        once(&self.input).chain(&self.others)
    }

    /// The same by columns, or none.
    pub(crate) fn inputs_back(&self) -> impl Iterator<Item = &PackedMatrix> {
        self.input_back.iter().chain(&self.others_back)
    }
}
