//! Simulations as bytes: stored at any event, taken up again with the same future.

use crate::federation::Federation;
use crate::simulation::Simulation;
use serde::{Deserialize, Serialize};

/// The first bytes of a snapshot.
const MAGIC: [u8; 8] = *b"FREPLSIM";

/// The format that this version writes. Any change of a type inside [`Simulation`] is a new format.
const FORMAT: u32 = 1;

/// What precedes the state.
#[derive(Serialize, Deserialize)]
struct Header {
    magic: [u8; 8],
    format: u32,
    /// The version of this crate, for messages.
    written_by: String,
    federation: [u8; 32],
    body: [u8; 32],
}

/// Why bytes are not a snapshot that can be taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// They do not begin as a snapshot does.
    #[error("failed to read the snapshot: it does not begin as one")]
    NotASnapshot,
    /// They have another format.
    #[error("failed to read the snapshot: it has format {found}, written by version {written_by}; this is {FORMAT}")]
    OtherFormat {
        /// The format found.
        found: u32,
        /// The version that wrote it.
        written_by: String,
    },
    /// They were cut short or altered.
    #[error("failed to read the snapshot: its content does not have the hash that its header states")]
    Damaged,
}

impl Federation {
    /// The hash of this description: equal for equal federations, on any machine.
    pub fn hash(&self) -> [u8; 32] {
        let bytes = postcard::to_stdvec(self).expect("a federation is plain data");
        *blake3::hash(&bytes).as_bytes()
    }
}

impl Simulation {
    /// This simulation as bytes, records that were not drained included. Equal states have equal bytes.
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

    /// The simulation that [`Simulation::snapshot`] stored.
    ///
    /// # Errors
    /// If the bytes are something else, of another format, or damaged.
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(SnapshotError::NotASnapshot);
        }
        let (header, body): (Header, &[u8]) =
            postcard::take_from_bytes(bytes).map_err(|_| SnapshotError::NotASnapshot)?;
        if header.format != FORMAT {
            return Err(SnapshotError::OtherFormat { found: header.format, written_by: header.written_by });
        }
        if *blake3::hash(body).as_bytes() != header.body {
            return Err(SnapshotError::Damaged);
        }
        postcard::from_bytes(body).map_err(|_| SnapshotError::Damaged)
    }

    /// The hash of the federation in a snapshot, by which it is known without being taken up.
    ///
    /// # Errors
    /// As [`Simulation::restore`], without looking at the content.
    pub fn federation_of_snapshot(bytes: &[u8]) -> Result<[u8; 32], SnapshotError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(SnapshotError::NotASnapshot);
        }
        let (header, _): (Header, &[u8]) = postcard::take_from_bytes(bytes).map_err(|_| SnapshotError::NotASnapshot)?;
        Ok(header.federation)
    }
}
