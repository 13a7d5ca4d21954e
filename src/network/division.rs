//! How a pass is divided into stretches, so that it takes no more memory than the caller allows.
//! Knows sizes and costs; must not run anything.

use super::Network;
use super::plan::{EncoderPlan, Options, Place, Planned};
use crate::blocks::{Readers, Wanted};
use crate::memory::{Action, Course, Layout, Region, regions, repeated};
use crate::sequence::Schedule;
use crate::{Error, InputSize, Runtime};
use std::ops::Range;

/// What a pass computes more than once because of its [budget](crate::Training::with_budget), and the
/// bytes that it takes. All are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recomputation {
    /// The steps that are run forward again, for all sequences.
    pub steps: usize,
    /// The rows whose gates are computed again from the states that were kept, many at a time. A row
    /// is one step of one sequence.
    pub rows: usize,
    /// The bytes of the workspace.
    pub bytes: usize,
}

regions! {
    /// What a divided pass keeps beside the memory of a stretch. A state is that of all blocks.
    pub(super) struct Kept {
        /// The states from which steps are run again. The first one is the state before the first
        /// step of the pass.
        checkpoints,
        /// The states that the stretches of a group begin from.
        begins,
        /// What blocks keep of the stretches of a group, so that the rest can be computed again.
        blocks,
        /// The current state.
        now,
        /// The state after the last step of the pass.
        last,
        /// The gradient with respect to the current state.
        dnow,
        /// The gradient with respect to `last` that the caller has set.
        dlast,
        /// ∂L/∂x of the whole pass, `[given rows, features]`.
        dx,
    }
}

/// A division of the steps of a pass. Stretches of `stretch` steps, of which the last may have fewer,
/// are run one after the other in the same memory. Groups of `group` stretches are run forward once
/// and backward once: of all stretches but the last of a group, the blocks keep their states, from
/// which the rest is computed again. From `checkpoints` states that are kept for longer, groups are
/// run forward again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Division {
    stretch: usize,
    group: usize,
    checkpoints: usize,
}

/// A planned division of a pass.
#[derive(Debug)]
pub(super) struct Divided {
    /// The steps of each stretch.
    pub stretches: Vec<Range<usize>>,
    /// The plans of the stretches, and which of them each stretch has.
    plans: Vec<Planned>,
    plan_of: Vec<usize>,
    /// The number of stretches in a group.
    pub group: usize,
    pub course: Course,
    /// The regions of what is kept, counted from `start`.
    pub kept: Kept<Region>,
    /// Where what is kept begins in the memory, after that of a stretch.
    pub start: usize,
    /// The encoder, if there is one.
    pub encoder: Option<EncoderPlan>,
    /// The floats of all memory.
    pub layout: Layout,
    pub recomputation: Recomputation,
}

/// What the caller asked for when a workspace was planned.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub wanted: Wanted,
    pub budget: Option<usize>,
    /// The rows at a time of the blocks that look at each row alone.
    pub chunk: Option<usize>,
    /// The schedule of the encoder's source, if there is one.
    pub sources: Option<Schedule>,
}

/// A planned pass, which may be divided into stretches.
#[derive(Debug)]
pub(super) enum Plans {
    Whole(Box<Planned>),
    Divided(Box<Divided>),
}

/// A pass that is to be divided.
struct Whole<'a> {
    network: &'a Network,
    schedule: &'a Schedule,
    options: Options<'a>,
    /// The encoder, if there is one. It runs before all stretches and after them.
    encoder: Option<EncoderPlan>,
}

const WHAT: &str = "the workspace";

/// Returns the cost of running `steps` again, and of computing the rows of `computed` steps again,
/// in thirty-seconds of a step. A step reads all weights for its `batch` rows. For one row this takes
/// about twice as long as for a row among many, whose states are copied besides; from 16 rows on it
/// takes hardly longer, so that a step run again costs less than its rows computed again.
fn cost(steps: u128, computed: u128, batch: usize) -> u128 {
    32 * steps + (16 + 20 * batch.min(16) as u128 / 16) * computed
}

/// Returns the floats that the blocks of a stretch [keep](Planned::keeps), if they can compute the rest
/// again.
pub(super) fn kept_len(stretch: &Planned) -> usize {
    stretch.keeps().unwrap_or_default().iter().map(|region| region.len()).sum()
}

impl Divided {
    /// Plans the pass in at most `budget` bytes, with as little computed again as possible.
    /// Undivided it takes `undivided` bytes, if they fit the address space.
    pub(super) fn new(
        network: &Network,
        schedule: &Schedule,
        options: Options<'_>,
        budget: usize,
        undivided: Result<usize, Error>,
    ) -> Result<Self, Error> {
        network.check_causal("a budget")?;
        let encoder = match (network.encoder(), options.sources) {
            (Some(encoder), Some(sources)) => {
                Some(EncoderPlan::new(network, encoder, schedule, sources, options)?)
            }
            _ => None,
        };
        let mut whole = Whole { network, schedule, options, encoder };
        let (steps, mut best) = (schedule.steps(), None);
        let mut stretch = 1;
        while stretch <= steps {
            whole.best(stretch, budget, &mut best)?;
            // The next length is a sixth longer, or the longest.
            let next = (stretch + 1).max(stretch * 7 / 6);
            stretch = if stretch < steps { next.min(steps) } else { next };
        }
        let Some((_, division)) = best else {
            // What is kept beside a stretch may be more than all activations of a few steps.
            let least = match (whole.least(), undivided) {
                (Some(least), undivided) => least?.min(undivided.unwrap_or(usize::MAX)),
                (None, undivided) => undivided?,
            };
            return Err(Error::Value {
                what: "budget",
                given: format!("{budget} bytes"),
                expected: format!("{least} bytes or more").into(),
            });
        };
        whole.planned(division)
    }

    /// Returns the plan of stretch `nth`.
    pub(super) fn plan(&self, nth: usize) -> &Planned {
        &self.plans[self.plan_of[nth]]
    }
}

impl Whole<'_> {
    /// Plans a stretch.
    fn stretch(&self, steps: &Range<usize>, recompute: bool) -> Result<Planned, Error> {
        let gradients = Wanted { state: true, ..self.options.gradients };
        let source = self.encoder.as_ref().map(|encoder| &encoder.source.rows);
        // The same blocks read the source in all stretches.
        if let Some(source) = source {
            source.plan_again(Readers::default());
        }
        let options = Options {
            gradients,
            recompute,
            is_stretch: true,
            sources: None,
            source,
            ..self.options
        };
        Planned::new(self.network, self.schedule.stretch(steps), options)
    }

    /// Returns the fewest bytes of any division, or `None` if there is no step.
    fn least(&self) -> Option<Result<usize, Error>> {
        let bytes = || {
            let first = self.stretch(&(0..1), false)?;
            let division = Division { stretch: 1, group: 1, checkpoints: 1 };
            Ok(self.layout(&first, division)?.1.bytes())
        };
        (self.schedule.steps() > 0).then(bytes)
    }

    /// Puts the best division into stretches of `stretch` steps into `best`, with its cost, if it
    /// costs less than what is there.
    fn best(
        &self,
        stretch: usize,
        budget: usize,
        best: &mut Option<(u128, Division)>,
    ) -> Result<(), Error> {
        let steps = self.schedule.steps();
        let (all, first) = (steps.div_ceil(stretch), 0..stretch);
        let alone = self.stretch(&first, false)?;
        let mut try_group = |group: usize, plan: &Planned| -> Result<bool, Error> {
            let groups = all.div_ceil(group);
            let bytes = |checkpoints: usize| {
                let division = Division { stretch, group, checkpoints };
                Ok::<usize, Error>(self.layout(plan, division)?.1.bytes())
            };
            let Some(rest) = budget.checked_sub(bytes(1)?) else { return Ok(false) };
            let more = rest.checked_div(size_of::<f32>() * plan.state.len());
            let mut checkpoints = more.unwrap_or(groups).saturating_add(1).min(groups);
            // The regions of a layout are rounded up.
            while checkpoints > 1 && bytes(checkpoints)? > budget {
                checkpoints -= 1;
            }
            let again = repeated(groups, checkpoints) * (group * stretch) as u128;
            let computed = (steps as u128) * (group as u128 - 1) / group as u128;
            let cost = cost(again, computed, self.schedule.rows().div_ceil(steps));
            if best.is_none_or(|(least, _)| cost < least) {
                *best = Some((cost, Division { stretch, group, checkpoints }));
            }
            Ok(true)
        };
        if !try_group(1, &alone)? || alone.keeps().is_none() || all == 1 {
            return Ok(());
        }
        let plan = self.stretch(&first, true)?;
        let mut group = 1;
        while group < all {
            group = (group + 1 + group / 6).min(all);
            if !try_group(group, &plan)? {
                break;
            }
        }
        Ok(())
    }

    /// Books what is kept, and the whole memory; `first` is the plan of the first stretch, which has
    /// the most rows.
    fn layout(
        &self,
        first: &Planned,
        division: Division,
    ) -> Result<(Kept<Region>, Layout, usize), Error> {
        let Division { group, checkpoints, .. } = division;
        let (state, mut layout) = (first.state.len(), Layout::in_lines(WHAT));
        let features = match (self.options.gradients.input, self.network.input()) {
            (true, InputSize::Features(size)) => size,
            _ => 0,
        };
        let dims: Kept<&[usize]> = Kept {
            checkpoints: &[checkpoints, state],
            begins: &[group - 1, state],
            blocks: &[group - 1, kept_len(first)],
            now: &[state],
            last: &[state],
            dnow: &[state],
            dlast: &[state],
            dx: &[self.schedule.given_rows(), features],
        };
        let mut own = Layout::in_lines(WHAT);
        let kept = dims.booked(&mut own)?;
        layout.book(&[first.layout.floats()])?;
        let start = layout.floats();
        layout.book(&[own.floats()])?;
        if let Some(encoder) = &self.encoder {
            let mut of_encoder = Layout::in_lines(WHAT);
            encoder.source.booked(&mut of_encoder)?;
            layout.book(&[of_encoder.floats()])?;
        }
        Ok((kept, layout, start))
    }

    /// Plans a division.
    fn planned(&mut self, division: Division) -> Result<Divided, Error> {
        let Division { stretch, group, checkpoints } = division;
        let steps = self.schedule.steps();
        let starts = (0..steps).step_by(stretch);
        let stretches: Vec<_> = starts.map(|start| start..(start + stretch).min(steps)).collect();
        let (mut plans, mut plan_of): (Vec<Planned>, Vec<usize>) = (Vec::new(), Vec::new());
        for steps in &stretches {
            // Stretches of the same length have the same plan if their sequences have, too.
            let same = plans.last().is_some_and(|plan| {
                self.schedule.is_dense() && plan.schedule.steps() == steps.len()
            });
            if !same {
                plans.push(self.stretch(steps, group > 1)?);
            }
            plan_of.push(plans.len() - 1);
        }
        let (kept, layout, start) = self.layout(&plans[0], division)?;
        let encoder = match self.encoder.take() {
            Some(encoder) => Some(encoder.ending(layout)?),
            None => None,
        };
        let groups = stretches.len().div_ceil(group);
        let course = Course::new(groups, checkpoints);
        let first_step = |nth: usize| (nth * group * stretch).min(steps);
        let mut recomputation = Recomputation { steps: 0, rows: 0, bytes: layout.bytes() };
        for action in course.clone() {
            match action {
                Action::Advance(range) if plans[0].has_state() => {
                    recomputation.steps += first_step(range.end) - first_step(range.start);
                }
                Action::Unit(nth) => {
                    let end = ((nth + 1) * group).min(stretches.len()) - 1;
                    let [from, to] = [first_step(nth), stretches[end].start];
                    recomputation.rows += self.schedule.start(to) - self.schedule.start(from);
                }
                _ => {}
            }
        }
        Ok(Divided {
            stretches,
            plans,
            plan_of,
            group,
            course,
            kept,
            start,
            encoder,
            layout,
            recomputation,
        })
    }
}

impl Plans {
    /// Plans passes over `schedule` as the caller asked, in at most as many bytes as the budget, if
    /// there is one.
    pub(super) fn new(
        network: &Network,
        runtime: Runtime,
        schedule: &Schedule,
        asked: &Asked,
    ) -> Result<Self, Error> {
        let Asked { wanted: gradients, budget, chunk, sources } = asked;
        let options = Options {
            runtime,
            gradients: *gradients,
            is_stretch: false,
            recompute: false,
            chunk: *chunk,
            sources: sources.as_ref(),
            source: None,
        };
        let whole = Planned::new(network, schedule.clone(), options).map(Box::new);
        match (*budget, whole) {
            (None, whole) => Ok(Self::Whole(whole?)),
            (Some(budget), Ok(whole)) if whole.layout.bytes() <= budget => Ok(Self::Whole(whole)),
            (Some(budget), whole @ (Ok(_) | Err(Error::TooLarge { .. }))) => {
                let undivided = whole.map(|whole| whole.layout.bytes());
                let divided = Divided::new(network, schedule, options, budget, undivided)?;
                Ok(Self::Divided(Box::new(divided)))
            }
            (Some(_), Err(error)) => Err(error),
        }
    }

    /// Returns the layout of all memory.
    pub(super) fn layout(&self) -> Layout {
        match self {
            Self::Whole(whole) => whole.layout,
            Self::Divided(divided) => divided.layout,
        }
    }

    /// Returns the plan of the encoder, if there is one.
    pub(super) fn encoder(&self) -> Option<&EncoderPlan> {
        match self {
            Self::Whole(whole) => whole.encoder.as_ref(),
            Self::Divided(divided) => divided.encoder.as_ref(),
        }
    }

    /// Returns the plan of the whole pass or of its first stretch.
    pub(super) fn first(&self) -> &Planned {
        match self {
            Self::Whole(whole) => whole,
            Self::Divided(divided) => divided.plan(0),
        }
    }

    /// Returns where a state lies in the memory.
    pub(super) fn place(&self, place: Place) -> Range<usize> {
        let divided = match self {
            Self::Whole(whole) => return whole.place(place),
            Self::Divided(divided) => divided,
        };
        let region = match place {
            Place::State => divided.kept.checkpoints.first(divided.plan(0).state.len()),
            Place::Last => divided.kept.last,
            Place::StateGradient => divided.kept.dnow,
            Place::LastGradient => divided.kept.dlast,
        };
        let Range { start, end } = region.range();
        divided.start + start..divided.start + end
    }

    /// Returns what is computed more than once, and the bytes of the memory.
    pub(super) fn recomputation(&self) -> Recomputation {
        match self {
            Self::Whole(whole) => Recomputation { steps: 0, rows: 0, bytes: whole.layout.bytes() },
            Self::Divided(divided) => divided.recomputation,
        }
    }

    /// Returns the gradients that the passes compute.
    pub(super) fn wanted(&self) -> Wanted {
        self.first().wanted
    }
}
