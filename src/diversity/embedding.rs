//! One vector per client: the mean of the normalized embeddings of its instructions.

use fedreplay_sim::Seed;

use super::{DiversityError, Endpoint, QualityJudge, drawn};
use crate::data::{ClientData, Row};

/// A source of text embeddings.
pub enum Embedder<'a> {
    /// A server. The paper used text-embedding-ada-002.
    Endpoint(Endpoint),
    /// Mean-pooled states of a local model.
    Local(&'a QualityJudge),
}

impl Embedder<'_> {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f64>>, DiversityError> {
        let judge = match self {
            Self::Endpoint(endpoint) => return endpoint.embed(texts),
            Self::Local(judge) => judge,
        };
        let mut ids_of_texts = Vec::with_capacity(texts.len());
        for text in texts {
            let encoded = judge.tokenizer.encode(text).map_err(|error| {
                // Texts of all clients are mixed here, so the message cannot name one.
                DiversityError::Text { client: String::new(), row: 0, message: error.to_string() }
            })?;
            let mut ids: Vec<u32> = judge.tokenizer.bos().into_iter().collect();
            ids.extend(encoded.ids);
            ids.truncate(judge.max_tokens - 1);
            ids_of_texts.push(ids);
        }
        Ok(judge.trainer.mean_states(&ids_of_texts)?)
    }
}

/// Computes each client's vector from up to `count` of its rows.
///
/// # Errors
/// If a text cannot be embedded.
pub fn client_embeddings(
    clients: &[ClientData],
    embedder: &Embedder,
    seed: Seed,
    count: usize,
) -> Result<Vec<Vec<f64>>, DiversityError> {
    // The texts of all clients are embedded together, in few requests or batches.
    let mut texts = Vec::new();
    let mut lengths = Vec::new();
    for (client, data) in clients.iter().enumerate() {
        let rows = drawn(seed, client, data, count);
        lengths.push(rows.len());
        texts.extend(rows.iter().map(|(_, row)| text_of(row)));
    }
    let vectors = embedder.embed(&texts)?;
    let mut rest = &vectors[..];
    let mut means = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (own, others) = rest.split_at(length);
        means.push(mean_of_normalized(own));
        rest = others;
    }
    Ok(means)
}

/// Returns the text to embed: the instruction, or the response if the instruction is empty and has no embedding.
fn text_of(row: &Row) -> String {
    let asked = row.asked().join("\n");
    if asked.trim().is_empty() { row.answered().join("\n") } else { asked }
}

/// Returns the mean of the vectors, each scaled to length 1. A zero vector stays as it is.
fn mean_of_normalized(vectors: &[Vec<f64>]) -> Vec<f64> {
    let mut mean = vec![0.0; vectors[0].len()];
    for vector in vectors {
        let norm = libm::sqrt(vector.iter().map(|value| value * value).sum());
        let norm = if norm > 0.0 { norm } else { 1.0 };
        for (sum, value) in mean.iter_mut().zip(vector) {
            *sum += value / norm;
        }
    }
    for sum in &mut mean {
        *sum /= vectors.len() as f64;
    }
    mean
}
