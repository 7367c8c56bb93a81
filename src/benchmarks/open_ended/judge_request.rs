//! Judge requests: the prompts by which a judge rates an answer.

use super::judge_prompts::judge_prompt;
use super::questions::{Question, Questions};
use crate::benchmarks::catalog::OpenEnded;
use crate::judge::ChatPrompt;

/// [token] -- Maximum length of a judgment, the same in all scripts.
const JUDGMENT_TOKENS_MAX: u32 = 2048;

/// System message of AlpacaEval's judge. FedLLM-Bench uses it in place of FastChat's system message.
const RANKS: &str = "You are a helpful assistant, that ranks models by the quality of their answers.";

/// System message of the Ref-GPT4 judge.
const RATES: &str = "You are a helpful assistant, that rates models by the quality of their answers.";

/// Prompt of Ref-GPT4 for Aya. The license of FedLLM-Bench's own text does not allow redistribution. This one asks for
/// the same four criteria in other words; [`JudgeWording::aya`] replaces it.
const AYA: &str = "[Instruction]\nAct as an impartial judge and rate how well an AI assistant answered the user's \
    question below. Look at four things: (1) the answer is in the language of the question; (2) it answers what was \
    asked; (3) its facts hold and its meaning can be followed; (4) its grammar is right and it reads fluently. A \
    reference answer, written by a person, follows at the end. Give a short explanation first and be as objective as \
    you can. Then rate the answer on a scale of 1 to 10 in exactly this form: \"[[rating]]\", for example: \"Rating: \
    [[5]]\".\n\n[Question]\n{question}\n\n[The Start of Assistant's Answer]\n{answer}\n[The End of Assistant's \
    Answer]\n\n[The Start of Human Reference Answer]\n{reference}\n[The End of Human Reference Answer]";

/// A judge request for one answer.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgeRequest {
    /// Index of the question.
    pub question: usize,
    /// Turn of the dialog, from 0.
    pub turn: usize,
    /// The prompt for the judge.
    pub prompt: ChatPrompt,
}

/// Judge prompts that a user may replace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgeWording {
    /// Replacement of the built-in prompt of Ref-GPT4 for Aya, with `{question}`, `{answer}` and `{reference}`.
    pub aya: Option<String>,
}

impl Questions {
    /// Returns the judge requests: the first turn of every question, then the second turn of every question. Empty for
    /// a benchmark that is classified by a rule.
    ///
    /// # Panics
    /// If an answer is missing.
    pub fn judge_requests(&self, answers: &[Vec<String>], wording: &JudgeWording) -> Vec<JudgeRequest> {
        let turns = if self.benchmark.is_judged() { self.benchmark.turns() } else { 0 };
        let mut judge_requests = Vec::with_capacity(turns * self.questions.len());
        for turn in 0..turns {
            for (index, (question, answers)) in self.questions.iter().zip(answers).enumerate() {
                let prompt = prompt(self.benchmark, question, answers, turn, wording);
                judge_requests.push(JudgeRequest { question: index, turn, prompt });
            }
        }
        judge_requests
    }
}

/// Builds the prompt for the judge of one answer.
fn prompt(
    benchmark: OpenEnded,
    question: &Question,
    answers: &[String],
    turn: usize,
    wording: &JudgeWording,
) -> ChatPrompt {
    let values = [("question", question.turns[0].as_str()), ("answer", answers[0].as_str())];
    let (system, user, temperature) = match benchmark {
        OpenEnded::MtBench => return mt_bench(question, answers, turn),
        OpenEnded::Vicuna => (RANKS, fill(&judge_prompt("single-v1").prompt_template, &values), 0.2),
        OpenEnded::Chatbot | OpenEnded::WildChat => (RATES, fill(&of_instruction(), &values), 0.2),
        OpenEnded::Aya => {
            let template = wording.aya.as_deref().unwrap_or(AYA);
            let reference = ("reference", question.references[0].as_str());
            (RATES, fill(template, &[values[0], values[1], reference]), 0.2)
        }
        OpenEnded::AdvBench => unreachable!("a rule reads its answers"),
    };
    ChatPrompt { system: system.into(), user, temperature, max_tokens: JUDGMENT_TOKENS_MAX }
}

/// Returns FastChat's prompt with the one word that Ref-GPT4 changes. Despite its name, the prompt contains no
/// reference answer: the files for Chatbot and WildChat have none.
fn of_instruction() -> String {
    judge_prompt("single-v1").prompt_template.replace("to the user question", "to the user's instruction")
}

/// Builds FastChat's single-answer grading prompt: the first turn alone, the second with the whole dialog.
fn mt_bench(question: &Question, answers: &[String], turn: usize) -> ChatPrompt {
    let prompt = judge_prompt(match (question.references.is_empty(), turn) {
        (true, 0) => "single-v1",
        (false, 0) => "single-math-v1",
        (true, _) => "single-v1-multi-turn",
        (false, _) => "single-math-v1-multi-turn",
    });
    // The four templates use different names for the same texts; a template ignores the names that it does not use.
    let user = fill(
        &prompt.prompt_template,
        &[
            ("question", &question.turns[0]),
            ("answer", text_of_turn(answers, 0)),
            ("ref_answer_1", text_of_turn(&question.references, 0)),
            ("ref_answer_2", text_of_turn(&question.references, 1)),
            ("question_1", &question.turns[0]),
            ("question_2", &question.turns[1]),
            ("answer_1", text_of_turn(answers, 0)),
            ("answer_2", text_of_turn(answers, 1)),
        ],
    );
    ChatPrompt { system: prompt.system_prompt.clone(), user, temperature: 0.0, max_tokens: JUDGMENT_TOKENS_MAX }
}

/// Returns the text of a turn, or nothing if there is none.
fn text_of_turn(texts: &[String], turn: usize) -> &str {
    texts.get(turn).map_or("", String::as_str)
}

/// Replaces each `{name}` in `template` by its value. Inserted values are not searched again, so that a question with
/// braces stays as it is. A name without a value is left in place.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let placeholder = values.iter().find_map(|(name, value)| {
            let after = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match placeholder {
            Some((value, after)) => {
                text.push_str(value);
                rest = after;
            }
            // A brace that belongs to the text.
            None => {
                text.push('{');
                rest = &from[1..];
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_searched_again() {
        let values = [("a", "{b}"), ("b", "{a}")];
        assert_eq!(fill("{a}-{b}-{c}-{", &values), "{b}-{a}-{c}-{");
        assert_eq!(fill("{{a}} é", &values), "{{b}} é");
    }
}
