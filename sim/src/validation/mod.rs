//! Validation of federations: costs of zero, indices without a row, availability that never opens, deadlines that no
//! client can meet, and the like. A federation that passes never panics and never hangs in [`crate::Simulation`].

mod population;
mod server;

use crate::federation::Federation;
use std::fmt;

/// Part of a federation in which a fault was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This client, or a class that it uses.
    Client(u32),
    /// This row of a table, which no client uses.
    Row(&'static str, u32),
    /// Settings of the server.
    Server,
    /// The network.
    Network,
    /// The federation as a whole.
    Federation,
    /// An intervention.
    Intervention,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Client(client) => write!(f, "client {client}"),
            Place::Row(table, row) => write!(f, "row {row} of {table}"),
            Place::Server => write!(f, "the server"),
            Place::Network => write!(f, "the network"),
            Place::Federation => write!(f, "the federation"),
            Place::Intervention => write!(f, "the intervention"),
        }
    }
}

/// Error of a federation that cannot be simulated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to accept {place}: {field} is {value}; allowed: {allowed}")]
pub struct Invalid {
    /// Part in which the fault was found.
    pub place: Place,
    /// Field that is invalid.
    pub field: String,
    /// Its value.
    pub value: String,
    /// Values that would be accepted.
    pub allowed: String,
}

/// An invalid field, its value, and the values that are allowed.
#[derive(Clone, Debug)]
struct Fault {
    field: String,
    value: String,
    allowed: String,
}

impl Fault {
    /// Returns the fault of a field.
    fn new(field: &str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// Returns the fault of a field that is zero and must not be.
    fn zero(field: &str) -> Self {
        Self::new(field, 0, "at least 1")
    }

    /// Returns the error of this fault in `place`.
    fn at(self, place: Place) -> Invalid {
        let Fault { field, value, allowed } = self;
        Invalid { place, field, value, allowed }
    }
}

/// Returns the fault of the first of these fields that is zero.
fn first_zero(fields: &[(&str, u64)]) -> Option<Fault> {
    fields.iter().find(|(_, value)| *value == 0).map(|(field, _)| Fault::zero(field))
}

impl Federation {
    /// Checks all invariants that [`crate::Simulation`] relies on.
    ///
    /// # Errors
    /// The first fault found, with the client or setting, the field, its value and the values that are allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        // Later checks rely on earlier ones: durations, for example, divide by rates and index tables.
        self.validate_population()?;
        self.validate_network()?;
        self.validate_server()?;
        self.validate_regions()?;
        self.validate_durations()
    }
}

impl Invalid {
    /// Returns the error of an intervention that refers to something that does not exist.
    pub(crate) fn intervention(fault: String) -> Self {
        Fault::new("what it refers to", fault, "what exists in this simulation").at(Place::Intervention)
    }
}
