//! A job's bits do not depend on its company, on threads, or on whether layers are kept or run again.

use super::*;
use crate::training::Outcome;

/// Jobs that differ in everything that a cohort may differ in.
fn jobs(trainer: &Trainer, config: &Config) -> Vec<Job> {
    let row = |length, first, seed| sample(config, length, first, seed);
    let steps = [
        vec![vec![vec![row(33, 5, 1), row(33, 30, 2)]], vec![vec![row(17, 2, 3)], vec![row(40, 39, 4)]]],
        vec![vec![vec![row(1 + 8, 1, 5)]]],
        vec![vec![vec![row(64, 20, 6), row(3, 1, 7), row(64, 60, 8)]]; 3],
        vec![vec![vec![row(16, 1, 9), row(16, 1, 10)]]; 2],
    ];
    let hypers = [
        Hyper::default(),
        Hyper { clip_norm: None, learning_rate: 0.1, ..Hyper::default() },
        Hyper { dropout: 0.2, ..Hyper::default() },
        Hyper { proximal: Some(0.1), ..Hyper::default() },
    ];
    let cohort = steps.into_iter().zip(hypers).enumerate();
    cohort.map(|(n, (steps, hyper))| job(adapter(trainer, n as u64), steps, hyper)).collect()
}

fn bits(outcome: &Outcome) -> (Vec<u32>, Vec<u64>, Vec<u64>) {
    let words = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect();
    let values = outcome.adapter.values.iter().map(|v| v.to_bits()).collect();
    (values, words(&outcome.losses), words(&outcome.grad_norms))
}

#[test]
fn a_job_has_the_same_bits_alone_and_in_any_company() {
    for config in configs() {
        for precision in [Precision::F32, Precision::Bf16] {
            let trainer = trainer(&config, precision, &["all-linear"]);
            let jobs = jobs(&trainer, &config);
            let together = trainer.train(&jobs).unwrap();
            let reversed: Vec<Job> = jobs.iter().rev().cloned().collect();
            let reversed = trainer.train(&reversed).unwrap();
            for (index, job) in jobs.iter().enumerate() {
                let alone = trainer.train(std::slice::from_ref(job)).unwrap().remove(0);
                let name = format!("{:?} {precision:?} job {index}", config.architecture);
                assert!(bits(&alone) == bits(&together[index]), "{name}: alone and together differ");
                assert!(bits(&alone) == bits(&reversed[jobs.len() - 1 - index]), "{name}: the order matters");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_loss_bits_in_any_batch() {
    for precision in [Precision::F32, Precision::Bf16] {
        let config = configs().remove(0);
        let trainer = trainer(&config, precision, &["all-linear"]);
        let adapter = adapter(&trainer, 1);
        let rows: Vec<_> = (0..40).map(|n| sample(&config, 5 + (n * 37 % 90) as u32, 1 + (n % 4) as u32, n)).collect();
        let together = trainer.evaluate(&adapter, &rows).unwrap();
        for (row, expected) in rows.iter().zip(&together) {
            let alone = trainer.evaluate(&adapter, std::slice::from_ref(row)).unwrap()[0];
            assert_eq!(alone.nats.to_bits(), expected.nats.to_bits());
            assert_eq!(alone.tokens, expected.tokens);
        }
    }
}
