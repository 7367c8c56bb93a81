//! The judge: sends many prompts concurrently and stores each judgment as soon as it arrives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::budget::{CallBudget, CallTally};
use super::cost::CostEstimate;
use super::endpoint::{Endpoint, Failure, Remedy};
use super::pace::{Clock, HostClock, Pace};
use super::reply::request_body;
use super::secret::ApiKey;
use super::settings::JudgeSettings;
use super::types::ChatPrompt;
use super::types::JudgeError;
use super::types::{Judgment, Verdict};
use crate::store::{Claim, Claiming, Key, Store, StoreError, key_of, parse_json};

/// Time between two looks whether another process is done with a prompt.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// An LLM judge with a cache of its judgments in the store.
pub struct Judge<'a> {
    settings: JudgeSettings,
    store: &'a Store,
    endpoint: Endpoint,
    pace: Pace,
    clock: Box<dyn Clock>,
    /// State of all calls together: the maximum cost is that of the whole command, and an endpoint that denies access
    /// once is not asked again.
    budget: Mutex<CallBudget>,
}

/// A prompt that is sent once, even if it occurs several times.
struct Pending<'a> {
    prompt: &'a ChatPrompt,
    body: String,
    key: Key,
    /// Indices of the verdicts that it decides.
    places: Vec<usize>,
}

/// State that the workers of one call share.
struct Session<'s> {
    next: AtomicUsize,
    stop: &'s AtomicBool,
    each: &'s (dyn Fn(usize, &Verdict) + Sync),
    verdicts: Mutex<BTreeMap<usize, Verdict>>,
    broken_store: Mutex<Option<StoreError>>,
}

impl<'a> Judge<'a> {
    /// Creates a judge. Nothing is sent yet.
    ///
    /// # Errors
    /// [`JudgeError::Setting`] if a setting is invalid.
    pub fn new(settings: JudgeSettings, key: Option<ApiKey>, store: &'a Store) -> Result<Self, JudgeError> {
        Self::with_clock(settings, key, store, Box::new(HostClock))
    }

    pub(super) fn with_clock(
        settings: JudgeSettings,
        key: Option<ApiKey>,
        store: &'a Store,
        clock: Box<dyn Clock>,
    ) -> Result<Self, JudgeError> {
        settings.check()?;
        let endpoint = Endpoint::new(&settings, key);
        let pace = Pace::new(settings.requests_per_minute);
        Ok(Self { settings, store, endpoint, pace, clock, budget: Mutex::default() })
    }

    /// Returns an upper bound of the cost of `prompts`, without sending anything. Stored judgments cost nothing.
    pub fn estimate(&self, prompts: &[ChatPrompt]) -> CostEstimate {
        let mut estimate = CostEstimate::default();
        for pending in self.pending(prompts) {
            estimate = match self.stored(&pending) {
                Some(_) => estimate.with_stored(),
                None => estimate.with(pending.prompt, 0, self.settings.tokens_of(pending.prompt)),
            };
        }
        estimate
    }

    /// Returns an upper bound of the cost of judging an unknown answer of at most `answer_tokens_max` tokens. `prompt`
    /// is about an empty answer.
    pub fn estimate_unknown(&self, prompt: &ChatPrompt, answer_tokens_max: u64) -> CostEstimate {
        CostEstimate::default().with(prompt, answer_tokens_max, self.settings.tokens_of(prompt))
    }

    /// Returns the counts since this judge was created.
    pub fn tally(&self) -> CallTally {
        self.budget().tally
    }

    fn budget(&self) -> MutexGuard<'_, CallBudget> {
        self.budget.lock().expect("nobody panics while recording")
    }

    /// Returns a verdict for each prompt, in their order. Calls `each` on every verdict as it arrives, with the
    /// prompt's index. Once `stop` is set, requests in flight still finish, and the rest fails.
    ///
    /// # Errors
    /// If the store cannot be written. No further request is sent then, since its judgment would be paid for and lost.
    pub fn ask_all(
        &self,
        prompts: &[ChatPrompt],
        stop: &AtomicBool,
        each: &(dyn Fn(usize, &Verdict) + Sync),
    ) -> Result<Vec<Verdict>, StoreError> {
        let pending = self.pending(prompts);
        let session = Session {
            next: AtomicUsize::new(0),
            stop,
            each,
            verdicts: Mutex::default(),
            broken_store: Mutex::default(),
        };
        let workers = self.settings.concurrency.min(pending.len());
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.work(&pending, &session));
            }
        });
        // The map is ordered by index, so its values are in the order of the prompts.
        let ended = "a worker that panics ends the call";
        match session.broken_store.into_inner().expect(ended) {
            Some(error) => Err(error),
            None => Ok(session.verdicts.into_inner().expect(ended).into_values().collect()),
        }
    }

    /// Merges equal prompts, in the order of their first occurrence.
    fn pending<'i>(&self, prompts: &'i [ChatPrompt]) -> Vec<Pending<'i>> {
        let mut known: BTreeMap<Key, usize> = BTreeMap::new();
        let mut pending: Vec<Pending> = Vec::new();
        for (place, prompt) in prompts.iter().enumerate() {
            // Endpoint and body together determine the judgment, so their hash is its key.
            let body = request_body(&self.settings, prompt);
            let key = key_of("fedreplay judgement v2", &(self.settings.identity(), &body));
            match known.get(&key) {
                Some(&index) => pending[index].places.push(place),
                None => {
                    known.insert(key, pending.len());
                    pending.push(Pending { prompt, body, key, places: vec![place] });
                }
            }
        }
        pending
    }

    fn stored(&self, pending: &Pending) -> Option<Judgment> {
        if let Some(judgment) = self.read(pending.key) {
            return Some(judgment);
        }
        // Under its first version, a key also has judgments that were cut off or are empty. One that is certainly whole
        // was paid for and is used.
        let judgment = self.read(key_of("fedreplay judgement v1", &(self.settings.identity(), &pending.body)))?;
        let limit = u64::from(self.settings.tokens_of(pending.prompt));
        let is_whole = !judgment.text.trim().is_empty() && (1..limit).contains(&judgment.completion_tokens);
        is_whole.then_some(judgment)
    }

    fn read(&self, key: Key) -> Option<Judgment> {
        parse_json(&self.store.get(key)?).ok()
    }

    /// Runs one worker: takes prompts until none is left.
    fn work(&self, pending: &[Pending], session: &Session) {
        while let Some(pending) = pending.get(session.next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = match self.stored(pending) {
                Some(judgment) => Verdict::Stored(judgment),
                None => self.ask(pending, session),
            };
            self.budget().count(pending.prompt, &verdict);
            session.record(pending, &verdict);
        }
    }

    /// Sends a prompt until it succeeds or finally fails, and stores the judgment.
    fn ask(&self, pending: &Pending, session: &Session) -> Verdict {
        if let Some(reason) = self.closed(session) {
            return Verdict::Failed(reason);
        }
        loop {
            let claiming = self.store.claim(pending.key);
            // Another process may have asked since the last look.
            if let Some(judgment) = self.stored(pending) {
                return Verdict::Stored(judgment);
            }
            match claiming {
                Claiming::Held(claim) => return self.ask_with(claim, pending, session),
                Claiming::Elsewhere(holder) => {
                    self.clock.wait(BETWEEN_LOOKS, session.stop);
                    // A reply that cannot be used is not stored. It was paid for once, and is asked for again by the next
                    // evaluation.
                    match String::from_utf8(holder.left()) {
                        Ok(reason) if !reason.is_empty() => return Verdict::Failed(reason),
                        _ => {}
                    }
                }
            }
            if let Some(reason) = self.closed(session) {
                return Verdict::Failed(reason);
            }
        }
    }

    /// Sends a prompt that no other process sends while the claim is held.
    fn ask_with(&self, claim: Claim, pending: &Pending, session: &Session) -> Verdict {
        match self.insist(pending, session) {
            Ok(judgment) => {
                // Stored before it is reported: a judgment that was paid for must not be lost.
                let bytes = serde_json::to_vec(&judgment).expect("texts and numbers become JSON");
                if let Err(error) = self.store.put(pending.key, &bytes) {
                    self.budget().close("not asked: the store cannot be written".into());
                    *session.broken_store.lock().expect("nobody panics while recording") = Some(error);
                }
                Verdict::Fresh(judgment)
            }
            Err(failure) => {
                self.budget().lost(&failure);
                match failure.unusable {
                    Some(judgment) => {
                        claim.leave(failure.reason.as_bytes());
                        Verdict::Unusable(judgment, failure.reason)
                    }
                    None => Verdict::Failed(failure.reason),
                }
            }
        }
    }

    /// Returns why no prompt may be sent, if so.
    fn closed(&self, session: &Session) -> Option<String> {
        if self.settings.is_offline {
            return Some("not asked: it is not in the store, and judging is offline".into());
        }
        if session.stop.load(Ordering::Relaxed) {
            return Some("not asked: judging was stopped".into());
        }
        let budget = self.budget();
        if let (Some(prices), Some(cost_max)) = (&self.settings.prices, self.settings.cost_max)
            && budget.tally.asked.cost(prices) >= cost_max
        {
            return Some(format!("not asked: the greatest cost of {cost_max} is spent"));
        }
        budget.closed()
    }

    /// Sends a prompt and retries it while that may help.
    fn insist(&self, pending: &Pending, session: &Session) -> Result<Judgment, Failure> {
        let mut failures = 0;
        loop {
            self.clock.wait(self.pace.take(self.clock.now()), session.stop);
            // Checked again after each wait: meanwhile other workers may have spent the budget.
            if let Some(reason) = self.closed(session) {
                return Err(Failure::new(reason, Remedy::GiveUp));
            }
            let failure = match self.endpoint.ask(&pending.body) {
                Ok(judgment) => return Ok(judgment),
                Err(failure) => failure,
            };
            failures += 1;
            let Remedy::TryAgain { after } = failure.remedy else { return Err(failure) };
            let Some(wait) = self.settings.retries.wait(failures, after, pending.key) else {
                return Err(given_up(failure, failures, after));
            };
            tracing::info!(reason = %failure.reason, ?wait, "a judgement is asked for again");
            // A wait that the endpoint asked for holds for all workers, our own backoff for this one alone.
            if after.is_some() {
                self.pace.defer(self.clock.now() + wait);
            } else {
                self.clock.wait(wait, session.stop);
            }
        }
    }
}

/// Adds to the last failure how often the request was tried.
fn given_up(failure: Failure, attempts: u32, asked_for: Option<Duration>) -> Failure {
    let wait = asked_for.map_or(String::new(), |wait| format!(", asking to wait {} s", wait.as_secs_f64()));
    let plural = if attempts == 1 { "" } else { "s" };
    let reason = format!("{}{wait}, at the last of {attempts} attempt{plural}", failure.reason);
    Failure { reason, ..failure }
}

impl Session<'_> {
    /// Records the verdict under all indices of its prompt.
    fn record(&self, pending: &Pending, verdict: &Verdict) {
        for (repetition, &place) in pending.places.iter().enumerate() {
            // The same prompt was paid for once: its repetitions count as stored.
            let verdict = match verdict {
                Verdict::Fresh(judgment) if repetition > 0 => Verdict::Stored(judgment.clone()),
                Verdict::Unusable(_, reason) if repetition > 0 => Verdict::Failed(reason.clone()),
                verdict => verdict.clone(),
            };
            (self.each)(place, &verdict);
            self.verdicts.lock().expect("nobody panics while recording").insert(place, verdict);
        }
    }
}
