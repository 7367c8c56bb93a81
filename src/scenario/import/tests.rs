//! Scripts against the scenarios that they become, and against what bash itself passes to a trainer.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::scenario::{
    Algorithm, Batches, ColumnsSpec, ObjectiveSpec, PartitionSpec, Privacy, Protocol, ReferenceSpec, Scenario,
    Selection,
};

/// In the manner of the published scripts; the names and numbers are those of section 4 of the description.
const SCRIPT: &str = r#"
max_steps=10
num_rounds=200
batch_size=4
gradient_accumulation_steps=4
seq_length=1024
num_clients=38
sample_clients=4
lr=2e-5 # the first round's

dataset_name="FedAya"
fed_alg=${1:-fedavg}
gpu=2
CUDA_VISIBLE_DEVICES=$gpu python main_sft.py \
 --model_name_or_path $model_name_or_path --dataset_name $dataset_name \
 --local_data_dir "data/Fed-Aya/aya_38c_25k.json" --dataset_sample 25k \
 --fed_alg ${fed_alg} --num_clients $num_clients --sample_clients $sample_clients \
 --learning_rate $lr --max_steps $max_steps --num_rounds $num_rounds --batch_size $batch_size \
 --gradient_accumulation_steps $gradient_accumulation_steps --seq_length $seq_length \
 --use_peft --peft_lora_r 16 --peft_lora_alpha 32 --load_in_8bit --template "alpaca" --checkpoint_step 50 \
 --gradient_checkpointing --surprise 3
"#;

fn import(text: &str) -> Result<Imported, ImportError> {
    import_script("x", text, None, Path::new("/nowhere"))
}

fn refusal(text: &str) -> String {
    import(text).unwrap_err().to_string()
}

fn read(imported: &Imported) -> crate::scenario::ScenarioSpec {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("imported.ron");
    std::fs::write(&file, &imported.scenario).unwrap();
    Scenario::read(&file, &[]).unwrap_or_else(|error| panic!("{error}\n{}", imported.scenario)).scenario
}

#[test]
fn a_federated_script_becomes_a_scenario_with_its_numbers() {
    let imported = import(SCRIPT).unwrap();
    let scenario = read(&imported);
    assert_eq!((scenario.rounds, scenario.training.local_steps, scenario.training.batch_size), (200, 10, 4));
    assert_eq!((scenario.model.lora.rank, scenario.model.lora.alpha), (16, 32.0));
    assert_eq!((scenario.training.lr, scenario.data.max_seq_length), (2e-5, 1024));
    assert!(matches!(scenario.server.protocol, Protocol::Synchronous { clients_per_round: 4, .. }));
    assert_eq!(scenario.server.selection.get(), Selection::PythonSample);
    assert_eq!(scenario.training.batches.get(), Batches::RoundSeeded);
    assert!(matches!(scenario.algorithm, Algorithm::FedAvg { .. }));
    assert_eq!(scenario.output.save_adapter_every, Some(50));
    let left = imported.left_out.join("\n");
    for part in ["--surprise", "model_name_or_path", "--dataset_sample"] {
        assert!(left.contains(part), "`{part}` is not in:\n{left}");
    }
}

#[test]
fn public_rows_are_dealt_as_the_script_of_openfedllm_says() {
    let script = SCRIPT
        .replace("\"FedAya\"", "\"vicgalle/alpaca-gpt4\"")
        .replace("--local_data_dir \"data/Fed-Aya/aya_38c_25k.json\" --dataset_sample 25k", "--dataset_sample 5000");
    let imported = import(&script).unwrap();
    let data = read(&imported).data;
    assert_eq!((data.columns, data.rows), (ColumnsSpec::Alpaca, Some(5000)));
    assert!(matches!(data.partition, PartitionSpec::Iid { clients: 38 }), "{:?}", data.partition);
    let left = imported.left_out.join("\n");
    assert!(left.contains("vicgalle/alpaca-gpt4") && !left.contains("dataset_sample"), "{left}");
    assert!(refusal(&script.replace("5000", "5k")).contains("--dataset_sample"));
    assert_eq!(read(&import(SCRIPT).unwrap()).data.partition, PartitionSpec::default());
}

#[test]
fn methods_and_tasks_are_carried_over_or_said_not_to_be() {
    let with = |from: &str, to: &str| import(&SCRIPT.replace(from, to));
    let local = with("${1:-fedavg}", "local0").unwrap();
    assert_eq!(read(&local).algorithm, Algorithm::Local);
    let momentum = read(&with("${1:-fedavg}", "fedavgm").unwrap()).algorithm;
    assert!(matches!(momentum, Algorithm::FedAvgM { beta, .. } if beta.get() == 0.5));
    let prox = read(&with("--surprise 3", "--prox_mu 0.25 --fed_alg fedprox").unwrap()).algorithm;
    assert!(matches!(prox, Algorithm::FedProx { mu: 0.25, .. }));
    let multi = read(&with("--surprise 3", "--multi_turn_task").unwrap());
    assert_eq!(multi.training.batches.get(), Batches::SamePrefix);
    let dynamic = read(&with("--surprise 3", "--dynamic_local_step").unwrap());
    assert_eq!(dynamic.training.dynamic_steps.map(|steps| steps.epochs), Some(3.0));
    let noisy = read(&with("--surprise 3", "--fed_alg feddp --dp_epsilon 0.1 --dp_sigma 1e-3").unwrap()).privacy;
    let Some(Privacy::FedLlmBenchDp { claimed_epsilon, claimed_delta, sigma, .. }) = noisy else { panic!("{noisy:?}") };
    assert_eq!((claimed_epsilon, claimed_delta, sigma), (0.1, 1e-4, Some(1e-3)));
    let pairs = read(&with("main_sft.py", "main_dpo.py").unwrap());
    assert_eq!(
        (pairs.training.objective, pairs.model.lora.dropout.get()),
        (ObjectiveSpec::Dpo { beta: 0.1, reference: ReferenceSpec::Start }, 0.0)
    );
    assert!(with("${1:-fedavg}", "fedfoo").unwrap_err().to_string().contains("fedfoo"));
    assert!(with("max_steps=10", "max_steps=ten").unwrap_err().to_string().contains("--max_steps"));
    assert!(refusal("echo nothing").contains("main_sft.py"));
}

/// Words that bash passes to a trainer, call by call: a program that prints its arguments stands in for Python.
fn calls_of_bash(script: &str) -> Vec<Vec<String>> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    // A byte that no script has ends each word and each call.
    std::fs::write(&python, "#!/bin/bash\nprintf '%s\\x01' \"$@\"\nprintf '\\x02'\n").unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(folder.path().join("script.sh"), script).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let mut bash = Command::new("bash");
    let said = bash.arg("script.sh").current_dir(folder.path()).env_clear().env("PATH", path).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let is_call = |words: &Vec<String>| words.iter().any(|word| word.ends_with("main_sft.py"));
    let calls = said.split('\x02').map(|call| call.split_terminator('\x01').map(str::to_owned).collect());
    calls.filter(is_call).collect()
}

/// Words after the trainer's name, call by call, as the import reads them.
fn calls_of_ours(script: &str) -> Vec<Vec<String>> {
    let calls = shell::calls(script).unwrap_or_else(|error| panic!("{error}\n{script}")).calls;
    let words = |call: &shell::Call| {
        call.arguments.iter().filter(|field| !field.is_absent).map(|field| field.text.clone()).collect()
    };
    calls.iter().map(words).collect()
}

/// Compares both readings; `count` calls are made.
fn check_words(count: usize, script: &str) {
    let bash = calls_of_bash(script);
    let after_name = |words: &Vec<String>| {
        let at = words.iter().position(|word| word.ends_with("main_sft.py")).expect("only calls are kept");
        words[at + 1..].to_vec()
    };
    let bash: Vec<Vec<String>> = bash.iter().map(after_name).collect();
    assert_eq!(bash.len(), count, "bash makes another number of calls of\n{script}");
    assert_eq!(calls_of_ours(script), bash, "{script}");
}

#[test]
fn variables_and_quotes_mean_what_they_mean_in_bash() {
    check_words(1, "lr=5e-5\npython main_sft.py --learning_rate $lr --x \"a $lr\" --y 'a $lr' --z a\\ b");
    check_words(1, "lr=\"5e-5\"; rounds=50\npython main_sft.py --lr \"$lr\" --num_rounds $rounds");
    check_words(1, "export ROUNDS=50 X\ndeclare -r Y=7\npython main_sft.py --num_rounds ${ROUNDS} $Y");
    check_words(1, "O=\"--fed_alg fedavgm --max_steps 33\"\npython main_sft.py $O --num_rounds 20 \"$O\"");
    check_words(1, "rounds=20\nrounds+=0\nx=1; x=${x}2$x\npython main_sft.py --num_rounds $rounds $x");
    check_words(1, "python main_sft.py --a \"${ALG:-scaffold}\" ${1:-two words} ${2-25} \"${none}\" $none ${x:+y} end");
    check_words(1, ": ${lr:=3e-4}\nlr=${lr/3/4}\npython main_sft.py $lr ${#lr} ${lr%-4} ${lr#*e} \"${lr}x\"");
    check_words(1, "f=data/a.b/c.json\npython main_sft.py ${f##*/} ${f%%.*} ${f%/*} ${f//a/_} ${f^^}");
    check_words(1, "x='  a  b '\npython main_sft.py p$x\"q\" $x \"$x\" ''");
    check_words(1, "python main_sft.py a\\\n b --c\\\n=3 \\\n--d 4 # a comment\n");
    check_words(1, "python main_sft.py \"a\\nb \\$x \\\"q\\\"\" $'plain' a'b'\"c\"d");
}

#[test]
fn arrays_and_arithmetic_mean_what_they_mean_in_bash() {
    check_words(1, "A=(--num_rounds 50 --fed_alg fedprox)\npython main_sft.py \"${A[@]}\" --x 1");
    check_words(
        1,
        "A=(\n  --a 'b c'  # why\n  --d\n)\nA+=(--e \"f g\")\npython main_sft.py \"${A[@]}\" ${A[@]} \"${A[*]}\" ${#A[@]}",
    );
    check_words(1, "A=()\npython main_sft.py \"${A[@]}\" x \"${A[*]}\" ${A[@]} pre\"${A[@]}\"post");
    check_words(1, "A=(x y z)\nA[3]=w\nA[0]+=1\npython main_sft.py ${A[1]} ${A[-1]} $A pre\"${A[@]}\"post");
    check_words(1, "n=3\nlr=$((1+1))e-5\npython main_sft.py $lr $((n*4%5)) $(( n > 2 ? 10 : 20 )) $((2**n))");
    check_words(1, "((n=3, n+=4))\nn=$((n+1))\npython main_sft.py $n $((n++)) $n");
    check_words(1, "python main_sft.py {1..3} a{b,c}d {x} '{1,2}' --k={1,2}");
}

#[test]
fn loops_conditions_and_functions_mean_what_they_mean_in_bash() {
    check_words(2, "for lr in 1e-5 5e-5; do\n  python main_sft.py --learning_rate $lr\ndone");
    check_words(4, "for a in fedavg fedprox; do for s in {1..2}; do python main_sft.py $a $s; done; done");
    check_words(3, "for ((i=0;i<3;i++)); do python main_sft.py --seed $i; done");
    check_words(
        2,
        "i=0\nwhile [ $i -lt 5 ]; do i=$((i+1)); [ $i = 2 ] && continue; (( i == 4 )) && break; python main_sft.py $i; done",
    );
    check_words(
        1,
        "if [ \"$1\" = x ]; then lr=1e-3; elif [[ -z $2 ]]; then lr=7; else lr=5e-5; fi\npython main_sft.py $lr",
    );
    check_words(1, "a=fedavg\ncase $a in fedprox) m=1;; fed*|x) m=2;; *) m=3;; esac\npython main_sft.py $m");
    check_words(2, "run() { local lr=$1; shift; python main_sft.py --lr $lr \"$@\" $#; }\nrun 1 a 'b c'\nrun 2");
    check_words(1, "x=1\n(x=2; python main_sft.py $x) | tee log\n");
    check_words(1, "x=1\n(x=2)\nx=3 true\npython main_sft.py $x 2>&1 &\nwait");
    check_words(1, "set -- a b\nshift\nunset y\npython main_sft.py $1 $# \"${y-none}\" && echo done || exit 1");
    check_words(1, "cat <<EOF\npython main_sft.py --num_rounds 3\nEOF\npython main_sft.py --num_rounds 7");
    check_words(
        1,
        "[[ fedavg == fed* ]] && [[ ! ( a = b ) ]] && x=yes\ntrue && false || y=no\npython main_sft.py $x $y",
    );
    check_words(1, "python main_sft.py 1; exit; python main_sft.py 2");
    check_words(1, "echo python main_sft.py --not 1\nCUDA_VISIBLE_DEVICES=$gpu python -u dir/main_sft.py --x 1");
    check_words(1, "if [ ! -d out ]; then mkdir -p out; fi\npython main_sft.py --x 1");
}

/// A script whose meaning the import does not know is refused with the line.
#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    let call = "\npython main_sft.py --use_peft --num_rounds 3";
    for (line, script) in [
        (1, format!("source common.sh{call}")),
        (2, format!("x=1\neval \"x=2\"{call}")),
        (1, format!("read x{call}")),
        (2, "x=1\npython main_sft.py --use_peft --local_data_dir data/*.json".into()),
        (1, "bash -c 'python main_sft.py --use_peft'".into()),
        (1, "xargs python main_sft.py --use_peft".into()),
        (2, format!("lr=1\nif [ -d models ]; then lr=2; fi{call}")),
        (1, format!("for f in $(ls); do x=$f; done{call}")),
        (1, format!("x=${{!y}}{call}")),
        (1, format!("declare -A m{call}")),
        (1, format!("while true; do x=1; done{call}")),
        (2, "x=1\nx=$((1/0)); python main_sft.py --use_peft".into()),
    ] {
        let said = refusal(&script);
        assert!(said.starts_with(&format!("line {line}: ")), "{said}\n{script}");
    }
    assert!(refusal("for (").contains("not a shell script"));
}

#[test]
fn several_calls_are_told_apart() {
    let script = "for n in 1 2; do python main_sft.py --use_peft --num_rounds $n; done\npython main_dpo.py --use_peft";
    assert_eq!(import(script), Err(ImportError::ManyCalls(vec![1, 1, 2])));
    let second = import_script("x", script, Some(2), Path::new(".")).unwrap();
    assert!(second.scenario.contains("rounds: 2,"));
    let error = import_script("x", script, Some(4), Path::new("."));
    assert_eq!(error, Err(ImportError::NoSuchCall { chosen: 4, made: 3 }));
    assert!(import("for gpu in 0 1; do python main_sft.py --use_peft; done").is_ok());
}

/// As `transformers.HfArgumentParser` reads each, checked with Transformers 5.23.
#[test]
fn flags_are_read_as_by_their_argument_parser() {
    let with = |flags: &str| read(&import(&format!("python main_sft.py --use_peft {flags}")).unwrap());
    assert_eq!(with("--learning_rate=5e-5").training.lr, 5e-5);
    assert_eq!(with("--learning-rate 5e-5").training.lr, 5e-5);
    assert_eq!(with("--learning_r 5e-5").training.lr, 5e-5);
    assert_eq!(with("--learning_rate .001 --learning_rate 1.").training.lr, 1.0);
    assert_eq!(with("--num_rounds 1_000").rounds, 1000);
    for off in ["False", "false", "no", "0", "f", "N"] {
        assert_eq!(with(&format!("--load_in_8bit {off}")).model.precision, with("").model.precision, "{off}");
    }
    for on in ["", "True", "yes", "1", "T", "y"] {
        let scenario = with(&format!("--load_in_8bit {on}"));
        assert_eq!(scenario.model.precision, crate::scenario::PrecisionSpec::LlmInt8, "{on}");
    }
    assert_eq!(with("--load_in_8bit $nothing").model.precision, crate::scenario::PrecisionSpec::LlmInt8);
    for wrong in [
        "--num_rounds 1e3",
        "--num_rounds 7x",
        "--num_rounds 1__0",
        "--num_rounds",
        "--load_in_8bit maybe",
        "--learning_rate nan",
        "--learning_rate five",
        "\\ ",
        "--num_rounds 3 4",
        "-n 3",
        "--dp 1",
        "--load_in_8bit --load_in_4bit",
    ] {
        let said = refusal(&format!("python main_sft.py --use_peft {wrong}"));
        assert!(said.starts_with("line 1: "), "{wrong}: {said}");
    }
    let said = refusal("\npython main_sft.py --use_peft --learning_rate $lr --max_steps 3");
    assert_eq!(said, "line 2: --learning_rate: the script does not set $lr");
    let said = refusal("python main_sft.py --use_peft --learning_rate `cat lr` --max_steps 3");
    assert_eq!(said, "line 1: --learning_rate: `cat lr` is known only when the script runs");
}

#[test]
fn a_script_of_full_fine_tuning_is_refused() {
    for flags in ["", "--use_peft False", "--use_peft=no"] {
        let said = refusal(&format!("python main_sft.py {flags} --num_rounds 7"));
        assert!(said.contains("--use_peft") && said.contains("all weights"), "{said}");
    }
}

#[test]
fn a_name_of_the_hub_becomes_a_model_of_the_hub() {
    let with = |name: &str| import(&format!("python main_sft.py --use_peft --model_name_or_path {name}")).unwrap();
    assert!(with("meta-llama/Llama-2-7b-hf").scenario.contains(r#"hub: ("meta-llama/Llama-2-7b-hf", "main")"#));
    for folder in ["models/L", "./a/b", "/a/b", "a/b/c", "../b", "Llama-2-7b-hf"] {
        assert!(with(folder).scenario.contains(&format!(r#"folder: "{folder}""#)), "{folder}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
    let script = "python main_sft.py --use_peft --model_name_or_path a/b";
    let imported = import_script("x", script, None, folder.path()).unwrap();
    assert!(imported.scenario.contains(r#"folder: "a/b""#));
}

#[test]
fn a_path_that_the_script_does_not_give_is_replaced_and_said() {
    let imported = import("python main_sft.py --use_peft --local_data_dir `pwd`/f.json").unwrap();
    assert!(imported.scenario.contains(r#"file: "data.json""#));
    assert!(imported.left_out.iter().any(|line| line.starts_with("--local_data_dir: ")), "{:?}", imported.left_out);
}

/// OpenFedLLM's `config.py` has 0.9, FedLLM-Bench's 0.5.
#[test]
fn momentum_has_the_default_of_its_own_repository() {
    let with = |data: &str| {
        let script = format!("python main_sft.py --use_peft --fed_alg fedavgm --dataset_name {data}");
        read(&import(&script).unwrap()).algorithm
    };
    assert!(matches!(with("vicgalle/alpaca-gpt4"), Algorithm::FedAvgM { beta, .. } if beta.get() == 0.9));
    assert!(matches!(with("FedAya"), Algorithm::FedAvgM { beta, .. } if beta.get() == 0.5));
}

#[test]
fn doubling_and_endless_scripts_are_refused_soon() {
    let mut doubling = "x=aaaaaaaaaaaaaaaa\n".to_owned();
    for _ in 0..40 {
        doubling.push_str("x=$x$x\n");
    }
    assert!(refusal(&doubling).contains("bytes"));
    assert!(refusal("f() { f; }\nf").contains("open"));
    assert!(refusal("while :; do :; done").contains("commands"));
    assert!(refusal(&"(".repeat(5_000)).contains("shell script"));
    for nested in ["(", "$(", "((", "{ ", "${x:-", "if "] {
        assert!(refusal(&nested.repeat(12)).contains("shell script"), "{nested}");
    }
    for braces in ["{", "x{", "{a,", "${x{"] {
        let refused = refusal(&format!("echo {}", braces.repeat(1_000)));
        assert!(refused.contains("braces are open at once in a word"), "{refused}");
    }
}
