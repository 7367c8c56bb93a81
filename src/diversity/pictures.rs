//! The analyses as SVG pictures.

use std::collections::BTreeMap;

use plotters::prelude::*;

use super::canvas::{Canvas, Drawn, REST, SIZE, said};
use super::openings_picture::openings;
use super::{Geometry, Opening, Profile, Quality};

/// Room for the labels of the axes [pixel].
const LABELS: i32 = 56;

/// Languages with a colour of their own; the rest are one.
const COLOURED: usize = 11;

/// Cells of a heat map along a side; more clients share cells.
const CELLS: usize = 90;

/// Everything that was found.
pub struct Findings<'a> {
    /// [words or tokens] What lengths are counted in.
    pub unit: &'a str,
    pub profiles: &'a [Profile],
    pub openings: &'a [Opening],
    pub quality: Option<&'a [Quality]>,
    pub geometry: Option<&'a Geometry>,
}

/// The pictures by their file names.
///
/// # Errors
/// Which picture could not be drawn, and what the library said.
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
    drop(area);
    let failed = |message| super::DiversityError::Picture { picture: name.into(), message };
    done.map_err(failed)?;
    Ok((name, text))
}

/// A colour for each of the most frequent languages.
struct Colours(Vec<(String, RGBColor)>);

impl Colours {
    fn new(profiles: &[Profile]) -> Self {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (language, rows) in profiles.iter().flat_map(|profile| &profile.languages) {
            *counts.entry(language).or_default() += rows;
        }
        let mut names: Vec<_> = counts.into_iter().collect();
        names.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let colour = |(place, (name, _)): (usize, (&str, u64))| {
            let (r, g, b) = Palette99::pick(place).to_backend_color().rgb;
            (name.to_owned(), RGBColor(r, g, b))
        };
        Self(names.into_iter().take(COLOURED).enumerate().map(colour).collect())
    }

    fn of(&self, language: &str) -> RGBColor {
        self.0.iter().find(|(name, _)| name == language).map_or(REST, |(_, colour)| *colour)
    }

    /// Names and colours in the upper right of a picture.
    fn legend(&self, area: &Canvas) -> Drawn {
        let left = SIZE.0 as i32 - 90;
        for (place, (name, colour)) in self.0.iter().enumerate() {
            let top = 24 + 18 * place as i32;
            let square = Rectangle::new([(left, top), (left + 12, top + 12)], colour.filled());
            area.draw(&square).map_err(said)?;
            area.draw(&Text::new(name.clone(), (left + 18, top), ("sans-serif", 14))).map_err(said)?;
        }
        Ok(())
    }
}

/// Samples of each client, the largest first.
fn quantity(area: &Canvas, profiles: &[Profile]) -> Drawn {
    let mut sizes: Vec<u64> = profiles.iter().map(|profile| profile.samples).collect();
    sizes.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
    let most = sizes.first().copied().unwrap_or(0) as f64;
    let mut chart = axes(area, 16, 0.0..sizes.len() as f64, 0.0..most.max(1.0) * 1.05)?;
    labelled(&mut chart, counts("clients, the largest first"), counts("samples"))?;
    let bar = |(place, &count): (usize, &u64)| {
        Rectangle::new([(place as f64, 0.0), (place as f64 + 0.9, count as f64)], BLUE.mix(0.7).filled())
    };
    chart.draw_series(sizes.iter().enumerate().map(bar)).map_err(said).map(drop)
}

/// Shares of languages of each client, clients of one main language beside each other.
fn languages(area: &Canvas, profiles: &[Profile], colours: &Colours) -> Drawn {
    let order = by_language(profiles);
    let mut chart = axes(area, 110, 0.0..order.len() as f64, 0.0..1.0)?;
    labelled(&mut chart, counts("clients by main language"), measures("share of rows"))?;
    for (place, &client) in order.iter().enumerate() {
        let profile = &profiles[client];
        let mut reached = 0.0;
        let mut languages: Vec<_> = profile.languages.iter().collect();
        languages.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
        let bars = languages.into_iter().map(|(language, rows)| {
            let from = reached;
            reached += *rows as f64 / profile.samples as f64;
            let corners = [(place as f64, from), (place as f64 + 1.0, reached)];
            Rectangle::new(corners, colours.of(language).filled())
        });
        chart.draw_series(bars).map_err(said)?;
    }
    colours.legend(area)
}

/// Mean lengths of each client.
fn lengths(area: &Canvas, findings: &Findings, colours: &Colours) -> Drawn {
    let points: Vec<(f64, f64)> =
        findings.profiles.iter().map(|profile| (profile.asked.mean, profile.answered.mean)).collect();
    let mut chart = axes(area, 110, range(&points, |point| point.0), range(&points, |point| point.1))?;
    let unit = findings.unit;
    let (x, y) = (format!("mean instruction of a client [{unit}]"), format!("mean response [{unit}]"));
    labelled(&mut chart, measures(&x), measures(&y))?;
    dots(&mut chart, findings.profiles, &points, colours)?;
    colours.legend(area)
}

/// How many of something have which value.
fn histogram(area: &Canvas, values: &[f64], name: &str, count: &str) -> Drawn {
    const BINS: usize = 30;
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The last hundredth may be far away: it stands in the last bar.
    let top = sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(1.0).max(1.0);
    let mut bins = [0u64; BINS];
    values.iter().for_each(|value| bins[((value / top * BINS as f64) as usize).min(BINS - 1)] += 1);
    let most = bins.iter().copied().max().unwrap_or(0) as f64;
    let mut chart = axes(area, 16, 0.0..top, 0.0..most.max(1.0) * 1.05)?;
    labelled(&mut chart, measures(name), counts(count))?;
    let width = top / BINS as f64;
    let bar = |(place, &rows): (usize, &u64)| {
        let left = place as f64 * width;
        Rectangle::new([(left, 0.0), (left + 0.95 * width, rows as f64)], BLUE.mix(0.7).filled())
    };
    chart.draw_series(bins.iter().enumerate().map(bar)).map_err(said).map(drop)
}

/// Clients on the plane of principal components.
fn projection(area: &Canvas, profiles: &[Profile], geometry: &Geometry, colours: &Colours) -> Drawn {
    let points: Vec<(f64, f64)> = geometry.places.iter().map(|[x, y]| (*x, *y)).collect();
    let mut chart = axes(area, 110, range(&points, |point| point.0), range(&points, |point| point.1))?;
    let shown = format!("first principal component of clients' embeddings (both show {:.0} %)", 100.0 * geometry.shown);
    labelled(&mut chart, measures(&shown), measures("second"))?;
    dots(&mut chart, profiles, &points, colours)?;
    colours.legend(area)
}

/// Distances of clients by main language: light is near.
fn distances(area: &Canvas, profiles: &[Profile], geometry: &Geometry) -> Drawn {
    let order = by_language(profiles);
    let count = order.len();
    let side = count.clamp(1, CELLS);
    let of = |cell: usize| cell * count / side..(cell + 1) * count / side;
    let mean = |row: usize, column: usize| {
        let (rows, columns) = (&order[of(row)], &order[of(column)]);
        let sum: f64 = rows.iter().flat_map(|a| columns.iter().map(move |b| geometry.distances[a * count + b])).sum();
        sum / (rows.len() * columns.len()) as f64
    };
    let cells: Vec<f64> = (0..side * side).map(|cell| mean(cell / side, cell % side)).collect();
    let most = cells.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let square = area.clone().shrink(((SIZE.0 - SIZE.1) as i32 / 2, 0), (SIZE.1 as i32, SIZE.1 as i32));
    let mut chart = axes(&square, 16, 0.0..count as f64, 0.0..count as f64)?;
    let y = format!("the same; darkest is a cosine distance of {most:.3}");
    labelled(&mut chart, counts("clients by main language"), counts(&y))?;
    let boxes = cells.iter().enumerate().map(|(cell, value)| {
        let (rows, columns) = (of(cell / side), of(cell % side));
        let corners = [(columns.start as f64, rows.start as f64), (columns.end as f64, rows.end as f64)];
        Rectangle::new(corners, BLUE.mix(value / most).filled())
    });
    chart.draw_series(boxes).map_err(said).map(drop)
}

/// The clients' places, those of one main language beside each other.
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

fn axes<'a, 'b>(
    area: &'a Canvas<'b>,
    right: i32,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
) -> Drawn<Chart<'a, 'b>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(12).margin_right(right).x_label_area_size(LABELS).y_label_area_size(LABELS + 14);
    builder.build_cartesian_2d(x, y).map_err(said)
}

/// The part of an axis on which all points lie, with a little room.
fn range(points: &[(f64, f64)], of: fn(&(f64, f64)) -> f64) -> std::ops::Range<f64> {
    let (low, high) = points.iter().map(of).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)));
    let room = if low < high { (high - low) * 0.06 } else { low.abs().max(1e-9) * 0.06 };
    low - room..high + room
}

/// What an axis shows.
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
    /// A place on it in figures; of counts, none between whole ones.
    fn figure(&self, value: f64) -> String {
        let is_whole = (value - value.round()).abs() < 1e-9;
        match (is_whole, self.is_count) {
            // Adding 0 makes 0 of -0.
            (true, _) => format!("{:.0}", value.round() + 0.0),
            (false, true) => String::new(),
            // Six figures after the point, without zeros at the end.
            (false, false) => format!("{value:.6}").trim_end_matches('0').to_owned(),
        }
    }
}

fn labelled(chart: &mut Chart, x: Axis, y: Axis) -> Drawn {
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x.name).y_desc(y.name).light_line_style(TRANSPARENT).label_style(("sans-serif", 13));
    let (in_x, in_y) = (|value: &f64| x.figure(*value), |value: &f64| y.figure(*value));
    mesh.x_label_formatter(&in_x).y_label_formatter(&in_y);
    mesh.axis_desc_style(("sans-serif", 15)).draw().map_err(said)
}

/// A dot a client in the colour of its main language.
fn dots(chart: &mut Chart, profiles: &[Profile], points: &[(f64, f64)], colours: &Colours) -> Drawn {
    let dot = |(profile, &point): (&Profile, &(f64, f64))| {
        Circle::new(point, 4, colours.of(profile.main_language()).mix(0.8).filled())
    };
    chart.draw_series(profiles.iter().zip(points).map(dot)).map_err(said).map(drop)
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
