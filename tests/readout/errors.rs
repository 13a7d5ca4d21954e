//! Every typed error, and that nothing is written where one is returned.

use crate::case::Case;
use bptt::{
    Accumulate, Error, Isa, Purpose, Readout, ReadoutArena, ReadoutGradients, ReadoutPlan,
    ReadoutWeights, Reduction, Targets,
};
use bptt_kernels::KernelError;
use bptt_kernels::softmax::{CrossEntropy, softmax};

#[test]
fn the_kernels_refuse_what_does_not_fit() {
    let isa = Isa::best().unwrap();
    let error = CrossEntropy::new(0, &[], None).unwrap_err();
    assert!(matches!(error, KernelError::Dimension { what: "classes", .. }), "{error}");
    let error = CrossEntropy::new(3, &[0, 1], Some(&[true])).unwrap_err();
    assert_eq!(error, KernelError::Length { what: "mask", given: 1, expected: 2 });
    let error = CrossEntropy::new(3, &[0, 3], None).unwrap_err();
    assert_eq!(error, KernelError::Target { row: 1, given: 3, classes: 3 });
    let entropy = CrossEntropy::new(3, &[0, 1], None).unwrap();
    let mut o = [1.0; 5];
    let expected = KernelError::Length { what: "logits", given: 5, expected: 6 };
    assert_eq!(entropy.loss(isa, &o), Err(expected.clone()));
    assert_eq!(entropy.gradient(isa, 1.0, &mut o), Err(expected));
    for classes in [0, 2] {
        let error = softmax(isa, classes, &mut o).unwrap_err();
        assert!(matches!(error, KernelError::Dimension { what: "classes", .. }), "{error}");
    }
    assert_eq!(o, [1.0; 5]);
}

#[test]
fn sizes_are_checked() {
    let isa = Isa::best().unwrap();
    let value =
        |what| move |error: &Error| matches!(error, Error::Value { what: w, .. } if *w == what);
    assert!(value("input_size")(&Readout::new(0, 1).unwrap_err()));
    assert!(value("output_size")(&Readout::new(1, 0).unwrap_err()));
    for (inputs, outputs) in [(usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 40)] {
        let error = Readout::new(inputs, outputs).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    let readout = Readout::new(3, 2).unwrap();
    assert!(value("rows")(&readout.plan(0, isa).unwrap_err()));
    for rows in [usize::MAX, usize::MAX / 3, isize::MAX as usize / 8] {
        let error = readout.plan(rows, isa).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    let error = readout.plan(isize::MAX as usize / 16, isa).unwrap().allocate().unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    let error = Readout::new(1 << 30, 1 << 29).unwrap().parameters().unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

/// Every wrong argument of every pass, one at a time; none of them is written to.
#[test]
fn what_does_not_fit_is_an_error_and_nothing_is_written() {
    let isa = Isa::best().unwrap();
    let mut case = Case::new(isa, (4, 3, 5), 1);
    let (_, d_o) = case.loss(true, Reduction::Mean);
    let mut other = Case::new(isa, (4, 3, 6), 1);
    let inference = case.readout.pack(&case.parameters, Purpose::Inference, isa).unwrap();
    let Case { readout, parameters, h, classes, weights, plan, arena, .. } = &mut case;
    let targets = Targets { classes, mask: None, reduction: Reduction::Sum };

    let mut o = vec![7.0; 4 * 5];
    let length = |what, given, expected| Err(Error::Length { what, given, expected });
    assert_eq!(plan.forward(weights, &h[1..], &mut o, arena), length("h", 11, 12));
    assert_eq!(plan.forward(weights, h, &mut o[1..], arena), length("o", 19, 20));
    assert_mismatch(plan.forward(&other.weights, h, &mut o, arena), "readout weights");
    assert_eq!(o, [7.0; 20]);

    for evaluate in [false, true] {
        let loss = |weights: &ReadoutWeights, h: &[f32], targets, arena: &mut ReadoutArena| {
            let pass = if evaluate { ReadoutPlan::evaluate } else { ReadoutPlan::loss };
            pass(plan, weights, h, targets, arena).map(|_| ())
        };
        assert_eq!(loss(weights, &h[1..], targets, arena), length("h", 11, 12));
        let short = Targets { classes: &targets.classes[1..], ..targets };
        assert_eq!(loss(weights, h, short, arena), length("classes", 3, 4));
        let mask = Targets { mask: Some(&[true; 5]), ..targets };
        assert_eq!(loss(weights, h, mask, arena), length("mask", 5, 4));
        let wrong = Targets { classes: &[0, 4, 5, 6], ..targets };
        let error = Error::Target { row: 2, given: 5, outputs: 5 };
        assert_eq!(loss(weights, h, wrong, arena), Err(error));
        let error = Error::Target { row: 3, given: 6, outputs: 5 };
        let wrong = Targets { mask: Some(&[true, true, false, true]), ..wrong };
        assert_eq!(loss(weights, h, wrong, arena), Err(error));
        assert_mismatch(loss(&other.weights, h, targets, arena), "readout weights");
        assert_mismatch(loss(weights, h, targets, &mut other.arena), "arena");
        assert_eq!(arena.output_gradients().unwrap(), d_o);
    }

    let mut gradients = readout.parameters().unwrap();
    gradients.as_mut_slice().fill(7.0);
    let mut other_gradients = other.readout.parameters().unwrap();
    let mut dh = vec![7.0; 12];
    let mut backward = |weights, h: &[f32], arena: &mut ReadoutArena, skip: usize| {
        let dh = Some(&mut dh[skip..]);
        let to = ReadoutGradients { parameters: &mut gradients, accumulate: Accumulate::No, dh };
        plan.backward(weights, h, arena, to)
    };
    assert_eq!(backward(weights, &h[1..], arena, 0), length("h", 11, 12));
    assert_eq!(backward(weights, h, arena, 1), length("dh", 11, 12));
    assert_mismatch(backward(&other.weights, h, arena, 0), "readout weights");
    assert_mismatch(backward(&inference, h, arena, 0), "readout weights");
    assert_mismatch(backward(weights, h, &mut other.arena, 0), "arena");
    let order = backward(weights, h, &mut plan.allocate().unwrap(), 0);
    assert!(matches!(order, Err(Error::Order { call: "backward", .. })), "{order:?}");
    assert!(gradients.as_slice().iter().chain(&dh).all(|&g| g == 7.0));
    let to = ReadoutGradients::of(&mut other_gradients, Accumulate::No);
    assert_mismatch(plan.backward(weights, h, arena, to), "parameter gradients");
    assert!(other_gradients.as_slice().iter().all(|&g| g == 0.0));
    let to = ReadoutGradients::of(&mut gradients, Accumulate::No);
    plan.backward(&inference, h, arena, to).unwrap();

    assert_mismatch(weights.update(&other.parameters), "parameters");
    let purpose = Purpose::Inference;
    assert_mismatch(readout.pack(&other.parameters, purpose, isa), "parameters");
    let before = o.clone();
    for &another in Isa::available().iter().filter(|&&another| another != isa) {
        let weights = readout.pack(parameters, purpose, another).unwrap();
        assert_eq!(weights.isa(), another);
        assert_mismatch(plan.forward(&weights, h, &mut o, arena), "readout weights");
    }
    assert_eq!(o, before);
}

#[track_caller]
fn assert_mismatch<T: std::fmt::Debug>(result: Result<T, Error>, name: &str) {
    match result {
        Err(Error::Mismatch { what, .. }) if what == name => {}
        other => panic!("{other:?} instead of a mismatch of the {name}"),
    }
}
