//! `/tests/overview`: the newest job of each scenario of a build.

mod table;

use super::acts;
use super::frame::{Badge, Frame, Moment, percent_encoded};
use super::groups::builds::{self, Count};
use crate::api::openqa::job_view::MODULE_RESULTS;
use crate::api::openqa::jobs::{Modules, filter, texts};
use crate::api::openqa::misc::moment;
use crate::api::openqa::params::Params;
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use askama::Template;
use assay_engine::ids::{GroupId, JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::outcome::Outcome;
use assay_proto::api::overview::{Overview, OverviewJob};
use assay_store::blobs::Sha256;
use assay_store::{CommentTarget, JobFilter, JobSummary};
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use table::{Marks, Matrix, Table, Wanted};

/// The most jobs of a matrix.
const JOBS: usize = 10_000;
/// How many of the newest jobs are looked through for them. Which of them is the newest of its scenario is found out here:
/// for the database that would be a second way through all of them.
const SCANNED: u32 = 40_000;
/// From how many jobs on a page is fetched less often while things change.
const MANY: usize = 1_500;
/// Parameters that stay when another result is chosen.
const KEPT: [&str; 25] = [
    "distri",
    "version",
    "build",
    "groupid",
    "group",
    "not_groupid",
    "group_glob",
    "not_group_glob",
    "flavor",
    "arch",
    "machine",
    "test",
    "q",
    "comment",
    "todo",
    "job_setting",
    "iso",
    "hdd_1",
    "worker_class",
    "scope",
    "modules",
    "modules_result",
    "module_re",
    "failed_modules",
    "t",
];

/// Parameters of a result that is chosen.
const CHOSEN: [&str; 4] = ["result", "state", "result__not", "state__not"];

fn is_kept(name: &str) -> bool {
    !CHOSEN.contains(&name) && KEPT.contains(&name.strip_suffix("__not").unwrap_or(name))
}

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/tests/overview", get(page).post(acts::many))
        .route("/tests/overview.json", get(told))
}

/// What was asked for, and the jobs.
pub(crate) struct Found {
    filter: JobFilter,
    wanted: Wanted,
    jobs: Vec<JobSummary>,
    marks: HashMap<JobId, Marks>,
    cut: bool,
    /// There are more jobs than those whose modules were looked at.
    unseen: bool,
}

impl Found {
    /// Those of the jobs that failed by themselves: what people look at.
    pub(super) fn failures(&self) -> Vec<JobId> {
        self.wanted().filter(|job| table::has_failed(job)).map(|job| job.id).collect()
    }

    /// Those that have not ended.
    pub(super) fn open(&self) -> impl Iterator<Item = &JobSummary> {
        self.wanted().filter(|job| !job.state.is_final())
    }

    /// What the page shows, for programs.
    pub(crate) fn told(&self) -> Overview {
        let told = |job: &JobSummary| {
            let marks = self.marks.get(&job.id).cloned().unwrap_or_default();
            OverviewJob {
                id: job.id.0,
                name: job.name.clone(),
                distri: job.distri.clone(),
                version: job.version.clone(),
                build: job.build.clone(),
                flavor: job.flavor.clone(),
                arch: job.arch.clone(),
                test: job.test.clone(),
                machine: job.machine.clone(),
                group_id: job.group.map(|group| group.0),
                state: job.state.word().to_owned(),
                result: job.outcome.map_or("none", Outcome::openqa).to_owned(),
                reason: job.reason.clone(),
                bugs: marks.bugs.into_iter().collect(),
                labels: marks.labels,
                comments: marks.comments,
            }
        };
        Overview {
            build: self.filter.build.clone(),
            counts: table::counted(&self.jobs, &self.wanted, &self.marks).told(),
            jobs: self.wanted().map(told).collect(),
            limit_exceeded: self.cut || self.unseen,
        }
    }

    /// The jobs that are wanted, the newest first.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &JobSummary> {
        self.jobs.iter().filter(|job| self.wanted.takes(job, self.marks.get(&job.id)))
    }
}

/// Short for these jobs: another one for others.
pub(super) fn fingerprint(jobs: &[JobId]) -> String {
    let ids: Vec<_> = jobs.iter().flat_map(|job| job.0.to_be_bytes()).collect();
    Sha256::of(&ids).to_string().chars().take(16).collect()
}

/// One question for the jobs, one for what is said about them; without a build, one more for the newest build.
pub(crate) async fn find(app: &App, params: &Params) -> Result<Found, Fault> {
    let asked = filter(app, params).map_err(crate::api::openqa::Wrong::fault)?;
    let modules = Modules::of(params).map_err(crate::api::openqa::Wrong::fault)?;
    let mut wanted = Wanted {
        with_module: None,
        outcomes: asked.outcomes,
        unfinished_too: asked.unfinished_too,
        states: asked.states,
        arch: asked.arch,
        flavor: asked.flavor,
        machine: asked.machine,
        test: asked.test,
        q: params.given("q").unwrap_or_default().trim().to_lowercase(),
        comment: params.given("comment").unwrap_or_default().trim().to_lowercase(),
        todo: params.flag("todo"),
    };
    // What remains is asked of the database; the rest is chosen from what it answers, so that the page can say what
    // else there is to choose.
    let mut filter = JobFilter {
        distri: asked.distri,
        version: asked.version,
        build: asked.build,
        unlike: asked.unlike,
        groups: asked.groups,
        not_groups: asked.not_groups,
        ids: asked.ids,
        settings: asked.settings,
        scope: asked.scope,
        posted_until: until(params)?,
        ..JobFilter::default()
    };
    if filter.build.is_empty() && filter.ids.is_empty() {
        let newest = JobFilter { limit: 1, ..filter.clone() };
        let newest = app.store.summaries(&newest).await?.into_iter().next();
        filter.build.extend(newest.and_then(|job| job.build));
    }
    filter.limit = SCANNED;
    let found = app.store.summaries(&filter).await?;
    let scanned = found.len() == SCANNED as usize;
    let mut jobs = table::newest(found);
    let cut = scanned || jobs.len() > JOBS;
    jobs.truncate(JOBS);
    let marks = match (jobs.last(), jobs.first()) {
        (Some(oldest), Some(newest)) => {
            let (oldest, newest) = (CommentTarget::Job(oldest.id), CommentTarget::Job(newest.id));
            let comments = app.store.knowledge().comments_within(oldest, newest).await?;
            table::marks(&comments, &wanted.comment)
        }
        _ => HashMap::new(),
    };
    let mut unseen = false;
    if let Some(modules) = modules {
        let fit = jobs.iter().filter(|job| wanted.takes(job, marks.get(&job.id)));
        let (with, more) = modules.among(app, &fit.map(|job| job.id).collect::<Vec<_>>()).await?;
        (wanted.with_module, unseen) = (Some(with), more);
    }
    Ok(Found { filter, wanted, jobs, marks, cut, unseen })
}

/// `t`: the matrix as it was filled then.
fn until(params: &Params) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = params.given("t") else { return Ok(None) };
    let wrong = || {
        let said = format!("`t={text}` is no time.");
        Fault::bad(said, "Write it as 2026-11-21T20:00:00Z or as 2026-11-21 20:00:00, which is UTC.")
    };
    moment(text).map(Some).ok_or_else(wrong)
}

/// A value to choose.
struct Choice {
    value: String,
    chosen: bool,
}

fn choices(values: impl IntoIterator<Item = String>, chosen: &[String]) -> Vec<Choice> {
    values.into_iter().map(|value| Choice { chosen: chosen.contains(&value), value }).collect()
}

/// One of each that a cell can be, for what comes while the page is open too.
fn badges() -> Vec<Badge> {
    let states = StateWord::ALL.into_iter().filter(|state| !state.is_final()).map(StateWord::word);
    states.chain(Outcome::ALL.into_iter().map(Outcome::openqa)).map(Badge::of).collect()
}

#[derive(Template)]
#[template(path = "matrix.html")]
#[expect(clippy::struct_excessive_bools, reason = "each is a sentence or a box of the page by itself")]
struct MatrixPage {
    frame: Frame,
    title: String,
    /// Names and numbers of the groups.
    groups: Vec<(String, i64)>,
    /// Where a result can be added.
    counts: Vec<Count>,
    total: u64,
    shown: usize,
    all: String,
    restricted: bool,
    hidden: Vec<(String, String)>,
    q: String,
    modules: String,
    todo: bool,
    selects: Vec<(&'static str, &'static str, Vec<Choice>)>,
    badges: Vec<Badge>,
    tables: Vec<Table>,
    cut: bool,
    unseen: bool,
    /// What operators can do to the jobs that are shown.
    acts: Option<Acts>,
    /// Only jobs that were posted until then are shown.
    until: Option<Moment>,
    /// The same without that.
    newest: String,
    pace: u32,
}

/// A form for all jobs that are shown.
struct Acts {
    action: String,
    failures: usize,
    open: usize,
    /// Which failures were looked at.
    seen: String,
    say: String,
    /// They are others than those that were looked at before.
    changed: bool,
}

/// `GET /tests/overview`
async fn page(State(app): State<Arc<App>>, Extension(sender): Extension<Sender>, params: Params) -> Response {
    let rendered = build(&app, &sender, &params, false).await;
    super::page(&app, rendered)
}

/// `changed`: the failures are others than those that somebody wanted to do something to.
pub(super) async fn build(
    app: &App,
    sender: &Sender,
    params: &Params,
    changed: bool,
) -> Result<impl Template, Fault> {
    let changes = app.changes();
    let found = find(app, params).await?;
    let (failures, open) = (found.failures(), found.open().count());
    let Found { filter, wanted, jobs, marks, cut, unseen } = found;
    let matrix = Matrix::new(&jobs, &wanted, marks);
    let plain = |name: &str| name.strip_suffix("[]").unwrap_or(name).to_owned();
    let kept = params.pairs().iter().filter(|(name, value)| !value.is_empty() && is_kept(&plain(name)));
    let mut pairs: Vec<(String, String)> = kept.map(|(name, value)| (plain(name), value.clone())).collect();
    let query = |pairs: &[(String, String)]| {
        pairs.iter().fold(String::new(), |mut query, (name, value)| {
            let _ = write!(query, "{name}={}&", percent_encoded(value));
            query
        })
    };
    let timeless: Vec<_> = pairs.iter().filter(|(name, _)| name != "t").cloned().collect();
    let newest = format!("/tests/overview?{}", query(&timeless));
    if !pairs.iter().any(|(name, _)| name == "build") {
        pairs.extend(filter.build.iter().map(|build| ("build".to_owned(), build.clone())));
    }
    let address = format!("/tests/overview?{}", query(&pairs));
    let by_form = ["q", "todo", "arch", "flavor", "machine", "modules", "modules_result"];
    let mut hidden: Vec<_> =
        pairs.into_iter().filter(|(name, _)| !by_form.contains(&name.as_str())).collect();
    let chosen: Vec<_> = CHOSEN.iter().map(|name| (*name, texts(params, name).join(","))).collect();
    let chosen = chosen.into_iter().filter(|(_, value)| !value.is_empty());
    let before = hidden.len();
    hidden.extend(chosen.map(|(name, value)| (name.to_owned(), value)));
    let restricted = hidden.len() > before;
    let catalog = app.library.now();
    let group = |id: &Option<GroupId>| {
        let group = catalog.groups.get(&id.as_ref()?.0)?;
        Some((group.name.clone(), group.id))
    };
    let product = [&filter.distri, &filter.version].map(|values| values.join(" or ")).join(" ");
    let (product, builds) = (product.trim().to_owned(), filter.build.join(" or "));
    let title = match (product.is_empty(), builds.is_empty()) {
        (true, true) => "All jobs".to_owned(),
        (true, false) => format!("Build {builds}"),
        (false, true) => product,
        (false, false) => format!("{product} · build {builds}"),
    };
    let mut frame = Frame::new(app.clock.now());
    frame.builds = true;
    frame.events = Some(changes);
    let selects = vec![
        ("flavor", "any flavor", choices(matrix.choices.flavors, &wanted.flavor)),
        ("arch", "any architecture", choices(matrix.choices.archs, &wanted.arch)),
        ("machine", "any machine", choices(matrix.choices.machines, &wanted.machine)),
        (
            "modules_result",
            "any result of a module",
            choices(MODULE_RESULTS.map(str::to_owned), &texts(params, "modules_result")),
        ),
    ];
    Ok(MatrixPage {
        frame,
        title,
        groups: filter.groups.iter().filter_map(group).collect(),
        counts: builds::counts(&matrix.counts, &address),
        total: matrix.counts.total(),
        shown: matrix.shown,
        all: address.trim_end_matches(['&', '?']).to_owned(),
        restricted,
        hidden,
        q: params.given("q").unwrap_or_default().to_owned(),
        modules: texts(params, "modules").join(","),
        todo: wanted.todo,
        selects,
        badges: badges(),
        tables: matrix.tables,
        cut,
        unseen,
        acts: sender.is_operator().then(|| Acts {
            action: acts::address(params),
            failures: failures.len(),
            open,
            seen: fingerprint(&failures),
            say: params.get("say").unwrap_or_default().to_owned(),
            changed,
        }),
        until: filter.posted_until.map(|at| Moment::new(at, app.clock.now())),
        newest,
        pace: if jobs.len() > MANY { 10_000 } else { 2_000 },
    })
}

/// `GET /tests/overview.json`: the same jobs, the newest first.
async fn told(State(app): State<Arc<App>>, params: Params) -> Result<Json<Overview>, Fault> {
    Ok(Json(find(&app, &params).await?.told()))
}
