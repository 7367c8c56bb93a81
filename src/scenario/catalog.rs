//! Inclusion of device classes from a catalog file into a scenario.

use std::path::Path;

use fedreplay_sim as sim;

use super::ScenarioError;
use super::quantity::{Bandwidth, Bytes, Speed};
use super::ron_syntax::{options, syntax};
use super::schema::{ArithmeticSpec, DeviceClassSpec, ScenarioSpec};
use crate::store::read_text_limited;

/// Adds to `population.devices` the classes of the catalog that `population.mix` names and the scenario does not
/// define.
///
/// With a trace, which may name any class, all classes are added. The reference to the catalog is then removed, so that
/// the scenario is self-contained. The path of the catalog is relative to `folder`.
///
/// # Errors
/// If the catalog cannot be read, or a required class has a value out of range.
pub(super) fn include(scenario: &mut ScenarioSpec, folder: &Path) -> Result<(), ScenarioError> {
    let Some(name) = scenario.population.catalog.take() else { return Ok(()) };
    let file = folder.join(name);
    let text = read_text_limited(&file).map_err(|source| ScenarioError::Io { file: file.clone(), source })?;
    let specs: Vec<sim::DeviceSpec> = options().from_str(&text).map_err(|error| syntax(&file, &error))?;
    let precision = match scenario.model.arithmetic() {
        ArithmeticSpec::F32 => sim::Precision::F32,
        ArithmeticSpec::Bf16 => sim::Precision::Half,
    };
    let population = &mut scenario.population;
    for spec in &specs {
        let is_named = population.mix.iter().any(|group| group.device == spec.name);
        let is_needed = is_named || population.trace.is_some();
        // A class of the scenario file overrides the catalog's class of the same name.
        if !is_needed || population.devices.contains_key(&spec.name) {
            continue;
        }
        let device = device(spec, precision).ok_or_else(|| ScenarioError::Invalid {
            file: file.clone(),
            line: None,
            field: spec.name.clone(),
            message: "its values must be above 0, and its efficiency at most 1".into(),
        })?;
        population.devices.insert(spec.name.clone(), device);
    }
    Ok(())
}

/// Returns the device class at `precision`, or `None` if a value is out of range.
fn device(spec: &sim::DeviceSpec, precision: sim::Precision) -> Option<DeviceClassSpec> {
    let exact = spec.device(precision)?;
    Some(DeviceClassSpec {
        speed: Some(Speed(exact.flops_per_s)),
        profile: None,
        extrapolate: false,
        jitter: 0.0,
        slowdown: None,
        memory: Some(Bytes(exact.memory_bytes)),
        memory_bandwidth: Some(Bandwidth(exact.memory_bytes_per_s)),
        busy_watts: spec.busy_w,
        idle_watts: spec.idle_w,
    })
}
