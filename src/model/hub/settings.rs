//! The addresses of the hub and the cache, and the offline mode.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::HubError;
use crate::store::read_text_limited;

/// The hub that is used if HF_ENDPOINT is not set.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// The patience if HF_HUB_DOWNLOAD_TIMEOUT is not set.
const PATIENCE: Duration = Duration::from_secs(60);

/// A hub and the local cache of its models.
#[derive(Clone)]
pub struct Hub {
    /// URL without a trailing slash.
    pub endpoint: String,
    /// The folder that contains `models--org--name`.
    pub cache: PathBuf,
    /// Folder for notes on contents of a cache that cannot be written to, so that they are not read again each time.
    pub notes: Option<PathBuf>,
    /// Access token for private and gated repositories. It is sent to the endpoint only, never to a host to which it
    /// redirects.
    pub token: Option<String>,
    /// Whether to use the cache only.
    pub is_offline: bool,
    /// Time after which a connection that cannot be made, a server that says nothing and a transfer slower than 1 KiB/s are given
    /// up.
    pub patience: Duration,
}

impl Hub {
    /// Reads the configuration from the environment, with the variables of huggingface_hub:
    ///
    /// * HF_ENDPOINT, or else the public hub;
    /// * HF_HUB_CACHE, or else `hub` in HF_HOME, or else `~/.cache/huggingface/hub`, with XDG_CACHE_HOME
    ///   in place of `~/.cache`;
    /// * HF_HUB_OFFLINE: `1`, `true`, `yes`, `on` or their opposites;
    /// * HF_TOKEN, or else the file `token` in HF_HOME;
    /// * HF_HUB_DOWNLOAD_TIMEOUT in seconds, or else 60.
    ///
    /// Notes on a read-only cache are in `~/.cache/fedreplay/hub`.
    ///
    /// An empty variable counts as not set.
    ///
    /// # Errors
    /// [`HubError::Setting`]: an endpoint that is not a URL, an invalid value of HF_HUB_OFFLINE or HF_HUB_DOWNLOAD_TIMEOUT, or no home
    /// directory for the cache.
    pub fn from_environment() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Reads the configuration from any environment, as [`Hub::from_environment`] does from the program's own.
    pub(super) fn from_variables(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let variables = Variables { read };
        let endpoint = match variables.text("HF_ENDPOINT") {
            Some(url) => endpoint(&url)?,
            None => PUBLIC_ENDPOINT.into(),
        };
        let home = variables.home();
        let cache = match (variables.path("HF_HUB_CACHE"), &home) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join("hub"),
            (None, None) => {
                return Err(HubError::Setting { variable: "HF_HOME", value: String::new(), allowed: "a folder" });
            }
        };
        let notes = variables.user_cache().map(|cache| cache.join("fedreplay/hub"));
        let token = variables.text("HF_TOKEN").or_else(|| stored_token(&home?));
        if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(HubError::Setting {
                variable: "HF_TOKEN",
                value: "(hidden)".into(),
                allowed: "a token of ASCII letters, digits and signs",
            });
        }
        let is_offline = match variables.text("HF_HUB_OFFLINE") {
            Some(word) => switch(&word)?,
            None => false,
        };
        let patience = match variables.text("HF_HUB_DOWNLOAD_TIMEOUT") {
            Some(seconds) => timeout(&seconds)?,
            None => PATIENCE,
        };
        Ok(Self { endpoint, cache, notes, token, is_offline, patience })
    }
}

/// The variables of an environment, in which an empty variable counts as not set.
struct Variables<F> {
    read: F,
}

impl<F: Fn(&str) -> Option<OsString>> Variables<F> {
    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.read)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Option<String> {
        let value = (self.read)(name).filter(|value| !value.is_empty())?;
        Some(value.to_string_lossy().trim().to_owned())
    }

    /// Returns the folder of Hugging Face's files.
    fn home(&self) -> Option<PathBuf> {
        if let Some(home) = self.path("HF_HOME") {
            return Some(home);
        }
        self.user_cache().map(|cache| cache.join("huggingface"))
    }

    /// Returns the folder of the user's caches.
    fn user_cache(&self) -> Option<PathBuf> {
        self.path("XDG_CACHE_HOME").or_else(|| self.path("HOME").map(|home| home.join(".cache")))
    }
}

/// Reads the token that `huggingface-cli login` stores.
fn stored_token(home: &Path) -> Option<String> {
    let text = read_text_limited(&home.join("token")).ok()?;
    let token = text.trim();
    if token.is_empty() { None } else { Some(token.to_owned()) }
}

/// Hides the token from messages and logs.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, cache, notes, token, is_offline, patience } = self;
        let token = token.as_ref().map(|_| "(hidden)");
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("notes", notes)
            .field("token", &token)
            .field("is_offline", is_offline)
            .field("patience", patience)
            .finish()
    }
}

fn endpoint(url: &str) -> Result<String, HubError> {
    let url = url.trim_end_matches('/');
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    // The text before an @ may be a password, and so may a query; they are not repeated.
    if rest.contains(['@', '?', '#']) {
        return Err(HubError::Setting {
            variable: "HF_ENDPOINT",
            value: "(hidden)".into(),
            allowed: "a URL without user name, password and query: the token comes from HF_TOKEN",
        });
    }
    match url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) {
        Some(host) if !host.is_empty() => Ok(url.into()),
        _ => Err(HubError::Setting {
            variable: "HF_ENDPOINT",
            value: url.into(),
            allowed: "a URL that begins with https:// or http://",
        }),
    }
}

fn switch(word: &str) -> Result<bool, HubError> {
    match word.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(HubError::Setting {
            variable: "HF_HUB_OFFLINE",
            value: word.into(),
            allowed: "1, true, yes or on, or 0, false, no or off",
        }),
    }
}

fn timeout(seconds: &str) -> Result<Duration, HubError> {
    match seconds.parse::<u64>() {
        Ok(count @ 1..=86_400) => Ok(Duration::from_secs(count)),
        _ => Err(HubError::Setting {
            variable: "HF_HUB_DOWNLOAD_TIMEOUT",
            value: seconds.into(),
            allowed: "a whole number of seconds from 1 to 86400",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parsed(variables: &[(&str, &str)]) -> Result<Hub, HubError> {
        Hub::from_variables(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_environment_is_read_as_huggingface_hub_reads_it() {
        let hub = parsed(&[("HOME", "/home/a")]).unwrap();
        assert_eq!(hub.endpoint, "https://huggingface.co");
        assert_eq!(hub.cache, Path::new("/home/a/.cache/huggingface/hub"));
        assert!(!hub.is_offline && hub.token.is_none());
        assert_eq!(hub.notes.as_deref(), Some(Path::new("/home/a/.cache/fedreplay/hub")));
        let hub = parsed(&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/x"), ("HF_HUB_OFFLINE", "YES")]).unwrap();
        assert_eq!((hub.cache.as_path(), hub.is_offline), (Path::new("/x/huggingface/hub"), true));
        let hub = parsed(&[
            ("HOME", "/home/a"),
            ("HF_HOME", "/h"),
            ("HF_ENDPOINT", "http://127.0.0.1:8080/"),
            ("HF_HUB_OFFLINE", "0"),
            ("HF_TOKEN", " hf_x\n"),
        ])
        .unwrap();
        assert_eq!((hub.endpoint.as_str(), hub.cache.as_path()), ("http://127.0.0.1:8080", Path::new("/h/hub")));
        assert_eq!((hub.token.as_deref(), hub.is_offline), (Some("hf_x"), false));
        assert_eq!(hub.patience, Duration::from_secs(60));
        let hub = parsed(&[("HF_HOME", "/h"), ("HF_HUB_DOWNLOAD_TIMEOUT", "7")]).unwrap();
        assert_eq!(hub.patience, Duration::from_secs(7));
        let hub = parsed(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c"), ("HF_ENDPOINT", "")]).unwrap();
        assert_eq!((hub.endpoint.as_str(), hub.cache.as_path()), ("https://huggingface.co", Path::new("/c")));
    }

    #[test]
    fn a_kept_token_is_used_and_never_shown() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_secret\n").unwrap();
        let hub = parsed(&[("HF_HOME", home.path().to_str().unwrap())]).unwrap();
        assert_eq!(hub.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{hub:?}").contains("secret"));
    }

    #[test]
    fn unusable_variables_are_named_with_what_they_may_hold() {
        let refused = |variables: &[(&str, &str)]| parsed(variables).unwrap_err().to_string();
        assert_eq!(
            refused(&[("HOME", "/h"), ("HF_HUB_OFFLINE", "maybe")]),
            "failed to read the environment: HF_HUB_OFFLINE is \"maybe\" and must be 1, true, yes or on, or 0, false, no or off"
        );
        assert!(
            refused(&[("HOME", "/h"), ("HF_ENDPOINT", "huggingface.co")]).contains("HF_ENDPOINT is \"huggingface.co\"")
        );
        assert!(refused(&[("HOME", "/h"), ("HF_ENDPOINT", "https://")]).contains("HF_ENDPOINT"));
        for seconds in ["0", "-1", "1.5", "soon", "18446744073709551615"] {
            let text = refused(&[("HOME", "/h"), ("HF_HUB_DOWNLOAD_TIMEOUT", seconds)]);
            assert!(
                text.contains(&format!("HF_HUB_DOWNLOAD_TIMEOUT is \"{seconds}\" and must be a whole number")),
                "{text}"
            );
        }
        assert_eq!(
            refused(&[("HOME", "/h"), ("HF_TOKEN", "hf_a\nhf_b")]),
            "failed to read the environment: HF_TOKEN is \"(hidden)\" and must be a token of ASCII letters, digits and signs"
        );
        assert!(refused(&[]).contains("HF_HOME is \"\" and must be a folder"));
    }
}
