//! AlgorithmTerms of federated methods, and gradients against finite differences.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::adapter::Factors;
use crate::training::engine::job::{AdamVariant, FirstSteps, Optimizer};
use crate::training::{CorrectionPlace, Shrinkage};

fn plain() -> Hyper {
    Hyper { optimizer: Optimizer::Sgd { momentum: 0.0 }, learning_rate: 0.5, clip_norm: None, ..Hyper::default() }
}

fn setting() -> (Trainer, Job) {
    let config = configs().remove(1);
    let trainer = trainer(&config, Precision::F64, &["q_proj", "down_proj"]);
    let steps = vec![vec![vec![sample(&config, 20, 4, 1), sample(&config, 9, 4, 2)]]];
    let job = job(adapter(&trainer, 1), steps, plain());
    (trainer, job)
}

/// What a job does to its adapter.
fn change(trainer: &Trainer, job: &Job) -> Vec<f64> {
    let jobs = [job.clone()];
    let after = trainer.run(&jobs, &AtomicU64::new(0)).unwrap().remove(0).parameters().exact_values().unwrap();
    after.iter().zip(&job.adapter.values).map(|(after, before)| after - f64::from(*before)).collect()
}

fn assert_equal(found: &[f64], expected: impl Iterator<Item = f64>) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 1e-12, "value {index}: {found} where {expected} was expected");
    }
}

#[test]
fn the_proximal_term_pulls_towards_its_anchor() {
    let (trainer, job) = setting();
    let plain = change(&trainer, &job);
    let hyper = Hyper { proximal: Some(0.25), ..job.hyper.clone() };
    // At its own start the pull is zero.
    assert_equal(&change(&trainer, &Job { hyper: hyper.clone(), ..job.clone() }), plain.iter().copied());
    let anchor = adapter(&trainer, 9);
    let terms = AlgorithmTerms { anchor: Some(anchor.clone()), ..AlgorithmTerms::default() };
    let pulled = change(&trainer, &Job { hyper, terms, ..job.clone() });
    let pull = job.adapter.values.iter().zip(&anchor.values).map(|(w, a)| f64::from(*w) - f64::from(*a));
    assert_equal(&pulled, plain.iter().zip(pull).map(|(plain, pull)| plain - 0.5 * 0.25 * pull));
}

/// The size of the components of rank 4 from `from` to below `rank`, by its definition.
fn size(layout: &crate::adapter::Layout, values: &[f64], from: usize, rank: usize) -> f64 {
    let mut size = 0.0;
    for (module, (a, b)) in layout.modules.iter().zip(layout.ranges()) {
        let mut squares = [0.0; 2];
        for place in from..rank {
            for input in 0..module.in_features {
                squares[0] += values[a.start + place * module.in_features + input].powi(2);
            }
            for output in 0..module.out_features {
                squares[1] += values[b.start + output * 4 + place].powi(2);
            }
        }
        size += (squares[0] * squares[1]).sqrt();
    }
    size
}

/// Against central differences of the size, of the adapter's rank 4 and of a client's rank 3.
#[test]
fn shrinkage_adds_the_gradient_of_the_size_of_the_last_components() {
    let (trainer, job) = setting();
    let plain = change(&trainer, &job);
    let layout = trainer.layout();
    for (rank, gamma, from) in [(None, 0.5, 2), (None, 0.99, 3), (Some(3), 0.5, 1), (Some(1), 0.5, 1)] {
        let hyper = Hyper { shrinkage: Some(Shrinkage { gamma, lambda: 0.25 }), ..job.hyper.clone() };
        let terms = AlgorithmTerms { rank, ..AlgorithmTerms::default() };
        let shrunk = change(&trainer, &Job { hyper, terms, ..job.clone() });
        let values: Vec<f64> = job.adapter.values.iter().map(|&value| value.into()).collect();
        let mut moved = 0;
        for place in 0..values.len() {
            let at = |step: f64| {
                let mut values = values.clone();
                values[place] += step;
                size(&layout, &values, from, rank.unwrap_or(4))
            };
            let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
            let expected = plain[place] - 0.5 * 0.25 * slope;
            assert!((shrunk[place] - expected).abs() < 1e-7, "value {place}: {} for {expected}", shrunk[place]);
            moved += usize::from(slope.abs() > 1e-4);
        }
        assert_eq!(moved > 0, rank != Some(1), "{moved} values are pulled");
    }
}

/// What is zero in A and in B stays zero, under every rule and with weight decay.
#[test]
fn components_that_a_client_has_given_up_stay_zero() {
    let (trainer, job) = setting();
    let start = Arc::new(job.adapter.truncated(2));
    let decay =
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, variant: AdamVariant::PyTorch };
    for optimizer in [decay, Optimizer::Sgd { momentum: 0.9 }] {
        let shrinkage = Some(Shrinkage { gamma: 0.5, lambda: 0.1 });
        let hyper = Hyper { optimizer, shrinkage, proximal: Some(0.1), ..job.hyper.clone() };
        let terms = AlgorithmTerms { rank: Some(2), ..AlgorithmTerms::default() };
        let steps = [job.steps.clone(), job.steps.clone()].concat();
        let after = trainer.train(&[Job { adapter: start.clone(), steps, hyper, terms, ..job.clone() }]).unwrap();
        let after = &after[0].adapter;
        assert_ne!(*after, *start);
        assert_eq!(*after, after.truncated(2));
    }
}

#[test]
fn a_correction_enters_where_it_is_said_to() {
    let (trainer, job) = setting();
    let plain = change(&trainer, &job);
    let by = adapter(&trainer, 9);
    let corrected = |place, hyper: Hyper| {
        let terms = AlgorithmTerms { correction: Some((by.clone(), place)), ..AlgorithmTerms::default() };
        change(&trainer, &Job { hyper, terms, ..job.clone() })
    };
    let expected = || plain.iter().zip(&by.values).map(|(plain, by)| plain - 0.5 * f64::from(*by));
    assert_equal(&corrected(CorrectionPlace::Gradient, job.hyper.clone()), expected());
    assert_equal(&corrected(CorrectionPlace::AfterUpdate, job.hyper.clone()), expected());
    // Under AdamW the two places are not the same.
    let adamw = Hyper { learning_rate: 0.5, ..Hyper::default() };
    assert_ne!(corrected(CorrectionPlace::Gradient, adamw.clone()), corrected(CorrectionPlace::AfterUpdate, adamw));
}

/// Under every rule, two trainings of one step that hand their moments on are one training of two steps, to the bit.
#[test]
fn kept_moments_make_of_two_trainings_one() {
    let config = configs().remove(1);
    let trainer = trainer(&config, Precision::F32, &["q_proj", "down_proj"]);
    let steps: Vec<_> = (1..3).map(|seed| vec![vec![sample(&config, 20, 4, seed)]]).collect();
    let rules = [Hyper::default().optimizer, Optimizer::Sgd { momentum: 0.9 }, Optimizer::Sgd { momentum: 0.0 }];
    for optimizer in rules {
        let hyper = Hyper { optimizer, learning_rate: 0.01, ..Hyper::default() };
        let whole = job(adapter(&trainer, 1), steps.clone(), hyper);
        let train = |job: Job| trainer.train(&[job]).unwrap().remove(0);
        let keeps = |moments| AlgorithmTerms { moments, keeps_moments: true, ..AlgorithmTerms::default() };
        let first = train(Job { steps: steps[..1].to_vec(), terms: keeps(None), ..whole.clone() });
        let moments = Arc::new(first.moments.unwrap());
        assert_eq!(moments.steps, 1);
        let second = |terms| {
            train(Job { adapter: Arc::new(first.adapter.clone()), steps: steps[1..].to_vec(), terms, ..whole.clone() })
        };
        let both = train(whole.clone());
        assert_eq!(second(keeps(Some(moments))).adapter, both.adapter, "{optimizer:?}");
        let resets = second(keeps(None)).adapter == both.adapter;
        assert_eq!(resets, optimizer == Optimizer::Sgd { momentum: 0.0 }, "{optimizer:?}");
    }
}

/// The loss is smooth, so a central difference with its error of second order removed is good to eight digits.
#[test]
fn gradients_agree_with_finite_differences() {
    let (trainer, job) = setting();
    let rows = &job.steps[0][0];
    let gradient: Vec<f64> = change(&trainer, &job).iter().map(|change| -change / 0.5).collect();
    let largest = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
    let loss = |index: usize, by: f32| {
        let mut moved = (*job.adapter).clone();
        moved.values[index] += by;
        // The value moves in f32: the distance that it really moved is what counts.
        let distance = f64::from(moved.values[index]) - f64::from(job.adapter.values[index]);
        let losses = trainer.evaluate(&moved, rows).unwrap();
        let tokens: u32 = losses.iter().map(|loss| loss.tokens).sum();
        (losses.iter().map(|loss| loss.nats).sum::<f64>() / f64::from(tokens), distance)
    };
    let slope = |index: usize, by: f32| {
        let ((up, right), (down, left)) = (loss(index, by), loss(index, -by));
        (up - down) / (right - left)
    };
    let layout = trainer.layout();
    for (name, _, range) in layout.tensors() {
        for index in [range.start, range.start + range.len() / 3, range.end - 1] {
            let (near, far) = (slope(index, 0.0078125), slope(index, 0.015625));
            let measured = (4.0 * near - far) / 3.0;
            let apart = (measured - gradient[index]).abs();
            assert!(apart < 1e-6 * largest, "{name}[{index}]: {measured} measured, {} computed", gradient[index]);
        }
    }
}

#[test]
fn a_frozen_factor_keeps_its_bits_and_counts_for_nothing() {
    let (trainer, job) = setting();
    let layout = trainer.layout();
    let whole = change(&trainer, &job);
    let expected = |factors: Factors, of: &[f64]| {
        let mut kept = of.to_vec();
        factors.keep_only(&layout, &mut kept);
        kept
    };
    for factors in [Factors::A, Factors::B, Factors::LastLayers(1), Factors::ButLastLayers(1)] {
        let trained = |hyper: Hyper, terms: AlgorithmTerms| {
            let hyper = Hyper { trains: factors, ..hyper };
            change(&trainer, &Job { hyper, terms, ..job.clone() })
        };
        // One step of descent moves the factor as if the other were trained as well.
        let moved = trained(job.hyper.clone(), AlgorithmTerms::default());
        assert_equal(&moved, expected(factors, &whole).into_iter());
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        // Clipped to a norm of 1e-3, it moves by that times the learning rate: the frozen factor is not in the norm.
        let clipped = trained(Hyper { clip_norm: Some(1e-3), ..job.hyper.clone() }, AlgorithmTerms::default());
        assert!((norm(&clipped) - 0.5e-3).abs() < 1e-6, "{}", norm(&clipped));
        // Neither decay, nor corrections, nor pulls move it.
        let decay = Optimizer::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.5,
            variant: AdamVariant::Transformers,
        };
        let correction = Some((adapter(&trainer, 9), CorrectionPlace::AfterUpdate));
        let terms = AlgorithmTerms { anchor: Some(adapter(&trainer, 7)), correction, ..AlgorithmTerms::default() };
        let hyper = Hyper { optimizer: decay, proximal: Some(0.5), ..job.hyper.clone() };
        let moved = trained(hyper, terms);
        assert_eq!(expected(factors.others(), &moved), vec![0.0; moved.len()]);
        assert!(moved.iter().any(|&value| value != 0.0));
    }
}

/// A client of rank 2 under a server of rank 4 trains what it would train with an adapter of rank 2 and the same scaling.
#[test]
fn an_adapter_that_is_cut_to_a_rank_trains_as_one_of_that_rank() {
    let (trainer, job) = setting();
    let config = configs().remove(1);
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &config);
    let scaled = LoraSpec { rank: 2, alpha: 5.0, ..lora(&["q_proj", "down_proj"]) };
    let small = Trainer::load(folder.path(), Precision::F64, Device::Cpu, &scaled, &Numerics::default()).unwrap();
    assert_eq!(small.layout().scale(), trainer.layout().scale());
    let cut = job.adapter.truncated(2);
    let in_rank = |adapter: &Adapter| {
        let mut values = Vec::new();
        for (module, (a, b)) in adapter.layout.modules.iter().zip(adapter.layout.ranges()) {
            values.extend_from_slice(&adapter.values[a][..2 * module.in_features]);
            let rows = adapter.values[b].chunks_exact(adapter.layout.rank);
            values.extend(rows.flat_map(|row| row[..2].to_vec()));
        }
        values
    };
    let decayed =
        Optimizer::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.5, variant: AdamVariant::Transformers };
    let momentum = Optimizer::Sgd { momentum: 0.9 };
    for optimizer in [decayed, momentum] {
        let hyper = Hyper { optimizer, learning_rate: 0.1, proximal: Some(0.5), ..Hyper::default() };
        let steps = vec![job.steps[0].clone(); 3];
        let own = Adapter::new(small.layout(), in_rank(&cut));
        let trained = |trainer: &Trainer, adapter: Adapter| {
            let job = Job { adapter: Arc::new(adapter), hyper: hyper.clone(), steps: steps.clone(), ..job.clone() };
            trainer.train(&[job]).unwrap().remove(0).adapter
        };
        let (wide, narrow) = (trained(&trainer, cut.clone()), trained(&small, own));
        assert_eq!(wide.truncated(2), wide, "what was cut off stays zero");
        let moved = in_rank(&wide).iter().zip(in_rank(&cut)).any(|(after, before)| (after - before).abs() > 1e-3);
        assert!(moved);
        for (wide, narrow) in in_rank(&wide).iter().zip(&narrow.values) {
            assert!((wide - narrow).abs() < 1e-6, "{wide} for {narrow}");
        }
    }
}

/// First steps that train other factors are a training of their own, with an optimizer of its own.
#[test]
fn first_steps_are_a_training_before_the_others() {
    let config = configs().remove(1);
    let trainer = trainer(&config, Precision::F32, &["q_proj", "down_proj"]);
    let steps: Vec<_> = (1..5).map(|seed| vec![vec![sample(&config, 20, 4, seed)]]).collect();
    let train = |job: Job| trainer.train(&[job]).unwrap().remove(0);
    for optimizer in [Hyper::default().optimizer, Optimizer::Sgd { momentum: 0.9 }] {
        let trains = |trains| Hyper { optimizer, learning_rate: 0.01, trains, ..Hyper::default() };
        let (local, shared) = (Factors::LastLayers(1), Factors::ButLastLayers(1));
        let whole = |count| {
            let first_steps = Some(FirstSteps { count, trains: local });
            job(adapter(&trainer, 1), steps.clone(), Hyper { first_steps, ..trains(shared) })
        };
        let first = train(Job { hyper: trains(local), steps: steps[..2].to_vec(), ..whole(2) });
        let adapter = Arc::new(first.adapter.clone());
        let second = train(Job { hyper: trains(shared), steps: steps[2..].to_vec(), adapter, ..whole(2) });
        let both = train(whole(2));
        assert_eq!(both.adapter, second.adapter, "{optimizer:?}");
        assert_eq!(both.losses, [first.losses, second.losses].concat());
        // Each part has moved, and by its own number of steps.
        for factors in [local, shared] {
            let start = whole(2).adapter;
            assert_ne!(factors.replaced(&start, &both.adapter), *start);
            assert_ne!(factors.replaced(&both.adapter, &train(whole(3)).adapter), both.adapter);
        }
    }
}
