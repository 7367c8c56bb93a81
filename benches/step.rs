//! Times of training on a randomly initialised model, one JSON line: `cargo bench --bench step -- [MODE] [SHAPE] [PRECISION]`.
//!
//! MODE: `step` (default), one job step by step; `task`, a client's ten steps from tokens to the adapter in a store;
//! `cohort`, `CLIENTS` jobs of 1 x 128 tokens in one pass; `workers`, the same jobs on `WORKERS` threads, one by one.
//! SHAPE: `tiny` (default), `160m`, `1.1b` or `7b`, as in benches/peer/workload.py; the last 40 % of each row are learnt, LoRA
//! of rank 16 on q and v, AdamW and clipping. PRECISION: f32 (default), bf16, int8, int8held, nf4.
//!
//! The environment varies it: `THREADS` inside an operation, `ROWS` and `LENGTH` of a client, `STEPS` in a repetition,
//! `REPEATS`, `DEVICE` (cpu or cuda:0); `FOLDER` keeps the model's weights there for the next measurement. Seconds are of the wall, for all steps of a repetition; `cpu_s` are the process's
//! seconds on its processors, in the mean.

use std::sync::Arc;
use std::time::Instant;

use fedreplay::adapter::Adapter;
use fedreplay::dataset::Sample;
use fedreplay::model::{Arithmetic, Config, Device, LoraSpec, Precision, random};
use fedreplay::store::{Store, key_of};
use fedreplay::training::{Hyper, Job, Numerics, Objective, Terms, Trainer, init_process};
use fedreplay_sim::{Purpose, Seed, Stream};

/// What is measured: a model, and one client's micro-batch.
struct Case {
    config: Config,
    rows: usize,
    length: u32,
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn case(mode: &str, shape: &str) -> Case {
    let (config, rows, length) = match shape {
        "160m" => (Config::llama(32_000, 768, 3072, 12, 12), 4, 512),
        "1.1b" => (Config { kv_heads: 4, ..Config::llama(32_000, 2048, 5632, 22, 32) }, 1, 128),
        "7b" => (Config::llama(32_000, 4096, 11_008, 32, 32), 4, 1024),
        _ => (Config::llama(1000, 128, 384, 4, 4), 4, 128),
    };
    let alone = matches!(mode, "step" | "task");
    let (rows, length) = if alone { (rows, length) } else { (1, 128) };
    Case { config, rows: setting("ROWS", rows), length: setting("LENGTH", length) }
}

fn precision(name: &str) -> Precision {
    let arithmetic = Arithmetic::Bf16;
    match name {
        "bf16" => Precision::Bf16,
        "int8" => Precision::Int8(arithmetic),
        "int8held" => Precision::Int8Held(arithmetic),
        "nf4" => Precision::Nf4 { arithmetic, double: true },
        _ => Precision::F32,
    }
}

fn trainer(case: &Case, precision: Precision) -> Trainer {
    let own = std::env::temp_dir().join(format!("fedreplay-bench-{}", std::process::id()));
    let given = std::env::var_os("FOLDER").map(std::path::PathBuf::from);
    let folder = given.clone().unwrap_or_else(|| own.clone());
    if !folder.join("config.json").exists() {
        random::write_folder(&folder, &case.config, Seed(1)).expect("the folder is writable");
    }
    let target_modules = vec!["q_proj".into(), "v_proj".into()];
    let lora = LoraSpec { rank: 16, alpha: 32.0, dropout: 0.0, target_modules, rank_stabilised: false };
    let numerics = Numerics { threads: setting("THREADS", 1), ..Numerics::default() };
    let device = match std::env::var("DEVICE").ok().and_then(|name| name.strip_prefix("cuda:")?.parse().ok()) {
        Some(index) => Device::Cuda(index),
        None => Device::Cpu,
    };
    let trainer = Trainer::load(&folder, precision, device, &lora, &numerics).expect("the model was just written");
    if given.is_none() {
        std::fs::remove_dir_all(&own).expect("the temporary folder is ours");
    }
    trainer
}

fn jobs(case: &Case, trainer: &Trainer, clients: usize, steps: usize) -> Vec<Job> {
    let learnt_from = case.length - (f64::from(case.length) * 0.4).round() as u32;
    let mut stream = Stream::new(Seed(2), Purpose::SyntheticData, 0);
    let mut row = || {
        let ids = (0..case.length).map(|_| stream.below(case.config.vocab_size as u64) as u32).collect();
        Arc::new(Sample { ids, targets: std::iter::once(learnt_from..case.length).collect() })
    };
    let adapter = Arc::new(Adapter::initial(trainer.layout(), Seed(1)));
    let mut job = |stream: usize| Job {
        adapter: adapter.clone(),
        steps: (0..steps).map(|_| vec![(0..case.rows).map(|_| row()).collect()]).collect(),
        objective: Objective::Sft,
        terms: Terms::default(),
        hyper: Hyper::default(),
        seed: Seed(1),
        stream: stream as u64,
    };
    (0..clients).map(&mut job).collect()
}

/// Seconds that the process has been on a processor, in hundredths: for long measurements.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Every job on one of `workers` threads, one by one, each on one thread inside an operation.
fn on_workers(trainer: &Trainer, jobs: &[Job], workers: usize) {
    std::thread::scope(|scope| {
        for worker in 0..workers {
            scope.spawn(move || {
                for job in jobs.iter().skip(worker).step_by(workers) {
                    trainer.train(std::slice::from_ref(job)).expect("the rows fit the model");
                }
            });
        }
    });
}

fn main() {
    init_process();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let argument = |n: usize, default: &str| arguments.get(n).cloned().unwrap_or_else(|| default.into());
    let (mode, shape) = (argument(0, "step"), argument(1, "tiny"));
    let precision = precision(&argument(2, "f32"));
    let case = case(&mode, &shape);
    let trainer = trainer(&case, precision);
    let many = matches!(mode.as_str(), "cohort" | "workers");
    let clients = if many { setting("CLIENTS", 8) } else { 1 };
    let steps = setting("STEPS", if mode == "step" { 1 } else { 10 });
    let jobs = jobs(&case, &trainer, clients, steps);
    let folder = std::env::temp_dir().join(format!("fedreplay-bench-store-{}", std::process::id()));
    let store = Store::open(&folder).expect("the temporary folder is writable");
    let last = std::cell::RefCell::new(String::new());
    let work = |repeat: usize| match mode.as_str() {
        "workers" => on_workers(&trainer, &jobs, setting("WORKERS", 2)),
        _ => {
            let outcomes = trainer.train(&jobs).expect("the rows fit the model");
            *last.borrow_mut() = outcomes[0].adapter.hash().to_string();
            if mode == "task" {
                let bytes: Vec<u8> = outcomes[0].adapter.values.iter().flat_map(|v| v.to_le_bytes()).collect();
                store.put(key_of("bench", &repeat), &bytes).expect("the store is writable");
            }
        }
    };
    work(usize::MAX);
    let repeats = setting("REPEATS", 20);
    let busy = processor_seconds();
    let mut times: Vec<f64> = (0..repeats)
        .map(|repeat| {
            let start = Instant::now();
            work(repeat);
            start.elapsed().as_secs_f64()
        })
        .collect();
    let cpu = (processor_seconds() - busy) / repeats as f64;
    std::fs::remove_dir_all(&folder).expect("the temporary folder is ours");
    times.sort_by(f64::total_cmp);
    let tokens = (clients * steps * case.rows) as f64 * f64::from(case.length);
    let rows = (clients * case.rows) as u64 * u64::from(case.length);
    let memory = trainer.memory(clients, rows, rows * 2 / 5);
    let predicted = memory.weights + memory.expanded + memory.adapters + memory.kept;
    println!(
        "{{\"mode\":\"{mode}\",\"shape\":\"{shape}\",\"precision\":\"{precision:?}\",\"threads\":{},\"clients\":{clients},\"steps\":{steps},\
         \"tokens\":{tokens},\"best_s\":{:.5},\"median_s\":{:.5},\"cpu_s\":{cpu:.5},\"predicted_bytes\":{predicted},\"adapter\":\"{}\"}}",
        setting("THREADS", 1),
        times[0],
        times[times.len() / 2],
        last.borrow(),
    );
}
