//! Import of a GGUF file, the single-file format of llama.cpp, as a Hugging Face folder.
//!
//! [`import`] writes config.json, model.safetensors, tokenizer.json with its configuration, and the chat template, all
//! from what the file itself says. Quantized weights become their exact f32 values; F32, F16 and BF16 weights stay as
//! they are. A key, tensor, type or tokenizer that is not understood is an error that names it: nothing that could
//! change the computation is skipped.
//!
//! The layout is that of the specification, `docs/gguf.md` of ggml: a header, metadata as typed pairs of key and value,
//! the tensors' names, shapes and offsets, and their data.

mod blocks;
mod byte_level;
mod container;
mod cursor;
mod decoder;
mod error;
mod folder;
mod metadata;
mod names;
mod sentencepiece;
#[cfg(test)]
mod tests;
mod tokenizer;
mod vocabulary;
mod weights;

pub use error::{GgufError, GgufFault};
pub use folder::{ImportOptions, ImportSummary, import};
pub use weights::WeightType;
