//! Training with a clock does what training without one does, and says which micro-batches end a step.

use super::*;
use crate::training::PassTime;

/// Two steps: of two micro-batches, and of one.
fn two_steps(config: &Config) -> Vec<crate::training::Step> {
    let row = |length, seed| sample(config, length, 1, seed);
    vec![vec![vec![row(33, 1), row(20, 2)], vec![row(17, 3)]], vec![vec![row(40, 4)]]]
}

#[test]
fn a_timed_job_has_the_bits_of_an_untimed_one() {
    let config = configs().remove(0);
    let trainer = trainer(&config, Precision::F32, &["all-linear"]);
    let job = job(adapter(&trainer, 1), two_steps(&config), Hyper { dropout: 0.1, ..Hyper::default() });
    let began = std::time::Instant::now();
    let mut times: Vec<PassTime> = Vec::new();
    let timed = trainer.train_timed(&job, &mut |time| {
        times.push(time);
        true
    });
    let elapsed = began.elapsed().as_secs_f64();
    let (timed, plain) = (timed.unwrap(), trainer.train(std::slice::from_ref(&job)).unwrap().remove(0));
    assert_eq!(timed.adapter.values, plain.adapter.values);
    assert_eq!((timed.losses, timed.tokens, timed.status), (plain.losses, plain.tokens, plain.status));
    let updates: Vec<bool> = times.iter().map(|time| time.update.is_some()).collect();
    assert_eq!(updates, [false, true, true]);
    let sum: f64 = times.iter().map(|time| time.micro_batch + time.update.unwrap_or(0.0)).sum();
    assert!(sum <= elapsed, "no time is counted twice");
    assert!(times.iter().all(|time| time.micro_batch > 0.0 && time.update.is_none_or(|update| update > 0.0)));
}

#[test]
fn a_timed_job_ends_when_it_is_told_to() {
    let config = configs().remove(0);
    let trainer = trainer(&config, Precision::F32, &["q_proj"]);
    let whole = job(adapter(&trainer, 1), two_steps(&config), Hyper::default());
    let first = Job { steps: whole.steps[..1].to_vec(), ..whole.clone() };
    let mut left = 2;
    let ended = trainer.train_timed(&whole, &mut |_| {
        left -= 1;
        left > 0
    });
    assert_eq!(ended.unwrap().adapter.values, trainer.train(&[first]).unwrap()[0].adapter.values);
}

#[test]
fn trainers_of_other_adapters_share_a_base() {
    let config = configs().remove(0);
    let wide = trainer(&config, Precision::F32, &["q_proj", "v_proj"]);
    let narrow = wide.with_lora(&LoraSpec { rank: 2, ..lora(&["q_proj"]) }).unwrap();
    assert!(std::ptr::eq::<crate::model::Base>(&**wide.base, &**narrow.base));
    assert_eq!((narrow.layout().rank, narrow.layout().modules.len()), (2, config.layers));
    let rows = |trainer: &Trainer| job(adapter(trainer, 1), two_steps(&config), Hyper::default());
    assert!(narrow.train(&[rows(&narrow)]).is_ok());
    assert!(narrow.train(&[rows(&wide)]).is_err(), "an adapter of the other layout is refused");
    assert!(wide.with_lora(&lora(&["no_such_module"])).is_err());
}
