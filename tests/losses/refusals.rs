//! What losses refuse, and that nothing is written then.

use crate::common::{length, value};
use bptt::{
    Ctc, Error, ErrorToSignal, GaussianMixture, GaussianNll, Huber, LogisticCrossEntropy, Loss,
    Outputs, Runtime, SoftmaxCrossEntropy, SquaredError, TargetRows,
};

const INFINITE: f32 = f32::INFINITY;

/// The loss refuses two rows of `size` outputs before a pass and within one, which writes nothing.
#[track_caller]
fn refused(loss: &dyn Loss, size: usize, expected: &Error) {
    assert_eq!(&loss.check(TargetRows::all(2), size).unwrap_err(), expected);
    let runtime = Runtime::best().unwrap();
    let mut y = vec![0.5; 2 * size];
    assert_eq!(&loss.value(runtime, Outputs::new(&mut y, size)).unwrap_err(), expected);
    assert_eq!(&loss.gradient(runtime, Outputs::new(&mut y, size)).unwrap_err(), expected);
    assert_eq!(y, vec![0.5; 2 * size]);
}

#[test]
fn targets_and_masks_that_do_not_fit() {
    let short = [false; 1];
    let mask = length("mask", 1, 2);
    refused(&SoftmaxCrossEntropy::mean(&[0]), 3, &length("classes", 1, 2));
    refused(&SoftmaxCrossEntropy::mean(&[0, 0]).with_mask(&short), 3, &mask);
    refused(&SquaredError::mean(&[0.0; 5]), 3, &length("targets", 5, 6));
    refused(&SquaredError::mean(&[0.0; 6]).with_mask(&short), 3, &mask);
    refused(&GaussianNll::mean(&[0.0; 6]), 4, &length("targets", 6, 4));
    refused(&ErrorToSignal::mean(&[0.0; 3]), 2, &length("targets", 3, 4));
    refused(&ErrorToSignal::mean(&[0.0; 4]).with_mask(&short), 2, &mask);
    refused(&Ctc::sum(&[1, 2], &[1, 1]), 3, &length("lengths", 2, 1));
    refused(&Ctc::sum(&[1, 2], &[1]), 3, &length("labels", 2, 1));
    refused(&Ctc::sum(&[1], &[1]).with_mask(&short), 3, &mask);
}

#[test]
fn targets_out_of_range() {
    let classes = [0, 3];
    refused(
        &SoftmaxCrossEntropy::sum(&classes),
        3,
        &Error::Target { row: 1, given: 3, outputs: 3 },
    );
    let not_finite = |given| value("target", given, "finite");
    refused(&SquaredError::sum(&[0.0, f32::NAN]), 1, &not_finite("NaN in row 1"));
    refused(&Huber::sum(&[INFINITE, 0.0]), 1, &not_finite("inf in row 0"));
    refused(&GaussianNll::sum(&[0.0, -INFINITE]), 2, &not_finite("-inf in row 1"));
    refused(&ErrorToSignal::sum(&[0.0, f32::NAN]), 1, &not_finite("NaN in row 1"));
    for wrong in [-0.5, 1.5, f32::NAN] {
        let given = format!("{wrong} in row 0");
        refused(&LogisticCrossEntropy::sum(&[wrong, 0.0]), 1, &value("target", &given, "0 to 1"));
    }
    let strokes = [0.0, 0.0, 0.0, 0.0, 0.0, 0.5];
    let loss = GaussianMixture::sum(&strokes).with_stroke_end();
    let expected = "0 or 1, whether a stroke ends";
    refused(&loss, 7, &value("target", "0.5 in row 1", expected));
    for wrong in [0, 3, u32::MAX] {
        let expected =
            value("label", &format!("{wrong} in sequence 0"), "below 3 and not 0, the blank");
        refused(&Ctc::sum(&[wrong], &[1]), 3, &expected);
    }
    // What a mask leaves out is not read.
    let mask = [true, false];
    for (loss, size) in [
        (&SoftmaxCrossEntropy::sum(&classes).with_mask(&mask) as &dyn Loss, 3),
        (&SquaredError::sum(&[0.0, f32::NAN]).with_mask(&mask), 1),
        (&ErrorToSignal::sum(&[0.0, f32::NAN]).with_mask(&mask), 1),
    ] {
        loss.check(TargetRows::all(2), size).unwrap();
    }
}

#[test]
fn outputs_of_another_width() {
    refused(
        &GaussianNll::mean(&[0.0; 2]),
        3,
        &value("outputs", "3", "even: means and log-variances"),
    );
    let mixture = GaussianMixture::mean(&[0.0; 4]).with_components(2).unwrap();
    refused(&mixture, 13, &value("outputs", "13", "6 · 2, for 2 components"));
    let strokes = mixture.with_stroke_end();
    refused(&strokes, 12, &value("outputs", "12", "6 · 2 + 1, for 2 components"));
    refused(&Ctc::sum(&[], &[0]).with_blank(3), 3, &value("blank", "3", "below 3, the outputs"));
    let (weights, classes) = ([1.0; 2], [0, 1]);
    let loss = SoftmaxCrossEntropy::sum(&classes).with_class_weights(&weights).unwrap();
    refused(&loss, 3, &length("class weights", 2, 3));
}

#[test]
fn options_out_of_range() {
    let (classes, targets) = ([0], [0.0]);
    let entropy = || SoftmaxCrossEntropy::sum(&classes);
    for wrong in [-0.1, 1.1, f32::NAN] {
        let expected = value("label smoothing", &wrong.to_string(), "0 to 1");
        assert_eq!(entropy().with_label_smoothing(wrong).unwrap_err(), expected);
    }
    for wrong in [-1.0, INFINITE, f32::NAN] {
        let given = wrong.to_string();
        let expected =
            value("class weight", &format!("{given} of class 1"), "0 or more and finite");
        assert_eq!(entropy().with_class_weights(&[0.0, wrong]).unwrap_err(), expected);
        let expected = value("positive weight", &given, "0 or more and finite");
        let loss = LogisticCrossEntropy::sum(&targets).with_positive_weight(wrong);
        assert_eq!(loss.unwrap_err(), expected);
        let expected = value("epsilon", &given, "0 or more and finite");
        assert_eq!(ErrorToSignal::sum(&targets).with_epsilon(wrong).unwrap_err(), expected);
    }
    for wrong in [0.0, -1.0, INFINITE, f32::NAN] {
        let given = wrong.to_string();
        let expected = value("delta", &given, "above 0 and finite");
        assert_eq!(Huber::sum(&targets).with_delta(wrong).unwrap_err(), expected);
        let expected = value("least variance", &given, "above 0 and finite");
        assert_eq!(GaussianNll::sum(&targets).with_least_variance(wrong).unwrap_err(), expected);
    }
    for wrong in [-1.5, 1.5, f32::NAN] {
        let expected = value("pre-emphasis", &wrong.to_string(), "-1 to 1");
        assert_eq!(ErrorToSignal::sum(&targets).with_pre_emphasis(wrong).unwrap_err(), expected);
    }
    let expected = value("components", "0", "1 or more");
    assert_eq!(GaussianMixture::sum(&targets).with_components(0).unwrap_err(), expected);
}

/// Clamped variances and the gradient there, and a silent target.
#[test]
fn bounds_that_are_said() {
    let runtime = Runtime::best().unwrap();
    let mut y = [1.0, -50.0];
    let loss = GaussianNll::sum(&[3.0]).with_least_variance(0.25).unwrap();
    let value = loss.gradient(runtime, Outputs::new(&mut y, 2)).unwrap();
    let expected = 0.5 * (std::f64::consts::TAU.ln() + 0.25f64.ln() + 4.0 / 0.25);
    assert!((value - expected).abs() < 1e-12);
    assert_eq!(y, [-8.0, -7.5]);
    for (epsilon, expected) in [(0.0, 0.0), (0.5, 2.0)] {
        let loss = ErrorToSignal::mean(&[0.0; 3]).with_epsilon(epsilon).unwrap().with_dc();
        let mut y = [1.0, -1.0, 1.0];
        let value = loss.gradient(runtime, Outputs::new(&mut y, 1)).unwrap();
        let dc = if epsilon == 0.0 { 0.0 } else { 2.0 / 9.0 };
        assert!((value - expected - dc).abs() < 1e-12, "{value}");
        assert!(y.iter().all(|dy| dy.is_finite() && (epsilon > 0.0 || *dy == 0.0)));
    }
}
