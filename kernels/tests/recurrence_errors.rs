//! Every refusal of the passes over time, for every cell: what it says, and that nothing
//! has been written.

mod common;

use bptt_kernels::cells::{Activations, Source};
use bptt_kernels::recurrence::{
    Backward, CellStates, Dims, Dropout, Forward, Gates, Kept, Norm, NormBack, Recurrent, Single,
    Zoneout, backward_scratch_len, forward_scratch_len, single_room,
};
use bptt_kernels::team::Pass;
use bptt_kernels::{Dense, Isa, KernelError, PackedMatrix};
use common::{Snapshot, Variant, Which, filled, isas};

const INPUTS: usize = 4;

fn dims(which: Which) -> Dims {
    which.dims(3, 2, 5)
}

fn length(what: &'static str, given: usize, expected: usize) -> KernelError {
    KernelError::Length { what, given, expected }
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
        second: second.map(|(units, depth)| zeros(1, units, depth)),
        back: cell.back.iter().map(|s| zeros(1, outputs, Source::blocks(*s) * hidden)).collect(),
        second_back: second.map(|(units, depth)| zeros(1, depth, units)),
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

fn forward_lens(which: Which, variant: Variant) -> Lens {
    let (cell, d) = (which.geometry(), dims(which));
    let (rows, cells) = (d.steps * d.batch, usize::from(cell.cells) * d.hidden);
    let keep = variant == Variant::Keep;
    let extra = match (keep, cell.is_double()) {
        (true, _) => rows,
        (false, true) => d.batch,
        (false, false) => 0,
    };
    let inputs = if variant == Variant::Fused { INPUTS } else { 0 };
    let kept = if keep { rows } else { d.batch };
    vec![
        ("x", rows * INPUTS),
        ("gates", rows * cell.gates * d.hidden),
        ("bias", cell.gates * d.hidden),
        ("h0", d.batch * d.outputs),
        ("h", rows * d.outputs),
        ("s0", d.batch * cells),
        ("s", if keep { rows } else { d.batch } * cells),
        ("extra", extra * cell.extra * d.hidden),
        (vectors_name(which), which.vectors() * d.hidden),
        ("keys", d.steps * d.batch * 2),
        ("mask", d.batch * d.outputs),
        ("before", d.batch * d.outputs),
        ("seen", d.steps * d.batch * d.outputs),
        ("other", if keep { 0 } else { d.batch * cells }),
        ("gain", cell.norms * d.hidden),
        ("norm bias", cell.gates * d.hidden),
        ("normal", kept * cell.gates * d.hidden),
        ("normal_extra", kept * (cell.norms - cell.gates) * d.hidden),
        ("inverse", kept * cell.norms),
        ("scratch", forward_scratch_len(&cell, d, 1, inputs).unwrap()),
    ]
}

/// Runs a pass in buffers of these lengths and shows that nothing is written where it is
/// refused.
fn forward(
    isa: Isa,
    (which, dims, variant): (Which, Dims, Variant),
    weights: &Weights,
    lens: &Lens,
) -> Result<(), KernelError> {
    let [x, mut gates, bias, h0, mut h, s0, mut s, mut extra, vectors, noise @ .., mut scratch] =
        buffers::<20>(lens);
    let [keys, mask, seen0, mut seen, mut other, norm @ ..] = noise;
    let [gain, norm_bias, mut normal, mut normal_extra, mut inverse] = norm;
    let snapshot = Snapshot::of(&[&gates, &h, &s, &extra, &seen, &other, &normal, &inverse]);
    let (kept, discarded) = (gates.as_mut_slice(), filled(0));
    let discarded = if variant == Variant::Discard { kept.to_vec() } else { discarded };
    let stride = which.geometry().gates * dims.hidden;
    let result = Forward {
        dims,
        cell: which.cell(Activations::Tanh, &vectors),
        recurrent: Recurrent {
            second: weights.second.as_ref(),
            ..Recurrent::of(&weights.recurrent)
        },
        gates: match variant {
            Variant::Keep => Gates::Keep(kept),
            Variant::Discard => Gates::Discard { z: &discarded, stride },
            Variant::Fused => Gates::Fused { x: &x, input: &weights.input, bias: &bias },
        },
        extra: &mut extra,
        h0: &h0,
        h: &mut h,
        cells: match (which.geometry().cells, variant) {
            (false, _) => CellStates::None,
            (true, Variant::Keep) => CellStates::Keep { s0: &s0, s: &mut s },
            (true, _) => CellStates::InTurns { s: &mut s, other: &mut other },
        },
        zoneout: Some(Zoneout { rates: [0.5; 2], keys: Some(bytemuck::cast_slice(&keys)) }),
        dropout: Some(Dropout { mask: &mask, before: &seen0, seen: &mut seen }),
        norm: Some(Norm {
            epsilon: 1e-5,
            gain: &gain,
            bias: &norm_bias,
            normal: &mut normal,
            normal_extra: &mut normal_extra,
            inverse: &mut inverse,
        }),
        scratch: &mut scratch,
    }
    .run(isa, &mut Pass::serial());
    if result.is_err() {
        assert_eq!(
            Snapshot::of(&[&gates, &h, &s, &extra, &seen, &other, &normal, &inverse]),
            snapshot
        );
    }
    result
}

#[test]
fn forward_passes() {
    for which in Which::all() {
        let cells = which.geometry().cells;
        for &variant in Variant::of(which) {
            let (lens, dims) = (forward_lens(which, variant), dims(which));
            let call = (which, dims, variant);
            for &isa in isas() {
                println!("{which:?}, {variant:?} on {isa}");
                let weights = weights(isa, which);
                let given = |lens: &Lens| forward(isa, call, &weights, lens);
                assert_eq!(given(&lens), Ok(()));
                for &(what, whole) in &lens {
                    let fused = variant == Variant::Fused;
                    let used = match what {
                        "x" | "bias" => fused,
                        "gates" => !fused,
                        "s0" => cells && variant == Variant::Keep,
                        "s" => cells,
                        "other" => cells && variant != Variant::Keep,
                        "extra" => true,
                        _ if what == vectors_name(which) => which.vectors() > 0,
                        _ => true,
                    };
                    let longer = (what != "scratch").then_some(whole + 1);
                    for other in whole.checked_sub(1).into_iter().chain(longer) {
                        let result = given(&with(&lens, what, other));
                        let expected = if used { Err(length(what, other, whole)) } else { Ok(()) };
                        assert_eq!(result, expected, "{what}");
                    }
                }
                let far = Dims { batch: usize::MAX / 4, ..dims };
                let error = forward(isa, (which, far, variant), &weights, &lens).unwrap_err();
                assert!(matches!(error, KernelError::TooLarge { .. }), "{error}");
            }
        }
    }
}

#[test]
fn weights_of_forward_passes() {
    for which in Which::all() {
        for &isa in isas() {
            let lens = forward_lens(which, Variant::Keep);
            let call = (which, dims(which), Variant::Keep);
            let run = |weights: &Weights| forward(isa, call, weights, &lens);
            let zeros =
                |isa, gates, units, depth| PackedMatrix::zeros(isa, gates, units, depth).unwrap();
            let Dims { hidden, outputs, .. } = dims(which);
            let sums = which.geometry().sums;
            let wrong =
                Weights { recurrent: zeros(isa, sums, hidden, outputs + 1), ..weights(isa, which) };
            let (made, needed) =
                (format!("of {} inputs", outputs + 1), format!("of {outputs} inputs"));
            assert_packing(run(&wrong), &made, &needed);
            let second = weights(isa, which).second;
            let other = second.is_none().then(|| zeros(isa, 1, hidden, hidden));
            let (made, needed) = match other {
                Some(_) => ("1 second", "0 of them"),
                None => ("0 second", "1 of them"),
            };
            assert_packing(run(&Weights { second: other, ..weights(isa, which) }), made, needed);
            for foreign in others(isa) {
                let theirs = weights(foreign, which);
                let wrong = Weights { recurrent: theirs.recurrent, ..weights(isa, which) };
                assert_packing(run(&wrong), foreign.name(), isa.name());
                if theirs.second.is_some() {
                    let wrong = Weights { second: theirs.second, ..weights(isa, which) };
                    assert_packing(run(&wrong), foreign.name(), isa.name());
                }
                if which.geometry().fuses {
                    let wrong = Weights { input: theirs.input, ..weights(isa, which) };
                    let lens = forward_lens(which, Variant::Fused);
                    let call = (which, dims(which), Variant::Fused);
                    let result = forward(isa, call, &wrong, &lens);
                    assert_packing(result, foreign.name(), isa.name());
                }
            }
            if !which.geometry().fuses {
                let call = (which, dims(which), Variant::Fused);
                let lens = forward_lens(which, Variant::Fused);
                let result = forward(isa, call, &weights(isa, which), &lens);
                assert_packing(result, "part of the step", "input's part");
            }
        }
    }
}

#[test]
fn strides_and_delays() {
    let which = Which::LSTM;
    for &isa in isas() {
        let (weights, dims) = (weights(isa, which), dims(which));
        let lens = forward_lens(which, Variant::Discard);
        for (z, stride, error) in [
            (6 * 21, 20, length("gates", 126, 120)),
            (6 * 20, 21, length("gates", 120, 126)),
            (6 * 19, 19, length("stride", 19, 20)),
        ] {
            let [_, _, _, h0, mut h, _, mut s, .., mut scratch] = buffers::<20>(&lens);
            let forward = Forward {
                dims,
                cell: which.cell(Activations::Tanh, &[]),
                recurrent: Recurrent::of(&weights.recurrent),
                gates: Gates::Discard { z: &filled(z), stride },
                extra: &mut [],
                h0: &h0,
                h: &mut h,
                cells: CellStates::InPlace(&mut s),
                zoneout: None,
                dropout: None,
                norm: None,
                scratch: &mut scratch,
            };
            assert_eq!(forward.run(isa, &mut Pass::serial()), Err(error));
        }
        let twice = [weights.recurrent.clone(), weights.recurrent.clone()];
        for delays in [&[1, 2][..], &[1, 0], &[1]] {
            let [_, _, _, h0, mut h, _, mut s, .., mut scratch] = buffers::<20>(&lens);
            let forward = Forward {
                dims,
                cell: which.cell(Activations::Tanh, &[]),
                recurrent: Recurrent { weights: &twice, delays, second: None },
                gates: Gates::Discard { z: &filled(120), stride: 20 },
                extra: &mut [],
                h0: &h0,
                h: &mut h,
                cells: CellStates::InPlace(&mut s),
                zoneout: None,
                dropout: None,
                norm: None,
                scratch: &mut scratch,
            };
            let error = forward.run(isa, &mut Pass::serial()).unwrap_err();
            assert!(error.to_string().starts_with("delays"), "{error}");
        }
    }
}

fn single_lens(which: Which) -> Lens {
    let (cell, d) = (which.geometry(), dims(which));
    let [z, extra] = single_room(&cell, d.hidden);
    vec![
        ("x", INPUTS),
        ("bias", cell.gates * d.hidden),
        ("h", d.outputs),
        ("s", usize::from(cell.cells) * d.hidden),
        ("next", d.outputs),
        ("s_next", usize::from(cell.cells) * d.hidden),
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
    let [x, bias, mut h, mut s, mut next, mut s_next, mut z, mut extra, vectors, mut o] =
        buffers(lens);
    let before = Snapshot::of(&[&h, &s, &next, &s_next, &z, &extra, &o]);
    let result = Single {
        hidden: dims(which).hidden,
        cell: which.cell(Activations::Tanh, &vectors),
        input: &weights.input,
        recurrent: Recurrent {
            second: weights.second.as_ref(),
            ..Recurrent::of(&weights.recurrent)
        },
        bias: &bias,
        x: &x,
        h: &mut h,
        s: &mut s,
        next: &mut next,
        z: &mut z,
        extra: &mut extra,
        keeps: Some(([0.5; 2], &mut s_next)),
        backwards: false,
        output: Some(dense),
        o: &mut o,
    }
    .run(isa);
    if result.is_err() {
        assert_eq!(Snapshot::of(&[&h, &s, &next, &s_next, &z, &extra, &o]), before);
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

fn backward_lens(which: Which) -> Lens {
    let (cell, d) = (which.geometry(), dims(which));
    let (rows, cells) = (d.steps * d.batch, usize::from(cell.cells) * d.hidden);
    vec![
        ("gates", rows * cell.gates * d.hidden),
        ("extra", rows * cell.extra * d.hidden),
        ("h", (rows + d.batch) * d.outputs),
        ("s", (rows + d.batch) * cells),
        ("dy", rows * d.outputs),
        ("dh", d.batch * d.outputs),
        ("ds", d.batch * cells),
        ("dh_all", usize::from(cell.projects) * rows * d.outputs),
        (vectors_name(which), which.vectors() * d.hidden),
        ("keys", rows * 2),
        ("dh_kept", d.batch * d.outputs),
        ("ds_kept", d.batch * cells),
        ("mask", d.batch * d.outputs),
        ("seen", (rows + d.batch) * d.outputs),
        ("s_made", rows * cells),
        ("gain", cell.norms * d.hidden),
        ("normal", rows * cell.gates * d.hidden),
        ("normal_extra", rows * (cell.norms - cell.gates) * d.hidden),
        ("inverse", rows * cell.norms),
        ("da", rows * cell.gates * d.hidden),
        ("da_extra", rows * (cell.norms - cell.gates) * d.hidden),
        ("scratch", backward_scratch_len(&cell, d, 1).unwrap()),
    ]
}

/// As [`forward`], for a backward pass.
fn backward(isa: Isa, which: Which, weights: &Weights, lens: &Lens) -> Result<(), KernelError> {
    let [
        mut gates,
        mut extra,
        h,
        s,
        dy,
        mut dh,
        mut ds,
        mut dh_all,
        vectors,
        noise @ ..,
        mut scratch,
    ] = buffers::<22>(lens);
    let [keys, mut dh_kept, mut ds_kept, mask, seen, mut s_made, norm @ ..] = noise;
    let [gain, normal, normal_extra, inverse, mut da, mut da_extra] = norm;
    let before =
        Snapshot::of(&[&gates, &extra, &dh, &ds, &dh_all, &dh_kept, &ds_kept, &s_made, &da]);
    let delays = vec![1; weights.back.len()];
    let result = Backward {
        dims: dims(which),
        cell: which.cell(Activations::Tanh, &vectors),
        recurrent: Recurrent {
            weights: &weights.back,
            delays: &delays,
            second: weights.second_back.as_ref(),
        },
        gates: &mut gates,
        extra: &mut extra,
        h: &h,
        s: &s,
        dy: Some(&dy),
        dh: &mut dh,
        ds: &mut ds,
        dh_all: &mut dh_all,
        zoneout: Some((
            Zoneout { rates: [0.5; 2], keys: Some(bytemuck::cast_slice(&keys)) },
            Kept { h: &mut dh_kept, s: &mut ds_kept },
        )),
        dropout: Some((&mask, &seen)),
        norm: Some(NormBack {
            gain: &gain,
            normal: &normal,
            normal_extra: &normal_extra,
            inverse: &inverse,
            da: &mut da,
            da_extra: &mut da_extra,
        }),
        s_made: &mut s_made,
        scratch: &mut scratch,
    }
    .run(isa, &mut Pass::serial());
    if result.is_err() {
        let after =
            Snapshot::of(&[&gates, &extra, &dh, &ds, &dh_all, &dh_kept, &ds_kept, &s_made, &da]);
        assert_eq!(after, before);
    }
    result
}

#[test]
fn backward_passes() {
    for which in Which::all() {
        let lens = backward_lens(which);
        for &isa in isas() {
            println!("{which:?} on {isa}");
            let all = weights(isa, which);
            assert_eq!(backward(isa, which, &all, &lens), Ok(()));
            for &(what, whole) in &lens {
                if which.vectors() == 0 && what == vectors_name(which) {
                    continue;
                }
                // Scratch may be longer than is needed.
                let longer = (what != "scratch").then_some(whole + 1);
                for other in whole.checked_sub(1).into_iter().chain(longer) {
                    let result = backward(isa, which, &all, &with(&lens, what, other));
                    assert_eq!(result, Err(length(what, other, whole)));
                }
            }
            let mut wrong = weights(isa, which);
            wrong.back[0] = PackedMatrix::zeros(isa, 1, dims(which).outputs, 7).unwrap();
            assert_packing(backward(isa, which, &wrong, &lens), "of 7 inputs", "inputs");
            for foreign in others(isa) {
                let wrong = Weights { back: weights(foreign, which).back, ..weights(isa, which) };
                let result = backward(isa, which, &wrong, &lens);
                assert_packing(result, foreign.name(), isa.name());
            }
        }
    }
}
