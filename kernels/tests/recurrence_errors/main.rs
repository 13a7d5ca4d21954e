//! Every refusal of the passes over time, for every cell: what it says, and that nothing
//! has been written.

#[path = "../common/mod.rs"]
mod common;

mod backward;
mod forward;
mod single;

use bptt_kernels::cells::BackwardLhs;
use bptt_kernels::recurrence::Dims;
use bptt_kernels::{Isa, KernelError, PackedMatrix};
use common::{Which, filled};

const INPUTS: usize = 4;

fn dims(which: Which) -> Dims<'static> {
    which.dims(3, 2, 5)
}

fn length(what: &'static str, given: usize, expected: usize) -> KernelError {
    match what {
        // May be longer than is needed.
        "scratch" | "stride" => KernelError::Short { what, given, least: expected },
        _ => KernelError::Length { what, given, expected },
    }
}

fn others(isa: Isa) -> impl Iterator<Item = Isa> {
    Isa::available().iter().copied().filter(move |&other| other != isa)
}

#[track_caller]
fn assert_packing(result: Result<(), KernelError>, given: &str, expected: &str) {
    let Err(KernelError::Packing { given: made_for, expected: needed }) = result else {
        panic!("{result:?}")
    };
    assert!(made_for.contains(given), "{made_for}");
    assert!(needed.contains(expected), "{needed}");
}

/// The weights of passes: U, W, and the second, by rows, and W and the second by columns.
struct Weights {
    input: PackedMatrix,
    recurrent: PackedMatrix,
    second: Option<PackedMatrix>,
    back: Vec<PackedMatrix>,
    second_back: Option<PackedMatrix>,
}

fn weights(isa: Isa, which: Which) -> Weights {
    let (cell, Dims { hidden, outputs, .. }) = (which.geometry(), dims(which));
    let zeros = |gates, units, depth| PackedMatrix::zeros(isa, gates, units, depth).unwrap();
    let second = cell.second_product(hidden, outputs);
    Weights {
        input: zeros(cell.gates, hidden, INPUTS),
        recurrent: zeros(cell.sums, hidden, outputs),
        second: second.map(|sizes| zeros(1, sizes.units, sizes.depth)),
        back: cell
            .back
            .iter()
            .map(|c| zeros(1, outputs, BackwardLhs::blocks(*c) * hidden))
            .collect(),
        second_back: second.map(|sizes| zeros(1, sizes.depth, sizes.units)),
    }
}

/// Buffers by name, and how long each is to be.
type Lens = Vec<(&'static str, usize)>;

/// The same with another length of one.
fn with(lens: &Lens, what: &str, len: usize) -> Lens {
    lens.iter().map(|&(name, old)| (name, if name == what { len } else { old })).collect()
}

fn buffers<const N: usize>(lens: &Lens) -> [Vec<f32>; N] {
    let buffers: Vec<_> = lens.iter().map(|&(_, len)| filled(len)).collect();
    buffers.try_into().unwrap()
}

/// The name under which a cell refuses its vectors.
fn vectors_name(which: Which) -> &'static str {
    match which {
        Which::Leaky { .. } => "alpha",
        Which::GruAfter => "recurrent bias",
        _ => "peepholes",
    }
}
