//! Federated methods made for LoRA: what each trains, sends, averages and keeps, computed again from the updates of runs.

use fedreplay::ledger::{EvalSubject, PopulationRow, RunTables, TableView};

use super::methods::PROTOCOLS;
use super::own_rule;
use super::recomputed::{self, Optimizer, Training};
use crate::support::World;

/// Four rounds of two steps with all three clients, by a method and an algorithm.
pub(super) fn scenario(method: &str, algorithm: &str, clients_per_round: u32) -> String {
    format!(
        r#"(
    name: "exchange", seed: 3, rounds: 4, algorithm: {algorithm}, federated_lora: {method},
    model: (folder: "base", lora: (rank: 2, alpha: 4, target_modules: ["q_proj", "up_proj"])),
    data: (file: "data.json", max_seq_length: 160, held_out: 0.2),
    training: (local_steps: 2, batch_size: 2, lr: 1e-2, optimizer: AdamW(weight_decay: 0.1)),
    server: (protocol: Synchronous(clients_per_round: {clients_per_round}), downlink: "1 Gbit/s", uplink: "1 Gbit/s"),
    population: (
        devices: {{ "quick": (speed: "1 GFLOP/s") }},
        links: {{ "home": (down: "20 Mbit/s", up: "4 Mbit/s") }},
        mix: [(share: 1, device: "quick", link: "home")],
    ),
    evaluation: (every: 2),
    output: (save_adapter_every: 2),
)"#
    )
}

/// A run of a method with the default weights, with everything that its store has.
pub(super) struct Played {
    pub(super) world: World,
    /// Whether each value is of A.
    pub(super) is_of_a: Vec<bool>,
    /// Models of the server, from the one before the first round.
    pub(super) models: Vec<Vec<f64>>,
    pub(super) trainings: Vec<Training>,
}

/// Number of clients of the world.
pub(super) const EVERYONE: u32 = 6;

impl Played {
    pub(super) fn new(method: &str, algorithm: &str, clients_per_round: u32, sets: &[&str]) -> Self {
        let world = World::new();
        world.write("scenario.ron", &scenario(method, algorithm, clients_per_round));
        let command = ["run", "scenario.ron", "--out", "run", "--store", "store"];
        world.fedreplay(&[&command, sets].concat()).succeeded();
        let (run, store) = (world.path("run"), world.path("store"));
        let is_of_a = recomputed::is_of_a(&run, &store);
        let models = recomputed::models(&run, &store).into_values().collect();
        let trainings = recomputed::trainings(&run, &store);
        Self { world, is_of_a, models, trainings }
    }

    /// Whether A and B differ between two adapters.
    pub(super) fn changes(&self, before: &[f64], after: &[f64]) -> [bool; 2] {
        [true, false].map(|of_a| {
            let places = self.is_of_a.iter().zip(before.iter().zip(after));
            places.filter(|(is_of_a, _)| **is_of_a == of_a).any(|(_, (before, after))| before != after)
        })
    }

    /// Fails unless each round of three clients has moved the server's model by the mean of their changes, each shortened to this norm.
    /// Only the values that are sent count and move.
    #[track_caller]
    pub(super) fn assert_bounded(&self, bound: f64, is_sent: &[bool]) {
        for (round, pair) in self.models.windows(2).enumerate() {
            let mut expected = pair[0].clone();
            for update in self.trainings.iter().filter(|training| training.from == round as u64) {
                let sent: Vec<usize> = (0..expected.len()).filter(|&place| is_sent[place]).collect();
                let change = |place: usize| update.adapter[place] - pair[0][place];
                let norm = sent.iter().map(|&place| change(place).powi(2)).sum::<f64>().sqrt();
                assert!(norm > bound, "{norm} is not shortened");
                for &place in &sent {
                    expected[place] += change(place) * bound / norm / 3.0;
                }
            }
            for (found, expected) in pair[1].iter().zip(&expected) {
                assert!((found - expected).abs() <= 1e-8, "{found} for {expected}");
            }
        }
    }

    /// Number of values of A and of B.
    pub(super) fn sizes(&self) -> [u64; 2] {
        let of_a = self.is_of_a.iter().filter(|&&is_of_a| is_of_a).count() as u64;
        [of_a, self.is_of_a.len() as u64 - of_a]
    }

    /// Bytes that each task of a round received and sent.
    pub(super) fn traffic(&self, round: u64) -> (u64, u64) {
        let tasks = RunTables::read(&self.world.path("run")).expect("tables").tasks().expect("tasks");
        let column = |name: &str| tasks.counts(name).expect("counts");
        let (rounds, down, up) = (column("round"), column("bytes_down"), column("bytes_up"));
        let of_round = (0..rounds.len()).filter(|&task| rounds[task] == round).map(|task| (down[task], up[task]));
        let mut found: Vec<_> = of_round.collect();
        assert!(!found.is_empty());
        found.dedup();
        assert_eq!(found.len(), 1, "tasks of round {round} differ: {found:?}");
        found[0]
    }
}

#[test]
fn of_ffa_lora_a_keeps_its_bits_and_b_alone_is_sent_and_averaged() {
    for algorithm in ["FedAvg()", "FedProx(mu: 0.1)", "FedAvgM()", "FedAdam()"] {
        let played = Played::new("FfaLora", algorithm, 4, &[]);
        let name = algorithm.split('(').next().expect("a name");
        let (run, store) = (played.world.path("run"), played.world.path("store"));
        assert_eq!(recomputed::check(&run, &store, "synchronous", &mut Optimizer::new(name)), 4);
        let start = &played.models[0];
        let all = played.models[1..].iter().chain(played.trainings.iter().map(|training| &training.adapter));
        for adapter in all {
            assert_eq!(played.changes(start, adapter), [false, true], "{algorithm}");
        }
        let [_, b] = played.sizes();
        assert_eq!([1, 2].map(|round| played.traffic(round)), [(4 * b, 4 * b); 2]);
    }
}

#[test]
fn noise_on_ffa_lora_leaves_a_alone() {
    let private = r#"privacy={"UserLevel":{"clipping":{"Fixed":{"norm":0.1}},"noise_multiplier":1,"delta":1e-5}}"#;
    let sets = ["--set", private, "--set", "algorithm.FedAvg.weights=Uniform"];
    let played = Played::new("FfaLora", "FedAvg()", 4, &sets);
    for model in &played.models[1..] {
        assert_eq!(played.changes(&played.models[0], model), [false, true]);
    }
}

#[test]
fn rolora_trains_and_sends_b_in_odd_rounds_and_a_in_even_ones() {
    for clients_per_round in [EVERYONE, 3] {
        let played = Played::new("RoLora", "FedAvg()", clients_per_round, &[]);
        let (run, store) = (played.world.path("run"), played.world.path("store"));
        assert_eq!(recomputed::check(&run, &store, "synchronous", &mut Optimizer::new("FedAvg")), 4);
        for (round, pair) in played.models.windows(2).enumerate() {
            assert_eq!(played.changes(&pair[0], &pair[1]), [round % 2 == 1, round % 2 == 0], "round {}", round + 1);
        }
        for training in &played.trainings {
            let start = &played.models[training.from as usize];
            let is_odd = training.from % 2 == 1;
            assert_eq!(played.changes(start, &training.adapter), [is_odd, !is_odd]);
        }
        let [a, b] = played.sizes();
        assert_ne!(a, b);
        // Who was asked in the round before has all but what that round changed; before the first, A is new.
        let received = if clients_per_round == EVERYONE { [a, b] } else { [a + b; 2] };
        assert_eq!([1, 2].map(|round| played.traffic(round)), [(4 * received[0], 4 * b), (4 * received[1], 4 * a)]);
        // Where a client may miss a round, it needs both.
        let sets = ["--set", "server.protocol.Synchronous.deadline=1h"];
        let hurried = Played::new("RoLora", "FedAvg()", clients_per_round, &sets);
        assert_eq!([1, 2].map(|round| hurried.traffic(round)), [(4 * (a + b), 4 * b), (4 * (a + b), 4 * a)]);
    }
}

#[test]
fn of_fedsa_lora_a_is_averaged_and_each_client_keeps_its_b() {
    let played = Played::new("FedSaLora", "FedAvg(weights: Uniform)", 3, &["--set", "evaluation.local_baseline=true"]);
    let [a, _] = played.sizes();
    assert_eq!([1, 2].map(|round| played.traffic(round)), [(4 * a, 4 * a); 2]);
    let mut kept: std::collections::BTreeMap<u64, Vec<f64>> = Default::default();
    for (round, pair) in played.models.windows(2).enumerate() {
        assert_eq!(played.changes(&pair[0], &pair[1]), [true, false], "B of the server is zero for ever");
        let updates: Vec<_> = played.trainings.iter().filter(|training| training.from == round as u64).collect();
        assert_eq!(updates.len(), 3);
        for place in (0..played.is_of_a.len()).filter(|&place| played.is_of_a[place]) {
            let mean = updates.iter().map(|update| update.adapter[place]).sum::<f64>() / 3.0;
            assert!((pair[1][place] - mean).abs() <= 1e-7, "{} for {mean}", pair[1][place]);
        }
        for update in updates {
            kept.insert(update.client, update.adapter.clone());
        }
    }
    // Each client is judged, after rounds 2 and 4, by A of the server with its own B, or B of zeros.
    let (run, store) = (played.world.path("run"), played.world.path("store"));
    let personal = recomputed::adapters(&run, &store, "personal");
    let last = &personal[personal.len() - kept.len()..];
    for (found, own) in last.iter().zip(kept.values()) {
        for place in 0..found.len() {
            let expected = if played.is_of_a[place] { played.models[4][place] } else { own[place] };
            assert_eq!(found[place], expected);
        }
    }
    let evaluations = RunTables::read(&run).expect("tables").evaluations().expect("evaluations");
    let after = |round| evaluations.iter().filter(move |row| row.round == round);
    assert!(after(2).chain(after(4)).all(|row| row.subject != EvalSubject::Global), "there is no model of the server");
    let of = |subject| after(4).filter(move |row| row.subject == subject);
    assert_eq!(of(EvalSubject::Local).count(), of(EvalSubject::Personal).count(), "clients alone are a baseline");
    assert_eq!(
        of(EvalSubject::Personal).filter_map(|row| row.client).collect::<std::collections::BTreeSet<_>>().len(),
        EVERYONE as usize
    );
    assert!(played.world.path("run/adapters/round-00004/client-0/adapter_model.safetensors").is_file());
    assert!(!played.world.path("run/adapters/round-00004/adapter_model.safetensors").exists());
    let export = ["export", "run", "--to", "peft", "--store", "store", "--out", "peft"];
    played.world.fedreplay(&export).refused(2, &["each client has a model of its own, which --client selects"]);
    played.world.fedreplay(&[&export[..], &["--client", "0"]].concat()).succeeded();
    played.world.fedreplay(&["verify", "run"]).succeeded();
    played.world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
    played.world.fedreplay(&["replay", "run", "--round", "3", "--store", "none"]).succeeded();
    let page = std::fs::read_to_string(played.world.path("run/report.html")).expect("a report");
    assert!(page.contains("own model") && page.contains("FedAvg with FedSA-LoRA"));
}

#[test]
fn a_method_that_comes_later_has_its_own_transfers() {
    let change = r#"changes=[(at_round: 3, set: ["algorithm=Scaffold"])]"#;
    let played = Played::new("FfaLora", "FedAvg()", 4, &["--set", change]);
    let [_, b] = played.sizes();
    // From then on, control variates of B travel with it.
    assert_eq!([1, 2, 3, 4].map(|round| played.traffic(round).1), [4 * b, 4 * b, 8 * b, 8 * b]);
}

#[test]
fn a_robust_rule_sees_what_fedsa_lora_sends() {
    let bound = 1e-3;
    let sets = ["--set", &format!("server.aggregation=NormBounding(bound: {bound})")];
    let played = Played::new("FedSaLora", "FedAvg(weights: Uniform)", 3, &sets);
    played.assert_bounded(bound, &played.is_of_a);
}

/// The farthest of the two honest clients is as far from what is sent as they are from each other, in the values that clients send.
#[test]
fn an_attacker_knows_what_fedsa_lora_sends() {
    let attack = r#"attackers=(clients: Ids(["user-0"]), attack: MinMax(direction: Unit))"#;
    let played = Played::new("FedSaLora", "FedAvg(weights: Uniform)", 3, &["--set", attack]);
    let sent: Vec<usize> = (0..played.models[0].len()).filter(|&place| played.is_of_a[place]).collect();
    let mut attacked = 0;
    for (round, pair) in played.models.windows(2).enumerate() {
        let of_round = played.trainings.iter().filter(|training| training.from == round as u64);
        let honest: Vec<&Training> = of_round.filter(|training| training.client != 0).collect();
        // Not every round asks the attacker.
        if honest.len() == 3 {
            continue;
        }
        attacked += 1;
        let changes = |place: usize| {
            let [first, second] = [0, 1].map(|client| honest[client].adapter[place] - pair[0][place]);
            // The mean of three has a third of each.
            [first, second, 3.0 * (pair[1][place] - pair[0][place]) - first - second]
        };
        let distance = |left: usize, right: usize| {
            let squares = sent.iter().map(|&place| (changes(place)[left] - changes(place)[right]).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let farthest = distance(0, 2).max(distance(1, 2));
        assert!((farthest / distance(0, 1) - 1.0).abs() < 1e-6, "{farthest} for {}", distance(0, 1));
        for place in (0..pair[0].len()).filter(|&place| !played.is_of_a[place]) {
            assert_eq!(pair[0][place], pair[1][place], "the server's B stays");
        }
    }
    assert!(attacked > 0);
}

#[test]
fn clients_factors_survive_other_workers_and_decisions_that_read_losses() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedSaLora", "FedAvg()", 3));
    let digest = |out: &str, more: &[&str]| {
        let set = ["run", "scenario.ron", "--out", out, "--set", "server.selection=PowerOfChoice(draw: 5)"];
        world.fedreplay(&[&set, more].concat()).succeeded().summary("digest").to_owned()
    };
    let one = digest("one", &["--store", "none", "--workers", "1"]);
    assert_eq!(one, digest("two", &["--store", "store", "--workers", "2"]));
    assert_eq!(one, digest("again", &["--store", "store"]));
}

#[test]
fn methods_name_what_they_do_not_go_with() {
    let world = World::new();
    let refusals = [
        ("FfaLora", "Local", "algorithm", "nothing is exchanged"),
        ("FfaLora", "FedAvg(mean: Products)", "algorithm.mean", "it says itself what is averaged"),
        ("RoLora", "FedAvgM()", "algorithm", "would move the frozen factor"),
        ("RoLora", "Scaffold()", "algorithm", "would move the frozen factor"),
        ("FedSaLora", "FedProx()", "algorithm", "its rule for A is a mean"),
        ("FlexLora", "FedAdam()", "algorithm", "takes the place of the server's step"),
        ("LoraFair()", "Scaffold()", "algorithm", "the correction is of a mean of factors"),
    ];
    for (method, algorithm, field, reason) in refusals {
        world.write("scenario.ron", &scenario(method, algorithm, 3));
        world.run("refused", &[]).refused(2, &[&format!("{field}: it does not go with"), reason]);
    }
    let sets = [
        ("RoLora", "server.protocol=Asynchronous(concurrency: 2)", "server.protocol"),
        ("RoLora", "training.optimizer_state=Kept", "training.optimizer_state"),
        ("FedSaLora", "server.protocol=Buffered(concurrency: 3, buffer_size: 2)", "server.protocol"),
        ("FedSaLora", r#"privacy={"FedLlmBenchDp":{}}"#, "privacy"),
        ("FlexLora", r#"privacy={"FedLlmBenchDp":{}}"#, "privacy"),
        ("FedSaLora", "model.lora.initial=adapter", "model.lora.initial"),
        ("FlexLora", "server.aggregation=Median", "server.aggregation"),
        ("RoLora", "server.aggregation=CenteredClipping(radius: 1)", "server.aggregation"),
    ];
    for (method, set, field) in sets {
        world.write("scenario.ron", &scenario(method, "FedAvg()", 3));
        world.run("refused", &["--set", set]).refused(2, &[&format!("{field}: it does not go with")]);
    }
    world.write("scenario.ron", &scenario("FfaLora", "FedAvg()", 3));
    let change = r#"changes=[(at_round: 2, set: ["federated_lora=RoLora"])]"#;
    world.run("changed", &["--set", change]).refused(2, &["federated_lora", "that of one method"]);
    world.run("unknown", &["--set", "federated_lora=FedSB"]).refused(2, &["FedSB", "FfaLora"]);
    assert!(!world.path("refused").exists() && !world.path("changed").exists());
}

#[test]
fn flexlora_by_its_name_is_the_mean_of_products() {
    let world = World::new();
    let last = |out: &str, method: &str, algorithm: &str| {
        world.write("scenario.ron", &scenario(method, algorithm, 3));
        world.run(out, &[]).succeeded();
        std::fs::read(world.path(&format!("{out}/adapters/round-00004/adapter_model.safetensors"))).expect("an adapter")
    };
    assert_eq!(last("named", "FlexLora", "FedAvg()"), last("mean", "FedIt", "FedAvg(mean: Products)"));
}

/// Clients on slow devices have rank 1, the others the server's rank 2.
pub(super) const MIXED: [&str; 6] = [
    "--set",
    r#"population.devices={"quick": (speed: "1 GFLOP/s"), "slow": (speed: "50 MFLOP/s")}"#,
    "--set",
    r#"population.mix=[(share: 1, device: "quick", link: "home"), (share: 1, device: "slow", link: "home")]"#,
    "--set",
    r#"model.lora.ranks={"slow": 1}"#,
];

impl Played {
    /// Places of each module's A `[2, inputs]` and B `[outputs, 2]`, which follow each other.
    pub(super) fn modules(&self) -> Vec<[std::ops::Range<usize>; 2]> {
        let mut ends: Vec<usize> =
            (1..self.is_of_a.len()).filter(|&place| self.is_of_a[place] != self.is_of_a[place - 1]).collect();
        ends.push(self.is_of_a.len());
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let parts: Vec<_> = starts.zip(&ends).map(|(start, &end)| start..end).collect();
        parts.chunks_exact(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect()
    }

    /// Places of the second row of each A and column of each B.
    pub(super) fn of_second_rank(&self) -> Vec<usize> {
        let mut places = Vec::new();
        for [a, b] in self.modules() {
            places.extend(a.start + a.len() / 2..a.end);
            places.extend(b.skip(1).step_by(2));
        }
        places
    }

    /// Products B A of all modules, with alpha / r = 2.
    pub(super) fn products(&self, adapter: &[f64]) -> Vec<f64> {
        let mut products = Vec::new();
        for [a, b] in self.modules() {
            let rows: Vec<&[f64]> = adapter[a.clone()].chunks_exact(a.len() / 2).collect();
            for column in adapter[b].chunks_exact(2) {
                products.extend(rows[0].iter().zip(rows[1]).map(|(x, y)| 2.0 * (column[0] * x + column[1] * y)));
            }
        }
        products
    }

    /// Rank of each client, by its device in the population.
    pub(super) fn ranks(&self) -> Vec<u64> {
        let population = TableView::read::<PopulationRow>(&self.world.path("run")).expect("a population");
        let devices = population.texts("device").expect("devices");
        devices.iter().map(|device| if *device == Some("slow") { 1 } else { 2 }).collect()
    }
}

#[test]
fn hetlora_weighs_by_norms_and_clients_have_the_ranks_of_their_devices() {
    let played = Played::new("HetLora", "FedAvg()", 4, &MIXED);
    let ranks = played.ranks();
    assert!(ranks.contains(&1) && ranks.contains(&2), "{ranks:?}");
    let second = played.of_second_rank();
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let tasks = tables.tasks().expect("tasks");
    let column = |name: &str| tasks.counts(name).expect("counts");
    let values = played.is_of_a.len() as u64;
    for (client, (down, up)) in
        column("client").into_iter().zip(column("bytes_down").into_iter().zip(column("bytes_up")))
    {
        let bytes = 4 * values * ranks[client as usize] / 2;
        assert_eq!((down, up), (bytes, bytes), "client {client}");
    }
    let weights = tasks.numbers("weight").expect("weights");
    let (mut cut, mut round_weights) = (0, weights.into_iter().flatten());
    for (round, pair) in played.models.windows(2).enumerate() {
        let updates: Vec<_> = played.trainings.iter().filter(|training| training.from == round as u64).collect();
        let norms = updates
            .iter()
            .map(|update| played.products(&update.adapter).iter().map(|value| value * value).sum::<f64>().sqrt());
        let norms: Vec<f64> = norms.collect();
        let total: f64 = norms.iter().sum();
        let mut expected = vec![0.0; pair[0].len()];
        for (update, norm) in updates.iter().zip(&norms) {
            let weight = round_weights.next().expect("a weight");
            assert!((weight / (norm / total) - 1.0).abs() < 1e-9, "{weight} for {}", norm / total);
            if ranks[update.client as usize] == 1 {
                cut += 1;
                assert!(
                    second.iter().all(|&place| update.adapter[place] == 0.0),
                    "client {} has rank 1",
                    update.client
                );
            }
            assert_ne!(played.changes(&pair[0], &update.adapter), [false, false]);
            expected.iter_mut().zip(&update.adapter).for_each(|(sum, value)| *sum += weight * value);
        }
        for (found, expected) in pair[1].iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-7, "{found} for {expected}");
        }
    }
    assert!(cut > 0 && cut < played.trainings.len(), "{cut}");
    played.world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "3"], &["--client", "1"]] {
        played.world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
}

#[test]
fn clients_of_lower_rank_compress_what_they_have() {
    let sets = [&MIXED[..], &["--set", "server.uplink_codec=TopK(share: 0.25)"]].concat();
    let played = Played::new("HetLora", "FedAvg()", 4, &sets);
    let ranks = played.ranks();
    let second = played.of_second_rank();
    let tasks = RunTables::read(&played.world.path("run")).expect("tables").tasks().expect("tasks");
    let column = |name: &str| tasks.counts(name).expect("counts");
    let kept = |client: u64| played.is_of_a.len() as u64 * ranks[client as usize] / 2 / 4;
    for (client, up) in column("client").into_iter().zip(column("bytes_up")) {
        assert_eq!(up, 8 * kept(client), "client {client}");
    }
    let mut weights = tasks.numbers("weight").expect("weights").into_iter().flatten();
    for (round, pair) in played.models.windows(2).enumerate() {
        let mut expected = vec![0.0; pair[0].len()];
        for update in played.trainings.iter().filter(|training| training.from == round as u64) {
            let mut start = pair[0].clone();
            if ranks[update.client as usize] == 1 {
                second.iter().for_each(|&place| start[place] = 0.0);
                assert!(second.iter().all(|&place| update.received[place] == 0.0));
            }
            let moved = start.iter().zip(&update.received).filter(|(start, received)| start != received).count() as u64;
            let most = kept(update.client);
            assert!(moved <= most && 10 * moved >= 9 * most, "{moved} of at most {most} values");
            let weight = weights.next().expect("a weight");
            expected.iter_mut().zip(&update.received).for_each(|(sum, value)| *sum += weight * value);
        }
        for (found, expected) in pair[1].iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-7, "{found} for {expected}");
        }
    }
    played.world.fedreplay(&["verify", "run"]).succeeded();
    played.world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
}

#[test]
fn flexlora_gives_each_client_the_nearest_of_its_rank() {
    let sets = [&MIXED[..], &["--set", "evaluation.local_baseline=true"]].concat();
    let played = Played::new("FlexLora", "FedAvg(weights: Uniform)", 4, &sets);
    let ranks = played.ranks();
    let second = played.of_second_rank();
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let totals = tables.rounds().numbers("aggregation_error").expect("errors");
    for (round, pair) in played.models.windows(2).enumerate() {
        let updates: Vec<_> = played.trainings.iter().filter(|training| training.from == round as u64).collect();
        let mut mean = vec![0.0; played.products(&pair[0]).len()];
        for update in &updates {
            let is_cut = second.iter().all(|&place| update.adapter[place] == 0.0);
            assert_eq!(is_cut, ranks[update.client as usize] == 1);
            for (sum, value) in mean.iter_mut().zip(played.products(&update.adapter)) {
                *sum += value / updates.len() as f64;
            }
        }
        // The ledger has the relative distance that rank 2 leaves.
        let distance: f64 =
            played.products(&pair[1]).iter().zip(&mean).map(|(found, mean)| (found - mean).powi(2)).sum::<f64>().sqrt();
        let size = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
        let total = totals[round].expect("an error");
        assert!((distance / size - total).abs() < 1e-6, "{} for {total}", distance / size);
    }
    // A client alone has its rank, too.
    let locals = recomputed::adapters(&played.world.path("run"), &played.world.path("store"), "truncated");
    assert!(locals.iter().all(|adapter| second.iter().all(|&place| adapter[place] == 0.0)));
    played.world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
}

/// Solves x (G + 0.5 I) = y for a symmetric G of two rows.
fn solved(gram: [[f64; 2]; 2], y: [f64; 2]) -> [f64; 2] {
    let [[a, b], [_, d]] = [[gram[0][0] + 0.5, gram[0][1]], [gram[1][0], gram[1][1] + 0.5]];
    let determinant = a * d - b * b;
    [(y[0] * d - y[1] * b) / determinant, (y[1] * a - y[0] * b) / determinant]
}

#[test]
fn lora_fair_corrects_the_mean_of_b() {
    let played = Played::new("LoraFair(regularization: 0.5)", "FedAvg(weights: Uniform)", 4, &[]);
    let dot = |left: &[f64], right: &[f64]| -> f64 { left.iter().zip(right).map(|(left, right)| left * right).sum() };
    let mut largest = 0.0f64;
    for (round, pair) in played.models.windows(2).enumerate() {
        let updates: Vec<_> = played.trainings.iter().filter(|training| training.from == round as u64).collect();
        let mut expected = vec![0.0; pair[0].len()];
        for update in &updates {
            expected.iter_mut().zip(&update.adapter).for_each(|(sum, value)| *sum += value / updates.len() as f64);
        }
        for [a, b] in played.modules() {
            let inputs = a.len() / 2;
            let mean_a: Vec<Vec<f64>> = expected[a.clone()].chunks_exact(inputs).map(<[f64]>::to_vec).collect();
            let gram = [0, 1].map(|row| [0, 1].map(|column| dot(&mean_a[row], &mean_a[column])));
            for place in b.step_by(2) {
                // A row of M Am^T - Bm (Am Am^T), from the products of the clients.
                let mut y = [0, 1].map(|column| -(0..2).map(|k| expected[place + k] * gram[k][column]).sum::<f64>());
                for update in &updates {
                    let rows: Vec<&[f64]> = update.adapter[a.clone()].chunks_exact(inputs).collect();
                    for column in 0..2 {
                        let of = |k: usize| update.adapter[place + k] * dot(rows[k], &mean_a[column]);
                        y[column] += (of(0) + of(1)) / updates.len() as f64;
                    }
                }
                let change = solved(gram, y);
                largest = largest.max(change[0].abs());
                expected[place] += change[0];
                expected[place + 1] += change[1];
            }
        }
        for (found, expected) in pair[1].iter().zip(&expected) {
            assert!((found - expected).abs() <= 1e-7, "{found} for {expected}");
        }
    }
    assert!(largest > 1e-5, "the correction is seen: {largest}");
    played.world.fedreplay(&["verify", "run"]).succeeded();
    played.world.fedreplay(&["replay", "run", "--store", "none"]).succeeded();
    let tables = RunTables::read(&played.world.path("run")).expect("tables");
    let errors = tables.rounds().numbers("aggregation_error").expect("errors");
    // Without regularization to speak of, the error is lower in the first round, which begins with the same updates.
    let free = Played::new("LoraFair(regularization: 1e-9)", "FedAvg(weights: Uniform)", 4, &[]);
    let plain = Played::new("FedIt", "FedAvg(weights: Uniform)", 4, &[]);
    let first = |played: &Played| {
        let tables = RunTables::read(&played.world.path("run")).expect("tables");
        tables.rounds().numbers("aggregation_error").expect("errors")[0].expect("an error")
    };
    let (free, plain, own) = (first(&free), first(&plain), errors[0].expect("an error"));
    assert!(free < own && own < plain, "{free} {own} {plain}");
}

#[test]
fn ranks_of_devices_name_what_is_wrong_with_them() {
    let world = World::new();
    let refusals = [
        ("HetLora", r#"{"phone": 1}"#, vec![], "model.lora.ranks.phone: population.devices has no class of this name"),
        (
            "HetLora",
            r#"{"quick": 0}"#,
            vec![],
            "model.lora.ranks.quick: it is 0, and must be from 1 to model.lora.rank",
        ),
        (
            "HetLora",
            r#"{"quick": 3}"#,
            vec![],
            "model.lora.ranks.quick: it is 3, and must be from 1 to model.lora.rank",
        ),
        (
            "FedIt",
            r#"{"quick": 1}"#,
            vec![],
            "FedIT has one rank; methods that take several: federated_lora FlexLora, HetLora, Flora, Florist, HetLoraPruning",
        ),
        ("FfaLora", r#"{"quick": 1}"#, vec![], "FFA-LoRA has one rank"),
        (
            "FlexLora",
            r#"{"quick": 1}"#,
            vec!["server.protocol=Buffered(concurrency: 3, buffer_size: 2)"],
            "it requires synchronous rounds",
        ),
        (
            "FlexLora",
            r#"{"quick": 1}"#,
            vec![r#"attackers=(clients: Number(1), attack: SignFlip(factor: 1))"#],
            "it does not go with attackers",
        ),
        ("HetLora", "{}", vec!["algorithm.FedAvg.weights=Uniform"], "algorithm.weights: it does not go with HetLoRA"),
        (
            "HetLora",
            "{}",
            vec!["server.protocol=Asynchronous(concurrency: 2)"],
            "server.protocol: it does not go with HetLoRA",
        ),
        (
            "LoraFair()",
            "{}",
            vec!["federated_lora.LoraFair.regularization=0"],
            "regularization=0: 0 is out of range: it must be above 0",
        ),
        ("LoraFair()", "{}", vec!["server.aggregation=Median"], "server.aggregation: it does not go with LoRA-FAIR"),
        ("HetLora", "{}", vec!["algorithm=FedAdam()"], "algorithm: it does not go with HetLoRA"),
        ("HetLora", "{}", vec!["server.aggregation=Median"], "server.aggregation: it does not go with HetLoRA"),
    ];
    for (method, ranks, sets, reason) in refusals {
        world.write("scenario.ron", &scenario(method, "FedAvg()", 3));
        let ranks = format!("model.lora.ranks={ranks}");
        let sets: Vec<&str> = sets.into_iter().chain([ranks.as_str()]).flat_map(|set| ["--set", set]).collect();
        world.run("refused", &sets).refused(2, &[reason]);
    }
    assert!(!world.path("refused").exists());
}

/// The cells of a line of a table: the first is the name of the row.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()
}

#[test]
fn accepted_combinations_run_so_that_every_method_meets_every_algorithm_and_protocol() {
    let world = World::new();
    let page = std::fs::read_to_string(crate::support::project("docs/methods/combinations.md")).expect("the page");
    world.write("rule.py", own_rule::MEAN);
    let python = own_rule::python();
    let mut played = 0;
    for section in page.split("\n## ").skip(1) {
        let method = section.split('`').nth(1).expect("a method");
        // FedIt is what `methods.rs` plays, cell by cell.
        if !section.starts_with('`') || method == "FedIt" {
            continue;
        }
        let mut met = std::collections::BTreeSet::new();
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let row = cells(line);
            for (cell, (_, value)) in row[1..].iter().zip(PROTOCOLS) {
                let protocol = value.split('(').next().expect("a name");
                if *cell != "yes" || !(met.insert(row[0]) | met.insert(protocol)) {
                    continue;
                }
                let (algorithm, python) = match (row[0], &python) {
                    ("Python", None) => continue,
                    ("Python", Some(python)) => (r#"Python(file: "rule.py")"#.to_owned(), python.as_str()),
                    (name, _) => (format!("{name}()"), "python3"),
                };
                world.write("scenario.ron", &scenario("FedIt", &algorithm, 3));
                let sets = [
                    format!("federated_lora={method}"),
                    format!("server.protocol={value}"),
                    "population.mix.0.region=here".into(),
                    "rounds=2".into(),
                ];
                let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
                let out = format!("{method}-{}-{protocol}", row[0]);
                world.run(&out, &[&sets[..], &["--python", python]].concat()).succeeded();
                played += 1;
            }
        }
    }
    assert!(played >= 14, "only {played} combinations");
}
