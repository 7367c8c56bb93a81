//! Public instruction and preference datasets with their own columns, converted to FedLLM-Bench's form row by row.
//!
//! The rules are OpenFedLLM's (section 1.5 of the description of FedLLM-Bench).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The columns that hold a row's texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// The keys of FedLLM-Bench's own files.
    #[default]
    FedLlmBench,
    /// Single turns from these columns; a non-empty input is appended to the instruction after a space.
    SingleTurn { instruction: String, input: Option<String>, response: String, drops_repeated: bool },
    /// hh-rlhf: two transcripts that share all but the last answer.
    HhRlhf,
    /// ultrafeedback_binarized: a prompt, and two lists of messages whose second message is the answer.
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
    // Its `instruction` is the same sentence in all rows and is dropped.
    ("medical-flashcards", "input", None, "output", false),
];

impl Columns {
    /// Returns the columns of the dataset with this name, if it is known.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "hh-rlhf" => return Some(Self::HhRlhf),
            "ultrafeedback" => return Some(Self::Ultrafeedback),
            _ => {}
        }
        let &(_, instruction, input, response, drops_repeated) = NAMED.iter().find(|(known, ..)| *known == name)?;
        Some(Self::SingleTurn {
            instruction: instruction.to_owned(),
            input: input.map(str::to_owned),
            response: response.to_owned(),
            drops_repeated,
        })
    }

    /// Returns the names that [`Self::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name).chain(["hh-rlhf", "ultrafeedback"])
    }
}

/// Converter of rows to FedLLM-Bench's form, in the order of the file.
pub(super) struct Shaping {
    columns: Columns,
    /// BLAKE3 of the instructions seen so far, where repeated ones are dropped.
    seen: BTreeSet<[u8; 32]>,
}

impl Shaping {
    pub fn new(columns: Columns) -> Self {
        Self { columns, seen: BTreeSet::new() }
    }

    /// Converts a row. Returns `None` for a repeated instruction where those are dropped.
    ///
    /// Missing columns are not an error here: the row keeps its keys, and the reader reports what is missing.
    pub fn shape(&mut self, row: Value) -> Option<Value> {
        let Value::Object(mut fields) = row else { return Some(row) };
        match &self.columns {
            Columns::FedLlmBench => {}
            Columns::SingleTurn { instruction, input, response, drops_repeated } => {
                let asked = single_turn(&mut fields, instruction, input.as_deref(), response);
                if *drops_repeated && let Some(asked) = asked {
                    let is_new = self.seen.insert(*blake3::hash(asked.as_bytes()).as_bytes());
                    if !is_new {
                        return None;
                    }
                }
            }
            Columns::HhRlhf => transcripts(&mut fields),
            Columns::Ultrafeedback => messages(&mut fields),
        }
        Some(Value::Object(fields))
    }
}

/// Renames the columns in place and returns the instruction.
fn single_turn(
    fields: &mut Map<String, Value>,
    instruction: &str,
    input: Option<&str>,
    response: &str,
) -> Option<String> {
    let asked = fields.remove(instruction);
    let more = input.and_then(|input| fields.remove(input));
    // Another column that happens to be called `instruction` would otherwise be read as the instruction.
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

/// Splits two transcripts in place into prompt and answers. The prompt is their common beginning, up to and including
/// the last `Assistant:` in it.
fn transcripts(fields: &mut Map<String, Value>) {
    const TURN: &str = "\n\nAssistant:";
    let (Some(chosen), Some(rejected)) = (text_of(fields, "chosen"), text_of(fields, "rejected")) else { return };
    let shared = common_prefix_bytes(&chosen, &rejected);
    // The answers may begin alike, so the prompt ends at the last turn, not where the texts differ.
    let Some(turn) = chosen[..shared].rfind(TURN) else { return };
    let end = turn + TURN.len();
    fields.insert("prompt".into(), chosen[..end].into());
    fields.insert("chosen".into(), chosen[end..].into());
    fields.insert("rejected".into(), rejected[end..].into());
}

fn text_of(fields: &Map<String, Value>, name: &str) -> Option<String> {
    fields.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// Returns the length of the longest common prefix of two texts, in bytes. It ends between two characters.
fn common_prefix_bytes(a: &str, b: &str) -> usize {
    let mut bytes = 0;
    for (in_a, in_b) in a.chars().zip(b.chars()) {
        if in_a != in_b {
            break;
        }
        bytes += in_a.len_utf8();
    }
    bytes
}

/// Replaces each list of messages by its second message, which is the answer.
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
