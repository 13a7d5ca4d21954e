//! A step of one sequence: the equations of each cell, as they are written.

use super::{Cell, Layer};
use crate::tape::{Id, Rows, Tape};
use crate::{Activation, Number};

/// The parameters on a tape.
pub(super) struct Params {
    /// Nodes of U, W, b, the cell's own, P.
    pub nodes: [Id; 5],
}

/// What a pass has for each gate's value and ∂L/∂z in a step of a sequence.
pub(super) struct GivenStep<N> {
    pub gates: Vec<Vec<N>>,
    pub dz: Vec<Vec<N>>,
}

/// A step of one sequence on a tape: what it has, and what it shows.
pub(super) struct Step<'a, N> {
    pub layer: &'a Layer,
    pub params: &'a Params,
    pub tape: &'a mut Tape<N>,
    pub x: Id,
    /// The state that is carried on: the last of the hidden states or, if there are none, the cell state.
    pub h: Id,
    /// The step, from 0.
    pub t: usize,
    /// The last D states, the oldest first, as the products see them.
    pub line: Vec<Id>,
    pub c: Option<Id>,
    /// What the pass under test has.
    pub given: Option<GivenStep<N>>,
    /// The nodes of gates and of pre-activations.
    pub gates: Vec<Option<Id>>,
    pub zs: Vec<Option<Id>>,
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
    pub(super) fn input(&mut self, gate: usize) -> Id {
        self.sum(&[(self.rows(0, gate, 1), self.x)], gate)
    }

    /// A block of the cell's own parameters.
    pub(super) fn own(&mut self, block: usize) -> Id {
        let hidden = self.layer.hidden;
        self.tape.part(self.params.nodes[3], block * hidden, hidden)
    }

    pub(super) fn constant(&mut self, values: impl Fn(usize) -> f64) -> Id {
        let values: Vec<N> = (0..self.layer.hidden).map(|j| N::exact(values(j))).collect();
        self.tape.leaf(&values)
    }

    /// a + p ⊙ b.
    pub(super) fn plus_product(&mut self, a: Id, p: Id, b: Id) -> Id {
        let product = self.tape.mul(p, b);
        self.tape.add(a, product)
    }

    /// The function of gates, unless all is linear.
    fn logistic(&self) -> Activation {
        if self.layer.linear { Activation::Identity } else { self.layer.hard.gates }
    }

    /// What is left of `a` within the limit, if there is one.
    fn clip(&mut self, a: Id, limit: Option<f64>) -> Id {
        match limit {
            Some(limit) => self.tape.map(Activation::Clip(limit), a),
            None => a,
        }
    }

    /// φ of a gate's pre-activation, which a pass shows by its gradient.
    pub(super) fn activate(&mut self, gate: usize, activation: Activation, z: Id) -> Id {
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

    /// h and c.
    pub(super) fn run(&mut self) -> (Id, Option<Id>) {
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
                let (h, c) = self.lstm(candidate, peepholes, coupled);
                (h, Some(c))
            }
            scan => self.scan(&scan.clone()),
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
        let one = self.constant(|_| 1.0);
        let (kept, rest) = (self.tape.mul(alpha, self.h), self.tape.sub(one, alpha));
        self.plus_product(kept, rest, y)
    }

    /// u ⊙ h₋ + (1 − u) ⊙ n, as two products where n has no bound: h₋ may be lost in h₋ − n.
    fn state_of_gru(&mut self, phi: Activation, u: Id, n: Id) -> Id {
        if phi != Activation::Relu {
            return self.between(u, n);
        }
        let one = self.constant(|_| 1.0);
        let (kept, rest) = (self.tape.mul(u, self.h), self.tape.sub(one, u));
        self.plus_product(kept, rest, n)
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
        self.state_of_gru(phi, u, n)
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
        self.state_of_gru(phi, u, n)
    }

    /// Equations 10.40 to 10.44, with peepholes, i = 1 − f and h = P (o ⊙ tanh(c)) where they are wanted.
    fn lstm(&mut self, candidate: Activation, peepholes: bool, coupled: bool) -> (Id, Id) {
        let logistic = self.logistic();
        let c_prev = self.c.expect("an LSTM has a cell state");
        let forget = usize::from(!coupled);
        let sees = |step: &mut Self, z: Id, block: usize, c: Id| {
            if !peepholes {
                return z;
            }
            let p = step.own(block);
            step.plus_product(z, p, c)
        };
        let z_f = self.z(forget);
        let z_f = sees(self, z_f, forget, c_prev);
        let f = self.gate(forget, logistic, z_f);
        let i = if coupled {
            let one = self.constant(|_| 1.0);
            self.tape.sub(one, f)
        } else {
            let z_i = self.z(0);
            let z_i = sees(self, z_i, 0, c_prev);
            self.gate(0, logistic, z_i)
        };
        let z_g = self.z(forget + 1);
        let g = self.gate(forget + 1, candidate, z_g);
        let kept = self.tape.mul(f, c_prev);
        let c = self.plus_product(kept, i, g);
        let c = self.clip(c, self.layer.hard.cell_clip);
        let z_o = self.z(forget + 2);
        let z_o = sees(self, z_o, forget + 1, c);
        let o = self.gate(forget + 2, logistic, z_o);
        let shows = if self.layer.linear { Activation::Identity } else { Activation::Tanh };
        let shows = self.tape.map(shows, c);
        let m = self.tape.mul(o, shows);
        if !self.layer.projects() {
            return (m, c);
        }
        let (rows, columns) = (self.layer.outputs, self.layer.hidden);
        let p = Rows { matrix: self.params.nodes[4], start: 0, rows, columns };
        let h = self.tape.affine(&[(p, m)], None);
        (self.clip(h, self.layer.hard.projection_clip), c)
    }
}

/// What products see of a state, of which `mask` has the share of each unit, if there is dropout.
pub(super) fn masked<N: Number>(tape: &mut Tape<N>, mask: &[f64], h: Id) -> Id {
    if mask.is_empty() {
        return h;
    }
    let mask: Vec<N> = mask.iter().map(|&m| N::exact(m)).collect();
    let mask = tape.leaf(&mask);
    tape.mul(mask, h)
}

/// What is left of the result of step `at` where a part of the state before is kept. A unit that keeps all or nothing is copied:
/// nothing is rounded.
pub(super) fn kept<N: Number>(
    tape: &mut Tape<N>,
    shares: &[f64],
    at: usize,
    before: Id,
    result: Id,
) -> Id {
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
