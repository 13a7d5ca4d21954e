//! Shows how far a run is: as a bar on a terminal, elsewhere as a line now and then.

use super::Failure;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// Without a terminal, one line is printed for each of these parts of the run.
const LINES: f64 = 20.0;

/// The bar, whether nothing is shown, and how many lines have been printed.
pub struct Progress(ProgressBar, bool, f64);

impl Progress {
    /// Progress on stderr, or none.
    pub fn new(quiet: bool) -> Result<Self, Failure> {
        let template = "{elapsed:>4} [{wide_bar}] {percent:>3}%\n{wide_msg}";
        let style = ProgressStyle::with_template(template)?.progress_chars("=> ");
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(1000) };
        Ok(Self(bar.with_style(style).with_finish(ProgressFinish::Abandon), quiet, 0.0))
    }

    /// Shows the share that is done, 0 to 1, and some figures, if it is time to.
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
