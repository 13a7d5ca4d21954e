//! LSTM passes, fused and planned, beside the same from parts: matrixmultiply and
//! scalar activations. Both are checked against each other before they are timed.

mod unfused;

use bptt::{Accumulate, Gradients, Isa, Layer, Lstm, OutputGradients, Purpose};
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

fn shape(c: &mut Criterion, shape: Shape) -> Result<(), bptt::Error> {
    let Shape { input, hidden, batch, steps } = shape;
    let isa = Isa::best()?;
    let mut rng = StdRng::seed_from_u64(1);
    let lstm = Lstm::new(input, hidden)?;
    let parameters = lstm.init(bptt::Init::Glorot, &mut rng)?;
    let mut weights = lstm.pack(&parameters, Purpose::TrainingWithInputGradient, isa)?;
    let plan = lstm.plan(steps, batch, isa)?;
    let mut arena = plan.allocate()?;
    let mut gradients = lstm.parameters()?;
    let mut random =
        |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let x = random(steps * batch * input);
    let dy = random(steps * batch * hidden);
    let mut dx = vec![0.0; x.len()];
    let mut y = vec![0.0; dy.len()];
    let mut parts = Unfused::new(shape);
    let mut stream = lstm.stream(batch, isa)?;

    let mut train = || -> Result<(), bptt::Error> {
        weights.update(&parameters)?;
        plan.forward(&weights, &x, None, &mut arena)?;
        let outputs = OutputGradients { dy: Some(&dy), ..Default::default() };
        let to = Gradients { dx: Some(&mut dx), ..Gradients::of(&mut gradients, Accumulate::No) };
        plan.backward(&weights, &x, outputs, &mut arena, to)
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

    assert_close("dx", &dx, &parts.dx);
    assert_close("h", arena.hidden()?, &parts.h[batch * hidden..]);
    assert_close("gradients", gradients.as_slice(), &parts.gradients.concat());

    let mut group = c.benchmark_group(format!("{name} infer"));
    group.sample_size(20).throughput(Throughput::Elements(flops));
    group.bench_function("bptt", |b| {
        b.iter(|| stream.forward(&weights, &x, &mut y).expect("the shapes fit"));
    });
    group.bench_function("unfused", |b| {
        b.iter(|| parts.forward(parameters.as_slice(), &x).expect("the shapes fit"));
    });
    group.finish();
    Ok(())
}

/// Both compute the same numbers, up to rounding: within 10⁻³ of the largest.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    let largest = theirs.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-3 * largest, "{what}: {a} and {b}, largest {largest}");
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
