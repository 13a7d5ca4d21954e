//! A pass over all steps and sequences, and the loss whose gradients it gives.

use super::step::{GivenStep, Params, Step, kept, masked};
use super::{Cell, Inputs, Layer, List, Outcome};
use crate::Number;
use crate::noise::Masks;
use crate::tape::{Id, Tape};

/// One sequence: what it is given, what a pass under test has shown of it, and its noise.
struct Sequence<N> {
    inputs: Inputs<Vec<N>>,
    given: Option<Given<N>>,
    masks: Masks,
}

/// What a pass under test has shown of a sequence: gates `[τ, G, H]`, h `[τ, R]`, c `[τ, H]` and ∂L/∂z `[τ, G, H]`.
struct Given<N> {
    gates: Vec<N>,
    h: Vec<N>,
    c: Vec<N>,
    dz: Vec<N>,
}

/// The nodes of a sequence: its inputs, hidden and cell states, the initial ones first; gates and pre-activations.
struct Nodes {
    xs: Vec<Id>,
    hs: Vec<Id>,
    cs: Vec<Id>,
    gates: Vec<Id>,
    zs: Vec<Id>,
}

/// The rows of sequence `n` in `all`, `[…, B, width]`.
fn rows<T: Clone>(all: &[T], width: usize, batch: usize, n: usize) -> Vec<T> {
    match width {
        0 => Vec::new(),
        _ => all.chunks(width).skip(n).step_by(batch).flatten().cloned().collect(),
    }
}

/// The rows of all sequences, `[…, B, width]`, from those of each, `[…, width]`.
fn joined<T: Clone>(sequences: &[&Vec<T>], width: usize) -> Vec<T> {
    let rows = sequences[0].len().checked_div(width).unwrap_or(0);
    let row = |at: usize| sequences.iter().flat_map(move |own| &own[at * width..][..width]);
    (0..rows).flat_map(row).cloned().collect()
}

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
            scan if scan.is_scan() => 0,
            _ => cell.delays().len() * rows * outputs,
        };
        [rows * inputs, recurrent, rows, own * hidden, projection]
    }

    /// A forward and a backward pass over a batch of sequences of one length; where `given`, each of its steps on its own,
    /// from what a pass under test has shown of those before.
    pub fn run<N: Number>(
        &self,
        inputs: &Inputs<Vec<N>>,
        given: Option<&Outcome<Vec<N>>>,
    ) -> Outcome<Vec<N>> {
        let Layer { inputs: features, hidden, outputs, ref cell, .. } = *self;
        let batch = match cell.history() {
            0 => inputs.c0.len() / hidden,
            history => inputs.h0.len() / outputs / history,
        };
        let (shown, gates) = (cell.shown() * hidden, cell.gates() * hidden);
        let sequence = |n: usize| {
            let of = |all: &Vec<N>, width: usize| rows(all, width, batch, n);
            let inputs = Inputs {
                params: Vec::new(),
                x: of(&inputs.x, features),
                h0: of(&inputs.h0, outputs),
                c0: of(&inputs.c0, hidden),
                x0: of(&inputs.x0, features),
                dy: of(&inputs.dy, outputs),
                dh_last: of(&inputs.dh_last, outputs),
                dc_last: of(&inputs.dc_last, hidden),
                dx_last: of(&inputs.dx_last, features),
            };
            let given = given.map(|given| Given {
                gates: of(&given.gates, shown),
                h: of(&given.h, outputs),
                c: of(&given.c, hidden),
                dz: of(&given.dz, gates),
            });
            let Masks { seen, kept: [h, c] } = &self.masks;
            let kept = [rows(h, outputs, batch, n), rows(c, hidden, batch, n)];
            Sequence { inputs, given, masks: Masks { seen: rows(seen, outputs, batch, n), kept } }
        };
        let sequences: Vec<_> = (0..batch).map(sequence).collect();
        let List { params, sequences } = self.run_sequences(&inputs.params, &sequences);
        let all = |of: fn(&Outcome<Vec<N>>) -> &Vec<N>, width: usize| {
            joined(&sequences.iter().map(of).collect::<Vec<_>>(), width)
        };
        Outcome {
            gates: all(|own| &own.gates, shown),
            h: all(|own| &own.h, outputs),
            c: all(|own| &own.c, hidden),
            dz: all(|own| &own.dz, gates),
            params,
            dx: all(|own| &own.dx, features),
            dh0: all(|own| &own.dh0, outputs),
            dc0: all(|own| &own.dc0, hidden),
            dx0: all(|own| &own.dx0, features),
        }
    }

    /// Forward and backward passes over a list of sequences, each of its own length, which may be 0, and by itself. The
    /// parameters are `params`; those of each sequence are empty.
    pub fn run_list<N: Number>(&self, params: &[N], sequences: &[Inputs<Vec<N>>]) -> List<N> {
        assert_eq!(self.masks, Masks::default(), "a list of sequences has no noise");
        let sequence = |inputs: &Inputs<Vec<N>>| {
            assert!(inputs.params.is_empty(), "the parameters are those of the list");
            Sequence { inputs: inputs.clone(), given: None, masks: Masks::default() }
        };
        self.run_sequences(params, &sequences.iter().map(sequence).collect::<Vec<_>>())
    }

    /// All sequences on one tape: a parameter's gradient is one sum over what it enters in all of them.
    fn run_sequences<N: Number>(&self, params: &[N], sequences: &[Sequence<N>]) -> List<N> {
        let mut tape = Tape::default();
        let mut rest = params;
        let nodes = self.sections().map(|len| {
            let (section, tail) = rest.split_at(len);
            rest = tail;
            tape.leaf(section)
        });
        assert!(rest.is_empty(), "params: U, W, b, the cell's own, P");
        let (params, mut seeds) = (Params { nodes }, Vec::new());
        let all: Vec<Nodes> = sequences
            .iter()
            .map(|sequence| self.run_sequence(&mut tape, &params, sequence, &mut seeds))
            .collect();
        let adjoints = tape.backward(&seeds);
        let computed =
            |ids: &[Id]| ids.iter().flat_map(|&id| tape.computed(id).to_vec()).collect::<Vec<N>>();
        let adjoint =
            |ids: &[Id]| ids.iter().flat_map(|&id| adjoints.of(id).to_vec()).collect::<Vec<N>>();
        let (history, late) = (self.cell.history(), usize::from(self.late));
        let state = usize::from(self.cell.has_state());
        let outcome = |nodes: Nodes| Outcome {
            gates: computed(&nodes.gates),
            h: computed(&nodes.hs[history..]),
            c: computed(&nodes.cs[state..]),
            dz: adjoint(&nodes.zs),
            params: Vec::new(),
            dx: adjoint(&nodes.xs[late..]),
            dh0: adjoint(&nodes.hs[..history]),
            dc0: adjoint(&nodes.cs[..state]),
            dx0: adjoint(&nodes.xs[..late]),
        };
        let sequences = all.into_iter().map(outcome).collect();
        List { params: adjoint(&nodes), sequences }
    }

    /// The steps of one sequence on the tape; adds to `seeds` the nodes that the loss names, with its gradients.
    fn run_sequence<N: Number>(
        &self,
        tape: &mut Tape<N>,
        params: &Params,
        sequence: &Sequence<N>,
        seeds: &mut Vec<(Id, Vec<N>)>,
    ) -> Nodes {
        let Layer { inputs: features, hidden, outputs, ref cell, .. } = *self;
        let Sequence { inputs, given, masks } = sequence;
        let history = cell.history();
        let row = |all: &[N], at: usize, width: usize| all[at * width..][..width].to_vec();
        let blocks = |all: &[N], at: usize, count: usize| -> Vec<Vec<N>> {
            (0..count).map(|block| row(all, at * count + block, hidden)).collect()
        };
        let mut leaves = |all: &[N], width: usize| -> Vec<Id> {
            all.chunks(width).map(|row| tape.leaf(row)).collect()
        };
        // A step t sees xs[t], which is the input of the step before where it is late.
        let mut nodes = Nodes {
            xs: leaves(&[&inputs.x0[..], &inputs.x].concat(), features),
            hs: leaves(&inputs.h0, outputs),
            cs: leaves(&inputs.c0, hidden),
            gates: Vec::new(),
            zs: Vec::new(),
        };
        assert_eq!(nodes.hs.len(), history, "h0: [D, R]");
        assert_eq!(nodes.cs.len(), usize::from(cell.has_state()), "c0: [H], or nothing");
        for t in 0..inputs.x.len() / features {
            let line = &nodes.hs[nodes.hs.len() - history..];
            let c = nodes.cs.last().copied();
            let h = line.last().copied().or(c).expect("a state is carried on");
            let seen = line.iter().map(|&h| masked(tape, &masks.seen, h)).collect();
            let mut step = Step {
                layer: self,
                params,
                tape: &mut *tape,
                x: nodes.xs[t],
                h,
                t,
                line: seen,
                c,
                given: given.as_ref().map(|given| GivenStep {
                    gates: blocks(&given.gates, t, cell.shown()),
                    dz: blocks(&given.dz, t, cell.gates()),
                }),
                gates: vec![None; cell.shown()],
                zs: vec![None; cell.gates()],
            };
            let (h_new, c_new) = step.run();
            nodes.gates.extend(step.gates.into_iter().flatten());
            nodes.zs.extend(step.zs.into_iter().flatten());
            let given = given.as_ref();
            let h = kept(tape, &masks.kept[0], t, h, h_new);
            let h = tape.pin(h, given.map(|given| row(&given.h, t, outputs)), None);
            seeds.push((h, row(&inputs.dy, t, outputs)));
            nodes.hs.push(h);
            if let (Some(c), Some(c_new)) = (c, c_new) {
                let c = kept(tape, &masks.kept[1], t, c, c_new);
                nodes.cs.push(tape.pin(c, given.map(|given| row(&given.c, t, hidden)), None));
            }
        }
        let last = &nodes.hs[nodes.hs.len() - history..];
        seeds.extend(last.iter().copied().zip(inputs.dh_last.chunks(outputs).map(<[N]>::to_vec)));
        seeds.extend(nodes.cs.last().map(|&c| (c, inputs.dc_last.clone())));
        if self.late {
            seeds.push((nodes.xs[nodes.xs.len() - 1], inputs.dx_last.clone()));
        }
        nodes
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
