//! Reader of client traces: Parquet or CSV tables, read cell by cell so that errors name row and column.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Cursor;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::csv::reader::{Format, ReaderBuilder};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::error::InputError;
use super::files::input;
use crate::ledger::Input;
use crate::scenario::{Availability, Duration, Scenario};
use crate::schedule::{Trace, TraceRow};
use crate::store::{read_up_to, without_panic};

/// Ignored columns of a trace. They are in a run's `population` table, and follow from the data and the model.
const DERIVED: [&str; 5] = ["train_rows", "held_out_rows", "train_tokens", "task_flops", "task_memory_bytes"];
const CLIENTS: [&str; 17] = [
    "client_id",
    "client",
    "device",
    "flops_per_second",
    "memory_bytes",
    "memory_bandwidth_bytes_per_second",
    "jitter",
    "busy_watts",
    "idle_watts",
    "link",
    "downlink_bits_per_second",
    "uplink_bits_per_second",
    "latency_ns",
    "region",
    "dropout_before_training",
    "dropout_during_training",
    "dropout_after_training",
];
const ONLINE: [&str; 3] = ["client_id", "from_seconds", "until_seconds"];
/// [s] -- Maximum time, one hundred years. A larger one is probably in the wrong unit.
const SECONDS_MAX: f64 = 100.0 * 365.0 * 86_400.0;

/// Reads the trace that a scenario names; without one, returns an empty trace. Adds the files to `read`, by role.
///
/// # Errors
/// If a file cannot be read, a column is unknown or a value is out of range.
pub fn read(scenario: &Scenario, read: &mut BTreeMap<String, Input>) -> Result<Trace, InputError> {
    let Some(spec) = &scenario.scenario.population.trace else { return Ok(Trace::default()) };
    let mut trace = Trace::default();
    if let Some(file) = &spec.clients {
        let table = Table::open(&scenario.resolve(file), &CLIENTS, &DERIVED, "clients_trace", read)?;
        trace.clients = Some((0..table.rows()).map(|row| table.client(row)).collect::<Result<_, _>>()?);
    }
    if let Some(file) = &spec.online {
        let table = Table::open(&scenario.resolve(file), &ONLINE, &[], "online_trace", read)?;
        let period = spec.online_period;
        for (client, online) in table.intervals(period)? {
            trace.online.insert(client, Availability::Trace { online, period });
        }
    }
    Ok(trace)
}

/// [byte] -- Maximum size of a trace, whose columns of text are addressed by 32 bits.
const TRACE_BYTES_MAX: u64 = 1 << 31;

/// Table with all cells as text.
struct Table {
    /// For messages.
    name: String,
    columns: BTreeMap<String, StringArray>,
    rows: usize,
}

impl Table {
    /// Reads a table and checks its columns.
    fn open(
        file: &Path,
        known: &[&str],
        ignored: &[&str],
        role: &str,
        read: &mut BTreeMap<String, Input>,
    ) -> Result<Self, InputError> {
        let bytes = read_up_to(file, TRACE_BYTES_MAX).map_err(|error| unreadable(file, error))?;
        read.insert(role.to_owned(), input(file.to_owned(), blake3::hash(&bytes)));
        let is_parquet = file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet"));
        // The readers panic on some damaged files, and so does the conversion of what they return.
        let batch = without_panic(|| if is_parquet { parquet(bytes) } else { csv(&bytes) });
        let batch = batch.map_err(|panic| unreadable(file, panic))?.map_err(|error| unreadable(file, error))?;
        let mut columns = BTreeMap::new();
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let name = field.name();
            if ignored.contains(&name.as_str()) {
                continue;
            }
            if !known.contains(&name.as_str()) {
                let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
                let nearest = nearest.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
                return Err(unreadable(file, format!("there is no column `{name}`{nearest}")));
            }
            let text = without_panic(|| cast(column, &DataType::Utf8)).map_err(|panic| unreadable(file, panic))?;
            let text = text.map_err(|error| unreadable(file, error))?;
            if columns.insert(name.clone(), text.as_string::<i32>().clone()).is_some() {
                return Err(unreadable(file, format!("column `{name}` stands there twice")));
            }
        }
        Ok(Self { name: file.display().to_string(), columns, rows: batch.num_rows() })
    }

    fn rows(&self) -> usize {
        self.rows
    }

    /// Returns an error in a row.
    fn fault(&self, row: usize, message: impl Display) -> InputError {
        InputError::Trace { file: self.name.clone(), message: format!("row {}: {message}", row + 1) }
    }

    /// Returns a trimmed cell; `None` for a null, an empty cell or a missing column.
    fn text(&self, column: &str, row: usize) -> Option<&str> {
        let column = self.columns.get(column)?;
        if column.is_null(row) {
            return None;
        }
        Some(column.value(row).trim()).filter(|text| !text.is_empty())
    }

    fn name(&self, column: &str, row: usize) -> Option<String> {
        self.text(column, row).map(str::to_owned)
    }

    /// Returns a number for which `holds`; `range` describes those numbers in the error message.
    fn number<T: FromStr>(
        &self,
        column: &str,
        row: usize,
        range: &str,
        holds: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, InputError> {
        let Some(text) = self.text(column, row) else { return Ok(None) };
        match text.parse().ok().filter(holds) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(row, format!("{column}: `{text}` is out of range: it must be {range}"))),
        }
    }

    /// Returns a count, which other programs may have written as a float.
    fn count(&self, column: &str, row: usize, least: f64) -> Result<Option<u64>, InputError> {
        if let Some(exact) = self.text(column, row).and_then(|text| text.parse::<u64>().ok())
            && exact as f64 >= least
        {
            return Ok(Some(exact));
        }
        let range = format!("a number of at least {least}, below 2^63");
        let number = self.number(column, row, &range, |value: &f64| (least..2f64.powi(63)).contains(value))?;
        Ok(number.map(|value| value.round() as u64))
    }

    fn float(&self, column: &str, row: usize, most: f64) -> Result<Option<f64>, InputError> {
        self.number(column, row, &format!("a number from 0 to {most}"), |value: &f64| (0.0..=most).contains(value))
    }

    fn client(&self, row: usize) -> Result<TraceRow, InputError> {
        Ok(TraceRow {
            client_id: self.name("client_id", row),
            client: self.number("client", row, "the index of a client in the data, from 0", |_: &u64| true)?,
            device: self.name("device", row),
            flops_per_second: self.count("flops_per_second", row, 1.0)?,
            memory_bytes: self.count("memory_bytes", row, 1.0)?,
            memory_bandwidth_bytes_per_second: self.count("memory_bandwidth_bytes_per_second", row, 1.0)?,
            jitter: self.float("jitter", row, 5.0)?,
            busy_watts: self.float("busy_watts", row, 1e6)?,
            idle_watts: self.float("idle_watts", row, 1e6)?,
            link: self.name("link", row),
            downlink_bits_per_second: self.count("downlink_bits_per_second", row, 1.0)?,
            uplink_bits_per_second: self.count("uplink_bits_per_second", row, 1.0)?,
            latency_ns: self.count("latency_ns", row, 0.0)?,
            region: self.name("region", row),
            dropout_before_training: self.float("dropout_before_training", row, 1.0)?,
            dropout_during_training: self.float("dropout_during_training", row, 1.0)?,
            dropout_after_training: self.float("dropout_after_training", row, 1.0)?,
        })
    }

    /// Returns the online intervals of each client, ascending. Intervals that overlap or repeat become one.
    fn intervals(&self, period: Option<Duration>) -> Result<BTreeMap<String, Vec<(Duration, Duration)>>, InputError> {
        let mut online: BTreeMap<String, Vec<(Duration, Duration)>> = BTreeMap::new();
        for row in 0..self.rows {
            let client = self.name("client_id", row).ok_or_else(|| self.fault(row, "client_id is missing"))?;
            let from = self.time("from_seconds", row)?;
            let until = self.time("until_seconds", row)?;
            if from >= until {
                return Err(self.fault(row, format!("client \"{client}\": from_seconds must be before until_seconds")));
            }
            if let Some(period) = period
                && until > period
            {
                let what =
                    format!("client \"{client}\": until_seconds is after population.trace.online_period, {period}");
                return Err(self.fault(row, what));
            }
            online.entry(client).or_default().push((from, until));
        }
        for intervals in online.values_mut() {
            intervals.sort_unstable();
            // Ascending intervals: one that begins before the last one ends continues it.
            intervals.dedup_by(|next, last| {
                let overlaps = next.0 < last.1;
                if overlaps {
                    last.1 = last.1.max(next.1);
                }
                overlaps
            });
        }
        Ok(online)
    }

    /// Returns a time in seconds as a duration, rounded to nanoseconds.
    fn time(&self, column: &str, row: usize) -> Result<Duration, InputError> {
        let Some(seconds) = self.float(column, row, SECONDS_MAX)? else {
            return Err(self.fault(row, format!("{column} is missing")));
        };
        Ok(Duration((seconds * 1e9).round() as u64))
    }
}

/// Returns the error of a file that cannot be read.
fn unreadable(file: &Path, message: impl Display) -> InputError {
    InputError::Trace { file: file.display().to_string(), message: message.to_string() }
}

/// Reads a Parquet file.
fn parquet(bytes: Vec<u8>) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?;
    let schema = builder.schema().clone();
    let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// Reads a CSV file with all columns as text; the first line has their names.
fn csv(bytes: &[u8]) -> Result<RecordBatch, Box<dyn std::error::Error>> {
    // Spreadsheets begin their files with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let format = Format::default().with_header(true);
    let (inferred, _) = format.infer_schema(Cursor::new(bytes), Some(0))?;
    let fields = inferred.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let reader = ReaderBuilder::new(schema.clone()).with_format(format).build(Cursor::new(bytes))?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}
