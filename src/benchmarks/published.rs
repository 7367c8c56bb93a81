//! Scores of FedLLM-Bench's published summary, the only published ones that tables show next to measured ones.
//!
//! They are second-hand: taken from summaries of the paper and not checked against it. Tables mark each of them.

/// A setting of the paper: data and method, by the paper's names. Its model was Llama-2-7B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    pub dataset: &'static str,
    pub method: &'static str,
}

/// A published score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedScores {
    /// Name of the training data in the paper.
    pub dataset: &'static str,
    /// Name of the method in the paper.
    pub method: &'static str,
    /// Column of the table.
    pub column: &'static str,
    /// The score as printed. Some are ranges.
    pub figure: &'static str,
}

const fn published(
    dataset: &'static str,
    method: &'static str,
    column: &'static str,
    figure: &'static str,
) -> PublishedScores {
    PublishedScores { dataset, method, column, figure }
}

/// All published scores.
pub const PUBLISHED: [PublishedScores; 11] = [
    published("Fed-ChatbotIT", "Local", "Average", "5.00"),
    published("Fed-ChatbotIT", "FedAvg", "Average", "5.51"),
    published("Fed-WildChat", "Local", "Ref-GPT4 WildChat", "4.50"),
    published("Fed-WildChat", "FedAvg", "Ref-GPT4 WildChat", "5.88"),
    published("Fed-Aya", "Local", "Ref-GPT4 Aya", "4.2-4.7"),
    published("Fed-Aya", "FedAvg", "Ref-GPT4 Aya", "4.90"),
    published("Fed-Aya", "FedProx", "Ref-GPT4 Aya", "4.92"),
    published("Fed-Aya", "SCAFFOLD", "Ref-GPT4 Aya", "4.97"),
    published("Fed-WildChat", "FedAvg", "MT-1", "4.6875"),
    published("Fed-WildChat", "FedDP-0.1", "MT-1", "4.5375"),
    published("Fed-WildChat", "Local", "MT-1", "4.0875"),
];

impl PublishedScores {
    /// Returns the score for a cell of the table, if one was published.
    pub fn find(setting: Setting, column: &str) -> Option<&'static Self> {
        let wanted = (setting.dataset, setting.method, column);
        PUBLISHED.iter().find(|known| (known.dataset, known.method, known.column) == wanted)
    }
}
