//! `fedreplay data diversity`: how the clients of a dataset differ, as tables and pictures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use fedreplay_sim::Seed;
use serde_json::json;

use super::{Reading, io};
use crate::cli::output::say;
use crate::cli::progress::Progress;
use crate::data::{Federation, Ruler, Spread, twin_of};
use crate::diversity::{
    ClientDiversityRow, DistanceRow, Embedder, Endpoint, Findings, Geometry, Judge, LanguageRow, Opening, OpeningRow,
    Profile, Quality, QualityRow, client_embeddings, draw, geometry, openings, profiles,
};
use crate::ledger::write_table;
use crate::run::RunError;
use crate::store::atomic;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    reading: Reading,
    /// Folder for tables (Parquet) and pictures (SVG).
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Folder of a tokenizer to count lengths in tokens; else they are words between white space.
    #[arg(long, value_name = "FOLDER")]
    tokenizer: Option<PathBuf>,
    /// Folder of a local model: it scores the rows' quality (IFD), and embeds them where no endpoint is given.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// Base URL of an OpenAI-compatible server, such as https://host/v1, that embeds instead.
    #[arg(long, value_name = "URL", requires = "embeddings_model")]
    embeddings_url: Option<String>,
    /// The server's name of the embeddings model.
    #[arg(long, value_name = "NAME", requires = "embeddings_url")]
    embeddings_model: Option<String>,
    /// Environment variable that holds the server's key; where it is not set, none is sent.
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

pub fn main(arguments: &Arguments) -> Result<ExitCode, RunError> {
    let data = arguments.reading.federation()?;
    let ruler = Ruler::new(arguments.tokenizer.as_deref())?;
    let judge = arguments.model.as_deref().map(Judge::load).transpose()?;
    let (seed, count) = (Seed(arguments.seed), arguments.rows as usize);
    let progress = Progress::new("comparing clients");
    let profiles = profiles(&data.clients, &ruler)?;
    let openings = openings(&data.clients);
    let quality = judge.as_ref().map(|judge| judge.score(&data.clients, seed, count)).transpose()?;
    let embedder = match (&arguments.embeddings_url, &arguments.embeddings_model, &judge) {
        (Some(url), Some(model), _) => {
            let key = std::env::var(&arguments.embeddings_key).ok().filter(|key| !key.is_empty());
            Some(Embedder::Endpoint(Endpoint { url: url.clone(), model: model.clone(), key }))
        }
        (_, _, Some(judge)) => Some(Embedder::Local(judge)),
        _ => None,
    };
    let vectors = embedder.map(|embedder| client_embeddings(&data.clients, &embedder, seed, count)).transpose()?;
    let geometry = vectors.map(|vectors| geometry(&vectors));
    drop(progress);
    let found = Found { unit: ruler.unit(), profiles, openings, quality, geometry };
    std::fs::create_dir_all(&arguments.out).map_err(io(&arguments.out))?;
    found.write(&arguments.out)?;
    found.print(&data, &arguments.out);
    if arguments.json {
        say!("{}", found.json(&data));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was found, and is written and said.
struct Found {
    unit: &'static str,
    profiles: Vec<Profile>,
    openings: Vec<Opening>,
    quality: Option<Vec<Quality>>,
    geometry: Option<Geometry>,
}

impl Found {
    fn write(&self, out: &Path) -> Result<(), RunError> {
        let clients: Vec<_> = (0..self.profiles.len()).map(|client| self.client(client)).collect();
        write_table(&out.join("clients.parquet"), &clients)?;
        let languages = self.profiles.iter().enumerate().flat_map(|(client, profile)| {
            let row = move |(language, &rows): (&String, &u64)| LanguageRow {
                client: client as u32,
                language: language.clone(),
                rows,
            };
            profile.languages.iter().map(row)
        });
        write_table(&out.join("languages.parquet"), &languages.collect::<Vec<_>>())?;
        let opening = |opening: &Opening| OpeningRow {
            depth: opening.words.len() as u32,
            opening: opening.words.join(" "),
            rows: opening.rows,
            clients: opening.clients,
        };
        write_table(&out.join("openings.parquet"), &self.openings.iter().map(opening).collect::<Vec<_>>())?;
        if let Some(quality) = &self.quality {
            let row = |one: &Quality| QualityRow {
                client: one.client as u32,
                row: one.row as u32,
                loss_given: one.given,
                loss_alone: one.alone,
                ifd: one.ifd(),
            };
            write_table(&out.join("quality.parquet"), &quality.iter().map(row).collect::<Vec<_>>())?;
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

    /// Mean and population deviation of the scores that `is_wanted`; none if there are none.
    fn ifd(&self, is_wanted: impl Fn(&Quality) -> bool) -> Option<(f64, f64)> {
        let scores = self.quality.iter().flatten().filter(|one| is_wanted(one)).map(Quality::ifd);
        let scores: Vec<f64> = scores.filter(|score| score.is_finite()).collect();
        let count = scores.len() as f64;
        let mean = scores.iter().sum::<f64>() / count;
        let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count;
        (!scores.is_empty()).then(|| (mean, variance.sqrt()))
    }

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

/// Each two clients with their distance.
fn pairs(geometry: &Geometry) -> Vec<DistanceRow> {
    let count = geometry.places.len();
    let row = |client: usize, other: usize| DistanceRow {
        client: client as u32,
        other: other as u32,
        distance: geometry.distances[client * count + other],
    };
    (0..count).flat_map(|client| (client + 1..count).map(move |other| row(client, other))).collect()
}
