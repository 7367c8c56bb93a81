//! Questions of a benchmark, and what is asked of a model.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::decoding::Decoding;
use super::error::QuestionsError;
use super::files::{Placed, filled, json, json_lines, objects, text_of};
use crate::benchmarks::catalog::OpenEnded;
use crate::data::ChatTemplateError;
use crate::generation::{Prompting, Request};
use crate::store::key_of;

/// Categories whose MT-Bench questions are judged beside a reference, as FastChat does it.
const WITH_REFERENCE: [&str; 3] = ["math", "reasoning", "coding"];

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its name within the benchmark: the file's number, or the place in the file.
    pub id: String,
    /// Category, language, or nothing.
    pub category: String,
    /// What is asked, turn by turn.
    pub turns: Vec<String>,
    /// A good answer to each turn, where the benchmark has one.
    pub references: Vec<String>,
}

/// The questions of one benchmark, in the order of its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Questions {
    pub benchmark: OpenEnded,
    pub questions: Vec<Question>,
}

impl Questions {
    /// Reads a benchmark's questions from `folder`, laid out as docs/evaluation.md says.
    ///
    /// # Errors
    /// [`QuestionsError`], by file, place and field.
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

    /// At most `limit` of the questions, spread evenly over the file, so that few questions still meet every category.
    #[must_use]
    pub fn limited(mut self, limit: usize) -> Self {
        let mut index = 0;
        let all = self.questions.len();
        self.questions.retain(|_| {
            index += 1;
            is_chosen(index - 1, all, limit)
        });
        self
    }

    /// What the model is asked in turn `turn`, counted from 0; `answers` holds each question's answers to the turns
    /// before.
    ///
    /// # Errors
    /// A chat template that refuses a dialogue.
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
        let requests = self.questions.iter().enumerate().map(|(index, question)| {
            let asked: Vec<&str> = question.turns[..=turn].iter().map(String::as_str).collect();
            let earlier = answers.get(index).map_or(&[][..], |answers| &answers[..turn]);
            let answered: Vec<&str> = earlier.iter().map(String::as_str).collect();
            Ok(Request {
                prompt: prompting.prompt(&asked, &answered)?,
                sampling: decoding.sampling(self.benchmark, &question.category),
                stream: stream(self.benchmark, question, turn),
            })
        });
        requests.collect()
    }
}

/// Whether entry `index` of `all` is among `limit` that are spread evenly.
pub(crate) fn is_chosen(index: usize, all: usize, limit: usize) -> bool {
    // Position p of the choice is entry floor(p * all / limit), so an entry is chosen where that quotient steps.
    limit >= all || (index * limit).div_ceil(all) * all / limit.max(1) == index && limit > 0
}

/// The draws of an answer belong to benchmark, question and turn, so that a limit changes no answer.
fn stream(benchmark: OpenEnded, question: &Question, turn: usize) -> u64 {
    let key = key_of("fedreplay benchmark stream v1", &(benchmark.name(), &question.id, turn as u64));
    u64::from_le_bytes(key.0.0[..8].try_into().expect("a key has 32 bytes"))
}

/// A line of FastChat's question files.
#[derive(Deserialize)]
struct Numbered {
    question_id: u64,
    category: String,
    turns: Vec<String>,
}

fn numbered(path: &Path, text: &str, turns: usize) -> Result<Vec<Question>, QuestionsError> {
    let entries = json_lines::<Numbered>(path, text)?.into_iter().map(|Placed { place, entry }| {
        if entry.turns.len() != turns {
            let fault = format!("field `turns` has {} entries where {turns} are expected", entry.turns.len());
            return Err(QuestionsError::entry(path, place, fault));
        }
        let Numbered { question_id, category, turns } = entry;
        Ok(Question { id: question_id.to_string(), category, turns, references: vec![] })
    });
    entries.collect()
}

/// A line of FastChat's file of reference answers.
#[derive(Deserialize)]
struct ReferenceAnswer {
    question_id: u64,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    turns: Vec<String>,
}

fn mt_bench(path: &Path, text: &str, references: &Path) -> Result<Vec<Question>, QuestionsError> {
    let mut known = BTreeMap::new();
    for Placed { place, entry } in json_lines::<ReferenceAnswer>(references, &text_of(references)?)? {
        let turns = entry.choices.into_iter().next().map(|choice| choice.turns).filter(|turns| turns.len() == 2);
        let fault = "field `choices` does not begin with an answer of two turns";
        let turns = turns.ok_or_else(|| QuestionsError::entry(references, place, fault))?;
        known.insert(entry.question_id.to_string(), turns);
    }
    let mut questions = numbered(path, text, 2)?;
    for question in questions.iter_mut().filter(|question| WITH_REFERENCE.contains(&question.category.as_str())) {
        let fault = || format!("there is none, and questions of category `{}` need one", question.category);
        let place = format!("the answer to question {}", question.id);
        let found = known.remove(&question.id);
        question.references = found.ok_or_else(|| QuestionsError::entry(references, place, fault()))?;
    }
    Ok(questions)
}

#[derive(Deserialize)]
struct Instruction {
    instruction: String,
    #[serde(default)]
    language: String,
}

fn instructions(path: &Path, text: &str) -> Result<Vec<Question>, QuestionsError> {
    let entries = objects::<Instruction>(path, "", json(path, text)?)?.into_iter().enumerate();
    let questions = entries.map(|(index, Placed { entry, .. })| Question {
        id: (index + 1).to_string(),
        category: entry.language,
        turns: vec![entry.instruction],
        references: vec![],
    });
    Ok(questions.collect())
}

#[derive(Deserialize)]
struct WithReference {
    instruction: String,
    reference: String,
}

fn by_language(path: &Path, text: &str) -> Result<Vec<Question>, QuestionsError> {
    let languages: BTreeMap<String, Vec<serde_json::Value>> = json(path, text)?;
    let mut questions = Vec::new();
    for (language, values) in languages {
        let entries = objects::<WithReference>(path, &format!(" of `{language}`"), values)?;
        questions.extend(entries.into_iter().enumerate().map(|(index, Placed { entry, .. })| Question {
            id: format!("{language}/{}", index + 1),
            category: language.clone(),
            turns: vec![entry.instruction],
            references: vec![entry.reference],
        }));
    }
    filled(path, questions)
}

#[derive(Deserialize)]
struct Goal {
    goal: String,
}

/// AdvBench's goals as FedLLM-Bench puts them: with a full stop.
fn goals(path: &Path, text: &str) -> Result<Vec<Question>, QuestionsError> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.deserialize::<Goal>().enumerate().map(|(index, row)| {
        let Goal { goal } = row.map_err(|error| QuestionsError::entry(path, format!("row {}", index + 1), error))?;
        let (id, turns) = ((index + 1).to_string(), vec![goal + "."]);
        Ok(Question { id, category: String::new(), turns, references: vec![] })
    });
    filled(path, rows.collect::<Result<_, _>>()?)
}
