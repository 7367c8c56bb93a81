//! Which LibTorch is in use, by the hashes of its libraries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use crate::store::Digest;

/// What was built against, a line a library: name, size, modification time and hash. Half a gigabyte is not hashed again
/// at each start while the file in use is the same by size and time.
const BUILT_AGAINST: &str = include_str!(concat!(env!("OUT_DIR"), "/libtorch.txt"));

/// The libraries whose code computes.
const NAMES: [&str; 3] = ["libtorch_cpu.so", "libc10.so", "libtorch_cuda.so"];

/// BLAKE3 of each of LibTorch's libraries that this process has loaded, by file name.
pub fn library_hashes() -> BTreeMap<String, Digest> {
    static HASHES: OnceLock<BTreeMap<String, Digest>> = OnceLock::new();
    HASHES.get_or_init(|| loaded().into_iter().filter_map(|(name, path)| Some((name, hash(&path)?))).collect()).clone()
}

/// Paths of the libraries, as the system has mapped them.
fn loaded() -> BTreeMap<String, PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let named = paths.filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        NAMES.contains(&name.as_str()).then(|| (name, path.to_owned()))
    });
    named.collect()
}

fn hash(path: &Path) -> Option<Digest> {
    let known = BUILT_AGAINST.lines().find_map(|line| {
        let (facts, hash) = line.rsplit_once(' ')?;
        (facts == self::facts(path)?).then(|| Digest::from_hex(hash))?
    });
    known.or_else(|| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path).ok()?).ok()?;
        Some(Digest(*hasher.finalize().as_bytes()))
    })
}

/// Name, size and modification time, as `build.rs` writes them.
fn facts(path: &Path) -> Option<String> {
    let data = fs::metadata(path).ok()?;
    let modified = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    Some(format!("{} {} {modified}", path.file_name()?.to_string_lossy(), data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_in_use_is_the_one_that_was_built_against() {
        // Calling into it makes sure that it is loaded.
        assert!(tch::get_num_threads() > 0);
        let hashes = library_hashes();
        let built = |name: &str| BUILT_AGAINST.lines().find(|line| line.starts_with(name)).expect("it was linked");
        for name in ["libtorch_cpu.so", "libc10.so"] {
            assert!(built(name).ends_with(&hashes[name].to_string()), "{name}");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let other = folder.path().join("libc10.so");
        fs::write(&other, b"another").expect("a writable folder");
        assert_eq!(hash(&other), Some(Digest::of(b"another")), "another file is hashed for what it is");
    }
}
