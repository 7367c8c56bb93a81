//! Public instruction and preference datasets with their own columns, read as FedLLM-Bench's rows.
//!
//! The rules are OpenFedLLM's (section 1.5 of the description of FedLLM-Bench).

use std::collections::BTreeSet;

use super::content::{Content, Exchange};
use super::error::RowFault;
use super::fields::Fields;
use super::pair_columns::{common_prefix_bytes, second_message};
use super::row::Row;

/// The columns that hold a row's texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// The keys of FedLLM-Bench's own files.
    #[default]
    FedLlmBench,
    /// Single turns from these columns; a non-empty input is appended to the instruction after a space.
    SingleTurn {
        instruction: String,
        input: Option<String>,
        response: String,
        system: Option<String>,
        drops_repeated: bool,
    },
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
            system: None,
            drops_repeated,
        })
    }

    /// Returns the names that [`Self::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, ..)| *name).chain(["hh-rlhf", "ultrafeedback"])
    }
}

/// Reader of rows by the rule for their columns, in the order of the file.
pub(super) struct Shaping {
    columns: Columns,
    /// BLAKE3 of the instructions seen so far, where repeated ones are dropped.
    seen: BTreeSet<[u8; 32]>,
}

impl Shaping {
    pub fn new(columns: Columns) -> Self {
        Self { columns, seen: BTreeSet::new() }
    }

    /// Returns the column that holds the instruction, if it is named.
    pub fn instruction_column(&self) -> Option<&str> {
        match &self.columns {
            Columns::SingleTurn { instruction, .. } => Some(instruction),
            Columns::FedLlmBench | Columns::HhRlhf | Columns::Ultrafeedback => None,
        }
    }

    /// Returns whether the columns that hold texts are named.
    pub fn has_named_columns(&self) -> bool {
        self.columns != Columns::FedLlmBench
    }

    /// Reads a row. Returns `None` for a repeated instruction where those are dropped.
    ///
    /// Columns that are named are read whatever other columns there are.
    pub fn row(&mut self, mut fields: Fields) -> Result<Option<Row>, RowFault> {
        let row = match &self.columns {
            Columns::FedLlmBench => Row::of_fields(fields)?,
            Columns::SingleTurn { instruction, input, response, system, drops_repeated } => {
                let instruction = question(&mut fields, instruction, input.as_deref())?;
                if *drops_repeated && !self.seen.insert(*blake3::hash(instruction.as_bytes()).as_bytes()) {
                    return Ok(None);
                }
                // A test file may be in FedLLM-Bench's form while the clients' data are not.
                let is_renamed = !fields.has(response) && fields.has("response");
                let response = fields.answer(if is_renamed { "response" } else { response })?;
                let system = match system {
                    Some(column) => fields.optional_text(column)?.filter(|text| !text.is_empty()),
                    None => None,
                };
                Row::of_content(Content::SingleTurn { instruction, response }, fields).under(system)
            }
            Columns::HhRlhf => transcripts(fields)?,
            Columns::Ultrafeedback => {
                let prompt = fields.text("prompt")?;
                let chosen = second_message(&mut fields, "chosen")?;
                let rejected = second_message(&mut fields, "rejected")?;
                Row::of_content(Content::Preference { history: vec![], prompt, chosen, rejected }, fields)
            }
        };
        Ok(Some(row))
    }
}

/// Returns the instruction, with a non-empty input after it.
fn question(fields: &mut Fields, instruction: &str, input: Option<&str>) -> Result<String, RowFault> {
    let asked = fields.text(instruction)?;
    let more = match input {
        Some(input) => fields.optional_text(input)?,
        None => None,
    };
    match more {
        Some(more) if !more.is_empty() => Ok(format!("{asked} {more}")),
        _ => Ok(asked),
    }
}

/// Beginnings of turns in transcripts.
const QUESTION: &str = "\n\nHuman:";
const ANSWER: &str = "\n\nAssistant:";

/// Splits two transcripts into earlier turns, the last question, and two answers, which begin after the last `Assistant:` of
/// what the transcripts have in common.
fn transcripts(mut fields: Fields) -> Result<Row, RowFault> {
    let chosen = fields.answer("chosen")?;
    let rejected = fields.answer("rejected")?;
    let shared = common_prefix_bytes(&chosen, &rejected);
    // The answers may begin alike, so the prompt ends at the last turn, not where the texts differ.
    let Some(turn) = chosen[..shared].rfind(ANSWER) else {
        let prompt = fields.text("prompt")?;
        return Ok(Row::of_content(Content::Preference { history: vec![], prompt, chosen, rejected }, fields));
    };
    let end = turn + ANSWER.len();
    for (column, answer) in [("chosen", &chosen[end..]), ("rejected", &rejected[end..])] {
        if answer.trim().is_empty() {
            return Err(RowFault::Empty { field: column.to_owned() });
        }
    }
    let (history, prompt) = turns(&chosen[..turn]);
    let [chosen, rejected] = [&chosen[end..], &rejected[end..]].map(|answer| spoken(answer).to_owned());
    Ok(Row::of_content(Content::Preference { history, prompt, chosen, rejected }, fields))
}

/// Returns the exchanges of a transcript, and the question after them. As in OpenFedLLM's `split_hh`, a question lasts until
/// the next `Assistant:`, and an answer until the next `Human:`.
fn turns(transcript: &str) -> (Vec<Exchange>, String) {
    let mut history = Vec::new();
    let mut rest = transcript.strip_prefix(QUESTION).unwrap_or(transcript);
    while let Some((question, after)) = rest.split_once(ANSWER) {
        let Some((answer, next)) = after.split_once(QUESTION) else { break };
        history.push(Exchange { user: spoken(question).to_owned(), assistant: spoken(answer).to_owned() });
        rest = next;
    }
    (history, spoken(rest).to_owned())
}

/// Returns what was said in a turn, without the space after the speaker's name.
fn spoken(text: &str) -> &str {
    text.strip_prefix(' ').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn shaped(name: &str, rows: Value) -> Vec<Value> {
        let mut shaping = Shaping::new(Columns::named(name).unwrap());
        let mut read = Vec::new();
        for row in rows.as_array().unwrap() {
            let row = shaping.row(Fields::of_json(row.clone()).unwrap()).unwrap();
            read.extend(row.map(|row| row.to_json()));
        }
        read
    }

    fn fault(columns: Columns, row: Value) -> String {
        Shaping::new(columns).row(Fields::of_json(row).unwrap()).unwrap_err().to_string()
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
            [json!({"prompt": "Hi", "chosen": "Hello.", "rejected": "Hey é."})]
        );
        let list = |answer| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        assert_eq!(
            shaped("ultrafeedback", json!([{"prompt": "q", "chosen": list("good"), "rejected": list("bad")}])),
            [json!({"prompt": "q", "chosen": "good", "rejected": "bad"})]
        );
    }

    #[test]
    fn missing_columns_are_named_as_the_file_names_them() {
        let gsm8k = || Columns::named("gsm8k").unwrap();
        assert_eq!(fault(gsm8k(), json!({"question": "q"})), "it has no \"answer\"; its other keys: none");
        assert_eq!(fault(gsm8k(), json!({"answer": "q"})), "it has no \"question\"; its other keys: answer");
        assert!(Columns::names().all(|name| Columns::named(name).is_some()));
    }

    #[test]
    fn named_columns_are_read_whatever_else_a_row_has() {
        let others = json!({
            "instruction": "i", "output": "o", "chosen": true, "conversations": [{"from": "human", "value": "q"}], "response": "r"
        });
        let expected = json!({"instruction": "i", "response": "o"});
        for columns in ["alpaca", "wizardlm"] {
            assert_eq!(shaped(columns, json!([others])), std::slice::from_ref(&expected));
        }
    }

    #[test]
    fn numbers_and_booleans_are_text() {
        let rows =
            json!([{"instruction": 7, "input": 7.5, "output": true}, {"instruction": "i", "input": null, "output": 3}]);
        assert_eq!(
            shaped("alpaca", rows),
            [json!({"instruction": "7 7.5", "response": "True"}), json!({"instruction": "i", "response": "3"})]
        );
        let listed = json!({"instruction": "i", "input": ["a"], "output": "o"});
        assert_eq!(fault(Columns::named("alpaca").unwrap(), listed), "its \"input\" must be a string and is a list");
    }
}
