//! Every source file that reads a file or an answer of a server, with the formats that it reads.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::support::{files, project};
use super::formats::FORMATS;

/// What a source file reads.
enum Reads {
    /// Files of these formats.
    Formats(&'static [&'static str]),
    /// Nothing that comes from outside of the program, for this reason.
    Nothing(&'static str),
}

use Reads::{Formats, Nothing};

const KERNEL: Reads = Nothing("what the kernel says about this machine and process");

const READERS: [(&str, Reads); 62] = [
    ("adapter/peft/read.rs", Formats(&["adapter/adapter_config.json", "run/adapters/round-00001/adapter_config.json"])),
    (
        "adapter/saved.rs",
        Formats(&[
            "merging/adapters/round-00001/adapter_and_base_change.safetensors",
            "cored/adapters/round-00001/adapter_with_core.safetensors",
        ]),
    ),
    ("audit/diff.rs", Formats(&["run/scenario.ron"])),
    ("benchmarks/human_eval/problems.rs", Formats(&["questions/humaneval/HumanEval.jsonl.gz"])),
    (
        "benchmarks/mmlu/questions.rs",
        Formats(&["questions/mmlu/test/anatomy_test.csv", "questions/mmlu/dev/anatomy_dev.csv"]),
    ),
    (
        "benchmarks/open_ended/files.rs",
        Formats(&[
            "questions/vicuna/question.jsonl",
            "questions/mt-bench/question.jsonl",
            "questions/mt-bench/reference_answers.jsonl",
            "questions/ref-gpt4/chatbot.json",
            "questions/ref-gpt4/aya.json",
            "questions/advbench/advbench.csv",
        ]),
    ),
    ("calibration/machine.rs", KERNEL),
    ("cli/args/judge.rs", Formats(&["wording.txt"])),
    ("cli/commands/import.rs", Formats(&["train.sh"])),
    ("cli/commands/sweep.rs", Formats(&["swept/sweep.json"])),
    ("cli/output/signals.rs", KERNEL),
    ("data/chat_template/source.rs", Formats(&["base/chat_template.jinja", "base/tokenizer_config.json"])),
    (
        "data/tokenizer_files.rs",
        Formats(&[
            "base/tokenizer.json",
            "sentencepiece/tokenizer.json",
            "base/tokenizer_config.json",
            "base/special_tokens_map.json",
            "base/added_tokens.json",
        ]),
    ),
    (
        "data/walk.rs",
        Formats(&[
            "data.json",
            "rows.jsonl",
            "rows.csv",
            "rows.parquet",
            "rows.json.gz",
            "rows.json.zst",
            "many/user-0.json",
            "messages.json",
            "pairs.jsonl",
        ]),
    ),
    ("diversity/endpoint.rs", Formats(&["served/embeddings.json"])),
    ("generation/folder_sampling.rs", Formats(&["base/generation_config.json"])),
    ("inputs/load.rs", Formats(&["base/config.json"])),
    ("inputs/own_rule.rs", Nothing("a rule is a program of the user's")),
    ("inputs/self_test_cache.rs", KERNEL),
    ("inputs/table.rs", Formats(&["clients.csv", "online.csv", "clients.parquet", "grid.csv"])),
    ("judge/endpoint.rs", Formats(&["served/judgment.json"])),
    ("ledger/locate.rs", Formats(&["run/ledger/events/00001-00001.parquet"])),
    ("ledger/manifest.rs", Formats(&["run/manifest.json"])),
    (
        "ledger/batches.rs",
        Formats(&[
            "run/ledger/population/00000-00000.parquet",
            "run/ledger/events/00001-00001.parquet",
            "run/ledger/tasks/00001-00001.parquet",
            "run/ledger/rounds/00001-00001.parquet",
            "run/ledger/aggregation/00001-00001.parquet",
            "run/ledger/evaluations/00001-00001.parquet",
            "run/ledger/generations/00001-00001.parquet",
            "run/ledger/lineage/00001-00001.parquet",
        ]),
    ),
    ("model/config/read.rs", Formats(&["base/config.json"])),
    (
        "model/folder.rs",
        Formats(&[
            "base/model.safetensors",
            "sharded/model-00001-of-00001.safetensors",
            "adapter/adapter_model.safetensors",
            "run/adapters/round-00001/adapter_model.safetensors",
        ]),
    ),
    ("model/gguf/folder.rs", Formats(&["model.gguf"])),
    ("model/gguf/weights.rs", Formats(&["model.gguf"])),
    ("model/hub/cache.rs", Formats(&["hf/hub/models--tiny--llama/refs/v1"])),
    (
        "model/hub/content_hash.rs",
        Formats(&["hf/hub/models--tiny--llama/blobs/*", "hf/hub/models--tiny--llama/fedreplay-checked/*"]),
    ),
    ("model/hub/part.rs", Nothing("model/hub/tests/moods.rs has parts that are damaged")),
    ("model/hub/settings.rs", Formats(&["hf/token"])),
    ("model/hub/transfer.rs", Formats(&["served/listing.json"])),
    ("model/merge.rs", Formats(&["base/config.json"])),
    ("model/weight_files.rs", Formats(&["sharded/model.safetensors.index.json"])),
    ("privacy/noise.rs", KERNEL),
    ("profile/file.rs", Formats(&["this.ron"])),
    ("profile/table.rs", Formats(&["steps.parquet"])),
    ("results/summary.rs", Formats(&["swept/0001-slow-uplink-1-Mbit-s/timing/summary.json"])),
    ("run/certificate.rs", Formats(&["run/certificate.json"])),
    ("run/folder.rs", Formats(&["run/scenario.ron"])),
    ("run/signature.rs", Formats(&["whole.intoto.json", "lab.pem", "lab.pub.pem"])),
    ("run/statements.rs", Formats(&["run/scenario.ron"])),
    ("run/verification.rs", Formats(&["run/certificate.json"])),
    ("python_rule/process.rs", KERNEL),
    ("sandbox/isolation.rs", KERNEL),
    ("sandbox/memory.rs", KERNEL),
    ("scenario/catalog.rs", Formats(&["devices.ron"])),
    ("scenario/load.rs", Formats(&["scenario.ron", "cataloged.ron", "values.set", "run/scenario.ron"])),
    ("scenario/sweep/mod.rs", Formats(&["sweep.ron"])),
    ("store/atomic.rs", Nothing("folders are opened to write them to disk")),
    ("store/claim.rs", Nothing("a number that processes leave each other, which only says who waited")),
    ("store/content.rs", Formats(&["kept/results/*", "kept/contents/*"])),
    ("store/key.rs", Nothing("the program itself")),
    ("store/limited.rs", Nothing("its callers say of what")),
    ("store/registry.rs", Formats(&["kept/runs/*"])),
    ("store/session.rs", Nothing("files are locked and never read")),
    ("store/upkeep.rs", Formats(&["kept/results/*", "kept/contents/*"])),
    ("training/process/available.rs", KERNEL),
    ("training/process/hash_cache.rs", Nothing("a cache of the user's, whose own tests damage its entries")),
    ("training/process/libraries.rs", Nothing("the libraries of the program")),
    ("training/process/numerics.rs", KERNEL),
];

/// What a source file has in it that opens a file or reads an answer.
const OPENINGS: [&str; 10] = [
    "File::open",
    "File::options",
    "OpenOptions",
    "fs::read(",
    "fs::read)",
    "read_to_string(",
    "read_limited(",
    "read_text_limited(",
    "read_up_to(",
    "into_reader()",
];

/// Returns the sources that read.
fn reading(folder: &str) -> BTreeSet<String> {
    sources_with(folder, &OPENINGS)
}

/// Returns the sources with one of these texts, without comments and tests.
fn sources_with(folder: &str, texts: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, bytes) in files(&project(folder)) {
        let is_test = Path::new(&name).iter().any(|part| part == "tests") || name.ends_with("tests.rs");
        if is_test || !name.ends_with(".rs") {
            continue;
        }
        let text = String::from_utf8(bytes).expect("sources are UTF-8");
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let has_one = |line: &str| texts.iter().any(|text| line.contains(text));
        if code.lines().any(|line| has_one(line.split("//").next().unwrap_or_default())) {
            found.insert(name);
        }
    }
    found
}

/// Calls of parsers of other crates, with the sources that may have them. All others call them through `store::parse_json`,
/// `store::ForeignReader` or `store::read_limited`, which bound what a hostile file can do.
const PARSERS: [(&str, &[&str]); 9] = [
    (
        "serde_json::from_",
        &[
            // The border itself, a table of the program, and values and words of the command line.
            "store/foreign.rs",
            "model/config/fields.rs",
            "scenario/overrides.rs",
            "benchmarks/open_ended/judge_prompts.rs",
            // Values that are parsed already.
            "benchmarks/open_ended/files.rs",
            "model/folder.rs",
            "run/statements.rs",
            // Its tests.
            "data/sample.rs",
        ],
    ),
    ("SafeTensors::deserialize", &["adapter/values.rs"]),
    ("SafeTensors::read_metadata", &["adapter/values.rs"]),
    ("GzDecoder::new", &["benchmarks/human_eval/problems.rs", "data/source.rs"]),
    ("zstd::Decoder", &["data/source.rs"]),
    ("csv::Reader", &["benchmarks/mmlu/questions.rs", "benchmarks/open_ended/questions.rs", "data/rows_in_csv.rs"]),
    ("read_to_string(", KERNEL_AND_STORE),
    ("fs::read(", KERNEL_AND_STORE),
    (
        "ParquetRecordBatchReaderBuilder::try_new",
        &["data/parquet_rows.rs", "inputs/table.rs", "ledger/batches.rs", "ledger/locate.rs", "profile/table.rs"],
    ),
];

/// Sources that read files of the kernel, of the store, or with limits of their own.
const KERNEL_AND_STORE: &[&str] = &[
    "adapter/peft/read.rs",
    "adapter/saved.rs",
    "benchmarks/human_eval/problems.rs",
    "calibration/machine.rs",
    "cli/output/signals.rs",
    "diversity/endpoint.rs",
    "inputs/self_test_cache.rs",
    "judge/endpoint.rs",
    "python_rule/process.rs",
    "sandbox/isolation.rs",
    "sandbox/memory.rs",
    "store/content.rs",
    "store/key.rs",
    "store/registry.rs",
    "store/upkeep.rs",
    "training/process/available.rs",
    "training/process/libraries.rs",
    "training/process/numerics.rs",
];

#[test]
fn parsers_are_called_behind_their_border() {
    for (call, allowed) in PARSERS {
        let found = sources_with("src", &[call]);
        let others: Vec<_> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(others.is_empty(), "{others:?} have {call}");
    }
}

#[test]
fn every_source_that_reads_has_a_format_or_a_reason() {
    let known: BTreeSet<String> = READERS.iter().map(|(source, _)| (*source).to_owned()).collect();
    assert_eq!(known.len(), READERS.len(), "a source is listed twice");
    let found = reading("src");
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?} read files: list each with its formats in {}", file!());
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "{gone:?} do not read files");
    assert_eq!(reading("sim/src"), BTreeSet::new(), "the simulator reads files");
}

#[test]
fn every_format_has_a_source_that_reads_it() {
    let formats: BTreeSet<&str> = FORMATS.iter().map(|format| format.file).collect();
    assert_eq!(formats.len(), FORMATS.len(), "a format is listed twice");
    let mut read = BTreeSet::new();
    for (source, reads) in &READERS {
        match reads {
            Formats(names) => read.extend(names.iter().copied()),
            Nothing(reason) => assert!(!reason.is_empty(), "{source} has no reason"),
        }
    }
    assert_eq!(read, formats, "formats of sources, and formats that are changed");
}
