//! How far a run is: a bar on a terminal, a line now and then elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The lines where there is no terminal: one for each of these parts of the run.
const LINES: f64 = 20.0;

/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// A run's figures.
pub struct Status {
    /// How much of it is done, 0 to 1.
    pub fraction: f64,
    /// The updates made.
    pub updates: u64,
    /// Bytes trained on in a second, evaluations not counted.
    pub bytes_per_second: f64,
    /// The floating-point operations of the layers' products.
    pub flops_per_second: f64,
    /// Bits per byte on what was trained on lately.
    pub training_bits: f64,
    /// Bits per byte on the held-out text when last looked at.
    pub held_out_bits: Option<f64>,
}

/// Where the figures go.
pub enum Progress {
    /// Nowhere.
    Quiet,
    /// To a bar, drawn last at that time.
    Bar(ProgressBar, Option<Instant>),
    /// To lines, of which so many were written.
    Lines(f64),
}

impl Progress {
    /// To stderr, or nowhere.
    pub fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines(0.0);
        }
        let template = "{elapsed:>4} [{wide_bar}] {percent:>3}%\n{wide_msg}";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        Self::Bar(ProgressBar::new(1000).with_style(style.progress_chars("=> ")), None)
    }

    /// Shows the figures, where it is time to.
    pub fn show(&mut self, status: &Status) {
        match self {
            Self::Quiet => {}
            Self::Bar(bar, drawn) => {
                if drawn.is_none_or(|drawn| drawn.elapsed() > REDRAW) {
                    *drawn = Some(Instant::now());
                    bar.set_position((status.fraction * 1000.0) as u64);
                    bar.set_message(figures(status));
                }
            }
            Self::Lines(written) => {
                if status.fraction * LINES >= *written {
                    *written = (status.fraction * LINES).floor() + 1.0;
                    eprintln!("{:3.0}% {}", status.fraction * 100.0, figures(status));
                }
            }
        }
    }

    /// Leaves the bar as it is at the end.
    pub fn finish(&self) {
        if let Self::Bar(bar, _) = self {
            bar.set_position(1000);
            bar.abandon();
        }
    }
}

fn figures(status: &Status) -> String {
    let held_out = status.held_out_bits.map_or("-".into(), |bits| format!("{bits:.3}"));
    format!(
        "{} updates, {:.1} KB/s, {:.0} GFLOP/s, bits/char: training {:.3}, held-out {held_out}",
        status.updates,
        status.bytes_per_second / 1e3,
        status.flops_per_second / 1e9,
        status.training_bits,
    )
}
