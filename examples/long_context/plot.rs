//! The plot: the losses over the updates, as SVG and as PNG.

use super::Failure;
use super::args::Options;
use super::figure::{self, text};
use super::task::SYMBOLS;
use super::train::{Outcome, Way};
use plotters::prelude::*;
use plotters::style::text_anchor::*;
use std::path::Path;

/// The size of the plot, in pixels.
const SIZE: (u32, u32) = (1000, 640);

/// The pixels below the axes, in which the names of the curves are.
const NAMES: i32 = 40;

/// Saves `losses.svg` and `losses.png`. The folder exists.
pub fn save(folder: &Path, options: &Options, outcomes: &[Outcome]) -> Result<(), Failure> {
    figure::prepare()?;
    let (mut svg, mut pixels) = (String::new(), vec![0; (SIZE.0 * SIZE.1 * 3) as usize]);
    draw(SVGBackend::with_string(&mut svg, SIZE), options, outcomes)?;
    draw(BitMapBackend::with_buffer(&mut pixels, SIZE), options, outcomes)?;
    figure::write(folder, "losses", SIZE, &svg, &pixels)
}

/// The number of a way's line style, and the width of its line. The losses of the first two ways are
/// the same, so the second line lies on the first one, which is wider and shows in its gaps.
fn style(way: Way) -> (usize, u32) {
    match way {
        Way::Full => (0, 6),
        Way::Budget => (1, 2),
        Way::Truncated => (2, 2),
    }
}

fn draw<DB>(backend: DB, options: &Options, outcomes: &[Outcome]) -> Result<(), Failure>
where
    DB: DrawingBackend<ErrorType: 'static>,
{
    let area = backend.into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(SIZE.1 as i32 - NAMES);
    let guessing = (SYMBOLS as f64).ln();
    let losses = outcomes.iter().flat_map(|outcome| &outcome.losses);
    let most = losses.fold(guessing, |most, &loss| most.max(loss));
    let title = format!("Naming a symbol that was shown {} steps ago", options.lag);
    let mut builder = ChartBuilder::on(&above);
    builder
        .margin(10)
        .margin_right(28)
        .caption(title, text(22))
        .x_label_area_size(48)
        .y_label_area_size(64);
    let last = options.updates.max(2) as f64;
    let mut chart = builder.build_cartesian_2d(1.0..last, 0.0..most * 1.05)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(RGBColor(225, 225, 225));
    mesh.axis_desc_style(text(18)).label_style(text(16));
    mesh.x_desc("update").y_desc("cross-entropy, nats");
    mesh.x_label_formatter(&|x| format!("{x:.0}")).y_label_formatter(&|y| format!("{y:.1}"));
    mesh.draw()?;
    let level = [(1.0, guessing), (last, guessing)];
    chart.draw_series([PathElement::new(level, RGBColor(150, 150, 150))])?;
    // The label is below its level, where the losses of a network that guesses leave it free.
    let (name, beside) = (format!("guessing: ln {SYMBOLS}"), Pos::new(HPos::Right, VPos::Top));
    let place = (last, guessing - 0.04 * most);
    chart.draw_series([Text::new(name, place, text(16).pos(beside))])?;
    let place = SIZE.0 as i32 / outcomes.len().max(1) as i32;
    for (nth, outcome) in outcomes.iter().enumerate() {
        let (style, width) = style(outcome.way);
        let points = outcome.losses.iter().enumerate();
        let points = points.map(|(nth, &loss)| ((nth + 1) as f64, loss)).collect();
        chart.draw_series([figure::line(points, style, width)])?;
        let (x, y) = (place * nth as i32 + 20, NAMES / 2);
        below.draw(&figure::line(vec![(x, y), (x + 70, y)], style, width))?;
        let beside = text(17).pos(Pos::new(HPos::Left, VPos::Center));
        below.draw(&Text::new(outcome.way.name(options), (x + 80, y), beside))?;
    }
    Ok(area.present()?)
}
