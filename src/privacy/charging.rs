//! What a run's privacy is: the case that its protocol makes, what it spends round by round, and the noise's source.

use std::sync::Arc;

use fedreplay_sim::Seed;

use super::accountant::{Accountant, Mechanism};
use super::error::PrivacyError;
use super::{NoiseSource, Release, Rule, Secret, Step, levels};
use crate::scenario;
use crate::scenario::{Availability, Clipping, NoisePlacement, Privacy, Protocol, Scenario, Selection};

/// The privacy of a run.
#[derive(Debug)]
pub struct Protection {
    step: Step,
    source: NoiseSource,
    charge: Charge,
    /// [rows] Rows at which a client's weight is 1; none weighs by the algorithm alone.
    pub weight_bound: Option<f64>,
    /// [updates] Updates of one client that count.
    pub max_participations: Option<u32>,
}

/// How rounds are charged.
#[derive(Clone, Copy, Debug)]
enum Charge {
    /// Each round of the server is a step of this mechanism, whoever came.
    Amplified { mechanism: Mechanism, terms: Terms, why: &'static str },
    /// Each update of a client that counts is a step, up to the cap.
    PerUpdate { terms: Terms, cap: u32, is_tree: bool, noise_multiplier: f64, why: &'static str },
    /// Nothing is guaranteed; this is claimed.
    Nothing { claimed_epsilon: f64, claimed_delta: f64 },
}

/// What epsilon is computed at, by what, and how much of it there may be.
#[derive(Clone, Copy, Debug)]
struct Terms {
    delta: f64,
    accountant: Accountant,
    budget: Option<f64>,
}

/// What a run's privacy came to, for its summary.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Spent {
    /// [1] Epsilon of the whole run; none where nothing is guaranteed.
    pub epsilon: Option<f64>,
    pub delta: f64,
    /// What is claimed and why, in a sentence.
    pub statement: String,
    /// [rounds] Rounds of the scenario that were not run because they would exceed its budget.
    pub rounds_not_run: u32,
}

impl Protection {
    /// The privacy that a scenario asks for, with this many training rows at each client; none if it asks for none.
    ///
    /// # Errors
    /// If the scenario's case needs a cap that it does not set, its budget admits no round, or the operating system gives
    /// no noise.
    pub fn new(scenario: &Scenario, train_rows: &[u64]) -> Result<Option<Self>, PrivacyError> {
        let Some(privacy) = &scenario.privacy else { return Ok(None) };
        let clients = train_rows.len() as u32;
        let source = if privacy.is_secret() {
            let failed = |error| PrivacyError(format!("failed to draw secret noise: {error}"));
            NoiseSource::Secret(Secret::draw().map_err(failed)?)
        } else {
            NoiseSource::Seeded(Seed(scenario.seed))
        };
        let (step, charge, weight_bound, max_participations) = match privacy {
            Privacy::UserLevel { delta, weight_bound, max_participations, .. } => {
                if *delta >= 1.0 / f64::from(clients) {
                    tracing::warn!(
                        target: "fedreplay::run",
                        delta,
                        clients,
                        "delta is not below one over the number of clients: it promises little"
                    );
                }
                let rule = rule(scenario, privacy, clients);
                let charge = charge(scenario, privacy, clients).map_err(PrivacyError)?;
                (Step::UserLevel(rule), charge, *weight_bound, *max_participations)
            }
            &Privacy::FedLlmBenchDp { claimed_epsilon, claimed_delta, .. } => {
                tracing::warn!(target: "fedreplay::run", "FedLlmBenchDp gives no guarantee: its true epsilon is infinite");
                let step = Step::FedLlmBench { sigma: their_sigma(scenario, privacy, train_rows) };
                (step, Charge::Nothing { claimed_epsilon, claimed_delta }, None, None)
            }
        };
        let protection = Self { step, source, charge, weight_bound, max_participations };
        match protection.rounds_within_budget(scenario.rounds) {
            0 => Err(PrivacyError(format!(
                "failed to begin: the first round alone spends epsilon {:.4}, which exceeds privacy.epsilon",
                protection.epsilon(1)
            ))),
            _ => Ok(Some(protection)),
        }
    }

    /// [1] Epsilon after so many rounds of the server: of the mechanism, whoever came. Infinite without a guarantee.
    pub fn epsilon(&self, rounds: u32) -> f64 {
        match self.charge {
            Charge::Amplified { mechanism, terms, .. } => {
                mechanism.epsilon(u64::from(rounds), terms.delta, terms.accountant)
            }
            Charge::PerUpdate { terms, cap, is_tree, noise_multiplier, .. } => {
                let updates = u64::from(rounds.min(cap));
                // In a tree an update is in a node of each level, and all of a client's may meet in one.
                let steps = if is_tree { u64::from(levels(rounds.into())) * updates * updates } else { updates };
                Mechanism::ReplaceOne { noise_multiplier }.epsilon(steps, terms.delta, terms.accountant)
            }
            Charge::Nothing { .. } => f64::INFINITY,
        }
    }

    /// [rounds] How many of so many rounds the budget admits.
    pub fn rounds_within_budget(&self, rounds: u32) -> u32 {
        let (Charge::Amplified { terms, .. } | Charge::PerUpdate { terms, .. }) = self.charge else { return rounds };
        let Some(budget) = terms.budget else { return rounds };
        // Epsilon never falls from round to round, so bisection finds the last that fits.
        let (mut fits, mut exceeds) = (0, rounds + 1);
        while exceeds - fits > 1 {
            let middle = fits + (exceeds - fits) / 2;
            if self.epsilon(middle) <= budget { fits = middle } else { exceeds = middle }
        }
        fits
    }

    /// Whether a failed round releases noise too, as one in which nobody took part: whether somebody did is what is hidden.
    pub fn covers_failed_rounds(&self) -> bool {
        matches!(self.charge, Charge::Amplified { .. })
    }

    /// The step of an aggregate: release `number` (from 1), of updates from these tasks.
    pub fn release(&self, number: u64, tasks: Vec<u64>) -> Arc<Release> {
        Arc::new(Release { step: self.step, source: self.source.clone(), number, tasks })
    }

    /// What stands for a secret key in the manifest.
    pub fn secret_mark(&self) -> Option<super::SecretMark> {
        match &self.source {
            NoiseSource::Secret(secret) => Some(secret.mark),
            NoiseSource::Seeded(_) => None,
        }
    }

    /// What `played` of `asked` rounds came to.
    pub fn spent(&self, asked: u32, played: u32) -> Spent {
        let epsilon = self.epsilon(played);
        let simulated = match self.source {
            NoiseSource::Seeded(_) => "; noise from the seed, which protects only from those who do not know it",
            NoiseSource::Secret(_) => "",
        };
        let (delta, statement) = match self.charge {
            Charge::Amplified { mechanism, terms, why } => {
                (terms.delta, format!("user-level, {}; {why}{simulated}", mechanism.neighbours()))
            }
            Charge::PerUpdate { terms, cap, why, .. } => {
                let neighbours = Mechanism::ReplaceOne { noise_multiplier: 1.0 }.neighbours();
                (terms.delta, format!("user-level, {neighbours}, at most {cap} updates a client; {why}{simulated}"))
            }
            Charge::Nothing { claimed_epsilon, claimed_delta } => (
                claimed_delta,
                format!("no guarantee: FedLlmBenchDp claims epsilon {claimed_epsilon}, the true epsilon is infinite"),
            ),
        };
        let rounds_not_run = asked - self.rounds_within_budget(asked);
        Spent { epsilon: Some(epsilon).filter(|epsilon| epsilon.is_finite()), delta, statement, rounds_not_run }
    }
}

/// A scenario without the rounds that would exceed its budget: they are not scheduled at all.
pub fn within_budget(scenario: &Scenario, privacy: Option<&Protection>) -> Scenario {
    let rounds = privacy.map_or(scenario.rounds, |privacy| privacy.rounds_within_budget(scenario.rounds));
    Scenario { rounds, ..scenario.clone() }
}

/// The rule of releases.
fn rule(scenario: &Scenario, privacy: &Privacy, clients: u32) -> Rule {
    let Privacy::UserLevel { clipping, noise_multiplier, placement, grid, expected_cohort, .. } = *privacy else {
        unreachable!("only user-level privacy has a rule");
    };
    Rule {
        clipping: match clipping {
            Clipping::Fixed { norm } => super::Clipping::Fixed { norm },
            Clipping::PerLayer { norm } => super::Clipping::PerLayer { norm },
            Clipping::Adaptive { initial_norm, quantile, rate, count_noise } => {
                let count_noise = count_noise.expect("a scenario without it is refused");
                super::Clipping::Adaptive(super::Adaptive { initial_norm, quantile, rate, count_noise })
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

/// [clients] Updates that a release is expected to sum, by what the scenario says and not by who comes.
fn cohort(scenario: &Scenario, clients: u32) -> f64 {
    let wanted = match (&scenario.server.protocol, scenario.server.selection) {
        (Protocol::Synchronous { .. }, Selection::Poisson { rate }) => return rate * f64::from(clients),
        (Protocol::Synchronous { clients_per_round, .. }, _) => *clients_per_round,
        (Protocol::Buffered { buffer_size, .. }, _) => *buffer_size,
        (Protocol::SemiSynchronous { concurrency, .. }, _) => *concurrency,
        _ => 1,
    };
    f64::from(wanted.min(clients))
}

/// Which case the protocol is, and why.
fn charge(scenario: &Scenario, privacy: &Privacy, clients: u32) -> Result<Charge, String> {
    let Privacy::UserLevel {
        noise_multiplier, delta, epsilon, placement, accountant, grid, max_participations, ..
    } = *privacy
    else {
        unreachable!("only user-level privacy is charged");
    };
    let accountant = match (grid, accountant) {
        (Some(_), _) => Accountant::Discrete,
        (None, scenario::Accountant::Pld) => Accountant::Pld,
        (None, scenario::Accountant::Rdp) => Accountant::Rdp,
    };
    let terms = Terms { delta, accountant, budget: epsilon };
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

fn amplified(scenario: &Scenario, terms: Terms, noise_multiplier: f64, clients: u32) -> Charge {
    match (scenario.server.selection, &scenario.server.protocol) {
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

/// Why sampling does not amplify; none if every client's participation is independent of all others'.
fn displacement(scenario: &Scenario) -> Option<&'static str> {
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
    match server.selection {
        Selection::Poisson { .. } => None,
        Selection::Uniform if *over_selection > 0 => Some("the first to arrive displace the others"),
        Selection::Uniform => {
            let loses = groups.iter().any(|group| {
                let dropout = group.dropout;
                dropout.before_training + dropout.during_training + dropout.after_training > 0.0
            });
            let is_traced = scenario.population.trace.is_some();
            let is_limited = scenario.population.devices.values().any(|device| device.memory.is_some());
            (loses || is_limited || is_traced).then_some("the cohort is not uniform over all clients")
        }
        _ => Some("clients are not drawn at random"),
    }
}

/// [1] The noise of FedLLM-Bench's FedDP: 2 lr C / n sqrt(2 q T ln(1/delta)) / epsilon, n being the mean number of rows.
fn their_sigma(scenario: &Scenario, privacy: &Privacy, train_rows: &[u64]) -> f64 {
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
