//! `GET /jobs/{id}/live.png-stream`: the running machine's screen as a picture that replaces itself, for a plain
//! `<img>`; no JavaScript, no plugin.

use crate::api;
use crate::app::App;
use crate::fault::Fault;
use crate::live::Watching;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::sync::Arc;
use tokio::sync::watch;

const BOUNDARY: &str = "assay-screen";

struct Show {
    app: Arc<App>,
    screen: watch::Receiver<Option<Bytes>>,
    live: Arc<crate::live::Live>,
    begun: bool,
    _watching: Watching,
}

pub(super) async fn watch(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, Fault> {
    let id = api::job_id(&id)?;
    let job = app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    let live = job.row.active_attempt().and_then(|attempt| app.live.get(attempt));
    let Some(live) = live else {
        let error = format!("Job {id} is not running.");
        return Err(Fault::new(StatusCode::GONE, error, "The job's page has what it left."));
    };
    let watching = app.live.watch(live.clone());
    let mut screen = live.screen();
    // A picture that is there already is the first one to show.
    screen.mark_changed();
    let show = Show { app, screen, live, begun: false, _watching: watching };
    let kind = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
    let fields = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store".to_owned())];
    Ok((fields, Body::from_stream(stream::unfold(show, next))).into_response())
}

/// The next picture. Each part ends with the boundary at once: browsers show a part when they have seen its end.
async fn next(mut show: Show) -> Option<(Result<Bytes, std::convert::Infallible>, Show)> {
    if !std::mem::replace(&mut show.begun, true) {
        return Some((Ok(Bytes::from(format!("--{BOUNDARY}\r\n"))), show));
    }
    loop {
        tokio::select! {
            changed = show.screen.changed() => changed.ok()?,
            () = show.app.shutdown.cancelled() => return None,
        }
        if show.live.has_ended().await {
            return None;
        }
        let Some(png) = show.screen.borrow_and_update().clone() else { continue };
        let head = format!("Content-Type: image/png\r\nContent-Length: {}\r\n\r\n", png.len());
        let part = [head.as_bytes(), &png, format!("\r\n--{BOUNDARY}\r\n").as_bytes()].concat();
        return Some((Ok(Bytes::from(part)), show));
    }
}
