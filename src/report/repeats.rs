//! Bands of a plan's repeats: ends of rounds, counted updates and bytes over other draws of chance.

use super::figure::{Column, Draw, Figure, Section};
use super::grouping::Groups;
use crate::results::{Bands, RoundBand};

/// Curve of a quantity of rounds with its quantiles.
struct Curve {
    id: &'static str,
    title: &'static str,
    caption: &'static str,
    unit: &'static str,
    /// Names of the columns at the quantiles 5, 25, 50, 75 and 95 %.
    names: [&'static str; 5],
    of: fn(&RoundBand) -> [f64; 5],
}

/// Names on the page of the columns at these quantiles.
const TITLES: [&str; 5] = ["5 %", "25 %", "median", "75 %", "95 %"];

const CURVES: [Curve; 3] = [
    Curve {
        id: "repeated-ends",
        title: "When rounds end, over repeats",
        caption: "Virtual time at the end of each round: median, and the band from 5 to 95 % of the repeats (`repeats.closed_at_ns`).",
        unit: "s",
        names: ["end_5_s", "end_25_s", "end_50_s", "end_75_s", "end_95_s"],
        of: |band| band.end_s,
    },
    Curve {
        id: "repeated-counts",
        title: "Updates that count, over repeats",
        caption: "Updates that count in each round: median, and the band from 5 to 95 % of the repeats (`repeats.counted`).",
        unit: "tasks",
        names: ["counted_5", "counted_25", "counted_50", "counted_75", "counted_95"],
        of: |band| band.counted,
    },
    Curve {
        id: "repeated-bytes",
        title: "Bytes on the wire, over repeats",
        caption: "Bytes in both directions of the tasks that ended since the round before: median, and the band from 5 to 95 % of the repeats \
                  (`repeats.wire_bytes_down` and `wire_bytes_up`).",
        unit: "B",
        names: ["wire_5_bytes", "wire_25_bytes", "wire_50_bytes", "wire_75_bytes", "wire_95_bytes"],
        of: |band| band.wire_bytes,
    },
];

/// Returns the figures of repeats. There are none without repeats.
pub fn section(bands: Option<&Bands>) -> Section {
    let figures = bands.map(|bands| CURVES.iter().map(|curve| figure(curve, bands)).chain([ends(bands)]).collect());
    Section { title: "How much of it is chance: repeats of the schedule", figures: figures.unwrap_or_default() }
}

/// Returns the column of rounds.
fn rounds(bands: &Bands, groups: &Groups) -> Column {
    Column::counts("round", "round", "rounds", groups.last().map(|row| u64::from(bands.rounds[row].round)))
}

fn figure(curve: &Curve, bands: &Bands) -> Figure {
    let groups = Groups::of(bands.rounds.len());
    let mut columns = vec![rounds(bands, &groups)];
    for (place, (name, title)) in curve.names.into_iter().zip(TITLES).enumerate() {
        columns.push(Column::numbers(
            name,
            title,
            curve.unit,
            groups.last().map(|row| (curve.of)(&bands.rounds[row])[place]),
        ));
    }
    let [low, _, median, _, high] = curve.names;
    Figure {
        id: curve.id,
        title: curve.title.into(),
        caption: curve.caption.into(),
        draw: Draw::Lines { x: vec!["round"], y: vec![high, median, low], split: None, band: Some([high, low]) },
        columns,
        notes: groups.note("the last of each is drawn").into_iter().collect(),
    }
}

/// Returns the chart of how rounds end: by their deadline, or failed.
fn ends(bands: &Bands) -> Figure {
    let groups = Groups::of(bands.rounds.len());
    let mut columns = vec![rounds(bands, &groups)];
    columns.extend([
        Column::numbers(
            "at_deadline",
            "ended by the deadline",
            "1",
            groups.last().map(|row| bands.rounds[row].at_deadline),
        ),
        Column::numbers("failed", "failed", "1", groups.last().map(|row| bands.rounds[row].failed)),
    ]);
    Figure {
        id: "repeated-deadlines",
        title: "Deadlines and failures, over repeats".into(),
        caption: "Share of the repeats in which the deadline ended the round, and in which it failed (`repeats.at_deadline`, `status`).".into(),
        draw: Draw::Lines { x: vec!["round"], y: vec!["at_deadline", "failed"], split: None, band: None },
        columns,
        notes: groups.note("the last of each is drawn").into_iter().collect(),
    }
}
