//! A headless Chromium, driven through chromedriver over loopback, for pages that are read in a browser.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::not_run;

/// A browser with an empty profile. It ends with its owner.
pub struct Browser {
    driver: Child,
    agent: ureq::Agent,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser; none where the machine has none, which is said on stderr, and is a failure with `FEDREPLAY_TESTS=all`.
    pub fn start() -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                not_run("a page in a browser", &format!("chromedriver: {error}; `make browser` installs it"));
                return None;
            }
        };
        let lines = BufReader::new(driver.stdout.take().expect("it is piped")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("chromedriver names its port");
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(120)))
            .build()
            .into();
        let profile = tempfile::tempdir().expect("a temporary folder");
        let server = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, agent, session: server.clone(), _profile: profile };
        let opened = browser.post("", &capabilities(browser._profile.path()));
        browser.session = format!("{server}/{}", opened["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    /// Opens a file and waits until its figures are there.
    pub fn open(&self, file: &Path) {
        let file = std::path::absolute(file).expect("a path");
        self.post("/url", &json!({ "url": format!("file://{}", file.display()) }));
        self.wait("document.documentElement.dataset.ready === 'yes'");
    }

    /// Runs a script in the page and returns its value.
    pub fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script in the page that returns a promise, and returns what it comes to.
    pub fn promised(&self, script: &str) -> Value {
        let script =
            format!("const done = arguments[0]; (async () => {{ {script} }})().then(done, e => done('error: ' + e));");
        self.post("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a condition holds in the page, looking at each frame.
    #[track_caller]
    pub fn wait(&self, condition: &str) {
        let frames =
            "for (let frame = 0; frame < 3000 && !holds(); frame += 1) await new Promise(requestAnimationFrame);";
        let held = self.promised(&format!("const holds = () => {condition}; {frames} return holds();"));
        assert_eq!(held, json!(true), "it never came true: {condition}");
    }

    /// Drags the mouse from one place of an element to another, each as shares of its width and height.
    pub fn drag(&self, selector: &str, from: [f64; 2], to: [f64; 2]) {
        // Two frames: the page hears of its own scrolling with the next one.
        let find = format!(
            "const e = document.querySelector({}); e.scrollIntoView({{block: 'center', behavior: 'instant'}}); \
             for (let n = 0; n < 2; n += 1) await new Promise(requestAnimationFrame); \
             const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height];",
            json!(selector)
        );
        let place: Vec<f64> = serde_json::from_value(self.promised(&find)).expect("a rectangle");
        let at = |share: [f64; 2]| {
            let [x, y] = [place[0] + share[0] * place[2], place[1] + share[1] * place[3]];
            json!({ "type": "pointerMove", "duration": 0, "x": x.round(), "y": y.round() })
        };
        let steps = [
            at(from),
            json!({ "type": "pointerDown", "button": 0 }),
            at(to),
            json!({ "type": "pointerUp", "button": 0 }),
        ];
        let mouse =
            json!({ "type": "pointer", "id": "mouse", "parameters": { "pointerType": "mouse" }, "actions": steps });
        self.post("/actions", &json!({ "actions": [mouse] }));
    }

    /// Presses keys, one after another, on what has the focus.
    pub fn press(&self, keys: &[&str]) {
        let steps: Vec<Value> = keys
            .iter()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": steps }] }));
    }

    /// Shows the page on another screen: its width in pixels, and `light` or `dark`.
    pub fn screen(&self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// Prints the page and returns the PDF's size in bytes.
    pub fn print(&self) -> usize {
        let pdf = self.post("/print", &json!({}));
        pdf.as_str().expect("base64").len() / 4 * 3
    }

    /// What the page wrote to its console as warnings or errors.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().expect("a list").iter();
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn devtools(&self, command: &str, parameters: Value) {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.session);
        let sent = self.agent.post(&url).content_type("application/json").send(body.to_string());
        let mut response = sent.expect("chromedriver answers");
        let text = response.body_mut().with_config().limit(1 << 28).read_to_string().expect("an answer");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let value = answer["value"].clone();
        assert!(value["error"].is_null(), "{path}: {value}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The session first: the driver's end alone would leave the browser.
        let _ = self.agent.delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn capabilities(profile: &Path) -> Value {
    let profile = format!("--user-data-dir={}", profile.display());
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,900",
        &profile,
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "WARNING" },
        "timeouts": { "script": 100_000 },
    } } })
}
