//! What happened to a change, and why, in order.

use super::gate_view::{self, said};
use crate::app::App;
use crate::fault::Fault;
use crate::present::reason_of;
use crate::web::frame::rfc3339;
use assay_engine::gate::config::ReportAction;
use assay_engine::gate::ids::{ChangeId, ItemId, JobName, SourceName};
use assay_engine::gate::io::{BuildResult, Report};
use assay_engine::gate::item::{Item, ItemOutcome, ItemPhase, MergeState};
use assay_engine::gate::reason::Wait;
use assay_engine::gate::snapshot::Snapshot;
use assay_engine::ids::Timestamp;
use assay_proto::api::gate as api;
use assay_store::{
    EntryState, EventState, StoredBuild, StoredBuildset, StoredEvent, StoredReceipt, StoredReport,
};
use std::collections::BTreeSet;

/// Items of a change that are shown: the newest.
const ITEMS: u32 = 50;
/// Events of a change that are shown: the newest.
const EVENTS: u32 = 500;

/// An item's number in an address.
pub(crate) fn item_id(text: &str) -> Result<ItemId, Fault> {
    let number = text.parse().ok().filter(|&number: &i64| number > 0);
    number
        .map(ItemId)
        .ok_or_else(|| Fault::not_found(format!("{text:?} is not an item's number."), "Use digits only."))
}

/// The change that is meant: of the source named, or of the only one that knows the number.
pub(crate) async fn find(app: &App, source: Option<&str>, number: &str) -> Result<ChangeId, Fault> {
    let digits = number.split(',').next().unwrap_or_default();
    let number: u64 = digits
        .parse()
        .map_err(|_| Fault::not_found(format!("{number:?} is not a change's number."), "Use digits only."))?;
    if let Some(source) = source {
        return Ok(ChangeId { source: source.into(), number });
    }
    let snapshot = app.gate();
    let mut sources: BTreeSet<SourceName> =
        snapshot.config.pipelines.iter().map(|pipeline| pipeline.source.clone()).collect();
    sources.extend(snapshot.changes.keys().map(|change| change.source.clone()));
    let mut found = Vec::new();
    for source in &sources {
        if sources.len() == 1 || is_known(app, &snapshot, source, number).await? {
            found.push(source.clone());
        }
    }
    match found.as_slice() {
        [source] => Ok(ChangeId { source: source.clone(), number }),
        [] => Err(unknown(number)),
        several => {
            let names: Vec<&str> = several.iter().map(SourceName::as_str).collect();
            let help = format!("Name the source: {}.", names.join(", "));
            Err(Fault::bad(format!("Several sources have a change {number}."), help))
        }
    }
}

async fn is_known(app: &App, snapshot: &Snapshot, source: &SourceName, number: u64) -> Result<bool, Fault> {
    let id = ChangeId { source: source.clone(), number };
    Ok(snapshot.changes.contains_key(&id)
        || !app.store.gate().items_of_change(source, number, 1).await?.is_empty()
        || !app.store.gate().events_of_change(source, number, 1).await?.is_empty())
}

fn unknown(number: u64) -> Fault {
    Fault::not_found(
        format!("Nothing is known of change {number}."),
        "No event about it has come; `assay pipeline enqueue` lets a change in by hand.",
    )
}

/// The items of a change that have not ended. Of a job that waits for a worker, what the scheduler says of it is told, too.
pub(crate) async fn now(app: &App, change: &ChangeId) -> Result<Vec<api::ItemStatus>, Fault> {
    let snapshot = app.gate();
    let now = app.clock.now();
    let mut items = Vec::new();
    for item in snapshot.items.values().filter(|item| item.has_change(change)) {
        let mut shown = gate_view::item(&snapshot, item, now);
        for (said, wait) in shown.why.iter_mut().zip(snapshot.why(item.id)) {
            let Wait::Worker { job, .. } = wait else { continue };
            if let Some(scheduler) = scheduled(app, item, &job).await? {
                said.text = format!("{}: {scheduler}", said.text);
                if let Some(reason) = said.reason.as_object_mut() {
                    reason.insert("scheduler".to_owned(), scheduler.into());
                }
            }
        }
        items.push(shown);
    }
    Ok(items)
}

/// Why the job of a build waits.
async fn scheduled(app: &App, item: &Item, job: &JobName) -> Result<Option<String>, Fault> {
    let build = item.buildset.jobs.iter().find(|own| own.job == *job).and_then(|own| own.state.build());
    let Some(build) = build else { return Ok(None) };
    let Some(id) = app.store.gate().job_of_build(build.uuid).await? else { return Ok(None) };
    Ok(app.store.job(id).await?.as_ref().and_then(reason_of))
}

/// What a change waits for, or what has been decided about it; a change that nothing is known of is refused.
pub(crate) async fn why(app: &App, id: &ChangeId) -> Result<api::ChangeWhy, Fault> {
    let items = now(app, id).await?;
    if !items.is_empty() {
        return Ok(api::ChangeWhy { items, last: Vec::new() });
    }
    let mut last: Vec<api::Happened> = Vec::new();
    let events = change(app, id).await?.events;
    // What was decided comes before what an event has lacked, however late that was.
    for kinds in [&["ignored", "ended"][..], &["missed"]] {
        for event in events.iter().rev().filter(|event| kinds.contains(&event.kind.as_str())) {
            if last.iter().all(|later| later.pipeline != event.pipeline) {
                last.push(event.clone());
            }
        }
    }
    Ok(api::ChangeWhy { items, last })
}

/// Everything about a change.
pub(crate) async fn change(app: &App, id: &ChangeId) -> Result<api::ChangeHistory, Fault> {
    let store = app.store.gate();
    let snapshot = app.gate();
    let now_at = app.clock.now();
    let stored = store.items_of_change(&id.source, id.number, ITEMS).await?;
    let received = store.events_of_change(&id.source, id.number, EVENTS).await?;
    let facts = snapshot.changes.get(id);
    if stored.is_empty() && received.is_empty() && facts.is_none() {
        return Err(unknown(id.number));
    }
    let mut happened: Vec<(Timestamp, api::Happened)> = Vec::new();
    // They come newest first, and those that were received together have one time.
    happened.extend(received.iter().rev().flat_map(event));
    let (mut items, mut receipts) = (Vec::new(), Vec::new());
    for one in &stored {
        let buildsets = store.buildsets(one.id).await?;
        let builds = store.builds_of_item(one.id).await?;
        happened.extend(of_item(one, &buildsets, &builds));
        let mut shown = gate_view::item(&snapshot, one, now_at);
        shown.jobs = all_builds(one, &shown.jobs, &builds);
        for build in &builds {
            happened.extend(of_build(one, build));
        }
        for report in store.reports_of_item(one.id).await? {
            happened.push(of_report(one, &report));
        }
        for receipt in store.receipts_of_item(one.id).await? {
            happened.push(of_receipt(one, &receipt));
            receipts.push(self::receipt(app, one, &receipt));
        }
        items.push(shown);
    }
    // The sort is stable: what has one time stays in the order of its causes, and what ended an item comes after it.
    happened.sort_by_key(|(at, happened)| (*at, happened.kind == "ended"));
    let own = stored.iter().flat_map(|item| &item.changes).find(|own| own.merge.patchset.change == *id);
    Ok(api::ChangeHistory {
        source: id.source.to_string(),
        number: id.number,
        subject: facts.map(|facts| facts.subject.clone()).or_else(|| own.map(|own| own.subject.clone())),
        url: facts.and_then(|facts| facts.url.clone()).or_else(|| own.and_then(|own| own.url.clone())),
        now: now(app, id).await?,
        events: happened.into_iter().map(|(_, happened)| happened).collect(),
        items,
        receipts,
    })
}

/// The jobs as they stand, and every other build of the item.
fn all_builds(item: &Item, jobs: &[api::BuildStatus], builds: &[StoredBuild]) -> Vec<api::BuildStatus> {
    let current: BTreeSet<&str> = jobs.iter().filter_map(|job| job.uuid.as_deref()).collect();
    let others = builds.iter().filter(|build| !current.contains(build.uuid.to_string().as_str()));
    let mut all: Vec<_> = others.map(|build| gate_view::stored_build(item, build)).collect();
    all.extend(jobs.iter().cloned());
    all.sort_by_key(|build| build.buildset);
    all
}

fn happened(at: Timestamp, kind: &str, item: Option<&Item>, text: String) -> (Timestamp, api::Happened) {
    let happened = api::Happened {
        at: rfc3339(at),
        kind: kind.to_owned(),
        item: item.map(|item| item.id.0),
        pipeline: item.map(|item| item.pipeline.to_string()),
        text,
        mood: String::new(),
        href: None,
        details: None,
    };
    (at, happened)
}

fn in_mood(mut entry: (Timestamp, api::Happened), mood: &str) -> (Timestamp, api::Happened) {
    mood.clone_into(&mut entry.1.mood);
    entry
}

/// An event, and what it came to in each pipeline.
fn event(event: &StoredEvent) -> Vec<(Timestamp, api::Happened)> {
    let body: serde_json::Value = serde_json::from_str(&event.body).unwrap_or_default();
    let inner = body.get("event").unwrap_or(&body);
    let text = match inner["kind"].as_str() {
        Some(kind) => {
            let by = ["name", "username", "email"].iter().find_map(|key| inner["by"][*key].as_str());
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            let patchset = inner["change"]["patchset"]
                .as_u64()
                .map(|number| format!(", patchset {number}"))
                .unwrap_or_default();
            format!("{} said {kind}{by}{patchset}", event.source)
        }
        None => format!("{} said that something about the change is different", event.source),
    };
    let mut entry = happened(event.received_at, "event", None, text);
    entry.1.details = inner["comment"].as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let mut all = vec![entry];
    match event.state {
        EventState::Received => {
            let text = "nothing is decided about it yet".to_owned();
            all.push(happened(event.received_at, "ignored", None, text));
        }
        EventState::Consumed => all.extend(caused(event)),
        EventState::Parked => {
            let why = event.caused.clone().unwrap_or_default();
            let text = format!("it was put aside: {why}");
            all.push(in_mood(happened(event.received_at, "ignored", None, text), "bad"));
        }
    }
    all
}

/// A pipeline that an event let nothing into.
struct Unmoved {
    pipeline: String,
    why: String,
    /// None of its triggers matches; true if one is for such events.
    no_trigger: Option<bool>,
}

fn unmoved(caused: &serde_json::Value) -> Vec<Unmoved> {
    let read = |entry: &serde_json::Value| {
        let ignored = &entry["ignored"];
        let listens = ignored["listens"].as_bool().unwrap_or(false);
        Some(Unmoved {
            pipeline: entry["pipeline"].as_str()?.to_owned(),
            why: entry["why"].as_str()?.to_owned(),
            no_trigger: (ignored["ignored"] == "no_trigger").then_some(listens),
        })
    };
    caused["pipelines"].as_array().into_iter().flatten().filter_map(read).collect()
}

fn not_in(event: &StoredEvent, one: Unmoved) -> (Timestamp, api::Happened) {
    // What an event lacks is no decision about the change: another comment says nothing of the last one.
    let kind = if one.no_trigger.is_some() { "missed" } else { "ignored" };
    let text = format!("not in {}: {}", one.pipeline, one.why);
    let (at, entry) = happened(event.received_at, kind, None, text);
    (at, api::Happened { pipeline: Some(one.pipeline), ..entry })
}

/// Why an event let nothing into a pipeline. What it let in speaks for itself.
fn caused(event: &StoredEvent) -> Vec<(Timestamp, api::Happened)> {
    let caused: serde_json::Value =
        event.caused.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    if let Some(why) = caused["refused"].as_str() {
        return vec![in_mood(happened(event.received_at, "ignored", None, why.to_owned()), "bad")];
    }
    // What no trigger of a pipeline is for is no news of a change: all of them in one line.
    let (deaf, others): (Vec<_>, Vec<_>) =
        unmoved(&caused).into_iter().partition(|one| one.no_trigger == Some(false));
    let mut all: Vec<_> = others.into_iter().map(|one| not_in(event, one)).collect();
    if !deaf.is_empty() {
        let names: Vec<&str> = deaf.iter().map(|one| one.pipeline.as_str()).collect();
        let verb = if names.len() == 1 { "does" } else { "do" };
        let text = format!("{} {verb} not listen to this", names.join(", "));
        let (at, mut entry) = happened(event.received_at, "unheard", None, text);
        let reasons: Vec<String> = deaf.iter().map(|one| format!("{}: {}", one.pipeline, one.why)).collect();
        entry.details = Some(reasons.join("\n"));
        all.push((at, entry));
    }
    all
}

/// An item's way from its beginning to its end.
fn of_item(
    item: &Item,
    buildsets: &[StoredBuildset],
    builds: &[StoredBuild],
) -> Vec<(Timestamp, api::Happened)> {
    let text = format!("let into {} (queue {}): {}", item.pipeline, item.queue, item.because);
    let mut all = vec![happened(item.enqueued_at, "enqueued", Some(item), text)];
    if let MergeState::Failed(why) = &item.buildset.state {
        let at = ended_at(item).unwrap_or(item.enqueued_at);
        all.push(in_mood(happened(at, "buildset", Some(item), why.to_string()), "bad"));
    }
    for buildset in buildsets.iter().filter(|buildset| buildset.number > 1) {
        let because = buildset.because.as_ref().map(ToString::to_string).unwrap_or_default();
        let text = format!("tested anew (buildset {}): {because}", buildset.number);
        all.push(happened(buildset_at(item, buildset, builds), "buildset", Some(item), text));
    }
    if let ItemPhase::Landing { since, .. } = &item.phase {
        all.push(happened(*since, "ended", Some(item), "everything passed; it is being landed".to_owned()));
    }
    let ItemPhase::Ended(end) = &item.phase else { return all };
    let why = end.failures.first().map(|failure| said(failure).text).unwrap_or_default();
    let (text, mood) = match &end.outcome {
        ItemOutcome::Landed { tips } => {
            let tips: Vec<&str> = tips.iter().map(|tip| tip.commit.as_str()).collect();
            (format!("landed as {}", tips.join(", ")), "ok")
        }
        ItemOutcome::Passed => (format!("passed {}", item.pipeline), "ok"),
        ItemOutcome::Failed => (format!("failed {}: {why}", item.pipeline), "bad"),
        ItemOutcome::Refused { reason } => (format!("refused: {reason}"), "bad"),
        ItemOutcome::Evicted { reason } => (format!("taken out of {}: {reason}", item.pipeline), ""),
    };
    all.push(in_mood(happened(end.at, "ended", Some(item), text), mood));
    all
}

fn ended_at(item: &Item) -> Option<Timestamp> {
    match &item.phase {
        ItemPhase::Ended(end) => Some(end.at),
        ItemPhase::Testing | ItemPhase::Landing { .. } => None,
    }
}

/// No time is stored of a buildset: it is not later than its first build.
fn buildset_at(item: &Item, buildset: &StoredBuildset, builds: &[StoredBuild]) -> Timestamp {
    let own = builds.iter().filter(|build| build.buildset >= buildset.number);
    own.map(|build| build.asked_at).min().or_else(|| ended_at(item)).unwrap_or(item.enqueued_at)
}

fn of_build(item: &Item, build: &StoredBuild) -> Vec<(Timestamp, api::Happened)> {
    let shown = gate_view::stored_build(item, build);
    let voting = if build.voting { "" } else { " (non-voting)" };
    let what = format!("{}{voting}", build.job);
    let mut all = Vec::new();
    if let Some(at) = build.started_at {
        all.push(happened(at, "build", Some(item), format!("{what} began")));
    }
    if let (Some(at), Some(result)) = (build.ended_at, &build.result) {
        let why = result.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let mood = match () {
            () if BuildResult::is_success(result) => "ok",
            () if build.voting => "bad",
            () => "",
        };
        all.push(in_mood(
            happened(at, "build", Some(item), format!("{what} ended: {}{why}", result.word)),
            mood,
        ));
    }
    for (_, entry) in &mut all {
        entry.href.clone_from(&shown.log);
    }
    all
}

fn of_report(item: &Item, stored: &StoredReport) -> (Timestamp, api::Happened) {
    let what = target(&stored.report);
    let note = |around: (&str, &str)| {
        stored.note.as_ref().map(|note| format!("{}{note}{}", around.0, around.1)).unwrap_or_default()
    };
    let at = stored.ended_at.or(ended_at(item)).unwrap_or(item.enqueued_at);
    let (text, mood) = match stored.state {
        EntryState::Delivered => (format!("told {what}{}", note((" (", ")"))), ""),
        EntryState::Skipped => (format!("{what} is not told{}", note((": ", ""))), ""),
        EntryState::Waiting if stored.attempts == 0 => (format!("about to tell {what}"), ""),
        EntryState::Waiting => {
            let why = note((": ", ""));
            (format!("could not tell {what} yet, {} tries{why}", stored.attempts), "bad")
        }
        EntryState::Refused => (format!("{what} cannot be told{}", note((": ", ""))), "bad"),
        EntryState::Dropped => (format!("{what} is not told{}", note((": ", ""))), "bad"),
    };
    let (at, mut entry) = in_mood(happened(at, "report", Some(item), text), mood);
    entry.details = Some(stored.report.message.clone());
    (at, entry)
}

fn target(report: &Report) -> String {
    match &report.action {
        ReportAction::Review { source, labels, .. } => {
            let votes: Vec<_> = labels
                .iter()
                .map(
                    |(label, value)| {
                        if *value == 0 { format!("{label} 0") } else { format!("{label} {value:+}") }
                    },
                )
                .collect();
            if votes.is_empty() { source.to_string() } else { format!("{source}: {}", votes.join(", ")) }
        }
        ReportAction::Mail { to, .. } => to.clone(),
        ReportAction::Sql { source, .. } => source.to_string(),
    }
}

fn of_receipt(item: &Item, receipt: &StoredReceipt) -> (Timestamp, api::Happened) {
    let text = format!("receipt of {} on {} {} signed", receipt.commit, receipt.project, receipt.branch);
    let (at, mut entry) = in_mood(happened(receipt.signed_at, "receipt", Some(item), text), "ok");
    entry.href = Some(receipt_href(receipt));
    (at, entry)
}

fn receipt_href(receipt: &StoredReceipt) -> String {
    format!("/api/assay/v1/receipts/{}/{}", receipt.item, receipt.commit)
}

/// A receipt and whether it is valid by the server's own key.
fn receipt(app: &App, item: &Item, stored: &StoredReceipt) -> api::ReceiptStatus {
    let problem = app.check_receipt(item, stored).err();
    api::ReceiptStatus {
        item: stored.item.0,
        project: stored.project.to_string(),
        branch: stored.branch.to_string(),
        commit: stored.commit.to_string(),
        signed: rfc3339(stored.signed_at),
        published: stored.published_at.map(rfc3339),
        trouble: stored.last_error.clone().filter(|_| stored.published_at.is_none()),
        valid: problem.is_none(),
        problem,
        href: receipt_href(stored),
    }
}
