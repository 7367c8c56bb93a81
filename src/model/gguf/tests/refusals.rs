//! Files that are damaged, hostile, or ask for what is not supported.

use std::fs;

use super::super::container::Container;
use super::super::decoder::Decoder;
use super::forged::Forged;
use super::{ImportOptions, fixtures, import};

/// Imports a file and returns the error, without the file's name.
fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let target = folder.path().join("out");
    let error = import(&path, &target, &ImportOptions::default()).unwrap_err().to_string();
    // Nothing is left, neither the folder nor a part of it.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{error}");
    error.replace(&format!("failed to import {}: ", path.display()), "")
}

/// Imports a file made of [`Forged::llama`] by `change`.
fn changed(change: impl FnOnce(&mut Forged)) -> String {
    let mut file = Forged::llama();
    change(&mut file);
    refused(&file.bytes())
}

#[test]
fn the_forged_model_is_right_without_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, Forged::llama().bytes()).unwrap();
    import(&path, &folder.path().join("out"), &ImportOptions::default()).unwrap();
}

#[test]
fn a_chat_template_whose_name_is_no_name_of_a_file_is_refused() {
    for name in ["", "../evil", "a/b", "a.b"] {
        let key = format!("tokenizer.chat_template.{name}");
        let found = changed(|file| file.put_text(&key, "text"));
        assert_eq!(found, format!("{key} ends in a name that is not of letters, digits, `_` and `-`"));
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = Forged::llama().bytes();
    for length in 0..bytes.len() {
        let found = Container::read(&bytes[..length], length as u64).unwrap_err().to_string();
        assert!(found.starts_with("at byte ") || found.starts_with("tensor "), "{length}: {found}");
    }
    assert_eq!(refused(b"GGUF"), "at byte 4: the file ends after 0 more bytes, 4 bytes are expected");
    assert!(refused(b"{\"a\": 1}").starts_with("at byte 0: "));
}

#[test]
fn a_changed_byte_makes_no_panic_and_no_large_allocation() {
    let original = fs::read(fixtures().join("mistral.gguf")).unwrap();
    // The header is the first quarter of the file.
    for place in (0..original.len() / 4).step_by(37) {
        for value in [0, 0x7f, 0xff] {
            let mut bytes = original.clone();
            bytes[place] = value;
            // Whether it can be read is another question.
            let _ = Container::read(&bytes[..], bytes.len() as u64);
        }
    }
}

#[test]
fn counts_and_lengths_beyond_the_file_are_refused_with_their_place() {
    let mut bytes = Forged::llama().bytes();
    bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(refused(&bytes).starts_with("at byte 8: 18446744073709551615 tensors are announced, only "));
    let mut bytes = Forged::llama().bytes();
    bytes[16..24].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert!(refused(&bytes).starts_with("at byte 16: 1099511627776 pairs of metadata are announced, only "));
    let found = changed(|file| {
        let mut list = 8u32.to_le_bytes().to_vec();
        list.extend((1u64 << 50).to_le_bytes());
        file.put("x", 9, &list);
    });
    assert!(found.contains("1125899906842624 elements of x are announced"), "{found}");
    let found = changed(|file| file.put("x", 8, &u64::MAX.to_le_bytes()));
    assert!(found.contains("bytes of text are announced"), "{found}");
    let found = changed(|file| file.put_tensor("x", &[1 << 40, 1 << 40], 0));
    assert!(
        found.starts_with("tensor x of [1099511627776, 1099511627776] F32 values at offset 0 does not fit"),
        "{found}"
    );
    let found = changed(|file| file.put_tensor("x", &[8, 1 << 20], 0));
    assert!(found.starts_with("tensor x of [8, 1048576] F32 values"), "{found}");
    let found = changed(|file| {
        file.remove("llama.block_count");
        file.put_u32("llama.block_count", u32::MAX);
    });
    assert_eq!(found, "llama.block_count is 4294967295, 1 to 10000 are allowed");
}

#[test]
fn what_is_not_supported_is_named() {
    let with = |key: &str, value: &str| {
        changed(|file| {
            file.remove(key);
            file.put_text(key, value);
        })
    };
    let found = with("general.architecture", "mamba");
    assert_eq!(found, "general.architecture is \"mamba\", supported are llama, qwen2, qwen3, gemma3, phi3");
    let found = with("tokenizer.ggml.model", "bert");
    assert_eq!(found, "tokenizer.ggml.model is \"bert\", \"gpt2\" and \"llama\" are supported");
    assert!(with("tokenizer.ggml.pre", "klingon").starts_with("tokenizer.ggml.pre is \"klingon\", known are "));
    let found = with("llama.rope.scaling.type", "yarn");
    assert_eq!(found, "llama.rope.scaling.type is \"yarn\", \"none\" and \"linear\" are supported");
    let found = with("llama.logit_scale", "2");
    assert_eq!(found, "llama.logit_scale is not supported, and ignoring it could change the computation");
    let found = changed(|file| file.put_tensor("x", &[256], 10));
    assert!(found.starts_with("tensor x has type 10 (Q2_K), supported are F32, "), "{found}");
    let found = changed(|file| file.put_tensor("x", &[8], 2));
    assert_eq!(found, "tensor x has rows of 8 values, Q4_0 has blocks of 32");
    assert!(changed(|file| file.put_u32("split.count", 2)).starts_with("split.count is 2: "));
    assert_eq!(
        changed(|file| file.put_u32("llama.expert_count", 8)),
        "llama.expert_count is 8, a mixture of experts is not supported"
    );
}

#[test]
fn tensors_that_do_not_fit_the_metadata_are_named() {
    assert_eq!(
        changed(|file| file.remove("blk.0.attn_k.weight")),
        "tensor blk.0.attn_k.weight is missing, expected shape [8, 8]"
    );
    assert_eq!(
        changed(|file| file.put_tensor("blk.0.attn_q.bias", &[8], 0)),
        "tensor blk.0.attn_q.bias is none of a llama model's"
    );
    let found = changed(|file| {
        file.remove("blk.0.ffn_up.weight");
        file.put_tensor("blk.0.ffn_up.weight", &[8, 4], 0);
    });
    assert_eq!(found, "tensor blk.0.ffn_up.weight has shape [4, 8], expected [8, 8] by the metadata");
    assert_eq!(
        changed(|file| file.put_tensor("output_norm.weight", &[8], 0)),
        "tensor output_norm.weight occurs twice"
    );
    let found = changed(|file| file.data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert!(found.contains("has the value NaN, which is not finite as float32"), "{found}");
}

#[test]
fn tokens_that_do_not_fit_are_named() {
    let found = changed(|file| {
        file.remove("tokenizer.ggml.tokens");
        file.put_texts("tokenizer.ggml.tokens", &["a", "b", "a"]);
    });
    assert_eq!(found, "tokenizer.ggml.tokens has the token \"a\" twice, as 0 and as 2");
    let found = changed(|file| {
        file.remove("tokenizer.ggml.merges");
        file.put_texts("tokenizer.ggml.merges", &["a x"]);
    });
    assert!(found.starts_with("tokenizer.ggml makes no tokenizer: "), "{found}");
    let found = changed(|file| file.put_u32("tokenizer.ggml.bos_token_id", 3));
    assert_eq!(found, "tokenizer.ggml.bos_token_id is 3, there are 3 tokens");
    let found = changed(|file| file.remove("tokenizer.ggml.pre"));
    assert_eq!(found, "tokenizer.ggml.pre is missing, so the way to split a text is not known");
}

/// Base of RoPE over scaled frequencies in Llama 3.2 1B, by Transformers' `ROPE_INIT_FUNCTIONS["llama3"]`.
const LLAMA_3_2: [f32; 32] = [
    1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.6513, 3.2923, 9.6667, 32.0, 32.0,
    32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0, 32.0,
];

#[test]
fn factors_of_llama_3_become_their_parameters_and_others_are_refused() {
    let mut file = Forged::llama();
    file.put("llama.rope.freq_base", 6, &500_000f32.to_le_bytes());
    file.put_u32("llama.attention.key_length", 64);
    file.put_u32("llama.attention.value_length", 64);
    let bytes = file.bytes();
    let container = Container::read(&bytes[..], bytes.len() as u64).unwrap();
    let decoder = Decoder::read(&container.metadata).unwrap();
    let scaling = decoder.scaling_of(&LLAMA_3_2).unwrap().unwrap();
    assert_eq!(scaling["factor"], 32.0);
    assert_eq!(scaling["original_max_position_embeddings"], 8192);
    assert!(decoder.scaling_of(&[1.0; 32]).unwrap().is_none());
    let mut other = LLAMA_3_2;
    other[20] = 3.0;
    let error = decoder.scaling_of(&other).unwrap_err().to_string();
    assert!(error.starts_with("tensor rope_freqs.weight has the factor 3 at frequency 20"), "{error}");
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    fs::write(&kept, "text").unwrap();
    let error = import(&fixtures().join("qwen2.gguf"), folder.path(), &ImportOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("it exists; name a new folder, or remove it first"), "{error}");
    assert!(kept.exists());
}
