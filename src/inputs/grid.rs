//! Reader of the intensities of electricity grids, from a Parquet or CSV table with one row per region and step of time.

use std::collections::BTreeMap;

use super::error::InputError;
use super::table::Table;
use crate::ledger::Input;
use crate::scenario::Scenario;
use crate::schedule::{GridIntensity, Grids};

const COLUMNS: [&str; 3] = ["region", "from_hour", "grams_per_kwh"];

/// [h] -- Latest hour of a trace, in its tenth year.
const HOURS_MAX: f64 = 10.0 * 366.0 * 24.0;

/// [g/kWh] -- Greatest intensity, several times that of any power station.
const GRAMS_MAX: f64 = 10_000.0;

/// [s/d]
const SECONDS_PER_DAY: u64 = 86_400;

/// Row of a region.
struct Row {
    number: usize,
    /// [s] -- Start of its step.
    from: u64,
    /// [µg/kWh]
    intensity: u64,
}

/// Reads the intensities that a scenario names; `None` if it counts no carbon. Adds the file to `read`.
///
/// # Errors
/// If the file cannot be read, a column is unknown, a value is missing or out of range, or the rows of a region are not equal steps that
/// fill whole days.
pub fn read(scenario: &Scenario, read: &mut BTreeMap<String, Input>) -> Result<Option<Grids>, InputError> {
    let Some(spec) = &scenario.scenario.carbon else { return Ok(None) };
    let table = Table::open(&scenario.resolve(&spec.intensity), &COLUMNS, &[], "grid_intensity", read)?;
    let mut rows: BTreeMap<Option<String>, Vec<Row>> = BTreeMap::new();
    for number in 0..table.rows() {
        let region = match table.has("region") {
            true => Some(table.name("region", number).ok_or_else(|| table.fault(number, "region is missing"))?),
            false => None,
        };
        // Seconds are exact where hours have four decimal places, as those of steps of five minutes.
        let from = (needed(&table, "from_hour", number, HOURS_MAX)? * 3_600.0).round() as u64;
        let intensity = (needed(&table, "grams_per_kwh", number, GRAMS_MAX)? * 1e6).round() as u64;
        rows.entry(region).or_default().push(Row { number, from, intensity });
    }
    if rows.is_empty() {
        return Err(table.unusable("it has no rows"));
    }
    let mut by_region = BTreeMap::new();
    for (region, mut rows) in rows {
        rows.sort_by_key(|row| row.from);
        by_region.insert(region, grid(&table, &rows)?);
    }
    Ok(Some(Grids { file: table.file().to_owned(), by_region }))
}

/// Returns the trace of a region from its rows in the order of time.
fn grid(table: &Table, rows: &[Row]) -> Result<GridIntensity, InputError> {
    // One row alone is a constant.
    let step = rows.get(1).map_or(SECONDS_PER_DAY, |second| second.from - rows[0].from);
    let mut expected = 0;
    for row in rows {
        if row.from != expected {
            // Rows are in the order of time, so that one that comes too early repeats the row before it.
            let message = match row.from.checked_add(step) {
                Some(again) if again == expected => format!("{} stands there twice", hours(row.from)),
                _ => format!("{} is missing before {}", hours(expected), hours(row.from)),
            };
            return Err(unequal(table, row, message));
        }
        if step == 0 {
            return Err(unequal(table, &rows[1], format!("{} stands there twice", hours(row.from))));
        }
        expected += step;
    }
    if !expected.is_multiple_of(SECONDS_PER_DAY) {
        let last = rows.last().expect("a region has rows");
        let message = format!("{} is missing after {}: steps fill whole days", hours(expected), hours(last.from));
        return Err(unequal(table, last, message));
    }
    Ok(GridIntensity::new(step * 1_000_000_000, rows.iter().map(|row| row.intensity).collect()))
}

/// Returns a number that a row must have, from 0 to `most`.
fn needed(table: &Table, column: &str, row: usize, most: f64) -> Result<f64, InputError> {
    table.float(column, row, most)?.ok_or_else(|| table.fault(row, format!("{column} is missing")))
}

/// Returns the error of a row that does not continue equal steps.
fn unequal(table: &Table, row: &Row, message: String) -> InputError {
    table.fault(row.number, format!("from_hour: {message}"))
}

/// Returns a time [s] in hours, for messages.
fn hours(seconds: u64) -> String {
    format!("hour {}", seconds as f64 / 3_600.0)
}
