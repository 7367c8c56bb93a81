//! The file of a profile, in RON.

use std::io;
use std::path::{Path, PathBuf};

use ron::extensions::Extensions;
use ron::ser::PrettyConfig;

use super::device_profile::{DeviceProfile, FORMAT};
use super::fit::FitError;
use super::steps::Measurements;
use crate::store::{atomic, read_limited};

/// Reason why a profile, or a table of measured steps, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read or written.
    #[error("failed to access {}: {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    /// The content is not of the form that it must have.
    #[error("failed to read {}: {message}", file.display())]
    Content { file: PathBuf, message: String },
    /// The steps determine no profile.
    #[error("failed to fit {}: {source}", file.display())]
    Fit { file: PathBuf, source: FitError },
}

impl DeviceProfile {
    /// Reads measured steps from a Parquet file and fits a profile to them.
    ///
    /// # Errors
    /// If the file cannot be read, or its steps determine no profile.
    pub fn from_steps(file: &Path) -> Result<Self, ProfileError> {
        let measurements = Measurements::read(file)?;
        Self::fit(&measurements).map_err(|source| ProfileError::Fit { file: file.to_owned(), source })
    }

    /// Reads a profile and checks it. Returns it with the hash of the file.
    ///
    /// # Errors
    /// If the file cannot be read, is no profile, or has values that no fit gives.
    pub fn read(file: &Path) -> Result<(Self, blake3::Hash), ProfileError> {
        let bytes = read_limited(file).map_err(|source| ProfileError::Io { file: file.to_owned(), source })?;
        match Self::of_bytes(&bytes) {
            Ok(profile) => Ok((profile, blake3::hash(&bytes))),
            Err(message) => Err(ProfileError::Content { file: file.to_owned(), message }),
        }
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self, String> {
        let profile: Self =
            options().from_bytes(bytes).map_err(|error| format!("{}: {}", error.span.start, error.code))?;
        profile.check()?;
        Ok(profile)
    }

    /// Writes the profile to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn write(&self, file: &Path) -> Result<(), ProfileError> {
        let text =
            options().to_string_pretty(self, PrettyConfig::new().indentor("  ")).expect("a profile can be written");
        atomic::write(file, (text + "\n").as_bytes())
            .map_err(|source| ProfileError::Io { file: file.to_owned(), source })
    }

    /// Checks what the fields' types leave open.
    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format is {}, and this version reads {FORMAT}", self.format));
        }
        check_axis("ranks", &self.ranks, 1)?;
        check_axis("rows", &self.rows, 1)?;
        check_axis("lengths", &self.lengths, 2)?;
        let ranks = self.ranks.len();
        let shapes = self.rows.len() * self.lengths.len();
        check_count("cells", self.cells.len(), ranks * shapes)?;
        check_count("optimizer_seconds", self.optimizer_seconds.len(), ranks)?;
        check_count("terms", self.terms.len(), ranks)?;
        for (index, cell) in self.cells.iter().enumerate() {
            check_positive(&format!("cells.{index}.seconds"), cell.seconds)?;
            if cell.peak_memory_bytes == Some(0) {
                return Err(format!("cells.{index}.peak_memory_bytes is 0"));
            }
        }
        for (index, &seconds) in self.optimizer_seconds.iter().enumerate() {
            check_from_zero(&format!("optimizer_seconds.{index}"), seconds)?;
        }
        for (index, terms) in self.terms.iter().enumerate() {
            let fields = [
                ("fixed_seconds", terms.fixed_seconds),
                ("seconds_per_token", terms.seconds_per_token),
                ("seconds_per_token_squared", terms.seconds_per_token_squared),
            ];
            for (field, value) in fields {
                check_from_zero(&format!("terms.{index}.{field}"), value)?;
            }
            if fields.iter().all(|(_, value)| *value == 0.0) {
                return Err(format!("terms.{index}: all are 0"));
            }
        }
        Ok(())
    }
}

fn options() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

fn check_axis(field: &str, axis: &[u32], least: usize) -> Result<(), String> {
    let is_ascending = axis.windows(2).all(|pair| pair[0] < pair[1]);
    if axis.len() < least || axis.first() == Some(&0) || !is_ascending {
        return Err(format!("{field} must be at least {least} ascending numbers above 0"));
    }
    Ok(())
}

fn check_count(field: &str, found: usize, expected: usize) -> Result<(), String> {
    if found != expected {
        return Err(format!("{field} has {found} elements, and ranks, rows and lengths make {expected}"));
    }
    Ok(())
}

fn check_positive(field: &str, value: f64) -> Result<(), String> {
    if !(value.is_finite() && value > 0.0) {
        return Err(format!("{field} is {value}: it must be finite and above 0"));
    }
    Ok(())
}

fn check_from_zero(field: &str, value: f64) -> Result<(), String> {
    if !(value.is_finite() && value >= 0.0) {
        return Err(format!("{field} is {value}: it must be finite and at least 0"));
    }
    Ok(())
}
