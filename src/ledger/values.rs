//! Values of columns of names: the fixed sets that such a column holds, and the one conversion to and from its text.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use fedreplay_sim::{Outcome, Tally};

use super::schema::Cell;

/// Value of a column that holds one of a fixed set of names.
pub trait ColumnValue: Copy + 'static {
    /// All values of the column.
    const ALL: &'static [Self];

    /// Returns the text in the column.
    fn name(self) -> &'static str;

    /// Returns the value with this text in the column.
    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.name() == name)
    }
}

impl ColumnValue for Outcome {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

impl ColumnValue for Tally {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }
}

/// End of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoundEnd {
    /// A new model was made.
    #[default]
    Closed,
    /// No model was made.
    Failed,
}

impl ColumnValue for RoundEnd {
    const ALL: &'static [Self] = &[Self::Closed, Self::Failed];

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Failed => "failed",
        }
    }
}

/// Model that was evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvalSubject {
    /// The base model without an adapter.
    Base,
    /// The server's model.
    #[default]
    Global,
    /// The model of a client that trains alone.
    Local,
    /// A client's own model: the server's with the factors that it keeps, or the adapter that it trains next to the server's.
    Personal,
    /// The last model after some steps on the rows of a client.
    FineTuned,
}

impl ColumnValue for EvalSubject {
    const ALL: &'static [Self] = &[Self::Base, Self::Global, Self::Local, Self::Personal, Self::FineTuned];

    fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Global => "global",
            Self::Local => "local",
            Self::Personal => "personal",
            Self::FineTuned => "fine_tuned",
        }
    }
}

impl fmt::Display for EvalSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rows or questions that a model was evaluated on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// The scenario's test rows.
    #[default]
    Test,
    /// Rows that were held out of clients.
    HeldOut,
    /// All questions of a benchmark.
    Whole,
    /// A part of a benchmark, such as a category, by its name.
    Part(String),
}

impl Split {
    /// Returns the text in the column.
    pub fn name(&self) -> &str {
        match self {
            Self::Test => "test",
            Self::HeldOut => "held_out",
            Self::Whole => "all",
            Self::Part(name) => name,
        }
    }

    /// Returns the split of a row of losses with this text in the column.
    pub fn of_losses(name: &str) -> Option<Self> {
        [Self::Test, Self::HeldOut].into_iter().find(|split| split.name() == name)
    }

    /// Returns the split of a benchmark's row with this text in the column. Benchmarks name their parts freely, so that `test`
    /// is a part here.
    pub fn of_benchmark(name: &str) -> Self {
        if name == Self::Whole.name() { Self::Whole } else { Self::Part(name.to_owned()) }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Implements [`Cell`] for values of columns of names.
macro_rules! names {
    ($($value:ty),+) => {
        $(impl Cell for $value {
            const TYPE: DataType = DataType::Utf8;
            const NULLABLE: bool = false;
            fn array(values: Vec<Self>) -> ArrayRef {
                Arc::new(StringArray::from_iter_values(values.iter().map(|value| value.name())))
            }
        })+
    };
}

names!(Outcome, Tally, RoundEnd, EvalSubject, Split);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<V: ColumnValue + PartialEq + fmt::Debug>(names: &[&str]) {
        assert_eq!(V::ALL.iter().map(|value| value.name()).collect::<Vec<_>>(), names);
        for &value in V::ALL {
            assert_eq!(V::of_name(value.name()), Some(value));
        }
        assert_eq!(V::of_name("another"), None);
    }

    #[test]
    fn every_name_of_a_column_is_read_as_the_value_that_wrote_it() {
        check::<Tally>(&["counted", "late", "dropped", "cancelled"]);
        check::<RoundEnd>(&["closed", "failed"]);
        check::<EvalSubject>(&["base", "global", "local", "personal", "fine_tuned"]);
        check::<Outcome>(&[
            "counted",
            "late",
            "stale",
            "dropped_before_training",
            "dropped_during_training",
            "dropped_after_training",
            "crashed",
            "left",
            "unreachable",
            "out_of_memory",
            "cancelled",
            "discarded",
        ]);
    }

    #[test]
    fn a_benchmarks_part_named_test_is_no_test_rows() {
        assert_eq!(Split::of_losses("test"), Some(Split::Test));
        assert_eq!(Split::of_losses("held_out"), Some(Split::HeldOut));
        assert_eq!(Split::of_losses("all"), None);
        assert_eq!(Split::of_benchmark("all"), Split::Whole);
        assert_eq!(Split::of_benchmark("test"), Split::Part("test".into()));
    }
}
