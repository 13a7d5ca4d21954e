//! The paths through one sequence whose labelling is its target, in logarithms. Knows the
//! probabilities of labels; must not know outputs, rows or other sequences.
//!
//! A path goes through places: the labels with a blank before each and one after the last. From one
//! step to the next it stays, or moves to the next place, or skips a blank between two labels that
//! differ (Graves et al. 2006, section 4.1).

/// The labels of a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct Labels<'a> {
    pub labels: &'a [u32],
    pub blank: u32,
}

impl Labels<'_> {
    /// Returns the least number of steps that have these labels: a blank must stand between two that
    /// are the same.
    pub fn steps(&self) -> usize {
        self.labels.len() + self.labels.windows(2).filter(|pair| pair[0] == pair[1]).count()
    }

    /// Returns the number of places.
    fn places(&self) -> usize {
        2 * self.labels.len() + 1
    }

    /// Returns the label, or the blank, at a place.
    fn at(&self, place: usize) -> usize {
        if place.is_multiple_of(2) { self.blank as usize } else { self.labels[place / 2] as usize }
    }

    /// Whether a path may go from `place` − 2 to `place`.
    fn skips_to(&self, place: usize) -> bool {
        place % 2 == 1 && place >= 3 && self.labels[place / 2] != self.labels[place / 2 - 1]
    }
}

/// The probabilities of places, in memory that serves one sequence after the other.
#[derive(Debug, Default)]
pub(super) struct Alignment {
    /// `[steps, places]`: the logarithms of the label's probability at each step and place.
    logs: Vec<f64>,
    /// `[steps, places]`: the logarithms of the forward variables α, then the probabilities γ of the
    /// places given the target.
    paths: Vec<f64>,
    /// The logarithms of the backward variables β of one step and of the step after it.
    after: [Vec<f64>; 2],
}

impl Alignment {
    /// Returns −log p(l | x). `log_of` returns the logit of a label at a step, and `log_sum` the
    /// logarithm of the sum of the exponentials of all logits of a step.
    pub fn forward(
        &mut self,
        target: Labels<'_>,
        steps: usize,
        log_sum: impl Fn(usize) -> f64,
        log_of: impl Fn(usize, usize) -> f64,
    ) -> f64 {
        let places = target.places();
        self.logs.clear();
        for step in 0..steps {
            let log_sum = log_sum(step);
            self.logs.extend((0..places).map(|place| log_of(step, target.at(place)) - log_sum));
        }
        self.paths.clear();
        self.paths.resize(steps * places, f64::NEG_INFINITY);
        if steps == 0 {
            return 0.0;
        }
        let first = places.min(2);
        self.paths[..first].copy_from_slice(&self.logs[..first]);
        for step in 1..steps {
            let (before, now) = self.paths.split_at_mut(step * places);
            let before = &before[(step - 1) * places..];
            let from = |place: Option<usize>| place.map_or(f64::NEG_INFINITY, |at| before[at]);
            for place in 0..places {
                let skipped = target.skips_to(place).then(|| place - 2);
                let all = [from(Some(place)), from(place.checked_sub(1)), from(skipped)];
                now[place] = log_sum_exp(all) + self.logs[step * places + place];
            }
        }
        let last = &self.paths[(steps - 1) * places..];
        let before_last = if places > 1 { last[places - 2] } else { f64::NEG_INFINITY };
        -log_sum_exp([last[places - 1], before_last, f64::NEG_INFINITY])
    }

    /// Computes γ after a forward run over the same target and steps.
    pub fn backward(&mut self, target: Labels<'_>, steps: usize) {
        let places = target.places();
        let [now, next] = &mut self.after;
        for beta in [&mut *now, &mut *next] {
            beta.clear();
            beta.resize(places, f64::NEG_INFINITY);
        }
        for step in (0..steps).rev() {
            if step + 1 == steps {
                now[places - 1] = 0.0;
                now[places.saturating_sub(2)] = 0.0;
            } else {
                let logs = &self.logs[(step + 1) * places..][..places];
                let to = |place: usize| match place < places {
                    true => next[place] + logs[place],
                    false => f64::NEG_INFINITY,
                };
                for place in 0..places {
                    let skips = place + 2 < places && target.skips_to(place + 2);
                    let skipped = if skips { to(place + 2) } else { f64::NEG_INFINITY };
                    now[place] = log_sum_exp([to(place), to(place + 1), skipped]);
                }
            }
            // Some place is taken at every step, so the sum is p(l | x) at each. It is computed anew:
            // where the logarithms are huge their roundings are too, and must cancel.
            let paths = &mut self.paths[step * places..][..places];
            paths.iter_mut().zip(&*now).for_each(|(alpha, beta)| *alpha += beta);
            let most = paths.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            paths.iter_mut().for_each(|log| *log = (*log - most).exp());
            let sum: f64 = paths.iter().sum();
            paths.iter_mut().for_each(|share| *share /= sum);
            std::mem::swap(now, next);
        }
    }

    /// Subtracts the probabilities of all labels at `step`, given the target, from `y`.
    pub fn subtract_shares(&self, target: Labels<'_>, step: usize, y: &mut [f32]) {
        let places = target.places();
        let shares = &self.paths[step * places..][..places];
        for (place, share) in shares.iter().enumerate() {
            let y = &mut y[target.at(place)];
            *y = (f64::from(*y) - share) as f32;
        }
    }
}

/// Returns log Σ exp, −∞ where all are.
fn log_sum_exp(logs: [f64; 3]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        // This keeps a NaN.
        return logs.iter().sum();
    }
    most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
}
