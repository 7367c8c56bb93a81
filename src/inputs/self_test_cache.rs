//! Start-up test of a machine, whose result is cached in the store if the test takes long.
//!
//! The key of the stored result covers everything that it depends on, including this machine. The result enters no key of a
//! run's results and no table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::InputError;
use crate::data::Sample;
use crate::store::{Key, Store, binary_hash, key_of, parse_json};
use crate::training::{Error, Grade, LargestWork, SelfTest, TestedShapes, Trainer, library_hashes};

/// Duration of a test above which its result is cached.
const LONG: Duration = Duration::from_secs(3);

/// Result of a test, with the shapes up to which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tested {
    pub found: SelfTest,
    pub shapes: TestedShapes,
}

/// Tests a trainer with the largest work of a run. Reads the result from the store if it is there, and stores it if the test
/// took long.
///
/// If the memory is too small for the test, only small jobs are tested; the run itself will show whether it is large enough.
///
/// # Errors
/// If LibTorch fails, or the store cannot be written to.
pub(super) fn tested(trainer: &Trainer, work: &LargestWork, store: &Store) -> Result<Tested, InputError> {
    tested_caching(trainer, work, store, LONG)
}

/// Implements [`tested`]; a result is cached if the test took longer than `long`.
fn tested_caching(trainer: &Trainer, work: &LargestWork, store: &Store, long: Duration) -> Result<Tested, InputError> {
    let shapes = work.shapes(trainer.fingerprint().threads);
    let key = key(trainer, work);
    let stored = store.get(key).and_then(|bytes| parse_json::<Tested>(&bytes).ok());
    if let Some(stored) = stored.filter(|stored| stored.shapes == shapes) {
        return Ok(stored);
    }
    let began = Instant::now();
    let found = match trainer.self_test_with(work) {
        Ok(found) => found,
        Err(Error::OutOfMemory { .. }) => {
            tracing::warn!(
                target: "fedreplay::run",
                "too little memory to test this machine with the largest pass of the run: small ones are tested"
            );
            let small = LargestWork::default();
            let found = trainer.self_test().map_err(InputError::SelfTest)?;
            return Ok(Tested { found, shapes: small.shapes(trainer.fingerprint().threads) });
        }
        Err(error) => return Err(InputError::SelfTest(error)),
    };
    let tested = Tested { found, shapes };
    // A grade below B may come from a temporary fault of the machine, so the test is repeated at the next start.
    if began.elapsed() > long && found.grade() >= Grade::B {
        store.put(key, &bytes(&tested))?;
    }
    Ok(tested)
}

/// Returns a result as it is stored: as JSON, since a format without names could not leave out fields.
fn bytes(tested: &Tested) -> Vec<u8> {
    serde_json::to_vec(tested).expect("it holds numbers and flags")
}

/// Returns the key of a test's result. It covers the processor and its microcode, the program, LibTorch's libraries, the
/// settings, the base, the shape of adapters, and the rows.
fn key(trainer: &Trainer, work: &LargestWork) -> Key {
    let fingerprint = serde_json::to_string(trainer.fingerprint()).expect("a fingerprint has only text keys");
    let program = (binary_hash(), library_hashes());
    let layout = trainer.layout();
    let base = (trainer.base_hash().as_bytes().to_owned(), &*layout);
    let training = (work.objective, &work.hyper, work.jobs as u64);
    let data = (hashes(&work.micro_batch), hashes(&work.evaluated));
    key_of("fedreplay self-test v2", &(machine(), fingerprint, program, base, training, data))
}

fn hashes(rows: &[Arc<Sample>]) -> Vec<[u8; 32]> {
    rows.iter().map(|row| *row.hash().as_bytes()).collect()
}

/// Returns a text that distinguishes this machine from others of the same type: its identifier if it has one, the identifier
/// of its last boot, and the first processor's description without the lines that vary over time.
fn machine() -> String {
    let table = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = table.split("\n\n").next().unwrap_or_default();
    let constant = first.lines().filter(|line| !line.starts_with("cpu MHz") && !line.starts_with("bogomips"));
    // Images of containers may share a machine identifier; two machines never share a boot.
    let identifier = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let start = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("{}\n{}\n{}", identifier.trim(), start.trim(), constant.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::{Device, LoraSpec, Precision};
    use crate::training::Numerics;

    fn trainer() -> Trainer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tiny-base");
        let target_modules = vec!["q_proj".into()];
        let lora =
            LoraSpec { rank: 4, alpha: 8.0, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false };
        Trainer::load(&folder, Precision::F32, Device::Cpu, &lora, &Numerics::default()).expect("a base")
    }

    fn work(length: u32) -> LargestWork {
        let row = Arc::new(Sample { ids: (1..=length).collect(), targets: std::iter::once(1..length).collect() });
        LargestWork { micro_batch: vec![row.clone(), row.clone()], evaluated: vec![row], ..LargestWork::default() }
    }

    #[test]
    fn a_long_test_is_not_repeated_and_a_short_one_is_not_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(folder.path()).expect("a writable folder");
        let count = || store.results().expect("a store").len();
        let trainer = trainer();
        let long = work(40);
        tested_caching(&trainer, &work(20), &store, LONG).expect("a test");
        assert_eq!(count(), 0, "it took no time");
        let first = tested_caching(&trainer, &long, &store, Duration::ZERO).expect("a test");
        assert_eq!((count(), first.shapes.micro_batch_tokens), (1, 80));
        assert_eq!(first.found.grade(), Grade::B);
        // What is in the store shows that it is read from there.
        let marked = Tested { found: SelfTest { portable: true, ..first.found }, ..first };
        store.put(key(&trainer, &long), &bytes(&marked)).expect("a writable folder");
        assert_eq!(tested_caching(&trainer, &long, &store, Duration::ZERO).expect("a test"), marked);
        assert_eq!(tested_caching(&trainer, &long, &Store::none(), Duration::ZERO).expect("a test"), first);
        let other = tested_caching(&trainer, &work(41), &store, Duration::ZERO).expect("a test");
        assert_eq!((count(), other.shapes.micro_batch_tokens), (2, 82), "other rows are tested anew");
    }
}
