//! Tests of open-ended benchmarks on small files, on damaged ones, and on the real ones where they are available.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::benchmarks::OpenEnded;
use crate::data::Template;
use crate::generation::Prompting;
use crate::judge::{Judgment, Verdict};

/// Returns the path of a real benchmark's file. `None`, with a message, if it is not available.
pub fn real_file(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("FEDREPLAY_REAL_DATA").map(PathBuf::from);
    if folder.is_none() {
        let is_failure = std::env::var_os("FEDREPLAY_TESTS").is_some_and(|tests| tests == "all");
        assert!(!is_failure, "FEDREPLAY_REAL_DATA is not set");
        eprintln!("not run: FEDREPLAY_REAL_DATA is not set");
    }
    folder.map(|folder| folder.join("eval").join(name))
}

fn trained() -> Prompting<'static> {
    Prompting::Template { template: Template::named("alpaca").unwrap(), system: None, end: "</s>" }
}

fn verdict(text: &str) -> Verdict {
    let text = text.into();
    Verdict::Fresh(Judgment { text, model: "judge".into(), prompt_tokens: 10, completion_tokens: 1 })
}

/// Writes two questions of two turns, one of them with a reference answer.
fn write_mt_bench(folder: &Path) {
    fs::create_dir_all(folder.join("mt-bench")).unwrap();
    let questions = r#"{"question_id": 1, "category": "writing", "turns": ["w1", "w2"]}
{"question_id": 2, "category": "math", "turns": ["m1 {answer}", "m2"]}
"#;
    fs::write(folder.join("mt-bench/question.jsonl"), questions).unwrap();
    let references = r#"{"question_id": 2, "choices": [{"index": 0, "turns": ["r1", "r2"]}]}"#;
    fs::write(folder.join("mt-bench/reference_answers.jsonl"), references).unwrap();
}

#[test]
fn the_real_files_hold_the_published_numbers_of_questions() {
    let Some(folder) = real_file("") else { return };
    let expected = [
        (OpenEnded::MtBench, 80, 8, 160),
        (OpenEnded::Vicuna, 80, 9, 80),
        (OpenEnded::Chatbot, 50, 1, 50),
        (OpenEnded::WildChat, 50, 5, 50),
        (OpenEnded::Aya, 160, 8, 160),
        (OpenEnded::AdvBench, 520, 1, 0),
    ];
    for (benchmark, count, categories, judge_requests) in expected {
        let questions = Questions::read(benchmark, &folder).unwrap();
        assert_eq!(questions.questions.len(), count, "{benchmark:?}");
        let names: std::collections::BTreeSet<_> = questions.questions.iter().map(|q| &q.category).collect();
        assert_eq!(names.len(), categories, "{benchmark:?}");
        let requests = questions.requests(0, &[], &trained(), Decoding::default()).unwrap();
        assert!(requests[0].prompt.text().ends_with("\n### Response:"));
        let streams: std::collections::BTreeSet<_> = requests.iter().map(|request| request.stream).collect();
        assert_eq!(streams.len(), count, "{benchmark:?}: every question draws on its own");
        let answers = vec![vec!["a".to_owned(), "b".to_owned()]; count];
        assert_eq!(questions.judge_requests(&answers, &JudgeWording::default()).len(), judge_requests, "{benchmark:?}");
    }
    let mt_bench = Questions::read(OpenEnded::MtBench, &folder).unwrap();
    assert_eq!(mt_bench.questions.iter().filter(|question| !question.references.is_empty()).count(), 30);
}

#[test]
fn a_damaged_file_is_refused_by_place_and_field() {
    let cases = [
        (
            OpenEnded::Vicuna,
            "vicuna/question.jsonl",
            "{\"question_id\": 1, \"category\": \"x\"}",
            "line 1: missing field `turns`",
        ),
        (
            OpenEnded::Vicuna,
            "vicuna/question.jsonl",
            "{\"question_id\": 1, \"category\": \"x\", \"turns\": []}",
            "line 1: field `turns` has 0 entries",
        ),
        (OpenEnded::Vicuna, "vicuna/question.jsonl", "\n\n{oops", "line 3: "),
        (OpenEnded::Vicuna, "vicuna/question.jsonl", "", "no question"),
        (
            OpenEnded::Chatbot,
            "ref-gpt4/chatbot.json",
            "[{\"instruction\": \"x\"}, {}]",
            "entry 2: missing field `instruction`",
        ),
        (OpenEnded::Chatbot, "ref-gpt4/chatbot.json", "[", "line 1, column 1: "),
        (
            OpenEnded::Aya,
            "ref-gpt4/aya.json",
            "{\"English\": [{\"instruction\": \"x\"}]}",
            "entry 1 of `English`: missing field `reference`",
        ),
        (OpenEnded::Aya, "ref-gpt4/aya.json", "{}", "no question"),
        (OpenEnded::AdvBench, "advbench/advbench.csv", "target\nSure\n", "row 1: "),
    ];
    for (benchmark, name, text, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let error = Questions::read(benchmark, folder.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
    let nowhere = Questions::read(OpenEnded::Vicuna, Path::new("nowhere")).unwrap_err().to_string();
    assert!(nowhere.contains("nowhere/vicuna/question.jsonl"), "{nowhere}");
}

#[test]
fn a_question_that_needs_a_reference_names_the_one_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    write_mt_bench(folder.path());
    let references = folder.path().join("mt-bench/reference_answers.jsonl");
    let other = fs::read_to_string(&references).unwrap().replace("\"question_id\": 2", "\"question_id\": 3");
    fs::write(&references, other).unwrap();
    let error = Questions::read(OpenEnded::MtBench, folder.path()).unwrap_err().to_string();
    assert!(error.contains("reference_answers.jsonl: the answer to question 2"), "{error}");
}

#[test]
fn the_second_turn_follows_the_first_answer_and_the_judge_sees_both() {
    let folder = tempfile::tempdir().unwrap();
    write_mt_bench(folder.path());
    let questions = Questions::read(OpenEnded::MtBench, folder.path()).unwrap();
    let answers = vec![vec!["wa1".to_owned()], vec!["ma1".to_owned()]];
    let requests = questions.requests(1, &answers, &trained(), Decoding::default()).unwrap();
    assert!(requests[0].prompt.text().ends_with("w1 \n\n### Response: wa1</s>### Instruction:\nw2 \n\n### Response:"));
    let answers = vec![vec!["wa1".to_owned(), "wa2".into()], vec!["ma1".to_owned(), "ma2".into()]];
    let judge_requests = questions.judge_requests(&answers, &JudgeWording::default());
    let order: Vec<_> =
        judge_requests.iter().map(|judge_request| (judge_request.question, judge_request.turn)).collect();
    assert_eq!(order, [(0, 0), (1, 0), (0, 1), (1, 1)]);
    let texts: Vec<_> = judge_requests.iter().map(|judge_request| judge_request.prompt.user.as_str()).collect();
    assert!(
        texts[0].ends_with("[Question]\nw1\n\n[The Start of Assistant's Answer]\nwa1\n[The End of Assistant's Answer]")
    );
    // Braces in a question are not placeholders.
    assert!(texts[1].contains("[Question]\nm1 {answer}\n\n[The Start of Reference Answer]\nr1\n"));
    assert!(!texts[0].contains("wa2") && texts[2].contains("### User:\nw2\n\n### Assistant A:\nwa2\n\n"));
    assert!(
        texts[3].contains("### Reference answer:\nr2\n")
            && judge_requests[3].prompt.system.contains("reference answer")
    );
    assert!(
        judge_requests
            .iter()
            .all(|judge_request| judge_request.prompt.temperature == 0.0 && judge_request.prompt.max_tokens == 2048)
    );
}

#[test]
fn a_users_wording_takes_the_place_of_ours() {
    let questions = Questions {
        benchmark: OpenEnded::Aya,
        questions: vec![Question {
            id: "French/1".into(),
            category: "French".into(),
            turns: vec!["q".into()],
            references: vec!["r".into()],
        }],
    };
    let text = |wording: &JudgeWording| questions.judge_requests(&[vec!["a".into()]], wording)[0].prompt.user.clone();
    assert_eq!(text(&JudgeWording { aya: Some("{reference}|{question}|{answer}".into()) }), "r|q|a");
    let ours = text(&JudgeWording::default());
    assert!(ours.contains("[Question]\nq\n") && ours.contains("Reference Answer]\nr\n"), "{ours}");
}

#[test]
fn unparsable_and_failed_judgments_are_counted_and_both_means_are_there() {
    let question = |id: &str, category: &str| Question {
        id: id.into(),
        category: category.into(),
        turns: vec!["q".into()],
        references: vec!["r".into()],
    };
    let questions = Questions {
        benchmark: OpenEnded::Aya,
        questions: [("1", "English"), ("2", "English"), ("3", "English"), ("1", "French"), ("2", "French")]
            .map(|(id, category)| question(id, category))
            .into(),
    };
    let answers = vec![vec!["a".to_owned()]; 5];
    let judge_requests = questions.judge_requests(&answers, &JudgeWording::default());
    let verdicts =
        [verdict("[[4]]"), verdict("[[8]]"), verdict("no idea"), verdict("[[2]]"), Verdict::Failed("gone".into())];
    let scores = JudgedScores::of(&questions, &judge_requests, &verdicts, RatingRule::OneToTen);
    assert_eq!((scores.all.rated, scores.all.unparsable, scores.all.failed), (3, 1, 1));
    assert_eq!(scores.all.mean(Unparsable::Dropped), Some(14.0 / 3.0));
    assert_eq!(scores.all.mean(Unparsable::MinusOne), Some(13.0 / 4.0));
    // A language counts once, however many of its answers were rated.
    assert_eq!(scores.headline(Unparsable::Dropped), Some((6.0 + 2.0) / 2.0));
    assert_eq!(scores.headline(Unparsable::MinusOne), Some((11.0 / 3.0 + 2.0) / 2.0));
    assert_eq!(scores.categories[0].1.deviation(), Some(2.0));
    let cells = scores.cells(Unparsable::Dropped);
    let columns: Vec<_> = cells.iter().map(|cell| (cell.column.as_str(), cell.value)).collect();
    assert_eq!(columns, [("Aya English", Some(6.0)), ("Aya French", Some(2.0)), ("Ref-GPT4 Aya", Some(4.0))]);
    let remark = "1 of 5 judgements without a rating; 2.83 with them counted as -1; 1 of 5 answers not judged";
    assert_eq!(cells[2].remark, remark);
    assert_eq!(ScoreTally::default().mean(Unparsable::MinusOne), None);
}

#[test]
fn judgments_that_were_cut_off_or_have_several_ratings_are_counted() {
    let question =
        |id: &str| Question { id: id.into(), category: "writing".into(), turns: vec!["q".into()], references: vec![] };
    let questions = Questions { benchmark: OpenEnded::Vicuna, questions: ["1", "2", "3"].map(question).into() };
    let judge_requests = questions.judge_requests(&vec![vec!["a".to_owned()]; 3], &JudgeWording::default());
    let cut = verdict("A grade of [[2]] may be").judgment().unwrap().clone();
    let verdicts = [
        verdict("<think>[[2]]</think> [[4]] of [[10]]"),
        verdict("<think>[[3]]</think> [[8]]"),
        Verdict::Unusable(cut, "cut off".into()),
    ];
    let remark = |rule| {
        let cells = JudgedScores::of(&questions, &judge_requests, &verdicts, rule).cells(Unparsable::Dropped);
        (cells[0].value, cells[0].remark.clone())
    };
    let (score, said) = remark(RatingRule::OneToTen);
    assert_eq!(score, Some(6.0));
    assert_eq!(
        said,
        "1 of 3 answers not judged; 1 of 3 judgements cut off or empty; 1 of 3 judgements with several different ratings, \
         of which the first counts"
    );
    let (score, said) = remark(RatingRule::AsPublished);
    assert_eq!(score, Some(2.5));
    assert!(said.contains("2 of 3 judgements with several different ratings"), "{said}");
}

#[test]
fn a_limit_takes_questions_from_all_over_the_file() {
    let chosen =
        |all: usize, limit: usize| (0..all).filter(|&i| questions::is_chosen(i, all, limit)).collect::<Vec<_>>();
    assert_eq!(chosen(80, 4), [0, 20, 40, 60]);
    assert_eq!(chosen(7, 3), [0, 2, 4]);
    assert_eq!(chosen(3, 3), [0, 1, 2]);
    assert_eq!(chosen(3, 9), [0, 1, 2]);
    assert_eq!(chosen(3, 0), [] as [usize; 0]);
    for (all, limit) in [(160, 8), (163, 57), (520, 519), (2, 1)] {
        assert_eq!(chosen(all, limit).len(), limit);
    }
}
