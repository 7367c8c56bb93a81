//! Orders of attacks: the updates of clients that attack are replaced before they are aggregated.

use std::collections::BTreeSet;

use fedreplay_sim::{CountedTask, Seed};

use crate::adapter::Factors;
use crate::algorithm::{AttackRule, Perturbation, alie_z};
use crate::graph::{Attack, Contribution, Executor, Node, NodeId};
use crate::scenario::{AttackSpec, AttackersSpec, Knowledge, MinMaxDirection, ScenarioSpec};

/// Clients of a run that attack.
pub struct Attackers<'a> {
    pub scenario: &'a ScenarioSpec,
    pub clients: &'a BTreeSet<u32>,
}

impl Attackers<'_> {
    /// Adds the attacks on a round, of which `contributions` are those of `counted`, and puts them in the place of the
    /// attackers' updates. `sent` are the factors that clients send.
    pub fn attack(
        &self,
        executor: &Executor,
        counted: &[CountedTask],
        sent: Factors,
        contributions: &mut [Contribution],
    ) {
        let Some(spec) = &self.scenario.attackers else { return };
        let (attacking, honest): (Vec<usize>, Vec<usize>) =
            (0..counted.len()).partition(|&place| self.clients.contains(&counted[place].client));
        if attacking.is_empty() {
            return;
        }
        let rule = rule(spec, contributions, &attacking);
        let known =
            known(spec, &attacking, &honest).iter().map(|&place| pair(contributions[place])).collect::<Vec<_>>();
        for &place in &attacking {
            let (update, base) = pair(contributions[place]);
            let is_noise = matches!(rule, AttackRule::Noise { .. });
            contributions[place].update = executor.add(Node::Attack(Attack {
                update,
                base,
                known: if rule.reads_known() { known.clone() } else { vec![] },
                rule,
                sent,
                noise: is_noise.then_some((Seed(self.scenario.seed), counted[place].task.0)),
            }));
        }
    }
}

fn pair(contribution: Contribution) -> (NodeId, NodeId) {
    (contribution.update, contribution.base)
}

/// Returns the places of the updates that attackers know of: their own where there is no honest one.
fn known<'a>(spec: &AttackersSpec, attacking: &'a [usize], honest: &'a [usize]) -> &'a [usize] {
    match spec.knowledge {
        Knowledge::Round if !honest.is_empty() => honest,
        _ => attacking,
    }
}

/// Translates the attack of a scenario, for a round in which the updates at these places are attackers'.
fn rule(spec: &AttackersSpec, contributions: &[Contribution], attacking: &[usize]) -> AttackRule {
    match spec.attack {
        AttackSpec::SignFlip { factor } => AttackRule::Scaled { factor: -factor },
        AttackSpec::Scaling { factor } => AttackRule::Scaled { factor },
        AttackSpec::ModelReplacement => {
            // The sum of all weights over that of the attackers: with honest updates that cancel out, the weighted mean is then
            // that of the attackers' own updates. Without a weight there is nothing to scale.
            let all: f64 = contributions.iter().map(|contribution| contribution.weight).sum();
            let theirs: f64 = attacking.iter().map(|&place| contributions[place].weight).sum();
            AttackRule::Scaled { factor: if theirs > 0.0 { all / theirs } else { 1.0 } }
        }
        AttackSpec::Noise { deviation } => AttackRule::Noise { deviation },
        AttackSpec::Alie { z } => {
            AttackRule::Alie { z: z.unwrap_or_else(|| alie_z(contributions.len(), attacking.len())) }
        }
        AttackSpec::InnerProduct { factor } => AttackRule::InnerProduct { factor },
        AttackSpec::MinMax { direction } => AttackRule::MinMax {
            direction: match direction {
                MinMaxDirection::Unit => Perturbation::Unit,
                MinMaxDirection::Deviation => Perturbation::Deviation,
                MinMaxDirection::Sign => Perturbation::Sign,
            },
        },
    }
}
