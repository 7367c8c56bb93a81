//! The formats that the program reads, with the commands that read them.

/// A format that the program reads.
pub struct Format {
    /// File that is changed. A name that ends with `*` stands for all files of a folder.
    pub file: &'static str,
    /// Commands that read it. `{}` is the file and `{url}` the server of the test; `offline` before a command sets HF_HUB_OFFLINE.
    pub commands: &'static [&'static str],
    /// Whether a file of which nothing can be understood is no error, as that of a cache.
    pub is_lenient: bool,
}

impl Format {
    /// Returns the ending of the file's name.
    pub fn extension(&self) -> &'static str {
        let name = self.file.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or("", |(_, extension)| extension)
    }
}

const fn format(file: &'static str, commands: &'static [&'static str]) -> Format {
    Format { file, commands, is_lenient: false }
}

const fn lenient(file: &'static str, commands: &'static [&'static str]) -> Format {
    Format { file, commands, is_lenient: true }
}

const CHECK: &str = "scenario check scenario.ron --no-trial";
const CHECK_CHAT: &str = "scenario check scenario.ron --no-trial --set data.template=Chat";
const EVAL_ADAPTER: &[&str] =
    &["eval base --adapter adapter --data questions --bench advbench --answer-tokens-max 1 --out found --store none"];
const CHECK_HUB: &str = "scenario check hub.ron --no-trial";
const INSPECT_ALL: &str = "data inspect {}";
const INSPECT_SKIPPING: &str = "data inspect {} --skip-bad-rows";
const INSPECT: &[&str] = &[INSPECT_ALL, INSPECT_SKIPPING];
const INSPECT_FOLDER: &[&str] = &["data inspect many", "data inspect many --skip-bad-rows"];
const READ_RUN: &[&str] =
    &["verify run", "show run", "report run --out page.html", "export run --to csv --out csv", "diff run whole"];
const READ_ADAPTER: &[&str] = &["verify run", "export run --to peft --out peft --store none", "replay run --round 1"];
const RESUME: &[&str] = &["run scenario.ron --set rounds=1 --out ran --store kept", "store verify --store kept"];
const READ_STORE: &[&str] = &[
    "store ls --store kept",
    "store verify --store kept",
    "store gc --store kept --max-age 1d",
    "run scenario.ron --set rounds=1 --out ran --store kept",
];
const SWEEP: &[&str] = &["sweep sweep.ron --out swept --store sweeps"];

pub const FORMATS: [Format; 75] = [
    // Scenarios and what stands next to them.
    format("scenario.ron", &[CHECK, "plan scenario.ron --out planned"]),
    format("cataloged.ron", &["scenario check cataloged.ron --no-trial"]),
    format("devices.ron", &["scenario check cataloged.ron --no-trial"]),
    format("values.set", &["scenario check scenario.ron --no-trial --set @values.set"]),
    format("sweep.ron", &["sweep sweep.ron --out again --store sweeps"]),
    format("train.sh", &["import {}"]),
    format("steps.parquet", &["calibrate --from {} --out fitted.ron"]),
    format("this.ron", &["plan profiled.ron --out planned"]),
    format("clients.csv", &["plan traced.ron --out planned"]),
    format("online.csv", &["plan traced.ron --out planned"]),
    format("clients.parquet", &["plan traced-parquet.ron --out planned"]),
    format("grid.csv", &["plan carbon.ron --out planned"]),
    // Datasets.
    format("data.json", &[CHECK, INSPECT_ALL, INSPECT_SKIPPING]),
    format("rows.jsonl", INSPECT),
    format("rows.csv", INSPECT),
    format("rows.parquet", INSPECT),
    format("rows.json.gz", INSPECT),
    format("rows.json.zst", INSPECT),
    format("many/user-0.json", INSPECT_FOLDER),
    format("messages.json", &[INSPECT_ALL, "data inspect {} --skip-bad-rows --tokenizer base"]),
    format("pairs.jsonl", INSPECT),
    // Models.
    format("base/config.json", &[CHECK, "export whole --to peft --merged --out peft --store none"]),
    format("base/tokenizer.json", &[CHECK, "data inspect data.json --tokenizer base"]),
    format("base/tokenizer_config.json", &[CHECK]),
    format("base/special_tokens_map.json", &[CHECK]),
    format("base/added_tokens.json", &[CHECK]),
    format("base/generation_config.json", &["eval base --data questions --bench vicuna --limit 1 --dry-run"]),
    format("base/chat_template.jinja", &[CHECK_CHAT]),
    format("base/model.safetensors", &["run scenario.ron --set rounds=1 --out ran --store none"]),
    format("sentencepiece/tokenizer.json", &["data inspect data.json --tokenizer sentencepiece"]),
    format("sharded/model.safetensors.index.json", &["scenario check scenario.ron --set model.folder=\"sharded\""]),
    format(
        "sharded/model-00001-of-00001.safetensors",
        &[
            "scenario check scenario.ron --no-trial --set model.folder=\"sharded\"",
            "eval sharded --data questions --bench advbench --answer-tokens-max 1 --out found --store none",
        ],
    ),
    format("model.gguf", &["model import {} --out imported"]),
    format("adapter/adapter_config.json", EVAL_ADAPTER),
    format("adapter/adapter_model.safetensors", EVAL_ADAPTER),
    // The cache of the hub, and its answers.
    lenient("hf/hub/models--tiny--llama/blobs/*", &[CHECK_HUB]),
    lenient("hf/hub/models--tiny--llama/refs/v1", &["offline scenario check hub-tag.ron --no-trial"]),
    lenient("hf/hub/models--tiny--llama/fedreplay-checked/*", &[CHECK_HUB]),
    lenient("hf/token", &[CHECK_HUB]),
    format("served/listing.json", &["scenario check hub-tag.ron --no-trial"]),
    // Runs.
    format("run/manifest.json", READ_RUN),
    format("run/certificate.json", &["verify run", "verify whole --certificate {}"]),
    format("run/scenario.ron", READ_RUN),
    format("run/ledger/population/00000-00000.parquet", READ_RUN),
    format("run/ledger/events/00001-00001.parquet", READ_RUN),
    format("run/ledger/tasks/00001-00001.parquet", READ_RUN),
    format("run/ledger/rounds/00001-00001.parquet", READ_RUN),
    format("run/ledger/aggregation/00001-00001.parquet", READ_RUN),
    format("run/ledger/evaluations/00001-00001.parquet", READ_RUN),
    format("run/ledger/generations/00001-00001.parquet", READ_RUN),
    format("run/ledger/lineage/00001-00001.parquet", READ_RUN),
    format("run/adapters/round-00001/adapter_config.json", READ_ADAPTER),
    format("run/adapters/round-00001/adapter_model.safetensors", READ_ADAPTER),
    format(
        "merging/adapters/round-00001/adapter_and_base_change.safetensors",
        &["verify merging", "export merging --to peft --out peft --store none", "replay merging --round 1"],
    ),
    format(
        "cored/adapters/round-00001/adapter_with_core.safetensors",
        &["verify cored", "export cored --to peft --out peft --store none", "replay cored --round 1"],
    ),
    lenient("swept/sweep.json", SWEEP),
    lenient("swept/0001-slow-uplink-1-Mbit-s/timing/summary.json", SWEEP),
    format("whole.intoto.json", &["verify whole --signed-by lab.pub.pem"]),
    format("lab.pem", &["certify whole --key {} --out out.json"]),
    format("lab.pub.pem", &["verify whole --signed-by {}"]),
    // A store.
    lenient("kept/contents/*", RESUME),
    lenient("kept/results/*", READ_STORE),
    lenient("kept/runs/*", READ_STORE),
    // Benchmarks and judges.
    format(
        "questions/mmlu/test/anatomy_test.csv",
        &["eval base --data questions --bench mmlu --shots 0 --limit 1 --dry-run"],
    ),
    format(
        "questions/mmlu/dev/anatomy_dev.csv",
        &["eval base --data questions --bench mmlu --shots 5 --limit 1 --dry-run"],
    ),
    format(
        "questions/vicuna/question.jsonl",
        &["eval base --data questions --bench vicuna --limit 1 --answer-tokens-max 1 --out found"],
    ),
    format("questions/mt-bench/question.jsonl", &["eval base --data questions --bench mt-bench --dry-run"]),
    format("questions/mt-bench/reference_answers.jsonl", &["eval base --data questions --bench mt-bench --dry-run"]),
    format("questions/ref-gpt4/chatbot.json", &["eval base --data questions --bench ref-gpt4-chatbot --dry-run"]),
    format("questions/ref-gpt4/aya.json", &["eval base --data questions --bench ref-gpt4-aya --dry-run"]),
    format("questions/advbench/advbench.csv", &["eval base --data questions --bench advbench --dry-run"]),
    format(
        "questions/humaneval/HumanEval.jsonl.gz",
        &["eval base --data questions --bench humaneval --dry-run --allow-code-execution"],
    ),
    format(
        "wording.txt",
        &[
            "eval base --data questions --bench ref-gpt4-aya --dry-run --judge-aya-prompt {} --judge-url {url}/v1 --judge-model m",
        ],
    ),
    lenient(
        "served/judgment.json",
        &["eval base --data questions --bench vicuna --limit 1 --answer-tokens-max 1 --out found --store none \
           --judge-url {url}/v1 --judge-model m --judge-attempts 1"],
    ),
    format(
        "served/embeddings.json",
        &["data diversity many --out spread --rows 2 --embeddings-url {url}/v1 --embeddings-model m"],
    ),
];
