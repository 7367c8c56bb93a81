//! Layers kept or run again give the same bits, and what is kept is what was predicted.

use super::*;
use crate::training::Checkpointing;

#[test]
fn checkpointing_changes_no_bit() {
    let config = Config { layers: 3, ..configs().remove(0) };
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &config);
    let trained = |checkpointing| {
        let numerics = Numerics { checkpointing, ..Numerics::default() };
        let lora = lora(&["all-linear"]);
        let trainer = Trainer::load(folder.path(), Precision::F32, Device::Cpu, &lora, &numerics).unwrap();
        let hyper = Hyper { dropout: 0.1, ..Hyper::default() };
        let steps = vec![vec![vec![sample(&config, 30, 5, 1), sample(&config, 12, 5, 2)]]; 3];
        trainer.train(&[job(adapter(&trainer, 1), steps, hyper)]).unwrap().remove(0).adapter
    };
    assert_eq!(trained(Checkpointing::Never), trained(Checkpointing::Always));
    assert_eq!(trained(Checkpointing::Never), trained(Checkpointing::Above(1000)));
}

#[test]
fn the_plan_adds_up_for_the_published_shape() {
    // Llama-2-7B in bf16, LoRA on q and v: 14 d + 4 f bytes a token and layer, as measured for this design.
    let config = Config { kv_heads: 4, ..Config::llama(97, 64, 160, 3, 4) };
    let trainer = trainer(&config, Precision::Bf16, &["q_proj", "v_proj"]);
    let plan = trainer.memory(2, 320, 320);
    let (d, f, rows, layers) = (64, 160, 320, 3);
    let sums = 4 * rows * (2 + 4) + 2 * rows * 32;
    assert_eq!(plan.kept, layers * (rows * (16 * d + 4 * f) + sums));
    assert!(plan.kept_checkpointed() < plan.kept / 2);
    assert_eq!(plan.weights, 2 * (97 * d * 2 + layers * (4 * d * d + 3 * d * f + 2 * d) + d));
    assert!(trainer.memory(2, 320, 16).kept < plan.kept, "the last layer keeps only what predicts");
}
