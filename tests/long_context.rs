//! The example `long_context`: its task, its initial values, and that a budget changes no bit of a
//! training.

use bptt::{Loss, Outputs, Runtime};
use clap::Parser;
use rand::{SeedableRng, rngs::StdRng};
use std::path::Path;

#[allow(dead_code)]
#[path = "../examples/long_context/main.rs"]
mod example;

use example::are_same;
use example::args::Options;
use example::task::{Batch, INPUTS, SYMBOLS, steps};
use example::train::{Outcome, Way, model, train};

fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

fn options(arguments: &[&str]) -> Options {
    Options::parse_from(["long_context"].iter().chain(arguments))
}

fn run(way: Way, options: &Options) -> Outcome {
    train(way, options, |_, _| {}).unwrap()
}

#[test]
fn the_marked_symbol_is_asked_for_at_the_last_step() {
    let (lag, batch) = (12, 30);
    let drawn = Batch::draw(lag, batch, &mut rng());
    let last = lag * batch;
    assert_eq!(drawn.x.len(), steps(lag) * batch * INPUTS);
    for (row, x) in drawn.x.chunks(INPUTS).enumerate() {
        let (first, asked) = (row < batch, row >= last);
        assert_eq!([x[SYMBOLS], x[SYMBOLS + 1]], [first, asked].map(|is| f32::from(u8::from(is))));
        assert_eq!(x[..SYMBOLS].iter().filter(|x| **x == 1.0).count(), usize::from(first));
        assert!(first || x[..SYMBOLS].iter().all(|x| x.abs() <= 0.1));
        assert!(!asked || x[..SYMBOLS] == [0.0; SYMBOLS]);
        assert_eq!(drawn.mask[row], asked);
        if first {
            assert_eq!(x[drawn.classes[last + row] as usize], 1.0);
        }
    }
    // Outputs that name each symbol, and outputs that name the first one only.
    let mut y = vec![0.0; steps(lag) * batch * SYMBOLS];
    let first = drawn.classes[last..].iter().filter(|&&class| class == 0).count();
    y.chunks_mut(SYMBOLS).for_each(|y| y[0] = 1.0);
    assert_eq!(drawn.right(&y), first);
    for (y, &class) in y.chunks_mut(SYMBOLS).zip(&drawn.classes) {
        y.fill(0.0);
        y[class as usize] = 1.0;
    }
    assert_eq!(drawn.right(&y), batch);
}

/// The loss of the last steps alone is that of all steps.
#[test]
fn the_loss_is_that_of_the_last_step() {
    let (lag, batch) = (10, 5);
    let drawn = Batch::draw(lag, batch, &mut rng());
    let y: Vec<f32> = (0..steps(lag) * batch * SYMBOLS).map(|at| (at % 7) as f32 * 0.25).collect();
    let of_last = |from: usize| {
        let mut y = y[from * batch * SYMBOLS..].to_vec();
        let runtime = Runtime::best().unwrap();
        drawn.loss_from(from).value(runtime, Outputs::new(&mut y, SYMBOLS)).unwrap()
    };
    let all = of_last(0);
    assert!(all > 0.0);
    for from in [1, 7, lag] {
        assert_eq!(of_last(from), all);
    }
}

/// The forget gate's bias is log(T) with T from the lag to 8 times the lag, and the input gate has the
/// opposite.
#[test]
fn initial_biases_suit_the_lag() {
    let options = options(&["--lag", "3000", "--hidden", "200"]);
    let model = model(&options, &mut rng()).unwrap();
    let bias = model.parameters().tensor("0.bias").unwrap();
    let (input, forget) = (&bias[..200], &bias[200..400]);
    assert!(forget.iter().zip(input).all(|(f, i)| *f == -i && (8.0..=10.09).contains(f)));
    let mean = forget.iter().map(|f| f.exp()).sum::<f32>() / 200.0;
    assert!((mean - 13500.0).abs() < 2000.0, "{mean}");
    assert!(bias[400..].iter().all(|b| *b == 0.0));
}

#[test]
fn a_budget_changes_no_bit_and_a_short_lag_is_learned() {
    let options = options(&["--lag", "40", "--updates", "200", "--budget", "40"]);
    let [full, small] = [Way::Full, Way::Budget].map(|way| run(way, &options));
    assert!(are_same(&full, &small));
    assert!(small.again.bytes * 100 <= full.again.bytes * 40, "{:?}", small.again);
    assert!(small.again.steps + small.again.rows > 0);
    assert!(full.losses.last().unwrap() < &0.1, "{:?}", full.losses);
    assert!(full.right > 0.98, "{}", full.right);
}

/// The gradients of a truncated training do not reach the symbol. The lag is so long that the noise
/// hides the symbol from a network that was not taught to keep it.
#[test]
fn a_truncated_training_guesses() {
    let options = options(&["--lag", "500", "--updates", "100"]);
    let truncated = run(Way::Truncated, &options);
    let late = &truncated.losses[50..];
    let mean = late.iter().sum::<f64>() / late.len() as f64;
    assert!((mean - (SYMBOLS as f64).ln()).abs() < 0.1, "{mean}");
    assert!(truncated.right < 0.5, "{}", truncated.right);
}

#[test]
fn tables_and_plots_have_all_ways() {
    let options = options(&["--lag", "20", "--updates", "3", "--budget", "70", "--hidden", "8"]);
    let outcomes = Way::ALL.map(|way| run(way, &options));
    let table = example::table::table(&options, &outcomes);
    assert_eq!(table.lines().count(), 2 + Way::ALL.len(), "{table}");
    let columns = table.lines().next().unwrap().matches('|').count();
    assert!(table.lines().all(|line| line.matches('|').count() == columns), "{table}");

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("long_context");
    std::fs::create_dir_all(&folder).unwrap();
    example::plot::save(&folder, &options, &outcomes).unwrap();
    let svg = std::fs::read_to_string(folder.join("losses.svg")).unwrap();
    let png = std::fs::read(folder.join("losses.png")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(Way::ALL.iter().all(|way| svg.contains(&way.name(&options))), "{svg}");
    let mut pixels = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
    let mut bytes = vec![0; pixels.output_buffer_size().unwrap()];
    pixels.next_frame(&mut bytes).unwrap();
    assert!(bytes.contains(&0) && bytes.contains(&255));
}
