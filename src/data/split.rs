//! A dataset's rows in two files, each client's apart: for training and for tests.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use fedreplay_sim::Seed;

use super::federation::{ClientData, Federation};
use super::hold_out::hold_out;
use crate::store::atomic;

/// One file of a split: its name, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitFile {
    pub name: &'static str,
    /// Clients that have a row in it.
    pub clients: usize,
    pub rows: usize,
}

/// Writes `train.json` and `test.json` into `folder`: of each client the rows that [`hold_out`] keeps, and the others.
///
/// # Errors
/// Whatever the file system says; no file is left half written.
pub fn write_split(data: &Federation, held_out: f64, seed: Seed, folder: &Path) -> io::Result<[SplitFile; 2]> {
    let split = |(index, client): (usize, &ClientData)| hold_out(seed, index as u64, client.rows.len(), held_out);
    let splits: Vec<_> = data.clients.iter().enumerate().map(split).collect();
    std::fs::create_dir_all(folder)?;
    let file = |name, rows: Vec<&[usize]>| -> io::Result<SplitFile> {
        write(&folder.join(name), data, &rows)?;
        let clients = rows.iter().filter(|rows| !rows.is_empty()).count();
        Ok(SplitFile { name, clients, rows: rows.iter().map(|rows| rows.len()).sum() })
    };
    Ok([
        file("train.json", splits.iter().map(|split| &split.train[..]).collect())?,
        file("test.json", splits.iter().map(|split| &split.held_out[..]).collect())?,
    ])
}

/// Writes these rows of each client in the federated form; clients without any are left out.
fn write(path: &Path, data: &Federation, rows: &[&[usize]]) -> io::Result<()> {
    atomic::write_with(path, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(b"{")?;
        let clients = data.clients.iter().zip(rows).filter(|(_, rows)| !rows.is_empty());
        for (number, (client, rows)) in clients.enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(out, "{comma}\n{}: [", serde_json::Value::from(client.id.as_str()))?;
            for (number, &row) in rows.iter().enumerate() {
                write!(out, "{}\n  {}", if number == 0 { "" } else { "," }, client.rows[row].to_json())?;
            }
            out.write_all(b"\n]")?;
        }
        out.write_all(b"\n}\n")?;
        out.flush()
    })
}
