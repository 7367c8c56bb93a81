//! Which clients attack.

use std::collections::BTreeSet;

use fedreplay_sim::{Purpose, Seed, Stream};

use super::client_facts::{Clients, name_of};
use crate::scenario::{AttackingClients, ScenarioError, ScenarioSpec, share_of};

/// Returns the numbers of the clients that attack; none without `attackers`.
///
/// # Errors
/// If there are fewer clients than attackers, no attacker, or no client of an id; the error names the field.
pub fn attacking_clients(scenario: &ScenarioSpec, clients: &Clients) -> Result<BTreeSet<u32>, ScenarioError> {
    let Some(attackers) = &scenario.attackers else { return Ok(BTreeSet::new()) };
    let count = clients.facts.len() as u64;
    let number = match &attackers.clients {
        AttackingClients::Ids(ids) => return by_id(ids, clients),
        AttackingClients::Number(number) => u64::from(*number),
        AttackingClients::Share(share) => share_of(*share, count),
    };
    if number > count {
        return Err(refused(format!("{number} clients cannot attack, there are {count}")));
    }
    if number == 0 {
        return Err(refused(format!("the share of {count} clients is no client")));
    }
    let drawn = Stream::new(Seed(scenario.seed), Purpose::Attackers, 0).sample(count, number);
    Ok(drawn.into_iter().map(|client| client as u32).collect())
}

/// Finds clients by their ids.
fn by_id(ids: &[String], clients: &Clients) -> Result<BTreeSet<u32>, ScenarioError> {
    let names: Vec<String> =
        clients.facts.iter().enumerate().map(|(index, client)| name_of(client.id.as_deref(), index)).collect();
    let mut found = BTreeSet::new();
    for id in ids {
        match names.iter().position(|name| name == id) {
            Some(index) => drop(found.insert(index as u32)),
            None => return Err(refused(format!("there is no client \"{id}\""))),
        }
    }
    Ok(found)
}

fn refused(message: String) -> ScenarioError {
    ScenarioError::Clients { field: "attackers.clients", message }
}
