//! Equal bits at the sizes of real models: one layer of three of them, from 1 to 4,097 rows, on one to four threads, alone and
//! beside another job, forward and backward, in every precision.
//!
//! What runs by default is a cover of the grid; `make bits` runs all of it, and `make bits BITS=NAME` the part of one model.

use super::*;
use crate::model::Arithmetic;
use crate::training::Checkpointing;
use crate::training::{Decoder, Piece, TrainingOutcome, kernels::ops};

/// [tokens] The longest sequence; rows beyond it are further sequences.
const LONGEST: u32 = 512;

/// The real models of the grid.
const MODELS: [&str; 3] = ["SmolLM2-135M", "Qwen2.5-0.5B", "Llama-2-7B"];

/// The models whose part of the grid runs as a whole: those that FEDREPLAY_BITS names, with commas between them, or all.
fn whole_models() -> Vec<&'static str> {
    let asked = std::env::var("FEDREPLAY_BITS").unwrap_or_default();
    if asked == "full" {
        return MODELS.to_vec();
    }
    let named = |name: &str| *MODELS.iter().find(|model| **model == name).unwrap_or_else(|| panic!("no model {name}"));
    asked.split(',').filter(|name| !name.is_empty()).map(named).collect()
}

/// Whether more than the cover is to run.
fn is_full() -> bool {
    !whole_models().is_empty()
}

/// One layer of a real model. The vocabulary is small: the head has a test of its own.
fn layer_of(model: &str) -> Config {
    let (hidden, inner, heads, kv_heads, architecture) = match model {
        "SmolLM2-135M" => (576, 1536, 9, 3, Architecture::Llama),
        "Qwen2.5-0.5B" => (896, 4864, 14, 2, Architecture::Qwen2),
        "Llama-2-7B" => (4096, 11008, 32, 32, Architecture::Llama),
        _ => panic!("no such model"),
    };
    let qkv_bias = architecture == Architecture::Qwen2;
    Config { architecture, kv_heads, qkv_bias, max_positions: 8192, ..Config::llama(211, hidden, inner, 1, heads) }
}

const BF16: Arithmetic = Arithmetic::Bf16;

const PRECISIONS: [Precision; 12] = [
    Precision::F32,
    Precision::Bf16,
    Precision::Int8(BF16),
    Precision::Int8Held(BF16),
    Precision::LlmInt8(BF16),
    Precision::Nf4 { arithmetic: BF16, double: false },
    Precision::Nf4 { arithmetic: BF16, double: true },
    Precision::Int8(Arithmetic::F32),
    Precision::Int8Held(Arithmetic::F32),
    Precision::LlmInt8(Arithmetic::F32),
    Precision::Nf4 { arithmetic: Arithmetic::F32, double: false },
    Precision::Nf4 { arithmetic: Arithmetic::F32, double: true },
];

/// One step on `rows` tokens of which most are learnt.
fn job_of(trainer: &Trainer, config: &Config, rows: u32, seed: u64) -> Job {
    let mut samples = Vec::new();
    let mut left = rows;
    while left > 0 {
        let length = left.min(LONGEST);
        left -= length;
        // A sequence of one token predicts nothing: it is there as a row.
        let first = if length > 4 { length / 5 } else { 1 };
        samples.push(sample(config, length, first.min(length), seed + u64::from(left)));
    }
    if rows == 1 {
        samples.push(sample(config, 2, 1, seed));
    }
    job(adapter(trainer, seed), vec![vec![samples]], Hyper::default())
}

fn bits(outcome: &TrainingOutcome) -> (String, Vec<u64>, Vec<u64>) {
    let words = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect();
    (outcome.adapter.hash().to_string(), words(&outcome.losses), words(&outcome.grad_norms))
}

/// Trains jobs of these numbers of rows in all ways and compares.
fn check(model: &str, precision: Precision, rows: &[u32], threads: &[usize]) {
    let config = layer_of(model);
    let mut trainer = trainer(&config, precision, &["q_proj", "v_proj", "down_proj"]);
    for &rows in rows {
        let name = format!("{model}, {precision:?}, {rows} rows");
        if is_full() {
            eprintln!("{name}");
        }
        check_rows(&name, &config, &mut trainer, rows, threads);
    }
}

fn check_rows(name: &str, config: &Config, trainer: &mut Trainer, rows: u32, threads: &[usize]) {
    trainer.numerics.checkpointing = Checkpointing::Never;
    let own = job_of(trainer, config, rows, 1);
    let other = job_of(trainer, config, 37, 5000);
    let train = |trainer: &Trainer, threads: usize, jobs: &[Job]| {
        trainer.with_threads(threads, || trainer.train(jobs)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let expected = bits(&train(trainer, 1, std::slice::from_ref(&own))[0]);
    for &count in threads {
        let found = train(trainer, count, std::slice::from_ref(&own));
        assert!(bits(&found[0]) == expected, "{name}: {count} threads give other bits than one");
    }
    let company = [other, own.clone()];
    let found = train(trainer, 2, &company);
    assert!(bits(&found[1]) == expected, "{name}: company changes bits");
    trainer.numerics.checkpointing = Checkpointing::Always;
    let found = train(trainer, 2, std::slice::from_ref(&own));
    assert!(bits(&found[0]) == expected, "{name}: running layers again changes bits");
}

/// At 2,048 rows the products of libraries begin to depend on threads and on the rows beside them.
#[test]
fn a_real_layer_gives_a_job_its_bits_at_2048_rows_in_every_precision() {
    for precision in PRECISIONS {
        check("SmolLM2-135M", precision, &[2048], &[2, 3]);
    }
}

#[test]
fn a_real_layer_gives_a_job_its_bits_at_any_number_of_rows() {
    if is_full() {
        for model in whole_models() {
            for precision in PRECISIONS {
                check(model, precision, &[1, 15, 16, 17, 100, 511, 512, 1000, 2048, 4097], &[2, 3, 4]);
            }
        }
        return;
    }
    for precision in [Precision::Bf16, Precision::Nf4 { arithmetic: BF16, double: false }] {
        check("SmolLM2-135M", precision, &[1, 15, 16, 17, 100, 511], &[2, 4]);
    }
    check("SmolLM2-135M", Precision::Bf16, &[4097], &[2]);
    check("Qwen2.5-0.5B", Precision::Bf16, &[512], &[2]);
    check("Llama-2-7B", Precision::Bf16, &[17], &[3]);
}

/// Evaluation and generation: a row has its bits beside others and on any number of threads, and read in pieces it has the
/// logits that it has as a whole.
#[test]
fn a_real_layer_evaluates_and_reads_on_with_the_same_bits() {
    for precision in PRECISIONS {
        let config = layer_of("SmolLM2-135M");
        let trainer = trainer(&config, precision, &["q_proj", "v_proj"]);
        let adapter = adapter(&trainer, 1);
        let rows: Vec<_> = (0..9).map(|n| sample(&config, 512 - 13 * n, 3, n.into())).collect();
        let together = trainer.with_threads(2, || trainer.evaluate(&adapter, &rows)).unwrap();
        for (row, expected) in rows.iter().zip(&together).step_by(4) {
            let alone = trainer.evaluate(&adapter, std::slice::from_ref(row)).unwrap()[0];
            assert_eq!(alone.nats.to_bits(), expected.nats.to_bits(), "{precision:?}");
        }
        // There a sequence is read in one piece: its rows decide together which columns are outliers.
        if matches!(precision, Precision::LlmInt8(_)) {
            continue;
        }
        let ids = &rows[0].ids;
        let whole = trainer.logits(&adapter, ids).unwrap().get(ids.len() as i64 - 1);
        let mut decoder = Decoder::new(&trainer, &[adapter], 2).unwrap();
        let other = Piece { slot: 1, adapter: None, ids: &rows[1].ids };
        let begun = Piece { slot: 0, adapter: Some(0), ids: &ids[..500] };
        trainer.with_threads(2, || decoder.read(&[other, begun])).unwrap();
        let logits = decoder.read(&[Piece { slot: 0, adapter: Some(0), ids: &ids[500..] }]).unwrap();
        let whole = Vec::<f32>::try_from(whole.to_kind(tch::Kind::Float)).unwrap();
        assert!(logits.of(0) == &whole[..], "{precision:?}: reading on gives other bits");
    }
}

/// The output head over real vocabularies, in few and in many rows.
#[test]
fn the_head_of_a_real_vocabulary_has_the_same_bits_on_any_threads_and_rows() {
    let sizes: &[(i64, i64)] =
        if is_full() { &[(576, 49_152), (896, 151_936), (4096, 32_000)] } else { &[(576, 49_152)] };
    for &(hidden, vocabulary) in sizes {
        for kind in [tch::Kind::Float, tch::Kind::BFloat16] {
            let head = random_table(vocabulary, hidden, kind);
            let h = random_table(100, hidden, kind);
            let product = |rows: &tch::Tensor, threads: i32| {
                tch::set_num_threads(threads);
                ops::product(rows, &head.tr()).unwrap()
            };
            let expected = product(&h, 1);
            for threads in 2..=4 {
                assert_eq!(product(&h, threads), expected, "{kind:?}, {vocabulary} words, {threads} threads");
            }
            let few = product(&h.narrow(0, 40, 17), 2);
            assert_eq!(few, expected.narrow(0, 40, 17), "{kind:?}, {vocabulary} words, fewer rows");
            tch::set_num_threads(1);
        }
    }
}

fn random_table(rows: i64, width: i64, kind: tch::Kind) -> tch::Tensor {
    let values = (tch::Tensor::arange(rows * width, (tch::Kind::Double, tch::Device::Cpu)) * 0.734_829).sin();
    values.view([rows, width]).to_kind(kind)
}

/// The losses of given f32 logits are those of double precision, at the vocabularies of SmolLM2, Qwen2.5 and Gemma.
#[test]
fn losses_hold_their_digits_at_large_vocabularies() {
    for vocabulary in [49_152i64, 151_936, 262_144] {
        for spread in [0.5, 4.0, 12.0] {
            let wave = (tch::Tensor::arange(3 * vocabulary, (tch::Kind::Double, tch::Device::Cpu)) * 1.234_567).sin();
            let logits = (wave * spread).view([3, vocabulary]).to_kind(tch::Kind::Float);
            // A likely token, an unlikely one, and the last.
            let labels = tch::Tensor::from_slice(&[14i64, 40_000, vocabulary - 1]);
            let exact = logits.to_kind(tch::Kind::Double).log_softmax(-1, None::<tch::Kind>);
            let exact = Vec::<f64>::try_from(-exact.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1)).unwrap();
            let found = ops::cross_entropy(&mut logits.copy(), &labels, None, tch::Kind::Float).unwrap();
            for (found, exact) in found.iter().zip(&exact) {
                let apart = (found - exact).abs() / exact;
                assert!(apart < 1e-9, "{vocabulary} words, spread {spread}: {found} for {exact}");
            }
        }
    }
}
