//! Numbers by which trained networks are compared, and the labels that CTC reads from outputs. Knows
//! rows of outputs; must not know losses.

use crate::Error;
use crate::error::{check_len, check_multiple, check_optional, check_size};
use std::f64::consts::LN_2;

/// How many rows have their target as their largest output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// The rows whose largest output is their target.
    pub correct: usize,
    /// The rows that count.
    pub counted: usize,
}

impl Accuracy {
    /// Returns the share of correct rows, 0 if none counts.
    pub fn share(self) -> f64 {
        self.correct as f64 / self.counted.max(1) as f64
    }
}

/// Counts the rows of `y` `[rows, outputs]` whose largest output is the one that `classes` `[rows]`
/// names. If several outputs are the largest, the first of them counts as such; in a row with a NaN
/// none does. With a `mask` `[rows]` only those rows count for which it is true; leave out padding by
/// it.
///
/// ```
/// use bptt::metrics::accuracy;
///
/// let y = [0.1, 0.9, 0.8, 0.2, 0.3, 0.7];
/// let all = accuracy(&y, &[1, 0, 0], None)?;
/// assert_eq!((all.correct, all.counted), (2, 3));
/// assert_eq!(accuracy(&y, &[1, 0, 0], Some(&[true, true, false]))?.share(), 1.0);
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// # Errors
/// [`Error::Multiple`] if the rows of `y` cannot be as many as `classes` has, [`Error::Length`] if the
/// mask has another number of rows, [`Error::Target`] if a class of a row that counts is not below
/// the number of outputs.
pub fn accuracy(y: &[f32], classes: &[u32], mask: Option<&[bool]>) -> Result<Accuracy, Error> {
    check_optional("mask", mask, classes.len())?;
    if classes.is_empty() {
        check_len("y", y.len(), 0)?;
        return Ok(Accuracy::default());
    }
    check_multiple("y", y.len(), classes.len())?;
    let outputs = check_size("outputs", y.len() / classes.len())?;
    let mut accuracy = Accuracy::default();
    for (row, (y, &class)) in y.chunks_exact(outputs).zip(classes).enumerate() {
        if !mask.is_none_or(|mask| mask[row]) {
            continue;
        }
        if class as usize >= outputs {
            return Err(Error::Target { row, given: class, outputs });
        }
        accuracy.counted += 1;
        accuracy.correct += usize::from(largest(y) == Some(class as usize));
    }
    Ok(accuracy)
}

/// Returns the first of the largest outputs, or `None` if there is a NaN.
fn largest(y: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (k, value) in y.iter().enumerate() {
        if value.is_nan() {
            return None;
        }
        if *value > y[best] {
            best = k;
        }
    }
    Some(best)
}

/// Returns the perplexity, `exp(nats)`, of a mean cross-entropy.
pub fn perplexity(nats: f64) -> f64 {
    nats.exp()
}

/// Returns a cross-entropy in bits: per character, for example, if it is a mean over characters.
pub fn bits(nats: f64) -> f64 {
    nats / LN_2
}

/// Returns the edit distance of Levenshtein (1966): the least number of insertions, deletions and
/// substitutions that make `b` of `a`. Divided by the length of the right sequence, and averaged,
/// it is the label error rate.
///
/// ```
/// use bptt::metrics::edit_distance;
///
/// assert_eq!(edit_distance(b"kitten", b"sitting"), 3);
/// ```
pub fn edit_distance<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.iter().enumerate() {
        // The distance of the first i elements of `a` from the first j of `b`, before row[j + 1] is
        // that of the first i + 1.
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Returns the labelling of the most probable path of one sequence, as [`Ctc`](crate::Ctc) defines it:
/// the largest output of each step, without repetitions and then without blanks. `y` is `[steps,
/// outputs]`. It is not always the most probable labelling, which is a sum over paths.
///
/// ```
/// use bptt::metrics::best_path;
///
/// let steps = [[0.0, 2.0], [0.0, 1.0], [3.0, 0.0], [0.0, 1.0]];
/// assert_eq!(best_path(steps.as_flattened(), 2, 0)?, [1, 1]);
/// # Ok::<(), bptt::Error>(())
/// ```
///
/// # Errors
/// [`Error::Value`] if there are no outputs, or an output is NaN; [`Error::Multiple`] if `y` has no
/// whole number of steps.
pub fn best_path(y: &[f32], outputs: usize, blank: u32) -> Result<Vec<u32>, Error> {
    check_multiple("y", y.len(), check_size("outputs", outputs)?)?;
    let (mut labels, mut before) = (Vec::new(), None);
    for (step, y) in y.chunks_exact(outputs).enumerate() {
        let Some(best) = largest(y) else {
            let given = format!("NaN at step {step}");
            return Err(Error::Value { what: "y", given, expected: "numbers".into() });
        };
        let label = best as u32;
        if before != Some(label) && label != blank {
            labels.push(label);
        }
        before = Some(label);
    }
    Ok(labels)
}
