//! Single steps.

use super::common::{Snapshot, Which, isas};
use super::*;
use bptt_kernels::Dense;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{Recurrent, Single, single_room};

fn single_lens(which: Which) -> Lens {
    let (cell, d) = (which.geometry(), dims(which));
    let [z, extra] = single_room(&cell, d.hidden);
    vec![
        ("x", INPUTS),
        ("bias", cell.gates * d.hidden),
        ("h", d.outputs),
        ("c", usize::from(cell.cells) * d.hidden),
        ("next", d.outputs),
        ("z", z),
        ("extra", extra),
        (vectors_name(which), which.vectors() * d.hidden),
        ("o", 2),
    ]
}

/// As [`forward`], for one step.
fn single(
    isa: Isa,
    which: Which,
    weights: &Weights,
    dense: &Dense,
    lens: &Lens,
) -> Result<(), KernelError> {
    let [x, bias, mut h, mut c, mut next, mut z, mut extra, vectors, mut o] = buffers(lens);
    let before = Snapshot::of(&[&h, &c, &next, &z, &extra, &o]);
    let result = Single {
        hidden: dims(which).hidden,
        cell: &which.cell(Activations::Tanh, &vectors),
        input: &weights.input,
        recurrent: Recurrent {
            second: weights.second.as_ref(),
            ..Recurrent::of(&weights.recurrent)
        },
        bias: &bias,
        x: &x,
        h: &mut h,
        c: &mut c,
        next: &mut next,
        z: &mut z,
        extra: &mut extra,
        backwards: false,
        output: Some(dense),
        o: &mut o,
    }
    .run(isa);
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&h, &c, &next, &z, &extra, &o]), before);
    }
    result
}

#[test]
fn single_steps() {
    for which in Which::all() {
        let (lens, outputs) = (single_lens(which), dims(which).outputs);
        for &isa in isas() {
            println!("{which:?} on {isa}");
            let (all, dense) = (weights(isa, which), Dense::zeros(isa, 2, outputs).unwrap());
            let given = |lens: &Lens| single(isa, which, &all, &dense, lens);
            assert_eq!(given(&lens), Ok(()));
            for &(what, whole) in &lens {
                if which.vectors() == 0 && what == vectors_name(which) {
                    continue;
                }
                for other in whole.checked_sub(1).into_iter().chain([whole + 1]) {
                    let result = given(&with(&lens, what, other));
                    match what {
                        "x" => assert_packing(result, "of 4 inputs", &format!("of {other} inputs")),
                        "h" => assert_packing(
                            result,
                            &format!("of {outputs} inputs"),
                            &format!("of {other} inputs"),
                        ),
                        "o" => assert_packing(result, "2 outputs", &format!("{other} outputs")),
                        _ => assert_eq!(result, Err(length(what, other, whole))),
                    }
                }
            }
            let narrow = Dense::zeros(isa, 2, outputs + 1).unwrap();
            assert_packing(single(isa, which, &all, &narrow, &lens), "2 outputs", "2 outputs");
            for foreign in others(isa) {
                let run = |weights: &Weights| single(isa, which, weights, &dense, &lens);
                let theirs = weights(foreign, which);
                let wrong = Weights { input: theirs.input, ..weights(isa, which) };
                assert_packing(run(&wrong), foreign.name(), isa.name());
                let wrong = Weights { recurrent: theirs.recurrent, ..weights(isa, which) };
                assert_packing(run(&wrong), foreign.name(), isa.name());
                if theirs.second.is_some() {
                    let wrong = Weights { second: theirs.second, ..weights(isa, which) };
                    assert_packing(run(&wrong), foreign.name(), isa.name());
                }
                let dense = Dense::zeros(foreign, 2, outputs).unwrap();
                let result = single(isa, which, &all, &dense, &lens);
                assert_packing(result, foreign.name(), isa.name());
            }
        }
    }
}
