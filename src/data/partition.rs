//! Rules that assign rows to clients: as in the file, evenly, by an attribute, or unevenly by an attribute.

use std::collections::BTreeMap;

use fedreplay_sim::{Purpose, Seed, Stream};

use super::error::{PartitionError, RowFault, SkippedRow};
use super::federation::ClientData;
use super::fields::{kind_of, scalar_text};
use super::json_value::JsonValue;
use super::row::Row;

/// A rule that assigns rows to clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Partition {
    /// The clients of the file.
    #[default]
    Natural,
    /// Shuffled and assigned round-robin.
    Iid { clients: u32 },
    /// The rows with each value of the attribute are divided among the clients in proportions drawn from a Dirichlet
    /// distribution (Hsu et al. 2019): the smaller alpha, the fewer clients hold most rows of a value.
    Dirichlet { clients: u32, alpha: f64, attribute: String },
    /// One client per value of the attribute, in the order of the values.
    ByAttribute { attribute: String },
}

/// Clients with the rows that were assigned to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dealt {
    /// None is empty.
    pub clients: Vec<ClientData>,
    /// Rows without a value by which they could be assigned.
    pub skipped: Vec<SkippedRow>,
}

/// Pools the rows of all clients and assigns them to new clients. `rows` limits the pool to that many rows, drawn at
/// random.
///
/// Draws of `Purpose::Partition`: the shuffle is entity 0, the shares of the k-th value of an attribute entity k + 1.
///
/// # Errors
/// If there are fewer rows than clients, or pooled rows and no rule for them.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::data::{BadRows, Federation, Partition, partition};
/// use fedreplay_sim::Seed;
///
/// let pooled = Federation::read(Path::new("fixtures/skills/test.json"), BadRows::Refuse)?;
/// let rows = pooled.rows();
/// let rule = Partition::Dirichlet { clients: 5, alpha: 0.1, attribute: "skill".into() };
/// let clients = partition(pooled.clients, &rule, None, Seed(1))?.clients;
/// assert_eq!(clients.len(), 5);
/// assert_eq!(clients[0].id, "client-0");
/// assert_eq!(clients.iter().map(|client| client.rows.len()).sum::<usize>(), rows);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn partition(
    clients: Vec<ClientData>,
    rule: &Partition,
    rows: Option<u32>,
    seed: Seed,
) -> Result<Dealt, PartitionError> {
    if *rule == Partition::Natural && rows.is_none() {
        return Ok(Dealt { clients, skipped: vec![] });
    }
    if *rule == Partition::Natural {
        return Err(PartitionError::NoRule);
    }
    // The shuffle both samples the pool and fixes the order in which rows are assigned.
    let mut pooled: Vec<Row> = clients.into_iter().flat_map(|client| client.rows).collect();
    Stream::new(seed, Purpose::Partition, 0).shuffle(&mut pooled);
    pooled.truncate(rows.map_or(usize::MAX, |rows| rows as usize));
    let mut skipped = Vec::new();
    let dealt = match rule {
        Partition::Natural => unreachable!("answered above"),
        Partition::Iid { clients } => in_turn(pooled, *clients as usize),
        Partition::ByAttribute { attribute } => {
            let values = by_value(pooled, attribute, &mut skipped);
            let clients = values.into_iter().map(|(id, rows)| ClientData { id, rows }).collect();
            return Ok(Dealt { clients, skipped });
        }
        Partition::Dirichlet { clients, alpha, attribute } => {
            unevenly(by_value(pooled, attribute, &mut skipped), *clients as usize, *alpha, seed)
        }
    };
    if dealt.iter().any(Vec::is_empty) {
        let rows: usize = dealt.iter().map(Vec::len).sum();
        let without = skipped.len();
        let first = skipped.into_iter().next().map(Box::new);
        return Err(PartitionError::TooFewRows { clients: dealt.len(), rows, without, first });
    }
    Ok(Dealt { clients: numbered(dealt), skipped })
}

/// Names the clients `client-0`, `client-1`, ..., with leading zeros so that ids sort by number.
fn numbered(dealt: Vec<Vec<Row>>) -> Vec<ClientData> {
    let width = dealt.len().saturating_sub(1).to_string().len();
    let mut clients = Vec::with_capacity(dealt.len());
    for (index, rows) in dealt.into_iter().enumerate() {
        clients.push(ClientData { id: format!("client-{index:0width$}"), rows });
    }
    clients
}

fn in_turn(rows: Vec<Row>, clients: usize) -> Vec<Vec<Row>> {
    let mut dealt = vec![Vec::new(); clients];
    for (index, row) in rows.into_iter().enumerate() {
        dealt[index % clients].push(row);
    }
    dealt
}

/// Groups rows by the value of an attribute, in ascending order of the values. Rows without one go to `skipped`.
fn by_value(rows: Vec<Row>, attribute: &str, skipped: &mut Vec<SkippedRow>) -> BTreeMap<String, Vec<Row>> {
    let mut values: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        match value_of(&row, attribute) {
            Ok(value) => values.entry(value).or_default().push(row),
            Err(fault) => {
                let client = ClientData { id: String::new(), rows: vec![row] };
                skipped.push(client.without(0, fault));
            }
        }
    }
    values
}

/// Returns the value of an attribute as Python's `str` writes it.
fn value_of(row: &Row, attribute: &str) -> Result<String, RowFault> {
    let what = match (row.attributes.get(attribute), row.unreadable.get(attribute)) {
        (_, Some(kind)) => format!(" that is text, but one of the type {kind}"),
        (None, None) => String::new(),
        (Some(value), None) => {
            let value = JsonValue::from(value.clone());
            match scalar_text(&value) {
                Some(text) => return Ok(text),
                None => format!(" that is text, but one that is {}", kind_of(&value)),
            }
        }
    };
    let present = row.attributes.keys().cloned().collect();
    Err(RowFault::NoAttribute { attribute: attribute.to_owned(), what, present })
}

/// Divides the rows of each value among the clients, in proportions drawn from a symmetric Dirichlet distribution.
fn unevenly(values: BTreeMap<String, Vec<Row>>, clients: usize, alpha: f64, seed: Seed) -> Vec<Vec<Row>> {
    let mut dealt = vec![Vec::new(); clients];
    for (value, rows) in values.into_values().enumerate() {
        // Independent Gamma(alpha, 1) draws, divided by their sum, are one draw of Dirichlet(alpha, ..., alpha).
        let mut stream = Stream::new(seed, Purpose::Partition, value as u64 + 1);
        let shares: Vec<f64> = (0..clients).map(|_| gamma(&mut stream, alpha)).collect();
        let total: f64 = shares.iter().sum();
        let count = rows.len();
        let mut rows = rows.into_iter();
        // Rounding the cumulative shares, not each share, gives away every row exactly once.
        let mut reached = 0.0;
        let mut given = 0;
        for (client, share) in shares.into_iter().enumerate() {
            reached += share / total;
            let until = if client + 1 == clients { count } else { (reached * count as f64).round() as usize };
            dealt[client].extend(rows.by_ref().take(until.saturating_sub(given)));
            given = given.max(until);
        }
    }
    fill_empty_clients(&mut dealt);
    dealt
}

/// Moves one row to each client without rows, each time from the client with the most rows (the first of several).
/// Stops when no client has a row to spare.
fn fill_empty_clients(dealt: &mut [Vec<Row>]) {
    let clients = dealt.len();
    while let Some(poor) = dealt.iter().position(Vec::is_empty) {
        let rich =
            (0..clients).max_by_key(|&client| (dealt[client].len(), clients - client)).expect("there are clients");
        if dealt[rich].len() < 2 {
            break;
        }
        let row = dealt[rich].pop().expect("it has two");
        dealt[poor].push(row);
    }
}

/// Draws from the gamma distribution with this shape and scale 1, by the method of Marsaglia and Tsang (2000) and, for
/// a shape below 1, their power rule. The result is never 0, so that shares can be computed from it.
fn gamma(stream: &mut Stream, shape: f64) -> f64 {
    // Below 1: if X ~ Gamma(shape + 1) and U is uniform, then X U^(1/shape) ~ Gamma(shape).
    let boost = if shape < 1.0 { libm::pow(1.0 - stream.unit(), 1.0 / shape) } else { 1.0 };
    let boosted_shape = if shape < 1.0 { shape + 1.0 } else { shape };
    let d = boosted_shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        // Box and Muller: x is a standard normal number from two uniform ones. 1 - unit() is never 0.
        let u = 1.0 - stream.unit();
        let angle = std::f64::consts::TAU * stream.unit();
        let x = libm::sqrt(-2.0 * libm::log(u)) * libm::cos(angle);
        // d v with v = (1 + c x)^3 is accepted with probability exp(x^2 / 2 + d - d v + d ln v).
        let v = (1.0 + c * x).powi(3);
        let accepted = 1.0 - stream.unit();
        if v > 0.0 && libm::log(accepted) < 0.5 * x * x + d - d * v + d * libm::log(v) {
            return (boost * d * v).max(f64::MIN_POSITIVE);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn pooled(rows: usize) -> Vec<ClientData> {
        let row = |n: usize| {
            Row::from_json(json!({"instruction": n.to_string(), "response": "r", "kind": format!("k{}", n % 4)}))
                .unwrap()
        };
        vec![ClientData { id: "local".into(), rows: (0..rows).map(row).collect() }]
    }

    fn names(clients: &[ClientData]) -> Vec<Vec<String>> {
        let name = |row: &Row| match &row.content {
            super::super::Content::SingleTurn { instruction, .. } => instruction.clone(),
            _ => unreachable!("all rows are single-turn"),
        };
        clients.iter().map(|client| client.rows.iter().map(name).collect()).collect()
    }

    proptest! {
        #[test]
        fn every_row_is_dealt_once(seed: u64, rows in 8..200usize, clients in 1..8u32, alpha in 0.05..20.0f64) {
            for rule in [
                Partition::Iid { clients },
                Partition::Dirichlet { clients, alpha, attribute: "kind".into() },
                Partition::ByAttribute { attribute: "kind".into() },
            ] {
                let dealt = partition(pooled(rows), &rule, None, Seed(seed)).unwrap().clients;
                prop_assert!(dealt.iter().all(|client| !client.rows.is_empty()));
                let mut all: Vec<usize> = names(&dealt).concat().iter().map(|name| name.parse().unwrap()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..rows).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn rules_do_what_they_say() {
        let even = partition(pooled(100), &Partition::Iid { clients: 3 }, Some(10), Seed(1)).unwrap().clients;
        assert_eq!(even.iter().map(|client| client.rows.len()).collect::<Vec<_>>(), [4, 3, 3]);
        assert_ne!(
            names(&even),
            names(&partition(pooled(100), &Partition::Iid { clients: 3 }, Some(10), Seed(2)).unwrap().clients)
        );
        let attribute = || "kind".to_owned();
        let apart =
            partition(pooled(100), &Partition::ByAttribute { attribute: attribute() }, None, Seed(1)).unwrap().clients;
        assert_eq!(apart.iter().map(|client| client.id.as_str()).collect::<Vec<_>>(), ["k0", "k1", "k2", "k3"]);
        // The mean share of a client's most frequent kind: near one kind in four under a large alpha, near one under a small.
        let purity = |alpha| {
            let rule = Partition::Dirichlet { clients: 10, alpha, attribute: attribute() };
            let dealt = partition(pooled(4_000), &rule, None, Seed(7)).unwrap().clients;
            let share = |client: &ClientData| {
                let mut counts = BTreeMap::new();
                client.rows.iter().for_each(|row| *counts.entry(row.attributes["kind"].to_string()).or_insert(0) += 1);
                f64::from(*counts.values().max().unwrap()) / client.rows.len() as f64
            };
            dealt.iter().map(share).sum::<f64>() / 10.0
        };
        assert!(purity(100.0) < 0.35 && purity(0.1) > 0.6, "{} and {}", purity(100.0), purity(0.1));
    }

    #[test]
    fn what_cannot_be_dealt_is_refused() {
        let refused = |rule, rows| partition(pooled(4), &rule, rows, Seed(1)).unwrap_err().to_string();
        let uneven = Partition::Dirichlet { clients: 2, alpha: 1.0, attribute: "language".into() };
        assert!(refused(uneven, None).contains("it has: kind"));
        assert!(refused(Partition::Iid { clients: 5 }, None).contains("5 clients were to share 4 rows"));
        assert!(refused(Partition::Natural, Some(2)).contains("data.partition"));
    }

    #[test]
    fn an_attribute_of_any_scalar_type_is_a_client_and_null_is_none() {
        let row = |user: serde_json::Value| {
            Row::from_json(json!({"instruction": "i", "response": "r", "user": user})).unwrap()
        };
        let values = [json!(7), json!("b"), json!(7), json!(2.5), json!(true), json!(null), json!([1])];
        let clients = vec![ClientData { id: "local".into(), rows: values.into_iter().map(row).collect() }];
        let dealt = partition(clients, &Partition::ByAttribute { attribute: "user".into() }, None, Seed(1)).unwrap();
        let ids: Vec<_> = dealt.clients.iter().map(|client| (client.id.as_str(), client.rows.len())).collect();
        assert_eq!(ids, [("2.5", 1), ("7", 2), ("True", 1), ("b", 1)]);
        let faults: Vec<String> = dealt.skipped.iter().map(|row| row.fault.to_string()).collect();
        assert!(faults.iter().any(|fault| fault.contains("one that is null")), "{faults:?}");
        assert!(faults.iter().any(|fault| fault.contains("one that is a list")), "{faults:?}");
    }
}
