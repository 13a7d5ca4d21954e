//! What the suites ask of a layer, and the reference's equations of each.

use bptt::{
    Activation, Candidate, ClockGroup, Clockwork, Delayed, Gru, Layer, LayerNorm, Leak, Leaky,
    Lstm, Reset, Skip, Vanilla,
};
use bptt_reference::cells::{Cell as Equations, Layer as ReferenceLayer};
use bptt_reference::noise::Masks;

/// A cell that the suites run on.
pub trait Subject: Layer {
    /// The same layer in the reference.
    fn reference(&self) -> ReferenceLayer {
        ReferenceLayer {
            inputs: self.input_size(),
            hidden: self.hidden_size(),
            outputs: self.output_size(),
            cell: self.equations(),
            late: self.is_late(),
            linear: false,
            masks: Masks::default(),
            norm: self.epsilon(),
        }
    }

    fn equations(&self) -> Equations;

    fn is_late(&self) -> bool {
        false
    }

    /// ε, where gates are normalised.
    fn epsilon(&self) -> Option<f64> {
        None
    }

    /// Floats that a pass keeps for each step and sequence.
    fn floats_per_step(&self) -> usize;

    /// The same of so many steps.
    fn floats_of_steps(&self, steps: usize) -> usize {
        steps * self.floats_per_step()
    }

    /// ∂L/∂z as the reference has it, `[τ, B, G, H]`, of what an arena shows of a pass over
    /// so many steps from this one on.
    fn all_steps(&self, dz: &[f32], _first: u64, _steps: usize, _batch: usize) -> Vec<f32> {
        dz.to_vec()
    }
}

fn phi(activation: Activation) -> bptt_reference::Activation {
    match activation {
        Activation::Tanh => bptt_reference::Activation::Tanh,
        Activation::Relu => bptt_reference::Activation::Relu,
        Activation::Logistic => bptt_reference::Activation::Logistic,
        Activation::Identity => bptt_reference::Activation::Identity,
    }
}

fn candidate(candidate: Candidate) -> bptt_reference::Activation {
    match candidate {
        Candidate::Tanh => bptt_reference::Activation::Tanh,
        Candidate::Logistic => bptt_reference::Activation::Logistic,
    }
}

impl Subject for Vanilla {
    fn equations(&self) -> Equations {
        Equations::Vanilla(phi(self.activation()))
    }

    fn floats_per_step(&self) -> usize {
        2 * self.hidden_size()
    }
}

impl<C: Subject> Subject for Delayed<C> {
    fn equations(&self) -> Equations {
        self.layer().equations()
    }

    fn is_late(&self) -> bool {
        true
    }

    fn epsilon(&self) -> Option<f64> {
        self.layer().epsilon()
    }

    fn floats_per_step(&self) -> usize {
        self.layer().floats_per_step()
    }
}

impl<C: Subject> Subject for LayerNorm<C> {
    fn equations(&self) -> Equations {
        self.layer().equations()
    }

    fn is_late(&self) -> bool {
        self.layer().is_late()
    }

    fn epsilon(&self) -> Option<f64> {
        Some(LayerNorm::epsilon(self).into())
    }

    /// What is normalised, its gradients, and a deviation for each.
    fn floats_per_step(&self) -> usize {
        self.layer().floats_per_step() + self.equations().norms() * (2 * self.hidden_size() + 1)
    }
}

impl Subject for Skip {
    fn equations(&self) -> Equations {
        Equations::Skip(phi(self.activation()), self.delays().to_vec())
    }

    fn floats_per_step(&self) -> usize {
        2 * self.hidden_size()
    }
}

impl Subject for Clockwork {
    fn equations(&self) -> Equations {
        let groups = self.groups().map(|group| (group.units, group.period)).collect();
        Equations::Clockwork(phi(self.activation()), groups)
    }

    fn floats_per_step(&self) -> usize {
        unreachable!("a step does not keep as much as any other")
    }

    fn floats_of_steps(&self, steps: usize) -> usize {
        let moved = self.groups().map(|group| steps / group.period * group.units);
        steps * self.hidden_size() + moved.sum::<usize>()
    }

    fn all_steps(&self, dz: &[f32], first: u64, steps: usize, batch: usize) -> Vec<f32> {
        let (hidden, mut rest, mut before) = (self.hidden_size(), dz, 0);
        let mut all = vec![0.0; steps * batch * hidden];
        for ClockGroup { units, period } in self.groups() {
            let moves = (0..steps).filter(|&t| (first + t as u64).is_multiple_of(period as u64));
            for (t, n) in moves.flat_map(|t| (0..batch).map(move |n| (t, n))) {
                let (row, tail) = rest.split_at(units);
                all[(t * batch + n) * hidden + before..][..units].copy_from_slice(row);
                rest = tail;
            }
            before += units;
        }
        assert!(rest.is_empty(), "a group's dz at each of its moves");
        all
    }
}

impl Subject for Leaky {
    fn equations(&self) -> Equations {
        let phi = phi(self.activation());
        match self.leak() {
            Leak::Layer(alpha) => Equations::Leaky(phi, vec![*alpha; self.hidden_size()]),
            Leak::Units(alphas) => Equations::Leaky(phi, alphas.to_vec()),
            Leak::Learned { .. } => Equations::LeakyLearned(phi),
        }
    }

    fn floats_per_step(&self) -> usize {
        let learned = matches!(self.leak(), Leak::Learned { .. });
        (2 + usize::from(learned)) * self.hidden_size()
    }
}

impl Subject for Gru {
    fn equations(&self) -> Equations {
        match self.reset() {
            Reset::After => Equations::GruAfter(candidate(self.candidate())),
            Reset::Before => Equations::GruBefore(candidate(self.candidate())),
        }
    }

    fn floats_per_step(&self) -> usize {
        5 * self.hidden_size()
    }
}

impl Subject for Lstm {
    fn equations(&self) -> Equations {
        Equations::Lstm {
            candidate: candidate(self.candidate()),
            peepholes: self.has_peepholes(),
            coupled: self.has_coupled_gates(),
            projected: self.is_projected(),
        }
    }

    fn floats_per_step(&self) -> usize {
        let (hidden, output) = (self.hidden_size(), self.output_size());
        let projected = if self.is_projected() { hidden + output } else { 0 };
        (self.gates().len() + 1) * hidden + output + projected
    }
}
