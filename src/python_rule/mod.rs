//! Aggregation rules in Python: a function over numpy arrays, in a process of its own.
//!
//! The function gets the server's adapter, the updates of a round and its own state, and returns the next adapter and state. Its
//! text, its parameters and the versions of what computes it are its hash. Whether it is a function of its input alone is
//! tested: a second process computes the first call and one in some later ones again.

mod process;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::process::{Process, RuleMessage};
use crate::algorithm::{AggregationRule, RuleError, RuleInput, RuleOutput};

/// Where a rule is, and how it is called.
#[derive(Clone, Debug)]
pub struct PythonRuleSettings {
    /// Python, with numpy: a path, or a name that is looked up in PATH.
    pub python: PathBuf,
    /// File with the function `aggregate`.
    pub file: PathBuf,
    /// Keyword arguments of the function.
    pub parameters: serde_json::Value,
    /// [calls] -- Interval at which a second process computes a call again, from the first on.
    pub check_every: u32,
    /// [s] -- Longest time of a call.
    pub time_limit: Duration,
}

/// Aggregation rule in Python.
#[derive(Debug)]
pub struct PythonRule {
    settings: PythonRuleSettings,
    text: Vec<u8>,
    /// Versions of Python, of numpy and its BLAS and of imported packages, and the processor's instructions that numpy uses.
    environment: serde_json::Value,
    process: Mutex<Process>,
    /// [calls] -- Number of calls so far.
    calls: AtomicU32,
}

impl PythonRule {
    /// Starts Python and loads the rule, whose file has the contents `text`.
    ///
    /// # Errors
    /// If Python cannot be started, or the rule cannot be used.
    pub fn load(settings: PythonRuleSettings, text: Vec<u8>, stop: &AtomicBool) -> Result<Self, RuleError> {
        let (process, environment) = start(&settings, &text, stop)?;
        Ok(Self { settings, text, environment, process: Mutex::new(process), calls: AtomicU32::new(0) })
    }

    /// Returns what computes the rule, by part: the version of Python, the packages, the libraries for linear algebra, and
    /// the processor.
    pub fn environment(&self) -> impl Iterator<Item = (&str, String)> {
        let parts = self.environment.as_object().into_iter().flatten();
        parts.map(|(part, text)| (part.as_str(), text.as_str().unwrap_or_default().to_owned()))
    }

    fn fault(&self, reason: String) -> RuleError {
        fault(&self.settings, reason)
    }

    /// Sends a request to a process and returns its reply, with the number of bytes of the adapter in it.
    fn ask(
        &self,
        process: &mut Process,
        request: &Arc<RuleMessage>,
        stop: &AtomicBool,
    ) -> Result<(usize, Vec<u8>), RuleError> {
        let (reply, payload) = exchange(&self.settings, process, request, stop)?;
        let values = reply["values"].as_u64().unwrap_or(0) as usize;
        if values > payload.len() || !values.is_multiple_of(8) {
            return Err(self.fault("its reply is damaged".into()));
        }
        Ok((values, payload))
    }
}

impl AggregationRule for PythonRule {
    fn name(&self) -> String {
        self.settings.file.display().to_string()
    }

    fn hash(&self) -> blake3::Hash {
        let material = (blake3::hash(&self.text).to_string(), &self.settings.parameters, &self.environment);
        let text = serde_json::to_string(&("python rule v1", material)).expect("it has only text keys");
        blake3::hash(text.as_bytes())
    }

    fn aggregate(&self, input: &RuleInput, stop: &AtomicBool) -> Result<RuleOutput, RuleError> {
        let request = request(input);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let mut process = self.process.lock().expect("no thread panics while it waits");
        let (values, payload) = self.ask(&mut process, &request, stop)?;
        // The second process is new: what the first one has kept from earlier calls is not there, which shows from the second
        // call on.
        if call == 1 || call.is_multiple_of(self.settings.check_every) {
            let (mut second, environment) = start(&self.settings, &self.text, stop)?;
            if environment != self.environment {
                return Err(self.fault("its Python or one of its packages has changed during the run".into()));
            }
            if self.ask(&mut second, &request, stop)? != (values, payload.clone()) {
                return Err(self.fault(
                    "a second process gave other bits for the same call, so that no run with it could be repeated; it must \
                     compute from its arguments alone, and draw from generators with a seed"
                        .into(),
                ));
            }
        }
        // The adapter comes first, and all bytes after it are the state.
        let (values, state) = payload.split_at(values);
        let values = values.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes")));
        Ok(RuleOutput { values: values.collect(), state: state.to_vec() })
    }

    fn outside_bytes(&self) -> u64 {
        self.process.lock().expect("no thread panics while it waits").resident_bytes()
    }
}

fn fault(settings: &PythonRuleSettings, reason: String) -> RuleError {
    RuleError::Fault { rule: settings.file.display().to_string(), reason }
}

fn no_python(settings: &PythonRuleSettings, reason: String) -> RuleError {
    RuleError::NoPython { rule: settings.file.display().to_string(), reason }
}

/// Starts a process and loads the rule in it. Returns it with its environment.
fn start(
    settings: &PythonRuleSettings,
    text: &[u8],
    stop: &AtomicBool,
) -> Result<(Process, serde_json::Value), RuleError> {
    let python = settings.python.display();
    let mut process = Process::start(&settings.python)
        .map_err(|error| no_python(settings, format!("`{python}` cannot be run: {error}")))?;
    let header = serde_json::json!({ "file": settings.file.to_string_lossy(), "parameters": settings.parameters });
    let (mut reply, _) =
        exchange(settings, &mut process, &Arc::new(RuleMessage { header, payload: text.to_vec() }), stop)?;
    Ok((process, reply["environment"].take()))
}

/// Sends a request and waits for the reply.
fn exchange(
    settings: &PythonRuleSettings,
    process: &mut Process,
    request: &Arc<RuleMessage>,
    stop: &AtomicBool,
) -> Result<(serde_json::Value, Vec<u8>), RuleError> {
    let rule = || settings.file.display().to_string();
    let reply = process.exchange(Arc::clone(request), settings.time_limit, stop).map_err(|error| match error {
        process::Failure::Interrupted => RuleError::Interrupted,
        process::Failure::TooLong => {
            let seconds = settings.time_limit.as_secs_f64();
            fault(settings, format!("loading it or a call took longer than {seconds} s, which is algorithm.time_limit"))
        }
        process::Failure::Ended(reason) => RuleError::Ended { rule: rule(), reason },
    })?;
    if let Some(reason) = reply.header["no_python"].as_str() {
        return Err(no_python(settings, reason.to_owned()));
    }
    match reply.header["fault"].as_str() {
        Some(reason) => Err(fault(settings, reason.to_owned())),
        None => Ok((reply.header, reply.payload)),
    }
}

/// Returns the request for the next model: the matrices of the server, then those of each update, then the state.
fn request(input: &RuleInput) -> Arc<RuleMessage> {
    let tensors: Vec<_> = input.server.layout.tensors().into_iter().map(|(name, shape, _)| (name, shape)).collect();
    // In f64, so that a rule computes in what FedReplay's own rules compute in.
    let mut payload: Vec<u8> = input.server.values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
    let (mut weights, mut ranks, mut staleness) = (vec![], vec![], vec![]);
    for update in &input.updates {
        payload.extend(update.change.iter().flat_map(|value| value.to_le_bytes()));
        weights.push(update.weight);
        ranks.push(update.rank);
        staleness.push(update.staleness);
    }
    let values = payload.len() / 8;
    payload.extend(input.state);
    let header = serde_json::json!({
        "values": values, "tensors": tensors, "weights": weights, "ranks": ranks, "staleness": staleness,
    });
    Arc::new(RuleMessage { header, payload })
}
