//! Time of one training step on a randomly initialised model: `cargo bench --bench step -- [tiny|160m] [f32|bf16]`.
//!
//! Prints the best and the median step of one job with batch 4 x 128 (tiny) or 4 x 512 (160m), the last 40 % of each row
//! learnt, LoRA of rank 16 on q and v, AdamW and clipping. The environment varies it: `THREADS` inside an operation,
//! `CLIENTS` in one cohort, `ROWS` of each client, `REPEATS`. The shapes are those of benches/peer/workload.py.

use std::sync::Arc;
use std::time::Instant;

use fedreplay::adapter::Adapter;
use fedreplay::dataset::Sample;
use fedreplay::model::{Config, Device, LoraSpec, Precision, random};
use fedreplay::training::{Hyper, Job, Numerics, Objective, Terms, Trainer, init_process};
use fedreplay_sim::{Purpose, Seed, Stream};

struct Case {
    config: Config,
    rows: usize,
    length: u32,
    learnt_from: u32,
    steps: usize,
}

fn case(name: &str) -> Case {
    match name {
        "160m" => {
            let config = Config::llama(32_000, 768, 3072, 12, 12);
            Case { config, rows: 4, length: 512, learnt_from: 307, steps: 1 }
        }
        _ => {
            let config = Config::llama(1000, 128, 384, 4, 4);
            Case { config, rows: 4, length: 128, learnt_from: 77, steps: 3 }
        }
    }
}

fn main() {
    init_process();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let argument = |n: usize, default: &str| arguments.get(n).cloned().unwrap_or_else(|| default.into());
    let case = case(&argument(0, "tiny"));
    let precision = if argument(1, "f32") == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let setting = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (threads, clients) = (setting("THREADS", 1), setting("CLIENTS", 1));
    let (rows, repeats) = (setting("ROWS", case.rows), setting("REPEATS", 40));
    let folder = std::env::temp_dir().join(format!("fedreplay-bench-{}", std::process::id()));
    random::write_folder(&folder, &case.config, Seed(1)).expect("the temporary folder is writable");
    let target_modules = vec!["q_proj".into(), "v_proj".into()];
    let lora = LoraSpec { rank: 16, alpha: 32.0, dropout: 0.0, target_modules, rank_stabilised: false };
    let numerics = Numerics { threads, ..Numerics::default() };
    let trainer = Trainer::load(&folder, precision, Device::Cpu, &lora, &numerics).expect("the model was just written");
    std::fs::remove_dir_all(&folder).expect("the temporary folder is ours");

    let mut stream = Stream::new(Seed(2), Purpose::SyntheticData, 0);
    let mut row = || {
        let ids = (0..case.length).map(|_| stream.below(case.config.vocab_size as u64) as u32).collect();
        Arc::new(Sample { ids, targets: std::iter::once(case.learnt_from..case.length).collect() })
    };
    let step: Vec<Vec<Arc<Sample>>> = vec![(0..rows).map(|_| row()).collect()];
    let adapter = Arc::new(Adapter::initial(trainer.layout(), Seed(1)));
    let job = |steps| Job {
        adapter: adapter.clone(),
        steps: vec![step.clone(); steps],
        objective: Objective::Sft,
        terms: Terms::default(),
        hyper: Hyper::default(),
        seed: Seed(1),
        stream: 0,
    };
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| {
            let jobs = vec![job(case.steps); clients];
            let start = Instant::now();
            trainer.train(&jobs).expect("the rows fit the model");
            start.elapsed().as_secs_f64() / case.steps as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let tokens = (clients * rows) as f64 * f64::from(case.length);
    println!(
        "{precision:?}, {threads} thread(s), {clients} client(s): best {:.2} ms a step ({:.0} tokens/s), median {:.2} ms",
        times[0] * 1e3,
        tokens / times[0],
        times[times.len() / 2] * 1e3
    );
}
