//! Chromium, driven by the WebDriver protocol (W3C) through Debian's chromedriver.

use crate::PATIENCE;
use crate::binary::{Started, repository};
use crate::place::Place;
use crate::server::http;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// WebDriver's code points for keys that are no characters.
pub mod keys {
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// Escape.
    pub const ESCAPE: &str = "\u{e00c}";
    /// Arrow to the right.
    pub const RIGHT: &str = "\u{e014}";
    /// Arrow downwards.
    pub const DOWN: &str = "\u{e015}";
    /// Arrow to the left.
    pub const LEFT: &str = "\u{e012}";
    /// Tabulator.
    pub const TAB: &str = "\u{e004}";
}

/// A browser with one window.
pub struct Browser {
    driver: Started,
    session: String,
    http: reqwest::Client,
}

impl Browser {
    /// A fresh one; `script`: pages may run JavaScript.
    pub async fn start(place: &Place, script: bool) -> Self {
        let (driver, port) = driver(place).await;
        let profile = format!("--user-data-dir={}", place.join("chromium"));
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--no-proxy-server",
            "--hide-scrollbars",
            &profile,
        ];
        let mut options = json!({ "args": arguments });
        if !script {
            options["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let capabilities = json!({
            // The load event of a page with a live picture comes when the machine ends.
            "pageLoadStrategy": "eager",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let http = http();
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{port}/session"), http };
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let session = browser.command(Method::POST, "", &body).await;
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = self.http.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::POST { request.json(body) } else { request };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["value"]["error"].is_null(), "{path} {body}: {}", answer["value"]);
        answer["value"].clone()
    }

    /// Goes to a page.
    pub async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", &json!({ "url": url })).await;
    }

    /// The address of the page.
    pub async fn url(&self) -> String {
        self.command(Method::GET, "/url", &Value::Null).await.as_str().unwrap().to_owned()
    }

    /// The value of a JavaScript expression.
    pub async fn eval(&self, expression: &str) -> Value {
        let script = json!({ "script": format!("return ({expression});"), "args": [] });
        self.command(Method::POST, "/execute/sync", &script).await
    }

    /// The visible text of the element.
    pub async fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let text = self.eval(&format!("document.querySelector({selector})?.innerText ?? null")).await;
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        let found = async {
            while self.eval(&format!("Boolean({expression})")).await != json!(true) {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        };
        if tokio::time::timeout(PATIENCE / 4, found).await.is_err() {
            let text = self.eval("document.body.innerText").await;
            panic!("in vain: {expression}\n{}", text.as_str().unwrap_or_default());
        }
    }

    /// Presses keys, one after the other.
    pub async fn press(&self, keys: &[&str]) {
        let press = |key: &&str| {
            [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
        };
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.command(Method::POST, "/actions", &body).await;
    }

    /// Clicks an element as a person would.
    pub async fn click(&self, selector: &str) {
        let using = json!({ "using": "css selector", "value": selector });
        let element = self.command(Method::POST, "/element", &using).await;
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.command(Method::POST, &format!("/element/{id}/click"), &json!({})).await;
    }

    /// Presses at one point of what is seen, moves to the other, and lets go; in CSS pixels.
    pub async fn drag(&self, from: (i64, i64), to: (i64, i64)) {
        let at = |(x, y): (i64, i64)| json!({ "type": "pointerMove", "duration": 0, "x": x, "y": y });
        let between = (i64::midpoint(from.0, to.0), i64::midpoint(from.1, to.1));
        let actions = json!([
            at(from), { "type": "pointerDown", "button": 0 }, at(between), at(to), { "type": "pointerUp", "button": 0 },
        ]);
        let body = json!({ "actions": [{ "type": "pointer", "id": "mouse", "actions": actions }] });
        self.command(Method::POST, "/actions", &body).await;
    }

    /// The size of what is seen of the page, in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await;
    }

    /// What the system prefers: `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &features).await;
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.command(Method::POST, "/goog/cdp/execute", &body).await
    }

    /// Keeps what is seen as `target/screenshots/NAME.png`.
    pub async fn screenshot(&self, name: &str) {
        let dir = repository().join("target/screenshots");
        fs::create_dir_all(&dir).unwrap();
        let png = self.command(Method::GET, "/screenshot", &Value::Null).await;
        fs::write(dir.join(format!("{name}.png")), STANDARD.decode(png.as_str().unwrap()).unwrap()).unwrap();
    }

    /// What the browser complained about since it was asked last: errors of scripts, things that could not be loaded.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command(Method::POST, "/se/log", &json!({ "type": "browser" })).await;
        let severe = log.as_array().unwrap().iter().filter(|entry| entry["level"] != "INFO");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Ends it.
    pub async fn quit(self) {
        self.command(Method::DELETE, "", &Value::Null).await;
        crate::signal(self.driver.pid(), crate::Signal::TERM);
        self.driver.end().await;
    }
}

/// A chromedriver and its port.
async fn driver(place: &Place) -> (Started, String) {
    // Two that start at once may choose the same port; one of them then ends.
    for _ in 0..5 {
        let mut command = place.command("chromedriver");
        // Chromium leaves files of its own in the runtime directory.
        command.arg("--port=0").env("XDG_RUNTIME_DIR", place.join("home"));
        let mut driver = place.start_command(command);
        while let Some(line) = driver.line().await {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return (driver, port.trim_end_matches('.').to_owned());
            }
        }
    }
    panic!("chromedriver does not start")
}
