//! Privacy accounting of a run: which mechanism its protocol amounts to, the epsilon after each round, and the noise source.
//!
//! Two cases are charged. If every client takes part independently of all others, a round of the server is one step of a
//! subsampled Gaussian mechanism (amplification by sampling). If not, sampling is given no credit and each counted update
//! of a client is one step of a Gaussian mechanism under replace-one adjacency, up to a cap on updates per client.

use std::sync::Arc;

use fedreplay_sim::Seed;

use super::accountant::{Accountant, EpsilonBound, Mechanism};
use super::{NoiseSource, Release, Rule, Secret, Step, levels};
use crate::scenario;
use crate::scenario::{Availability, ClippingSpec, NoisePlacement, Privacy, Protocol, ScenarioSpec, Selection};

/// Privacy plan of a run: the release step of its aggregates, the noise source and the accounting.
#[derive(Debug)]
pub struct PrivacyPlan {
    step: Step,
    source: NoiseSource,
    charge: Charge,
    /// [rows] -- Number of rows at which a client's weight reaches 1; `None` leaves the weights of the algorithm.
    pub weight_bound: Option<f64>,
    /// [updates] -- Cap on the counted updates of one client; `None` sets no cap.
    pub max_participations: Option<u32>,
}

/// Rule by which rounds are charged.
#[derive(Clone, Copy, Debug)]
enum Charge {
    /// Each round of the server is one step of this mechanism, whichever clients took part.
    Amplified { mechanism: Mechanism, terms: Terms, why: &'static str },
    /// Each counted update of a client is one step, up to the cap.
    PerUpdate { terms: Terms, cap: u32, is_tree: bool, noise_multiplier: f64, why: &'static str },
    /// Nothing is guaranteed; the method claims these values.
    Nothing { claimed_epsilon: f64, claimed_delta: f64 },
}

/// Parameters of the accounting: delta, the accountant, and the budget on epsilon.
#[derive(Clone, Copy, Debug)]
struct Terms {
    delta: f64,
    accountant: Accountant,
    budget: Option<f64>,
}

/// Privacy spent by a run, for its summary.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Spent {
    /// [1] -- Epsilon of the whole run; `None` if nothing is guaranteed.
    pub epsilon: Option<f64>,
    pub delta: f64,
    /// One sentence with the guarantee and the reason for it.
    pub statement: String,
    /// [rounds] -- Rounds of the scenario that were not run because they would exceed its budget.
    pub rounds_not_run: u32,
}

impl PrivacyPlan {
    /// Creates the privacy plan of a scenario with this many training rows per client; `None` if it asks for no privacy.
    ///
    /// # Errors
    /// If the accounting needs a cap that the scenario does not set, the budget admits no round, or the operating system
    /// provides no random key.
    pub fn new(scenario: &ScenarioSpec, train_rows: &[u64]) -> Result<Option<Self>, PrivacyError> {
        let Some(privacy) = &scenario.privacy else { return Ok(None) };
        let clients = train_rows.len() as u32;
        let source = noise_source(scenario, privacy)?;
        let protection = match *privacy {
            Privacy::UserLevel { delta, weight_bound, max_participations, .. } => {
                if delta >= 1.0 / f64::from(clients) {
                    tracing::warn!(
                        target: "fedreplay::run",
                        delta,
                        clients,
                        "delta is not below one over the number of clients: it promises little"
                    );
                }
                let step = Step::UserLevel(rule(scenario, privacy, clients));
                let charge = charge(scenario, privacy, clients).map_err(PrivacyError)?;
                Self { step, source, charge, weight_bound, max_participations }
            }
            Privacy::FedLlmBenchDp { claimed_epsilon, claimed_delta, .. } => {
                tracing::warn!(target: "fedreplay::run", "FedLlmBenchDp gives no guarantee: its true epsilon is infinite");
                let step = Step::FedLlmBench { sigma: their_sigma(scenario, privacy, train_rows) };
                let charge = Charge::Nothing { claimed_epsilon, claimed_delta };
                Self { step, source, charge, weight_bound: None, max_participations: None }
            }
        };
        match protection.rounds_within_budget(scenario.rounds) {
            0 => Err(PrivacyError(format!(
                "failed to begin: the first round alone spends epsilon {:.4}, which exceeds privacy.epsilon",
                protection.epsilon(1)
            ))),
            _ => Ok(Some(protection)),
        }
    }

    /// [1] -- Returns epsilon after this many rounds of the server. It is a property of the mechanism and does not depend
    /// on which clients took part. Infinite without a guarantee.
    pub fn epsilon(&self, rounds: u32) -> f64 {
        self.bound(rounds).map_or(f64::INFINITY, |bound| bound.epsilon)
    }

    /// Returns epsilon after this many rounds of the server with the method that gave it. `None` without a guarantee.
    fn bound(&self, rounds: u32) -> Option<EpsilonBound> {
        match self.charge {
            Charge::Amplified { mechanism, terms, .. } => {
                Some(mechanism.bound(u64::from(rounds), terms.delta, terms.accountant))
            }
            Charge::PerUpdate { terms, cap, is_tree, noise_multiplier, .. } => {
                // A client has at most one counted update per round, so k = min(rounds, cap) of its updates count.
                let updates = u64::from(rounds.min(cap));
                // In a tree each update is part of one node per level, and all k updates of a client may fall into the same
                // node. A node's sensitivity is then k times the clipping norm, which costs as much as k^2 steps: in all
                // levels(rounds) * k^2.
                let steps = if is_tree { u64::from(levels(rounds.into())) * updates * updates } else { updates };
                Some(Mechanism::ReplaceOne { noise_multiplier }.bound(steps, terms.delta, terms.accountant))
            }
            Charge::Nothing { .. } => None,
        }
    }

    /// [rounds] -- Returns how many of `rounds` rounds the budget admits.
    pub fn rounds_within_budget(&self, rounds: u32) -> u32 {
        let (Charge::Amplified { terms, .. } | Charge::PerUpdate { terms, .. }) = self.charge else { return rounds };
        let Some(budget) = terms.budget else { return rounds };
        // Epsilon never falls from round to round, so bisection finds the last round that fits. Invariant: the budget
        // admits `fits` rounds and does not admit `exceeds`.
        let mut fits = 0;
        let mut exceeds = rounds + 1;
        while exceeds - fits > 1 {
            let middle = fits + (exceeds - fits) / 2;
            if self.epsilon(middle) <= budget { fits = middle } else { exceeds = middle }
        }
        fits
    }

    /// Whether a failed round releases noise too, like a round in which nobody took part: participation is what is hidden.
    pub fn covers_failed_rounds(&self) -> bool {
        matches!(self.charge, Charge::Amplified { .. })
    }

    /// Returns the private release of an aggregate: number `number` (from 1), over updates of these tasks.
    pub fn release(&self, number: u64, tasks: Vec<u64>) -> Arc<Release> {
        Arc::new(Release { step: self.step, source: self.source.clone(), number, tasks })
    }

    /// Returns the mark that represents a secret key in the manifest; `None` if the noise comes from the seed.
    pub fn secret_mark(&self) -> Option<super::SecretMark> {
        match &self.source {
            NoiseSource::Secret(secret) => Some(secret.mark),
            NoiseSource::Seeded(_) => None,
        }
    }

    /// Returns the privacy that a run of `played` rounds spent, of `asked` rounds in the scenario.
    pub fn spent(&self, asked: u32, played: u32) -> Spent {
        let simulated = match self.source {
            NoiseSource::Seeded(_) => "; noise from the seed, which protects only from those who do not know it",
            NoiseSource::Secret(_) => "",
        };
        let bound = self.bound(played);
        let method = bound.map_or("", |bound| bound.method.name());
        let delta;
        let statement;
        match self.charge {
            Charge::Amplified { mechanism, terms, why } => {
                delta = terms.delta;
                statement = format!("user-level, {}, by {method}; {why}{simulated}", mechanism.neighbours());
            }
            Charge::PerUpdate { terms, cap, why, .. } => {
                // The text is the same for every noise multiplier.
                let neighbours = Mechanism::ReplaceOne { noise_multiplier: 1.0 }.neighbours();
                delta = terms.delta;
                statement =
                    format!("user-level, {neighbours}, at most {cap} updates a client, by {method}; {why}{simulated}");
            }
            Charge::Nothing { claimed_epsilon, claimed_delta } => {
                delta = claimed_delta;
                statement = format!(
                    "no guarantee: FedLlmBenchDp claims epsilon {claimed_epsilon}, the true epsilon is infinite"
                );
            }
        }
        let epsilon = bound.map(|bound| bound.epsilon).filter(|epsilon| epsilon.is_finite());
        let rounds_not_run = asked - self.rounds_within_budget(asked);
        Spent { epsilon, delta, statement, rounds_not_run }
    }
}

/// Draws the secret key of a run's noise, or takes the scenario's seed where the noise is simulated.
fn noise_source(scenario: &ScenarioSpec, privacy: &Privacy) -> Result<NoiseSource, PrivacyError> {
    if !privacy.is_secret() {
        return Ok(NoiseSource::Seeded(Seed(scenario.seed)));
    }
    match Secret::draw() {
        Ok(secret) => Ok(NoiseSource::Secret(secret)),
        Err(error) => Err(PrivacyError(format!("failed to draw secret noise: {error}"))),
    }
}

/// Returns the scenario without the rounds that would exceed its budget: they are not scheduled at all.
pub fn within_budget(scenario: &ScenarioSpec, privacy: Option<&PrivacyPlan>) -> ScenarioSpec {
    let rounds = privacy.map_or(scenario.rounds, |privacy| privacy.rounds_within_budget(scenario.rounds));
    ScenarioSpec { rounds, ..scenario.clone() }
}

/// Translates user-level privacy of the scenario into the rule of its releases.
fn rule(scenario: &ScenarioSpec, privacy: &Privacy, clients: u32) -> Rule {
    let Privacy::UserLevel { clipping, noise_multiplier, placement, grid, expected_cohort, .. } = *privacy else {
        unreachable!("only user-level privacy has a rule");
    };
    Rule {
        clipping: match clipping {
            ClippingSpec::Fixed { norm } => super::Clipping::Fixed { norm },
            ClippingSpec::PerLayer { norm } => super::Clipping::PerLayer { norm },
            ClippingSpec::Adaptive { initial_norm, quantile, rate, count_noise } => {
                let count_noise = count_noise.expect("a scenario without it is refused");
                super::Clipping::Adaptive(super::AdaptiveClipping { initial_norm, quantile, rate, count_noise })
            }
        },
        placement: match placement {
            NoisePlacement::Central => super::Placement::Central,
            NoisePlacement::Local => super::Placement::Local,
            NoisePlacement::Tree => super::Placement::Tree,
        },
        noise_multiplier,
        expected_cohort: expected_cohort.unwrap_or_else(|| cohort(scenario, clients)),
        grid,
    }
}

/// [clients] -- Returns the expected number of updates in a release. It follows from the scenario alone, so it reveals
/// nothing of which clients took part.
fn cohort(scenario: &ScenarioSpec, clients: u32) -> f64 {
    let wanted = match (&scenario.server.protocol, scenario.server.selection.get()) {
        (Protocol::Synchronous { .. }, Selection::Poisson { rate }) => return rate * f64::from(clients),
        (Protocol::Synchronous { clients_per_round, .. }, _) => *clients_per_round,
        (Protocol::Buffered { buffer_size, .. }, _) => *buffer_size,
        (Protocol::SemiSynchronous { concurrency, .. }, _) => *concurrency,
        _ => 1,
    };
    f64::from(wanted.min(clients))
}

/// Returns how rounds of user-level privacy are charged, with the reason.
///
/// # Errors
/// If updates have to be charged one by one and the scenario sets no cap on them.
fn charge(scenario: &ScenarioSpec, privacy: &Privacy, clients: u32) -> Result<Charge, String> {
    let Privacy::UserLevel {
        noise_multiplier, delta, epsilon, placement, accountant, grid, max_participations, ..
    } = *privacy
    else {
        unreachable!("only user-level privacy is charged");
    };
    let accountant = match (grid, accountant) {
        (Some(_), _) => Accountant::Discrete,
        (None, scenario::AccountantSpec::Pld) => Accountant::Pld,
        (None, scenario::AccountantSpec::Rdp) => Accountant::Rdp,
    };
    let terms = Terms { delta, accountant, budget: epsilon };
    // Sampling is given credit only for central noise, and only if no client's participation depends on the others.
    let why = match placement {
        NoisePlacement::Local => "each client hides its own update, and nothing is assumed of sampling",
        NoisePlacement::Tree => "noise on a tree over all rounds, and nothing is assumed of sampling",
        NoisePlacement::Central => match displacement(scenario) {
            Some(why) => why,
            None => return Ok(amplified(scenario, terms, noise_multiplier, clients)),
        },
    };
    let is_tree = placement == NoisePlacement::Tree;
    match max_participations.filter(|cap| *cap > 0) {
        Some(cap) => Ok(Charge::PerUpdate { terms, cap, is_tree, noise_multiplier, why }),
        None => Err(format!("failed to charge the scenario: set privacy.max_participations to at least 1, as {why}")),
    }
}

/// Returns the charge of a protocol whose sampling amplifies privacy: Poisson sampling, or uniform cohorts of fixed size.
fn amplified(scenario: &ScenarioSpec, terms: Terms, noise_multiplier: f64, clients: u32) -> Charge {
    match (scenario.server.selection.get(), &scenario.server.protocol) {
        (Selection::Poisson { rate }, _) => Charge::Amplified {
            mechanism: Mechanism::Poisson { noise_multiplier, rate },
            terms,
            why: "Poisson sampling in which no client displaces another",
        },
        (_, Protocol::Synchronous { clients_per_round, .. }) => Charge::Amplified {
            mechanism: Mechanism::FixedSize { noise_multiplier, clients, cohort: (*clients_per_round).min(clients) },
            terms,
            why: "uniform cohorts of fixed size",
        },
        (selection, protocol) => unreachable!("{selection:?} under {protocol:?} is not amplified"),
    }
}

/// Returns why sampling does not amplify privacy; `None` if every client's participation is independent of all others'.
///
/// Amplification assumes that the cohort is drawn at random, independently of the data and of the other clients. Anything
/// in the scenario that lets one client decide whether another counts breaks that assumption.
fn displacement(scenario: &ScenarioSpec) -> Option<&'static str> {
    let server = &scenario.server;
    let Protocol::Synchronous { over_selection, deadline, minimum, .. } = &server.protocol else {
        return Some("who counts depends on who else is fast");
    };
    let groups = &scenario.population.mix;
    if deadline.is_some() {
        return Some("a deadline is met or missed with the others' traffic");
    }
    if *minimum > 1 {
        return Some("whether a round counts depends on how many others come");
    }
    if groups.iter().any(|group| group.availability != Availability::Always || group.crashes.is_some())
        || !scenario.region_cuts.is_empty()
        || scenario.population.trace.as_ref().is_some_and(|trace| trace.online.is_some())
    {
        return Some("who is online when depends on how long others took");
    }
    match server.selection.get() {
        Selection::Poisson { .. } => None,
        Selection::Uniform if *over_selection > 0 => Some("the first to arrive displace the others"),
        Selection::Uniform => {
            // Losses do not displace others, but the remaining cohort is no uniform sample of fixed size.
            let loses = groups.iter().any(|group| {
                let dropout = group.dropout;
                dropout.before_training + dropout.during_training + dropout.after_training > 0.0
            });
            let is_traced = scenario.population.trace.is_some();
            let is_limited = scenario.population.devices.values().any(|device| device.memory.is_some());
            if loses || is_limited || is_traced {
                return Some("the cohort is not uniform over all clients");
            }
            None
        }
        _ => Some("clients are not drawn at random"),
    }
}

/// [1] -- Returns the noise of FedLLM-Bench's FedDP: sigma = (2 lr C / n) sqrt(2 q T ln(1/delta)) / epsilon, where C is the
/// clipping norm, n the mean number of rows per client, q the share of clients in a round and T the number of rounds.
fn their_sigma(scenario: &ScenarioSpec, privacy: &Privacy, train_rows: &[u64]) -> f64 {
    let &Privacy::FedLlmBenchDp { claimed_epsilon, claimed_delta, max_grad_norm, sigma } = privacy else {
        unreachable!("only their method has their noise");
    };
    let clients = train_rows.len() as f64;
    let rows = train_rows.iter().sum::<u64>() as f64 / clients;
    let rate = cohort(scenario, train_rows.len() as u32) / clients;
    let steps = 2.0 * rate * f64::from(scenario.rounds) * libm::log(1.0 / claimed_delta);
    let theirs = 2.0 * scenario.training.lr * max_grad_norm / rows * libm::sqrt(steps) / claimed_epsilon;
    sigma.unwrap_or(theirs)
}

/// Reason why a scenario's privacy cannot be provided, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PrivacyError(pub String);
