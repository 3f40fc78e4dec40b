//! A Koji hub, as far as those who look need it: builds, tags, tasks and packages behind its XML-RPC, with its ways of
//! naming arguments, of asking several things at once, and of refusing. Beside it the folders of its packages.

mod calls;
mod model;

use crate::web::{Wall, Web, lock};
use assay_proto::clock::{Clock, SystemClock};
use assay_proto::xmlrpc;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use model::{Build, Hub, Tag};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

pub use model::TaskState;

/// The version that it says it has.
const VERSION: &str = "1.36.1";

/// The server; dropping it ends it.
pub struct FakeKoji {
    web: Web,
    wall: Wall,
    shared: Arc<Mutex<Hub>>,
}

impl FakeKoji {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(Hub::default()));
        let routes = Router::new().route("/kojihub", post(answer)).with_state(shared.clone());
        let wall = Wall::default();
        Ok(Self { web: Web::start(wall.on(routes)).await?, wall, shared })
    }

    /// `http://127.0.0.1:PORT/kojihub`
    pub fn hub(&self) -> String {
        format!("{}/kojihub", self.web.url())
    }

    /// From now on it says that it is this time (seconds since 1970).
    pub fn says_it_is(&self, seconds: i64) {
        self.wall.set(seconds);
    }

    /// There is a tag, which inherits from others.
    pub fn tag(&self, name: &str, parents: &[&str]) {
        let mut hub = lock(&self.shared);
        let id = hub.next_id();
        let parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
        hub.tags.push(Tag { id, name: name.to_owned(), parents, builds: Vec::new() });
    }

    /// A build ends well at a time (seconds since 1970), with packages of these architectures; its number.
    pub fn build(&self, nvr: &str, completed: i64, arches: &[&str]) -> i64 {
        let mut hub = lock(&self.shared);
        let task = hub.add_task(
            "build",
            TaskState::Closed,
            None,
            json!([format!("git+https://src.example.org/{nvr}")]),
        );
        let id = hub.next_id();
        let rpms = arches.iter().map(|arch| (hub.next_id(), (*arch).to_owned())).collect();
        hub.builds.push(Build::new(id, nvr, task, completed, rpms));
        id
    }

    /// A build is tagged: it is the newest there.
    pub fn put(&self, tag: &str, nvr: &str) {
        let at = self.time();
        lock(&self.shared).put(tag, nvr, at);
    }

    /// A build is tagged no more.
    pub fn take(&self, tag: &str, nvr: &str) {
        let at = self.time();
        lock(&self.shared).take(tag, nvr, at);
    }

    /// What time it is there (seconds since 1970).
    fn time(&self) -> i64 {
        self.wall.told().unwrap_or_else(|| SystemClock.now().0 / 1_000_000)
    }

    /// There is a task, for example a scratch build; its number.
    pub fn task(&self, method: &str, state: TaskState, parent: Option<i64>) -> i64 {
        lock(&self.shared).add_task(method, state, parent, json!([]))
    }

    /// From now on it says that it is offline, or does so no more.
    pub fn offline(&self, is_so: bool) {
        lock(&self.shared).offline = is_so;
    }

    /// What was called, in order.
    pub fn called(&self) -> Vec<String> {
        lock(&self.shared).called.clone()
    }
}

/// A call is refused.
struct Fault(i64, String);

impl Fault {
    /// `GenericError`
    fn new(why: impl Into<String>) -> Self {
        Self(1000, why.into())
    }
}

async fn answer(State(shared): State<Arc<Mutex<Hub>>>, body: String) -> Response {
    let said = match xmlrpc::read_call(&body) {
        Ok((method, arguments)) => {
            let mut hub = lock(&shared);
            match one_or_many(&mut hub, &method, arguments) {
                Ok(value) => xmlrpc::answer(&value),
                Err(Fault(code, why)) => xmlrpc::fault(code, &why),
            }
        }
        Err(why) => xmlrpc::fault(1, &format!("not well-formed: {why}")),
    };
    let headers = [(header::CONTENT_TYPE.as_str(), "text/xml"), ("koji-version", VERSION)];
    (StatusCode::OK, headers, said).into_response()
}

fn one_or_many(hub: &mut Hub, method: &str, arguments: Vec<Value>) -> Result<Value, Fault> {
    if hub.offline {
        return Err(Fault(1014, "database outage".to_owned()));
    }
    if method != "multiCall" && method != "system.multicall" {
        return calls::call(hub, method, arguments);
    }
    let Some(Value::Array(wanted)) = arguments.into_iter().next() else {
        return Err(Fault(1019, "multiCall takes a list of calls".to_owned()));
    };
    let answers = wanted.into_iter().map(|one| {
        let name = one["methodName"].as_str().unwrap_or_default().to_owned();
        let arguments = one["params"].as_array().cloned().unwrap_or_default();
        match calls::call(hub, &name, arguments) {
            Ok(value) => json!([value]),
            Err(Fault(code, why)) => json!({"faultCode": code, "faultString": why, "traceback": ""}),
        }
    });
    Ok(answers.collect())
}
