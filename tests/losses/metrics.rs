//! Metrics against their definitions.

use bptt::Error;
use bptt::metrics::{accuracy, best_path, bits, edit_distance, perplexity};
use bptt_reference::sample::uniform;

#[test]
fn accuracy_counts_the_rows_that_are_right() {
    let y = [
        0.0,
        1.0,
        2.0,
        /* */ 5.0,
        5.0,
        4.0,
        /* */ f32::NAN,
        1.0,
        0.0,
        /* */ 1.0,
        0.0,
        0.0,
    ];
    let all = accuracy(&y, &[2, 0, 1, 1], None).unwrap();
    assert_eq!((all.correct, all.counted, all.share()), (2, 4, 0.5));
    let some = accuracy(&y, &[2, 1, 9, 0], Some(&[true, true, false, true])).unwrap();
    assert_eq!((some.correct, some.counted), (2, 3));
    let none = accuracy(&y, &[9; 4], Some(&[false; 4])).unwrap();
    assert_eq!((none.correct, none.counted, none.share()), (0, 0, 0.0));
    assert_eq!(accuracy(&[], &[], None).unwrap().counted, 0);
    assert_eq!(
        accuracy(&y, &[0, 3, 0, 0], None),
        Err(Error::Target { row: 1, given: 3, outputs: 3 })
    );
    assert_eq!(accuracy(&y, &[0; 5], None), Err(Error::Multiple { what: "y", given: 12, of: 5 }));
    let length = Error::Length { what: "mask", given: 3, expected: 4 };
    assert_eq!(accuracy(&y, &[0; 4], Some(&[true; 3])), Err(length));
    assert!(accuracy(&[], &[0], None).is_err() && accuracy(&y, &[], None).is_err());
}

#[test]
fn perplexity_and_bits_of_nats() {
    // A guess among 8 has 3 bits.
    assert!((perplexity(8f64.ln()) - 8.0).abs() < 1e-12);
    assert!((bits(8f64.ln()) - 3.0).abs() < 1e-12);
}

/// By its recursive definition.
fn distance(a: &[u32], b: &[u32]) -> usize {
    match (a, b) {
        ([], rest) | (rest, []) => rest.len(),
        ([x, a_rest @ ..], [y, b_rest @ ..]) => {
            let substituted = distance(a_rest, b_rest) + usize::from(x != y);
            substituted.min(distance(a, b_rest) + 1).min(distance(a_rest, b) + 1)
        }
    }
}

#[test]
fn edit_distances() {
    let draw = |seed, len| -> Vec<u32> {
        uniform(seed, len, 1.5).iter().map(|u| (u + 1.5) as u32).collect()
    };
    for seed in 0..60 {
        let (a, b) = (draw(seed, seed as usize % 7), draw(seed + 100, seed as usize / 7 % 7));
        assert_eq!(edit_distance(&a, &b), distance(&a, &b), "{a:?}, {b:?}");
    }
    assert_eq!(edit_distance::<u8>(&[], b"abc"), 3);
}

#[test]
fn best_paths_are_collapsed() {
    let of = |path: &[usize], blank| {
        let row = |&k: &usize| (0..3).map(move |at| if at == k { 1.0f32 } else { -1.0 });
        best_path(&path.iter().flat_map(row).collect::<Vec<_>>(), 3, blank).unwrap()
    };
    assert_eq!(of(&[0, 1, 1, 0, 1, 2, 2, 0], 0), [1, 1, 2]);
    assert_eq!(of(&[0, 1, 1, 0, 1, 2, 2, 0], 2), [0, 1, 0, 1, 0]);
    assert_eq!(of(&[0, 0], 0), [] as [u32; 0]);
    assert_eq!(of(&[], 0), [] as [u32; 0]);
    assert!(best_path(&[f32::NAN], 1, 0).is_err() && best_path(&[1.0], 0, 0).is_err());
    assert!(best_path(&[1.0; 4], 3, 0).is_err());
}
