//! Jinja as Transformers sets it up, so that a template writes the same text here and there.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::json::Style;

/// The one template of an environment.
pub(super) const TEMPLATE: &str = "chat_template";

/// An environment with `source` as [`TEMPLATE`]: blocks swallow the white space around them, strings have Python's
/// methods, and `raise_exception` and Transformers' `tojson` are there.
///
/// # Errors
/// A template that is not Jinja.
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

/// `json.dumps(value, ensure_ascii=False, indent, separators, sort_keys)`: unlike Jinja's own, it escapes no HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let fail = |message: &str| Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"));
    if options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(fail("ensure_ascii=true is not supported"));
    }
    let style = Style::new(options.get("indent")?, options.get("separators")?);
    let is_sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    style.write(value, is_sorted).map_err(|error| fail(&error.to_string()))
}

/// `{% generation %}` marks answers for Transformers' own mask and writes nothing. Ours comes from elsewhere, so the
/// tag becomes a condition that always holds and treats white space alike.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        let Some(end) = tag.find("%}") else { break };
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
