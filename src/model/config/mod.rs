//! config.json of a Hugging Face folder: which model family it names, and every value that decides what is computed.
//!
//! `defaults.json` lists every key that Transformers knows for each class, with its default; tests/reference makes it. A
//! family's file reads the keys of its class. A key that nobody read must be without effect, or it is refused by name, so
//! that no setting is passed over in silence.

mod architecture;
mod families;
mod fields;
mod read;
mod rope;
mod shape;
#[cfg(test)]
mod tests;
mod variant;
mod write;

pub use architecture::Architecture;
pub use rope::RopeScaling;
pub use shape::Config;
pub use variant::{Activation, DecoderVariant, NormPlacement, QueryKeyNorm, RotaryTable};
