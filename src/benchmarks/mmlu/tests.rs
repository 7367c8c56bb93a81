//! Tests of MMLU: reading, prompting and scoring, on small files and on the real ones where they are available.

use std::fs;

use super::benchmark::result_of;
use super::*;
use crate::generation::{Choices, GenerationError};

/// A model that chooses by a rule on the prompt, with a context of `room` bytes.
struct ByRule<F> {
    rule: F,
    room: usize,
}

impl<F: Fn(&str) -> usize> Choices for ByRule<F> {
    fn choose(&self, prompts: &[String], _: &[&str]) -> Result<Vec<Option<usize>>, GenerationError> {
        Ok(prompts.iter().map(|prompt| (prompt.len() <= self.room).then(|| (self.rule)(prompt))).collect())
    }
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Writes two subjects of different categories: one file in the original format, and one with a header and numbers.
fn small() -> tempfile::TempDir {
    folder(&[
        ("test/anatomy_test.csv", "How many?,1,2,3,4,B\n\"Which, then?\",a,b,c,d,D\n"),
        ("dev/anatomy_dev.csv", "Shown?,w,x,y,z,C\nShown too?,w,x,y,z,A\n"),
        (
            "test/astronomy_test.csv",
            "question,choice0,choice1,choice2,choice3,answer\n\"A\nlong one\",1,2,3,4,0\nOne more,1,2,3,4,2\n",
        ),
        ("dev/astronomy_dev.csv", "question,choice0,choice1,choice2,choice3,answer\nS1,1,2,3,4,3\nS2,1,2,3,4,1\n"),
    ])
}

#[test]
fn both_forms_of_a_file_are_read() {
    let folder = small();
    let subjects = read(folder.path(), 2).unwrap();
    let names: Vec<_> = subjects.iter().map(|subject| (subject.name, subject.category)).collect();
    assert_eq!(names, [("anatomy", Category::Other), ("astronomy", Category::Stem)]);
    let answers = |index: usize| subjects[index].questions.iter().map(|(_, q)| q.answer).collect::<Vec<_>>();
    assert_eq!((answers(0), answers(1)), (vec![1, 3], vec![0, 2]));
    assert_eq!(subjects[1].questions[1].0, 4, "lines are those of the file");
    assert_eq!(subjects[0].examples.len(), 2);
    assert!(read(folder.path(), 0).unwrap()[0].examples.is_empty());
    assert_eq!(limited(subjects, 2).iter().map(|subject| subject.questions.len()).collect::<Vec<_>>(), [1, 1]);
}

/// The lines are those of Python's `csv`, whose `line_num` counts CRLF, CR and LF as one end each.
#[test]
fn line_ends_change_neither_questions_nor_their_lines() {
    let text = "How many?,1,2,3,4,B\n\n\"Which,\nthen?\",a,b,c,d,D\nLast?,1,2,3,4,A\n";
    for end in ["\n", "\r\n", "\r"] {
        let whole = folder(&[("test/anatomy_test.csv", &text.replace('\n', end))]);
        let questions = read(whole.path(), 0).unwrap().remove(0).questions;
        let found: Vec<_> = questions.iter().map(|(line, question)| (*line, question.answer)).collect();
        assert_eq!(found, [(1, 1), (3, 3), (5, 0)], "{end:?}");
        assert_eq!(questions[1].1.text, format!("Which,{end}then?"));
        let damaged = folder(&[("test/anatomy_test.csv", &text.replace(",A\n", ",E\n").replace('\n', end))]);
        let error = read(damaged.path(), 0).unwrap_err().to_string();
        assert!(error.contains("line 5: field `answer`"), "{end:?}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_field() {
    let fault = |text: &str| {
        let folder = folder(&[("test/anatomy_test.csv", text)]);
        read(folder.path(), 0).unwrap_err().to_string()
    };
    let short = fault("ok?,1,2,3,4,A\nshort?,1,2,3\n");
    assert!(short.contains("anatomy_test.csv, line 2: field `choice D` is missing"), "{short}");
    let wrong = fault("ok?,1,2,3,4,E\n");
    assert!(wrong.contains("line 1: field `answer` is \"E\", expected A to D"), "{wrong}");
    assert!(fault("a,b,c,d,e,A,g\n").contains("7 fields where 6"));
    let folder = folder(&[("test/poetry_test.csv", "a,1,2,3,4,A\n")]);
    assert!(read(folder.path(), 0).unwrap_err().to_string().contains("no SUBJECT_test.csv"));
    let few = small();
    assert!(read(few.path(), 5).unwrap_err().to_string().contains("2 questions, 5 are to be shown"));
}

#[test]
fn the_prompt_shows_examples_with_their_answers_and_then_asks() {
    let folder = small();
    let subjects = read(folder.path(), 1).unwrap();
    let prompts = std::cell::RefCell::new(Vec::new());
    let note = |prompt: &str| {
        prompts.borrow_mut().push(prompt.to_owned());
        0
    };
    mark(&subjects, &ByRule { rule: note, room: 10_000 }).unwrap();
    assert_eq!(
        prompts.borrow()[0],
        "The following are multiple choice questions (with answers) about  anatomy.\n\nShown?\nA. w\nB. x\nC. y\nD. \
         z\nAnswer: C\n\nHow many?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:"
    );
}

#[test]
fn accuracies_are_over_questions_and_what_does_not_fit_is_wrong_and_counted() {
    let folder = small();
    let subjects = read(folder.path(), 2).unwrap();
    // The first choice is right for one of astronomy's two questions.
    let marks = mark(&subjects, &ByRule { rule: |_: &str| 0, room: 10_000 }).unwrap();
    let report = Report::of(&subjects, &marks);
    assert_eq!(report.all, Accuracy { right: 1, asked: 4 });
    assert_eq!(
        report.categories,
        [(Category::Stem, Accuracy { right: 1, asked: 2 }), (Category::Other, Accuracy { right: 0, asked: 2 })]
    );
    assert!(marks.iter().all(|mark| mark.shots == 2));
    // In a short context, questions are asked with fewer examples; in a still shorter one, not at all.
    let whole = marks.iter().map(|mark| mark.asked.len()).max().unwrap() + 120;
    let tight = mark(&subjects, &ByRule { rule: |_: &str| 0, room: whole }).unwrap();
    assert!(tight.iter().all(|mark| mark.letter.is_some() && mark.shots < 2));
    let remark = |marks| result_of(&subjects, marks).cells.last().unwrap().remark.clone();
    assert_eq!(remark(&marks), "");
    assert_eq!(remark(&tight), "4 of 4 questions asked with fewer examples, since all did not fit the context");
    let none = mark(&subjects, &ByRule { rule: |_: &str| 0, room: 20 }).unwrap();
    assert_eq!(remark(&none), "4 of 4 prompts did not fit the context");
    let result = result_of(&subjects, &none);
    let all = result.figures.last().unwrap();
    assert_eq!((all.part.as_str(), all.asked, all.failed, all.score), ("all", 4, 4, Some(0.0)));
    assert!(result.answers.iter().all(|answer| answer.answer.is_none() && answer.ended == "context_full"));
}
