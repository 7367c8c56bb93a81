//! API keys that stay out of files, logs and messages.

use std::fmt;

use super::types::JudgeError;

/// [byte] -- Minimum length of a key that is hidden. Shorter ones are placeholders for local servers, such as `EMPTY`:
/// hiding them would hide ordinary words.
const SECRET_BYTES_MIN: usize = 8;

/// Replacement of a key in texts.
const HIDDEN: &str = "(hidden)";

/// The API key of an endpoint.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Reads the key from an environment variable. An empty one counts as absent.
    ///
    /// # Errors
    /// [`JudgeError::Key`] if the key has characters that no HTTP header may contain.
    pub fn from_variable(variable: &str) -> Result<Option<Self>, JudgeError> {
        match std::env::var_os(variable) {
            Some(key) => Self::new(&key.to_string_lossy(), variable),
            None => Ok(None),
        }
    }

    pub(super) fn new(key: &str, variable: &str) -> Result<Option<Self>, JudgeError> {
        let key = key.trim();
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(JudgeError::Key { variable: variable.to_owned() });
        }
        Ok(if key.is_empty() { None } else { Some(Self(key.to_owned())) })
    }

    /// Returns the value of the `Authorization` header.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Returns `text` without the key. Some endpoints repeat the request in their errors.
    pub(super) fn hide_in(&self, text: &str) -> String {
        if self.0.len() < SECRET_BYTES_MIN { text.to_owned() } else { text.replace(&self.0, HIDDEN) }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_written_out() {
        let key = ApiKey::new(" sk-0123456789\n", "KEY").unwrap().unwrap();
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "(hidden) Some((hidden))");
        assert_eq!(key.hide_in("bad key sk-0123456789!"), "bad key (hidden)!");
        assert_eq!(key.bearer(), "Bearer sk-0123456789");
        assert!(ApiKey::new(" ", "KEY").unwrap().is_none());
    }

    #[test]
    fn a_key_that_would_break_the_header_is_refused_and_not_shown() {
        let error = ApiKey::new("sk-1\r\nX: y", "KEY").unwrap_err();
        let texts = format!("{error} {error:?}");
        assert!(texts.contains("KEY") && !texts.contains("sk-1"), "{texts}");
    }

    #[test]
    fn placeholders_hide_no_words() {
        let key = ApiKey::new("EMPTY", "KEY").unwrap().unwrap();
        assert_eq!(key.hide_in("The list is EMPTY."), "The list is EMPTY.");
    }
}
