//! Codecs against numpy (`tests/reference/make_codecs.py`), their sizes, and what holds for every change.

use std::sync::Arc;

use fedreplay_sim::{Purpose, Seed, Stream};

use super::*;
use crate::adapter::{Adapter, Module};

const SHORT: [f32; 10] = [0.5, -1.0, 0.25, 2.0, 0.0, -0.75, 0.125, -0.0625, 1.5, -1.25];

const DRAWS: [f64; 10] = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.6, 0.4, 0.8, 0.05];

/// 66 values, two more than a block.
fn long() -> Vec<f32> {
    (0..66).map(|n| ((n * 37 % 101) as f32 - 50.0) / 64.0).collect()
}

const TOP_K: Codec = Codec::TopK(TopK { share: 0.3 });
const QSGD: Codec = Codec::Qsgd(Qsgd { levels: 4, bucket: 4 });
const SIGN_SGD: Codec = Codec::SignSgd(SignSgd);
const INT8: Codec = Codec::Int8(Int8Blocks);
const NF4: Codec = Codec::Nf4(Nf4Blocks);

/// Returns the bytes of a vector as hex, and the decoded values.
fn coded(codec: Codec, values: &[f32], draws: &[f64]) -> (String, Vec<f32>) {
    let mut draws = draws.iter().copied();
    let mut bytes = vec![];
    codec.encoding().encode(values, &mut || draws.next().expect("a draw for each value"), &mut bytes);
    assert_eq!(bytes.len(), codec.encoding().bytes(values.len()), "{codec:?}");
    let mut decoded = vec![0.0; values.len()];
    codec.encoding().decode(&bytes, &mut decoded);
    (bytes.iter().map(|byte| format!("{byte:02x}")).collect(), decoded)
}

/// Checks the bytes of a vector, and the decoded values from place `from` on. NF4's published values differ in their last digits from
/// the quantiles that they stand for.
#[track_caller]
fn check(codec: Codec, values: &[f32], bytes: &str, from: usize, decoded: &[f64]) {
    let draws = if codec.is_random() { &DRAWS[..] } else { &[] };
    let (found_bytes, found) = coded(codec, values, draws);
    assert_eq!(found_bytes, bytes);
    assert_eq!(found.len(), from + decoded.len());
    let tolerance = if codec == NF4 { 1e-6 } else { 0.0 };
    for (&found, expected) in found[from..].iter().zip(decoded) {
        assert!((f64::from(found) - expected).abs() <= tolerance, "{codec:?}: {found} for {expected}");
    }
}

#[test]
fn bytes_and_values_are_those_of_numpy() {
    let bytes = "030000000800000009000000000000400000c03f0000a0bf";
    check(TOP_K, &SHORT, bytes, 0, &[0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.5, -1.25]);
    let scale = 0.7437499761581421;
    let signs = [1.0, -1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0].map(|sign| sign * scale);
    check(SIGN_SGD, &SHORT, "66663e3fa202", 0, &signs);
    let decoded = [
        0.5039370059967041,
        -1.0078740119934082,
        0.25196850299835205,
        2.0,
        0.0,
        -0.7559055089950562,
        0.12598425149917603,
        -0.06299212574958801,
        1.496062994003296,
        -1.2440944910049438,
    ];
    check(INT8, &SHORT, "0000004020c0107f00d008fc5fb1", 0, &decoded);
    let decoded = [
        0.4922245740890503,
        -1.0501461029052734,
        0.32186034321784973,
        2.0,
        0.0,
        -0.7898349761962891,
        0.15916065871715546,
        0.0,
        1.4459134340286255,
        -1.3923858404159546,
    ];
    check(NF4, &SHORT, "000000402af937781e", 0, &decoded);
    let decoded = [
        0.5762215852737427,
        -1.1524431705474854,
        0.0,
        2.3048863410949707,
        0.0,
        -0.7629097700119019,
        0.19072744250297546,
        -0.0,
        1.4644218683242798,
        -1.4644218683242798,
    ];
    check(QSGD, &SHORT, "428313400e4e433f91edf93f5280901276", 0, &decoded);
}

#[test]
fn a_second_block_has_a_scale_of_its_own() {
    let bytes = "0000483f0000003f81df3d9af856b41270cd2b89e745a2005ebb1977d53390ee4caa0866c3217fdc3a98f654b10f6dcb2986e4429ffd5bb91775d2\
                 308eec4aa70563c01e7cda3895ec7f";
    check(INT8, &long(), bytes, 62, &[0.3444882035255432, -0.658218502998352, -0.07874015718698502, 0.5]);
    let bytes = "0000483f0000003f401ce6923f0bd5712ef9c3501de8a24f1ce6813e0bd5712ef9b3501de8a24f1cf5";
    check(NF4, &long(), bytes, 62, &[0.34430453181266785, -0.543900728225708, -0.09238671511411667, 0.5]);
}

/// Layout of three modules, of which one has matrices smaller than a byte of signs.
fn layout(rank: usize) -> Layout {
    let module = |path: &str, i, o| Module { path: path.into(), in_features: i, out_features: o };
    let modules = vec![module("a", 3, 5), module("b", 70, 33), module("c", 1, 1)];
    Layout { rank, alpha: 1.0, rank_stabilized: false, has_core: false, modules }
}

fn all() -> Vec<Codec> {
    let shares = [1e-9, 0.1, 0.5, 1.0].map(|share| Codec::TopK(TopK { share }));
    let buckets = [(1, 512), (4, 7), (7, 1), (8, 64), (32_767, 100_000)];
    let qsgd = buckets.map(|(levels, bucket)| Codec::Qsgd(Qsgd { levels, bucket }));
    shares.into_iter().chain(qsgd).chain([SIGN_SGD, INT8, NF4]).collect()
}

/// Returns the values of an adapter as a client sends them: pseudo-random, and zero where they are not sent.
fn change(layout: &Layout, sent: Factors, entity: u64) -> Vec<f32> {
    let mut stream = Stream::new(Seed(1), Purpose::LoraInit, entity);
    let mut values: Vec<f32> = (0..layout.parameters()).map(|_| (stream.unit() - 0.5) as f32).collect();
    sent.keep_only(layout, &mut values);
    values
}

fn stream(entity: u64) -> Option<Stream> {
    Some(Stream::new(Seed(1), Purpose::Compression, entity))
}

#[test]
fn encoded_changes_have_the_bytes_that_a_schedule_charges() {
    for codec in all() {
        let compression = Compression { codec, error_feedback: false };
        for (of_server, rank) in [(1, 1), (2, 2), (8, 8), (8, 3)] {
            for factors in [Factors::A, Factors::B, Factors::Both] {
                let of_server = layout(of_server);
                let sent = Sent { rank, ..Sent::new(&of_server, factors) };
                let bytes = compression.encode(&sent, &change(&of_server, Factors::Both, 0), stream(0));
                // The schedule knows the client's own rank alone.
                let charged = compression.bytes(&Sent::new(&layout(rank), factors));
                assert_eq!(bytes.len() as u64, charged, "{sent:?}, {codec:?}");
                let decoded = compression.decode(&sent, &bytes);
                let adapter = Adapter::new(Arc::new(of_server.clone()), decoded.clone());
                let mut sent_only = adapter.truncated(rank).values;
                factors.keep_only(&of_server, &mut sent_only);
                assert_eq!(decoded, sent_only, "nothing arrives of what is not sent");
                assert!(decoded.iter().any(|&value| value != 0.0));
            }
        }
    }
}

/// By hand for A of 2 x 3 and 2 x 70, B of 5 x 2 and 33 x 2 (the third module has 2 and 2 values): 228 values in all.
#[test]
fn sizes_are_those_of_the_table_in_the_docs() {
    let layout = layout(2);
    let bytes = |codec| Compression { codec, error_feedback: false }.bytes(&Sent::new(&layout, Factors::Both));
    assert_eq!(layout.parameters(), 6 + 10 + 140 + 66 + 2 + 2);
    assert_eq!(bytes(Codec::TopK(TopK { share: 0.1 })), 8 * 22);
    assert_eq!(bytes(SIGN_SGD), 6 * 4 + 1 + 2 + 18 + 9 + 1 + 1);
    assert_eq!(bytes(INT8), 226 + 4 * (1 + 1 + 3 + 2 + 1 + 1));
    assert_eq!(bytes(NF4), 3 + 5 + 70 + 33 + 1 + 1 + 4 * (1 + 1 + 3 + 2 + 1 + 1));
    // Four levels and a sign: four bits. In buckets of 64, there are as many norms as blocks.
    assert_eq!(bytes(Codec::Qsgd(Qsgd { levels: 7, bucket: 64 })), bytes(NF4));
    assert_eq!(bytes(Codec::Qsgd(Qsgd { levels: 8, bucket: 64 })), 4 + 7 + 88 + 42 + 2 + 2 + 36);
    let module = Module { path: "m".into(), in_features: 4096, out_features: 4096 };
    let layout = Layout { rank: 8, alpha: 1.0, rank_stabilized: false, has_core: false, modules: vec![module] };
    let bytes = |codec| Compression { codec, error_feedback: false }.bytes(&Sent::new(&layout, Factors::Both));
    let qsgd = Codec::Qsgd(Qsgd { levels: 7, bucket: 512 });
    assert_eq!([INT8, NF4, qsgd, SIGN_SGD].map(bytes), [69_632, 36_864, 33_280, 8200]);
    assert_eq!([0.1, 0.01].map(|share| bytes(Codec::TopK(TopK { share }))), [52_424, 5240]);
}

#[test]
fn of_equal_magnitudes_the_first_are_sent() {
    let codec = Codec::TopK(TopK { share: 0.5 });
    let (_, decoded) = coded(codec, &[1.0, -2.0, 2.0, -1.0, 1.0, 1.0], &[]);
    assert_eq!(decoded, [1.0, -2.0, 2.0, 0.0, 0.0, 0.0]);
    assert_eq!(coded(codec, &[0.0; 4], &[]).1, [0.0; 4]);
    // At least one, and in binary 0.29 of 100 is a little less than 29.
    for (share, count, kept) in [(1e-9, 5, 1), (0.29, 100, 29), (1.0, 7, 7), (0.5, 3, 1)] {
        assert_eq!(TopK { share }.bytes(count), 8 * kept);
    }
}

#[test]
fn zeros_stay_zeros_and_the_largest_values_are_finite() {
    for codec in all() {
        let draws = [0.999; 200];
        let zeros = coded(codec, &[0.0; 100], &draws).1;
        assert!(zeros.iter().all(|&value| value == 0.0), "{codec:?}");
        let largest = [f32::MAX, -f32::MAX, 1.0, 0.0, f32::MIN_POSITIVE, -1e-45];
        assert!(coded(codec, &largest, &draws).1.iter().all(|value| value.is_finite()), "{codec:?}");
        let tiny = coded(codec, &[1e-45, -1e-45, 0.0], &draws).1;
        assert!(tiny.iter().all(|value| value.abs() <= 1e-44), "{codec:?}: {tiny:?}");
    }
}

/// Each decoded value has the mean that it was encoded from: over 4,000 seeds, within five standard errors.
#[test]
fn qsgd_is_unbiased() {
    for codec in [Qsgd { levels: 1, bucket: 10 }, Qsgd { levels: 4, bucket: 4 }, Qsgd { levels: 127, bucket: 10 }] {
        let runs = 4000;
        let mut sums = [[0.0; 10]; 2];
        for seed in 0..runs {
            let mut draws = Stream::new(Seed(seed), Purpose::Compression, 7);
            let draws: Vec<f64> = (0..10).map(|_| draws.unit()).collect();
            let (_, decoded) = coded(Codec::Qsgd(codec), &SHORT, &draws);
            for (place, &value) in decoded.iter().enumerate() {
                sums[0][place] += f64::from(value);
                sums[1][place] += f64::from(value).powi(2);
            }
        }
        for (place, &value) in SHORT.iter().enumerate() {
            let [mean, square] = [sums[0][place], sums[1][place]].map(|sum| sum / runs as f64);
            let error = ((square - mean * mean).max(0.0) / runs as f64).sqrt();
            assert!((mean - f64::from(value)).abs() <= 5.0 * error + 1e-6, "{codec:?}: {mean} for {value}");
            // The variance of rounding between neighboring levels is that of a coin.
            let norm: f64 = SHORT.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
            assert!(square - mean * mean <= (norm / f64::from(codec.levels)).powi(2) / 4.0 + 1e-9);
        }
    }
}

/// The biased codecs shorten a change, and lose no more than a share of it: the condition of error feedback.
#[test]
fn codecs_with_error_feedback_are_contractions() {
    let layout = layout(4);
    for entity in 0..50 {
        let values = change(&layout, Factors::Both, entity);
        let squares = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        for (codec, most) in [(Codec::TopK(TopK { share: 0.1 }), 0.9), (SIGN_SGD, 0.999), (INT8, 1e-4), (NF4, 0.02)] {
            let compression = Compression { codec, error_feedback: true };
            let sent = Sent::new(&layout, Factors::Both);
            let decoded = compression.decode(&sent, &compression.encode(&sent, &values, None));
            let lost: Vec<f32> = values.iter().zip(&decoded).map(|(value, decoded)| value - decoded).collect();
            assert!(squares(&lost) <= most * squares(&values), "{codec:?}: {}", squares(&lost) / squares(&values));
        }
    }
}

#[test]
#[should_panic(expected = "1 bytes are left over")]
fn other_bytes_than_those_of_the_shape_are_an_error() {
    let layout = layout(1);
    let compression = Compression { codec: INT8, error_feedback: false };
    let sent = Sent::new(&layout, Factors::Both);
    let mut bytes = compression.encode(&sent, &change(&layout, Factors::Both, 0), None);
    bytes.push(0);
    compression.decode(&sent, &bytes);
}
