//! Times of robust aggregation, one JSON line per rule: `cargo bench --bench aggregate -- [RULE...]`.
//!
//! RULE: the name of a rule as in a scenario, in lower case; all of them by default. The environment varies the work: `VALUES` of an
//! adapter (10,000,000), `CLIENTS` (20), `BYZANTINE` (4), `REPEATS` (3), and `RAYON_NUM_THREADS`. Seconds are of the wall, the
//! least of the repetitions.

use std::sync::Arc;
use std::time::Instant;

use fedreplay::adapter::{Adapter, Layout, Module};
use fedreplay::algorithm::{RobustAggregation, RobustContext, Update};
use fedreplay::scenario::AggregationSpec;
use fedreplay_sim::{Purpose, Seed, Stream};

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn rules(byzantine: u32) -> [AggregationSpec; 8] {
    [
        AggregationSpec::Median,
        AggregationSpec::TrimmedMean { trim: 0.2 },
        AggregationSpec::Krum { byzantine },
        AggregationSpec::MultiKrum { byzantine, selected: None },
        AggregationSpec::Bulyan { byzantine },
        AggregationSpec::GeometricMedian { smoothing: 1e-6, iterations: 3 },
        AggregationSpec::NormBounding { bound: 1.0 },
        AggregationSpec::CenteredClipping { radius: 1.0, iterations: 1 },
    ]
}

/// Returns an adapter with `values` values, an even number, from -0.5 to 0.5.
fn adapter(layout: &Arc<Layout>, values: u32, number: u64) -> Adapter {
    let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, number);
    Adapter::new(layout.clone(), (0..values).map(|_| stream.unit() as f32 - 0.5).collect())
}

fn main() {
    let (values, clients) = (setting("VALUES", 10_000_000), setting("CLIENTS", 20));
    let module = Module { path: "m".into(), in_features: values as usize / 2, out_features: values as usize / 2 };
    let layout =
        Arc::new(Layout { rank: 1, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] });
    let server = adapter(&layout, values, 0);
    let trained: Vec<Adapter> = (1..=clients).map(|client| adapter(&layout, values, u64::from(client))).collect();
    let updates: Vec<Update> =
        trained.iter().map(|adapter| Update { adapter, base: &server, weight: 1.0, discount: 1.0 }).collect();
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for rule in rules(setting("BYZANTINE", 4)) {
        let name = rule.name().to_lowercase();
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        let aggregation = RobustAggregation::new(&rule).expect("it is not the mean");
        let mut least = f64::INFINITY;
        for _ in 0..setting("REPEATS", 3) {
            let start = Instant::now();
            let found = aggregation.aggregate(values as usize, RobustContext::default(), &updates);
            least = least.min(start.elapsed().as_secs_f64());
            assert!(found.change.is_some(), "{name} needs more clients");
        }
        println!(r#"{{"rule": "{name}", "values": {values}, "clients": {clients}, "seconds": {least:.3}}}"#);
    }
}
