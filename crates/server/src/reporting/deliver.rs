//! Telling one target, in order, until it has confirmed each.

use super::STAGED;
use super::tellers::{Letter, Teller};
use crate::app::App;
use crate::gate::Pauses;
use assay_connect::report::Told;
use assay_engine::ids::Timestamp;
use assay_store::{StoreError, StoredEntry, Tried};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Entries that are read at once.
const TOGETHER: u32 = 128;
/// The longest sleep: clocks may be set.
const LOOK: Duration = Duration::from_secs(30);

pub(super) async fn run(
    app: Arc<App>,
    target: String,
    mut teller: Teller,
    news: Arc<Notify>,
    pauses: Pauses,
) {
    // Whatever is there may have been told by an earlier server, which did not come to note it.
    let mut doubtful = None;
    loop {
        let looked = tokio::select! {
            () = app.shutdown.cancelled() => return,
            looked = look(&app, &target, &mut teller, &mut doubtful, pauses) => looked,
        };
        let pause = match looked {
            Ok(Next::Now) => continue,
            Ok(Next::At(at)) => {
                let wait = (at.0 - app.clock.now().0).max(0) as u64;
                Duration::from_micros(wait).clamp(Duration::from_millis(1), LOOK)
            }
            Ok(Next::News) => LOOK,
            Err(error) => {
                tracing::warn!(target, %error, "the outbox cannot be read or written; it is tried again");
                pauses.after(4)
            }
        };
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = news.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

enum Next {
    Now,
    At(Timestamp),
    News,
}

async fn look(
    app: &App,
    target: &str,
    teller: &mut Teller,
    doubtful: &mut Option<i64>,
    pauses: Pauses,
) -> Result<Next, StoreError> {
    let outbox = app.store.outbox();
    let entries = outbox.next_entries(target, TOGETHER).await?;
    let newest = if let Some(newest) = doubtful {
        *newest
    } else {
        let filter =
            assay_store::EntryFilter { target: Some(target.to_owned()), limit: 1, ..Default::default() };
        *doubtful.insert(outbox.entries(&filter).await?.first().map_or(0, |entry| entry.id))
    };
    let now = app.clock.now();
    let Some(first) = entries.first() else {
        app.reporting.report(target, "nothing to tell", None);
        return Ok(Next::News);
    };
    if let Some(at) = first.next_try.filter(|at| *at > now) {
        return Ok(Next::At(at));
    }
    let due = entries.into_iter().take_while(|entry| entry.next_try.is_none_or(|at| at <= now));
    let letters: Vec<Letter> = due
        .take(teller.together())
        .map(|entry| Letter { again: entry.attempts > 0 || entry.id <= newest, entry })
        .collect();
    app.reporting.report(target, "telling", None);
    let told = if app.reporting.is_staging() {
        letters.iter().map(|letter| staged(target, &letter.entry)).collect()
    } else {
        teller.tell(app, &letters).await
    };
    note(app, target, &letters, told, pauses).await
}

fn staged(target: &str, entry: &StoredEntry) -> Told {
    tracing::info!(target, kind = entry.kind, about = entry.about, body = entry.body, "staging: not sent");
    Told::Skipped(STAGED.to_owned())
}

/// Notes what came of the tries up to the first that has to wait: the rest is told after it, under the same keys.
async fn note(
    app: &App,
    target: &str,
    letters: &[Letter],
    told: Vec<Told>,
    pauses: Pauses,
) -> Result<Next, StoreError> {
    let now = app.clock.now();
    let mut tried = Vec::new();
    let mut next = Next::Now;
    for (letter, told) in letters.iter().zip(told) {
        let entry = &letter.entry;
        match told {
            Told::Done(note) => tried.push((entry.id, Tried::Done { at: now, note })),
            Told::Skipped(note) => tried.push((entry.id, Tried::Skipped { at: now, note })),
            Told::Never(error) => {
                tracing::warn!(target, entry = entry.id, about = entry.about, error, "it cannot be told");
                tried.push((entry.id, Tried::Never { error }));
            }
            Told::Later(error) => {
                let pause = pauses.after(entry.attempts + 1);
                let at = Timestamp(now.0.saturating_add(pause.as_micros() as i64));
                tracing::warn!(target, entry = entry.id, about = entry.about, error, "it cannot be told now");
                app.reporting.report(target, "waiting for the next try", Some(error.clone()));
                tried.push((entry.id, Tried::Later { at, error }));
                next = Next::At(at);
                break;
            }
        }
    }
    app.store.outbox().entries_tried(app.reporting.epoch, &tried).await?;
    Ok(next)
}

/// Removes what was told long ago, now and every hour.
pub(super) async fn prune(app: Arc<App>, days: u16) {
    const AT_ONCE: u32 = 1000;
    const DAY: i64 = 86_400;
    loop {
        let before = app.clock.now().plus_seconds(-i64::from(days) * DAY);
        while !app.shutdown.is_cancelled() {
            match app.store.outbox().prune_entries(app.reporting.epoch, before, AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be cleaned; it is tried again");
                    break;
                }
            }
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_hours(1)) => {}
        }
    }
}
