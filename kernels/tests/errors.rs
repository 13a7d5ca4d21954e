//! Everything that a kernel's entry refuses: what the error says, and that nothing has been
//! written.

mod common;

use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
use bptt_kernels::gemm::{self, Gemm, Start, gemm};
use bptt_kernels::team::Pass;
use bptt_kernels::vmath::{Function, map};
use bptt_kernels::{AlignedBuffer, Dense, Isa, KernelError, PackedMatrix, checked_len};
use common::{Snapshot, filled, isas};

fn length(what: &'static str, given: usize, expected: usize) -> KernelError {
    match what {
        // This slice may be longer than is needed.
        "scratch" | "stride" => KernelError::Short { what, given, least: expected },
        _ => KernelError::Length { what, given, expected },
    }
}

/// Panics unless the error is about weights packed for something else.
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
        let error = scratch_len(isa, 1, 256, &[usize::MAX / 4]).unwrap_err();
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

        let whole = scratch_len(isa, 1, 4, &[3]).unwrap();
        for (lens, error) in [
            ([7, 12, 6, 2, whole], KernelError::Short { what: "a", given: 7, least: 8 }),
            ([8, 13, 6, 2, whole], length("b", 13, 12)),
            ([8, 12, 7, 2, whole], length("c", 7, 6)),
            ([8, 12, 6, 3, whole], length("sums", 3, 2)),
            ([8, 12, 6, 2, whole - 1], length("scratch", whole - 1, whole)),
        ] {
            let [a, b, mut c, mut sums, mut scratch] = lens.map(filled);
            let before = Snapshot::of(&[&c, &sums, &scratch]);
            let (c_out, scratch_out) = (&mut c, &mut scratch);
            let outer = WeightGradients {
                depth: 4,
                a: &a,
                stride: 2,
                rows: 2,
                products: [Rhs::new(&b, c_out, 3)],
                sums: Some(&mut sums),
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

#[test]
fn dense_layers() {
    for &isa in isas() {
        for (outputs, depth, what) in [(0, 1, "outputs"), (1, 0, "depth")] {
            let error = Dense::zeros(isa, outputs, depth).unwrap_err();
            let expected = "1 or more".to_owned();
            assert_eq!(error, KernelError::Dimension { what, given: 0, expected });
        }
        for (outputs, depth) in [(1, usize::MAX), (usize::MAX, 1), (1 << (usize::BITS - 1), 1)] {
            let error = Dense::zeros(isa, outputs, depth).unwrap_err();
            assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
        }
        // Rows in place, and panels.
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
            let whole = 2 * outputs;
            let apart = outputs + 3;
            for (a, c, stride, error) in [
                (5, whole, outputs, length("a", 5, 6)),
                (7, whole, outputs, length("a", 7, 6)),
                (6, whole - 1, outputs, length("c", whole - 1, whole)),
                (6, whole + 1, outputs, length("c", whole + 1, whole)),
                (6, whole, outputs - 1, length("stride", outputs - 1, outputs)),
                (6, whole + 5, apart, length("c", whole + 5, whole + 6)),
                (6, whole + 7, apart, length("c", whole + 7, whole + 6)),
            ] {
                let (mut out, mut scratch) = (filled(c), filled(gemm::scratch_len(2, 3).unwrap()));
                let given = dense.run(2, &filled(a), &mut out, stride, &mut scratch, pass);
                assert_eq!(given, Err(error));
                assert_eq!(Snapshot::of(&[&out]), Snapshot::of(&[&filled(c)]));
            }
        }
    }
}
