//! What each client's rows come to without any model: counts, languages, lengths, and what it prefers.

use std::collections::BTreeMap;

use whatlang::detect;

use super::DiversityError;
use crate::data::{ClientData, Content, Row, Ruler, Spread};

/// Languages that are reported under a detected name only where the detector is sure.
const UNKNOWN: &str = "?";

/// One client in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub client: String,
    pub samples: u64,
    /// Rows by language: the row's own attribute `language`, or else what a detector is sure of.
    pub languages: BTreeMap<String, u64>,
    /// [words or tokens] Of what is asked, and of what is answered.
    pub asked: Spread,
    pub answered: Spread,
    /// Of preference data.
    pub preference: Option<Taste>,
}

/// What a client prefers, as far as it shows in the answers' form.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taste {
    /// [1] Share of pairs whose chosen answer is the longer one; a tie counts half.
    pub longer: f64,
    /// [words or tokens] Mean length of the rejected answers.
    pub rejected_mean: f64,
    /// [1] Share of pairs in which the chosen answer alone has a list, less the share in which the rejected alone has one.
    pub lists: f64,
}

impl Profile {
    /// The language of most rows; the first by name of equals.
    pub fn main_language(&self) -> &str {
        let most = self.languages.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
        most.map_or(UNKNOWN, |(name, _)| name)
    }
}

/// The profiles of all clients.
///
/// # Errors
/// If the tokenizer refuses a text.
pub fn profiles(clients: &[ClientData], ruler: &Ruler) -> Result<Vec<Profile>, DiversityError> {
    clients.iter().map(|client| profile(client, ruler)).collect()
}

fn profile(client: &ClientData, ruler: &Ruler) -> Result<Profile, DiversityError> {
    let (mut asked, mut answered, mut languages) = (vec![], vec![], BTreeMap::new());
    let (mut taste, mut pairs) = (Taste::default(), 0u32);
    for (row, content) in client.rows.iter().enumerate() {
        let failed = |message| DiversityError::Text { client: client.id.clone(), row, message };
        let length = |texts: Vec<&str>| texts.into_iter().map(|text| ruler.length(text)).sum::<Result<u64, _>>();
        asked.push(length(content.asked()).map_err(failed)?);
        answered.push(length(content.answered()).map_err(failed)?);
        *languages.entry(language(content)).or_default() += 1;
        if let Content::Preference { chosen, rejected, .. } = &content.content {
            let rejected_length = ruler.length(rejected).map_err(failed)?;
            let chosen_length = answered[answered.len() - 1];
            pairs += 1;
            taste.longer += match chosen_length.cmp(&rejected_length) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
            taste.rejected_mean += rejected_length as f64;
            taste.lists += f64::from(u8::from(has_list(chosen))) - f64::from(u8::from(has_list(rejected)));
        }
    }
    let mean = |sum: f64| sum / f64::from(pairs);
    Ok(Profile {
        client: client.id.clone(),
        samples: client.rows.len() as u64,
        languages,
        asked: Spread::of(&asked),
        answered: Spread::of(&answered),
        preference: (pairs > 0).then(|| Taste {
            longer: mean(taste.longer),
            rejected_mean: mean(taste.rejected_mean),
            lists: mean(taste.lists),
        }),
    })
}

/// The row's own word for its language, or the detector's (ISO 639-3) where it is sure.
fn language(row: &Row) -> String {
    if let Some(named) = row.attributes.get("language").and_then(|value| value.as_str()) {
        return named.to_owned();
    }
    let text = [row.asked().join("\n"), row.answered().join("\n")].join("\n");
    let sure = detect(&text).filter(|found| found.is_reliable());
    sure.map_or(UNKNOWN, |found| found.lang().code()).to_owned()
}

/// Whether an answer has two lines or more that begin as items of a list do.
fn has_list(text: &str) -> bool {
    let is_item = |line: &&str| {
        let line = line.trim_start();
        let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
        ["- ", "* ", "• "].iter().any(|mark| line.starts_with(mark))
            || (digits.len() < line.len() && (digits.starts_with(". ") || digits.starts_with(") ")))
    };
    text.lines().filter(is_item).take(2).count() == 2
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
