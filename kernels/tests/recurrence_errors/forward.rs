//! Forward passes.

use super::common::{Snapshot, Variant, Which, filled, isas};
use super::*;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{
    CellStates, Dropout, Forward, Gates, Norm, Recurrent, StepRows, Zoneout, forward_scratch_len,
};
use bptt_kernels::team::Pass;

fn forward_lens(which: Which, variant: Variant) -> Lens {
    let (cell, d) = (which.geometry(), dims(which));
    let (rows, cells) = (d.steps() * d.batch(), usize::from(cell.cells) * d.hidden);
    let keep = variant == Variant::Keep;
    let extra = match (keep, cell.is_double()) {
        (true, _) => rows,
        (false, true) => d.batch(),
        (false, false) => 0,
    };
    let inputs = if variant == Variant::Fused { INPUTS } else { 0 };
    let kept = if keep { rows } else { d.batch() };
    vec![
        ("x", rows * INPUTS),
        ("gates", rows * cell.gates * d.hidden),
        ("bias", cell.gates * d.hidden),
        ("h0", d.batch() * d.outputs),
        ("h", rows * d.outputs),
        ("c0", d.batch() * cells),
        ("c", if keep { rows } else { d.batch() } * cells),
        ("extra", extra * cell.extra * d.hidden),
        (vectors_name(which), which.vectors() * d.hidden),
        ("keys", d.steps() * d.batch() * 2),
        ("mask", d.batch() * d.outputs),
        ("before", d.batch() * d.outputs),
        ("seen", d.steps() * d.batch() * d.outputs),
        ("other", if keep { 0 } else { d.batch() * cells }),
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
    (which, dims, variant): (Which, Dims<'static>, Variant),
    weights: &Weights,
    lens: &Lens,
) -> Result<(), KernelError> {
    let [x, mut gates, bias, h0, mut h, c0, mut c, mut extra, vectors, noise @ .., mut scratch] =
        buffers::<20>(lens);
    let [keys, mask, seen0, mut seen, mut other, norm @ ..] = noise;
    let [gain, norm_bias, mut normal, mut normal_extra, mut inverse] = norm;
    let snapshot = Snapshot::of(&[&gates, &h, &c, &extra, &seen, &other, &normal, &inverse]);
    let (kept, discarded) = (gates.as_mut_slice(), filled(0));
    let discarded = if variant == Variant::Discard { kept.to_vec() } else { discarded };
    let stride = which.geometry().gates * dims.hidden;
    let result = Forward {
        dims,
        stretch: 0..dims.steps(),
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
        h_stride: dims.outputs,
        cells: match (which.geometry().cells, variant) {
            (false, _) => CellStates::None,
            (true, Variant::Keep) => CellStates::Keep { c0: &c0, c: &mut c },
            (true, _) => CellStates::InTurns { c: &mut c, other: &mut other },
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
            Snapshot::of(&[&gates, &h, &c, &extra, &seen, &other, &normal, &inverse]),
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
                        "c0" => cells && variant == Variant::Keep,
                        "c" => cells,
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
                let far = Dims { schedule: StepRows::dense(dims.steps(), usize::MAX / 4), ..dims };
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
            let [_, _, _, h0, mut h, _, mut c, .., mut scratch] = buffers::<20>(&lens);
            let forward = Forward {
                dims,
                stretch: 0..dims.steps(),
                cell: which.cell(Activations::Tanh, &[]),
                recurrent: Recurrent::of(&weights.recurrent),
                gates: Gates::Discard { z: &filled(z), stride },
                extra: &mut [],
                h0: &h0,
                h: &mut h,
                h_stride: dims.outputs,
                cells: CellStates::InPlace(&mut c),
                zoneout: None,
                dropout: None,
                norm: None,
                scratch: &mut scratch,
            };
            assert_eq!(forward.run(isa, &mut Pass::serial()), Err(error));
        }
        let twice = [weights.recurrent.clone(), weights.recurrent.clone()];
        for delays in [&[1, 2][..], &[1, 0], &[1]] {
            let [_, _, _, h0, mut h, _, mut c, .., mut scratch] = buffers::<20>(&lens);
            let forward = Forward {
                dims,
                stretch: 0..dims.steps(),
                cell: which.cell(Activations::Tanh, &[]),
                recurrent: Recurrent { weights: &twice, delays, second: None },
                gates: Gates::Discard { z: &filled(120), stride: 20 },
                extra: &mut [],
                h0: &h0,
                h: &mut h,
                h_stride: dims.outputs,
                cells: CellStates::InPlace(&mut c),
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
