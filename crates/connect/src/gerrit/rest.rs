//! Gerrit's REST API.

use super::error::GerritError;
use crate::http::{Http, NoAnswer, encoded, secret};

use super::parse::{self, ChangeAttr, FileAttr, Merging, ParseError, Related, excerpt};
use crate::pace::Backoff;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use camino::Utf8PathBuf;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Where Gerrit's REST API is and who we are there.
#[derive(Debug, Clone, PartialEq)]
pub struct RestOptions {
    /// `https://review.example.org`, without `/a`.
    pub url: String,
    /// How we say who we are.
    pub login: RestLogin,
    /// Trust only the certificates of this PEM file instead of the system's.
    pub ca_file: Option<Utf8PathBuf>,
    /// How often a question is asked that may be repeated, and the waiting time between.
    pub tries: u32,
    /// See `tries`.
    pub backoff: Backoff,
    /// The longest answer that is read, in bytes.
    pub longest_answer: usize,
}

/// How we say who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestLogin {
    /// Not at all.
    Anonymous,
    /// Name, and a file with the HTTP password.
    Basic(String, Utf8PathBuf),
    /// A file with a token.
    Bearer(Utf8PathBuf),
}

impl RestOptions {
    /// Three tries.
    pub fn new(url: &str, login: RestLogin) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            login,
            ca_file: None,
            tries: 3,
            backoff: Backoff::default(),
            longest_answer: 64 << 20,
        }
    }
}

/// What a query asks of each change.
const OPTIONS: &[&str] = &[
    "DETAILED_ACCOUNTS",
    "CURRENT_REVISION",
    "CURRENT_COMMIT",
    "CURRENT_FILES",
    "LABELS",
    "DETAILED_LABELS",
    "SUBMITTABLE",
    "SUBMIT_REQUIREMENTS",
];

/// What a catch-up asks besides.
const HISTORY: &[&str] = &["MESSAGES", "ALL_REVISIONS", "ALL_COMMITS"];

/// A client of the API.
pub(super) struct Rest {
    options: RestOptions,
    http: Http,
    authorization: Option<String>,
    user: String,
}

/// A request.
struct Ask<'a> {
    what: &'a str,
    method: Method,
    path: String,
    body: Option<Value>,
    deadline: Duration,
}

impl Rest {
    pub(super) fn new(options: RestOptions) -> Result<Self, GerritError> {
        const REMEDY: &str = "put the HTTP password of Gerrit's settings page into it";
        let user = match &options.login {
            RestLogin::Basic(user, _) => user.clone(),
            RestLogin::Anonymous => "nobody".to_owned(),
            RestLogin::Bearer(_) => "the bearer of the token".to_owned(),
        };
        let wrong = |why: String, remedy: &str| GerritError::Unauthorised {
            user: user.clone(),
            why,
            remedy: remedy.to_owned(),
        };
        let authorization = match &options.login {
            RestLogin::Anonymous => None,
            RestLogin::Basic(user, file) => {
                let password = secret(file).map_err(|why| wrong(why, REMEDY))?;
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}"))))
            }
            RestLogin::Bearer(file) => {
                Some(format!("Bearer {}", secret(file).map_err(|why| wrong(why, REMEDY))?))
            }
        };
        let https = options.url.starts_with("https://");
        let http = Http::new(https, options.ca_file.as_deref(), options.longest_answer);
        let http = http.map_err(|why| GerritError::Untrusted {
            host: options.url.clone(),
            why,
            remedy: "then try again".to_owned(),
        })?;
        Ok(Self { options, http, authorization, user })
    }

    pub(super) fn url(&self) -> &str {
        &self.options.url
    }

    fn place(&self, path: &str) -> String {
        let authenticated = if self.authorization.is_some() { "/a" } else { "" };
        format!("{}{authenticated}/{path}", self.options.url)
    }

    fn lost(&self, error: NoAnswer) -> GerritError {
        GerritError::Unreachable { address: self.options.url.clone(), why: error.why, sent: error.sent }
    }

    /// Asks once.
    async fn once(&self, ask: &Ask<'_>, left: Duration) -> Result<(StatusCode, String), GerritError> {
        let body = ask.body.as_ref().map(Value::to_string);
        let place = self.place(&ask.path);
        let answer = self.http.ask(ask.method.clone(), &place, self.authorization.as_deref(), body);
        let late = |_| GerritError::TimedOut { what: ask.what.to_owned(), after: ask.deadline, sent: true };
        let answer = timeout(left, answer).await.map_err(late)?.map_err(|error| self.lost(error))?;
        let said = || excerpt(&answer.body);
        match answer.status {
            status if status.is_server_error() => Err(self.lost(NoAnswer {
                why: format!("it answers {} to {}: {}", status.as_u16(), ask.what, said()),
                sent: true,
            })),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(self.lost(NoAnswer { why: format!("too many requests: {}", said()), sent: false }))
            }
            StatusCode::UNAUTHORIZED => Err(GerritError::Unauthorised {
                user: self.user.clone(),
                why: format!("it answers 401 to {}", ask.what),
                remedy: "check the name and the HTTP password".to_owned(),
            }),
            status if status.is_redirection() => Err(GerritError::Nonsense {
                what: ask.what.to_owned(),
                why: format!("it answers {} and sends us elsewhere", status.as_u16()),
            }),
            status => Ok((status, answer.body)),
        }
    }

    /// Asks again, as long as the deadline allows, what may be asked again.
    async fn ask(&self, ask: Ask<'_>) -> Result<(StatusCode, String), GerritError> {
        let begun = Instant::now();
        let mut failed = 0;
        loop {
            let left = ask.deadline.saturating_sub(begun.elapsed());
            let error = match self.once(&ask, left).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failed += 1;
            let repeatable = ask.method == Method::GET || !error.may_have_happened();
            let again = matches!(error, GerritError::Unreachable { .. }) && repeatable;
            let pause = self.options.backoff.draw(failed);
            if !again || failed >= self.options.tries || begun.elapsed() + pause >= ask.deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    async fn get(&self, what: &str, path: String, deadline: Duration) -> Result<String, GerritError> {
        let ask = Ask { what, method: Method::GET, path, body: None, deadline };
        accepted(what, self.ask(ask).await?)
    }

    /// Posts; the status and text of an answer that is neither success nor an error of ours are the caller's.
    pub(super) async fn post(
        &self,
        what: &str,
        path: String,
        body: Value,
        deadline: Duration,
    ) -> Result<(StatusCode, String), GerritError> {
        self.ask(Ask { what, method: Method::POST, path, body: Some(body), deadline }).await
    }

    /// A page of the changes that fit, and whether there are more.
    pub(super) async fn query(
        &self,
        query: &str,
        skip: usize,
        history: bool,
        deadline: Duration,
    ) -> Result<(Vec<ChangeAttr>, bool), GerritError> {
        const WHAT: &str = "a query";
        let mut path = format!("changes/?q={}&n=500&S={skip}", encoded(query));
        for option in OPTIONS.iter().chain(HISTORY.iter().filter(|_| history)) {
            path.push_str("&o=");
            path.push_str(option);
        }
        let body = self.get(WHAT, path, deadline).await?;
        parse::change_infos(&body).map_err(|error| GerritError::nonsense(WHAT, &error))
    }

    /// The relatives of a change's newest revision.
    pub(super) async fn related(&self, number: u64, deadline: Duration) -> Result<Vec<Related>, GerritError> {
        const WHAT: &str = "the relatives of a change";
        let path = format!("changes/{number}/revisions/current/related");
        self.parsed(WHAT, path, deadline, parse::related).await
    }

    /// What was said on patchsets as a whole, by message.
    pub(super) async fn notes(
        &self,
        number: u64,
        deadline: Duration,
    ) -> Result<Vec<(String, String)>, GerritError> {
        self.parsed("the comments of a change", format!("changes/{number}/comments"), deadline, parse::notes)
            .await
    }

    /// True if a revision could be merged into its branch as that is now; `None` if this Gerrit does not say.
    pub(super) async fn is_mergeable(
        &self,
        number: u64,
        revision: &str,
        deadline: Duration,
    ) -> Result<Option<bool>, GerritError> {
        let path = format!("changes/{number}/revisions/{revision}/mergeable");
        match self.parsed("whether a change can be merged", path, deadline, parse::mergeable).await {
            // Closed changes and old versions.
            Err(GerritError::Refused { .. }) => Ok(None),
            answer => answer,
        }
    }

    /// How a project's changes are merged, and with which votes.
    pub(super) async fn merging(&self, project: &str, deadline: Duration) -> Result<Merging, GerritError> {
        let path = format!("projects/{}/config", encoded(project));
        let merging = self.parsed("how a project merges", path, deadline, parse::merging).await?;
        let path = format!("projects/{}", encoded(project));
        let labels = match self.parsed("the labels of a project", path, deadline, parse::labels).await {
            Err(GerritError::Refused { .. }) => BTreeMap::new(),
            labels => labels?,
        };
        Ok(Merging { labels, ..merging })
    }

    /// The files of a revision.
    pub(super) async fn files(
        &self,
        number: u64,
        revision: &str,
        deadline: Duration,
    ) -> Result<Vec<FileAttr>, GerritError> {
        let path = format!("changes/{number}/revisions/{revision}/files?parent=1");
        self.parsed("the files of a revision", path, deadline, parse::files).await
    }

    /// Branches and tags; false if tags are not told.
    pub(super) async fn refs(
        &self,
        project: &str,
        deadline: Duration,
    ) -> Result<(Vec<(String, String)>, bool), GerritError> {
        let project = encoded(project);
        let path = |kind: &str| format!("projects/{project}/{kind}/");
        let branches = self.parsed("the branches of a project", path("branches"), deadline, parse::branches);
        let mut refs = branches.await?;
        // Versions before 2.13 have none of this.
        match self.parsed("the tags of a project", path("tags"), deadline, parse::branches).await {
            Ok(tags) => {
                refs.extend(tags);
                Ok((refs, true))
            }
            Err(GerritError::Refused { .. }) => Ok((refs, false)),
            Err(error) => Err(error),
        }
    }

    /// Gerrit's version.
    pub(super) async fn version(&self, deadline: Duration) -> Result<String, GerritError> {
        const WHAT: &str = "its version";
        let body = self.get(WHAT, "config/server/version".to_owned(), deadline).await?;
        let value = parse::rest_json(&body).map_err(|error| GerritError::nonsense(WHAT, &error))?;
        Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    async fn parsed<T>(
        &self,
        what: &str,
        path: String,
        deadline: Duration,
        read: fn(&str) -> Result<T, ParseError>,
    ) -> Result<T, GerritError> {
        let body = self.get(what, path, deadline).await?;
        read(&body).map_err(|error| GerritError::nonsense(what, &error))
    }

    /// A comment with votes.
    pub(super) fn review_body(
        message: &str,
        labels: &[(String, i32)],
        flags: &[(String, String)],
        tag: Option<&str>,
    ) -> Value {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(label, value)| (label.clone(), json!(value))).collect();
        let mut body = json!({ "message": message, "labels": labels });
        if let Some(tag) = tag {
            body["tag"] = json!(tag);
        }
        for (flag, value) in flags {
            // `gerrit review` writes strict-labels, the API strict_labels.
            let value = match value.as_str() {
                "true" => json!(true),
                "false" => json!(false),
                other => json!(other),
            };
            body[flag.replace('-', "_")] = value;
        }
        body
    }
}

/// The body of a success.
pub(super) fn accepted(what: &str, answer: (StatusCode, String)) -> Result<String, GerritError> {
    let (status, body) = answer;
    if status.is_success() {
        return Ok(body);
    }
    let why = format!("{} ({})", excerpt(&body), status.as_u16());
    Err(GerritError::Refused { what: what.to_owned(), why })
}
