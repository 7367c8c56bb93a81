//! Times of codecs, one JSON line per codec: `cargo bench --bench compress -- [CODEC...]`.
//!
//! CODEC: the name of a codec as in a scenario, in lower case; all of them by default. TopK keeps a tenth of the values, and QSGD has 7
//! levels. The environment varies the work: `VALUES` of an adapter (10,000,000), of 32 modules of rank 8, and `REPEATS` (3). Seconds are of
//! the wall on one thread, the least of the repetitions, for one update or one model that is sent to clients.

use std::time::Instant;

use fedreplay::adapter::{Factors, Layout, Module};
use fedreplay::compression::{Codec, Compression, Int8Blocks, Nf4Blocks, Qsgd, Sent, SignSgd, TopK};
use fedreplay_sim::{Purpose, Seed, Stream};

const MODULES: u32 = 32;
const RANK: u32 = 8;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn codecs() -> [(&'static str, Codec); 5] {
    [
        ("topk", Codec::TopK(TopK { share: 0.1 })),
        ("qsgd", Codec::Qsgd(Qsgd { levels: 7, bucket: 512 })),
        ("signsgd", Codec::SignSgd(SignSgd)),
        ("int8", Codec::Int8(Int8Blocks)),
        ("nf4", Codec::Nf4(Nf4Blocks)),
    ]
}

/// Returns the least seconds of the repetitions, and what the last of them gave.
fn timed<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut least = f64::INFINITY;
    let mut found = None;
    for _ in 0..setting("REPEATS", 3).max(1) {
        let start = Instant::now();
        found = Some(work());
        least = least.min(start.elapsed().as_secs_f64());
    }
    (least, found.expect("there is a repetition"))
}

fn main() {
    // A and B of a module have the same size.
    let width = (setting("VALUES", 10_000_000) / MODULES / RANK / 2).max(1) as usize;
    let module = |number| Module { path: format!("m{number}"), in_features: width, out_features: width };
    let modules = (0..MODULES).map(module).collect();
    let layout = Layout { rank: RANK as usize, alpha: 16.0, rank_stabilized: false, has_core: false, modules };
    let sent = Sent::new(&layout, Factors::Both);
    let mut stream = Stream::new(Seed(1), Purpose::SyntheticData, 0);
    let values: Vec<f32> = (0..layout.parameters()).map(|_| stream.unit() as f32 - 0.5).collect();
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, codec) in codecs() {
        if !chosen.is_empty() && !chosen.iter().any(|chosen| chosen == name) {
            continue;
        }
        let compression = Compression { codec, error_feedback: false };
        let draws = || Some(Stream::new(Seed(1), Purpose::Compression, 0));
        let (encode, bytes) = timed(|| compression.encode(&sent, &values, draws()));
        let (decode, decoded) = timed(|| compression.decode(&sent, &bytes));
        assert!(decoded.iter().any(|&value| value != 0.0), "{name} leaves something");
        let (values, bytes) = (values.len(), bytes.len());
        println!(
            r#"{{"codec": "{name}", "values": {values}, "bytes": {bytes}, "encode_seconds": {encode:.3}, "decode_seconds": {decode:.3}}}"#
        );
    }
}
