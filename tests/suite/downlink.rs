//! Models that are encoded on their way to clients: clients begin with what they decode, the server's model moves by their changes, and
//! the clock charges the encoded bytes.

use fedreplay::ledger::{Lineage, RunTables, read_table};

use super::compression::int8;
use super::federated_lora::{EVERYONE, Played, scenario};
use super::methods::PROTOCOLS;
use super::recomputed::{self, Optimizer, minus};
use crate::support::World;

const INT8: [&str; 2] = ["--set", "server.downlink_codec=Int8"];
const UNIFORM: &str = "FedAvg(weights: Uniform)";

/// Fails unless values are equal but for the rounding of one to f32.
#[track_caller]
fn assert_close(found: &[f64], expected: &[f64]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-7, "{found} for {expected}");
    }
}

/// One step of gradient descent moves along one gradient at every rate, so two rates tell where it began.
#[test]
fn clients_begin_with_the_decoded_model_and_its_server_adds_their_changes() {
    let one_step = [
        "--set=training.optimizer=Sgd(momentum: 0)",
        "--set=training.max_grad_norm=null",
        "--set=training.local_steps=1",
        "--set=rounds=2",
    ];
    let play = |rate: &str| Played::new("FedIt", UNIFORM, EVERYONE, &[&INT8[..], &one_step, &["--set", rate]].concat());
    let (slow, fast) = (play("training.lr=0.1"), play("training.lr=0.2"));
    let (run, store) = (slow.world.path("run"), slow.world.path("store"));
    let matrices = recomputed::matrices(&run, &store);
    let decoded = int8(&slow.models[0], &matrices);
    let lost = minus(&decoded, &slow.models[0]).iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    assert!(lost > 1e-4, "the code loses something: {lost}");
    for (one, other) in slow.trainings.iter().zip(&fast.trainings).filter(|(one, _)| one.from == 0) {
        let start: Vec<f64> = one.adapter.iter().zip(&other.adapter).map(|(one, other)| 2.0 * one - other).collect();
        assert_close(&start, &decoded);
    }
    let received = recomputed::received_models(&run, &store);
    assert_eq!(received.len(), 2);
    for version in [0, 1] {
        let before = &slow.models[version as usize];
        let began = &received[&version];
        assert_close(began, &int8(before, &matrices));
        let mut sum = vec![0.0; before.len()];
        for training in slow.trainings.iter().filter(|training| training.from == version) {
            let change = minus(&training.adapter, began);
            sum.iter_mut().zip(change).for_each(|(sum, value)| *sum += value / f64::from(EVERYONE));
        }
        recomputed::assert_moved(&slow.models[version as usize + 1], before, &sum);
    }
    // What is aggregated is no mean of adapters of the server's own model.
    let rounds = RunTables::read(&run).expect("tables");
    assert!(rounds.rounds().numbers("aggregation_error").expect("errors").iter().all(Option::is_none));
    let page = std::fs::read_to_string(run.join("report.html")).expect("a report");
    assert!(page.contains("FedAvg with Int8 downloads"), "the report names the codec");
    slow.world.fedreplay(&["verify", "run"]).succeeded();
    for more in [&[][..], &["--round", "2"], &["--client", "1"]] {
        slow.world.fedreplay(&[&["replay", "run", "--store", "none"], more].concat()).succeeded();
    }
}

/// Bytes of int8 for the matrices of which `is_sent` holds, by their index.
fn bytes(matrices: &[usize], is_sent: impl Fn(usize) -> bool) -> u64 {
    let sent = (0..matrices.len()).filter(|&index| is_sent(index)).map(|index| matrices[index]);
    sent.map(|length| (length + 4 * length.div_ceil(64)) as u64).sum()
}

#[test]
fn what_a_method_sends_down_is_encoded_and_the_rest_stays() {
    for (method, algorithm) in [
        ("FedIt", "FedAdam()"),
        ("FfaLora", "FedProx(mu: 0.1)"),
        ("RoLora", "FedAvg()"),
        ("FedSaLora", "FedAvg()"),
        ("FedPer(local_layers: 1)", "FedAvg()"),
        ("FedRep(local_layers: 3)", "FedAvg()"),
        ("Ditto()", "FedAvg()"),
    ] {
        let played = Played::new(method, algorithm, EVERYONE, &INT8);
        let (run, store) = (played.world.path("run"), played.world.path("store"));
        let matrices = recomputed::matrices(&run, &store);
        let layers = recomputed::layers(&run, &store);
        let first_values: Vec<usize> = (0..matrices.len()).map(|index| matrices[..index].iter().sum()).collect();
        let is_of_a = |index: usize| played.is_of_a[first_values[index]];
        let layer = |index: usize| layers[first_values[index]];
        let is_sent = |index: usize, round: u64| match method {
            "FfaLora" => !is_of_a(index),
            // Nobody misses a round, so a client lacks what the round before has changed.
            "RoLora" => is_of_a(index) == (round % 2 == 1),
            "FedSaLora" => is_of_a(index),
            "FedPer(local_layers: 1)" => layer(index) < 3,
            "FedRep(local_layers: 3)" => layer(index) < 1,
            _ => true,
        };
        for round in 1..=4 {
            let (down, _) = played.traffic(round);
            assert_eq!(down, bytes(&matrices, |index| is_sent(index, round)), "{method}, round {round}");
        }
        let received = recomputed::received_models(&run, &store);
        for (version, received) in received {
            let model = &played.models[version as usize];
            let decoded = int8(model, &matrices);
            for (place, found) in received.iter().enumerate() {
                let index = first_values.partition_point(|&first| first <= place) - 1;
                let is_encoded = is_sent(index, 1) || is_sent(index, 2);
                let expected = if is_encoded { decoded[place] } else { model[place] };
                assert!((found - expected).abs() <= 1e-7, "{method}: {found} for {expected}");
            }
        }
        played.world.fedreplay(&["verify", "run"]).succeeded();
    }
}

#[test]
fn every_protocol_charges_and_decodes_models() {
    for (name, protocol) in PROTOCOLS {
        let set = format!("server.protocol={protocol}");
        let sets = ["--set", &set, "--set", "population.mix.0.region=here", "--set", "server.uplink_codec=Nf4"];
        let played = Played::new("FedIt", "FedAvg()", EVERYONE, &[&INT8[..], &sets].concat());
        let (run, store) = (played.world.path("run"), played.world.path("store"));
        assert!(recomputed::check(&run, &store, name, &mut Optimizer::new("FedAvg")) >= 2, "{name}");
        let expected = bytes(&recomputed::matrices(&run, &store), |_| true);
        let tasks = RunTables::read(&run).expect("tables").tasks().expect("tasks");
        let counted = tasks.counts_or_none("counted_in_version").expect("versions");
        for (down, counted) in tasks.counts("bytes_down").expect("bytes").into_iter().zip(counted) {
            assert!(down == expected || counted.is_none(), "{name}: {down} for {expected}");
        }
        // Each training and what it is compared with is of a decoded model.
        let lineage = read_table(&run, "lineage").expect("a lineage");
        let lineage = Lineage::of(&lineage).expect("rows of lineage");
        for entry in lineage.entries.iter().filter(|entry| ["train", "compress"].contains(&entry.kind.as_str())) {
            let base = entry.inputs[usize::from(entry.kind == "compress")];
            assert_eq!(lineage.entries[base].kind, "broadcast", "{name}");
        }
        assert!(played.world.fedreplay(&["verify", "run"]).succeeded().stdout.starts_with("whole: "));
    }
}

#[test]
fn bounds_and_attacks_are_of_changes_of_the_decoded_model() {
    let norm = 1e-3;
    let clipping = format!(
        r#"privacy={{"UserLevel":{{"clipping":{{"Fixed":{{"norm":{norm}}}}},"noise_multiplier":0,"delta":1e-5}}}}"#
    );
    let rule = format!("server.aggregation=NormBounding(bound: {norm})");
    let attack = r#"attackers=(clients: Ids(["user-2"]), attack: SignFlip(factor: 10))"#;
    for sets in [&["--set", &clipping][..], &["--set", &rule, "--set", attack]] {
        let sets = [&INT8[..], sets, &["--set", "rounds=2"]].concat();
        let played = Played::new("FedIt", UNIFORM, EVERYONE, &sets);
        let began = recomputed::received_models(&played.world.path("run"), &played.world.path("store"));
        for (version, pair) in played.models.windows(2).enumerate() {
            let mut sum = vec![0.0; pair[0].len()];
            for training in played.trainings.iter().filter(|training| training.from == version as u64) {
                let began = &began[&(version as u64)];
                let sent = minus(&training.received, began);
                let length = sent.iter().map(|value| value * value).sum::<f64>().sqrt();
                assert!(length > norm, "{length} is shortened");
                if training.received != training.adapter {
                    let change = minus(&training.adapter, began);
                    assert_eq!(training.client, 2);
                    assert!(sent.iter().zip(&change).all(|(sent, change)| (sent + 10.0 * change).abs() <= 1e-6));
                }
                sum.iter_mut().zip(&sent).for_each(|(sum, value)| *sum += value * norm / length / f64::from(EVERYONE));
            }
            for ((found, before), change) in pair[1].iter().zip(&pair[0]).zip(&sum) {
                assert!((found - before - change).abs() <= 1e-8, "{found} for {}", before + change);
            }
        }
    }
}

#[test]
fn decoded_models_survive_kills_forks_other_workers_and_decisions_that_read_losses() {
    let world = World::new();
    let text = scenario("FedPer(local_layers: 2)", "FedAvg()", 3);
    let codecs = r#"downlink_codec: Nf4, uplink_codec: SignSgd(), downlink: "1 Gbit/s""#;
    world.write("scenario.ron", &text.replace(r#"downlink: "1 Gbit/s""#, codecs));
    world.assert_state_survives();
}

#[test]
fn fewer_bytes_down_take_less_virtual_time() {
    let world = World::new();
    world.write("scenario.ron", &scenario("FedIt", "FedAvg()", EVERYONE));
    let time = |sets: &[&str]| {
        let said = world.fedreplay(&[&["plan", "scenario.ron", "--json"], sets].concat()).succeeded();
        let line: serde_json::Value = serde_json::from_str(said.stdout.lines().last().expect("a line")).expect("JSON");
        line["simulated_ns"].as_u64().expect("a time")
    };
    let nf4 = time(&["--set", "server.downlink_codec=Nf4"]);
    assert!(nf4 < time(&INT8) && time(&INT8) < time(&[]));
}

#[test]
fn what_does_not_go_with_a_codec_of_models_is_refused() {
    let world = World::new();
    let refusals = [
        ("FedIt", "Scaffold()", "", "server.downlink_codec: it does not go with SCAFFOLD: a control variate"),
        ("FedIt", "Local", "", "server.downlink_codec: nothing is received"),
        ("FedIt", "Centralised", "", "server.downlink_codec: nothing is received"),
        ("FedIt", "FedAvg(mean: Products)", "", "it does not go with a mean of products"),
        ("FlexLora", "FedAvg()", "", "it does not go with a mean of products"),
        ("HetLora", "FedAvg()", "", "it does not go with HetLoRA: what is averaged are whole adapters"),
        ("LoraFair()", "FedAvg()", "", "it does not go with LoRA-FAIR"),
        ("Flora", "FedAvg()", "", "it does not go with FLoRA"),
        ("FedExLora", "FedAvg()", "", "it does not go with FedEx-LoRA"),
        (
            "FedIt",
            "FedAvg()",
            "server.downlink_codec=TopK(share: 0.1)",
            "server.downlink_codec: TopK is a codec of changes",
        ),
        (
            "FedIt",
            "FedAvg()",
            "server.downlink_codec=Qsgd(levels: 7)",
            "server.downlink_codec: Qsgd is a codec of changes",
        ),
        (
            "FedIt",
            "FedAvg()",
            "server.downlink_codec=SignSgd()",
            "server.downlink_codec: SignSgd is a codec of changes",
        ),
        ("FedIt", "FedAvg()", "server.downlink_codec=Nf3", "Nf3"),
        (
            "FedIt",
            r#"Python(file: "rule.py")"#,
            r#"model.lora.ranks={"quick": 1}"#,
            "server.downlink_codec: it does not go with model.lora.ranks",
        ),
        (
            "FedIt",
            "FedAvg()",
            r#"changes=[(at_round: 2, set: ["server.downlink_codec=Nf4"])]"#,
            "what a client's transfers take is settled once",
        ),
    ];
    for (method, algorithm, set, reason) in refusals {
        world.write("scenario.ron", &scenario(method, algorithm, EVERYONE));
        let more: &[&str] = if set.is_empty() { &[] } else { &["--set", set] };
        world.run("refused", &[&INT8[..], more].concat()).refused(2, &[reason]);
    }
    world.write("scenario.ron", &scenario("FedIt", "FedAvg()", EVERYONE));
    let trust = r#"server.aggregation={"FlTrust":{"speed":"1 TFLOP/s"}}"#;
    let sets = ["--set", trust, "--set", r#"data.root_file="data.json""#];
    world
        .run("refused", &[&INT8[..], &sets].concat())
        .refused(2, &["server.downlink_codec: it does not go with FlTrust"]);
    assert!(!world.path("refused").exists());
}
