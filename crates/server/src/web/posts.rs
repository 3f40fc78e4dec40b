//! `/products`: what was posted, what each post made, and what it did not make.

use super::acts::answer;
use super::frame::{Badge, Frame, Moment, percent_encoded};
use crate::api::openqa::isos;
use crate::api::products::{self, ListQuery, USUAL};
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::products::{NotPosted, Posted, product_posted};
use askama::Template;
use assay_engine::ids::{JobId, ProductRunId, Timestamp};
use assay_engine::outcome::Outcome;
use assay_engine::rows::{ProductRunRow, RunProblem};
use assay_store::{JobSummary, RunMark};
use axum::Router;
use axum::extract::{Extension, Path, Query, State};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::sync::Arc;

/// Jobs, and remarks of one kind, that are on the page of a post.
const SHOWN: usize = 500;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/products", get(list))
        .route("/products/{id}", get(show))
        .route("/products/{id}/cancel", post(cancel))
        .route("/products/{id}/again", post(again))
        .route("/admin/productlog", get(productlog))
}

#[derive(Deserialize)]
struct LogQuery {
    id: Option<i64>,
}

/// openQA's address of the list and of one post.
async fn productlog(Query(query): Query<LogQuery>) -> Redirect {
    match query.id {
        Some(id) => Redirect::to(&format!("/products/{id}")),
        None => Redirect::permanent("/products"),
    }
}

/// What is said of a post both in the list and on its page.
struct Head {
    id: ProductRunId,
    at: Moment,
    by: String,
    /// `fedora-43-Server-dvd-iso-x86_64`.
    product: String,
    build: String,
    made: usize,
    failed: usize,
    left_out: usize,
    refused: Option<String>,
    note: Option<String>,
    cancelled_by: Option<String>,
}

impl Head {
    fn new(row: &ProductRunRow, mark: Option<&RunMark>, now: Timestamp) -> Self {
        let mark = mark.cloned().unwrap_or_default();
        Self {
            id: row.id,
            at: Moment::new(row.created_at, now),
            by: row.run.by.clone(),
            product: product_posted(&row.run.settings),
            build: row.run.settings.get("BUILD").cloned().unwrap_or_default(),
            made: row.jobs.len(),
            failed: row.run.failed.len(),
            left_out: row.run.left_out.len(),
            refused: row.run.refused.clone(),
            note: mark.note,
            cancelled_by: mark.cancelled_by,
        }
    }
}

#[derive(Template)]
#[template(path = "posts.html")]
struct ListPage {
    frame: Frame,
    /// Names and values of the form.
    fields: [(&'static str, String); 5],
    rows: Vec<Head>,
    newest: String,
    older: Option<String>,
    before: bool,
}

async fn list(State(app): State<Arc<App>>, Query(query): Query<ListQuery>) -> Response {
    super::page(&app, build_list(&app, query).await)
}

async fn build_list(app: &App, query: ListQuery) -> Result<ListPage, Fault> {
    let now = app.clock.now();
    let filter = query.filter(USUAL);
    let runs = app.store.product_runs(&filter).await?;
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let marks = app.store.knowledge().run_marks(&ids).await?;
    let before = query.before.is_some();
    let fields = [
        ("build", query.build),
        ("distri", query.distri),
        ("version", query.version),
        ("flavor", query.flavor),
        ("arch", query.arch),
    ];
    let full = runs.len() == filter.limit as usize;
    Ok(ListPage {
        frame: Frame::new(now),
        newest: href(&fields, None),
        older: ids.last().filter(|_| full).map(|last| href(&fields, Some(*last))),
        fields,
        rows: runs.iter().map(|run| Head::new(run, marks.get(&run.id), now)).collect(),
        before,
    })
}

fn href(fields: &[(&str, String)], before: Option<ProductRunId>) -> String {
    let given = fields.iter().filter(|(_, value)| !value.trim().is_empty());
    let mut parts: Vec<_> =
        given.map(|(name, value)| format!("{name}={}", percent_encoded(value.trim()))).collect();
    parts.extend(before.map(|id| format!("before={id}")));
    if parts.is_empty() { "/products".to_owned() } else { format!("/products?{}", parts.join("&")) }
}

/// A job of a post.
struct Row {
    id: JobId,
    name: String,
    badge: Badge,
    reason: String,
}

/// Why a job was not made, or what is wrong with it.
struct Problem {
    job: String,
    /// Its number if it was made all the same.
    made: Option<JobId>,
    why: Vec<String>,
}

#[derive(Template)]
#[template(path = "post.html")]
struct PostPage {
    frame: Frame,
    head: Head,
    /// All posts of its build.
    of_build: String,
    webhook: Option<String>,
    /// How many jobs stand how.
    counts: Vec<(Badge, usize)>,
    rows: Vec<Row>,
    rows_left_out: usize,
    /// Jobs that were made and are not kept any more.
    gone: usize,
    failed: Vec<Problem>,
    left_out: Vec<Problem>,
    obsoleted: Vec<JobId>,
    obsoleted_left_out: usize,
    settings: Vec<(String, String)>,
    /// Whoever looks may cancel what has not ended.
    may_cancel: bool,
    /// Whoever looks may post the same again; not what a webhook posted, see [`again`].
    may_post: bool,
}

async fn show(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Response {
    super::page(&app, build(&app, &sender, &id).await)
}

async fn build(app: &App, sender: &Sender, id: &str) -> Result<PostPage, Fault> {
    let (now, changes) = (app.clock.now(), app.changes());
    let run = products::found(app, id).await?;
    let marks = app.store.knowledge().run_marks(&[run.id]).await?;
    let jobs = isos::standing(app, &run).await?;
    let mut frame = Frame::new(now);
    let open = jobs.iter().any(|job| !job.state.is_final());
    if open {
        frame.events = Some(changes);
    }
    let problem = |one: &RunProblem| Problem {
        job: one.job.clone(),
        made: one.made.and_then(|at| run.jobs.get(at)).copied(),
        why: one.problems.clone(),
    };
    let head = Head::new(&run, marks.get(&run.id), now);
    Ok(PostPage {
        frame,
        of_build: href(&[("build", head.build.clone())], None),
        head,
        webhook: run.run.webhook.clone(),
        counts: counts(&jobs),
        rows: jobs.iter().take(SHOWN).map(row).collect(),
        rows_left_out: jobs.len().saturating_sub(SHOWN),
        gone: run.jobs.len().saturating_sub(jobs.len()),
        failed: run.run.failed.iter().take(SHOWN).map(problem).collect(),
        left_out: run.run.left_out.iter().take(SHOWN).map(problem).collect(),
        obsoleted: run.obsoleted.iter().take(SHOWN).copied().collect(),
        obsoleted_left_out: run.obsoleted.len().saturating_sub(SHOWN),
        may_cancel: sender.is_operator() && open,
        may_post: sender.is_operator() && run.run.webhook.is_none(),
        settings: run.run.settings.into_iter().collect(),
    })
}

/// How a job stands, or how it ended.
pub(super) fn badge(job: &JobSummary) -> Badge {
    Badge::of(job.outcome.map_or_else(|| job.state.word(), Outcome::openqa))
}

fn row(job: &JobSummary) -> Row {
    let failed = job.outcome.is_some_and(|outcome| !outcome.is_ok());
    Row {
        id: job.id,
        name: job.name.clone(),
        badge: badge(job),
        reason: job.reason.clone().filter(|_| failed).unwrap_or_default(),
    }
}

/// How many there are of each badge, in the order in which they come.
fn counts(jobs: &[JobSummary]) -> Vec<(Badge, usize)> {
    let mut counts: Vec<(Badge, usize)> = Vec::new();
    for badge in jobs.iter().map(badge) {
        match counts.iter_mut().find(|(known, _)| *known == badge) {
            Some((_, count)) => *count += 1,
            None => counts.push((badge, 1)),
        }
    }
    counts
}

/// `POST /products/{id}/cancel`
async fn cancel(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Response {
    let done = async {
        sender.must_be_operator()?;
        products::cancel_jobs(&app, &id, &sender.name).await?;
        Ok(format!("/products/{}", percent_encoded(&id)))
    };
    answer(&app, done.await)
}

/// `POST /products/{id}/again`: the same post once more. It leads to what came of it, also if nothing was made.
async fn again(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Response {
    let done = async {
        sender.must_be_operator()?;
        let earlier = products::found(&app, &id).await?;
        // The new post would not belong to the pull request, whose end could not cancel it.
        if let Some(webhook) = &earlier.run.webhook {
            let error = format!("Post {} was made by a webhook, for {webhook}.", earlier.id);
            return Err(Fault::bad(error, "Let the webhook send its event again."));
        }
        let help = "Post it with `assay product post`.";
        let settings =
            isos::settings_of(&app, earlier.id.0, |_| false).await.map_err(|wrong| wrong.told(help))?;
        let posted = isos::post_settings(&app, settings, &sender.name).await;
        let (Ok(Posted { run, .. }) | Err(NotPosted { run, .. })) =
            posted.map_err(|wrong| wrong.told(help))?;
        Ok(format!("/products/{run}"))
    };
    answer(&app, done.await)
}
