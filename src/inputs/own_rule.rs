//! The aggregation rule of one's own that a scenario names: a Python file, or a rule of the program that runs the scenario.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::error::InputError;
use super::files::input;
use crate::algorithm::AggregationRule;
use crate::ledger::{Input, LedgerError};
use crate::python_rule::{PythonRule, PythonRuleSettings};
use crate::scenario::{Algorithm, Scenario};
use crate::store::read_limited;

/// Where rules of one's own come from.
#[derive(Clone, Debug, Default)]
pub struct OwnRules {
    /// Python with numpy, for `algorithm: Python`: a path, or a name that is looked up in PATH. `None` refuses such scenarios: a
    /// rule is a program, and the scenario of somebody else's run names one of theirs.
    pub python: Option<PathBuf>,
    /// Rules of the program, for `algorithm: Custom`, by name.
    pub custom: BTreeMap<String, Arc<dyn AggregationRule>>,
}

impl OwnRules {
    /// Loads the rule that a scenario names, and adds what decides its results to `read`; `None` if it names none.
    ///
    /// # Errors
    /// If the rule cannot be found or used.
    pub(crate) fn load(
        &self,
        scenario: &Scenario,
        read: &mut BTreeMap<String, Input>,
        stop: &AtomicBool,
    ) -> Result<Option<Arc<dyn AggregationRule>>, InputError> {
        match &scenario.scenario.algorithm {
            Algorithm::Python { file, parameters, check_every, time_limit, .. } => {
                let file = scenario.resolve(file);
                let Some(python) = self.python.clone() else { return Err(InputError::RunsRule { file }) };
                let text = read_limited(&file).map_err(LedgerError::io(&file))?;
                let parameters = serde_json::to_value(parameters).expect("they are plain data");
                let hash = blake3::hash(format!("{} {parameters}", blake3::hash(&text)).as_bytes());
                read.insert("rule".into(), input(file.clone(), hash));
                let settings = PythonRuleSettings {
                    python,
                    file,
                    parameters,
                    check_every: *check_every,
                    time_limit: Duration::try_from_secs_f64(*time_limit).unwrap_or(Duration::MAX),
                };
                let rule = PythonRule::load(settings, text, stop)?;
                // By versions and not by the path: the same Python may be elsewhere.
                for (part, text) in rule.environment() {
                    let hash = blake3::hash(text.as_bytes());
                    read.insert(format!("rule_{part}"), Input { path: text.into(), hash: hash.into() });
                }
                Ok(Some(Arc::new(rule)))
            }
            Algorithm::Custom { name, .. } => {
                let Some(rule) = self.custom.get(name) else {
                    return Err(InputError::NoRule { name: name.clone() });
                };
                read.insert("rule".into(), input(name.into(), rule.hash()));
                Ok(Some(Arc::clone(rule)))
            }
            _ => Ok(None),
        }
    }

    /// Checks the rule that a scenario names, as a run would. [byte] -- Returns the memory that it takes outside of this process between
    /// calls: 0 for a rule of the program, or none.
    ///
    /// # Errors
    /// If the rule cannot be found or used.
    pub fn check(&self, scenario: &Scenario) -> Result<u64, InputError> {
        let rule = self.load(scenario, &mut BTreeMap::new(), &AtomicBool::new(false))?;
        Ok(rule.map_or(0, |rule| rule.outside_bytes()))
    }
}
