//! Backward passes.

use super::common::{Snapshot, Which, isas};
use super::*;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{
    Backward, DropoutBack, NormBack, Recurrent, Zoneout, ZoneoutBack, backward_scratch_len,
};
use bptt_kernels::team::Pass;

fn backward_lens(which: Which) -> Lens {
    let (cell, d) = (which.geometry(), dims(which));
    let (rows, cells) = (d.steps() * d.batch(), usize::from(cell.cells) * d.hidden);
    vec![
        ("gates", rows * cell.gates * d.hidden),
        ("extra", rows * cell.extra * d.hidden),
        ("h0", d.batch() * d.outputs),
        ("h", rows * d.outputs),
        ("c0", d.batch() * cells),
        ("c", rows * cells),
        ("dy", rows * d.outputs),
        ("dh", d.batch() * d.outputs),
        ("dc", d.batch() * cells),
        ("dh_all", usize::from(cell.projects) * rows * d.outputs),
        (vectors_name(which), which.vectors() * d.hidden),
        ("keys", rows * 2),
        ("dh_kept", d.batch() * d.outputs),
        ("dc_kept", d.batch() * cells),
        ("mask", d.batch() * d.outputs),
        ("before", d.batch() * d.outputs),
        ("seen", rows * d.outputs),
        ("c_made", rows * cells),
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
        h0,
        h,
        c0,
        c,
        dy,
        mut dh,
        mut dc,
        mut dh_all,
        vectors,
        noise @ ..,
        mut scratch,
    ] = buffers::<25>(lens);
    let [keys, mut dh_kept, mut dc_kept, mask, seen0, seen, mut c_made, norm @ ..] = noise;
    let [gain, normal, normal_extra, inverse, mut da, mut da_extra] = norm;
    let before =
        Snapshot::of(&[&gates, &extra, &dh, &dc, &dh_all, &dh_kept, &dc_kept, &c_made, &da]);
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
        h0: &h0,
        h: &h,
        h_stride: dims(which).outputs,
        c0: &c0,
        c: &c,
        dy: Some(&dy),
        dy_stride: dims(which).outputs,
        dh: &mut dh,
        dc: &mut dc,
        dh_all: &mut dh_all,
        zoneout: Some(ZoneoutBack {
            zoneout: Zoneout { rates: [0.5; 2], keys: Some(bytemuck::cast_slice(&keys)) },
            dh_kept: &mut dh_kept,
            dc_kept: &mut dc_kept,
        }),
        dropout: Some(DropoutBack { mask: &mask, before: &seen0, seen: &seen }),
        norm: Some(NormBack {
            gain: &gain,
            normal: &normal,
            normal_extra: &normal_extra,
            inverse: &inverse,
            da: &mut da,
            da_extra: &mut da_extra,
        }),
        c_made: &mut c_made,
        scratch: &mut scratch,
    }
    .run(isa, &mut Pass::serial());
    if result.is_err() {
        let after =
            Snapshot::of(&[&gates, &extra, &dh, &dc, &dh_all, &dh_kept, &dc_kept, &c_made, &da]);
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
