//! Readers of datasets, for fuzzing (`fuzz/`) and for property tests: bytes are read in every way in which they can be.

use std::collections::BTreeSet;
use std::path::Path;

use fedreplay::data::{BadRows, Columns, Federation};

/// Reads `bytes` as a dataset with all column sets and both policies for bad rows, and checks the invariants of the
/// result.
///
/// # Panics
/// If a reader violates an invariant.
pub fn read_in_every_way(bytes: &[u8]) {
    let columns = Columns::names().filter_map(Columns::named).chain([Columns::FedLlmBench]);
    for columns in columns {
        for bad_rows in [BadRows::Refuse, BadRows::Skip] {
            if let Ok(data) = Federation::read_columns_from(bytes, Path::new("data"), &columns, bad_rows) {
                check(&data, bad_rows);
            }
        }
    }
}

/// Checks the invariants of a dataset that was read.
fn check(data: &Federation, bad_rows: BadRows) {
    let ids: BTreeSet<&str> = data.clients.iter().map(|client| client.id.as_str()).collect();
    assert_eq!(ids.len(), data.clients.len(), "ids are unique");
    assert!(
        !data.clients.is_empty() && data.clients.iter().all(|client| !client.rows.is_empty()),
        "no client is empty"
    );
    for row in data.clients.iter().flat_map(|client| &client.rows) {
        assert!(row.kind() == data.kind, "rows are of one kind");
        assert!(row.answered().iter().all(|text| !text.trim().is_empty()), "no answer is empty");
    }
    assert!(bad_rows == BadRows::Skip || data.skipped.is_empty(), "nothing is skipped unasked");
}
