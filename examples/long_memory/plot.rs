//! The plot: ‖∂L/∂h⁽ᵗ⁾‖ over t, before and after training, as SVG and as PNG.

use super::Failure;
use super::cells::Kind;
use super::figure::{Curve, FONT, Figure};
use super::norms::Norms;
use super::train::Outcome;
use plotters::prelude::{BitMapBackend, DrawingBackend, IntoDrawingArea, SVGBackend};
use plotters::style::{FontStyle, register_font};
use std::path::Path;

/// Pixels.
const SIZE: (u32, u32) = (1500, 1080);

/// What each column shows.
const COLUMNS: [(&str, &[Kind]); 3] = [
    ("units without gates", &[Kind::Tanh, Kind::Relu, Kind::LeakyLearned, Kind::LeakyFixed]),
    ("gated recurrent units", &[Kind::GruAfter, Kind::GruBefore]),
    ("long short-term memory", &[Kind::Lstm, Kind::LstmCoupled, Kind::LstmPeepholes]),
];

/// Saves `gradients.svg` and `gradients.png` of those outcomes that have norms. The folder
/// is there.
pub fn save(folder: &Path, outcomes: &[Outcome]) -> Result<(), Failure> {
    // From the program itself, so that it needs no fonts of the system.
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font cannot be read")?;
    let figure = figure(outcomes);
    let written = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))
    };

    let mut svg = String::new();
    draw(&figure, SVGBackend::with_string(&mut svg, SIZE))?;
    written("gradients.svg", svg.as_bytes())?;

    let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
    draw(&figure, BitMapBackend::with_buffer(&mut pixels, SIZE))?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIZE.0, SIZE.1);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(written("gradients.png", &bytes)?)
}

fn draw<DB: DrawingBackend>(figure: &Figure, backend: DB) -> Result<(), Failure> {
    // The error's type borrows what is drawn to, so its text goes on alone.
    Ok(figure.draw(&backend.into_drawing_area()).map_err(|error| error.to_string())?)
}

/// The panels' curves: a row before and a row after training.
fn figure(outcomes: &[Outcome]) -> Figure {
    let norms = |kind: Kind| {
        outcomes.iter().find(|o| o.kind == kind && o.norms.is_some()).and_then(|o| o.norms.as_ref())
    };
    let panel = |kinds: &[Kind], row: usize| {
        let mut curves = Vec::new();
        for (style, &kind) in kinds.iter().enumerate() {
            let Some(Norms { h, c }) = norms(kind).map(|rows| &rows[row]) else { continue };
            let name = if c.is_empty() { "" } else { ", ∂L/∂h" };
            curves.push(Curve::new(format!("{}{name}", kind.name()), (style, false), h));
            if !c.is_empty() {
                let name = format!("{}, ∂L/∂s", kind.name());
                curves.push(Curve::new(name, (style, true), c));
            }
        }
        curves
    };
    let rows = ["before training", "after training"];
    Figure {
        columns: COLUMNS.map(|(title, _)| title),
        rows,
        panels: [0, 1].map(|row| COLUMNS.map(|(_, kinds)| panel(kinds, row))),
    }
}
