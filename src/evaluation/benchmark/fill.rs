//! Placeholder substitution in prompt templates.

/// Replaces each `{name}` in `template` by its value. Inserted values are not searched again, so that a question with
/// braces stays as it is. A name without a value is left in place.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let placeholder = values.iter().find_map(|(name, value)| {
            let after = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match placeholder {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
            // A brace that belongs to the text.
            None => {
                text.push('{');
                rest = &from[1..];
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_searched_again() {
        let values = [("a", "{b}"), ("b", "{a}")];
        assert_eq!(fill("{a}-{b}-{c}-{", &values), "{b}-{a}-{c}-{");
        assert_eq!(fill("{{a}} é", &values), "{{b}} é");
    }
}
