//! Flags of a trainer's call, read as Transformers' `HfArgumentParser` reads them.
//!
//! `--flag=value` and `--flag value` are equal, `-` and `_` too, a flag may be shortened as long as one flag alone begins so, and of a
//! repeated flag the last counts.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::ImportError;
use super::shell::{Call, Field};

/// Flags of the published `config.py`, in alphabetical order.
const KNOWN: &[&str] = &[
    "batch_size",
    "checkpoint_step",
    "dataset_name",
    "dataset_sample",
    "dp_delta",
    "dp_epsilon",
    "dp_max_grad_norm",
    "dp_sigma",
    "dpo_beta",
    "dynamic_local_step",
    "fed_alg",
    "fedopt_beta1",
    "fedopt_beta2",
    "fedopt_eta",
    "fedopt_tau",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "hub_model_id",
    "learning_rate",
    "load_in_4bit",
    "load_in_8bit",
    "local_data_dir",
    "log_with",
    "logging_steps",
    "max_steps",
    "model_name_or_path",
    "multi_turn_task",
    "no_gradient_checkpointing",
    "no_use_auth_token",
    "num_clients",
    "num_rounds",
    "num_train_epochs",
    "output_dir",
    "peft_lora_alpha",
    "peft_lora_r",
    "prox_mu",
    "push_to_hub",
    "sample_clients",
    "save_model_freq",
    "save_steps",
    "save_total_limit",
    "seed",
    "seq_length",
    "split_strategy",
    "template",
    "trust_remote_code",
    "use_auth_token",
    "use_peft",
];

/// Flags that are switches: each may stand without a value.
const SWITCHES: &[&str] = &[
    "dynamic_local_step",
    "gradient_checkpointing",
    "load_in_4bit",
    "load_in_8bit",
    "multi_turn_task",
    "no_gradient_checkpointing",
    "no_use_auth_token",
    "push_to_hub",
    "trust_remote_code",
    "use_auth_token",
    "use_peft",
];

/// Flags of a call that have not been read yet, and notes about those that were dropped.
pub(super) struct Flags {
    /// Line of the call.
    pub line: usize,
    rest: BTreeMap<String, Option<Field>>,
    pub left_out: Vec<String>,
}

impl Flags {
    /// Reads the words of a call.
    ///
    /// # Errors
    /// If a word is neither a flag nor a flag's value.
    pub fn of(call: &Call) -> Result<Self, ImportError> {
        let mut flags = Self { line: call.line, rest: BTreeMap::new(), left_out: vec![] };
        let mut words = call.arguments.iter().peekable();
        while let Some(word) = words.next() {
            let Some(written) = word.text.strip_prefix("--").filter(|name| !name.is_empty()) else {
                flags.stray(word)?;
                continue;
            };
            if let Some((written, value)) = written.split_once('=') {
                let name = flags.name(written)?;
                flags.rest.insert(name, Some(Field { text: value.to_owned(), ..word.clone() }));
                continue;
            }
            let name = flags.name(written)?;
            let is_switch = SWITCHES.contains(&name.as_str());
            // An absent word is no value of a switch; for another flag, it is the value that the script does not give.
            let value = words.next_if(|next| is_value(next) && !(is_switch && next.is_absent)).cloned();
            // Unknown flags may have several values.
            while !KNOWN.contains(&name.as_str()) && words.next_if(|next| is_value(next)).is_some() {}
            flags.rest.insert(name, value);
        }
        Ok(flags)
    }

    /// Refuses a word that belongs to no flag, or notes it if bash drops it.
    fn stray(&mut self, word: &Field) -> Result<(), ImportError> {
        if word.is_absent {
            self.left_out.push(format!("{}: the script does not set it", word.unset.join(", ")));
            return Ok(());
        }
        let hint = if word.text.trim().is_empty() { ", as a blank after a backslash makes one" } else { "" };
        Err(ImportError::at(self.line, format!("`{}` is neither a flag nor a flag's value{hint}", word.text)))
    }

    /// Returns the flag that is written so, in full.
    fn name(&self, written: &str) -> Result<String, ImportError> {
        let written = written.replace('-', "_");
        if KNOWN.contains(&written.as_str()) {
            return Ok(written);
        }
        let longer: Vec<&str> = KNOWN.iter().copied().filter(|known| known.starts_with(&written)).collect();
        match longer.as_slice() {
            [] => Ok(written),
            [known] => Ok((*known).to_owned()),
            several => {
                let what = format!("--{written} may be --{}", several.join(" or --"));
                Err(ImportError::at(self.line, what))
            }
        }
    }

    /// Tells whether the call has a flag that has not been read yet.
    pub fn contains(&self, name: &str) -> bool {
        self.rest.contains_key(name)
    }

    /// Drops a flag, and tells whether the call had it.
    pub fn remove(&mut self, name: &str) -> bool {
        self.rest.remove(name).is_some()
    }

    /// Returns the flags that have not been read.
    pub fn unread(&self) -> impl Iterator<Item = &String> {
        self.rest.keys()
    }

    /// Returns a switch: a missing one is `default`, one without a value is on.
    pub fn switch(&mut self, name: &str, default: bool) -> Result<bool, ImportError> {
        let Some(value) = self.rest.remove(name) else { return Ok(default) };
        let Some(value) = value else { return Ok(true) };
        let text = self.known(name, &value)?;
        match text.to_lowercase().as_str() {
            "yes" | "true" | "t" | "y" | "1" => Ok(true),
            "no" | "false" | "f" | "n" | "0" => Ok(false),
            _ => Err(ImportError::at(self.line, format!("--{name} is `{text}`, which is neither true nor false"))),
        }
    }

    /// Returns a flag's value without reading it; `None` if the flag is missing.
    pub fn peek(&self, name: &str) -> Result<Option<String>, ImportError> {
        match self.rest.get(name) {
            None => Ok(None),
            Some(Some(value)) => self.known(name, value).map(Some),
            Some(None) => Err(ImportError::at(self.line, format!("--{name} has no value"))),
        }
    }

    /// Returns a flag's value; `None` if the flag is missing.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, ImportError> {
        let value = self.peek(name)?;
        self.rest.remove(name);
        Ok(value)
    }

    /// Returns the value of a path, which may be one that the script does not give; `None` for such and for a missing flag.
    pub fn path(&mut self, name: &str) -> Option<String> {
        let value = self.rest.remove(name).flatten()?;
        if !value.computed.is_empty() || !value.unset.is_empty() || value.text.is_empty() {
            return None;
        }
        Some(value.text)
    }

    pub fn integer(&mut self, name: &str, default: u32) -> Result<u32, ImportError> {
        self.number(name, default, "an integer of at least 0")
    }

    pub fn float(&mut self, name: &str, default: f64) -> Result<f64, ImportError> {
        let value = self.number(name, default, "a number")?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(ImportError::at(self.line, format!("--{name} is `{value}`, which is not finite")))
        }
    }

    /// Returns a number as Python reads it: with blanks around it, and with single underscores between digits.
    fn number<T: FromStr + Display>(&mut self, name: &str, default: T, kind: &str) -> Result<T, ImportError> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let plain = without_underscores(text.trim());
        plain
            .and_then(|plain| plain.parse().ok())
            .ok_or_else(|| ImportError::at(self.line, format!("--{name} is `{text}`, which is not {kind}")))
    }

    /// Returns a value that the script alone determines.
    fn known(&self, name: &str, value: &Field) -> Result<String, ImportError> {
        if let Some(unset) = value.unset.first() {
            return Err(ImportError::at(self.line, format!("--{name}: the script does not set {unset}")));
        }
        if let Some(computed) = value.computed.first() {
            return Err(ImportError::at(self.line, format!("--{name}: {computed} is known only when the script runs")));
        }
        Ok(value.text.clone())
    }
}

/// Tells whether a word is a value: not a flag, but perhaps a negative number.
fn is_value(word: &Field) -> bool {
    match word.text.strip_prefix('-') {
        Some(rest) => rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') || rest.is_empty(),
        None => true,
    }
}

fn without_underscores(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split('_').collect();
    let last = parts.len() - 1;
    for (index, part) in parts.iter().enumerate() {
        let begins_well = index == 0 || part.starts_with(|c: char| c.is_ascii_digit());
        let ends_well = index == last || part.ends_with(|c: char| c.is_ascii_digit());
        if !begins_well || !ends_well {
            return None;
        }
    }
    Some(parts.concat())
}
