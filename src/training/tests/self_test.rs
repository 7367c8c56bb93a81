//! The start-up test finds on this machine what the program promises on a CPU.

use super::*;
use crate::training::{Grade, SelfTest};

#[test]
fn a_cpu_gives_grade_b() {
    for precision in [Precision::F32, Precision::Bf16] {
        for config in configs() {
            let found = trainer(&config, precision, &["all-linear"]).self_test().unwrap();
            assert_eq!(found.grade(), Grade::B, "{precision:?} {:?}: {found:?}", config.architecture);
        }
    }
}

#[test]
fn a_grade_is_no_higher_than_what_was_found() {
    let found = |repeats, company, threads| SelfTest { repeats, company, threads }.grade();
    assert_eq!(found(false, true, true), Grade::None);
    assert_eq!(found(true, false, true), Grade::A);
    assert_eq!(found(true, true, false), Grade::A);
    assert_eq!(found(true, true, true), Grade::B);
}
