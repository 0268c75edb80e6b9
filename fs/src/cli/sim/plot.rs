//! The comparison as pictures: for each volume write amplification over time, victims by utilization, lifetimes by class.

use std::path::Path;

use gleanfs_gc::sim::{CLASSES, UTILIZATION_BINS};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::report::{Report, Row, Table};

/// Of each volume's strip, in pixels.
const WIDTH: u32 = 1500;
const HEIGHT: u32 = 460;
const FONT: (&str, u32) = ("sans-serif", 15);

type Error = Box<dyn std::error::Error>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes an SVG with one strip for each table; of each pair the first seed is drawn.
pub fn draw(report: &Report, path: &Path) -> Result<(), Error> {
    let root = SVGBackend::new(path, (WIDTH, HEIGHT * report.tables.len() as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (table, strip) in report.tables.iter().zip(root.split_evenly((report.tables.len(), 1))) {
        let panels = strip.split_evenly((1, 3));
        over_time(table, &panels[0])?;
        victims(table, &panels[1])?;
        lifetimes(table, &panels[2])?;
    }
    root.present()?;
    Ok(())
}

fn color(n: usize) -> HSLColor {
    // The golden angle keeps any number of neighbours apart.
    HSLColor(n as f64 * 0.381_966 % 1.0, 0.75, if n.is_multiple_of(2) { 0.4 } else { 0.55 })
}

fn over_time(table: &Table, area: &Area<'_>) -> Result<(), Error> {
    let points = |row: &Row| row.runs[0].measured.over_time.clone();
    let all: Vec<_> = table.rows.iter().flat_map(points).collect();
    let clock_max = all.iter().map(|p| p.clock).max().unwrap_or(1) as f64;
    let wa_max = all.iter().map(|p| p.wa).fold(1.1, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: write amplification over user writes", table.volume), FONT)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..clock_max, 1.0..wa_max)?;
    chart.configure_mesh().x_desc("user-written blocks").light_line_style(TRANSPARENT).draw()?;
    for (n, row) in table.rows.iter().enumerate() {
        let line = points(row).into_iter().map(|p| (p.clock as f64, p.wa));
        chart.draw_series(LineSeries::new(line, color(n).stroke_width(1)))?;
    }
    Ok(())
}

/// Also holds the legend of all three.
fn victims(table: &Table, area: &Area<'_>) -> Result<(), Error> {
    let share = |row: &Row| -> Vec<f64> {
        let counts = row.runs[0].measured.tally.victims;
        let all: u64 = counts.iter().sum();
        counts.iter().map(|count| *count as f64 / all.max(1) as f64).collect()
    };
    let most = table.rows.iter().flat_map(share).fold(0.01, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("victims by utilization", FONT)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..1.0, 0.0..most)?;
    chart.configure_mesh().x_desc("live share of the victim").light_line_style(TRANSPARENT).draw()?;
    for (n, row) in table.rows.iter().enumerate() {
        let middles = share(row).into_iter().zip(0..).map(|(share, bin)| {
            let middle = (f64::from(bin) + 0.5) / UTILIZATION_BINS as f64;
            (middle, share)
        });
        chart
            .draw_series(LineSeries::new(middles, color(n).stroke_width(1)))?
            .label(format!("{} ({:.2})", row.policy, row.wa))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 12, y)], color(n).stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 11))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// Predicted against true: the class that a user's write got, and the median and the middle four fifths of what its blocks then lived.
fn lifetimes(table: &Table, area: &Area<'_>) -> Result<(), Error> {
    let mut chart = ChartBuilder::on(area)
        .caption("log2 of lifetime over live blocks, by class at the user's write", FONT)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(40)
        .build_cartesian_2d(-0.5..f64::from(table.heads) - 0.5, -16f64..4.0)?;
    chart.configure_mesh().x_desc("class").light_line_style(TRANSPARENT).draw()?;
    let pairs = table.rows.len() as f64;
    for (n, row) in table.rows.iter().enumerate() {
        let tally = &row.runs[0].measured.tally;
        let at = |class: usize| class as f64 - 0.35 + 0.7 * (n as f64 + 0.5) / pairs;
        let quantile = |class: usize, share: f64| tally.lifetime_log2(class, share).map(f64::from);
        for class in 0..CLASSES.min(usize::from(table.heads)) {
            let [Some(low), Some(middle), Some(high)] = [0.1, 0.5, 0.9].map(|share| quantile(class, share)) else {
                continue;
            };
            let x = at(class);
            chart.draw_series([PathElement::new([(x, low), (x, high)], color(n).stroke_width(1))])?;
            chart.draw_series([Circle::new((x, middle), 2, color(n).filled())])?;
        }
    }
    Ok(())
}
