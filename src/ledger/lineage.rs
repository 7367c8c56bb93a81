//! Table `lineage` as a graph of orders, which is checked by computing every key again.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};

use super::reader::read_table;
use super::{LedgerError, LineageRow, Table};
use crate::store::{Digest, Key, Recipe};

/// Entry of one order in the lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageEntry {
    pub round: u32,
    pub kind: String,
    /// Rows of the orders that it reads.
    pub inputs: Vec<usize>,
    pub code: String,
    pub engine: Option<Digest>,
    pub parameters: String,
    pub key: Key,
    pub result: Option<Digest>,
}

/// All orders of a run, in plan order, with the graph of their dependencies.
#[derive(Clone, Debug)]
pub struct Lineage {
    pub entries: Vec<LineageEntry>,
    /// Edges from each input to its reader, one per use.
    graph: DiGraph<(), ()>,
}

/// Error in a table of orders, with the row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LineageError(String);

impl Lineage {
    /// Reads the lineage of the run in `run_folder`.
    ///
    /// # Errors
    /// If the table is missing or invalid.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        let rows = read_table(run_folder, LineageRow::NAME)?;
        Self::of(&rows).map_err(|error| LedgerError::malformed(run_folder, error.0))
    }

    /// Reads the rows of the table.
    ///
    /// # Errors
    /// The first invalid row.
    pub fn of(rows: &RecordBatch) -> Result<Self, LineageError> {
        Self::of_rows(rows).map_err(LineageError)
    }

    fn of_rows(rows: &RecordBatch) -> Result<Self, String> {
        let columns = Columns::of(rows)?;
        let entries = (0..rows.num_rows()).map(|row| columns.entry(row)).collect::<Result<Vec<_>, _>>()?;
        let mut graph = DiGraph::new();
        for _ in &entries {
            graph.add_node(());
        }
        for (place, entry) in entries.iter().enumerate() {
            for &input in &entry.inputs {
                if input >= entries.len() {
                    let orders = entries.len();
                    return Err(format!("table lineage, row {place}: it reads order {input}, and there are {orders}"));
                }
                graph.add_edge(NodeIndex::new(input), NodeIndex::new(place), ());
            }
        }
        Ok(Self { entries, graph })
    }

    /// Checks that no order depends on itself, that every key is the hash of its recipe, and that kinds are those of the code. Returns a description of each
    /// fault.
    pub fn check(&self) -> Vec<String> {
        // Inputs come first, so that each key is checked against recorded keys that have been checked before.
        let order = match toposort(&self.graph, None) {
            Ok(order) => order,
            Err(cycle) => return vec![format!("table lineage, row {}: it depends on itself", cycle.node_id().index())],
        };
        let mut found = Vec::new();
        for place in order {
            let entry = &self.entries[place.index()];
            // The code, which the key covers, begins with the kind, which it does not.
            if entry.code.split(' ').next() != Some(entry.kind.as_str()) {
                found.push(format!(
                    "table lineage, row {} (round {}): its kind is {}, and its code is {}",
                    place.index(),
                    entry.round,
                    entry.kind,
                    entry.code
                ));
            }
            let expected = self.recipe(entry).key();
            if entry.key != expected {
                found.push(format!(
                    "table lineage, row {} (round {}): its inputs give the key {expected}, it says {}",
                    place.index(),
                    entry.round,
                    entry.key
                ));
            }
        }
        found
    }

    /// Returns the recipe of an order, with the recorded keys of its inputs.
    fn recipe(&self, entry: &LineageEntry) -> Recipe {
        let LineageEntry { code, engine, parameters, .. } = entry.clone();
        Recipe { code, engine, parameters, inputs: entry.inputs.iter().map(|&input| self.entries[input].key).collect() }
    }

    /// Returns the orders by key; if several have the same key, the first of them.
    pub fn by_key(&self) -> BTreeMap<Key, &LineageEntry> {
        let mut by_key = BTreeMap::new();
        for entry in &self.entries {
            by_key.entry(entry.key).or_insert(entry);
        }
        by_key
    }
}

/// Reads the keys of all orders of the run in `run_folder`.
///
/// # Errors
/// If its lineage cannot be read.
pub fn keys_of(run_folder: &Path) -> Result<Vec<Key>, LedgerError> {
    let lineage = Lineage::read(run_folder)?;
    Ok(lineage.entries.into_iter().map(|entry| entry.key).collect())
}

/// Columns of the table.
struct Columns<'a> {
    order: &'a [u64],
    round: &'a [u32],
    texts: [&'a StringArray; 7],
}

/// Names of the columns in [`Columns::texts`].
const TEXTS: [&str; 7] = ["kind", "inputs", "code", "engine", "parameters", "key", "result"];

impl<'a> Columns<'a> {
    /// Finds the columns of the table and checks their types.
    fn of(rows: &'a RecordBatch) -> Result<Self, String> {
        let order = column(rows, "order")?.as_primitive_opt::<UInt64Type>().ok_or_else(|| no_column("order"))?;
        let round = column(rows, "round")?.as_primitive_opt::<UInt32Type>().ok_or_else(|| no_column("round"))?;
        let mut texts = Vec::with_capacity(TEXTS.len());
        for name in TEXTS {
            texts.push(column(rows, name)?.as_string_opt::<i32>().ok_or_else(|| no_column(name))?);
        }
        Ok(Self { order: order.values(), round: round.values(), texts: texts.try_into().expect("one for each name") })
    }

    /// Returns the entry in a row.
    fn entry(&self, row: usize) -> Result<LineageEntry, String> {
        if self.order[row] != row as u64 {
            return Err(fault(row, "its order is not its place"));
        }
        // Inputs are row numbers separated by spaces; a null means that there are none.
        let mut inputs = Vec::new();
        for input in self.text(1, row).split(' ').filter(|input| !input.is_empty()) {
            inputs.push(input.parse().map_err(|_| fault(row, "its inputs are not indices"))?);
        }
        Ok(LineageEntry {
            round: self.round[row],
            kind: self.text(0, row).to_owned(),
            inputs,
            code: self.text(2, row).to_owned(),
            engine: self.hash(3, row)?,
            parameters: self.text(4, row).to_owned(),
            key: Key(self.hash(5, row)?.ok_or_else(|| fault(row, "it has no key"))?),
            result: self.hash(6, row)?,
        })
    }

    /// Returns the text in a cell; empty for a null.
    fn text(&self, column: usize, row: usize) -> &'a str {
        if self.texts[column].is_valid(row) { self.texts[column].value(row) } else { "" }
    }

    /// Returns the hash in a cell; `None` for a null.
    fn hash(&self, column: usize, row: usize) -> Result<Option<Digest>, String> {
        if self.texts[column].is_null(row) {
            return Ok(None);
        }
        match Digest::from_hex(self.texts[column].value(row)) {
            Some(hash) => Ok(Some(hash)),
            None => Err(fault(row, &format!("its {} is no hash", TEXTS[column]))),
        }
    }
}

/// Returns a column of the table.
fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    rows.column_by_name(name).ok_or_else(|| no_column(name))
}

/// Describes a column that is missing or has the wrong type.
fn no_column(name: &str) -> String {
    format!("table lineage: column {name} is missing, or not what it should be")
}

/// Describes a fault in a row.
fn fault(row: usize, what: &str) -> String {
    format!("table lineage, row {row}: {what}")
}
