//! Text of the scenario for a call of a trainer. A missing flag has its default from the published `config.py`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

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
    ("use_peft", "every run trains a LoRA adapter"),
    ("seed", "FedLLM-Bench does not use it"),
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

/// Flags of a call that have not been read yet, and notes about those that were dropped.
struct Flags {
    rest: BTreeMap<String, Option<String>>,
    left_out: Vec<String>,
}

impl Flags {
    fn has(&mut self, name: &str) -> bool {
        self.rest.remove(name).is_some_and(|value| value.as_deref() != Some("False"))
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.rest.remove(name).flatten()
    }

    fn number<T: FromStr + Display>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name} is `{text}`, which is not a number")),
        }
    }
}

pub(super) fn scenario(name: &str, call: &Call) -> Result<Imported, String> {
    let mut flags = Flags { rest: call.flags.clone(), left_out: vec![] };
    let privacy = privacy(&mut flags)?;
    let algorithm = algorithm(&mut flags)?;
    let is_local = algorithm == "Local";
    let model = model(&mut flags, call.is_dpo)?;
    let data = data(&mut flags)?;
    let training = training(&mut flags, call.is_dpo)?;
    let rounds: u32 = flags.number("num_rounds", 500)?;
    let clients: u32 = flags.number("sample_clients", 2)?;
    let clients = if is_local { 1 } else { clients };
    let every: u32 = flags.number("checkpoint_step", 100)?;
    // All flags with a counterpart have been taken out of `flags.rest` by now: what remains is reported.
    for (flag, reason) in WITHOUT_EFFECT {
        if flags.rest.remove(*flag).is_some() {
            flags.left_out.push(format!("--{flag}: {reason}"));
        }
    }
    let unknown: Vec<String> = flags.rest.keys().map(|flag| format!("--{flag}: it has no counterpart")).collect();
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

fn model(flags: &mut Flags, is_dpo: bool) -> Result<String, String> {
    let folder = path(flags, "model_name_or_path", "models/Llama-2-7b-hf");
    let precision = match (flags.has("load_in_8bit"), flags.has("load_in_4bit")) {
        (true, _) => "LlmInt8",
        (false, true) => {
            flags.left_out.push("--load_in_4bit: bitsandbytes' fp4 is not supported; NormalFloat4 replaces it".into());
            "Nf4"
        }
        _ => "F32",
    };
    let rank: u32 = flags.number("peft_lora_r", 8)?;
    let alpha: f64 = flags.number("peft_lora_alpha", 16.0)?;
    // TRL's DPO trainer switches dropout off.
    let dropout = if is_dpo { ", dropout: 0" } else { "" };
    Ok(format!(
        r#"model: (folder: "{folder}", precision: {precision}, lora: (rank: {rank}, alpha: {alpha}{dropout})),"#
    ))
}

fn data(flags: &mut Flags) -> Result<String, String> {
    let pool = pool(flags)?;
    let file = path(flags, "local_data_dir", "data.json");
    let length: u32 = flags.number("seq_length", 512)?;
    let template = match flags.text("template").as_deref() {
        None | Some("alpaca") => "Alpaca",
        Some("vicuna" | "vicuna_v1.1") => "Vicuna",
        Some(other) => {
            flags.left_out.push(format!("--template {other}: Alpaca replaces it"));
            "Alpaca"
        }
    };
    let template = if flags.rest.contains_key("multi_turn_task") { "Vicuna" } else { template };
    if flags.text("split_strategy").is_some() {
        flags.left_out.push("--split_strategy: data.partition divides pooled rows, as Iid(clients: N)".into());
    }
    Ok(format!(r#"data: (file: "{file}",{pool} template: {template}, max_seq_length: {length}, long_prompts: Skip),"#))
}

/// Returns the columns, rows and partition of a public dataset, which OpenFedLLM partitions among clients; empty for
/// the files of FedLLM-Bench, which are partitioned already.
fn pool(flags: &mut Flags) -> Result<String, String> {
    let name = flags.rest.get("dataset_name").cloned().flatten().unwrap_or_default();
    let title = name.rsplit('/').next().unwrap_or_default();
    let Some((_, columns)) = PUBLIC.iter().find(|(public, _)| *public == title) else { return Ok(String::new()) };
    let rows: u32 = flags.number("dataset_sample", 20_000)?;
    let clients: u32 = flags.number("num_clients", 2)?;
    // With a public dataset, `local_data_dir` is only the folder of all datasets, and the partition is always IID.
    flags.rest.insert("local_data_dir".into(), None);
    flags.rest.remove("split_strategy");
    flags.rest.remove("dataset_name");
    flags.left_out.push(format!("--dataset_name {name}: a run downloads no data; data.file is to name its rows"));
    Ok(format!(" columns: {columns}, rows: {rows}, partition: Iid(clients: {clients}),"))
}

/// Returns a path as the script gives it, or `stand_in` and a note if it depends on an unknown shell variable.
fn path(flags: &mut Flags, name: &str, stand_in: &str) -> String {
    match flags.text(name) {
        Some(text) if !text.is_empty() && !text.contains('$') => text.replace('\\', "/").replace('"', ""),
        _ => {
            flags.left_out.push(format!("--{name}: the script does not give the path; {stand_in} replaces it"));
            stand_in.to_owned()
        }
    }
}

fn training(flags: &mut Flags, is_dpo: bool) -> Result<String, String> {
    let steps: u32 = flags.number("max_steps", 10)?;
    let batch: u32 = flags.number("batch_size", 16)?;
    let accumulation: u32 = flags.number("gradient_accumulation_steps", 1)?;
    let lr: f64 = flags.number("learning_rate", 2e-5)?;
    let final_lr = if is_dpo { 1e-5 } else { 1e-6 };
    // Gradient checkpointing is the default of both trainers, so the flag is read and ignored.
    flags.has("gradient_checkpointing");
    let dynamic = if flags.has("dynamic_local_step") { " dynamic_steps: (epochs: 3)," } else { "" };
    let beta: f64 = flags.number("dpo_beta", 0.1)?;
    let objective = if is_dpo { format!(" objective: Dpo(beta: {beta}),") } else { String::new() };
    let batches = if flags.has("multi_turn_task") { " batches: SamePrefix," } else { "" };
    Ok(format!(
        "training: (\n        local_steps: {steps},{objective}{dynamic}{batches} batch_size: {batch}, gradient_accumulation: \
         {accumulation}, recomputation: true,\n        lr: {lr:e}, lr_schedule: Cosine(final_lr: {final_lr:e}),\n    ),"
    ))
}

/// Returns the line for FedDP's noise; empty for other methods.
fn privacy(flags: &mut Flags) -> Result<String, String> {
    let epsilon: f64 = flags.number("dp_epsilon", 1.0)?;
    let delta: f64 = flags.number("dp_delta", 1e-4)?;
    let norm: f64 = flags.number("dp_max_grad_norm", 1.0)?;
    let sigma = match flags.text("dp_sigma") {
        Some(text) => {
            let sigma: f64 = text.parse().map_err(|_| format!("--dp_sigma is `{text}`, which is not a number"))?;
            format!(", sigma: {sigma:e}")
        }
        None => String::new(),
    };
    if flags.rest.get("fed_alg").and_then(Option::as_deref) != Some("feddp") {
        return Ok(String::new());
    }
    flags.left_out.push("--fed_alg feddp: its noise is carried over, and guarantees nothing".into());
    Ok(format!(
        "    privacy: FedLlmBenchDp(claimed_epsilon: {epsilon}, claimed_delta: {delta:e}, max_grad_norm: {norm}{sigma}),\n"
    ))
}

fn algorithm(flags: &mut Flags) -> Result<String, String> {
    let name = flags.text("fed_alg").unwrap_or_else(|| "fedavg".into());
    let mu: f64 = flags.number("prox_mu", 0.01)?;
    let eta: f64 = flags.number("fedopt_eta", 1e-3)?;
    let tau: f64 = flags.number("fedopt_tau", 1e-3)?;
    let beta1: f64 = flags.number("fedopt_beta1", 0.5)?;
    let beta2: f64 = flags.number("fedopt_beta2", 0.99)?;
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
        other => return Err(format!("--fed_alg is `{other}`, which no version of the scripts knows")),
    })
}
