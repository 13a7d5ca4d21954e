//! A pass over all steps and sequences, and the loss whose gradients it gives.

use super::step::{Given, Params, Step, kept, masked};
use super::{Cell, Inputs, Layer, Outcome};
use crate::Number;
use crate::tape::{Id, Tape};

impl Layer {
    /// Whether the hidden state is projected.
    pub(super) fn projects(&self) -> bool {
        matches!(self.cell, Cell::Lstm { projected: true, .. })
    }

    /// The lengths of U, W, b, the cell's own, and P.
    pub fn sections(&self) -> [usize; 5] {
        let Layer { inputs, hidden, outputs, cell, .. } = self;
        let rows = cell.gates() * hidden;
        let projection = if self.projects() { outputs * hidden } else { 0 };
        let own = cell.own() + self.norm.map_or(0, |_| cell.norms());
        let recurrent = match cell {
            Cell::Clockwork(_, groups) => {
                let mut read = *hidden;
                let blocks = groups.iter().map(|&(units, _)| {
                    let block = units * read;
                    read -= units;
                    block
                });
                blocks.sum()
            }
            _ => cell.delays().len() * rows * outputs,
        };
        [rows * inputs, recurrent, rows, own * hidden, projection]
    }

    /// A forward and a backward pass; where `given`, each of its steps on its own, from what a pass under test has
    /// shown of those before.
    pub fn run<N: Number>(
        &self,
        inputs: &Inputs<Vec<N>>,
        given: Option<&Outcome<Vec<N>>>,
    ) -> Outcome<Vec<N>> {
        let Layer { inputs: features, hidden, outputs, ref cell, .. } = *self;
        let history = cell.delays()[0];
        let batch = inputs.h0.len() / outputs / history;
        let steps = inputs.x.len() / (batch * features);
        let mut tape = Tape::default();
        let mut rest = &inputs.params[..];
        let nodes = self.sections().map(|len| {
            let (section, tail) = rest.split_at(len);
            rest = tail;
            tape.leaf(section)
        });
        assert!(rest.is_empty(), "params: U, W, b, the cell's own, P");
        let params = Params { nodes };
        let row = |all: &[N], at: usize, width: usize| all[at * width..][..width].to_vec();
        let blocks = |all: &[N], at: usize, count: usize| -> Vec<Vec<N>> {
            (0..count).map(|block| row(all, at * count + block, hidden)).collect()
        };

        // The hidden states of each sequence, from the oldest of the initial ones.
        let mut lines: Vec<Vec<Id>> = vec![Vec::new(); batch];
        for at in 0..history * batch {
            lines[at % batch].push(tape.leaf(&row(&inputs.h0, at, outputs)));
        }
        let mut cells: Vec<Option<Id>> = (0..batch)
            .map(|n| cell.has_state().then(|| tape.leaf(&row(&inputs.c0, n, hidden))))
            .collect();
        let first = (lines.clone(), cells.clone());
        let (mut xs, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut gates, mut zs) = (Vec::new(), Vec::new());
        let mut seeds = Vec::new();
        let waited = if self.late { batch } else { 0 };
        let waiting: Vec<Id> =
            (0..waited).map(|n| tape.leaf(&row(&inputs.x0, n, features))).collect();
        for at in 0..steps * batch {
            let n = at % batch;
            xs.push(tape.leaf(&row(&inputs.x, at, features)));
            let x = waiting.iter().chain(&xs).nth(at).copied().expect("an input for each step");
            let line = &lines[n];
            let (h, c) = (line[line.len() - 1], cells[n]);
            let seen: Vec<Id> = line[line.len() - history..]
                .iter()
                .map(|&h| masked(&mut tape, &self.masks.seen, n, h))
                .collect();
            let before = (h, c);
            let mut step = Step {
                layer: self,
                params: &params,
                tape: &mut tape,
                x,
                h,
                t: at / batch,
                line: seen,
                c,
                given: given.map(|given| Given {
                    gates: blocks(&given.gates, at, cell.shown()),
                    dz: blocks(&given.dz, at, cell.gates()),
                }),
                gates: vec![None; cell.shown()],
                zs: vec![None; cell.gates()],
            };
            let (h, c) = step.run();
            gates.extend(step.gates);
            zs.extend(step.zs);
            let h = kept(&mut tape, &self.masks.kept[0], at, before.0, h);
            let c = c.map(|c| match before.1 {
                Some(before) => kept(&mut tape, &self.masks.kept[1], at, before, c),
                None => c,
            });
            let h = tape.pin(h, given.map(|given| row(&given.h, at, outputs)), None);
            let c = c.map(|c| tape.pin(c, given.map(|given| row(&given.c, at, hidden)), None));
            hs.push(h);
            cs.extend(c);
            seeds.push((h, row(&inputs.dy, at, outputs)));
            lines[n].push(h);
            cells[n] = c;
        }
        for at in 0..history * batch {
            let line = &lines[at % batch];
            let h = line[line.len() - history + at / batch];
            seeds.push((h, row(&inputs.dh_last, at, outputs)));
        }
        for n in 0..waited {
            seeds.push((xs[xs.len() - batch + n], row(&inputs.dx_last, n, features)));
        }
        let last = cells.iter().enumerate();
        seeds.extend(last.filter_map(|(n, c)| Some(((*c)?, row(&inputs.dc_last, n, hidden)))));

        let adjoints = tape.backward(&seeds);
        let computed = |ids: &mut dyn Iterator<Item = Id>| {
            ids.flat_map(|id| tape.computed(id).to_vec()).collect()
        };
        let adjoint = |ids: &mut dyn Iterator<Item = Id>| {
            ids.flat_map(|id| adjoints.of(id).to_vec()).collect()
        };
        Outcome {
            gates: computed(&mut gates.into_iter().flatten()),
            h: computed(&mut hs.into_iter()),
            c: computed(&mut cs.into_iter()),
            dz: adjoint(&mut zs.into_iter().flatten()),
            params: adjoint(&mut nodes.into_iter()),
            dx: adjoint(&mut xs.into_iter()),
            dx0: adjoint(&mut waiting.into_iter()),
            dh0: adjoint(&mut (0..history * batch).map(|at| first.0[at % batch][at / batch])),
            dc0: adjoint(&mut first.1.iter().flatten().copied()),
        }
    }

    /// Σ dy⊙h + Σ dh_last⊙h of the last D states + Σ dc_last⊙c⁽τ⁾, whose gradients are those of a pass.
    pub fn loss<N: Number>(&self, inputs: &Inputs<Vec<N>>) -> N {
        let Outcome { h, c, .. } = self.run(inputs, None);
        let all = [&inputs.h0[..], &h].concat();
        let last = (all.len() - inputs.dh_last.len(), c.len() - inputs.dc_last.len());
        let waiting = &inputs.x[inputs.x.len() - inputs.dx_last.len()..];
        let Inputs { dy, dh_last, dc_last, dx_last, .. } = inputs;
        let weights = [&dy[..], dh_last, dc_last, dx_last].concat();
        N::dot(weights.into_iter().zip([&h[..], &all[last.0..], &c[last.1..], waiting].concat()))
    }
}
