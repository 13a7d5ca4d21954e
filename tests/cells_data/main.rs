//! Every cell that PyTorch or ONNX has too, against their results: the files of `tests/data`, whose
//! README says how they were made. Needs neither library.
//!
//! Two comparisons are kept apart. The library's `f64` results and the reference's agree up to the
//! rounding of `f64`, so the equations are the same; and an `f32` pass is as near to the library's
//! results as the reference, run over intervals, says that it must be.

#[path = "../common/mod.rs"]
mod common;
mod coupled;
mod file;
mod ragged;
mod theirs;

use bptt::{Activation, Candidate, Reset};
use bptt_reference::cells::{Inputs, Outcome};
use bptt_reference::{Bounded, bounds};
use common::{Data, Kind, Layout, Options, Rig, Subject, isas, say};
use file::{Case, File};
use theirs::{Biases, Theirs};

/// A bound this wide would find no fault.
const LOOSEST: f64 = 1e-3;

/// The unit roundoff of `f64` divided by that of `f32`, and so the ratio of the errors.
const F64_OVER_F32: f64 = 1.0 / (1u64 << 29) as f64;

/// The most by which two `f64` passes may differ: each has at most 2⁻²⁹ of the error that the
/// widest bound allows `f32`. It is the same for all elements, since a library may write an
/// equation in another way, with a bound of its own.
const AGREEMENT: f64 = 2.0 * F64_OVER_F32 * LOOSEST;

/// The results of a pass that a library has too, in the order of [`Theirs::parts`].
type Parts<T> = [(&'static str, Vec<T>); 7];

fn parts<T: Clone>(pass: &Outcome<Vec<T>>, given: &Inputs<Vec<f32>>) -> Parts<T> {
    let last = |all: &[T], len: usize| all[all.len() - len..].to_vec();
    [
        ("h", pass.h.clone()),
        ("h_last", last(&pass.h, given.h0.len())),
        ("c_last", last(&pass.c, given.c0.len())),
        ("params", pass.params.clone()),
        ("dx", pass.dx.clone()),
        ("dh0", pass.dh0.clone()),
        ("dc0", pass.dc0.clone()),
    ]
}

/// Panics unless each element of a library's result is as near to the reference as `within` says.
/// Returns the largest distance, and the largest distance as a share of the allowed one.
fn assert_near(
    name: &str,
    theirs: &[f64],
    expected: &[Bounded],
    within: impl Fn(usize) -> f64,
) -> [f64; 2] {
    assert_eq!(theirs.len(), expected.len(), "length of {name}");
    let mut worst = [0.0f64; 2];
    for (k, (&theirs, expected)) in theirs.iter().zip(expected).enumerate() {
        let error = (theirs - expected.value).abs();
        assert!(
            error <= within(k),
            "{name}[{k}] is {theirs:e} there, the reference {:e}: off by {error:e}, allowed {:e}",
            expected.value,
            within(k),
        );
        worst = [worst[0].max(error), worst[1].max(error / within(k))];
    }
    worst
}

/// A summary of a file's comparisons, for the log.
#[derive(Default)]
struct Seen {
    values: usize,
    /// How far the library is from the reference, and which share of the allowed distance that is.
    theirs: [f64; 2],
    /// The largest share of its bound that a pass reached.
    ours: f64,
    loosest: f64,
}

impl Seen {
    fn say(&self, file: &str) {
        let Self { values, theirs: [error, share], ours, loosest } = self;
        say(&format!(
            "{file}: {values} values; the library is off by {error:.1e}, {share:.1e} of what it may \
             be, ours by {ours:.3} of its bound; the loosest {loosest:.1e}"
        ));
    }

    /// Compares one case: the library with the reference, and the passes with the library.
    fn compare(&mut self, data: &Data, theirs: &Theirs) {
        let inputs = data.inputs.map(|values| bounds::exact(values));
        let expected = parts(&data.layer.reference().run(&inputs, None), &data.inputs);
        let passes: Vec<_> = isas().iter().map(|&isa| Rig::new(isa, data).run(data)).collect();
        let passes: Vec<_> = passes.iter().map(|pass| parts(pass, &data.inputs)).collect();
        self.compare_parts(&expected, &passes, theirs);
    }

    /// The same for sequences of these lengths, in every layout of the caller's arrays.
    fn compare_ragged(&mut self, data: &Data, lengths: &[usize], theirs: &Theirs) {
        let expected = ragged::expected(data, lengths);
        let layouts =
            [Layout::TimeMajor(data.steps), Layout::BatchFirst(data.steps), Layout::Packed];
        let of = |&isa| layouts.map(|layout| ragged::pass(isa, data, lengths, layout));
        let passes: Vec<_> = isas().iter().flat_map(of).collect();
        self.compare_parts(&expected, &passes, theirs);
    }

    fn compare_parts(&mut self, expected: &Parts<Bounded>, passes: &[Parts<f32>], theirs: &Theirs) {
        for (part, values) in theirs.parts().into_iter().enumerate() {
            let (name, expected) = &expected[part];
            let Some(values) = values else { continue };
            let within = |k: usize| theirs.errors.as_ref().map_or(AGREEMENT, |all| all[part][k]);
            for (k, Bounded { bound, .. }) in expected.iter().enumerate() {
                let bound = bound + within(k);
                assert!(bound < LOOSEST, "{name}: a bound of {bound} finds no fault");
                self.loosest = self.loosest.max(bound);
            }
            let near = assert_near(name, values, expected, within);
            self.theirs = [0, 1].map(|which| self.theirs[which].max(near[which]));
            self.values += values.len();
            let allowed: Vec<Bounded> = (values.iter().zip(expected).enumerate())
                .map(|(k, (&value, e))| Bounded { value, bound: e.bound + within(k) })
                .collect();
            for pass in passes {
                bounds::assert_within(name, &pass[part].1, &allowed);
                self.ours = self.ours.max(bounds::worst_ratio(&pass[part].1, &allowed));
            }
        }
    }
}

/// Compares all cases of a file.
fn check(file: &File, mut case: impl FnMut(&mut Seen, &Case)) {
    let mut seen = Seen::default();
    for each in file.cases() {
        println!("{each:?}");
        case(&mut seen, &each);
    }
    seen.say(file.name);
}

#[test]
fn pytorch_vanilla() {
    for (file, phi) in [
        (data_file!("torch_rnn_tanh"), Activation::Tanh),
        (data_file!("torch_rnn_relu"), Activation::Relu),
    ] {
        check(&file, |seen, case| {
            let (inputs, hidden) = (case.width("x"), case.width("h0"));
            let layer = Subject { kind: Kind::Vanilla(phi), inputs, hidden };
            let (data, theirs) = theirs::pytorch(case, layer, Biases::Summed);
            seen.compare(&data, &theirs);
        });
    }
}

#[test]
fn pytorch_lstm() {
    for (file, projected) in
        [(data_file!("torch_lstm"), false), (data_file!("torch_lstm_projected"), true)]
    {
        check(&file, |seen, case| {
            let (inputs, hidden) = (case.width("x"), case.width("c0"));
            let kind = Kind::Lstm(Options { projected, ..Options::NONE });
            let layer = Subject { kind, inputs, hidden };
            assert_eq!(layer.output_size(), case.width("h0"));
            assert_eq!(layer.output_size() < hidden, projected);
            let (data, theirs) = theirs::pytorch(case, layer, Biases::Summed);
            seen.compare(&data, &theirs);
        });
    }
}

#[test]
fn pytorch_gru() {
    check(&data_file!("torch_gru"), |seen, case| {
        let kind = Kind::Gru(Reset::After, Candidate::Tanh);
        let layer = Subject { kind, inputs: case.width("x"), hidden: case.width("h0") };
        let (data, theirs) = theirs::pytorch(case, layer, Biases::LastApart);
        seen.compare(&data, &theirs);
    });
}

/// Packed sequences: outputs, states at each sequence's own end, and all gradients.
#[test]
fn pytorch_sequences_of_different_lengths() {
    let gru = Kind::Gru(Reset::After, Candidate::Tanh);
    for (file, kind, biases) in [
        (data_file!("torch_rnn_tanh_ragged"), Kind::Vanilla(Activation::Tanh), Biases::Summed),
        (data_file!("torch_lstm_ragged"), Kind::LSTM, Biases::Summed),
        (data_file!("torch_gru_ragged"), gru, Biases::LastApart),
    ] {
        let mut unsorted = 0;
        check(&file, |seen, case| {
            let layer = Subject { kind, inputs: case.width("x"), hidden: case.width("h0") };
            let (data, theirs) = theirs::pytorch(case, layer, biases);
            let lengths = case.lengths();
            unsorted += usize::from(!lengths.is_sorted_by(|a, b| a >= b));
            seen.compare_ragged(&data, &lengths, &theirs);
        });
        assert!(unsorted >= 2, "{file:?}: PyTorch had no order to restore");
    }
}

/// The layer of a kind that gets the input and the state that an ONNX operator got.
fn onnx_layer(case: &Case, kind: Kind) -> Subject {
    Subject { kind, inputs: case.width("X"), hidden: case.width("initial_h") }
}

#[test]
fn onnx_lstm_with_peepholes() {
    check(&data_file!("onnx_lstm_peepholes"), |seen, case| {
        let kind = Kind::Lstm(Options { peepholes: true, ..Options::NONE });
        let layer = onnx_layer(case, kind);
        let (data, theirs) = theirs::onnx(case, layer, &theirs::LSTM, Biases::Summed);
        seen.compare(&data, &theirs);
    });
}

#[test]
fn onnx_gru() {
    for (file, reset, biases) in [
        (data_file!("onnx_gru_before"), Reset::Before, Biases::Summed),
        (data_file!("onnx_gru_after"), Reset::After, Biases::LastApart),
    ] {
        check(&file, |seen, case| {
            let layer = onnx_layer(case, Kind::Gru(reset, Candidate::Tanh));
            let (data, theirs) = theirs::onnx(case, layer, &theirs::GRU, biases);
            seen.compare(&data, &theirs);
        });
    }
}

/// ONNX Runtime couples the gates the other way round, `f = 1 − i`, and computes in `f32`. The
/// weights of our f are those of its i with the opposite sign, since σ(−z) = 1 − σ(z), and its
/// error is bounded by its own way to write the equation.
#[test]
fn onnx_runtime_lstm_with_coupled_gates() {
    for (file, peepholes) in
        [(data_file!("ort_lstm_coupled"), false), (data_file!("ort_lstm_coupled_peepholes"), true)]
    {
        check(&file, |seen, case| {
            let options = Options { peepholes, coupled: true, ..Options::NONE };
            let layer = onnx_layer(case, Kind::Lstm(options));
            let order = if peepholes { &theirs::COUPLED_PEEPHOLES } else { &theirs::COUPLED };
            let (data, mut theirs) = theirs::onnx(case, layer, order, Biases::Summed);
            theirs.errors = Some(coupled::errors(&data));
            seen.compare(&data, &theirs);
        });
    }
}
