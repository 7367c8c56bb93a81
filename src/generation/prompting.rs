//! Prompt templates of evaluations: how a dialog becomes a prompt.

use super::request::PromptText;
use crate::data::{ChatTemplate, ChatTemplateError, Message, Role, Template};

/// A prompt template for dialogs.
#[derive(Clone, Copy, Debug)]
pub enum Prompting<'a> {
    /// A template as used in training, with the system prompt of its rows. `end` is the text of the end-of-sequence token.
    Template { template: &'a Template, system: Option<&'a str>, end: &'a str },
    /// The chat template of the model's folder, with the system prompt of training.
    Chat { template: &'a ChatTemplate, system: Option<&'a str> },
    /// FastChat's conversation template `alpaca`. FedLLM-Bench uses it for MT-Bench although its models were trained
    /// with another one: the question is on the line of its header, and only the end-of-sequence token separates an
    /// answer from the next header. Needed to reproduce published scores.
    FastChatAlpaca { end: &'a str },
}

impl Prompting<'_> {
    /// Returns the prompt for the last of `questions`, given the `answers` to the earlier ones.
    ///
    /// # Errors
    /// If the chat template refuses the dialog.
    ///
    /// # Panics
    /// Unless there is one question more than there are answers.
    pub fn prompt(&self, questions: &[&str], answers: &[&str]) -> Result<PromptText, ChatTemplateError> {
        assert_eq!(questions.len(), answers.len() + 1, "the last question is the open one");
        Ok(match self {
            Self::Template { template, system, end } => {
                PromptText::Turns { turns: in_template(template, *system, questions, answers), end: (*end).to_owned() }
            }
            Self::Chat { template, system } => {
                PromptText::Chat(template.prompt(&messages(*system, questions, answers))?)
            }
            Self::FastChatAlpaca { end } => PromptText::Raw(in_fastchat_alpaca(end, questions, answers)),
        })
    }
}

/// Returns the dialog turn by turn; the EOS token belongs between two of them.
fn in_template(template: &Template, system: Option<&str>, questions: &[&str], answers: &[&str]) -> Vec<String> {
    let mut turns = Vec::with_capacity(questions.len());
    for (turn, question) in questions.iter().enumerate() {
        let mut text = match turn {
            0 => template.prompt_under(system, question),
            _ => template.later_prompt(question),
        };
        if let Some(answer) = answers.get(turn) {
            text += &template.answer(answer);
        }
        turns.push(text);
    }
    turns
}

fn in_fastchat_alpaca(end: &str, questions: &[&str], answers: &[&str]) -> String {
    let preamble = Template::named("alpaca").expect("the table of templates has alpaca").preamble;
    let mut text = preamble.to_owned();
    for (turn, question) in questions.iter().enumerate() {
        if turn > 0 {
            text += &format!(" {}{end}", answers[turn - 1]);
        }
        text += &format!("### Instruction: {question}\n\n### Response:");
    }
    text
}

/// Returns the dialog as chat messages: after the system prompt, questions and answers alternate, beginning and ending with
/// a question.
fn messages<'a>(system: Option<&'a str>, questions: &[&'a str], answers: &[&'a str]) -> Vec<Message<'a>> {
    let mut messages = Vec::with_capacity(1 + questions.len() + answers.len());
    if let Some(content) = system {
        messages.push(Message { role: Role::System, content });
    }
    for (turn, &question) in questions.iter().enumerate() {
        messages.push(Message { role: Role::User, content: question });
        if let Some(&answer) = answers.get(turn) {
            messages.push(Message { role: Role::Assistant, content: answer });
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_turn_follows_the_end_of_the_first_answer() {
        let template = Template::named("alpaca").unwrap();
        let trained = Prompting::Template { template, system: None, end: "</s>" };
        let prompt = trained.prompt(&["q1", "q2"], &["a1"]).unwrap().text();
        assert!(
            prompt.ends_with("### Instruction:\nq1 \n\n### Response: a1</s>### Instruction:\nq2 \n\n### Response:"),
            "{prompt}"
        );
        let published = Prompting::FastChatAlpaca { end: "</s>" };
        assert_eq!(
            published.prompt(&["q1", "q2"], &["a1"]).unwrap().text(),
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction: q1\n\n### Response: a1</s>### Instruction: q2\n\n### Response:"
        );
    }

    #[test]
    fn messages_take_turns() {
        let dialog = messages(Some("s"), &["q1", "q2"], &["a1"]);
        let roles: Vec<_> = dialog.iter().map(|m| (m.role, m.content)).collect();
        let asked = [(Role::User, "q1"), (Role::Assistant, "a1"), (Role::User, "q2")];
        assert_eq!(roles, [&[(Role::System, "s")], &asked[..]].concat());
        assert_eq!(messages(None, &["q1", "q2"], &["a1"])[0].role, Role::User);
    }
}
