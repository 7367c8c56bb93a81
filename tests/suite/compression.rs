//! Compressed updates: models follow from what a decoder gives, clients remember what they have not sent, and the clock charges the
//! encoded bytes.

use std::collections::BTreeMap;

use fedreplay::ledger::{RunTables, read_table};

use super::methods::{PROTOCOLS, scenario};
use super::recomputed::{self, Optimizer, Training, minus};
use super::support::{Said, World};

const ALL: &str = "Synchronous(clients_per_round: 6, minimum: 6)";
/// Without a minimum, so that a round counts whoever comes.
const EACH: &str = "Synchronous(clients_per_round: 6)";
const UNIFORM: &str = "FedAvg(weights: Uniform)";

const CODECS: [(&str, &str); 5] = [
    ("top-k", "TopK(share: 0.1)"),
    ("sign", "SignSgd()"),
    ("qsgd", "Qsgd(levels: 7, bucket: 64)"),
    ("int8", "Int8"),
    ("nf4", "Nf4"),
];

/// Top-k, and each of the others in turn.
fn top_k_and_another(turn: usize) -> [(&'static str, &'static str); 2] {
    [CODECS[0], CODECS[1 + turn % 4]]
}

fn write(world: &World, method: &str, protocol: &str, codec: &str) {
    let text = scenario(method, protocol);
    let end = r#"uplink: "1 Gbit/s"),
    population"#;
    assert!(text.contains(end), "{text}");
    let codec = if codec.is_empty() { String::new() } else { format!("uplink_codec: {codec}, ") };
    world.write("scenario.ron", &text.replace(end, &format!("{codec}{end}")));
}

/// Runs a scenario of a method, a protocol and a codec.
fn run(world: &World, out: &str, scenario: [&str; 3], sets: &[&str]) -> Said {
    let [method, protocol, codec] = scenario;
    write(world, method, protocol, codec);
    let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
    world.fedreplay(&[&["run", "scenario.ron", "--out", out, "--store", "store"][..], &sets].concat())
}

/// Bytes that each task of a run sent.
fn sent(world: &World, out: &str) -> Vec<u64> {
    let tasks = RunTables::read(&world.path(out)).expect("tables").tasks().expect("tasks");
    let (counted, bytes) = (tasks.counts_or_none("counted_in_version"), tasks.counts("bytes_up"));
    let pairs = counted.expect("versions").into_iter().zip(bytes.expect("bytes"));
    pairs.filter(|(counted, _)| counted.is_some()).map(|(_, bytes)| bytes).collect()
}

/// The values of largest magnitude; the others are zero.
fn top_k(change: &[f64], kept: usize) -> Vec<f64> {
    let mut magnitudes: Vec<f64> = change.iter().map(|value| value.abs()).collect();
    magnitudes.sort_by(|left, right| right.total_cmp(left));
    change.iter().map(|&value| if value.abs() >= magnitudes[kept - 1] { value } else { 0.0 }).collect()
}

/// Signs times the mean magnitude of each matrix.
fn signs(change: &[f64], matrices: &[usize]) -> Vec<f64> {
    let mut rest = change;
    let mut decoded = vec![];
    for &length in matrices {
        let (matrix, others) = rest.split_at(length);
        rest = others;
        let mean = matrix.iter().map(|value| value.abs()).sum::<f64>() / length as f64;
        decoded.extend(matrix.iter().map(|&value| if value < 0.0 { -mean } else { mean }));
    }
    decoded
}

/// Whole numbers of 127 parts of the absolute maximum of each 64 values of a matrix.
pub(super) fn int8(change: &[f64], matrices: &[usize]) -> Vec<f64> {
    let mut rest = change;
    let mut decoded = vec![];
    for &length in matrices {
        let (matrix, others) = rest.split_at(length);
        rest = others;
        for block in matrix.chunks(64) {
            let most = block.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            // Neighbors of a half may round the other way after f32, so equal halves are rare enough to be left out.
            decoded.extend(
                block.iter().map(|value| if most > 0.0 { (127.0 * value / most).round() * most / 127.0 } else { 0.0 }),
            );
        }
    }
    decoded
}

fn count(world: &World, out: &str) -> usize {
    recomputed::matrices(&world.path(out), &world.path("store")).iter().sum()
}

/// Two rounds of all clients, computed again from their trainings, with the clients' memories.
#[test]
fn models_follow_from_decoded_changes_and_memories() {
    let world = World::new();
    type Decoded = fn(&[f64], &[usize]) -> Vec<f64>;
    let kept = |matrices: &[usize]| matrices.iter().sum::<usize>() / 10;
    let codecs: [(&str, bool, Decoded); 5] = [
        ("TopK(share: 0.1)", true, |change, matrices| top_k(change, matrices.iter().sum::<usize>() / 10)),
        ("TopK(share: 0.1, error_feedback: false)", false, |change, matrices| {
            top_k(change, matrices.iter().sum::<usize>() / 10)
        }),
        ("SignSgd()", true, signs),
        ("SignSgd(error_feedback: false)", false, signs),
        ("Int8", false, int8),
    ];
    for (place, (codec, remembers, decoded)) in codecs.into_iter().enumerate() {
        let out = format!("run-{place}");
        run(&world, &out, [UNIFORM, ALL, codec], &[]).succeeded();
        let (folder, store) = (world.path(&out), world.path("store"));
        let matrices = recomputed::matrices(&folder, &store);
        let models = recomputed::models(&folder, &store);
        let trainings = recomputed::trainings(&folder, &store);
        let mut memories: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for version in [1, 2] {
            let before = &models[&(version - 1)];
            let mut sums = vec![0.0; before.len()];
            let of_version: Vec<&Training> =
                trainings.iter().filter(|training| training.counted_in == version).collect();
            assert_eq!(of_version.len(), 6);
            for training in of_version {
                let mut change = minus(&training.adapter, before);
                if let Some(memory) = memories.get(&training.client) {
                    change = change.iter().zip(memory).map(|(change, memory)| change + memory).collect();
                }
                let decoded = decoded(&change, &matrices);
                if remembers {
                    memories.insert(training.client, minus(&change, &decoded));
                }
                sums.iter_mut().zip(&decoded).for_each(|(sum, value)| *sum += value / 6.0);
            }
            recomputed::assert_moved(&models[&version], before, &sums);
        }
        // Encoded bytes, by the formulas of the docs.
        let expected: usize = match codec.split('(').next().expect("a name") {
            "TopK" => 8 * kept(&matrices),
            "SignSgd" => matrices.iter().map(|length| 4 + length.div_ceil(8)).sum(),
            _ => matrices.iter().map(|length| length + 4 * length.div_ceil(64)).sum(),
        };
        assert_eq!(sent(&world, &out), [expected as u64; 12]);
        // A client remembers once for each of its tasks.
        let stored = recomputed::adapters(&folder, &store, "compress").len();
        assert_eq!(stored, 12);
        for command in [&["verify", &out][..], &["replay", &out, "--store", "none"], &["replay", &out, "--client", "1"]]
        {
            world.fedreplay(command).succeeded();
        }
    }
    let page = std::fs::read_to_string(world.path("run-0/report.html")).expect("a report");
    assert!(page.contains("FedAvg with TopK"), "the report names the codec");
}

#[test]
fn every_protocol_aggregates_what_it_decodes() {
    let world = World::new();
    for (place, (name, protocol)) in PROTOCOLS.into_iter().enumerate() {
        for (codec_name, codec) in top_k_and_another(place) {
            let out = format!("{name}-{codec_name}");
            run(&world, &out, ["FedAvg()", protocol, codec], &[]).succeeded();
            let (folder, store) = (world.path(&out), world.path("store"));
            assert!(!recomputed::replacements(&folder).is_empty(), "{out}");
            assert!(recomputed::check(&folder, &store, name, &mut Optimizer::new("FedAvg")) >= 2, "{out}");
            assert!(world.fedreplay(&["verify", &out]).succeeded().stdout.starts_with("whole: "));
        }
    }
    // Edges send their models in f32.
    let rounds = read_table(&world.path("hierarchical-top-k"), "rounds").expect("rounds");
    let tables = RunTables::read(&world.path("hierarchical-top-k")).expect("tables");
    let column = |name: &str| tables.rounds().counts(name).expect("counts");
    let (aggregators, bytes) = (column("aggregator"), column("bytes_up"));
    let of_server: Vec<u64> =
        (0..rounds.num_rows()).filter(|&row| aggregators[row] == 0).map(|row| bytes[row]).collect();
    assert_eq!(of_server, [4 * count(&world, "hierarchical-top-k") as u64; 2]);
}

#[test]
fn qsgd_rounds_to_a_neighboring_level_by_the_seed() {
    let world = World::new();
    let codec = "Qsgd(levels: 8, bucket: 1000000)";
    let digest = run(&world, "run", [UNIFORM, ALL, codec], &[]).succeeded().summary("digest").to_owned();
    let (folder, store) = (world.path("run"), world.path("store"));
    let matrices = recomputed::matrices(&folder, &store);
    let models = recomputed::models(&folder, &store);
    let mut up = 0;
    for training in recomputed::trainings(&folder, &store) {
        let start = &models[&training.from];
        let (change, arrived) = (minus(&training.adapter, start), minus(&training.received, start));
        let mut from = 0;
        for &length in &matrices {
            let matrix = from..from + length;
            from += length;
            let norm = change[matrix.clone()].iter().map(|value| value * value).sum::<f64>().sqrt();
            for place in matrix {
                let [exact, level] = [change[place], arrived[place]].map(|value| 8.0 * value.abs() / norm);
                // Models are in f32, whose values around 0.1 are 1e-8 apart.
                let tolerance = 8.0 * 2e-8 / norm;
                assert!((level - level.round()).abs() <= tolerance, "{level} is a level");
                assert!((level - exact).abs() < 1.0 + tolerance, "{level} for {exact}");
                up += usize::from(level > exact + tolerance);
            }
        }
    }
    assert!(up > 100, "some are rounded up");
    world.assert_draws_by_seed(&digest, 3);
}

#[test]
fn memories_survive_kills_forks_other_workers_and_decisions_that_read_losses() {
    let world = World::new();
    // Half of the clients take part in a round, so that memories last from round to round.
    write(&world, UNIFORM, "Synchronous(clients_per_round: 3)", "SignSgd()");
    world.assert_state_survives();
}

#[test]
fn methods_compress_the_factors_that_they_send() {
    let world = World::new();
    let methods = [
        ("FedSaLora", [true, false]),
        ("FfaLora", [false, true]),
        ("RoLora", [false, true]),
        ("FlexLora", [true, true]),
    ];
    for (place, (method, [sends_a, sends_b])) in methods.into_iter().enumerate() {
        for (name, codec) in top_k_and_another(place) {
            let out = format!("{method}-{name}");
            let set = format!("federated_lora={method}");
            run(&world, &out, [UNIFORM, ALL, codec], &[&set, "rounds=3"]).succeeded();
            let (folder, store) = (world.path(&out), world.path("store"));
            let models = recomputed::models(&folder, &store);
            let is_of_a = recomputed::is_of_a(&folder, &store);
            let mut sizes = vec![];
            for training in recomputed::trainings(&folder, &store) {
                let start = &models[&training.from];
                let swaps = method == "RoLora" && training.from % 2 == 1;
                let sent = [sends_a, sends_b].map(|sends| sends != swaps);
                let is_sent = |place: usize| if is_of_a[place] { sent[0] } else { sent[1] };
                let arrived = minus(&training.received, start);
                assert!((0..arrived.len()).all(|place| is_sent(place) || arrived[place] == 0.0), "{out}");
                assert!(arrived.iter().any(|&value| value != 0.0), "{out}");
                let count = (0..arrived.len()).filter(|&place| is_sent(place)).count() as u64;
                sizes.push(8 * (count / 10));
            }
            if name == "top-k" {
                assert_eq!(sent(&world, &out), sizes);
            }
            world.fedreplay(&["verify", &out]).succeeded();
        }
    }
    // The server of FedSA-LoRA has the mean of what it decoded of A, and clients train on with their own B.
    let (folder, store) = (world.path("FedSaLora-sign"), world.path("store"));
    let models = recomputed::models(&folder, &store);
    let trainings = recomputed::trainings(&folder, &store);
    let is_of_a = recomputed::is_of_a(&folder, &store);
    for version in [1, 2, 3] {
        let of_version: Vec<&Training> = trainings.iter().filter(|training| training.counted_in == version).collect();
        for place in (0..is_of_a.len()).filter(|&place| is_of_a[place]) {
            let mean =
                of_version.iter().map(|training| training.received[place]).sum::<f64>() / of_version.len() as f64;
            assert!((models[&version][place] - mean).abs() <= 1e-7);
        }
    }
}

/// What a client remembers may make a clipped change longer than the bound, so the server clips what it has decoded.
#[test]
fn under_privacy_the_server_clips_what_it_has_decoded() {
    let world = World::new();
    let norm = 1e-3;
    let privacy = format!(
        r#"privacy={{"UserLevel":{{"clipping":{{"Fixed":{{"norm":{norm}}}}},"noise_multiplier":0,"delta":1e-5}}}}"#
    );
    for (name, codec) in CODECS {
        run(&world, name, [UNIFORM, EACH, codec], &[&privacy]).succeeded();
        let (folder, store) = (world.path(name), world.path("store"));
        let models = recomputed::models(&folder, &store);
        for version in [1, 2] {
            let before = &models[&(version - 1)];
            let mut sums = vec![0.0; before.len()];
            let trainings = recomputed::trainings(&folder, &store);
            for training in trainings.iter().filter(|training| training.counted_in == version) {
                let change = minus(&training.received, before);
                let length = change.iter().map(|value| value * value).sum::<f64>().sqrt();
                assert!(length > norm, "{name}: {length} is clipped");
                sums.iter_mut().zip(&change).for_each(|(sum, value)| *sum += value * norm / length / 6.0);
            }
            for ((found, before), change) in models[&version].iter().zip(before).zip(&sums) {
                assert!((found - before - change).abs() <= 1e-8, "{name}: {found} for {}", before + change);
            }
        }
    }
    let noised = privacy.replace(r#""noise_multiplier":0"#, r#""noise_multiplier":1"#);
    run(&world, "noised", [UNIFORM, EACH, "TopK(share: 0.1)"], &[&noised]).succeeded();
    let tree =
        noised.replace(r#""noise_multiplier":1"#, r#""noise_multiplier":1,"placement":"Tree","max_participations":2"#);
    run(&world, "tree", [UNIFORM, EACH, "SignSgd()"], &[&tree]).succeeded();
}

#[test]
fn attackers_send_what_the_codec_can_say_and_robust_rules_see_that() {
    let world = World::new();
    let attack = r#"attackers=(clients: Ids(["user-2"]), attack: SignFlip(factor: 10))"#;
    run(&world, "run", [UNIFORM, ALL, "SignSgd(error_feedback: false)"], &[attack]).succeeded();
    let (folder, store) = (world.path("run"), world.path("store"));
    let models = recomputed::models(&folder, &store);
    let matrices = recomputed::matrices(&folder, &store);
    let mut sums = vec![0.0; models[&0].len()];
    for training in recomputed::trainings(&folder, &store).iter().filter(|training| training.counted_in == 1) {
        let factor = if training.client == 2 { -10.0 } else { 1.0 };
        let change: Vec<f64> = minus(&training.adapter, &models[&0]).iter().map(|value| factor * value).collect();
        sums.iter_mut().zip(signs(&change, &matrices)).for_each(|(sum, value)| *sum += value / 6.0);
    }
    recomputed::assert_moved(&models[&1], &models[&0], &sums);
    let rule = "server.aggregation=NormBounding(bound: 0.001)";
    run(&world, "bounded", [UNIFORM, ALL, "SignSgd()"], &[rule]).succeeded();
    let models = recomputed::models(&world.path("bounded"), &store);
    let mut sums = vec![0.0; models[&0].len()];
    for training in recomputed::trainings(&world.path("bounded"), &store) {
        if training.counted_in == 1 {
            let change = minus(&training.received, &models[&0]);
            let length = change.iter().map(|value| value * value).sum::<f64>().sqrt();
            assert!(length > 0.001);
            sums.iter_mut().zip(&change).for_each(|(sum, value)| *sum += value * 0.001 / length / 6.0);
        }
    }
    for ((found, before), change) in models[&1].iter().zip(&models[&0]).zip(&sums) {
        assert!((found - before - change).abs() <= 1e-8, "{found} for {}", before + change);
    }
    for rule in ["Median", "Krum(byzantine: 1)", "CenteredClipping()"] {
        let set = format!("server.aggregation={rule}");
        run(&world, &rule[..4], [UNIFORM, ALL, "TopK(share: 0.1)"], &[&set, attack]).succeeded();
    }
}

#[test]
fn fewer_bytes_take_less_virtual_time_and_a_plan_says_so() {
    let world = World::new();
    let time = |codec: &str| {
        write(&world, UNIFORM, ALL, codec);
        let said = world.fedreplay(&["plan", "scenario.ron", "--json"]).succeeded();
        let line: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
        line["simulated_ns"].as_u64().expect("a time")
    };
    assert!(time("SignSgd()") < time("Nf4") && time("Nf4") < time("Int8") && time("Int8") < time(""));
    write(&world, UNIFORM, ALL, "TopK(share: 0.6)");
    let said = world.run("run", &["--set", "rounds=1"]).succeeded();
    assert!(said.stderr.contains("eight bytes for each value that it keeps"), "{}", said.stderr);
}

#[test]
fn what_does_not_go_with_a_codec_is_refused() {
    let world = World::new();
    let check = |method: &str, codec: &str, sets: &[&str], parts: &[&str]| {
        write(&world, method, ALL, codec);
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        world.run("run", &sets).refused(2, parts);
        world.fedreplay(&[&["plan", "scenario.ron"][..], &sets].concat()).refused(2, parts);
        assert!(!world.path("run").exists());
    };
    check(
        "Scaffold()",
        "Int8",
        &[],
        &["server.uplink_codec: it does not go with SCAFFOLD", "a control variate travels"],
    );
    check("Local", "Int8", &[], &["server.uplink_codec: nothing is sent"]);
    check("Centralised", "Int8", &[], &["server.uplink_codec: nothing is sent"]);
    let local = r#"privacy={"UserLevel":{"clipping":{"Fixed":{"norm":1}},"noise_multiplier":1,"delta":1e-5,"placement":"Local"}}"#;
    check(UNIFORM, "Int8", &[local], &["server.uplink_codec", "noise at the clients", "use placement Central or Tree"]);
    check(UNIFORM, "Int8", &[r#"privacy={"FedLlmBenchDp":{}}"#], &["server.uplink_codec", "FedLlmBenchDp"]);
    let change = r#"changes=[(at_round: 2, set: ["server.uplink_codec=Nf4"])]"#;
    check(UNIFORM, "Int8", &[change], &["server.uplink_codec", "the error of one codec"]);
    for (codec, parts) in [
        ("TopK(share: 0)", ["scenario.ron:6", "above 0, at most 1"]),
        ("TopK(share: -0.1)", ["scenario.ron:6", "above 0, at most 1"]),
        ("TopK(share: 1.5)", ["scenario.ron:6", "above 0, at most 1"]),
        ("TopK(share: NaN)", ["scenario.ron:6", "above 0, at most 1"]),
        ("TopK(share: inf)", ["scenario.ron:6", "above 0, at most 1"]),
        ("TopK()", ["scenario.ron:6", "share"]),
        ("Qsgd(levels: 0)", ["scenario.ron:6", "at least 1"]),
        ("Qsgd(levels: 32768)", ["server.uplink_codec.levels", "at most 32767"]),
        ("Qsgd(levels: 7, bucket: 0)", ["scenario.ron:6", "at least 1"]),
        ("Nf5", ["scenario.ron:6", "Nf4"]),
    ] {
        check(UNIFORM, codec, &[], &parts);
    }
    check(UNIFORM, "Int8", &["server.uplink_codec=TopK(share: 0)"], &["share", "above 0, at most 1"]);
}
