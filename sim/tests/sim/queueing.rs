//! A shared link as a queue: processor sharing against its closed form.

use fedreplay_sim::network::{FlowWork, SharedLink};
use fedreplay_sim::{Purpose, Rate, Seed, Stream, Time};

const ARRIVALS: u32 = 1_000_000;
const MEAN_BYTES: f64 = 1_000_000.0;
const BYTES_PER_S: f64 = 10_000_000.0;

/// Mean time in the system of Poisson uploads of exponential size over one link. M/M/1 under processor sharing has the
/// mean of first come, first served: 1 / (mu - lambda), here with mu = 10/s.
fn mean_seconds(load: f64) -> f64 {
    let mut stream = Stream::new(Seed(11), Purpose::LinkJitter, 0);
    let mut exponential = |mean: f64| -(1.0 - stream.unit()).ln() * mean;
    let mut link = SharedLink::new(Rate::from_bytes_per_s(BYTES_PER_S as u64));
    let mean_gap_ns = 1e9 * MEAN_BYTES / BYTES_PER_S / load;
    let (mut starts, mut total_ns, mut arrival) = (Vec::new(), 0u128, 0u64);
    let mut ended = Vec::new();
    for id in 0..ARRIVALS {
        arrival += exponential(mean_gap_ns) as u64 + 1;
        drain(&mut link, Time(arrival), &starts, &mut ended, &mut total_ns);
        starts.push(arrival);
        let bytes = exponential(MEAN_BYTES) as u64 + 1;
        link.insert(Time(arrival), id, Rate::MAX, FlowWork::of_bytes(bytes));
    }
    drain(&mut link, Time::NEVER, &starts, &mut ended, &mut total_ns);
    total_ns as f64 / f64::from(ARRIVALS) / 1e9
}

/// Ends all flows that are due by `until`.
fn drain(link: &mut SharedLink, until: Time, starts: &[u64], ended: &mut Vec<u32>, total_ns: &mut u128) {
    while let Some(end) = link.next_end().filter(|end| *end <= until) {
        link.take_ended(end, ended);
        ended.drain(..).for_each(|id| *total_ns += u128::from(end.0 - starts[id as usize]));
    }
}

#[test]
fn processor_sharing_follows_the_m_m_1_formula() {
    for load in [0.3, 0.6] {
        let expected = 1.0 / (10.0 - 10.0 * load);
        let measured = mean_seconds(load);
        assert!((measured / expected - 1.0).abs() < 0.01, "load {load}: {measured} s, expected {expected} s");
    }
}
