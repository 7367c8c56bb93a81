//! Quantised bases: codes and products against bitsandbytes, bits against those of other ways to hold the same numbers.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, TensorView};
use tch::{Kind, Tensor};

use super::*;
use crate::model::quantized::{Int8, Nf4, codebook, dynamic_codebook};
use crate::model::{Arithmetic, Base};
use crate::training::{Status, TrainingOutcome, kernels::llm_int8};

/// What bitsandbytes makes of the same numbers: tests/reference/make_quantised.py.
fn reference() -> HashMap<String, Tensor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/reference/quantised.safetensors");
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

fn most(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.to_kind(Kind::Double).abs().max()).unwrap()
}

/// The largest distance as a part of the largest expected value.
fn apart(found: &Tensor, expected: &Tensor) -> f64 {
    most(&(found.to_kind(Kind::Double) - expected.to_kind(Kind::Double))) / most(expected)
}

#[test]
fn normal_floats_are_those_of_bitsandbytes() {
    let reference = reference();
    assert_eq!(Tensor::from_slice(&codebook()), reference["nf4.codebook"]);
    let nf4 = Nf4::round(&reference["nf4.weight"], false).unwrap();
    let (codes, maxima) = nf4.parts().unwrap();
    assert_eq!(maxima, reference["nf4.absmax"]);
    // bitsandbytes leaves open what fills the last block; there are 3,600 codes in whole bytes before it.
    let expected = &reference["nf4.codes"];
    let scaled = expected.size()[0];
    assert_zero_rows_aside(&codes.narrow(0, 0, scaled), expected, &maxima);
    assert_eq!(nf4.expanded(Kind::Float).unwrap(), reference["nf4.expanded"]);
}

/// Codes are equal but in blocks of zeros, where every code means zero.
fn assert_zero_rows_aside(found: &Tensor, expected: &Tensor, maxima: &Tensor) {
    let found = Vec::<u8>::try_from(found).unwrap();
    let expected = Vec::<u8>::try_from(expected).unwrap();
    let maxima = Vec::<f32>::try_from(maxima).unwrap();
    assert_eq!(found.len(), expected.len());
    let differ: Vec<usize> = (0..found.len()).filter(|&n| found[n] != expected[n] && maxima[n / 32] > 0.0).collect();
    assert!(differ.is_empty(), "{} codes differ, the first at byte {}", differ.len(), differ[0]);
}

#[test]
fn doubly_quantised_normal_floats_are_those_of_bitsandbytes() {
    let reference = reference();
    assert!(apart(&Tensor::from_slice(&dynamic_codebook()), &reference["nf4_double.codebook"]) < 1e-7);
    let nf4 = Nf4::round(&reference["nf4_double.weight"], true).unwrap();
    let (codes, maxima) = nf4.parts().unwrap();
    assert_zero_rows_aside(&codes, &reference["nf4_double.codes"], &reference["nf4_double.absmax"]);
    assert!(apart(&maxima, &reference["nf4_double.absmax"]) < 1e-6);
    assert!(apart(&nf4.expanded(Kind::Float).unwrap(), &reference["nf4_double.expanded"]) < 1e-6);
    // 8.25 bits a block instead of 32 are what double quantisation is for.
    let plain = Nf4::round(&reference["nf4_double.weight"], false).unwrap();
    assert_eq!((plain.bytes(), nf4.bytes()), (16_640 + 4 * 520, 16_640 + 520 + 4 * 3 + 4));
}

#[test]
fn int8_codes_and_products_with_outliers_are_those_of_bitsandbytes() {
    let reference = reference();
    let int8 = Int8::round(&reference["int8.weight"]).unwrap();
    assert_eq!(int8.codes, reference["int8.codes"]);
    assert_eq!(int8.most.squeeze_dim(1), reference["int8.absmax"]);
    // bitsandbytes' plain form multiplies by 6.200124e-5 where 1 / 127^2 is 6.200012e-5: 2e-5 of the result.
    for (name, kind, tolerance) in [("f32", Kind::Float, 4e-5), ("bf16", Kind::BFloat16, 4e-3)] {
        let (input, bias) = (&reference["llm_int8.input"].to_kind(kind), &reference["llm_int8.bias"].to_kind(kind));
        let found = llm_int8::product(input, &int8, Some(bias)).unwrap();
        let error = apart(&found, &reference[&format!("llm_int8.output_{name}")]);
        assert!(error < tolerance, "{name}: {error}");
        let unsplit = apart(&found, &reference[&format!("llm_int8.unsplit_{name}")]);
        assert!(unsplit > 2.0 * tolerance, "{name}: without the split the result is only {unsplit} away");
    }
}

fn load_from(folder: &Path, precision: Precision) -> Trainer {
    Trainer::load(folder, precision, Device::Cpu, &lora(&["all-linear"]), &Numerics::default()).unwrap()
}

fn trained(trainer: &Trainer, config: &Config) -> TrainingOutcome {
    let steps = vec![vec![vec![sample(config, 40, 9, 1), sample(config, 23, 4, 2)]]; 3];
    trainer.train(&[job(adapter(trainer, 1), steps, Hyper::default())]).unwrap().remove(0)
}

#[test]
fn int8_has_the_same_bits_held_and_rounded_at_load() {
    for config in configs() {
        let folder = tempfile::tempdir().unwrap();
        write_model(folder.path(), &config);
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            let [rounded, held] = [Precision::Int8(arithmetic), Precision::Int8Held(arithmetic)]
                .map(|precision| load_from(folder.path(), precision));
            let [one, other] = [&rounded, &held].map(|trainer| trained(trainer, &config));
            assert_eq!(one.adapter, other.adapter);
            assert_eq!(one.losses, other.losses);
            assert_eq!(rounded.numerics_class(), held.numerics_class());
            assert!(held.memory(1, 16, 16).weights < rounded.memory(1, 16, 16).weights);
            assert!(held.memory(1, 16, 16).expanded > 0 && rounded.memory(1, 16, 16).expanded == 0);
        }
    }
}

/// Every form trains, close to bf16 as its error says, and takes the bytes that it promises.
#[test]
fn every_precision_trains_and_reports_its_size_and_error() {
    let config = Config { max_positions: 256, ..Config::llama(97, 64, 128, 2, 4) };
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &config);
    let full = trained(&load_from(folder.path(), Precision::Bf16), &config);
    let double = |double| Precision::Nf4 { arithmetic: Arithmetic::Bf16, double };
    let linear = (2 * (4 * 64 * 64 + 3 * 64 * 128)) as f64;
    let mut weight_errors = BTreeMap::new();
    for (precision, bytes_a_weight, logits_max) in [
        (Precision::Int8Held(Arithmetic::Bf16), 1.06, 0.1),
        (Precision::LlmInt8(Arithmetic::Bf16), 1.06, 0.1),
        (double(false), 0.5625, 0.5),
        (double(true), 0.517, 0.5),
    ] {
        let mut trainer = load_from(folder.path(), precision);
        let outcome = trained(&trainer, &config);
        assert_eq!(outcome.status, Status::Ok, "{precision:?}");
        let moved = (outcome.losses[2] / full.losses[2] - 1.0).abs();
        assert!(moved < 0.05, "{precision:?}: the loss is {moved} from that of bf16");
        let error = trainer.measure_logit_error(folder.path(), &sample(&config, 30, 1, 5).ids).unwrap();
        let report = trainer.fingerprint().base;
        assert_eq!(report.logit_error, Some(error));
        assert!(
            error.mean > 1e-4 && error.mean <= error.max * 20.0 && error.mean < logits_max,
            "{precision:?} {error:?}"
        );
        let rest = report.bf16_bytes as f64 - 2.0 * linear;
        let found = (report.device_bytes as f64 - rest) / linear;
        assert!((found / bytes_a_weight - 1.0).abs() < 0.02, "{precision:?}: {found} bytes a weight");
        weight_errors.insert(format!("{precision:?}"), report.weight_error.unwrap().mean);
        assert!(report.to_string().contains("MiB on the device"));
    }
    let of = |name: &str| *weight_errors.iter().find(|(key, _)| key.contains(name)).unwrap().1;
    assert!(of("Int8Held") < 0.02 && of("double: false") > 0.03, "{weight_errors:?}");
    assert!(of("double: true") < 0.15, "{weight_errors:?}");
}

/// LLM.int8() looks for outliers in the rows of one job alone, so company changes nothing.
#[test]
fn outliers_of_one_job_are_not_those_of_another() {
    let config = configs().remove(1);
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &config);
    let trainer = load_from(folder.path(), Precision::LlmInt8(Arithmetic::Bf16));
    let jobs: Vec<Job> = (0..3)
        .map(|n| job(adapter(&trainer, n), vec![vec![vec![sample(&config, 20 + n as u32, 3, n)]]; 2], Hyper::default()))
        .collect();
    let together = trainer.train(&jobs).unwrap();
    for (job, beside) in jobs.iter().zip(&together) {
        assert_eq!(trainer.train(std::slice::from_ref(job)).unwrap()[0].adapter, beside.adapter);
    }
    let rows: Vec<_> = (0..5).map(|n| sample(&config, 30, 3, 10 + n)).collect();
    let all = trainer.evaluate(&jobs[0].adapter, &rows).unwrap();
    assert_eq!(trainer.evaluate(&jobs[0].adapter, &rows[3..4]).unwrap(), all[3..4]);
}

#[test]
fn int8_rounds_linear_weights_only_and_by_at_most_half_a_code() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &configs()[0]);
    let load = |precision| Base::load(folder.path(), precision, Device::Cpu).unwrap();
    let (full, rounded) = (load(Precision::F32), load(Precision::Int8(Arithmetic::F32)));
    let [weight, other] = [&full, &rounded].map(|base| base.blocks[0].down.expanded().unwrap());
    let step = weight.abs().amax([1i64], true) / 127.0;
    let distance = (&weight - &other).abs();
    assert!(most(&(&distance / &step)) < 0.5001 && most(&distance) > 0.0);
    assert_eq!(full.head, rounded.head);
    assert_eq!(full.blocks[0].input_norm, rounded.blocks[0].input_norm);
    assert!(full.weight_error.is_none() && rounded.weight_error.unwrap().mean > 0.0);
}

/// A folder in half precision computes what the same numbers in f32 compute.
#[test]
fn weights_in_half_precision_are_read() {
    let config = configs().remove(0);
    let [half, full] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    write_model(half.path(), &config);
    let (mut halves, mut rounded) = (Vec::new(), Vec::new());
    for (index, spec) in crate::model::tensor_specs(&config).into_iter().enumerate() {
        let values: Vec<half::f16> =
            random::initial_values(&spec, Seed(5), index as u64).iter().map(|&v| half::f16::from_f32(v)).collect();
        rounded.push((spec.name.clone(), spec.shape.clone(), values.iter().map(|v| v.to_f32()).collect::<Vec<_>>()));
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        halves.push((spec.name, spec.shape, bytes));
    }
    let views = halves
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes).unwrap()));
    std::fs::write(half.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    random::write_values(full.path(), &config, &rounded).unwrap();
    let [one, other] = [half.path(), full.path()].map(|folder| trained(&load_from(folder, Precision::F32), &config));
    assert_eq!(one.adapter, other.adapter);
}
