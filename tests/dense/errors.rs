//! Every typed error, and that nothing is written when one is returned.

use crate::case::{Case, Targets};
use bptt::{
    Accumulate, Dense, Error, Format, Input, InputSize, Isa, Model, Network, Runtime, Schedule,
    Tokens, Workspace,
};
use bptt_kernels::KernelError;
use bptt_kernels::softmax::{CrossEntropy, softmax};
use bptt_reference::readout::Reduction;

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

/// A model of a dense layer whose parameters are zero.
fn zeros(inputs: usize, outputs: usize, runtime: Runtime) -> Model {
    let network = Network::new(Dense::new(inputs, outputs).unwrap());
    network.model(network.parameters().unwrap(), runtime).unwrap()
}

#[test]
fn sizes_are_checked() {
    let runtime = Runtime::best().unwrap();
    let value =
        |what| move |error: &Error| matches!(error, Error::Value { what: w, .. } if *w == what);
    assert!(value("input_size")(&Dense::new(0, 1).unwrap_err()));
    assert!(value("output_size")(&Dense::new(1, 0).unwrap_err()));
    for (inputs, outputs) in [(usize::MAX, 1), (1, usize::MAX), (1 << 40, 1 << 40)] {
        let error = Dense::new(inputs, outputs).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
    let mut model = zeros(3, 2, runtime);
    for (schedule, what) in [(Schedule::dense(0, 1), "steps"), (Schedule::dense(1, 0), "batch")] {
        assert!(value(what)(&model.training(&schedule).bytes().unwrap_err()));
        assert!(value(what)(&model.training_workspace(&schedule).unwrap_err()));
    }
    assert!(value("batch")(&model.stream(0).unwrap_err()));
    for rows in [usize::MAX, usize::MAX / 3, isize::MAX as usize / 8] {
        for schedule in [Schedule::dense(rows, 1), Schedule::dense(1, rows)] {
            let error = model.training(&schedule).bytes().unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{error}");
            let error = model.training_workspace(&schedule).unwrap_err();
            assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        }
    }
    let rows = Schedule::dense(isize::MAX as usize / 16, 1);
    let error = model.training_workspace(rows).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    // The input alone would not fit the address space.
    let mut wide = zeros(64, 1, runtime);
    let error = wide.training(Schedule::dense(1 << (usize::BITS - 6), 1)).bytes().unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let network = Network::new(Dense::new(1 << 30, 1 << 29).unwrap());
    let error = network.parameters().unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
}

/// A method of a model that takes a loss.
type Taken = fn(&Model, &mut Workspace, Input<'_>, Targets<'_>) -> Result<f64, Error>;

/// Evaluation, gradients, and the gradients of an earlier forward pass.
const TAKEN: [Taken; 3] = [
    |model, workspace, x, targets| model.evaluate(workspace, x, &targets.loss()),
    |model, workspace, x, targets| model.gradients(workspace, x, &targets.loss(), Accumulate::Yes),
    |model, workspace, x, targets| model.backward(workspace, x, &targets.loss(), Accumulate::Yes),
];

/// Every wrong argument of every pass, one at a time; none of these calls writes anything.
#[test]
fn what_does_not_fit_is_an_error_and_nothing_is_written() {
    let isa = Isa::best().unwrap();
    let mut case = Case::new(isa, (4, 3, 5), 1);
    let o = case.outputs();
    let mut other = Case::new(isa, (4, 3, 6), 1);
    other.outputs();
    let Case { model, workspace, x, classes, .. } = &mut case;
    workspace.gradients_mut().as_mut_slice().fill(7.0);
    let targets = Targets { classes, mask: None, reduction: Reduction::Sum };
    let untouched = |workspace: &Workspace| {
        assert_eq!(workspace.outputs().unwrap(), o);
        assert!(workspace.gradients().as_slice().iter().all(|&g| g == 7.0));
    };

    let length = |what, given, expected| Err(Error::Length { what, given, expected });
    let forward = |workspace: &mut Workspace, x: Input<'_>| model.forward(workspace, x).map(|_| ());
    assert_eq!(forward(workspace, x[1..].into()), length("x", 11, 12));
    assert_mismatch(forward(workspace, Tokens(&[0; 4]).into()), "input");
    assert_mismatch(forward(&mut other.workspace, (&x[..]).into()), "workspace");
    untouched(workspace);
    other.workspace.outputs().unwrap();

    for taken in TAKEN {
        let mut loss = |x: &[f32], targets| taken(model, workspace, x.into(), targets);
        assert_eq!(loss(&x[1..], targets).map(|_| ()), length("x", 11, 12));
        let short = Targets { classes: &targets.classes[1..], ..targets };
        assert_eq!(loss(x, short).map(|_| ()), length("classes", 3, 4));
        let mask = Targets { mask: Some(&[true; 5]), ..targets };
        assert_eq!(loss(x, mask).map(|_| ()), length("mask", 5, 4));
        let wrong = Targets { classes: &[0, 4, 5, 6], ..targets };
        let error = Error::Target { row: 2, given: 5, outputs: 5 };
        assert_eq!(loss(x, wrong), Err(error));
        let error = Error::Target { row: 3, given: 6, outputs: 5 };
        let wrong = Targets { mask: Some(&[true, true, false, true]), ..wrong };
        assert_eq!(loss(x, wrong), Err(error));
        assert_mismatch(taken(model, workspace, Tokens(&[0; 4]).into(), targets), "input");
        assert_mismatch(taken(model, &mut other.workspace, (&x[..]).into(), targets), "workspace");
        untouched(workspace);
    }
    // After all of these the earlier pass is still there.
    model.backward(workspace, &*x, &targets.loss(), Accumulate::No).unwrap();
}

/// A backward pass needs a forward pass with the same parameters, and uses it up.
#[test]
fn passes_have_an_order() {
    let mut case = Case::new(Isa::best().unwrap(), (4, 3, 5), 1);
    let Case { model, workspace, x, classes, .. } = &mut case;
    let loss = Targets { classes, mask: None, reduction: Reduction::Sum }.loss();
    workspace.gradients_mut().as_mut_slice().fill(7.0);
    let refused = |model: &Model, workspace: &mut Workspace| {
        let result = model.backward(workspace, &*x, &loss, Accumulate::No);
        assert!(matches!(result, Err(Error::Order { call: "backward", .. })), "{result:?}");
        assert!(workspace.gradients().as_slice().iter().all(|&g| g == 7.0));
    };
    refused(model, workspace);
    model.evaluate(workspace, &*x, &loss).unwrap();
    refused(model, workspace);
    model.forward(workspace, &*x).unwrap();
    model.change(|_| Ok::<(), Error>(())).unwrap();
    refused(model, workspace);
    model.gradients(workspace, &*x, &loss, Accumulate::No).unwrap();
    workspace.gradients_mut().as_mut_slice().fill(7.0);
    refused(model, workspace);

    // Gradients that have not been planned.
    let mut workspace = model.training_workspace(Schedule::dense(4, 1)).unwrap();
    model.gradients(&mut workspace, &*x, &loss, Accumulate::No).unwrap();
    let order = workspace.input_gradients().unwrap_err();
    assert!(matches!(order, Error::Order { call: "input_gradients", .. }), "{order}");
    let order = workspace.state_gradients().unwrap_err();
    assert!(matches!(order, Error::Order { call: "state_gradients", .. }), "{order}");
}

#[test]
fn what_is_of_another_model_is_refused() {
    let isa = Isa::best().unwrap();
    let (mut case, other) = (Case::new(isa, (4, 3, 5), 1), Case::new(isa, (4, 3, 6), 1));
    let network = case.model.network();
    assert_eq!((network.input(), network.output_size()), (InputSize::Features(3), 5));
    let runtime = Runtime::new(isa);
    assert_mismatch(network.model(other.model.parameters().clone(), runtime), "parameters");
    let before = case.outputs();
    let elsewhere = Isa::available().iter().filter(|&&another| another != isa);
    let runtimes = elsewhere.map(|&another| Runtime::new(another)).chain([runtime.threads(2)]);
    for another in runtimes {
        let model = case.model.network().model(case.model.parameters().clone(), another).unwrap();
        assert_eq!(model.runtime(), another);
        assert_mismatch(model.forward(&mut case.workspace, &case.x), "workspace");
    }
    assert_eq!(case.workspace.outputs().unwrap(), before);
    // Weights in fewer bits have no backward pass.
    for format in [Format::Bf16, Format::Int8] {
        let mut narrow = case.model.quantised(format).unwrap();
        assert_mismatch(narrow.training_workspace(Schedule::dense(4, 1)), "weights");
    }
}

#[track_caller]
fn assert_mismatch<T: std::fmt::Debug>(result: Result<T, Error>, name: &str) {
    match result {
        Err(Error::Mismatch { what, .. }) if what == name => {}
        other => panic!("{other:?} instead of a mismatch of the {name}"),
    }
}
