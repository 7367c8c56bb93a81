//! Places in a prompt, filled.

/// `template` with each `{name}` replaced by its value. What is filled in is never searched again, so that a question
/// about braces stays a question; a name without a value stays as it is.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let named = values.iter().find_map(|(name, value)| {
            let after = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match named {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
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
