//! Finds where in a changed table file the damage lies: in its footer, or in which row groups and rounds.

use std::fs::{self, File};
use std::ops::Range;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::reader::read_table;
use super::{EvaluationRow, EventRow, GenerationRow, LineageRow, RoundRow, Table, TaskRow};

/// Where the damage in `name`, a file of the run in `run_folder`, lies, as far as its form or the digest chain tells:
/// `broken` is the first round, from 1, whose rows do not give its digest. None where the file is no table.
pub(super) fn place(run_folder: &Path, name: &str, broken: Option<u32>) -> Option<String> {
    let table = name.strip_prefix("ledger/")?.split('/').next()?;
    let Some(groups) = row_groups(&run_folder.join(name)) else {
        return Some(format!("table {table}, the file's footer"));
    };
    let rounds = rounds_in(run_folder, table);
    // Rows that can be decoded are judged by the digest of their round.
    let is_damaged = |group: &RowGroup| !group.is_readable || broken.is_some_and(|round| rounds.holds(round, group));
    let damaged: Vec<String> = groups.iter().filter(|group| is_damaged(group)).map(|g| rounds.describe(g)).collect();
    Some(match damaged.is_empty() {
        true => format!("table {table}, bytes that no row depends on"),
        false => format!("table {table}, {}", damaged.join(" and ")),
    })
}

struct RowGroup {
    index: usize,
    rows: Range<u64>,
    is_readable: bool,
}

/// The row groups of a Parquet file; none if its footer cannot be read.
fn row_groups(path: &Path) -> Option<Vec<RowGroup>> {
    // Whoever opens a pipe waits for one who writes to it.
    fs::symlink_metadata(path).ok().filter(|found| found.is_file())?;
    let open = || ParquetRecordBatchReaderBuilder::try_new(File::open(path).ok()?).ok();
    let mut first = 0;
    let lengths: Vec<u64> = open()?.metadata().row_groups().iter().map(|group| group.num_rows() as u64).collect();
    let group = |(index, length): (usize, u64)| {
        let rows = first..first + length;
        first = rows.end;
        let read = || open()?.with_row_groups(vec![index]).build().ok()?.map(|batch| batch.ok()).sum_rows();
        RowGroup { index, rows, is_readable: read() == Some(length) }
    };
    Some(lengths.into_iter().enumerate().map(group).collect())
}

/// Adds up rows, unless one batch could not be read.
trait SumRows {
    fn sum_rows(self) -> Option<u64>;
}

impl<I: Iterator<Item = Option<arrow::record_batch::RecordBatch>>> SumRows for I {
    fn sum_rows(mut self) -> Option<u64> {
        self.try_fold(0, |sum, batch| Some(sum + batch?.num_rows() as u64))
    }
}

/// The rows that each round added to one table, in round order; empty where that is not known.
struct Rounds(Vec<Range<u64>>);

fn rounds_in(run_folder: &Path, table: &str) -> Rounds {
    let column = match table {
        name if name == EventRow::NAME => "event_rows",
        name if name == TaskRow::NAME => "task_rows",
        name if name == EvaluationRow::NAME => "evaluation_rows",
        name if name == GenerationRow::NAME => "generation_rows",
        name if name == LineageRow::NAME => "lineage_rows",
        _ => "",
    };
    let Ok(rounds) = read_table(run_folder, RoundRow::NAME) else { return Rounds(vec![]) };
    let mut next = 0u64;
    let mut span = |rows: u64| {
        let first = next;
        next = next.saturating_add(rows);
        first..next
    };
    if table == RoundRow::NAME {
        return Rounds((0..rounds.num_rows()).map(|_| span(1)).collect());
    }
    let counts = rounds.column_by_name(column).and_then(|counts| counts.as_primitive_opt::<UInt64Type>());
    Rounds(counts.map_or_else(Vec::new, |counts| counts.iter().map(|rows| span(rows.unwrap_or(0))).collect()))
}

impl Rounds {
    fn holds(&self, round: u32, group: &RowGroup) -> bool {
        self.0.get(round as usize - 1).is_some_and(|rows| rows.start < group.rows.end && group.rows.start < rows.end)
    }

    fn describe(&self, group: &RowGroup) -> String {
        let held = |round: &u32| self.holds(*round, group);
        let rounds = || 1..=self.0.len() as u32;
        let place = format!("row group {}", group.index);
        match (rounds().find(held), rounds().rev().find(held)) {
            (Some(first), Some(last)) => format!("{place} (rounds {first} to {last})"),
            _ => place,
        }
    }
}
