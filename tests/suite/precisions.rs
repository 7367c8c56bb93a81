//! A scenario's base in other precisions: it trains, the manifest says what that costs, and impossible wishes are refused.

use std::fs;

use serde_json::Value;

use super::support::World;

fn manifest(world: &World, out: &str) -> Value {
    serde_json::from_slice(&fs::read(world.path(out).join("manifest.json")).expect("a manifest")).expect("JSON")
}

#[test]
fn a_quantised_base_trains_and_its_size_and_error_are_in_the_manifest() {
    let world = World::new();
    for (precision, weights_most, part_of_bf16) in
        [("Int8", 0.02, 1.0), ("Int8Held", 0.02, 0.9), ("Nf4Double", 0.2, 0.8), ("LlmInt8", 0.02, 0.9)]
    {
        let set = format!("model.precision={precision}");
        let said = world.run(precision, &["-v", "--set", &set, "--set", "rounds=1"]).succeeded();
        assert!(said.stderr.contains("MiB on the device"), "{}", said.stderr);
        let manifest = manifest(&world, precision);
        let base = &manifest["numerics"]["base"];
        for what in ["weight_error", "logit_error"] {
            let mean = base[what]["mean"].as_f64().unwrap_or_else(|| panic!("no {what}: {base}"));
            assert!(mean > 0.0 && mean < weights_most * 5.0, "{precision} {what}: {mean}");
        }
        let part = base["device_bytes"].as_f64().expect("bytes") / base["bf16_bytes"].as_f64().expect("bytes");
        assert!(part <= part_of_bf16, "{precision}: {part}");
        let class = manifest["numerics_class"].as_str().expect("a line");
        let name = precision.trim_end_matches("Held").trim_end_matches("Double");
        assert!(class.contains(name) && class.contains("Bf16"), "{class}");
    }
    // Held or rounded at load, int8 gives the same adapter.
    let adapter = |out: &str| {
        let folder = world.path(out).join("adapters").join("round-00001");
        fs::read(folder.join("adapter_model.safetensors")).expect("an adapter")
    };
    assert_eq!(adapter("Int8"), adapter("Int8Held"));
    assert_ne!(adapter("Int8"), adapter("Nf4Double"));
}

#[test]
fn arithmetic_can_be_chosen_for_quantised_weights_alone() {
    let world = World::new();
    let quantized = ["--set", "model.precision=Int8", "--set", "model.arithmetic=F32", "--set", "rounds=1"];
    world.run("f32", &quantized).succeeded();
    assert!(manifest(&world, "f32")["numerics_class"].as_str().expect("a line").contains("Int8(F32)"));
    for (precision, arithmetic) in [("F32", "Bf16"), ("Bf16", "F32")] {
        let sets = [format!("model.precision={precision}"), format!("model.arithmetic={arithmetic}")];
        let said = world.run("refused", &["--set", &sets[0], "--set", &sets[1]]);
        said.refused(2, &["model.arithmetic", "only quantized ones have a choice"]);
        assert!(!world.path("refused").exists());
    }
}
