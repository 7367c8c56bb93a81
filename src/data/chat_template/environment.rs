//! The Jinja environment, configured as in Transformers, so that a template renders the same text in both.

use chrono::format::{Item, StrftimeItems};
use chrono::{NaiveDate, NaiveTime};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};

use super::generation_tags::{MARKER, marked_text, with_filters};
use super::json::Style;
use super::python_text;
use crate::store::without_panic;

/// Name of the only template of an environment.
pub(super) const TEMPLATE: &str = "chat_template";

/// [byte] -- Longest template that is read. The longest ones of models have about 20,000 bytes.
const SOURCE_BYTES_MAX: usize = 1 << 16;

/// [byte] -- Stack for each byte of a template that is parsed: the parser calls itself for every operator of an expression, which
/// has one byte at least.
const STACK_PER_BYTE: usize = 4 << 10;

/// [byte] -- Stack of a parser besides.
const STACK_BYTES_MIN: usize = 2 << 20;

/// Work that rendering one dialogue may take: instructions, and one for each 64 bytes of text that are made. Templates of models
/// take some thousands.
pub(super) const FUEL: u64 = 5_000_000;

/// [space] -- Largest indentation of `tojson`.
const INDENT_MAX: usize = 100;

/// Creates an environment with `source` as [`TEMPLATE`]. Blocks remove the white space around them, strings have the
/// methods of Python's, and `raise_exception` and the `tojson` of Transformers are defined. `strftime_now` is defined if there
/// is a `date`, of which it writes the first second.
///
/// # Errors
/// A template that is not valid Jinja, or longer than any of a model.
pub(super) fn environment(source: &str, date: Option<NaiveDate>) -> Result<Environment<'static>, Error> {
    if source.len() > SOURCE_BYTES_MAX {
        let message = format!("it has {} bytes, and at most {SOURCE_BYTES_MAX} are read", source.len());
        return Err(Error::new(ErrorKind::SyntaxError, message));
    }
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(STACK_BYTES_MIN + STACK_PER_BYTE * source.len());
        let parser = parser.spawn_scoped(scope, || without_panic(|| parsed(source, date)));
        let failed = |what: String| Error::new(ErrorKind::SyntaxError, format!("it cannot be parsed: {what}"));
        let parsed = parser.map_err(|error| failed(error.to_string()))?.join();
        parsed.unwrap_or_else(|_| Err("its parser failed".to_owned())).map_err(failed)?
    })
}

fn parsed(source: &str, date: Option<NaiveDate>) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    python_text::add_to(&mut environment);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment.add_filter(MARKER, |text: String| marked_text(&text));
    if let Some(date) = date {
        environment.add_function("strftime_now", move |format: &str| formatted(date, format));
    }
    environment.add_template_owned(TEMPLATE, with_filters(source))?;
    Ok(environment)
}

/// Returns the beginning of a day as Python's `datetime.strftime` writes it.
fn formatted(date: NaiveDate, format: &str) -> Result<String, Error> {
    let items: Vec<Item> = StrftimeItems::new(format).collect();
    if items.contains(&Item::Error) {
        let message = format!("strftime_now: the format {format:?} is not known");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(date.and_time(NaiveTime::MIN).format_with_items(items.into_iter()).to_string())
}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// Returns `json.dumps(value, ensure_ascii=False, indent, separators, sort_keys)`. Unlike the filter of Jinja itself,
/// it does not escape HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(to_json_error("ensure_ascii=true is not supported"));
    }
    let indent: Option<usize> = options.get("indent")?;
    if indent.is_some_and(|indent| indent > INDENT_MAX) {
        return Err(to_json_error(&format!("an indentation of more than {INDENT_MAX} is not supported")));
    }
    let style = Style::new(indent, options.get("separators")?);
    let is_sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    style.write(value, is_sorted).map_err(|error| to_json_error(&error.to_string()))
}

fn to_json_error(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"))
}
