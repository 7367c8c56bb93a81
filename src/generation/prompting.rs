//! How a dialogue is put to the model that is evaluated.

use crate::data::{ChatTemplate, ChatTemplateError, Message, Role, Template};

/// Text around questions and answers, up to where the next answer begins.
#[derive(Clone, Copy, Debug)]
pub enum Prompting<'a> {
    /// A template as training uses it; `end` is the text of the end-of-sequence token.
    Template { template: &'a Template, end: &'a str },
    /// The chat template of the model's folder.
    Chat(&'a ChatTemplate),
    /// FastChat's conversation `alpaca`, which FedLLM-Bench uses for MT-Bench though its models were trained with
    /// another: the question stands on the line of its header, and nothing parts an answer from the next header but
    /// the end-of-sequence token. Kept to repeat published figures.
    FastChatAlpaca { end: &'a str },
}

impl Prompting<'_> {
    /// The prompt of the last of `questions`, after `answers` to those before it.
    ///
    /// # Errors
    /// A chat template that refuses the dialogue.
    ///
    /// # Panics
    /// Unless there is one question more than there are answers.
    pub fn prompt(&self, questions: &[&str], answers: &[&str]) -> Result<String, ChatTemplateError> {
        assert_eq!(questions.len(), answers.len() + 1, "the last question is the open one");
        match self {
            Self::Template { template, end } => Ok(in_template(template, end, questions, answers)),
            Self::Chat(template) => template.prompt(&messages(questions, answers)),
            Self::FastChatAlpaca { end } => Ok(in_fastchat_alpaca(end, questions, answers)),
        }
    }
}

fn in_template(template: &Template, end: &str, questions: &[&str], answers: &[&str]) -> String {
    let mut text = template.prompt(questions[0]);
    for (answer, question) in answers.iter().zip(&questions[1..]) {
        text += &template.answer(answer);
        text += end;
        text += &template.later_prompt(question);
    }
    text
}

fn in_fastchat_alpaca(end: &str, questions: &[&str], answers: &[&str]) -> String {
    let preamble = Template::named("alpaca").expect("the table of templates has alpaca").preamble;
    let turn = |question: &str| format!("### Instruction: {question}\n\n### Response:");
    let mut text = preamble.to_owned() + &turn(questions[0]);
    for (answer, question) in answers.iter().zip(&questions[1..]) {
        text += &format!(" {answer}{end}{}", turn(question));
    }
    text
}

fn messages<'a>(questions: &[&'a str], answers: &[&'a str]) -> Vec<Message<'a>> {
    let asked = questions.iter().map(|content| Message { role: Role::User, content });
    let mut answered = answers.iter().map(|content| Message { role: Role::Assistant, content });
    asked.flat_map(|question| [Some(question), answered.next()]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_turn_follows_the_end_of_the_first_answer() {
        let template = Template::named("alpaca").unwrap();
        let trained = Prompting::Template { template, end: "</s>" };
        let prompt = trained.prompt(&["q1", "q2"], &["a1"]).unwrap();
        assert!(
            prompt.ends_with("### Instruction:\nq1 \n\n### Response: a1</s>### Instruction:\nq2 \n\n### Response:"),
            "{prompt}"
        );
        let published = Prompting::FastChatAlpaca { end: "</s>" };
        assert_eq!(
            published.prompt(&["q1", "q2"], &["a1"]).unwrap(),
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction: q1\n\n### Response: a1</s>### Instruction: q2\n\n### Response:"
        );
    }

    #[test]
    fn messages_take_turns() {
        let roles: Vec<_> = messages(&["q1", "q2"], &["a1"]).iter().map(|m| (m.role, m.content)).collect();
        assert_eq!(roles, [(Role::User, "q1"), (Role::Assistant, "a1"), (Role::User, "q2")]);
    }
}
