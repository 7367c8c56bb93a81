//! A client of OpenAI's embeddings API, which many servers implement.

use std::time::Duration;

use serde_json::{Value, json};

use super::DiversityError;
use crate::store::{SecretText, parse_json};

/// Number of texts in one request.
const BATCH: usize = 64;

/// Timeout of a request.
const PATIENCE: Duration = Duration::from_secs(120);

/// [byte] -- Maximum size of a response.
const ANSWER_LIMIT_BYTES: u64 = 256 << 20;

/// An embeddings endpoint.
pub struct Endpoint {
    /// Base URL without `/embeddings`, such as `https://host/v1`.
    pub url: String,
    /// Name of the model at the server.
    pub model: String,
    /// API key, sent as a bearer token.
    pub key: Option<String>,
}

impl Endpoint {
    /// Returns the embeddings of texts, in their order.
    ///
    /// # Errors
    /// If the server is not reached, refuses the request, or does not send one vector per text.
    pub fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f64>>, DiversityError> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).build().into();
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            match self.ask(&agent, batch) {
                Ok(of_batch) => vectors.extend(of_batch),
                Err(message) => {
                    let message = self.without_key(&message);
                    return Err(DiversityError::Endpoint { url: self.url.clone(), message });
                }
            }
        }
        Ok(vectors)
    }

    /// Sends one request.
    fn ask(&self, agent: &ureq::Agent, texts: &[String]) -> Result<Vec<Vec<f64>>, String> {
        let url = format!("{}/embeddings", self.url.trim_end_matches('/'));
        let mut request = agent.post(&url).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let body = json!({ "model": self.model, "input": texts }).to_string();
        let mut answer = request.send(body.as_bytes()).map_err(|error| error.to_string())?;
        let status = answer.status();
        let read = answer.body_mut().with_config().limit(ANSWER_LIMIT_BYTES).read_to_string();
        let text = read.map_err(|error| error.to_string())?;
        if !status.is_success() {
            // Hidden before the text is cut: of a key across the cut, nobody would find the rest.
            let said = self.without_key(&text).chars().take(200).collect::<String>();
            return Err(format!("it answered {status}: {said}"));
        }
        let value: Value = parse_json(text.as_bytes()).map_err(|error| format!("its answer is no JSON: {error}"))?;
        vectors(&value, texts.len())
    }

    /// Returns a foreign text without the key, which it may repeat.
    fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(key) => SecretText::new(key.as_str()).hide_in(text),
            None => text.to_owned(),
        }
    }
}

/// Parses the vectors of a response, ordered by their `index`.
fn vectors(answer: &Value, count: usize) -> Result<Vec<Vec<f64>>, String> {
    let data = answer["data"].as_array().ok_or("its answer has no list `data`")?;
    let mut vectors = vec![Vec::new(); count];
    for (place, entry) in data.iter().enumerate() {
        // Servers may send the vectors in any order. Without an index, the order is that of the texts.
        let index = entry["index"].as_u64().map_or(place, |index| index as usize);
        let numbers = entry["embedding"].as_array().ok_or("an entry has no list `embedding`")?;
        let vector = numbers.iter().map(|value| value.as_f64().filter(|value| value.is_finite()));
        let slot = vectors.get_mut(index).ok_or("an entry has an index that was not asked for")?;
        *slot = vector.collect::<Option<_>>().ok_or("an embedding holds something else than numbers")?;
    }
    let width = vectors.first().map_or(0, Vec::len);
    match vectors.iter().all(|vector| vector.len() == width && width > 0) {
        true => Ok(vectors),
        false => Err(format!("it gave {} vectors of one width for {count} texts", data.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_put_in_the_order_of_their_texts() {
        let entry = |index: u64, x: f64| json!({"index": index, "embedding": [x, 1.0]});
        let answer = json!({"data": [entry(1, 2.0), entry(0, 1.0)]});
        assert_eq!(vectors(&answer, 2), Ok(vec![vec![1.0, 1.0], vec![2.0, 1.0]]));
        for (wrong, part) in [
            (json!({"error": "no"}), "no list `data`"),
            (json!({"data": [{"index": 0}]}), "no list `embedding`"),
            (json!({"data": [entry(0, 1.0)]}), "1 vectors"),
            (json!({"data": [entry(0, 1.0), entry(7, 1.0)]}), "not asked for"),
            (json!({"data": [{"index": 0, "embedding": ["x"]}, entry(1, 1.0)]}), "something else"),
        ] {
            assert!(vectors(&wrong, 2).unwrap_err().contains(part), "{wrong}");
        }
    }
}
