//! SVG pictures of the analyses.

use std::collections::BTreeMap;
use std::ops::Range;

use plotters::prelude::*;

use super::openings_picture::openings;
use super::{Canvas, Drawn, REST, SIZE, said};
use super::{Geometry, Opening, Profile, Quality};

/// [pixel] -- Space for the labels of the axes.
const LABELS: i32 = 56;

/// Number of languages with their own color. The others share one.
const COLOURED: usize = 11;

/// Maximum number of cells along a side of a heat map. More clients share cells.
const CELLS: usize = 90;

/// The results to draw.
pub struct Findings<'a> {
    /// Unit of lengths: words or tokens.
    pub unit: &'a str,
    pub profiles: &'a [Profile],
    pub openings: &'a [Opening],
    pub quality: Option<&'a [Quality]>,
    pub geometry: Option<&'a Geometry>,
}

/// Draws all pictures. Returns them with their file names.
///
/// # Errors
/// [`super::DiversityError::Picture`] for the first picture that cannot be drawn.
pub fn draw(findings: &Findings) -> Result<Vec<(&'static str, String)>, super::DiversityError> {
    let colours = Colours::new(findings.profiles);
    let rows = findings.profiles.iter().map(|profile| profile.samples).sum();
    let mut pictures = vec![
        picture("quantity.svg", |area| quantity(area, findings.profiles))?,
        picture("languages.svg", |area| languages(area, findings.profiles, &colours))?,
        picture("lengths.svg", |area| lengths(area, findings, &colours))?,
        picture("openings.svg", |area| openings(area, findings.openings, rows))?,
    ];
    let tastes: Vec<f64> = findings.profiles.iter().filter_map(|one| Some(one.preference?.longer)).collect();
    if !tastes.is_empty() {
        let name = "share of a client's pairs whose chosen answer is the longer one";
        pictures.push(picture("preference.svg", |area| histogram(area, &tastes, name, "clients"))?);
    }
    if let Some(quality) = findings.quality {
        let ifd: Vec<f64> = quality.iter().map(Quality::ifd).filter(|value| value.is_finite()).collect();
        let name = "instruction-following difficulty";
        pictures.push(picture("quality.svg", |area| histogram(area, &ifd, name, "rows"))?);
    }
    if let Some(geometry) = findings.geometry {
        pictures.push(picture("projection.svg", |area| projection(area, findings.profiles, geometry, &colours))?);
        pictures.push(picture("distances.svg", |area| distances(area, findings.profiles, geometry))?);
    }
    Ok(pictures)
}

fn picture(
    name: &'static str,
    draw: impl FnOnce(&Canvas) -> Drawn,
) -> Result<(&'static str, String), super::DiversityError> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    let done = area.fill(&WHITE).map_err(said).and_then(|()| draw(&area)).and_then(|()| area.present().map_err(said));
    // The area writes to `text` until it is dropped.
    drop(area);
    match done {
        Ok(()) => Ok((name, text)),
        Err(message) => Err(super::DiversityError::Picture { picture: name.into(), message }),
    }
}

/// Colors of the most frequent languages.
struct Colours(Vec<(String, RGBColor)>);

impl Colours {
    fn new(profiles: &[Profile]) -> Self {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (language, rows) in profiles.iter().flat_map(|profile| &profile.languages) {
            *counts.entry(language).or_default() += rows;
        }
        let mut names: Vec<_> = counts.into_iter().collect();
        names.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let mut colors = Vec::new();
        for (place, (name, _)) in names.into_iter().take(COLOURED).enumerate() {
            let (r, g, b) = Palette99::pick(place).to_backend_color().rgb;
            colors.push((name.to_owned(), RGBColor(r, g, b)));
        }
        Self(colors)
    }

    fn of(&self, language: &str) -> RGBColor {
        self.0.iter().find(|(name, _)| name == language).map_or(REST, |(_, color)| *color)
    }

    /// Draws names and colors in the upper right of a picture.
    fn legend(&self, area: &Canvas) -> Drawn {
        let left = SIZE.0 as i32 - 90;
        for (place, (name, color)) in self.0.iter().enumerate() {
            let top = 24 + 18 * place as i32;
            let square = Rectangle::new([(left, top), (left + 12, top + 12)], color.filled());
            area.draw(&square).map_err(said)?;
            area.draw(&Text::new(name.clone(), (left + 18, top), ("sans-serif", 14))).map_err(said)?;
        }
        Ok(())
    }
}

/// Draws the number of samples of each client, the largest first.
fn quantity(area: &Canvas, profiles: &[Profile]) -> Drawn {
    let mut sizes: Vec<u64> = profiles.iter().map(|profile| profile.samples).collect();
    sizes.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
    let most = sizes.first().copied().unwrap_or(0) as f64;
    let mut chart = axes(area, 16, 0.0..sizes.len() as f64, 0.0..most.max(1.0) * 1.05)?;
    labelled(&mut chart, counts("clients, the largest first"), counts("samples"))?;
    bars(&mut chart, &sizes, 1.0, 0.9)
}

/// Draws one bar per count, `step` apart and `width` wide, from the left.
fn bars(chart: &mut Chart, counts: &[u64], step: f64, width: f64) -> Drawn {
    let mut bars = Vec::with_capacity(counts.len());
    for (place, &count) in counts.iter().enumerate() {
        let left = place as f64 * step;
        bars.push(Rectangle::new([(left, 0.0), (left + width, count as f64)], BLUE.mix(0.7).filled()));
    }
    chart.draw_series(bars).map_err(said)?;
    Ok(())
}

/// Draws the shares of languages of each client. Clients of the same main language are neighbors.
fn languages(area: &Canvas, profiles: &[Profile], colours: &Colours) -> Drawn {
    let order = by_language(profiles);
    let mut chart = axes(area, 110, 0.0..order.len() as f64, 0.0..1.0)?;
    labelled(&mut chart, counts("clients by main language"), measures("share of rows"))?;
    for (place, &client) in order.iter().enumerate() {
        let profile = &profiles[client];
        let mut languages: Vec<_> = profile.languages.iter().collect();
        languages.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
        // The client's bars are stacked: each begins where the one before ended.
        let mut reached = 0.0;
        let mut stack = Vec::with_capacity(languages.len());
        for (language, rows) in languages {
            let from = reached;
            reached += *rows as f64 / profile.samples as f64;
            let corners = [(place as f64, from), (place as f64 + 1.0, reached)];
            stack.push(Rectangle::new(corners, colours.of(language).filled()));
        }
        chart.draw_series(stack).map_err(said)?;
    }
    colours.legend(area)
}

/// Draws the mean lengths of each client's instructions and responses.
fn lengths(area: &Canvas, findings: &Findings, colours: &Colours) -> Drawn {
    let points: Vec<(f64, f64)> =
        findings.profiles.iter().map(|profile| (profile.asked.mean, profile.answered.mean)).collect();
    let mut chart = axes(area, 110, range(&points, |point| point.0), range(&points, |point| point.1))?;
    let x = format!("mean instruction of a client [{}]", findings.unit);
    let y = format!("mean response [{}]", findings.unit);
    labelled(&mut chart, measures(&x), measures(&y))?;
    dots(&mut chart, findings.profiles, &points, colours)?;
    colours.legend(area)
}

/// Draws a histogram of `values`.
fn histogram(area: &Canvas, values: &[f64], name: &str, count: &str) -> Drawn {
    const BINS: usize = 30;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The axis ends at the 99th percentile, but not below 1. The last bar also counts everything above it.
    let top = sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(1.0).max(1.0);
    let mut bins = [0u64; BINS];
    for value in values {
        bins[((value / top * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let most = bins.iter().copied().max().unwrap_or(0) as f64;
    let mut chart = axes(area, 16, 0.0..top, 0.0..most.max(1.0) * 1.05)?;
    labelled(&mut chart, measures(name), counts(count))?;
    let width = top / BINS as f64;
    bars(&mut chart, &bins, width, 0.95 * width)
}

/// Draws the clients on the plane of the first two principal components.
fn projection(area: &Canvas, profiles: &[Profile], geometry: &Geometry, colours: &Colours) -> Drawn {
    let points: Vec<(f64, f64)> = geometry.places.iter().map(|[x, y]| (*x, *y)).collect();
    let mut chart = axes(area, 110, range(&points, |point| point.0), range(&points, |point| point.1))?;
    let shown = format!("first principal component of clients' embeddings (both show {:.0} %)", 100.0 * geometry.shown);
    labelled(&mut chart, measures(&shown), measures("second"))?;
    dots(&mut chart, profiles, &points, colours)?;
    colours.legend(area)
}

/// Draws a heat map of the distances between clients, ordered by main language. Light cells are near.
fn distances(area: &Canvas, profiles: &[Profile], geometry: &Geometry) -> Drawn {
    let order = by_language(profiles);
    let count = order.len();
    // Each cell covers a range of clients in both directions, of one client if there are few.
    let side = count.clamp(1, CELLS);
    let ranges: Vec<Range<usize>> = (0..side).map(|cell| cell * count / side..(cell + 1) * count / side).collect();
    let mut cells = Vec::with_capacity(side * side);
    for rows in &ranges {
        for columns in &ranges {
            cells.push(mean_distance(geometry, &order[rows.clone()], &order[columns.clone()]));
        }
    }
    let most = cells.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let square = area.clone().shrink(((SIZE.0 - SIZE.1) as i32 / 2, 0), (SIZE.1 as i32, SIZE.1 as i32));
    let mut chart = axes(&square, 16, 0.0..count as f64, 0.0..count as f64)?;
    let y = format!("the same; darkest is a cosine distance of {most:.3}");
    labelled(&mut chart, counts("clients by main language"), counts(&y))?;
    let mut boxes = Vec::with_capacity(cells.len());
    for (cell, value) in cells.iter().enumerate() {
        let rows = &ranges[cell / side];
        let columns = &ranges[cell % side];
        let corners = [(columns.start as f64, rows.start as f64), (columns.end as f64, rows.end as f64)];
        boxes.push(Rectangle::new(corners, BLUE.mix(value / most).filled()));
    }
    chart.draw_series(boxes).map_err(said)?;
    Ok(())
}

/// Returns the mean distance between the clients of `rows` and those of `columns`.
fn mean_distance(geometry: &Geometry, rows: &[usize], columns: &[usize]) -> f64 {
    let count = geometry.places.len();
    let pairs = rows.iter().flat_map(|a| columns.iter().map(move |b| geometry.distances[a * count + b]));
    pairs.sum::<f64>() / (rows.len() * columns.len()) as f64
}

/// Returns the indices of the clients, ordered by main language.
fn by_language(profiles: &[Profile]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..profiles.len()).collect();
    order.sort_by_key(|&client| (profiles[client].main_language(), client));
    order
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn axes<'a, 'b>(area: &'a Canvas<'b>, right: i32, x: Range<f64>, y: Range<f64>) -> Drawn<Chart<'a, 'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).margin_right(right).x_label_area_size(LABELS).y_label_area_size(LABELS + 14);
    builder.build_cartesian_2d(x, y).map_err(said)
}

/// Returns the range of an axis that contains all points, with a margin.
fn range(points: &[(f64, f64)], of: fn(&(f64, f64)) -> f64) -> Range<f64> {
    let low = points.iter().map(of).fold(f64::MAX, f64::min);
    let high = points.iter().map(of).fold(f64::MIN, f64::max);
    // If all points are equal, the margin is a share of the value, and never 0.
    let room = if low < high { (high - low) * 0.06 } else { low.abs().max(1e-9) * 0.06 };
    low - room..high + room
}

/// The description of an axis.
struct Axis<'a> {
    name: &'a str,
    is_count: bool,
}

fn counts(name: &str) -> Axis<'_> {
    Axis { name, is_count: true }
}

fn measures(name: &str) -> Axis<'_> {
    Axis { name, is_count: false }
}

impl Axis<'_> {
    /// Formats the label of a tick. An axis of counts has labels at whole numbers only.
    fn figure(&self, value: f64) -> String {
        let is_whole = (value - value.round()).abs() < 1e-9;
        match (is_whole, self.is_count) {
            // Adding 0 turns -0 into 0.
            (true, _) => format!("{:.0}", value.round() + 0.0),
            (false, true) => String::new(),
            // At most six decimals, without trailing zeros.
            (false, false) => format!("{value:.6}").trim_end_matches('0').to_owned(),
        }
    }
}

/// Draws the axes with their labels.
fn labelled(chart: &mut Chart, x: Axis, y: Axis) -> Drawn {
    chart
        .configure_mesh()
        .x_desc(x.name)
        .y_desc(y.name)
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 13))
        .x_label_formatter(&|value| x.figure(*value))
        .y_label_formatter(&|value| y.figure(*value))
        .axis_desc_style(("sans-serif", 15))
        .draw()
        .map_err(said)
}

/// Draws one dot per client, in the color of its main language.
fn dots(chart: &mut Chart, profiles: &[Profile], points: &[(f64, f64)], colours: &Colours) -> Drawn {
    let mut dots = Vec::with_capacity(points.len());
    for (profile, &point) in profiles.iter().zip(points) {
        let color = colours.of(profile.main_language());
        dots.push(Circle::new(point, 4, color.mix(0.8).filled()));
    }
    chart.draw_series(dots).map_err(said)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_on_axes_read_well() {
        for (value, of_count, of_measure) in
            [(5.0, "5", "5"), (0.5, "", "0.5"), (-1e-17, "0", "0"), (0.1 + 0.2, "", "0.3"), (-0.25, "", "-0.25")]
        {
            assert_eq!(
                (counts("a").figure(value).as_str(), measures("b").figure(value).as_str()),
                (of_count, of_measure)
            );
        }
    }
}
