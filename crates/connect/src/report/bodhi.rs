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
                return Err(refused("Bodhi", &answer));
            }
            return Ok(serde_json::from_slice(answer.body()).unwrap_or_default());
        }
        Err(Told::Later("Bodhi does not accept the session; renew the token".to_owned()))
    }

    /// Comments on an update, unless a comment with this text is there.
    pub async fn comment(&mut self, update: &str, text: &str) -> Told {
        let told = async {
            let there =
                self.read(&format!("comments/?updates={}&rows_per_page=100", encoded(update))).await?;
            let mut there = there["comments"].as_array().into_iter().flatten();
            if there.any(|comment| comment["text"].as_str().map(str::trim) == Some(text.trim())) {
                return Ok(Some("the comment was there already".to_owned()));
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
