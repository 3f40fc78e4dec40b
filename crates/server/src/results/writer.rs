//! The one task that stores posted results.

use super::{Post, Posted};
use crate::app::App;
use assay_store::{Epoch, NewResult, ResultId, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

pub(crate) type Incoming = mpsc::Receiver<Post>;

/// Results in one transaction.
const GROUP: usize = 256;

/// Stores what comes until the server ends.
pub(crate) async fn write(app: Arc<App>, mut incoming: Incoming) {
    let epoch = app.results.epoch();
    let mut group = Vec::with_capacity(GROUP);
    loop {
        let came = tokio::select! {
            came = incoming.recv_many(&mut group, GROUP) => came,
            () = app.shutdown.cancelled() => return,
        };
        if came == 0 {
            return;
        }
        store(&app, std::mem::take(&mut group), epoch).await;
    }
}

async fn store(app: &App, group: Vec<Post>, epoch: Epoch) {
    let words: Vec<String> = group.iter().filter_map(|post| post.result.dedupe.clone()).collect();
    let mut known = BTreeMap::new();
    if !words.is_empty() {
        match app.store.results().deduped(&words).await {
            Ok(found) => known = found,
            Err(error) => return refuse(group, error),
        }
    }
    let mut results: Vec<NewResult> = Vec::new();
    let mut answers = Vec::new();
    for Post { mut result, answer } in group {
        if let Some(before) = result.dedupe.as_ref().and_then(|word| known.get(word)) {
            answers.push((answer, Posted::Before(*before)));
            continue;
        }
        result.id = app.results.number();
        if let Some(word) = &result.dedupe {
            known.insert(word.clone(), ResultId(result.id));
        }
        answers.push((answer, Posted::New(ResultId(result.id))));
        results.push(result);
    }
    let told = app.reporting.of_results(&results, app.clock.now());
    let stored = if results.is_empty() {
        Ok(())
    } else {
        app.store.results().add_told_results(epoch, &results, &told).await
    };
    let stored = stored.map_err(Arc::new);
    if let Err(error) = &stored {
        tracing::error!(%error, results = results.len(), "results cannot be stored");
    }
    for (answer, posted) in answers {
        let _ = answer.send(stored.clone().map(|()| posted));
    }
    if stored.is_ok() {
        app.found(&results);
        app.reporting.stored(told.iter().map(|entry| entry.target.as_str()));
    }
}

fn refuse(group: Vec<Post>, error: StoreError) {
    tracing::error!(%error, "results cannot be looked for");
    let error = Arc::new(error);
    for post in group {
        let _ = post.answer.send(Err(error.clone()));
    }
}
