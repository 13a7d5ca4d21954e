//! The plot: ‖∂L/∂h⁽ᵗ⁾‖ over t, before and after training, as SVG and as PNG.

use super::Failure;
use super::cells::KINDS;
use super::figure::{self, text};
use super::norms::Norms;
use super::train::Outcome;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::*;
use std::ops::Range;
use std::path::Path;

/// The title of each column.
const COLUMNS: [(&str, Range<usize>); 3] = [
    ("units without gates", 0..4),
    ("gated recurrent units", 4..6),
    ("long short-term memory", 6..9),
];

/// The sizes of the plot, in pixels.
const SIZE: (u32, u32) = (1500, 1080);

/// A curve.
struct Curve {
    name: String,
    /// The number of the line's style in `figure`, and its width.
    style: (usize, u32),
    /// t, and the logarithm of the norm where it is not 0.
    points: Vec<(f64, f64)>,
}

/// Saves `gradients.svg` and `gradients.png` for the outcomes that have norms. The folder exists.
pub fn save(folder: &Path, outcomes: &[Outcome]) -> Result<(), Failure> {
    figure::prepare()?;
    let panels: Vec<[Vec<Curve>; 3]> =
        (0..2).map(|row| COLUMNS.map(|(_, kinds)| curves(outcomes, kinds, row))).collect();
    let (mut svg, mut pixels) = (String::new(), vec![0; (SIZE.0 * SIZE.1 * 3) as usize]);
    draw(SVGBackend::with_string(&mut svg, SIZE), &panels)?;
    draw(BitMapBackend::with_buffer(&mut pixels, SIZE), &panels)?;
    figure::write(folder, "gradients", SIZE, &svg, &pixels)
}

/// The curves of one panel: before training in row 0, after it in row 1.
fn curves(outcomes: &[Outcome], kinds: Range<usize>, row: usize) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (place, kind) in KINDS[kinds].iter().map(|kind| kind.0).enumerate() {
        let mut of_kind = outcomes.iter().filter(|outcome| outcome.kind == kind);
        let Some(norms) = of_kind.find_map(|outcome| outcome.norms.as_ref()) else { continue };
        let Norms { h, c } = &norms[row];
        let of_h = if c.is_empty() { "" } else { ", ∂L/∂h" };
        for (of, width, norms) in [(of_h, 2, h), (", ∂L/∂c", 4, c)] {
            let points = norms.iter().enumerate().filter(|(_, norm)| **norm > 0.0);
            let points: Vec<_> = points.map(|(t, norm)| (t as f64, norm.log10())).collect();
            let (name, style) = (format!("{kind}{of}"), (place, width));
            curves.extend((!norms.is_empty()).then_some(Curve { name, style, points }));
        }
    }
    curves
}

impl Curve {
    fn line<P: Clone>(&self, points: Vec<P>) -> DashedPathElement<std::vec::IntoIter<P>, i32> {
        figure::line(points, self.style.0, self.style.1)
    }
}

fn draw<DB>(backend: DB, panels: &[[Vec<Curve>; 3]]) -> Result<(), Failure>
where
    DB: DrawingBackend<ErrorType: 'static>,
{
    let (area, width, height) = (backend.into_drawing_area(), SIZE.0 as i32, SIZE.1 as i32);
    // The margins beside the panels, above them, and below, where the names are.
    let (left, top, bottom) = (46, 34, 176);
    area.fill(&WHITE)?;
    let centred = |style: TextStyle<'static>| style.pos(Pos::new(HPos::Center, VPos::Center));
    let label = "‖∂L/∂h⁽ᵗ⁾‖ or ‖∂L/∂c⁽ᵗ⁾‖ over ‖∂L/∂h‖ of the last step";
    let upright = centred(text(19).transform(FontTransform::Rotate270));
    area.draw(&Text::new(label, (left / 2, top + (height - top - bottom) / 2), upright))?;
    let (mut steps, mut least, mut most) = (1.0, -1.0, 1.0);
    for &(t, norm) in panels.iter().flatten().flatten().flat_map(|curve| &curve.points) {
        (steps, least, most) = (t.max(steps), norm.min(least), norm.max(most));
    }
    // Values beyond these exponents are left out.
    let axes = [0.0..steps, least.floor().max(-10.0)..most.ceil().min(4.0)];
    let cut = area.margin(top, bottom, left, 12).split_evenly((2, 3));
    for (place, curves) in panels.iter().flatten().enumerate() {
        panel(&cut[place], ["before training", "after training"][place / 3], &axes, curves)?;
    }
    for (column, (title, _)) in COLUMNS.into_iter().enumerate() {
        let across = (width - left - 12) / 3;
        let x = left + across * column as i32;
        area.draw(&Text::new(title, (x + across / 2, top / 2), centred(text(22))))?;
        for (place, curve) in panels[0][column].iter().enumerate() {
            let y = height - bottom + 22 + 24 * place as i32;
            area.draw(&curve.line(vec![(x + 70, y), (x + 150, y)]))?;
            let beside = text(18).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(&curve.name[..], (x + 162, y), beside))?;
        }
    }
    Ok(area.present()?)
}

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    title: &str,
    [steps, exponents]: &[Range<f64>; 2],
    curves: &[Curve],
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).caption(title, text(19)).x_label_area_size(44).y_label_area_size(56);
    let mut chart = builder.build_cartesian_2d(steps.clone(), exponents.clone())?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE).bold_line_style(RGBColor(225, 225, 225)).x_desc("step t");
    mesh.axis_desc_style(text(18)).label_style(text(16));
    mesh.x_label_formatter(&|x| format!("{x:.0}")).y_label_formatter(&|y| power_of_ten(*y));
    mesh.draw()?;
    for curve in curves {
        // Splits a curve into parts that are alternately within the axis and beyond it.
        let within = |point: &(f64, f64)| (exponents.start..=exponents.end).contains(&point.1);
        for stretch in curve.points.chunk_by(|a, b| within(a) == within(b)) {
            if within(&stretch[0]) {
                chart.draw_series([curve.line(stretch.to_vec())])?;
            }
        }
    }
    Ok(())
}

/// The label "10⁻³" for −3; numbers between integers have none.
fn power_of_ten(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-6 {
        return String::new();
    }
    let raise = |c: char| "⁻⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(c.to_digit(10).map_or(0, |n| n as usize + 1));
    let raised = format!("{exponent:.0}").replace("-0", "0");
    format!("10{}", raised.chars().filter_map(raise).collect::<String>())
}
