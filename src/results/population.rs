//! Clients of a run. Of millions, most are never asked, so only those are in memory to which other tables refer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array, UInt64Array};
use arrow::compute::{concat, take};

use crate::ledger::{LedgerError, TableParts};

/// Clients of the federation: their number, and facts about some of them.
pub struct RunClients {
    clients: usize,
    devices: BTreeMap<String, u64>,
    /// Clients with facts, in ascending order; the columns have their rows.
    known: Vec<u32>,
    client_id: StringArray,
    train_rows: UInt64Array,
    device: StringArray,
    link: StringArray,
}

impl RunClients {
    /// Reads the facts about these clients, in ascending order, as far as they exist.
    ///
    /// # Errors
    /// If the table cannot be read, or lacks a column.
    pub(super) fn read(table: TableParts, mut known: Vec<u32>) -> Result<Self, LedgerError> {
        let mut columns: [Vec<ArrayRef>; 4] = Default::default();
        let mut devices = BTreeMap::new();
        let mut clients = 0;
        let none = table.empty();
        for part in std::iter::once(Ok(none)).chain(table) {
            let part = part?;
            let device: StringArray = part.array("device")?;
            count_devices(&device, &mut devices);
            let facts: [ArrayRef; 4] = [
                Arc::new(part.array::<StringArray>("client_id")?),
                Arc::new(part.array::<UInt64Array>("train_rows")?),
                Arc::new(device),
                Arc::new(part.array::<StringArray>("link")?),
            ];
            let rows = rows_within(&known, clients..clients + part.len());
            for (column, facts) in columns.iter_mut().zip(&facts) {
                column.push(take(facts, &rows, None).expect("the rows are within the part"));
            }
            clients += part.len();
        }
        known.truncate(known.partition_point(|&client| (client as usize) < clients));
        let [client_id, train_rows, device, link] = columns.map(|parts| {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            concat(&parts).expect("parts of a column have one type")
        });
        Ok(Self {
            clients,
            devices,
            known,
            client_id: client_id.as_string().clone(),
            train_rows: train_rows.as_primitive().clone(),
            device: device.as_string().clone(),
            link: link.as_string().clone(),
        })
    }

    /// Returns the number of clients.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Returns the number of clients with each class of device.
    pub fn devices(&self) -> &BTreeMap<String, u64> {
        &self.devices
    }

    /// Returns the name of a client, to which some row of the run refers, as in the functions below.
    pub fn client_id(&self, client: u32) -> &str {
        self.client_id.value(self.place(client))
    }

    /// [row] -- Returns the number of a client's training rows.
    pub fn train_rows(&self, client: u32) -> u64 {
        self.train_rows.value(self.place(client))
    }

    /// Returns the class of a client's device.
    pub fn device(&self, client: u32) -> &str {
        self.device.value(self.place(client))
    }

    /// Returns the class of a client's link.
    pub fn link(&self, client: u32) -> &str {
        self.link.value(self.place(client))
    }

    fn place(&self, client: u32) -> usize {
        self.known.binary_search(&client).expect("facts are read of every client that is named")
    }
}

/// Adds the clients of a part to the numbers of clients with each class of device.
fn count_devices(device: &StringArray, counts: &mut BTreeMap<String, u64>) {
    for name in device.iter().flatten() {
        match counts.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        }
    }
}

/// Returns the rows of these clients in a part of the table, which has the clients `part`.
fn rows_within(clients: &[u32], part: Range<usize>) -> UInt32Array {
    let first = clients.partition_point(|&client| (client as usize) < part.start);
    let end = clients.partition_point(|&client| (client as usize) < part.end);
    clients[first..end].iter().map(|&client| client - part.start as u32).collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_part_count_from_its_first_client() {
        let clients = [0, 3, 4, 9, 20];
        let rows = |part| rows_within(&clients, part).values().to_vec();
        assert_eq!([rows(0..4), rows(4..10), rows(10..20), rows(20..21)], [vec![0, 3], vec![0, 5], vec![], vec![0]]);
    }
}
