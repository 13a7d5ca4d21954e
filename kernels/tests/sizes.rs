//! Sizes that no slice can have: the lengths that a check computes from them must not wrap to the
//! length of a real slice. A pass without rows ends at once, however many steps it is said to have.

mod common;

use bptt_kernels::KernelError;
use bptt_kernels::cells::Activations;
use bptt_kernels::diagonal::Diagonal;
use bptt_kernels::gemm::weight_gradients::{Rhs, WeightGradients, scratch_len};
use bptt_kernels::recurrence::{
    Backward, CellStates, Clock, ClockedBackward, ClockedForward, Dims, Forward, Gates, Group,
    MoveRows, Recurrent,
};
use bptt_kernels::team::Pass;
use bptt_kernels::{Isa, Joined, PackedMatrix};
use common::{Which, isas};

/// A forward pass with these sizes and empty slices, with weights for five units.
fn forward(isa: Isa, which: Which, dims: Dims<'_>) -> Result<(), KernelError> {
    let geometry = which.geometry();
    let zeros = |gates, units, depth| PackedMatrix::zeros(isa, gates, units, depth).unwrap();
    let Dims { hidden, outputs, .. } = which.dims(1, 1, 5);
    let recurrent = zeros(geometry.sums, hidden, outputs);
    let second = geometry.second_product(hidden, outputs).map(|s| zeros(1, s.units, s.depth));
    let vectors = vec![0.0; which.vectors() * hidden];
    let cells = match geometry.cells {
        true => CellStates::Keep { c0: &[], c: &mut [] },
        false => CellStates::None,
    };
    Forward {
        dims,
        stretch: 0..dims.steps(),
        cell: which.cell(Activations::Tanh, &vectors),
        recurrent: Recurrent { second: second.as_ref(), ..Recurrent::of(&recurrent) },
        gates: Gates::Keep(&mut []),
        extra: &mut [],
        h0: &[],
        h: &mut [],
        h_stride: dims.outputs,
        cells,
        zoneout: None,
        dropout: None,
        norm: None,
        scratch: &mut [],
    }
    .run(isa, &mut Pass::serial())
}

/// A backward pass with these sizes and empty slices.
fn backward(isa: Isa, which: Which, dims: Dims<'_>) -> Result<(), KernelError> {
    let geometry = which.geometry();
    let zeros = |units, depth| PackedMatrix::zeros(isa, 1, units, depth).unwrap();
    let Dims { hidden, outputs, .. } = which.dims(1, 1, 5);
    let weights: Vec<_> =
        geometry.back.iter().map(|source| zeros(outputs, source.blocks() * hidden)).collect();
    let second = geometry.second_product(hidden, outputs).map(|s| zeros(s.depth, s.units));
    let vectors = vec![0.0; which.vectors() * hidden];
    let delays = vec![1; weights.len()];
    Backward {
        dims,
        cell: which.cell(Activations::Tanh, &vectors),
        recurrent: Recurrent { weights: &weights, delays: &delays, second: second.as_ref() },
        gates: &mut [],
        extra: &mut [],
        h0: &[],
        h: &[],
        h_stride: dims.outputs,
        c0: &[],
        c: &[],
        dy: None,
        dy_stride: dims.outputs,
        dh: &mut [],
        dc: &mut [],
        dh_all: &mut [],
        zoneout: None,
        dropout: None,
        c_made: &mut [],
        norm: None,
        scratch: &mut [],
    }
    .run(isa, &mut Pass::serial())
}

#[test]
fn passes_without_rows_are_over_at_once() {
    for &isa in isas() {
        for which in Which::all() {
            let dims = which.dims(usize::MAX, 0, 5);
            assert_eq!(forward(isa, which, dims), Ok(()), "{which:?} on {isa}");
            assert_eq!(backward(isa, which, dims), Ok(()), "{which:?} on {isa}");
        }
        let groups =
            [Group { units: 3, first: 0, period: 1 }, Group { units: 2, first: 3, period: 2 }];
        let clock = Clock { groups: &groups, start: 1 };
        let [a, b, c] = [(3, 5), (2, 2), (5, 3)]
            .map(|(units, depth)| PackedMatrix::zeros(isa, 1, units, depth).unwrap());
        let pass = &mut Pass::serial();
        let (schedule, activation) = (MoveRows::dense(usize::MAX, 0), Activations::Tanh.into());
        let stretch = 0..usize::MAX;
        let (weights, z, h0, h, scratch) = (&[a, b.clone()], &[], &[], &mut [], &mut []);
        let forward = ClockedForward {
            clock,
            schedule,
            stretch,
            activation,
            weights,
            z,
            h0,
            h,
            h_stride: 5,
            scratch,
        };
        assert_eq!(forward.run(isa, pass), Ok(()));
        let (weights, z, h, dh, scratch) = (&[c, b], &mut [], &[], &mut [], &mut []);
        let backward = ClockedBackward {
            clock,
            schedule,
            activation,
            weights,
            z,
            h,
            h_stride: 5,
            dy: None,
            dy_stride: 5,
            dh,
            scratch,
        };
        assert_eq!(backward.run(isa, pass), Ok(()));
    }
}

#[test]
fn sums_of_nothing_are_over_at_once() {
    for &isa in isas() {
        for accumulate in [false, true] {
            let outer = WeightGradients {
                depth: usize::MAX,
                a: &[],
                stride: 0,
                rows: 0,
                products: [Rhs::new(&[], &mut [], 0)],
                sums: Some(&mut []),
                accumulate,
                scratch: &mut vec![0.0; scratch_len(isa, 1, usize::MAX, &[0]).unwrap()],
            };
            assert_eq!(outer.run(isa, &mut Pass::serial()), Ok(()));
            let diagonal = Diagonal {
                depth: usize::MAX,
                a: &[],
                stride: 0,
                b: Some(Joined::whole(&[], 0)),
                c: &mut [],
                accumulate,
            };
            assert_eq!(diagonal.run(isa, &mut Pass::serial()), Ok(()));
        }
    }
}

#[test]
fn units_beyond_the_address_space_are_refused() {
    // Sizes that wrap to small numbers when they are multiplied by a few gates.
    for hidden in [usize::MAX, usize::MAX / 2 + 1 + 5, usize::MAX / 4 + 1 + 5] {
        for &isa in isas() {
            for which in Which::all() {
                let dims = Dims { hidden, outputs: hidden, ..which.dims(1, 1, 5) };
                for result in [forward(isa, which, dims), backward(isa, which, dims)] {
                    let refused = matches!(
                        result,
                        Err(KernelError::TooLarge { .. } | KernelError::Packing { .. })
                    );
                    assert!(refused, "{which:?} on {isa}: {result:?}");
                }
            }
        }
    }
}

/// The panels of sixteen rhs wrap to a length of zero although each rhs has a valid size. The error
/// needs no memory, since there are no rows.
#[test]
fn the_scratch_of_many_products_is_no_sum_that_wraps() {
    for &isa in isas() {
        let fits = |columns: &usize| scratch_len(isa, 0, 0, &[*columns]).is_ok();
        let columns = (0..usize::BITS).map(|bit| 1 << bit).rfind(fits).unwrap();
        let outer = WeightGradients {
            depth: 0,
            a: &[],
            stride: 0,
            rows: 0,
            products: std::array::from_fn::<_, 16, _>(|_| Rhs::new(&[], &mut [], columns)),
            sums: None,
            accumulate: false,
            scratch: &mut [0.0; 96 * 256],
        };
        let error = KernelError::TooLarge { what: "scratch" };
        assert_eq!(outer.run(isa, &mut Pass::serial()), Err(error));
    }
}
