//! Names of files that follow from other names.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// [byte] -- Maximum length of a file name on Linux.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// Returns as many of a text's first characters as `bytes` hold.
pub(super) fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Returns a path next to another, under its name with `ending`. Of a long name only the beginning is taken, so that the whole has no
/// more bytes than a file name may have.
///
/// # Examples
///
/// ```
/// use std::path::Path;
///
/// use fedreplay::store::next_to;
///
/// assert_eq!(next_to(Path::new("runs/quickstart/"), ".csv"), Path::new("runs/quickstart.csv"));
/// assert_eq!(next_to(Path::new(&"r".repeat(255)), ".csv"), Path::new(&("r".repeat(251) + ".csv")));
/// ```
pub fn next_to(path: &Path, ending: &str) -> PathBuf {
    // An absolute path ends in a name even if the original path ends in `.`.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = absolute.file_name().unwrap_or_default();
    let bytes_max = NAME_BYTES_MAX.saturating_sub(ending.len());
    let kept = match name.to_str() {
        Some(text) => beginning(text, bytes_max).as_bytes(),
        None => &name.as_bytes()[..name.len().min(bytes_max)],
    };
    let next = OsString::from_vec([kept, ending.as_bytes()].concat());
    path.components().collect::<PathBuf>().with_file_name(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_next_to_another_is_no_longer_than_names_may_be() {
        for name in ["r".repeat(255), "\u{e9}".repeat(127)] {
            let next = next_to(Path::new("runs").join(&name).as_path(), ".perfetto.json");
            let text = next.to_str().unwrap();
            assert!(text.starts_with("runs/") && text.ends_with(".perfetto.json"), "{text}");
            assert!((254..=255).contains(&(text.len() - "runs/".len())), "{text}");
        }
        let not_text = OsString::from_vec(vec![0xff; 255]);
        let expected = OsString::from_vec([&[0xff; 251], &b".csv"[..]].concat());
        assert_eq!(next_to(Path::new(&not_text), ".csv"), Path::new(&expected));
    }
}
