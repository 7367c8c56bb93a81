//! Where in a table's file its row groups lie and which rounds they hold, so that a damaged byte can be located.

use std::fs::{self, File};
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::{Deserialize, Serialize};

use super::reader::{parts, read_table};
use super::writer::TABLES;
use super::{LedgerError, RoundRow, Table};
use crate::store::Digest;

/// A row group of a Parquet file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowGroup {
    /// [B] From the beginning of the file.
    pub first_byte: u64,
    pub bytes: u64,
    pub blake3: Digest,
    /// First and last round of which it holds rows.
    pub rounds: [u32; 2],
}

/// The row groups of each table of rounds that is in one file, by the file's path within the run.
pub(super) fn row_groups(run_folder: &Path) -> Result<Vec<(String, Vec<RowGroup>)>, LedgerError> {
    let ledger = run_folder.join("ledger");
    let rounds = read_table(run_folder, RoundRow::NAME)?;
    let mut found = Vec::new();
    for table in TABLES {
        let folder = ledger.join(table);
        let [part] = &parts(&folder)?[..] else { continue };
        let counts = rounds.column_by_name(&format!("{}_rows", singular(table)));
        let ends: Vec<u64> = match counts.and_then(|counts| counts.as_primitive_opt::<UInt64Type>()) {
            Some(counts) => counts
                .values()
                .iter()
                .scan(0, |sum, count| {
                    *sum += count;
                    Some(*sum)
                })
                .collect(),
            None => (1..=rounds.num_rows() as u64).collect(),
        };
        let name = part.path.file_name().expect("a part is a file").to_string_lossy();
        found.push((format!("ledger/{table}/{name}"), of_file(&part.path, &ends)?));
    }
    Ok(found)
}

/// `events` becomes `event`, as the columns of counts are called.
fn singular(table: &str) -> &str {
    table.strip_suffix('s').unwrap_or(table)
}

/// `ends` has the number of rows up to the end of each round.
fn of_file(path: &Path, ends: &[u64]) -> Result<Vec<RowGroup>, LedgerError> {
    let bytes = fs::read(path).map_err(LedgerError::io(path))?;
    let parquet = |source| LedgerError::Parquet { path: path.to_owned(), source };
    let reader = SerializedFileReader::new(File::open(path).map_err(LedgerError::io(path))?).map_err(parquet)?;
    let round_of = |row: u64| ends.partition_point(|&end| end <= row) as u32 + 1;
    let mut first_row = 0;
    let mut groups = Vec::new();
    for group in reader.metadata().row_groups() {
        let ranges: Vec<(u64, u64)> = group.columns().iter().map(|column| column.byte_range()).collect();
        let first = ranges.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let end = ranges.iter().map(|(start, length)| start + length).max().unwrap_or(0);
        let rows = group.num_rows() as u64;
        let rounds = [round_of(first_row), round_of((first_row + rows).saturating_sub(1).max(first_row))];
        first_row += rows;
        let blake3 = Digest::of(&bytes[first as usize..end as usize]);
        groups.push(RowGroup { first_byte: first, bytes: end - first, blake3, rounds });
    }
    Ok(groups)
}

/// Where these bytes of a file differ from what the row groups say: a clause for a message; nothing is known of a file
/// that is no table.
pub(super) fn located(bytes: &[u8], groups: &[RowGroup]) -> Option<String> {
    if groups.is_empty() {
        return None;
    }
    let is_changed = |group: &RowGroup| {
        let (first, end) = (group.first_byte as usize, (group.first_byte + group.bytes) as usize);
        bytes.get(first..end).is_none_or(|found| Digest::of(found) != group.blake3)
    };
    let changed: Vec<String> = groups
        .iter()
        .enumerate()
        .filter(|(_, group)| is_changed(group))
        .map(|(index, group)| {
            let [first, last] = group.rounds;
            if first == last {
                format!("row group {index} (round {first})")
            } else {
                format!("row group {index} (rounds {first} to {last})")
            }
        })
        .collect();
    Some(if changed.is_empty() {
        "outside of its row groups: in its header or footer".into()
    } else {
        format!("in {}", changed.join(", "))
    })
}
