//! A figure: columns of numbers or names, what they say, and how they are drawn.
//!
//! What is drawn, tabled and downloaded are the same columns.

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

/// Significant digits of a figure's numbers; the ledger has all of them.
const DIGITS: usize = 7;

/// Part of a report that answers one question.
#[derive(Debug, Serialize)]
pub struct Section {
    pub title: &'static str,
    pub figures: Vec<Figure>,
}

/// Columns of one length, and how they are drawn.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// Name of the downloaded file, unique within a run.
    pub id: &'static str,
    pub title: String,
    /// What it shows, and from which columns of the ledger.
    pub caption: String,
    pub draw: Draw,
    pub columns: Vec<Column>,
    /// What was left out or drawn together, and what stands out.
    pub notes: Vec<String>,
}

/// How columns are drawn; they are named by [`Column::name`].
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Draw {
    /// As a table alone.
    Table,
    /// Lines against one of several columns, which the reader chooses; a line a value of `split`. `band` shades between
    /// two.
    Lines { x: Vec<&'static str>, y: Vec<&'static str>, split: Option<&'static str>, band: Option<[&'static str; 2]> },
    /// Bars, on each other where they are parts of one whole, else side by side.
    Bars { x: &'static str, y: Vec<&'static str>, stacked: bool },
    /// A point a row; `diagonal` adds the line on which both are equal.
    Points { x: &'static str, y: &'static str, split: Option<&'static str>, diagonal: bool },
    /// The phases of tasks, a line a client.
    Timeline,
}

/// One column.
#[derive(Debug, Serialize)]
pub struct Column {
    /// Name in downloads: snake case, with the unit last.
    pub name: &'static str,
    /// Name on the page.
    pub title: &'static str,
    pub unit: &'static str,
    pub values: Values,
}

/// What stands in a column.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    #[serde(serialize_with = "compact")]
    Numbers(Vec<Option<f64>>),
    /// Each row names one of a few texts.
    Names { texts: Vec<String>, rows: Vec<Option<u32>> },
}

impl Column {
    /// A column of numbers.
    pub fn numbers<V: Into<Option<f64>>>(
        name: &'static str,
        title: &'static str,
        unit: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = Values::Numbers(values.into_iter().map(Into::into).collect());
        Self { name, title, unit, values }
    }

    /// A column of whole numbers.
    pub fn counts<V: Into<u64>>(
        name: &'static str,
        title: &'static str,
        unit: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self::numbers(name, title, unit, values.into_iter().map(|value| value.into() as f64))
    }

    /// A column of texts, each kept once, in the order of their first row.
    pub fn names<T: Into<String>>(
        name: &'static str,
        title: &'static str,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Self {
        let mut places = std::collections::BTreeMap::new();
        let mut texts = Vec::new();
        let mut place = |text: T| {
            let text = text.into();
            *places.entry(text.clone()).or_insert_with(|| {
                texts.push(text);
                texts.len() as u32 - 1
            })
        };
        let rows = values.into_iter().map(|value| value.map(&mut place)).collect();
        Self { name, title, unit: "name", values: Values::Names { texts, rows } }
    }

    /// Adds the rows of a column of the same kind.
    pub fn append(&mut self, more: Self) {
        match (&mut self.values, more.values) {
            (Values::Numbers(values), Values::Numbers(more)) => values.extend(more),
            (Values::Names { texts, rows }, Values::Names { texts: others, rows: more }) => {
                let places: Vec<u32> = others.into_iter().map(|text| place_of(texts, text)).collect();
                rows.extend(more.into_iter().map(|row| row.map(|row| places[row as usize])));
            }
            _ => unreachable!("columns of one name hold one kind of values"),
        }
    }

    /// Whether no row has a value.
    pub fn is_blank(&self) -> bool {
        match &self.values {
            Values::Numbers(values) => values.iter().all(Option::is_none),
            Values::Names { rows, .. } => rows.iter().all(Option::is_none),
        }
    }
}

/// The place of a text among few others, to which it is added where it is new.
fn place_of(texts: &mut Vec<String>, text: String) -> u32 {
    let known = texts.iter().position(|known| *known == text);
    known.unwrap_or_else(|| {
        texts.push(text);
        texts.len() - 1
    }) as u32
}

/// Whole numbers without a point, others with as many digits as are read; what is not finite is absent.
fn compact<S: Serializer>(values: &[Option<f64>], serializer: S) -> Result<S::Ok, S::Error> {
    let mut sequence = serializer.serialize_seq(Some(values.len()))?;
    for value in values {
        match value.filter(|value| value.is_finite()) {
            Some(value) if value.fract() == 0.0 && value.abs() < 9e15 => sequence.serialize_element(&(value as i64))?,
            Some(value) => sequence.serialize_element(&rounded(value, DIGITS))?,
            None => sequence.serialize_element(&None::<f64>)?,
        }
    }
    sequence.end()
}

/// A number with this many significant digits.
pub fn rounded(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits.max(1) - 1).parse().expect("a written number can be read")
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
}
