//! Reading of whole files from outside of the program, whose sizes are not trusted: a file of holes may claim more bytes than
//! there is memory, and a device never ends.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// [byte] -- Limit of [`read_limited`].
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads a file that is parsed as a whole, of up to 256 MiB: settings, scenarios, tokenizers, questions.
///
/// # Errors
/// Any error of the file system, and [`ErrorKind::InvalidData`] if the file is larger.
///
/// # Examples
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("config.json");
/// std::fs::File::create(&file)?.set_len(1 << 40)?;
/// let error = fedreplay::store::read_limited(&file).unwrap_err();
/// assert_eq!(error.to_string(), "it has more than 268435456 bytes, which no file of its kind has");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    read_up_to(path, FILE_BYTES_MAX)
}

/// Reads a file of up to `bytes_max` bytes.
///
/// # Errors
/// As [`read_limited`].
pub fn read_up_to(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // The length is that of the content, except in pipes and devices, where it is zero.
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    if length <= bytes_max {
        bytes.reserve_exact(length as usize);
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > bytes_max {
        let message = format!("it has more than {bytes_max} bytes, which no file of its kind has");
        return Err(io::Error::new(ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Reads a text file as [`read_limited`] does.
///
/// # Errors
/// As [`read_limited`], and [`ErrorKind::InvalidData`] if it is not UTF-8.
pub fn read_text_limited(path: &Path) -> io::Result<String> {
    let not_text = |_| io::Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8");
    String::from_utf8(read_limited(path)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_up_to_the_limit_are_read_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_up_to(&path, 4).unwrap(), b"1234");
        assert_eq!(read_text_limited(&path).unwrap(), "1234");
        assert_eq!(read_up_to(&path, 3).unwrap_err().kind(), ErrorKind::InvalidData);
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text_limited(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read_limited(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_device_without_an_end_is_refused() {
        assert_eq!(read_up_to(Path::new("/dev/zero"), 1 << 20).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
