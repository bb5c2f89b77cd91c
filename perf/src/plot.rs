//! Plots as SVG.

use std::path::Path;

use plotters::prelude::*;

use crate::Outcome;

const SIZE: (u32, u32) = (900, 520);
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
];

/// A line with its name.
pub type Line = (String, Vec<(f64, f64)>);

/// Names of a plot's axes.
pub struct Axes<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
}

/// Latency by share of frames. The shares approach one, so the x axis is logarithmic in 1 / (1 -
/// share). The given limit is drawn as a line.
pub fn percentiles(path: &Path, title: &str, lines: &[Line], limit: Option<f64>) -> Outcome<()> {
    let lines: Vec<Line> = lines
        .iter()
        .map(|(name, points)| {
            let points = points.iter().filter(|(share, _)| *share < 1.0);
            (name.clone(), points.map(|(share, ms)| (1.0 / (1.0 - share), *ms)).collect())
        })
        .collect();
    let right = edge(&lines, |point| point.0).max(1000.0);
    let top = edge(&lines, |point| point.1).max(limit.unwrap_or(0.0)) * 1.1;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..right).log_scale(), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("share of frames")
        .y_desc("latency, ms")
        .x_label_formatter(&|x| match *x {
            x if x <= 1.0 => "0 %".into(),
            x => format!("{} %", 100.0 * (1.0 - 1.0 / x)),
        })
        .draw()?;
    if let Some(limit) = limit {
        let points = [(1.0, limit), (right, limit)];
        chart
            .draw_series(LineSeries::new(points, BLACK.mix(0.4)))?
            .label(format!("goal at half of the maximum: {limit} ms"))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLACK.mix(0.4)));
    }
    for (index, (name, points)) in lines.into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(root.present()?)
}

/// Lines over a linear axis, from zero.
pub fn lines(path: &Path, axes: &Axes<'_>, lines: &[Line]) -> Outcome<()> {
    let right = edge(lines, |point| point.0);
    let top = edge(lines, |point| point.1) * 1.15;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(axes.title, ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart.configure_mesh().x_desc(axes.x).y_desc(axes.y).draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
        let marks = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(marks)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(root.present()?)
}

/// The largest value of all points; 1 if there are none.
fn edge(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let most = lines.iter().flat_map(|(_, points)| points).map(of).fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}
