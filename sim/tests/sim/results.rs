//! Policies that read results ask for those of tasks that counted, and for no others.

use crate::world::*;
use fedreplay_sim::*;
use std::collections::BTreeSet;

fn world(selection: Selection) -> Federation {
    let mut world = federation(12, synchronous(3, 2, Some(8_000)), 8);
    world.server.selection = selection;
    world.devices[0].slowdown = Quantiles::log_normal(1_000_000_000, 0.6, 128);
    world.dropouts[0] = Dropout { during_training: Probability::from_f64(0.2).unwrap(), ..Dropout::default() };
    world
}

fn oort() -> Selection {
    let p = |value| Probability::from_f64(value).unwrap();
    Selection::Oort(Oort {
        explore: p(0.9),
        explore_decay: p(0.9),
        explore_min: p(0.2),
        preferred: Span::from_secs(6),
        penalty: 2,
        cutoff: p(0.95),
    })
}

/// Plays with a trainer that counts what it trains.
fn trained(federation: Federation, loss: impl Fn(TaskId) -> f64) -> (BTreeSet<TaskId>, Run) {
    let mut simulation = Simulation::new(federation).unwrap();
    let mut trained = BTreeSet::new();
    loop {
        match simulation.step().unwrap() {
            Step::Advanced => {}
            Step::Needs(task) => {
                assert_eq!(simulation.step().unwrap(), Step::Needs(task), "asking changes nothing");
                assert!(trained.insert(task), "no task is trained twice");
                simulation.supply(task, TaskReport::from_loss(loss(task)));
            }
            Step::Idle => break,
        }
    }
    (trained, collect(&mut simulation))
}

#[test]
fn trained_tasks_are_the_tasks_that_counted() {
    for selection in [oort(), Selection::PowerOfChoice { draw: 8 }] {
        let (trained, run) = trained(world(selection), |_| 1.0);
        let counted = |task: &&TaskRecord| task.outcome == Outcome::Counted;
        // The last round's results are read by nobody.
        let last = run.rounds.len() as u32;
        let read: BTreeSet<TaskId> =
            run.tasks.iter().filter(counted).filter(|t| t.counted_in_version != Some(last)).map(|t| t.task).collect();
        assert_eq!(trained, read);
        let wasted = run.tasks.iter().filter(|task| task.outcome != Outcome::Counted).count();
        assert!(wasted > 5 && trained.len() > 10, "{wasted} tasks did not count and were not trained");
    }
}

#[test]
fn policies_that_read_nothing_ask_for_nothing() {
    for selection in [Selection::Uniform, Selection::BySize, Selection::RoundRobin, Selection::PythonSample] {
        let (trained, run) = trained(world(selection), |_| panic!("not asked"));
        assert!(trained.is_empty() && run.rounds.len() == 8);
    }
}

#[test]
fn results_decide_whom_power_of_choice_asks() {
    let (_, low) = trained(world(Selection::PowerOfChoice { draw: 8 }), |task| task.0 as f64);
    let (_, high) = trained(world(Selection::PowerOfChoice { draw: 8 }), |task| 100.0 - task.0 as f64);
    assert_ne!(low.result, high.result);
    let (_, again) = trained(world(Selection::PowerOfChoice { draw: 8 }), |task| task.0 as f64);
    assert_eq!(low, again);
}

#[test]
fn a_loss_that_is_no_number_is_the_greatest() {
    assert_eq!(TaskReport::from_loss(f64::NAN), TaskReport { loss_nanonats: u64::MAX });
    assert_eq!(TaskReport::from_loss(f64::INFINITY), TaskReport { loss_nanonats: u64::MAX });
    assert_eq!(TaskReport::from_loss(1.25), TaskReport { loss_nanonats: 1_250_000_000 });
}
