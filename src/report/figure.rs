//! Figures: columns of numbers or names, with a caption and the way in which they are drawn.
//!
//! The same columns are drawn, shown as a table and downloaded.

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

/// Significant digits of a figure's numbers; the ledger has full precision.
const DIGITS: usize = 7;

/// Part of a report that answers one question.
#[derive(Debug, Serialize)]
pub struct Section {
    pub title: &'static str,
    pub figures: Vec<Figure>,
}

/// Columns of equal length, and how they are drawn.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// Name of the downloaded file, unique within a run.
    pub id: &'static str,
    pub title: String,
    /// Explanation of the figure, with the columns of the ledger from which it is made.
    pub caption: String,
    pub draw: Draw,
    pub columns: Vec<Column>,
    /// Remarks: what was left out or grouped, and what deserves attention.
    pub notes: Vec<String>,
}

/// Ways to draw columns, which are referred to by [`Column::name`].
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Draw {
    /// Only a table.
    Table,
    /// Lines against one of the columns `x`, which the reader chooses, with one line per value of `split`. The area
    /// between the two columns of `band` is shaded.
    Lines { x: Vec<&'static str>, y: Vec<&'static str>, split: Option<&'static str>, band: Option<[&'static str; 2]> },
    /// Bars, stacked if they are parts of one whole, or else side by side.
    Bars { x: &'static str, y: Vec<&'static str>, stacked: bool },
    /// One point per row; `diagonal` adds the line x = y.
    Points { x: &'static str, y: &'static str, split: Option<&'static str>, diagonal: bool },
    /// Phases of tasks, with one line per client.
    Timeline,
}

/// One column of a figure.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// Name in downloads, in snake case with the unit last.
    pub name: &'static str,
    /// Name on the page.
    pub title: &'static str,
    pub unit: &'static str,
    pub values: Values,
}

/// Values of a column.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    #[serde(serialize_with = "compact")]
    Numbers(Vec<Option<f64>>),
    /// Distinct texts, and for each row the index of its text.
    Names { texts: Vec<String>, rows: Vec<Option<u32>> },
}

impl Column {
    /// Creates a column of numbers.
    pub fn numbers<V: Into<Option<f64>>>(
        name: &'static str,
        title: &'static str,
        unit: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let mut numbers: Vec<Option<f64>> = values.into_iter().map(Into::into).collect();
        if unit == "s" {
            // Times are cut: the page shows the seconds that have passed, and its sentences cut what was not rounded.
            for value in numbers.iter_mut().flatten() {
                *value = cut(*value, DIGITS);
            }
        }
        Self { name, title, unit, values: Values::Numbers(numbers) }
    }

    /// Creates a column of whole numbers.
    pub fn counts<V: Into<u64>>(
        name: &'static str,
        title: &'static str,
        unit: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self::numbers(name, title, unit, values.into_iter().map(|value| value.into() as f64))
    }

    /// Creates a column of texts. Each distinct text is stored once, in the order of first occurrence.
    pub fn names<T: Into<String>>(
        name: &'static str,
        title: &'static str,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Self {
        let mut places: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
        let mut texts: Vec<String> = Vec::new();
        let mut rows = Vec::new();
        for value in values {
            let Some(text) = value else {
                rows.push(None);
                continue;
            };
            let text = text.into();
            let place = *places.entry(text.clone()).or_insert(texts.len() as u32);
            if place as usize == texts.len() {
                texts.push(text);
            }
            rows.push(Some(place));
        }
        Self { name, title, unit: "name", values: Values::Names { texts, rows } }
    }

    /// Appends the rows of a column of the same kind.
    pub fn append(&mut self, more: Self) {
        match (&mut self.values, more.values) {
            (Values::Numbers(values), Values::Numbers(more)) => values.extend(more),
            (Values::Names { texts, rows }, Values::Names { texts: others, rows: more }) => {
                // The other column numbers its texts differently, so its rows are renumbered.
                let places: Vec<u32> = others.into_iter().map(|text| place_of(texts, text)).collect();
                rows.extend(more.into_iter().map(|row| row.map(|row| places[row as usize])));
            }
            _ => unreachable!("columns of one name hold one kind of values"),
        }
    }

    /// Numbers the texts of a column of names by their places in `all`, which holds each of them, so that a text has the same
    /// number in several figures and is drawn in the same color.
    pub fn number_as(&mut self, all: &[&str]) {
        let Values::Names { texts, rows } = &mut self.values else { return };
        let mut places = Vec::with_capacity(texts.len());
        for text in texts.iter() {
            places.push(all.iter().position(|known| known == text).expect("all texts are known") as u32);
        }
        for row in rows.iter_mut().flatten() {
            *row = places[*row as usize];
        }
        *texts = all.iter().map(|&text| text.to_owned()).collect();
    }

    /// Returns whether no row has a value.
    pub fn is_blank(&self) -> bool {
        match &self.values {
            Values::Numbers(values) => values.iter().all(Option::is_none),
            Values::Names { rows, .. } => rows.iter().all(Option::is_none),
        }
    }
}

/// Returns the index of a text in a short list, to which it is added if it is new.
fn place_of(texts: &mut Vec<String>, text: String) -> u32 {
    if let Some(known) = texts.iter().position(|known| *known == text) {
        return known as u32;
    }
    texts.push(text);
    texts.len() as u32 - 1
}

/// Serializes whole numbers without a decimal point, other numbers rounded, and numbers that are not finite as absent.
fn compact<S: Serializer>(values: &[Option<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(values.len()))?;
    for value in values {
        match value.filter(|value| value.is_finite()) {
            // Below 2^53 every whole number is exact in both types.
            Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => sequence.serialize_element(&(value as i64))?,
            Some(value) => sequence.serialize_element(&rounded(value, DIGITS))?,
            None => sequence.serialize_element(&None::<f64>)?,
        }
    }
    sequence.end()
}

/// Rounds a number to this many significant digits.
pub fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.max(1) - 1).parse().expect("a written number can be read")
}

/// Cuts a number that is not below 0 to this many significant digits.
fn cut(value: f64, digits: usize) -> f64 {
    let near = rounded(value, digits);
    if near <= value || !near.is_finite() {
        return near;
    }
    let last_digit = 10f64.powi(near.log10().floor() as i32 + 1 - digits as i32);
    rounded(near - last_digit, digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_names_stand_once() {
        let column = |values| Column { name: "a", title: "A", unit: "1", values };
        let numbers = column(Values::Numbers(vec![Some(3.0), Some(0.123_456_789), None, Some(f64::NAN)]));
        let written = serde_json::to_value(&numbers).expect("JSON");
        assert_eq!(written["values"]["numbers"].to_string(), "[3,0.1234568,null,null]");
        let names = Column::names("b", "B", [Some("x"), None, Some("y"), Some("x")]);
        let written = serde_json::to_value(&names).expect("JSON");
        assert_eq!(written["values"]["names"].to_string(), r#"{"rows":[0,null,1,0],"texts":["x","y"]}"#);
    }

    #[test]
    fn times_are_cut_to_seconds_that_have_passed() {
        for ns in [0, 2_600_000_000, 2_339_999_999_999, 99_999_999_999_999, 100_000_960_000_000, 1_234_567_890_123_456]
        {
            let column = Column::numbers("a", "A", "s", [ns as f64 / 1e9]);
            let Values::Numbers(values) = &column.values else { unreachable!("a column of numbers") };
            assert_eq!(values[0].expect("a time").floor() as u64, ns / 1_000_000_000, "{ns} ns");
        }
        let exact = Column::numbers("a", "A", "s", [2.6, 0.125, 100_000.5]);
        assert_eq!(
            serde_json::to_value(&exact).expect("JSON")["values"]["numbers"].to_string(),
            "[2.6,0.125,100000.5]"
        );
    }

    #[test]
    fn a_name_has_its_own_number_in_a_figure_that_lacks_others() {
        let mut names = Column::names("run", "run", [Some("c"), Some("b"), None]);
        names.number_as(&["a", "b", "c"]);
        let written = serde_json::to_value(&names).expect("JSON");
        assert_eq!(written["values"]["names"].to_string(), r#"{"rows":[2,1,null],"texts":["a","b","c"]}"#);
    }
}
