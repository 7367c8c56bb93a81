//! LibTorch's operations in place of the program's own kernels: the path that a GPU takes, on a CPU. It trains to the same
//! values as the own kernels, and a job's bits do not depend on its company there either.

use super::*;
use crate::training::{Accumulation, Checkpointing, Decoder, Optimizer, Piece, TrainingOutcome};

/// A trainer on a model of this shape that computes by the own kernels, and one that computes by LibTorch.
fn both(config: &Config, precision: Precision) -> [Trainer; 2] {
    [false, true].map(|by_libtorch| load(config, precision, Numerics { by_libtorch, ..Numerics::default() }))
}

fn load(config: &Config, precision: Precision, numerics: Numerics) -> Trainer {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), config);
    Trainer::load(folder.path(), precision, Device::Cpu, &lora(&["all-linear"]), &numerics).unwrap()
}

/// Jobs of unlike lengths, optimizers and terms. The second has more rows than a block of a product and than one of
/// queries.
fn jobs(trainer: &Trainer, config: &Config) -> Vec<Job> {
    let row = |length, first, seed| sample(config, length, first, seed);
    let momentum = Optimizer::Sgd { momentum: 0.9 };
    let cohort = [
        (vec![vec![vec![row(33, 5, 1), row(33, 30, 2)]], vec![vec![row(17, 2, 3)]]], Hyper::default()),
        (
            vec![vec![vec![row(200, 20, 4), row(130, 60, 5), row(9, 1, 6)]]; 2],
            Hyper { dropout: 0.1, ..Hyper::default() },
        ),
        (
            vec![vec![vec![row(16, 1, 7)], vec![row(1 + 8, 1, 8)]]; 2],
            Hyper {
                optimizer: momentum,
                learning_rate: 0.01,
                proximal: Some(0.1),
                accumulation: Accumulation::PerToken,
                ..Hyper::default()
            },
        ),
    ];
    let number = |(n, (steps, hyper)): (usize, _)| job(adapter(trainer, n as u64), steps, hyper);
    cohort.into_iter().enumerate().map(number).collect()
}

fn bits(outcome: &TrainingOutcome) -> (Vec<u32>, Vec<u64>) {
    let values = outcome.adapter.values.iter().map(|value| value.to_bits()).collect();
    (values, outcome.losses.iter().map(|loss| loss.to_bits()).collect())
}

/// The Frobenius norm of what two trainings end apart, as a part of how far the first moved.
fn apart(own: &TrainingOutcome, other: &TrainingOutcome) -> f64 {
    own.adapter.difference(&other.adapter).norm() / own.adapter.norm()
}

#[test]
fn losses_and_adapters_are_those_of_the_own_kernels() {
    for (precision, loss_tolerance, adapter_tolerance) in [(Precision::F32, 1e-5, 1e-4), (Precision::Bf16, 1e-2, 2e-2)]
    {
        for config in configs() {
            let [own, by_libtorch] = both(&config, precision);
            let jobs = jobs(&own, &config);
            let own = own.train(&jobs).unwrap();
            let other = by_libtorch.train(&jobs).unwrap();
            for (index, (own, other)) in own.iter().zip(&other).enumerate() {
                let name = format!("{:?} {precision:?} job {index}", config.architecture);
                for (loss, found) in own.losses.iter().zip(&other.losses) {
                    assert!((loss - found).abs() <= loss_tolerance * loss.abs(), "{name}: {loss} and {found}");
                }
                assert!(apart(own, other) <= adapter_tolerance, "{name}: {} apart", apart(own, other));
            }
            assert!(own.iter().zip(&other).any(|(own, other)| bits(own) != bits(other)), "nothing else computed");
        }
    }
}

#[test]
fn a_job_has_the_same_bits_alone_in_company_twice_and_checkpointed() {
    for precision in [Precision::F32, Precision::Bf16] {
        for config in configs() {
            let [keeping, checkpointing] = [Checkpointing::Never, Checkpointing::Always].map(|checkpointing| {
                load(&config, precision, Numerics { by_libtorch: true, checkpointing, ..Numerics::default() })
            });
            let jobs = jobs(&keeping, &config);
            let together = keeping.train(&jobs).unwrap();
            let again = keeping.train(&jobs).unwrap();
            let reversed: Vec<Job> = jobs.iter().rev().cloned().collect();
            let reversed = keeping.train(&reversed).unwrap();
            let checkpointed = checkpointing.train(&jobs).unwrap();
            for (index, job) in jobs.iter().enumerate() {
                let expected = bits(&together[index]);
                let alone = keeping.train(std::slice::from_ref(job)).unwrap().remove(0);
                let name = format!("{:?} {precision:?} job {index}", config.architecture);
                assert!(bits(&again[index]) == expected, "{name}: twice");
                assert!(bits(&alone) == expected, "{name}: alone and together");
                assert!(bits(&reversed[jobs.len() - 1 - index]) == expected, "{name}: the order matters");
                assert!(bits(&checkpointed[index]) == expected, "{name}: kept and run again");
            }
        }
    }
}

#[test]
fn a_row_has_the_loss_of_the_own_kernels_and_its_bits_in_any_batch() {
    for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 1e-2)] {
        let config = configs().remove(0);
        let [own, by_libtorch] = both(&config, precision);
        let adapter = adapter(&own, 1);
        let rows: Vec<_> = (0..20).map(|n| sample(&config, 5 + (n * 37 % 90) as u32, 1 + (n % 4) as u32, n)).collect();
        let expected = own.evaluate(&adapter, &rows).unwrap();
        let found = by_libtorch.evaluate(&adapter, &rows).unwrap();
        for (index, row) in rows.iter().enumerate() {
            assert!((expected[index].nats - found[index].nats).abs() <= tolerance * expected[index].nats);
            let alone = by_libtorch.evaluate(&adapter, std::slice::from_ref(row)).unwrap()[0];
            assert_eq!(alone.nats.to_bits(), found[index].nats.to_bits());
        }
    }
}

/// The logits after a prompt are those of the own kernels, and their bits do not depend on what is read beside it, nor on
/// how much room a longer sequence makes.
#[test]
fn a_prompt_is_read_as_by_the_own_kernels_and_alone_as_in_company() {
    let config = configs().remove(0);
    let [own, by_libtorch] = both(&config, Precision::F32);
    let adapter = adapter(&own, 1);
    let prompt = sample(&config, 30, 1, 1).ids.clone();
    let long = sample(&config, 250, 1, 2).ids.clone();
    let read = |trainer: &Trainer, in_company: bool| {
        let mut decoder = Decoder::new(trainer, std::slice::from_ref(&adapter), 2).unwrap();
        if in_company {
            decoder.read(&[Piece { slot: 0, adapter: Some(0), ids: &long }]).unwrap();
            decoder.truncate(0, 200);
        }
        let mut logits = Vec::new();
        for ids in [&prompt[..20], &prompt[20..]] {
            let mut pieces = vec![Piece { slot: 1, adapter: Some(0), ids }];
            if in_company {
                pieces.insert(0, Piece { slot: 0, adapter: Some(0), ids: &long[..3] });
            }
            let place = pieces.len() - 1;
            logits = decoder.read(&pieces).unwrap().of(place).to_vec();
        }
        logits
    };
    let alone = read(&by_libtorch, false);
    assert_eq!(read(&by_libtorch, true), alone);
    let expected = read(&own, false);
    let most = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (found, expected) in alone.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-5 * most, "{found} and {expected}");
    }
}

/// The class of numerics names what computes, so no result of one is taken for one of the other, and a thread that has
/// worked for one trainer computes as another asks.
#[test]
fn the_numerics_class_tells_who_computes_and_a_thread_serves_both() {
    let config = configs().remove(0);
    let [own, by_libtorch] = both(&config, Precision::F32);
    assert!(own.uses_own_kernels() && own.reads_alone());
    assert!(!by_libtorch.uses_own_kernels() && !by_libtorch.reads_alone());
    assert_eq!(own.numerics_class().mode, "standard");
    let class = by_libtorch.numerics_class();
    assert!(class.mode.ends_with("LibTorch in blocks of 256 rows"), "{class:?}");
    assert!(!class.device.contains("kernels"), "{class:?}");
    let jobs = jobs(&own, &config);
    let before = own.train(&jobs[..1]).unwrap();
    by_libtorch.train(&jobs[..1]).unwrap();
    let after = own.train(&jobs[..1]).unwrap();
    assert_eq!(bits(&before[0]), bits(&after[0]));
}
