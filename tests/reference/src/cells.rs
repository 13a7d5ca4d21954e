//! The cells, as their equations are written, on a [`Tape`]: one function each, forward only.

use crate::noise::Masks;
use crate::tape::{Id, Rows, Tape};
use crate::{Activation, Number};

/// A recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Features of an input, I.
    pub inputs: usize,
    /// Units, H.
    pub hidden: usize,
    /// Features of an output, R: H where it is not projected.
    pub outputs: usize,
    /// Its equations.
    pub cell: Cell,
    /// Whether a step sees the input of the step before.
    pub late: bool,
    /// Whether gates, and what shows of a cell state, are identities too: for tests, to tell a fault of a product
    /// from an error of an activation.
    pub linear: bool,
    /// ε, if the gates' sums are normalised.
    pub norm: Option<f64>,
    /// What the products see of the states, and what steps keep of them.
    pub masks: Masks,
}

/// The equations of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// h = φ(b + U x + W h₋).
    Vanilla(Activation),
    /// h = α ⊙ h₋ + (1 − α) ⊙ φ(b + U x + W h₋), of a given α for each unit.
    Leaky(Activation, Vec<f32>),
    /// The same with α = σ(ρ), where ρ is the layer's own parameter.
    LeakyLearned(Activation),
    /// h = φ(b + Σ W_d h⁽ᵗ⁻ᵈ⁾ + U x) over these delays, the longest first.
    Skip(Activation, Vec<usize>),
    /// Groups of so many units and such a period, the shortest first: at the steps t, from 0, that its period divides
    /// a group is φ(b + U x + W h₋) of all units from its first, else what it was.
    Clockwork(Activation, Vec<(usize, usize)>),
    /// The gated recurrent unit with the reset gate after the recurrent product.
    GruAfter(Activation),
    /// The same with the gate before it.
    GruBefore(Activation),
    /// Long short-term memory.
    Lstm {
        /// φ of the candidate.
        candidate: Activation,
        /// Whether gates see the cell state.
        peepholes: bool,
        /// Whether i = 1 − f.
        coupled: bool,
        /// Whether h = P (o ⊙ tanh(s)).
        projected: bool,
    },
}

impl Cell {
    /// Blocks of H in b.
    pub fn gates(&self) -> usize {
        match self {
            Cell::Vanilla(_) | Cell::Leaky(..) | Cell::LeakyLearned(_) => 1,
            Cell::Skip(..) | Cell::Clockwork(..) => 1,
            Cell::GruAfter(_) | Cell::GruBefore(_) => 3,
            Cell::Lstm { coupled, .. } => 4 - usize::from(*coupled),
        }
    }

    /// Of those, the ones whose value a pass shows.
    pub fn shown(&self) -> usize {
        match self {
            Cell::Vanilla(_) | Cell::Leaky(..) | Cell::LeakyLearned(_) => 0,
            Cell::Skip(..) | Cell::Clockwork(..) => 0,
            _ => self.gates(),
        }
    }

    /// Blocks of H that are the cell's own parameters.
    pub fn own(&self) -> usize {
        match self {
            Cell::LeakyLearned(_) | Cell::GruAfter(_) => 1,
            Cell::Lstm { peepholes: true, .. } => self.gates() - 1,
            _ => 0,
        }
    }

    /// The sums that are normalised, if any are: those that a bias is added to.
    pub fn norms(&self) -> usize {
        self.gates() + usize::from(matches!(self, Cell::GruAfter(_)))
    }

    /// The delays at which a step sees hidden states.
    pub fn delays(&self) -> &[usize] {
        if let Cell::Skip(_, delays) = self { delays } else { &[1] }
    }

    /// Whether there is a cell state.
    pub fn has_state(&self) -> bool {
        matches!(self, Cell::Lstm { .. })
    }
}

/// What a pass is given; `T` is a flat slice of numbers, or what stands for one.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs<T> {
    /// U, W, b, the cell's own, P.
    pub params: T,
    /// `[τ, B, I]`.
    pub x: T,
    /// `[D, B, R]`, the oldest first, D being the longest delay.
    pub h0: T,
    /// `[B, H]`, or nothing.
    pub s0: T,
    /// The input that the first step sees where it is late, `[B, I]`, or nothing.
    pub x0: T,
    /// ∂L/∂h of each step from outside, `[τ, B, R]`.
    pub dy: T,
    /// ∂L/∂ of the last D states, beside `dy`.
    pub dh_last: T,
    /// The same of the cell state, or nothing.
    pub ds_last: T,
    /// The same of the input that is still to be seen, or nothing.
    pub dx_last: T,
}

impl<T> Inputs<T> {
    /// The same of something else.
    pub fn map<U>(&self, to: impl Fn(&T) -> U) -> Inputs<U> {
        Inputs {
            params: to(&self.params),
            x: to(&self.x),
            h0: to(&self.h0),
            s0: to(&self.s0),
            x0: to(&self.x0),
            dy: to(&self.dy),
            dh_last: to(&self.dh_last),
            ds_last: to(&self.ds_last),
            dx_last: to(&self.dx_last),
        }
    }
}

/// What a pass leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<T> {
    /// The gates that it shows, `[τ, B, G, H]`.
    pub gates: T,
    /// `[τ, B, R]`.
    pub h: T,
    /// `[τ, B, H]`, or nothing.
    pub s: T,
    /// ∂L/∂z, `[τ, B, G, H]`.
    pub dz: T,
    /// As the parameters.
    pub params: T,
    /// As x.
    pub dx: T,
    /// As h₀.
    pub dh0: T,
    /// As s₀.
    pub ds0: T,
    /// As x₀.
    pub dx0: T,
}

impl<T> Outcome<T> {
    /// Every part with its name.
    pub fn parts(&self) -> [(&'static str, &T); 9] {
        let Self { gates, h, s, dz, params, dx, dh0, ds0, dx0 } = self;
        [
            ("gates", gates),
            ("h", h),
            ("s", s),
            ("dz", dz),
            ("params", params),
            ("dx", dx),
            ("dh0", dh0),
            ("ds0", ds0),
            ("dx0", dx0),
        ]
    }

    /// The same of something else.
    pub fn map<U>(&self, to: impl Fn(&T) -> U) -> Outcome<U> {
        Outcome {
            gates: to(&self.gates),
            h: to(&self.h),
            s: to(&self.s),
            dz: to(&self.dz),
            params: to(&self.params),
            dx: to(&self.dx),
            dh0: to(&self.dh0),
            ds0: to(&self.ds0),
            dx0: to(&self.dx0),
        }
    }
}

/// The parameters on a tape.
struct Params {
    /// Nodes of U, W, b, the cell's own, P.
    nodes: [Id; 5],
}

/// What a pass has for each gate's value and ∂L/∂z in a step of a sequence.
struct Given<N> {
    gates: Vec<Vec<N>>,
    dz: Vec<Vec<N>>,
}

/// A step of one sequence on a tape: what it has, and what it shows.
struct Step<'a, N> {
    layer: &'a Layer,
    params: &'a Params,
    tape: &'a mut Tape<N>,
    x: Id,
    h: Id,
    /// The step, from 0.
    t: usize,
    /// The last D states, the oldest first, as the products see them.
    line: Vec<Id>,
    s: Option<Id>,
    /// What the pass under test has.
    given: Option<Given<N>>,
    /// The nodes of gates and of pre-activations.
    gates: Vec<Option<Id>>,
    zs: Vec<Option<Id>>,
}

impl<N: Number> Step<'_, N> {
    /// Some gates' rows of U or W.
    fn rows(&self, section: usize, first: usize, count: usize) -> Rows {
        let Layer { inputs, hidden, outputs, .. } = *self.layer;
        let columns = [inputs, outputs][section];
        let start = first * hidden * columns;
        Rows { matrix: self.params.nodes[section], start, rows: count * hidden, columns }
    }

    /// h₋ as the products see it.
    fn seen(&self) -> Id {
        self.line[self.line.len() - 1]
    }

    /// b + U x + W h₋ of a gate.
    fn z(&mut self, gate: usize) -> Id {
        let terms = [(self.rows(0, gate, 1), self.x), (self.rows(1, gate, 1), self.seen())];
        self.sum(&terms, gate)
    }

    /// A gate's sum of products with its bias.
    fn sum(&mut self, terms: &[(Rows, Id)], gate: usize) -> Id {
        self.biased(terms, (self.params.nodes[2], gate * self.layer.hidden), gate)
    }

    /// A sum of products with this bias, of which it is the one of that number.
    fn biased(&mut self, terms: &[(Rows, Id)], bias: (Id, usize), number: usize) -> Id {
        let Some(epsilon) = self.layer.norm else {
            return self.tape.affine(terms, Some(bias));
        };
        let sum = self.tape.affine(terms, None);
        let normal = self.tape.norm(sum, epsilon);
        let gain = self.own(self.layer.cell.own() + number);
        let scaled = self.tape.mul(gain, normal);
        let bias = self.tape.part(bias.0, bias.1, self.layer.hidden);
        self.tape.add(bias, scaled)
    }

    /// b + U x of a gate.
    fn input(&mut self, gate: usize) -> Id {
        self.sum(&[(self.rows(0, gate, 1), self.x)], gate)
    }

    /// A block of the cell's own parameters.
    fn own(&mut self, block: usize) -> Id {
        let hidden = self.layer.hidden;
        self.tape.part(self.params.nodes[3], block * hidden, hidden)
    }

    fn constant(&mut self, values: impl Fn(usize) -> f64) -> Id {
        let values: Vec<N> = (0..self.layer.hidden).map(|j| N::exact(values(j))).collect();
        self.tape.leaf(&values)
    }

    /// a + p ⊙ b.
    fn plus_product(&mut self, a: Id, p: Id, b: Id) -> Id {
        let product = self.tape.mul(p, b);
        self.tape.add(a, product)
    }

    /// The logistic function of gates, unless all is linear.
    fn logistic(&self) -> Activation {
        if self.layer.linear { Activation::Identity } else { Activation::Logistic }
    }

    /// φ of a gate's pre-activation, which a pass shows by its gradient.
    fn activate(&mut self, gate: usize, activation: Activation, z: Id) -> Id {
        let adjoint = self.given.as_ref().map(|given| given.dz[gate].clone());
        let z = self.tape.pin(z, None, adjoint);
        self.zs[gate] = Some(z);
        self.tape.map(activation, z)
    }

    /// The same where the pass shows its value too.
    fn gate(&mut self, gate: usize, activation: Activation, z: Id) -> Id {
        let y = self.activate(gate, activation, z);
        let value = self.given.as_ref().map(|given| given.gates[gate].clone());
        let y = self.tape.pin(y, value, None);
        self.gates[gate] = Some(y);
        y
    }

    /// h and s.
    fn run(&mut self) -> (Id, Option<Id>) {
        match &self.layer.cell {
            Cell::Vanilla(phi) => {
                let z = self.z(0);
                (self.activate(0, *phi, z), None)
            }
            Cell::Leaky(phi, alpha) => {
                let alpha = self.constant(|j| alpha[j].into());
                (self.leaky(*phi, alpha), None)
            }
            Cell::LeakyLearned(phi) => {
                let rho = self.own(0);
                let alpha = self.tape.map(Activation::Logistic, rho);
                (self.leaky(*phi, alpha), None)
            }
            Cell::Skip(phi, delays) => (self.skip(*phi, delays), None),
            Cell::Clockwork(phi, groups) => (self.clockwork(*phi, groups), None),
            Cell::GruAfter(phi) => (self.gru_after(*phi), None),
            Cell::GruBefore(phi) => (self.gru_before(*phi), None),
            &Cell::Lstm { candidate, peepholes, coupled, .. } => {
                let (h, s) = self.lstm(candidate, peepholes, coupled);
                (h, Some(s))
            }
        }
    }

    fn between(&mut self, alpha: Id, y: Id) -> Id {
        between(self.tape, alpha, self.h, y)
    }

    fn skip(&mut self, phi: Activation, delays: &[usize]) -> Id {
        let mut terms = vec![(self.rows(0, 0, 1), self.x)];
        for (nth, &delay) in delays.iter().enumerate() {
            terms.push((self.rows(1, nth, 1), self.line[self.line.len() - delay]));
        }
        let z = self.sum(&terms, 0);
        self.activate(0, phi, z)
    }

    /// The pre-activations of groups that stay are zeros that nothing comes of.
    fn clockwork(&mut self, phi: Activation, groups: &[(usize, usize)]) -> Id {
        let Layer { inputs, hidden, .. } = *self.layer;
        let (mut first, mut start) = (0, 0);
        let (mut zs, mut places) = (Vec::new(), Vec::new());
        for &(units, period) in groups {
            let columns = hidden - first;
            let by_input = Rows {
                matrix: self.params.nodes[0],
                start: first * inputs,
                rows: units,
                columns: inputs,
            };
            let by_state = Rows { matrix: self.params.nodes[1], start, rows: units, columns };
            let moves = self.t.is_multiple_of(period);
            zs.push(if moves {
                let seen = self.tape.part(self.h, first, columns);
                let terms = [(by_input, self.x), (by_state, seen)];
                self.tape.affine(&terms, Some((self.params.nodes[2], first)))
            } else {
                self.tape.leaf(&vec![N::exact(0.0); units])
            });
            places.push((moves, first, units));
            (first, start) = (first + units, start + units * columns);
        }
        let z = self.tape.join(&zs);
        let y = self.activate(0, phi, z);
        let parts: Vec<Id> = places
            .into_iter()
            .map(|(moves, first, units)| {
                self.tape.part(if moves { y } else { self.h }, first, units)
            })
            .collect();
        self.tape.join(&parts)
    }

    fn leaky(&mut self, phi: Activation, alpha: Id) -> Id {
        let z = self.z(0);
        let y = self.activate(0, phi, z);
        self.between(alpha, y)
    }

    /// r, u = σ(…), n = φ(b_n + U_n x + r ⊙ (b_hn + W_n h₋)), h = u ⊙ h₋ + (1 − u) ⊙ n.
    fn gru_after(&mut self, phi: Activation) -> Id {
        let logistic = self.logistic();
        let mut gate = |gate: usize| {
            let z = if self.layer.norm.is_some() {
                self.z(gate)
            } else {
                let input = self.input(gate);
                let recurrent = self.tape.affine(&[(self.rows(1, gate, 1), self.seen())], None);
                self.tape.add(input, recurrent)
            };
            self.gate(gate, logistic, z)
        };
        let (r, u) = (gate(0), gate(1));
        let q = self.biased(&[(self.rows(1, 2, 1), self.seen())], (self.params.nodes[3], 0), 3);
        let input = self.input(2);
        let z = self.plus_product(input, r, q);
        let n = self.gate(2, phi, z);
        self.between(u, n)
    }

    /// r, u = σ(…), n = φ(b_n + U_n x + W_n (r ⊙ h₋)), h = u ⊙ h₋ + (1 − u) ⊙ n.
    fn gru_before(&mut self, phi: Activation) -> Id {
        let (z_r, z_u) = (self.z(0), self.z(1));
        let r = self.gate(0, self.logistic(), z_r);
        let u = self.gate(1, self.logistic(), z_u);
        let rh = self.tape.mul(r, self.seen());
        let terms = [(self.rows(0, 2, 1), self.x), (self.rows(1, 2, 1), rh)];
        let z = self.sum(&terms, 2);
        let n = self.gate(2, phi, z);
        self.between(u, n)
    }

    /// Equations 10.40 to 10.44, with peepholes, i = 1 − f and h = P (o ⊙ tanh(s)) where they are wanted.
    fn lstm(&mut self, candidate: Activation, peepholes: bool, coupled: bool) -> (Id, Id) {
        let logistic = self.logistic();
        let s_prev = self.s.expect("an LSTM has a cell state");
        let forget = usize::from(!coupled);
        let sees = |step: &mut Self, z: Id, block: usize, s: Id| {
            if !peepholes {
                return z;
            }
            let p = step.own(block);
            step.plus_product(z, p, s)
        };
        let z_f = self.z(forget);
        let z_f = sees(self, z_f, forget, s_prev);
        let f = self.gate(forget, logistic, z_f);
        let i = if coupled {
            let one = self.constant(|_| 1.0);
            self.tape.sub(one, f)
        } else {
            let z_i = self.z(0);
            let z_i = sees(self, z_i, 0, s_prev);
            self.gate(0, logistic, z_i)
        };
        let z_g = self.z(forget + 1);
        let g = self.gate(forget + 1, candidate, z_g);
        let kept = self.tape.mul(f, s_prev);
        let s = self.plus_product(kept, i, g);
        let z_o = self.z(forget + 2);
        let z_o = sees(self, z_o, forget + 1, s);
        let o = self.gate(forget + 2, logistic, z_o);
        let shows = if self.layer.linear { Activation::Identity } else { Activation::Tanh };
        let shows = self.tape.map(shows, s);
        let m = self.tape.mul(o, shows);
        if !self.layer.projects() {
            return (m, s);
        }
        let (rows, columns) = (self.layer.outputs, self.layer.hidden);
        let p = Rows { matrix: self.params.nodes[4], start: 0, rows, columns };
        (self.tape.affine(&[(p, m)], None), s)
    }
}

/// What products see of a state of sequence `n`.
fn masked<N: Number>(tape: &mut Tape<N>, masks: &[f64], n: usize, h: Id) -> Id {
    let width = tape.value(h).len();
    let Some(mask) = masks.get(n * width..(n + 1) * width) else { return h };
    let mask: Vec<N> = mask.iter().map(|&m| N::exact(m)).collect();
    let mask = tape.leaf(&mask);
    tape.mul(mask, h)
}

/// What is left of a result where a part of the state before is kept. A unit that keeps all or nothing is copied:
/// nothing is rounded.
fn kept<N: Number>(tape: &mut Tape<N>, shares: &[f64], at: usize, before: Id, result: Id) -> Id {
    let width = tape.value(result).len();
    let Some(shares) = shares.get(at * width..(at + 1) * width) else { return result };
    let constant = |tape: &mut Tape<N>, of: &dyn Fn(f64) -> f64| {
        let values: Vec<N> = shares.iter().map(|&m| N::exact(of(m))).collect();
        tape.leaf(&values)
    };
    let share = constant(tape, &|m| m);
    if shares.iter().any(|&m| m != 0.0 && m != 1.0) {
        return between(tape, share, before, result);
    }
    let rest = constant(tape, &|m| 1.0 - m);
    let (before, result) = (tape.mul(share, before), tape.mul(rest, result));
    tape.add(before, result)
}

/// α ⊙ a + (1 − α) ⊙ b, written as b + α ⊙ (a − b).
fn between<N: Number>(tape: &mut Tape<N>, alpha: Id, a: Id, b: Id) -> Id {
    let further = tape.sub(a, b);
    let product = tape.mul(alpha, further);
    tape.add(b, product)
}

impl Layer {
    /// Whether the hidden state is projected.
    fn projects(&self) -> bool {
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
            .map(|n| cell.has_state().then(|| tape.leaf(&row(&inputs.s0, n, hidden))))
            .collect();
        let first = (lines.clone(), cells.clone());
        let (mut xs, mut hs, mut ss) = (Vec::new(), Vec::new(), Vec::new());
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
            let (h, s) = (line[line.len() - 1], cells[n]);
            let seen: Vec<Id> = line[line.len() - history..]
                .iter()
                .map(|&h| masked(&mut tape, &self.masks.seen, n, h))
                .collect();
            let before = (h, s);
            let mut step = Step {
                layer: self,
                params: &params,
                tape: &mut tape,
                x,
                h,
                t: at / batch,
                line: seen,
                s,
                given: given.map(|given| Given {
                    gates: blocks(&given.gates, at, cell.shown()),
                    dz: blocks(&given.dz, at, cell.gates()),
                }),
                gates: vec![None; cell.shown()],
                zs: vec![None; cell.gates()],
            };
            let (h, s) = step.run();
            gates.extend(step.gates);
            zs.extend(step.zs);
            let h = kept(&mut tape, &self.masks.kept[0], at, before.0, h);
            let s = s.map(|s| match before.1 {
                Some(before) => kept(&mut tape, &self.masks.kept[1], at, before, s),
                None => s,
            });
            let h = tape.pin(h, given.map(|given| row(&given.h, at, outputs)), None);
            let s = s.map(|s| tape.pin(s, given.map(|given| row(&given.s, at, hidden)), None));
            hs.push(h);
            ss.extend(s);
            seeds.push((h, row(&inputs.dy, at, outputs)));
            lines[n].push(h);
            cells[n] = s;
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
        seeds.extend(last.filter_map(|(n, s)| Some(((*s)?, row(&inputs.ds_last, n, hidden)))));

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
            s: computed(&mut ss.into_iter()),
            dz: adjoint(&mut zs.into_iter().flatten()),
            params: adjoint(&mut nodes.into_iter()),
            dx: adjoint(&mut xs.into_iter()),
            dx0: adjoint(&mut waiting.into_iter()),
            dh0: adjoint(&mut (0..history * batch).map(|at| first.0[at % batch][at / batch])),
            ds0: adjoint(&mut first.1.iter().flatten().copied()),
        }
    }

    /// Σ dy⊙h + Σ dh_last⊙h of the last D states + Σ ds_last⊙s⁽τ⁾, whose gradients are those of a pass.
    pub fn loss<N: Number>(&self, inputs: &Inputs<Vec<N>>) -> N {
        let Outcome { h, s, .. } = self.run(inputs, None);
        let all = [&inputs.h0[..], &h].concat();
        let last = (all.len() - inputs.dh_last.len(), s.len() - inputs.ds_last.len());
        let waiting = &inputs.x[inputs.x.len() - inputs.dx_last.len()..];
        let Inputs { dy, dh_last, ds_last, dx_last, .. } = inputs;
        let weights = [&dy[..], dh_last, ds_last, dx_last].concat();
        N::dot(weights.into_iter().zip([&h[..], &all[last.0..], &s[last.1..], waiting].concat()))
    }
}
