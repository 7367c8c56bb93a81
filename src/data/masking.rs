//! Labels as FedLLM-Bench's collator finds them: everything after the last occurrence of a key in the token ids.
//!
//! This is for comparison with the original implementation. Labels by construction, as in [`super::tokenize()`], need
//! no key, work with any tokenizer, and keep the beginning of an answer that quotes the key.

use super::content::Content;
use super::error::TokenizerError;
use super::row::Row;
use super::sample::Sample;
use super::template::Template;
use super::tokenizer::Tokenizer;

/// Returns the ids of a template's key: its encoding without the first two tokens. In a Llama vocabulary those two are
/// the dummy space and the line break. With another vocabulary they differ, and the key is probably never found.
///
/// # Errors
/// The tokenizer's message.
pub fn key_ids(template: &Template, tokenizer: &Tokenizer) -> Result<Vec<u32>, TokenizerError> {
    Ok(tokenizer.encode_as_slow(template.key)?.split_off(2))
}

/// Returns whether a message of a conversation contains the separator at which FedLLM-Bench splits turns. The original
/// trains on nothing of such a conversation.
pub fn holds_key(row: &Row, template: &Template) -> bool {
    let Content::MultiTurn { exchanges, unanswered } = &row.content else { return false };
    let separator = [template.key, template.answer_lead].concat();
    let turns = exchanges.iter().flat_map(|exchange| [&exchange.user, &exchange.assistant]).chain(unanswered);
    turns.into_iter().any(|turn| turn.contains(&separator))
}

/// Returns the sample with the labels of the collator, or `None` if the key does not occur and nothing would be trained
/// on. Tokens equal to `padding`, the id that pads batches in the original, are never trained on, even within the text.
pub fn after_last_key(sample: &Sample, key: &[u32], padding: u32) -> Option<Sample> {
    // An empty key never equals a window of length 1, so it counts as not found.
    let last = sample.ids.windows(key.len().max(1)).rposition(|window| window == key)?;
    let start = last + key.len();
    let mut targets: Vec<std::ops::Range<u32>> = Vec::new();
    for position in start..sample.ids.len() {
        if sample.ids[position] == padding {
            continue;
        }
        // Extends the last range by one position, or starts a new range after a gap.
        let position = position as u32;
        match targets.last_mut() {
            Some(range) if range.end == position => range.end += 1,
            _ => targets.push(position..position + 1),
        }
    }
    if targets.is_empty() {
        return None;
    }
    Some(Sample { ids: sample.ids.clone(), targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_that_quotes_the_separator_is_found() {
        let vicuna = Template::named("vicuna_v1.1").unwrap();
        let holds = |answer: &str| {
            let messages = serde_json::json!({"conversations": [
                {"from": "human", "value": "q"}, {"from": "gpt", "value": answer}
            ]});
            holds_key(&Row::from_json(messages).unwrap(), vicuna)
        };
        assert!(holds("USER: a ASSISTANT: b"));
        assert!(!holds("the ASSISTANT:"));
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn the_last_key_decides_and_padding_is_never_learnt() {
        let sample = |ids: &[u32]| Sample { ids: ids.to_vec(), targets: vec![1..ids.len() as u32] };
        let targets = |ids: &[u32]| after_last_key(&sample(ids), &[7, 8], 0).map(|sample| sample.targets);
        assert_eq!(targets(&[1, 7, 8, 5, 6, 2]), Some(vec![3..6]));
        assert_eq!(targets(&[1, 7, 8, 5, 7, 8, 6, 2]), Some(vec![6..8]));
        assert_eq!(targets(&[1, 7, 8, 5, 0, 2]), Some(vec![3..4, 5..6]));
        assert_eq!(targets(&[1, 7, 5, 6]), None);
        assert_eq!(targets(&[1, 7, 8]), None);
    }
}
