//! A vector for each client: the mean of its instructions' embeddings, each of length 1.

use fedreplay_sim::Seed;

use super::{DiversityError, Endpoint, Judge, drawn};
use crate::data::ClientData;

/// What makes vectors of texts.
pub enum Embedder<'a> {
    /// A server, as the paper used text-embedding-ada-002.
    Endpoint(Endpoint),
    /// Mean-pooled states of a local model.
    Local(&'a Judge),
}

impl Embedder<'_> {
    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f64>>, DiversityError> {
        let judge = match self {
            Self::Endpoint(endpoint) => return endpoint.embed(texts),
            Self::Local(judge) => judge,
        };
        let ids = |text: &String| {
            let encoded = judge.tokeniser.encode(text);
            let failed = |message| DiversityError::Text { client: String::new(), row: 0, message };
            let mut ids: Vec<u32> = judge.tokeniser.bos().into_iter().collect();
            ids.extend(encoded.map_err(failed)?.ids);
            ids.truncate(judge.max_tokens - 1);
            Ok::<_, DiversityError>(ids)
        };
        Ok(judge.trainer.mean_states(&texts.iter().map(ids).collect::<Result<Vec<_>, _>>()?)?)
    }
}

/// Each client's vector, from up to `count` of its rows.
///
/// # Errors
/// If a text cannot be embedded.
pub fn client_embeddings(
    clients: &[ClientData],
    embedder: &Embedder,
    seed: Seed,
    count: usize,
) -> Result<Vec<Vec<f64>>, DiversityError> {
    let (mut texts, mut lengths) = (Vec::new(), Vec::new());
    for (client, data) in clients.iter().enumerate() {
        // An instruction may be empty, and no vector stands for nothing: then the answer speaks.
        let text = |asked: String, answered: String| if asked.trim().is_empty() { answered } else { asked };
        let rows = drawn(seed, client, data, count);
        lengths.push(rows.len());
        texts.extend(rows.iter().map(|(_, row)| text(row.asked().join("\n"), row.answered().join("\n"))));
    }
    let vectors = embedder.embed(&texts)?;
    let mut rest = &vectors[..];
    let mean = |length: usize| {
        let (own, others) = rest.split_at(length);
        rest = others;
        let mut sum = vec![0.0; own[0].len()];
        for vector in own {
            let norm = libm::sqrt(vector.iter().map(|value| value * value).sum());
            let norm = if norm > 0.0 { norm } else { 1.0 };
            sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value / norm);
        }
        sum.iter_mut().for_each(|sum| *sum /= length as f64);
        sum
    };
    Ok(lengths.into_iter().map(mean).collect())
}
