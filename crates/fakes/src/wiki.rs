//! A MediaWiki, as much of its `api.php` as clients need that read pages, log in and edit: `mwclient`, `wikitcms`, Assay.

use crate::web::{Web, lock};
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Who may edit, and the password.
pub const LOGIN: (&str, &str) = ("Coconut@assay", "p4ssword");

/// A change of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Who.
    pub user: String,
    /// What it says now.
    pub text: String,
    /// Why.
    pub summary: String,
    /// Its number; many are made in a second.
    stamp: u64,
}

/// The wiki; dropping it ends it.
pub struct FakeWiki {
    web: Web,
    shared: Shared,
}

#[derive(Default)]
struct Wiki {
    pages: BTreeMap<String, Vec<Revision>>,
    clock: u64,
    logged_in: bool,
    tokens: u32,
    /// Pages that only some may edit.
    protected: BTreeSet<String>,
    /// Somebody else adds this to a page right before the next edits.
    meanwhile: Vec<(String, String)>,
}

type Shared = Arc<Mutex<Wiki>>;

impl FakeWiki {
    /// Listens on a free port of loopback.
    pub async fn start() -> anyhow::Result<Self> {
        let shared = Shared::default();
        let routes = Router::new().route("/w/api.php", get(api).post(api)).with_state(shared.clone());
        Ok(Self { web: Web::start(routes).await?, shared })
    }

    /// The address of `api.php`.
    pub fn api(&self) -> String {
        format!("{}/w/api.php", self.web.url())
    }

    /// Makes a page, or a new revision of it.
    pub fn put(&self, title: &str, text: &str) {
        lock(&self.shared).save(title, "Human", text, "");
    }

    /// A page's revisions, the oldest first.
    pub fn revisions(&self, title: &str) -> Vec<Revision> {
        lock(&self.shared).pages.get(title).cloned().unwrap_or_default()
    }

    /// What a page says.
    pub fn text(&self, title: &str) -> String {
        self.revisions(title).pop().map(|revision| revision.text).unwrap_or_default()
    }

    /// A page is protected.
    pub fn protect(&self, title: &str) {
        lock(&self.shared).protected.insert(title.to_owned());
    }

    /// Somebody else adds a text to a page right before the next edit of it.
    pub fn meanwhile(&self, title: &str, text: &str) {
        lock(&self.shared).meanwhile.push((title.to_owned(), text.to_owned()));
    }
}

fn iso(stamp: u64) -> String {
    let stamp = stamp / 100;
    format!("2026-11-21T{:02}:{:02}:{:02}Z", stamp / 3600 % 24, stamp / 60 % 60, stamp % 60)
}

impl Wiki {
    fn save(&mut self, title: &str, user: &str, text: &str, summary: &str) -> usize {
        self.clock += 1;
        let revision = Revision {
            user: user.to_owned(),
            text: text.to_owned(),
            summary: summary.to_owned(),
            stamp: self.clock,
        };
        let all = self.pages.entry(title.to_owned()).or_default();
        all.push(revision);
        all.len()
    }

    /// The page that a title leads to: `#REDIRECT [[…]]` is followed once.
    fn resolve(&self, title: &str) -> String {
        let title = title.replace('_', " ");
        let text = self.pages.get(&title).and_then(|all| all.last()).map(|one| one.text.as_str());
        let target = text.and_then(|text| text.strip_prefix("#REDIRECT [[")?.split_once("]]"));
        target.map_or(title.clone(), |(target, _)| target.to_owned())
    }

    fn query(&mut self, fields: &BTreeMap<String, String>) -> Value {
        let get = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
        let wants = |key: &str, word: &str| get(key).split('|').any(|one| one == word);
        let mut query = json!({});
        if wants("meta", "tokens") {
            self.tokens += 1;
            let kind = if get("type").is_empty() { "csrf" } else { get("type") };
            let key = format!("{kind}token");
            query["tokens"] = json!({ key: format!("{kind}-{}+\\", self.tokens) });
        }
        if wants("meta", "siteinfo") {
            query["general"] = json!({"generator": "MediaWiki 1.39.8", "sitename": "Fake", "case": "first-letter", "writeapi": true});
            query["namespaces"] = json!({"0": {"id": 0, "*": "", "name": ""}, "10": {"id": 10, "*": "Template", "name": "Template"}});
        }
        if wants("meta", "userinfo") {
            let name = if self.logged_in { "Coconut" } else { "127.0.0.1" };
            query["userinfo"] = json!({
                "id": i32::from(self.logged_in), "name": name, "groups": ["*"],
                "rights": ["read", "edit", "writeapi"], "blockinfo": null,
            });
        }
        if !get("titles").is_empty() {
            let redirects = fields.contains_key("redirects");
            let pages: Vec<Value> =
                get("titles").split('|').map(|title| self.page(title, redirects)).collect();
            query["pages"] = if get("formatversion") == "2" {
                pages.into()
            } else {
                let ids = |page: &Value| page["pageid"].to_string();
                pages.iter().map(|page| (ids(page), page.clone())).collect::<serde_json::Map<_, _>>().into()
            };
        }
        json!({"batchcomplete": true, "query": query})
    }

    fn page(&self, title: &str, redirects: bool) -> Value {
        let title = if redirects { self.resolve(title) } else { title.replace('_', " ") };
        let Some(last) = self.pages.get(&title).and_then(|all| all.last()) else {
            return json!({"pageid": -1, "ns": 0, "title": title, "missing": true});
        };
        let number = self.pages.keys().position(|key| *key == title).unwrap_or(0) + 1;
        json!({
            "pageid": number, "ns": 0, "title": title, "contentmodel": "wikitext", "touched": iso(last.stamp),
            "lastrevid": last.stamp, "length": last.text.len(), "protection": [], "restrictiontypes": ["edit", "move"],
            "revisions": [{
                "revid": last.stamp, "timestamp": iso(last.stamp), "user": last.user, "comment": last.summary,
                "*": last.text,
                "slots": {"main": {"contentmodel": "wikitext", "content": last.text, "*": last.text}},
            }],
        })
    }

    /// The sections of a page, and where each begins.
    fn sections(&self, title: &str) -> Value {
        let title = self.resolve(title);
        let Some(last) = self.pages.get(&title).and_then(|all| all.last()) else {
            return json!({"error": {"code": "missingtitle", "info": "The page you specified doesn't exist."}});
        };
        let mut sections = Vec::new();
        let mut offset = 0;
        for line in last.text.split_inclusive('\n') {
            let bare = line.trim_end();
            let level = bare.chars().take_while(|c| *c == '=').count();
            if level >= 2 && bare.ends_with("==") && bare.len() > 2 * level {
                let index = (sections.len() + 1).to_string();
                let name = bare.trim_matches('=').trim();
                sections.push(json!({
                    "toclevel": level - 1, "level": level.to_string(), "line": name, "number": index, "index": index,
                    "fromtitle": title.replace(' ', "_"), "byteoffset": offset, "anchor": name.replace(' ', "_"),
                }));
            }
            offset += line.len();
        }
        json!({"parse": {"title": title, "pageid": 1, "sections": sections}})
    }

    fn edit(&mut self, fields: &BTreeMap<String, String>) -> Value {
        let get = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
        let wrong = |code: &str, info: &str| json!({"error": {"code": code, "info": info}});
        if get("token") != format!("csrf-{}+\\", self.tokens) {
            return wrong("badtoken", "Invalid CSRF token.");
        }
        if !self.logged_in {
            return wrong(
                "assertuserfailed",
                "You are no longer logged in, so the action could not be completed.",
            );
        }
        if fields.contains_key("redirect") && fields.contains_key("text") {
            return wrong(
                "redirect-appendonly",
                "You have attempted to edit using the \"redirect\"-following mode, which must be used in conjunction with section=new, prependtext, or appendtext.",
            );
        }
        let title = get("title").replace('_', " ");
        if self.protected.contains(&title) {
            return wrong(
                "protectedpage",
                "This page has been protected to prevent editing or other actions.",
            );
        }
        if let Some(at) = self.meanwhile.iter().position(|(page, _)| *page == title) {
            let (_, more) = self.meanwhile.remove(at);
            let text = self.pages.get(&title).and_then(|all| all.last()).map(|one| one.text.clone());
            self.save(&title, "Human", &(text.unwrap_or_default() + &more), "me, too");
        }
        let last = self.pages.get(&title).and_then(|all| all.last()).cloned();
        match &last {
            None if fields.contains_key("nocreate") => {
                return wrong("missingtitle", "The page you specified doesn't exist.");
            }
            Some(last)
                if !get("baserevid").is_empty() && get("baserevid") != last.stamp.to_string()
                    || !get("basetimestamp").is_empty()
                        && get("basetimestamp") < iso(last.stamp).as_str() =>
            {
                return wrong("editconflict", "Edit conflict: $1");
            }
            _ => {}
        }
        if last.as_ref().is_some_and(|last| last.text == get("text")) {
            return json!({"edit": {"result": "Success", "title": title, "nochange": true}});
        }
        let number = self.save(&title, "Coconut", get("text"), get("summary"));
        json!({"edit": {"result": "Success", "pageid": 1, "title": title, "newrevid": self.clock, "oldrevid": number}})
    }
}

fn decoded(text: &str) -> String {
    let bytes = text.replace('+', " ").into_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(key), decoded(value))
    })
}

async fn api(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = String::from_utf8_lossy(&body).into_owned();
    let fields: BTreeMap<String, String> = pairs(&query.unwrap_or_default()).chain(pairs(&form)).collect();
    let get = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
    let mut wiki = lock(&shared);
    let session = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if wiki.logged_in && !session.contains("session=in") {
        wiki.logged_in = false;
    }
    let answer = match get("action") {
        "query" => wiki.query(&fields),
        "login" => {
            let good = (get("lgname"), get("lgpassword")) == LOGIN
                && get("lgtoken") == format!("login-{}+\\", wiki.tokens);
            wiki.logged_in = good;
            let result = if good { "Success" } else { "Failed" };
            let login = json!({"login": {"result": result, "lgusername": "Coconut", "reason": "Incorrect username or password entered."}});
            return ([(header::SET_COOKIE, "session=in; path=/; HttpOnly")], Json(login)).into_response();
        }
        "edit" => wiki.edit(&fields),
        "parse" => wiki.sections(get("page")),
        other => {
            json!({"error": {"code": "badvalue", "info": format!("Unrecognized value for parameter \"action\": {other}.")}})
        }
    };
    Json(answer).into_response()
}
