//! The web side of a server of packages' repositories: raw files at commits.

use crate::web::{Web, lock};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, String>,
    asked: Vec<String>,
    down: bool,
    silent: bool,
}

/// The server; dropping it ends it.
pub struct FakeDistGit {
    web: Web,
    shared: Arc<Mutex<Inner>>,
}

impl FakeDistGit {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Arc::new(Mutex::new(Inner::default()));
        let routes = Router::new().fallback(answer).with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> &str {
        self.web.url()
    }

    /// A package has a file at a commit.
    pub fn file(&self, package: &str, commit: &str, name: &str, text: &str) {
        let path = format!("/rpms/{package}/raw/{commit}/f/{name}");
        lock(&self.shared).files.insert(path, text.to_owned());
    }

    /// From now on it answers with errors, or does so no more.
    pub fn down(&self, is_so: bool) {
        lock(&self.shared).down = is_so;
    }

    /// From now on it takes questions and never answers them, or does so no more.
    pub fn silent(&self, is_so: bool) {
        lock(&self.shared).silent = is_so;
    }

    /// The paths that were asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.shared).asked.clone()
    }
}

async fn answer(State(shared): State<Arc<Mutex<Inner>>>, uri: Uri) -> (StatusCode, String) {
    let said = lock(&shared).answer(uri.path());
    match said {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}

impl Inner {
    /// None if it says nothing.
    fn answer(&mut self, path: &str) -> Option<(StatusCode, String)> {
        self.asked.push(path.to_owned());
        (!self.silent).then(|| match self.files.get(path) {
            _ if self.down => (StatusCode::BAD_GATEWAY, "it is down".to_owned()),
            Some(text) => (StatusCode::OK, text.clone()),
            None => (StatusCode::NOT_FOUND, "no such file".to_owned()),
        })
    }
}
