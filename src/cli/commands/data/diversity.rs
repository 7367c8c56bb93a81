//! `fedreplay data diversity`: differences between the clients of a dataset, as tables and pictures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use fedreplay_sim::Seed;
use serde_json::json;

use super::{Reading, io};
use crate::cli::errors::CommandError;
use crate::cli::output::progress::ProgressDisplay;
use crate::cli::output::say;
use fedreplay::data::{Federation, Ruler, Spread, twin_of};
use fedreplay::diversity::{
    ClientDiversityRow, DistanceRow, Embedder, Endpoint, Findings, Geometry, LanguageRow, Opening, OpeningRow, Profile,
    Quality, QualityJudge, QualityRow, client_embeddings, draw, geometry, openings, profiles,
};
use fedreplay::ledger::write_table;
use fedreplay::run::refuse_inside_run;
use fedreplay::store::atomic;

#[derive(Args)]
pub struct DataDiversityArguments {
    #[command(flatten)]
    reading: Reading,
    /// Folder for tables (Parquet) and pictures (SVG).
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Folder of a tokenizer to count lengths in tokens [default: words between white space].
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// Folder of a local model that scores the rows' quality (IFD), and embeds them if no endpoint is given.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Base URL of an OpenAI-compatible server, such as https://host/v1, that computes the embeddings instead.
    #[arg(long, value_name = "URL", requires = "embeddings_model")]
    embeddings_url: Option<String>,
    /// Name of the embeddings model on the server.
    #[arg(long, value_name = "NAME", requires = "embeddings_url")]
    embeddings_model: Option<String>,
    /// Environment variable with the server's key; if it is not set, no key is sent.
    #[arg(long, value_name = "VARIABLE", default_value = "OPENAI_API_KEY")]
    embeddings_key: String,
    /// Rows of each client that are scored and embedded, drawn by the seed.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End stdout with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Compares the clients, and writes and prints the results.
pub fn main(arguments: &DataDiversityArguments) -> Result<ExitCode, CommandError> {
    refuse_inside_run(&arguments.out)?;
    let data = arguments.reading.federation()?;
    let ruler = Ruler::new(arguments.tokenizer.as_deref())?;
    let judge = arguments.model.as_deref().map(QualityJudge::load).transpose()?;
    let seed = Seed(arguments.seed);
    let count = arguments.rows as usize;
    let progress = ProgressDisplay::new("comparing clients");
    let profiles = profiles(&data.clients, &ruler)?;
    let openings = openings(&data.clients);
    let quality = judge.as_ref().map(|judge| judge.score(&data.clients, seed, count)).transpose()?;
    let embedder = embedder(arguments, judge.as_ref());
    let vectors = embedder.map(|embedder| client_embeddings(&data.clients, &embedder, seed, count)).transpose()?;
    let geometry = vectors.map(|vectors| geometry(&vectors));
    drop(progress);
    let found = Found { unit: ruler.unit(), profiles, openings, quality, geometry };
    // Everything is computed before the folder is created, so that an error leaves no partial results.
    std::fs::create_dir_all(&arguments.out).map_err(io(&arguments.out))?;
    found.write(&arguments.out)?;
    found.print(&data, &arguments.out);
    if arguments.json {
        say!("{}", found.json(&data));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the source of embeddings: the endpoint if one is given, or else the local model if there is one.
fn embedder<'a>(arguments: &DataDiversityArguments, judge: Option<&'a QualityJudge>) -> Option<Embedder<'a>> {
    if let (Some(url), Some(model)) = (&arguments.embeddings_url, &arguments.embeddings_model) {
        let key = std::env::var(&arguments.embeddings_key).ok().filter(|key| !key.is_empty());
        return Some(Embedder::Endpoint(Endpoint { url: url.clone(), model: model.clone(), key }));
    }
    judge.map(Embedder::Local)
}

/// All results of the comparison.
struct Found {
    unit: &'static str,
    profiles: Vec<Profile>,
    openings: Vec<Opening>,
    quality: Option<Vec<Quality>>,
    geometry: Option<Geometry>,
}

impl Found {
    /// Writes the tables and the pictures to the folder `out`.
    fn write(&self, out: &Path) -> Result<(), CommandError> {
        let clients: Vec<_> = (0..self.profiles.len()).map(|client| self.client(client)).collect();
        write_table(&out.join("clients.parquet"), &clients)?;
        write_table(&out.join("languages.parquet"), &self.language_rows())?;
        write_table(&out.join("openings.parquet"), &self.opening_rows())?;
        if let Some(quality) = &self.quality {
            write_table(&out.join("quality.parquet"), &quality_rows(quality))?;
        }
        if let Some(geometry) = &self.geometry {
            write_table(&out.join("distances.parquet"), &pairs(geometry))?;
        }
        let findings = Findings {
            unit: self.unit,
            profiles: &self.profiles,
            openings: &self.openings,
            quality: self.quality.as_deref(),
            geometry: self.geometry.as_ref(),
        };
        for (name, text) in draw(&findings)? {
            let path = out.join(name);
            atomic::write(&path, text.as_bytes()).map_err(io(&path))?;
        }
        Ok(())
    }

    /// Returns one row per client and language.
    fn language_rows(&self) -> Vec<LanguageRow> {
        let mut found = Vec::new();
        for (client, profile) in self.profiles.iter().enumerate() {
            for (language, &rows) in &profile.languages {
                found.push(LanguageRow { client: client as u32, language: language.clone(), rows });
            }
        }
        found
    }

    /// Returns one row per opening of instructions.
    fn opening_rows(&self) -> Vec<OpeningRow> {
        let mut rows = Vec::new();
        for opening in &self.openings {
            rows.push(OpeningRow {
                depth: opening.words.len() as u32,
                opening: opening.words.join(" "),
                rows: opening.rows,
                clients: opening.clients,
            });
        }
        rows
    }

    /// Returns a client's row.
    fn client(&self, client: usize) -> ClientDiversityRow {
        let profile = &self.profiles[client];
        let place = self.geometry.as_ref().map(|geometry| geometry.places[client]);
        let ifd = self.ifd(|one| one.client == client);
        ClientDiversityRow {
            client: client as u32,
            client_id: profile.client.clone(),
            samples: profile.samples,
            main_language: profile.main_language().to_owned(),
            instruction_mean: profile.asked.mean,
            instruction_deviation: profile.asked.deviation,
            response_mean: profile.answered.mean,
            response_deviation: profile.answered.deviation,
            chosen_longer: profile.preference.map(|taste| taste.longer),
            rejected_mean: profile.preference.map(|taste| taste.rejected_mean),
            lists: profile.preference.map(|taste| taste.lists),
            ifd_mean: ifd.map(|(mean, _)| mean),
            ifd_deviation: ifd.map(|(_, deviation)| deviation),
            x: place.map(|[x, _]| x),
            y: place.map(|[_, y]| y),
        }
    }

    /// Returns mean and population standard deviation of the IFD scores that `is_wanted` selects. `None` if there are
    /// none.
    fn ifd(&self, is_wanted: impl Fn(&Quality) -> bool) -> Option<(f64, f64)> {
        let scores = self.quality.iter().flatten().filter(|one| is_wanted(one)).map(Quality::ifd);
        let scores: Vec<f64> = scores.filter(|score| score.is_finite()).collect();
        if scores.is_empty() {
            return None;
        }
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
        Some((mean, variance.sqrt()))
    }

    /// Prints the totals for people.
    fn print(&self, data: &Federation, out: &Path) {
        if let Some(twin) = data.clients.first().and_then(|client| twin_of(&client.id)) {
            say!("note        a synthetic twin of {twin}: its text is generated");
        }
        let samples = Spread::of(&self.profiles.iter().map(|profile| profile.samples).collect::<Vec<_>>());
        say!("clients     {}, {:.0} ± {:.0} samples each", self.profiles.len(), samples.mean, samples.deviation);
        if let Some((mean, deviation)) = self.ifd(|_| true) {
            say!("quality     IFD {mean:.2} ± {deviation:.2} over scored rows");
        }
        if let Some(geometry) = &self.geometry {
            let distances = pairs(geometry);
            let mean = distances.iter().map(|pair| pair.distance).sum::<f64>() / distances.len().max(1) as f64;
            say!("distance    {mean:.4} on average, cosine, of clients' mean embeddings");
        }
        say!("wrote       {}", out.display());
    }

    /// Returns the totals as JSON.
    fn json(&self, data: &Federation) -> serde_json::Value {
        json!({
            "synthetic_twin_of": data.clients.first().and_then(|client| twin_of(&client.id)),
            "clients": self.profiles.len(),
            "samples": data.rows(),
            "length_unit": self.unit,
            "variance_shown": self.geometry.as_ref().map(|geometry| geometry.shown),
            "ifd": self.ifd(|_| true).map(|(mean, deviation)| json!({ "mean": mean, "deviation": deviation })),
        })
    }
}

/// Returns one row per scored row of the dataset.
fn quality_rows(quality: &[Quality]) -> Vec<QualityRow> {
    let mut rows = Vec::new();
    for one in quality {
        rows.push(QualityRow {
            client: one.client as u32,
            row: one.row as u32,
            loss_given: one.given,
            loss_alone: one.alone,
            ifd: one.ifd(),
        });
    }
    rows
}

/// Returns all unordered pairs of clients with their distances.
fn pairs(geometry: &Geometry) -> Vec<DistanceRow> {
    let count = geometry.places.len();
    let mut rows = Vec::new();
    for client in 0..count {
        for other in client + 1..count {
            // The matrix of distances is symmetric and row-major.
            let distance = geometry.distances[client * count + other];
            rows.push(DistanceRow { client: client as u32, other: other as u32, distance });
        }
    }
    rows
}
