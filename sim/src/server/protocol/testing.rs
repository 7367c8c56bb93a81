//! Protocols as tables of facts and acts, for their tests.

use super::{Act, Fact, Protocol, Upload};
use crate::kernel::{Span, Time};
use crate::server::{Candidates, MemoryPolicy, Selection, Server};

/// A server with an aggregation time of 7 ns that tries again after 60 ns.
pub(super) fn server(protocol: Protocol, rounds: u32) -> Server {
    Server {
        rounds,
        selection: Selection::Uniform,
        candidates: Candidates::Online,
        memory: MemoryPolicy::Ineligible,
        protocol,
        aggregation: Span(7),
        training: Span::ZERO,
        retry: Span(60),
    }
}

/// Checks what follows from a fact, in short.
pub(super) fn check(react: impl FnOnce(Time, Fact, &mut Vec<Act>), at: u64, fact: Fact, expected: &str) {
    let mut acts = Vec::new();
    react(Time(at), fact, &mut acts);
    let text: Vec<String> = acts.iter().map(brief).collect();
    assert_eq!(text.join(" "), expected, "at {at}: {fact:?}");
}

/// An update that arrived in `slot` from round `round`, when `generation` versions had been made.
pub(super) fn upload(slot: u32, round: u32, generation: u32) -> Fact {
    Fact::Arrived(Upload { slot, aggregator: 0, round, generation })
}

fn of(aggregator: &u32) -> String {
    if *aggregator == 0 { String::new() } else { format!("[{aggregator}]") }
}

fn brief(act: &Act) -> String {
    match act {
        Act::Open { aggregator, round } => format!("open{round}{}", of(aggregator)),
        Act::Recruit { aggregator, wanted, .. } => format!("recruit{wanted}{}", of(aggregator)),
        Act::SetDeadline { aggregator, at, .. } => format!("deadline@{}{}", at.0, of(aggregator)),
        Act::Stop { aggregator, outcome, .. } => format!("stop:{}{}", outcome.name(), of(aggregator)),
        Act::Reject { upload, outcome } => format!("reject{}:{}", upload.slot, outcome.name()),
        Act::Close { aggregator, result: Ok(counted), .. } => format!("close{}{}", counted.len(), of(aggregator)),
        Act::Close { aggregator, result: Err(reason), .. } => format!("fail:{}{}", reason.name(), of(aggregator)),
        Act::Merge { result: Ok(edges), .. } => format!("merge{edges:?}"),
        Act::Merge { result: Err(reason), .. } => format!("merge fails:{}", reason.name()),
        Act::SendToEdge { aggregator } => format!("down{}", of(aggregator)),
        Act::SendToServer { aggregator } => format!("up{}", of(aggregator)),
        Act::Wake { aggregator, after } => format!("wake+{}{}", after.0, of(aggregator)),
        Act::Finish => "finish".into(),
    }
}
