//! A key that stays out of files, logs and messages.

use std::fmt;

use super::error::JudgeError;

/// [byte] Shorter keys are placeholders of local servers, such as `EMPTY`; to hide them would hide words.
const SECRET_BYTES_MIN: usize = 8;

/// What stands in place of a key.
const HIDDEN: &str = "(hidden)";

/// The key of an endpoint.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The key in an environment variable; an empty one counts as absent.
    ///
    /// # Errors
    /// [`JudgeError::Key`].
    pub fn from_variable(variable: &str) -> Result<Option<Self>, JudgeError> {
        match std::env::var_os(variable) {
            Some(key) => Self::new(&key.to_string_lossy(), variable),
            None => Ok(None),
        }
    }

    pub(super) fn new(key: &str, variable: &str) -> Result<Option<Self>, JudgeError> {
        let key = key.trim();
        match key.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Some(Self(key.to_owned())).filter(|_| !key.is_empty())),
            false => Err(JudgeError::Key { variable: variable.to_owned() }),
        }
    }

    /// The header that opens the endpoint.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `text` without the key: some endpoints repeat what they were sent.
    pub(super) fn hide_in(&self, text: &str) -> String {
        if self.0.len() < SECRET_BYTES_MIN { text.to_owned() } else { text.replace(&self.0, HIDDEN) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_written_out() {
        let key = Secret::new(" sk-0123456789\n", "KEY").unwrap().unwrap();
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "(hidden) Some((hidden))");
        assert_eq!(key.hide_in("bad key sk-0123456789!"), "bad key (hidden)!");
        assert_eq!(key.bearer(), "Bearer sk-0123456789");
        assert!(Secret::new(" ", "KEY").unwrap().is_none());
    }

    #[test]
    fn a_key_that_would_break_the_header_is_refused_and_not_shown() {
        let error = Secret::new("sk-1\r\nX: y", "KEY").unwrap_err();
        let texts = format!("{error} {error:?}");
        assert!(texts.contains("KEY") && !texts.contains("sk-1"), "{texts}");
    }

    #[test]
    fn placeholders_hide_no_words() {
        let key = Secret::new("EMPTY", "KEY").unwrap().unwrap();
        assert_eq!(key.hide_in("The list is EMPTY."), "The list is EMPTY.");
    }
}
