//! `fedreplay privacy`: the epsilon that a mechanism spends, and the noise that an epsilon needs.

use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::cli::errors::CommandError;
use crate::cli::output::{note, say};
use fedreplay::privacy::accountant::{Accountant, CALIBRATION_TOLERANCE, EpsilonBound, Mechanism, noise_for};

#[derive(Args)]
pub struct PrivacyArguments {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// Compute the epsilon that a noise multiplier gives.
    Epsilon(EpsilonArguments),
    /// Compute the least noise multiplier that keeps an epsilon.
    Noise(NoiseArguments),
}

#[derive(Args)]
struct EpsilonArguments {
    /// Standard deviation of the noise on the sum of updates, in clipping norms.
    #[arg(long, value_name = "Z", value_parser = positive)]
    noise_multiplier: f64,
    #[command(flatten)]
    accounting: AccountingArguments,
}

#[derive(Args)]
struct NoiseArguments {
    /// Epsilon that must not be exceeded.
    #[arg(long, value_name = "EPSILON", value_parser = positive)]
    epsilon: f64,
    #[command(flatten)]
    accounting: AccountingArguments,
}

/// Participation of clients, and the accounting method.
#[derive(Args)]
#[command(group(ArgGroup::new("sampling").required(true).args(["sampling_rate", "clients", "participations"])))]
struct AccountingArguments {
    /// Probability with which each client takes part in a step, independently (Poisson sampling; neighboring datasets
    /// differ by one added or removed client).
    #[arg(long, value_name = "Q", value_parser = rate)]
    sampling_rate: Option<f64>,
    /// Number of clients from which every step samples a uniform cohort of `--cohort` (neighboring datasets replace one
    /// client: sensitivity 2S).
    #[arg(long, value_name = "N", requires = "cohort", value_parser = clap::value_parser!(u32).range(1..))]
    clients: Option<u32>,
    /// Size of the cohort of every step.
    #[arg(long, value_name = "M", requires = "clients", value_parser = clap::value_parser!(u32).range(1..))]
    cohort: Option<u32>,
    /// Greatest number of steps in which one client takes part, without any assumption on the sampling (neighboring
    /// datasets replace one client: sensitivity 2S, no amplification).
    #[arg(long, value_name = "K", conflicts_with = "steps", value_parser = clap::value_parser!(u64).range(1..=STEPS_MAX))]
    participations: Option<u64>,
    /// Number of steps, that is, of aggregations with noise.
    #[arg(long, value_name = "T", required_unless_present = "participations",
          value_parser = clap::value_parser!(u64).range(1..=STEPS_MAX))]
    steps: Option<u64>,
    /// Delta, above 0 and below 1; it should be well below one over the number of clients.
    #[arg(long, value_name = "DELTA", value_parser = delta)]
    delta: f64,
    /// Accounting method.
    #[arg(long, value_enum, default_value_t = AccountantName::Pld)]
    accountant: AccountantName,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum AccountantName {
    /// Tight: privacy loss distributions; the exact Gaussian where nothing is sampled; for cohorts of fixed size, of which no
    /// such distribution is known, the lesser of the exact Gaussian and rdp.
    Pld,
    /// Rényi differential privacy.
    Rdp,
}

/// Greatest number of steps, well above those for which the accountants were compared with other implementations.
const STEPS_MAX: u64 = 10_000_000;

/// Answers the question and prints the mechanism with its cost.
pub fn main(arguments: &PrivacyArguments) -> Result<ExitCode, CommandError> {
    match &arguments.question {
        Question::Epsilon(arguments) => {
            let case = Case::new(&arguments.accounting, arguments.noise_multiplier)?;
            let bound = case.mechanism.bound(case.steps, arguments.accounting.delta, case.accountant);
            case.print(&arguments.accounting, arguments.noise_multiplier, bound);
        }
        Question::Noise(arguments) => {
            // The noise of the case is a placeholder: the search replaces it.
            let case = Case::new(&arguments.accounting, 1.0)?;
            let delta = arguments.accounting.delta;
            let noise = noise_for(case.mechanism, case.steps, arguments.epsilon, delta, case.accountant)
                .map_err(|error| CommandError::Usage(error.to_string()))?;
            let bound = case.mechanism.with_noise(noise).bound(case.steps, delta, case.accountant);
            case.print(&arguments.accounting, noise, bound);
            note!("the least noise multiplier to a relative tolerance of {CALIBRATION_TOLERANCE}, rounded up");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A mechanism with its number of steps and its accountant.
struct Case {
    mechanism: Mechanism,
    steps: u64,
    accountant: Accountant,
}

impl Case {
    /// Selects mechanism and accountant by the kind of sampling.
    ///
    /// # Errors
    /// If the cohort is larger than the population.
    fn new(accounting: &AccountingArguments, noise_multiplier: f64) -> Result<Self, CommandError> {
        let accountant = match accounting.accountant {
            AccountantName::Rdp => Accountant::Rdp,
            AccountantName::Pld => Accountant::Pld,
        };
        let (mechanism, steps) = match (accounting.sampling_rate, accounting.clients.zip(accounting.cohort)) {
            (Some(rate), _) => (Mechanism::Poisson { noise_multiplier, rate }, accounting.steps),
            (None, Some((clients, cohort))) => {
                if cohort > clients {
                    let message = format!("failed to sample: a cohort of {cohort} is more than {clients} clients");
                    return Err(CommandError::Usage(message));
                }
                (Mechanism::FixedSize { noise_multiplier, clients, cohort }, accounting.steps)
            }
            // One participation after the other composes to a Gaussian mechanism, for which epsilon is exact.
            (None, None) => (Mechanism::ReplaceOne { noise_multiplier }, accounting.participations),
        };
        Ok(Self { mechanism, steps: steps.expect("the parser requires one of them"), accountant })
    }

    /// Prints the cost, with the method that gave it, which is not always the requested one.
    fn print(&self, accounting: &AccountingArguments, noise_multiplier: f64, bound: EpsilonBound) {
        let neighbours = self.mechanism.neighbours();
        let EpsilonBound { epsilon, method } = bound;
        say!("{:<18}{epsilon:.6} at delta {}", "epsilon", accounting.delta);
        say!("{:<18}{noise_multiplier:.6} clipping norms", "noise multiplier");
        say!("{:<18}{} steps, {neighbours}, by {}", "charged", self.steps, method.name());
        if accounting.json {
            let line = json!({
                "epsilon": epsilon,
                "delta": accounting.delta,
                "noise_multiplier": noise_multiplier,
                "steps": self.steps,
                "accountant": method.name(),
                "neighbours": neighbours,
            });
            say!("{line}");
        }
    }
}

/// Parses a positive number of reasonable size.
fn positive(text: &str) -> Result<f64, String> {
    within(text, "above 0 and at most 1e6", |value| value > 0.0 && value <= 1e6)
}

/// Parses a sampling rate.
fn rate(text: &str) -> Result<f64, String> {
    within(text, "above 0 and at most 1", |value| value > 0.0 && value <= 1.0)
}

/// Parses a delta.
fn delta(text: &str) -> Result<f64, String> {
    within(text, "above 0 and below 1", |value| value > 0.0 && value < 1.0)
}

/// Parses a number for which `holds` is true; `range` describes that condition.
fn within(text: &str, range: &str, holds: impl Fn(f64) -> bool) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if holds(value) { Ok(value) } else { Err(format!("it must be {range}")) }
}
