//! Computations on each row alone: what does not fit is refused before anything is written, rows keep
//! what lies between them, and threads change no bit.

mod common;

use bptt_kernels::cells::Activations;
use bptt_kernels::rowwise::{
    LayerNormBackward, LayerNormForward, Strided, StridedMut, activate, activation_gradients,
    drop_out,
};
use bptt_kernels::team::{Pass, Team};
use bptt_kernels::{Isa, KernelError};
use bptt_reference::sample::uniform;
use common::isas;

/// The name of what was refused.
fn refused(result: Result<(), KernelError>) -> &'static str {
    match result.unwrap_err() {
        KernelError::Short { what, .. }
        | KernelError::Length { what, .. }
        | KernelError::Dimension { what, .. } => what,
        other => panic!("{other}"),
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let isa = Isa::available()[0];
    let pass = &mut Pass::serial();
    let (mut y, five) = ([7.0; 8], [1.0; 5]);
    let mut map = |size, len: usize, stride| {
        let to = StridedMut { values: &mut y[..len], stride };
        activate(isa, Activations::Tanh.into(), size, to, pass)
    };
    assert_eq!(refused(map((2, 3), 6, 2)), "stride");
    assert_eq!(refused(map((2, 3), 6, 4)), "y");
    let from = |stride| Strided { values: &five[..], stride };
    let mut drop = |dropout, keys: &[u32], from: Strided<'_>| {
        let to = StridedMut { values: &mut y, stride: 4 };
        drop_out(isa, (dropout, keys), (2, 3), from, to, &mut Pass::serial())
    };
    assert_eq!(refused(drop(0.5, &[1; 4], from(3))), "from");
    assert_eq!(refused(drop(0.5, &[1; 3], from(2))), "stride");
    let six = [1.0; 6];
    let from = |values| Strided { values, stride: 3 };
    let mut drop = |dropout, keys: &[u32]| {
        let to = StridedMut { values: &mut y, stride: 4 };
        drop_out(isa, (dropout, keys), (2, 3), from(&six), to, &mut Pass::serial())
    };
    assert_eq!(refused(drop(0.5, &[1; 3])), "keys");
    for dropout in [1.0, -0.5, f32::NAN] {
        assert_eq!(refused(drop(dropout, &[1; 4])), "dropout");
    }
    let to = StridedMut { values: &mut y, stride: 4 };
    let wrong = activation_gradients(
        isa,
        Activations::Tanh.into(),
        (2, 3),
        (from(&six), from(&five)),
        to,
        &mut Pass::serial(),
    );
    assert_eq!(refused(wrong), "dy");
    assert_eq!(y, [7.0; 8], "nothing is written");

    let normalise = |x: &[f32], bias: &[f32], normal: usize, inverse: usize, y: usize| {
        let (mut to, mut inv, mut out) = (vec![7.0; normal], vec![7.0; inverse], vec![7.0; y]);
        let result = LayerNormForward {
            rows: 2,
            x,
            epsilon: 0.1,
            gain: &[1.0; 3],
            bias,
            normal: &mut to,
            inverse: &mut inv,
            y: StridedMut { values: &mut out, stride: 3 },
        }
        .run(isa, &mut Pass::serial());
        assert!([to, inv, out].concat().iter().all(|v| *v == 7.0));
        refused(result)
    };
    assert_eq!(normalise(&five, &[0.0; 3], 6, 2, 6), "x");
    assert_eq!(normalise(&six, &[0.0; 2], 6, 2, 6), "bias");
    assert_eq!(normalise(&six, &[0.0; 3], 5, 2, 6), "normal");
    assert_eq!(normalise(&six, &[0.0; 3], 6, 3, 6), "inverse");
    assert_eq!(normalise(&six, &[0.0; 3], 6, 2, 5), "y");
    let (gain, inverse) = (&[1.0; 3][..], &[1.0; 2][..]);
    let dy = Strided { values: &five, stride: 3 };
    let wrong = LayerNormBackward { rows: 2, gain, normal: &six, inverse, dy, dx: &mut [7.0; 6] };
    assert_eq!(refused(wrong.run(isa, &mut Pass::serial())), "dy");
}

/// 500 rows of 30 floats, 33 floats apart, on one thread and on several: the three floats between rows
/// stay as they are.
#[test]
fn rows_are_apart_and_threads_change_no_bit() {
    let (rows, width, stride) = (500, 30, 33);
    let len = (rows - 1) * stride + width;
    let (x, dy) = (uniform(1, rows * width, 2.0), uniform(2, len, 2.0));
    let (gain, bias) = (uniform(3, width, 1.0), uniform(4, width, 1.0));
    let keys: Vec<u32> = (0..2 * rows as u32).collect();
    for &isa in isas() {
        let of = |threads| {
            let mut team = Team::new(threads).unwrap();
            team.pass(usize::MAX, |pass| {
                let (mut y, mut dropped) = (vec![9.0; len], vec![9.0; len]);
                let (mut normal, mut inverse) = (vec![0.0; rows * width], vec![0.0; rows]);
                LayerNormForward {
                    rows,
                    x: &x,
                    epsilon: 1e-5,
                    gain: &gain,
                    bias: &bias,
                    normal: &mut normal,
                    inverse: &mut inverse,
                    y: StridedMut { values: &mut y, stride },
                }
                .run(isa, pass)
                .unwrap();
                let to = StridedMut { values: &mut y, stride };
                activate(isa, Activations::Relu.into(), (rows, width), to, pass).unwrap();
                let from = Strided { values: &dy, stride };
                let to = StridedMut { values: &mut dropped, stride };
                drop_out(isa, (0.25, &keys), (rows, width), from, to, pass).unwrap();
                let mut dx = vec![0.0; rows * width];
                let dy = Strided { values: &dropped, stride };
                let (gain, normal, inverse) = (&gain[..], &normal[..], &inverse[..]);
                LayerNormBackward { rows, gain, normal, inverse, dy, dx: &mut dx }
                    .run(isa, pass)
                    .unwrap();
                (y, dropped, dx)
            })
        };
        let one = of(1);
        assert!(of(2) == one && of(3) == one, "{isa}");
        let between =
            |all: &[f32]| all.chunks(stride).all(|row| row[width..].iter().all(|v| *v == 9.0));
        assert!(between(&one.0) && between(&one.1));
    }
}
