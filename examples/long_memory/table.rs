//! The table: which cell learns which lag.

use super::cells::KINDS;
use super::tasks::Task;
use super::train::Outcome;

/// A task's outcomes as Markdown: a row for each cell, a column for each lag, and in it the updates
/// that the cell took or, in brackets, its last error.
pub fn table(task: Task, lags: &[usize], outcomes: &[Outcome]) -> String {
    let line = |name: &str, entry: &dyn Fn(usize) -> String| {
        let entries: Vec<String> = lags.iter().map(|&lag| entry(lag)).collect();
        format!("| {name} | {} |", entries.join(" | "))
    };
    let head = line(&format!("{}, lag", task.name()), &|lag| lag.to_string());
    let mut lines = vec![head, line("---", &|_| "---:".into())];
    for kind in KINDS.map(|kind| kind.0) {
        lines.push(line(kind, &|lag| {
            let found = outcomes.iter().find(|o| (o.kind, o.task, o.lag) == (kind, task, lag));
            found.map_or("".into(), |outcome| match outcome.learned {
                Some(updates) => updates.to_string(),
                None => format!("({:.2})", outcome.error),
            })
        }));
    }
    lines.join("\n") + "\n"
}
