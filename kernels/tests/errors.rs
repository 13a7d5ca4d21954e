//! Every refusal of a kernel's entry: what it says, and that nothing has been
//! written.

mod common;

use bptt_kernels::gemm::{Start, gemm};
use bptt_kernels::lstm::{Activations, Backward, Cells, Dims, Forward, GATES, Gates};
use bptt_kernels::outer::{Outer, Right, scratch_len};
use bptt_kernels::vmath::{Function, map};
use bptt_kernels::{AlignedBuffer, Isa, KernelError, PackedMatrix, checked_len};
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
        let error = scratch_len(isa, &[usize::MAX / 4]).unwrap_err();
        assert_eq!(error, KernelError::TooLarge { what: "packed weights" });

        let mut packed = PackedMatrix::zeros(isa, 4, 3, 5).unwrap();
        packed.pack_rows(&[1.0; 60]).unwrap();
        assert_eq!(packed.pack_rows(&[2.0; 59]), Err(length("weights", 59, 60)));
        assert_eq!(packed.pack_columns(&[2.0; 61]), Err(length("weights", 61, 60)));
        assert_eq!(packed.pack_columns(&[2.0; 60]), Err(length("gates", 4, 1)));
        let mut c = [0.0; 12];
        gemm(isa, 1, &[1.0; 5], &packed, Start::Zero, &mut c, &mut filled(5)).unwrap();
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
        let refused = |rows, a: usize, c: usize, start| {
            let mut out = filled(c);
            let error =
                gemm(isa, rows, &filled(a), &packed, start, &mut out, &mut filled(4)).unwrap_err();
            assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(c)]));
            error
        };
        assert_eq!(refused(2, 3, 6, Start::Zero), length("a", 3, 4));
        assert_eq!(refused(2, 5, 6, Start::Zero), length("a", 5, 4));
        assert_eq!(refused(2, 4, 5, Start::Accumulate), length("c", 5, 6));
        assert_eq!(refused(2, 4, 7, Start::Zero), length("c", 7, 6));
        assert_eq!(refused(2, 4, 6, Start::Bias(&bias)), length("bias", 4, 3));
        let error = refused(usize::MAX, 4, 6, Start::Zero);
        assert_eq!(error, KernelError::TooLarge { what: "a" });
        for other in others(isa) {
            let packed = PackedMatrix::zeros(other, 1, 3, 2).unwrap();
            let result =
                gemm(isa, 1, &filled(2), &packed, Start::Zero, &mut filled(3), &mut filled(2));
            assert_packing(result, other.name(), isa.name());
        }

        let whole = scratch_len(isa, &[3]).unwrap();
        for (lens, error) in [
            ([7, 12, 6, whole], length("a", 7, 8)),
            ([8, 13, 6, whole], length("b", 13, 12)),
            ([8, 12, 7, whole], length("c", 7, 6)),
            ([8, 12, 6, whole - 1], length("scratch", whole - 1, whole)),
        ] {
            let [a, b, mut c, mut scratch] = lens.map(filled);
            let before = Snapshot::of(&[&c, &scratch]);
            let (c_out, scratch_out) = (&mut c, &mut scratch);
            let outer = Outer {
                depth: 4,
                a: &a,
                rows: 2,
                products: &mut [Right { b: &b, c: c_out, columns: 3 }],
                accumulate: false,
                scratch: scratch_out,
            };
            assert_eq!(outer.run(isa), Err(error));
            assert_eq!(Snapshot::of(&[&c, &scratch]), before);
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
/// x, gates, bias, h0, h, s0, s.
fn forward(
    isa: Isa,
    dims: Dims,
    [input, recurrent]: &[PackedMatrix; 2],
    fused: bool,
    lens: [usize; 7],
) -> Result<(), KernelError> {
    let [x, mut gates, bias, h0, mut h, s0, mut s] = lens.map(filled);
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
        scratch: &mut filled(DIMS.batch * (DIMS.hidden + INPUTS)),
    }
    .run(isa);
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&gates, &h, &s]), before);
    }
    result
}

#[test]
fn forward_passes() {
    const LENS: [usize; 7] = [24, GATES_LEN, 20, STATE, 30, STATE, 30];
    for &isa in isas() {
        let weights = forward_weights(isa);
        for fused in [false, true] {
            assert_eq!(forward(isa, DIMS, &weights, fused, LENS), Ok(()));
            let names = ["x", "gates", "bias", "h0", "h", "s0", "s"];
            for (at, what) in names.into_iter().enumerate() {
                let used = match what {
                    "x" | "bias" => fused,
                    "gates" => !fused,
                    _ => true,
                };
                for given in [LENS[at] - 1, LENS[at] + 1] {
                    let mut lens = LENS;
                    lens[at] = given;
                    let expected = if used { Err(length(what, given, LENS[at])) } else { Ok(()) };
                    assert_eq!(forward(isa, DIMS, &weights, fused, lens), expected);
                }
            }
        }
        let far = Dims { batch: usize::MAX / 4, ..DIMS };
        let error = forward(isa, far, &weights, false, LENS).unwrap_err();
        assert_eq!(error, KernelError::TooLarge { what: "a state" });

        let [input, recurrent] = forward_weights(isa);
        let swapped = [recurrent, input];
        let result = forward(isa, DIMS, &swapped, true, LENS);
        assert_packing(result, "outputs of 4 inputs", "outputs of 5 inputs");
        for other in others(isa) {
            let [input, recurrent] = forward_weights(isa);
            let [other_input, other_recurrent] = forward_weights(other);
            for weights in [[other_input, recurrent], [input, other_recurrent]] {
                let result = forward(isa, DIMS, &weights, true, LENS);
                assert_packing(result, other.name(), isa.name());
            }
        }
    }
}

#[test]
fn discarded_gates_and_a_single_cell_state() {
    for &isa in isas() {
        let [_, recurrent] = forward_weights(isa);
        for (gates, s, error) in [
            (GATES_LEN - 1, STATE, length("gates", GATES_LEN - 1, GATES_LEN)),
            (GATES_LEN, STATE + 1, length("s", STATE + 1, STATE)),
        ] {
            let (gates, h0) = (filled(gates), filled(STATE));
            let (mut h, mut s) = (filled(30), filled(s));
            let before = Snapshot::of(&[&h, &s]);
            let forward = Forward {
                dims: DIMS,
                activations: Activations::Tanh,
                recurrent: &recurrent,
                gates: Gates::Discard(&gates),
                h0: &h0,
                h: &mut h,
                cells: Cells::InPlace(&mut s),
                scratch: &mut filled(STATE),
            };
            assert_eq!(forward.run(isa), Err(error));
            assert_eq!(Snapshot::of(&[&h, &s]), before);
        }
    }
}

/// As [`forward`], for a backward pass: gates, s, dy, dh, ds, db.
fn backward(isa: Isa, recurrent: &PackedMatrix, lens: [usize; 6]) -> Result<(), KernelError> {
    let [mut gates, s, dy, mut dh, mut ds, mut db] = lens.map(filled);
    let before = Snapshot::of(&[&gates, &dh, &ds, &db]);
    let result = Backward {
        dims: DIMS,
        activations: Activations::Tanh,
        recurrent,
        gates: &mut gates,
        s: &s,
        dy: Some(&dy),
        dh: &mut dh,
        ds: &mut ds,
        db: &mut db,
        scratch: &mut filled(GATES * STATE),
    }
    .run(isa);
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&gates, &dh, &ds, &db]), before);
    }
    result
}

#[test]
fn backward_passes() {
    const LENS: [usize; 6] = [GATES_LEN, 40, 30, STATE, STATE, 20];
    for &isa in isas() {
        let recurrent = PackedMatrix::zeros(isa, 1, DIMS.hidden, GATES * DIMS.hidden).unwrap();
        assert_eq!(backward(isa, &recurrent, LENS), Ok(()));
        for (at, what) in ["gates", "s", "dy", "dh", "ds", "db"].into_iter().enumerate() {
            for given in [LENS[at] - 1, LENS[at] + 1] {
                let mut lens = LENS;
                lens[at] = given;
                let expected = Err(length(what, given, LENS[at]));
                assert_eq!(backward(isa, &recurrent, lens), expected);
            }
        }
        let [_, by_rows] = forward_weights(isa);
        assert_packing(backward(isa, &by_rows, LENS), "4 × 5 outputs", "1 × 5 outputs");
        for other in others(isa) {
            let other_w = PackedMatrix::zeros(other, 1, DIMS.hidden, GATES * DIMS.hidden).unwrap();
            assert_packing(backward(isa, &other_w, LENS), other.name(), isa.name());
        }
    }
}
