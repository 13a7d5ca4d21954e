//! Sizes of nothing and sizes beyond memory: errors, never an abort.

mod common;

use bptt::{Error, Init, Lstm};
use common::{isas, value};
use rand::{SeedableRng, rngs::StdRng};

#[test]
fn sizes_of_nothing() {
    let error = value("input_size", "0", "1 or more");
    assert_eq!(error.to_string(), "input_size is 0, expected 1 or more");
    assert_eq!(Lstm::new(0, 1), Err(error));
    assert_eq!(Lstm::new(1, 0), Err(value("hidden_size", "0", "1 or more")));
    let lstm = Lstm::new(1, 1).unwrap();
    for &isa in isas() {
        assert_eq!(lstm.plan(0, 1, isa), Err(value("steps", "0", "1 or more")));
        assert_eq!(lstm.plan(1, 0, isa), Err(value("batch", "0", "1 or more")));
        assert_eq!(lstm.stream(0, isa).unwrap_err(), value("batch", "0", "1 or more"));
    }
}

#[test]
fn sizes_beyond_memory() {
    let too_large = |what| Error::TooLarge { what };
    let error = Lstm::new(usize::MAX, 1).unwrap_err();
    assert_eq!(error, too_large("the parameters"));
    assert_eq!(error.to_string(), "the parameters: too large for the address space");
    assert_eq!(Lstm::new(1, usize::MAX / 2), Err(too_large("the parameters")));
    let half = usize::BITS / 2;
    assert_eq!(Lstm::new(1, 1 << half), Err(too_large("the parameters")));

    // Sizes that fit the address space in principle, and no machine.
    let (side, far) = (1usize << (half - 4), 1usize << (2 * half - 10));
    let out_of_memory = |result: Result<(), Error>, at_least: usize| match result {
        Err(error @ Error::OutOfMemory { bytes }) => {
            assert!(bytes >= at_least, "{bytes}");
            assert_eq!(error.to_string(), format!("could not allocate {bytes} bytes"));
        }
        other => panic!("{other:?}"),
    };
    let wide = Lstm::new(1, side).unwrap();
    out_of_memory(wide.parameters().map(drop), 16 * side * side);
    let mut rng = StdRng::seed_from_u64(1);
    out_of_memory(wide.init(Init::Glorot, &mut rng).map(drop), 16 * side * side);
    let narrow = Lstm::new(1, 1).unwrap();
    for &isa in isas() {
        for (steps, batch) in [(far, 1), (1, far), (side, side / 16)] {
            let plan = narrow.plan(steps, batch, isa).unwrap();
            out_of_memory(plan.allocate().map(drop), plan.arena_bytes());
        }
        out_of_memory(narrow.stream(far, isa).map(drop), 4 * 6 * far);

        let arena = |steps, batch| narrow.plan(steps, batch, isa).unwrap_err();
        for (steps, batch) in [(usize::MAX, 1), (usize::MAX / 32, 1), (1, usize::MAX / 32)] {
            assert_eq!(arena(steps, batch), too_large("the arena"));
        }
        assert_eq!(arena(1, usize::MAX), too_large("the inputs"));
        assert_eq!(arena(usize::MAX / 2, 3), too_large("the inputs"));
        let error = narrow.stream(usize::MAX / 2, isa).unwrap_err();
        assert_eq!(error, too_large("the arena"));
    }
}

#[test]
fn initial_weights_without_a_limit() {
    for (limit, given) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.5, "-0.5")] {
        let init = Init::Uniform { limit };
        let error = Lstm::new(2, 3).unwrap().init(init, &mut StdRng::seed_from_u64(1));
        assert_eq!(error.unwrap_err(), value("limit", given, "finite, 0 or more"));
    }
}
