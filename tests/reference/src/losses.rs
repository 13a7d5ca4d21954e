//! Losses written as their definitions are, in `f64`: values alone, since a gradient is a difference of two of them.
//! Nothing here is made to be stable or fast.

use std::f64::consts::{PI, TAU};

/// |y − t|.
pub fn absolute(y: f64, t: f64) -> f64 {
    (y - t).abs()
}

/// (y − t)².
pub fn squared(y: f64, t: f64) -> f64 {
    (y - t).powi(2)
}

/// Huber (1964): a parabola that goes on as its tangents at ±δ.
pub fn huber(y: f64, t: f64, delta: f64) -> f64 {
    let error = (y - t).abs();
    let near = error.min(delta);
    0.5 * near * near + delta * (error - near)
}

/// −w t log p − (1 − t) log(1 − p) with p = 1 / (1 + e^−o).
pub fn logistic(o: f64, t: f64, positive_weight: f64) -> f64 {
    let [p, q] = [o, -o].map(|o| 1.0 / (1.0 + (-o).exp()));
    -positive_weight * t * p.ln() - (1.0 - t) * q.ln()
}

/// −Σ tₖ wₖ log pₖ of a row of logits, with (1 − ε) of the target at `class` and ε spread over all K classes.
pub fn cross_entropy(o: &[f64], class: usize, smoothing: f64, weights: &[f64]) -> f64 {
    let sum: f64 = o.iter().map(|o| o.exp()).sum();
    let terms = o.iter().zip(weights).enumerate().map(|(k, (o, w))| {
        let hit = if k == class { 1.0 - smoothing } else { 0.0 };
        -(hit + smoothing / weights.len() as f64) * w * (o.exp() / sum).ln()
    });
    terms.sum()
}

/// −log of the density of `t` under a Gaussian with this mean and log-variance.
pub fn gaussian(mean: f64, log_variance: f64, t: f64) -> f64 {
    let variance = log_variance.exp();
    -((-(t - mean).powi(2) / (2.0 * variance)).exp() / (TAU * variance).sqrt()).ln()
}

/// −log Σ π N(x, y | μ, σ, ρ) of K Gaussians in the plane (Graves 2013, equations 23 to 25), less the logarithm of the
/// probability of the stroke's end, if there is one. `o` is π̂, μ̂_x, μ̂_y, σ̂_x, σ̂_y and ρ̂, K of each, and ê.
pub fn mixture(o: &[f64], point: &[f64], components: usize) -> f64 {
    let of = |block: usize, k: usize| o[block * components + k];
    let weights: f64 = (0..components).map(|k| of(0, k).exp()).sum();
    let density = |k: usize| {
        let (sx, sy, rho) = (of(3, k).exp(), of(4, k).exp(), of(5, k).tanh());
        let (dx, dy) = ((point[0] - of(1, k)) / sx, (point[1] - of(2, k)) / sy);
        let (z, rest) = (dx * dx + dy * dy - 2.0 * rho * dx * dy, 1.0 - rho * rho);
        of(0, k).exp() / weights * (-z / (2.0 * rest)).exp() / (2.0 * PI * sx * sy * rest.sqrt())
    };
    let loss = -(0..components).map(density).sum::<f64>().ln();
    match point.get(2) {
        Some(&end) => loss + logistic(o[6 * components], end, 1.0),
        None => loss,
    }
}

/// −log of the probability that the labelling of a path is `labels` (Graves et al. 2006, equation 3): a sum over *all*
/// paths through `o [steps, outputs]`, so for a few steps and labels alone.
pub fn ctc(o: &[f64], outputs: usize, labels: &[usize], blank: usize) -> f64 {
    let steps = o.len() / outputs;
    let p: Vec<f64> = o
        .chunks(outputs)
        .flat_map(|row| {
            let sum: f64 = row.iter().map(|o| o.exp()).sum();
            row.iter().map(move |o| o.exp() / sum)
        })
        .collect();
    let mut all = 0.0;
    for path in 0..outputs.pow(steps as u32) {
        let at = |step: usize| path / outputs.pow(step as u32) % outputs;
        let mut path: Vec<usize> = (0..steps).map(at).collect();
        let probability: f64 = path.iter().enumerate().map(|(t, k)| p[t * outputs + k]).product();
        path.dedup();
        path.retain(|&label| label != blank);
        if path == labels {
            all += probability;
        }
    }
    -all.ln()
}

/// How [`error_to_signal`] compares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Added to the mean energy of the target.
    pub epsilon: f64,
    /// c of the filter 1 − c z⁻¹.
    pub pre_emphasis: f64,
    /// Whether the ratio of the offset is added.
    pub has_dc: bool,
}

/// The energy of the error of sequences `y [steps, channels]` relative to that of the targets, all together (Wright et
/// al. 2020, equations 4 to 7).
pub fn error_to_signal(y: &[&[f64]], t: &[&[f64]], channels: usize, of: Comparison) -> f64 {
    let filtered = |x: &[f64]| -> Vec<f64> {
        let before = |at: usize| at.checked_sub(channels).map_or(0.0, |at| x[at]);
        (0..x.len()).map(|at| x[at] - of.pre_emphasis * before(at)).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all = |signals: &[&[f64]], of: &dyn Fn(&[f64]) -> Vec<f64>| -> Vec<f64> {
        signals.iter().flat_map(|x| of(x)).collect()
    };
    let squares = |values: &[f64]| mean(&values.iter().map(|x| x * x).collect::<Vec<_>>());
    let errors = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
    let (fy, ft) = (all(y, &filtered), all(t, &filtered));
    let ratio = squares(&errors(&ft, &fy)) / (squares(&ft) + of.epsilon);
    if !of.has_dc {
        return ratio;
    }
    let plain = |x: &[f64]| x.to_vec();
    let (y, t) = (all(y, &plain), all(t, &plain));
    let error = errors(&t, &y);
    let offset = |channel: usize| {
        let own: Vec<f64> = error.iter().skip(channel).step_by(channels).copied().collect();
        mean(&own)
    };
    let offsets: Vec<f64> = (0..channels).map(offset).collect();
    ratio + squares(&offsets) / (squares(&t) + of.epsilon)
}
