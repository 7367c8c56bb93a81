//! Defaults that depend on other fields: on `fidelity`, which selects the papers' rules or those of FedLLM-Bench's code,
//! and for a few fields on whether the method is SCAFFOLD.
//!
//! Such a field has the type [`ByFidelity`], which is empty while a file is read that leaves it out. `resolve.rs` fills all
//! of them in, once overrides have settled what they depend on.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Source of the defaults of fields on which a method's paper and FedLLM-Bench's code differ.
///
/// Every such difference is a field, which a scenario can also set on its own. The resolved scenario has all of them
/// written out, and its `fidelity` has no further effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Fidelity {
    /// The rules of the papers.
    #[default]
    Papers,
    /// The rules of FedLLM-Bench's code, including its deviations from the papers.
    FedLlmBench,
}

/// Settings that the defaults of other fields depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultsBasis {
    pub fidelity: Fidelity,
    /// Whether the method is SCAFFOLD, whose analysis requires plain gradient descent at the clients, without clipping, so
    /// that is its default.
    pub is_scaffold: bool,
}

/// The settings under which defaults may differ, each with the text that the scenario reference names it by. The first
/// applies where no other is named.
pub(in crate::scenario) const BASES: [(&str, DefaultsBasis); 3] = [
    ("", DefaultsBasis { fidelity: Fidelity::Papers, is_scaffold: false }),
    ("fidelity: FedLlmBench", DefaultsBasis { fidelity: Fidelity::FedLlmBench, is_scaffold: false }),
    ("algorithm: Scaffold", DefaultsBasis { fidelity: Fidelity::Papers, is_scaffold: true }),
];

/// Keyword in a field's JSON schema: the list of its defaults under [`BASES`] after the first, which is its `default`.
pub(in crate::scenario) const OTHER_DEFAULTS: &str = "otherDefaults";

impl DefaultsBasis {
    /// Returns the first value under the papers' rules and the second under FedLLM-Bench's.
    pub(super) fn choose<T>(self, papers: T, published: T) -> T {
        match self.fidelity {
            Fidelity::Papers => papers,
            Fidelity::FedLlmBench => published,
        }
    }

    /// Returns whether plain gradient descent is the default, without clipping.
    pub(super) fn wants_plain_descent(self) -> bool {
        self.is_scaffold && self.fidelity == Fidelity::Papers
    }
}

/// Default that depends on other fields. It is implemented by the type of the field, or by a type of its own where several
/// fields of one type have different defaults.
pub trait FidelityDefault {
    /// Type of the field's values.
    type Value: Copy + fmt::Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema;

    /// Returns the default.
    fn under(basis: DefaultsBasis) -> Self::Value;
}

/// Value of a field whose default `D` depends on other fields. It is read with [`Self::get`] and set from a value of the
/// field's type with `into()`.
///
/// # Examples
///
/// ```
/// use fedreplay::scenario::{Masking, ScenarioSpec};
///
/// let mut spec = ScenarioSpec::new("mine", "fixtures/tiny-base", "fixtures/skills/train.json");
/// assert_eq!(spec.data.masking.get(), Masking::ByConstruction);
/// spec.model.lora.dropout = 0.05.into();
/// assert_eq!(spec.model.lora.dropout.get(), 0.05);
/// ```
pub struct ByFidelity<D: FidelityDefault>(Option<D::Value>);

impl<D: FidelityDefault> ByFidelity<D> {
    /// Creates a field with a value.
    pub fn new(value: D::Value) -> Self {
        Self(Some(value))
    }

    /// Returns the value.
    ///
    /// # Panics
    /// If the field is left out. In a [`Scenario`](crate::Scenario), and in what
    /// [`ScenarioSpec::new`](crate::scenario::ScenarioSpec::new) returns, none is.
    pub fn get(self) -> D::Value {
        self.0.expect("the fields of a scenario are filled in when it is read")
    }

    /// Returns whether the field is left out, so that its default is still to be filled in.
    pub fn is_left_out(&self) -> bool {
        self.0.is_none()
    }

    /// Fills in the default if the field is left out, and returns the value.
    pub(super) fn resolve(&mut self, basis: DefaultsBasis) -> &mut D::Value {
        self.0.get_or_insert_with(|| D::under(basis))
    }
}

impl<D: FidelityDefault> Clone for ByFidelity<D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: FidelityDefault> Copy for ByFidelity<D> {}

impl<D: FidelityDefault> fmt::Debug for ByFidelity<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("left out"),
        }
    }
}

impl<D: FidelityDefault> PartialEq for ByFidelity<D> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// A field that is left out.
impl<D: FidelityDefault> Default for ByFidelity<D> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: FidelityDefault<Value = T>> From<T> for ByFidelity<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<D: FidelityDefault<Value = f64>> From<f64> for ByFidelity<D> {
    fn from(value: f64) -> Self {
        Self::new(value)
    }
}

impl<D: FidelityDefault<Value = Option<f64>>> From<Option<f64>> for ByFidelity<D> {
    fn from(value: Option<f64>) -> Self {
        Self::new(value)
    }
}

/// The form is that of the value alone, in files as in hashes.
impl<D: FidelityDefault> Serialize for ByFidelity<D> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(serializer),
            None => Err(serde::ser::Error::custom("a default that depends on other fields is not filled in")),
        }
    }
}

impl<'de, D: FidelityDefault> Deserialize<'de> for ByFidelity<D> {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        D::Value::deserialize(deserializer).map(Self::new)
    }
}

/// The schema of the value, with the defaults.
impl<D: FidelityDefault> JsonSchema for ByFidelity<D> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ByFidelity_{}", D::Value::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The reference to the type's schema stands beside the defaults, which are those of this field alone.
        let mut schema = generator.subschema_for::<D::Value>();
        let [first, others @ ..] = BASES.map(|(_, basis)| {
            serde_json::to_value(D::under(basis)).expect("a default is filled in and has only text keys")
        });
        schema.insert("default".into(), first);
        schema.insert(OTHER_DEFAULTS.into(), Value::from(others.to_vec()));
        schema
    }
}
