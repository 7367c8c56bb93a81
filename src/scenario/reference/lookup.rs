//! Lookup of the fields that a path names.

use serde_json::Value;

use super::{Schemas, default_of, fields, variants};
use crate::scenario::error::nearest;

/// Field at a path.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub path: String,
    pub schema: &'a Value,
    /// Value if the field is omitted; `None` if it is required.
    pub default: Option<Value>,
}

impl<'a> Place<'a> {
    /// Returns the place of a field of `owner`.
    pub(super) fn of_field(name: &str, schema: &'a Value, owner: &Value) -> Self {
        Self { path: name.to_owned(), schema, default: default_of(owner, name, schema) }
    }

    fn below(&self, name: &str, schema: &'a Value, default: Option<Value>) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, schema, default }
    }
}

impl Schemas {
    /// Returns all places that the segments name.
    ///
    /// # Errors
    /// A message about the first segment that names nothing.
    pub(super) fn find(&self, segments: &[&str]) -> Result<Vec<Place<'_>>, String> {
        // Descends from the root, one segment at a time; an omitted variant makes one place into several.
        let mut places = vec![Place { path: String::new(), schema: &self.root, default: None }];
        for segment in segments {
            let next: Vec<_> = places.iter().flat_map(|place| self.enter(place, segment)).collect();
            if next.is_empty() {
                return Err(self.unknown(&places, segment));
            }
            places = next;
        }
        Ok(places)
    }

    /// Returns what a segment names below a place: a field, a variant, a field of a variant whose name is omitted, or
    /// an element.
    fn enter<'a>(&'a self, place: &Place<'a>, segment: &str) -> Vec<Place<'a>> {
        let schema = self.resolved(place.schema);
        if let Some((_, field)) = fields(schema).into_iter().find(|(name, _)| *name == segment) {
            return vec![place.below(segment, field, default_of(schema, segment, field))];
        }
        let variants = variants(schema);
        if let Some((name, described, content)) = variants.iter().find(|(name, ..)| *name == segment) {
            return vec![place.below(name, content.unwrap_or(described), None)];
        }
        let mut found = Vec::new();
        for (variant, _, content) in variants {
            let Some(content) = content else { continue };
            if let Some((_, field)) = fields(content).into_iter().find(|(name, _)| *name == segment) {
                let default = default_of(content, segment, field);
                found.push(place.below(variant, content, None).below(segment, field, default));
            }
        }
        if !found.is_empty() {
            return found;
        }
        match (&schema["items"], &schema["additionalProperties"]) {
            (items @ Value::Object(_), _) => self.enter_content(place.below("N", items, None), segment, is_index),
            (_, values @ Value::Object(_)) => self.enter_content(place.below("*", values, None), segment, |_| true),
            _ => vec![],
        }
    }

    /// Returns the field of an element of a list or map that a segment names, or the element if the segment is its
    /// name.
    fn enter_content<'a>(&'a self, content: Place<'a>, segment: &str, is_name: fn(&str) -> bool) -> Vec<Place<'a>> {
        let inside = self.enter(&content, segment);
        if inside.is_empty() && is_name(segment) { vec![content] } else { inside }
    }

    fn unknown(&self, places: &[Place], segment: &str) -> String {
        let names: Vec<&str> = places.iter().flat_map(|place| self.names(place.schema)).collect();
        let owner = match places[0].path.as_str() {
            "" => "a scenario".to_owned(),
            path => format!("`{path}`"),
        };
        match nearest(segment, names.iter().copied()) {
            Some(name) => format!("{owner} has no `{segment}`; did you mean `{name}`?"),
            None if names.is_empty() => format!("{owner} has no fields, so no `{segment}`"),
            None => format!("{owner} has no `{segment}`, only {}", names.join(", ")),
        }
    }

    /// Returns every name that may follow in a path: fields, variants, and fields of variants.
    fn names<'a>(&'a self, schema: &'a Value) -> Vec<&'a str> {
        let schema = self.content(self.resolved(schema));
        let variants = variants(schema);
        let mut names: Vec<&str> = fields(schema).into_iter().map(|(name, _)| name).collect();
        names.extend(variants.iter().map(|(name, ..)| *name));
        for content in variants.iter().filter_map(|(.., content)| *content) {
            names.extend(fields(content).into_iter().map(|(name, _)| name));
        }
        names
    }
}

fn is_index(segment: &str) -> bool {
    segment == "N" || segment.parse::<usize>().is_ok()
}
