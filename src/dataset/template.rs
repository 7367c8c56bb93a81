//! How a row is put to the model: prompt templates as data, all in one table.

/// Text around a question and its answer.
///
/// A dialogue is `preamble`, then for each exchange `before_question`, the question, `before_answer`, the answer with
/// its `answer_lead`, and the tokenizer's end-of-sequence token. All that stands before `answer_lead` is prompt; the
/// rest is learnt. So the response key of FedLLM-Bench (`\n### Response:` in `alpaca`) is the end of `before_answer`.
///
/// The texts follow section 2 of FedLLM-Bench's description: `alpaca` is Stanford Alpaca's, `vicuna_v1.1` FastChat's.
/// They are interfaces to models that were trained with them, so they are given verbatim.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    /// The name in scenarios.
    pub name: &'static str,
    /// Once, at the start.
    pub preamble: &'static str,
    /// Before each question.
    pub before_question: &'static str,
    /// Between a question and its answer; ends where the answer begins.
    pub before_answer: &'static str,
    /// The white space with which an answer begins. It is learnt, since most tokenizers merge it with the first word.
    pub answer_lead: &'static str,
}

/// Every template. A new one is an entry here.
const TEMPLATES: &[Template] = &[
    Template {
        name: "alpaca",
        preamble: "Below is an instruction that describes a task. \
                   Write a response that appropriately completes the request.\n\n",
        before_question: "### Instruction:\n",
        before_answer: " \n\n### Response:",
        answer_lead: " ",
    },
    Template {
        name: "vicuna_v1.1",
        preamble: "A chat between a curious user and an artificial intelligence assistant. \
                   The assistant gives helpful, detailed, and polite answers to the user's questions. ",
        before_question: "USER: ",
        before_answer: " ASSISTANT:",
        answer_lead: " ",
    },
];

impl Template {
    /// The template of this name, or `None`.
    pub fn named(name: &str) -> Option<&'static Self> {
        TEMPLATES.iter().find(|template| template.name == name)
    }

    /// The names of all templates, for errors and help.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TEMPLATES.iter().map(|template| template.name)
    }

    /// The prompt of a first question, up to where the answer begins: what generation starts from.
    pub fn prompt(&self, question: &str) -> String {
        [self.preamble, self.before_question, question, self.before_answer].concat()
    }

    /// The prompt of a later question, which follows the end-of-sequence token of the answer before.
    pub fn later_prompt(&self, question: &str) -> String {
        [self.before_question, question, self.before_answer].concat()
    }

    /// The learnt text of an answer, without the end-of-sequence token.
    pub fn answer(&self, text: &str) -> String {
        [self.answer_lead, text].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpaca_is_exact() {
        let alpaca = Template::named("alpaca").unwrap();
        assert_eq!(
            alpaca.prompt("Greet me.") + &alpaca.answer("Hello there."),
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\nGreet me. \n\n### Response: Hello there."
        );
        assert!(alpaca.prompt("x").ends_with("\n### Response:"));
    }

    #[test]
    fn vicuna_is_exact_over_two_turns() {
        let vicuna = Template::named("vicuna_v1.1").unwrap();
        let text = [
            vicuna.prompt("q1") + &vicuna.answer("a1"),
            "</s>".into(),
            vicuna.later_prompt("q2") + &vicuna.answer("a2"),
        ];
        assert!(text.concat().ends_with("user's questions. USER: q1 ASSISTANT: a1</s>USER: q2 ASSISTANT: a2"));
    }

    #[test]
    fn names_are_unique_and_unknown_ones_are_none() {
        let names: std::collections::BTreeSet<_> = Template::names().collect();
        assert_eq!(names.len(), TEMPLATES.len());
        assert_eq!(Template::named("alpacca"), None);
    }
}
