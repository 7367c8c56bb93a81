//! Location of damage in a changed table file: its footer, or the row groups and rounds that are affected.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::chunk::count_column;
use super::reader::read_table;
use super::{PopulationRow, RepeatRow, RoundRow, Table};
use crate::store::without_panic;

/// Describes the location of damage in `name`, a file of the run in `run_folder`, as far as the file's structure or the digest
/// chain shows it. `broken` is the first round, from 1, whose rows do not give its digest. `None` if the file is not a table.
pub(super) fn place(run_folder: &Path, name: &str, broken: Option<u32>) -> Option<String> {
    let table = name.strip_prefix("ledger/")?.split('/').next()?;
    let Some(groups) = row_groups(&run_folder.join(name)) else {
        return Some(format!("table {table}, the file's footer"));
    };
    let rounds = rounds_in(run_folder, table);
    let is_start = [PopulationRow::NAME, RepeatRow::NAME].contains(&table);
    let mut damaged = Vec::new();
    for group in &groups {
        // Rows that can be decoded are checked by the digest of their round, and those of the tables with which the chain starts by the first.
        let is_broken = broken.is_some_and(|round| rounds.holds(round, group) || is_start && round == 1);
        if !group.is_readable || is_broken {
            damaged.push(rounds.describe(group));
        }
    }
    Some(match damaged.is_empty() {
        true => format!("table {table}, bytes that no row depends on"),
        false => format!("table {table}, {}", damaged.join(" and ")),
    })
}

/// Row group of a Parquet file.
struct RowGroup {
    index: usize,
    rows: Range<u64>,
    is_readable: bool,
}

/// Returns the row groups of a Parquet file; `None` if its footer cannot be read.
fn row_groups(path: &Path) -> Option<Vec<RowGroup>> {
    // Opening a pipe would block until something writes to it.
    fs::symlink_metadata(path).ok().filter(|found| found.is_file())?;
    let file = open(path)?;
    let lengths = file.metadata().row_groups().iter().map(|group| group.num_rows() as u64);
    let mut groups = Vec::new();
    let mut first = 0;
    for (index, length) in lengths.enumerate() {
        let rows = first..first + length;
        first = rows.end;
        groups.push(RowGroup { index, rows, is_readable: readable_rows(path, index) == Some(length) });
    }
    Some(groups)
}

/// Opens a Parquet file; `None` if its footer cannot be read.
fn open(path: &Path) -> Option<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).ok()?;
    without_panic(|| ParquetRecordBatchReaderBuilder::try_new(file).ok()).ok()?
}

/// Counts the rows of a row group; `None` if any batch of it cannot be read.
fn readable_rows(path: &Path, row_group: usize) -> Option<u64> {
    let file = open(path)?;
    // The reader panics on some damaged pages.
    let count = without_panic(|| {
        let mut rows = 0;
        for batch in file.with_row_groups(vec![row_group]).build().ok()? {
            rows += batch.ok()?.num_rows() as u64;
        }
        Some(rows)
    });
    count.ok()?
}

/// Rows that each round added to one table, in round order; empty if that is not known.
struct Rounds(Vec<Range<u64>>);

/// Reads from table `rounds` which rows each round added to a table.
fn rounds_in(run_folder: &Path, table: &str) -> Rounds {
    let Ok(rounds) = read_table(run_folder, RoundRow::NAME) else { return Rounds(vec![]) };
    let counts: Vec<u64> = if table == RoundRow::NAME {
        vec![1; rounds.num_rows()]
    } else {
        let counts = count_column(table).and_then(|column| rounds.column_by_name(column));
        let counts = counts.and_then(|counts| counts.as_primitive_opt::<UInt64Type>());
        let Some(counts) = counts else { return Rounds(vec![]) };
        counts.iter().map(Option::unwrap_or_default).collect()
    };
    let mut spans = Vec::with_capacity(counts.len());
    let mut first = 0u64;
    for count in counts {
        // The table may be damaged too, so its counts are not trusted to add up.
        let end = first.saturating_add(count);
        spans.push(first..end);
        first = end;
    }
    Rounds(spans)
}

impl Rounds {
    /// Whether rows of a round are in a row group.
    fn holds(&self, round: u32, group: &RowGroup) -> bool {
        self.0.get(round as usize - 1).is_some_and(|rows| rows.start < group.rows.end && group.rows.start < rows.end)
    }

    /// Describes a row group by its number and the rounds in it.
    fn describe(&self, group: &RowGroup) -> String {
        let place = format!("row group {}", group.index);
        let held: Vec<u32> = (1..=self.0.len() as u32).filter(|&round| self.holds(round, group)).collect();
        match (held.first(), held.last()) {
            (Some(first), Some(last)) => format!("{place} (rounds {first} to {last})"),
            _ => place,
        }
    }
}
