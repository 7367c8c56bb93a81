//! Errors in setting up a judge. The failure of one prompt is a [`super::Verdict`].

/// An invalid setting of a judge: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A value out of range.
    #[error("failed to set up the judge: {setting} is {value}; {allowed}")]
    Setting { setting: &'static str, value: String, allowed: &'static str },
    /// A key with characters that no HTTP header may contain. The message does not show it.
    #[error("failed to set up the judge: the key in {variable} holds characters that no HTTP header can carry")]
    Key { variable: String },
}
