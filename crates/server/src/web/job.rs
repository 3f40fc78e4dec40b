//! `/jobs/{id}`: one job, one of its attempts, everything that it left.

use super::cards::{self, Face, ModuleView};
use super::cluster::{Drawing, Member};
use super::comments::{self, Comments};
use super::frame::{Badge, Frame, Moment, bytes, percent_encoded, percent_encoded_path, plain_text, span};
use super::history::{self, History};
use super::published::Published;
use crate::api::openqa::params::Params;
use crate::api::{self, MAX_STEPS};
use crate::app::App;
use crate::auth::Sender;
use crate::fault::Fault;
use crate::present::{reason_of, reason_of_end, took_us};
use crate::record::{Run, step_title};
use crate::retention::Removal;
use askama::Template;
use assay_engine::ids::{JobId, ProductRunId, Timestamp};
use assay_engine::job::StateWord;
use assay_engine::job_settings::JobSettings;
use assay_engine::rows::JobRow;
use assay_engine::settings::{COVERED, Setting, is_secret_name};
use assay_proto::worker::Stream;
use assay_store::{CommentTarget, StoredAttempt, StoredJob};
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::Arc;

/// How much of the end of a log is on the page.
const TAIL: usize = 64 * 1024;
/// How much of it beside the live picture.
const SHORT_TAIL: usize = 8 * 1024;

#[derive(Debug, Default, Deserialize)]
pub(super) struct JobQuery {
    pub(super) attempt: Option<u32>,
}

impl JobQuery {
    /// What keeps the choice of the attempt in addresses.
    pub(super) fn suffix(&self) -> String {
        self.attempt.map(|number| format!("?attempt={number}")).unwrap_or_default()
    }
}

struct Link {
    href: String,
    label: String,
}

struct Head {
    id: JobId,
    name: String,
    badge: Badge,
    reason: Option<String>,
    failure: Option<Link>,
    /// Its console and its files.
    links: Vec<Link>,
    facts: Vec<(&'static str, String)>,
    /// The job it was made from, and the one that was made from it.
    clones: Vec<(&'static str, JobId)>,
    /// The post of a product that made it.
    post: Option<ProductRunId>,
    times: Vec<(&'static str, Moment)>,
    running_since: Option<Moment>,
    /// Whoever looks may cancel it.
    may_cancel: bool,
    /// Its priority, if it waits and whoever looks may change it.
    priority: Option<i32>,
}

impl Head {
    fn result_word(&self) -> &'static str {
        self.badge.label()
    }
}

struct AttemptTab {
    number: u32,
    href: String,
    badge: Badge,
    note: String,
    current: bool,
}

struct LiveView {
    now: String,
    /// Its picture; `None` if it has no screen.
    stream: Option<String>,
    log_tail: String,
    follow: Option<String>,
}

struct Tail {
    id: &'static str,
    title: &'static str,
    file: &'static str,
    /// `None` if nothing was written.
    href: Option<String>,
    size: String,
    cut: bool,
    text: String,
}

/// A setting with where it came from, and what it took the place of.
struct SettingRow {
    key: String,
    value: String,
    from: String,
    over: Vec<(String, String)>,
}

/// A part that cleaning has taken.
struct GonePart {
    what: &'static str,
    at: Moment,
    why: String,
}

impl GonePart {
    fn new(removal: Removal, now: Timestamp) -> Self {
        let what = match removal.part.as_str() {
            "logs" => "The logs and files",
            "screenshots" => "The screenshots",
            _ => "The results of its steps",
        };
        Self { what, at: Moment::new(removal.at, now), why: removal.why }
    }
}

struct FileLink {
    name: String,
    href: String,
    size: String,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    /// The matrix that it is in, for jobs of a group.
    results: Option<Link>,
    head: Head,
    attempts: Vec<AttemptTab>,
    lost_attempt: bool,
    live: Option<LiveView>,
    modules: Vec<ModuleView>,
    no_steps: &'static str,
    unreadable: usize,
    tails: Vec<Tail>,
    published: Published,
    settings: Vec<SettingRow>,
    drawing: Option<Drawing>,
    history: Option<History>,
    comments: Comments,
    facts: Vec<(String, String)>,
    /// `None` if the command line cannot run such a job.
    reproduce: Option<String>,
    files: Vec<FileLink>,
    gone: Vec<GonePart>,
}

impl JobPage {
    /// Cleaning has taken what was written.
    fn logs_gone(&self) -> bool {
        self.gone.iter().any(|part| part.what.contains("logs"))
    }
}

/// `GET /jobs/{id}`
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    Query(query): Query<JobQuery>,
    Query(asked): Query<history::Asked>,
    headers: HeaderMap,
) -> Response {
    let rendered = build(&app, &sender, (id.as_str(), &query), &asked, &headers).await;
    super::page(&app, rendered)
}

/// The attempt that a page is about: the chosen one, else the last; none if nobody has tried.
pub(super) fn chosen(attempts: &[StoredAttempt], query: &JobQuery) -> Result<Option<StoredAttempt>, Fault> {
    let Some(number) = query.attempt else { return Ok(attempts.last().cloned()) };
    let found = attempts.iter().find(|attempt| attempt.row.id.number == number);
    let missing =
        || Fault::not_found(format!("There is no attempt {number}."), "See the job's page for its attempts.");
    Ok(Some(found.ok_or_else(missing)?.clone()))
}

/// What an attempt did.
pub(super) async fn run_of(app: &App, attempt: &StoredAttempt) -> Result<Run, Fault> {
    let run = Run::parse(&app.read_stream(attempt, Stream::Steps, 0, MAX_STEPS).await?);
    Ok(if attempt.row.end.is_some() { run.ended() } else { run })
}

/// `POST /jobs/{id}/comments`
pub(super) async fn comment(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
    params: Params,
) -> Response {
    let target = async {
        let id = api::job_id(&id)?;
        app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
        Ok(CommentTarget::Job(id))
    };
    let target = target.await;
    comments::post(&app, &sender, target, params, &format!("/jobs/{}", percent_encoded(&id))).await
}

async fn build(
    app: &Arc<App>,
    sender: &Sender,
    (id, query): (&str, &JobQuery),
    asked: &history::Asked,
    headers: &HeaderMap,
) -> Result<JobPage, Fault> {
    let id = api::job_id(id)?;
    let (now, changes) = (app.clock.now(), app.changes());
    let job = app.store.job(id).await?.ok_or_else(|| Fault::no_job(id))?;
    app.visited(id, headers).await;
    let attempts = app.store.attempts(id).await?;
    let attempt = chosen(&attempts, query)?;
    let base = format!("/jobs/{id}");
    let suffix = query.suffix();
    let run = match &attempt {
        Some(attempt) => run_of(app, attempt).await?,
        None => Run::default(),
    };
    let mut frame = Frame::new(now);
    if !job.row.state.is_final() {
        frame.events = Some(format!("{changes}&job={id}"));
    }
    let logs = log_root(app, &job).await?;
    let mut tails = Vec::new();
    let mut files = Vec::new();
    let mut live = None;
    for (stream, id, title) in panels(&job) {
        tails.push(match &attempt {
            Some(attempt) => tail(app, attempt, stream, id, title).await?,
            None => nothing(stream, id, title),
        });
    }
    if let Some(attempt) = &attempt {
        files = files_of(app, attempt).await?;
        live = live_view(app, &job, attempt).await?;
    }
    let removals = app.removals(attempt.as_ref().and_then(|attempt| attempt.streams.as_ref())).await?;
    let failure = run.first_failure().map(|step| Link {
        href: cards::href(&base, &suffix, &step.module, step.number),
        label: format!("First failure: {} · {}", step.module, step_title(step)),
    });
    let failed = job.row.state.end().is_some_and(|end| !end.outcome.is_ok()) || query.attempt.is_some();
    let row = &job.row;
    Ok(JobPage {
        frame,
        results: results(app, row),
        drawing: drawing(app, row).await?,
        history: History::of(app, row, asked).await?,
        comments: Comments::of(app, CommentTarget::Job(row.id), sender, format!("{base}/comments")).await?,
        head: Head {
            failure: failure.filter(|_| failed),
            links: links(&job, attempt.as_ref(), logs.as_deref(), &suffix),
            may_cancel: sender.is_operator() && !row.state.is_final(),
            priority: Some(row.priority)
                .filter(|_| sender.is_operator() && row.state.word() == StateWord::Scheduled),
            ..head(&job, attempt.as_ref(), now)
        },
        lost_attempt: attempts.iter().any(|attempt| attempt.row.id.number > 1),
        attempts: attempts.iter().map(|one| tab(&base, one, attempt.as_ref())).collect(),
        live,
        modules: cards::modules_of(&base, &suffix, &run.modules),
        no_steps: match &attempt {
            None => "No worker has tried it yet.",
            Some(attempt) if attempt.row.end.is_none() => {
                "The first step is shown here as soon as it is done."
            }
            Some(_) if removals.iter().any(|removal| removal.part == "results") => {
                "The steps have been removed."
            }
            Some(_) => "This attempt left no steps; its log says more.",
        },
        unreadable: run.unreadable,
        tails,
        published: Published::new(&run, logs.as_deref(), &suffix),
        settings: row.settings.iter().map(setting_row).collect(),
        facts: run.facts,
        gone: removals.into_iter().map(|removal| GonePart::new(removal, now)).collect(),
        reproduce: (!is_shell(&job)).then(|| reproduce(&job.row.settings)),
        files,
    })
}

fn setting_row((key, setting): (&str, &Setting)) -> SettingRow {
    let over = setting.over.iter().map(|(from, value)| (from.to_string(), shown(key, value)));
    SettingRow {
        key: key.to_owned(),
        value: shown(key, &setting.value),
        from: setting.from.to_string(),
        over: over.collect(),
    }
}

/// Where all results of its build are.
fn results(app: &App, row: &JobRow) -> Option<Link> {
    let catalog = app.library.now();
    let group = catalog.groups.get(&row.group?.0)?;
    let mut href = format!("/tests/overview?groupid={}", group.id);
    for (name, key) in [("distri", "DISTRI"), ("version", "VERSION"), ("build", "BUILD")] {
        if let Some(value) = row.settings.get(key) {
            let _ = write!(href, "&{name}={}", percent_encoded(value));
        }
    }
    let build = row.settings.get("BUILD").map(|build| format!(" · build {build}")).unwrap_or_default();
    Some(Link { href, label: format!("{}{build}", group.name) })
}

/// Its cluster, if it has relatives.
async fn drawing(app: &App, row: &JobRow) -> Result<Option<Drawing>, Fault> {
    if row.parents.is_empty() && app.store.children(&[row.id]).await?.is_empty() {
        return Ok(None);
    }
    let members: Vec<Member> = app.store.cluster(&[row.id], false).await?.iter().map(Member::from).collect();
    Ok(Drawing::of(&members, row.id))
}

/// Scripts or a task: it has a console and no screen.
fn is_shell(job: &StoredJob) -> bool {
    matches!(job.row.settings.get("BACKEND"), Some("shell" | "task"))
}

/// The streams whose ends are on the page.
fn panels(job: &StoredJob) -> [(Stream, &'static str, &'static str); 2] {
    if is_shell(job) {
        [(Stream::Console, "console", "Console"), (Stream::Log, "log", "Log")]
    } else {
        [(Stream::Log, "log", "Log"), (Stream::Serial0, "serial", "Serial")]
    }
}

/// Where a build of the gate has its files. Anybody may give a job a `LOG_PATH`; only the gate's leads to it.
async fn log_root(app: &App, job: &StoredJob) -> Result<Option<String>, Fault> {
    let Some(path) = job.row.settings.get("LOG_PATH") else { return Ok(None) };
    let found = app.store.gate().job_of_log_path(path).await?;
    Ok((found == Some(job.row.id)).then(|| format!("/logs/{}/", percent_encoded_path(path))))
}

/// The console and, for a build of the gate, the list of its files.
fn links(job: &StoredJob, attempt: Option<&StoredAttempt>, logs: Option<&str>, suffix: &str) -> Vec<Link> {
    let console = match (attempt, logs) {
        (Some(_), Some(logs)) => Some(format!("{logs}console.html{suffix}")),
        (Some(attempt), None) if is_shell(job) => Some(stream_href(attempt, Stream::Console)),
        _ => None,
    };
    let files = logs.map(|logs| format!("{logs}{suffix}"));
    let label =
        if attempt.is_some_and(|attempt| attempt.row.end.is_none()) { "Live console" } else { "Console" };
    let named = [(console, label), (files, "All files")];
    named.into_iter().filter_map(|(href, label)| Some(Link { href: href?, label: label.into() })).collect()
}

fn head(job: &StoredJob, attempt: Option<&StoredAttempt>, now: Timestamp) -> Head {
    let row = &job.row;
    let word = row.state.end().map_or_else(|| row.state.word().word(), |end| end.outcome.openqa());
    let mut facts = Vec::new();
    if let Some(attempt) = attempt {
        facts.push(("Worker", format!("{} on {}", attempt.row.worker, attempt.row.host)));
    }
    if let Some(end) = attempt.and_then(|attempt| attempt.row.end.as_ref().map(|end| (attempt, end))) {
        facts.push(("Took", span(took_us(end.0.row.started_at, end.0.row.assigned_at, end.1))));
    }
    if let Some(end) = row.state.end().filter(|end| !end.outcome.is_ok()) {
        facts.push(("Cause", end.class.word().to_owned()));
    }
    facts.push(("Priority", row.priority.to_string()));
    facts.push(("Classes", row.classes.iter().collect::<Vec<_>>().join(", ")));
    let mut times = vec![("Posted", Moment::new(row.created_at, now))];
    if let Some(attempt) = attempt {
        times.push(("Started", Moment::new(attempt.row.assigned_at, now)));
    }
    times.extend(row.finished_at().map(|at| ("Finished", Moment::new(at, now))));
    let clones = [("Clone of", row.clone_of), ("Cloned as", row.cloned_as)];
    let running = attempt.filter(|attempt| attempt.row.end.is_none());
    Head {
        id: row.id,
        name: if row.name.is_empty() { "(unnamed)".into() } else { row.name.clone() },
        badge: Badge::of(word).big(),
        reason: reason_of(job),
        failure: None,
        links: Vec::new(),
        facts,
        clones: clones.into_iter().filter_map(|(label, job)| Some((label, job?))).collect(),
        post: row.run,
        times,
        running_since: running.map(|attempt| Moment::new(attempt.row.assigned_at, now)),
        may_cancel: false,
        priority: None,
    }
}

fn tab(base: &str, attempt: &StoredAttempt, current: Option<&StoredAttempt>) -> AttemptTab {
    let row = &attempt.row;
    let word = row.end.as_ref().map_or_else(|| row.phase.word(), |end| end.outcome.openqa());
    AttemptTab {
        number: row.id.number,
        href: format!("{base}?attempt={}", row.id.number),
        badge: Badge::of(word),
        note: match &row.end {
            Some(end) => reason_of_end(end).unwrap_or_else(|| format!("on {}", row.worker)),
            None => format!("on {}", row.worker),
        },
        current: current.is_some_and(|current| current.row.id == row.id),
    }
}

/// The address of a stream's file.
fn stream_href(attempt: &StoredAttempt, stream: Stream) -> String {
    let id = attempt.row.id;
    format!("/api/assay/v1/jobs/{}/streams/{}?attempt={}", id.job, stream.file_name(), id.number)
}

fn nothing(stream: Stream, id: &'static str, title: &'static str) -> Tail {
    Tail {
        id,
        title,
        file: stream.file_name(),
        href: None,
        size: String::new(),
        cut: false,
        text: String::new(),
    }
}

async fn tail(
    app: &App,
    attempt: &StoredAttempt,
    stream: Stream,
    id: &'static str,
    title: &'static str,
) -> Result<Tail, Fault> {
    let end = app.read_end(attempt, stream, TAIL).await?;
    if end.size == 0 {
        return Ok(nothing(stream, id, title));
    }
    let cut = end.size > end.bytes.len() as u64;
    // A line that was cut says nothing.
    let whole = match end.bytes.iter().position(|&byte| byte == b'\n') {
        Some(at) if cut => &end.bytes[at + 1..],
        _ => &end.bytes[..],
    };
    Ok(Tail {
        id,
        title,
        file: stream.file_name(),
        href: Some(stream_href(attempt, stream)),
        size: bytes(end.size),
        cut,
        text: plain_text(whole),
    })
}

async fn files_of(app: &App, attempt: &StoredAttempt) -> Result<Vec<FileLink>, Fault> {
    let sizes = app.sizes(attempt).await?;
    let known = Stream::ALL.into_iter().filter_map(|stream| Some((stream, *sizes.get(stream.file_name())?)));
    Ok(known
        .map(|(stream, size)| FileLink {
            name: stream.file_name().into(),
            href: stream_href(attempt, stream),
            size: bytes(size),
        })
        .collect())
}

async fn live_view(app: &App, job: &StoredJob, attempt: &StoredAttempt) -> Result<Option<LiveView>, Fault> {
    let id = attempt.row.id;
    let (true, Some(live)) = (job.row.active_attempt() == Some(id), app.live.get(id)) else {
        return Ok(None);
    };
    let shell = is_shell(job);
    let shown = if shell { Stream::Console } else { Stream::Log };
    let end = app.read_end(attempt, shown, SHORT_TAIL).await?;
    Ok(Some(LiveView {
        now: live.last_step().unwrap_or_else(|| "no step yet".into()),
        stream: (!shell).then(|| format!("/jobs/{}/live.png-stream", id.job)),
        log_tail: plain_text(&end.bytes),
        follow: Some(format!("{}&follow=1&from={}", stream_href(attempt, shown), end.size)),
    }))
}

/// The command that runs the same test here.
fn reproduce(settings: &JobSettings) -> String {
    let (mut words, directory) = match settings.get("CASEDIR") {
        Some(address) if address.contains("://") => {
            let (url, reference) = address.split_once('#').unwrap_or((address, "HEAD"));
            let (url, reference) = (quoted(url), quoted(reference));
            let fetched = format!("git -C tests fetch {url} {reference} && git -C tests checkout FETCH_HEAD");
            (vec![format!("git init tests && {fetched} &&")], "tests".to_owned())
        }
        Some(directory) => (Vec::new(), quoted(directory)),
        None => (Vec::new(), "DIR".to_owned()),
    };
    words.extend(["assay run".to_owned(), directory]);
    let left_out = |key: &str| key == "CASEDIR" || key == "WORKER_CLASS" || is_secret_name(key);
    for (key, setting) in settings.iter().filter(|(key, _)| !left_out(key)) {
        words.push(quoted(&format!("{key}={}", setting.value)));
    }
    words.join(" ")
}

/// A setting's value as anybody may see it.
fn shown(key: &str, value: &str) -> String {
    if is_secret_name(key) { COVERED.to_owned() } else { value.to_owned() }
}

/// For a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@+,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::settings::Settings;

    #[test]
    fn the_command_survives_a_shell() {
        let settings = Settings::from_request([
            ("CASEDIR", "/t/my tests"),
            ("APPEND", "console=ttyS0 it's"),
            ("TEST", "grub"),
            ("EMPTY", ""),
        ]);
        let fetched = Settings::from_request([("CASEDIR", "https://h/t.git#abc"), ("TEST", "x")]).into();
        let want = "git init tests && git -C tests fetch https://h/t.git abc && git -C tests checkout FETCH_HEAD && \
                    assay run tests TEST=x";
        assert_eq!(reproduce(&fetched), want);
        let want = r"assay run '/t/my tests' 'APPEND=console=ttyS0 it'\''s' EMPTY= TEST=grub";
        assert_eq!(reproduce(&settings.with_defaults().into()), want);
        assert!(
            reproduce(&Settings::from_request([("TEST", "x")]).into()).starts_with("assay run DIR TEST=x")
        );
    }
}
