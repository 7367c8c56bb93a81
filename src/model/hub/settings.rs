//! Where the hub and the cache are, and whether the hub may be asked.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::error::HubError;

/// The hub that is meant where HF_ENDPOINT says nothing.
const PUBLIC_ENDPOINT: &str = "https://huggingface.co";

/// A hub, and the cache in front of it.
#[derive(Clone)]
pub struct Hub {
    /// URL without a final slash.
    pub endpoint: String,
    /// The folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// What opens private and gated repositories. Sent to the endpoint only, never to where it redirects.
    pub token: Option<String>,
    /// Whether the cache alone must do.
    pub is_offline: bool,
}

impl Hub {
    /// The hub that the environment describes, with the meaning that huggingface_hub gives to these variables:
    ///
    /// * HF_ENDPOINT, else the public hub;
    /// * HF_HUB_CACHE, else `hub` in HF_HOME, else `~/.cache/huggingface/hub` (XDG_CACHE_HOME in place of `~/.cache`);
    /// * HF_HUB_OFFLINE: `1`, `true`, `yes`, `on` or their opposites;
    /// * HF_TOKEN, else the file `token` in HF_HOME.
    ///
    /// An empty variable counts as absent.
    ///
    /// # Errors
    /// [`HubError::Setting`]: an endpoint that is no URL, another word for offline, or no home to keep a cache in.
    pub fn from_environment() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// [`Hub::from_environment`] over any environment.
    pub(super) fn from_variables(read: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let read = |name: &str| read(name).filter(|value| !value.is_empty());
        let text = |name: &str| read(name).map(|value| value.to_string_lossy().trim().to_owned());
        let home = read("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| read("XDG_CACHE_HOME").map(|cache| PathBuf::from(cache).join("huggingface")))
            .or_else(|| read("HOME").map(|home| PathBuf::from(home).join(".cache/huggingface")));
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let cache = read("HF_HUB_CACHE").map(PathBuf::from).or_else(|| in_home("hub"));
        let no_home = HubError::Setting { variable: "HF_HOME", value: String::new(), allowed: "a folder" };
        Ok(Self {
            endpoint: text("HF_ENDPOINT").map_or(Ok(PUBLIC_ENDPOINT.into()), |url| endpoint(&url))?,
            cache: cache.ok_or(no_home)?,
            token: text("HF_TOKEN").or_else(|| {
                let kept = std::fs::read_to_string(in_home("token")?).ok()?;
                Some(kept.trim().to_owned()).filter(|token| !token.is_empty())
            }),
            is_offline: text("HF_HUB_OFFLINE").map_or(Ok(false), |word| switch(&word))?,
        })
    }
}

/// The token stays out of messages and logs.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, cache, token, is_offline } = self;
        let token = token.as_ref().map(|_| "(hidden)");
        f.debug_struct("Hub")
            .field("endpoint", endpoint)
            .field("cache", cache)
            .field("token", &token)
            .field("is_offline", is_offline)
            .finish()
    }
}

fn endpoint(url: &str) -> Result<String, HubError> {
    let url = url.trim_end_matches('/');
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
        assert!(refused(&[]).contains("HF_HOME is \"\" and must be a folder"));
    }
}
