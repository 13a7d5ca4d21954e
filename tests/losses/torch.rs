//! What PyTorch computes in f64, which `tests/data` says more about.

use crate::common::isas;
use crate::file::{Case, File};
use crate::placed::Placed;
use crate::{U, assert_near, data_file};
use bptt::{
    AbsoluteError, Ctc, GaussianMixture, GaussianNll, Huber, LogisticCrossEntropy, Loss, Outputs,
    Runtime, Schedule, SoftmaxCrossEntropy, SquaredError,
};

/// A value and a gradient of PyTorch.
struct Theirs {
    value: f64,
    gradient: Vec<f64>,
}

impl Theirs {
    fn of(case: &Case, value: &str, gradient: &str) -> Self {
        Self { value: case.result(value)[0], gradient: case.result(gradient) }
    }

    /// Compares with ours, which rounds some 20 numbers to f32, none of which is larger than `most`.
    fn compare(&self, what: &str, value: f64, gradient: &[f32], most: f64) {
        let bound = 30.0 * U * (1.0 + self.value.abs());
        assert_near(what, value, self.value, bound);
        assert_eq!(gradient.len(), self.gradient.len());
        for (at, (&given, &expected)) in gradient.iter().zip(&self.gradient).enumerate() {
            let bound = 20.0 * U * most;
            assert_near(&format!("gradient {at}, {what}"), given.into(), expected, bound);
        }
    }
}

fn most(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Compares a loss of rows of both reductions: the sum, then the mean.
fn of_rows(case: &Case, name: &str, losses: [&dyn Loss; 2]) {
    let y = case.given(&format!("{name}.y"));
    let size = case.width(&format!("{name}.y"));
    for (loss, reduction) in losses.into_iter().zip(["sum", "mean"]) {
        let name = format!("{name}.{reduction}");
        let theirs = Theirs::of(case, &name, &format!("{name}.grad"));
        for &isa in isas() {
            let (mut y, runtime) = (y.clone(), Runtime::new(isa));
            let value = loss.gradient(runtime, Outputs::new(&mut y, size)).unwrap();
            let what = format!("{case:?} {name}, {isa}");
            // Terms of a gradient are at most 5 times larger than the largest gradient here.
            theirs.compare(&what, value, &y, 5.0 * most(&theirs.gradient));
        }
    }
}

#[test]
fn losses_of_rows() {
    let file = data_file!("torch_losses");
    for case in file.cases() {
        let classes: Vec<u32> = case.indices("classes").iter().map(|&k| k as u32).collect();
        let (weights, smoothing) = (case.given("class_weights"), case.given("smoothing")[0]);
        let entropy = [SoftmaxCrossEntropy::sum(&classes), SoftmaxCrossEntropy::mean(&classes)];
        let smoothed = entropy.map(|loss| loss.with_label_smoothing(smoothing).unwrap());
        let weighted = entropy.map(|loss| loss.with_class_weights(&weights).unwrap());
        let both = smoothed.map(|loss| loss.with_class_weights(&weights).unwrap());
        of_rows(&case, "smoothed", smoothed.each_ref().map(|loss| loss as &dyn Loss));
        of_rows(&case, "weighted", weighted.each_ref().map(|loss| loss as &dyn Loss));
        of_rows(&case, "both", both.each_ref().map(|loss| loss as &dyn Loss));

        let (shares, weight) = (case.given("shares"), case.given("positive_weight")[0]);
        let logistic = [LogisticCrossEntropy::sum(&shares), LogisticCrossEntropy::mean(&shares)];
        of_rows(&case, "logistic", logistic.each_ref().map(|loss| loss as &dyn Loss));
        let weighted = logistic.map(|loss| loss.with_positive_weight(weight).unwrap());
        of_rows(&case, "logistic_weighted", weighted.each_ref().map(|loss| loss as &dyn Loss));

        let (values, delta) = (case.given("values"), case.given("delta")[0]);
        let [sum, mean] =
            [Huber::sum(&values), Huber::mean(&values)].map(|loss| loss.with_delta(delta).unwrap());
        of_rows(&case, "huber", [&sum, &mean]);
        of_rows(&case, "absolute", [&AbsoluteError::sum(&values), &AbsoluteError::mean(&values)]);
        of_rows(&case, "squared", [&SquaredError::sum(&values), &SquaredError::mean(&values)]);
        of_rows(&case, "gaussian", [&GaussianNll::sum(&values), &GaussianNll::mean(&values)]);
    }
}

#[test]
fn mixtures() {
    let file = data_file!("torch_mixture");
    for case in file.cases() {
        let (mut y, points, size) = (case.given("y"), case.given("points"), case.width("y"));
        let loss = GaussianMixture::sum(&points).with_components(size / 6).unwrap();
        let theirs = Theirs::of(&case, "sum", "grad");
        let runtime = Runtime::best().unwrap();
        let outputs = Outputs::new(&mut y, size);
        let value = loss.with_stroke_end().gradient(runtime, outputs).unwrap();
        // Ours are in f64 until the gradient is rounded. Theirs cancel in 1 − ρ².
        assert_near(&format!("{case:?}"), value, theirs.value, 1e-10 * (1.0 + theirs.value));
        theirs.compare(&format!("{case:?}"), value, &y, most(&theirs.gradient));
    }
}

#[test]
fn connectionist_temporal_classification() {
    let file = data_file!("torch_ctc");
    for case in file.cases() {
        let (y, size) = (case.given("y"), case.width("y"));
        let (steps, batch) = case.steps_and_batch("y");
        let (lengths, label_lengths) = (case.lengths(), case.indices("label_lengths"));
        let labels: Vec<u32> = case.indices("labels").iter().map(|&k| k as u32).collect();
        let blank = case.indices("blank")[0] as u32;
        let schedule = Schedule::padded(&lengths, steps).unwrap();
        let layout = crate::common::Layout::TimeMajor(steps);
        let rows = Placed::new(layout, &lengths, &[]).pass;
        for reduction in ["sum", "mean"] {
            let theirs = Theirs::of(&case, reduction, &format!("{reduction}.grad"));
            let loss = match reduction {
                "sum" => Ctc::sum(&labels, &label_lengths),
                _ => Ctc::mean(&labels, &label_lengths),
            };
            let loss = loss.with_blank(blank).with_zero_infinity();
            for &isa in isas() {
                let mut ours = vec![0.0; schedule.rows() * size];
                let at = |n: usize, step: usize| (step * batch + n) * size;
                for (n, rows) in rows.iter().enumerate() {
                    for (step, row) in rows.iter().enumerate() {
                        ours[row * size..][..size].copy_from_slice(&y[at(n, step)..][..size]);
                    }
                }
                let outputs = Outputs::of(&schedule, &mut ours, size);
                let value = loss.gradient(Runtime::new(isa), outputs).unwrap();
                let mut padded = vec![0.0; y.len()];
                for (n, rows) in rows.iter().enumerate() {
                    for (step, row) in rows.iter().enumerate() {
                        padded[at(n, step)..][..size].copy_from_slice(&ours[row * size..][..size]);
                    }
                }
                theirs.compare(&format!("{case:?} {reduction}, {isa}"), value, &padded, 1.0);
            }
        }
    }
}

/// The files have what the tests say that they have.
#[test]
fn some_sequence_has_no_path_and_some_no_label() {
    let file: File = data_file!("torch_ctc");
    let (mut short, mut empty) = (0, 0);
    for case in file.cases() {
        let (lengths, labels) = (case.lengths(), case.indices("label_lengths"));
        short += lengths.iter().zip(&labels).filter(|(len, labels)| labels > len).count();
        empty += labels.iter().filter(|&&labels| labels == 0).count();
    }
    assert!(short >= 3 && empty >= 3, "{short}, {empty}");
}
