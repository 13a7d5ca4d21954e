//! The packed weights of a clockwork layer: for each group its rows of U, and its W, which reads
//! all units from the group's first unit on.

use super::groups::{Clocked, Place};
use crate::blocks::{Packed, Wanted};
use crate::error::check_len;
use crate::{Error, Format, Isa};
use bptt_kernels::recurrence::Group;
use bptt_kernels::team::Pass as Threads;
use bptt_kernels::{AlignedBuffer, KernelError, PackedMatrix};

/// A clockwork's parameters, packed for one instruction set.
#[derive(Debug)]
pub(super) struct ClockworkPacked {
    clocked: Clocked,
    /// The number of floats in W.
    recurrent: usize,
    isa: Isa,
    /// b, `[H]`.
    pub bias: AlignedBuffer,
    /// U of each group by rows, for `x Uᵀ`.
    pub inputs: Vec<PackedMatrix>,
    /// W of each group by rows, for `h Wᵀ`.
    pub forward: Vec<PackedMatrix>,
    /// W of each group by columns, for `dz W`. Empty unless there are backward passes.
    pub back: Vec<PackedMatrix>,
    /// U of each group by columns, for `dz U`. Empty unless the gradient of the input is wanted.
    pub inputs_back: Vec<PackedMatrix>,
}

/// Allocates a matrix for each group by `zeros`.
fn of_groups(
    clocked: &Clocked,
    zeros: impl Fn(&Group) -> Result<PackedMatrix, KernelError>,
) -> Result<Vec<PackedMatrix>, KernelError> {
    clocked.groups.iter().map(zeros).collect()
}

impl ClockworkPacked {
    /// Allocates the parameters that forward passes read.
    pub(super) fn zeros(
        clocked: Clocked,
        recurrent: usize,
        format: Format,
        isa: Isa,
    ) -> Result<Self, Error> {
        let Clocked { input, hidden, .. } = clocked;
        let by_rows = |units, depth| PackedMatrix::zeros_as(format, isa, 1, units, depth);
        Ok(Self {
            isa,
            recurrent,
            bias: AlignedBuffer::try_new(hidden)?,
            inputs: of_groups(&clocked, |group| by_rows(group.units, input))?,
            forward: of_groups(&clocked, |group| by_rows(group.units, hidden - group.first))?,
            back: Vec::new(),
            inputs_back: Vec::new(),
            clocked,
        })
    }
}

impl Packed for ClockworkPacked {
    fn require(&mut self, wanted: Wanted) -> Result<bool, Error> {
        if self.format() != Format::F32 {
            return Err(Error::Mismatch {
                what: "weights",
                given: format!("{:?}, which are for inference", self.format()),
                expected: "F32, for training".into(),
            });
        }
        let Clocked { input, hidden, .. } = self.clocked;
        let by_columns = |units, depth| PackedMatrix::zeros(self.isa, 1, units, depth);
        let (mut back, mut inputs_back) = (Vec::new(), Vec::new());
        if self.back.is_empty() {
            back = of_groups(&self.clocked, |g| by_columns(hidden - g.first, g.units))?;
        }
        if wanted.input && self.inputs_back.is_empty() {
            inputs_back = of_groups(&self.clocked, |group| by_columns(input, group.units))?;
        }
        let anew = !back.is_empty() || !inputs_back.is_empty();
        self.back.extend(back);
        self.inputs_back.extend(inputs_back);
        Ok(anew)
    }

    fn check(&self, parameters: &[f32]) -> Result<(), Error> {
        let Clocked { input, hidden, .. } = self.clocked;
        check_len("parameters", parameters.len(), hidden * (input + 1) + self.recurrent)?;
        let (u, rest) = parameters.split_at(hidden * input);
        let packed = self.inputs.iter().zip(&self.forward);
        for (Place { u: in_u, w: in_w, .. }, (by_input, by_state)) in
            self.clocked.places().zip(packed)
        {
            by_input.check_rows(&u[in_u])?;
            by_state.check_rows(&rest[in_w])?;
        }
        Ok(())
    }

    fn update(&mut self, parameters: &[f32], threads: &mut Threads<'_>) -> Result<(), Error> {
        self.check(parameters)?;
        let (u, rest) = parameters.split_at(self.clocked.hidden * self.clocked.input);
        let (w, bias) = rest.split_at(self.recurrent);
        self.bias.copy_from_slice(bias);
        let Self { clocked, inputs, forward, back, inputs_back, .. } = self;
        let packed = inputs.iter_mut().zip(forward);
        for (place, (by_input, by_state)) in clocked.places().zip(packed) {
            by_input.pack_rows(&u[place.u], threads)?;
            by_state.pack_rows(&w[place.w], threads)?;
        }
        for (place, by_state) in clocked.places().zip(back) {
            by_state.pack_columns(&w[place.w], threads)?;
        }
        for (place, by_input) in clocked.places().zip(inputs_back) {
            by_input.pack_columns(&u[place.u], threads)?;
        }
        Ok(())
    }

    fn format(&self) -> Format {
        self.inputs[0].format()
    }

    fn bytes(&self) -> usize {
        let all = [&self.inputs, &self.forward, &self.back, &self.inputs_back];
        let packed: usize = all.into_iter().flatten().map(PackedMatrix::bytes).sum();
        size_of_val::<[f32]>(&self.bias) + packed
    }
}
