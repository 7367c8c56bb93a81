//! The device catalog of the scenarios: complete, sound and honest about estimates.

use fedreplay_sim::{DeviceSpec, Precision};
use std::collections::BTreeSet;

const CATALOGS: [&str; 2] =
    [include_str!("../../../scenarios/devices.ron"), include_str!("../../../scenarios/measured-devices.ron")];

/// The page that describes the catalog.
const PAGE: &str = include_str!("../../../docs/devices.md");

const FIELDS: [&str; 7] =
    ["f32_tflops", "half_tflops", "efficiency", "memory_gb", "memory_gb_per_s", "idle_w", "busy_w"];

/// The classes of both catalogs.
fn classes() -> Vec<DeviceSpec> {
    CATALOGS.iter().flat_map(|catalog| ron::from_str::<Vec<DeviceSpec>>(catalog).unwrap()).collect()
}

#[test]
fn the_catalog_is_sound() {
    let specs = classes();
    assert!(specs.len() >= 15, "{} classes", specs.len());
    let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names.len(), specs.len(), "names are unique");
    for spec in &specs {
        for precision in [Precision::F32, Precision::Half] {
            let device = spec.device(precision).unwrap_or_else(|| panic!("{} has a value out of range", spec.name));
            assert!(device.busy_mw > device.idle_mw, "{}", spec.name);
        }
        assert!(spec.half_tflops >= spec.f32_tflops, "{}", spec.name);
        let unknown = spec.estimates.iter().find(|field| !FIELDS.contains(&field.as_str()));
        assert_eq!(unknown, None, "{} estimates a field that it does not have", spec.name);
        let has_source = spec.source.contains("http");
        assert!(has_source || spec.estimates.len() == FIELDS.len(), "{} has neither source nor estimates", spec.name);
    }
}

#[test]
fn impossible_values_are_refused() {
    let specs = classes();
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

/// A line of Markdown with fields in code.
fn coded(fields: &[&str]) -> String {
    let coded: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    if coded.is_empty() { "none".into() } else { coded.join(", ") }
}

/// What of each class is from a source, and what is an estimate.
fn origins(specs: &[DeviceSpec]) -> String {
    let mut table = "| class | from a source | estimates | measured |\n|---|---|---|---|\n".to_owned();
    for spec in specs {
        let (estimates, sourced): (Vec<&str>, Vec<&str>) =
            FIELDS.iter().partition(|field| spec.estimates.iter().any(|estimate| estimate == *field));
        let measured = match spec.measured.len() {
            0 => "no",
            _ if sourced.contains(&"efficiency") => "yes, and `efficiency` is taken from it",
            _ => "yes",
        };
        table += &format!("| `{}` | {} | {} | {measured} |\n", spec.name, coded(&sourced), coded(&estimates));
    }
    table
}

/// Each measurement with what it gives by the cost model.
fn measurements(specs: &[DeviceSpec]) -> String {
    let mut table =
        "| class | model | rank | rows of a step x length | s/step | tokens/s | GFLOP/token | of the peak | spread |\n\
                     |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for spec in specs {
        for found in &spec.measured {
            let rank = found.rank.map_or("not stated".into(), |rank| rank.to_string());
            table += &format!(
                "| `{}` | {} | {rank} | {} x {} x {} | {} | {:.1} | {:.2} | {:.2} % | {} |\n",
                spec.name,
                found.model,
                found.batch,
                found.accumulation,
                found.sequence,
                found.step_s,
                found.tokens_per_s(),
                found.flops_per_token() / 1e9,
                100.0 * found.efficiency(spec),
                found.spread.as_deref().unwrap_or("not stated"),
            );
        }
    }
    table
}

#[test]
fn the_page_says_what_is_measured_and_what_is_estimated() {
    let specs = classes();
    for table in [origins(&specs), measurements(&specs)] {
        assert!(PAGE.contains(&table), "docs/devices.md lacks this table:\n{table}");
    }
}

#[test]
fn measurements_have_a_source_and_a_time_that_the_device_can_have() {
    let specs = classes();
    let mut measured = 0;
    for spec in &specs {
        for found in &spec.measured {
            assert!(found.source.contains("https://"), "{}", spec.name);
            assert!(found.step_s > 0.0 && found.tokens_per_s() > 0.0, "{}", spec.name);
            let reached = found.efficiency(spec);
            assert!(reached > 0.0 && reached < 1.0, "{} {reached}", spec.name);
            if !spec.estimates.iter().any(|field| field == "efficiency") {
                assert!((reached / spec.efficiency - 1.0).abs() < 0.01, "{} {reached}", spec.name);
            }
            measured += 1;
        }
        let is_estimate = spec.estimates.iter().any(|field| field == "efficiency");
        assert!(is_estimate || !spec.measured.is_empty(), "{}: nobody has measured its efficiency", spec.name);
    }
    assert_eq!(measured, 9);
}

/// Expected figures: sums of the products of a layer's matrices in numpy, with 2 operations per weight and token forward, 2
/// backward and 2 again where layers are recomputed; attention over all earlier tokens; three times the adapter, or four.
#[test]
fn implied_efficiencies_are_those_of_numpy() {
    let specs = classes();
    let of = |name: &str, at: usize| {
        let spec = specs.iter().find(|spec| spec.name == name).expect("a class");
        let found = &spec.measured[at];
        (found.tokens_per_s(), found.flops_per_token(), 100.0 * found.efficiency(spec))
    };
    for (name, at, expected) in [
        ("a100-80gb-sxm", 1, (7_447.272_7, 9.362_604_032e9, 22.348_034)),
        ("a100-80gb-sxm", 4, (2_925.714_3, 43.565_187_072e9, 40.852_337)),
        ("a100-80gb-sxm", 5, (3_244.356_4, 46.786_412_544e9, 48.651_218)),
        ("rtx-4090", 0, (116.363_636, 6.926_188_544e9, 0.487_867_12)),
        ("macbook-pro-m3-pro-36gb", 0, (17.534_246_6, 6.926_188_544e9, 1.897_585_9)),
        ("snapdragon-8-elite-12gb", 0, (6.095_238_1, 6.926_188_544e9, 0.620_834_83)),
    ] {
        let found = of(name, at);
        for (found, expected) in [(found.0, expected.0), (found.1, expected.1), (found.2, expected.2)] {
            assert!((found / expected - 1.0).abs() < 1e-6, "{name} {at}: {found} {expected}");
        }
    }
}
