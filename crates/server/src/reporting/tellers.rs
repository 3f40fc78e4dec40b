//! How each kind of target is told.

use super::settings::{Driver, Secret, Web};
use super::words::Words;
use crate::app::App;
use crate::gate::mail::Mail;
use crate::results::conventions;
use assay_connect::events::amqp::Broker;
use assay_connect::http::{Http, secret};
use assay_connect::report::amqp::{Outgoing, Publisher};
use assay_connect::report::bodhi::Bodhi;
use assay_connect::report::matrix::Matrix;
use assay_connect::report::resultsdb::ResultsDb;
use assay_connect::report::wiki::{Login, Wiki};
use assay_connect::report::{LONGEST_ANSWER, Told, irc, webhook};
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::outcome::Outcome;
use assay_engine::report::bus::{Dialect, More, Speaker, messages};
use assay_engine::report::wiki::{Cases, Passed, Placement, edit, placements};
use assay_engine::report::{Fact, JobFact, rfc3339};
use assay_records::step::ModuleResult;
use assay_store::{
    Condition, EntryFilter, EntryState, Field, JobFilter, ResultFilter, ResultId, StoreError, StoredEntry,
    StoredResult,
};
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An entry that is due.
pub(super) struct Letter {
    pub(super) entry: StoredEntry,
    /// It may have been told already.
    pub(super) again: bool,
}

/// Tells one target.
pub(super) struct Teller {
    driver: Driver,
    publisher: Option<Publisher>,
    bodhi: Option<Bodhi>,
    wiki: Option<Wiki>,
}

fn http(web: &Web) -> Result<Http, String> {
    Http::new(web.url.starts_with("https://"), web.ca_file.as_deref(), LONGEST_ANSWER)
}

/// What a letter tells; one that an older server wrote may be unreadable.
fn fact(letter: &Letter) -> Result<Fact, Told> {
    serde_json::from_str(&letter.entry.body)
        .map_err(|error| Told::Never(format!("what is to be told cannot be read: {error}")))
}

fn later(error: impl std::fmt::Display) -> Told {
    Told::Later(error.to_string())
}

impl Teller {
    pub(super) fn new(driver: Driver) -> Self {
        Self { driver, publisher: None, bodhi: None, wiki: None }
    }

    /// So many are told at once.
    pub(super) fn together(&self) -> usize {
        match self.driver {
            Driver::Amqp { .. } | Driver::Wiki { .. } => 128,
            Driver::Irc { .. } => 20,
            _ => 1,
        }
    }

    /// Tells letters in order. What came of each, up to one that has to wait.
    pub(super) async fn tell(&mut self, app: &App, letters: &[Letter]) -> Vec<Told> {
        match self.driver.clone() {
            Driver::Amqp { broker, mandatory, prefix, says } => {
                self.publish(app, letters, *broker, mandatory, &prefix, &says).await
            }
            Driver::Irc { options, password } => chat(app, letters, options, password.as_deref()).await,
            Driver::Wiki { web, login, cases } => self.write(app, letters, &web, login, &cases).await,
            driver => {
                let mut told = Vec::new();
                for letter in letters {
                    told.push(match fact(letter) {
                        Ok(fact) => self.tell_one(app, &driver, letter, &fact).await,
                        Err(told) => told,
                    });
                }
                told
            }
        }
    }

    async fn tell_one(&mut self, app: &App, driver: &Driver, letter: &Letter, fact: &Fact) -> Told {
        // Machines are told of every end; people only of news.
        if matches!(driver, Driver::ResultsDb { .. } | Driver::Webhook { .. }) {
            return self.tell_anyhow(app, driver, letter, fact).await;
        }
        match state(app, letter, fact).await {
            Ok(state) => noted(self.tell_anyhow(app, driver, letter, fact).await, state),
            Err(told) => told,
        }
    }

    async fn tell_anyhow(&mut self, app: &App, driver: &Driver, letter: &Letter, fact: &Fact) -> Told {
        match driver {
            Driver::ResultsDb { web, login, everything } => {
                result(app, letter, fact, web, login.as_ref(), *everything).await.unwrap_or_else(|told| told)
            }
            Driver::Webhook { web, secret: file } => {
                hook(app, letter, fact, web, file).await.unwrap_or_else(|told| told)
            }
            Driver::Mail { to, from } => mail(app, letter, fact, to, from.clone()).await,
            Driver::Matrix { web, room, token } => {
                let words = match words(app, fact).await {
                    Ok(words) => words,
                    Err(told) => return told,
                };
                let key = message_id(&letter.entry.target, &letter.entry.key);
                say_in(web, token, room, &key, &words.line(), &words.html_line()).await
            }
            Driver::Bodhi { web, token } => {
                self.comment(app, fact, web, token.as_deref(), letter.again).await
            }
            Driver::Amqp { .. } | Driver::Irc { .. } | Driver::Wiki { .. } => {
                Told::Never("it is told with others".to_owned())
            }
        }
    }

    async fn publish(
        &mut self,
        app: &App,
        letters: &[Letter],
        broker: Broker,
        mandatory: bool,
        prefix: &str,
        says: &[Dialect],
    ) -> Vec<Told> {
        let mut outgoing: Vec<Outgoing> = Vec::new();
        let mut parts = Vec::new();
        for letter in letters {
            let rendered = rendered(app, letter, prefix, says).await;
            parts.push(rendered.map(|messages| {
                let from = outgoing.len();
                outgoing.extend(messages);
                from..outgoing.len()
            }));
        }
        let results = if outgoing.is_empty() {
            Vec::new()
        } else {
            let publisher = self.publisher.get_or_insert_with(|| Publisher::new(broker, mandatory));
            publisher.publish(&outgoing).await
        };
        let told = |part: Result<std::ops::Range<usize>, Told>| match part {
            Err(told) => told,
            Ok(range) if range.is_empty() => Told::Skipped("there is no message for it".to_owned()),
            Ok(range) => match results[range].iter().find_map(|result| result.as_ref().err()) {
                Some(why) => Told::Later(why.clone()),
                None => Told::Done(None),
            },
        };
        parts.into_iter().map(told).collect()
    }

    async fn comment(
        &mut self,
        app: &App,
        fact: &Fact,
        web: &Web,
        token: Option<&camino::Utf8Path>,
        again: bool,
    ) -> Told {
        let elsewhere =
            |kind: &str| (kind != "bodhi_update").then(|| Told::Skipped("it is about no update".to_owned()));
        let url = &speaker(app).url;
        let (update, waived, text) = match fact {
            Fact::WaiverNew(waiver) => {
                if let Some(told) = elsewhere(&waiver.subject_type) {
                    return told;
                }
                (
                    waiver.subject_identifier.clone(),
                    waiver.waived.then(|| waiver.testcase.clone()),
                    waiver.comment.clone(),
                )
            }
            Fact::DecisionUpdate(decision) => {
                if let Some(told) = elsewhere(&decision.subject_type) {
                    return told;
                }
                if !decision.is_news() {
                    return Told::Skipped("it is as it was".to_owned());
                }
                let words = super::words::short(fact, url);
                (
                    decision.subject_identifier.clone(),
                    None,
                    format!("{}\n\n{}", words.line(), words.text.trim()),
                )
            }
            Fact::BuildDone(build) => {
                let Some(update) = build.build.strip_prefix("Update-") else {
                    return Told::Skipped("it is about no update".to_owned());
                };
                match words(app, fact).await {
                    Ok(words) => (update.to_owned(), None, words.line()),
                    Err(told) => return told,
                }
            }
            _ => return Told::Skipped("Bodhi is not told of it".to_owned()),
        };
        if self.bodhi.is_none() {
            let made =
                http(web).and_then(|http| Ok(Bodhi::new(http, &web.url, token.map(secret).transpose()?)));
            match made {
                Ok(bodhi) => self.bodhi = Some(bodhi),
                Err(why) => return Told::Later(why),
            }
        }
        let Some(bodhi) = &mut self.bodhi else { return Told::Later("no client".to_owned()) };
        let told = match waived {
            Some(testcase) => bodhi.waive(&update, &text, &[testcase]).await,
            None => bodhi.comment(&update, &text, again).await,
        };
        if matches!(told, Told::Later(_)) {
            // With the secrets and certificates as they are then.
            self.bodhi = None;
        }
        told
    }

    /// All that is due, one edit for each page.
    async fn write(
        &mut self,
        app: &App,
        letters: &[Letter],
        web: &Web,
        login: Option<Secret>,
        file: &camino::Utf8Path,
    ) -> Vec<Told> {
        let cases = match cases(file) {
            Ok(cases) => cases,
            Err(why) => return vec![Told::Later(why)],
        };
        let mut pages: BTreeMap<String, Vec<Placement>> = BTreeMap::new();
        let mut parts: Vec<Result<Vec<String>, Told>> = Vec::new();
        for letter in letters {
            let found = cells(app, letter, &cases).await;
            parts.push(found.map(|cells| {
                let titles = cells.iter().map(|cell| cell.page.clone()).collect();
                for cell in cells {
                    pages.entry(cell.page.clone()).or_default().push(cell);
                }
                titles
            }));
        }
        let mut edits: BTreeMap<String, Told> = BTreeMap::new();
        for (title, cells) in pages {
            let told = self.edit(web, login.as_ref(), &cases, &title, &cells).await;
            edits.insert(title, told);
        }
        let told = |part: Result<Vec<String>, Told>| match part {
            Err(told) => told,
            Ok(titles) if titles.is_empty() => Told::Skipped("no cell is about it".to_owned()),
            Ok(titles) => {
                let of = |title: &String| edits.get(title).cloned().unwrap_or(Told::Done(None));
                let all: Vec<Told> = titles.iter().map(of).collect();
                let worst = all.iter().find(|told| matches!(told, Told::Later(_)));
                let worst = worst.or_else(|| all.iter().find(|told| matches!(told, Told::Never(_))));
                worst.or(all.first()).cloned().unwrap_or(Told::Done(None))
            }
        };
        parts.into_iter().map(told).collect()
    }

    async fn edit(
        &mut self,
        web: &Web,
        login: Option<&Secret>,
        cases: &Cases,
        title: &str,
        cells: &[Placement],
    ) -> Told {
        if self.wiki.is_none() {
            let login = login.map(|login| match login {
                Secret::Password { user, file } => Ok(Login::Password(user.clone(), secret(file)?)),
                Secret::Token(file) => Ok(Login::Bearer(secret(file)?)),
            });
            match login
                .transpose()
                .and_then(|login: Option<Login>| Ok(Wiki::new(http(web)?, &web.url, login)))
            {
                Ok(wiki) => self.wiki = Some(wiki),
                Err(why) => return Told::Later(why),
            }
        }
        let Some(wiki) = &mut self.wiki else { return Told::Later("no client".to_owned()) };
        let tests: Vec<&str> = cells.iter().map(|cell| cell.case.as_str()).collect();
        let summary = format!("Result(s) for test(s): {} filed via Assay", tests.join(", "));
        let summary: String = summary.chars().take(240).collect();
        let mut unclear = Vec::new();
        let told = wiki.edit(title, &summary, |text| {
            let edited = edit(text, cells, &cases.user);
            unclear = edited.unclear;
            match edited.text {
                None if unclear.len() == cells.len() => Err(unclear.join("; ")),
                text => Ok(text),
            }
        });
        match told.await {
            Told::Done(note) if !unclear.is_empty() => {
                let note = note.map(|note| format!("{note}; ")).unwrap_or_default();
                Told::Done(Some(format!("{note}not clear: {}", unclear.join("; "))))
            }
            Told::Later(why) => {
                self.wiki = None;
                Told::Later(why)
            }
            told => told,
        }
    }
}

fn speaker(app: &App) -> Speaker {
    app.reporting.settings().map(|settings| settings.speaker.clone()).unwrap_or_default()
}

async fn words(app: &App, fact: &Fact) -> Result<Words, Told> {
    app.words(fact, &speaker(app).url).await.map_err(|fault| {
        let some = matches!(fact, Fact::BuildDone(build) if build.errors || build.is_part());
        if fault.status == axum::http::StatusCode::NOT_FOUND && some {
            Told::Skipped(fault.error)
        } else if fault.status == axum::http::StatusCode::NOT_FOUND {
            Told::Never(fault.error)
        } else {
            Told::Later(fault.error)
        }
    })
}

/// Says something in a room by the account of the first reporter that has one; none if there is no such reporter.
pub(super) async fn in_room(app: &App, room: &str, key: &str, text: &str, html: &str) -> Option<Told> {
    let (web, token) = app.reporting.matrix()?;
    Some(say_in(&web, &token, room, key, text, html).await)
}

async fn say_in(web: &Web, token: &camino::Utf8Path, room: &str, key: &str, text: &str, html: &str) -> Told {
    match (http(web), secret(token)) {
        (Ok(http), Ok(token)) => Matrix::new(http, &web.url, room, &token).say(key, text, html).await,
        (Err(why), _) | (_, Err(why)) => Told::Later(why),
    }
}

/// The same for the same: consumers know a repetition by it.
pub(super) fn message_id(target: &str, key: &str) -> String {
    conventions::uuid5(uuid::Uuid::NAMESPACE_URL, &format!("assay:{target}:{key}")).to_string()
}

async fn rendered(app: &App, letter: &Letter, prefix: &str, says: &[Dialect]) -> Result<Vec<Outgoing>, Told> {
    let fact = fact(letter)?;
    let more = app.more(&fact, says).await.map_err(later)?;
    let one = |message: assay_engine::report::bus::Message| {
        let topic = format!("{prefix}.{}", message.topic);
        Outgoing {
            id: message_id(&letter.entry.target, &format!("{}:{topic}", letter.entry.key)),
            topic,
            body: message.body,
            sent_at: format!("{}+00:00", rfc3339(letter.entry.at.0).trim_end_matches('Z')),
            severity: 20,
        }
    };
    let found: Vec<Outgoing> = messages(&fact, says, &speaker(app), &more).into_iter().map(one).collect();
    // The protocol has no room for more.
    match found.iter().find(|message| message.topic.len() > 255) {
        Some(message) => Err(Told::Never(format!("the topic {:?} is longer than 255 bytes", message.topic))),
        None => Ok(found),
    }
}

/// What a build's result is now, to be noted when it is told; what has been told so before is told no more. Nothing of
/// other facts.
async fn state(app: &App, letter: &Letter, fact: &Fact) -> Result<Option<String>, Told> {
    let Fact::BuildDone(build) = fact else { return Ok(None) };
    let state = app.build_state(&super::build::Asked::of(build)).await.map_err(later)?;
    let state = format!("the build's result {state}");
    let entry = &letter.entry;
    let filter = EntryFilter {
        target: Some(entry.target.clone()),
        state: Some(EntryState::Delivered),
        about: Some((entry.kind.clone(), entry.about.clone())),
        limit: 1,
        ..EntryFilter::default()
    };
    let before = app.store.outbox().entries(&filter).await.map_err(later)?;
    let before = before.into_iter().next().and_then(|entry| entry.note).unwrap_or_default();
    if before.starts_with(&state) {
        return Err(Told::Skipped(format!("{state}, as it was told before")));
    }
    Ok(Some(state))
}

fn noted(told: Told, state: Option<String>) -> Told {
    match (told, state) {
        (Told::Done(note), Some(state)) => {
            Told::Done(Some(note.map_or_else(|| state.clone(), |note| format!("{state}, {note}"))))
        }
        (told, _) => told,
    }
}

async fn chat(
    app: &App,
    letters: &[Letter],
    mut options: irc::IrcOptions,
    password: Option<&camino::Utf8Path>,
) -> Vec<Told> {
    let mut said = Vec::new();
    let mut told = Vec::new();
    for letter in letters {
        let words = async {
            let fact = fact(letter)?;
            let state = state(app, letter, &fact).await?;
            Ok((words(app, &fact).await?, state))
        };
        told.push(words.await.map(|(words, state): (Words, _)| {
            said.extend(irc::lines(&words.line()));
            state
        }));
    }
    let spoken = async {
        options.password = password.map(secret).transpose()?;
        if said.is_empty() { Ok(()) } else { irc::say(&options, &said).await }
    };
    let spoken = match spoken.await {
        Ok(()) => Told::Done(None),
        Err(why) => Told::Later(why),
    };
    let told = told.into_iter();
    told.map(|told| told.map_or_else(|told: Told| told, |state| noted(spoken.clone(), state))).collect()
}

async fn mail(app: &App, letter: &Letter, fact: &Fact, to: &[String], from: Option<String>) -> Told {
    let words = match words(app, fact).await {
        Ok(words) => words,
        Err(told) => return told,
    };
    let mut text = words.text;
    if let Some(url) = &words.url
        && !text.contains(url)
    {
        let whole = format!("{text}\n{url}\n");
        whole.trim_start().clone_into(&mut text);
    }
    let mail = Mail {
        id: message_id(&letter.entry.target, &letter.entry.key),
        from,
        to: to.join(", "),
        subject: words.headline,
        text,
        html: words.html,
        unsubscribe: None,
        written: "[reporter.NAME] of assay.toml",
    };
    app.reporting.post.send(&mail).await
}

async fn result(
    app: &App,
    letter: &Letter,
    fact: &Fact,
    web: &Web,
    login: Option<&Secret>,
    everything: bool,
) -> Result<Told, Told> {
    let Fact::ResultNew(new) = fact else {
        return Ok(Told::Skipped("it is no result".to_owned()));
    };
    if let Some(why) = &new.withheld {
        return Ok(Told::Skipped(format!("it is not reported: {why}")));
    }
    if !new.own && !everything {
        return Ok(Told::Skipped("it is not of this server; say everything = true".to_owned()));
    }
    let stored = app.store.results().result(ResultId(new.id)).await.map_err(later)?;
    let stored = stored.ok_or_else(|| Told::Never(format!("there is no result {} any more", new.id)))?;
    let authorization = match login {
        None => None,
        Some(Secret::Token(file)) => Some(format!("Bearer {}", secret(file).map_err(Told::Later)?)),
        Some(Secret::Password { user, file }) => {
            let pair = format!("{user}:{}", secret(file).map_err(Told::Later)?);
            Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        }
    };
    let there = ResultsDb::new(http(web).map_err(Told::Later)?, &web.url, authorization);
    // There it has the time that it has here.
    let since = crate::api::resultsdb::moment(Timestamp(stored.at.0.div_euclid(1_000) * 1_000));
    Ok(there
        .post(&posted(&app.with_groups(&stored).await.map_err(later)?, &stored), letter.again, &since)
        .await)
}

/// A result as it is posted.
fn posted(groups: &[Value], stored: &StoredResult) -> Value {
    json!({
        "outcome": stored.outcome,
        "testcase": {"name": stored.testcase, "ref_url": stored.testcase_ref_url},
        "groups": groups,
        "note": stored.note.clone().unwrap_or_default(),
        "ref_url": stored.ref_url,
        "data": stored.values(),
        "submit_time": stored.at.0.div_euclid(1_000),
    })
}

async fn hook(
    app: &App,
    letter: &Letter,
    fact: &Fact,
    web: &Web,
    file: &camino::Utf8Path,
) -> Result<Told, Told> {
    let more = app.more(fact, &[Dialect::ResultsDb, Dialect::OpenQa]).await.map_err(later)?;
    let url = speaker(app).url;
    let words = words(app, fact).await?;
    let mut about = serde_json::to_value(fact).map_err(|error| Told::Never(error.to_string()))?;
    if let Some(result) = more.result {
        about["result"] = result;
    }
    if !more.failed_modules.is_empty() {
        about["failed_modules"] = more.failed_modules.into();
    }
    if let Fact::BuildDone(build) = fact {
        let report = app
            .build_report(&super::build::Asked::of(build))
            .await
            .map_err(|fault| Told::Later(fault.error))?;
        about["report"] = serde_json::to_value(report).map_err(|error| Told::Never(error.to_string()))?;
    }
    let body = json!({
        "event": letter.entry.kind,
        "id": letter.entry.key,
        "at": rfc3339(letter.entry.at.0),
        "server": url,
        "about": letter.entry.about,
        "headline": words.headline,
        "url": words.url,
        "body": about,
    });
    let (http, secret) = (http(web).map_err(Told::Later)?, secret(file).map_err(Told::Later)?);
    Ok(webhook::post(&http, &web.url, &secret, &letter.entry.kind, &letter.entry.key, body.to_string()).await)
}

fn cases(file: &camino::Utf8Path) -> Result<Cases, String> {
    let text = fs_err::read_to_string(file).map_err(|error| error.to_string())?;
    toml::from_str(&text).map_err(|error| format!("{file}: {error}"))
}

async fn cells(app: &App, letter: &Letter, cases: &Cases) -> Result<Vec<Placement>, Told> {
    let Fact::JobDone(job) = fact(letter)? else { return Ok(Vec::new()) };
    if let Some(why) = job.withheld() {
        return Err(Told::Skipped(format!("it is not reported: {why}")));
    }
    let passed = app.passed(&job, cases).await.map_err(later)?;
    placements(cases, &job, &passed).map_err(Told::Never)
}

impl App {
    /// What is known when a fact is told and was not when it was decided.
    pub(super) async fn more(&self, fact: &Fact, says: &[Dialect]) -> Result<More, StoreError> {
        let mut more = More::default();
        match fact {
            Fact::JobDone(job) if says.contains(&Dialect::OpenQa) => {
                let run = self.last_run(JobId(job.id)).await?;
                let failed = run.modules.iter().filter(|module| module.result == ModuleResult::Failed);
                more.failed_modules = failed.map(|module| module.plan.name.clone()).collect();
                let comments = self.store.knowledge().comments_of_jobs(&[JobId(job.id)]).await?;
                let mut bugs =
                    comments.iter().rev().flat_map(|one| assay_engine::knowledge::words::bugrefs(&one.text));
                more.bug = bugs.next().map(|bug| {
                    let address =
                        assay_engine::knowledge::words::bug_address(&bug).unwrap_or_else(|| bug.clone());
                    (bug, address)
                });
            }
            Fact::ResultNew(new) => {
                let Some(stored) = self.store.results().result(ResultId(new.id)).await? else {
                    return Ok(more);
                };
                let base = format!("{}/api/v2.0", speaker(self).url);
                more.result = Some(crate::api::resultsdb::result_value(&stored, &base));
                if says.contains(&Dialect::Taskotron) {
                    more.outcome_before = self.outcome_before(&stored).await?;
                }
            }
            _ => {}
        }
        Ok(more)
    }

    async fn outcome_before(&self, stored: &StoredResult) -> Result<Option<String>, StoreError> {
        let values = stored.values();
        let mut conditions = vec![Condition::is(Field::Testcase, [stored.testcase.clone()])];
        for key in ["item", "type", "arch"] {
            conditions.extend(values.get(key).map(|values| Condition::data(key, values.clone())));
        }
        let filter =
            ResultFilter { conditions, until: Some(stored.at), limit: 20, ..ResultFilter::default() };
        let found = self.store.results().results(&filter).await?;
        Ok(found.into_iter().find(|one| one.id < stored.id).map(|one| one.outcome))
    }

    /// The groups of a result, with what they are called.
    async fn with_groups(&self, stored: &StoredResult) -> Result<Vec<Value>, StoreError> {
        let uuids: Vec<String> = serde_json::from_str(&stored.groups).unwrap_or_default();
        if uuids.is_empty() {
            return Ok(Vec::new());
        }
        let limit = u32::try_from(uuids.len()).unwrap_or(u32::MAX);
        let filter = assay_store::NameFilter { names: uuids, limit, ..Default::default() };
        let groups = self.store.results().result_groups(&filter).await?;
        let one = |group: assay_store::ResultGroup| json!({"uuid": group.uuid, "description": group.description, "ref_url": group.ref_url});
        Ok(groups.into_iter().map(one).collect())
    }

    /// What passed, as far as the cells of a job want to know it.
    async fn passed(&self, job: &JobFact, cases: &Cases) -> Result<Passed, StoreError> {
        use assay_engine::report::wiki::Suite;
        let test = job.get("TEST").unwrap_or(&job.name);
        let Some(Suite::Conditional(all)) = cases.suites.get(test) else { return Ok(Passed::default()) };
        let mut passed = Passed::default();
        if all.values().any(|one| !one.modules.is_empty()) {
            let run = self.last_run(JobId(job.id)).await?;
            let good = run.modules.iter().filter(|module| module.result == ModuleResult::Passed);
            passed.modules = good.map(|module| module.plan.name.clone()).collect();
        }
        if all.values().any(|one| !one.testsuites.is_empty()) {
            let of = |key: &str| job.get(key).map(str::to_owned).into_iter().collect::<Vec<_>>();
            let filter = JobFilter {
                build: of("BUILD"),
                machine: of("MACHINE"),
                flavor: of("FLAVOR"),
                outcomes: vec![Outcome::Passed],
                limit: 1000,
                ..JobFilter::default()
            };
            passed.tests =
                self.store.summaries(&filter).await?.into_iter().filter_map(|job| job.test).collect();
        }
        Ok(passed)
    }
}

/// When something happened, for those who ask.
pub(super) fn lag(now: Timestamp, since: Timestamp) -> i64 {
    now.micros_since(since).max(0) / 1_000_000
}
