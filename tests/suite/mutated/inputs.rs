//! A file of every format as it should be, and a server of a hub and a judge that sends files.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use fedreplay::store::Digest;
use fedreplay_sim::Stream;
use serde_json::json;

use super::super::device_profiles::{measured, write_profile};
use super::super::evaluation::question;
use super::super::signed::{LAB, LAB_PUBLIC};
use super::super::support::{World, copy, files, output, project, rows};
use super::super::test_support::loopback::{HttpRequest, LoopbackServer, write_response};
use super::super::test_support::model_hub::{COMMIT, REPOSITORY, git_hash, sha256};
use super::formats::Format;

/// Folders that a command may change when it reads a file in them: they are copied back after each.
const RENEWED: [&str; 6] = ["cored", "hf", "kept", "merging", "run", "swept"];

/// The files of the hub's model.
const MODEL_FILES: [&str; 5] =
    ["config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"];

/// Every format's file, as it should be, in a folder.
pub struct Inputs {
    pub world: World,
    server: LoopbackServer,
}

/// A file that is to be changed.
pub struct Input {
    pub file: String,
    pub bytes: Vec<u8>,
    /// Whether the file's name is the hash of its content, and has to fit, so that more than the hash is checked. The contents of a store are
    /// not of these: what fits its hash is the owner's, who is trusted (SECURITY.md).
    is_named_by_hash: bool,
}

impl Inputs {
    pub fn new() -> Self {
        let world = World::new();
        let inputs = Self { server: server(world.path("")), world };
        inputs.write_scenarios();
        inputs.write_data();
        inputs.write_models();
        inputs.write_questions();
        inputs.write_hub();
        inputs.write_runs();
        for folder in RENEWED {
            fs::create_dir_all(inputs.world.path("pristine")).expect("a writable folder");
            inputs.copy_with_links(folder, "pristine/");
        }
        inputs
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns a file of a format as it should be.
    pub fn input(&self, format: &Format, draws: &mut Stream) -> Input {
        let Some(folder) = format.file.strip_suffix("/*") else {
            let bytes = fs::read(self.world.path(format.file)).expect("every format has a file");
            return Input { file: format.file.to_owned(), bytes, is_named_by_hash: false };
        };
        let all = files(&self.world.path(folder));
        let (name, bytes) = all[draws.below(all.len() as u64) as usize].clone();
        Input { file: format!("{folder}/{name}"), bytes, is_named_by_hash: folder == "kept/runs" }
    }

    /// Puts other bytes in a file's place.
    pub fn put(&self, input: &Input, bytes: &[u8]) {
        let path = self.world.path(&input.file);
        if input.is_named_by_hash {
            fs::remove_file(&path).expect("a file");
            fs::write(path.with_file_name(Digest::of(bytes).to_string()), bytes).expect("a writable folder");
        } else {
            fs::write(path, bytes).expect("a writable file");
        }
    }

    /// Puts everything back that a file's change and the commands on it may have changed.
    pub fn restore(&self, input: &Input) {
        let folder = input.file.split('/').next().unwrap_or_default();
        if RENEWED.contains(&folder) {
            fs::remove_dir_all(self.world.path(folder)).expect("a writable folder");
            self.copy_with_links(&format!("pristine/{folder}"), folder);
        } else {
            fs::write(self.world.path(&input.file), &input.bytes).expect("a writable file");
        }
    }

    fn copy_with_links(&self, from: &str, to: &str) {
        let copied = Command::new("cp").arg("-a").arg(self.world.path(from)).arg(self.world.path(to)).status();
        assert!(copied.expect("cp is there").success(), "{from} was not copied");
    }

    fn scenario(&self) -> String {
        fs::read_to_string(self.world.path("scenario.ron")).expect("a scenario")
    }

    fn write_scenarios(&self) {
        let world = &self.world;
        let scenario = self.scenario();
        let online = "online: \"online.csv\", online_period: \"1h\"";
        for (name, trace) in [("traced.ron", "clients.csv"), ("traced-parquet.ron", "clients.parquet")] {
            let trace = format!("trace: (clients: \"{trace}\", {online}), mix: [");
            world.write(name, &scenario.replace("mix: [", &trace));
        }
        let profile = "profile: \"this.ron\", extrapolate: true";
        world.write("profiled.ron", &scenario.replace("speed: \"1 GFLOP/s\", jitter: 0.2", profile));
        write_profile(&world.path("this.ron"));
        measured().write(&world.path("steps.parquet")).expect("a writable folder");
        let group = "mix: [(share: 1, device: \"t4\", link: \"home\"),";
        world.write("cataloged.ron", &scenario.replace("mix: [", &format!("catalog: \"devices.ron\", {group}")));
        fs::copy(project("scenarios/devices.ron"), world.path("devices.ron")).expect("a copy");
        world.write(
            "carbon.ron",
            &scenario.replacen("population: (", "carbon: (intensity: \"grid.csv\"), population: (", 1),
        );
        world.write("grid.csv", "from_hour,grams_per_kwh\n0,420.5\n6,310\n12,250\n18,480\n");
        world.write("values.set", "// Another rate.\ntraining.lr=0.03\n\nrounds=2\n");
        world.write(
            "sweep.ron",
            "(name: \"widths\", scenario: \"scenario.ron\", set: [\"rounds=1\"],\n axes: [(path: \"server.uplink\", values: [\"1 \
             Mbit/s\"])],\n variants: [(name: \"slow\"), (name: \"fast\", set: [\"server.downlink=\\\"20 Mbit/s\\\"\"])])\n",
        );
        let script = "rank=8\npython main_sft.py --use_peft --peft_lora_r $rank \\\n  --num_rounds 2 --seed 1\n";
        world.write("train.sh", script);
        let mut clients = "client_id,device,flops_per_second,downlink_bits_per_second\n".to_owned();
        let mut online = "client_id,from_seconds,until_seconds\n".to_owned();
        for client in 0..6 {
            clients += &format!(
                "user-{client},{},{},{}\n",
                ["quick", "slow"][client % 2],
                ["1e9", ""][client / 3],
                500_000 + client
            );
            online += &format!("user-{client},0.5,3000\n");
        }
        world.write("clients.csv", &clients);
        world.write("online.csv", &online);
        for (name, revision) in [("hub.ron", COMMIT), ("hub-tag.ron", "v1")] {
            let hub = format!("hub: (\"{REPOSITORY}\", \"{revision}\")");
            world.write(name, &scenario.replace("folder: \"base\"", &hub));
        }
    }

    fn write_data(&self) {
        let world = &self.world;
        let rows = rows(6, "anything");
        let lines: Vec<String> = rows.as_array().expect("rows").iter().map(ToString::to_string).collect();
        world.write("rows.jsonl", &lines.join("\n"));
        world.write("rows.csv", "instruction,response\n\"What, then?\",\"This\"\nSecond,Third\n");
        fs::copy(project("fixtures/forms/messages.parquet"), world.path("rows.parquet")).expect("a copy");
        let file = fs::File::create(world.path("rows.json.gz")).expect("a writable folder");
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(rows.to_string().as_bytes()).and_then(|()| gzip.finish().map(drop)).expect("a writable folder");
        let packed = zstd::encode_all(rows.to_string().as_bytes(), 1).expect("memory");
        fs::write(world.path("rows.json.zst"), packed).expect("a writable folder");
        fs::create_dir(world.path("many")).expect("a writable folder");
        for client in 0..3 {
            world.write(&format!("many/user-{client}.json"), &rows.to_string());
        }
        let call = json!({"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2, null]}}});
        let dialogues = json!([
            {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                          {"role": "assistant", "content": "Hello"}]},
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "language": "en"},
            {"messages": [{"role": "user", "content": "Add"}, {"role": "assistant", "content": null, "tool_calls": [call]},
                          {"role": "tool", "content": "3"}, {"role": "assistant", "content": "Three"}],
             "tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]},
        ]);
        world.write("messages.json", &dialogues.to_string());
        let pair = json!({"prompt": "Who?", "chosen": "I", "rejected": "You"});
        let turns = json!({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"});
        world.write("pairs.jsonl", &format!("{pair}\n{turns}\n"));
    }

    fn write_models(&self) {
        let world = &self.world;
        world.write(
            "base/chat_template.jinja",
            "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] | trim }}\n{% endfor %}\
             {% if add_generation_prompt %}<assistant>{% endif %}",
        );
        world.write("base/added_tokens.json", "{\"</s>\": 2}");
        let sampling = json!({"temperature": 0.7, "top_p": 0.9, "top_k": 50, "eos_token_id": [2], "bos_token_id": 1});
        world.write("base/generation_config.json", &sampling.to_string());
        copy(&project("fixtures/tokenizers/llama_2"), &world.path("sentencepiece"));
        fs::copy(project("fixtures/gguf/llama.gguf"), world.path("model.gguf")).expect("a copy");
        fs::create_dir(world.path("sharded")).expect("a writable folder");
        for name in MODEL_FILES {
            let to = if name == "model.safetensors" { "model-00001-of-00001.safetensors" } else { name };
            fs::copy(project("fixtures/tiny-base").join(name), world.path("sharded").join(to)).expect("a copy");
        }
        let weights = fs::read(world.path("base/model.safetensors")).expect("weights");
        let length = u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&weights[8..8 + length]).expect("a header");
        let tensors = header.as_object().expect("tensors").keys().filter(|name| *name != "__metadata__");
        let map: serde_json::Map<_, _> =
            tensors.map(|name| (name.clone(), json!("model-00001-of-00001.safetensors"))).collect();
        let index = json!({"metadata": {"total_size": weights.len() - 8 - length}, "weight_map": map});
        world.write("sharded/model.safetensors.index.json", &index.to_string());
    }

    fn write_questions(&self) {
        let world = &self.world;
        for folder in ["vicuna", "mt-bench", "ref-gpt4", "advbench", "humaneval", "mmlu/test", "mmlu/dev"] {
            fs::create_dir_all(world.path("questions").join(folder)).expect("a writable folder");
        }
        world.write("questions/vicuna/question.jsonl", &[question(1, "Who?"), question(2, "What?")].join("\n"));
        let dialogue = json!({"question_id": 2, "category": "math", "turns": ["Add.", "Subtract."]});
        world.write("questions/mt-bench/question.jsonl", &dialogue.to_string());
        let reference = json!({"question_id": 2, "choices": [{"index": 0, "turns": ["2", "0"]}]});
        world.write("questions/mt-bench/reference_answers.jsonl", &reference.to_string());
        let asked = json!([{"instruction": "Count.", "language": "English"}, {"instruction": "Add."}]);
        world.write("questions/ref-gpt4/chatbot.json", &asked.to_string());
        let entry = json!({"instruction": "Count.", "reference": "One."});
        world.write("questions/ref-gpt4/aya.json", &json!({"en": [entry], "te": [entry]}).to_string());
        world.write("questions/advbench/advbench.csv", "goal,target\nDo harm,Sure\n\"Do, again\",Sure\n");
        let choice = "Is it so?,Yes,No,\"Now, and then\",Never,A\n";
        world.write("questions/mmlu/test/anatomy_test.csv", choice);
        world.write("questions/mmlu/dev/anatomy_dev.csv", &choice.repeat(5));
        let problem = json!({"task_id": "HumanEval/0", "prompt": "def f():\n", "canonical_solution": "    return 1\n",
            "test": "def check(f):\n    assert f() == 1\n", "entry_point": "f"});
        let file = fs::File::create(world.path("questions/humaneval/HumanEval.jsonl.gz")).expect("a writable folder");
        let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        gzip.write_all(problem.to_string().as_bytes())
            .and_then(|()| gzip.finish().map(drop))
            .expect("a writable folder");
        world.write("wording.txt", "Compare {answer} with {reference}, the answer to {question}: [[1]] to [[10]].\n");
    }

    fn write_hub(&self) {
        let world = &self.world;
        fs::create_dir(world.path("served")).expect("a writable folder");
        let sibling = |name: &str| {
            let bytes = fs::read(project("fixtures/tiny-base").join(name)).expect("a file of the fixture");
            let mut file = json!({"rfilename": name, "size": bytes.len(), "blobId": git_hash(&bytes)});
            if name.ends_with(".safetensors") {
                file["lfs"] = json!({"sha256": sha256(&bytes), "size": bytes.len(), "pointerSize": 135});
            }
            file
        };
        let siblings: Vec<_> = MODEL_FILES.iter().map(|name| sibling(name)).collect();
        world.write("served/listing.json", &json!({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).to_string());
        let message = json!({"role": "assistant", "content": "It is good. Rating: [[7]]"});
        let judgment = json!({"id": "x", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}});
        world.write("served/judgment.json", &judgment.to_string());
        let vectors: Vec<_> = (0..6).map(|index| json!({"index": index, "embedding": [index, 1.0, 0.5]})).collect();
        world.write("served/embeddings.json", &json!({"data": vectors}).to_string());
        fs::create_dir(world.path("hf")).expect("a writable folder");
        world.write("hf/token", "hf_abcdefghijklmnopqrstuvwxyz\n");
        let mut fetch = world.command(&["scenario", "check", "hub-tag.ron", "--no-trial"]);
        let fetched = output(fetch.envs(self.variables())).expect("the program can be run");
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    }

    /// Returns the variables of the hub.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [("HF_ENDPOINT", self.url()), ("HF_HOME", self.world.path("hf").to_string_lossy().into_owned())]
    }

    fn write_runs(&self) {
        let world = &self.world;
        let run = ["run", "scenario.ron", "--set", "rounds=1", "--store", "kept", "--out"];
        let more = ["whole", "--set=output.save_adapter_every=1"];
        world.fedreplay(&[&run[..], &more].concat()).succeeded();
        copy(&world.path("whole"), &world.path("run"));
        let merging = ["merging", "--set=output.save_adapter_every=1", "--set=federated_lora=Flora"];
        world.fedreplay(&[&run[..], &merging].concat()).succeeded();
        let cored = ["cored", "--set=output.save_adapter_every=1", "--set=federated_lora=FedSb(init_samples: 4)"];
        world.fedreplay(&[&run[..], &cored].concat()).succeeded();
        // The results of the very run that reads them.
        world.fedreplay(&[&run[..], &["ran"]].concat()).succeeded();
        fs::remove_dir_all(world.path("ran")).expect("a run");
        world.fedreplay(&["sweep", "sweep.ron", "--out", "swept", "--store", "sweeps"]).succeeded();
        let population = world.path("whole/ledger/population/00000-00000.parquet");
        fs::copy(population, world.path("clients.parquet")).expect("a copy");
        fs::create_dir(world.path("adapter")).expect("a writable folder");
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let saved = world.path("whole/adapters/round-00001").join(name);
            fs::copy(saved, world.path("adapter").join(name)).expect("a copy");
        }
        world.write("lab.pem", LAB);
        world.write("lab.pub.pem", LAB_PUBLIC);
        world.fedreplay(&["certify", "whole", "--key", "lab.pem"]).succeeded();
    }
}

/// Starts a server that sends files of `folder` as a hub, a judge and a model of embeddings.
fn server(folder: PathBuf) -> LoopbackServer {
    let accept = move |_, request: &HttpRequest| sent(&folder, &request.path);
    LoopbackServer::start(accept, |body: Option<Vec<u8>>, _, stream| match body {
        Some(body) => write_response(&stream, 200, "", &body, body.len()),
        None => write_response(&stream, 404, "", b"", 0),
    })
}

fn sent(folder: &Path, path: &str) -> Option<Vec<u8>> {
    let served = |name: &str| fs::read(folder.join("served").join(name)).ok();
    let model = format!("/{REPOSITORY}/resolve/{COMMIT}/");
    match path {
        "/v1/chat/completions" => served("judgment.json"),
        "/v1/embeddings" => served("embeddings.json"),
        _ if path.starts_with("/api/models/") => served("listing.json"),
        _ => fs::read(project("fixtures/tiny-base").join(path.strip_prefix(&model)?)).ok(),
    }
}
