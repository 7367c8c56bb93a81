//! Snapshots: simulations as bytes, which can be stored at any event and restored with the same future.
//!
//! A snapshot is a [`Header`] followed by the state, both in postcard's format.

use crate::federation::Federation;
use crate::simulation::Simulation;
use serde::{Deserialize, Serialize};

/// First bytes of a snapshot.
const MAGIC: [u8; 8] = *b"FREPLSIM";

/// Format that this version writes. Any change of a type inside [`Simulation`] requires a new number.
const FORMAT: u32 = 6;

/// Header of a snapshot.
#[derive(Serialize, Deserialize)]
struct Header {
    magic: [u8; 8],
    format: u32,
    /// Version of this crate, for messages.
    written_by: String,
    /// Hash of the federation.
    federation: [u8; 32],
    /// BLAKE3 hash of the state.
    body: [u8; 32],
}

/// Error of bytes that are not a valid snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes do not begin with a header.
    #[error("failed to read the snapshot: it does not begin as one")]
    NotASnapshot,
    /// The snapshot has another format.
    #[error("failed to read the snapshot: it has format {found}, written by version {written_by}; this is {FORMAT}")]
    OtherFormat {
        /// Format of the snapshot.
        found: u32,
        /// Version that wrote it.
        written_by: String,
    },
    /// The snapshot was truncated or altered.
    #[error("failed to read the snapshot: its content does not have the hash that its header states")]
    Damaged,
}

impl Federation {
    /// Returns the hash of this description, which is equal for equal federations on any machine.
    pub fn hash(&self) -> [u8; 32] {
        let bytes = postcard::to_stdvec(self).expect("a federation is plain data");
        *blake3::hash(&bytes).as_bytes()
    }
}

impl Simulation {
    /// Returns this simulation as bytes, including records that were not drained. Equal states have equal bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a simulation is plain data");
        let header = Header {
            magic: MAGIC,
            format: FORMAT,
            written_by: env!("CARGO_PKG_VERSION").into(),
            federation: self.federation().hash(),
            body: *blake3::hash(&body).as_bytes(),
        };
        let mut bytes = postcard::to_stdvec(&header).expect("a header is plain data");
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Returns the simulation that [`Simulation::snapshot`] stored.
    ///
    /// # Errors
    /// If the bytes are not a snapshot, have another format, or are damaged.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(SnapshotError::NotASnapshot);
        }
        let (header, body): (Header, &[u8]) =
            postcard::take_from_bytes(bytes).map_err(|_| SnapshotError::NotASnapshot)?;
        // The format is checked before the body: another format may have the same header and a body that cannot be
        // read.
        if header.format != FORMAT {
            return Err(SnapshotError::OtherFormat { found: header.format, written_by: header.written_by });
        }
        if *blake3::hash(body).as_bytes() != header.body {
            return Err(SnapshotError::Damaged);
        }
        postcard::from_bytes(body).map_err(|_| SnapshotError::Damaged)
    }

    /// Returns the hash of the federation in a snapshot, without restoring it.
    ///
    /// # Errors
    /// If the bytes do not begin with a header. Format and content are not checked.
    pub fn federation_of_snapshot(bytes: &[u8]) -> Result<[u8; 32], SnapshotError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(SnapshotError::NotASnapshot);
        }
        let (header, _): (Header, &[u8]) = postcard::take_from_bytes(bytes).map_err(|_| SnapshotError::NotASnapshot)?;
        Ok(header.federation)
    }
}
