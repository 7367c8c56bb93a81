//! The logits of the token after each of many prompts; what all of them begin with is read once.

use std::ops::ControlFlow;

use super::GenerationError;
use crate::training::{Decoder, Piece};

/// Hands the logits after each prompt to `visit`, in order; it may break off. The prompts are not empty and fit the model.
///
/// # Errors
/// If the model cannot be computed, or [`GenerationError::Interrupted`] where `visit` breaks off.
pub fn next_logits(
    decoder: &mut Decoder,
    slots: usize,
    adapter: Option<usize>,
    prompts: &[Vec<u32>],
    visit: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
) -> Result<(), GenerationError> {
    // Where rows couple, a prompt is read as one piece: its bits must not depend on what the others begin with.
    let shared = if decoder.couples_rows() { 0 } else { common_length(prompts) };
    let used = slots.min(prompts.len());
    (0..used).for_each(|slot| decoder.truncate(slot, 0));
    if shared > 0 {
        decoder.read(&[Piece { slot: 0, adapter, ids: &prompts[0][..shared] }])?;
        (1..used).try_for_each(|slot| decoder.copy(0, slot))?;
    }
    for (group, several) in prompts.chunks(slots).enumerate() {
        let mut pieces = Vec::with_capacity(several.len());
        for (slot, ids) in several.iter().enumerate() {
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

/// [tokens] What all prompts begin with; each keeps at least its last token.
fn common_length(prompts: &[Vec<u32>]) -> usize {
    let [first, others @ ..] = prompts else { return 0 };
    let with = |other: &Vec<u32>| first.iter().zip(other).take_while(|(a, b)| a == b).count();
    let alike = others.iter().map(with).min().unwrap_or(0);
    let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
    alike.min(shortest.saturating_sub(1))
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
