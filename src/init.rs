//! Initial weights, drawn from the caller's generator.

use crate::Error;
use rand_core::Rng;

/// How the entries of an initial weight matrix are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in ±limit.
    Uniform {
        /// The largest magnitude.
        limit: f32,
    },
    /// Uniform in ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010; equation 8.23).
    Glorot,
    /// Orthonormal rows or columns, whichever are fewer: products neither shrink nor
    /// grow what passes through (Saxe et al. 2013).
    Orthogonal,
}

impl Init {
    /// Fills a matrix of `outputs` rows of `inputs`.
    pub(crate) fn fill<R: Rng + ?Sized>(
        self,
        weights: &mut [f32],
        outputs: usize,
        inputs: usize,
        rng: &mut R,
    ) -> Result<(), Error> {
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

/// Uniform in [0, 1), 53 bits.
fn unit<R: Rng + ?Sized>(rng: &mut R) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn uniform<R: Rng + ?Sized>(weights: &mut [f32], limit: f64, rng: &mut R) {
    for w in weights {
        *w = ((2.0 * unit(rng) - 1.0) * limit) as f32;
    }
}

/// A normal deviate, by Box and Muller's transform.
fn normal<R: Rng + ?Sized>(rng: &mut R) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// Gram and Schmidt's process, twice over each vector, on normal deviates: uniform
/// over the orthogonal matrices, and orthogonal to f32's last bit.
fn orthogonal<R: Rng + ?Sized>(weights: &mut [f32], rows: usize, columns: usize, rng: &mut R) {
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
        // Nearly dependent on the others: drawn again, or the division would
        // magnify rounding.
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
