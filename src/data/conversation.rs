//! Parsing of the `conversations` list of multi-turn rows into questions and answers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::content::{Content, Exchange};
use super::error::RowFault;
use super::json_fields::{kind_of, take_text};

/// Reads `[{"from": "human"|"gpt", "value": text}, ...]`.
///
/// A first message that is not from the human is dropped, as in FedLLM-Bench; after it the two roles must alternate.
pub(super) fn conversation(messages: Value) -> Result<Content, RowFault> {
    let Value::Array(messages) = messages else {
        return Err(RowFault::WrongType { field: "conversations", expected: "a list", found: kind_of(&messages) });
    };
    let mut exchanges = Vec::with_capacity(messages.len() / 2);
    let mut question = None;
    for (turn, message) in messages.into_iter().enumerate() {
        let (is_human, text) = read_message(turn, message)?;
        // The state is the open question; each message either opens one or answers it.
        match (question.take(), is_human) {
            (None, true) => question = Some(text),
            (Some(user), false) => exchanges.push(answered(turn, user, text)?),
            (None, false) if turn == 0 => {}
            _ => return Err(RowFault::NotAlternating { turn }),
        }
    }
    if exchanges.is_empty() {
        return Err(RowFault::NoAnswer);
    }
    Ok(Content::MultiTurn { exchanges, unanswered: question })
}

fn answered(turn: usize, user: String, assistant: String) -> Result<Exchange, RowFault> {
    if assistant.trim().is_empty() {
        return Err(RowFault::EmptyTurn { turn });
    }
    Ok(Exchange { user, assistant })
}

/// Reads one message. Returns whether the human wrote it, and its text.
fn read_message(turn: usize, message: Value) -> Result<(bool, String), RowFault> {
    let Value::Object(map) = message else {
        return Err(RowFault::NotAMessage { turn, found: kind_of(&message) });
    };
    let mut fields: BTreeMap<String, Value> = map.into_iter().collect();
    let role = take_text(&mut fields, "from").map_err(|fault| fault.in_turn(turn))?;
    let text = take_text(&mut fields, "value").map_err(|fault| fault.in_turn(turn))?;
    match role.as_str() {
        "human" => Ok((true, text)),
        "gpt" => Ok((false, text)),
        _ => Err(RowFault::UnknownRole { turn, role }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spoken(roles: &[(&str, &str)]) -> Result<Content, RowFault> {
        conversation(roles.iter().map(|(from, value)| json!({"from": from, "value": value})).collect())
    }

    #[test]
    fn a_first_answer_and_a_last_question_are_set_aside() {
        let read = spoken(&[("gpt", "hi"), ("human", "q1"), ("gpt", "a1"), ("human", "q2")]).unwrap();
        let expected = Exchange { user: "q1".into(), assistant: "a1".into() };
        assert_eq!(read, Content::MultiTurn { exchanges: vec![expected], unanswered: Some("q2".into()) });
    }

    #[test]
    fn faults_name_the_turn() {
        let fault = |roles: &[(&str, &str)]| spoken(roles).unwrap_err().to_string();
        assert!(fault(&[("human", "a"), ("human", "b")]).starts_with("turn 1 of its conversation does not alternate"));
        assert!(fault(&[("gpt", "a"), ("gpt", "b")]).starts_with("turn 1 of its conversation does not alternate"));
        assert!(fault(&[("human", "a"), ("system", "b")]).contains("role \"system\""));
        assert!(fault(&[("human", "a"), ("gpt", " ")]).contains("turn 1 of its conversation is an empty answer"));
        assert!(fault(&[("human", "a")]).contains("no answer"));
        assert!(fault(&[]).contains("no answer"));
    }

    #[test]
    fn a_message_of_another_shape_is_named() {
        let fault = |value| conversation(value).unwrap_err().to_string();
        assert_eq!(fault(json!("x")), "its \"conversations\" must be a list and is a string");
        assert_eq!(fault(json!([3])), "turn 0 of its conversation must be a JSON object and is a number");
        assert_eq!(
            fault(json!([{"from": "human"}])),
            "turn 0 of its conversation: it has no \"value\"; its other keys: none"
        );
    }
}
