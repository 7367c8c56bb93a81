//! Writing of a dataset as two files, one for training and one for testing, both with the clients of the original.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use fedreplay_sim::Seed;

use super::federation::Federation;
use super::hold_out::hold_out;
use crate::store::atomic::{self, Pending};

/// One file of a split, with its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitFile {
    pub name: &'static str,
    /// Clients that have a row in the file.
    pub clients: usize,
    pub rows: usize,
}

/// Writes `train.json` and `test.json` into `folder`. [`hold_out`] chooses the test rows of each client.
///
/// # Errors
/// Errors of the file system; no incomplete file is left behind.
pub fn write_split(data: &Federation, held_out: f64, seed: Seed, folder: &Path) -> io::Result<[SplitFile; 2]> {
    let mut splits = Vec::with_capacity(data.clients.len());
    for (index, client) in data.clients.iter().enumerate() {
        splits.push(hold_out(seed, index as u64, client.rows.len(), held_out));
    }
    let train_rows: Vec<&[usize]> = splits.iter().map(|split| &split.train[..]).collect();
    let test_rows: Vec<&[usize]> = splits.iter().map(|split| &split.held_out[..]).collect();
    let (train, train_file) = write_part(folder, "train.json", data, &train_rows)?;
    let (test, test_file) = write_part(folder, "test.json", data, &test_rows)?;
    atomic::commit_together([(train_file, folder.join(train.name)), (test_file, folder.join(test.name))])?;
    Ok([train, test])
}

/// Writes the given rows of each client to the file `name`, which is still to be committed, and counts them.
fn write_part(
    folder: &Path,
    name: &'static str,
    data: &Federation,
    rows: &[&[usize]],
) -> io::Result<(SplitFile, Pending)> {
    let mut pending = Pending::create(folder, name)?;
    write(pending.file(), data, rows)?;
    let clients = rows.iter().filter(|rows| !rows.is_empty()).count();
    Ok((SplitFile { name, clients, rows: rows.iter().map(|rows| rows.len()).sum() }, pending))
}

/// Writes the given rows of each client in the federated layout, one row per line. Clients without rows are left out.
fn write(file: &mut File, data: &Federation, rows: &[&[usize]]) -> io::Result<()> {
    // Written by hand instead of as one JSON value, so that only one row at a time is held as JSON.
    let mut out = BufWriter::new(file);
    out.write_all(b"{")?;
    let clients = data.clients.iter().zip(rows).filter(|(_, rows)| !rows.is_empty());
    for (number, (client, rows)) in clients.enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(out, "{comma}\n{}: [", serde_json::Value::from(client.id.as_str()))?;
        for (number, &row) in rows.iter().enumerate() {
            write!(out, "{}\n  {}", if number == 0 { "" } else { "," }, client.rows[row].written())?;
        }
        out.write_all(b"\n]")?;
    }
    out.write_all(b"\n}\n")?;
    out.flush()
}
