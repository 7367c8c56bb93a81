//! Examining models: losses that are those of the run, benchmarks that are repeatable, and bad questions said so.

use std::fs;
use std::fs::File;
use std::path::Path;

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use fedreplay::ledger::read_table;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::support::{Said, World, not_possible};

/// The rows of a table's file.
pub fn table(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("the table is there"));
    let batches: Vec<_> = reader.unwrap().build().unwrap().map(Result::unwrap).collect();
    concat_batches(&batches[0].schema(), &batches).unwrap()
}

/// A column of texts; `null` stands where there is none.
pub fn texts(rows: &RecordBatch, column: &str) -> Vec<String> {
    rows[column].as_string::<i32>().iter().map(|text| text.unwrap_or("null").to_owned()).collect()
}

/// A line of Vicuna's questions.
pub fn question(id: u32, turn: &str) -> String {
    format!(r#"{{"question_id": {id}, "category": "generic", "turns": ["{turn}"]}}"#)
}

/// Two questions of each of two benchmarks, of which one question is longer than the model's context.
fn with_questions() -> World {
    let world = World::new();
    fs::create_dir_all(world.path("questions/vicuna")).unwrap();
    fs::create_dir_all(world.path("questions/mmlu/test")).unwrap();
    let long = "again ".repeat(600);
    let lines = [question(1, "What is the capital of Palmyra?"), question(2, &long), question(3, "Count to three.")];
    world.write("questions/vicuna/question.jsonl", &lines.join("\n"));
    world.write(
        "questions/mmlu/test/anatomy_test.csv",
        "How many?,1,2,3,4,B\nWhich one?,a,b,c,d,D\nWhich other?,a,b,c,d,A\n",
    );
    world
}

fn eval(world: &World, more: &[&str]) -> Said {
    world.fedreplay(&[&["eval", "base", "--data", "questions", "--shots", "0"], more].concat())
}

#[test]
fn losses_of_a_run_are_those_in_its_ledger() {
    let world = World::new();
    world.run("run", &[]).succeeded();
    world.fedreplay(&["eval", "run", "--out", "found"]).succeeded();
    let found = table(&world.path("found/evaluations.parquet"));
    let ledger = read_table(&world.path("run"), "evaluations").unwrap();
    let last = ledger["round"].as_primitive::<arrow::datatypes::UInt32Type>().iter().flatten().max().unwrap();
    let rows = |batch: &RecordBatch| {
        let rounds = batch["round"].as_primitive::<arrow::datatypes::UInt32Type>().clone();
        let numbers = |name: &str| batch[name].as_primitive::<Float64Type>().clone();
        let [loss, perplexity, accuracy] = ["loss", "perplexity", "token_accuracy"].map(numbers);
        let (splits, hashes) = (texts(batch, "split"), texts(batch, "model_hash"));
        let at = |row: usize| {
            let bits = [&loss, &perplexity, &accuracy].map(|values| values.value(row).to_bits());
            (splits[row].clone(), hashes[row].clone(), bits)
        };
        let is_last = |row: &usize| rounds.value(*row) == last && texts(batch, "subject")[*row] == "global";
        (0..batch.num_rows()).filter(is_last).map(at).collect::<Vec<_>>()
    };
    assert_eq!(rows(&found), rows(&ledger));
    assert!(rows(&found).len() > 1);
    let perplexities = found["perplexity"].as_primitive::<Float64Type>();
    let losses = found["loss"].as_primitive::<Float64Type>();
    for (perplexity, loss) in perplexities.iter().flatten().zip(losses.iter().flatten()) {
        assert!((perplexity - loss.exp()).abs() < 1e-9 * perplexity);
    }
}

#[test]
fn answers_are_the_same_from_the_store_afresh_and_whatever_is_asked_beside_them() {
    let world = with_questions();
    let bench = ["--bench", "vicuna,mmlu"];
    eval(&world, &[&bench[..], &["--out", "first"]].concat()).succeeded();
    eval(&world, &[&bench[..], &["--out", "again"]].concat()).succeeded();
    eval(&world, &[&bench[..], &["--out", "fresh", "--store", "none", "--workers", "2"]].concat()).succeeded();
    for name in ["evaluations.parquet", "generations.parquet"] {
        let read = |out: &str| fs::read(world.path(out).join(name)).unwrap();
        assert_eq!(read("first"), read("again"), "{name} from the store");
        assert_eq!(read("first"), read("fresh"), "{name} computed again");
    }
    eval(&world, &["--bench", "vicuna", "--limit", "1", "--out", "one", "--store", "none"]).succeeded();
    let answers = texts(&table(&world.path("first/generations.parquet")), "answer");
    assert_eq!(answers[0], texts(&table(&world.path("one/generations.parquet")), "answer")[0]);
}

#[test]
fn a_prompt_that_does_not_fit_is_a_recorded_failure() {
    let world = with_questions();
    let said = eval(&world, &["--bench", "vicuna", "--out", "found"]).succeeded();
    // There is no judge, so no answer has a rating.
    assert!(said.stdout.contains("3 failed"), "{}", said.stdout);
    let remark = "base, Vicuna: 3 of 3 answers not judged; 1 of 3 prompts did not fit the context";
    assert!(said.stdout.contains(remark), "{}", said.stdout);
    let rows = table(&world.path("found/generations.parquet"));
    assert_eq!(texts(&rows, "ended")[1], "context_full");
    assert_eq!(texts(&rows, "answer")[1], "null");
    assert!(texts(&rows, "answer").iter().filter(|answer| *answer != "null").count() == 2);
    let evaluations = table(&world.path("found/evaluations.parquet"));
    assert_eq!(evaluations["failed"].as_primitive::<UInt64Type>().value(0), 3);
}

/// What the templates write before the answer to a training row is what they write before the answer to a question.
#[test]
fn questions_have_the_system_prompt_of_training() {
    let world = with_questions();
    let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] \
                    {% endif %}";
    world.write("base/chat_template.jinja", template);
    let question = "What is the capital of Palmyra?";
    let cases = [
        ("Alpaca", format!("Be brief.\n\n### Instruction:\n{question} \n\n### Response:")),
        ("Chat", format!("[system] Be brief.\n[user] {question}\n[assistant] ")),
    ];
    for (name, prompt) in cases {
        let template = format!("data.template={name}");
        let sets = [
            "rounds=1",
            "data.system_prompt=Be brief.",
            &template,
            "evaluation.questions=questions",
            r#"evaluation.benchmarks=[{"name": "vicuna"}]"#,
        ];
        let sets: Vec<&str> = sets.iter().flat_map(|&set| ["--set", set]).collect();
        world.run(name, &sets).succeeded();
        let scheduled = read_table(&world.path(name), "generations").unwrap();
        assert_eq!(texts(&scheduled, "prompt")[0], prompt);
        let out = format!("{name}-found");
        world.fedreplay(&["eval", name, "--bench", "vicuna", "--data", "questions", "--out", &out]).succeeded();
        assert_eq!(texts(&table(&world.path(&out).join("generations.parquet")), "prompt")[0], prompt);
    }
}

/// A chat template that closes every message with `<unk>`, and asks for a date.
const DATED_CHAT: &str = "{% if strftime_now is defined %}{{ strftime_now('%Y-%m-%d') }}{% else %}2024-07-26{% endif %}\
    {% for m in messages %}[{{ m.role }}] {{ m.content }}<unk>\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";

#[test]
fn the_tokens_that_end_an_answer_are_named_with_the_template_that_closes_it() {
    let world = with_questions();
    let ends = |template: &str| {
        let said = eval(&world, &["--bench", "vicuna", "--dry-run", "--template", template]).succeeded();
        said.summary("answers end").to_owned()
    };
    assert_eq!(ends("alpaca"), "with </s>");
    world.write("base/chat_template.jinja", DATED_CHAT);
    assert_eq!(ends("chat"), "with <unk>, </s>");
    // A template has the name that scenarios give it, too.
    let prompts = |template: &str| {
        let out = format!("out-{template}");
        let more =
            ["--bench", "vicuna", "--limit", "1", "--answer-tokens-max", "1", "--out", &out, "--template", template];
        eval(&world, &more).succeeded();
        texts(&table(&world.path(&out).join("generations.parquet")), "prompt")
    };
    assert_eq!(prompts("Vicuna"), prompts("vicuna_v1.1"));
    eval(&world, &["--bench", "vicuna", "--template", "Vikuna"]).refused(2, &["`Vikuna`", "vicuna_v1.1", "Vicuna"]);
}

#[test]
fn whoever_applies_a_template_that_asks_for_a_date_says_that_it_gets_none_or_which() {
    let world = with_questions();
    world.write("base/chat_template.jinja", DATED_CHAT);
    let warning = "asks for the current date and gets none";
    let said = eval(&world, &["--bench", "vicuna", "--dry-run", "--template", "chat"]).succeeded();
    assert!(said.stderr.contains(warning) && said.stderr.contains("--template-date"), "{}", said.stderr);
    let dated =
        ["--bench", "vicuna", "--limit", "1", "--answer-tokens-max", "1", "--template", "chat", "--out", "dated"];
    let said = eval(&world, &[&dated[..], &["--template-date", "2024-12-31"]].concat()).succeeded();
    assert!(!said.stderr.contains(warning), "{}", said.stderr);
    let prompt = texts(&table(&world.path("dated/generations.parquet")), "prompt").remove(0);
    assert!(prompt.starts_with("2024-12-31[user] "), "{prompt}");
    let check = ["scenario", "check", "scenario.ron", "--no-trial", "--set", "data.template=Chat"];
    let said = world.fedreplay(&check).succeeded();
    assert!(said.stderr.contains(warning) && said.stderr.contains("data.template_date"), "{}", said.stderr);
    let said = world.fedreplay(&[&check[..], &["--set", "data.template_date=2024-12-31"]].concat()).succeeded();
    assert!(!said.stderr.contains(warning), "{}", said.stderr);
}

#[test]
fn a_model_with_attention_dropout_is_evaluated_and_not_trained() {
    let world = with_questions();
    let bench = ["--bench", "vicuna", "--limit", "1", "--store", "none"];
    eval(&world, &[&bench[..], &["--out", "without"]].concat()).succeeded();
    world.edit("base/config.json", "\"attention_bias\": false", "\"attention_dropout\": 0.1");
    eval(&world, &[&bench[..], &["--out", "with"]].concat()).succeeded();
    let answer = |out: &str| texts(&table(&world.path(out).join("generations.parquet")), "answer");
    assert_eq!(answer("with"), answer("without"));
    let said = world.run("run", &[]);
    said.refused(2, &["config.json: attention_dropout is 0.1, and training supports only 0; set it to 0.0"]);
}

#[test]
fn a_dry_run_says_what_would_be_asked_and_writes_nothing() {
    let world = with_questions();
    let judge = ["--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "judge", "--judge-prices", "30,60"];
    let said = eval(&world, &[&["--bench", "vicuna,mmlu", "--dry-run", "--out", "found"], &judge[..]].concat());
    let said = said.succeeded();
    for part in ["vicuna", "3 questions", "0 judgements are stored, 3 to ask for: at most", "mmlu"] {
        assert!(said.stdout.contains(part), "`{part}` is not in:\n{}", said.stdout);
    }
    assert!(!world.path("found").exists());
}

#[test]
fn all_takes_what_has_files_and_says_what_is_left_out() {
    let world = with_questions();
    let all = ["--bench", "all", "--limit", "1", "--answer-tokens-max", "4"];
    let said = eval(&world, &[&all[..], &["--out", "found"]].concat()).succeeded();
    for (name, reason) in [
        ("mt-bench", "mt-bench/question.jsonl"),
        ("ref-gpt4-aya", "ref-gpt4/aya.json"),
        ("advbench", "advbench.csv"),
        ("humaneval", "--allow-code-execution"),
    ] {
        let line = said.stderr.lines().find(|line| line.contains(&format!("{name} is left out")));
        assert!(line.is_some_and(|line| line.contains(reason)), "{name}: {}", said.stderr);
    }
    let table = fs::read_to_string(world.path("found/table.txt")).unwrap();
    assert!(table.starts_with("model  Vicuna  MMLU other "), "{table}");
    for remark in [
        "base, Vicuna: 1 of 1 answers not judged; 1 of 3 questions asked, spread evenly\n",
        "base, MMLU: 1 of 3 questions asked, spread evenly; 1 of 57 subjects have files\n",
    ] {
        assert!(table.contains(remark), "{table}");
    }
    let csv = fs::read_to_string(world.path("found/table.csv")).unwrap();
    assert!(csv.starts_with("model,column,measured,published,remark\nbase,Vicuna,,,"), "{csv}");

    // What is named must be there, and what is there must be whole.
    eval(&world, &["--bench", "all,advbench"]).refused(2, &["advbench.csv", "docs/evaluation.md"]);
    world.write("questions/vicuna/question.jsonl", "{\"question_id\": 1}");
    eval(&world, &all).refused(2, &["question.jsonl", "line 1"]);
    fs::create_dir(world.path("nothing")).unwrap();
    for (data, reason) in [("nothing", "holds no benchmark's files"), ("nowhere", "which is no folder")] {
        world.fedreplay(&["eval", "base", "--bench", "all", "--data", data]).refused(2, &[reason]);
    }
}

#[test]
fn a_program_is_run_once_whatever_is_examined_again() {
    let world = with_questions();
    fs::create_dir_all(world.path("questions/humaneval")).unwrap();
    // What comes of it is another thing each time; whatever the model writes is a comment.
    let test = "def check(f):\n    import os\n    raise Exception(os.urandom(8).hex())\n";
    let problem = |id: u32| {
        serde_json::json!({ "task_id": format!("T/{id}"), "prompt": "def f():\n    pass\n# ", "entry_point": "f",
            "canonical_solution": "", "test": format!("# {id}\n{test}") })
    };
    let problems = format!("{}\n{}\n", problem(0), problem(1));
    world.write("questions/humaneval/HumanEval.jsonl.gz", &problems);
    let bench = ["--bench", "humaneval", "--allow-code-execution", "--answer-tokens-max", "1"];
    let outcomes = |out: &str, store: &str| {
        let said = eval(&world, &[&bench[..], &["--out", out, "--store", store]].concat());
        if said.code == Some(2) {
            said.refused(2, &["failed to confine generated code"]);
            return None;
        }
        let said = said.succeeded();
        assert!(said.stdout.contains("base, HumanEval: the problems were continued as text\n"), "{}", said.stdout);
        Some(texts(&table(&world.path(out).join("generations.parquet")), "judgement"))
    };
    let Some(first) = outcomes("first", "store") else {
        return not_possible("HumanEval through the binary", "this host does not confine code");
    };
    assert!(
        first.iter().all(|outcome| outcome.starts_with("failed: Exception: ")) && first[0] != first[1],
        "{first:?}"
    );
    assert_eq!(outcomes("again", "store").as_ref(), Some(&first));
    assert_ne!(outcomes("afresh", "none").as_ref(), Some(&first));
    eval(&world, &["--bench", "humaneval"]).refused(2, &["--allow-code-execution"]);
}

#[test]
fn a_model_with_a_chat_template_is_asked_for_its_programs() {
    let world = with_questions();
    fs::create_dir_all(world.path("questions/humaneval")).unwrap();
    let problem = serde_json::json!({ "task_id": "T/0", "prompt": "def f():\n", "entry_point": "f",
        "canonical_solution": "    pass\n", "test": "def check(f):\n    f()\n" });
    world.write("questions/humaneval/HumanEval.jsonl.gz", &format!("{problem}\n"));
    world.write(
        "base/chat_template.jinja",
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] ",
    );
    let asked = "[user] Complete this Python function. Give the whole function in one block of code.\n\ndef f():\n\n[assistant] ";
    let ways = [("chat", asked, "asked through the chat template"), ("alpaca", "def f():\n", "continued as text")];
    for (template, prompt, way) in ways {
        let bench = ["--bench", "humaneval", "--allow-code-execution", "--answer-tokens-max", "4"];
        let said = eval(&world, &[&bench[..], &["--template", template, "--out", template]].concat());
        if said.code == Some(2) {
            said.refused(2, &["failed to confine generated code"]);
            return not_possible("HumanEval by a chat template", "this host does not confine code");
        }
        let remark = format!("base, HumanEval: the problems were {way}\n");
        assert!(said.succeeded().stdout.contains(&remark), "{template}");
        assert_eq!(texts(&table(&world.path(template).join("generations.parquet")), "prompt"), [prompt]);
    }
}

#[test]
fn bad_questions_and_names_are_refused_with_their_place() {
    let world = with_questions();
    eval(&world, &["--bench", "vicunna"]).refused(2, &["`vicunna`", "did you mean `vicuna`?"]);
    world.fedreplay(&["eval", "base", "--bench", "mmlu"]).refused(2, &["--data"]);
    world.fedreplay(&["eval", "base"]).refused(2, &["no run", "--bench"]);
    world.write("questions/vicuna/question.jsonl", "{\"question_id\": 1, \"category\": \"generic\"}\n");
    eval(&world, &["--bench", "vicuna"]).refused(2, &["question.jsonl", "line 1", "`turns`"]);
    world.write("questions/mmlu/test/anatomy_test.csv", "How many?,1,2,3,4,B\nWhich?,1,2,3\n");
    eval(&world, &["--bench", "mmlu"]).refused(2, &["anatomy_test.csv, line 2", "`choice D`"]);
}
