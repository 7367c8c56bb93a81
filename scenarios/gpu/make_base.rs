//! Makes what `two-hundred-7b.ron` plays on: a base model of Llama-2-7B's shape with random weights, and two hundred clients.
//!
//! `cargo run --release --example make-gpu-base` writes `scenarios/gpu/base` (13.5 GB in bfloat16) and
//! `scenarios/gpu/data.json`. The tokenizer is that of the tiny base model, whose ids fit the larger embedding.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use fedreplay::model::{Config, TensorSpec, tensor_specs};
use fedreplay_sim::random::{Purpose, Seed, Stream};
use serde_json::{Map, Value, json};

/// Half the width of the uniform distribution whose deviation is 0.02, the usual one of initial weights.
const HALF_WIDTH: f64 = 0.034_641;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("scenarios/gpu");
    let base = folder.join("base");
    fs::create_dir_all(&base)?;
    let config = Config { max_positions: 4096, ..Config::llama(32_000, 4096, 11_008, 32, 32) };
    fs::write(base.join("config.json"), serde_json::to_string_pretty(&config.to_json())?)?;
    for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
        fs::copy(Path::new("fixtures/tiny-base").join(name), base.join(name))?;
    }
    write_weights(&base.join("model.safetensors"), &tensor_specs(&config))?;
    fs::write(folder.join("data.json"), data(200).to_string())?;
    Ok(())
}

/// Writes one tensor at a time: the whole model would not fit into the memory of many machines.
fn write_weights(path: &Path, specs: &[TensorSpec]) -> Result<(), Box<dyn Error>> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut end = 0;
    for spec in specs {
        let start = end;
        end += 2 * spec.shape.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": spec.shape, "data_offsets": [start, end]});
        header.insert(spec.name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for (index, spec) in specs.iter().enumerate() {
        let mut stream = Stream::new(Seed(1), Purpose::ModelInit, index as u64);
        for _ in 0..spec.shape.iter().product::<usize>() {
            // Norms are one, everything else is random.
            let value = if spec.shape.len() == 1 { 1.0 } else { HALF_WIDTH * (2.0 * stream.unit() - 1.0) };
            file.write_all(&half::bf16::from_f64(value).to_le_bytes())?;
        }
    }
    Ok(file.flush()?)
}

/// Clients with four to twelve rows each.
fn data(clients: usize) -> Value {
    let row = |client: usize, n: usize| {
        json!({
            "instruction": format!("What does client {client} say of number {n}?"),
            "response": format!("Client {client} says that {n} times {client} is {}.", n * client),
        })
    };
    let rows = |client: usize| (0..4 + client % 9).map(|n| row(client, n)).collect::<Value>();
    Value::Object((0..clients).map(|client| (format!("client-{client:03}"), rows(client))).collect())
}
