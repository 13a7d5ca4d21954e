//! Every refusal of a kernel's entry: what it says, and that nothing has been
//! written.

mod common;

use bptt_kernels::gemm::{self, Gemm, Start, gemm};
use bptt_kernels::lstm::{
    Activations, Backward, Cells, Dims, Forward, GATES, Gates, Single, backward_scratch_len,
    forward_scratch_len,
};
use bptt_kernels::outer::{Outer, Right, scratch_len};
use bptt_kernels::team::Pass;
use bptt_kernels::vmath::{Function, map};
use bptt_kernels::{AlignedBuffer, Dense, Isa, KernelError, PackedMatrix, checked_len};
use common::{Snapshot, filled, isas};

fn length(what: &'static str, given: usize, expected: usize) -> KernelError {
    KernelError::Length { what, given, expected }
}

/// Panics unless it is about weights packed for something else.
#[track_caller]
fn assert_packing(result: Result<(), KernelError>, packed: &str, needed: &str) {
    let error = result.unwrap_err();
    let KernelError::Packing { given, expected } = &error else { panic!("{error:?}") };
    assert!(given.contains(packed) && expected.contains(needed), "{error}");
    assert_eq!(error.to_string(), format!("packed weights are {given}, expected {expected}"));
}

fn others(isa: Isa) -> impl Iterator<Item = Isa> {
    Isa::available().iter().copied().filter(move |&other| other != isa)
}

#[test]
fn matrices() {
    for &isa in isas() {
        for (dims, what) in [([0, 1, 1], "gates"), ([1, 0, 1], "units"), ([1, 1, 0], "depth")] {
            let [gates, units, depth] = dims;
            let error = PackedMatrix::zeros(isa, gates, units, depth).unwrap_err();
            let expected = "1 or more".to_owned();
            assert_eq!(error, KernelError::Dimension { what, given: 0, expected });
            assert_eq!(error.to_string(), format!("{what} is 0, expected 1 or more"));
        }
        let error = PackedMatrix::zeros(isa, 4, usize::MAX, 1).unwrap_err();
        assert_eq!(error, KernelError::TooLarge { what: "packed weights" });
        assert_eq!(error.to_string(), "packed weights: too large for the address space");
        let far = 1 << (usize::BITS - 8);
        let error = PackedMatrix::zeros(isa, 1, far, 1).unwrap_err();
        assert!(matches!(error, KernelError::OutOfMemory { bytes } if bytes >= 4 * far), "{error}");
        let error = scratch_len(isa, 1, &[usize::MAX / 4]).unwrap_err();
        assert_eq!(error, KernelError::TooLarge { what: "packed weights" });

        let mut packed = PackedMatrix::zeros(isa, 4, 3, 5).unwrap();
        packed.pack_rows(&[1.0; 60], &mut Pass::serial()).unwrap();
        assert_eq!(
            packed.pack_rows(&[2.0; 59], &mut Pass::serial()),
            Err(length("weights", 59, 60))
        );
        assert_eq!(
            packed.pack_columns(&[2.0; 61], &mut Pass::serial()),
            Err(length("weights", 61, 60))
        );
        assert_eq!(
            packed.pack_columns(&[2.0; 60], &mut Pass::serial()),
            Err(length("gates", 4, 1))
        );
        let mut c = [0.0; 12];
        let mut scratch = filled(gemm::scratch_len(1, 5).unwrap());
        gemm(isa, 1, &[1.0; 5], &packed, Start::Zero, &mut c, &mut scratch).unwrap();
        assert_eq!(c, [5.0; 12], "the matrix is what it was");
    }
}

#[test]
fn memory() {
    let error = AlignedBuffer::try_new(1 << (usize::BITS - 8)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("could not allocate {} bytes", 4usize << (usize::BITS - 8))
    );
    let error = checked_len("it", &[usize::MAX, 2]).unwrap_err();
    assert_eq!(error, KernelError::TooLarge { what: "it" });
    assert_eq!(checked_len("it", &[3, 0, 5]), Ok(0));
}

#[test]
fn products() {
    for &isa in isas() {
        let packed = PackedMatrix::zeros(isa, 1, 3, 2).unwrap();
        let bias = filled(4);
        let whole = gemm::scratch_len(2, 2).unwrap();
        let given_scratch = |scratch: usize, rows, a: usize, c: usize, start| {
            let (a, mut out, mut scratch) = (filled(a), filled(c), filled(scratch));
            let error = gemm(isa, rows, &a, &packed, start, &mut out, &mut scratch).unwrap_err();
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(c)]));
            error
        };
        let error = given_scratch(whole - 1, 2, 4, 6, Start::Zero);
        assert_eq!(error, length("scratch", whole - 1, whole));
        let refused = |rows, a, c, start| given_scratch(whole, rows, a, c, start);
        assert_eq!(refused(2, 3, 6, Start::Zero), length("a", 3, 4));
        assert_eq!(refused(2, 5, 6, Start::Zero), length("a", 5, 4));
        assert_eq!(refused(2, 4, 5, Start::Accumulate), length("c", 5, 6));
        assert_eq!(refused(2, 4, 7, Start::Zero), length("c", 7, 6));
        assert_eq!(refused(2, 4, 6, Start::Bias(&bias)), length("bias", 4, 3));
        let error = refused(usize::MAX, 4, 6, Start::Zero);
        assert_eq!(error, KernelError::TooLarge { what: "a" });
        for (stride, c, error) in [
            (2, 4, length("stride", 2, 3)),
            (5, 9, length("c", 9, 10)),
            (5, 11, length("c", 11, 10)),
        ] {
            let (a, mut out, mut scratch) = (filled(4), filled(c), filled(whole));
            let (start, weights) = (Start::Zero, &packed);
            let product =
                Gemm { rows: 2, a: &a, weights, start, c: &mut out, stride, scratch: &mut scratch };
            assert_eq!(product.run(isa, &mut Pass::serial()), Err(error));
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(c)]));
        }
        for other in others(isa) {
            let packed = PackedMatrix::zeros(other, 1, 3, 2).unwrap();
            let result =
                gemm(isa, 1, &filled(2), &packed, Start::Zero, &mut filled(3), &mut filled(2));
            assert_packing(result, other.name(), isa.name());
        }

        let whole = scratch_len(isa, 1, &[3]).unwrap();
        for (lens, error) in [
            ([7, 12, 6, 2, whole], length("a", 7, 8)),
            ([8, 13, 6, 2, whole], length("b", 13, 12)),
            ([8, 12, 7, 2, whole], length("c", 7, 6)),
            ([8, 12, 6, 3, whole], length("sums", 3, 2)),
            ([8, 12, 6, 2, whole - 1], length("scratch", whole - 1, whole)),
        ] {
            let [a, b, mut c, mut sums, mut scratch] = lens.map(filled);
            let before = Snapshot::of(&[&c, &sums, &scratch]);
            let (c_out, scratch_out) = (&mut c, &mut scratch);
            let outer = Outer {
                depth: 4,
                a: &a,
                rows: 2,
                products: [Right { b: &b, c: c_out, columns: 3 }],
                sums: &mut sums,
                accumulate: false,
                scratch: scratch_out,
            };
            assert_eq!(outer.run(isa, &mut Pass::serial()), Err(error));
            assert_eq!(Snapshot::of(&[&c, &sums, &scratch]), before);
        }
        let mut out = filled(3);
        assert_eq!(map(isa, Function::Exp, &[0.0; 4], &mut out), Err(length("out", 3, 4)));
        assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(3)]));
    }
}

const DIMS: Dims = Dims { steps: 3, batch: 2, hidden: 5 };
const INPUTS: usize = 4;
const STATE: usize = 10;
const GATES_LEN: usize = 3 * GATES * STATE;

/// The weights of a forward pass: to the gates, of the inputs and of the state.
fn forward_weights(isa: Isa) -> [PackedMatrix; 2] {
    [INPUTS, DIMS.hidden].map(|depth| PackedMatrix::zeros(isa, GATES, DIMS.hidden, depth).unwrap())
}

/// Runs a pass in buffers of these lengths and shows that nothing is written:
/// x, gates, bias, h0, h, s0, s, scratch.
fn forward(
    isa: Isa,
    dims: Dims,
    [input, recurrent]: &[PackedMatrix; 2],
    fused: bool,
    lens: [usize; 8],
) -> Result<(), KernelError> {
    let [x, mut gates, bias, h0, mut h, s0, mut s, mut scratch] = lens.map(filled);
    let before = Snapshot::of(&[&gates, &h, &s]);
    let result = Forward {
        dims,
        activations: Activations::Tanh,
        recurrent,
        gates: match fused {
            true => Gates::Fused { x: &x, input, bias: &bias },
            false => Gates::Keep(&mut gates),
        },
        h0: &h0,
        h: &mut h,
        cells: Cells::Keep { s0: &s0, s: &mut s },
        scratch: &mut scratch,
    }
    .run(isa, &mut Pass::serial());
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&gates, &h, &s]), before);
    }
    result
}

#[test]
fn forward_passes() {
    let lens = |fused: bool| {
        let inputs = if fused { INPUTS } else { 0 };
        let scratch = forward_scratch_len(DIMS.batch, DIMS.hidden, inputs).unwrap();
        [24, GATES_LEN, 20, STATE, 30, STATE, 30, scratch]
    };
    for &isa in isas() {
        let weights = forward_weights(isa);
        for fused in [false, true] {
            let whole = lens(fused);
            assert_eq!(forward(isa, DIMS, &weights, fused, whole), Ok(()));
            let mut short = whole;
            short[7] -= 1;
            let expected = Err(length("scratch", short[7], whole[7]));
            assert_eq!(forward(isa, DIMS, &weights, fused, short), expected);
            let names = ["x", "gates", "bias", "h0", "h", "s0", "s"];
            for (at, what) in names.into_iter().enumerate() {
                let used = match what {
                    "x" | "bias" => fused,
                    "gates" => !fused,
                    _ => true,
                };
                for given in [whole[at] - 1, whole[at] + 1] {
                    let mut lens = whole;
                    lens[at] = given;
                    let expected = if used { Err(length(what, given, whole[at])) } else { Ok(()) };
                    assert_eq!(forward(isa, DIMS, &weights, fused, lens), expected);
                }
            }
        }
        let far = Dims { batch: usize::MAX / 4, ..DIMS };
        let error = forward(isa, far, &weights, false, lens(false)).unwrap_err();
        assert_eq!(error, KernelError::TooLarge { what: "a state" });

        let [input, recurrent] = forward_weights(isa);
        let swapped = [recurrent, input];
        let result = forward(isa, DIMS, &swapped, true, lens(true));
        assert_packing(result, "outputs of 4 inputs", "outputs of 5 inputs");
        for other in others(isa) {
            let [input, recurrent] = forward_weights(isa);
            let [other_input, other_recurrent] = forward_weights(other);
            for weights in [[other_input, recurrent], [input, other_recurrent]] {
                let result = forward(isa, DIMS, &weights, true, lens(true));
                assert_packing(result, other.name(), isa.name());
            }
        }
    }
}

#[test]
fn discarded_gates_and_a_single_cell_state() {
    for &isa in isas() {
        let [_, recurrent] = forward_weights(isa);
        for (gates, stride, s, error) in [
            (GATES_LEN - 1, 20, STATE, length("gates", GATES_LEN - 1, GATES_LEN)),
            (GATES_LEN, 21, STATE, length("gates", GATES_LEN, GATES_LEN + 6)),
            (GATES_LEN - 6, 19, STATE, length("stride", 19, 20)),
            (GATES_LEN, 20, STATE + 1, length("s", STATE + 1, STATE)),
        ] {
            let (gates, h0) = (filled(gates), filled(STATE));
            let (mut h, mut s) = (filled(30), filled(s));
            let before = Snapshot::of(&[&h, &s]);
            let forward = Forward {
                dims: DIMS,
                activations: Activations::Tanh,
                recurrent: &recurrent,
                gates: Gates::Discard { z: &gates, stride },
                h0: &h0,
                h: &mut h,
                cells: Cells::InPlace(&mut s),
                scratch: &mut filled(forward_scratch_len(DIMS.batch, DIMS.hidden, 0).unwrap()),
            };
            assert_eq!(forward.run(isa, &mut Pass::serial()), Err(error));
            assert_eq!(Snapshot::of(&[&h, &s]), before);
        }
    }
}

#[test]
fn dense_layers() {
    for &isa in isas() {
        for (outputs, depth, what) in [(0, 1, "outputs"), (1, 0, "depth")] {
            let error = Dense::zeros(isa, outputs, depth).unwrap_err();
            let expected = "1 or more".to_owned();
            assert_eq!(error, KernelError::Dimension { what, given: 0, expected });
        }
        let error = Dense::zeros(isa, 1, usize::MAX).unwrap_err();
        assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
        // Rows as they lie, and panels.
        for outputs in [1, 40] {
            let mut dense = Dense::zeros(isa, outputs, 3).unwrap();
            let pass = &mut Pass::serial();
            let weights = 3 * outputs;
            assert_eq!(
                dense.pack(&filled(weights + 1), &filled(outputs), pass),
                Err(length("weights", weights + 1, weights))
            );
            assert_eq!(
                dense.pack(&filled(weights), &filled(outputs - 1), pass),
                Err(length("bias", outputs - 1, outputs))
            );
            for (a, c, error) in [
                (5, 2 * outputs, length("a", 5, 6)),
                (7, 2 * outputs, length("a", 7, 6)),
                (6, 2 * outputs - 1, length("c", 2 * outputs - 1, 2 * outputs)),
                (6, 2 * outputs + 1, length("c", 2 * outputs + 1, 2 * outputs)),
            ] {
                let (mut out, mut scratch) = (filled(c), filled(gemm::scratch_len(2, 3).unwrap()));
                let given = dense.run(isa, 2, &filled(a), &mut out, &mut scratch, pass);
                assert_eq!(given, Err(error));
                assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(c)]));
            }
            for other in others(isa) {
                let dense = Dense::zeros(other, outputs, 3).unwrap();
                let (mut out, mut scratch) = (filled(outputs), filled(48));
                let result = dense.run(isa, 1, &filled(3), &mut out, &mut scratch, pass);
                assert_packing(result, other.name(), isa.name());
            }
        }
    }
}

/// As [`forward`], for one step: x, bias, h, s, next, o.
fn single(
    isa: Isa,
    [input, recurrent]: &[PackedMatrix; 2],
    dense: &Dense,
    lens: [usize; 6],
) -> Result<(), KernelError> {
    let [x, bias, mut h, mut s, mut next, mut o] = lens.map(filled);
    let before = Snapshot::of(&[&h, &s, &next, &o]);
    let result = Single {
        activations: Activations::Tanh,
        input,
        recurrent,
        bias: &bias,
        x: &x,
        h: &mut h,
        s: &mut s,
        next: &mut next,
        backwards: false,
        output: Some(dense),
        o: &mut o,
    }
    .run(isa);
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&h, &s, &next, &o]), before);
    }
    result
}

#[test]
fn single_steps() {
    let whole = [INPUTS, 20, 5, 5, 5, 2];
    let with = |at: usize, len: usize| {
        let mut lens = whole;
        lens[at] = len;
        lens
    };
    for &isa in isas() {
        let (weights, dense) = (forward_weights(isa), Dense::zeros(isa, 2, DIMS.hidden).unwrap());
        let given = |lens| single(isa, &weights, &dense, lens);
        assert_eq!(given(whole), Ok(()));
        assert_packing(given(with(0, 3)), "outputs of 4 inputs", "outputs of 3 inputs");
        assert_eq!(given(with(1, 19)), Err(length("bias", 19, 20)));
        assert_packing(given(with(2, 4)), "5 outputs of 5 inputs", "4 outputs of 4 inputs");
        assert_eq!(given(with(3, 6)), Err(length("s", 6, 5)));
        assert_eq!(given(with(4, 4)), Err(length("next", 4, 5)));
        assert_packing(given(with(5, 3)), "2 outputs of 5", "3 outputs of 5");
        let narrow = Dense::zeros(isa, 2, 4).unwrap();
        assert_packing(single(isa, &weights, &narrow, whole), "2 outputs of 4", "2 outputs of 5");
        for other in others(isa) {
            let [input, recurrent] = forward_weights(isa);
            let [other_input, other_recurrent] = forward_weights(other);
            for weights in [[other_input, recurrent], [input, other_recurrent]] {
                let result = single(isa, &weights, &dense, whole);
                assert_packing(result, other.name(), isa.name());
            }
            let dense = Dense::zeros(other, 2, DIMS.hidden).unwrap();
            let result = single(isa, &weights, &dense, whole);
            assert_packing(result, other.name(), isa.name());
        }
    }
}

/// As [`forward`], for a backward pass: gates, s, dy, dh, ds, scratch.
fn backward(isa: Isa, recurrent: &PackedMatrix, lens: [usize; 6]) -> Result<(), KernelError> {
    let [mut gates, s, dy, mut dh, mut ds, mut scratch] = lens.map(filled);
    let before = Snapshot::of(&[&gates, &dh, &ds]);
    let result = Backward {
        dims: DIMS,
        activations: Activations::Tanh,
        recurrent,
        gates: &mut gates,
        s: &s,
        dy: Some(&dy),
        dh: &mut dh,
        ds: &mut ds,
        scratch: &mut scratch,
    }
    .run(isa, &mut Pass::serial());
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&gates, &dh, &ds]), before);
    }
    result
}

#[test]
fn backward_passes() {
    let scratch = backward_scratch_len(DIMS.batch, DIMS.hidden).unwrap();
    let whole = [GATES_LEN, 40, 30, STATE, STATE, scratch];
    for &isa in isas() {
        let recurrent = PackedMatrix::zeros(isa, 1, DIMS.hidden, GATES * DIMS.hidden).unwrap();
        assert_eq!(backward(isa, &recurrent, whole), Ok(()));
        let names = ["gates", "s", "dy", "dh", "ds", "scratch"];
        for (at, what) in names.into_iter().enumerate() {
            for given in [whole[at] - 1, whole[at] + 1] {
                // Scratch may be longer than is needed.
                if what == "scratch" && given > whole[at] {
                    continue;
                }
                let mut lens = whole;
                lens[at] = given;
                let expected = Err(length(what, given, whole[at]));
                assert_eq!(backward(isa, &recurrent, lens), expected);
            }
        }
        let [_, by_rows] = forward_weights(isa);
        assert_packing(backward(isa, &by_rows, whole), "4 × 5 outputs", "1 × 5 outputs");
        for other in others(isa) {
            let other_w = PackedMatrix::zeros(other, 1, DIMS.hidden, GATES * DIMS.hidden).unwrap();
            assert_packing(backward(isa, &other_w, whole), other.name(), isa.name());
        }
    }
}
