//! Runs of an encoder and its bridge, before and after those of the decoder. Knows where the decoder
//! reads what the encoder has made; must not know what a block computes.

use super::passes::{Compute, FromEncoder, Run, Sums, scatter};
use crate::Error;
use crate::Runtime;
use crate::blocks::{Source, SourceGradients};
use crate::memory::Region;
use crate::network::begins::Learned;
use crate::network::packing::EncoderPacked;
use crate::network::plan::{EncoderParts, EncoderPlan, Parts, Planned};
use crate::params::Sequences;
use crate::regularisation::{Mode, Noise};
use crate::sequence::Input;
use bptt_kernels::team::Team;

/// The run of an encoder.
pub(in crate::network) struct EncoderRun<'a> {
    pub plan: &'a EncoderPlan,
    pub packed: &'a EncoderPacked,
    /// The source, in the order of the caller.
    pub x: Input<'a>,
    pub noise: Noise,
    pub mode: Mode,
    pub runtime: Runtime,
    /// The decoder's sequences whose state the bridge makes.
    pub begins: &'a Learned,
    /// The tensors of the decoder's state that it makes.
    pub decoder: Sequences<'a>,
}

impl EncoderPlan {
    /// Returns what the decoder reads.
    pub(in crate::network) fn read<'m>(&self, memory: &'m [f32]) -> Source<'m> {
        let EncoderParts { outputs, context, .. } = self.parts;
        Source { outputs: outputs.of(memory), context: context.of(memory) }
    }

    /// Returns what the decoder reads, and where its gradients go.
    pub(super) fn with_gradients<'m>(&self, memory: &'m mut [f32]) -> FromEncoder<'m> {
        let EncoderParts { outputs, context, doutputs, dcontext, .. } = self.parts.granted(memory);
        let dsource = SourceGradients { outputs: doutputs, context: dcontext };
        FromEncoder { source: Source { outputs, context }, dsource }
    }

    /// Sets the gradients to zero, before the backward pass of the decoder.
    pub(super) fn clear_gradients(&self, memory: &mut [f32]) {
        let EncoderParts { doutputs, dcontext, .. } = self.parts.granted(memory);
        doutputs.fill(0.0);
        dcontext.fill(0.0);
    }
}

impl<'a> EncoderRun<'a> {
    /// Returns the run of the encoder's own blocks.
    fn own(&self) -> Run<'a> {
        Run {
            planned: &self.plan.planned,
            packed: &self.packed.blocks,
            x: self.x,
            step: 0,
            noise: self.noise,
            mode: self.mode,
            runtime: self.runtime,
        }
    }

    /// Runs the encoder over its source, and writes the state that the bridge makes to `state`, that
    /// of the decoder.
    pub(in crate::network) fn forward(
        &self,
        memory: &mut [f32],
        state: &mut [f32],
        team: &mut Team,
    ) -> Result<(), Error> {
        let plan = &self.plan.source;
        let mut parts = self.plan.parts.granted(memory);
        let EncoderParts { own, outputs, context, .. } = &mut parts;
        let Parts { y, state: begin, last, .. } = self.plan.planned.parts;
        // The memory may hold another pass.
        begin.of_mut(own).fill(0.0);
        self.own().forward(own, team, Source::default(), Compute::All)?;
        gather(&plan.gathered, y.of(own), outputs, plan.rows.size.outputs);
        self.read_context(y.of(own), last.of(own), context)?;
        self.bridge_forward(&mut parts, team)?;
        if plan.bridge.is_some() {
            let width = parts.bridged.len() / plan.source_of.len();
            for n in self.begins.rows() {
                self.decoder.write(n, state, &parts.bridged[n * width..][..width]);
            }
        }
        Ok(())
    }

    /// Computes the gradients of the encoder's parameters, and of the bridge's after them, from those
    /// of what the decoder has read and of its state before the first step, `dstate`.
    pub(super) fn backward(
        &self,
        memory: &mut [f32],
        dstate: &[f32],
        team: &mut Team,
        sums: Sums<'_>,
    ) -> Result<(), Error> {
        let plan = &self.plan.source;
        let mut parts = self.plan.parts.granted(memory);
        let Sums { gradients, accumulate } = sums;
        let (of_blocks, of_bridge) = gradients.split_at_mut(self.packed.blocks.len());
        summed(parts.doutputs, parts.outputs.len());
        summed(parts.dcontext, parts.context.len());
        let Parts { y, dy, dlast, .. } = self.plan.planned.parts;
        dlast.of_mut(parts.own).fill(0.0);
        if plan.bridge.is_some() {
            parts.dbridged.fill(0.0);
            let width = parts.dbridged.len() / plan.source_of.len();
            for n in self.begins.rows() {
                self.decoder.read(n, dstate, &mut parts.dbridged[n * width..][..width]);
            }
        }
        let of_bridge = Sums { gradients: of_bridge, accumulate };
        self.bridge_backward(&mut parts, team, of_bridge)?;
        let EncoderParts { own, doutputs, context, dcontext, .. } = parts;
        // The gradient of the outputs overwrites them, unless the backward pass reads them.
        let dy = if self.plan.planned.pass.reads_output() { dy } else { y };
        scatter(&plan.gathered, doutputs, dy.of_mut(own), plan.rows.size.outputs);
        self.add_context_gradient(&dcontext[..context.len()], own, dy, dlast)?;
        let (run, sums) = (self.own(), Sums { gradients: of_blocks, accumulate });
        run.backward_of_outputs(own, team, true, sums, FromEncoder::default())?;
        run.give_input_gradients(own);
        Ok(())
    }

    /// Returns the tensors of the encoder's state, of which single sequences can be copied.
    pub(super) fn sequences(&self) -> Result<Sequences<'a>, Error> {
        let Planned { state, schedule, .. } = &*self.plan.planned;
        Sequences::new("state of the encoder", state, schedule.batch())
    }

    /// Copies the context of each sequence from the encoder's last state or its last output.
    fn read_context(&self, y: &[f32], last: &[f32], context: &mut [f32]) -> Result<(), Error> {
        let plan = &self.plan.source;
        let rows = context.chunks_exact_mut(plan.rows.size.context);
        if let Some(block) = &plan.context {
            let (last, sequences) = (&last[block.range.clone()], block.sequences(rows.len())?);
            rows.zip(&plan.source_of).for_each(|(to, &n)| sequences.read(n, last, to));
            return Ok(());
        }
        for (nth, to) in rows.enumerate() {
            match self.last_output(nth) {
                Some(row) => to.copy_from_slice(&y[row * to.len()..][..to.len()]),
                None => to.fill(0.0),
            }
        }
        Ok(())
    }

    /// Adds the gradient with respect to the context to that of the last state or of the last output.
    fn add_context_gradient(
        &self,
        dcontext: &[f32],
        own: &mut [f32],
        dy: Region,
        dlast: Region,
    ) -> Result<(), Error> {
        let plan = &self.plan.source;
        let rows = dcontext.chunks_exact(plan.rows.size.context);
        if let Some(block) = &plan.context {
            let sequences = block.sequences(plan.source_of.len())?;
            let dlast = &mut dlast.of_mut(own)[block.range.clone()];
            rows.zip(&plan.source_of).for_each(|(from, &n)| sequences.add_to(n, dlast, from));
            return Ok(());
        }
        for (nth, from) in rows.enumerate() {
            if let Some(row) = self.last_output(nth) {
                let dy = &mut dy.of_mut(own)[row * from.len()..][..from.len()];
                dy.iter_mut().zip(from).for_each(|(dy, from)| *dy += from);
            }
        }
        Ok(())
    }

    /// Returns the row of the encoder's pass that is the last of sequence `nth` of the decoder.
    fn last_output(&self, nth: usize) -> Option<usize> {
        let rows = self.plan.source.rows.starts[nth]..self.plan.source.rows.starts[nth + 1];
        self.plan.source.gathered[rows].last().copied()
    }
}

/// Adds all parts of `gradients`, of `len` floats each, to the first one.
fn summed(gradients: &mut [f32], len: usize) {
    let (sum, others) = gradients.split_at_mut(len);
    for part in others.chunks_exact(len.max(1)) {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
}

/// Copies rows of `from`, the ones with these numbers, to `to`; rows have `width` floats.
fn gather(rows: &[usize], from: &[f32], to: &mut [f32], width: usize) {
    for (to, &row) in to.chunks_exact_mut(width).zip(rows) {
        to.copy_from_slice(&from[row * width..][..width]);
    }
}
