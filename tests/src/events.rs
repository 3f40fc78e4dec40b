//! What tests of events and of what is scheduled for them share.

use crate::place::Place;
use crate::processes::asking;
use crate::server::{Up, signature};
use fs_err as fs;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What webhooks of these tests are signed with.
pub const SECRET: &str = "s3cret";

/// Two rules: a build makes a job, and one fails over its message.
pub const RULES: &str = "
rules:
  - name: built
    when: {topic: 'org.t.build', body.state: done}
    item: {type: koji_build, id: '{body.nvr}', revision: '{body.id}'}
    run: {job: {TEST: check, NVR: '{body.nvr}', WORKER_CLASS: nobody}}
  - name: fails
    when: {topic: 'org.t.#', body.bad: 'yes'}
    run: {job: {TEST: '{body.missing}'}}
";

/// Writes the rules and a configuration with these sources; the path of the latter.
pub fn configure(place: &Place, sources: &str, rules: &str) -> String {
    fs::write(place.join("rules.yaml"), rules).unwrap();
    let file = place.join("assay.toml");
    fs::write(&file, format!("[events]\nrules = \"rules.yaml\"\nschedule = \"schedule.yaml\"\n{sources}"))
        .unwrap();
    file.into_string()
}

/// Waits until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    asking(what, async || is_so().await.then_some(())).await;
}

/// Products that some of the example's flavors are of.
pub async fn load_templates(place: &Place) {
    let used = ["Server-dvd-iso", "updates-server"].map(|flavor| {
        json!({
            "group_name": "fedora", "machine": {"name": "64bit"}, "prio": 40, "test_suite": {"name": "install"},
            "product": {"arch": "x86_64", "distri": "fedora", "flavor": flavor, "version": "*"},
        })
    });
    let templates = json!({
        "Machines": [{"name": "64bit", "backend": "dummy", "settings": [{"key": "WORKER_CLASS", "value": "nobody"}]}],
        "TestSuites": [{"name": "install", "settings": []}],
        "Products": [
            {"name": "", "distri": "fedora", "version": "*", "flavor": "Server-dvd-iso", "arch": "x86_64", "settings": []},
            {"name": "", "distri": "fedora", "version": "*", "flavor": "updates-server", "arch": "x86_64", "settings": []}
        ],
        "JobTemplates": used,
    });
    let file = place.join("templates.json");
    fs::write(&file, templates.to_string()).unwrap();
    place.run(&["template", "load", file.as_str()]).await.expect(0);
}

impl Up<'_> {
    /// Every event, the newest first.
    pub async fn events(&self) -> Vec<Value> {
        self.get("inbox?limit=500").await["events"].as_array().unwrap().clone()
    }

    /// Delivers an event by the webhook `bus`, whose topics are in `x-topic`.
    pub async fn hooked(&self, topic: &str, delivery: &str, body: String) {
        let request = self.anonymous(Method::POST, "/api/assay/v1/hooks/bus").header("x-topic", topic);
        let request = request
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", signature(SECRET, &body));
        assert_eq!(request.body(body).send().await.unwrap().status(), StatusCode::ACCEPTED);
    }
}
