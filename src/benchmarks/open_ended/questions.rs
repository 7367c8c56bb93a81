//! Questions of open-ended benchmarks, and the requests to a model made from them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::decoding::Decoding;
use super::files::QuestionsError;
use super::files::{LocatedQuestions, filled, json, json_lines, objects, text_of};
use crate::benchmarks::catalog::OpenEnded;
use crate::data::ChatTemplateError;
use crate::generation::{Prompting, Request};
use crate::store::{key_of, without_panic};

/// Categories whose MT-Bench questions are judged with a reference answer, as in FastChat.
const WITH_REFERENCE: [&str; 3] = ["math", "reasoning", "coding"];

/// A question of one or more turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Name within the benchmark: the number in the file, or the place in the file.
    pub id: String,
    /// Category or language. Empty if it has none.
    pub category: String,
    /// The user's messages, turn by turn.
    pub turns: Vec<String>,
    /// Reference answers by turn, if the benchmark has them.
    pub references: Vec<String>,
}

/// The questions of one benchmark, in the order of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    pub benchmark: OpenEnded,
    pub questions: Vec<Question>,
}

impl Questions {
    /// Reads a benchmark's questions from `folder`, whose layout docs/evaluation.md describes.
    ///
    /// # Errors
    /// [`QuestionsError`], with file, place and field.
    pub fn read(benchmark: OpenEnded, folder: &Path) -> Result<Self, QuestionsError> {
        let path = benchmark.questions_in(folder);
        let text = text_of(&path)?;
        let questions = match benchmark {
            OpenEnded::MtBench => mt_bench(&path, &text, &folder.join("mt-bench/reference_answers.jsonl"))?,
            OpenEnded::Vicuna => numbered(&path, &text, 1)?,
            OpenEnded::Chatbot | OpenEnded::WildChat => instructions(&path, &text)?,
            OpenEnded::Aya => by_language(&path, &text)?,
            OpenEnded::AdvBench => goals(&path, &text)?,
        };
        Ok(Self { benchmark, questions })
    }

    /// Keeps at most `limit` questions, spread evenly over the file, so that a small limit still covers every category.
    #[must_use]
    pub fn limited(mut self, limit: usize) -> Self {
        let all = self.questions.len();
        let mut chosen = Vec::new();
        for (index, question) in self.questions.into_iter().enumerate() {
            if is_chosen(index, all, limit) {
                chosen.push(question);
            }
        }
        self.questions = chosen;
        self
    }

    /// Returns the requests to the model in turn `turn`, counted from 0, one per question. `answers` holds each
    /// question's answers to the earlier turns.
    ///
    /// # Errors
    /// If a chat template refuses a dialog.
    ///
    /// # Panics
    /// If an answer to an earlier turn is missing.
    pub fn requests(
        &self,
        turn: usize,
        answers: &[Vec<String>],
        prompting: &Prompting,
        decoding: Decoding,
    ) -> Result<Vec<Request>, ChatTemplateError> {
        let mut requests = Vec::with_capacity(self.questions.len());
        for (index, question) in self.questions.iter().enumerate() {
            let asked: Vec<&str> = question.turns[..=turn].iter().map(String::as_str).collect();
            let earlier = answers.get(index).map_or(&[][..], |answers| &answers[..turn]);
            let answered: Vec<&str> = earlier.iter().map(String::as_str).collect();
            requests.push(Request {
                prompt: prompting.prompt(&asked, &answered)?,
                sampling: decoding.sampling(self.benchmark, &question.category),
                stream: stream(self.benchmark, question, turn),
            });
        }
        Ok(requests)
    }
}

/// Returns whether entry `index` of `all` is among `limit` entries that are spread evenly.
pub(crate) fn is_chosen(index: usize, all: usize, limit: usize) -> bool {
    if limit >= all {
        return true;
    }
    if limit == 0 {
        return false;
    }
    // The p-th chosen entry is floor(p * all / limit). The only p that can give `index` is ceil(index * limit / all).
    let p = (index * limit).div_ceil(all);
    p * all / limit == index
}

/// Derives an answer's random stream from benchmark, question and turn alone, so that a limit changes no answer.
fn stream(benchmark: OpenEnded, question: &Question, turn: usize) -> u64 {
    let key = key_of("fedreplay benchmark stream v1", &(benchmark.name(), &question.id, turn as u64));
    u64::from_le_bytes(key.0.0[..8].try_into().expect("a key has 32 bytes"))
}

/// A line in FastChat's question files.
#[derive(Deserialize)]
struct Numbered {
    question_id: u64,
    category: String,
    turns: Vec<String>,
}

/// Parses FastChat's question files, whose questions have `turns` turns each.
fn numbered(path: &Path, text: &str, turns: usize) -> Result<Vec<Question>, QuestionsError> {
    let mut questions = Vec::new();
    for LocatedQuestions { place, entry } in json_lines::<Numbered>(path, text)? {
        if entry.turns.len() != turns {
            let fault = format!("field `turns` has {} entries where {turns} are expected", entry.turns.len());
            return Err(QuestionsError::entry(path, place, fault));
        }
        let Numbered { question_id, category, turns } = entry;
        questions.push(Question { id: question_id.to_string(), category, turns, references: vec![] });
    }
    Ok(questions)
}

/// A line in FastChat's file of reference answers.
#[derive(Deserialize)]
struct ReferenceAnswer {
    question_id: u64,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    turns: Vec<String>,
}

/// Parses MT-Bench's questions and adds the reference answers to those that are judged with one.
fn mt_bench(path: &Path, text: &str, references: &Path) -> Result<Vec<Question>, QuestionsError> {
    let mut known = BTreeMap::new();
    for LocatedQuestions { place, entry } in json_lines::<ReferenceAnswer>(references, &text_of(references)?)? {
        let answer = entry.choices.into_iter().next().filter(|choice| choice.turns.len() == 2);
        let Some(Choice { turns }) = answer else {
            let fault = "field `choices` does not begin with an answer of two turns";
            return Err(QuestionsError::entry(references, place, fault));
        };
        known.insert(entry.question_id.to_string(), turns);
    }
    let mut questions = numbered(path, text, 2)?;
    for question in &mut questions {
        if !WITH_REFERENCE.contains(&question.category.as_str()) {
            continue;
        }
        let Some(found) = known.remove(&question.id) else {
            let fault = format!("there is none, and questions of category `{}` need one", question.category);
            let place = format!("the answer to question {}", question.id);
            return Err(QuestionsError::entry(references, place, fault));
        };
        question.references = found;
    }
    Ok(questions)
}

/// An entry of the files of Chatbot and WildChat.

#[derive(Deserialize)]
struct Instruction {
    instruction: String,
    #[serde(default)]
    language: String,
}

fn instructions(path: &Path, text: &str) -> Result<Vec<Question>, QuestionsError> {
    let entries = objects::<Instruction>(path, "", json(path, text)?)?.into_iter().enumerate();
    let questions = entries.map(|(index, LocatedQuestions { entry, .. })| Question {
        id: (index + 1).to_string(),
        category: entry.language,
        turns: vec![entry.instruction],
        references: vec![],
    });
    Ok(questions.collect())
}

/// An entry of Aya's file, in a list per language.
#[derive(Deserialize)]
struct WithReference {
    instruction: String,
    reference: String,
}

/// Parses Aya's file. The languages are ordered by name, whatever their order in the file.
fn by_language(path: &Path, text: &str) -> Result<Vec<Question>, QuestionsError> {
    let languages: BTreeMap<String, Vec<serde_json::Value>> = json(path, text)?;
    let mut questions = Vec::new();
    for (language, values) in languages {
        let entries = objects::<WithReference>(path, &format!(" of `{language}`"), values)?;
        for (index, LocatedQuestions { entry, .. }) in entries.into_iter().enumerate() {
            questions.push(Question {
                id: format!("{language}/{}", index + 1),
                category: language.clone(),
                turns: vec![entry.instruction],
                references: vec![entry.reference],
            });
        }
    }
    filled(path, questions)
}

/// A row of AdvBench's file.
#[derive(Deserialize)]
struct Goal {
    goal: String,
}

/// Parses AdvBench's goals and appends a period to each, as FedLLM-Bench does.
fn goals(path: &Path, text: &str) -> Result<Vec<Question>, QuestionsError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut questions = Vec::new();
    let mut rows = reader.deserialize::<Goal>();
    loop {
        let number = questions.len() + 1;
        let fault = |fault: String| QuestionsError::entry(path, format!("row {number}"), fault);
        let Some(row) = without_panic(|| rows.next()).map_err(fault)? else { return filled(path, questions) };
        let Goal { goal } = row.map_err(|error| fault(error.to_string()))?;
        let turns = vec![goal + "."];
        questions.push(Question { id: number.to_string(), category: String::new(), turns, references: vec![] });
    }
}
