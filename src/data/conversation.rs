//! Lists of messages, as ShareGPT and the Hugging Face libraries write them, read as questions and answers.

use super::content::Exchange;
use super::error::RowFault;
use super::fields::{Fields, kind_of};
use super::json_value::JsonValue;

/// A list of messages with the system prompt in front of it taken off.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Conversation {
    pub system: Option<String>,
    /// Questions with their answers.
    pub exchanges: Vec<Exchange>,
    /// A last question without an answer.
    pub unanswered: Option<String>,
    /// Whether the list began with an answer, which is left out, as in FedLLM-Bench.
    pub lost_opening: bool,
}

/// One message of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpokenMessage {
    pub speaker: Speaker,
    pub text: String,
}

/// The author of a message, by whatever name it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    System,
    User,
    Assistant,
    /// The assistant that calls a tool, where this is a role of its own.
    Caller,
    /// A tool that returns its result.
    Tool,
}

impl Speaker {
    /// Returns the author with this name in ShareGPT's files or in the chat format of Transformers.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "system" => Some(Self::System),
            "human" | "user" => Some(Self::User),
            "gpt" | "assistant" | "chatgpt" | "bing" | "bard" => Some(Self::Assistant),
            "function_call" => Some(Self::Caller),
            "tool" | "observation" => Some(Self::Tool),
            _ => None,
        }
    }
}

impl Conversation {
    /// Orders messages as questions with their answers.
    ///
    /// A first message from the assistant is left out, as in FedLLM-Bench; after it the two roles must alternate.
    pub fn of(messages: Vec<SpokenMessage>) -> Result<Self, RowFault> {
        let mut conversation = Self::default();
        let mut question = None;
        // Turn of the first message that is not the system prompt.
        let mut first = 0;
        for (turn, SpokenMessage { speaker, text }) in messages.into_iter().enumerate() {
            // The state is the open question; each message either opens one or answers it.
            match (speaker, question.take()) {
                (Speaker::System, None) if turn == 0 => {
                    conversation.system = Some(text).filter(|text| !text.is_empty());
                    first = 1;
                }
                (Speaker::User, None) => question = Some(text),
                (Speaker::Assistant, Some(user)) => conversation.exchanges.push(answered(turn, user, text)?),
                (Speaker::Assistant, None) if turn == first => conversation.lost_opening = true,
                (Speaker::System, _) => return Err(RowFault::LateSystemPrompt { turn }),
                _ => return Err(RowFault::NotAlternating { turn }),
            }
        }
        conversation.unanswered = question;
        Ok(conversation)
    }

    /// Reads a list of messages and checks that something in it can be learned.
    pub fn trainable(column: &str, messages: JsonValue) -> Result<Self, RowFault> {
        let conversation = Self::of(read_messages(column, messages)?)?;
        if conversation.exchanges.is_empty() {
            return Err(RowFault::NoAnswer);
        }
        Ok(conversation)
    }
}

fn answered(turn: usize, user: String, assistant: String) -> Result<Exchange, RowFault> {
    if assistant.trim().is_empty() {
        return Err(RowFault::EmptyTurn { turn });
    }
    Ok(Exchange { user, assistant })
}

/// Reads `[{"from": ..., "value": ...}, ...]` or `[{"role": ..., "content": ...}, ...]`.
pub(super) fn read_messages(column: &str, messages: JsonValue) -> Result<Vec<SpokenMessage>, RowFault> {
    let JsonValue::List(messages) = messages else {
        let found = kind_of(&messages).to_owned();
        return Err(RowFault::WrongType { field: column.to_owned(), expected: "a list", found });
    };
    let mut read = Vec::with_capacity(messages.len());
    for (turn, message) in messages.into_iter().enumerate() {
        read.push(read_message(turn, message)?);
    }
    Ok(read)
}

/// Returns whether a value looks like a list of messages.
pub(super) fn is_chat(value: Option<&JsonValue>) -> bool {
    value.is_some_and(|value| value.as_list().is_some())
}

/// Returns the keys of a message's role and text.
pub(super) fn role_keys(has_role: bool) -> (&'static str, &'static str) {
    if has_role { ("role", "content") } else { ("from", "value") }
}

fn read_message(turn: usize, message: JsonValue) -> Result<SpokenMessage, RowFault> {
    let JsonValue::Object(entries) = message else {
        return Err(RowFault::NotAMessage { turn, found: kind_of(&message) });
    };
    let mut fields = Fields::from(entries);
    // What calls tools cannot be trained without the calls, so it is not read as if it had none.
    if fields.get("tool_calls").is_some_and(|calls| !calls.is_blank()) {
        return Err(RowFault::ToolCalls { turn });
    }
    let (role_key, text_key) = role_keys(fields.has("role"));
    let role = fields.text(role_key).map_err(|fault| fault.in_turn(turn))?;
    let speaker = match Speaker::named(&role) {
        Some(Speaker::Caller | Speaker::Tool) => return Err(RowFault::ToolCalls { turn }),
        Some(speaker) => speaker,
        None => return Err(RowFault::UnknownRole { turn, role }),
    };
    let text = message_text(&mut fields, text_key).map_err(|fault| fault.in_turn(turn))?;
    Ok(SpokenMessage { speaker, text })
}

/// Returns the text of a message, which may be written as a list of parts.
pub(super) fn message_text(fields: &mut Fields, key: &str) -> Result<String, RowFault> {
    if !is_chat(fields.get(key)) {
        return fields.text(key);
    }
    let JsonValue::List(parts) = fields.required(key)? else { unreachable!("it was seen to be a list") };
    let mut text = String::new();
    for part in &parts {
        match part.get("text").and_then(JsonValue::as_text) {
            Some(piece) => text += piece,
            None => {
                let found = part.get("type").and_then(JsonValue::as_text).unwrap_or(kind_of(part));
                return Err(RowFault::NotText { part: found.to_owned() });
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(messages: Value) -> Result<Conversation, RowFault> {
        Conversation::trainable("conversations", messages.into())
    }

    fn spoken(roles: &[(&str, &str)]) -> Result<Conversation, RowFault> {
        read(roles.iter().map(|(from, value)| json!({"from": from, "value": value})).collect())
    }

    fn exchange(user: &str, assistant: &str) -> Exchange {
        Exchange { user: user.into(), assistant: assistant.into() }
    }

    #[test]
    fn a_first_answer_and_a_last_question_are_set_aside() {
        let read = spoken(&[("gpt", "hi"), ("human", "q1"), ("gpt", "a1"), ("human", "q2")]).unwrap();
        assert_eq!((read.exchanges, read.unanswered), (vec![exchange("q1", "a1")], Some("q2".into())));
        assert!(read.lost_opening);
    }

    #[test]
    fn both_ways_of_writing_messages_are_read() {
        let parts = json!([{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]);
        let conversation = read(json!([
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": parts}
        ]));
        let expected = Conversation {
            system: Some("Be brief.".into()),
            exchanges: vec![exchange("Hi", "Hello")],
            unanswered: None,
            lost_opening: false,
        };
        assert_eq!(conversation.unwrap(), expected);
        for (asks, answers) in [("human", "gpt"), ("user", "assistant"), ("user", "chatgpt"), ("human", "bing")] {
            assert_eq!(spoken(&[(asks, "Hi"), (answers, "Hello")]).unwrap().exchanges, expected.exchanges);
        }
    }

    #[test]
    fn faults_name_the_turn() {
        let fault = |roles: &[(&str, &str)]| spoken(roles).unwrap_err().to_string();
        assert!(fault(&[("human", "a"), ("human", "b")]).starts_with("turn 1 of its conversation does not alternate"));
        assert!(fault(&[("gpt", "a"), ("gpt", "b")]).starts_with("turn 1 of its conversation does not alternate"));
        assert!(fault(&[("human", "a"), ("system", "b")]).contains("turn 1 of its conversation is a system prompt"));
        assert!(fault(&[("human", "a"), ("narrator", "b")]).contains("role \"narrator\""));
        assert!(fault(&[("human", "a"), ("gpt", " ")]).contains("turn 1 of its conversation is an empty answer"));
        assert!(fault(&[("human", "a")]).contains("no answer"));
        assert!(fault(&[("system", "a")]).contains("no answer"));
        assert!(fault(&[]).contains("no answer"));
    }

    #[test]
    fn a_message_of_another_shape_is_named() {
        let fault = |value| read(value).unwrap_err().to_string();
        assert_eq!(fault(json!("x")), "its \"conversations\" must be a list and is a string");
        assert_eq!(fault(json!([3])), "turn 0 of its conversation must be a JSON object and is a number");
        assert_eq!(
            fault(json!([{"from": "human"}])),
            "turn 0 of its conversation: it has no \"value\"; its other keys: none"
        );
        assert!(
            fault(json!([{"role": "user", "content": [{"type": "image"}]}])).contains("a part that is no text: image")
        );
        for last in [
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}),
            json!({"role": "tool", "content": "7"}),
            json!({"from": "function_call", "value": "{}"}),
        ] {
            let called = json!([{"role": "user", "content": "q"}, last]);
            assert!(fault(called).starts_with("turn 1 of its conversation calls tools"), "{last}");
        }
    }
}
