//! How far a run is: a bar on a terminal, a line for each cell that is done elsewhere too.

use super::train::Outcome;
use indicatif::{ProgressBar, ProgressStyle};

/// Where it is shown. Threads share it.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    /// To stderr, or nowhere; so many updates at the most.
    pub fn new(updates: usize, quiet: bool) -> Self {
        if quiet {
            return Self { bar: ProgressBar::hidden(), quiet };
        }
        let template = "{elapsed:>4} [{wide_bar}] {percent:>3}%";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        let bar = ProgressBar::new(updates as u64).with_style(style.progress_chars("=> "));
        Self { bar, quiet }
    }

    /// So many updates more were made, or will not be.
    pub fn advance(&self, updates: usize) {
        self.bar.inc(updates as u64);
    }

    /// A cell is done.
    pub fn done(&self, outcome: &Outcome) {
        if self.quiet {
            return;
        }
        let Outcome { kind, task, lag, learned, error, .. } = outcome;
        let what = format!("{} {lag}, {}", task.name(), kind.name());
        let line = match learned {
            Some(updates) => format!("{what}: learned in {updates} updates"),
            None => format!("{what}: not learned, error {error:.3}"),
        };
        // A bar that has no terminal to be drawn on swallows lines.
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
