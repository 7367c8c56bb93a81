//! Profiles of clients computed without a model: counts, languages, lengths, and preferences.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use whatlang::detect;

use super::DiversityError;
use crate::data::{ClientData, Content, Row, Ruler, Spread, TokenizerError};

/// Name of the language of rows for which the detector is not sure.
const UNKNOWN: &str = "?";

/// Statistics of one client's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub client: String,
    pub samples: u64,
    /// Number of rows by language: the row's own attribute `language`, or a language that is reliably detected.
    pub languages: BTreeMap<String, u64>,
    /// [words or tokens] -- Lengths of the instructions.
    pub asked: Spread,
    /// [words or tokens] -- Lengths of the responses. For preference data, of the chosen ones.
    pub answered: Spread,
    /// Statistics of pairs. `None` unless it is preference data.
    pub preference: Option<Taste>,
}

/// A client's preferences, as far as they show in the form of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taste {
    /// [1] -- Share of pairs whose chosen answer is the longer one. A tie counts half.
    pub longer: f64,
    /// [words or tokens] -- Mean length of the rejected answers.
    pub rejected_mean: f64,
    /// [1] -- Share of pairs in which only the chosen answer has a list, minus the share in which only the rejected one
    /// has.
    pub lists: f64,
}

impl Profile {
    /// Returns the language of most rows; the first one by name on a tie.
    pub fn main_language(&self) -> &str {
        let most = self.languages.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        most.map_or(UNKNOWN, |(name, _)| name)
    }
}

/// Computes the profiles of all clients.
///
/// # Errors
/// If the tokenizer refuses a text.
pub fn profiles(clients: &[ClientData], ruler: &Ruler) -> Result<Vec<Profile>, DiversityError> {
    clients.iter().map(|client| profile(client, ruler)).collect()
}

fn profile(client: &ClientData, ruler: &Ruler) -> Result<Profile, DiversityError> {
    let mut asked = vec![];
    let mut answered = vec![];
    let mut languages = BTreeMap::new();
    let mut pairs = 0u32;
    // Sums over the pairs, divided by their number below.
    let mut taste = Taste::default();
    for (row, content) in client.rows.iter().enumerate() {
        let lengths = Lengths::of(content, ruler).map_err(|message| {
            let client = client.id.clone();
            DiversityError::Text { client, row, message: message.to_string() }
        })?;
        asked.push(lengths.asked);
        answered.push(lengths.answered);
        *languages.entry(language(content)).or_default() += 1;
        if let Content::Preference { chosen, rejected, .. } = &content.content {
            pairs += 1;
            taste.longer += match lengths.answered.cmp(&lengths.rejected) {
                Ordering::Greater => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Less => 0.0,
            };
            taste.rejected_mean += lengths.rejected as f64;
            taste.lists += f64::from(u8::from(has_list(chosen))) - f64::from(u8::from(has_list(rejected)));
        }
    }
    let count = f64::from(pairs);
    let preference = (pairs > 0).then(|| Taste {
        longer: taste.longer / count,
        rejected_mean: taste.rejected_mean / count,
        lists: taste.lists / count,
    });
    Ok(Profile {
        client: client.id.clone(),
        samples: client.rows.len() as u64,
        languages,
        asked: Spread::of(&asked),
        answered: Spread::of(&answered),
        preference,
    })
}

/// [words or tokens] -- Lengths of one row. `rejected` is 0 unless the row is a pair.
struct Lengths {
    asked: u64,
    answered: u64,
    rejected: u64,
}

impl Lengths {
    fn of(row: &Row, ruler: &Ruler) -> Result<Self, TokenizerError> {
        let asked = total_length(&row.asked(), ruler)?;
        let answered = total_length(&row.answered(), ruler)?;
        let rejected = match &row.content {
            Content::Preference { rejected, .. } => ruler.length(rejected)?,
            _ => 0,
        };
        Ok(Self { asked, answered, rejected })
    }
}

fn total_length(texts: &[&str], ruler: &Ruler) -> Result<u64, TokenizerError> {
    texts.iter().map(|text| ruler.length(text)).sum()
}

/// Returns the row's attribute `language`, or else the detected language (ISO 639-3), if the detector is sure.
fn language(row: &Row) -> String {
    if let Some(named) = row.attributes.get("language").and_then(|value| value.as_str()) {
        return named.to_owned();
    }
    let text = [row.asked().join("\n"), row.answered().join("\n")].join("\n");
    let sure = detect(&text).filter(|found| found.is_reliable());
    sure.map_or(UNKNOWN, |found| found.lang().code()).to_owned()
}

/// Returns whether an answer has at least two lines that begin like list items.
fn has_list(text: &str) -> bool {
    text.lines().filter(|line| is_list_item(line)).take(2).count() == 2
}

/// Returns whether a line begins with a bullet, or with a number and a period or parenthesis.
fn is_list_item(line: &str) -> bool {
    let line = line.trim_start();
    if ["- ", "* ", "• "].iter().any(|mark| line.starts_with(mark)) {
        return true;
    }
    let after_digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let has_digits = after_digits.len() < line.len();
    has_digits && (after_digits.starts_with(". ") || after_digits.starts_with(") "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::data::{BadRows, Federation};

    fn read(rows: serde_json::Value) -> Profile {
        let text = json!({ "c": rows }).to_string();
        let data = Federation::read_from(text.as_bytes(), "d".as_ref(), BadRows::Refuse).unwrap();
        profiles(&data.clients, &Ruler::Words).unwrap().remove(0)
    }

    #[test]
    fn languages_are_the_rows_own_or_detected() {
        let profile = read(json!([
            {"instruction": "bonjour", "response": "salut", "language": "fr"},
            {"instruction": "Please tell me what the weather will be like tomorrow in the north of England",
             "response": "I do not know what the weather will be like, but I hope that it will be fine for you"},
            {"instruction": "1", "response": "2"}
        ]));
        let found: Vec<_> = profile.languages.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(found, [("?", 1), ("eng", 1), ("fr", 1)]);
        assert_eq!(profile.main_language(), "?");
        assert_eq!((profile.samples, profile.asked.max, profile.preference), (3, 15, None));
    }

    #[test]
    fn tastes_are_means_over_pairs() {
        let pair = |chosen: &str, rejected: &str| json!({"prompt": "p", "chosen": chosen, "rejected": rejected});
        let taste =
            read(json!([pair("1. one\n2. two", "a"), pair("a b", "c d"), pair("a", "b c d"), pair("a", "- x\n- y")]));
        let taste = taste.preference.unwrap();
        assert_eq!((taste.longer, taste.lists, taste.rejected_mean), (0.375, 0.0, 2.5));
        assert!(has_list("see:\n 10) a\n\n11) b") && !has_list("- one") && !has_list("1.5 m\n2.5 m"));
    }
}
