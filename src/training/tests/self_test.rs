//! The start-up test finds on this machine what the program promises on a CPU, and f32 bits do not depend on the
//! libraries' choices.

use std::process::Command;

use super::*;
use crate::model::Arithmetic;
use crate::training::{Grade, LargestWork, SelfTest};

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
fn a_cpu_gives_grade_b_with_the_largest_work_of_a_run() {
    for (precision, objective, jobs, changes_base) in [
        (Precision::F32, Objective::Sft, 1, true),
        (Precision::F32, Objective::Dpo { beta: 0.1, reference: None }, 3, false),
        (Precision::Bf16, Objective::Sft, 2, true),
        (Precision::Nf4 { arithmetic: Arithmetic::F32, double: false }, Objective::Sft, 1, false),
    ] {
        for config in configs() {
            let trainer = trainer(&config, precision, &["all-linear"]);
            let micro_batch = vec![sample(&config, 200, 90, 1), sample(&config, 75, 20, 2)];
            let evaluated = vec![sample(&config, 33, 9, 3), sample(&config, 8, 2, 4), sample(&config, 201, 30, 5)];
            let hyper = Hyper { dropout: 0.1, ..Hyper::default() };
            let work = LargestWork { micro_batch, objective, hyper, jobs, evaluated, changes_base };
            let found = trainer.self_test_with(&work).unwrap();
            assert_eq!(found.grade(), Grade::B, "{precision:?} {objective:?} {:?}: {found:?}", config.architecture);
        }
    }
}

#[test]
fn a_row_that_does_not_fit_ends_the_test() {
    let config = configs().remove(0);
    let trainer = trainer(&config, Precision::F32, &["q_proj"]);
    let work = LargestWork { micro_batch: vec![sample(&config, 257, 9, 1)], ..LargestWork::default() };
    assert!(trainer.self_test_with(&work).is_err());
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
fn trained_hash(precision: Precision) -> String {
    let mut hasher = blake3::Hasher::new();
    for config in configs() {
        let trainer = trainer(&config, precision, &["all-linear"]);
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

/// The hash that a process of its own gives under `products`, with the paths that LibTorch, MKL and oneDNN take on older
/// processors where `is_older`.
fn hash_elsewhere(precision: Precision, products: &str, is_older: bool) -> String {
    let name = "training::tests::self_test::bits_do_not_depend_on_vector_width_or_on_what_libraries_choose";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]);
    child.env(CHILD, format!("{precision:?}")).env("FEDREPLAY_PRODUCTS", products);
    if is_older {
        child.env("ATEN_CPU_CAPABILITY", "default").env("MKL_CBWR", "COMPATIBLE");
        child.env("ONEDNN_MAX_CPU_ISA", "SSE41").env("OMP_NUM_THREADS", "3");
    }
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| line.split_once("bits ")).map(|(_, hash)| hash.trim().to_owned());
    found.unwrap_or_else(|| panic!("no hash in: {text}"))
}

/// In bf16 this holds among fused multiply-adds: the processor's own products of pairs are a class of their own.
#[test]
fn bits_do_not_depend_on_vector_width_or_on_what_libraries_choose() {
    for precision in [Precision::F32, Precision::Bf16] {
        match std::env::var(CHILD) {
            Ok(asked) if asked == format!("{precision:?}") => println!("bits {}", trained_hash(precision)),
            Ok(_) => {}
            Err(_) => {
                let older = hash_elsewhere(precision, "avx2", true);
                assert_eq!(hash_elsewhere(precision, "fma", false), older, "{precision:?}");
                if precision == Precision::F32 {
                    assert_eq!(trained_hash(precision), older);
                }
            }
        }
    }
}
