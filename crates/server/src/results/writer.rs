//! The one task that stores posted results.

use super::{Answer, Post, Posted, Same, hashed};
use crate::app::App;
use crate::company::Company;
use assay_store::{Epoch, NewResult, ResultFilter, ResultId, StoreError, StoredResult};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) type Incoming = mpsc::Receiver<Post>;

/// Results in one transaction.
const GROUP: usize = 256;

/// Posts that are remembered, in case they are repeated.
const MOST: usize = 300_000;
/// Results of before the start that are looked at for the same.
const MOST_BEFORE: u32 = 20_000;

/// What was posted a short while ago.
struct Recent {
    since: Instant,
    known: HashMap<Same, ResultId>,
    /// When each of them came, the oldest first.
    came: VecDeque<(Instant, Same)>,
    /// What was stored shortly before the start, by what it says: who posted it is not known any more.
    before: HashMap<Same, ResultId>,
}

impl Recent {
    /// With what is stored: a client may repeat what it had posted to the server before this one.
    async fn load(app: &App) -> Self {
        let window = app.results.settings().repeats;
        let since = app.clock.now().plus_seconds(-i64::try_from(window.as_secs()).unwrap_or(0));
        let filter = ResultFilter { since: Some(since), limit: MOST_BEFORE, ..ResultFilter::default() };
        let stored =
            if window.is_zero() { Ok(Vec::new()) } else { app.store.results().results(&filter).await };
        let stored = stored.unwrap_or_else(|error| {
            tracing::warn!(%error, "results are not known that may be posted again");
            Vec::new()
        });
        let before = stored.iter().map(|one| (of_stored(one), one.id)).collect();
        Self { since: Instant::now(), known: HashMap::new(), came: VecDeque::new(), before }
    }

    /// The result that this post has become before.
    fn before(&self, same: Same, new: &NewResult) -> Option<ResultId> {
        let known = self.known.get(&same);
        let stored = || if self.before.is_empty() { None } else { self.before.get(&of_new(new)) };
        known.or_else(stored).copied()
    }

    fn forget_old(&mut self, window: Duration) {
        if self.since.elapsed() > window {
            self.before = HashMap::new();
        }
        while let Some((came, same)) = self.came.front()
            && (came.elapsed() > window || self.came.len() > MOST)
        {
            self.known.remove(same);
            self.came.pop_front();
        }
    }

    fn remember(&mut self, same: Same, id: ResultId) {
        self.known.insert(same, id);
        self.came.push_back((Instant::now(), same));
    }
}

/// What a result says, hashed. A group without a name gets another one each time.
fn hash(
    (testcase, outcome): (&str, &str),
    texts: [Option<&str>; 2],
    data: &BTreeMap<String, Vec<String>>,
    groups: usize,
) -> Same {
    hashed(serde_json::json!([testcase, outcome, texts, data, groups]).to_string().as_bytes())
}

fn of_new(new: &NewResult) -> Same {
    let texts = [new.note.as_deref(), new.ref_url.as_deref()];
    hash((&new.testcase, &new.outcome), texts, &new.data, new.groups.len())
}

fn of_stored(stored: &StoredResult) -> Same {
    let groups: Vec<String> = serde_json::from_str(&stored.groups).unwrap_or_default();
    let texts = [stored.note.as_deref(), stored.ref_url.as_deref()];
    hash((&stored.testcase, &stored.outcome), texts, &stored.values(), groups.len())
}

/// Stores what comes until the server ends.
pub(crate) async fn write(app: Arc<App>, mut incoming: Incoming) {
    let epoch = app.results.epoch();
    let mut group = Vec::with_capacity(GROUP);
    let mut recent = Recent::load(&app).await;
    let mut company = Company::default();
    loop {
        let came = tokio::select! {
            came = incoming.recv_many(&mut group, GROUP) => came,
            () = app.shutdown.cancelled() => return,
        };
        if came == 0 {
            return;
        }
        company.gather(&mut incoming, &mut group, GROUP, |_| true).await;
        let came = group.len();
        let is_stored = || company.stored(came, incoming.len());
        store(&app, &mut recent, std::mem::take(&mut group), epoch, is_stored).await;
    }
}

async fn store(app: &App, recent: &mut Recent, group: Vec<Post>, epoch: Epoch, is_stored: impl FnOnce()) {
    let window = app.results.settings().repeats;
    recent.forget_old(window);
    let words: Vec<String> = group.iter().filter_map(|post| post.result.dedupe.clone()).collect();
    let mut known = BTreeMap::new();
    if !words.is_empty() {
        match app.store.results().deduped(&words).await {
            Ok(found) => known = found,
            Err(error) => {
                tracing::error!(%error, "results cannot be looked for");
                return refuse(group.into_iter().map(|post| post.answer), error);
            }
        }
    }
    let mut results: Vec<NewResult> = Vec::new();
    let mut answers = Vec::new();
    let mut again: HashMap<Same, ResultId> = HashMap::new();
    for Post { mut result, same, answer } in group {
        let before = same.and_then(|same| again.get(&same).copied().or_else(|| recent.before(same, &result)));
        if let Some(before) = before {
            answers.push((answer, before, false));
            continue;
        }
        if let Some(before) = result.dedupe.as_ref().and_then(|word| known.get(word)) {
            answers.push((answer, *before, false));
            continue;
        }
        result.id = app.results.number();
        app.note_subjects(&mut result);
        if let Some(word) = &result.dedupe {
            known.insert(word.clone(), ResultId(result.id));
        }
        again.extend(same.map(|same| (same, ResultId(result.id))));
        answers.push((answer, ResultId(result.id), true));
        results.push(result);
    }
    let told = app.reporting.of_results(&results, app.clock.now());
    let stored = if results.is_empty() {
        Ok(Vec::new())
    } else {
        app.store.results().add_told_results(epoch, &results, &told).await
    };
    let stored = match stored {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(%error, results = results.len(), "results cannot be stored");
            return refuse(answers.into_iter().map(|(answer, ..)| answer), error);
        }
    };
    is_stored(); // before anybody is answered, and comes again
    let mut stored: HashMap<ResultId, StoredResult> = stored.into_iter().map(|one| (one.id, one)).collect();
    for (answer, id, is_new) in answers {
        let new = if is_new { stored.remove(&id) } else { None };
        if is_new && new.is_none() {
            tracing::error!(result = id.0, "what was stored is not there");
        }
        let _ = answer.send(Ok(new.map_or(Posted::Before(id), |stored| Posted::New(Box::new(stored)))));
    }
    for (same, id) in again {
        recent.remember(same, id);
    }
    app.results.found(&results);
    app.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
}

fn refuse(answers: impl Iterator<Item = Answer>, error: StoreError) {
    let error = Arc::new(error);
    for answer in answers {
        let _ = answer.send(Err(error.clone()));
    }
}
