//! Logits of the next token after each of many prompts. Their common beginning is read once.

use std::ops::ControlFlow;

use super::GenerationError;
use crate::training::{Decoder, Piece};

/// Calls `visit` on the logits after each prompt, in order; `visit` may break off. Prompts must not be empty and must
/// fit the context.
///
/// # Errors
/// If the model fails, or [`GenerationError::Interrupted`] if `visit` breaks off.
pub fn next_logits(
    decoder: &mut Decoder,
    slots: usize,
    adapter: Option<usize>,
    prompts: &[Vec<u32>],
    visit: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
) -> Result<(), GenerationError> {
    // If the rows of a pass affect each other's bits, each prompt is read as one piece: its bits must not depend on
    // what the other prompts begin with.
    let shared = if decoder.couples_rows() { 0 } else { common_length(prompts) };
    let used = slots.min(prompts.len());
    for slot in 0..used {
        decoder.truncate(slot, 0);
    }
    // The first slot reads the common beginning; the others copy its cache.
    if shared > 0 {
        decoder.read(&[Piece { slot: 0, adapter, ids: &prompts[0][..shared] }])?;
        for slot in 1..used {
            decoder.copy(0, slot)?;
        }
    }
    for (group, several) in prompts.chunks(slots).enumerate() {
        let mut pieces = Vec::with_capacity(several.len());
        for (slot, ids) in several.iter().enumerate() {
            // Forgets the rest of the prompt that was in the slot before.
            decoder.truncate(slot, shared);
            pieces.push(Piece { slot, adapter, ids: &ids[shared..] });
        }
        let logits = decoder.read(&pieces)?;
        for place in 0..several.len() {
            if visit(group * slots + place, logits.of(place)).is_break() {
                return Err(GenerationError::Interrupted);
            }
        }
    }
    Ok(())
}

/// [token] -- Returns the length of the prompts' common beginning. It leaves at least the last token of each prompt,
/// whose logits are needed. 0 for a single prompt.
fn common_length(prompts: &[Vec<u32>]) -> usize {
    let [first, others @ ..] = prompts else { return 0 };
    if others.is_empty() {
        return 0;
    }
    let mut common = first.len().saturating_sub(1);
    for other in others {
        let alike = first.iter().zip(other).take_while(|(a, b)| a == b).count();
        common = common.min(alike).min(other.len().saturating_sub(1));
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_keeps_a_token_of_its_own() {
        assert_eq!(common_length(&[]), 0);
        assert_eq!(common_length(&[vec![1, 2, 3]]), 0, "a single prompt shares nothing");
        assert_eq!(common_length(&[vec![1, 2, 3], vec![1, 2, 4]]), 2);
        assert_eq!(common_length(&[vec![1, 2], vec![1, 2, 4]]), 1);
        assert_eq!(common_length(&[vec![1, 2], vec![1, 2]]), 1);
        assert_eq!(common_length(&[vec![5], vec![1, 2]]), 0);
    }
}
