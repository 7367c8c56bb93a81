//! FastChat's judge prompts for single-answer grading, from `fastchat/`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// The prompts verbatim. `fastchat/NOTICE.md` names their origin.
const FASTCHAT: &str = include_str!("fastchat/judge_prompts.jsonl");

/// A judge prompt. Other fields of the file are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct JudgePrompt {
    pub name: String,
    pub system_prompt: String,
    pub prompt_template: String,
}

/// Returns the prompt called `name`.
///
/// # Panics
/// If there is none. Names are constants of this crate.
pub fn judge_prompt(name: &str) -> &'static JudgePrompt {
    static PROMPTS: LazyLock<BTreeMap<String, JudgePrompt>> =
        LazyLock::new(|| parse(FASTCHAT).into_iter().map(|prompt| (prompt.name.clone(), prompt)).collect());
    PROMPTS.get(name).expect("the file has all four single-answer prompts")
}

fn parse(text: &str) -> Vec<JudgePrompt> {
    let prompts = text.lines().map(serde_json::from_str);
    prompts.collect::<Result<_, _>>().expect("the file is FastChat's, checked by a test")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::benchmark::tests::real_file;

    #[test]
    fn there_are_four_prompts_with_their_places() {
        let places = [
            ("single-v1", vec!["{question}", "{answer}"]),
            ("single-math-v1", vec!["{question}", "{ref_answer_1}", "{answer}"]),
            ("single-v1-multi-turn", vec!["{question_1}", "{answer_1}", "{question_2}", "{answer_2}"]),
            (
                "single-math-v1-multi-turn",
                vec!["{question_1}", "{ref_answer_1}", "{question_2}", "{ref_answer_2}", "{answer_1}", "{answer_2}"],
            ),
        ];
        assert_eq!(parse(FASTCHAT).len(), places.len());
        for (name, places) in places {
            let prompt = judge_prompt(name);
            for place in places {
                assert!(prompt.prompt_template.contains(place), "{name}: {place}");
            }
        }
    }

    #[test]
    fn the_prompts_are_those_of_the_real_file_to_the_byte() {
        let Some(path) = real_file("judge_prompts.jsonl") else { return };
        let real = std::fs::read_to_string(path).unwrap();
        let single = real.lines().filter(|line| line.contains(r#""type": "single""#));
        assert_eq!(single.collect::<Vec<_>>(), FASTCHAT.lines().collect::<Vec<_>>());
    }
}
