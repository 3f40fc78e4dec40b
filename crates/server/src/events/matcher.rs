//! Lets the rules see every message, once.

use crate::app::App;
use assay_engine::rules::{Message, Plan, Planned, RuleSet, plan};
use assay_store::{Epoch, Matched, PANICKED, SourceRole, StoredMessage};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

/// Messages in one transaction.
const TOGETHER: u32 = 512;
/// The pause after a failure of the store.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(app: Arc<App>, epoch: Epoch) {
    loop {
        let arrived = app.outside.arrived.notified();
        let more = match match_some(&app, epoch).await {
            Ok(count) => count == TOGETHER as usize,
            Err(error) => {
                tracing::warn!(%error, "rules cannot be applied; it is tried again");
                tokio::select! {
                    () = app.shutdown.cancelled() => return,
                    () = tokio::time::sleep(PAUSE) => {}
                }
                true
            }
        };
        if more {
            if app.shutdown.is_cancelled() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = arrived => {}
        }
    }
}

async fn match_some(app: &App, epoch: Epoch) -> Result<usize, assay_store::StoreError> {
    let messages = app.store.events().unmatched(TOGETHER).await?;
    if messages.is_empty() {
        return Ok(0);
    }
    let rules = app.outside.rules();
    let mut matched = Vec::new();
    for stored in &messages {
        matched.push(match match_message(app, stored).await? {
            Ok(message) => match_one(&rules, stored, &message),
            Err(why) => parked(stored, format!("the stored message cannot be read: {why}")),
        });
    }
    app.store.events().match_messages(epoch, app.clock.now(), &matched).await?;
    if matched.iter().any(|one| !one.effects.is_empty()) {
        app.outside.planned.notify_one();
    }
    Ok(messages.len())
}

/// The message as rules see it.
pub(super) fn message(stored: &StoredMessage) -> Result<Message, String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let (headers, body) = (parse(&stored.message.headers)?, parse(&stored.message.body)?);
    let new = &stored.message;
    Ok(Message::new(&stored.source, &stored.bus, &new.dedupe_key, &new.topic, headers, body))
}

/// The same; if a poller told of it before the bus did, it is about what the poller told.
async fn match_message(
    app: &App,
    stored: &StoredMessage,
) -> Result<Result<Message, String>, assay_store::StoreError> {
    let found = message(stored);
    if !found.as_ref().is_ok_and(Message::is_told_twice) {
        return Ok(found);
    }
    let pollers: Vec<&str> = app.outside.settings.get().map_or_else(Vec::new, |settings| {
        let names = settings.sources.keys().map(String::as_str);
        names.filter(|name| settings.role(name) == SourceRole::Reconciles).collect()
    });
    let first = app.store.events().told_before(stored.id, &pollers, super::sources::NEAR).await?;
    Ok(match first {
        Some((bus, key)) => found.map(|message| message.first_told_as(&bus, &key)),
        None => found,
    })
}

fn parked(stored: &StoredMessage, why: String) -> Matched {
    Matched { event: stored.id, caused: why, parked: true, failed: Vec::new(), effects: Vec::new() }
}

fn match_one(rules: &RuleSet, stored: &StoredMessage, message: &Message) -> Matched {
    let planned = std::panic::catch_unwind(AssertUnwindSafe(|| plan(rules, message)));
    let Ok(Plan { effects, matched, failed }) = planned else {
        tracing::error!(event = stored.id, "a rule panicked over this event");
        return parked(stored, format!("{PANICKED}; report it as a bug with the rules and the message"));
    };
    let again = |effect: Planned| match stored.generation {
        0 => effect,
        generation => effect.again(generation),
    };
    let effects: Vec<Planned> = effects.into_iter().map(again).collect();
    for (rule, why) in &failed {
        tracing::warn!(event = stored.id, rule, why, "a rule matches and cannot be carried out");
    }
    let whys: Vec<Value> = failed.iter().map(|(rule, why)| json!({"rule": rule, "why": why})).collect();
    let keys: Vec<&str> = effects.iter().map(|effect| effect.key.as_str()).collect();
    let caused = json!({"rules": rules.hash, "matched": matched, "failed": whys, "effects": keys});
    let failed = failed.into_iter().map(|(rule, _)| rule).collect();
    Matched { event: stored.id, caused: caused.to_string(), parked: false, failed, effects }
}
