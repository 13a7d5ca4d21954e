//! How the token of a step is chosen from the outputs of the step before. Knows logits; must not know
//! blocks.

use crate::Error;
use crate::blocks::Config;

/// How a block that reads [its own outputs](crate::OutputRecurrent) as a token chooses this token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// It is drawn with the probabilities softmax(o).
    #[default]
    Sample,
    /// It is the largest output, the first one if there are several.
    Largest,
}

impl Choice {
    /// Returns the name in a file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Largest => "largest",
        }
    }

    /// Returns the choice that a configuration names.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        match config.word("choice")? {
            "sample" => Ok(Self::Sample),
            "largest" => Ok(Self::Largest),
            given => Err(Error::Value {
                what: "option",
                given: format!("choice {given}"),
                expected: "sample or largest".into(),
            }),
        }
    }

    /// Returns the token of these `logits`; `drawn` is a number in [0, 1). Logits of NaN are never
    /// chosen, unless there are no others.
    pub(super) fn token(self, logits: &[f32], drawn: f32) -> u32 {
        let larger = |most: usize, at: usize| match logits[at] > logits[most] {
            true => at,
            false if logits[most].is_nan() => at,
            false => most,
        };
        let largest = (1..logits.len()).fold(0, larger);
        let most = f64::from(logits[largest]);
        if self == Self::Largest || !most.is_finite() {
            return largest as u32;
        }
        let weight = |logit: &f32| match logit.is_nan() {
            true => 0.0,
            false => (f64::from(*logit) - most).exp(),
        };
        let mut rest = f64::from(drawn) * logits.iter().map(weight).sum::<f64>();
        for (token, logit) in logits.iter().enumerate() {
            rest -= weight(logit);
            if rest < 0.0 {
                return token as u32;
            }
        }
        // Rounding may leave a little.
        largest as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_as_often_as_they_should() {
        let logits = [0.5f32.ln(), f32::NEG_INFINITY, 0.125f32.ln(), f32::NAN, 0.375f32.ln()];
        let mut counts = [0; 5];
        for drawn in 0..1000 {
            counts[Choice::Sample.token(&logits, drawn as f32 / 1000.0) as usize] += 1;
        }
        assert_eq!(counts, [500, 0, 125, 0, 375]);
        assert_eq!(Choice::Largest.token(&logits, 0.99), 0);
    }

    #[test]
    fn the_first_of_the_largest_is_chosen_and_never_nan() {
        assert_eq!(Choice::Largest.token(&[f32::NAN, 1.0, 3.0, 3.0], 0.0), 2);
        assert_eq!(Choice::Sample.token(&[1.0, f32::INFINITY, 3.0], 0.9), 1);
        assert_eq!(Choice::Sample.token(&[f32::NAN; 3], 0.9), 2);
        assert_eq!(Choice::Sample.token(&[f32::NEG_INFINITY; 3], 0.9), 0);
        assert_eq!(Choice::Sample.token(&[1e30, -1e30], 0.999), 0);
    }
}
