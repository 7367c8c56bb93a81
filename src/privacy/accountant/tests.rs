//! Agreement with dp-accounting and Opacus on the points of `fixtures/privacy`.

use super::*;

/// The rows of a fixture, all numbers.
fn rows(name: &str) -> Vec<Vec<f64>> {
    let path = format!("{}/fixtures/privacy/{name}.csv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("the fixture is there");
    let row = |line: &str| line.split(',').map(|cell| cell.parse().expect("cells are numbers")).collect();
    text.lines().skip(1).map(row).collect()
}

/// The greatest relative difference, which every test prints.
fn greatest(name: &str, differences: impl Iterator<Item = f64>) -> f64 {
    let greatest = differences.fold(0.0, f64::max);
    println!("{name}: greatest relative difference {greatest:.2e}");
    greatest
}

#[test]
fn single_steps_are_the_exact_integrals_and_never_above_dp_accounting() {
    let rows = rows("single_step");
    assert!(rows.len() >= 60);
    let differences = rows.iter().map(|row| {
        let [rate, theirs, exact] = [row[1], row[3], row[4]];
        let found = rdp::sampled_gaussian(rate, row[0], row[2]);
        // dp-accounting takes the logarithm of a number near 1, which leaves about 1e-15 of noise.
        assert!(found <= theirs * (1.0 + 1e-9) + 1e-14, "{row:?}: {found}");
        (found / exact - 1.0).abs()
    });
    assert!(greatest("single steps", differences) < 1e-9);
}

#[test]
fn rdp_epsilons_are_those_of_the_references() {
    let rows = rows("poisson");
    assert!(rows.len() >= 60, "only {} points", rows.len());
    let whole: Vec<f64> = (2..=64).chain([128, 256, 512, 1024]).map(f64::from).collect();
    let differences = rows.iter().map(|row| {
        let [noise_multiplier, rate, steps, delta] = [row[0], row[1], row[2], row[3]];
        let found = Mechanism::Poisson { noise_multiplier, rate }.epsilon(steps as u64, delta, Accountant::Rdp);
        assert!(found <= row[4] * (1.0 + 1e-9), "{row:?}: {found} is above dp-accounting");
        let divergences: Vec<f64> =
            whole.iter().map(|&order| steps * rdp::sampled_gaussian(rate, noise_multiplier, order)).collect();
        let at_whole = rdp::epsilon(&whole, &divergences, delta);
        ((found / row[6] - 1.0).abs()).max((at_whole / row[5] - 1.0).abs())
    });
    assert!(greatest("RDP", differences) < 1e-6);
}

#[test]
fn loss_distributions_give_the_epsilons_of_dp_accounting() {
    let differences = rows("poisson").into_iter().map(|row| {
        let mechanism = Mechanism::Poisson { noise_multiplier: row[0], rate: row[1] };
        let found = mechanism.epsilon(row[2] as u64, row[3], Accountant::Pld);
        let difference = (found / row[7] - 1.0).abs();
        if difference > 2e-4 {
            println!("{row:?}: {found}, {difference:.1e}");
        }
        difference
    });
    assert!(greatest("PLD", differences) < 1e-3);
}

#[test]
fn fixed_sizes_give_the_replace_one_epsilons_of_dp_accounting() {
    let differences = rows("fixed_size").into_iter().map(|row| {
        // Theirs is relative to the sensitivity under replacement, ours to the clipping norm.
        let mechanism =
            Mechanism::FixedSize { noise_multiplier: 2.0 * row[0], clients: row[1] as u32, cohort: row[2] as u32 };
        (mechanism.epsilon(row[3] as u64, row[4], Accountant::Rdp) / row[5] - 1.0).abs()
    });
    assert!(greatest("fixed size", differences) < 1e-6);
}

/// With half of the clients in every step the bound with amplification is above the Gaussian without; with one in a
/// hundred it is far below. Each is a bound, so the lesser holds.
#[test]
fn a_fixed_size_is_charged_by_the_lesser_bound() {
    let spent = |cohort, accountant| {
        Mechanism::FixedSize { noise_multiplier: 1.0, clients: 1000, cohort }.epsilon(12, 0.01, accountant)
    };
    let exact = Mechanism::ReplaceOne { noise_multiplier: 1.0 }.epsilon(12, 0.01, Accountant::Pld);
    assert!(spent(500, Accountant::Rdp) > exact);
    assert_eq!(spent(500, Accountant::Pld), exact);
    assert_eq!(spent(10, Accountant::Pld), spent(10, Accountant::Rdp));
    assert!(spent(10, Accountant::Pld) < exact / 10.0);
    let method = |cohort| {
        Mechanism::FixedSize { noise_multiplier: 1.0, clients: 1000, cohort }.bound(12, 0.01, Accountant::Pld).method
    };
    assert_eq!(method(500), EpsilonMethod::GaussianWithoutSampling);
    assert_eq!(method(10), EpsilonMethod::Renyi);
}

/// Losses of a step grow with one over the squared noise, and the grid ends at 650.
#[test]
fn where_the_grid_ends_the_method_is_the_gaussian_without_sampling() {
    for (noise_multiplier, method) in
        [(0.03, EpsilonMethod::GaussianWithoutSampling), (0.05, EpsilonMethod::LossDistributions)]
    {
        let bound = Mechanism::Poisson { noise_multiplier, rate: 0.3 }.bound(3, 1e-5, Accountant::Pld);
        let unsampled = gaussian_epsilon(3f64.sqrt() / noise_multiplier, 1e-5);
        assert_eq!(bound.method, method);
        assert_eq!(bound.epsilon == unsampled, method == EpsilonMethod::GaussianWithoutSampling);
    }
}

/// No accountant computes anything before the first step, or of a sum without noise.
#[test]
fn before_the_first_step_and_without_noise_epsilon_follows_from_the_definition() {
    for accountant in [Accountant::Pld, Accountant::Rdp, Accountant::Discrete] {
        for noise_multiplier in [0.0, 1.0] {
            for mechanism in [
                Mechanism::Poisson { noise_multiplier, rate: 0.3 },
                Mechanism::FixedSize { noise_multiplier, clients: 10, cohort: 5 },
                Mechanism::ReplaceOne { noise_multiplier },
            ] {
                let before = mechanism.bound(0, 1e-5, accountant);
                assert_eq!((before.epsilon, before.method), (0.0, EpsilonMethod::NothingReleased), "{mechanism:?}");
                let after = mechanism.bound(3, 1e-5, accountant);
                let is_bare = noise_multiplier == 0.0;
                assert_eq!(after.method == EpsilonMethod::NoNoise, is_bare, "{mechanism:?} by {accountant:?}");
                assert_eq!(after.epsilon == f64::INFINITY, is_bare, "{mechanism:?} by {accountant:?}");
            }
        }
    }
}

#[test]
fn calibration_finds_the_least_noise_that_keeps_the_promise() {
    for (rate, steps, delta, epsilon, expected) in [
        (0.05, 100, 1e-4, 1.0, 1.85903),
        (0.05, 100, 1e-4, 8.0, 0.64349),
        (10.0 / 747.0, 200, 1e-4, 8.0, 0.48844),
        (10.0 / 747.0, 200, 1e-3, 2.0, 0.68322),
        (0.1, 200, 1e-3, 8.0, 0.94050),
    ] {
        let mechanism = Mechanism::Poisson { noise_multiplier: 1.0, rate };
        let found = noise_for(mechanism, steps, epsilon, delta, Accountant::Pld).expect("it is in range");
        assert!((found / expected - 1.0).abs() < 1e-3, "{found} against {expected}");
        assert!(mechanism.with_noise(found).epsilon(steps, delta, Accountant::Pld) <= epsilon);
    }
    let hopeless = Mechanism::ReplaceOne { noise_multiplier: 1.0 };
    assert!(noise_for(hopeless, 100_000, 1e-9, 1e-300, Accountant::Pld).is_err());
}
