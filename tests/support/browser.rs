//! A real browser: headless Chromium, driven over the DevTools protocol through its two pipes, so
//! that it needs no port and the tests need no client library.
//! <https://chromedevtools.github.io/devtools-protocol/>
#![allow(unreachable_pub, reason = "as in support/mod.rs")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// One page in a browser of its own.
pub struct Browser {
    chromium: Child,
    input: ChildStdin,
    output: Receiver<Value>,
    calls: u64,
    session: Option<String>,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts Chromium and opens `url`.
    pub fn open(url: &str) -> Self {
        let program = ["chromium", "chromium-browser", "google-chrome"]
            .into_iter()
            .find(|name| {
                let path = std::env::var_os("PATH").unwrap_or_default();
                std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
            })
            .expect("chromium is not installed, and the page is tested in it: run `make setup`, or as root `apt-get install chromium`");
        let profile = tempfile::tempdir().unwrap();
        // Chromium reads from descriptor 3 and writes to 4.
        let mut chromium = Command::new("sh")
            .args(["-c", "exec 3<&0 4>&1 </dev/null >&2; exec \"$@\"", "sh"])
            .args([program, "--headless", "--remote-debugging-pipe"])
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync"])
            .args(["--disable-quic", "--window-size=1280,900"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = chromium.stdin.take().unwrap();
        let mut reader = BufReader::new(chromium.stdout.take().unwrap());
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while reader
                .read_until(0, &mut message)
                .is_ok_and(|read| read > 0)
            {
                message.pop();
                let parsed = serde_json::from_slice(&message).unwrap();
                if sender.send(parsed).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            chromium,
            input,
            output,
            calls: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", target);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Page.navigate", json!({ "url": url }));
        browser
    }

    /// Calls a method and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        loop {
            let answer = self
                .output
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|error| panic!("chromium does not answer {method}: {error}"));
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", parameters);
        let thrown = &answer["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown:#}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait(&mut self, expression: &str) {
        let begin = Instant::now();
        while self.evaluate(expression) != true {
            if begin.elapsed() > PATIENCE {
                let page = self.evaluate("document.body.innerText");
                panic!(
                    "waited in vain for: {expression}\n{}",
                    page.as_str().unwrap_or("")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses a key, by its name, with the text that it types if it types any.
    pub fn press(&mut self, key: &str, typed: &str) {
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "ArrowDown" => 40,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !typed.is_empty() {
                event["text"] = typed.into();
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// What the page asked for so far.
    pub fn requests(&self) -> Vec<&str> {
        self.events("Network.requestWillBeSent")
            .filter_map(|event| event["request"]["url"].as_str())
            .collect()
    }

    /// Errors and warnings on the console, thrown exceptions, and what the policy refused.
    pub fn complaints(&self) -> Vec<&Value> {
        let logged = self
            .events("Log.entryAdded")
            .filter(|event| event["entry"]["level"] != "verbose");
        let console = self.events("Runtime.consoleAPICalled").filter(|event| {
            ["error", "warning", "assert"]
                .iter()
                .any(|kind| event["type"] == *kind)
        });
        logged
            .chain(console)
            .chain(self.events("Runtime.exceptionThrown"))
            .collect()
    }

    fn events(&self, method: &str) -> impl Iterator<Item = &Value> {
        self.events
            .iter()
            .filter(move |event| event["method"] == method)
            .map(|event| &event["params"])
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // All its processes end with it, or the profile could not be removed.
        let close = json!({"id": 0, "method": "Browser.close"}).to_string() + "\0";
        let _ = self.input.write_all(close.as_bytes());
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            if let Ok(Some(_)) = self.chromium.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.chromium.kill();
        let _ = self.chromium.wait();
    }
}
