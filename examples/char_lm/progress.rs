//! How far a run is: a bar on a terminal, a line now and then elsewhere.

use super::Failure;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// The lines where there is no terminal: one for each of these parts of the run.
const LINES: f64 = 20.0;

/// A bar, whether nothing is shown, and how many lines have been.
pub struct Progress(ProgressBar, bool, f64);

impl Progress {
    /// To stderr, or nowhere.
    pub fn new(quiet: bool) -> Result<Self, Failure> {
        let template = "{elapsed:>4} [{wide_bar}] {percent:>3}%\n{wide_msg}";
        let style = ProgressStyle::with_template(template)?.progress_chars("=> ");
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(1000) };
        Ok(Self(bar.with_style(style).with_finish(ProgressFinish::Abandon), quiet, 0.0))
    }

    /// Shows how much is done, 0 to 1, and figures, where it is time to.
    pub fn show(&mut self, fraction: f64, figures: impl FnOnce() -> String) {
        let Self(bar, quiet, lines) = self;
        if !bar.is_hidden() {
            bar.set_position((fraction * 1000.0) as u64);
            bar.set_message(figures());
        } else if !*quiet && fraction * LINES >= *lines {
            *lines = (fraction * LINES).floor() + 1.0;
            eprintln!("{:3.0}% {}", fraction * 100.0, figures());
        }
    }
}
