//! Labels as FedLLM-Bench's collator finds them: all that follows the last occurrence of a key in the ids.
//!
//! It is here for comparison with the original. Labels by construction need no key, work for any tokenizer, and keep the
//! head of an answer that quotes the key.

use super::content::Content;
use super::row::Row;
use super::sample::Sample;
use super::template::Template;
use super::tokeniser::Tokeniser;

/// The ids that a template's key stands for: its encoding without the first two tokens, which in a Llama vocabulary are
/// the dummy space and the line's end. In another vocabulary they are others, and the key is likely never found.
///
/// # Errors
/// What the tokenizer said.
pub fn key_ids(template: &Template, tokeniser: &Tokeniser) -> Result<Vec<u32>, String> {
    Ok(tokeniser.encode(template.key)?.ids.split_off(2))
}

/// Whether a turn of a conversation holds what FedLLM-Bench splits its turns at, so that nothing of it would be learnt.
pub fn holds_key(row: &Row, template: &Template) -> bool {
    let Content::MultiTurn { exchanges, unanswered } = &row.content else { return false };
    let separator = [template.key, template.answer_lead].concat();
    let turns = exchanges.iter().flat_map(|exchange| [&exchange.user, &exchange.assistant]).chain(unanswered);
    turns.into_iter().any(|turn| turn.contains(&separator))
}

/// The sample with the labels of the collator; none if the key is not in it, so that nothing of it would be learnt.
/// Tokens of id `padding`, which pads rows there, are never learnt even where they are text.
pub fn after_last_key(sample: &Sample, key: &[u32], padding: u32) -> Option<Sample> {
    let last = sample.ids.windows(key.len().max(1)).rposition(|window| window == key)?;
    let start = last + key.len();
    let is_learnt = |&position: &usize| sample.ids[position] != padding;
    let mut targets: Vec<std::ops::Range<u32>> = Vec::new();
    for position in (start..sample.ids.len()).filter(is_learnt) {
        let position = position as u32;
        match targets.last_mut() {
            Some(range) if range.end == position => range.end += 1,
            _ => targets.push(position..position + 1),
        }
    }
    (!targets.is_empty()).then(|| Sample { ids: sample.ids.clone(), targets })
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
