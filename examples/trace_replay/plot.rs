//! Allocation and fragmentation against the load that came.

use std::error::Error;

use orchestra_sched::trace::{Outcome, Point};
use plotters::prelude::*;

/// The width and height of each of the two charts.
const CHART: (u32, u32) = (760, 460);
/// Where the axis of a full cluster begins, in percent of all devices.
const LEFT: f64 = 80.0;

/// One chart above the other, one line a policy, as SVG.
pub(crate) fn draw(outcomes: &[Outcome]) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, (CHART.0, 2 * CHART.1)).into_drawing_area();
    root.fill(&WHITE)?;
    let (above, below) = root.split_vertically(CHART.1);
    lines(&above, "devices in use, %", outcomes, Outcome::used_percent)?;
    lines(
        &below,
        "devices in fragments, %",
        outcomes,
        Outcome::fragment_percent,
    )?;
    root.present()?;
    drop((above, below, root));
    Ok(text)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn lines(
    area: &Area<'_>,
    title: &str,
    outcomes: &[Outcome],
    of: fn(&Outcome, &Point) -> f64,
) -> Result<(), Box<dyn Error>> {
    let all = || {
        outcomes.iter().flat_map(|one| {
            let points = one.points.iter();
            points.map(move |at| (one.load_percent(at), of(one, at)))
        })
    };
    let right = all().map(|(load, _)| load).fold(1.0, f64::max);
    // Policies differ where devices run out.
    let left = if right > 100.0 { LEFT } else { 0.0 };
    let seen = all().filter(|(load, _)| *load >= left);
    let (low, high) = seen.fold((100.0, 1.0), |(low, high): (f64, f64), (_, value)| {
        (low.min(value), high.max(value))
    });
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(44)
        .build_cartesian_2d(left..right, low..high + 0.02 * (high - low))?;
    chart
        .configure_mesh()
        .x_desc("load that came, % of all devices")
        .light_line_style(WHITE)
        .draw()?;
    for (nth, one) in outcomes.iter().enumerate() {
        let colour = Palette99::pick(nth).to_rgba();
        let every = (one.points.len() / 400).max(1);
        let points = one.points.iter().step_by(every);
        let points = points
            .map(|at| (one.load_percent(at), of(one, at)))
            .filter(|(load, _)| *load >= left);
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(one.policy.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    Ok(())
}
