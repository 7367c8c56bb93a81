//! Tests of fits, interpolation and files. Expected numbers are those of SciPy 1.17.1: `RegularGridInterpolator`, and `nnls` on
//! relative errors.

use super::*;

/// Change that makes measurements or a profile wrong.
type Change<T> = fn(&mut T);

const MEGABYTE: u64 = 1_000_000;
/// [s], and [MB] -- By rank (8, 32), rows (1, 4) and length (64, 256, 512).
const SECONDS: [f64; 12] = [0.31, 0.90, 2.05, 0.86, 3.61, 8.30, 0.33, 0.97, 2.20, 0.92, 3.85, 8.75];
const MEMORY: [u64; 12] = [900, 1100, 1500, 1200, 2100, 3800, 930, 1130, 1540, 1250, 2180, 3900];

fn step(rank: u32, rows: u32, length: u32, seconds: f64, megabytes: u64) -> MeasuredStep {
    MeasuredStep {
        rows,
        length,
        rank,
        micro_batch_seconds: seconds,
        optimizer_seconds: Some(f64::from(rank) / 100.0),
        peak_memory_bytes: Some(megabytes * MEGABYTE),
        held_out: false,
    }
}

/// Three repeats per shape, whose median is the middle one, and two shapes that are held out.
fn measurements() -> Measurements {
    let mut steps = Vec::new();
    for repeat in 0..3 {
        for (index, (&seconds, &megabytes)) in SECONDS.iter().zip(&MEMORY).enumerate() {
            let (rank, rows, length) = ([8, 32][index / 6], [1, 4][index / 3 % 2], [64, 256, 512][index % 3]);
            steps.push(step(rank, rows, length, seconds * [1.0, 1.3, 0.99][repeat], megabytes - repeat as u64));
        }
    }
    steps.push(MeasuredStep { held_out: true, ..step(8, 2, 128, 1.15, 1200) });
    steps.push(MeasuredStep { held_out: true, ..step(16, 3, 300, 3.3, 2000) });
    let model = fedreplay_sim::ModelShape {
        layers: 2,
        hidden: 64,
        intermediate: 128,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocabulary: 300,
        ties_embeddings: true,
    };
    let workload = Workload {
        model,
        targets: vec!["q_proj".into(), "v_proj".into()],
        precision: "F32".into(),
        recomputation: false,
        optimizer: "AdamW".into(),
        objective: "Sft".into(),
    };
    let machine = Machine {
        device: "Some CPU".into(),
        threads: 2,
        workers: 1,
        versions: "torch 2.11".into(),
        measured_on: "2026-11-30".into(),
        busy: false,
    };
    Measurements { workload, machine, steps }
}

fn shape(rank: u32, rows: u32, length: u64) -> MicroBatchShape {
    MicroBatchShape { rank, rows, length }
}

fn assert_close(found: f64, expected: f64) {
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} is not {expected}");
}

#[test]
fn times_and_memory_between_measured_shapes_are_those_of_scipy() {
    let profile = DeviceProfile::fit(&measurements()).unwrap();
    let expected = [
        (shape(8, 2, 128), 0.93, 1_144_444_445),
        (shape(16, 3, 300), 3.380607638888889, 2_006_440_973),
        (shape(32, 4, 512), 8.75, 3_900_000_000),
        (shape(20, 1, 64), 0.32, 915_000_000),
    ];
    for (shape, seconds, bytes) in expected {
        assert_close(profile.micro_batch_seconds(shape).unwrap(), seconds);
        assert_eq!(profile.peak_memory_bytes(shape), Some(bytes), "{shape:?}");
        assert_close(profile.extrapolated_seconds(shape), seconds);
    }
    assert_eq!([8, 20, 32, 64].map(|rank| profile.optimizer_seconds(rank)), [0.08, 0.2, 0.32, 0.32]);
    for beyond in [shape(7, 1, 64), shape(8, 5, 64), shape(8, 1, 63), shape(8, 1, 513), shape(33, 1, 64)] {
        assert_eq!(profile.micro_batch_seconds(beyond), None, "{beyond:?}");
        assert_eq!(profile.peak_memory_bytes(beyond), None, "{beyond:?}");
    }
    assert_close(profile.extrapolated_seconds(shape(16, 6, 1024)), 32.25661508873113);
    assert_close(profile.extrapolated_seconds(shape(64, 1, 100)), 0.45);
}

#[test]
fn terms_and_errors_are_those_of_scipy() {
    let profile = DeviceProfile::fit(&measurements()).unwrap();
    let [small, large] = &profile.terms[..] else { panic!("one per rank") };
    assert_close(small.fixed_seconds, 0.11970374194118573);
    assert_close(small.seconds_per_token, 0.0027354099730015602);
    assert_close(small.seconds_per_token_squared, 2.1683950472552184e-06);
    assert_close(small.errors.median, 0.026971103223901227);
    assert_close(small.errors.worst, 0.06897403649611467);
    assert_close(large.fixed_seconds, 0.12685808447852148);
    assert_close(large.errors.worst, 0.05983878090981998);
    // The held-out ones: |0.93 / 1.15 - 1| and |3.3806 / 3.3 - 1|.
    let times = profile.held_out_time_errors.unwrap();
    assert_close(times.worst, 0.19130434782608685);
    assert_close(times.median, (0.19130434782608685 + 0.02442655723905718) / 2.0);
    assert_eq!(profile.held_out.len(), 2);
    assert_close(profile.held_out_memory_errors.unwrap().worst, 1.0 - 1_144_444_445.0 / 1.2e9);
}

/// Without the bound, the last coefficient would be negative.
#[test]
fn no_term_is_negative() {
    let terms = Terms::fit(&[(1, 10, 1.0), (1, 20, 2.2), (1, 40, 4.6), (2, 40, 9.0)]);
    assert_eq!(terms.fixed_seconds, 0.0);
    assert_close(terms.seconds_per_token, 0.09799377859454632);
    assert_close(terms.seconds_per_token_squared, 0.00041015762139848223);
    // Two times determine two terms, of which the fixed one and that of tokens are tried first.
    let two = Terms::fit(&[(1, 10, 3.0), (1, 20, 5.0)]);
    assert_close(two.fixed_seconds, 1.0);
    assert_close(two.seconds_per_token, 0.2);
    assert_eq!(two.seconds_per_token_squared, 0.0);
}

#[test]
fn repeats_are_summed_up_by_their_median_and_greatest_memory() {
    let profile = DeviceProfile::fit(&measurements()).unwrap();
    let cell = &profile.cells[0];
    assert_eq!(
        (cell.seconds, cell.least_seconds, cell.greatest_seconds, cell.repeats),
        (0.31, 0.31 * 0.99, 0.31 * 1.3, 3)
    );
    assert_eq!(cell.peak_memory_bytes, Some(900 * MEGABYTE));
}

#[test]
fn steps_that_determine_no_profile_are_refused_by_shape() {
    let refused = |change: Change<Vec<MeasuredStep>>| {
        let mut measurements = measurements();
        change(&mut measurements.steps);
        DeviceProfile::fit(&measurements).unwrap_err().to_string()
    };
    let expected: [(Change<Vec<MeasuredStep>>, &str); 7] = [
        (
            |steps| steps[0].micro_batch_seconds = f64::NAN,
            "micro_batch_seconds of a step of 1 rows of 64 tokens at rank 8 is NaN",
        ),
        (
            |steps| steps[1].optimizer_seconds = Some(-1.0),
            "optimizer_seconds of a step of 1 rows of 256 tokens at rank 8 is -1",
        ),
        (|steps| steps.clear(), "0 length"),
        (|steps| steps.retain(|step| step.length == 64), "1 length"),
        (
            |steps| steps.retain(|step| (step.rows, step.length, step.rank) != (4, 256, 32)),
            "no step of 4 rows of 256 tokens at rank 32",
        ),
        (|steps| steps.last_mut().unwrap().length = 600, "held-out step of 3 rows of 600 tokens at rank 16"),
        (
            |steps| steps.iter_mut().filter(|step| step.rank == 32).for_each(|step| step.optimizer_seconds = None),
            "optimizer_seconds is missing at rank 32",
        ),
    ];
    for (change, message) in expected {
        let found = refused(change);
        assert!(found.contains(message), "{found} does not say: {message}");
    }
}

#[test]
fn measurements_and_profiles_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let steps = folder.path().join("steps.parquet");
    let mut written = measurements();
    written.machine.busy = true;
    written.steps[3].peak_memory_bytes = None;
    written.steps[4].micro_batch_seconds = 0.1 + 0.2;
    written.write(&steps).unwrap();
    assert_eq!(Measurements::read(&steps).unwrap(), written);
    let profile = DeviceProfile::from_steps(&steps).unwrap();
    let file = folder.path().join("this.ron");
    profile.write(&file).unwrap();
    assert_eq!(DeviceProfile::read(&file).unwrap().0, profile);
    // Faults of the table name row and column.
    written.steps[1].micro_batch_seconds = -1.0;
    written.write(&steps).unwrap();
    let error = DeviceProfile::from_steps(&steps).unwrap_err().to_string();
    assert!(
        error.ends_with("steps.parquet: row 2: micro_batch_seconds: `-1.0` must be a finite number above 0"),
        "{error}"
    );
    written.steps.clear();
    written.write(&steps).unwrap();
    assert!(DeviceProfile::from_steps(&steps).unwrap_err().to_string().ends_with("it has no rows"));
    std::fs::write(&steps, b"PAR1").unwrap();
    assert!(DeviceProfile::from_steps(&steps).unwrap_err().to_string().starts_with("failed to read"));
}

#[test]
fn damaged_profiles_are_refused_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("this.ron");
    let profile = DeviceProfile::fit(&measurements()).unwrap();
    let refused = |change: Change<DeviceProfile>| {
        let mut profile = profile.clone();
        change(&mut profile);
        profile.write(&file).unwrap();
        DeviceProfile::read(&file).unwrap_err().to_string()
    };
    let expected: [(Change<DeviceProfile>, &str); 8] = [
        (|profile| profile.format = 2, "format is 2"),
        (|profile| profile.lengths.truncate(1), "lengths must be at least 2 ascending numbers above 0"),
        (|profile| profile.ranks.reverse(), "ranks must be"),
        (|profile| profile.rows[0] = 0, "rows must be"),
        (|profile| profile.cells.truncate(11), "cells has 11 elements, and ranks, rows and lengths make 12"),
        (|profile| profile.cells[2].seconds = f64::NAN, "cells.2.seconds is NaN"),
        (|profile| profile.optimizer_seconds[1] = -0.5, "optimizer_seconds.1 is -0.5"),
        (|profile| profile.terms[1].fixed_seconds = f64::INFINITY, "terms.1.fixed_seconds is inf"),
    ];
    for (change, message) in expected {
        let found = refused(change);
        assert!(found.contains(message) && found.contains("this.ron"), "{found} does not say: {message}");
    }
    std::fs::write(&file, "(format: 1, speed: 2)").unwrap();
    let error = DeviceProfile::read(&file).unwrap_err().to_string();
    assert!(error.contains("this.ron: 1:"), "{error}");
}

#[test]
fn workloads_differ_by_their_first_field() {
    let measured = measurements().workload;
    let mut wanted = measured.clone();
    wanted.targets.reverse();
    assert_eq!(measured.difference(&wanted), None);
    wanted.precision = "Bf16".into();
    wanted.objective = "Dpo".into();
    assert_eq!(measured.difference(&wanted), Some(("precision", "F32".into(), "Bf16".into())));
}
