//! Reference page of all tables and columns, generated from the declarations that write them.

use std::fmt::Write;

use arrow::datatypes::{Field, Schema, SchemaRef};

use super::{
    AggregationRow, ClientDataRow, EvaluationRow, EventRow, GenerationRow, LineageRow, PopulationRow, RepeatRow,
    RoundRow, SCHEMA_VERSION, Table, TaskRow, TimingRow,
};

const HEAD: &str = "\
# Ledger reference

The tables of a run, as Parquet under `ledger/TABLE/`, with type, unit and meaning of every column. This page is generated
from the program (`make docs`); each file carries the same text in its field metadata, under `unit` and `description`.
Columns that may be null are marked with `?`. Virtual time is in nanoseconds since the start of the run. A table may lie
in several files until its run is done, so read `ledger/TABLE/*.parquet`.
";

/// Returns the reference of all tables in Markdown.
pub fn reference() -> String {
    let mut page = format!("{HEAD}\nSchema version {SCHEMA_VERSION}.\n");
    let hashed: [(&str, &str, SchemaRef); 8] = [
        (PopulationRow::NAME, PopulationRow::MEANING, PopulationRow::schema()),
        (EventRow::NAME, EventRow::MEANING, EventRow::schema()),
        (TaskRow::NAME, TaskRow::MEANING, TaskRow::schema()),
        (RoundRow::NAME, RoundRow::MEANING, RoundRow::schema()),
        (EvaluationRow::NAME, EvaluationRow::MEANING, EvaluationRow::schema()),
        (GenerationRow::NAME, GenerationRow::MEANING, GenerationRow::schema()),
        (LineageRow::NAME, LineageRow::MEANING, LineageRow::schema()),
        (AggregationRow::NAME, AggregationRow::MEANING, AggregationRow::schema()),
    ];
    for (name, meaning, schema) in &hashed {
        section(&mut page, &format!("ledger/{name}"), meaning, schema);
    }
    section(&mut page, "ledger/repeats", RepeatRow::MEANING, &RepeatRow::schema());
    section(&mut page, "timing/orders.parquet", TimingRow::MEANING, &TimingRow::schema());
    section(&mut page, "data inspect --out", ClientDataRow::MEANING, &ClientDataRow::schema());
    page
}

/// Writes the section of one table.
fn section(page: &mut String, name: &str, meaning: &str, schema: &Schema) {
    let _ = writeln!(page, "\n## `{name}`\n\n{}\n", meaning.trim());
    let _ = writeln!(page, "| column | type | unit | meaning |\n|---|---|---|---|");
    for field in schema.fields() {
        let name = field.name();
        let kind = field.data_type();
        let null = if field.is_nullable() { "?" } else { "" };
        let unit = escaped(field, "unit");
        let description = escaped(field, "description");
        let _ = writeln!(page, "| `{name}` | {kind}{null} | {unit} | {description} |");
    }
}

/// Returns a text from a field's metadata, escaped for a cell of a Markdown table.
fn escaped(field: &Field, key: &str) -> String {
    field.metadata().get(key).map(|text| text.replace('|', "\\|")).unwrap_or_default()
}
