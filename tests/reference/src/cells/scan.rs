//! A step of the cells of which no unit sees the state of another: their equations, as they are written.

use super::Cell;
use super::step::Step;
use crate::tape::Id;
use crate::{Activation, Number};

/// The c of the RG-LRU.
const RATE: f64 = 8.0;

impl<N: Number> Step<'_, N> {
    /// h and c of such a cell.
    pub(super) fn scan(&mut self, cell: &Cell) -> (Id, Option<Id>) {
        match *cell {
            Cell::MinGru(phi) => (self.min_gru(phi), None),
            Cell::MinLstm(phi) => (self.min_lstm(phi), None),
            Cell::Sru { fourth } => self.sru(fourth),
            Cell::Qrnn { output, input } => self.qrnn(output, input),
            Cell::IndRnn(phi) => {
                let (z, w) = (self.input(0), self.own(0));
                let z = self.plus_product(z, w, self.h);
                (self.activate(0, phi, z), None)
            }
            Cell::RgLru => (self.rg_lru(), None),
            ref other => unreachable!("{other:?} is no scan"),
        }
    }

    /// φ of b + U x of a gate.
    fn of_input(&mut self, gate: usize, phi: Activation) -> Id {
        let z = self.input(gate);
        self.activate(gate, phi, z)
    }

    /// 1 − a.
    fn rest(&mut self, a: Id) -> Id {
        let one = self.constant(|_| 1.0);
        self.tape.sub(one, a)
    }

    /// a ⊙ b + (1 − a) ⊙ c.
    fn either(&mut self, a: Id, b: Id, c: Id) -> Id {
        let (chosen, rest) = (self.tape.mul(a, b), self.rest(a));
        self.plus_product(chosen, rest, c)
    }

    /// u = σ(z_u), h = (1 − u) ⊙ h₋ + u ⊙ n.
    fn min_gru(&mut self, phi: Activation) -> Id {
        let u = self.of_input(0, Activation::Logistic);
        let n = self.of_input(1, phi);
        self.either(u, n, self.h)
    }

    /// h = f / (f + i) ⊙ h₋ + i / (f + i) ⊙ n with f, i = σ(z). The share is σ(ln(f / i)), and −ln f = ln(1 + exp(−z_f)).
    fn min_lstm(&mut self, phi: Activation) -> Id {
        let zero = self.constant(|_| 0.0);
        let [away_f, away_i] = [0, 1].map(|gate| {
            let z = self.of_input(gate, Activation::Identity);
            let z = self.tape.sub(zero, z);
            self.tape.map(Activation::Softplus, z)
        });
        let n = self.of_input(2, phi);
        let ratio = self.tape.sub(away_i, away_f);
        let forget = self.tape.map(Activation::Share, ratio);
        let ratio = self.tape.sub(away_f, away_i);
        let input = self.tape.map(Activation::Share, ratio);
        let kept = self.tape.mul(forget, self.h);
        self.plus_product(kept, input, n)
    }

    /// f, r = σ(z + v ⊙ c₋), c = f ⊙ c₋ + (1 − f) ⊙ n, h = r ⊙ c + (1 − r) ⊙ x.
    fn sru(&mut self, fourth: bool) -> (Id, Option<Id>) {
        let c_prev = self.h;
        let n = self.of_input(0, Activation::Identity);
        let [f, r] = [1, 2].map(|gate| {
            let (z, v) = (self.input(gate), self.own(gate - 1));
            let z = self.plus_product(z, v, c_prev);
            self.activate(gate, Activation::Logistic, z)
        });
        let c = self.either(f, c_prev, n);
        let x = if fourth { self.of_input(3, Activation::Identity) } else { self.x };
        (self.either(r, c, x), Some(c))
    }

    /// n = tanh(z_n), f, o, i = σ(z), c = f ⊙ c₋ + i ⊙ n, h = o ⊙ c; or i = 1 − f, or h = c.
    fn qrnn(&mut self, output: bool, input: bool) -> (Id, Option<Id>) {
        let c_prev = self.h;
        let n = self.of_input(0, Activation::Tanh);
        let f = self.of_input(1, Activation::Logistic);
        let o = output.then(|| self.of_input(2, Activation::Logistic));
        let c = if input {
            let i = self.of_input(3, Activation::Logistic);
            let kept = self.tape.mul(f, c_prev);
            self.plus_product(kept, i, n)
        } else {
            self.either(f, c_prev, n)
        };
        match o {
            Some(o) => (self.tape.mul(o, c), Some(c)),
            None => (c, None),
        }
    }

    /// r, i = σ(z), ln a = −8 softplus(Λ) ⊙ r, h = a ⊙ h₋ + √(1 − a²) ⊙ (i ⊙ x).
    fn rg_lru(&mut self) -> Id {
        let r = self.of_input(0, Activation::Logistic);
        let i = self.of_input(1, Activation::Logistic);
        let (lambda, rate) = (self.own(0), self.constant(|_| -RATE));
        let softplus = self.tape.map(Activation::Softplus, lambda);
        let rate = self.tape.mul(rate, softplus);
        let log_a = self.tape.mul(rate, r);
        let a = self.tape.map(Activation::Exp, log_a);
        let beta = self.tape.map(Activation::Complement, log_a);
        let kept = self.tape.mul(a, self.h);
        let entering = self.tape.mul(i, self.x);
        self.plus_product(kept, beta, entering)
    }
}
