//! What comes from outside: a hook that a test sends events by, and what became of them.

use super::{Server, asking, client};
use assay_connect::events::hook;
use camino::{Utf8Path, Utf8PathBuf};
use reqwest::StatusCode;
use serde_json::Value;

const SECRET: &str = "s3cret";

/// Rules from `rules.yaml`, and the webhook `bus`; the topics of what it brings are `org.t.WORD`.
pub(crate) const SECTIONS: &str = "[events]\nrules = \"rules.yaml\"\n[source.bus]\ndriver = \"webhook\"\n\
                                   secret-file = \"secret\"\ntopic = \"org.t\"\ntopic-header = \"x-topic\"\n";

/// Writes what [`SECTIONS`] names.
pub(crate) fn write_rules(place: &Utf8Path, rules: &str) {
    fs_err::write(place.join("rules.yaml"), rules).unwrap();
    fs_err::write(place.join("secret"), SECRET).unwrap();
}

/// Writes a configuration with these rules, and nothing else; its file.
pub(crate) fn configure(place: &Utf8Path, rules: &str) -> Utf8PathBuf {
    write_rules(place, rules);
    let file = place.join("assay.toml");
    fs_err::write(&file, SECTIONS).unwrap();
    file
}

impl Server {
    /// Sends an event; `key` is what its sender calls it.
    pub(crate) async fn hooked(&self, word: &str, key: &str, body: &str) {
        let signature = format!("sha256={}", hook::sign(SECRET.as_bytes(), body.as_bytes()));
        let request = client().post(self.url("/api/assay/v1/hooks/bus")).header("x-topic", word);
        let request = request.header("x-github-delivery", key).header("x-hub-signature-256", signature);
        let answer = request.body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{}", answer.text().await.unwrap());
    }

    /// Waits until the event is as wanted, with all that it led to.
    pub(crate) async fn until_event(&self, key: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut latest = Value::Null;
        let found = asking(async || {
            let (_, all) = self.get("/api/assay/v1/inbox?limit=500").await;
            let listed = all["events"].as_array().unwrap().iter().find(|event| event["key"] == key);
            let id = listed?["id"].clone();
            latest = self.get(&format!("/api/assay/v1/inbox/{id}")).await.1;
            wanted(&latest).then_some(())
        });
        let in_time = found.await.is_some();
        assert!(in_time, "{key} never {what}: {latest:#}");
        latest
    }

    /// Waits until what an event led to is in this state: one effect, whichever event it was planned for.
    pub(crate) async fn until_effect(&self, key: &str, state: &str) -> Value {
        let is_so = |event: &Value| event["effects"][0]["state"] == state;
        self.until_event(key, state, is_so).await["effects"][0].clone()
    }
}
