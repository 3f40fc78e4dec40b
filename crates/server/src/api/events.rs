//! `GET events`: what changes, as server-sent events.

use crate::app::App;
use assay_engine::ids::JobId;
use assay_proto::api::Event;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

#[derive(Debug, Deserialize)]
pub(super) struct EventQuery {
    /// Only what concerns this job.
    job: Option<i64>,
    /// So many events there were when the listener looked last. Browsers that come back by themselves still say what
    /// they began with; they look at everything then.
    since: Option<u64>,
}

pub(super) async fn listen(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<EventQuery>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let job = query.job.map(JobId);
    let events = app.events.subscribe();
    // What came before the listening began: the reader looks at everything.
    let since = query.since.filter(|_| !headers.contains_key("last-event-id"));
    let missed = since.is_some_and(|since| app.had_since(since, |event| concerns(event, job)));
    // Without one a browser that comes back would not say that it was here.
    let id = query.since.map(|_| Ok(sse::Event::default().id("0")));
    let stream = stream::unfold((app, events, missed), move |(app, mut events, missed)| async move {
        if missed {
            return Some((Ok(sent(&Event::Missed)), (app, events, false)));
        }
        loop {
            let event = tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => event,
                    Err(RecvError::Lagged(_)) => Event::Missed,
                    Err(RecvError::Closed) => return None,
                },
                () = app.shutdown.cancelled() => return None,
            };
            if concerns(&event, job) {
                return Some((Ok(sent(&event)), (app, events, false)));
            }
        }
    });
    Sse::new(stream::iter(id).chain(stream)).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

fn sent(event: &Event) -> sse::Event {
    // One that cannot be written would be one that was never made; the reader looks at everything.
    sse::Event::default().json_data(event).unwrap_or_default()
}

fn concerns(event: &Event, job: Option<JobId>) -> bool {
    match (event, job) {
        // The list counts modules, so it wants to know of steps as well.
        (Event::Missed | Event::Queue, _) | (_, None) => true,
        (Event::Job { id } | Event::Steps { id }, Some(job)) => *id == job,
        (Event::Workers | Event::Gate { .. }, Some(_)) => false,
    }
}
