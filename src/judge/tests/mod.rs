//! Tests of a judge against a server on loopback that responds, fails or misbehaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::pace::Clock;
use super::*;
use crate::store::{Store, key_of};
use crate::test_support::chat_endpoint::{ChatEndpoint, Turn};

const KEY: &str = "sk-test-0123456789abcdef";

/// A clock on which waiting takes no time; it records the waits.
#[derive(Clone)]
struct FastClock {
    start: Instant,
    waited: Arc<Mutex<Vec<Duration>>>,
}

impl FastClock {
    fn new() -> Self {
        Self { start: Instant::now(), waited: Arc::default() }
    }

    /// Returns the recorded waits of nonzero length.
    fn waits(&self) -> Vec<Duration> {
        self.waited.lock().unwrap().iter().copied().filter(|wait| !wait.is_zero()).collect()
    }
}

impl Clock for FastClock {
    fn now(&self) -> Instant {
        self.start + self.waited.lock().unwrap().iter().sum::<Duration>()
    }

    fn wait(&self, duration: Duration, _: &AtomicBool) {
        self.waited.lock().unwrap().push(duration);
    }
}

/// A store, a server and a clock for one test.
struct World {
    folder: tempfile::TempDir,
    store: Store,
    server: ChatEndpoint,
    clock: FastClock,
}

impl World {
    fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { folder, store, server: ChatEndpoint::start(turns), clock: FastClock::new() }
    }

    fn settings(&self) -> JudgeSettings {
        let retries = Retries { attempts_max: 4, ..Retries::default() };
        let prices = Some(Prices { prompt_per_million: 10.0, completion_per_million: 100.0 });
        JudgeSettings { concurrency: 1, retries, prices, ..JudgeSettings::new(self.server.base_url(), "judge") }
    }

    fn judge(&self, settings: JudgeSettings) -> Judge<'_> {
        let key = ApiKey::new(KEY, "KEY").unwrap();
        Judge::with_clock(settings, key, &self.store, Box::new(self.clock.clone())).unwrap()
    }

    fn ask(&self, settings: JudgeSettings, prompts: &[ChatPrompt]) -> Vec<Verdict> {
        self.judge(settings).ask_all(prompts, &AtomicBool::new(false), &|_, _| {}).unwrap()
    }
}

fn prompt(user: impl std::fmt::Display) -> ChatPrompt {
    ChatPrompt { system: "Judge.".into(), user: user.to_string(), temperature: 0.0, max_tokens: 16 }
}

fn prompts(count: usize) -> Vec<ChatPrompt> {
    (0..count).map(prompt).collect()
}

fn text(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Fresh(judgement) | Verdict::Stored(judgement) => &judgement.text,
        Verdict::Unusable(_, reason) | Verdict::Failed(reason) => reason,
    }
}

/// Replies of a judge whose tokens ran out: in its text, and in its reasoning.
const CUT: &str = r#"{"choices": [{"message": {"content": "A grade of [[2]] may be"}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 16}}"#;
const REASONED: &str = r#"{"choices": [{"message": {"content": null, "reasoning_content": "[[3]]"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 16}}"#;

#[test]
fn a_judgment_that_was_cut_off_or_is_empty_is_paid_for_not_stored_and_asked_again_by_the_next_call() {
    let world = World::new([Turn::Answers(200, "", CUT), Turn::Answers(200, "", REASONED), Turn::Says("[[1]]")]);
    let asked = prompts(3);
    let judge = world.judge(world.settings());
    let verdicts = judge.ask_all(&asked, &AtomicBool::new(false), &|_, _| {}).unwrap();
    assert_eq!(
        verdicts.iter().map(text).collect::<Vec<_>>(),
        [
            "its judgment was cut off by the limit on its tokens (finish_reason `length`)",
            "its judgment is empty",
            "[[1]]"
        ]
    );
    assert!(verdicts[..2].iter().all(|verdict| verdict.judgment().is_none()));
    let paid = Usage { requests: 3, prompt_tokens: 300, completion_tokens: 42 };
    assert_eq!(judge.tally(), CallTally { asked: paid, stored: 0, failed: 2, unusable: 2 });
    assert_eq!(Usage::of_fresh(&asked, &verdicts), paid);
    assert_eq!(world.server.take_requests().len(), 3, "none is asked twice by one call");

    let again = world.ask(world.settings(), &asked);
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["Rating: [[7]]", "Rating: [[7]]", "[[1]]"]);
    assert_eq!(world.server.take_requests().len(), 2);
}

#[test]
fn a_judge_none_of_whose_judgments_can_be_used_is_not_asked_to_the_end() {
    let cut = || Turn::Answers(200, "", CUT);
    let world = World::new((0..20).map(|_| cut()));
    let verdicts = world.ask(world.settings(), &prompts(20));
    assert_eq!(world.server.take_requests().len(), 8);
    assert!(verdicts[..8].iter().all(|verdict| matches!(verdict, Verdict::Unusable(..))));
    let reason = "not asked: none of the first 8 judgments could be used: its judgment was cut off by the limit";
    assert!(verdicts[8..].iter().all(|verdict| text(verdict).starts_with(reason)), "{}", text(&verdicts[8]));

    let world = World::new([cut(), cut(), Turn::Says("[[1]]")].into_iter().chain((0..20).map(|_| cut())));
    world.ask(world.settings(), &prompts(20));
    assert_eq!(world.server.take_requests().len(), 20, "one that can be used shows that some are short enough");

    let world = World::new([Turn::Says("[[1]]")].into_iter().chain((0..20).map(|_| cut())));
    world.ask(world.settings(), &prompts(1));
    world.ask(world.settings(), &prompts(20));
    assert_eq!(world.server.take_requests().len(), 20, "one that is stored shows the same");
}

/// Judgments under the first version of their key include those that were cut off.
#[test]
fn of_judgments_stored_by_an_earlier_version_those_are_used_that_are_whole() {
    let world = World::new([]);
    let settings = JudgeSettings { is_offline: true, ..world.settings() };
    let stored = [("[[4]]", 15), ("A grade of [[2]] may be", 16), ("", 3), ("[[5]]", 0)];
    let asked = prompts(stored.len());
    for (prompt, (text, completion_tokens)) in asked.iter().zip(stored) {
        let judgment = Judgment { text: text.into(), model: "judge".into(), prompt_tokens: 9, completion_tokens };
        let key = key_of("fedreplay judgement v1", &(settings.url(), reply::request_body(&settings, prompt)));
        world.store.put(key, &serde_json::to_vec(&judgment).unwrap()).unwrap();
    }
    let verdicts = world.ask(settings, &asked);
    assert_eq!(verdicts[0].judgment().unwrap().text, "[[4]]");
    assert!(verdicts[1..].iter().all(|verdict| verdict.judgment().is_none()), "{verdicts:?}");
}

#[test]
fn a_judge_with_a_name_of_its_own_may_change_its_port() {
    let world = World::new([Turn::Says("[[1]]")]);
    let named = JudgeSettings { identity: Some("mine".into()), ..world.settings() };
    assert_eq!(text(&world.ask(named.clone(), &[prompt("a")])[0]), "[[1]]");
    let elsewhere = JudgeSettings { base_url: "http://127.0.0.1:9/v1".into(), is_offline: true, ..named };
    assert_eq!(text(&world.ask(elsewhere.clone(), &[prompt("a")])[0]), "[[1]]");
    for identity in [None, Some("another".into())] {
        let other = JudgeSettings { identity, ..elsewhere.clone() };
        assert!(text(&world.ask(other, &[prompt("a")])[0]).contains("judging is offline"));
    }
}

#[test]
fn what_is_asked_is_stored_and_asked_once() {
    let world = World::new([Turn::Says("[[1]]"), Turn::Says("[[2]]")]);
    let asked = [prompt("a"), prompt("b"), prompt("a")];
    let verdicts = world.ask(world.settings(), &asked);
    assert!(matches!(&verdicts[..], [Verdict::Fresh(_), Verdict::Fresh(_), Verdict::Stored(_)]), "{verdicts:?}");
    assert_eq!(verdicts.iter().map(text).collect::<Vec<_>>(), ["[[1]]", "[[2]]", "[[1]]"]);
    let usage = Usage::of_fresh(&asked, &verdicts);
    assert_eq!(usage, Usage { requests: 2, prompt_tokens: 200, completion_tokens: 20 });
    let requests = world.server.take_requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].path, "/v1/chat/completions");
    assert_eq!(requests[0].authorization.as_deref(), Some(&*format!("Bearer {KEY}")));
    assert_eq!(requests[0].body["messages"][1]["content"], "a");

    // Asked again offline, the judge returns the same texts and sends nothing.
    let offline = JudgeSettings { is_offline: true, ..world.settings() };
    let again = world.ask(offline.clone(), &[&asked[..], &[prompt("c")]].concat());
    assert_eq!(again[..3].iter().map(text).collect::<Vec<_>>(), ["[[1]]", "[[2]]", "[[1]]"]);
    assert!(text(&again[3]).contains("judging is offline"), "{again:?}");
    assert_eq!(world.server.take_requests().len(), 0);
    assert_eq!(Usage::of_fresh(&asked, &again[..3]), Usage::default());

    // Another model, temperature or limit needs another judgment.
    let others = [
        JudgeSettings { model: "other".into(), ..offline.clone() },
        JudgeSettings { temperature: Some(0.5), ..offline.clone() },
        JudgeSettings { token_limit: TokenLimit::MaxCompletionTokens, ..offline.clone() },
    ];
    for settings in others {
        assert!(world.ask(settings, &asked[..1])[0].judgment().is_none());
    }
    assert!(world.ask(offline, &[ChatPrompt { max_tokens: 17, ..prompt("a") }])[0].judgment().is_none());
}

#[test]
fn what_another_process_is_asking_is_waited_for_and_not_asked_again() {
    let release = Arc::new(Barrier::new(2));
    let world = World::new([Turn::Together(release.clone())]);
    let asked = prompts(3);
    let (second_store, second_clock) = (Store::open(world.folder.path()).unwrap(), FastClock::new());
    let second = Judge::with_clock(world.settings(), None, &second_store, Box::new(second_clock.clone())).unwrap();
    let never = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.ask(world.settings(), &asked));
        while world.server.take_requests().is_empty() {
            std::thread::yield_now();
        }
        let second = scope.spawn(|| second.ask_all(&asked, &never, &|_, _| {}).unwrap());
        // Until it waits for the first; without claims it would end.
        while second_clock.waits().is_empty() && !second.is_finished() && begin.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        release.wait();
        let verdicts = [first.join().unwrap(), second.join().unwrap()];
        assert!(verdicts.iter().flatten().all(|verdict| verdict.judgment().is_some()));
        let fresh = verdicts.iter().flatten().filter(|verdict| matches!(verdict, Verdict::Fresh(_))).count();
        assert_eq!(fresh, 3, "each prompt is paid for once");
    });
    assert_eq!(world.server.take_requests().len(), 2, "one was taken above");
}

#[test]
fn what_another_process_is_asking_is_not_asked_again_if_its_reply_cannot_be_used() {
    let (tell, hear) = mpsc::channel();
    let world = World::new([Turn::Waits(tell, CUT)]);
    let asked = prompts(1);
    let (second_store, second_clock) = (Store::open(world.folder.path()).unwrap(), FastClock::new());
    let second = Judge::with_clock(world.settings(), None, &second_store, Box::new(second_clock.clone())).unwrap();
    let never = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.ask(world.settings(), &asked));
        let release = hear.recv().unwrap();
        let second = scope.spawn(|| second.ask_all(&asked, &never, &|_, _| {}).unwrap());
        while second_clock.waits().is_empty() && !second.is_finished() && begin.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        release.send(()).unwrap();
        let verdicts = [first.join().unwrap(), second.join().unwrap()].concat();
        assert!(matches!(verdicts[0], Verdict::Unusable(..)), "{verdicts:?}");
        assert_eq!(verdicts[1], Verdict::Failed(text(&verdicts[0]).to_owned()));
    });
    assert_eq!(world.server.take_requests().len(), 1);
    // Nobody waits any more, and it is not stored.
    assert_eq!(text(&world.ask(world.settings(), &asked)[0]), "Rating: [[7]]");
}

#[test]
fn an_estimate_asks_nothing_and_counts_what_is_stored() {
    let world = World::new([]);
    let asked = prompts(3);
    world.ask(world.settings(), &asked[..1]);
    world.server.take_requests();
    let estimate = world.judge(world.settings()).estimate(&[&asked[..], &asked[2..]].concat());
    assert_eq!((estimate.stored, estimate.to_ask.requests, estimate.to_ask.completion_tokens), (1, 2, 32));
    // One token per byte of "Judge." and of the question, and 16 for the chat format.
    assert_eq!(estimate.to_ask.prompt_tokens, 2 * (6 + 1 + 16));
    let shorter = world.judge(JudgeSettings { tokens_max: Some(5), ..world.settings() });
    let unknown = shorter.estimate_unknown(&asked[0], 1000).to_ask;
    assert_eq!((unknown.prompt_tokens, unknown.completion_tokens), (6 + 1 + 16 + 1000, 5));
    assert!(estimate.to_ask.cost(&world.settings().prices.unwrap()) > 0.0);
    assert_eq!(world.server.take_requests().len(), 0);
}

#[test]
fn passing_faults_are_sat_out() {
    let faults = [
        Turn::Answers(500, "", "oops"),
        Turn::Answers(503, "", ""),
        Turn::Truncated,
        Turn::Cut,
        Turn::Closes,
        Turn::Answers(200, "", r#"{"object": "list"}"#),
        Turn::Answers(200, "", "<html>"),
    ];
    for fault in faults {
        let world = World::new([fault.clone(), fault.clone(), Turn::Says("[[3]]")]);
        let verdicts = world.ask(world.settings(), &[prompt("a")]);
        assert_eq!(text(&verdicts[0]), "[[3]]", "{fault:?}");
        let waits = world.clock.waits();
        assert_eq!(waits.len(), 2, "{fault:?}");
        assert!(waits[0] >= Duration::from_millis(500) && waits[1] >= Duration::from_secs(1), "{waits:?}");
    }
}

#[test]
fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:17 GMT\r\n";
    for (headers, seconds) in [("Retry-After: 30\r\n", 30), (date, 40)] {
        let world = World::new([Turn::Answers(429, headers, "slow down"), Turn::Says("[[3]]")]);
        let verdicts = world.ask(world.settings(), &[prompt("a")]);
        assert_eq!(text(&verdicts[0]), "[[3]]");
        assert_eq!(world.clock.waits(), [Duration::from_secs(seconds)]);
    }
    let world = World::new([Turn::Answers(429, "Retry-After: 86400\r\n", "tomorrow")]);
    let verdicts = world.ask(world.settings(), &[prompt("a")]);
    assert_eq!(text(&verdicts[0]), "it answered 429 (tomorrow), asking to wait 86400 s, at the last of 1 attempt");
    assert_eq!(world.server.take_requests().len(), 1);
}

#[test]
fn a_request_that_cannot_succeed_is_made_once_and_the_others_go_on() {
    let world = World::new([Turn::Says("[[1]]"), Turn::Answers(400, "", "too\nlong"), Turn::Says("[[2]]")]);
    let verdicts = world.ask(world.settings(), &prompts(3));
    assert_eq!(verdicts.iter().map(text).collect::<Vec<_>>(), ["[[1]]", "it answered 400 (too long)", "[[2]]"]);
    assert_eq!(world.server.take_requests().len(), 3);
    // The next call asks the failed prompt only.
    let verdicts = world.ask(world.settings(), &prompts(3));
    assert_eq!(verdicts.iter().map(text).collect::<Vec<_>>(), ["[[1]]", "Rating: [[7]]", "[[2]]"]);
    assert_eq!(world.server.take_requests().len(), 1);
}

#[test]
fn a_wrong_key_ends_the_asking_at_once() {
    let world = World::new([Turn::Says("[[1]]"), Turn::Answers(401, "", "who are you")]);
    let verdicts = world.ask(world.settings(), &prompts(4));
    assert_eq!(text(&verdicts[0]), "[[1]]");
    assert!(text(&verdicts[1]).contains("401") && text(&verdicts[1]).contains("environment"), "{verdicts:?}");
    assert!(text(&verdicts[3]).starts_with("not asked: it answered 401"), "{verdicts:?}");
    assert_eq!(world.server.take_requests().len(), 2);
}

#[test]
fn an_endpoint_that_never_answers_is_left_after_three_inquiries() {
    for silence in [Turn::Silent, Turn::Stalls] {
        let world = World::new(std::iter::repeat_n(silence, 6));
        let retries = Retries { attempts_max: 2, ..Retries::default() };
        let settings = JudgeSettings { timeout: Duration::from_millis(50), retries, ..world.settings() };
        let verdicts = world.ask(settings, &prompts(5));
        assert!(text(&verdicts[0]).contains("at the last of 2 attempts"), "{verdicts:?}");
        assert!(text(&verdicts[3]).starts_with("not asked: "), "{verdicts:?}");
        // On a busy host a request may be given up before the server has read it.
        assert!(world.server.take_requests().len() <= 6);
    }
    // No server listens at all.
    let mut world = World::new([]);
    let settings = world.settings();
    world.server = ChatEndpoint::start([]);
    let verdicts = world.ask(settings, &prompts(4));
    assert!(text(&verdicts[0]).contains("the connection failed"), "{verdicts:?}");
}

#[test]
fn requests_are_in_flight_together_and_verdicts_in_order() {
    let barrier = Arc::new(Barrier::new(3));
    let world = World::new(std::iter::repeat_n(Turn::Together(barrier), 3));
    let heard = Mutex::new(Vec::new());
    let judge = world.judge(JudgeSettings { concurrency: 3, ..world.settings() });
    let each = |place: usize, _: &Verdict| heard.lock().unwrap().push(place);
    let verdicts = judge.ask_all(&prompts(9), &AtomicBool::new(false), &each).unwrap();
    assert_eq!(verdicts.len(), 9);
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Fresh(_))), "{verdicts:?}");
    let mut heard = heard.into_inner().unwrap();
    heard.sort_unstable();
    assert_eq!(heard, (0..9).collect::<Vec<_>>());
}

#[test]
fn requests_begin_no_faster_than_the_rate_limit() {
    let world = World::new([]);
    world.ask(JudgeSettings { requests_per_minute: Some(20.0), ..world.settings() }, &prompts(3));
    assert_eq!(world.clock.waits(), [Duration::from_secs(3); 2]);
}

#[test]
fn nothing_is_asked_once_the_greatest_cost_is_spent_or_the_judging_is_stopped() {
    let world = World::new([]);
    // A judgment of 100 and 10 tokens costs 0.002 here.
    let verdicts = world.ask(JudgeSettings { cost_max: Some(0.003), ..world.settings() }, &prompts(4));
    assert_eq!(world.server.take_requests().len(), 2);
    assert!(text(&verdicts[2]).contains("the greatest cost of 0.003 is spent"), "{verdicts:?}");

    let stop = AtomicBool::new(false);
    let each = |place: usize, _: &Verdict| stop.store(place >= 2, Ordering::Relaxed);
    let verdicts = world.judge(world.settings()).ask_all(&prompts(5), &stop, &each).unwrap();
    assert!(matches!(&verdicts[..3], [Verdict::Stored(_), Verdict::Stored(_), Verdict::Fresh(_)]), "{verdicts:?}");
    assert!(text(&verdicts[3]).contains("stopped"), "{verdicts:?}");
    assert_eq!(world.server.take_requests().len(), 1);
}

#[test]
fn a_greatest_cost_and_a_closed_door_hold_for_all_that_a_judge_is_asked() {
    let world = World::new([Turn::Says("[[1]]"), Turn::Says("[[1]]"), Turn::Answers(401, "", "who are you")]);
    let ask = |judge: &Judge, asked: &[ChatPrompt]| judge.ask_all(asked, &AtomicBool::new(false), &|_, _| {}).unwrap();
    let frugal = world.judge(JudgeSettings { cost_max: Some(0.003), ..world.settings() });
    ask(&frugal, &prompts(2));
    let more = ask(&frugal, &[prompt("more"), prompt(0)]);
    assert!(text(&more[0]).contains("the greatest cost of 0.003 is spent"), "{more:?}");
    assert_eq!(text(&more[1]), "[[1]]", "what is stored costs nothing");
    let asked = Usage { requests: 2, prompt_tokens: 200, completion_tokens: 20 };
    assert_eq!(frugal.tally(), CallTally { asked, stored: 1, failed: 1, unusable: 0 });

    let refused = world.judge(world.settings());
    ask(&refused, &[prompt("x")]);
    assert!(text(&ask(&refused, &[prompt("y")])[0]).starts_with("not asked: it answered 401"));
    assert_eq!(world.server.take_requests().len(), 3);
}

#[test]
fn a_store_that_cannot_be_written_ends_the_asking() {
    let world = World::new([]);
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    // A file in the place of a folder of the store makes writing fail.
    std::fs::remove_dir(folder.path().join("contents")).unwrap();
    std::fs::write(folder.path().join("contents"), "").unwrap();
    let judge = Judge::new(world.settings(), None, &store).unwrap();
    judge.ask_all(&prompts(5), &AtomicBool::new(false), &|_, _| {}).unwrap_err();
    assert_eq!(world.server.take_requests().len(), 1);
}

#[test]
fn an_endpoint_that_repeats_the_key_does_not_spread_it() {
    let turns = [200, 400, 500, 500, 500, 500].map(|status| Turn::Repeats { status });
    let world = World::new(turns);
    let verdicts = world.ask(world.settings(), &prompts(3));
    let said = format!("{verdicts:?}");
    assert!(!said.contains(KEY) && said.matches("(hidden)").count() >= 3, "{said}");
    let files = walk(world.folder.path());
    assert!(!files.is_empty() && files.iter().all(|bytes| !contains(bytes, KEY.as_bytes())));
}

#[test]
fn a_key_across_the_cut_of_an_error_or_in_escapes_is_hidden() {
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let escaped = KEY.replace('-', "\\u002d");
    let mut turns = Vec::new();
    // Errors are quoted up to 200 characters.
    for before in 200 - KEY.len()..=200 {
        turns.push(Turn::Answers(400, "", leak(format!("{}{KEY} is no key", "x".repeat(before)))));
    }
    for key in [escaped.as_str(), &KEY.replace('0', "\\u0030"), KEY] {
        turns.push(Turn::Answers(
            200,
            "",
            leak(format!(r#"{{"choices": [{{"message": {{"content": "You sent {key} [[5]]"}}}}], "model": "{key}"}}"#)),
        ));
        turns.push(Turn::Answers(200, "", leak(format!(r#"{{"choices": "{key}"}}"#))));
        turns.push(Turn::Answers(400, "", leak(format!(r#"{{"error": "{key}"}}"#))));
    }
    let count = turns.len();
    let world = World::new(turns);
    let retries = Retries { attempts_max: 1, ..Retries::default() };
    let verdicts = world.ask(JudgeSettings { retries, ..world.settings() }, &prompts(count));
    let said = format!("{verdicts:?}");
    let files = walk(world.folder.path());
    for part in KEY.as_bytes().windows(12) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!said.contains(part), "{part}: {said}");
        assert!(files.iter().all(|bytes| !contains(bytes, part.as_bytes())), "{part} is in a file");
    }
    let fresh = verdicts.iter().filter(|verdict| text(verdict) == "You sent (hidden) [[5]]").count();
    assert_eq!(fresh, 3, "{said}");
}

fn walk(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![std::fs::read(path).unwrap()] }).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_redirect_is_not_followed_with_the_key() {
    let world = World::new([Turn::Answers(307, "Location: http://127.0.0.1:1/\r\n", "")]);
    let verdicts = world.ask(world.settings(), &[prompt("a")]);
    assert!(text(&verdicts[0]).contains("it redirects"), "{verdicts:?}");
}
