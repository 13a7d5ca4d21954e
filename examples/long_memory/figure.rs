//! Panels of curves with a logarithmic ordinate, drawn. Knows no cells and no files.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// The font's name in SVG files, and here.
pub const FONT: &str = "DejaVu Sans, sans-serif";

/// Colours that those who see few of them tell apart too (Okabe and Ito 2008).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 0, 0), RGBColor(213, 94, 0), RGBColor(0, 114, 178), RGBColor(0, 158, 115)];

/// The dashes and gaps of each colour, in pixels, for those who see none: a line without
/// gaps, dashes, dots, long dashes.
const DASHES: [(i32, i32); 4] = [(1, 0), (10, 6), (3, 5), (22, 8)];

/// The least and the largest exponent of ten that are shown; what is beyond is left out.
const EXPONENTS: (f64, f64) = (-10.0, 4.0);

/// Pixels: left of the panels, above them, and below, where the names are.
const MARGINS: (i32, i32, i32) = (46, 34, 176);

/// A curve.
pub struct Curve {
    name: String,
    /// The place among [`COLOURS`] and [`DASHES`], and whether the line is broad.
    style: (usize, bool),
    /// Place and logarithm, without values of 0.
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Of values at 0, 1, ….
    pub fn new(name: String, style: (usize, bool), values: &[f64]) -> Self {
        let points = values.iter().enumerate().filter(|(_, value)| **value > 0.0);
        let points = points.map(|(at, value)| (at as f64, value.log10())).collect();
        Self { name, style, points }
    }

    fn line<Point: Clone>(
        &self,
        points: Vec<Point>,
    ) -> DashedPathElement<std::vec::IntoIter<Point>, i32> {
        let (place, broad) = self.style;
        let (dash, gap) = DASHES[place];
        let width = if broad { 4 } else { 2 };
        DashedPathElement::new(points, dash, gap, COLOURS[place].stroke_width(width))
    }
}

/// Rows and columns of panels with the same axes.
pub struct Figure {
    pub columns: [&'static str; 3],
    pub rows: [&'static str; 2],
    pub panels: [[Vec<Curve>; 3]; 2],
}

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

impl Figure {
    pub fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        area.fill(&WHITE)?;
        let (width, height) = area.dim_in_pixel();
        let (left, top, bottom) = MARGINS;
        let label = "‖∂L/∂h⁽ᵗ⁾‖ or ‖∂L/∂s⁽ᵗ⁾‖ over ‖∂L/∂h‖ of the last step";
        let upright = text(19).transform(FontTransform::Rotate270);
        let middle = top + (height as i32 - top - bottom) / 2;
        area.draw(&Text::new(label, (left / 2, middle), centred(upright)))?;
        let cut = area.margin(top, bottom, left, 12);
        for (row, (title, panels)) in self.rows.iter().zip(&self.panels).enumerate() {
            for (column, curves) in panels.iter().enumerate() {
                let area = &cut.split_evenly((2, 3))[row * 3 + column];
                self.panel(area, title, curves)?;
            }
        }
        for (column, title) in self.columns.iter().enumerate() {
            let across = (width as i32 - left - 12) / 3;
            let x = left + across * column as i32;
            area.draw(&Text::new(*title, (x + across / 2, top / 2), centred(text(22))))?;
            let y = height as i32 - bottom + 22;
            for (place, curve) in self.panels[0][column].iter().enumerate() {
                let y = y + 24 * place as i32;
                area.draw(&curve.line(vec![(x + 70, y), (x + 150, y)]))?;
                let beside = text(18).pos(Pos::new(HPos::Left, VPos::Center));
                area.draw(&Text::new(curve.name.as_str(), (x + 162, y), beside))?;
            }
        }
        area.present()
    }

    /// The ends of both axes, over all panels.
    fn ends(&self) -> (f64, [f64; 2]) {
        let (mut steps, mut least, mut most) = (1.0, -1.0, 1.0);
        for &(x, y) in self.panels.iter().flatten().flatten().flat_map(|curve| &curve.points) {
            (steps, least, most) = (x.max(steps), y.min(least), y.max(most));
        }
        (steps, [least.floor().max(EXPONENTS.0), most.ceil().min(EXPONENTS.1)])
    }

    fn panel<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        title: &str,
        curves: &[Curve],
    ) -> Drawn<DB> {
        let (steps, [least, most]) = self.ends();
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .caption(title, text(19))
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..steps, least..most)?;
        self.axes(&mut chart)?;
        for curve in curves {
            // Stretches within the axis and beyond it, by turns.
            let within = |point: &(f64, f64)| (least..=most).contains(&point.1);
            for stretch in curve.points.chunk_by(|a, b| within(a) == within(b)) {
                if within(&stretch[0]) {
                    chart.draw_series([curve.line(stretch.to_vec())])?;
                }
            }
        }
        Ok(())
    }

    fn axes<DB: DrawingBackend>(
        &self,
        chart: &mut ChartContext<'_, DB, Cartesian2d<RangedCoordf64, RangedCoordf64>>,
    ) -> Drawn<DB> {
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_desc("step t")
            .axis_desc_style(text(18))
            .label_style(text(16))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| power_of_ten(*y))
            .draw()
    }
}

fn text(size: i32) -> TextStyle<'static> {
    TextStyle::from((FONT, size).into_font()).color(&BLACK)
}

fn centred(style: TextStyle<'_>) -> TextStyle<'_> {
    style.pos(Pos::new(HPos::Center, VPos::Center))
}

/// "10⁻³" of −3, and nothing between.
fn power_of_ten(exponent: f64) -> String {
    if (exponent - exponent.round()).abs() > 1e-6 {
        return String::new();
    }
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let raised = format!("{exponent:.0}").replace("-0", "0");
    let raise = |digit: char| digit.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]);
    std::iter::once("10".to_string()).chain(raised.chars().map(|c| raise(c).to_string())).collect()
}
