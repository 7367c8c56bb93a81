//! What is reported of a training: progress, changes, numbers that are not finite, and bad input.

use super::*;
use crate::training::Status;

fn setting() -> (Config, Trainer) {
    let config = configs().remove(0);
    let trainer = trainer(&config, Precision::F32, &["q_proj", "v_proj"]);
    (config, trainer)
}

#[test]
fn training_lowers_the_loss_of_what_it_trains_on() {
    let (config, trainer) = setting();
    let start = Arc::new(Adapter::initial(trainer.layout(), Seed(1)));
    let rows = vec![sample(&config, 30, 10, 1), sample(&config, 20, 10, 2)];
    let hyper = Hyper { learning_rate: 2e-2, ..Hyper::default() };
    let outcome = trainer.train(&[job(start.clone(), vec![vec![rows.clone()]; 30], hyper)]).unwrap().remove(0);
    assert_eq!(outcome.status, Status::Ok);
    assert_eq!((outcome.tokens, outcome.target_tokens), (30 * 50, 30 * 30));
    assert!(outcome.losses[29] < 0.8 * outcome.losses[0], "{:?}", outcome.losses);
    assert_eq!(outcome.update_norm, outcome.adapter.difference(&start).norm());
    let after: f64 = trainer.evaluate(&outcome.adapter, &rows).unwrap().iter().map(|row| row.nats).sum();
    assert!(after / 30.0 < outcome.losses[29]);
}

#[test]
fn the_first_step_leaves_a_unchanged_and_the_second_moves_every_matrix() {
    let (config, trainer) = setting();
    let start = Arc::new(Adapter::initial(trainer.layout(), Seed(1)));
    let step = vec![vec![sample(&config, 30, 10, 1)]];
    let after = |steps| {
        trainer.train(&[job(start.clone(), vec![step.clone(); steps], Hyper::default())]).unwrap().remove(0).adapter
    };
    let (one, two) = (after(1), after(2));
    for (name, _, range) in trainer.layout().tensors() {
        let moved = |adapter: &Adapter| adapter.values[range.clone()] != start.values[range.clone()];
        assert_eq!(moved(&one), name.contains("lora_B"), "{name} after one step");
        assert!(moved(&two), "{name} after two steps");
    }
}

#[test]
fn a_rate_of_zero_is_reported_as_unchanged() {
    let (config, trainer) = setting();
    let hyper = Hyper { learning_rate: 0.0, ..Hyper::default() };
    let outcome =
        trainer.train(&[job(adapter(&trainer, 1), vec![vec![vec![sample(&config, 9, 3, 1)]]], hyper)]).unwrap();
    assert_eq!(outcome[0].status, Status::Unchanged);
    assert_eq!(outcome[0].update_norm, 0.0);
}

#[test]
fn a_loss_that_is_not_finite_stops_its_job_and_no_other() {
    let (config, trainer) = setting();
    let mut broken = (*adapter(&trainer, 1)).clone();
    broken.values.iter_mut().for_each(|value| *value = 1e30);
    let steps = vec![vec![vec![sample(&config, 20, 3, 1)]]; 3];
    let good = job(adapter(&trainer, 2), steps.clone(), Hyper::default());
    let bad = job(Arc::new(broken), steps, Hyper::default());
    let outcomes = trainer.train(&[good.clone(), bad]).unwrap();
    assert_eq!(outcomes[1].status, Status::NonFinite { step: 0 });
    assert_eq!(outcomes[1].losses.len(), 1);
    assert_eq!(outcomes[0].status, Status::Ok);
    assert_eq!(outcomes[0].adapter, trainer.train(&[good]).unwrap()[0].adapter);
}

#[test]
fn a_fresh_adapter_computes_exactly_the_base() {
    let (config, trainer) = setting();
    let rows = vec![sample(&config, 30, 10, 1)];
    let losses: Vec<f64> = [1, 2]
        .map(|seed| trainer.evaluate(&Adapter::initial(trainer.layout(), Seed(seed)), &rows).unwrap()[0].nats)
        .into();
    assert_eq!(losses[0], losses[1]);
    assert_eq!(losses[0], trainer.evaluate(&Adapter::zeros(trainer.layout()), &rows).unwrap()[0].nats);
}

#[test]
fn dropout_changes_training_by_its_key_alone() {
    let (config, trainer) = setting();
    let trained = |dropout, stream| {
        let hyper = Hyper { dropout, ..Hyper::default() };
        let steps = vec![vec![vec![sample(&config, 20, 3, 1)]]; 2];
        let job = Job { stream, ..job(adapter(&trainer, 1), steps, hyper) };
        trainer.train(&[job]).unwrap().remove(0).adapter
    };
    assert_eq!(trained(0.3, 1), trained(0.3, 1));
    assert_ne!(trained(0.3, 1), trained(0.3, 2));
    assert_ne!(trained(0.3, 1), trained(0.0, 1));
    assert_eq!(trained(0.0, 1), trained(0.0, 2));
}

#[test]
fn rows_that_do_not_fit_are_refused_by_place_and_reason() {
    let (config, trainer) = setting();
    let reason = |sample: Sample| {
        let steps = vec![vec![vec![super::sample(&config, 9, 3, 1), Arc::new(sample)]]];
        trainer.train(&[job(adapter(&trainer, 1), steps, Hyper::default())]).unwrap_err().to_string()
    };
    let row = |ids: Vec<u32>, first: u32, end: u32| Sample { ids, targets: std::iter::once(first..end).collect() };
    assert!(reason(row(vec![1, 97, 3], 1, 3)).contains("row 1: token id 97 is beyond the embedding of 97"));
    assert!(reason(row(vec![1; 300], 1, 3)).contains("it has 300 tokens, the model takes 1 to 256"));
    assert!(reason(row(vec![], 1, 1)).contains("it has 0 tokens"));
    assert!(reason(row(vec![1, 2], 1, 3)).contains("target range 1..3"));
    assert!(reason(row(vec![1, 2], 0, 2)).contains("target range 0..2"));
    let nothing = vec![vec![vec![Arc::new(row(vec![1, 2], 1, 1))]]];
    let error = trainer.train(&[job(adapter(&trainer, 1), nothing, Hyper::default())]).unwrap_err();
    assert!(error.to_string().contains("no target token"), "{error}");
}
