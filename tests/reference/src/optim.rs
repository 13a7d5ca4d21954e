//! Updates of flat parameters θ by their gradient: SGD with momentum, Adam, and clipping.

/// Stochastic gradient descent with momentum, algorithm 8.2: v ← αv − εg, θ ← θ + v. Plain SGD where α is zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Sgd {
    /// ε, the learning rate.
    pub learning_rate: f64,
    /// α, the momentum.
    pub momentum: f64,
    /// v, the velocity; zero at first.
    pub velocity: Vec<f64>,
}

impl Sgd {
    /// For `len` parameters, at rest.
    pub fn new(len: usize, learning_rate: f64, momentum: f64) -> Self {
        Sgd { learning_rate, momentum, velocity: vec![0.0; len] }
    }

    /// One update.
    pub fn step(&mut self, params: &mut [f64], gradient: &[f64]) {
        check_lengths(params, gradient, &self.velocity);
        for ((theta, g), v) in params.iter_mut().zip(gradient).zip(&mut self.velocity) {
            *v = self.momentum * *v - self.learning_rate * g;
            *theta += *v;
        }
    }
}

/// Adam, algorithm 1 of Kingma and Ba (2015), with both moments corrected for their bias towards zero:
///
/// ```text
/// m ← β₁m + (1 − β₁)g      v ← β₂v + (1 − β₂)g²
/// θ ← θ − α·m̂ / (√v̂ + ε)   m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    /// α, the learning rate.
    pub learning_rate: f64,
    /// β₁, the decay of the first moment.
    pub beta1: f64,
    /// β₂, the decay of the second moment.
    pub beta2: f64,
    /// ε, added to the root of the second moment.
    pub epsilon: f64,
    /// t, the number of updates made.
    pub updates: u32,
    /// m, the running mean of the gradient; zero at first.
    pub first_moment: Vec<f64>,
    /// v, the running mean of its square; zero at first.
    pub second_moment: Vec<f64>,
}

impl Adam {
    /// For `len` parameters, with the paper's β₁ = 0.9, β₂ = 0.999 and ε = 10⁻⁸.
    pub fn new(len: usize, learning_rate: f64) -> Self {
        Adam {
            learning_rate,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            updates: 0,
            first_moment: vec![0.0; len],
            second_moment: vec![0.0; len],
        }
    }

    /// One update.
    pub fn step(&mut self, params: &mut [f64], gradient: &[f64]) {
        check_lengths(params, gradient, &self.first_moment);
        self.updates += 1;
        let correction1 = 1.0 - self.beta1.powf(f64::from(self.updates));
        let correction2 = 1.0 - self.beta2.powf(f64::from(self.updates));
        let moments = self.first_moment.iter_mut().zip(&mut self.second_moment);
        for ((theta, g), (m, v)) in params.iter_mut().zip(gradient).zip(moments) {
            *m = self.beta1 * *m + (1.0 - self.beta1) * g;
            *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
            let (m_hat, v_hat) = (*m / correction1, *v / correction2);
            *theta -= self.learning_rate * m_hat / (v_hat.sqrt() + self.epsilon);
        }
    }
}

/// Clips each element of a gradient to [−limit, limit] (section 10.11.1, after Mikolov, 2012).
pub fn clip_elements(gradient: &mut [f64], limit: f64) {
    for g in gradient {
        *g = g.clamp(-limit, limit);
    }
}

/// Scales a gradient, here that of all parameters at once, to the norm `limit` where it is longer: g ← g·limit / ‖g‖
/// (10.48–10.49). Gives the norm before.
pub fn clip_norm(gradient: &mut [f64], limit: f64) -> f64 {
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    if norm > limit {
        for g in gradient {
            *g *= limit / norm;
        }
    }
    norm
}

fn check_lengths(params: &[f64], gradient: &[f64], state: &[f64]) {
    assert_eq!(gradient.len(), params.len(), "one gradient for each parameter");
    assert_eq!(state.len(), params.len(), "one entry of state for each parameter");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            // A few dozen roundings of 2⁻⁵³ each, of values of magnitude about one.
            assert!((a - e).abs() <= 32.0 * f64::EPSILON, "{actual:?} instead of {expected:?}");
        }
    }

    #[test]
    fn momentum_by_hand() {
        let mut sgd = Sgd::new(2, 0.1, 0.5);
        let mut params = vec![1.0, -1.0];
        sgd.step(&mut params, &[1.0, 2.0]); // v = −0.1, −0.2
        assert_close(&params, &[0.9, -1.2]);
        sgd.step(&mut params, &[1.0, 0.0]); // v = −0.05 − 0.1, −0.1
        assert_close(&params, &[0.75, -1.3]);
    }

    #[test]
    fn without_momentum_a_step_is_the_gradient() {
        let mut sgd = Sgd::new(1, 0.25, 0.0);
        let mut params = vec![1.0];
        sgd.step(&mut params, &[2.0]);
        sgd.step(&mut params, &[2.0]);
        assert_close(&params, &[0.0]);
    }

    /// β₁ = 1/2, β₂ = 3/4, ε = 1/2, α = 1, gradients 2 and then −1:
    /// t = 1: m = 1, v = 1, m̂ = 2, v̂ = 4: θ falls by 2 / 2.5.
    /// t = 2: m = 0, so θ stays; v = 1.
    /// t = 3, gradient 3: m = 1.5, v = 0.75 + 2.25 = 3, m̂ = 1.5·8/7, v̂ = 3·64/37.
    #[test]
    fn adam_by_hand() {
        let mut adam = Adam { beta1: 0.5, beta2: 0.75, epsilon: 0.5, ..Adam::new(1, 1.0) };
        let mut params = vec![1.0];
        adam.step(&mut params, &[2.0]);
        assert_close(&params, &[0.2]);
        adam.step(&mut params, &[-1.0]);
        assert_close(&params, &[0.2]);
        assert_close(&[adam.first_moment[0], adam.second_moment[0]], &[0.0, 1.0]);
        adam.step(&mut params, &[3.0]);
        assert_close(&params, &[0.2 - (12.0 / 7.0) / ((192.0f64 / 37.0).sqrt() + 0.5)]);
    }

    /// The first step of the paper's defaults is α·sign(g), whatever the size of g, but for ε.
    #[test]
    fn adams_first_step_has_the_size_of_the_learning_rate() {
        let mut params = vec![0.0; 3];
        Adam::new(3, 0.5).step(&mut params, &[1000.0, -0.25, 0.0]);
        let with_epsilon = |g: f64| -0.5 * g / (g.abs() + 1e-8);
        // 1 − 0.999 cancels 1000-fold, in v and in its correction alike.
        for (actual, g) in params.iter().zip([1000.0, -0.25, 0.0]) {
            assert!((actual - with_epsilon(g)).abs() <= 1000.0 * f64::EPSILON, "{params:?}");
        }
    }

    #[test]
    fn clipping() {
        let mut gradient = vec![3.0, -4.0, 0.0];
        assert_eq!(clip_norm(&mut gradient, 5.0), 5.0);
        assert_eq!(gradient, [3.0, -4.0, 0.0]);
        assert_eq!(clip_norm(&mut gradient, 1.0), 5.0);
        assert_close(&gradient, &[0.6, -0.8, 0.0]);
        clip_elements(&mut gradient, 0.7);
        assert_close(&gradient, &[0.6, -0.7, 0.0]);
    }
}
