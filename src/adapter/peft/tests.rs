//! The reader against PEFT, on fixtures/peft, which tests/reference/make_peft_adapters.py made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use super::keys::{KEYS, KeyRule};
use super::*;
use crate::adapter::values::tests::filled;

/// Values that PEFT loads as if they were not there, and which are refused all the same: the feature has tensors that the
/// fixture lacks, or works on bases that the fixture is not, or the base was changed before training.
const REFUSED_THOUGH_PLAIN: [(&str, &str); 6] = [
    ("init_lora_weights", "\"lora_ga\""),
    ("lora_bias", "true"),
    ("monteclora_config", "{\"num_samples\":2}"),
    ("target_parameters", "[\"mlp.down_proj.weight\"]"),
    ("use_qalora", "true"),
    ("velora_config", "{\"num_groups\":2}"),
];

/// Empty values that PEFT cannot load, and which mean the same as none.
const READ_THOUGH_REFUSED: [(&str, &str); 3] =
    [("alpha_pattern", "null"), ("rank_pattern", "null"), ("trainable_token_indices", "[]")];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/peft").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

/// Reads the plain adapter with an edited configuration.
fn read_edited(edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<PeftAdapter, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("plain").join(TENSORS), folder.path().join(TENSORS)).unwrap();
    let mut config = json("plain/adapter_config.json");
    edit(config.as_object_mut().unwrap());
    fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
    read_folder(folder.path()).map_err(|error| error.to_string())
}

#[test]
fn the_table_has_every_key_of_pefts_lora_config() {
    let keys = json("keys.json");
    let expected: Vec<&str> = keys.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(KEYS.map(|(key, _)| key).to_vec(), expected);
}

#[test]
fn every_default_of_peft_passes() {
    let keys = json("keys.json");
    for (key, value) in keys.as_object().unwrap() {
        if !matches!(key.as_str(), "r" | "target_modules") {
            read_edited(|config| drop(config.insert(key.clone(), value.clone()))).unwrap();
        }
    }
}

#[test]
fn a_value_that_peft_takes_for_none_changes_nothing_and_any_other_is_refused_by_name() {
    let plain = read_folder(&fixture("plain")).unwrap().adapter;
    for row in json("outcomes.json").as_array().unwrap() {
        let key = row["key"].as_str().unwrap();
        let read = read_edited(|config| match row.get("value") {
            Some(value) => drop(config.insert(key.into(), value.clone())),
            None => drop(config.remove(key)),
        });
        let text = row.get("value").map(Value::to_string).unwrap_or_default();
        let known = (key, text.as_str());
        let is_plain = READ_THOUGH_REFUSED.contains(&known)
            || (row["outcome"] == "plain" && !REFUSED_THOUGH_PLAIN.contains(&known));
        match read {
            Ok(read) => assert!(is_plain && read.adapter == plain, "{row} was read"),
            Err(error) => assert!(!is_plain && error.contains(key), "{row}: {error}"),
        }
    }
}

#[test]
fn a_key_of_a_later_version_passes_only_if_it_is_off() {
    for off in [json!(null), json!(false), json!([]), json!({}), json!("")] {
        read_edited(|config| drop(config.insert("new_feature".into(), off))).unwrap();
    }
    for on in [json!(true), json!(0), json!("on"), json!({"a": null})] {
        let error = read_edited(|config| drop(config.insert("new_feature".into(), on.clone()))).unwrap_err();
        assert!(error.contains(&format!("new_feature is {on}")), "{error}");
    }
}

/// The products of each module by PEFT.
fn products(case: &str) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(fixture(case).join("products.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut products = BTreeMap::new();
    for (name, view) in file.iter() {
        let values = view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        products.insert(name.to_owned(), values.collect());
    }
    products
}

/// The products `scale B A` of each module of an adapter.
fn products_of(adapter: &Adapter) -> BTreeMap<String, Vec<f32>> {
    let rank = adapter.layout.rank;
    let mut products = BTreeMap::new();
    for (module, (a, b)) in adapter.layout.modules.iter().zip(adapter.layout.ranges()) {
        let mut product = Vec::new();
        for row in adapter.values[b].chunks_exact(rank) {
            for column in 0..module.in_features {
                let terms = row.iter().zip(adapter.values[a.clone()].iter().skip(column).step_by(module.in_features));
                let sum: f64 = terms.map(|(b, a)| f64::from(*b) * f64::from(*a)).sum();
                product.push((adapter.layout.scale() * sum) as f32);
            }
        }
        products.insert(module.path.clone(), product);
    }
    products
}

#[track_caller]
fn assert_as_in_peft(case: &str, own_ranks: Option<&str>) {
    let read = read_folder(&fixture(case)).unwrap();
    let (found, expected) = (products_of(&read.adapter), products(case));
    assert!(found.keys().eq(expected.keys()), "{case}: {:?}", found.keys());
    for (module, expected) in &expected {
        for (found, expected) in found[module].iter().zip(expected) {
            assert!((found - expected).abs() <= 2e-6 * expected.abs().max(0.1), "{case} {module}: {found} {expected}");
        }
    }
    assert_eq!(read.own_ranks.is_some(), own_ranks.is_some(), "{case}: {:?}", read.own_ranks);
    assert!(read.own_ranks.unwrap_or_default().starts_with(own_ranks.unwrap_or_default()), "{case}");
}

#[test]
fn modules_with_ranks_and_alphas_of_their_own_compute_what_they_do_in_peft() {
    assert_as_in_peft("ranks", Some("rank_pattern is {"));
    assert_as_in_peft("ranks_in_order", Some("rank_pattern is {"));
    assert_as_in_peft("ranks_stabilized", Some("rank_pattern is {"));
    assert_as_in_peft("alphas", Some("alpha_pattern is {"));
    assert_as_in_peft("one_rank_for_all", None);
}

#[test]
fn selected_modules_are_those_of_peft() {
    for case in ["expression", "layers", "one_layer", "all_linear", "excluded", "excluded_by_expression"] {
        assert_as_in_peft(case, None);
    }
}

#[test]
fn the_table_is_sorted_and_names_no_key_twice() {
    assert!(KEYS.windows(2).all(|two| two[0].0 < two[1].0));
    assert!(KEYS.iter().any(|(_, rule)| *rule == KeyRule::Absent));
}

#[test]
fn an_expression_that_is_none_is_refused_with_its_key() {
    for (key, value) in [
        ("target_modules", json!("(q_proj")),
        ("exclude_modules", json!("*")),
        ("rank_pattern", json!({"(": 4})),
        ("alpha_pattern", json!({"q_proj": "8"})),
        ("layers_to_transform", json!("0")),
    ] {
        let error = read_edited(|config| drop(config.insert(key.into(), value))).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_misfit_names_the_first_tensor_by_name_and_what_asks_for_another() {
    let error = read_edited(|config| drop(config.insert("r".into(), 3.into()))).unwrap_err();
    let first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight is [4, 8]";
    assert!(error.contains(first) && error.contains("expected [3, in] and [out, 3] by r"), "{error}");
}

#[test]
fn weights_in_pytorchs_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(fixture("plain").join(CONFIG), folder.path().join(CONFIG)).unwrap();
    fs::write(folder.path().join("adapter_model.bin"), b"PK").unwrap();
    let error = read_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("adapter_model.bin, a pickle, which can run code"), "{error}");
}

#[test]
fn a_name_of_the_hub_is_refused() {
    let error = read_folder(Path::new("someone/adapter")).unwrap_err().to_string();
    assert!(error.contains("no folder someone/adapter; an adapter of the hub is not fetched"), "{error}");
}

#[test]
fn a_folder_returns_each_matrix_under_its_module() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = filled();
    let notes = Notes { base_model: "tiny".into(), revision: Some("v1".into()), dropout: 0.05 };
    write_folder(folder.path(), &adapter, &notes).unwrap();
    let PeftAdapter { adapter: back, notes: read_notes, own_ranks } = read_folder(folder.path()).unwrap();
    assert_eq!((read_notes, own_ranks), (notes, None));
    assert_eq!(back.layout.scale(), adapter.layout.scale());
    let paths: Vec<_> = back.layout.modules.iter().map(|m| m.path.rsplit('.').next().unwrap()).collect();
    assert_eq!(paths, ["q_proj", "v_proj", "down_proj"]);
    let find = |adapter: &Adapter, name: &str| {
        let tensors = adapter.layout.tensors();
        let (_, shape, range) = tensors.into_iter().find(|(known, ..)| known == name).unwrap();
        (shape, adapter.values[range].to_vec())
    };
    for (name, ..) in adapter.layout.tensors() {
        assert_eq!(find(&adapter, &name), find(&back, &name));
    }
}
