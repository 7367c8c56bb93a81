//! The device catalog of the scenarios: complete, sound and honest about estimates.

use fedreplay_sim::{DeviceSpec, Precision};
use std::collections::BTreeSet;

const CATALOG: &str = include_str!("../../../scenarios/devices.ron");

#[test]
fn the_catalog_is_sound() {
    let specs: Vec<DeviceSpec> = ron::from_str(CATALOG).unwrap();
    assert!(specs.len() >= 15, "{} classes", specs.len());
    let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names.len(), specs.len(), "names are unique");
    for spec in &specs {
        for precision in [Precision::F32, Precision::Half] {
            let device = spec.device(precision).unwrap_or_else(|| panic!("{} has a value out of range", spec.name));
            assert!(device.busy_mw > device.idle_mw, "{}", spec.name);
        }
        assert!(spec.half_tflops >= spec.f32_tflops, "{}", spec.name);
        let fields = ["f32_tflops", "half_tflops", "efficiency", "memory_gb", "memory_gb_per_s", "idle_w", "busy_w"];
        let unknown = spec.estimates.iter().find(|field| !fields.contains(&field.as_str()));
        assert_eq!(unknown, None, "{} estimates a field that it does not have", spec.name);
        let has_source = spec.source.contains("http");
        assert!(has_source || spec.estimates.len() == fields.len(), "{} has neither source nor estimates", spec.name);
    }
}

#[test]
fn impossible_values_are_refused() {
    let specs: Vec<DeviceSpec> = ron::from_str(CATALOG).unwrap();
    let refused = |change: fn(&mut DeviceSpec)| {
        let mut spec = specs[0].clone();
        change(&mut spec);
        spec.device(Precision::F32).is_none()
    };
    assert!(refused(|spec| spec.f32_tflops = 0.0));
    assert!(refused(|spec| spec.efficiency = 1.1));
    assert!(refused(|spec| spec.memory_gb = f64::NAN));
    assert!(refused(|spec| spec.busy_w = -1.0));
}
