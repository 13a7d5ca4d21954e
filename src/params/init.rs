//! Initial weights, drawn from the caller's random generator.

use crate::Error;
use crate::error::check_len;
use rand_core::Rng;

/// How the entries of an initial weight matrix are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Init {
    /// Uniform in ±`limit`.
    Uniform {
        /// The largest magnitude.
        limit: f32,
    },
    #[default]
    /// Uniform in ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010; equation 8.23).
    Glorot,
    /// Orthonormal rows or columns, whichever are fewer, so that products neither shrink nor grow
    /// the vectors that pass through (Saxe et al. 2013).
    Orthogonal,
}

impl Init {
    /// Fills `weights` `[outputs, inputs]` with numbers drawn from `rng`.
    ///
    /// # Errors
    /// [`Error::Value`] if a limit is not finite or is below 0, [`Error::Length`] if `weights` does
    /// not have `outputs · inputs` elements. Nothing is written then.
    pub fn fill(
        self,
        weights: &mut [f32],
        outputs: usize,
        inputs: usize,
        rng: &mut dyn Rng,
    ) -> Result<(), Error> {
        check_len("weights", weights.len(), crate::error::product("weights", &[outputs, inputs])?)?;
        match self {
            Self::Uniform { limit } => {
                if !limit.is_finite() || limit < 0.0 {
                    let (given, expected) = (limit.to_string(), "finite, 0 or more".into());
                    return Err(Error::Value { what: "limit", given, expected });
                }
                uniform(weights, limit.into(), rng);
            }
            Self::Glorot => uniform(weights, (6.0 / (inputs + outputs) as f64).sqrt(), rng),
            Self::Orthogonal => orthogonal(weights, outputs, inputs, rng),
        }
        Ok(())
    }
}

/// Draws a number from [0, 1) with 53 random bits.
pub(crate) fn unit(rng: &mut dyn Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn uniform(weights: &mut [f32], limit: f64, rng: &mut dyn Rng) {
    for w in weights {
        *w = ((2.0 * unit(rng) - 1.0) * limit) as f32;
    }
}

/// Draws from the standard normal distribution with the Box–Muller transform.
fn normal(rng: &mut dyn Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Fills `weights` `[rows, columns]` by the Gram–Schmidt process on normally distributed vectors,
/// which draws uniformly from the orthogonal matrices. It goes over each vector twice, so that the
/// vectors are orthogonal to the last bit of f32.
fn orthogonal(weights: &mut [f32], rows: usize, columns: usize, rng: &mut dyn Rng) {
    let (count, len) = (rows.min(columns), rows.max(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(count);
    while basis.len() < count {
        let mut v: Vec<f64> = (0..len).map(|_| normal(rng)).collect();
        for _ in 0..2 {
            for done in &basis {
                let along: f64 = done.iter().zip(&v).map(|(a, b)| a * b).sum();
                v.iter_mut().zip(done).for_each(|(v, d)| *v -= along * d);
            }
        }
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        // A vector that is nearly dependent on the others is drawn again: the division would
        // magnify its rounding errors.
        if norm > 1e-6 {
            v.iter_mut().for_each(|x| *x /= norm);
            basis.push(v);
        }
    }
    for row in 0..rows {
        for column in 0..columns {
            let entry = if rows <= columns { basis[row][column] } else { basis[column][row] };
            weights[row * columns + column] = entry as f32;
        }
    }
}
