//! Connectionist temporal classification at its edges: repetitions, empty targets, and targets that
//! have no path.

use crate::assert_near;
use crate::common::{assert_bits, isas};
use bptt::{Ctc, Error, Loss, Outputs, Runtime, Schedule};
use bptt_reference::losses;
use bptt_reference::sample::{uniform, widen};

fn gradient(loss: &Ctc, schedule: &Schedule, y: &[f32], size: usize) -> (f64, Vec<f32>) {
    let (mut y, runtime) = (y.to_vec(), Runtime::best().unwrap());
    let value = loss.gradient(runtime, Outputs::of(schedule, &mut y, size)).unwrap();
    (value, y)
}

/// All targets that have a path, and some that have one path alone.
#[test]
fn repetitions_and_empty_targets() {
    let targets: [&[u32]; 9] = [
        &[],
        &[1],
        &[1, 1],
        &[1, 2],
        &[2, 2, 2],
        &[1, 1, 2],
        &[1, 2, 1, 2, 1],
        &[2, 2, 1, 1],
        &[1, 1, 1],
    ];
    for labels in targets {
        for steps in 1..=6 {
            let repetitions = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
            if steps < labels.len() + repetitions {
                continue;
            }
            let y = uniform(steps as u64, steps * 3, 2.0);
            let wide: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
            let expected = losses::ctc(&widen(&y), 3, &wide, 0);
            let (lengths, schedule) = ([labels.len()], Schedule::dense(steps, 1));
            let (value, dy) = gradient(&Ctc::sum(labels, &lengths), &schedule, &y, 3);
            assert_near(&format!("{labels:?} in {steps} steps"), value, expected, 1e-5);
            // All paths have a label at each step: the gradient of a step sums up to 0.
            for (step, dy) in dy.chunks(3).enumerate() {
                assert_near(&format!("step {step}"), dy.iter().sum::<f32>().into(), 0.0, 1e-6);
            }
        }
    }
    // Without a step there is nothing to be wrong about.
    let schedule = Schedule::packed(&[0]).unwrap();
    assert_eq!(gradient(&Ctc::sum(&[], &[0]), &schedule, &[], 3), (0.0, vec![]));
}

/// Targets that are longer than their sequence, or need a blank for which there is no step.
#[test]
fn targets_without_a_path() {
    let refused = |labels: &[u32], steps: usize, needed: usize| {
        let mut y = uniform(1, steps * 4, 1.0);
        let (before, lengths) = (y.clone(), [labels.len()]);
        let schedule = Schedule::packed(&[steps]).unwrap();
        let loss = Ctc::sum(labels, &lengths);
        let expected = Error::Value {
            what: "steps",
            given: format!("{steps} for sequence 0, whose target needs {needed}"),
            expected: "as many as a target needs, or with_zero_infinity".into(),
        };
        let targets = bptt::TargetRows::of(&schedule);
        assert_eq!(loss.check(targets, 4), Err(expected.clone()));
        let runtime = Runtime::best().unwrap();
        let outputs = Outputs::of(&schedule, &mut y, 4);
        assert_eq!(loss.gradient(runtime, outputs), Err(expected));
        assert_eq!(y, before);
    };
    refused(&[1, 2, 3], 2, 3);
    refused(&[1, 1], 2, 3);
    refused(&[3, 3, 3], 4, 5);
    refused(&[1], 0, 1);

    // With zero_infinity they have no loss, and the other sequences have theirs.
    let y = uniform(2, 9 * 4, 1.0);
    let schedule = Schedule::packed(&[2, 5, 2]).unwrap();
    let loss = Ctc::sum(&[1, 1, 3, 2, 3, 2, 1], &[2, 2, 3]).with_zero_infinity();
    let mut in_order = vec![0.0; y.len()];
    let rows = bptt::TargetRows::of(&schedule).in_time().unwrap();
    let all = (0..3).flat_map(|n| rows.of(n).to_vec());
    for (from, row) in y.chunks(4).zip(all.clone()) {
        in_order[row * 4..][..4].copy_from_slice(from);
    }
    let (value, dy) = gradient(&loss, &schedule, &in_order, 4);
    let dy: Vec<f32> = all.flat_map(|row| dy[row * 4..][..4].to_vec()).collect();
    let alone = Ctc::sum(&[3, 2], &[2]);
    let (expected, of_alone) = gradient(&alone, &Schedule::dense(5, 1), &y[8..28], 4);
    assert_eq!(value, expected);
    assert_bits("the others", &dy, &[vec![0.0; 8], of_alone, vec![0.0; 8]].concat());
}

/// A mask shortens a sequence, so that a target may have no path, and a sequence that is left out has
/// no target.
#[test]
fn masked_steps_are_no_steps() {
    let (y, schedule) = (uniform(3, 4 * 3, 1.0), Schedule::dense(4, 1));
    let loss = Ctc::sum(&[1, 1], &[2]);
    let with = |mask: [bool; 4]| {
        let (mut y, loss) = (y.clone(), loss.with_mask(&mask));
        let runtime = Runtime::best().unwrap();
        loss.gradient(runtime, Outputs::of(&schedule, &mut y, 3)).map(|value| (value, y))
    };
    let (value, dy) = with([true, true, false, true]).unwrap();
    let kept = [&y[..6], &y[9..]].concat();
    let (expected, of_kept) = gradient(&loss, &Schedule::dense(3, 1), &kept, 3);
    assert_eq!(value, expected);
    assert_bits("kept", &[&dy[..6], &dy[9..]].concat(), &of_kept);
    assert_eq!(dy[6..9], [0.0; 3]);
    assert!(with([true, false, false, true]).is_err());
    assert_eq!(with([false; 4]), Ok((0.0, vec![0.0; 12])));
}

/// Where one path is all but certain its rounding must not be seen, whatever the outputs are.
#[test]
fn huge_outputs() {
    for &isa in isas() {
        for huge in [1e4, 1e30, f32::MAX] {
            // The outputs say 1, blank, 1; the target is 1, 2.
            let mut y = [-huge, huge, -huge, huge, -huge, -huge, -huge, huge, f32::NEG_INFINITY];
            let loss = Ctc::sum(&[1, 2], &[2]);
            let value = loss.gradient(Runtime::new(isa), Outputs::new(&mut y, 3)).unwrap();
            assert!(value.is_finite() && value > f64::from(huge), "{value}");
            assert!(y.iter().all(|dy| dy.abs() <= 1.0), "{y:?}");
        }
    }
}
