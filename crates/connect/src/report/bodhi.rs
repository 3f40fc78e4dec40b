//! Bodhi: comments on updates, and waivers of what their tests found.

use super::{Told, refused};
use crate::http::{Http, encoded};
use hyper::Response;
use serde_json::{Value, json};

/// A Bodhi, and who we are there.
pub struct Bodhi {
    http: Http,
    base: String,
    /// An access token of its provider, for which it gives a session.
    token: Option<String>,
    session: Option<String>,
}

impl Bodhi {
    /// `base` is like `https://bodhi.fedoraproject.org`.
    pub fn new(http: Http, base: &str, token: Option<String>) -> Self {
        Self { http, base: base.trim_end_matches('/').to_owned(), token, session: None }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Response<Vec<u8>>, Told> {
        let uri = format!("{}/{path}", self.base);
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.session.as_deref().map(|session| ("cookie", session)));
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        super::ask(&self.http, method, &uri, &headers, body).await
    }

    async fn read(&self, path: &str) -> Result<Value, Told> {
        super::json("Bodhi", &self.ask("GET", path, None).await?)
    }

    /// A session for the token, as bodhi-client gets one.
    async fn log_in(&mut self) -> Result<(), Told> {
        let (None, Some(token)) = (&self.session, &self.token) else { return Ok(()) };
        let authorization = format!("Bearer {token}");
        let uri = format!("{}/oidc/login-token", self.base);
        let headers = [("authorization", authorization.as_str())];
        let answer = super::ask(&self.http, "GET", &uri, &headers, Vec::new()).await?;
        if !answer.status().is_success() && !answer.status().is_redirection() {
            return Err(refused("Bodhi's login", &answer));
        }
        let cookies = answer.headers().get_all("set-cookie").iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok()?.split(';').next());
        let session = cookies.collect::<Vec<_>>().join("; ");
        if session.is_empty() {
            return Err(Told::Later("Bodhi's login gives no session; renew the token".to_owned()));
        }
        self.session = Some(session);
        Ok(())
    }

    /// Posts something with the token against forgery; a session that has ended is begun anew, once.
    async fn post(&mut self, path: &str, mut body: Value) -> Result<Value, Told> {
        for again in [false, true] {
            self.log_in().await?;
            let csrf = self.read("csrf").await?;
            body["csrf_token"] = csrf["csrf_token"].clone();
            let answer = self.ask("POST", path, Some(body.clone())).await?;
            if matches!(answer.status().as_u16(), 401 | 403) && !again {
                self.session = None;
                continue;
            }
            if !answer.status().is_success() {
                return Err(not_taken(&answer));
            }
            return Ok(serde_json::from_slice(answer.body()).unwrap_or_default());
        }
        Err(Told::Later("Bodhi does not accept the session; renew the token".to_owned()))
    }

    /// Comments on an update. With `look`, not if what we said there last is the same.
    pub async fn comment(&mut self, update: &str, text: &str, look: bool) -> Told {
        let told = async {
            if look {
                let uri = format!("comments/?updates={}&rows_per_page=100", encoded(update));
                let there = self.read(&uri).await?;
                if is_last(there["comments"].as_array().map_or(&[], Vec::as_slice), text) {
                    return Ok(Some("the comment was there already".to_owned()));
                }
            }
            let body = json!({"update": update, "text": text, "karma": 0});
            let answer = self.post("comments/", body).await?;
            Ok(answer["comment"]["id"].as_i64().map(|id| format!("comment {id}")))
        };
        told.await.map_or_else(|told: Told| told, Told::Done)
    }

    /// Waives results of an update's tests. Waiving twice is waiving.
    pub async fn waive(&mut self, update: &str, comment: &str, tests: &[String]) -> Told {
        let body = json!({"comment": comment, "tests": tests});
        match self.post(&format!("updates/{}/waive-test-results", encoded(update)), body).await {
            Ok(_) => Told::Done(None),
            Err(told) => told,
        }
    }
}

/// True if this text is the last one that its author said: what was said again after something else is news.
fn is_last(comments: &[Value], text: &str) -> bool {
    let is_ours = |one: &&Value| one["text"].as_str().map(str::trim) == Some(text.trim());
    let id = |one: &&Value| one["id"].as_i64();
    let Some(ours) = comments.iter().filter(is_ours).max_by_key(id) else { return false };
    let same_author = comments.iter().filter(|one| one["user"]["name"] == ours["user"]["name"]);
    same_author.max_by_key(id).is_some_and(|newest| newest["id"] == ours["id"])
}

/// What a refused post means. That there is no such update is said in Bodhi's own words; any other 404 comes from a wrong
/// address.
fn not_taken(answer: &Response<Vec<u8>>) -> Told {
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match refused("Bodhi", answer) {
        Told::Later(why) if answer.status() == 404 && body["errors"].is_array() => Told::Never(why),
        told => told,
    }
}
