//! The rating in a judge's words.

use serde::{Deserialize, Serialize};

/// Which numbers are ratings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RatingRange {
    /// 1 to 10, as the judge is told; another number is unparsable.
    #[default]
    OneToTen,
    /// Any number, as the published scripts take it: an index of an array in the answer, for example.
    Any,
}

/// What a judgement says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rating {
    Rated(f64),
    Unparsable,
}

/// The first number in double brackets, else the first in single ones: FastChat's rule.
pub fn rating_in(judgement: &str, range: RatingRange) -> Rating {
    let number = bracketed(judgement, "[[", "]]").or_else(|| bracketed(judgement, "[", "]"));
    match number {
        Some(number) if range == RatingRange::Any || (1.0..=10.0).contains(&number) => Rating::Rated(number),
        _ => Rating::Unparsable,
    }
}

/// The first run of digits, with at most one point after the first of them, that stands right between `open` and
/// `close`.
fn bracketed(text: &str, open: &str, close: &str) -> Option<f64> {
    // Every place is tried, so that `[[[5]]]` holds a rating too.
    text.match_indices('[').find_map(|(place, _)| {
        let inside = text[place..].strip_prefix(open)?;
        let number = &inside[..inside.find(|c: char| !c.is_ascii_digit() && c != '.')?];
        let is_number = number.starts_with(|c: char| c.is_ascii_digit()) && number.matches('.').count() <= 1;
        let is_closed = inside[number.len()..].starts_with(close);
        (is_number && is_closed).then(|| number.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(judgement: &str, any: Option<f64>, one_to_ten: Option<f64>) {
        let found = |range| match rating_in(judgement, range) {
            Rating::Rated(number) => Some(number),
            Rating::Unparsable => None,
        };
        assert_eq!(found(RatingRange::Any), any, "{judgement}");
        assert_eq!(found(RatingRange::OneToTen), one_to_ten, "{judgement}");
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
        for judgement in ["", "Rating: 7", "[[seven]]", "[[-1]]", "[[ 7 ]]", "[[7/10]]", "[[7", "[[.5]]", "[[1.2.3]]"] {
            check(judgement, None, None);
        }
        check("[[15]]", Some(15.0), None);
        check("The list [0] is empty.", Some(0.0), None);
    }
}
