//! The command line: `args` are the options that several subcommands share, `commands` the subcommands, one file each, and
//! `output` what they print. `errors` has the exit codes, and the advice that follows an error. Results go to stdout, progress
//! and logs to stderr.

mod args;
mod commands;
mod errors;
mod output;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use self::args::eval::EvalArguments;
use self::commands::{
    calibrate, certify, data, diff, eval, export, fork, generate, import, ls, model, plan, privacy, replay, report,
    resume, run, scenario, show, store, sweep, tail, verify,
};
use self::errors::{CommandError, exit, hint};
use self::output::say;
use self::output::signals::{self, Stopping};
use fedreplay::graph::GraphError;
use fedreplay::run::RunError;
use fedreplay::training::restart_portably;

/// Federated fine-tuning of language models in virtual time, reproducible to the bit.
#[derive(Parser)]
#[command(name = "fedreplay", version, about)]
struct Arguments {
    /// Log more (-v info, -vv debug); RUST_LOG overrides it.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Format of the log on stderr.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// Formats of the log.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    /// One JSON object per line. While work can be counted, one per second has its finished `share`, from 0 to 1.
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario and write the results to a folder.
    Run(run::RunArguments),
    /// Simulate a scenario's schedule without training: times, participation, bytes, energy.
    Plan(plan::PlanArguments),
    /// Run a scenario in many settings, training what they share only once, and compare them.
    Sweep(sweep::SweepArguments),
    /// Continue a run that was interrupted or killed.
    Resume(resume::ResumeArguments),
    /// Continue a run from one of its rounds with other values; the earlier rounds are shared.
    Fork(fork::ForkArguments),
    /// Execute a run again without reading stored results, and compare round by round.
    Replay(replay::ReplayArguments),
    /// Check a run's files and digest chain against their hashes.
    Verify(verify::VerifyArguments),
    /// Sign a statement about a run: its digest and its certificate, under an Ed25519 key.
    Certify(certify::CertifyArguments),
    /// Measure training on this machine, and write a profile of its times and memory.
    Calibrate(calibrate::CalibrateArguments),
    /// Compare two runs and name the first difference.
    Diff(diff::DiffArguments),
    /// Show a run at a glance: figures, curves, outcomes, devices, stragglers.
    Show(show::ShowArguments),
    /// List the runs in a folder with state, rounds, losses and digest.
    Ls(ls::LsArguments),
    /// Follow a run until it ends.
    Tail(tail::TailArguments),
    /// Write a run in the format of another program: Perfetto, TensorBoard, CSV, PEFT, Weights & Biases.
    Export(export::ExportArguments),
    /// Check, explain and create scenarios.
    Scenario(scenario::ScenarioArguments),
    /// Print shell completions, man pages, and the references of scenario fields and tables.
    Generate(generate::GenerateArguments),
    /// Write one HTML page that shows a run, or compares several.
    Report(report::ReportArguments),
    /// Evaluate the models of a run, or of a folder: losses, perplexity, benchmarks.
    Eval(Box<EvalArguments>),
    /// Show, check and trim the store of results.
    Store(store::StoreArguments),
    /// Inspect and split datasets, and make synthetic twins of FedLLM-Bench's.
    Data(data::DataArguments),
    /// Turn a model file of another program into a model folder.
    Model(model::ModelArguments),
    /// Turn a shell script of OpenFedLLM or FedLLM-Bench into a scenario.
    Import(import::ImportArguments),
    /// Compute the cost of differential privacy: the epsilon of a noise multiplier, or the noise for an epsilon.
    Privacy(privacy::PrivacyArguments),
}

/// Prepares for limits of the machine, which would otherwise be panics. Comes first in the process.
pub fn name_limits() {
    output::limits::name_limits();
}

/// Waits for signals that ask the program to stop. Comes before any thread is started.
pub fn watch_signals() {
    signals::watch();
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr(arguments.verbose, arguments.log_format);
    signals::set_stopping(arguments.command.stopping());
    let result = execute(arguments.command);
    signals::wait_if_ending();
    let result = match result {
        // The next process would not know of the signal.
        Err(CommandError::Library(RunError::NotStartedPortably)) if signals::code().is_some() => {
            Err(GraphError::Interrupted.into())
        }
        // Nothing was started yet, and the numeric libraries can only be set up before they are loaded.
        Err(CommandError::Library(RunError::NotStartedPortably)) => {
            let error = restart_portably();
            Err(CommandError::Usage(format!("failed to start the program again with portable numerics: {error}")))
        }
        result => result,
    };
    result.unwrap_or_else(|error| {
        let mut code = exit::code_of(&error);
        let mut advice = hint::hint(&error);
        if code == exit::INTERRUPTED {
            code = signals::code().unwrap_or(code);
            advice = signals::advice().map(str::to_owned);
            if !signals::may_say() {
                return ExitCode::from(code);
            }
        }
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        output::error(format_args!("{error}{advice}"));
        ExitCode::from(code)
    })
}

impl Command {
    /// Returns how the command ends when it is asked to stop.
    fn stopping(&self) -> Stopping {
        match self {
            Self::Run(_) | Self::Plan(_) | Self::Resume(_) | Self::Fork(_) => {
                Stopping::Soon { advice: Some("`fedreplay resume` continues a run that has begun") }
            }
            Self::Sweep(_) | Self::Eval(_) => Stopping::Soon { advice: Some("the same command goes on where it was") },
            Self::Replay(_) | Self::Tail(_) | Self::Scenario(_) => Stopping::Soon { advice: None },
            _ => Stopping::AtOnce,
        }
    }
}

/// Runs one subcommand.
fn execute(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Run(arguments) => run::main(&arguments),
        Command::Plan(arguments) => plan::main(&arguments),
        Command::Sweep(arguments) => sweep::main(&arguments),
        Command::Resume(arguments) => resume::main(&arguments),
        Command::Fork(arguments) => fork::main(&arguments),
        Command::Replay(arguments) => replay::main(&arguments),
        Command::Verify(arguments) => verify::main(&arguments),
        Command::Certify(arguments) => certify::main(&arguments),
        Command::Calibrate(arguments) => calibrate::main(&arguments),
        Command::Diff(arguments) => diff::main(&arguments),
        Command::Show(arguments) => show::main(&arguments),
        Command::Ls(arguments) => ls::main(&arguments),
        Command::Tail(arguments) => tail::main(&arguments),
        Command::Export(arguments) => export::main(&arguments),
        Command::Scenario(arguments) => scenario::main(&arguments),
        Command::Generate(arguments) => generate::main(&arguments),
        Command::Report(arguments) => report::main(&arguments),
        Command::Eval(arguments) => eval::main(&arguments),
        Command::Store(arguments) => store::main(&arguments),
        Command::Data(arguments) => data::main(&arguments),
        Command::Model(arguments) => model::main(&arguments),
        Command::Import(arguments) => import::main(&arguments),
        Command::Privacy(arguments) => privacy::main(&arguments),
    }
}

/// Sets up logging on stderr.
fn log_to_stderr(verbose: u8, format: LogFormat) {
    let default = ["warn", "info", "debug"][usize::from(verbose.min(2))];
    output::set_json_log(format == LogFormat::Json);
    // A JSON log contains the progress that plain text shows as lines of its own.
    let default = if output::logs_json() { format!("{default},fedreplay::progress=info") } else { default.to_owned() };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A line that cannot be logged must not be reported on the same stderr: that panics if stderr is closed.
    let log = log.log_internal_errors(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    // The HTTP client logs whole requests at its trace level, including the API keys in their headers, and at its debug level
    // the headers of answers, which may repeat a key.
    log::set_max_level(log::max_level().min(log::LevelFilter::Info));
}

/// Prints a difference that a check found, and returns the exit code for it.
fn report_difference(found: impl std::fmt::Display) -> Result<ExitCode, CommandError> {
    say!("different: {found}");
    Ok(ExitCode::from(exit::DIFFERENT))
}
