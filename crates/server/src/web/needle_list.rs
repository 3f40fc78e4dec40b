//! `/admin/needles`: which needles there are, where, and when they were looked for and found last; for operators.

use super::frame::{Frame, Moment, percent_encoded};
use crate::app::App;
use crate::auth::Operator;
use crate::fault::{Fault, PageFault};
use crate::needle_list::{JOBS, KnownNeedle, NeedleDir, Sight};
use askama::Template;
use assay_engine::ids::{JobId, Timestamp};
use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;

/// Needles on the page.
const MOST: usize = 1_000;

/// The orders that one may choose, with what they are called. What was never seen comes before all that was.
const ORDERS: [(&str, &str); 3] =
    [("name", "by name"), ("seen", "unseen for longest first"), ("match", "unmatched for longest first")];

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/admin/needles", get(page))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    q: String,
    sort: String,
}

/// A step that had to do with a needle.
struct Seen {
    job: JobId,
    href: String,
    at: Moment,
}

impl Seen {
    fn new(sight: &Sight, now: Timestamp) -> Self {
        let href = format!("/jobs/{}/steps/{}/{}", sight.job, percent_encoded(&sight.module), sight.step);
        Self { job: sight.job, href, at: Moment::new(sight.at, now) }
    }
}

struct Row {
    name: String,
    tags: Vec<String>,
    file: String,
    seen: Option<Seen>,
    matched: Option<Seen>,
}

/// The last commit to a directory.
struct Change {
    subject: String,
    author: String,
    at: Moment,
}

struct DirView {
    place: String,
    here: bool,
    whole: bool,
    change: Option<Change>,
    rows: Vec<Row>,
    total: usize,
}

#[derive(Template)]
#[template(path = "needles.html")]
struct NeedlesPage {
    frame: Frame,
    q: String,
    orders: Vec<(&'static str, &'static str, bool)>,
    dirs: Vec<DirView>,
    jobs: usize,
}

/// Whether a text in small letters is in the name of a needle, in its file's or in a tag.
pub(super) fn has(text: &str, name: &str, needle: &KnownNeedle) -> bool {
    let words = needle.tags.iter().chain(&needle.file).map(String::as_str);
    words.chain([name]).any(|word| word.to_lowercase().contains(text))
}

async fn page(
    operator: Result<Operator, Fault>,
    State(app): State<Arc<App>>,
    Query(asked): Query<Asked>,
) -> Response {
    match operator {
        Ok(_) => super::page(&app, build(&app, asked).await),
        Err(fault) => PageFault(fault, Frame::new(app.clock.now())).into_response(),
    }
}

async fn build(app: &App, asked: Asked) -> Result<NeedlesPage, Fault> {
    let now = app.clock.now();
    let sort = if asked.sort.is_empty() { ORDERS[0].0 } else { asked.sort.as_str() };
    if ORDERS.iter().all(|(word, _)| *word != sort) {
        let error = format!("Needles cannot be sorted by {sort:?}.");
        return Err(Fault::bad(error, "Use sort=name, sort=seen or sort=match."));
    }
    let q = asked.q.trim().to_owned();
    let (text, mut left) = (q.to_lowercase(), MOST);
    let known = app.known_needles().await?;
    let views = known.iter().map(|dir| view(dir, (text.as_str(), sort), &mut left, now));
    Ok(NeedlesPage {
        frame: Frame::new(now),
        dirs: views.filter(|dir| dir.total > 0).collect(),
        orders: ORDERS.iter().map(|(word, label)| (*word, *label, *word == sort)).collect(),
        q,
        jobs: JOBS,
    })
}

/// The needles of a directory that have a text, in an order; at most so many as are `left`.
fn view(dir: &NeedleDir, (text, sort): (&str, &str), left: &mut usize, now: Timestamp) -> DirView {
    let all = dir.place.as_str().to_lowercase().contains(text);
    let fits = |(name, needle): &(&String, &KnownNeedle)| all || has(text, name, needle);
    let mut needles: Vec<_> = dir.needles.iter().filter(fits).collect();
    let at = |sight: Option<&Sight>| sight.map(|sight| sight.at);
    match sort {
        "seen" => needles.sort_by_key(|(_, needle)| at(needle.seen.as_ref())),
        "match" => needles.sort_by_key(|(_, needle)| at(needle.matched.as_ref())),
        _ => {}
    }
    let total = needles.len();
    needles.truncate(*left);
    *left -= needles.len();
    let row = |(name, needle): (&String, &KnownNeedle)| Row {
        name: name.clone(),
        tags: needle.tags.clone(),
        file: needle.file.clone().unwrap_or_default(),
        seen: needle.seen.as_ref().map(|sight| Seen::new(sight, now)),
        matched: needle.matched.as_ref().map(|sight| Seen::new(sight, now)),
    };
    let change = dir.commit.as_ref().map(|commit| Change {
        subject: commit.subject.clone(),
        author: commit.author.clone(),
        at: Moment::new(Timestamp(commit.at.saturating_mul(1_000_000)), now),
    });
    DirView {
        place: dir.place.to_string(),
        here: dir.here,
        whole: dir.whole,
        change,
        rows: needles.into_iter().map(row).collect(),
        total,
    }
}
