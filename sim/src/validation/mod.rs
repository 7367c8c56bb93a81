//! Refuses federations that cannot be played: costs of zero, indices without a row, availability that never opens,
//! deadlines nobody can meet. What passes here never panics and never hangs in [`crate::Simulation`].

mod population;
mod server;

use crate::federation::Federation;
use std::fmt;

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this client, or in the class that it uses.
    Client(u32),
    /// In this row of a table, which no client uses.
    Row(&'static str, u32),
    /// In the settings of the server.
    Server,
    /// In the network.
    Network,
    /// In the federation as a whole.
    Federation,
    /// In an intervention.
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

/// A federation that cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to accept {place}: {field} is {value}; allowed: {allowed}")]
pub struct Invalid {
    /// Where.
    pub place: Place,
    /// Which field.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What would be accepted.
    pub allowed: String,
}

/// A field, its value, and what is allowed instead.
#[derive(Clone, Debug)]
struct Fault {
    field: String,
    value: String,
    allowed: String,
}

impl Fault {
    fn new(field: &str, value: impl fmt::Display, allowed: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// A field that must not be zero.
    fn zero(field: &str) -> Self {
        Self::new(field, 0, "at least 1")
    }

    fn at(self, place: Place) -> Invalid {
        let Fault { field, value, allowed } = self;
        Invalid { place, field, value, allowed }
    }
}

/// The first of these fields that is zero.
fn first_zero(fields: &[(&str, u64)]) -> Option<Fault> {
    fields.iter().find(|(_, value)| *value == 0).map(|(field, _)| Fault::zero(field))
}

impl Federation {
    /// Checks everything that [`crate::Simulation`] relies on.
    ///
    /// # Errors
    /// The first fault found, with the client or setting, the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.validate_population()?;
        self.validate_network()?;
        self.validate_server()?;
        self.validate_regions()?;
        self.validate_durations()
    }
}

impl Invalid {
    /// An intervention that refers to what does not exist.
    pub(crate) fn intervention(fault: String) -> Self {
        Fault::new("what it refers to", fault, "what exists in this simulation").at(Place::Intervention)
    }
}
