//! Import of the training scripts of OpenFedLLM and FedLLM-Bench as scenarios, with a list of settings that were
//! dropped.

mod scenario_text;
mod shell;

pub use scenario_text::Imported;

/// Converts the text of a training script into a scenario called `name`.
///
/// # Errors
/// A message if the script calls no trainer, or a flag has an invalid value.
pub fn import_script(name: &str, text: &str) -> Result<Imported, String> {
    scenario_text::scenario(name, &shell::Call::find(text)?)
}

#[cfg(test)]
mod tests {
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

    fn read(imported: &Imported) -> crate::scenario::ScenarioSpec {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("imported.ron");
        std::fs::write(&file, &imported.scenario).unwrap();
        Scenario::read(&file, &[]).unwrap_or_else(|error| panic!("{error}\n{}", imported.scenario)).scenario
    }

    #[test]
    fn a_federated_script_becomes_a_scenario_with_its_numbers() {
        let imported = import_script("aya", SCRIPT).unwrap();
        let scenario = read(&imported);
        assert_eq!((scenario.rounds, scenario.training.local_steps, scenario.training.batch_size), (200, 10, 4));
        assert_eq!((scenario.model.lora.rank, scenario.model.lora.alpha), (16, 32.0));
        assert_eq!((scenario.training.lr, scenario.data.max_seq_length), (2e-5, 1024));
        assert!(matches!(scenario.server.protocol, Protocol::Synchronous { clients_per_round: 4, .. }));
        assert_eq!(scenario.server.selection, Selection::PythonSample);
        assert_eq!(scenario.training.batches, Batches::RoundSeeded);
        assert!(matches!(scenario.algorithm, Algorithm::FedAvg { .. }));
        assert_eq!(scenario.output.save_adapter_every, Some(50));
        let left = imported.left_out.join("\n");
        for part in ["--surprise", "model_name_or_path", "--dataset_sample"] {
            assert!(left.contains(part), "`{part}` is not in:\n{left}");
        }
    }

    #[test]
    fn public_rows_are_dealt_as_the_script_of_openfedllm_says() {
        let script = SCRIPT.replace("\"FedAya\"", "\"vicgalle/alpaca-gpt4\"").replace(
            "--local_data_dir \"data/Fed-Aya/aya_38c_25k.json\" --dataset_sample 25k",
            "--dataset_sample 5000",
        );
        let imported = import_script("open", &script).unwrap();
        let data = read(&imported).data;
        assert_eq!((data.columns, data.rows), (ColumnsSpec::Alpaca, Some(5000)));
        assert!(matches!(data.partition, PartitionSpec::Iid { clients: 38 }), "{:?}", data.partition);
        let left = imported.left_out.join("\n");
        assert!(left.contains("vicgalle/alpaca-gpt4") && !left.contains("dataset_sample"), "{left}");
        assert!(import_script("open", &script.replace("5000", "5k")).unwrap_err().contains("--dataset_sample"));
        assert_eq!(read(&import_script("aya", SCRIPT).unwrap()).data.partition, PartitionSpec::default());
    }

    #[test]
    fn methods_and_tasks_are_carried_over_or_said_not_to_be() {
        let with = |from: &str, to: &str| import_script("x", &SCRIPT.replace(from, to));
        let local = with("${1:-fedavg}", "local0").unwrap();
        assert_eq!(read(&local).algorithm, Algorithm::Local);
        let momentum = read(&with("${1:-fedavg}", "fedavgm").unwrap()).algorithm;
        assert!(matches!(momentum, Algorithm::FedAvgM { beta: 0.5, .. }));
        let prox = read(&with("--surprise 3", "--prox_mu 0.25 --fed_alg fedprox").unwrap()).algorithm;
        assert!(matches!(prox, Algorithm::FedProx { mu: 0.25, .. }));
        let multi = read(&with("--surprise 3", "--multi_turn_task").unwrap());
        assert_eq!(multi.training.batches, Batches::SamePrefix);
        let dynamic = read(&with("--surprise 3", "--dynamic_local_step").unwrap());
        assert_eq!(dynamic.training.dynamic_steps.map(|steps| steps.epochs), Some(3.0));
        let noisy = read(&with("--surprise 3", "--fed_alg feddp --dp_epsilon 0.1 --dp_sigma 1e-3").unwrap()).privacy;
        let Some(Privacy::FedLlmBenchDp { claimed_epsilon, claimed_delta, sigma, .. }) = noisy else {
            panic!("{noisy:?}")
        };
        assert_eq!((claimed_epsilon, claimed_delta, sigma), (0.1, 1e-4, Some(1e-3)));
        let pairs = read(&with("main_sft.py", "main_dpo.py").unwrap());
        let objective = ObjectiveSpec::Dpo { beta: 0.1, reference: ReferenceSpec::Start };
        assert_eq!((pairs.training.objective, pairs.model.lora.dropout), (objective, 0.0));
        assert!(with("${1:-fedavg}", "fedfoo").unwrap_err().contains("fedfoo"));
        assert!(with("max_steps=10", "max_steps=ten").unwrap_err().contains("--max_steps"));
        assert!(import_script("x", "echo nothing").unwrap_err().contains("main_sft.py"));
    }
}
