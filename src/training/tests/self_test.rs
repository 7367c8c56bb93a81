//! The start-up test finds on this machine what the program promises on a CPU, and f32 bits do not depend on the
//! libraries' choices.

use std::process::Command;

use super::*;
use crate::training::{Grade, SelfTest};

#[test]
fn a_cpu_gives_grade_b_and_portable_numerics_give_c_in_f32() {
    let cases =
        [(Precision::F32, false, Grade::B), (Precision::F32, true, Grade::C), (Precision::Bf16, true, Grade::B)];
    for (precision, portable, grade) in cases {
        let numerics = Numerics { portable, ..Numerics::default() };
        for config in configs() {
            let folder = tempfile::tempdir().unwrap();
            write_model(folder.path(), &config);
            let lora = lora(&["all-linear"]);
            let trainer = Trainer::load(folder.path(), precision, Device::Cpu, &lora, &numerics).unwrap();
            let found = trainer.self_test().unwrap();
            assert_eq!(found.grade(), grade, "{precision:?} {:?}: {found:?}", config.architecture);
        }
    }
}

#[test]
fn a_grade_is_no_higher_than_what_was_found() {
    let found = |repeats, company, threads, portable| SelfTest { repeats, company, threads, portable }.grade();
    assert_eq!(found(false, true, true, true), Grade::None);
    assert_eq!(found(true, false, true, true), Grade::A);
    assert_eq!(found(true, true, false, true), Grade::A);
    assert_eq!(found(true, true, true, false), Grade::B);
    assert_eq!(found(true, true, true, true), Grade::C);
}

/// What one training of each family gives, as one hash.
fn trained_hash() -> String {
    let mut hasher = blake3::Hasher::new();
    for config in configs() {
        let trainer = trainer(&config, Precision::F32, &["all-linear"]);
        let rows = vec![sample(&config, 90, 20, 1), sample(&config, 33, 5, 2), sample(&config, 7, 1, 3)];
        let hyper = Hyper { dropout: 0.1, proximal: Some(0.1), ..Hyper::default() };
        let outcome = trainer.train(&[job(adapter(&trainer, 1), vec![vec![rows]; 3], hyper)]).unwrap().remove(0);
        hasher.update(outcome.adapter.hash().as_bytes());
        outcome.losses.iter().for_each(|loss| {
            hasher.update(&loss.to_le_bytes());
        });
    }
    hasher.finalize().to_string()
}

/// Set in the process that computes under other libraries.
const CHILD: &str = "FEDREPLAY_TEST_PRINTS_BITS";

#[test]
fn f32_bits_do_not_depend_on_vector_width_or_on_what_libraries_choose() {
    let hash = trained_hash();
    if std::env::var_os(CHILD).is_some() {
        println!("bits {hash}");
        return;
    }
    // The paths that LibTorch, MKL and oneDNN take on older processors, and the narrow tiles of the own products.
    let older = [
        ("ATEN_CPU_CAPABILITY", "default"),
        ("MKL_CBWR", "COMPATIBLE"),
        ("ONEDNN_MAX_CPU_ISA", "SSE41"),
        ("FEDREPLAY_GEMM", "avx2"),
        ("OMP_NUM_THREADS", "3"),
    ];
    let name = "training::tests::self_test::f32_bits_do_not_depend_on_vector_width_or_on_what_libraries_choose";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .envs(older)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    let found = text.lines().find_map(|line| line.split_once("bits ")).map(|(_, hash)| hash.trim());
    assert_eq!(found, Some(hash.as_str()), "{text}");
}
