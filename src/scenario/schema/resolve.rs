//! Filling in of the fields that a scenario leaves out and whose defaults depend on other fields.

use super::fidelity::DefaultsBasis;
use super::{Algorithm, OptimizerSpec, ScenarioSpec};

impl ScenarioSpec {
    /// Returns the settings that the defaults of other fields depend on.
    pub(in crate::scenario) fn defaults_basis(&self) -> DefaultsBasis {
        DefaultsBasis { fidelity: self.fidelity, is_scaffold: matches!(self.algorithm, Algorithm::Scaffold { .. }) }
    }

    /// Fills in the fields that are left out and whose defaults depend on `basis`.
    pub(in crate::scenario) fn resolve(&mut self, basis: DefaultsBasis) {
        self.model.lora.dropout.resolve(basis);
        self.data.masking.resolve(basis);
        self.data.pairs.resolve(basis);
        self.data.last_question.resolve(basis);
        self.data.special_tokens_in_text.resolve(basis);
        self.training.batches.resolve(basis);
        self.training.dropout_masks.resolve(basis);
        self.training.accumulation.resolve(basis);
        self.training.max_grad_norm.resolve(basis);
        // The optimizer, given or not, may leave out a field of its own.
        if let OptimizerSpec::AdamW { variant, .. } = self.training.optimizer.resolve(basis) {
            variant.resolve(basis);
        }
        self.algorithm.resolve(basis);
        self.server.selection.resolve(basis);
    }
}

impl Algorithm {
    fn resolve(&mut self, basis: DefaultsBasis) {
        match self {
            Self::Scaffold { weights, correction, .. } => {
                weights.resolve(basis);
                correction.resolve(basis);
            }
            Self::FedAvgM { beta, momentum, .. } => {
                beta.resolve(basis);
                momentum.resolve(basis);
            }
            Self::FedYogi { beta1, first_moment, second_moment, .. }
            | Self::FedAdam { beta1, first_moment, second_moment, .. } => {
                beta1.resolve(basis);
                first_moment.resolve(basis);
                second_moment.resolve(basis);
            }
            // Nothing of these depends on other fields.
            Self::FedAvg { .. }
            | Self::FedProx { .. }
            | Self::FedAdagrad { .. }
            | Self::Python { .. }
            | Self::Custom { .. }
            | Self::Local
            | Self::Centralised => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::scenario::schema::fidelity::{BASES, OTHER_DEFAULTS};

    /// Compares the fields of `value` with the defaults that the schema states for the basis at `index` of [`BASES`], and
    /// returns their number. Variants are entered where the value has chosen them.
    fn compare(schema: &Value, definitions: &Value, value: &Value, index: usize) -> usize {
        if let Some(name) = schema["$ref"].as_str() {
            return compare(&definitions[name.rsplit('/').next().unwrap()], definitions, value, index);
        }
        let mut compared = 0;
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            if choice["required"][0].as_str().is_some_and(|variant| value.get(variant).is_some()) {
                compared += compare(choice, definitions, value, index);
            }
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(others) = field.get(OTHER_DEFAULTS) {
                let expected = if index == 0 { &field["default"] } else { &others[index - 1] };
                assert_eq!(value.get(name), Some(expected), "{name} under {:?}", BASES[index]);
                compared += 1;
            }
            compared += compare(field, definitions, &value[name], index);
        }
        compared
    }

    #[test]
    fn every_field_that_is_left_out_gets_the_default_that_the_schema_states() {
        let schema = schemars::schema_for!(ScenarioSpec).to_value();
        let mut start = serde_json::to_value(ScenarioSpec::new("x", "base", "data.json")).unwrap();
        for (index, (_, basis)) in BASES.into_iter().enumerate() {
            for (method, of_method) in [
                ("FedAvg", 0),
                ("FedProx", 0),
                ("Scaffold", 2),
                ("FedAvgM", 2),
                ("FedAdagrad", 0),
                ("FedYogi", 3),
                ("FedAdam", 3),
            ] {
                // What the start sets of the sections is kept only as far as it has to be given.
                start["algorithm"] = serde_json::json!({ method: {} });
                for (section, given) in [
                    ("data", &["file", "max_seq_length"][..]),
                    ("training", &["local_steps", "batch_size", "lr"]),
                    ("server", &["protocol"]),
                ] {
                    start[section].as_object_mut().unwrap().retain(|name, _| given.contains(&name.as_str()));
                }
                start["model"]["lora"] = serde_json::json!({ "rank": 8, "alpha": 16 });
                let mut spec: ScenarioSpec = serde_json::from_value(start.clone()).unwrap();
                spec.resolve(basis);
                let resolved = serde_json::to_value(&spec).unwrap();
                let of_optimizer = usize::from(resolved["training"]["optimizer"].get("AdamW").is_some());
                assert_eq!(
                    compare(&schema, &schema["$defs"], &resolved, index),
                    11 + of_optimizer + of_method,
                    "{method}"
                );
            }
        }
    }

    #[test]
    fn what_is_given_stays_under_every_basis() {
        for (_, basis) in BASES {
            let mut spec = ScenarioSpec::new("x", "base", "data.json");
            spec.training.max_grad_norm = Some(0.25).into();
            spec.algorithm = Algorithm::FedAvgM {
                beta: 0.75.into(),
                server_lr: 1.0,
                momentum: Default::default(),
                weights: Default::default(),
            };
            spec.resolve(basis);
            let Algorithm::FedAvgM { beta, .. } = spec.algorithm else { unreachable!() };
            assert_eq!((spec.training.max_grad_norm.get(), beta.get()), (Some(0.25), 0.75));
        }
    }
}
