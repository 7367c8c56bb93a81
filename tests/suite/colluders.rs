//! Attackers that know other updates: what they send is computed again from the stored updates by the formulas of the papers, and
//! the models from what they send.

use std::collections::BTreeSet;

use super::aggregation::median;
use super::attacks::{ALL, UNIFORM, attacking_clients, attacks, mean, run};
use super::methods::PROTOCOLS;
use super::recomputed::{self, Optimizer, Training, minus};
use super::support::World;

/// Changes that the attackers of a round know, with the numbers of its updates and of those that are attackers'.
struct Known {
    changes: Vec<Vec<f64>>,
    updates: usize,
    attackers: usize,
}

impl Known {
    fn mean(&self) -> Vec<f64> {
        mean(self.changes.iter())
    }

    /// Returns the standard deviation of each coordinate, with the number of changes as the divisor.
    fn deviation(&self) -> Vec<f64> {
        let away = self.changes.iter().map(|change| minus(change, &self.mean()));
        let squares: Vec<Vec<f64>> = away.map(|away| away.iter().map(|value| value * value).collect()).collect();
        mean(squares.iter()).into_iter().map(f64::sqrt).collect()
    }

    fn alie(&self, z: f64) -> Vec<f64> {
        self.mean().iter().zip(self.deviation()).map(|(mean, deviation)| mean - z * deviation).collect()
    }

    /// Returns z of ALIE by its paper, with quantiles of Python's `statistics.NormalDist`; 0 where no honest update is left on the
    /// other side.
    fn alie_z(&self) -> f64 {
        let honest = self.updates - self.attackers;
        let needed = (self.updates / 2 + 1).saturating_sub(self.attackers).max(1);
        match (honest.saturating_sub(needed), honest) {
            (0, _) => 0.0,
            (1, 3) => -0.43072729929545733,
            (1, 2) | (2, 4) => 0.0,
            (2, 3) => 0.43072729929545733,
            (2, 5) => -0.2533471031357997,
            other => panic!("no quantile for {other:?}"),
        }
    }

    /// Searches the factor on `direction` by halving steps, as the paper on min-max does.
    fn min_max(&self, direction: &[f64]) -> Vec<f64> {
        let mean = self.mean();
        let pairs = self.changes.iter().flat_map(|one| self.changes.iter().map(|other| length(&minus(one, other))));
        let largest = pairs.fold(0.0, f64::max);
        let moved = |by: f64| -> Vec<f64> {
            mean.iter().zip(direction).map(|(mean, direction)| mean + by * direction).collect()
        };
        let mut low = 0.0;
        let mut high = 1e3;
        for _ in 0..100 {
            let middle = (low + high) / 2.0;
            let sent = moved(middle);
            if self.changes.iter().all(|change| length(&minus(&sent, change)) <= largest) {
                low = middle;
            } else {
                high = middle;
            }
        }
        moved(low)
    }
}

fn length(values: &[f64]) -> f64 {
    product(values, values).sqrt()
}

fn product(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

/// What attackers send by what they know.
type Formula = fn(&Known) -> Vec<f64>;

const ATTACKS: [(&str, Formula); 6] = [
    ("Alie()", |known| known.alie(known.alie_z())),
    ("Alie(z: 1.5)", |known| known.alie(1.5)),
    ("InnerProduct(factor: 2)", |known| known.mean().iter().map(|mean| -2.0 * mean).collect()),
    ("MinMax()", |known| {
        let mean = known.mean();
        let length = length(&mean);
        known.min_max(&mean.iter().map(|mean| -mean / length).collect::<Vec<_>>())
    }),
    ("MinMax(direction: Deviation)", |known| {
        known.min_max(&known.deviation().iter().map(|deviation| -deviation).collect::<Vec<_>>())
    }),
    ("MinMax(direction: Sign)", |known| {
        let signs = known.mean().into_iter().map(|mean| if mean == 0.0 { 0.0 } else { -mean.signum() });
        known.min_max(&signs.collect::<Vec<_>>())
    }),
];

/// Checks what the attackers of a run sent in every round, and that honest clients sent what they trained. Returns the number of
/// updates of attackers.
fn check_sent(world: &World, out: &str, knows_round: bool, formula: Formula) -> usize {
    let models = recomputed::models(&world.path(out), &world.path("store"));
    let attacking = attacking_clients(world, out);
    let is_attacker = |training: &&&Training| attacking.contains(&training.client);
    let trainings = recomputed::trainings(&world.path(out), &world.path("store"));
    let mut checked = 0;
    for version in trainings.iter().map(|training| training.counted_in).collect::<BTreeSet<u64>>() {
        let round: Vec<&Training> = trainings.iter().filter(|training| training.counted_in == version).collect();
        let (theirs, honest): (Vec<&Training>, Vec<&Training>) = round.iter().partition(is_attacker);
        assert!(honest.iter().all(|training| training.received == training.adapter));
        let source = if knows_round && !honest.is_empty() { &honest } else { &theirs };
        let known = Known {
            changes: source.iter().map(|training| minus(&training.adapter, &models[&training.from])).collect(),
            updates: round.len(),
            attackers: theirs.len(),
        };
        for training in &theirs {
            recomputed::assert_moved(&training.received, &models[&training.from], &formula(&known));
        }
        checked += theirs.len();
    }
    checked
}

#[test]
fn colluders_send_what_follows_from_the_updates_that_they_know_under_every_protocol() {
    let world = World::new();
    let protocols = PROTOCOLS.iter().filter(|(name, _)| *name != "asynchronous");
    for (row, (name, protocol)) in protocols.enumerate() {
        for (place, (attack, formula)) in ATTACKS.into_iter().enumerate() {
            // Both kinds of knowledge in turn, so that each attack and each protocol has both.
            let knows_round = (row + place) % 2 == 0;
            let knowledge = if knows_round { "Round" } else { "Own" };
            let out = format!("{name}-{place}");
            let text = format!("clients: Number(3), attack: {attack}, knowledge: {knowledge}");
            run(&world, &out, ["FedAvg()", protocol, &text], &[]).succeeded();
            let checked = check_sent(&world, &out, knows_round, formula);
            assert!(checked > 0 && checked == attacks(&world, &out).len(), "{out}: {checked}");
            let mut optimizer = Optimizer::new("FedAvg");
            let models = recomputed::check(&world.path(&out), &world.path("store"), name, &mut optimizer);
            assert!(models >= 2, "{out}: {models} models");
        }
    }
}

#[test]
fn a_robust_rule_combines_what_colluders_send() {
    let world = World::new();
    for (place, (attack, formula)) in ATTACKS.into_iter().enumerate() {
        let out = format!("run-{place}");
        let text = format!("clients: Number(2), attack: {attack}");
        run(&world, &out, [UNIFORM, ALL, &text], &["server.aggregation=Median"]).succeeded();
        assert_eq!(check_sent(&world, &out, true, formula), 4, "two attackers in two rounds");
        let models = recomputed::models(&world.path(&out), &world.path("store"));
        let trainings = recomputed::trainings(&world.path(&out), &world.path("store"));
        for version in [1, 2] {
            let before = &models[&(version - 1)];
            let round = trainings.iter().filter(|training| training.counted_in == version);
            let sent: Vec<Vec<f64>> = round.map(|training| minus(&training.received, before)).collect();
            recomputed::assert_moved(&models[&version], before, &median(&sent));
        }
    }
}

/// Runs one round with one attacker under a rule. Returns the change of the model, the mean of the honest changes, and what the
/// attacker sent.
fn one_attacker(world: &World, rule: &str, attack: &str) -> [Vec<f64>; 3] {
    let out = format!("run-{}", &rule[..rule.find('(').unwrap_or(rule.len())]);
    let text = format!("clients: Number(1), attack: {attack}");
    let set = format!("server.aggregation={rule}");
    run(world, &out, [UNIFORM, ALL, &text], &[&set]).succeeded();
    let models = recomputed::models(&world.path(&out), &world.path("store"));
    let attacking = attacking_clients(world, &out);
    let mut honest = Vec::new();
    let mut sent = Vec::new();
    for training in recomputed::trainings(&world.path(&out), &world.path("store")) {
        if training.counted_in == 1 {
            let change = minus(&training.received, &models[&0]);
            if attacking.contains(&training.client) { sent.push(change) } else { honest.push(change) }
        }
    }
    assert_eq!([honest.len(), sent.len()], [5, 1]);
    [minus(&models[&1], &models[&0]), mean(honest.iter()), sent.remove(0)]
}

/// One client of six sends ten times the others' mean backward: the mean of the round then points backward, at -5/6 of it.
#[test]
fn rules_that_take_an_attacker_go_on_where_the_mean_turns_around() {
    let world = World::new();
    let attack = "InnerProduct(factor: 10)";
    for rule in ["Mean", "Bulyan(byzantine: 0)"] {
        let [change, honest, _] = one_attacker(&world, rule, attack);
        let share = product(&change, &honest) / product(&honest, &honest);
        assert!((share + 5.0 / 6.0).abs() < 1e-3, "{rule}: {share}");
    }
    for rule in [
        "Median",
        "TrimmedMean(trim: 0.25)",
        "Krum(byzantine: 1)",
        "MultiKrum(byzantine: 1)",
        "GeometricMedian()",
        "NormBounding(bound: 0.01)",
        "CenteredClipping(radius: 0.01)",
    ] {
        let [change, honest, _] = one_attacker(&world, rule, attack);
        assert!(product(&change, &honest) > 0.0, "{rule}");
    }
}

/// Krum's result lies as near to the others as an update can, and a little less than a deviation from the mean is nearer.
#[test]
fn krum_chooses_a_single_attacker_that_stays_near_the_mean() {
    let world = World::new();
    let [change, honest, sent] = one_attacker(&world, "Krum(byzantine: 1)", "Alie(z: 0.8)");
    let apart = length(&minus(&change, &sent));
    assert!(apart <= 1e-5 * length(&sent), "the model moved by {apart} less than what the attacker sent");
    assert!(length(&minus(&sent, &honest)) > 0.1 * length(&honest), "and that is not the honest mean");
}
