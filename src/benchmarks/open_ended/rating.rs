//! Extraction of the rating from a judge's text.

use serde::{Deserialize, Serialize};

/// The range of numbers that count as ratings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RatingRange {
    /// 1 to 10, as in the judge's instructions. Any other number is unparsable.
    #[default]
    OneToTen,
    /// Any number, as in the published scripts, even an array index quoted from the answer.
    Any,
}

/// The rating of one judgment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rating {
    Rated(f64),
    /// The judgment has no number in brackets, or one out of range.
    Unparsable,
}

/// Returns the first number in double brackets, else the first one in single brackets, as FastChat does.
pub fn rating_in(judgment: &str, range: RatingRange) -> Rating {
    let number = bracketed(judgment, "[[", "]]").or_else(|| bracketed(judgment, "[", "]"));
    match number {
        Some(number) if range == RatingRange::Any || (1.0..=10.0).contains(&number) => Rating::Rated(number),
        _ => Rating::Unparsable,
    }
}

/// Returns the first number directly between `open` and `close`.
fn bracketed(text: &str, open: &str, close: &str) -> Option<f64> {
    // Every bracket is tried, so that `[[[5]]]` has a rating too.
    text.match_indices('[').find_map(|(place, _)| number_between(&text[place..], open, close))
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
        let found = |range| match rating_in(judgment, range) {
            Rating::Rated(number) => Some(number),
            Rating::Unparsable => None,
        };
        assert_eq!(found(RatingRange::Any), any, "{judgment}");
        assert_eq!(found(RatingRange::OneToTen), one_to_ten, "{judgment}");
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
}
