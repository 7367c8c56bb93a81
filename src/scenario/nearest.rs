//! The name that was likely meant by a misspelt one.

/// The nearest known name, if it is near; capitals do not tell names apart.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&found, &name.to_lowercase());
    let nearest = known.into_iter().min_by_key(|name| distance(name));
    nearest.filter(|name| distance(name) <= 1 + found.chars().count() / 3)
}

/// The end of a message about a misspelt name; empty where none is near.
pub(super) fn suggestion<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_suggested_and_what_is_far_is_not() {
        let known = ["Scaffold", "FedAvg", "FedProx"];
        for (found, expected) in [
            ("Scafold", Some("Scaffold")),
            ("SCAFFOLD", Some("Scaffold")),
            ("fedavg", Some("FedAvg")),
            ("Krum", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
        assert_eq!(suggestion("rate", []), "");
    }
}
