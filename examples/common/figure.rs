//! What the plots of several examples share: the font, the lines, and the files.

use super::Failure;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::path::Path;

/// The font's name, in SVG files and here.
const FONT: &str = "DejaVu Sans, sans-serif";

/// Colours that colour-blind readers can tell apart (Okabe and Ito 2008). For readers who see no
/// colours each line also has its own dashes and gaps, in pixels: none, dashes, dots, long dashes.
const STYLES: [(RGBColor, (i32, i32)); 4] = [
    (RGBColor(0, 0, 0), (1, 0)),
    (RGBColor(213, 94, 0), (10, 6)),
    (RGBColor(0, 114, 178), (3, 5)),
    (RGBColor(0, 158, 115), (22, 8)),
];

/// Makes the font known. It is part of the program, so that it needs no fonts of the system.
pub fn prepare() -> Result<(), Failure> {
    register_font(FONT, FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font cannot be read".into())
}

/// Black text of `size` pixels.
pub fn text(size: i32) -> TextStyle<'static> {
    TextStyle::from((FONT, size).into_font()).color(&BLACK)
}

/// A line through `points` in style `style`, 0 to 3, and of this width in pixels.
pub fn line<P: Clone>(
    points: Vec<P>,
    style: usize,
    width: u32,
) -> DashedPathElement<std::vec::IntoIter<P>, i32> {
    let (colour, (dash, gap)) = STYLES[style];
    DashedPathElement::new(points, dash, gap, colour.stroke_width(width))
}

/// Writes `name.svg`, whose text is `svg`, and `name.png`, whose pixels are `pixels`, red, green and
/// blue, `[height, width, 3]`. The folder exists.
pub fn write(
    folder: &Path,
    name: &str,
    (width, height): (u32, u32),
    svg: &str,
    pixels: &[u8],
) -> Result<(), Failure> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(pixels)?;
    for (kind, bytes) in [("svg", svg.as_bytes()), ("png", &png)] {
        let path = folder.join(format!("{name}.{kind}"));
        std::fs::write(&path, bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
