//! Text of the scenario for a call of a trainer. A missing flag has its default from the published `config.py`.

use std::path::Path;

use super::ImportError;
use super::flags::Flags;
use super::shell::Call;

/// Scenario imported from a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Text in RON.
    pub scenario: String,
    /// Settings of the script that the scenario does not have, each with the reason.
    pub left_out: Vec<String>,
}

/// Flags that have no effect on the scenario, with the reason.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("output_dir", "a run's folder is given by --out"),
    ("dataset_sample", "it only names the output folder; all rows are read"),
    ("dataset_name", "the form of the rows is found from the file"),
    ("num_clients", "the file's clients are all taken; data.clients names fewer"),
    ("seed", "the published trainers do not use it"),
    ("log_with", "the ledger is always written"),
];

/// OpenFedLLM's public datasets, without the names of their owners, and the columns of each.
const PUBLIC: &[(&str, &str)] = &[
    ("CodeAlpaca-20k", "Alpaca"),
    ("alpaca", "Alpaca"),
    ("alpaca-cleaned", "Alpaca"),
    ("alpaca-gpt4", "Alpaca"),
    ("finance-alpaca", "Alpaca"),
    ("fingpt-sentiment-train", "Alpaca"),
    ("WizardLM_evol_instruct_70k", "WizardLm"),
    ("MathInstruct", "MathInstruct"),
    ("MATH", "Math"),
    ("gsm8k", "Gsm8k"),
    ("medical_meadow_medical_flashcards", "MedicalFlashcards"),
    ("hh-rlhf", "HhRlhf"),
    ("ultrafeedback_binarized", "Ultrafeedback"),
];

/// Names of folders in which people keep models, and which no account of the Hub has.
const FOLDERS: &[&str] = &[
    "base_models",
    "checkpoints",
    "ckpt",
    "ckpts",
    "data",
    "model",
    "models",
    "output",
    "outputs",
    "pretrained",
    "results",
    "weights",
];

/// Writes the scenario of a call. `folder` is where the script runs: a model that is no folder there is one of the Hub.
pub(super) fn scenario(name: &str, call: &Call, folder: &Path) -> Result<Imported, ImportError> {
    let mut flags = Flags::of(call)?;
    refuse_full_training(&mut flags)?;
    let privacy = privacy(&mut flags)?;
    let is_public = public(&flags)?.is_some();
    let algorithm = algorithm(&mut flags, is_public)?;
    let is_local = algorithm == "Local";
    let model = model(&mut flags, call.is_dpo, folder)?;
    let Data { data, batches } = data(&mut flags)?;
    let training = training(&mut flags, call.is_dpo, batches)?;
    let rounds = flags.integer("num_rounds", 500)?;
    let clients = flags.integer("sample_clients", 2)?;
    let clients = if is_local { 1 } else { clients };
    // FedLLM-Bench's name of the flag, and OpenFedLLM's.
    let every = flags.integer("save_model_freq", 100)?;
    let every = flags.integer("checkpoint_step", every)?;
    // All flags with a counterpart have been read by now: what remains is reported.
    for (flag, reason) in WITHOUT_EFFECT {
        if flags.remove(flag) {
            flags.left_out.push(format!("--{flag}: {reason}"));
        }
    }
    let unknown: Vec<String> = flags.unread().map(|flag| format!("--{flag}: it has no counterpart")).collect();
    flags.left_out.extend(unknown);
    let scenario = format!(
        r#"// From a training script of OpenFedLLM or FedLLM-Bench. Devices and links are stand-ins: the script knows none.
(
    name: "{name}",
    rounds: {rounds},
    fidelity: FedLlmBench,
    {model}
    {data}
    {training}
    algorithm: {algorithm},
    server: (protocol: Synchronous(clients_per_round: {clients}), downlink: "10 Gbit/s", uplink: "10 Gbit/s"),
    population: (
        devices: {{ "gpu": (speed: "40 TFLOP/s") }},
        links: {{ "datacentre": (down: "1 Gbit/s", up: "1 Gbit/s") }},
        mix: [(share: 1, device: "gpu", link: "datacentre")],
    ),
    evaluation: (every: {every}),
    output: (save_adapter_every: {every}),
{privacy})
"#
    );
    Ok(Imported { scenario, left_out: flags.left_out })
}

/// Refuses a script that trains all weights, which no scenario does.
fn refuse_full_training(flags: &mut Flags) -> Result<(), ImportError> {
    let is_given = flags.contains("use_peft");
    if flags.switch("use_peft", false)? {
        return Ok(());
    }
    let why = if is_given { "--use_peft is off" } else { "--use_peft is missing" };
    Err(ImportError::at(
        flags.line,
        format!("{why}, so the script trains all weights; a scenario trains a LoRA adapter"),
    ))
}

fn model(flags: &mut Flags, is_dpo: bool, folder: &Path) -> Result<String, ImportError> {
    let source = source(flags, folder);
    let precision = match (flags.switch("load_in_8bit", false)?, flags.switch("load_in_4bit", false)?) {
        (true, true) => {
            let what = "--load_in_8bit and --load_in_4bit are both on, which the published trainers refuse";
            return Err(ImportError::at(flags.line, what));
        }
        (true, false) => "LlmInt8",
        (false, true) => {
            flags.left_out.push("--load_in_4bit: bitsandbytes' fp4 is not supported; NormalFloat4 replaces it".into());
            "Nf4"
        }
        (false, false) => "F32",
    };
    let rank = flags.integer("peft_lora_r", 8)?;
    let alpha = flags.float("peft_lora_alpha", 16.0)?;
    // TRL's DPO trainer switches dropout off.
    let dropout = if is_dpo { ", dropout: 0" } else { "" };
    Ok(format!(r#"model: ({source}, precision: {precision}, lora: (rank: {rank}, alpha: {alpha}{dropout})),"#))
}

/// Returns the field that names the model: a folder, or a model of the Hugging Face Hub, as Transformers would take it.
fn source(flags: &mut Flags, folder: &Path) -> String {
    let stand_in = "models/Llama-2-7b-hf";
    let name = path(flags, "model_name_or_path", stand_in);
    if !is_hub_name(&name) || name == stand_in || folder.join(&name).is_dir() {
        return format!(r#"folder: "{name}""#);
    }
    flags.left_out.push(format!(
        "--model_name_or_path {name}: no revision is given; a commit in place of `main` keeps runs repeatable"
    ));
    format!(r#"hub: ("{name}", "main")"#)
}

/// Tells whether a name has the form `account/model` of the Hub.
fn is_hub_name(name: &str) -> bool {
    let Some((account, model)) = name.split_once('/') else { return false };
    let is_plain = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_allowed)
    };
    is_plain(account) && is_plain(model) && !FOLDERS.contains(&account)
}

/// Lines of a scenario for the rows and their order.
struct Data {
    data: String,
    batches: &'static str,
}

fn data(flags: &mut Flags) -> Result<Data, ImportError> {
    let pool = pool(flags)?;
    let file = if pool.is_empty() { path(flags, "local_data_dir", "data.json") } else { "data.json".to_owned() };
    let length = flags.integer("seq_length", 512)?;
    let template = match flags.text("template")?.as_deref() {
        None | Some("alpaca") => "Alpaca",
        Some("vicuna" | "vicuna_v1.1") => "Vicuna",
        Some(other) => {
            flags.left_out.push(format!("--template {other}: Alpaca replaces it"));
            "Alpaca"
        }
    };
    if flags.text("split_strategy")?.is_some() && pool.is_empty() {
        flags.left_out.push("--split_strategy: data.partition divides pooled rows, as Iid(clients: N)".into());
    }
    let is_multi_turn = flags.switch("multi_turn_task", false)?;
    let template = if is_multi_turn { "Vicuna" } else { template };
    let batches = if is_multi_turn { " batches: SamePrefix," } else { "" };
    let data =
        format!(r#"data: (file: "{file}",{pool} template: {template}, max_seq_length: {length}, long_prompts: Skip),"#);
    Ok(Data { data, batches })
}

/// Returns the public dataset that a call names, with the columns of its rows.
fn public(flags: &Flags) -> Result<Option<(String, &'static str)>, ImportError> {
    let Some(name) = flags.peek("dataset_name")? else { return Ok(None) };
    let title = name.rsplit('/').next().unwrap_or_default();
    let found = PUBLIC.iter().find(|(public, _)| *public == title);
    Ok(found.map(|(_, columns)| (name.clone(), *columns)))
}

/// Returns the columns, rows and partition of a public dataset, which OpenFedLLM partitions among clients; empty for
/// the files of FedLLM-Bench, which are partitioned already.
fn pool(flags: &mut Flags) -> Result<String, ImportError> {
    let Some((name, columns)) = public(flags)? else { return Ok(String::new()) };
    let rows = flags.integer("dataset_sample", 20_000)?;
    let clients = flags.integer("num_clients", 2)?;
    // With a public dataset, `local_data_dir` is only the folder of all datasets, and the partition is always IID.
    flags.remove("local_data_dir");
    flags.remove("dataset_name");
    flags.left_out.push(format!("--dataset_name {name}: a run downloads no data; data.json is to hold its rows"));
    Ok(format!(" columns: {columns}, rows: {rows}, partition: Iid(clients: {clients}),"))
}

/// Returns a path as the script gives it, or `stand_in` and a note if the script does not determine it.
fn path(flags: &mut Flags, name: &str, stand_in: &str) -> String {
    match flags.path(name) {
        Some(text) => text.replace('\\', "/").replace('"', ""),
        None => {
            flags.left_out.push(format!("--{name}: the script does not give the path; {stand_in} replaces it"));
            stand_in.to_owned()
        }
    }
}

fn training(flags: &mut Flags, is_dpo: bool, batches: &str) -> Result<String, ImportError> {
    let steps = flags.integer("max_steps", 10)?;
    let batch = flags.integer("batch_size", 16)?;
    let accumulation = flags.integer("gradient_accumulation_steps", 1)?;
    let lr = flags.float("learning_rate", 2e-5)?;
    let final_lr = if is_dpo { 1e-5 } else { 1e-6 };
    // Gradient checkpointing is the default of both trainers. It changes no result.
    let is_off = flags.switch("no_gradient_checkpointing", false)?;
    let recomputation = flags.switch("gradient_checkpointing", !is_off)?;
    let dynamic = if flags.switch("dynamic_local_step", false)? { " dynamic_steps: (epochs: 3)," } else { "" };
    let beta = flags.float("dpo_beta", 0.1)?;
    let objective = if is_dpo { format!(" objective: Dpo(beta: {beta}),") } else { String::new() };
    Ok(format!(
        "training: (\n        local_steps: {steps},{objective}{dynamic}{batches} batch_size: {batch}, gradient_accumulation: \
         {accumulation}, recomputation: {recomputation},\n        lr: {lr:e}, lr_schedule: Cosine(final_lr: {final_lr:e}),\n    ),"
    ))
}

/// Returns the line for FedDP's noise; empty for other methods.
fn privacy(flags: &mut Flags) -> Result<String, ImportError> {
    let epsilon = flags.float("dp_epsilon", 1.0)?;
    let delta = flags.float("dp_delta", 1e-4)?;
    let norm = flags.float("dp_max_grad_norm", 1.0)?;
    let sigma = if flags.contains("dp_sigma") {
        format!(", sigma: {:e}", flags.float("dp_sigma", 0.0)?)
    } else {
        String::new()
    };
    if flags.peek("fed_alg")?.as_deref() != Some("feddp") {
        return Ok(String::new());
    }
    flags.left_out.push("--fed_alg feddp: its noise is carried over, and guarantees nothing".into());
    Ok(format!(
        "    privacy: FedLlmBenchDp(claimed_epsilon: {epsilon}, claimed_delta: {delta:e}, max_grad_norm: {norm}{sigma}),\n"
    ))
}

/// Returns the method. `is_public` tells a script of OpenFedLLM, whose default momentum is another.
fn algorithm(flags: &mut Flags, is_public: bool) -> Result<String, ImportError> {
    let name = flags.text("fed_alg")?.unwrap_or_else(|| "fedavg".into());
    let mu = flags.float("prox_mu", 0.01)?;
    let eta = flags.float("fedopt_eta", 1e-3)?;
    let tau = flags.float("fedopt_tau", 1e-3)?;
    let has_beta1 = flags.contains("fedopt_beta1");
    let beta1 = flags.float("fedopt_beta1", if is_public { 0.9 } else { 0.5 })?;
    let beta2 = flags.float("fedopt_beta2", 0.99)?;
    if !has_beta1 && matches!(name.as_str(), "fedavgm" | "fedyogi" | "fedadam") {
        let origin = if is_public { "OpenFedLLM" } else { "FedLLM-Bench" };
        flags.left_out.push(format!("--fedopt_beta1: it is not given; {beta1} is the default of {origin}"));
    }
    let adaptive = format!("server_lr: {eta}, tau: {tau}");
    Ok(match name.as_str() {
        "fedavg" => "FedAvg()".into(),
        "fedprox" => format!("FedProx(mu: {mu})"),
        "scaffold" => "Scaffold()".into(),
        "fedavgm" => format!("FedAvgM(beta: {beta1})"),
        "fedadagrad" | "fedadgrad" => format!("FedAdagrad({adaptive})"),
        "fedyogi" => format!("FedYogi({adaptive}, beta1: {beta1}, beta2: {beta2})"),
        "fedadam" => format!("FedAdam({adaptive}, beta1: {beta1}, beta2: {beta2})"),
        // Its noise is a setting of `privacy`.
        "feddp" => "FedAvg()".into(),
        local if local.starts_with("local") => {
            flags.left_out.push(format!("--fed_alg {local}: data.clients names the client, if the file has more"));
            "Local".into()
        }
        other => {
            let what = format!("--fed_alg is `{other}`, which no version of the scripts knows");
            return Err(ImportError::at(flags.line, what));
        }
    })
}
