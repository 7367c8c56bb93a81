//! MMLU's questions and prompts. Files: folders `test` and `dev`, each with one CSV file per subject.
//!
//! The original files have six columns without a header, and the answer as a letter. Copies with a header and the
//! answer as a number from 0 are accepted too. The wording of prompts is verbatim
//! from github.com/hendrycks/test (MIT license), with its two spaces before the subject, since it defines the benchmark.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::subjects::{Category, SUBJECTS};
use crate::data::LineCount;
use crate::store::{read_limited, without_panic};

/// Number of choices of a question.
const CHOICES: usize = 4;

/// A multiple-choice question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MmluQuestion {
    pub text: String,
    pub choices: [String; CHOICES],
    /// Index of the right choice.
    pub answer: usize,
}

/// The questions and examples of one subject.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: &'static str,
    pub category: Category,
    /// Questions of the `test` file, each with its line.
    pub questions: Vec<(u64, MmluQuestion)>,
    /// Questions of the `dev` file, shown in prompts with their answers.
    pub examples: Vec<MmluQuestion>,
}

/// A question file that cannot be used. The user has to fix it.
#[derive(Debug, thiserror::Error)]
pub enum QuestionFault {
    /// The file or folder is missing or cannot be read.
    #[error("failed to read questions from {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// A row does not follow the format.
    #[error("failed to read questions from {path}, line {line}: {fault}")]
    Row { path: PathBuf, line: u64, fault: String },
    /// The folder has no subject's file.
    #[error("failed to find questions in {path}: it holds no SUBJECT_test.csv of MMLU's subjects, such as {example}")]
    Empty { path: PathBuf, example: &'static str },
}

/// Reads every subject with a test file in `folder`, and `examples` questions of its dev file.
///
/// # Errors
/// If there is no test file, a file cannot be read, a row lacks a field, or a dev file has fewer questions than
/// `examples`.
pub fn read(folder: &Path, examples: usize) -> Result<Vec<Subject>, QuestionFault> {
    let mut subjects = Vec::new();
    for (name, category) in SUBJECTS {
        let test = folder.join("test").join(format!("{name}_test.csv"));
        // A folder may have the files of some subjects only.
        if !test.exists() {
            continue;
        }
        let questions = read_file(&test)?;
        let shown =
            if examples == 0 { vec![] } else { shown(&folder.join("dev").join(format!("{name}_dev.csv")), examples)? };
        subjects.push(Subject { name, category, questions, examples: shown });
    }
    match subjects.is_empty() {
        true => Err(QuestionFault::Empty { path: folder.join("test"), example: "anatomy_test.csv" }),
        false => Ok(subjects),
    }
}

/// Reads the first `count` questions of a dev file.
fn shown(path: &Path, count: usize) -> Result<Vec<MmluQuestion>, QuestionFault> {
    let all = read_file(path)?;
    if all.len() < count {
        let fault = format!("the file has {} questions, {count} are to be shown", all.len());
        return Err(QuestionFault::Row { path: path.into(), line: all.last().map_or(1, |(line, _)| *line), fault });
    }
    Ok(all.into_iter().take(count).map(|(_, question)| question).collect())
}

/// Keeps at most `limit` questions of all subjects together, spread evenly. Subjects without questions are dropped.
pub fn limited(mut subjects: Vec<Subject>, limit: usize) -> Vec<Subject> {
    let all: usize = subjects.iter().map(|subject| subject.questions.len()).sum();
    if limit >= all {
        return subjects;
    }
    let chosen: BTreeSet<usize> = (0..limit).map(|n| n * all / limit).collect();
    // The position counts on over the subjects, so that the choice is even over the whole benchmark.
    let mut place = 0;
    for subject in &mut subjects {
        subject.questions.retain(|_| {
            place += 1;
            chosen.contains(&(place - 1))
        });
    }
    subjects.retain(|subject| !subject.questions.is_empty());
    subjects
}

/// Reads the questions of a CSV file, each with its line.
fn read_file(path: &Path) -> Result<Vec<(u64, MmluQuestion)>, QuestionFault> {
    let bytes = read_limited(path).map_err(|source| QuestionFault::Io { path: path.into(), source })?;
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let mut lines = LineCount::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(lines.watch(text));
    let mut questions = Vec::new();
    let mut records = reader.records();
    let mut line = 1;
    loop {
        let record = without_panic(|| records.next());
        let record = record.map_err(|panic| QuestionFault::Row { path: path.into(), line, fault: panic })?;
        let Some(record) = record else { return Ok(questions) };
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, |place| lines.at(place.byte())) as u64;
            QuestionFault::Row { path: path.into(), line, fault: error.to_string() }
        })?;
        line = record.position().map_or(1, |place| lines.at(place.byte())) as u64;
        let is_header = questions.is_empty() && record.get(0) == Some("question") && record.get(5) == Some("answer");
        if is_header {
            continue;
        }
        let question = question(&record).map_err(|fault| QuestionFault::Row { path: path.into(), line, fault })?;
        questions.push((line, question));
    }
}

/// Parses a row: question, four choices, answer.
fn question(record: &csv::StringRecord) -> Result<MmluQuestion, String> {
    const FIELDS: [&str; 6] = ["question", "choice A", "choice B", "choice C", "choice D", "answer"];
    if let Some(missing) = FIELDS.get(record.len()) {
        return Err(format!("field `{missing}` is missing: there are {} fields of 6", record.len()));
    }
    if record.len() > FIELDS.len() {
        return Err(format!("there are {} fields where 6 are expected", record.len()));
    }
    let answer = match record[5].trim() {
        "A" | "0" => 0,
        "B" | "1" => 1,
        "C" | "2" => 2,
        "D" | "3" => 3,
        other => return Err(format!("field `answer` is {other:?}, expected A to D, or 0 to 3")),
    };
    let choices = [1, 2, 3, 4].map(|place| record[place].to_owned());
    Ok(MmluQuestion { text: record[0].to_owned(), choices, answer })
}

/// The possible answers, in the order of the choices.
pub const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Returns the common beginning of all prompts of a subject, with its first `shots` examples.
pub fn preamble(subject: &Subject, shots: usize) -> String {
    let about = subject.name.replace('_', " ");
    let mut text = format!("The following are multiple choice questions (with answers) about  {about}.\n\n");
    for example in &subject.examples[..shots] {
        text += &asked(example);
        text += &format!(" {}\n\n", LETTERS[example.answer]);
    }
    text
}

/// Returns the question's part of the prompt, up to where the letter follows.
pub fn asked(question: &MmluQuestion) -> String {
    let choices = LETTERS.iter().zip(&question.choices).map(|(letter, choice)| format!("\n{letter}. {choice}"));
    question.text.clone() + &choices.collect::<String>() + "\nAnswer:"
}
