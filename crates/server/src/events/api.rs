//! `inbox`, `sources`, `rules`, `schedule` and `hooks` of the API.

use super::matcher;
use super::settings::{EventSettings, HookSettings};
use super::sources::Inbox;
use crate::api::read;
use crate::app::App;
use crate::auth::Sender;
use crate::events::Trouble;
use crate::fault::Fault;
use crate::web::frame::rfc3339;
use assay_connect::events::{Incoming, MessageInbox as _, Received, hook};
use assay_engine::compose::{Candidate, CandidateKind, Choice, Life, Update};
use assay_engine::rules::{Planned, PlannedEffect, derive};
use assay_proto::api::events as wire;
use assay_store::{
    EffectState, EffectsDone, MessageFilter, MessageState, PANICKED, StoredEffect, StoredMessage,
};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Events in one answer.
const MOST: u32 = 500;
/// The most bytes of what a hook sends.
const MAX_HOOK: usize = 25 << 20;
/// How often is looked for what comes of something.
const LOOK: Duration = Duration::from_millis(50);
/// The source of what people ask for.
const BY_HAND: &str = "by-hand";

pub(crate) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/inbox", get(list))
        .route("/inbox/{id}", get(show))
        .route("/inbox/{id}/replay", post(replay))
        .route("/sources", get(sources))
        .route("/rules", get(rules))
        .route("/rules/reload", post(reload))
        .route("/schedule/compose", post(schedule_compose))
        .route("/schedule/update", post(schedule_update))
        .route("/schedule/candidate", post(schedule_candidate))
        .route("/schedule/releases", get(releases))
}

/// Hooks are signed by those who send them; they have no tokens.
pub(crate) fn hooks() -> Router<Arc<App>> {
    Router::new().route("/api/assay/v1/hooks/{name}", post(receive)).layer(DefaultBodyLimit::max(MAX_HOOK))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    pub(crate) source: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) led: Option<String>,
    pub(crate) q: Option<String>,
    pub(crate) before: Option<i64>,
    pub(crate) limit: Option<u32>,
}

async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<wire::OutsideEvents>, Fault> {
    Ok(Json(app.list_events(query).await?))
}

fn number(id: &str) -> Result<i64, Fault> {
    id.parse().map_err(|_| no_event(id))
}

fn no_event(id: impl std::fmt::Display) -> Fault {
    Fault::not_found(format!("There is no event {id}."), "See `assay event list`.")
}

async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<wire::OutsideEvent>, Fault> {
    Ok(Json(app.show_event(number(&id)?).await?))
}

async fn replay(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<wire::OutsideEvent>, Fault> {
    let replay: wire::Replay = match &body[..] {
        [] => wire::Replay::default(),
        body => serde_json::from_slice(body).map_err(|error| {
            Fault::bad(format!("The request cannot be read: {error}."), r#"Send {"force": true} or nothing."#)
        })?,
    };
    let id = number(&id)?;
    let stored = app.store.events().message(id).await?.ok_or_else(|| no_event(id))?;
    let why = stored.caused.clone().unwrap_or_default();
    if stored.state == MessageState::Parked
        && (!why.starts_with(PANICKED) || matcher::message(&stored).is_err())
    {
        return Err(Fault::new(
            StatusCode::CONFLICT,
            format!("Event {id} is parked for good: {why}."),
            "Have it sent again.",
        ));
    }
    // What was refused may be possible by now.
    let mut keys = texts(&caused(stored.caused.as_ref()), "effects");
    keys.extend(app.store.events().effects_of(&[id]).await?.into_iter().map(|effect| effect.planned.key));
    if !app.store.events().replay(app.outside.epoch, id, replay.force).await? {
        return Err(no_event(id));
    }
    // By force everything is planned anew under keys of its own; what is reopened besides would be done twice.
    if !replay.force {
        app.store.events().reopen_effects(app.outside.epoch, &keys, app.clock.now()).await?;
    }
    app.outside.planned.notify_one();
    app.audit(&sender.name, "event_replay", json!({"id": id, "force": replay.force}));
    app.outside.arrived.notify_one();
    Ok(Json(app.seen_event(id).await?))
}

async fn sources(State(app): State<Arc<App>>) -> Result<Json<wire::EventSources>, Fault> {
    Ok(Json(wire::EventSources { sources: app.list_sources().await? }))
}

async fn rules(State(app): State<Arc<App>>) -> Result<Json<wire::Rules>, Fault> {
    Ok(Json(app.list_rules().await?))
}

async fn reload(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
) -> Json<wire::RulesReload> {
    let (in_force, diagnostics) = app.reload_rules();
    if in_force {
        app.audit(&sender.name, "rules_reload", json!({}));
    }
    Json(wire::RulesReload { in_force, findings: diagnostics.iter().map(ToString::to_string).collect() })
}

/// What an event or an effect caused, read.
fn caused(stored: Option<&String>) -> Value {
    stored.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn texts(caused: &Value, key: &str) -> Vec<String> {
    caused[key].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn effect(stored: &StoredEffect, waiting: Option<&String>) -> wire::RuleEffect {
    let caused = caused(stored.caused.as_ref());
    let text = |key: &str| caused[key].as_str().map(str::to_owned);
    let why = text("refused").or_else(|| text("why")).or_else(|| text("staging"));
    let waits = stored.state == EffectState::Waiting;
    wire::RuleEffect {
        key: stored.planned.key.clone(),
        rule: stored.planned.rule.clone(),
        item: stored.planned.item.as_ref().map(ToString::to_string),
        state: stored.state.word().to_owned(),
        what: stored.planned.effect.summary(),
        event: stored.event,
        due: rfc3339(stored.due_at),
        jobs: jobs(&caused),
        result: caused["result"].as_i64(),
        why: why.or_else(|| waiting.filter(|_| waits).cloned()),
    }
}

fn jobs(caused: &Value) -> Vec<i64> {
    caused["jobs"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect()
}

/// What an event is about, in a few words.
fn about(stored: &StoredMessage) -> Option<String> {
    const LONGEST: usize = 256 << 10;
    let (topic, body) = (&stored.message.topic, &stored.message.body);
    if stored.message.parked.is_some() || body.len() > LONGEST {
        return None;
    }
    let body: Value = serde_json::from_str(body).ok()?;
    if topic == "assay.job.done" {
        let words = [&body["test"], &body["settings"]["BUILD"], &body["result"]];
        let words: Vec<&str> = words.into_iter().filter_map(Value::as_str).collect();
        return (!words.is_empty()).then(|| words.join(" · "));
    }
    let asked = |key: &str| body[key].as_str().filter(|_| stored.source == BY_HAND).map(str::to_owned);
    let item = derive(topic, &body).map(|item| format!("{} {}", item.kind, item.id));
    item.or_else(|| asked("location")).or_else(|| asked("id"))
}

fn event(stored: &StoredMessage) -> wire::OutsideEvent {
    let caused = caused(stored.caused.as_ref());
    wire::OutsideEvent {
        id: stored.id,
        source: stored.source.clone(),
        key: stored.message.dedupe_key.clone(),
        topic: stored.message.topic.clone(),
        received: rfc3339(stored.received_at),
        sent: stored.message.sent_at.map(rfc3339),
        about: about(stored),
        state: stored.state.word().to_owned(),
        parked: stored.message.parked.clone(),
        recovered: stored.recovered,
        rules: texts(&caused, "matched"),
        failed: serde_json::from_value(caused["failed"].clone()).unwrap_or_default(),
        effects: Vec::new(),
        effect_count: texts(&caused, "effects").len(),
        headers: None,
        body: None,
    }
}

impl App {
    /// Events as they are shown.
    pub(crate) async fn list_events(&self, query: ListQuery) -> Result<wire::OutsideEvents, Fault> {
        let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let state = some(query.state)
            .map(|word| {
                MessageState::from_word(&word).ok_or_else(|| {
                    Fault::bad(
                        format!("{word:?} is no state of an event."),
                        "Use received, matched or parked.",
                    )
                })
            })
            .transpose()?;
        let limit = query.limit.unwrap_or(50).clamp(1, MOST);
        let filter = MessageFilter {
            before: query.before,
            source: some(query.source),
            text: some(query.q),
            state,
            led: query.led.is_some_and(|word| !matches!(word.as_str(), "" | "0" | "false")),
            limit: limit + 1,
        };
        let mut stored = self.store.events().messages(&filter).await?;
        let more = stored.len() > limit as usize;
        stored.truncate(limit as usize);
        let next_before = stored.last().filter(|_| more).map(|event| event.id);
        let mut events: Vec<wire::OutsideEvent> = stored.iter().map(event).collect();
        // What people ask for leads to what they ask for, and not to what a rule says.
        let by_hand: Vec<i64> = events.iter().filter(|one| one.source == BY_HAND).map(|one| one.id).collect();
        for effect in self.store.events().effects_of(&by_hand).await? {
            if let Some(event) = events.iter_mut().find(|one| one.id == effect.event) {
                event.effect_count += 1;
            }
        }
        Ok(wire::OutsideEvents { events, next_before })
    }

    /// An event with everything that it led to.
    pub(crate) async fn show_event(&self, id: i64) -> Result<wire::OutsideEvent, Fault> {
        let stored = self.store.events().message(id).await?.ok_or_else(|| no_event(id))?;
        let keys = texts(&caused(stored.caused.as_ref()), "effects");
        let mut effects = self.store.events().effects_by_key(&keys).await?;
        let known: BTreeSet<String> = effects.iter().map(|effect| effect.planned.key.clone()).collect();
        let own = self.store.events().effects_of(&[id]).await?;
        effects.extend(own.into_iter().filter(|effect| !known.contains(&effect.planned.key)));
        // Parts that were known before are another event's, and what this one wanted all the same.
        let known: BTreeSet<&str> = effects.iter().map(|effect| effect.planned.key.as_str()).collect();
        let parts = effects.iter().flat_map(|effect| texts(&self::caused(effect.caused.as_ref()), "parts"));
        let before: Vec<String> = parts.filter(|part| !known.contains(part.as_str())).collect();
        effects.extend(self.store.events().effects_by_key(&before).await?);
        effects.sort_by(|a, b| a.planned.key.cmp(&b.planned.key));
        let waiting = self.outside.state().waiting.clone();
        let mut shown = event(&stored);
        shown.effects = effects.iter().map(|one| effect(one, waiting.get(&one.planned.key))).collect();
        shown.effect_count = shown.effects.len();
        let parse = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        shown.headers = Some(parse(&stored.message.headers));
        shown.body = Some(parse(&stored.message.body));
        Ok(shown)
    }

    /// The same once the rules have seen it and nothing of it waits, or after a while.
    async fn seen_event(&self, id: i64) -> Result<wire::OutsideEvent, Fault> {
        const LOOKS: u32 = 40;
        for _ in 0..LOOKS {
            let shown = self.show_event(id).await?;
            let waits = |effect: &wire::RuleEffect| effect.state == EffectState::Waiting.word();
            if shown.state != MessageState::Received.word() && !shown.effects.iter().any(waits) {
                return Ok(shown);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.show_event(id).await
    }

    /// Sources and how they do.
    pub(crate) async fn list_sources(&self) -> Result<Vec<wire::EventSource>, Fault> {
        let tallies = self.store.events().source_tallies().await?;
        let health = self.outside.health();
        let configured =
            self.outside.settings.get().map(|settings| settings.sources.keys().cloned().collect::<Vec<_>>());
        let names: BTreeSet<String> = tallies
            .iter()
            .map(|tally| tally.source.clone())
            .chain(health.keys().cloned())
            .chain(configured.into_iter().flatten())
            .collect();
        let one = |name: String| {
            let tally = tallies.iter().find(|tally| tally.source == name);
            let health = health.get(&name).cloned().unwrap_or_default();
            wire::EventSource {
                doing: health.doing,
                trouble: health.trouble,
                events: tally.map_or(0, |tally| tally.messages),
                recovered: tally.map_or(0, |tally| tally.recovered),
                parked: tally.map_or(0, |tally| tally.parked),
                known: tally.map_or(0, |tally| tally.known),
                last: tally.and_then(|tally| tally.last).map(rfc3339),
                name,
            }
        };
        Ok(names.into_iter().map(one).collect())
    }

    /// Rules and how often they had something to do.
    pub(crate) async fn list_rules(&self) -> Result<wire::Rules, Fault> {
        let hits = self.store.events().rule_hits().await?;
        let (rules, mut findings) = {
            let state = self.outside.state();
            (state.rules.clone(), state.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let heard = self.outside.settings.get().and_then(EventSettings::topics);
        let sources: Option<Vec<String>> = self
            .outside
            .settings
            .get()
            .map(|settings| settings.sources.keys().cloned().chain([BY_HAND.to_owned()]).collect());
        let known =
            assay_engine::rules::check::Known { topics: heard.as_deref(), sources: sources.as_deref() };
        let checked = assay_engine::rules::check::check(&rules, known);
        findings.extend(
            checked.iter().map(|found| format!("{}: rule {}: {}", found.place, found.rule, found.problem)),
        );
        findings.extend(self.task_runs.unknown_in(&rules));
        let one = |rule: &Arc<assay_engine::rules::Rule>| {
            let hit = hits.iter().find(|hit| hit.rule == rule.name);
            wire::Rule {
                name: rule.name.clone(),
                description: rule.description.clone(),
                place: rule.place.clone(),
                enabled: rule.enabled,
                when: rule.when.to_string(),
                runs: rule.run.iter().map(assay_engine::rules::Action::label).collect(),
                effects: hit.map_or(0, |hit| hit.effects),
                last: hit.and_then(|hit| hit.last).map(rfc3339),
                failed: hit.map_or(0, |hit| hit.failed),
                last_failed: hit.and_then(|hit| hit.last_failed).map(rfc3339),
            }
        };
        Ok(wire::Rules { rules: rules.rules.iter().map(one).collect(), findings })
    }
}

async fn receive(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let Some(settings) = app.outside.hook(&name) else {
        return Err(Fault::not_found(
            format!("There is no hook {name:?}."),
            "Add [source.NAME] with driver = \"webhook\" to assay.toml.",
        ));
    };
    let secret = fs_err::tokio::read(&settings.secret_file).await.map_err(|error| {
        tracing::error!(%error, hook = name, "the secret of a hook cannot be read");
        Fault::later("The hook's secret cannot be read.", 60)
    })?;
    let secret = secret.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let signature = text(&settings.signature_header).unwrap_or_default();
    if secret.is_empty() || !hook::is_signed(secret, &body, signature) {
        let help = format!(
            "Send HMAC-SHA-256 of the body as hex digits in the header {}.",
            settings.signature_header
        );
        return Err(Fault::new(
            StatusCode::FORBIDDEN,
            "The request is not signed with the hook's secret.",
            help,
        ));
    }
    let message = hook_message(settings, &headers, &body);
    let (key, parked) = (message.key.clone(), message.parked.clone());
    let inbox = Inbox::of(&app, &name);
    let received = Received { messages: vec![message], cursors: Vec::new() };
    let new = inbox.receive(&received).await.map_err(|error| Fault::later(error.to_string(), 5))?;
    Ok((StatusCode::ACCEPTED, Json(json!({"key": key, "new": new == 1, "parked": parked}))))
}

fn hook_message(settings: &HookSettings, headers: &HeaderMap, body: &[u8]) -> Incoming {
    const MAX_BODY: usize = 4 << 20;
    // What says who somebody is stays with them.
    const SECRET: [&str; 8] =
        ["authorization", "x-auth", "api-key", "cookie", "token", "secret", "signature", "password"];
    let text = |header: &str| headers.get(header).and_then(|value| value.to_str().ok());
    let last = settings.topic_header.as_deref().and_then(text);
    let topic = last.map_or_else(|| settings.topic.clone(), |last| format!("{}.{last}", settings.topic));
    let is_secret = |name: &str| {
        name.eq_ignore_ascii_case(&settings.signature_header) || SECRET.iter().any(|word| name.contains(word))
    };
    let shown = headers.iter().filter(|(name, _)| !is_secret(name.as_str()));
    let shown: Map<String, Value> = shown
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), Value::from(value.to_str().ok()?))))
        .collect();
    hook::read(&topic, text(&settings.id_header), shown, body, MAX_BODY)
}

fn fault(trouble: Trouble) -> Fault {
    match trouble {
        Trouble::Refused(why) => Fault::bad(sentence(&why), "Correct that, and schedule it again."),
        Trouble::Absent(why) | Trouble::Missing(why) => {
            Fault::not_found(sentence(&why), "Look whether it is spelt so.")
        }
        Trouble::Later(why) | Trouble::Silent { why, .. } => {
            Fault::new(StatusCode::BAD_GATEWAY, sentence(&why), "Try again when it answers.")
        }
        Trouble::Store(error) => error.into(),
        Trouble::Expanded | Trouble::Asks(_) => Fault::later("Nothing is known yet.", 1),
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with('.') { text.to_owned() } else { format!("{text}.") }
}

async fn schedule_compose(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<Json<wire::Scheduled>, Fault> {
    let asked: wire::ScheduleCompose = read(&body, r#"Send {"location": "https://…/compose"}."#)?;
    let choice = app.choice(asked.force, &asked.flavors, &asked.arches, asked.settings);
    let (compose, planned) = app.plan_compose(&asked.location, &choice).await.map_err(fault)?;
    let posts = app.schedule_now(&sender.name, "compose", &body, planned, asked.dry_run).await?;
    Ok(Json(wire::Scheduled { item: format!("compose {}", compose.id), posts }))
}

async fn schedule_update(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<Json<wire::Scheduled>, Fault> {
    let asked: wire::ScheduleUpdate =
        read(&body, r#"Send {"id": "FEDORA-…"}, or with it "release": "F44" and "builds": ["…"]."#)?;
    let choice = app.choice(asked.force, &asked.flavors, &asked.arches, asked.settings);
    let said =
        Update { id: asked.id.clone(), builds: asked.builds, groups: asked.groups, ..Update::default() };
    let update = app.find_update(&asked.id, said, asked.release, &choice).await.map_err(fault)?;
    let planned = app.plan_update(&update, &choice).await.map_err(fault)?;
    let posts = app.schedule_now(&sender.name, "update", &body, planned, asked.dry_run).await?;
    Ok(Json(wire::Scheduled { item: format!("bodhi_update {}", update.id), posts }))
}

async fn schedule_candidate(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    body: Bytes,
) -> Result<Json<wire::Scheduled>, Fault> {
    let help = r#"Send {"type": "koji_tag", "id": "f44-build-side-1", "release": "F44"}."#;
    let asked: wire::ScheduleCandidate = read(&body, help)?;
    let Some(kind) = CandidateKind::from_word(&asked.kind) else {
        let words = CandidateKind::ALL.map(CandidateKind::word).join(", ");
        return Err(Fault::bad(format!("There is no type {:?}; there are {words}.", asked.kind), help));
    };
    let choice = app.choice(asked.force, &asked.flavors, &asked.arches, asked.settings);
    let candidate = Candidate { kind, id: asked.id, revision: String::new(), release: asked.release };
    let (candidate, planned) = app.plan_candidate(candidate, &choice).await.map_err(fault)?;
    let posts = app.schedule_now(&sender.name, kind.word(), &body, planned, asked.dry_run).await?;
    Ok(Json(wire::Scheduled { item: format!("{} {}", kind.word(), candidate.id), posts }))
}

async fn releases(State(app): State<Arc<App>>) -> Result<Json<Vec<wire::ReleaseLife>>, Fault> {
    let schedule = app.schedule().await.map_err(|trouble| match trouble {
        Trouble::Refused(why) => Fault::not_found(sentence(&why), "See docs/events.md."),
        other => fault(other),
    })?;
    let day = app.day();
    let one = |release: &assay_engine::compose::Release| wire::ReleaseLife {
        name: release.name.clone(),
        version: release.version.clone(),
        life: match release.life(day) {
            Life::Rawhide => "rawhide",
            Life::Branched => "branched",
            Life::Current => "current",
            Life::Ended => "ended",
        }
        .to_owned(),
    };
    Ok(Json(schedule.releases.iter().map(one).collect()))
}

fn settings_of(planned: &Planned) -> BTreeMap<String, String> {
    match &planned.effect {
        PlannedEffect::Product { settings } | PlannedEffect::Job { settings, .. } => settings.clone(),
        _ => BTreeMap::new(),
    }
}

impl App {
    fn choice(
        &self,
        force: bool,
        flavors: &[String],
        arches: &[String],
        extra: BTreeMap<String, String>,
    ) -> Choice {
        let force = force.then(|| self.clock.now().0.to_string());
        let extra = extra.into_iter().map(|(key, value)| (key.to_uppercase(), value)).collect();
        Choice { flavors: flavors.to_vec(), arches: arches.to_vec(), force, extra }
    }

    /// Stores what somebody wants posted, as an event of its own, and waits a little for what comes of it.
    async fn schedule_now(
        self: &Arc<Self>,
        by: &str,
        what: &str,
        asked: &[u8],
        planned: Vec<Planned>,
        dry_run: bool,
    ) -> Result<Vec<wire::ScheduledPost>, Fault> {
        let keys: Vec<String> = planned.iter().map(|one| one.key.clone()).collect();
        let mut before = self.store.events().effects_by_key(&keys).await?;
        // What was refused or only written down may be possible by now.
        let is_open =
            |effect: &StoredEffect| matches!(effect.state, EffectState::Refused | EffectState::Logged);
        let any_open = before.iter().any(is_open);
        let there: BTreeSet<String> = before.iter().map(|effect| effect.planned.key.clone()).collect();
        before.retain(|effect| !is_open(effect));
        let known: BTreeSet<String> = before.iter().map(|effect| effect.planned.key.clone()).collect();
        let unknown: Vec<Planned> = planned.iter().filter(|one| !there.contains(&one.key)).cloned().collect();
        if !dry_run && any_open {
            self.store.events().reopen_effects(self.outside.epoch, &keys, self.clock.now()).await?;
            self.outside.planned.notify_one();
        }
        if !dry_run && !unknown.is_empty() {
            let epoch = self.outside.epoch;
            let now = self.clock.now();
            let key = uuid::Uuid::new_v4().to_string();
            let message = assay_store::NewMessage {
                dedupe_key: key.clone(),
                topic: format!("assay.schedule.{what}"),
                headers: json!({"by": by}).to_string(),
                body: String::from_utf8_lossy(asked).into_owned(),
                sent_at: Some(now),
                parked: None,
                news: None,
                news_since: None,
            };
            let from = assay_store::MessageSource {
                name: BY_HAND,
                bus: BY_HAND,
                role: assay_store::SourceRole::Bus,
            };
            self.store.events().receive_messages(epoch, &from, now, &[message], &[]).await?;
            let event = self.store.events().message_id(BY_HAND, &key).await?.unwrap_or_default();
            let nothing = EffectsDone { keys: Vec::new(), state: EffectState::Done, caused: String::new() };
            self.store.events().expand_effect(epoch, now, event, &nothing, &unknown).await?;
            self.audit(by, "schedule", json!({"what": what, "posts": unknown.len()}));
            self.outside.arrived.notify_one();
            self.outside.planned.notify_one();
        }
        let stored = if dry_run { before } else { self.settled(&keys).await? };
        let waiting = self.outside.state().waiting.clone();
        let post = |one: &Planned| {
            let shown = stored.iter().find(|effect| effect.planned.key == one.key);
            let shown = shown.map(|stored| effect(stored, waiting.get(&one.key)));
            let refused = if dry_run && shown.is_none() { self.would_refuse(one) } else { None };
            wire::ScheduledPost {
                key: one.key.clone(),
                what: one.effect.summary(),
                settings: settings_of(one),
                known: known.contains(&one.key),
                state: shown.as_ref().map(|effect| effect.state.clone()),
                jobs: shown.as_ref().map(|effect| effect.jobs.clone()).unwrap_or_default(),
                why: refused.or_else(|| shown.and_then(|effect| effect.why)),
            }
        };
        Ok(planned.iter().map(post).collect())
    }

    /// The effects once none of them waits, or after some seconds.
    async fn settled(&self, keys: &[String]) -> Result<Vec<StoredEffect>, Fault> {
        const LOOKS: u32 = 100;
        let mut stored = Vec::new();
        for _ in 0..LOOKS {
            stored = self.store.events().effects_by_key(keys).await?;
            if stored.iter().all(|effect| effect.state != EffectState::Waiting) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(stored)
    }
}
