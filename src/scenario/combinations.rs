//! Table of the combinations of federated methods with other settings: each is accepted, or refused with a reason, by the checks that
//! every scenario passes.

use std::fmt::Write;

use super::check::check;
use super::overrides::apply;
use super::schema::{FederatedLora, Protocol, ScenarioSpec};

/// Values of `algorithm`.
const ALGORITHMS: [&str; 10] = [
    "FedAvg",
    "FedProx",
    "Scaffold",
    "FedAvgM",
    "FedAdagrad",
    "FedYogi",
    "FedAdam",
    r#"Python(file: "rule.py")"#,
    "Local",
    "Centralised",
];

/// Values of `server.protocol`, with the fields that have no defaults.
const PROTOCOLS: [&str; 6] = [
    "Synchronous(clients_per_round: 20)",
    r#"SemiSynchronous(window: "1h", concurrency: 20, max_staleness: 3)"#,
    "Buffered(concurrency: 20, buffer_size: 10)",
    "Asynchronous(concurrency: 20)",
    "Tiered(tiers: 2, clients_per_round: 20)",
    r#"Hierarchical(clients_per_round: 20, edge_rounds: 2, edges: [(region: "here", down: "1 Gbit/s", up: "1 Gbit/s",
        downlink: "1 Gbit/s", uplink: "1 Gbit/s")])"#,
];

/// Other settings: as the table names them, and as overrides. Privacy bounds what a client weighs.
const OTHERS: [(&str, &str); 28] = [
    (
        "privacy: UserLevel",
        r#"privacy={"UserLevel":{"clipping":{"Fixed":{"norm":1}},"noise_multiplier":1,"delta":1e-5,"weight_bound":1}}"#,
    ),
    (
        "privacy: UserLevel, placement: Local",
        r#"privacy={"UserLevel":{"clipping":{"Fixed":{"norm":1}},"noise_multiplier":1,"delta":1e-5,"weight_bound":1,"placement":"Local"}}"#,
    ),
    (
        "privacy: UserLevel, placement: Tree",
        r#"privacy={"UserLevel":{"clipping":{"Fixed":{"norm":1}},"noise_multiplier":1,"delta":1e-5,"weight_bound":1,"placement":"Tree"}}"#,
    ),
    ("privacy: FedLlmBenchDp", r#"privacy={"FedLlmBenchDp":{}}"#),
    ("server.aggregation: Median", "server.aggregation=Median"),
    ("server.aggregation: TrimmedMean", "server.aggregation=TrimmedMean(trim: 0.2)"),
    ("server.aggregation: Krum", "server.aggregation=Krum(byzantine: 2)"),
    ("server.aggregation: MultiKrum", "server.aggregation=MultiKrum(byzantine: 2)"),
    ("server.aggregation: Bulyan", "server.aggregation=Bulyan(byzantine: 2)"),
    ("server.aggregation: GeometricMedian", "server.aggregation=GeometricMedian"),
    ("server.aggregation: NormBounding", "server.aggregation=NormBounding(bound: 1)"),
    ("server.aggregation: CenteredClipping", "server.aggregation=CenteredClipping"),
    ("server.aggregation: FlTrust", r#"server.aggregation={"FlTrust":{"speed":"1 TFLOP/s"}}"#),
    ("attackers: any", r#"attackers={"clients":{"Number":1},"attack":{"SignFlip":{"factor":1}}}"#),
    ("model.lora.ranks: any", r#"model.lora.ranks={"laptop":2}"#),
    ("training.optimizer_state: Kept", "training.optimizer_state=Kept"),
    ("training.objective: Dpo", "training.objective=Dpo"),
    ("evaluation.local_baseline: true", "evaluation.local_baseline=true"),
    ("server.uplink_codec: TopK", CODEC),
    ("server.uplink_codec: Qsgd", "server.uplink_codec=Qsgd(levels: 7)"),
    ("server.uplink_codec: SignSgd", "server.uplink_codec=SignSgd"),
    ("server.uplink_codec: Int8", "server.uplink_codec=Int8"),
    ("server.uplink_codec: Nf4", "server.uplink_codec=Nf4"),
    ("server.downlink_codec: TopK", "server.downlink_codec=TopK(share: 0.1)"),
    ("server.downlink_codec: Qsgd", "server.downlink_codec=Qsgd(levels: 7)"),
    ("server.downlink_codec: SignSgd", "server.downlink_codec=SignSgd"),
    ("server.downlink_codec: Int8", DOWNLINK_CODEC),
    ("server.downlink_codec: Nf4", "server.downlink_codec=Nf4"),
];

/// One codec of the models that clients receive, for all.
const DOWNLINK_CODEC: &str = "server.downlink_codec=Int8";

/// One codec for all: what goes with it does not depend on its parameters.
const CODEC: &str = "server.uplink_codec=TopK(share: 0.1)";

/// Reasons of refusals, in the order in which they are met.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    /// Returns the content of a cell: accepted, or the number of the reason.
    fn cell(&mut self, base: &ScenarioSpec, sets: &[&str]) -> String {
        let Some((field, reason)) = refusal(base, sets) else { return "yes".into() };
        let text = format!("`{field}`: {reason}");
        let known = self.0.iter().position(|known| *known == text);
        let number = known.unwrap_or_else(|| {
            self.0.push(text);
            self.0.len() - 1
        });
        format!("[{}]", number + 1)
    }

    /// Returns the content of the cell of a codec: accepted if it goes with all protocols that are accepted without it.
    fn cell_of_codec(&mut self, base: &ScenarioSpec, sets: &[&str], codec: &str) -> String {
        let under = PROTOCOLS.map(|protocol| with(&with(base, sets), &[&format!("server.protocol={protocol}")]));
        let refused = under.iter().find(|scenario| check(scenario).is_ok() && refusal(scenario, &[codec]).is_some());
        self.cell(refused.unwrap_or(&under[0]), &[codec])
    }
}

/// Returns the field and the reason for which a scenario with these overrides is refused; `None` if it is accepted.
fn refusal(base: &ScenarioSpec, sets: &[&str]) -> Option<(String, String)> {
    check(&with(base, sets)).err()
}

/// Returns a scenario with overrides.
fn with(base: &ScenarioSpec, sets: &[&str]) -> ScenarioSpec {
    let mut scenario = base.clone();
    for set in sets {
        let basis = scenario.defaults_basis();
        scenario = apply(&scenario, set, basis).unwrap_or_else(|error| panic!("{set}: {error}"));
    }
    scenario
}

/// Returns the name of a value, without its fields.
fn name(value: &str) -> &str {
    value.split('(').next().unwrap_or(value)
}

/// Returns the table as Markdown: docs/methods/combinations.md.
///
/// # Examples
///
/// ```
/// let page = fedreplay::scenario::combinations();
/// assert!(page.contains("| `FedAvg` | yes | yes |"));
/// ```
pub fn combinations() -> String {
    let mut base = ScenarioSpec::new("combinations", "MODEL", "DATA");
    base.server.protocol = Protocol::synchronous(20);
    base.population.mix[0].region = Some("here".into());
    base.data.root_file = Some("ROOT".into());
    let mut reasons = Reasons::default();
    let mut page = String::from(
        "# Which settings go together\n\nGenerated by `fedreplay generate method-combinations` from the checks that every scenario \
         passes. A number in brackets is the reason of a refusal, at the end of the page. The last columns of a method are for codecs \
         of what clients send and receive, under all protocols that the row accepts.\n",
    );
    for &method in FederatedLora::ALL {
        let method_set = format!("federated_lora={}", method.variant());
        let _ = write!(page, "\n## `{}`\n\n| algorithm |", method.variant());
        for protocol in PROTOCOLS {
            let _ = write!(page, " `{}` |", name(protocol));
        }
        page.push_str(" `server.uplink_codec` | `server.downlink_codec` |\n");
        let _ = writeln!(page, "|---|{}", "---|".repeat(PROTOCOLS.len() + 2));
        for algorithm in ALGORITHMS {
            let _ = write!(page, "| `{}` |", name(algorithm));
            for protocol in PROTOCOLS {
                let sets = [format!("algorithm={algorithm}"), format!("server.protocol={protocol}")];
                let cell = reasons.cell(&base, &[&sets[0], &sets[1], &method_set]);
                let _ = write!(page, " {cell} |");
            }
            for codec in [CODEC, DOWNLINK_CODEC] {
                let cell = reasons.cell_of_codec(&base, &[&format!("algorithm={algorithm}"), &method_set], codec);
                let _ = write!(page, " {cell} |");
            }
            page.push('\n');
        }
    }
    others(&mut page, "Other settings, under `FedAvg` and `Synchronous`", &base, &mut reasons, &OTHERS);
    for (field, codec) in [("server.uplink_codec", CODEC), ("server.downlink_codec", DOWNLINK_CODEC)] {
        let settings: Vec<_> = OTHERS.iter().filter(|(name, _)| !name.starts_with(field)).copied().collect();
        let title = format!("Other settings with `{field}`, under `FedAvg` and `Synchronous`");
        others(&mut page, &title, &with(&base, &[codec]), &mut reasons, &settings);
    }
    page.push_str("\n## Reasons\n\n");
    for (number, reason) in (1..).zip(&reasons.0) {
        let _ = writeln!(page, "{number}. {reason}");
    }
    page
}

/// Writes the table of other settings under each method.
fn others(page: &mut String, title: &str, base: &ScenarioSpec, reasons: &mut Reasons, settings: &[(&str, &str)]) {
    let _ = write!(page, "\n## {title}\n\n| setting |");
    for method in FederatedLora::ALL {
        let _ = write!(page, " `{}` |", method.variant());
    }
    let _ = write!(page, "\n|---|{}\n", "---|".repeat(FederatedLora::ALL.len()));
    for (name, set) in settings {
        let _ = write!(page, "| `{name}` |");
        for method in FederatedLora::ALL {
            let cell = reasons.cell(base, &[set, &format!("federated_lora={}", method.variant())]);
            let _ = write!(page, " {cell} |");
        }
        page.push('\n');
    }
}
