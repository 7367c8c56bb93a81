//! A job's bits do not depend on its company, on threads, or on whether layers are kept or run again.

use super::*;
use crate::training::TrainingOutcome;

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

fn bits(outcome: &TrainingOutcome) -> (Vec<u32>, Vec<u64>, Vec<u64>) {
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

/// Rows that are packed into one pass do not see each other, forward or backward: another row beside it leaves a row's loss
/// bits as they are, and the gradient of the pack is the sum of the rows' own.
#[test]
fn packed_rows_do_not_contaminate_each_other() {
    for config in configs() {
        let trainer = trainer(&config, Precision::F64, &["all-linear"]);
        let adapter = adapter(&trainer, 1);
        let rows =
            [(19, 4, 1), (19, 9, 2), (7, 3, 3)].map(|(length, first, seed)| sample(&config, length, first, seed));
        let optimizer = crate::training::Optimizer::Sgd { momentum: 0.0 };
        let accumulation = crate::training::Accumulation::PerToken;
        let moved = |rows: Vec<Arc<Sample>>| {
            let targets = crate::training::engine::runner::targets(&rows) as f64;
            let hyper = Hyper { optimizer, learning_rate: 1e6, clip_norm: None, accumulation, ..Hyper::default() };
            let outcome = trainer.train(&[job(adapter.clone(), vec![vec![rows]], hyper)]).unwrap().remove(0);
            let values = outcome.adapter.values.iter().zip(&adapter.values);
            values.map(|(after, before)| (f64::from(*after) - f64::from(*before)) * targets).collect::<Vec<f64>>()
        };
        let packed = moved(rows.to_vec());
        let apart = rows.iter().map(|row| moved(vec![row.clone()])).reduce(|mut sum, one| {
            sum.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
            sum
        });
        let largest = packed.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        for (packed, apart) in packed.iter().zip(apart.unwrap()) {
            assert!((packed - apart).abs() < 2e-6 * largest, "{:?}: {packed} {apart}", config.architecture);
        }
        let losses = |rows: &[Arc<Sample>]| trainer.evaluate(&adapter, rows).unwrap();
        let beside = losses(&[rows[0].clone(), sample(&config, 19, 9, 4), rows[2].clone()]);
        let before = losses(&rows);
        assert_eq!((beside[0], beside[2]), (before[0], before[2]));
        assert_ne!(beside[1], before[1]);
    }
}

/// Random cohorts: any rows, any split into steps, any order, one to four threads.
fn random_cohort(trainer: &Trainer, config: &Config, seed: u64) -> Vec<Job> {
    let mut stream = Stream::new(Seed(seed), Purpose::SyntheticData, 1 << 50);
    let mut draw = |bound: u64| stream.below(bound);
    (0..1 + draw(4))
        .map(|_| {
            let steps = (0..1 + draw(2))
                .map(|_| {
                    let mut micro_batch = || {
                        let mut row = || {
                            let length = 2 + draw(70) as u32;
                            sample(config, length, 1 + draw(u64::from(length) - 1) as u32, draw(1 << 30))
                        };
                        (0..3).map(|_| row()).collect()
                    };
                    vec![micro_batch(), micro_batch()]
                })
                .collect();
            let dropout = if draw(4) == 0 { 0.1 } else { 0.0 };
            let hyper = Hyper { dropout, ..Hyper::default() };
            Job { stream: draw(100), ..job(adapter(trainer, draw(10)), steps, hyper) }
        })
        .collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_cohort_on_any_threads_gives_each_job_its_own_bits(
        seed in 0u64..1 << 40, family in 0usize..8, threads in 1usize..=4, bf16: bool, rank in 1usize..=17,
    ) {
        let config = configs().swap_remove(family);
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config);
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        let lora = LoraSpec { rank: rank.min(16), ..lora(&["o_proj", "down_proj"]) };
        let trainer = Trainer::load(folder.path(), precision, Device::Cpu, &lora, &Numerics::default()).unwrap();
        let cohort = random_cohort(&trainer, &config, seed);
        let together = trainer.with_threads(threads, || trainer.train(&cohort)).unwrap();
        for (job, expected) in cohort.iter().zip(&together) {
            let alone = trainer.train(std::slice::from_ref(job)).unwrap().remove(0);
            proptest::prop_assert!(bits(&alone) == bits(expected), "seed {seed}: alone and together differ");
        }
    }
}
