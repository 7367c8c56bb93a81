//! Times of training on a randomly initialised model, one JSON line: `cargo bench --bench step -- [MODE] [SHAPE] [PRECISION]`.
//!
//! MODE: `step` (default), one job step by step; `task`, a client's ten steps from tokens to the adapter in a store;
//! `cohort`, `CLIENTS` jobs of 1 x 128 tokens in one pass; `workers`, the same jobs on `WORKERS` threads, one by one.
//! SHAPE: `tiny` (default), `160m`, `smollm2`, `smollm2-real`, `1.1b` or `7b`, as in benches/peer/workload.py; the last 40 % of
//! each row are learnt, LoRA of rank 16 on q and v, AdamW and clipping. `smollm2-real` is four steps on 16 rows with the lengths
//! of real first turns, of which the last 85 % are learnt. PRECISION: f32 (default), bf16, int8, int8held, nf4.
//!
//! MODE `rates` prints the rates of LibTorch's products at the shapes of SmolLM2's layers and head, and the program's own.
//!
//! The environment varies it: `THREADS` inside an operation, `ROWS` and `LENGTH` of a client, `STEPS` in a repetition,
//! `REPEATS`, `DEVICE` (cpu or cuda:0); `FOLDER` keeps the model's weights there for the next measurement. Seconds are of the wall, for all steps of a repetition; `cpu_s` are the process's
//! seconds on its processors, in the mean.

use std::sync::Arc;
use std::time::Instant;

use fedreplay::adapter::Adapter;
use fedreplay::data::Sample;
use fedreplay::model::{Arithmetic, Config, Device, LoraSpec, Precision, random};
use fedreplay::store::{Store, key_of};
use fedreplay::training::{AlgorithmTerms, Hyper, Job, Numerics, Objective, Trainer, init_process};
use fedreplay_sim::{Purpose, Seed, Stream};
use tch::{Kind, Tensor};

/// What is measured: a model, and the micro-batches of one client, which it takes by turns.
struct Case {
    config: Config,
    /// [tokens] The lengths of the rows of each micro-batch.
    batches: Vec<Vec<u32>>,
    /// The share of each row that is learnt.
    learnt: f64,
}

/// [tokens] Lengths of the first turns of 16 real conversations, as they come, in micro-batches of four.
const REAL_LENGTHS: [[u32; 4]; 4] =
    [[512, 346, 512, 262], [488, 512, 300, 512], [512, 272, 455, 512], [346, 512, 435, 512]];

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn case(mode: &str, shape: &str) -> Case {
    let smollm2 = Config { kv_heads: 3, tied: true, ..Config::llama(49_152, 576, 1536, 30, 9) };
    let (config, rows, length) = match shape {
        "160m" => (Config::llama(32_000, 768, 3072, 12, 12), 4, 512),
        "smollm2" | "smollm2-real" => (smollm2, 4, 512),
        "1.1b" => (Config { kv_heads: 4, ..Config::llama(32_000, 2048, 5632, 22, 32) }, 1, 128),
        "7b" => (Config::llama(32_000, 4096, 11_008, 32, 32), 4, 1024),
        _ => (Config::llama(1000, 128, 384, 4, 4), 4, 128),
    };
    if shape == "smollm2-real" {
        let batches = REAL_LENGTHS.iter().map(|lengths| lengths.to_vec()).collect();
        return Case { config, batches, learnt: 0.85 };
    }
    let alone = matches!(mode, "step" | "task");
    let (rows, length) = if alone { (rows, length) } else { (1, 128) };
    let batch = vec![setting("LENGTH", length); setting("ROWS", rows)];
    Case { config, batches: vec![batch], learnt: 0.4 }
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
    let lora =
        LoraSpec { rank: 16, alpha: 32.0, dropout: 0.0, target_modules, rank_stabilized: false, has_core: false };
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
    let mut stream = Stream::new(Seed(2), Purpose::SyntheticData, 0);
    let mut row = |&length: &u32| {
        let learnt_from = length - (f64::from(length) * case.learnt).round() as u32;
        let ids = (0..length).map(|_| stream.below(case.config.vocab_size as u64) as u32).collect();
        Arc::new(Sample { ids, targets: std::iter::once(learnt_from.max(1)..length).collect() })
    };
    let adapter = Arc::new(Adapter::initial(trainer.layout(), Seed(1)));
    let mut jobs = Vec::new();
    for stream in 0..clients {
        let batches = case.batches.iter().cycle().take(steps);
        jobs.push(Job {
            adapter: adapter.clone(),
            steps: batches.map(|lengths| vec![lengths.iter().map(&mut row).collect()]).collect(),
            objective: Objective::Sft,
            terms: AlgorithmTerms::default(),
            hyper: Hyper::default(),
            seed: Seed(1),
            stream: stream as u64,
        });
    }
    jobs
}

/// GFLOP/s of products at the shapes of SmolLM2: LibTorch's in the chosen type, and the program's own.
fn print_rates(kind: Kind) {
    let threads: i32 = setting("THREADS", 1);
    tch::set_num_threads(threads);
    let shapes = [
        ("layers", 2048, 576, 1536),
        ("layers", 2048, 1536, 576),
        ("layers", 2048, 576, 576),
        ("head", 1024, 576, 49_152),
    ];
    for (what, rows, inner, columns) in shapes {
        let a = Tensor::randn([rows, inner], (Kind::Float, tch::Device::Cpu)).to_kind(kind);
        let b = Tensor::randn([columns, inner], (Kind::Float, tch::Device::Cpu)).to_kind(kind).tr();
        let rate = |product: &dyn Fn() -> Tensor| {
            let times = (0..setting("REPEATS", 5)).map(|_| {
                let start = Instant::now();
                drop(product());
                start.elapsed().as_secs_f64()
            });
            2e-9 * (rows * inner * columns) as f64 / times.fold(f64::INFINITY, f64::min)
        };
        let libtorch = rate(&|| a.mm(&b));
        let own = rate(&|| fedreplay::training::product(&a, &b));
        println!(
            "{{\"mode\":\"rates\",\"what\":\"{what}\",\"rows\":{rows},\"inner\":{inner},\"columns\":{columns},\
             \"kind\":\"{kind:?}\",\"threads\":{threads},\"libtorch\":{libtorch:.1},\"own\":{own:.1}}}"
        );
    }
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
    if mode == "rates" {
        return print_rates(precision.kind());
    }
    let case = case(&mode, &shape);
    let trainer = trainer(&case, precision);
    let many = matches!(mode.as_str(), "cohort" | "workers");
    let clients = if many { setting("CLIENTS", 8) } else { 1 };
    let steps = setting("STEPS", if mode == "step" { case.batches.len() } else { 10 });
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
    let of_batches = case.batches.iter().cycle().take(steps).flatten();
    let tokens = (clients as u64 * of_batches.map(|&length| u64::from(length)).sum::<u64>()) as f64;
    let largest = case.batches.iter().map(|batch| batch.iter().map(|&length| u64::from(length)).sum::<u64>()).max();
    let rows = clients as u64 * largest.expect("there is a batch");
    let memory = trainer.memory(clients, rows, (rows as f64 * case.learnt) as u64);
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
