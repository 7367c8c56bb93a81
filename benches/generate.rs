//! Tokens a second of greedy generation with a cache, one JSON line: `cargo bench --bench generate -- FOLDER`.
//!
//! FOLDER is what `benches/peer/workload.py SHAPE FOLDER` wrote: a model and rows of tokens, so that another program can
//! be measured on the same prompts. The environment varies it: `BATCH` prompts at a time (8), `PROMPT` tokens of each (32),
//! `NEW` tokens generated (64), `THREADS` inside an operation (1), `REPEATS` (3). Seconds are of the wall, from the first
//! token read to the last one chosen; the sum of the chosen ids shows that both sides said the same.

use std::path::PathBuf;
use std::time::Instant;

use fedreplay::model::{Device, LoraSpec, Precision};
use fedreplay::training::{Decoder, Numerics, Piece, Trainer, init_process};

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[derive(serde::Deserialize)]
struct Row {
    ids: Vec<u32>,
}

fn main() {
    init_process();
    let folder = PathBuf::from(std::env::args().nth(1).expect("a folder made by benches/peer/workload.py"));
    let lora = LoraSpec {
        rank: 1,
        alpha: 1.0,
        dropout: 0.0,
        target_modules: vec!["q_proj".into()],
        rank_stabilized: false,
        has_core: false,
    };
    let numerics = Numerics { threads: setting("THREADS", 1), ..Numerics::default() };
    let trainer = Trainer::load(&folder.join("model"), Precision::F32, Device::Cpu, &lora, &numerics).expect("a model");
    let rows: Vec<Row> =
        serde_json::from_slice(&std::fs::read(folder.join("rows.json")).expect("rows")).expect("rows of tokens");
    let (batch, prompt, new) = (setting("BATCH", 8), setting("PROMPT", 32), setting("NEW", 64));
    let prompts: Vec<&[u32]> = rows.iter().take(batch).map(|row| &row.ids[..prompt]).collect();
    let mut decoder = Decoder::new(&trainer, &[], batch).expect("a decoder");
    let mut seconds = Vec::new();
    let mut sum = 0;
    for _ in 0..setting("REPEATS", 3) {
        let began = Instant::now();
        sum = generate(&mut decoder, &prompts, new);
        seconds.push(began.elapsed().as_secs_f64());
    }
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    println!("{}", serde_json::json!({ "best_s": best, "seconds": seconds, "tokens": batch * new, "id_sum": sum }));
}

/// Continues every prompt by `new` likeliest tokens; returns the sum of their ids.
fn generate(decoder: &mut Decoder, prompts: &[&[u32]], new: usize) -> u64 {
    (0..prompts.len()).for_each(|slot| decoder.truncate(slot, 0));
    let mut next: Vec<Vec<u32>> = prompts.iter().map(|ids| ids.to_vec()).collect();
    let mut sum = 0;
    for _ in 0..new {
        let pieces: Vec<Piece> =
            next.iter().enumerate().map(|(slot, ids)| Piece { slot, adapter: None, ids }).collect();
        let logits = decoder.read(&pieces).expect("the prompts fit");
        let likeliest = |slot: usize| {
            let logits = logits.of(slot);
            let first = (0..logits.len()).reduce(|best, id| if logits[id] > logits[best] { id } else { best });
            first.expect("there is a vocabulary") as u32
        };
        next = (0..prompts.len()).map(|slot| vec![likeliest(slot)]).collect();
        sum += next.iter().flatten().map(|&id| u64::from(id)).sum::<u64>();
    }
    sum
}
