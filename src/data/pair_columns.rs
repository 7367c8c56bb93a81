//! Columns of TRL's dataset formats: `prompt` and `completion`, and `prompt`, `chosen` and `rejected`, each as text or as a
//! list of messages.

use super::content::{Content, Exchange};
use super::conversation::{Conversation, Speaker, SpokenMessage, is_chat, read_messages};
use super::error::RowFault;
use super::fields::{Fields, kind_of};
use super::json_value::JsonValue;

/// The texts of a row, with the system prompt that its messages begin with.
pub(super) struct Texts {
    pub system: Option<String>,
    pub content: Content,
}

impl From<Content> for Texts {
    fn from(content: Content) -> Self {
        Self { system: None, content }
    }
}

/// Takes `prompt` and `completion` as a single turn.
pub(super) fn completion(fields: &mut Fields) -> Result<Texts, RowFault> {
    if !holds_chat(fields, "prompt") && !holds_chat(fields, "completion") {
        let instruction = fields.text("prompt")?;
        let response = fields.answer("completion")?;
        return Ok(Content::SingleTurn { instruction, response }.into());
    }
    let prompt = take_chat(fields, "prompt", Speaker::User)?;
    let answer = take_chat(fields, "completion", Speaker::Assistant)?;
    let Asked { system, history, question } = Asked::of(prompt)?;
    if !history.is_empty() {
        return Err(RowFault::EarlierAnswers);
    }
    let response = only_answer("completion", answer)?;
    Ok(Texts { system, content: Content::SingleTurn { instruction: question, response } })
}

/// Takes a preference pair, whose prompt is a column of its own or the common beginning of its answers.
pub(super) fn preference(fields: &mut Fields) -> Result<Texts, RowFault> {
    if ["prompt", "chosen", "rejected"].into_iter().any(|column| holds_chat(fields, column)) {
        return chat_preference(fields);
    }
    if fields.has("prompt") || !fields.has("chosen") || !fields.has("rejected") {
        let prompt = fields.text("prompt")?;
        let chosen = fields.answer("chosen")?;
        let rejected = fields.answer("rejected")?;
        return Ok(pair(prompt, chosen, rejected));
    }
    let chosen = fields.answer("chosen")?;
    let rejected = fields.answer("rejected")?;
    let end = implicit_prompt_bytes(&chosen, &rejected);
    let prompt = chosen[..end].to_owned();
    for (column, answer) in [("chosen", &chosen[end..]), ("rejected", &rejected[end..])] {
        if answer.trim().is_empty() {
            return Err(RowFault::Empty { field: column.to_owned() });
        }
    }
    Ok(pair(prompt, chosen[end..].to_owned(), rejected[end..].to_owned()))
}

fn pair(prompt: String, chosen: String, rejected: String) -> Texts {
    Content::Preference { history: vec![], prompt, chosen, rejected }.into()
}

/// Returns whether a column holds a list of messages.
fn holds_chat(fields: &Fields, column: &str) -> bool {
    is_chat(fields.get(column))
}

/// Takes a pair of which at least one column is a list of messages.
fn chat_preference(fields: &mut Fields) -> Result<Texts, RowFault> {
    let mut prompt = match fields.has("prompt") {
        true => Some(take_chat(fields, "prompt", Speaker::User)?),
        false => None,
    };
    let mut chosen = take_chat(fields, "chosen", Speaker::Assistant)?;
    let mut rejected = take_chat(fields, "rejected", Speaker::Assistant)?;
    // The prompt may stand at the beginning of both answers: alone, or once more, as in UltraFeedback.
    let shared = shared_messages(&chosen, &rejected);
    if shared > 0 {
        let common: Vec<SpokenMessage> = chosen.drain(..shared).collect();
        rejected.drain(..shared);
        match &prompt {
            Some(prompt) if !common.ends_with(prompt) => return Err(RowFault::OtherPrompt),
            _ => prompt = Some(common),
        }
    }
    let Some(prompt) = prompt else {
        return Err(RowFault::Missing { field: "prompt".into(), present: vec!["chosen".into(), "rejected".into()] });
    };
    let Asked { system, history, question } = Asked::of(prompt)?;
    let chosen = only_answer("chosen", chosen)?;
    let rejected = only_answer("rejected", rejected)?;
    Ok(Texts { system, content: Content::Preference { history, prompt: question, chosen, rejected } })
}

/// Returns the number of messages that both lists begin with. The last message of each stays an answer.
fn shared_messages(chosen: &[SpokenMessage], rejected: &[SpokenMessage]) -> usize {
    let longest = chosen.len().min(rejected.len()).saturating_sub(1);
    let differs = chosen.iter().zip(rejected).position(|(one, other)| one != other);
    differs.unwrap_or(longest).min(longest)
}

/// A prompt as a list of messages.
struct Asked {
    system: Option<String>,
    history: Vec<Exchange>,
    question: String,
}

impl Asked {
    fn of(prompt: Vec<SpokenMessage>) -> Result<Self, RowFault> {
        let conversation = Conversation::of(prompt)?;
        match conversation.unanswered {
            Some(question) if !conversation.lost_opening => {
                Ok(Self { system: conversation.system, history: conversation.exchanges, question })
            }
            _ => Err(RowFault::NoQuestion),
        }
    }
}

/// Takes out a list of messages; a text is a message of `speaker`.
fn take_chat(fields: &mut Fields, column: &str, speaker: Speaker) -> Result<Vec<SpokenMessage>, RowFault> {
    if holds_chat(fields, column) {
        return read_messages(column, fields.required(column)?);
    }
    let text = fields.text(column)?;
    Ok(vec![SpokenMessage { speaker, text }])
}

/// Returns the text of the one answer that a list must be.
fn only_answer(column: &str, messages: Vec<SpokenMessage>) -> Result<String, RowFault> {
    match &messages[..] {
        [SpokenMessage { speaker: Speaker::Assistant, text }] if !text.trim().is_empty() => Ok(text.clone()),
        [SpokenMessage { speaker: Speaker::Assistant, .. }] => Err(RowFault::Empty { field: column.to_owned() }),
        _ => Err(RowFault::NotOneAnswer { field: column.to_owned() }),
    }
}

/// Returns the length of the common beginning of two texts, in bytes, as TRL's `extract_prompt` cuts it: a space before the
/// place where they differ belongs to the answers.
fn implicit_prompt_bytes(chosen: &str, rejected: &str) -> usize {
    let mut bytes = common_prefix_bytes(chosen, rejected);
    if chosen[..bytes].ends_with(' ') {
        bytes -= 1;
    }
    bytes
}

/// Returns the length of the longest common prefix of two texts, in bytes. It ends between two characters.
pub(super) fn common_prefix_bytes(a: &str, b: &str) -> usize {
    let mut bytes = 0;
    for (in_a, in_b) in a.chars().zip(b.chars()) {
        if in_a != in_b {
            break;
        }
        bytes += in_a.len_utf8();
    }
    bytes
}

/// Replaces the list of messages in a column of UltraFeedback by its second message, which is the answer.
pub(super) fn second_message(fields: &mut Fields, column: &str) -> Result<String, RowFault> {
    let value = fields.required(column)?;
    let answer = match &value {
        JsonValue::Text(text) => Some(text.clone()),
        JsonValue::List(messages) => {
            messages.get(1).and_then(|message| message.get("content")).and_then(JsonValue::as_text).map(str::to_owned)
        }
        _ => None,
    };
    let Some(answer) = answer else {
        let found = kind_of(&value).to_owned();
        return Err(RowFault::WrongType { field: column.to_owned(), expected: "a list of two messages", found });
    };
    if answer.trim().is_empty() { Err(RowFault::Empty { field: column.to_owned() }) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::row::Row;
    use super::*;

    fn read(row: Value) -> Row {
        Row::from_json(row).unwrap()
    }

    fn fault(row: Value) -> String {
        Row::from_json(row).unwrap_err().to_string()
    }

    fn user(text: &str) -> Value {
        json!({"role": "user", "content": text})
    }

    fn assistant(text: &str) -> Value {
        json!({"role": "assistant", "content": text})
    }

    fn preferred(history: Vec<Exchange>, prompt: &str, chosen: &str, rejected: &str) -> Content {
        Content::Preference { history, prompt: prompt.into(), chosen: chosen.into(), rejected: rejected.into() }
    }

    /// The formats of TRL's documentation, "Dataset formats and types".
    #[test]
    fn every_preference_format_of_trl_is_the_same_pair() {
        let explicit = json!({"prompt": [user("q")], "chosen": [assistant("good")], "rejected": [assistant("bad")]});
        let implicit = json!({"chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]});
        let ultrafeedback =
            json!({"prompt": "q", "chosen": [user("q"), assistant("good")], "rejected": [user("q"), assistant("bad")]});
        for row in [explicit, implicit, ultrafeedback] {
            assert_eq!(read(row).content, preferred(vec![], "q", "good", "bad"));
        }
        let row = read(json!({"chosen": "The sky is blue.", "rejected": "The sky is green."}));
        assert_eq!(row.content, preferred(vec![], "The sky is", " blue.", " green."));
    }

    #[test]
    fn earlier_turns_and_a_system_prompt_of_a_pair_are_kept() {
        let system = json!({"role": "system", "content": "s"});
        let row = read(json!({
            "prompt": [system, user("a"), assistant("b"), user("q")], "chosen": [assistant("x")], "rejected": [assistant("y")]
        }));
        let earlier = Exchange { user: "a".into(), assistant: "b".into() };
        assert_eq!(row.content, preferred(vec![earlier], "q", "x", "y"));
        assert_eq!(row.system.as_deref(), Some("s"));
    }

    #[test]
    fn a_completion_is_a_single_turn() {
        let expected = Content::SingleTurn { instruction: "Add".into(), response: "3".into() };
        assert_eq!(read(json!({"prompt": "Add", "completion": "3"})).content, expected);
        assert_eq!(read(json!({"prompt": [user("Add")], "completion": [assistant("3")]})).content, expected);
        let earlier = json!({"prompt": [user("a"), assistant("b"), user("c")], "completion": [assistant("d")]});
        assert!(fault(earlier).contains("\"messages\""));
    }

    #[test]
    fn pairs_that_are_none_are_refused() {
        let two =
            json!({"prompt": "q", "chosen": [user("x"), assistant("a")], "rejected": [user("y"), assistant("b")]});
        assert_eq!(fault(two), "its \"chosen\" must be one answer of the assistant");
        let other =
            json!({"prompt": "q", "chosen": [user("p"), assistant("a")], "rejected": [user("p"), assistant("b")]});
        assert!(fault(other).contains("not its \"prompt\""));
        let alone = json!({"chosen": [assistant("a")], "rejected": [assistant("b")]});
        assert!(fault(alone).starts_with("it has no \"prompt\""));
        let no_question = json!({"prompt": [assistant("a")], "chosen": [assistant("a")], "rejected": [assistant("b")]});
        assert!(fault(no_question).contains("does not end with a question"));
    }
}
