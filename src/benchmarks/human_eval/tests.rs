//! Tests of HumanEval: reading, prompting and scoring, on small files and on the real one where it is available.

use super::*;
use crate::benchmarks::open_ended::tests::real_file;
use crate::data::Template;
use crate::generation::Prompting;
use crate::sandbox::ProgramOutcome;
use crate::sandbox::tests::{run_all, sandbox};

#[test]
fn damaged_problems_are_refused_by_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("problems.jsonl");
    let whole = r#"{"task_id": "T/0", "prompt": "p", "entry_point": "f", "canonical_solution": "s", "test": "t"}"#;
    std::fs::write(&path, format!("{whole}\n{}\n", whole.replace("entry_point", "entry"))).unwrap();
    let error = Problems::read(&path).unwrap_err().to_string();
    assert!(error.contains("line 2: missing field `entry_point`"), "{error}");
    std::fs::write(&path, [0x1f, 0x8b, 0, 0, 0]).unwrap();
    Problems::read(&path).unwrap_err();
    std::fs::write(&path, "").unwrap();
    assert!(Problems::read(&path).unwrap_err().to_string().contains("no problem"));
}

#[test]
fn requests_and_scores_go_problem_by_problem() {
    let problem = |id: &str| Problem {
        task_id: id.into(),
        prompt: format!("def {id}():\n"),
        entry_point: id.into(),
        canonical_solution: "    pass\n".into(),
        test: "def check(f): pass".into(),
    };
    let problems = Problems(vec![problem("a"), problem("b")]);
    let requests = problems.requests(CodePrompts::Continue, 2, 0.2).unwrap();
    let prompts: Vec<_> = requests.iter().map(|request| request.prompt.text()).collect();
    assert_eq!(prompts, ["def a():\n", "def a():\n", "def b():\n", "def b():\n"]);
    let streams: std::collections::BTreeSet<_> = requests.iter().map(|request| request.stream).collect();
    assert_eq!(streams.len(), 4);
    let answers = ["    return 1\n", "    return 2\n", "    return 3\n", "    return 4\n"].map(str::to_owned);
    let programs = problems.programs(AnswerForm::Continuation, &answers);
    assert_eq!(programs[2], "def b():\n    return 3\n\ndef check(f): pass\ncheck(b)\n");
    let failed = || ProgramOutcome::Failed("x".into());
    let scores = problems.scores(&[ProgramOutcome::Passed, failed(), failed(), ProgramOutcome::TimedOut]);
    assert_eq!(scores.problems, [(2, 1), (2, 0)]);
    assert_eq!((scores.pass_at(1), scores.pass_at(2), scores.pass_at(3)), (Some(25.0), Some(50.0), None));
}

/// A function in a block of code is read to its end: where problems are asked nothing stops the answer, and where they are
/// continued the stops of Chen et al. (2021), section 3.1, do not count inside of a block.
#[test]
fn no_stop_cuts_a_function_in_a_block_of_code() {
    let prompt = "def f(x):\n    \"\"\"Doc.\"\"\"\n";
    let problem = Problem {
        task_id: "T/0".into(),
        prompt: prompt.into(),
        entry_point: "f".into(),
        canonical_solution: "    return x\n".into(),
        test: "def check(f): pass".into(),
    };
    let problems = Problems(vec![problem]);
    let template = Template::named("alpaca").unwrap();
    let prompting = Prompting::Template { template, system: None, end: "</s>" };
    let asked = problems.requests(CodePrompts::Ask(prompting), 1, 0.0).unwrap().remove(0);
    assert_eq!(asked.sampling.stop, Vec::<String>::new());
    let text = asked.prompt.text();
    assert!(text.contains(prompt) && text.starts_with("Below is an instruction"), "{text}");
    let continued = problems.requests(CodePrompts::Continue, 1, 0.0).unwrap().remove(0);
    assert_eq!(continued.prompt.text(), prompt);
    assert_eq!(continued.sampling.stop, ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]);
    assert!(continued.sampling.spares_code_blocks);
}

#[test]
fn the_canonical_solutions_of_all_real_problems_pass_and_empty_ones_do_not() {
    let Some(path) = real_file("humaneval/HumanEval.jsonl.gz") else { return };
    let problems = Problems::read(&path).unwrap();
    assert_eq!(problems.0.len(), 164);
    let Some(sandbox) = sandbox() else { return };
    let solutions: Vec<String> = problems.0.iter().map(|problem| problem.canonical_solution.clone()).collect();
    let outcomes = run_all(&sandbox, &problems.programs(AnswerForm::Continuation, &solutions));
    let lost: Vec<_> = problems.0.iter().zip(&outcomes).filter(|(_, outcome)| !outcome.is_passed()).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(problems.scores(&outcomes).pass_at(1), Some(100.0));
    let few = problems.limited(4);
    let outcomes = run_all(&sandbox, &few.programs(AnswerForm::Continuation, &vec!["    return 12345\n".into(); 4]));
    assert_eq!(few.scores(&outcomes).pass_at(1), Some(0.0));
}

/// Forms in which chat models write their answers, of all canonical solutions of the published file.
#[test]
fn the_canonical_solutions_are_found_in_every_form_of_an_answer() {
    let Some(path) = real_file("humaneval/HumanEval.jsonl.gz") else { return };
    for problem in &Problems::read(&path).unwrap().0 {
        let solution = &problem.canonical_solution;
        let expected = format!("{}{solution}", problem.prompt);
        let check = |answer: String, forms: &[AnswerForm]| {
            for &form in forms {
                let found = program(problem, &answer, form);
                assert_eq!(found.trim_end(), expected.trim_end(), "{}, {form:?}: {answer}", problem.task_id);
            }
        };
        let both = [AnswerForm::Continuation, AnswerForm::Reply];
        check(solution.clone(), &both);
        check(format!("```python\n{solution}```\nIt returns what is asked."), &both);
        check(format!("Here is the rest:\n~~~py\n{solution}~~~"), &both);
        check(format!("{solution}\n\nprint({}())\n", problem.entry_point), &[AnswerForm::Reply]);
        check(format!("{solution}\nThis solution doesn't use (much) memory."), &[AnswerForm::Reply]);
        let whole = format!("Sure:\n\n```python\n{expected}```\nThat's it.");
        for form in both {
            assert!(program(problem, &whole, form).ends_with(&expected), "{}, {form:?}", problem.task_id);
        }
    }
}
