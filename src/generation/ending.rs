//! The end tokens of a model.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::GenerationError;
use super::folder_sampling::json_in;
use crate::data::{ChatTemplate, Message, Prompts, Role, Tokenizer};

/// Returns the tokens that end an answer: the tokenizer's EOS, which training uses; the `eos_token_id` of
/// generation_config.json, or of config.json if the former has none, of which chat models list several; and under a chat
/// template the special token that closes its answers, such as `<|im_end|>`.
///
/// # Errors
/// If a file exists and is not JSON, or its `eos_token_id` is neither a token nor a list of tokens.
pub fn end_tokens(folder: &Path, tokenizer: &Tokenizer, prompts: &Prompts) -> Result<BTreeSet<u32>, GenerationError> {
    let mut ends = BTreeSet::from([tokenizer.eos()]);
    if let Prompts::Chat(template) = prompts {
        ends.extend(closing_token(template, tokenizer));
    }
    for name in ["generation_config.json", "config.json"] {
        let Some(json) = json_in(folder, name)? else { continue };
        let named = tokens_of(&json["eos_token_id"]).ok_or_else(|| {
            let reason = format!("eos_token_id is {}, expected a token or a list of tokens", json["eos_token_id"]);
            GenerationError::Configuration { path: folder.join(name), reason }
        })?;
        if !named.is_empty() {
            ends.extend(named);
            break;
        }
    }
    Ok(ends)
}

/// Returns the special token that a template writes after an answer. `None` if it writes none, or refuses the dialogue that is
/// tried.
fn closing_token(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<u32> {
    const ANSWER: &str = "An answer";
    let question = Message { role: Role::User, content: "A question" };
    let answer = Message { role: Role::Assistant, content: ANSWER };
    let dialogue = template.dialogue(&[question, answer]).ok()?;
    // What closes the answer may lie behind the part that the template marks as the answer.
    let place = dialogue.text.rfind(ANSWER)?;
    tokenizer.first_special_token(&dialogue.text[place + ANSWER.len()..])
}

/// Returns the tokens of a number, a list or null. `None` if the value is something else.
fn tokens_of(value: &Value) -> Option<Vec<u32>> {
    match value {
        Value::Null => Some(vec![]),
        Value::Array(list) => list.iter().map(token_of).collect(),
        one => token_of(one).map(|id| vec![id]),
    }
}

fn token_of(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_or_several_tokens_end_an_answer() {
        assert_eq!(tokens_of(&Value::Null), Some(vec![]));
        assert_eq!(tokens_of(&json!(2)), Some(vec![2]));
        assert_eq!(tokens_of(&json!([2, 7])), Some(vec![2, 7]));
        for wrong in [json!("</s>"), json!([2, null]), json!(-1), json!(1u64 << 40)] {
            assert_eq!(tokens_of(&wrong), None, "{wrong}");
        }
    }
}
