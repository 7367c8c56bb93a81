//! A repository and its revision, validated before they become part of paths and URLs.

use std::fmt;

use super::error::HubError;

/// The default branch.
const MAIN: &str = "main";

/// A repository at a revision.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub repository: String,
    pub revision: String,
}

impl Source {
    /// Validates both names.
    ///
    /// # Errors
    /// [`HubError::Name`].
    pub fn new(repository: &str, revision: Option<&str>) -> Result<Self, HubError> {
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) {
            let allowed = "\"org/name\" of letters, digits, \".\", \"_\" and \"-\"";
            return Err(HubError::Name { part: "repository", value: repository.into(), allowed });
        }
        let revision = revision.unwrap_or(MAIN);
        if !revision.split('/').all(is_plain) {
            let allowed = "a branch, a tag or a commit";
            return Err(HubError::Name { part: "revision", value: revision.into(), allowed });
        }
        Ok(Self { repository: repository.into(), revision: revision.into() })
    }

    /// Returns whether the revision is a full commit hash, which always denotes the same state of the repository.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.revision)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (revision {})", self.repository, self.revision)
    }
}

/// Returns whether a name is safe as one component of a path and needs no escape in a URL.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Returns whether the text is a full commit hash of git: 40 hexadecimal digits.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_refused() {
        for name in ["", "/", "a/b/c", "../x", "a/..", "a b", "a/b?c", "a\\b", "/etc"] {
            let error = Source::new(name, None).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("failed to name a model of the hub: the repository is {name:?}")),
                "{error}"
            );
        }
        for revision in ["", "../main", "a//b", "a/..", "x y", "#"] {
            let error = Source::new("org/name", Some(revision)).unwrap_err().to_string();
            assert!(error.contains(&format!("the revision is {revision:?}")), "{error}");
        }
    }

    #[test]
    fn only_a_full_hash_is_a_commit() {
        let source = |revision| Source::new("meta-llama/Llama-2-7b_hf.v1", revision).unwrap();
        assert_eq!(source(None).revision, "main");
        assert!(source(Some("0123456789abcdef0123456789abcdef01234567")).is_commit());
        assert!(!source(Some("0123456")).is_commit());
        assert!(!source(Some("refs/pr/1")).is_commit());
    }
}
