//! Sequences some of which begin anew in the middle, and their parts in between.

use crate::common::{Sequence, Subject, part};
use bptt::State;
use bptt_reference::Bounded;
use bptt_reference::bounds::exact;
use bptt_reference::cells::Inputs;
use std::ops::Range;

/// Sequences, the steps before which some of them begin anew, each with the number of its sequence,
/// and the state that they have then.
pub struct List {
    pub subject: Subject,
    pub sequences: Vec<Sequence>,
    pub resets: Vec<(usize, usize)>,
    pub anew: State,
}

/// The steps of a sequence from one reset to the next.
pub struct Part {
    /// A sequence with the first state of the part, and no gradient by its last one unless it is the
    /// last part.
    pub sequence: Sequence,
    pub begins_anew: bool,
}

impl List {
    /// The number of steps of sequence `n`.
    pub fn len(&self, n: usize) -> usize {
        self.sequences[n].x.len() / self.subject.input_size()
    }

    /// These steps of sequence `n`, with the states of the whole.
    pub fn steps(&self, n: usize, steps: Range<usize>) -> Sequence {
        let (inputs, outputs) = (self.subject.input_size(), self.subject.output_size());
        let own = &self.sequences[n];
        let x = own.x[steps.start * inputs..steps.end * inputs].to_vec();
        let dy = own.dy[steps.start * outputs..steps.end * outputs].to_vec();
        Sequence { x, dy, ..own.clone() }
    }

    /// The parts of sequence `n`: one if it has no steps or no resets.
    pub fn parts(&self, n: usize) -> Vec<Part> {
        let own = self.resets.iter().filter(|reset| reset.0 == n).map(|reset| reset.1);
        let mut ends: Vec<usize> = own.filter(|&step| step > 0).collect();
        ends.push(self.len(n));
        ends.sort_unstable();
        ends.dedup();
        let mut first = 0;
        let part = |end: usize| {
            let mut sequence = self.steps(n, first..end);
            let begins_anew = self.resets.contains(&(n, first));
            if begins_anew {
                sequence.state = self.anew.clone();
            }
            if end < self.len(n) {
                sequence.dlast.as_mut_slice().fill(0.0);
            }
            first = end;
            Part { sequence, begins_anew }
        };
        ends.into_iter().map(part).collect()
    }
}

/// A state's h, c and x, of which a layer has some.
pub fn tensors(state: &State) -> [Vec<f32>; 3] {
    ["h", "c", "x"].map(|name| part(state, name))
}

/// The sequence as the reference takes it.
pub fn inputs(own: &Sequence) -> Inputs<Vec<Bounded>> {
    let [h0, c0, x0] = tensors(&own.state);
    let [dh_last, dc_last, dx_last] = tensors(&own.dlast);
    let (params, x, dy) = (Vec::new(), own.x.clone(), own.dy.clone());
    let given = Inputs { params, x, h0, c0, x0, dy, dh_last, dc_last, dx_last };
    given.map(|values| exact(values))
}
