//! Runs of a bridge, which makes the decoder's state of what an encoder has read. Knows the context and the
//! encoder's last state; must not know which sequences of the decoder begin from what it makes.

use super::encoder::EncoderRun;
use super::passes::Sums;
use crate::Error;
use crate::blocks::{Backward, Forward, Packed, Pass, Source, SourceGradients};
use crate::network::plan::{BridgePlan, EncoderParts};
use crate::sequence::Input;
use bptt_kernels::team::{Pass as Threads, Team};

/// The pass of a dense bridge and its packed parameters.
struct DenseBridge<'a> {
    pass: &'a dyn Pass,
    packed: &'a dyn Packed,
}

impl<'a> EncoderRun<'a> {
    /// Makes a state of each sequence, in `bridged`, of its context or of the encoder's last state.
    pub(super) fn bridge_forward(
        &self,
        parts: &mut EncoderParts<&mut [f32]>,
        team: &mut Team,
    ) -> Result<(), Error> {
        let EncoderParts { own, context, bridge: memory, bridged, .. } = parts;
        let batch = self.plan.source.source_of.len();
        let width = bridged.len() / batch;
        if let Some(BridgePlan::Copy) = self.plan.source.bridge {
            let (from, last) = (self.sequences()?, self.plan.planned.parts.last);
            let rows = bridged.chunks_exact_mut(width).zip(&self.plan.source.source_of);
            rows.for_each(|(one, &n)| from.read(n, last.of(own), one));
        }
        let Some(DenseBridge { pass, packed }) = self.dense_bridge() else { return Ok(()) };
        team.pass(pass.work()[0], |threads: &mut Threads<'_>| {
            pass.forward(Forward {
                packed,
                x: Input::Features(context),
                source: Source::default(),
                y: bridged,
                y_stride: width,
                memory,
                state: &[],
                last: &mut [],
                step: 0,
                noise: self.noise,
                mode: self.mode,
                threads,
            })
        })
    }

    /// Computes the gradients of the bridge's parameters, and adds that of what it has read to the
    /// gradient with respect to the context or to the encoder's last state.
    pub(super) fn bridge_backward(
        &self,
        parts: &mut EncoderParts<&mut [f32]>,
        team: &mut Team,
        sums: Sums<'_>,
    ) -> Result<(), Error> {
        let EncoderParts { own, context, dcontext, bridge: memory, bridged, .. } = parts;
        let EncoderParts { dbridged, dcontext_of_bridge, .. } = parts;
        let batch = self.plan.source.source_of.len();
        let width = bridged.len() / batch;
        if let Some(BridgePlan::Copy) = self.plan.source.bridge {
            let (to, dlast) = (self.sequences()?, self.plan.planned.parts.dlast);
            let rows = dbridged.chunks_exact(width).zip(&self.plan.source.source_of);
            rows.for_each(|(one, &n)| to.write(n, dlast.of_mut(own), one));
        }
        let Some(DenseBridge { pass, packed }) = self.dense_bridge() else { return Ok(()) };
        let Sums { gradients, accumulate } = sums;
        team.pass(pass.work()[1], |threads: &mut Threads<'_>| {
            pass.backward(Backward {
                packed,
                x: Input::Features(context),
                source: Source::default(),
                y: bridged,
                y_stride: width,
                dy: dbridged,
                dy_stride: width,
                memory,
                state: &[],
                step: 0,
                dlast: None,
                dstate: &mut [],
                dx: Some(&mut **dcontext_of_bridge),
                dsource: SourceGradients::default(),
                gradients,
                accumulate,
                threads,
            })
        })?;
        dcontext.iter_mut().zip(&**dcontext_of_bridge).for_each(|(to, from)| *to += from);
        Ok(())
    }

    /// Returns the dense layer of the bridge, if it has one.
    fn dense_bridge(&self) -> Option<DenseBridge<'a>> {
        match (&self.plan.source.bridge, self.packed.bridge.as_deref()) {
            (Some(BridgePlan::Dense(pass)), Some(packed)) => {
                Some(DenseBridge { pass: &**pass, packed })
            }
            _ => None,
        }
    }
}
