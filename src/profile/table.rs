//! The table of measured steps, in Parquet: one row per step, and the workload and the machine in columns that are the same in every row.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use fedreplay_sim as sim;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::file::ProfileError;
use super::steps::{Machine, MeasuredStep, Measurements, Workload};
use crate::store::{atomic, read_limited, without_panic};

impl Measurements {
    /// Reads a table of measured steps.
    ///
    /// # Errors
    /// If the file cannot be read, a column is missing, a value is no number of its kind, or a column of the workload or the machine is not
    /// the same in every row.
    pub fn read(file: &Path) -> Result<Self, ProfileError> {
        let bytes = read_limited(file).map_err(|source| ProfileError::Io { file: file.to_owned(), source })?;
        Self::of_bytes(bytes).map_err(|message| ProfileError::Content { file: file.to_owned(), message })
    }

    fn of_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        // The readers panic on some damaged files.
        let columns = without_panic(|| columns(bytes))?.map_err(|error| error.to_string())?;
        let table = StepTable(columns);
        let rows = table.column("rows")?.len();
        if rows == 0 {
            return Err("it has no rows".into());
        }
        Ok(Self {
            workload: table.workload()?,
            machine: table.machine()?,
            steps: (0..rows).map(|row| table.step(row)).collect::<Result<_, _>>()?,
        })
    }

    /// Writes the table of measured steps to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn write(&self, file: &Path) -> Result<(), ProfileError> {
        let batch = self.batch();
        let mut bytes = Vec::new();
        let writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None);
        let mut writer = writer.expect("the columns are of types that Parquet has");
        writer.write(&batch).expect("writing to memory succeeds");
        writer.close().expect("writing to memory succeeds");
        atomic::write(file, &bytes).map_err(|source| ProfileError::Io { file: file.to_owned(), source })
    }

    fn batch(&self) -> RecordBatch {
        let Self { workload, machine, steps } = self;
        // A reader finds the setting with the steps in one file, and columns of one value take next to no room.
        let rows = steps.len();
        let model = &workload.model;
        let columns: [(&str, ArrayRef); 26] = [
            ("rows", Arc::new(UInt64Array::from_iter_values(steps.iter().map(|step| step.rows.into())))),
            ("length", Arc::new(UInt64Array::from_iter_values(steps.iter().map(|step| step.length.into())))),
            ("rank", Arc::new(UInt64Array::from_iter_values(steps.iter().map(|step| step.rank.into())))),
            (
                "micro_batch_seconds",
                Arc::new(Float64Array::from_iter_values(steps.iter().map(|step| step.micro_batch_seconds))),
            ),
            ("optimizer_seconds", Arc::new(steps.iter().map(|step| step.optimizer_seconds).collect::<Float64Array>())),
            ("peak_memory_bytes", Arc::new(steps.iter().map(|step| step.peak_memory_bytes).collect::<UInt64Array>())),
            ("held_out", Arc::new(steps.iter().map(|step| Some(step.held_out)).collect::<BooleanArray>())),
            ("layers", numbers(model.layers, rows)),
            ("hidden", numbers(model.hidden, rows)),
            ("intermediate", numbers(model.intermediate, rows)),
            ("heads", numbers(model.heads, rows)),
            ("kv_heads", numbers(model.kv_heads, rows)),
            ("head_dim", numbers(model.head_dim, rows)),
            ("vocabulary", numbers(model.vocabulary, rows)),
            ("ties_embeddings", flags(model.ties_embeddings, rows)),
            ("targets", texts(&workload.targets.join(","), rows)),
            ("precision", texts(&workload.precision, rows)),
            ("recomputation", flags(workload.recomputation, rows)),
            ("optimizer", texts(&workload.optimizer, rows)),
            ("objective", texts(&workload.objective, rows)),
            ("device", texts(&machine.device, rows)),
            ("threads", numbers(machine.threads.into(), rows)),
            ("workers", numbers(machine.workers.into(), rows)),
            ("versions", texts(&machine.versions, rows)),
            ("measured_on", texts(&machine.measured_on, rows)),
            ("busy", flags(machine.busy, rows)),
        ];
        RecordBatch::try_from_iter(columns).expect("all columns have one value per step")
    }
}

fn numbers(value: u64, rows: usize) -> ArrayRef {
    Arc::new(UInt64Array::from(vec![value; rows]))
}

fn texts(value: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![value; rows]))
}

fn flags(value: bool, rows: usize) -> ArrayRef {
    Arc::new(BooleanArray::from(vec![value; rows]))
}

/// Columns of a table as text, by name.
struct StepTable(BTreeMap<String, StringArray>);

fn columns(bytes: Vec<u8>) -> Result<BTreeMap<String, StringArray>, Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?;
    let schema = builder.schema().clone();
    let batches = builder.build()?.collect::<Result<Vec<_>, _>>()?;
    let table = concat_batches(&schema, &batches)?;
    // As text, all types of numbers are read alike, and a fault can quote what the table has.
    let mut columns = BTreeMap::new();
    for (field, column) in schema.fields().iter().zip(table.columns()) {
        columns.insert(field.name().clone(), cast(column, &DataType::Utf8)?.as_string::<i32>().clone());
    }
    Ok(columns)
}

impl StepTable {
    fn column(&self, name: &str) -> Result<&StringArray, String> {
        self.0.get(name).ok_or_else(|| format!("there is no column `{name}`"))
    }

    /// Returns a value; `None` for a null.
    fn text(&self, name: &str, row: usize) -> Result<Option<&str>, String> {
        let column = self.column(name)?;
        Ok(if column.is_null(row) { None } else { Some(column.value(row)) })
    }

    fn parsed<T>(&self, name: &str, row: usize, kind: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>, String> {
        let Some(text) = self.text(name, row)? else { return Ok(None) };
        match parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("row {}: {name}: `{text}` must be {kind}", row + 1)),
        }
    }

    fn seconds(&self, name: &str, row: usize) -> Result<Option<f64>, String> {
        self.parsed(name, row, "a finite number above 0", |text| {
            text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0)
        })
    }

    /// Returns a count above 0, which other programs may have written as a float.
    fn count(&self, name: &str, row: usize) -> Result<Option<u64>, String> {
        self.parsed(name, row, "a whole number above 0", |text| {
            let value: f64 = text.parse().ok()?;
            // Below 2^53 every whole number is a float.
            let is_count = value.fract() == 0.0 && (1.0..9_007_199_254_740_992.0).contains(&value);
            is_count.then_some(value as u64)
        })
    }

    fn size(&self, name: &str, row: usize) -> Result<u32, String> {
        in_32_bits(name, row, required(name, row, self.count(name, row)?)?)
    }

    fn flag(&self, name: &str, row: usize) -> Result<Option<bool>, String> {
        self.parsed(name, row, "true or false", |text| text.parse().ok())
    }

    /// Checks that a column has one value, the same in every row.
    fn constant(&self, name: &str) -> Result<&str, String> {
        let first = required(name, 0, self.text(name, 0)?)?;
        for row in 1..self.column(name)?.len() {
            let other = required(name, row, self.text(name, row)?)?;
            if other != first {
                return Err(format!(
                    "row {}: {name} is `{other}`, and `{first}` in row 1: all rows must be measured with one setting",
                    row + 1
                ));
            }
        }
        Ok(first)
    }

    fn constant_count(&self, name: &str) -> Result<u64, String> {
        self.constant(name)?;
        required(name, 0, self.count(name, 0)?)
    }

    fn constant_flag(&self, name: &str) -> Result<bool, String> {
        self.constant(name)?;
        required(name, 0, self.flag(name, 0)?)
    }

    fn workload(&self) -> Result<Workload, String> {
        Ok(Workload {
            model: sim::ModelShape {
                layers: self.constant_count("layers")?,
                hidden: self.constant_count("hidden")?,
                intermediate: self.constant_count("intermediate")?,
                heads: self.constant_count("heads")?,
                kv_heads: self.constant_count("kv_heads")?,
                head_dim: self.constant_count("head_dim")?,
                vocabulary: self.constant_count("vocabulary")?,
                ties_embeddings: self.constant_flag("ties_embeddings")?,
            },
            targets: self.constant("targets")?.split(',').map(|target| target.trim().to_owned()).collect(),
            precision: self.constant("precision")?.to_owned(),
            recomputation: self.constant_flag("recomputation")?,
            optimizer: self.constant("optimizer")?.to_owned(),
            objective: self.constant("objective")?.to_owned(),
        })
    }

    fn machine(&self) -> Result<Machine, String> {
        Ok(Machine {
            device: self.constant("device")?.to_owned(),
            threads: in_32_bits("threads", 0, self.constant_count("threads")?)?,
            workers: in_32_bits("workers", 0, self.constant_count("workers")?)?,
            versions: self.constant("versions")?.to_owned(),
            measured_on: self.constant("measured_on")?.to_owned(),
            busy: self.0.contains_key("busy") && self.constant_flag("busy")?,
        })
    }

    fn step(&self, row: usize) -> Result<MeasuredStep, String> {
        let seconds = self.seconds("micro_batch_seconds", row)?;
        Ok(MeasuredStep {
            rows: self.size("rows", row)?,
            length: self.size("length", row)?,
            rank: self.size("rank", row)?,
            micro_batch_seconds: required("micro_batch_seconds", row, seconds)?,
            optimizer_seconds: self.seconds("optimizer_seconds", row)?,
            peak_memory_bytes: self.count("peak_memory_bytes", row)?,
            held_out: required("held_out", row, self.flag("held_out", row)?)?,
        })
    }
}

fn required<T>(name: &str, row: usize, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("row {}: {name} is missing", row + 1))
}

fn in_32_bits(name: &str, row: usize, value: u64) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("row {}: {name}: {value} is too large", row + 1))
}
