//! Conversations in which tools are offered, called or answer, or with what the model thought: lists of messages as Transformers and TRL write them, and as
//! ShareGPT's with the roles of LLaMA-Factory, `function_call` and `observation`.
//!
//! The messages go to the model's chat template with all of their keys, as `apply_chat_template` passes them on.

use super::conversation::{Speaker, message_text, role_keys};
use super::error::RowFault;
use super::fields::{Fields, kind_of};
use super::json_value::{JsonValue, set};
use super::message::{ChatMessage, Role};
use crate::store::parse_json;

/// Names under which Transformers reads what a model thought, in the order in which it looks for them.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A list of messages with the system prompt in front of it taken off.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ToolConversation {
    pub system: Option<String>,
    /// All messages up to the last of the assistant.
    pub messages: Vec<ChatMessage>,
    /// Whether the list began with an answer, which is left out.
    pub lost_opening: bool,
}

impl ToolConversation {
    /// Reads a list of messages and checks that something in it can be learned. The order of the roles is left to the template.
    pub fn trainable(column: &str, messages: JsonValue) -> Result<Self, RowFault> {
        let JsonValue::List(messages) = messages else {
            let found = kind_of(&messages).to_owned();
            return Err(RowFault::WrongType { field: column.to_owned(), expected: "a list", found });
        };
        let mut conversation = Self::default();
        for (turn, message) in messages.into_iter().enumerate() {
            let message = read_message(turn, message)?;
            let is_first = conversation.messages.is_empty() && !conversation.lost_opening;
            match message.role {
                Role::System if turn == 0 => {
                    conversation.system = Some(message.content().to_owned()).filter(|text| !text.is_empty());
                }
                Role::System => return Err(RowFault::LateSystemPrompt { turn }),
                // The result of a call cannot follow nothing.
                Role::Assistant if is_first && !message.tool_calls().is_empty() => {
                    return Err(RowFault::NotAlternating { turn });
                }
                Role::Assistant if is_first => conversation.lost_opening = true,
                Role::Assistant | Role::User | Role::Tool => conversation.messages.push(message),
            }
        }
        let last = conversation.messages.iter().rposition(|message| message.role == Role::Assistant);
        let Some(last) = last else { return Err(RowFault::NoAnswer) };
        conversation.messages.truncate(last + 1);
        Ok(conversation)
    }
}

/// Returns whether a message of a list has more than a text: calls of tools, the result of one, or what the model thought.
pub(super) fn has_more_than_texts(messages: &JsonValue) -> bool {
    messages.as_list().unwrap_or_default().iter().any(|message| {
        let (role_key, _) = role_keys(message.get("role").is_some());
        let role = message.get(role_key).and_then(JsonValue::as_text);
        let is_of_tool = role.is_some_and(|role| matches!(Speaker::named(role), Some(Speaker::Tool | Speaker::Caller)));
        let keys = REASONING.iter().chain(&["tool_calls"]);
        is_of_tool || keys.filter_map(|key| message.get(key)).any(|value| !value.is_blank())
    })
}

/// Takes out the schemas in the column `tools`: a list of objects, or JSON of one, as TRL reads it. A column of another type is
/// an attribute and stays.
pub(super) fn take_schemas(fields: &mut Fields) -> Result<Vec<JsonValue>, RowFault> {
    let schemas = match fields.get("tools") {
        Some(JsonValue::Text(text)) => parse_json(text.as_bytes()).unwrap_or_default(),
        Some(value) => value.clone(),
        None => JsonValue::Null,
    };
    let JsonValue::List(schemas) = schemas else { return Ok(vec![]) };
    if schemas.is_empty() || !schemas.iter().all(|schema| matches!(schema, JsonValue::Object(_))) {
        return Ok(vec![]);
    }
    fields.take("tools")?;
    Ok(schemas)
}

fn read_message(turn: usize, message: JsonValue) -> Result<ChatMessage, RowFault> {
    let JsonValue::Object(written) = message else {
        return Err(RowFault::NotAMessage { turn, found: kind_of(&message) });
    };
    let mut fields = Fields::from(written.clone());
    let (role_key, text_key) = role_keys(fields.has("role"));
    let name = fields.text(role_key).map_err(|fault| fault.in_turn(turn))?;
    let Some(speaker) = Speaker::named(&name) else { return Err(RowFault::UnknownRole { turn, role: name }) };
    let role = match speaker {
        Speaker::System => Role::System,
        Speaker::User => Role::User,
        Speaker::Assistant | Speaker::Caller => Role::Assistant,
        Speaker::Tool => Role::Tool,
    };
    if fields.get("function_call").is_some_and(|call| !call.is_blank()) {
        return Err(RowFault::OutdatedCall { turn });
    }
    let mut keys = Vec::with_capacity(written.len());
    for (key, value) in written {
        // As in Transformers, a key that is null is one that is not there.
        if value == JsonValue::Null {
            continue;
        }
        keys.push(if key == role_key {
            ("role".to_owned(), role.name().into())
        } else if key == text_key && speaker == Speaker::Caller {
            ("tool_calls".to_owned(), calls(value).ok_or(RowFault::NotACall { turn })?)
        } else if key == text_key {
            ("content".to_owned(), message_text(&mut fields, text_key).map_err(|fault| fault.in_turn(turn))?.into())
        } else {
            (key, value)
        });
    }
    add_reasoning(&mut keys);
    let message = ChatMessage { role, keys };
    match role {
        Role::System | Role::User if message.get("content").is_none() => {
            fields.text(text_key).map_err(|fault| fault.in_turn(turn))?;
        }
        Role::Assistant if message.tool_calls().is_empty() && message.content().trim().is_empty() => {
            return Err(RowFault::EmptyTurn { turn });
        }
        _ => {}
    }
    Ok(message)
}

/// Reads the text of a `function_call`, which is JSON of one call or of a list of them, as `tool_calls`.
fn calls(written: JsonValue) -> Option<JsonValue> {
    let value = match &written {
        JsonValue::Text(text) => parse_json(text.as_bytes()).ok()?,
        _ => written,
    };
    let functions = match value {
        JsonValue::List(functions) => functions,
        function => vec![function],
    };
    if functions.is_empty() || !functions.iter().all(|function| function.get("name").is_some()) {
        return None;
    }
    let mut calls = Vec::with_capacity(functions.len());
    for function in functions {
        calls.push(JsonValue::Object(vec![("type".into(), "function".into()), ("function".into(), function)]));
    }
    Some(JsonValue::List(calls))
}

/// Writes what a model thought under the names that templates read, as Transformers does.
fn add_reasoning(keys: &mut Vec<(String, JsonValue)>) {
    let found = REASONING.iter().find_map(|name| keys.iter().find(|(key, _)| key == name));
    let Some((_, reasoning)) = found.cloned() else { return };
    let thinking = match keys.iter().position(|(key, _)| key == "thinking") {
        Some(place) => keys.remove(place).1,
        None => reasoning.clone(),
    };
    keys.insert(0, ("thinking".into(), thinking));
    set(keys, "reasoning_content".into(), reasoning);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::content::Content;
    use super::super::row::Row;
    use super::*;

    fn keys(value: serde_json::Value) -> Vec<(String, JsonValue)> {
        match value.into() {
            JsonValue::Object(keys) => keys,
            other => panic!("{other} is no object"),
        }
    }

    fn fault(row: serde_json::Value) -> String {
        Row::from_json(row).unwrap_err().to_string()
    }

    #[test]
    fn messages_keep_their_keys_and_what_follows_the_last_answer_is_left_out() {
        let call = json!([{"type": "function", "function": {"name": "f", "arguments": {"a": 1, "b": null}}}]);
        let row = Row::from_json(json!({"messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "q"}], "name": "Ann"},
            {"role": "assistant", "content": null, "tool_calls": call},
            {"role": "tool", "tool_call_id": "1", "content": 7},
            {"role": "assistant", "content": "a", "tool_calls": null},
            {"role": "user", "content": "and?"}
        ], "id": 3}));
        let row = row.unwrap();
        let Content::ToolUse { messages, tools } = &row.content else { panic!("{row:?}") };
        assert_eq!((row.system.as_deref(), tools.len(), row.attributes.len()), (Some("s"), 0, 1));
        let expected = [
            (Role::User, json!({"content": "q", "name": "Ann", "role": "user"})),
            (Role::Assistant, json!({"role": "assistant", "tool_calls": call})),
            (Role::Tool, json!({"content": "7", "role": "tool", "tool_call_id": "1"})),
            (Role::Assistant, json!({"content": "a", "role": "assistant"})),
        ];
        assert_eq!(messages.len(), expected.len());
        for (message, (role, written)) in messages.iter().zip(expected) {
            assert_eq!(*message, ChatMessage { role, keys: keys(written) });
        }
        assert_eq!((row.asked(), row.answered()), (vec!["q"], vec!["a"]));
        assert_eq!(Row::from_json(row.to_json()).unwrap(), row);
    }

    #[test]
    fn calls_and_results_of_sharegpt_are_those_of_messages() {
        let shared = |call: &str| {
            json!({"conversations": [
                {"from": "human", "value": "q"}, {"from": "function_call", "value": call},
                {"from": "observation", "value": "7"}, {"from": "gpt", "value": "a"}
            ]})
        };
        let function = json!({"name": "f", "arguments": {"a": 1}});
        let messages = Row::from_json(json!({"messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]},
            {"role": "tool", "content": "7"}, {"role": "assistant", "content": "a"}
        ]}));
        let messages = messages.unwrap();
        for call in [function.to_string(), json!([function]).to_string()] {
            let read = Row::from_json(shared(&call)).unwrap();
            let Content::ToolUse { messages: read, .. } = read.content else { panic!("{call}") };
            let Content::ToolUse { messages: expected, .. } = &messages.content else { unreachable!() };
            for (one, other) in read.iter().zip(expected) {
                assert_eq!(one.role, other.role);
                assert_eq!(
                    (one.content(), one.get("tool_calls").is_some()),
                    (other.content(), other.get("tool_calls").is_some())
                );
            }
            let call = |messages: &[ChatMessage]| {
                messages[1].tool_calls()[0].get("function").cloned().map(serde_json::Value::from)
            };
            assert_eq!(call(&read), call(expected));
        }
        for call in ["f(1)", "[]", "{\"arguments\": {}}"] {
            assert!(fault(shared(call)).starts_with("turn 1 of its conversation must be a call"), "{call}");
        }
    }

    #[test]
    fn schemas_of_tools_are_read_from_a_list_or_its_json() {
        let schema = json!([{"type": "function", "function": {"name": "f"}}]);
        let row = |tools| json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": tools});
        for tools in [schema.clone(), schema.to_string().into()] {
            let read = Row::from_json(row(tools)).unwrap();
            assert!(matches!(&read.content, Content::ToolUse { tools, .. } if tools.len() == 1), "{read:?}");
            assert!(read.attributes.is_empty());
        }
        for tools in [json!(null), json!([]), json!(["hammer"]), json!("a hammer"), json!("[]")] {
            let read = Row::from_json(row(tools)).unwrap();
            assert!(matches!(read.content, Content::MultiTurn { .. }), "{read:?}");
            assert_eq!(read.attributes.len(), 1);
        }
    }

    #[test]
    fn what_was_thought_has_the_names_of_transformers() {
        let mut thought = keys(json!({"reasoning": "t", "role": "assistant"}));
        add_reasoning(&mut thought);
        let names: Vec<&str> = thought.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["thinking", "reasoning", "role", "reasoning_content"]);
        assert!(thought.iter().all(|(key, value)| key == "role" || value.as_text() == Some("t")));
    }

    #[test]
    fn faults_name_the_turn() {
        let fault = |last| {
            fault(json!({"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "7"}, last]}))
        };
        assert!(
            fault(json!({"role": "assistant", "content": null}))
                .starts_with("turn 2 of its conversation is an empty answer")
        );
        assert!(
            fault(json!({"role": "system", "content": "s"}))
                .starts_with("turn 2 of its conversation is a system prompt")
        );
        assert!(fault(json!({"role": "narrator", "content": "s"})).contains("role \"narrator\""));
        assert!(
            fault(json!({"role": "user", "content": null}))
                .starts_with("turn 2 of its conversation: its \"content\" must be")
        );
        assert!(fault(json!({"role": "tool", "content": {"a": 1}})).contains("must be a string and is an object"));
        assert!(fault(json!({"role": "user", "content": "s"})).contains("no answer"));
        let outdated = json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}});
        assert!(fault(outdated).contains("\"function_call\""));
    }
}
