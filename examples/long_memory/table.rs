//! The table: which cell learns which lag.

use super::cells::Kind;
use super::tasks::Task;
use super::train::Outcome;
use std::fmt::Write;

/// A task's outcomes as Markdown: a row for each cell, a column for each lag, the updates it
/// took or, in brackets, the error it stopped at.
pub fn table(task: Task, lags: &[usize], outcomes: &[Outcome]) -> String {
    let mut text = format!("| {}, lag |", task.name());
    let mut line = |cells: &mut dyn Iterator<Item = String>| {
        cells.for_each(|cell| write!(text, " {cell} |").expect("a string takes all"));
        text.push_str("\n|");
    };
    line(&mut lags.iter().map(usize::to_string));
    line(&mut std::iter::once("---".into()).chain(lags.iter().map(|_| "---:".into())));
    for kind in Kind::ALL {
        let of_lag = |&lag: &usize| {
            let found = |o: &&Outcome| (o.kind, o.task, o.lag) == (kind, task, lag);
            outcomes.iter().find(found).map_or("".into(), entry)
        };
        line(&mut std::iter::once(kind.name().into()).chain(lags.iter().map(of_lag)));
    }
    text.truncate(text.len() - 1);
    text
}

fn entry(outcome: &Outcome) -> String {
    match outcome.learned {
        Some(updates) => updates.to_string(),
        None => format!("({:.2})", outcome.error),
    }
}
