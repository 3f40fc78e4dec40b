//! What people hear of by rules of their own: mails, each or together, and a feed.

use super::STAGED;
use super::tellers::{in_room, message_id};
use super::words::{Words, escaped, short};
use crate::app::App;
use crate::auth::{Role, Sender};
use crate::fault::Fault;
use crate::gate::Pauses;
use crate::gate::mail::Mail;
use crate::web::frame::percent_encoded;
use assay_connect::report::Told;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::report::people::{Digest, NoticeRule, Notices, is_change};
use assay_engine::report::{Fact, JobFact, rfc3339};
use assay_proto::api::outbox::NoticesOf;
use assay_store::{EntryFilter, EntryState, JobFilter, StoreError, StoredEntry, Tried};
use axum::extract::{Extension, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How the targets of people begin.
pub(crate) const PREFIX: &str = "person/";
/// Entries of one person that are looked at together.
const TOGETHER: u32 = 1_000;
/// The longest sleep: clocks may be set, and mails become due.
const LOOK: Duration = Duration::from_secs(20);
/// Entries of a feed, and how many are looked at for them.
const FEED: usize = 100;
const LOOKED_AT: u32 = 400;

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/assay/v1/notices/{name}", get(show).put(keep).delete(forget))
        .route("/feeds/{name}/{mac}", get(feed))
        .route("/unsubscribe/{name}/{rule}/{mac}", get(ask_end).post(end))
}

/// Reads what people want.
pub(crate) async fn load(app: &App) -> Result<(), StoreError> {
    let mut people = BTreeMap::new();
    for (name, body) in app.store.outbox().notices().await? {
        match serde_json::from_str(&body) {
            Ok(notices) => drop(people.insert(name, notices)),
            Err(error) => tracing::warn!(name, %error, "what somebody wants to hear of cannot be read"),
        }
    }
    app.reporting.set_people(people);
    Ok(())
}

/// Tells people, until the server ends.
pub(super) async fn run(app: Arc<App>, pauses: Pauses) {
    loop {
        let looked = tokio::select! {
            () = app.shutdown.cancelled() => return,
            looked = look(&app, pauses) => looked,
        };
        let pause = match looked {
            Ok(Some(at)) => {
                let wait = (at.0 - app.clock.now().0).max(0) as u64;
                Duration::from_micros(wait).clamp(Duration::from_millis(5), LOOK)
            }
            Ok(None) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "people cannot be told; it is tried again");
                pauses.after(4)
            }
        };
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = app.reporting.letters.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The note of what a rule is not told of because it is as before.
const NO_NEWS: &str = "it has not changed: not sent";

/// Tells everybody what is due; when something else will be.
async fn look(app: &App, pauses: Pauses) -> Result<Option<Timestamp>, StoreError> {
    let mut next: Option<Timestamp> = None;
    let mut sooner = |at: Timestamp| next = Some(next.map_or(at, |next| next.min(at)));
    let people = app.reporting.people();
    for target in app.store.outbox().waiting_targets(PREFIX).await? {
        let name = target.strip_prefix(PREFIX).unwrap_or(&target);
        let now = app.clock.now();
        let (due, later) = app.store.outbox().due_entries(&target, now, TOGETHER).await?;
        later.into_iter().for_each(&mut sooner);
        if due.len() == TOGETHER as usize {
            // There may be more.
            sooner(now);
        }
        let nothing = Notices::default();
        let notices = people.get(name).unwrap_or(&nothing);
        let mut tried = Vec::new();
        for (rule, entries) in by_rule(due) {
            let rule = notices.rules.iter().find(|one| one.name == rule && one.enabled);
            let (news, old) = app.news(rule, entries).await?;
            let old =
                old.iter().map(|entry| (entry.id, Tried::Skipped { at: now, note: NO_NEWS.to_owned() }));
            tried.extend(old);
            for together in parcels(rule, news) {
                let told = tell(app, name, notices, rule, &together).await?;
                for entry in &together {
                    let one = outcome(&told, entry, app.clock.now(), pauses);
                    if let Tried::Later { at, .. } = &one {
                        sooner(*at);
                    }
                    tried.push((entry.id, one));
                }
            }
        }
        if !tried.is_empty() {
            app.store.outbox().entries_tried(app.reporting.epoch, &tried).await?;
        }
    }
    Ok(next)
}

fn outcome(told: &Told, entry: &StoredEntry, now: Timestamp, pauses: Pauses) -> Tried {
    match told {
        Told::Done(note) => Tried::Done { at: now, note: note.clone() },
        Told::Skipped(note) => Tried::Skipped { at: now, note: note.clone() },
        Told::Never(error) => Tried::Never { error: error.clone() },
        Told::Later(error) => {
            let pause = pauses.after(entry.attempts + 1);
            Tried::Later {
                at: Timestamp(now.0.saturating_add(pause.as_micros() as i64)),
                error: error.clone(),
            }
        }
    }
}

/// Entries by their rules, which their keys begin with.
fn by_rule(entries: Vec<StoredEntry>) -> BTreeMap<String, Vec<StoredEntry>> {
    let mut rules: BTreeMap<String, Vec<StoredEntry>> = BTreeMap::new();
    for entry in entries {
        let rule = entry.key.split(':').next().unwrap_or_default().to_owned();
        rules.entry(rule).or_default().push(entry);
    }
    rules
}

/// What goes into one mail.
fn parcels(rule: Option<&NoticeRule>, entries: Vec<StoredEntry>) -> Vec<Vec<StoredEntry>> {
    match rule {
        Some(rule) if rule.digest != Digest::Off => vec![entries],
        _ => entries.into_iter().map(|entry| vec![entry]).collect(),
    }
}

/// Where somebody says that they want no more of a rule's mails.
fn unsubscribe(app: &App, name: &str, rule: &str) -> String {
    let mac = app.guard.address_mac(&format!("unsubscribe {name} {rule}"));
    let url = &app.results.settings().url;
    format!("{url}/unsubscribe/{}/{}/{mac}", percent_encoded(name), percent_encoded(rule))
}

/// Where somebody's feed is.
fn feed_address(app: &App, name: &str) -> String {
    let mac = app.guard.address_mac(&format!("feed {name}"));
    format!("{}/feeds/{}/{mac}", app.results.settings().url, percent_encoded(name))
}

async fn tell(
    app: &App,
    name: &str,
    notices: &Notices,
    rule: Option<&NoticeRule>,
    entries: &[StoredEntry],
) -> Result<Told, StoreError> {
    let skipped = |why: &str| Ok(Told::Skipped(why.to_owned()));
    let Some(rule) = rule else { return skipped("the rule is gone: not sent") };
    let to = notices.mail.as_ref().filter(|_| rule.by_mail);
    let room = notices.matrix.as_ref().filter(|_| rule.by_matrix);
    if to.is_none() && room.is_none() {
        return Ok(Told::Done(Some("in the feed".to_owned())));
    }
    let url = app.results.settings().url.clone();
    let mut said = Vec::new();
    for entry in entries {
        let Ok(fact) = serde_json::from_str::<Fact>(&entry.body) else { continue };
        match app.words(&fact, &url).await {
            Ok(words) => said.push((entry, words)),
            Err(fault)
                if fault.status == StatusCode::NOT_FOUND
                    && matches!(&fact, Fact::BuildDone(build) if build.is_part()) => {}
            Err(fault) if fault.status == StatusCode::NOT_FOUND => said.push((entry, short(&fact, &url))),
            Err(fault) => return Ok(Told::Later(fault.error)),
        }
    }
    let Some((_, first)) = said.first() else { return skipped("nothing of it is wanted: not sent") };
    if app.reporting.is_staging() {
        tracing::info!(name, subject = first.headline, "staging: not sent");
        return skipped(STAGED);
    }
    // A room takes the same thing once, so it comes first: no mail is sent twice because a room does not answer.
    let mut told = Told::Done(None);
    if let Some(room) = room {
        told = in_the_room(app, room, &said).await;
    }
    let (Some(to), Told::Done(_) | Told::Never(_)) = (to, &told) else { return Ok(told) };
    let subject = match said.len() {
        1 => first.headline.clone(),
        count => format!("{count} notices ({})", rule.name),
    };
    let mut text = String::new();
    for (_, words) in &said {
        if said.len() > 1 {
            let _ = writeln!(text, "{}", words.headline);
        }
        if !words.text.trim().is_empty() {
            let _ = writeln!(text, "{}", words.text.trim_end());
        }
        if let Some(url) = &words.url {
            let _ = writeln!(text, "{url}");
        }
        text.push('\n');
    }
    let end = unsubscribe(app, name, &rule.name);
    let _ = writeln!(text, "-- \nYou get this by your rule {}. No more of it: {end}", rule.name);
    let mail = Mail {
        id: entries.first().map_or_else(String::new, |entry| format!("p{}.{}", entry.id, entries.len())),
        to: to.clone(),
        subject,
        text,
        html: None,
        unsubscribe: Some(end),
        written: "the settings of the person",
        ..Mail::default()
    };
    let sent = app.reporting.post.send(&mail).await;
    Ok(if matches!((&told, &sent), (Told::Never(_), Told::Done(_))) { told } else { sent })
}

/// Says it in somebody's room, each by itself: it is there once, whatever else has come before it is tried again.
async fn in_the_room(app: &App, room: &str, said: &[(&StoredEntry, Words)]) -> Told {
    for (entry, words) in said {
        let key = message_id(&entry.target, &entry.key);
        match in_room(app, room, &key, &words.line(), &words.html_line()).await {
            Some(Told::Done(_)) => {}
            Some(told) => return told,
            None => {
                let why = "this server has no account of Matrix: a reporter with that driver";
                return Told::Never(why.to_owned());
            }
        }
    }
    Told::Done(None)
}

impl App {
    /// Entries of a rule, and those that are no news to it.
    async fn news(
        &self,
        rule: Option<&NoticeRule>,
        entries: Vec<StoredEntry>,
    ) -> Result<(Vec<StoredEntry>, Vec<StoredEntry>), StoreError> {
        let (mut news, mut old) = (Vec::new(), Vec::new());
        for entry in entries {
            let is_news = match serde_json::from_str(&entry.body) {
                Ok(fact) => self.is_news(rule, &fact).await?,
                Err(_) => true,
            };
            if is_news { news.push(entry) } else { old.push(entry) }
        }
        Ok((news, old))
    }

    async fn is_news(&self, rule: Option<&NoticeRule>, fact: &Fact) -> Result<bool, StoreError> {
        match fact {
            Fact::JobDone(job) if rule.is_some_and(|rule| rule.on_change) => self.changed(job).await,
            _ => Ok(true),
        }
    }

    /// What somebody's rules let through, the newest first, each fact once.
    async fn in_feed(&self, name: &str) -> Result<Vec<(StoredEntry, Fact)>, StoreError> {
        let target = Some(format!("{PREFIX}{name}"));
        let filter = EntryFilter { target, limit: LOOKED_AT, ..EntryFilter::default() };
        let people = self.reporting.people();
        let rules = people.get(name).map(|notices| notices.rules.as_slice()).unwrap_or_default();
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        for entry in self.store.outbox().entries(&filter).await? {
            let Ok(fact) = serde_json::from_str::<Fact>(&entry.body) else { continue };
            let rule = entry.key.split(':').next().unwrap_or_default();
            let rule = rules.iter().find(|one| one.name == rule);
            let is_in = match entry.state {
                EntryState::Dropped => false,
                // A feed is read and not sent, on a staging server as well.
                EntryState::Skipped => entry.note.as_deref() == Some(STAGED),
                EntryState::Waiting => self.is_news(rule, &fact).await?,
                EntryState::Delivered | EntryState::Refused => true,
            };
            if is_in && seen.insert(fact.key()) {
                found.push((entry, fact));
            }
            if found.len() == FEED {
                break;
            }
        }
        Ok(found)
    }

    /// Somebody of that name: who has an account, or has rules already.
    fn must_be_somebody(&self, sender: &Sender, name: &str) -> Result<(), Fault> {
        let known = sender.name == name
            || self.people.user(name).is_some()
            || self.reporting.people().contains_key(name);
        if known {
            return Ok(());
        }
        Err(Fault::not_found(format!("There is nobody named {name:?}."), "See `assay user list`."))
    }

    /// Whether a test that ended did so otherwise than the one of its scenario before it.
    async fn changed(&self, job: &JobFact) -> Result<bool, StoreError> {
        let Some(now) = job.outcome else { return Ok(true) };
        let of = |key: &str| job.get(key).map(str::to_owned).into_iter().collect::<Vec<_>>();
        let filter = JobFilter {
            distri: of("DISTRI"),
            version: of("VERSION"),
            flavor: of("FLAVOR"),
            arch: of("ARCH"),
            test: of("TEST"),
            machine: of("MACHINE"),
            before: Some(JobId(job.id)),
            limit: 20,
            ..JobFilter::default()
        };
        let earlier = self.store.summaries(&filter).await?;
        let before = earlier.into_iter().filter_map(|job| job.outcome).find(|outcome| !outcome.is_aborted());
        Ok(is_change(before, now))
    }

    async fn keep_notices(&self, name: &str, notices: Option<Notices>) -> Result<(), Fault> {
        let body = notices.as_ref().map(serde_json::to_string).transpose();
        let body = body.map_err(|error| Fault::bad(format!("It cannot be kept: {error}."), "Correct it."))?;
        let now = self.clock.now();
        self.store.outbox().put_notices(self.reporting.epoch, name, body.as_deref(), now).await?;
        let mut people = (*self.reporting.people()).clone();
        match notices {
            Some(notices) => drop(people.insert(name.to_owned(), notices)),
            None => drop(people.remove(name)),
        }
        self.reporting.set_people(people);
        Ok(())
    }

    pub(crate) fn notices_of(&self, name: &str) -> NoticesOf {
        let notices = self.reporting.people().get(name).cloned().unwrap_or_default();
        NoticesOf {
            name: name.to_owned(),
            feed: feed_address(self, name),
            mail_works: self.reporting.post.is_set(),
            matrix_works: self.reporting.matrix().is_some(),
            notices: serde_json::to_value(notices).unwrap_or_default(),
        }
    }
}

/// People change what is theirs, and admins what is anybody's.
pub(crate) fn may(sender: &Sender, name: &str) -> Result<(), Fault> {
    if sender.role == Role::Admin {
        return Ok(());
    }
    sender.must_be_known()?;
    if sender.name == name {
        return Ok(());
    }
    Err(Fault::new(
        StatusCode::FORBIDDEN,
        format!("{} may not look at what {name} wants to hear of.", sender.name),
        "People look after what is theirs, and admins after what is anybody's.",
    ))
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(name): Path<String>,
) -> Result<Json<NoticesOf>, Fault> {
    may(&sender, &name)?;
    app.must_be_somebody(&sender, &name)?;
    Ok(Json(app.notices_of(&name)))
}

async fn keep(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(name): Path<String>,
    body: axum::body::Bytes,
) -> Result<Json<NoticesOf>, Fault> {
    may(&sender, &name)?;
    let help = "See docs/reporting.md for what it holds.";
    let notices: Notices = serde_json::from_slice(&body)
        .map_err(|error| Fault::bad(format!("The rules cannot be read: {error}."), help))?;
    app.change_notices(&sender, &name, notices).await?;
    Ok(Json(app.notices_of(&name)))
}

impl App {
    /// Keeps what somebody wants to hear of, if it is what it should be.
    pub(crate) async fn change_notices(
        self: &Arc<Self>,
        sender: &Sender,
        name: &str,
        notices: Notices,
    ) -> Result<(), Fault> {
        may(sender, name)?;
        let mut wrong = notices.check();
        if let Some(mail) = &notices.mail
            && let Err(why) = mail.parse::<lettre::message::Mailbox>()
        {
            wrong.push(format!("{mail:?} is no address: {why}"));
        }
        if name.is_empty() || name.len() > 200 || name.contains(|c: char| c.is_control()) {
            wrong.push(format!("{name:?} is nobody's name"));
        }
        if !wrong.is_empty() {
            let help = "See docs/reporting.md for what rules hold.";
            return Err(Fault::bad(format!("{}.", wrong.join("; ")), help));
        }
        self.must_be_somebody(sender, name)?;
        self.keep_notices(name, Some(notices)).await?;
        self.audit(&sender.name, "notices_change", json!({ "name": name }));
        Ok(())
    }
}

async fn forget(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(name): Path<String>,
) -> Result<Json<NoticesOf>, Fault> {
    may(&sender, &name)?;
    app.keep_notices(&name, None).await?;
    app.audit(&sender.name, "notices_delete", json!({ "name": name }));
    Ok(Json(app.notices_of(&name)))
}

fn no_address() -> Fault {
    Fault::not_found("There is nothing at this address.", "Copy the whole address, to its end.")
}

async fn feed(
    State(app): State<Arc<App>>,
    Path((name, mac)): Path<(String, String)>,
) -> Result<Response, Fault> {
    if !app.guard.is_address_mac(&format!("feed {name}"), &mac) {
        return Err(no_address());
    }
    let url = app.results.settings().url.clone();
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<feed xmlns=\"http://www.w3.org/2005/Atom\">\n",
    );
    let entries = app.in_feed(&name).await?;
    let updated = entries.first().map_or(0, |(entry, _)| entry.at.0);
    let own = feed_address(&app, &name);
    let _ = writeln!(
        out,
        "<id>{0}</id><title>Assay: what {1} wants to hear of</title><updated>{2}</updated><link rel=\"self\" href=\"{0}\"/>\
         <author><name>Assay</name></author>",
        xml(&own),
        xml(&name),
        rfc3339(updated)
    );
    for (entry, fact) in &entries {
        let words = short(fact, &url);
        let link = words.url.as_deref().unwrap_or(&url);
        let _ = writeln!(
            out,
            "<entry><id>{}</id><title>{}</title><updated>{}</updated><link href=\"{}\"/><content type=\"text\">{}</content></entry>",
            xml(&format!("{url}/outbox/{}", entry.id)),
            xml(&words.headline),
            rfc3339(entry.at.0),
            xml(link),
            xml(&words.text)
        );
    }
    out.push_str("</feed>\n");
    Ok(([(header::CONTENT_TYPE, "application/atom+xml; charset=utf-8")], out).into_response())
}

/// Text for XML, without what XML cannot hold.
fn xml(text: &str) -> String {
    let held =
        |c: char| matches!(c, '\t' | '\n' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    escaped(&text.chars().map(|c| if held(c) { c } else { '\u{FFFD}' }).collect::<String>())
}

fn known_rule(app: &App, name: &str, rule: &str, mac: &str) -> Result<(), Fault> {
    let good = app.guard.is_address_mac(&format!("unsubscribe {name} {rule}"), mac);
    if good { Ok(()) } else { Err(no_address()) }
}

/// A page with a button: looking at an address must not change anything, as mail programs do.
async fn ask_end(
    State(app): State<Arc<App>>,
    Path((name, rule, mac)): Path<(String, String, String)>,
) -> Result<Html<String>, Fault> {
    known_rule(&app, &name, &rule, &mac)?;
    Ok(Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>No more of {0}</title></head><body><h1>No more of {0}?</h1>\
         <form method=\"post\"><button type=\"submit\">No more mails by this rule</button></form></body></html>\n",
        escaped(&rule)
    )))
}

async fn end(
    State(app): State<Arc<App>>,
    Path((name, rule, mac)): Path<(String, String, String)>,
) -> Result<Html<String>, Fault> {
    known_rule(&app, &name, &rule, &mac)?;
    if let Some(mut notices) = app.reporting.people().get(&name).cloned() {
        notices.rules.iter_mut().filter(|one| one.name == rule).for_each(|one| one.enabled = false);
        app.keep_notices(&name, Some(notices)).await?;
        app.audit(&name, "notices_end", json!({ "rule": rule }));
    }
    Ok(Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>No more of it</title></head><body><p>There will be no more mails by the rule {}.</p></body></html>\n",
        escaped(&rule)
    )))
}
