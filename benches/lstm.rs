//! Compares fused, planned LSTM passes with the same passes made of matrixmultiply and scalar
//! activations. The results are checked against each other before they are timed.

mod unfused;

use bptt::{Accumulate, Error, Lstm, Network, Runtime, Schedule};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use unfused::{Shape, Unfused};

/// I = H, B, τ.
const SHAPES: [(usize, usize, usize); 5] =
    [(16, 1, 100), (64, 32, 100), (256, 1, 150), (256, 16, 150), (512, 32, 25)];

fn passes(c: &mut Criterion) {
    for (hidden, batch, steps) in SHAPES {
        shape(c, Shape { input: hidden, hidden, batch, steps }).expect("the shapes fit");
    }
}

fn shape(c: &mut Criterion, shape: Shape) -> Result<(), Error> {
    let Shape { input, hidden, batch, steps } = shape;
    let mut rng = StdRng::seed_from_u64(1);
    let network = Network::new(Lstm::new(input, hidden)?);
    let mut model = network.init(&mut rng, Runtime::best()?)?;
    let parameters = model.parameters().clone();
    let training = model.training(Schedule::dense(steps, batch)).with_input_gradients();
    let mut workspace = training.workspace()?;
    let mut random =
        |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let x = random(steps * batch * input);
    let dy = random(steps * batch * hidden);
    let mut y = vec![0.0; dy.len()];
    let mut parts = Unfused::new(shape);

    let loss = |y: &mut [f32]| {
        y.copy_from_slice(&dy);
        0.0
    };
    let mut train = || -> Result<(), Error> {
        model.change(|_| Ok::<(), Error>(()))?;
        model.forward(&mut workspace, &x)?;
        model.backward(&mut workspace, &x, &loss, Accumulate::No).map(|_| ())
    };
    train()?;
    parts.forward(parameters.as_slice(), &x)?;
    parts.backward(parameters.as_slice(), &x, &dy)?;

    let name = format!("lstm H {hidden} B {batch} T {steps}");
    let flops = (2 * steps * batch * 4 * hidden * (input + hidden)) as u64;
    let mut group = c.benchmark_group(format!("{name} train"));
    group.sample_size(20).throughput(Throughput::Elements(3 * flops));
    group.bench_function("bptt", |b| b.iter(|| train().expect("the shapes fit")));
    group.bench_function("unfused", |b| {
        b.iter(|| {
            parts.forward(parameters.as_slice(), &x).expect("the shapes fit");
            parts.backward(parameters.as_slice(), &x, &dy).expect("the shapes fit");
        });
    });
    group.finish();

    assert_close("dx", workspace.input_gradients()?, &parts.dx);
    assert_close("gradients", workspace.gradients().as_slice(), &parts.gradients.concat());
    assert_close("h", model.forward(&mut workspace, &x)?, &parts.h[batch * hidden..]);

    let mut stream = model.stream(batch)?;
    let mut group = c.benchmark_group(format!("{name} infer"));
    group.sample_size(20).throughput(Throughput::Elements(flops));
    group.bench_function("bptt", |b| {
        b.iter(|| stream.forward(&x, &mut y).expect("the shapes fit"));
    });
    group.bench_function("unfused", |b| {
        b.iter(|| parts.forward(parameters.as_slice(), &x).expect("the shapes fit"));
    });
    group.finish();
    Ok(())
}

/// Asserts that both compute the same numbers up to rounding: within 10⁻³ of the largest.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    let largest = theirs.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-3 * largest, "{what}: {a} and {b}, largest {largest}");
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
