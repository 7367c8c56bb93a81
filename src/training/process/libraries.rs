//! Hashes of the LibTorch libraries in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use super::hash_cache::HashCache;
use crate::store::Digest;

/// Libraries against which the program was built, one per line: name, size, modification time and hash. A library with
/// the same size and time is not hashed again, since it has half a gigabyte. Of other copies, as of an installed PyTorch, the hash
/// is computed once and cached.
const BUILT_AGAINST: &str = include_str!(concat!(env!("OUT_DIR"), "/libtorch.txt"));

/// Libraries that contain numeric code.
const NAMES: [&str; 3] = ["libtorch_cpu.so", "libc10.so", "libtorch_cuda.so"];

/// Returns the BLAKE3 hash of each of LibTorch's libraries that this process has loaded, by file name.
pub fn library_hashes() -> BTreeMap<String, Digest> {
    static HASHES: OnceLock<BTreeMap<String, Digest>> = OnceLock::new();
    let hashes = HASHES.get_or_init(|| {
        let cache = HashCache::of_user(|name| std::env::var_os(name));
        loaded().into_iter().filter_map(|(name, path)| Some((name, hash(&path, &cache)?))).collect()
    });
    hashes.clone()
}

/// Returns the paths of the libraries that are mapped into this process.
fn loaded() -> BTreeMap<String, PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut found = BTreeMap::new();
    for line in maps.lines() {
        // A line ends with the path of the mapped file, if there is one; no earlier field contains a slash.
        let Some(at) = line.find('/') else { continue };
        let path = Path::new(&line[at..]);
        let Some(name) = path.file_name() else { continue };
        let name = name.to_string_lossy().into_owned();
        if NAMES.contains(&name.as_str()) {
            found.insert(name, path.to_owned());
        }
    }
    found
}

/// Returns the hash of a library. `None` if it cannot be read.
fn hash(path: &Path, cache: &HashCache) -> Option<Digest> {
    if let Some(facts) = facts(path)
        && let Some(known) = known_hash(&facts)
    {
        return Some(known);
    }
    cache.hash(path)
}

/// Returns the hash that the library with these facts had when the program was built.
fn known_hash(facts: &str) -> Option<Digest> {
    BUILT_AGAINST.lines().find_map(|line| {
        let (known, hash) = line.rsplit_once(' ')?;
        if known == facts { Digest::from_hex(hash) } else { None }
    })
}

/// Returns name, size and modification time, as `build.rs` writes them.
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
        let cache = HashCache::of_user(|_| Some(folder.path().into()));
        assert_eq!(hash(&other, &cache), Some(Digest::of(b"another")), "another file is hashed for what it is");
    }
}
