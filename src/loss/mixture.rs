//! The negative log-likelihood of points under a mixture of Gaussians in the plane.

use super::rows::{Element, OverRows, RowLoss};
use super::{bounded, finite};
use crate::{Error, Isa};
use std::f64::consts::TAU;

/// The negative log-likelihood of points (x, y) under a mixture of K Gaussians in the plane, in nats, as
/// Graves (2013, arXiv:1308.0850, section 4) predicts handwriting. The targets are `[rows, 2]`.
///
/// A row has 6K outputs, in blocks of K: the mixture weights π̂, the means μ̂_x, the means μ̂_y, the
/// deviations σ̂_x, σ̂_y and the correlations ρ̂. The parameters of the mixture are made of them:
///
/// ```text
/// π = softmax(π̂)   μ = μ̂   σ = exp(σ̂)   ρ = tanh(ρ̂)
/// ```
///
/// The loss of a row is `−log Σₖ πₖ N(x, y | μₖ, σₖ, ρₖ)` (equations 18 to 26). K is 1 unless
/// [`with_components`](Self::with_components) sets it. [`with_stroke_end`](Self::with_stroke_end) adds
/// an output ê and a target 0 or 1. A mean divides by the number of rows.
///
/// So that densities stay finite, σ̂ counts as −10 … 10 and ρ̂ as −6 … 6 where they lie beyond; the
/// gradients are those at the bounds, so that an output beyond can come back. ±∞ counts as the largest
/// f32 of its sign.
///
/// ```
/// use bptt::{GaussianMixture, Loss, Outputs, Runtime};
///
/// // Two components, whose weights are equal, around (0, 0) and (3, 3).
/// let loss = GaussianMixture::sum(&[0.0, 0.0]).with_components(2)?;
/// let mut y = [0.0, 0.0, 0.0, 3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
/// let value = loss.gradient(Runtime::best()?, Outputs::new(&mut y, 12))?;
/// let density = (0.5 + 0.5 * (-9f64).exp()) / std::f64::consts::TAU;
/// assert!((value + density.ln()).abs() < 1e-12);
/// # Ok::<(), bptt::Error>(())
/// ```
pub type GaussianMixture<'a> = OverRows<'a, MixtureRow>;

/// The negative log-likelihood of a row: see [`GaussianMixture`](crate::GaussianMixture).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MixtureRow {
    components: usize,
    has_stroke_end: bool,
}

/// The bounds of σ̂ and ρ̂.
const MOST_DEVIATION: f64 = 10.0;
const MOST_CORRELATION: f64 = 6.0;

impl Default for MixtureRow {
    fn default() -> Self {
        Self { components: 1, has_stroke_end: false }
    }
}

impl OverRows<'_, MixtureRow> {
    /// Sets K, the number of Gaussians.
    ///
    /// # Errors
    /// [`Error::Value`] if it is 0.
    pub fn with_components(mut self, components: usize) -> Result<Self, Error> {
        self.row.components = crate::error::check_size("components", components)?;
        Ok(self)
    }

    /// Adds the output ê of a Bernoulli unit, the last one of a row, and a target that is 1 where a
    /// stroke ends and else 0, so that the targets are `[rows, 3]`. Its logistic cross-entropy, with
    /// the probability `σ(ê)` of an end, is added to the loss. (Graves has `σ(−ê)`.)
    pub fn with_stroke_end(mut self) -> Self {
        self.row.has_stroke_end = true;
        self
    }
}

/// One Gaussian at a point.
struct Component {
    /// log N.
    log_density: f64,
    /// The derivatives of log N by μ̂_x, μ̂_y, σ̂_x, σ̂_y and ρ̂.
    slopes: [f64; 5],
}

impl MixtureRow {
    fn outputs(&self) -> Option<usize> {
        self.components.checked_mul(6)?.checked_add(usize::from(self.has_stroke_end))
    }

    /// Returns component `k` of a row at the point of `targets`.
    fn component(&self, y: &[f32], k: usize, targets: &[f32]) -> Component {
        let of = |block: usize| bounded(y[block * self.components + k]);
        let limited = |value: f64, most: f64| value.clamp(-most, most);
        let [sx, sy] = [3, 4].map(|block| limited(of(block), MOST_DEVIATION));
        let r = limited(of(5), MOST_CORRELATION);
        let (rho, cosh) = (r.tanh(), r.cosh());
        let dx = (f64::from(targets[0]) - of(1)) * (-sx).exp();
        let dy = (f64::from(targets[1]) - of(2)) * (-sy).exp();
        // 1 / (1 − ρ²) = cosh² ρ̂. Z is dx² + dy² − 2 ρ dx dy (25); this is Z / (1 − ρ²).
        let c = cosh * cosh;
        let z = c * (dx - rho * dy).powi(2) + dy * dy;
        let [ex, ey] = [c * (dx - rho * dy), c * (dy - rho * dx)];
        Component {
            log_density: -TAU.ln() - sx - sy + cosh.ln() - 0.5 * z,
            slopes: [
                ex * (-sx).exp(),
                ey * (-sy).exp(),
                dx * ex - 1.0,
                dy * ey - 1.0,
                dx * dy + rho * (1.0 - z),
            ],
        }
    }

    /// Returns log πₖ N of component `k`, given log Σ exp π̂.
    fn log_joint(y: &[f32], k: usize, log_weights: f64, component: &Component) -> f64 {
        bounded(y[k]) - log_weights + component.log_density
    }

    fn density(&self, y: &[f32], targets: &[f32]) -> Density {
        let (mut weights, mut density) = (LogSum::default(), LogSum::default());
        (0..self.components).for_each(|k| weights.add(bounded(y[k])));
        let log_weights = weights.value();
        for k in 0..self.components {
            density.add(Self::log_joint(y, k, log_weights, &self.component(y, k, targets)));
        }
        Density { log_weights, log_density: density.value() }
    }

    /// Returns the loss of the stroke's end and its derivative, 0 if there is none.
    fn end(&self, y: &[f32], targets: &[f32]) -> Element {
        if !self.has_stroke_end {
            return Element { loss: 0.0, slope: 0.0 };
        }
        let (o, target) = (bounded(y[6 * self.components]), f64::from(targets[2]));
        let log = (-o.abs()).exp().ln_1p();
        let [of_end, of_none] = [-o, o].map(|o| if o < 0.0 { log } else { o + log });
        let slope = (1.0 - target) / (1.0 + (-o).exp()) - target / (1.0 + o.exp());
        Element { loss: target * of_end + (1.0 - target) * of_none, slope }
    }
}

/// The mixture at a point.
struct Density {
    /// log Σ exp π̂.
    log_weights: f64,
    /// log Σ πₖ Nₖ.
    log_density: f64,
}

/// log Σ exp of numbers, one after the other.
struct LogSum {
    most: f64,
    /// Σ exp(log − most).
    sum: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self { most: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSum {
    fn add(&mut self, log: f64) {
        if log > self.most {
            self.sum = self.sum * (self.most - log).exp() + 1.0;
            self.most = log;
        } else {
            self.sum += (log - self.most).exp();
        }
    }

    fn value(&self) -> f64 {
        self.most + self.sum.ln()
    }
}

impl RowLoss for MixtureRow {
    fn targets(&self, outputs: usize) -> Result<usize, Error> {
        if self.outputs() == Some(outputs) {
            return Ok(if self.has_stroke_end { 3 } else { 2 });
        }
        let end = if self.has_stroke_end { " + 1" } else { "" };
        let expected = format!("6 · {}{end}, for {} components", self.components, self.components);
        let given = outputs.to_string();
        Err(Error::Value { what: "outputs", given, expected: expected.into() })
    }

    fn elements(&self, _targets: usize) -> usize {
        1
    }

    fn refuses(&self, place: usize, target: f32) -> Option<&'static str> {
        match place {
            2 => (target != 0.0 && target != 1.0).then_some("0 or 1, whether a stroke ends"),
            _ => (!target.is_finite()).then_some("finite"),
        }
    }

    fn value(&self, _isa: Isa, y: &[f32], targets: &[f32]) -> f64 {
        self.end(y, targets).loss - self.density(y, targets).log_density
    }

    fn gradient(&self, _isa: Isa, scale: f64, y: &mut [f32], targets: &[f32]) -> f64 {
        let (end, density) = (self.end(y, targets), self.density(y, targets));
        for k in 0..self.components {
            let component = self.component(y, k, targets);
            let log_joint = Self::log_joint(y, k, density.log_weights, &component);
            // Its weight, and its share of the density (29).
            let weight = (bounded(y[k]) - density.log_weights).exp();
            let share = (log_joint - density.log_density).exp();
            y[k] = finite(scale * (weight - share));
            for (block, slope) in component.slopes.into_iter().enumerate() {
                y[(block + 1) * self.components + k] = finite(-scale * share * slope);
            }
        }
        if self.has_stroke_end {
            y[6 * self.components] = finite(scale * end.slope);
        }
        end.loss - density.log_density
    }
}
