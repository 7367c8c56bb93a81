//! Extraction of the rating from a judge's text.

use serde::{Deserialize, Serialize};

/// The rule by which a judge's text becomes a rating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RatingRule {
    /// A number from 1 to 10, as in the judge's instructions, outside of the judge's thoughts. Any other number is
    /// unparsable.
    #[default]
    OneToTen,
    /// Any number in the whole text, as in the published scripts, even an array index quoted from the answer or a number
    /// that the judge only considers.
    AsPublished,
}

/// The rating of one judgment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rating {
    Rated(f64),
    /// The judgment has no number in brackets, or one out of range.
    Unparsable,
}

/// Returns the first number in double brackets, else the first one in single brackets, as FastChat does.
pub fn rating_in(judgment: &str, rule: RatingRule) -> Rating {
    match ratings_in(judgment, rule).first() {
        Some(&number) if rule == RatingRule::AsPublished || (1.0..=10.0).contains(&number) => Rating::Rated(number),
        _ => Rating::Unparsable,
    }
}

/// Returns whether a judgment has several different numbers where its rating is looked for. The first one counts.
pub fn has_several_ratings(judgment: &str, rule: RatingRule) -> bool {
    let numbers = ratings_in(judgment, rule);
    numbers.iter().any(|number| *number != numbers[0])
}

/// Returns the numbers in double brackets, or if there is none, those in single brackets.
fn ratings_in(judgment: &str, rule: RatingRule) -> Vec<f64> {
    let text = match rule {
        RatingRule::OneToTen => without_thoughts(judgment),
        RatingRule::AsPublished => judgment.to_owned(),
    };
    let double = bracketed(&text, "[[", "]]");
    if double.is_empty() { bracketed(&text, "[", "]") } else { double }
}

/// Marks between which models write their thoughts: of DeepSeek-R1, Qwen3 and most others, and of some that have their own.
const THOUGHTS: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
];

/// Returns a model's text without its thoughts. Thoughts without an end take all that follows. Those without a
/// beginning, which the chat template wrote, take all that precedes.
pub(crate) fn without_thoughts(text: &str) -> String {
    let mut text = text.to_owned();
    for (open, close) in THOUGHTS {
        loop {
            // Lower case has the same byte positions, since only ASCII letters change.
            let lower = text.to_ascii_lowercase();
            let start = lower.find(open);
            let end = lower.find(close);
            match (start, end) {
                (None, None) => break,
                (None, Some(end)) => text.replace_range(..end + close.len(), ""),
                (Some(start), Some(end)) if end < start => text.replace_range(..end + close.len(), ""),
                (Some(start), Some(end)) => text.replace_range(start..end + close.len(), ""),
                (Some(start), None) => text.truncate(start),
            }
        }
    }
    text
}

/// Returns the numbers directly between `open` and `close`.
fn bracketed(text: &str, open: &str, close: &str) -> Vec<f64> {
    // Every bracket is tried, so that `[[[5]]]` has a rating too.
    text.match_indices('[').filter_map(|(place, _)| number_between(&text[place..], open, close)).collect()
}

/// Returns the number at the start of `text` between `open` and `close`: digits with at most one point, not at the
/// beginning. Signs, spaces and exponents are not allowed, as in FastChat's regular expression.
fn number_between(text: &str, open: &str, close: &str) -> Option<f64> {
    let inside = text.strip_prefix(open)?;
    let number = &inside[..inside.find(|c: char| !c.is_ascii_digit() && c != '.')?];
    let is_number = number.starts_with(|c: char| c.is_ascii_digit()) && number.matches('.').count() <= 1;
    let is_closed = inside[number.len()..].starts_with(close);
    if is_number && is_closed { number.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(judgment: &str, any: Option<f64>, one_to_ten: Option<f64>) {
        let found = |rule| match rating_in(judgment, rule) {
            Rating::Rated(number) => Some(number),
            Rating::Unparsable => None,
        };
        assert_eq!(found(RatingRule::AsPublished), any, "{judgment}");
        assert_eq!(found(RatingRule::OneToTen), one_to_ten, "{judgment}");
    }

    #[test]
    fn the_first_double_bracket_wins_then_the_first_single_one() {
        check("Good. Rating: [[7]]", Some(7.0), Some(7.0));
        check("In [1] it says so. Rating: [[6.5]] or [[9]]", Some(6.5), Some(6.5));
        check("Rating: [8]", Some(8.0), Some(8.0));
        check("[[8.]] is what FastChat's pattern takes", Some(8.0), Some(8.0));
        check("[[[5]]]", Some(5.0), Some(5.0));
        check("[[x]] then [3]", Some(3.0), Some(3.0));
    }

    #[test]
    fn what_is_no_rating_is_unparsable() {
        for judgment in ["", "Rating: 7", "[[seven]]", "[[-1]]", "[[ 7 ]]", "[[7/10]]", "[[7", "[[.5]]", "[[1.2.3]]"] {
            check(judgment, None, None);
        }
        check("[[15]]", Some(15.0), None);
        check("The list [0] is empty.", Some(0.0), None);
    }

    /// As published, a rating is what `re.search` finds of FastChat's patterns `\[\[(\d+\.?\d*)\]\]`, then
    /// `\[(\d+\.?\d*)\]` (`fastchat/llm_judge/common.py`).
    #[test]
    fn a_judge_is_not_rated_by_its_thoughts_unless_as_published() {
        check("<think>maybe [[3]], the format is [[5]]</think>Good. [[8]]", Some(3.0), Some(8.0));
        check("<think>unfinished: it could be [[2]]", Some(2.0), None);
        check("or [[3]]</think>\n[[8]]", Some(3.0), Some(8.0));
        check("[[8]] <Thinking>or [[3]]</Thinking>", Some(8.0), Some(8.0));
        check("<think>a <think> in [[1]]</think> or [[3]]</think> [[8]]", Some(1.0), Some(8.0));
        check("<think>[[1]]</think>[[2]]<think>[[3]]</think>", Some(1.0), Some(2.0));
        check("[THINK]É [[3]][/THINK]Rating: [[8]]", Some(3.0), Some(8.0));
        check("<reasoning>[[3]]</reasoning> [8]", Some(3.0), Some(8.0));
    }

    #[test]
    fn several_different_ratings_are_noticed_where_the_rating_is_looked_for() {
        for (judgment, one_to_ten, as_published) in [
            ("Rating: [[8]] out of [[10]]", true, true),
            ("For example \"Rating: [[5]]\". Rating: [[9]]", true, true),
            ("<think>maybe [[3]]</think> [[8]]", false, true),
            ("[[8]], so I say [[8.0]]", false, false),
            ("In [1] and [2] it says so. [[7]]", false, false),
            ("[1] or [2]", true, true),
            ("[[7]]", false, false),
            ("none", false, false),
        ] {
            assert_eq!(has_several_ratings(judgment, RatingRule::OneToTen), one_to_ten, "{judgment}");
            assert_eq!(has_several_ratings(judgment, RatingRule::AsPublished), as_published, "{judgment}");
        }
    }
}
