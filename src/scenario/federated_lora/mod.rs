//! Federated methods made for LoRA, each declared in a file of its own: which factors a client trains, sends, receives and keeps, what
//! the server averages, and with which other settings the method goes.
//!
//! Training, sizes on the wire, clients' state, aggregation and evaluation follow from the declaration. A method is added by a file, a line of
//! the list below, and a variant of `schema::FederatedLora`.

use super::schema::{Algorithm, FederatedLora, Mean, Protocol, ScenarioSpec};
use crate::adapter::Factors;

/// Declaration of a method.
pub struct LoraMethod {
    /// Name in the literature.
    pub name: &'static str,
    /// Publication.
    pub source: &'static str,
    /// Returns the factors that a client trains in a round of the server, from 1. The others stay as they are, bit by bit.
    pub trains: fn(round: u32) -> Factors,
    /// Returns the factors that a client sends in a round, and the server averages.
    pub sends: fn(round: u32) -> Factors,
    /// Returns the factors that a client receives at the beginning of a round. `nobody_misses` tells whether each
    /// client gets a model in every round, so that it has what earlier rounds sent.
    pub receives: fn(round: u32, nobody_misses: bool) -> Factors,
    /// Factors of its own that a client keeps from task to task; nobody else sees them.
    pub keeps: Factors,
    /// Quantity that the server averages.
    pub mean: Mean,
    /// Returns the field that the method does not go with, and the reason.
    pub(super) clash: fn(&ScenarioSpec) -> Option<Clash>,
}

/// Field that a method does not go with, and the reason.
pub(super) type Clash = (&'static str, &'static str);

macro_rules! methods {
    ($($variant:ident => $file:ident,)*) => {
        $(mod $file;)*

        impl FederatedLora {
            /// All methods.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns its declaration.
            pub fn method(self) -> &'static LoraMethod {
                match self {
                    $(Self::$variant => &$file::METHOD,)*
                }
            }
        }
    };
}

methods! {
    FedIt => fed_it,
    FfaLora => ffa_lora,
    RoLora => ro_lora,
    FedSaLora => fed_sa_lora,
    FlexLora => flex_lora,
}

impl ScenarioSpec {
    /// Returns the declaration of its federated LoRA method.
    pub fn lora_method(&self) -> &'static LoraMethod {
        self.federated_lora.method()
    }

    /// Whether the server averages the products B A, by either name of that setting.
    pub fn averages_products(&self) -> bool {
        let by_algorithm = matches!(
            self.algorithm,
            Algorithm::FedAvg { mean: Mean::Products, .. } | Algorithm::FedProx { mean: Mean::Products, .. }
        );
        by_algorithm || self.lora_method().mean == Mean::Products
    }

    /// Whether clients keep factors of their own, so that each has a model of its own.
    pub fn has_personal_models(&self) -> bool {
        self.lora_method().keeps != Factors::None
    }
}

/// Checks that the method goes with the other settings.
///
/// # Errors
/// The offending field, and what is wrong with it.
pub(super) fn check(scenario: &ScenarioSpec) -> Result<(), (String, String)> {
    let method = scenario.lora_method();
    match (method.clash)(scenario) {
        Some((field, reason)) => Err((field.to_owned(), format!("it does not go with {}: {reason}", method.name))),
        None => Ok(()),
    }
}

/// Refuses methods without federation, and the old name of FlexLoRA under another method.
fn apart(scenario: &ScenarioSpec) -> Option<Clash> {
    match scenario.algorithm {
        Algorithm::Local | Algorithm::Centralised => Some(("algorithm", "nothing is exchanged")),
        Algorithm::FedAvg { mean: Mean::Products, .. } | Algorithm::FedProx { mean: Mean::Products, .. } => {
            Some(("algorithm.mean", "it says itself what is averaged"))
        }
        _ => None,
    }
}

/// Refuses rounds that are not synchronous, with the reason of the method.
fn asynchronous(scenario: &ScenarioSpec, reason: &'static str) -> Option<Clash> {
    let is_synchronous = matches!(scenario.server.protocol, Protocol::Synchronous { .. });
    (!is_synchronous).then_some(("server.protocol", reason))
}
