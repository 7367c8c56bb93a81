//! Questions from MMLU's files: a folder `test` and a folder `dev`, a CSV file a subject in each.
//!
//! The original files have six columns without a header, the answer as a letter; copies with a header and the answer as a
//! number from 0 are read too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::subjects::{Category, SUBJECTS};

/// Choices of a question.
const CHOICES: usize = 4;

/// A question with its choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub text: String,
    pub choices: [String; CHOICES],
    /// Place of the right choice.
    pub answer: usize,
}

/// The questions of one subject that are asked, and those that show how.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: &'static str,
    pub category: Category,
    /// What is asked, each with its line in the file.
    pub questions: Vec<(u64, Question)>,
    /// Questions of the `dev` file, to be shown with their answers.
    pub examples: Vec<Question>,
}

/// Why a file of questions cannot be used. The user's to mend: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum QuestionFault {
    /// The file or folder is not there or cannot be read.
    #[error("failed to read questions from {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// A row is not as the format says.
    #[error("failed to read questions from {path}, line {line}: {fault}")]
    Row { path: PathBuf, line: u64, fault: String },
    /// The folder has none of the subjects' files.
    #[error("failed to find questions in {path}: it holds no SUBJECT_test.csv of MMLU's subjects, such as {example}")]
    Empty { path: PathBuf, example: &'static str },
}

/// Reads every subject that `folder` has a test file of, with `examples` questions of its dev file.
///
/// # Errors
/// If there is none, a file cannot be read, or a row lacks a field; and if a dev file has fewer questions than are shown.
pub fn read(folder: &Path, examples: usize) -> Result<Vec<Subject>, QuestionFault> {
    let mut subjects = Vec::new();
    for (name, category) in SUBJECTS {
        let test = folder.join("test").join(format!("{name}_test.csv"));
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

/// The first questions of a dev file.
fn shown(path: &Path, count: usize) -> Result<Vec<Question>, QuestionFault> {
    let all = read_file(path)?;
    if all.len() < count {
        let fault = format!("the file has {} questions, {count} are to be shown", all.len());
        return Err(QuestionFault::Row { path: path.into(), line: all.last().map_or(1, |(line, _)| *line), fault });
    }
    Ok(all.into_iter().take(count).map(|(_, question)| question).collect())
}

/// At most `limit` questions of all subjects, spread evenly.
pub fn limited(mut subjects: Vec<Subject>, limit: usize) -> Vec<Subject> {
    let all: usize = subjects.iter().map(|subject| subject.questions.len()).sum();
    if limit >= all {
        return subjects;
    }
    let chosen: BTreeSet<usize> = (0..limit).map(|n| n * all / limit).collect();
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

fn read_file(path: &Path) -> Result<Vec<(u64, Question)>, QuestionFault> {
    let bytes = fs::read(path).map_err(|source| QuestionFault::Io { path: path.into(), source })?;
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let mut questions = Vec::new();
    for record in reader.records() {
        let fail = |line: u64, fault: String| QuestionFault::Row { path: path.into(), line, fault };
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            fail(line, error.to_string())
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        if questions.is_empty() && record.get(0) == Some("question") && record.get(5) == Some("answer") {
            continue;
        }
        questions.push((line, question(&record).map_err(|fault| fail(line, fault))?));
    }
    Ok(questions)
}

fn question(record: &csv::StringRecord) -> Result<Question, String> {
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
    Ok(Question { text: record[0].to_owned(), choices, answer })
}
