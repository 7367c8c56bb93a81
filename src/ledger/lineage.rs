//! The table `lineage` as a graph: what was computed from what, checked by computing every key again.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};

use super::reader::read_table;
use super::{LedgerError, LineageRow, Table};
use crate::store::{Digest, Key, Recipe};

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageEntry {
    pub round: u32,
    pub kind: String,
    /// Places of the orders that it reads.
    pub inputs: Vec<usize>,
    pub code: String,
    pub engine: Option<Digest>,
    pub parameters: String,
    pub key: Key,
    pub result: Option<Digest>,
}

/// All orders of a run, by place, and how they depend on each other.
#[derive(Clone, Debug)]
pub struct Lineage {
    pub entries: Vec<LineageEntry>,
    /// An edge from each input to its reader, for each use.
    graph: DiGraph<(), ()>,
}

impl Lineage {
    /// Reads the lineage of the run in `run_folder`.
    ///
    /// # Errors
    /// If it is not there, or is not one.
    pub fn read(run_folder: &Path) -> Result<Self, LedgerError> {
        let rows = read_table(run_folder, LineageRow::NAME)?;
        Self::of(&rows).map_err(|reason| LedgerError::malformed(run_folder, reason))
    }

    /// Reads the rows of the table.
    ///
    /// # Errors
    /// The first row that is not one.
    pub fn of(rows: &RecordBatch) -> Result<Self, String> {
        let columns = Columns::of(rows)?;
        let entries = (0..rows.num_rows()).map(|row| columns.entry(row)).collect::<Result<Vec<_>, _>>()?;
        let mut graph = DiGraph::new();
        entries.iter().for_each(|_| {
            graph.add_node(());
        });
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

    /// Whether nothing depends on itself and every key is the hash of what it is said to be of: what is wrong, if not.
    pub fn check(&self) -> Vec<String> {
        let order = match toposort(&self.graph, None) {
            Ok(order) => order,
            Err(cycle) => return vec![format!("table lineage, row {}: it depends on itself", cycle.node_id().index())],
        };
        let mut found = Vec::new();
        for place in order {
            let entry = &self.entries[place.index()];
            let expected = self.recipe(entry).key();
            if entry.key != expected {
                let (row, round, key) = (place.index(), entry.round, entry.key);
                found.push(format!(
                    "table lineage, row {row} (round {round}): its inputs give the key {expected}, it says {key}"
                ));
            }
        }
        found
    }

    fn recipe(&self, entry: &LineageEntry) -> Recipe {
        let LineageEntry { code, engine, parameters, .. } = entry.clone();
        Recipe { code, engine, parameters, inputs: entry.inputs.iter().map(|&input| self.entries[input].key).collect() }
    }

    /// Orders by their keys; of equal ones the first.
    pub fn by_key(&self) -> BTreeMap<Key, &LineageEntry> {
        let mut by_key = BTreeMap::new();
        self.entries.iter().for_each(|entry| {
            by_key.entry(entry.key).or_insert(entry);
        });
        by_key
    }
}

/// The keys of all orders of the run in `run_folder`.
///
/// # Errors
/// If its lineage cannot be read.
pub fn keys_of(run_folder: &Path) -> Result<Vec<Key>, LedgerError> {
    let lineage = Lineage::read(run_folder)?;
    Ok(lineage.entries.into_iter().map(|entry| entry.key).collect())
}

/// The columns of the table.
struct Columns<'a> {
    order: &'a [u64],
    round: &'a [u32],
    texts: [&'a StringArray; 7],
}

/// Places in [`Columns::texts`].
const TEXTS: [&str; 7] = ["kind", "inputs", "code", "engine", "parameters", "key", "result"];

impl<'a> Columns<'a> {
    fn of(rows: &'a RecordBatch) -> Result<Self, String> {
        let fault = |name: &str| format!("table lineage: column {name} is missing, or not what it should be");
        let column = |name: &str| rows.column_by_name(name).ok_or_else(|| fault(name));
        let text = |name: &str| column(name)?.as_string_opt::<i32>().ok_or_else(|| fault(name));
        let order = column("order")?.as_primitive_opt::<UInt64Type>().ok_or_else(|| fault("order"))?.values();
        let round = column("round")?.as_primitive_opt::<UInt32Type>().ok_or_else(|| fault("round"))?.values();
        let mut texts = Vec::with_capacity(TEXTS.len());
        for name in TEXTS {
            texts.push(text(name)?);
        }
        Ok(Self { order, round, texts: texts.try_into().expect("one for each name") })
    }

    fn entry(&self, row: usize) -> Result<LineageEntry, String> {
        let fault = |what: &str| format!("table lineage, row {row}: {what}");
        if self.order[row] != row as u64 {
            return Err(fault("its order is not its place"));
        }
        let text = |column: usize| self.texts[column].is_valid(row).then(|| self.texts[column].value(row));
        let hash = |column: usize| {
            let parsed = text(column).map(|text| Digest::from_hex(text).ok_or(()));
            parsed.transpose().map_err(|()| fault(&format!("its {} is no hash", TEXTS[column])))
        };
        let inputs = text(1).unwrap_or_default().split(' ').filter(|input| !input.is_empty());
        let inputs = inputs.map(|input| input.parse().map_err(|_| fault("its inputs are not indices")));
        Ok(LineageEntry {
            round: self.round[row],
            kind: text(0).unwrap_or_default().to_owned(),
            inputs: inputs.collect::<Result<_, _>>()?,
            code: text(2).unwrap_or_default().to_owned(),
            engine: hash(3)?,
            parameters: text(4).unwrap_or_default().to_owned(),
            key: Key(hash(5)?.ok_or_else(|| fault("it has no key"))?),
            result: hash(6)?,
        })
    }
}
