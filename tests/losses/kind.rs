//! Every loss with targets that are drawn for it, and what the reference says of it. Knows sequences;
//! must not know where they lie in a schedule.

use bptt::loss::Reduction;
use bptt::{
    AbsoluteError, Ctc, ErrorToSignal, GaussianMixture, GaussianNll, Huber, LogisticCrossEntropy,
    Loss, SoftmaxCrossEntropy, SquaredError,
};
use bptt_reference::losses::{self, Comparison};
use bptt_reference::sample::{uniform, widen};

/// A loss and its options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Softmax,
    /// With label smoothing and class weights.
    Smoothed,
    Logistic,
    /// With a weight of positive targets.
    WeightedLogistic,
    Squared,
    Absolute,
    Huber,
    Gaussian,
    Mixture,
    /// With the end of strokes.
    Strokes,
    Ctc,
    Signal,
    /// With pre-emphasis and the offset.
    FilteredSignal,
}

pub const CLASS_WEIGHTS: [f32; 5] = [0.5, 2.0, 0.0, 1.25, 1.0];
pub const SMOOTHING: f32 = 0.25;
pub const POSITIVE_WEIGHT: f32 = 2.5;
pub const DELTA: f32 = 0.75;
pub const BLANK: u32 = 1;
const EMPHASIS: f32 = 0.875;
const EPSILON: f32 = 0.125;

/// Targets of some sequences, in rows of an order of one's own.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub values: Vec<f32>,
    pub classes: Vec<u32>,
    pub mask: Option<Vec<bool>>,
    /// Of each sequence, one after the other.
    pub labels: Vec<u32>,
    pub label_lengths: Vec<usize>,
}

/// The targets of one sequence, in the order of time.
#[derive(Clone, Debug)]
pub struct Own {
    pub values: Vec<f32>,
    pub classes: Vec<u32>,
    pub mask: Vec<bool>,
    pub labels: Vec<u32>,
}

impl Kind {
    pub const ALL: [Self; 13] = [
        Self::Softmax,
        Self::Smoothed,
        Self::Logistic,
        Self::WeightedLogistic,
        Self::Squared,
        Self::Absolute,
        Self::Huber,
        Self::Gaussian,
        Self::Mixture,
        Self::Strokes,
        Self::Ctc,
        Self::Signal,
        Self::FilteredSignal,
    ];

    /// Whether each row has a loss of its own.
    pub fn is_of_rows(self) -> bool {
        !matches!(self, Self::Ctc | Self::Signal | Self::FilteredSignal)
    }

    /// Whether the value is computed in f64 throughout.
    pub fn is_in_f64(self) -> bool {
        use Kind::*;
        !matches!(self, Softmax | Smoothed | Logistic | WeightedLogistic | Ctc)
    }

    /// Outputs in a row.
    pub fn outputs(self) -> usize {
        match self {
            Self::Softmax | Self::Smoothed => 5,
            Self::Gaussian => 4,
            Self::Mixture => 12,
            Self::Strokes => 13,
            Self::Signal | Self::FilteredSignal => 2,
            _ => 3,
        }
    }

    /// Target values in a row, 0 if they are classes or labels.
    pub fn width(self) -> usize {
        match self {
            Self::Softmax | Self::Smoothed | Self::Ctc => 0,
            Self::Gaussian | Self::Mixture | Self::Signal | Self::FilteredSignal => 2,
            _ => 3,
        }
    }

    /// Draws the outputs of a sequence.
    pub fn draw_outputs(self, seed: u64, steps: usize) -> Vec<f32> {
        uniform(seed, steps * self.outputs(), 1.5)
    }

    /// Draws the targets of a sequence.
    pub fn draw(self, seed: u64, steps: usize) -> Own {
        let mut values = uniform(seed ^ 1, steps * self.width(), 1.5);
        match self {
            Self::Logistic | Self::WeightedLogistic => {
                values.iter_mut().for_each(|t| *t = (*t / 3.0 + 0.5).clamp(0.0, 1.0));
                // The ends of the range are targets, too.
                values.iter_mut().step_by(2).for_each(|t| *t = t.round());
            }
            Self::Strokes => values.iter_mut().skip(2).step_by(3).for_each(|t| {
                *t = if *t > 0.0 { 1.0 } else { 0.0 };
            }),
            _ => {}
        }
        let index = |seed, len, below: u32| -> Vec<u32> {
            uniform(seed, len, 1.0)
                .iter()
                .map(|u| ((u + 1.0) / 2.0 * below as f32) as u32)
                .collect()
        };
        let mask = uniform(seed ^ 3, steps, 1.0).iter().map(|u| *u < 0.5).collect();
        // Labels 0 and 2, which have paths whatever the mask leaves out.
        let labels = index(seed ^ 4, steps / 4, 2).iter().map(|label| 2 * label).collect();
        Own { values, classes: index(seed ^ 2, steps, 5), mask, labels }
    }

    /// Makes the loss.
    pub fn loss<'a>(self, targets: &'a Targets, reduction: Reduction) -> Box<dyn Loss + 'a> {
        let Targets { values, classes, mask, labels, label_lengths } = targets;
        macro_rules! reduced {
            ($loss:ident, $($given:expr),+; $($option:tt)*) => {{
                let loss = match reduction {
                    Reduction::Sum => $loss::sum($($given),+),
                    Reduction::Mean => $loss::mean($($given),+),
                    Reduction::MeanOverSequences => $loss::mean_over_sequences($($given),+),
                };
                match mask {
                    Some(mask) => Box::new(loss$($option)*.with_mask(mask)),
                    None => Box::new(loss$($option)*),
                }
            }};
        }
        match self {
            Self::Softmax => reduced!(SoftmaxCrossEntropy, classes;),
            Self::Smoothed => reduced!(SoftmaxCrossEntropy, classes;
                .with_label_smoothing(SMOOTHING)
                .unwrap()
                .with_class_weights(&CLASS_WEIGHTS)
                .unwrap()),
            Self::Logistic => reduced!(LogisticCrossEntropy, values;),
            Self::WeightedLogistic => reduced!(LogisticCrossEntropy, values;
                .with_positive_weight(POSITIVE_WEIGHT)
                .unwrap()),
            Self::Squared => reduced!(SquaredError, values;),
            Self::Absolute => reduced!(AbsoluteError, values;),
            Self::Huber => reduced!(Huber, values; .with_delta(DELTA).unwrap()),
            Self::Gaussian => reduced!(GaussianNll, values;),
            Self::Mixture => reduced!(GaussianMixture, values; .with_components(2).unwrap()),
            Self::Strokes => reduced!(GaussianMixture, values;
                .with_components(2)
                .unwrap()
                .with_stroke_end()),
            Self::Ctc => reduced!(Ctc, labels, label_lengths; .with_blank(BLANK)),
            Self::Signal => reduced!(ErrorToSignal, values; .with_epsilon(EPSILON).unwrap()),
            Self::FilteredSignal => reduced!(ErrorToSignal, values;
                .with_epsilon(EPSILON)
                .unwrap()
                .with_pre_emphasis(EMPHASIS)
                .unwrap()
                .with_dc()),
        }
    }

    /// The loss of a row in f64, and what stands for the number of its elements.
    fn of_row(self, y: &[f64], own: &Own, row: usize) -> (f64, f64) {
        let width = self.width();
        let targets = widen(&own.values[row * width..][..width]);
        let each = |of: &dyn Fn(f64, f64) -> f64| {
            let sum = y.iter().zip(&targets).map(|(&y, &t)| of(y, t)).sum();
            (sum, width as f64)
        };
        match self {
            Self::Softmax => {
                (losses::cross_entropy(y, own.classes[row] as usize, 0.0, &[1.0; 5]), 1.0)
            }
            Self::Smoothed => {
                let (class, weights) = (own.classes[row] as usize, widen(&CLASS_WEIGHTS));
                (losses::cross_entropy(y, class, SMOOTHING.into(), &weights), weights[class])
            }
            Self::Logistic => each(&|y, t| losses::logistic(y, t, 1.0)),
            Self::WeightedLogistic => each(&|y, t| losses::logistic(y, t, POSITIVE_WEIGHT.into())),
            Self::Squared => each(&losses::squared),
            Self::Absolute => each(&losses::absolute),
            Self::Huber => each(&|y, t| losses::huber(y, t, DELTA.into())),
            Self::Gaussian => {
                let each = targets.iter().enumerate();
                (each.map(|(d, &t)| losses::gaussian(y[d], y[2 + d], t)).sum(), 2.0)
            }
            Self::Mixture | Self::Strokes => (losses::mixture(y, &targets, 2), 1.0),
            Self::Ctc | Self::Signal | Self::FilteredSignal => unreachable!("it has no rows"),
        }
    }

    /// The loss of sequences in f64. `is_masked` says whether their masks are used.
    pub fn reference(
        self,
        y: &[Vec<f64>],
        owns: &[Own],
        is_masked: bool,
        reduction: Reduction,
    ) -> f64 {
        let counts = |own: &Own, row: usize| !is_masked || own.mask[row];
        let kept = |own: &Own, values: &[f64], width: usize| -> Vec<f64> {
            let rows = values.chunks(width).enumerate().filter(|(row, _)| counts(own, *row));
            rows.flat_map(|(_, values)| values.to_vec()).collect()
        };
        let sequences = owns.len() as f64;
        if self.is_of_rows() {
            let rows = y.iter().zip(owns).flat_map(|(y, own)| {
                let rows = y.chunks(self.outputs()).enumerate();
                rows.filter(|(row, _)| counts(own, *row)).map(|(row, y)| self.of_row(y, own, row))
            });
            let (sum, weight) = rows.fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
            return match reduction {
                Reduction::Sum => sum,
                Reduction::Mean => sum / weight,
                Reduction::MeanOverSequences => sum / sequences,
            };
        }
        if self == Self::Ctc {
            let each = y.iter().zip(owns).map(|(y, own)| {
                let y = kept(own, y, 3);
                if y.is_empty() {
                    return 0.0;
                }
                let labels: Vec<usize> = own.labels.iter().map(|&label| label as usize).collect();
                let loss = losses::ctc(&y, 3, &labels, BLANK as usize);
                match reduction {
                    Reduction::Sum => loss,
                    Reduction::Mean => loss / labels.len().max(1) as f64 / sequences,
                    Reduction::MeanOverSequences => loss / sequences,
                }
            });
            return each.sum();
        }
        let of = Comparison {
            epsilon: EPSILON.into(),
            pre_emphasis: if self == Self::Signal { 0.0 } else { EMPHASIS.into() },
            has_dc: self == Self::FilteredSignal,
        };
        let y: Vec<_> = y.iter().zip(owns).map(|(y, own)| kept(own, y, 2)).collect();
        let t: Vec<_> = owns.iter().map(|own| kept(own, &widen(&own.values), 2)).collect();
        let [y, t] = [&y, &t].map(|all| all.iter().map(Vec::as_slice).collect::<Vec<&[f64]>>());
        if reduction == Reduction::Mean {
            return losses::error_to_signal(&y, &t, 2, of);
        }
        let each = y.iter().zip(&t).filter(|(y, _)| !y.is_empty());
        let sum: f64 = each.map(|(y, t)| losses::error_to_signal(&[y], &[t], 2, of)).sum();
        if reduction == Reduction::Sum { sum } else { sum / sequences }
    }
}
