//! MediaWiki's `api.php`: one edit per page that fails if somebody else edited meanwhile.

use super::{Told, excerpt, refused};
use crate::http::{Http, encoded};
use serde_json::Value;
use std::collections::BTreeMap;

/// How often an edit is made anew when somebody else edited meanwhile.
const CONFLICTS: usize = 5;

/// A wiki, and who we are there.
pub struct Wiki {
    http: Http,
    /// The address of `api.php`.
    api: String,
    login: Option<Login>,
    cookies: BTreeMap<String, String>,
    logged_in: bool,
}

/// How we are known there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A name (or a bot's `Name@bot`) and its password.
    Password(String, String),
    /// An access token of the wiki's provider.
    Bearer(String),
}

/// A page as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its own title, not that of a page which leads to it.
    pub title: String,
    /// Its text.
    pub text: String,
    /// Its last revision: what an edit is based on. Times would have seconds only.
    pub revision: i64,
}

impl Wiki {
    /// `api` is the address of `api.php`.
    pub fn new(http: Http, api: &str, login: Option<Login>) -> Self {
        Self { http, api: api.to_owned(), login, cookies: BTreeMap::new(), logged_in: false }
    }

    async fn ask(&mut self, fields: &[(&str, &str)]) -> Result<Value, Told> {
        let form: Vec<String> = [("format", "json"), ("formatversion", "2")]
            .iter()
            .chain(fields)
            .map(|(key, value)| format!("{key}={}", encoded(value)))
            .collect();
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let bearer = match &self.login {
            Some(Login::Bearer(token)) => Some(format!("Bearer {token}")),
            _ => None,
        };
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend((!cookies.is_empty()).then_some(("cookie", cookies.as_str())));
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let answer = super::ask(&self.http, "POST", &self.api, &headers, form.join("&").into_bytes()).await?;
        for cookie in answer.headers().get_all("set-cookie") {
            let pair = cookie.to_str().ok().and_then(|text| text.split(';').next()?.split_once('='));
            if let Some((name, value)) = pair {
                self.cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        if !answer.status().is_success() {
            return Err(refused("the wiki", &answer));
        }
        serde_json::from_slice(answer.body())
            .map_err(|_| Told::Later(format!("the wiki's answer is not JSON: {}", excerpt(answer.body()))))
    }

    async fn token(&mut self, kind: &str) -> Result<String, Told> {
        let answer = self.ask(&[("action", "query"), ("meta", "tokens"), ("type", kind)]).await?;
        let token = answer["query"]["tokens"][format!("{kind}token")].as_str().map(str::to_owned);
        token.ok_or_else(|| {
            Told::Later(format!("the wiki gives no token: {}", excerpt(answer.to_string().as_bytes())))
        })
    }

    async fn log_in(&mut self) -> Result<(), Told> {
        let Some(Login::Password(name, password)) = self.login.clone() else { return Ok(()) };
        if self.logged_in {
            return Ok(());
        }
        let token = self.token("login").await?;
        let fields = [("action", "login"), ("lgname", &name), ("lgpassword", &password), ("lgtoken", &token)];
        let answer = self.ask(&fields).await?;
        if answer["login"]["result"] != "Success" {
            let why = answer["login"]["reason"].as_str().or(answer["login"]["result"].as_str());
            return Err(Told::Later(format!("the wiki's login: {}", why.unwrap_or("no answer"))));
        }
        self.logged_in = true;
        Ok(())
    }

    /// A page by its title, whatever it redirects to; `None` if there is none.
    pub async fn page(&mut self, title: &str) -> Result<Option<Page>, Told> {
        let answer = self
            .ask(&[
                ("action", "query"),
                ("prop", "revisions"),
                ("rvprop", "content|ids"),
                ("rvslots", "main"),
                ("redirects", "1"),
                ("titles", title),
            ])
            .await?;
        if let Some(error) = answer["error"]["info"].as_str() {
            return Err(Told::Later(format!("the wiki says: {error}")));
        }
        let found = &answer["query"]["pages"][0];
        let revision = &found["revisions"][0];
        let text = revision["slots"]["main"]["content"].as_str().or(revision["content"].as_str());
        let title = found["title"].as_str().unwrap_or(title);
        Ok(text.zip(revision["revid"].as_i64()).map(|(text, revision)| Page {
            title: title.to_owned(),
            text: text.to_owned(),
            revision,
        }))
    }

    /// Edits a page once: `change` makes a new text of the one that is there, or says why nothing is to be done. When
    /// somebody else has edited it meanwhile, it is read and changed anew.
    pub async fn edit(
        &mut self,
        title: &str,
        summary: &str,
        mut change: impl FnMut(&str) -> Result<Option<String>, String>,
    ) -> Told {
        for _ in 0..CONFLICTS {
            match self.try_edit(title, summary, &mut change).await {
                Ok(told) | Err(Retry::Told(told)) => return told,
                Err(Retry::Conflict) => {}
                Err(Retry::Session) => {
                    self.logged_in = false;
                    self.cookies.clear();
                }
            }
        }
        Told::Later("somebody else edits the page all the time".to_owned())
    }

    async fn try_edit(
        &mut self,
        title: &str,
        summary: &str,
        change: &mut impl FnMut(&str) -> Result<Option<String>, String>,
    ) -> Result<Told, Retry> {
        self.log_in().await?;
        let Some(page) = self.page(title).await? else {
            // Most builds have none. It may be made later: what is refused can be told again by hand.
            return Ok(Told::Never(format!("there is no page {title:?}")));
        };
        let text = match change(&page.text) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Told::Done(Some("it was there already".to_owned()))),
            Err(why) => return Ok(Told::Never(why)),
        };
        let token = self.token("csrf").await?;
        let revision = page.revision.to_string();
        let fields = [
            ("action", "edit"),
            // Redirects are followed here: the wiki follows them only for texts that are added to a page.
            ("title", &page.title),
            ("text", &text),
            ("summary", summary),
            ("baserevid", &revision),
            ("nocreate", "1"),
            ("bot", "1"),
            ("assert", if self.login.is_some() { "user" } else { "anon" }),
            ("token", &token),
        ];
        let answer = self.ask(&fields).await?;
        if answer["edit"]["result"] == "Success" {
            return Ok(Told::Done(answer["edit"]["newrevid"].as_i64().map(|id| format!("revision {id}"))));
        }
        let code = answer["error"]["code"].as_str().unwrap_or_default();
        let info = answer["error"]["info"].as_str().unwrap_or(code).to_owned();
        match code {
            "editconflict" => Err(Retry::Conflict),
            "badtoken" | "notoken" | "assertuserfailed" => Err(Retry::Session),
            // It is this page that cannot be edited like that: others can.
            "missingtitle" | "protectedpage" | "cascadeprotected" | "contenttoobig" | "invalidtitle" => {
                Ok(Told::Never(format!("the wiki says of {title:?}: {info}")))
            }
            _ if ["abusefilter-", "spam", "titleblacklist-"].iter().any(|of| code.starts_with(of)) => {
                Ok(Told::Never(format!("the wiki says of {title:?}: {info}")))
            }
            // Names that are blocked, and wikis that are only read, can be mended by people.
            _ => Ok(Told::Later(format!("the wiki says: {info}"))),
        }
    }
}

/// Why an edit was not made.
enum Retry {
    Conflict,
    Session,
    Told(Told),
}

impl From<Told> for Retry {
    fn from(told: Told) -> Self {
        Self::Told(told)
    }
}
