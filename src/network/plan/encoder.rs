//! The planned pass of an encoder and its bridge. Knows which sequence of the source belongs to which
//! row of the decoder's steps; must not know what a block computes, or run anything.

use crate::Error;
use crate::Runtime;
use crate::blocks::{Block, Pass, Plan, SourceRows, SourceSize, Wanted};
use crate::memory::{Layout, Region, regions};
use crate::network::encoder::Encoder;
use crate::params::{Manifest, Sequences};
use crate::sequence::Schedule;
use std::ops::Range;

const WHAT: &str = "the workspace";

regions! {
    /// The memory of an encoder's pass.
    pub(in crate::network) struct EncoderParts {
        /// That of the encoder itself.
        own,
        /// Its outputs as the decoder reads them, one sequence after the other, `[rows, outputs]`.
        outputs,
        /// The gradients with respect to them, of each reader.
        doutputs,
        /// The context of each sequence, `[B, context]`.
        context,
        /// The gradients with respect to it, of each reader.
        dcontext,
        /// What the pass of the bridge has booked.
        bridge,
        /// The state of each sequence that the bridge makes, `[B, state]`.
        bridged,
        dbridged,
        /// The gradient with respect to the context that comes through the bridge.
        dcontext_of_bridge,
    }
}

/// What a decoder reads of a planned pass of its encoder, and the planned pass of the bridge.
#[derive(Debug)]
pub(in crate::network) struct SourcePlan {
    pub rows: SourceRows,
    /// For each row of the outputs as the decoder reads them, the row of the encoder's pass.
    pub gathered: Vec<usize>,
    /// For each row of the decoder's steps, the row of the encoder's steps that has its source.
    pub source_of: Vec<usize>,
    /// The last state of the block that makes the context, if one does.
    pub context: Option<BlockState>,
    pub bridge: Option<BridgePlan>,
    /// The floats that the encoder's own pass, the pass of the bridge and a state that it makes take.
    own: usize,
    of_bridge: usize,
    state: usize,
    /// Whether there are backward passes.
    trains: bool,
}

/// Where the state of a block lies in that of all blocks, and its tensors.
#[derive(Debug)]
pub(in crate::network) struct BlockState {
    pub range: Range<usize>,
    pub manifest: Manifest,
}

impl BlockState {
    /// Returns the tensors, of which single sequences can be copied.
    pub(in crate::network) fn sequences(&self, batch: usize) -> Result<Sequences<'_>, Error> {
        Sequences::new("state of the encoder", &self.manifest, batch)
    }
}

/// The planned pass of a bridge.
#[derive(Debug)]
pub(in crate::network) enum BridgePlan {
    /// The state is copied.
    Copy,
    /// A dense layer makes it of the context.
    Dense(Box<dyn Pass>),
}

impl SourcePlan {
    /// Plans what passes over `targets` read of an encoder's pass over `sources` that has booked `own`
    /// floats. The decoder's state of one sequence has the tensors `decoder`.
    pub(in crate::network) fn new(
        encoder: &Encoder,
        decoder: &Manifest,
        targets: &Schedule,
        sources: &Schedule,
        own: usize,
        runtime: Runtime,
        gradients: Wanted,
    ) -> Result<Self, Error> {
        let (rows, batch, size) = (sources.checked_rows()?, targets.batch(), encoder.size()?);
        let source_of = matched(targets, sources);
        let (mut starts, mut gathered) = (vec![0], Vec::with_capacity(rows));
        for &row in &source_of {
            gathered.extend((0..sources.len_of(row)).map(|step| sources.start(step) + row));
            starts.push(gathered.len());
        }
        let mut of_bridge = Layout::in_lines(WHAT);
        let (bridge, state) = match (encoder.bridge(), encoder.dense(decoder)?) {
            (None, _) => (None, 0),
            (Some(_), None) => (Some(BridgePlan::Copy), decoder.len()),
            (Some(_), Some(dense)) => {
                let pass = dense.plan(&mut Plan {
                    schedule: Schedule::dense(1, batch),
                    runtime,
                    gradients: gradients.through_input(),
                    recompute: false,
                    source: None,
                    layout: &mut of_bridge,
                })?;
                (Some(BridgePlan::Dense(pass)), dense.output_size())
            }
        };
        let (rows, context) = (SourceRows::new(size, starts), last_state(encoder, batch)?);
        let (of_bridge, trains) = (of_bridge.floats(), gradients.parameters);
        Ok(Self { rows, gathered, source_of, context, bridge, own, of_bridge, state, trains })
    }

    /// Books the memory, once all blocks that read the source have been planned.
    pub(in crate::network) fn booked(
        &self,
        layout: &mut Layout,
    ) -> Result<EncoderParts<Region>, Error> {
        let (rows, batch) = (self.rows.len(), self.source_of.len());
        let SourceSize { outputs, context } = self.rows.size;
        let (readers, trains) = (self.rows.readers(), usize::from(self.trains));
        let through_bridge = usize::from(matches!(self.bridge, Some(BridgePlan::Dense(_))));
        let dims: EncoderParts<&[usize]> = EncoderParts {
            own: &[self.own],
            outputs: &[rows, outputs],
            // At least one, which the others are added to.
            doutputs: &[trains, readers.outputs.max(1), rows, outputs],
            context: &[batch, context],
            dcontext: &[trains, readers.context.max(1), batch, context],
            bridge: &[self.of_bridge],
            bridged: &[batch, self.state],
            dbridged: &[trains, batch, self.state],
            dcontext_of_bridge: &[trains, through_bridge, batch, context],
        };
        dims.booked(layout)
    }
}

/// Returns an error unless there is one source for each target.
pub(super) fn check_sources(targets: &Schedule, sources: &Schedule) -> Result<(), Error> {
    let refused = |given: String, expected: String| {
        Err(Error::Mismatch { what: "the schedule of the source", given, expected })
    };
    if targets.has_resets() || sources.has_resets() {
        return refused("resets".into(), "none, in the source and in the target".into());
    }
    let (given, expected) = (sources.sequences(), targets.sequences());
    if given != expected {
        let expected = format!("{expected}, as many as the decoder has");
        return refused(format!("{given} sequences"), expected);
    }
    Ok(())
}

/// Returns, for each row of the steps of `targets`, the row of the steps of `sources` that has the
/// same sequence.
fn matched(targets: &Schedule, sources: &Schedule) -> Vec<usize> {
    let mut row_of = vec![0; sources.batch()];
    (0..sources.batch()).for_each(|row| row_of[sources.sequence(row)] = row);
    (0..targets.batch()).map(|row| row_of[targets.sequence(row)]).collect()
}

/// Returns where the state lies that makes the context, in an encoder's state of `batch` sequences.
fn last_state(encoder: &Encoder, batch: usize) -> Result<Option<BlockState>, Error> {
    let Some(last) = encoder.stateful()? else { return Ok(None) };
    let mut start = 0;
    for nth in 0..last {
        start += encoder.state_of(nth, batch)?.len();
    }
    let manifest = encoder.state_of(last, batch)?;
    Ok(Some(BlockState { range: start..start + manifest.len(), manifest }))
}
