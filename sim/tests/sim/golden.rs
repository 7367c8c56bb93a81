//! Digests of fixed worlds: they are the same on any machine, and change only with an entry in the changelog.
//!
//! `sim/tests/digests.csv` was made by this test: it prints the lines that it expected when they differ.

use crate::random_world::random_world;
use crate::world::{collect, supply};
use fedreplay_sim::*;

const GOLDEN: &str = include_str!("../digests.csv");

fn hex(digest: [u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `seed,events,end_ns,order,result` of a random world played to its end.
fn line(seed: u64) -> String {
    let mut simulation = Simulation::new(random_world(seed)).expect("a seed whose world is valid");
    loop {
        match simulation.step().unwrap() {
            Step::Advanced => {}
            Step::Needs(task) => supply(&mut simulation, task),
            Step::Idle => break,
        }
    }
    let run = collect(&mut simulation);
    format!("{seed},{},{},{},{}", simulation.events(), simulation.now().0, hex(run.order), hex(run.result))
}

#[test]
fn digests_are_the_golden_ones() {
    let golden: Vec<&str> = GOLDEN.lines().skip(1).collect();
    let valid = (0u64..).filter(|seed| Simulation::new(random_world(*seed)).is_ok());
    let played: Vec<String> = valid.take(40).map(line).collect();
    assert_eq!(played, golden, "now:\n{}", played.join("\n"));
}
