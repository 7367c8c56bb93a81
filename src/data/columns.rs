//! Public instruction and preference datasets in their own columns, put into FedLLM-Bench's form row by row.
//!
//! The rules are OpenFedLLM's (section 1.5 of the description of FedLLM-Bench).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Which columns hold a row's texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// As in FedLLM-Bench's own files.
    #[default]
    FedLlmBench,
    /// Single turns from these columns; a non-empty input follows the instruction after a space.
    SingleTurn { instruction: String, input: Option<String>, response: String, drops_repeated: bool },
    /// hh-rlhf: two transcripts that share all but the last answer.
    HhRlhf,
    /// ultrafeedback_binarized: a prompt, and two lists of messages whose second is the answer.
    Ultrafeedback,
}

/// Single-turn datasets by name: instruction, input, response, and whether repeated instructions are dropped.
const NAMED: &[(&str, &str, Option<&str>, &str, bool)] = &[
    // CodeAlpaca-20k, alpaca-cleaned, alpaca, alpaca-gpt4, finance-alpaca, fingpt-sentiment-train.
    ("alpaca", "instruction", Some("input"), "output", false),
    // WizardLM_evol_instruct_70k.
    ("wizardlm", "instruction", None, "output", false),
    ("math-instruct", "instruction", None, "output", true),
    // lighteval/MATH.
    ("math", "problem", None, "solution", false),
    ("gsm8k", "question", None, "answer", false),
    // Their `instruction` is one sentence for all rows, and is dropped.
    ("medical-flashcards", "input", None, "output", false),
];

impl Columns {
    /// The columns of a dataset by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "hh-rlhf" => return Some(Self::HhRlhf),
            "ultrafeedback" => return Some(Self::Ultrafeedback),
            _ => {}
        }
        let &(_, instruction, input, response, drops_repeated) = NAMED.iter().find(|(known, ..)| *known == name)?;
        let (instruction, input) = (instruction.to_owned(), input.map(str::to_owned));
        Some(Self::SingleTurn { instruction, input, response: response.to_owned(), drops_repeated })
    }

    /// The names that [`Self::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name).chain(["hh-rlhf", "ultrafeedback"])
    }
}

/// Puts rows into FedLLM-Bench's form, in the order of the file.
pub(super) struct Shaping {
    columns: Columns,
    seen: BTreeSet<[u8; 32]>,
}

impl Shaping {
    pub fn new(columns: Columns) -> Self {
        Self { columns, seen: BTreeSet::new() }
    }

    /// The row in the form that readers know; none if it repeats one that was seen and repeated ones are dropped. What
    /// lacks its columns stays as it is, so that the reader says what is missing.
    pub fn shape(&mut self, row: Value) -> Option<Value> {
        let Value::Object(mut fields) = row else { return Some(row) };
        match &self.columns {
            Columns::FedLlmBench => {}
            Columns::SingleTurn { instruction, input, response, drops_repeated } => {
                let asked = single_turn(&mut fields, instruction, input.as_deref(), response);
                if let Some(asked) = asked.filter(|_| *drops_repeated)
                    && !self.seen.insert(*blake3::hash(asked.as_bytes()).as_bytes())
                {
                    return None;
                }
            }
            Columns::HhRlhf => transcripts(&mut fields),
            Columns::Ultrafeedback => messages(&mut fields),
        }
        Some(Value::Object(fields))
    }
}

/// Renames the columns; gives the instruction.
fn single_turn(
    fields: &mut Map<String, Value>,
    instruction: &str,
    input: Option<&str>,
    response: &str,
) -> Option<String> {
    let asked = fields.remove(instruction);
    let more = input.and_then(|input| fields.remove(input));
    // A column of the form's own name that is not the one asked for would be taken for it.
    fields.remove("instruction");
    if let Some(answer) = fields.remove(response) {
        fields.insert("response".into(), answer);
    }
    let asked = match (asked?, more) {
        (Value::String(asked), Some(Value::String(more))) if !more.is_empty() => {
            Value::String(format!("{asked} {more}"))
        }
        (asked, _) => asked,
    };
    fields.insert("instruction".into(), asked.clone());
    asked.as_str().map(str::to_owned)
}

/// The prompt is what the two transcripts share, up to the last turn of the assistant.
fn transcripts(fields: &mut Map<String, Value>) {
    const TURN: &str = "\n\nAssistant:";
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(chosen), Some(rejected)) = (text("chosen"), text("rejected")) else { return };
    let shared = chosen.char_indices().zip(rejected.chars()).take_while(|((_, a), b)| a == b).last();
    let shared = shared.map_or(0, |((at, last), _)| at + last.len_utf8());
    let Some(turn) = chosen[..shared].rfind(TURN) else { return };
    let end = turn + TURN.len();
    fields.insert("prompt".into(), chosen[..end].into());
    fields.insert("chosen".into(), chosen[end..].into());
    fields.insert("rejected".into(), rejected[end..].into());
}

/// The answer is the second message of each list.
fn messages(fields: &mut Map<String, Value>) {
    for name in ["chosen", "rejected"] {
        let answer = fields.get(name).and_then(|list| list.get(1)?.get("content")).cloned();
        if let Some(Value::String(answer)) = answer {
            fields.insert(name.into(), Value::String(format!(" {answer}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shaped(name: &str, rows: Value) -> Vec<Value> {
        let mut shaping = Shaping::new(Columns::named(name).unwrap());
        rows.as_array().unwrap().iter().filter_map(|row| shaping.shape(row.clone())).collect()
    }

    #[test]
    fn columns_become_those_of_fedllm_bench() {
        assert_eq!(
            shaped(
                "alpaca",
                json!([
                    {"instruction": "Add.", "input": "1 2", "output": "3", "topic": "sum"},
                    {"instruction": "Go.", "input": "", "output": "Gone."}
                ])
            ),
            [
                json!({"instruction": "Add. 1 2", "response": "3", "topic": "sum"}),
                json!({"instruction": "Go.", "response": "Gone."})
            ]
        );
        assert_eq!(
            shaped("gsm8k", json!([{"question": "q", "answer": "a"}])),
            [json!({"instruction": "q", "response": "a"})]
        );
        assert_eq!(
            shaped("medical-flashcards", json!([{"instruction": "Answer truthfully", "input": "q", "output": "a"}])),
            [json!({"instruction": "q", "response": "a"})]
        );
        let repeated = json!([{"instruction": "q", "output": "a"}, {"instruction": "q", "output": "b"}]);
        assert_eq!(shaped("math-instruct", repeated.clone()), [json!({"instruction": "q", "response": "a"})]);
        assert_eq!(shaped("wizardlm", repeated).len(), 2);
    }

    #[test]
    fn preferences_are_cut_where_they_part() {
        let (chosen, rejected) = ("\n\nHuman: Hi\n\nAssistant: Hello.", "\n\nHuman: Hi\n\nAssistant: Hey é.");
        assert_eq!(
            shaped("hh-rlhf", json!([{"chosen": chosen, "rejected": rejected}])),
            [json!({"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Hello.", "rejected": " Hey é."})]
        );
        let list = |answer| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        assert_eq!(
            shaped("ultrafeedback", json!([{"prompt": "q", "chosen": list("good"), "rejected": list("bad")}])),
            [json!({"prompt": "q", "chosen": " good", "rejected": " bad"})]
        );
    }

    #[test]
    fn what_lacks_its_columns_is_left_to_the_reader() {
        assert_eq!(shaped("gsm8k", json!([{"question": "q"}, 7])), [json!({"instruction": "q"}), json!(7)]);
        assert!(Columns::names().all(|name| Columns::named(name).is_some()));
    }
}
