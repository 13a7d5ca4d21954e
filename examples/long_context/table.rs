//! The table: what each way costs, and what it learns.

use super::args::Options;
use super::train::Outcome;

/// The outcomes as Markdown, a row for each. Losses are those of the first update, of the last one,
/// and of three between them.
pub fn table(options: &Options, outcomes: &[Outcome]) -> String {
    let updates = options.updates;
    let mut shown: Vec<usize> = (1..=4).map(|quarter| (updates * quarter / 4).max(1)).collect();
    shown.insert(0, 1);
    shown.dedup();
    let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
    let mut head: Vec<String> =
        ["way", "bytes", "steps again", "rows again", "s/update"].map(String::from).to_vec();
    head.extend(shown.iter().map(|update| format!("loss {update}")));
    head.push("right".into());
    let rule = (0..head.len()).map(|column| if column == 0 { "---" } else { "---:" }.into());
    let mut lines = vec![line(head.clone()), line(rule.collect())];
    for outcome in outcomes {
        let again = outcome.again;
        let mut cells = vec![outcome.way.name(options)];
        cells.extend([again.bytes, again.steps, again.rows].map(|number| number.to_string()));
        cells.push(format!("{:.3}", outcome.seconds));
        cells.extend(shown.iter().map(|update| format!("{:.4}", outcome.losses[update - 1])));
        cells.push(format!("{:.0} %", outcome.right * 100.0));
        lines.push(line(cells));
    }
    lines.join("\n") + "\n"
}
