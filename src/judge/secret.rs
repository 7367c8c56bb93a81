//! API keys that stay out of files, logs and messages.

use ureq::http::HeaderValue;

use super::types::JudgeError;
use crate::store::SecretText;

/// The API key of an endpoint.
#[derive(Clone, Debug)]
pub struct ApiKey(SecretText);

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
        Ok(if key.is_empty() { None } else { Some(Self(SecretText::new(key))) })
    }

    /// Returns the value of the `Authorization` header, which logs of requests do not show.
    pub(super) fn bearer(&self) -> HeaderValue {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0.expose()));
        let mut value = value.expect("a key has graphic ASCII characters alone");
        value.set_sensitive(true);
        value
    }

    /// Returns `text` without the key. Some endpoints repeat the request in their errors.
    pub(super) fn hide_in(&self, text: &str) -> String {
        self.0.hide_in(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_written_out() {
        let key = ApiKey::new(" sk-0123456789\n", "KEY").unwrap().unwrap();
        assert_eq!(format!("{key:?} {:?}", key.bearer()), "ApiKey((hidden)) Sensitive");
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
