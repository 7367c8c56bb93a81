//! Reading on gives what reading the whole gives: to the bit where that is promised, and Transformers' tokens.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Decoder, Piece};
use crate::adapter::{Adapter, peft};
use crate::model::{Device, LoraSpec, Precision};
use crate::training::tests::{adapter, base_change, configs, sample, trainer};
use crate::training::{Numerics, Trainer};

const TARGETS: [&str; 4] = ["q_proj", "v_proj", "o_proj", "down_proj"];

/// The logits after all of `ids`, as the training engine computes them.
fn whole(trainer: &Trainer, adapter: &Adapter, ids: &[u32]) -> Vec<f32> {
    let logits = trainer.logits(adapter, ids).unwrap();
    Vec::<f32>::try_from(logits.get(ids.len() as i64 - 1).to_kind(tch::Kind::Float)).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Reads sequences of several lengths under two adapters, of which one has a change of the base, and the base, in pieces and next
/// to each other, and hands the logits after each pass to `check`: trainer, adapter, what was read, logits.
fn read_in_company(precision: Precision, check: impl Fn(&Trainer, &Adapter, &[u32], &[f32])) {
    for config in configs() {
        let trainer = trainer(&config, precision, &["all-linear"]);
        let on_changed_base = Adapter::clone(&adapter(&trainer, 2)).on(Some(base_change(&trainer)));
        let adapters = [adapter(&trainer, 1), Arc::new(on_changed_base)];
        let mut decoder = Decoder::new(&trainer, &adapters, 4).unwrap();
        let rows: Vec<Vec<u32>> =
            [61, 40, 33, 75].iter().map(|&n| sample(&config, n, 1, n.into()).ids.clone()).collect();
        let of_slot = [Some(1), None, Some(0), Some(1)];
        // Where each pass of each sequence ends: blocks of keys begun, filled and passed, and single tokens.
        let ends: [[usize; 4]; 4] = [[1, 17, 18, 61], [16, 17, 39, 40], [30, 31, 32, 33], [48, 49, 74, 75]];
        for pass in 0..4 {
            let start = |slot: usize| if pass == 0 { 0 } else { ends[slot][pass - 1] };
            // The order in which sequences are named changes nothing.
            let slots: Vec<usize> = if pass % 2 == 0 { vec![0, 1, 2, 3] } else { vec![3, 1, 0, 2] };
            let piece =
                |&slot: &usize| Piece { slot, adapter: of_slot[slot], ids: &rows[slot][start(slot)..ends[slot][pass]] };
            let pieces: Vec<Piece> = slots.iter().map(piece).collect();
            let logits = decoder.read(&pieces).unwrap();
            let zeros = Arc::new(Adapter::zeros(trainer.layout()));
            for (place, &slot) in slots.iter().enumerate() {
                let adapter = of_slot[slot].map_or(&zeros, |index| &adapters[index]);
                check(&trainer, adapter, &rows[slot][..ends[slot][pass]], logits.of(place));
            }
        }
    }
}

#[test]
fn a_row_has_the_bits_that_it_has_in_the_whole_sequence() {
    for precision in [Precision::F32, Precision::Bf16] {
        read_in_company(precision, |trainer, adapter, ids, logits| {
            assert_eq!(bits(logits), bits(&whole(trainer, adapter, ids)), "{precision:?}, {} tokens", ids.len());
        });
    }
}

/// The same in plain products, which serve a GPU.
#[test]
fn plain_products_agree_with_the_whole_sequence() {
    read_in_company(Precision::F64, |trainer, adapter, ids, logits| {
        let expected = whole(trainer, adapter, ids);
        let apart = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-6, "{apart}");
    });
}

#[test]
fn a_copied_or_shortened_sequence_goes_on_as_if_it_had_been_read_so() {
    let config = &configs()[2];
    let trainer = trainer(config, Precision::F32, &TARGETS);
    let adapters = [adapter(&trainer, 1)];
    let ids = sample(config, 70, 1, 7).ids.clone();
    let mut decoder = Decoder::new(&trainer, &adapters, 2).unwrap();
    let read = |decoder: &mut Decoder, slot, ids: &[u32]| {
        let logits = decoder.read(&[Piece { slot, adapter: Some(0), ids }]).unwrap();
        bits(logits.of(0))
    };
    let expected = bits(&whole(&trainer, &adapters[0], &ids));
    read(&mut decoder, 0, &ids[..50]);
    decoder.copy(0, 1).unwrap();
    read(&mut decoder, 0, &ids[..13]);
    assert_eq!(read(&mut decoder, 1, &ids[50..]), expected);
    decoder.truncate(0, 50);
    assert_eq!(read(&mut decoder, 0, &ids[50..]), expected);
    assert_eq!(decoder.length(0), 70);
}

#[test]
fn what_does_not_fit_is_refused() {
    let config = &configs()[0];
    let trainer = trainer(config, Precision::F32, &TARGETS);
    let mut decoder = Decoder::new(&trainer, &[], 1).unwrap();
    let mut refused = |ids: &[u32]| {
        decoder.read(&[Piece { slot: 0, adapter: None, ids }]).err().expect("it does not fit").to_string()
    };
    assert!(refused(&[1; 257]).contains("257 tokens, the model takes at most 256"));
    assert!(refused(&[97]).contains("token id 97 is beyond the embedding"));
}

#[derive(serde::Deserialize)]
struct Case {
    lora: Lora,
    generation: Generation,
}

#[derive(serde::Deserialize)]
struct Lora {
    r: usize,
    alpha: f64,
    target_modules: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Generation {
    prompt: Vec<u32>,
    base: Greedy,
    adapter: Greedy,
}

#[derive(serde::Deserialize)]
struct Greedy {
    ids: Vec<u32>,
    smallest_lead: f64,
}

/// Greedy tokens of the base and of the adapter, in one batch.
#[test]
fn greedy_tokens_are_those_of_transformers() {
    for name in ["llama", "llama_gqa_tied", "llama_linear", "mistral", "qwen2"] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference").join(name);
        let case: Case = serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
        let Lora { r, alpha, target_modules } = case.lora;
        let spec = LoraSpec { rank: r, alpha, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false };
        let numerics = Numerics::default();
        let trainer = Trainer::load(&folder.join("model"), Precision::F32, Device::Cpu, &spec, &numerics).unwrap();
        let adapter = peft::read_folder(&folder.join("adapter")).unwrap().adapter;
        let mut decoder = Decoder::new(&trainer, &[Arc::new(adapter)], 2).unwrap();
        let expected = [&case.generation.base, &case.generation.adapter];
        // Near-ties would test rounding: the fixture's smallest lead is far above f32's error of these logits.
        assert!(expected.iter().all(|greedy| greedy.smallest_lead > 1e-3), "{name}");
        let mut next = [case.generation.prompt.clone(), case.generation.prompt];
        for step in 0..expected[0].ids.len() {
            let pieces = [(0, None), (1, Some(0))].map(|(slot, adapter)| Piece { slot, adapter, ids: &next[slot] });
            let logits = decoder.read(&pieces).unwrap();
            next = [0, 1].map(|slot| {
                let logits = logits.of(slot);
                vec![(0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32]
            });
            for slot in [0, 1] {
                assert_eq!(next[slot], [expected[slot].ids[step]], "{name}, slot {slot}, token {step}");
            }
        }
    }
}
