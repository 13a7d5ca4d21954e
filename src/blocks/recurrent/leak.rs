//! The leak of a leaky unit: how much of its hidden state it keeps.

use std::sync::Arc;

/// The leak α: how much of its hidden state a leaky unit keeps at each step.
#[derive(Clone, Debug, PartialEq)]
pub enum Leak {
    /// One α for all units, in [0, 1).
    Layer(f32),
    /// One α for each unit, `[H]`, each in [0, 1). Everything made from the layer shares this
    /// memory.
    Units(Arc<[f32]>),
    /// A learned α for each unit, `α = σ(ρ)`; the parameter is ρ `[H]`.
    Learned {
        /// The α of every unit in [initial parameters](crate::Network::init), in (0, 1).
        initial: f32,
    },
}

/// Returns α = σ(ρ). It is computed in f64, so that the result is as exact as an f32 can be.
fn logistic(rho: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(rho)).exp())) as f32
}

impl Leak {
    /// Fills `alpha` with the given values, or computes it from `rho`.
    pub(super) fn prepare(&self, rho: &[f32], alpha: &mut [f32]) {
        match self {
            Self::Layer(given) => alpha.fill(*given),
            Self::Units(given) => alpha.copy_from_slice(given),
            Self::Learned { .. } => {
                alpha.iter_mut().zip(rho).for_each(|(alpha, &rho)| *alpha = logistic(rho));
            }
        }
    }
}
