//! What goes element by element or row by row: optimisers, softmax, sums over time.

use super::Drawn;
use super::drawn::BEFORE;
use bptt_kernels::Joined;
use bptt_kernels::diagonal::Diagonal;
use bptt_kernels::optim::{Adam, Momentum};
use bptt_kernels::softmax::{CrossEntropy, softmax};
use bptt_kernels::team::Pass;

/// Steps of both optimisers.
pub fn optimisers(drawn: &mut Drawn<'_>) {
    let (isa, len) = (drawn.isa, drawn.choice(200));
    let mut params = vec![BEFORE; len];
    let (mut velocity, gradients) = (drawn.floats(&[len]), drawn.floats(&[len]));
    let momentum = Momentum { learning_rate: 0.1, momentum: 0.9 };
    let result = momentum.step(isa, &mut params, &mut velocity, &gradients);
    drawn.check(result, &[&params, &velocity]);

    drawn.anew();
    let mut params = vec![BEFORE; len];
    let [mut first, mut second, gradients] = [(); 3].map(|()| drawn.floats(&[len]));
    let (beta1, beta2, epsilon) = ([0.9, 0.1], [0.999, 0.001], 1e-8);
    let adam = Adam { beta1, beta2, rate: 0.01, root: 31.6, epsilon };
    let result = adam.step(isa, &mut params, &mut first, &mut second, &gradients);
    drawn.check(result, &[&params, &first, &second]);
}

/// Rows of a number of classes that divides the logits, or does not.
pub fn softmax_rows(drawn: &mut Drawn<'_>) {
    let size = drawn.size(40);
    let classes = drawn.near(size);
    let mut logits = vec![BEFORE; size * drawn.choice(8) + usize::from(drawn.seldom())];
    drawn.demand(classes > 0 && logits.len().is_multiple_of(classes.max(1)));
    let result = softmax(drawn.isa, classes, &mut logits);
    drawn.check(result, &[&logits]);
}

/// Targets that are classes, or not, and a mask.
pub fn cross_entropy(drawn: &mut Drawn<'_>) {
    let (size, rows) = (drawn.size(40), drawn.choice(20));
    let classes = drawn.near(size);
    let mask = drawn.flip().then(|| {
        let len = drawn.length(Some(rows));
        (0..len).map(|_| drawn.flip()).collect::<Vec<bool>>()
    });
    let targets: Vec<u32> = (0..rows)
        .map(|_| {
            let class = drawn.choice(size);
            drawn.near(class) as u32
        })
        .collect();
    let counts = |row: usize| mask.as_ref().is_none_or(|mask| mask.get(row) == Some(&true));
    let within = (0..rows).all(|row| !counts(row) || (targets[row] as usize) < classes);
    drawn.demand(classes > 0 && within);
    let made = CrossEntropy::new(classes, &targets, mask.as_deref());
    let Some(entropy) = drawn.check(made, &[]) else { return };

    drawn.anew();
    let mut logits = drawn.floats(&[rows, classes]);
    let loss = entropy.loss(drawn.isa, &logits);
    let result = entropy.gradient(drawn.isa, 0.5, &mut logits);
    assert_eq!(loss.is_ok(), result.is_ok());
    drawn.check(result, &[&logits]);
}

/// `c += Σ a ⊙ b`.
pub fn diagonal(drawn: &mut Drawn<'_>) {
    let (size, columns) = (drawn.size(40), drawn.choice(100));
    let depth = drawn.near(size);
    let wider = columns + 1 + drawn.choice(4);
    let stride = drawn.near(wider);
    drawn.demand(stride >= columns);
    let others = if depth == 0 { Some(0) } else { drawn.product(&[depth - 1, stride]) };
    let last = if depth == 0 { 0 } else { columns };
    let a = drawn.room(others.and_then(|others| others.checked_add(last)));
    let b = drawn.flip().then(|| drawn.floats(&[depth, columns]));
    let mut c = vec![BEFORE; columns];
    let (accumulate, isa) = (drawn.flip(), drawn.isa);
    let b = b.as_deref().map(|b| Joined::whole(b, columns));
    let sums = Diagonal { depth, a: &a, stride, b, c: &mut c, accumulate };
    drawn.check(sums.run(isa, &mut Pass::serial()), &[&c]);
}
