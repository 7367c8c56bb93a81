//! Broken model folders: each is one clear error that names file and tensor.

use std::fs;

use tch::Tensor;

use super::*;
use crate::model::{Base, ModelError};

fn load(folder: &Path) -> Result<Base, ModelError> {
    Base::load(folder, Precision::F32, Device::Cpu)
}

/// The error of loading a folder after `edit`.
fn refused(edit: impl Fn(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &configs()[0]);
    assert!(load(folder.path()).is_ok());
    edit(folder.path());
    load(folder.path()).err().expect("the folder was accepted").to_string()
}

fn rewrite(folder: &Path, edit: impl Fn(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) {
    let config = Config::read(folder).unwrap();
    let specs = crate::model::tensor_specs(&config).into_iter().enumerate();
    let mut tensors: Vec<_> = specs
        .map(|(n, spec)| {
            let values = random::initial_values(&spec, Seed(5), n as u64);
            (spec.name, spec.shape, values)
        })
        .collect();
    edit(&mut tensors);
    random::write_values(folder, &config, &tensors).unwrap();
}

fn edit_config(folder: &Path, field: &str, value: serde_json::Value) {
    let path = folder.join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json[field] = value;
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn a_shape_that_config_json_contradicts_is_named_with_both_shapes() {
    let text = refused(|folder| edit_config(folder, "intermediate_size", 96.into()));
    assert!(text.contains("mlp.gate_proj.weight: expected shape [96, 64]") && text.contains("[80, 64]"), "{text}");
    let text = refused(|folder| edit_config(folder, "num_key_value_heads", 4.into()));
    assert!(text.contains("self_attn.k_proj.weight"), "{text}");
}

#[test]
fn missing_and_superfluous_tensors_are_named() {
    let text = refused(|folder| rewrite(folder, |tensors| drop(tensors.remove(3))));
    assert!(text.contains("tensor model.layers.0.self_attn.q_proj.weight: missing, expected shape [64, 64]"), "{text}");
    let text = refused(|folder| {
        rewrite(folder, |tensors| tensors.push(("model.layers.0.mlp.extra.weight".into(), vec![1], vec![0.0])));
    });
    assert!(text.contains("model.layers.0.mlp.extra.weight"), "{text}");
    let text = refused(|folder| edit_config(folder, "num_hidden_layers", 1.into()));
    assert!(text.contains("model.layers.1"), "{text}");
}

#[test]
fn a_value_that_is_not_finite_is_found() {
    let text = refused(|folder| rewrite(folder, |tensors| tensors[4].2[7] = f32::NAN));
    assert!(text.contains("model.layers.0.self_attn.k_proj.weight") && text.contains("NaN"), "{text}");
}

#[test]
fn truncated_and_absent_files_are_named() {
    for length in [0, 5, 100, 5000, 60_000] {
        let text = refused(|folder| {
            let path = folder.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..length]).unwrap();
        });
        assert!(text.contains("model.safetensors"), "{length}: {text}");
    }
    assert!(refused(|folder| fs::remove_file(folder.join("model.safetensors")).unwrap()).contains("model.safetensors"));
    assert!(refused(|folder| fs::remove_file(folder.join("config.json")).unwrap()).contains("config.json"));
    assert!(refused(|folder| fs::write(folder.join("config.json"), "{").unwrap()).contains("config.json"));
}

/// Loads a folder after `edit` and returns the loss of a row.
fn loss_after(edit: impl Fn(&Path)) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &configs()[0]);
    edit(folder.path());
    let numerics = Numerics::default();
    let trainer = Trainer::load(folder.path(), Precision::F32, Device::Cpu, &lora(&["q_proj"]), &numerics).unwrap();
    let start = Arc::new(Adapter::initial(trainer.layout(), Seed(1)));
    trainer.evaluate(&start, &[sample(&configs()[0], 20, 3, 1)]).unwrap()[0].nats
}

/// Writes the tensors again after `edit`, with their values.
fn edit_tensors(folder: &Path, edit: impl Fn(&mut Vec<(String, Tensor)>)) {
    let path = folder.join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(&path).unwrap();
    edit(&mut tensors);
    Tensor::write_safetensors(&tensors, path).unwrap();
}

const INDEX: &str = r#"{"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}"#;

#[test]
fn a_tied_model_may_hold_a_copy_of_its_embedding_but_no_other_head() {
    let add_head = |factor: f64| {
        move |folder: &Path| {
            edit_tensors(folder, |tensors| {
                let embedding = tensors.iter().find(|(name, _)| name.ends_with("embed_tokens.weight")).unwrap();
                let head = &embedding.1 * factor;
                tensors.push(("lm_head.weight".into(), head));
            });
        }
    };
    assert_eq!(loss_after(add_head(1.0)), loss_after(|_| ()));
    let text = refused(add_head(1.5));
    assert!(text.contains("tensor lm_head.weight: config.json has tie_word_embeddings"), "{text}");
}

#[test]
fn names_without_the_prefix_of_the_whole_model_are_read() {
    let found = loss_after(|folder| {
        edit_tensors(folder, |tensors| {
            for (name, _) in tensors {
                *name = name.trim_start_matches("model.").to_owned();
            }
        });
    });
    assert_eq!(found, loss_after(|_| ()));
}

#[test]
fn two_sets_of_weights_are_refused_and_an_index_without_its_files_is_passed_over() {
    let text = refused(|folder| {
        fs::write(folder.join("model.safetensors.index.json"), INDEX).unwrap();
        fs::copy(folder.join("model.safetensors"), folder.join("model-00001-of-00001.safetensors")).unwrap();
    });
    assert!(text.contains("two sets of weights"), "{text}");
    let found = loss_after(|folder| fs::write(folder.join("model.safetensors.index.json"), INDEX).unwrap());
    assert_eq!(found, loss_after(|_| ()));
}

#[test]
fn weights_that_are_missing_or_pickled_are_named_with_the_remedy() {
    let text = refused(|folder| {
        fs::write(folder.join("model.safetensors.index.json"), INDEX).unwrap();
        fs::remove_file(folder.join("model.safetensors")).unwrap();
    });
    assert!(text.contains("it names model-00001-of-00001.safetensors, which is not in the folder"), "{text}");
    let text = refused(|folder| {
        fs::rename(folder.join("model.safetensors"), folder.join("pytorch_model.bin")).unwrap();
    });
    assert!(text.contains("pytorch_model.bin is a Python pickle") && text.contains("save_pretrained"), "{text}");
}

#[test]
fn the_hash_names_the_content() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &configs()[0]);
    let first = load(folder.path()).unwrap().hash;
    assert_eq!(first, load(folder.path()).unwrap().hash);
    rewrite(folder.path(), |tensors| tensors[4].2[7] += 1.0);
    assert_ne!(first, load(folder.path()).unwrap().hash);
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write_model(folder.path(), &configs()[0]);
    let error = Base::load(folder.path(), Precision::F32, Device::Cuda(63)).err().unwrap();
    assert!(error.to_string().contains("cuda:63"), "{error}");
}
