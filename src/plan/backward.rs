//! The backward pass: the steps from the last, the gradients that are sums over all of
//! them, and ∂L/∂x.

use super::arena::Holds;
use super::clocked::Ends;
use super::regions::Regions;
use super::sums::Sums;
use super::{Arena, Gradients, OutputGradients, Plan};
use crate::error::check_optional;
use crate::spec::Spec;
use crate::state::{Parts, State};
use crate::{Accumulate, Error, Weights};
use bptt_kernels::gemm::{Gemm, Start};
use bptt_kernels::recurrence::{Backward, DropoutBack, NormBack, Zoneout, ZoneoutBack};
use bptt_kernels::team::Pass;
use bptt_kernels::{KernelError, PackedMatrix};

impl<C: Spec> Plan<C> {
    /// Back-propagation through time over the forward pass that the arena holds;
    /// `x` and `weights` are what that pass had. The gates in the arena become the gradients of
    /// their pre-activations, so a forward pass is good for one backward pass.
    ///
    /// Parameter gradients are sums over all steps and sequences, each in one fixed
    /// order, last step first: adding up a sequence in several stretches, the last
    /// one first, gives the bits of one pass.
    ///
    /// # Errors
    /// [`Error::Order`] where the arena holds no forward pass, or one of other weights or of
    /// these before an [update](Weights::update), [`Error::Length`] or
    /// [`Error::Mismatch`] where an argument is not for this plan, or `dx` is wanted
    /// of weights not packed for it; nothing is written then.
    pub fn backward(
        &self,
        weights: &Weights<C>,
        x: &[f32],
        outputs: OutputGradients<'_, C::State<&[f32]>>,
        arena: &mut Arena<C>,
        gradients: Gradients<'_, C>,
    ) -> Result<(), Error> {
        self.check(weights, x, arena)?;
        arena.expect_forward_of(weights.version())?;
        let (before, cell) = (self.before_len(), self.cell_len());
        let depth = self.steps * self.batch;
        let Gradients { parameters, accumulate, dx, initial } = gradients;
        let late = self.late_len();
        let (dh_last, dc_last, dx_last) = match outputs.last.map(State::into_parts) {
            Some(Parts { h, c, x, .. }) => (Some(h), c, x),
            None => (None, None, None),
        };
        let (dh0, dc0, dx0) = match initial.map(State::into_parts) {
            Some(Parts { h, c, x, .. }) => (Some(h), c, x),
            None => (None, None, None),
        };
        check_optional("dy", outputs.dy, depth * self.layer.sizes().output)?;
        check_optional("dh_last", dh_last, before)?;
        check_optional("dc_last", dc_last, cell)?;
        check_optional("dx", dx.as_deref(), self.input_len())?;
        check_optional("dh0", dh0.as_deref(), before)?;
        check_optional("dc0", dc0.as_deref(), cell)?;
        check_optional("dx_last", dx_last, late)?;
        check_optional("dx0", dx0.as_deref(), late)?;
        self.layer.check_same("parameter gradients", parameters.layer())?;
        let wants_dx = dx.is_some() || dx0.is_some();
        let recurrent = weights.back().ok_or_else(|| weights.not_for(wants_dx))?;
        let input = match (wants_dx, &weights.input_back) {
            (false, _) => None,
            (true, Some(input)) => Some(input),
            (true, None) => return Err(weights.not_for(true)),
        };

        if let Some(clocked) = self.layer.clocked() {
            let ends = Ends { dy: outputs.dy, dh_last, dx, dh0, accumulate };
            return self.backward_clocked(
                clocked,
                (weights, recurrent),
                x,
                ends,
                arena,
                parameters,
            );
        }

        arena.holds = Holds::Backward;
        let Arena { memory, team, .. } = arena;
        let granted = self.regions.granted(memory);
        let Regions { gates, extra, h, c, seen, mask, keys, dh, dc, dh_all, .. } = granted;
        let Regions { dh_kept, dc_kept, c_made, normal, normal_extra, inverse, .. } = granted;
        let Regions { da, da_extra, x: waiting, scratch, .. } = granted;
        for (to, from) in [(&mut *dh, dh_last), (&mut *dc, dc_last)] {
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0.0),
            }
        }
        let keys: &[u32] = bytemuck::cast_slice(keys);
        let rates = self.regularisation.rates();
        let (h0, h) = h.split_at(before);
        let (c0, c) = c.split_at(cell);
        let dropout = self.regularisation.has_dropout().then(|| {
            let (before, seen) = seen.split_at(before);
            DropoutBack { mask, before, seen }
        });
        let work = self.layer.multiply_adds(depth).saturating_mul(2);
        team.pass(work, |pass| -> Result<(), Error> {
            Backward {
                dims: self.dims(),
                cell: self.layer.cell(&weights.vectors),
                recurrent,
                gates: &mut *gates,
                extra: &mut *extra,
                h0,
                h,
                h_stride: self.layer.sizes().output,
                c0,
                c,
                dy: outputs.dy,
                dy_stride: self.layer.sizes().output,
                dh: &mut *dh,
                dc: &mut *dc,
                dh_all: &mut *dh_all,
                zoneout: rates.map(|rates| {
                    let zoneout = Zoneout { rates, keys: Some(keys) };
                    ZoneoutBack { zoneout, dh_kept, dc_kept }
                }),
                dropout,
                c_made: &mut *c_made,
                norm: weights.norm().map(|(_, gain)| NormBack {
                    gain,
                    normal,
                    normal_extra,
                    inverse,
                    da: &mut *da,
                    da_extra: &mut *da_extra,
                }),
                scratch: &mut *scratch,
            }
            .run(self.isa, pass)?;
            // The gradients by sums of products, and those by what the cell saw of them.
            let (by_sums, extra_by_sums) =
                if C::NORMED { (&*da, &*da_extra) } else { (&*gates, &*extra) };
            Sums {
                isa: self.isa,
                depth,
                batch: self.batch,
                sizes: self.layer.sizes(),
                geometry: self.layer.geometry(),
                accumulate: accumulate == Accumulate::Yes,
                dz: gates,
                extra,
                da: by_sums,
                da_extra: extra_by_sums,
                normal: if C::NORMED { Some((normal, normal_extra)) } else { None },
                dh_all,
                waiting: &waiting[..late],
                x,
                h0: dropout.map_or(h0, |dropout| dropout.before),
                h: dropout.map_or(h, |dropout| dropout.seen),
                c0,
                c,
                c_after: if c_made.is_empty() { c } else { c_made },
                scratch: &mut *scratch,
                pass: &mut *pass,
            }
            .add_up(&self.layer, parameters.named_mut())?;
            let Some(input) = input else { return Ok(()) };
            // The first rows of dz are what the input that was waiting has made.
            let (first, rest) =
                by_sums.split_at(if late > 0 { input.depth() * self.batch } else { 0 });
            if let Some(dx0) = dx0 {
                self.by_input(input, first, dx0, scratch, pass)?;
            }
            if let Some(dx) = dx {
                let (seen, waits) = dx.split_at_mut(dx.len() - late);
                self.by_input(input, rest, seen, scratch, pass)?;
                match dx_last {
                    Some(dx_last) => waits.copy_from_slice(dx_last),
                    None => waits.fill(0.0),
                }
            }
            Ok(())
        })?;
        for (to, from) in [(dh0, dh), (dc0, dc)] {
            if let Some(to) = to {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// ∂L/∂x = dz U.
    fn by_input(
        &self,
        input: &PackedMatrix,
        dz: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
        pass: &mut Pass<'_>,
    ) -> Result<(), KernelError> {
        let (rows, stride, start) = (dz.len() / input.depth(), input.outputs(), Start::Zero);
        Gemm { rows, a: dz, weights: input, start, c: dx, stride, scratch }.run(self.isa, pass)
    }
}
