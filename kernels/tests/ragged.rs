//! Passes over sequences of different lengths: each sequence has the bits of itself alone, forward
//! and backward, for every cell.

mod common;

use bptt_kernels::Isa;
use bptt_kernels::cells::Activations;
use bptt_kernels::recurrence::{RaggedRows, StepRows};
use common::{Case, Kept, Variant, Which, assert_bits, isas};
use proptest::prelude::*;

const DELAYS: &[&[usize]] = &[&[3, 1], &[7, 3, 1], &[4, 2], &[3], &[5, 4]];

const PHI: Activations = Activations::Tanh;

/// Forward and backward passes of a case: what forward has left, and dz, the extra block, ∂L/∂h₀,
/// ∂L/∂c₀ and all of ∂L/∂h.
fn passes(case: &Case, isa: Isa) -> (Kept, [Vec<f32>; 5]) {
    let make = |values: &[f32]| values.to_vec();
    let kept = case.forward(isa, PHI, Variant::Keep, make);
    let back = case.backward(isa, PHI, &kept, make);
    (kept, back)
}

/// The rows of sequence `n` among those of all steps.
fn rows_of(schedule: StepRows<'_>, n: usize, width: usize, all: &[f32]) -> Vec<f32> {
    let steps = (0..schedule.steps()).filter(|&step| schedule.count(step) > n);
    steps.flat_map(|step| &all[(schedule.start(step) + n) * width..][..width]).copied().collect()
}

/// The states of sequence `n` in `[D, B, width]`.
fn states_of(schedule: StepRows<'_>, n: usize, width: usize, all: &[f32]) -> Vec<f32> {
    let rows = all.chunks(width.max(1)).skip(n).step_by(schedule.batch());
    rows.flatten().copied().collect()
}

/// Compares passes over all sequences with passes over each alone. `parts` are in the order of
/// their lengths, the longest first.
fn compare(parts: &[Case], threads: usize, cut: usize) {
    let (first, mut whole) = (&parts[0], Case::joined_with(parts));
    (whole.threads, whole.gap) = (threads, 3);
    whole.cut = cut.min(whole.dims.steps());
    let (schedule, geometry) = (whole.dims.schedule, whole.which.geometry());
    let (hidden, outputs) = (whole.dims.hidden, whole.dims.outputs);
    for &isa in isas() {
        let (kept, back) = passes(&whole, isa);
        for (n, part) in parts.iter().enumerate() {
            let (alone, back_alone) = passes(part, isa);
            let rows = |what: &str, width: usize, all: &[f32], alone: &[f32]| {
                let what = format!("{what} of sequence {n}, {:?}", first.which);
                assert_bits(&what, &rows_of(schedule, n, width, all), alone);
            };
            rows("gates", geometry.gates * hidden, &kept.gates, &alone.gates);
            rows("extra", geometry.extra * hidden, &kept.extra, &alone.extra);
            rows("h", outputs, &kept.h, &alone.h);
            rows("c", if geometry.cells { hidden } else { 0 }, &kept.c, &alone.c);
            let [dz, extra, dh, dc, dh_all] = &back;
            let [dz_alone, extra_alone, dh_alone, dc_alone, dh_all_alone] = &back_alone;
            rows("dz", geometry.gates * hidden, dz, dz_alone);
            rows("extra, backward", geometry.extra * hidden, extra, extra_alone);
            rows("all dh", if geometry.projects { outputs } else { 0 }, dh_all, dh_all_alone);
            assert_bits("dh", &states_of(schedule, n, outputs, dh), dh_alone);
            assert_bits("dc", &states_of(schedule, n, part.c0.len(), dc), dc_alone);
        }
    }
}

/// Cases of single sequences of these lengths with the same parameters.
fn parts(
    which: Which,
    delays: &'static [usize],
    (inputs, hidden): (usize, usize),
    mut lengths: Vec<usize>,
    seed: u64,
    noisy: bool,
) -> Vec<Case> {
    lengths.sort_by(|a, b| b.cmp(a));
    let of = |seed: u64, len: usize| {
        Case::with_delays(which, delays, inputs, which.dims(len, 1, hidden), seed, 0.3)
    };
    let shared = of(seed, 1);
    let own = lengths.iter().enumerate().map(|(n, &len)| {
        let mut own = of(seed.wrapping_add(1 + n as u64), len);
        own.keys.iter_mut().for_each(|key| *key += 1000 * n as u32);
        let Case { u, w, b, p, vectors, .. } = shared.clone();
        Case { u, w, b, p, vectors, noisy, ..own }
    });
    own.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_sequence_is_as_alone(
        which in proptest::sample::select(Which::all()),
        sizes in (1usize..6, 1usize..40),
        lengths in proptest::collection::vec(0usize..8, 1..20),
        seed in any::<u64>(),
        noisy in any::<bool>(),
        (threads, cut) in (1usize..4, 0usize..8),
    ) {
        compare(&parts(which, &[1], sizes, lengths, seed, noisy), threads, cut);
    }

    /// Some sequences are shorter than the longest delay, and end within it.
    #[test]
    fn each_sequence_is_as_alone_with_delays(
        delays in proptest::sample::select(DELAYS),
        sizes in (1usize..6, 1usize..24),
        lengths in proptest::collection::vec(0usize..12, 1..12),
        seed in any::<u64>(),
        noisy in any::<bool>(),
        threads in 1usize..4,
    ) {
        compare(&parts(Which::Vanilla, delays, sizes, lengths, seed, noisy), threads, 0);
    }
}

/// As large as to be divided among threads, by sequences and by units.
#[test]
fn each_sequence_is_as_alone_on_threads() {
    for which in [Which::GruAfter, Which::Lstm { peepholes: true, coupled: false, projected: true }]
    {
        for (hidden, threads) in [(24, 3), (200, 2)] {
            let lengths = (0..70).map(|n| n * n % 23).collect();
            compare(&parts(which, &[1], (3, hidden), lengths, 7, hidden == 24), threads, 0);
        }
    }
}

#[test]
fn schedules_that_are_refused() {
    for (starts, batch) in
        [(&[][..], 1), (&[1, 2], 1), (&[0, 3, 5, 8], 3), (&[0, 3], 2), (&[0, 2, 2], 2)]
    {
        RaggedRows::new(starts.to_vec(), batch).unwrap_err();
    }
    let empty = RaggedRows::new(vec![0], 3).unwrap();
    let empty = empty.step_rows();
    assert_eq!((empty.steps(), empty.batch(), empty.count(0)), (0, 3, 0));
}
