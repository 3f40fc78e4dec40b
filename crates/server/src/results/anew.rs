//! Deciding again: whenever something new is known of a subject, a waiver expires, a rule begins or ends to be valid, or
//! policies or templates are other ones.
//!
//! What is to be decided about is stored with what makes it so, and stays until it has been decided: whoever leads next
//! goes on with it.

use super::decisions::{subjects_of, templates};
use super::hashed;
use crate::app::App;
use crate::catalog::Catalog;
use crate::gate::Pauses;
use assay_engine::decision::{Policies, Subject};
use assay_engine::ids::Timestamp;
use assay_store::{NewResult, ResultFilter, Store, StoreError, Undecided};
use base64::Engine as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// What those have in common who decide: the task that decides again, and whoever is asked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Wakes the task.
    come: Notify,
    /// Held by who decides what is to be remembered.
    deciding: Mutex<()>,
    /// Subjects about which was decided without what others know.
    doubts: std::sync::Mutex<BTreeMap<Subject, Doubt>>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Timestamp,
    /// When it is decided about again; that is stored.
    due: Timestamp,
}

/// So soon something that is in doubt is decided about again; later after twice the time, and twice that.
const SOON: i64 = 60;
/// No later than so many seconds after the last time.
const AT_LAST: i64 = 3_600;
/// What nobody could say for so many seconds nobody will.
const HOPELESS: i64 = 24 * 3_600;

/// When to decide again about what is in doubt since then.
fn again(since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let seconds = now.micros_since(since) / 1_000_000;
    (seconds < HOPELESS).then(|| now.plus_seconds(seconds.clamp(SOON, AT_LAST)))
}

impl News {
    /// Waits until nobody else decides what is to be remembered.
    pub(super) async fn deciding(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock().await
    }
}

impl super::Results {
    /// Something is to be decided about, or the clock was moved.
    pub(crate) fn wake(&self) {
        self.news.come.notify_one();
    }

    /// What was decided about a subject may be otherwise once others answer: it is decided about again. Whoever comes after
    /// this process begins with the first pause again.
    pub(super) async fn doubt(
        &self,
        store: &dyn Store,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let before = self.doubts().get(subject).copied();
        if before.is_some_and(|before| before.due > now) {
            return Ok(());
        }
        let since = before.map_or(now, |before| before.since);
        let Some(due) = again(since, now) else {
            tracing::warn!(
                item = subject.item,
                "what its decision needs from elsewhere could not be had for a day"
            );
            self.is_clear(subject);
            return Ok(());
        };
        store.results().decide_again(self.epoch, std::slice::from_ref(subject), due).await?;
        self.doubts().insert(subject.clone(), Doubt { since, due });
        Ok(())
    }

    /// Everything was known that was needed for a subject.
    pub(super) fn is_clear(&self, subject: &Subject) {
        self.doubts().remove(subject);
    }

    fn doubts(&self) -> std::sync::MutexGuard<'_, BTreeMap<Subject, Doubt>> {
        self.news.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These results have been stored.
    pub(crate) fn found(&self, results: &[NewResult]) {
        if results.iter().any(|result| !result.subjects.is_empty()) {
            self.wake();
        }
    }
}

/// Subjects that are read at once: what is new goes first, and waits for no more than these.
const TOGETHER: u32 = 100;
/// Between the beginnings of two looks: what comes thick and fast is decided about once, not with each piece of it.
const APART: Duration = Duration::from_millis(100);
/// So many seconds later it is tried again to decide about what nothing could be decided about.
const LATER: i64 = 30;
/// The longest sleep: clocks may be set.
const LOOK: Duration = Duration::from_secs(30);
/// When policies change, what was decided about in so many days is decided about again.
const DAYS: i64 = 30;
/// Then what so many results are about is, too: a new policy may be the first that wants something of it.
const RESULTS: u32 = 5_000;

/// By what was decided when it was looked at last.
struct Basis {
    policies: Arc<Policies>,
    catalog: Arc<Catalog>,
    /// When rules begin or end to be valid.
    next: Option<Timestamp>,
}

/// Decides again until the server ends.
pub(crate) async fn follow(app: Arc<App>, pauses: Pauses) {
    let mut basis = None;
    let mut failures = 0;
    loop {
        let apart = tokio::time::sleep(APART);
        let looked = tokio::select! {
            () = app.shutdown.cancelled() => return,
            looked = look(&app, &mut basis) => looked,
        };
        let pause = match looked {
            Ok(next) => {
                failures = 0;
                let until = |at: Timestamp| at.micros_since(app.clock.now()).unsigned_abs();
                let wait = next.map_or(LOOK, |at| Duration::from_micros(until(at)));
                wait.clamp(Duration::from_millis(1), LOOK)
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, "not everything could be decided anew; it is tried again");
                pauses.after(failures)
            }
        };
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = app.results.news.come.notified() => {}
            () = app.library.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = apart => {}
        }
    }
}

/// Decides about what is due; when to look again.
async fn look(app: &App, basis: &mut Option<Basis>) -> Result<Option<Timestamp>, StoreError> {
    let change = look_at_policies(app, basis).await?;
    loop {
        let due = app.store.results().undecided(app.clock.now(), TOGETHER).await?;
        let more = due.len() == TOGETHER as usize;
        decide_about(app, due).await?;
        if !more {
            break;
        }
    }
    let due = app.store.results().next_undecided(app.clock.now()).await?;
    Ok(due.into_iter().chain(change).min())
}

/// Decides about these. What fails does not stop the others: it is put off, so that those that are due behind it come first.
async fn decide_about(app: &App, due: Vec<Undecided>) -> Result<(), StoreError> {
    let mut subjects: BTreeMap<Subject, Vec<Undecided>> = BTreeMap::new();
    for one in due {
        subjects.entry(one.subject.clone()).or_default().push(one);
    }
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (subject, these) in subjects {
        match app.decide_anew(&subject, None).await {
            Ok(()) => {}
            Err(StoreError::Deposed) => return Err(StoreError::Deposed),
            Err(error) => {
                tracing::warn!(item = subject.item, %error, "it cannot be decided anew yet");
                failed.push(subject);
            }
        }
        done.extend(these);
    }
    let (results, epoch) = (app.store.results(), app.results.epoch());
    if !failed.is_empty() {
        results.decide_again(epoch, &failed, app.clock.now().plus_seconds(LATER)).await?;
    }
    // Last: whoever ends before decides once more.
    if done.is_empty() { Ok(()) } else { results.was_decided(epoch, &done).await }
}

/// Has everything decided about that other policies, templates or valid rules may decide otherwise; when the next rule
/// begins or ends to be valid.
async fn look_at_policies(app: &App, basis: &mut Option<Basis>) -> Result<Option<Timestamp>, StoreError> {
    let (policies, catalog) = (app.results.settings().decisions.clone(), app.library.now());
    let now = app.clock.now();
    if let Some(basis) = basis
        && Arc::ptr_eq(&basis.policies, &policies)
        && (Arc::ptr_eq(&basis.catalog, &catalog) || !policies.look_at_templates())
        && basis.next.is_none_or(|next| now < next)
    {
        return Ok(basis.next);
    }
    let made = if policies.look_at_templates() { templates(&catalog) } else { Vec::new() };
    let brief = |(context, text): (String, String)| {
        (context, base64::engine::general_purpose::STANDARD.encode(hashed(text.as_bytes())))
    };
    let bases: BTreeMap<String, String> = policies.bases(&made, now).into_iter().map(brief).collect();
    let before = app.store.results().decision_bases().await?;
    if bases != before {
        let is_other = |(context, basis): &(&String, &String)| before.get(*context) != Some(*basis);
        let others: Vec<String> = bases.iter().filter(is_other).map(|(context, _)| context.clone()).collect();
        if !others.is_empty() {
            let subjects = concerned(app, &policies, &others, now).await?;
            tracing::info!(
                contexts = others.join(", "),
                subjects = subjects.len(),
                "policies are other ones"
            );
            for some in subjects.chunks(TOGETHER as usize) {
                app.store.results().decide_again(app.results.epoch(), some, now).await?;
            }
        }
        // Last: whoever ends before begins anew.
        app.store.results().put_decision_bases(app.results.epoch(), &bases).await?;
    }
    let next = policies.next_change(now);
    *basis = Some(Basis { policies, catalog, next });
    Ok(next)
}

/// What may be decided otherwise for these purposes: what was decided about not long ago, and what the newest results are
/// about.
async fn concerned(
    app: &App,
    policies: &Policies,
    contexts: &[String],
    now: Timestamp,
) -> Result<Vec<Subject>, StoreError> {
    let since = now.plus_seconds(-DAYS * 24 * 3600);
    let decided = app.store.results().decided_subjects(contexts, since).await?;
    let mut subjects: BTreeSet<Subject> = decided.into_iter().collect();
    let newest = ResultFilter { limit: RESULTS, ..ResultFilter::default() };
    for result in app.store.results().results(&newest).await? {
        subjects.extend(subjects_of(policies, &result.values()));
    }
    Ok(subjects.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        for (after, pause) in [
            (0, Some(60)),
            (60, Some(60)),
            (120, Some(120)),
            (7_200, Some(3_600)),
            (86_399, Some(3_600)),
            (86_400, None),
        ] {
            let (since, now) = (Timestamp(0), Timestamp(0).plus_seconds(after));
            assert_eq!(again(since, now), pause.map(|pause| now.plus_seconds(pause)), "{after}");
        }
    }
}
