//! What a judge is asked about an answer.

use super::fill::fill;
use super::judge_prompts::judge_prompt;
use super::questions::{Question, Questions};
use crate::benchmarks::catalog::OpenEnded;
use crate::judge::Inquiry;

/// [tokens] Length at which all scripts cut a judgement.
const JUDGEMENT_TOKENS_MAX: u32 = 2048;

/// The words of AlpacaEval's judges, which FedLLM-Bench puts before FastChat's prompt in place of its system message.
const RANKS: &str = "You are a helpful assistant, that ranks models by the quality of their answers.";

/// The same for Ref-GPT4.
const RATES: &str = "You are a helpful assistant, that rates models by the quality of their answers.";

/// What Ref-GPT4 says of an answer in a language. FedLLM-Bench's own text is under a licence that forbids to ship it;
/// this asks for the same four things in our words, and [`JudgeWording::aya`] takes another.
const AYA: &str = "[Instruction]\nAct as an impartial judge and rate how well an AI assistant answered the user's \
    question below. Look at four things: (1) the answer is in the language of the question; (2) it answers what was \
    asked; (3) its facts hold and its meaning can be followed; (4) its grammar is right and it reads fluently. A \
    reference answer, written by a person, follows at the end. Give a short explanation first and be as objective as \
    you can. Then rate the answer on a scale of 1 to 10 in exactly this form: \"[[rating]]\", for example: \"Rating: \
    [[5]]\".\n\n[Question]\n{question}\n\n[The Start of Assistant's Answer]\n{answer}\n[The End of Assistant's \
    Answer]\n\n[The Start of Human Reference Answer]\n{reference}\n[The End of Human Reference Answer]";

/// One answer before the judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Exam {
    /// Index of the question.
    pub question: usize,
    /// Turn of the dialogue, from 0.
    pub turn: usize,
    /// What the judge reads.
    pub inquiry: Inquiry,
}

/// Words that a user may change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgeWording {
    /// The prompt of Ref-GPT4 on Aya in place of ours, with `{question}`, `{answer}` and `{reference}`.
    pub aya: Option<String>,
}

impl Questions {
    /// What a judge is asked: every question's first turn, then every second one. None where a rule decides.
    ///
    /// # Panics
    /// If an answer is missing.
    pub fn exams(&self, answers: &[Vec<String>], wording: &JudgeWording) -> Vec<Exam> {
        let turns = if self.benchmark.is_judged() { self.benchmark.turns() } else { 0 };
        let exams = (0..turns).flat_map(|turn| {
            self.questions.iter().zip(answers).enumerate().map(move |(index, (question, answers))| Exam {
                question: index,
                turn,
                inquiry: inquiry(self.benchmark, question, answers, turn, wording),
            })
        });
        exams.collect()
    }
}

fn inquiry(
    benchmark: OpenEnded,
    question: &Question,
    answers: &[String],
    turn: usize,
    wording: &JudgeWording,
) -> Inquiry {
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
    Inquiry { system: system.into(), user, temperature, max_tokens: JUDGEMENT_TOKENS_MAX }
}

/// FastChat's prompt with the one word that Ref-GPT4 changes. No reference is given, despite the name: its files for
/// Chatbot and WildChat hold none.
fn of_instruction() -> String {
    judge_prompt("single-v1").prompt_template.replace("to the user question", "to the user's instruction")
}

/// FastChat's single-answer grading: the first turn alone, the second after the whole dialogue.
fn mt_bench(question: &Question, answers: &[String], turn: usize) -> Inquiry {
    let prompt = judge_prompt(match (question.references.is_empty(), turn) {
        (true, 0) => "single-v1",
        (false, 0) => "single-math-v1",
        (true, _) => "single-v1-multi-turn",
        (false, _) => "single-math-v1-multi-turn",
    });
    let reference = |turn: usize| question.references.get(turn).map_or("", String::as_str);
    let answer = |turn: usize| answers.get(turn).map_or("", String::as_str);
    let user = fill(
        &prompt.prompt_template,
        &[
            ("question", &question.turns[0]),
            ("answer", answer(0)),
            ("ref_answer_1", reference(0)),
            ("ref_answer_2", reference(1)),
            ("question_1", &question.turns[0]),
            ("question_2", &question.turns[1]),
            ("answer_1", answer(0)),
            ("answer_2", answer(1)),
        ],
    );
    Inquiry { system: prompt.system_prompt.clone(), user, temperature: 0.0, max_tokens: JUDGEMENT_TOKENS_MAX }
}
