//! The Jinja environment, configured as in Transformers, so that a template renders the same text in both.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json::Style;

/// Name of the only template of an environment.
pub(super) const TEMPLATE: &str = "chat_template";

/// Creates an environment with `source` as [`TEMPLATE`]. Blocks remove the white space around them, strings have the
/// methods of Python's, and `raise_exception` and the `tojson` of Transformers are defined.
///
/// # Errors
/// A template that is not valid Jinja.
pub(super) fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment.add_template_owned(TEMPLATE, without_generation_tags(source))?;
    Ok(environment)
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
    let style = Style::new(options.get("indent")?, options.get("separators")?);
    let is_sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    style.write(value, is_sorted).map_err(|error| to_json_error(&error.to_string()))
}

fn to_json_error(message: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"))
}

/// Replaces `{% generation %}`, which marks answers for the loss mask of Transformers and renders nothing. The answers
/// are found in another way here, so the tag becomes `{% if true %}`, which has the same effect on white space.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        let Some(end) = tag.find("%}") else { break };
        // The tag may have white-space control, as in `{%- generation -%}`; only the word is replaced.
        let inner = &tag[..end];
        let word = inner.trim_matches(['-', '+']).trim();
        let replacement = match word {
            "generation" => inner.replace(word, "if true"),
            "endgeneration" => inner.replace(word, "endif"),
            _ => inner.to_owned(),
        };
        result.push_str(before);
        result.push_str(&replacement);
        rest = &tag[end..];
    }
    result + rest
}
