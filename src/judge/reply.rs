//! Bodies of chat requests and responses in the OpenAI API.

use serde::{Deserialize, Serialize};

use super::settings::{JudgeSettings, TokenLimit};
use super::types::ChatPrompt;
use super::types::Judgment;
use crate::store::parse_json;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: [Message<'a>; 2],
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

/// Returns the body of a request. It is a function of prompt and settings alone, since its hash is the judgment's key.
pub(super) fn request_body(settings: &JudgeSettings, prompt: &ChatPrompt) -> String {
    let limit = settings.tokens_of(prompt);
    let (max_tokens, max_completion_tokens) = match settings.token_limit {
        TokenLimit::MaxTokens => (Some(limit), None),
        TokenLimit::MaxCompletionTokens => (None, Some(limit)),
    };
    let body = Body {
        model: &settings.model,
        messages: [
            Message { role: "system", content: &prompt.system },
            Message { role: "user", content: &prompt.user },
        ],
        temperature: settings.temperature.unwrap_or(prompt.temperature),
        max_tokens,
        max_completion_tokens,
    };
    serde_json::to_string(&body).expect("texts and numbers become JSON")
}

#[derive(Deserialize)]
struct Reply {
    choices: Vec<Choice>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Choice {
    message: Said,
    #[serde(default)]
    finish_reason: Option<String>,
}

/// The judge's message. If the model refuses, `content` is null, and the judgment is unparsable.
#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counted {
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// The judgment in a response.
#[derive(Debug)]
pub(super) struct Received {
    pub judgment: Judgment,
    /// Why the judgment cannot be used, if so.
    pub fault: Option<String>,
}

/// Parses the judgment in a response.
///
/// # Errors
/// A description of what is wrong with the text.
pub(super) fn judgment_in(text: &str) -> Result<Received, String> {
    let reply: Reply =
        parse_json(text.as_bytes()).map_err(|error| format!("its reply is not of the chat API: {error}"))?;
    let usage = reply.usage.unwrap_or_default();
    let choice = reply.choices.into_iter().next().ok_or("its reply has an empty list of choices")?;
    let fault = fault_of(&choice);
    let judgment = Judgment {
        text: choice.message.content.unwrap_or_default(),
        model: reply.model.unwrap_or_default(),
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
    };
    Ok(Received { judgment, fault })
}

/// Returns why a judgment cannot be used: it was not written to its end, or it has no text although the judge did not
/// refuse, as when all of its tokens went into reasoning.
fn fault_of(choice: &Choice) -> Option<String> {
    // `max_tokens` and `model_length` are the names of some vendors for `length`.
    match choice.finish_reason.as_deref() {
        Some(reason @ ("length" | "max_tokens" | "model_length")) => {
            return Some(format!("its judgment was cut off by the limit on its tokens (finish_reason `{reason}`)"));
        }
        Some(reason @ ("content_filter" | "error")) => {
            return Some(format!("its judgment was cut off by the endpoint (finish_reason `{reason}`)"));
        }
        _ => {}
    }
    let is_empty = choice.message.content.as_deref().is_none_or(|content| content.trim().is_empty());
    let is_refused = choice.message.refusal.as_deref().is_some_and(|refusal| !refusal.is_empty());
    (is_empty && !is_refused).then(|| "its judgment is empty".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_chat_apis() {
        let prompt = ChatPrompt { system: "s".into(), user: "u".into(), temperature: 0.2, max_tokens: 9 };
        let mut settings = JudgeSettings::new("http://h", "m");
        let messages = r#""messages":[{"role":"system","content":"s"},{"role":"user","content":"u"}]"#;
        let expected = format!(r#"{{"model":"m",{messages},"temperature":0.2,"max_tokens":9}}"#);
        assert_eq!(request_body(&settings, &prompt), expected);
        settings.token_limit = TokenLimit::MaxCompletionTokens;
        (settings.temperature, settings.tokens_max) = (Some(1.0), Some(7));
        let expected = format!(r#"{{"model":"m",{messages},"temperature":1.0,"max_completion_tokens":7}}"#);
        assert_eq!(request_body(&settings, &prompt), expected);
    }

    #[test]
    fn replies_of_another_shape_are_refused_and_a_judge_that_refuses_is_no_error() {
        let received = judgment_in(r#"{"choices": [{"message": {"content": null, "refusal": "no"}}]}"#).unwrap();
        assert_eq!((received.judgment.text.as_str(), received.judgment.prompt_tokens), ("", 0));
        assert_eq!(received.fault, None);
        for text in ["", "[]", "{}", r#"{"choices": []}"#, r#"{"choices": [{"text": "x"}]}"#, "<html>"] {
            judgment_in(text).unwrap_err();
        }
    }

    #[test]
    fn what_is_cut_off_or_empty_is_no_judgment() {
        let fault = |message: &str, finish_reason: &str| {
            let text = format!(r#"{{"choices": [{{"message": {message}, "finish_reason": {finish_reason}}}]}}"#);
            judgment_in(&text).unwrap().fault.unwrap_or_default()
        };
        let whole = r#"{"content": "[[4]]"}"#;
        for finish_reason in [r#""stop""#, r#""eos_token""#, "null"] {
            assert_eq!(fault(whole, finish_reason), "");
            assert_eq!(
                fault(r#"{"content": null, "reasoning_content": "[[3]]"}"#, finish_reason),
                "its judgment is empty"
            );
            assert_eq!(fault(r#"{"content": " \n"}"#, finish_reason), "its judgment is empty");
        }
        for finish_reason in ["length", "max_tokens", "model_length"] {
            let expected = format!("cut off by the limit on its tokens (finish_reason `{finish_reason}`)");
            assert!(fault(whole, &format!("{finish_reason:?}")).ends_with(&expected));
        }
        assert!(fault(whole, r#""content_filter""#).contains("cut off by the endpoint"));
    }
}
