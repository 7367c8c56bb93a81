//! Why a judge cannot be asked at all. What happens to one inquiry is a [`super::Verdict`].

/// A setting that cannot be meant: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// A value outside of what is allowed.
    #[error("failed to set up the judge: {setting} is {value}; {allowed}")]
    Setting { setting: &'static str, value: String, allowed: &'static str },
    /// A key that no header can carry. The text does not show it.
    #[error("failed to set up the judge: the key in {variable} holds characters that no HTTP header can carry")]
    Key { variable: String },
}
