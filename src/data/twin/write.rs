//! Writing of a twin, row by row with one row in memory, together with a manifest that declares it synthetic.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use fedreplay_sim::{Purpose, Seed, Stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::catalog::{Sizes, Twin, TwinForm};
use super::prose::{Voice, permutation};
use super::spread::spread;
use crate::store::atomic::{self, Pending};

/// Settings for the generation of a twin.
#[derive(Clone, Copy, Debug)]
pub struct TwinSettings {
    pub seed: Seed,
    /// [1] -- Factor on all lengths, so that tiny models can read whole rows; above 0, at most 1.
    pub length_scale: f64,
}

/// The description written next to a twin's file.
#[derive(Debug, Serialize)]
pub struct TwinManifest {
    /// A statement that the data is not the original.
    pub notice: String,
    pub twin: &'static str,
    pub of: &'static str,
    pub seed: u64,
    pub clients: u64,
    pub samples: u64,
    pub length_unit: &'static str,
    pub length_scale: f64,
    /// [word] -- Mean and standard deviation of the length of instructions, before scaling.
    pub instruction: (f64, f64),
    /// [word] -- The same for responses.
    pub response: (f64, f64),
    pub languages: Vec<(&'static str, u64)>,
    /// Assumptions about properties of the original that are not published.
    pub assumed: &'static [&'static str],
    /// BLAKE3 of the file.
    pub content_hash: String,
}

/// Writes the twin to `path` and its manifest to `path` with `.manifest.json` appended.
///
/// # Errors
/// Errors of the file system; no incomplete file is left behind.
pub fn write_twin(twin: &'static Twin, settings: TwinSettings, path: &Path) -> io::Result<TwinManifest> {
    let plan = Plan::new(twin, settings);
    let mut data_file = Pending::for_path(path)?;
    let mut out = Hashing { out: BufWriter::with_capacity(1 << 20, data_file.file()), hasher: blake3::Hasher::new() };
    plan.write(&mut out)?;
    out.out.flush()?;
    let hash = out.hasher.finalize();
    drop(out);
    let manifest = plan.manifest(hash);
    let text = serde_json::to_string_pretty(&manifest).expect("plain data") + "\n";
    let beside = manifest_path(path);
    let mut manifest_file = Pending::for_path(&beside)?;
    manifest_file.file().write_all(text.as_bytes())?;
    atomic::commit_together([(data_file, path.to_owned()), (manifest_file, beside)])?;
    Ok(manifest)
}

fn manifest_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".manifest.json");
    name.into()
}

/// Everything that is decided before the first row is written.
struct Plan {
    twin: &'static Twin,
    settings: TwinSettings,
    /// [sample] -- Size of each client, in order.
    sizes: Vec<u64>,
    /// Language of each client.
    languages: Vec<&'static str>,
    /// [word] -- Length of each sample's instruction, in order.
    instructions: Vec<u64>,
    /// [word] -- Length of each sample's response, in order.
    responses: Vec<u64>,
}

impl Plan {
    /// Decides sizes, languages and lengths. Draws of `Purpose::SyntheticData`: sizes are entity 0, instructions 1,
    /// responses 2, languages 3.
    fn new(twin: &'static Twin, settings: TwinSettings) -> Self {
        let sizes: Vec<u64> = match twin.sizes {
            Sizes::Known(sizes) => sizes.iter().map(|&size| u64::from(size)).collect(),
            Sizes::Spread { clients, samples, deviation } => {
                shuffled(&spread(clients as usize, samples.into(), deviation), settings.seed, 0)
            }
        };
        let samples: u64 = sizes.iter().sum();
        Self {
            twin,
            settings,
            languages: Self::languages(twin, settings.seed, sizes.len()),
            instructions: lengths(twin.instruction, samples, settings, 1),
            responses: lengths(twin.response, samples, settings, 2),
            sizes,
        }
    }

    /// Assigns languages to clients in proportion to their shares and in random order.
    fn languages(twin: &Twin, seed: Seed, clients: usize) -> Vec<&'static str> {
        let total: u32 = twin.languages.iter().map(|(_, share)| share).sum();
        let mut in_turn = Vec::with_capacity(clients);
        for client in 0..clients {
            // Maps the client to a place among the shares, and takes the language whose range contains it.
            let place = (client as u64 * u64::from(total) / clients as u64) as u32;
            let mut before = 0;
            let found = twin.languages.iter().find(|(_, share)| {
                before += share;
                place < before
            });
            in_turn.push(found.expect("shares cover every place").0);
        }
        let mut stream = Stream::new(seed, Purpose::SyntheticData, 3);
        permutation(&mut stream, clients).into_iter().map(|place| in_turn[place]).collect()
    }

    fn manifest(&self, content_hash: blake3::Hash) -> TwinManifest {
        // Clients per language, in the order in which the languages first occur.
        let mut languages: Vec<(&str, u64)> = Vec::new();
        for language in &self.languages {
            match languages.iter_mut().find(|(name, _)| name == language) {
                Some((_, clients)) => *clients += 1,
                None => languages.push((language, 1)),
            }
        }
        let twin = self.twin;
        TwinManifest {
            notice: format!(
                "a synthetic twin of {}: its text is generated, and no result on it is one on {}",
                twin.of, twin.of
            ),
            twin: twin.name,
            of: twin.of,
            seed: self.settings.seed.0,
            clients: self.sizes.len() as u64,
            samples: self.sizes.iter().sum(),
            length_unit: "words between spaces",
            length_scale: self.settings.length_scale,
            instruction: twin.instruction,
            response: twin.response,
            languages,
            assumed: twin.assumed,
            content_hash: content_hash.to_string(),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        // `sample` counts over all clients: lengths are stored in one list for the whole file.
        let mut sample = 0;
        out.write_all(b"{")?;
        for (client, (&size, language)) in self.sizes.iter().zip(&self.languages).enumerate() {
            let comma = if client == 0 { "" } else { "," };
            write!(out, "{comma}\n\"{}{}/{client:04}\": [", super::ID_PREFIX, self.twin.name)?;
            let mut voice = Voice::new(self.settings.seed, client as u32, language);
            for number in 0..size {
                let row = self.row(&mut voice, language, self.instructions[sample], self.responses[sample]);
                write!(out, "{}\n  {row}", if number == 0 { "" } else { "," })?;
                sample += 1;
            }
            out.write_all(b"\n]")?;
        }
        out.write_all(b"\n}\n")
    }

    /// Returns a row with `instruction` and `response` words, summed over all exchanges of a conversation.
    fn row(&self, voice: &mut Voice, language: &str, instruction: u64, response: u64) -> Value {
        match self.twin.form {
            TwinForm::SingleTurn => {
                let question = voice.question(instruction);
                let answer = voice.text(&voice.answer(&question, response));
                json!({ "instruction": voice.text(&question), "response": answer, "language": language })
            }
            TwinForm::Preference => {
                let question = voice.question(instruction);
                let chosen = voice.text(&voice.answer(&question, response));
                let rejected = voice.text(&voice.worse_answer(&question, response));
                json!({ "prompt": voice.text(&question), "chosen": chosen, "rejected": rejected, "language": language })
            }
            TwinForm::MultiTurn => {
                // Two to five exchanges, but each needs a word in its question and one in its answer.
                let exchanges = (2 + voice.below(4)).min(instruction).min(response).max(1);
                let mut messages = Vec::with_capacity(2 * exchanges as usize);
                for turn in 0..exchanges {
                    let question = voice.question(words_of_turn(instruction, exchanges, turn));
                    let answer = voice.text(&voice.answer(&question, words_of_turn(response, exchanges, turn)));
                    messages.push(json!({ "from": "human", "value": voice.text(&question) }));
                    messages.push(json!({ "from": "gpt", "value": answer }));
                }
                json!({ "conversations": messages, "language": language })
            }
        }
    }
}

/// Shuffles the values with the draws of one entity.
fn shuffled(values: &[u64], seed: Seed, entity: u64) -> Vec<u64> {
    let mut stream = Stream::new(seed, Purpose::SyntheticData, entity);
    permutation(&mut stream, values.len()).into_iter().map(|place| values[place]).collect()
}

/// Returns the lengths of all samples, in random order, with the given mean and deviation times the length scale.
fn lengths((mean, deviation): (f64, f64), samples: u64, settings: TwinSettings, entity: u64) -> Vec<u64> {
    let mean = mean * settings.length_scale;
    let deviation = deviation * settings.length_scale;
    let sum = ((mean * samples as f64).round() as u64).max(samples);
    shuffled(&spread(samples as usize, sum, deviation), settings.seed, entity)
}

/// Divides `whole` words evenly among the exchanges; the first one also gets the remainder.
fn words_of_turn(whole: u64, exchanges: u64, turn: u64) -> u64 {
    let remainder = if turn == 0 { whole % exchanges } else { 0 };
    whole / exchanges + remainder
}

/// A writer that hashes what passes through.
struct Hashing<'a> {
    out: BufWriter<&'a mut File>,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{BadRows, Content, Federation, RowKind, Spread};

    #[test]
    fn every_twin_has_the_published_figures() {
        let folder = tempfile::tempdir().unwrap();
        for (twin, clients, samples, deviation, kind) in [
            ("fed-aya", 38, 25_513, 815.0, RowKind::SingleTurn),
            ("fed-chatbot-it", 237, 6_166, 33.0, RowKind::SingleTurn),
            ("fed-wildchat", 100, 52_703, 477.0, RowKind::SingleTurn),
            ("fed-wildchat-multi", 50, 15_406, 279.0, RowKind::MultiTurn),
            ("fed-chatbot-pa", 747, 9_508, 21.0, RowKind::Preference),
        ] {
            let path = folder.path().join(twin);
            let twin = Twin::named(twin).unwrap();
            let settings = TwinSettings { seed: Seed(1), length_scale: 0.1 };
            let manifest = write_twin(twin, settings, &path).unwrap();
            let read = Federation::read(&path, BadRows::Refuse).unwrap();
            assert_eq!((read.clients.len(), read.rows(), read.kind), (clients, samples, kind));
            assert_eq!(manifest.content_hash, read.content_hash.to_string());
            assert!(read.clients.iter().all(|client| super::super::twin_of(&client.id) == Some(twin.name)));
            let sizes: Vec<u64> = read.clients.iter().map(|client| client.rows.len() as u64).collect();
            assert!((Spread::of(&sizes).deviation / deviation - 1.0).abs() < 0.05, "{}", twin.name);
            let words = |text: &str| text.split(' ').count() as u64;
            let asked = |content: &Content| match content {
                Content::SingleTurn { instruction, .. } => words(instruction),
                Content::MultiTurn { exchanges, .. } => exchanges.iter().map(|exchange| words(&exchange.user)).sum(),
                Content::Preference { prompt, .. } => words(prompt),
                Content::ToolUse { .. } => panic!("a twin has no tools"),
            };
            let lengths: Vec<u64> =
                read.clients.iter().flat_map(|client| client.rows.iter().map(|row| asked(&row.content))).collect();
            let found = Spread::of(&lengths);
            assert!((found.mean / (0.1 * twin.instruction.0) - 1.0).abs() < 0.05, "{}: {}", twin.name, found.mean);
            let wanted = 0.1 * twin.instruction.1;
            assert!((found.deviation / wanted - 1.0).abs() < 0.05, "{}: {}", twin.name, found.deviation);
        }
    }

    #[test]
    fn a_seed_gives_the_same_bytes_and_another_gives_others() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |seed| {
            let settings = TwinSettings { seed: Seed(seed), length_scale: 0.05 };
            write_twin(Twin::named("fed-chatbot-pa").unwrap(), settings, &folder.path().join("pa"))
                .unwrap()
                .content_hash
        };
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }
}
