//! The board of `/gate`: pipelines, queues and items as pieces of HTML with keys, so that only what has changed is made
//! and sent again.

use super::lanes::{Lane, lay_out};
use crate::api::gate_view;
use crate::web::frame::{Badge, Moment, percent_encoded, rfc3339, span};
use askama::Template;
use assay_engine::gate::config::{Manager, Pipeline};
use assay_engine::gate::ids::ItemId;
use assay_engine::gate::item::{Item, ItemJob, ItemPhase, JobState};
use assay_engine::gate::reason::Wait;
use assay_engine::gate::snapshot::{ChangeQueue, Snapshot};
use assay_engine::ids::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Items of a list that are shown with their jobs.
const WITH_JOBS: usize = 30;
/// Items of a list that are not folded away.
const UNFOLDED: usize = 100;
/// An estimate is shown anew when it is off by more than this.
const ESTIMATE_STEP_US: i64 = 30_000_000;
/// Lanes that are drawn; what is beyond is drawn in the last one.
const LANES: usize = 8;

/// A piece of the page with a key; none of it changes without its HTML being another one.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) id: String,
    pub(super) html: Arc<str>,
    /// What is searched, in lower case; empty for what is not an item.
    pub(super) words: Arc<str>,
}

/// Everything that an item's piece is made of. If it is the same, so is the piece.
#[derive(Debug)]
struct Print {
    item: Arc<Item>,
    lane: Option<Lane>,
    active: bool,
    with_jobs: bool,
    why: Option<String>,
    failing: Vec<String>,
    estimate: Option<i64>,
    config: String,
}

impl PartialEq for Print {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.item, &other.item)
            && (self.active, self.with_jobs, self.estimate) == (other.active, other.with_jobs, other.estimate)
            && (&self.lane, &self.why, &self.failing, &self.config)
                == (&other.lane, &other.why, &other.failing, &other.config)
    }
}

/// A list of items.
#[derive(Debug, Clone)]
pub(super) struct List {
    /// Empty for an independent pipeline's only list.
    pub(super) key: String,
    pub(super) head: Piece,
    pub(super) rows: Vec<Piece>,
}

/// A pipeline.
#[derive(Debug, Clone)]
pub(super) struct PipelineBoard {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) head: Piece,
    pub(super) lists: Vec<List>,
}

/// The board at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    pub(super) pipelines: Vec<PipelineBoard>,
    prints: HashMap<ItemId, (Arc<Print>, Piece)>,
}

#[derive(Template)]
#[template(path = "gate_item.html")]
struct ItemView<'a> {
    item: &'a Item,
    lines: Option<Lines>,
    badge: Badge,
    href: Option<String>,
    title: String,
    others: Vec<(String, String)>,
    below: String,
    since: Moment,
    eta: Option<(String, String)>,
    overdue: bool,
    /// What it usually takes, while nothing of it has begun.
    usual: Option<String>,
    why: &'a Option<String>,
    failing: &'a [String],
    jobs: Vec<JobView>,
    done: usize,
    all: usize,
}

/// A job as a chip.
struct JobView {
    name: String,
    kind: &'static str,
    path: &'static str,
    word: String,
    voting: bool,
    href: Option<String>,
    running: Option<Running>,
    took: Option<String>,
    title: String,
}

struct Running {
    since: Moment,
    /// Seconds so far, and what is usual.
    progress: Option<(i64, i64)>,
}

/// The lines beside an item: how many lanes, and pixels.
struct Lines {
    count: usize,
    x: usize,
    up: bool,
    down: bool,
    past: Vec<usize>,
    from: Option<usize>,
}

const LANE_WIDTH: usize = 18;

impl From<&Lane> for Lines {
    fn from(lane: &Lane) -> Self {
        let x = |lane: usize| lane.min(LANES - 1) * LANE_WIDTH + LANE_WIDTH / 2;
        let last = lane.past.iter().chain([&lane.at]).max().copied().unwrap_or(0).min(LANES - 1);
        Self {
            count: last + 1,
            x: x(lane.at),
            up: lane.up,
            down: lane.down,
            past: lane.past.iter().filter(|past| **past < LANES).map(|past| x(*past)).collect(),
            from: lane.from.map(x),
        }
    }
}

#[derive(Template)]
#[template(path = "gate_pipeline.html")]
struct PipelineHead<'a> {
    id: String,
    pipeline: &'a Pipeline,
    manager: &'static str,
    items: usize,
    failures: u32,
    disabled: bool,
}

#[derive(Template)]
#[template(path = "gate_queue.html")]
struct QueueHead<'a> {
    id: String,
    name: &'a str,
    pipeline: &'a str,
    window: u32,
    items: usize,
    hold: Option<(String, Moment)>,
}

impl Board {
    /// The board of a snapshot; pieces of the one before are used again where nothing changed.
    pub(super) fn new(snapshot: &Snapshot, before: &Self, now: Timestamp) -> Self {
        let mut maker = Maker { snapshot, before, now, prints: HashMap::new() };
        let pipelines = snapshot.config.pipelines.iter().map(|pipeline| maker.pipeline(pipeline)).collect();
        Self { pipelines, prints: maker.prints }
    }

    /// Only one pipeline, and only items with these words.
    pub(super) fn filtered(&self, pipeline: &str, words: &str) -> Self {
        let words = words.trim().to_lowercase();
        let mut board = Self { pipelines: self.pipelines.clone(), prints: HashMap::new() };
        if !pipeline.is_empty() {
            board.pipelines.retain(|one| one.name == pipeline);
        }
        if !words.is_empty() {
            for one in &mut board.pipelines {
                for list in &mut one.lists {
                    list.rows.retain(|row| words.split_whitespace().all(|word| row.words.contains(word)));
                }
                one.lists.retain(|list| !list.rows.is_empty());
            }
        }
        board
    }

    /// The whole as HTML: what the page begins with.
    pub(super) fn html(&self) -> String {
        let mut html = String::new();
        for pipeline in &self.pipelines {
            pipeline.write(&mut html);
        }
        html
    }

    /// What a reader of `old` needs to have this one; none if that is nothing.
    pub(super) fn changes_since(&self, old: &Self) -> Option<Update> {
        let mut known: HashMap<&str, &Arc<str>> = HashMap::new();
        old.each(&mut |piece| {
            known.insert(&piece.id, &piece.html);
        });
        let mut update = Update::default();
        self.each(&mut |piece| {
            if known.get(piece.id.as_str()).is_none_or(|html| **html != piece.html) {
                update.parts.insert(piece.id.clone(), piece.html.to_string());
            }
        });
        let (mine, theirs) = (self.orders(), old.orders());
        let theirs: HashMap<&str, &Vec<String>> =
            theirs.iter().map(|list| (list.id.as_str(), &list.keys)).collect();
        for list in &mine {
            if theirs.get(list.id.as_str()).is_none_or(|keys| **keys != list.keys) {
                update.lists.push(list.clone());
            }
        }
        // A list that is new is an element that is new.
        for pipeline in &self.pipelines {
            for list in &pipeline.lists {
                let id = pipeline.list_id("q", list);
                if !theirs.contains_key(pipeline.list_id("ql", list).as_str()) {
                    update.parts.insert(id, pipeline.empty_list(list));
                }
            }
        }
        (!update.parts.is_empty() || !update.lists.is_empty()).then_some(update)
    }

    fn each<'a>(&'a self, act: &mut dyn FnMut(&'a Piece)) {
        for pipeline in &self.pipelines {
            act(&pipeline.head);
            for list in &pipeline.lists {
                act(&list.head);
                list.rows.iter().for_each(&mut *act);
            }
        }
    }

    /// What is in which element, the outer elements first.
    fn orders(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for pipeline in &self.pipelines {
            let keys = pipeline.lists.iter().map(|list| pipeline.list_id("q", list)).collect();
            orders.push(Order { id: format!("pq-{}", pipeline.key), keys });
            for list in &pipeline.lists {
                let keys = |rows: &[Piece]| rows.iter().map(|row| row.id.clone()).collect();
                let (shown, folded) = list.rows.split_at(list.rows.len().min(UNFOLDED));
                orders.push(Order { id: pipeline.list_id("ql", list), keys: keys(shown) });
                orders.push(Order { id: pipeline.list_id("qr", list), keys: keys(folded) });
            }
        }
        orders
    }
}

/// What is different, for the page's script.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Update {
    /// Elements by id that are new or different.
    pub(super) parts: BTreeMap<String, String>,
    /// Elements whose children are others, or in another order; the outer ones first.
    pub(super) lists: Vec<Order>,
}

/// The children of an element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) keys: Vec<String>,
}

impl PipelineBoard {
    fn list_id(&self, what: &str, list: &List) -> String {
        format!("{what}-{}-{}", self.key, list.key)
    }

    fn write(&self, html: &mut String) {
        let key = &self.key;
        html.extend(["<section class=\"panel pipeline\" id=\"p-", key, "\">", &self.head.html]);
        html.extend(["<div id=\"pq-", key, "\">"]);
        for list in &self.lists {
            let (shown, folded) = list.rows.split_at(list.rows.len().min(UNFOLDED));
            self.write_list(html, list, shown, folded);
        }
        html.push_str("</div></section>\n");
    }

    fn write_list(&self, html: &mut String, list: &List, shown: &[Piece], folded: &[Piece]) {
        let [outer, first, rest] = ["q", "ql", "qr"].map(|what| self.list_id(what, list));
        html.extend(["<section class=\"queue\" id=\"", &outer, "\">", &list.head.html]);
        html.extend(["<ol class=\"items\" id=\"", &first, "\">"]);
        html.extend(shown.iter().map(|row| row.html.as_ref()));
        html.push_str("</ol><details class=\"rest\"><summary>more items</summary>");
        html.extend(["<ol class=\"items\" id=\"", &rest, "\">"]);
        html.extend(folded.iter().map(|row| row.html.as_ref()));
        html.push_str("</ol></details></section>");
    }

    fn empty_list(&self, list: &List) -> String {
        let mut html = String::new();
        self.write_list(&mut html, list, &[], &[]);
        html
    }
}

struct Maker<'a> {
    snapshot: &'a Snapshot,
    before: &'a Board,
    now: Timestamp,
    prints: HashMap<ItemId, (Arc<Print>, Piece)>,
}

fn piece(id: String, page: &impl Template) -> Piece {
    let html = page.render().unwrap_or_else(|error| {
        tracing::error!(%error, id, "a piece of the gate's page cannot be rendered");
        String::new()
    });
    Piece { id, html: html.into(), words: "".into() }
}

impl Maker<'_> {
    fn pipeline(&mut self, pipeline: &Pipeline) -> PipelineBoard {
        let key = percent_encoded(pipeline.name.as_str());
        let snapshot = self.snapshot;
        let own: Vec<_> = snapshot.queues.iter().filter(|((name, _), _)| *name == pipeline.name).collect();
        let lists = if pipeline.manager == Manager::Independent {
            let mut ids: Vec<ItemId> = own.iter().flat_map(|(_, queue)| &queue.items).copied().collect();
            ids.sort_unstable();
            let together = ChangeQueue { items: ids, window: 0, hold: None, below: Vec::new() };
            let head = Piece { id: format!("qh-{key}-"), html: "".into(), words: "".into() };
            let rows = self.rows(&key, &together, false);
            if rows.is_empty() { Vec::new() } else { vec![List { key: String::new(), head, rows }] }
        } else {
            let shown = own.iter().filter(|(_, queue)| !queue.items.is_empty() || queue.hold.is_some());
            shown.map(|((_, name), queue)| self.list(pipeline, &key, name.as_str(), queue)).collect()
        };
        let row = snapshot.pipelines.get(&pipeline.name);
        let id = format!("ph-{key}");
        let head = PipelineHead {
            id: id.clone(),
            pipeline,
            manager: gate_view::manager_word(pipeline.manager),
            items: own.iter().map(|(_, queue)| queue.items.len()).sum(),
            failures: row.map_or(0, |row| row.failures),
            disabled: row.is_some_and(|row| row.disabled),
        };
        PipelineBoard { name: pipeline.name.to_string(), head: piece(id, &head), key, lists }
    }

    fn list(&mut self, pipeline: &Pipeline, pipeline_key: &str, name: &str, queue: &ChangeQueue) -> List {
        let key = percent_encoded(name);
        let id = format!("qh-{pipeline_key}-{key}");
        let head = QueueHead {
            id: id.clone(),
            name,
            pipeline: pipeline.name.as_str(),
            window: queue.window,
            items: queue.items.len(),
            hold: queue.hold.as_ref().map(|(why, since)| (why.to_string(), Moment::new(*since, self.now))),
        };
        let rows = self.rows(&format!("{pipeline_key}-{key}"), queue, true);
        List { key, head: piece(id, &head), rows }
    }

    /// The items of a queue, with the boundary of its window.
    fn rows(&mut self, key: &str, queue: &ChangeQueue, with_lines: bool) -> Vec<Piece> {
        let places: BTreeMap<ItemId, usize> =
            queue.items.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        let items: Vec<&Arc<Item>> =
            queue.items.iter().filter_map(|id| self.snapshot.items.get(id)).collect();
        let ahead: Vec<Option<usize>> =
            (items.iter()).map(|item| item.ahead.and_then(|ahead| places.get(&ahead)).copied()).collect();
        let lanes = if with_lines { lay_out(&ahead) } else { Vec::new() };
        let mut rows = Vec::with_capacity(items.len() + 1);
        for (index, item) in items.into_iter().enumerate() {
            if queue.window > 0 && index == queue.window as usize {
                rows.push(boundary(key, queue.window));
            }
            let lane = lanes.get(index).cloned();
            rows.push(self.item(item, lane, queue.is_active(index), index < WITH_JOBS));
        }
        rows
    }

    fn item(&mut self, item: &Arc<Item>, lane: Option<Lane>, active: bool, with_jobs: bool) -> Piece {
        let estimate = if active { self.snapshot.estimate(item.id, self.now) } else { None };
        // What is overdue stays as it is until something happens to it.
        let due = |p50_us: i64| if p50_us == 0 { 0 } else { (self.now.0 + p50_us) / ESTIMATE_STEP_US };
        let begun = item.buildset.jobs.iter().any(has_begun);
        let eta = estimate.map(|estimate| if begun { due(estimate.p50_us) } else { estimate.p50_us });
        let print = Print {
            item: Arc::clone(item),
            lane,
            active,
            with_jobs,
            why: if active { self.why(item) } else { Some("beyond the window".to_owned()) },
            failing: gate_view::failing(self.snapshot, item).into_iter().map(|said| said.text).collect(),
            estimate: eta,
            config: self.snapshot.config.places.logs_url.clone().unwrap_or_default(),
        };
        let made = match self.before.prints.get(&item.id) {
            Some((before, piece)) if **before == print => (Arc::clone(before), piece.clone()),
            _ => {
                let piece = self.render(&print, estimate.map(|estimate| (estimate.p50_us, estimate.p90_us)));
                (Arc::new(print), piece)
            }
        };
        let piece = made.1.clone();
        self.prints.insert(item.id, made);
        piece
    }

    /// The first thing that an item waits for, unless the page shows it anyway.
    fn why(&self, item: &Item) -> Option<String> {
        match self.snapshot.why(item.id).first()? {
            Wait::Running { .. } | Wait::Worker { .. } => None,
            Wait::Ahead { item: ahead, .. } | Wait::Turn { item: ahead, .. } => {
                let ahead = self.snapshot.items.get(ahead)?;
                Some(format!("leaves after {}", ahead.subject))
            }
            other => Some(other.to_string()),
        }
    }

    fn render(&mut self, print: &Print, estimate: Option<(i64, i64)>) -> Piece {
        let item = &print.item;
        let jobs = &item.buildset.jobs;
        let change = item.changes.last();
        let title = change.map(|change| change.subject.clone()).unwrap_or_default();
        let estimate = estimate.filter(|_| jobs.iter().any(|job| !job.state.is_final()));
        let begun = jobs.iter().any(has_begun);
        let usual = estimate.filter(|_| !begun).map(|(p50, _)| span(p50));
        let eta = estimate.filter(|(p50, _)| begun && *p50 > 0).map(|(p50, p90)| {
            let at = Timestamp(self.now.0 + p50);
            let title =
                format!("half of the runs took no longer than {}, nine of ten {}", span(p50), span(p90));
            (rfc3339(at), title)
        });
        let below: Vec<_> = item.below.iter().map(|below| below.merge.patchset.to_string()).collect();
        let view = ItemView {
            item,
            lines: print.lane.as_ref().map(Lines::from),
            badge: badge(item, print),
            href: change_href(item),
            title,
            others: item
                .changes
                .iter()
                .rev()
                .skip(1)
                .map(|other| (other.merge.patchset.to_string(), other.subject.clone()))
                .collect(),
            below: below.join(", "),
            since: Moment::new(item.enqueued_at, self.now),
            overdue: begun && eta.is_none() && estimate.is_some(),
            usual,
            eta,
            why: &print.why,
            failing: &print.failing,
            jobs: if print.with_jobs {
                jobs.iter().map(|job| self.job(item, job)).collect()
            } else {
                Vec::new()
            },
            done: jobs.iter().filter(|job| job.state.is_final()).count(),
            all: jobs.len(),
        };
        let words =
            format!("{} {} {} {}", item.subject, item.project, item.branch, view.title).to_lowercase();
        Piece { words: words.into(), ..piece(format!("item-{}", item.id), &view) }
    }

    fn job(&self, item: &Item, job: &ItemJob) -> JobView {
        let build = job.state.build();
        let (kind, word) = job_word(job);
        let running = match (&job.state, build.and_then(|build| build.started_at)) {
            (JobState::Running(_), Some(since)) => {
                let left = self.snapshot.job_estimate(job, self.now);
                let so_far = self.now.micros_since(since);
                let progress =
                    left.map(|left| (so_far / 1_000_000, ((so_far + left.p50_us) / 1_000_000).max(1)));
                Some(Running { since: Moment::new(since, self.now), progress })
            }
            _ => None,
        };
        let took = build.and_then(|build| Some(build.ended_at?.micros_since(build.started_at?))).map(span);
        let reason = job.state.result().and_then(|result| result.reason.clone());
        let lost = match job.lost.len() {
            0 => String::new(),
            count => format!("the infrastructure failed {count} of its runs"),
        };
        JobView {
            name: job.job.to_string(),
            kind,
            path: Badge::of(kind).path(),
            word,
            voting: job.voting,
            href: build.and_then(|build| gate_view::log_path_of(item, &job.job, build)),
            running,
            took,
            title: reason
                .into_iter()
                .chain((!lost.is_empty()).then_some(lost))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }
}

fn boundary(key: &str, window: u32) -> Piece {
    let id = format!("qb-{key}");
    let html = format!(
        "<li class=\"boundary\" id=\"{id}\"><span>window: {window} are tested at once, the others wait</span></li>"
    );
    Piece { id, html: html.into(), words: "".into() }
}

/// The page of an item's own change.
pub(super) fn change_href(item: &Item) -> Option<String> {
    let change = &item.changes.last()?.merge.patchset.change;
    Some(format!("/change/{}/{}", percent_encoded(change.source.as_str()), change.number))
}

/// A job's kind for the style sheet, and Zuul's word or ours.
fn job_word(job: &ItemJob) -> (&'static str, String) {
    let word = |word: &str| word.to_owned();
    match &job.state {
        JobState::Waiting => ("scheduled", word("waiting")),
        JobState::Running(build) if build.started_at.is_none() => ("queued", word("queued")),
        JobState::Running(_) => ("running", word("running")),
        JobState::Skipped => ("skipped", word("SKIPPED")),
        JobState::Backoff { .. } => ("incomplete", word("infrastructure failed")),
        JobState::Ended(_) | JobState::Reused { .. } => {
            let result = job.state.result().map(|result| result.word.clone()).unwrap_or_default();
            (if job.state.is_success() { "passed" } else { "failed" }, result)
        }
    }
}

fn has_begun(job: &ItemJob) -> bool {
    job.state.build().is_some_and(|build| build.started_at.is_some())
}

fn badge(item: &Item, print: &Print) -> Badge {
    let jobs = &item.buildset.jobs;
    Badge::of(match &item.phase {
        ItemPhase::Landing { .. } => "landing",
        _ if !print.failing.is_empty() => "failing",
        _ if !jobs.is_empty() && jobs.iter().all(|job| job.state.is_final()) => "passed",
        _ if jobs.iter().any(has_begun) => "running",
        _ if jobs.iter().any(|job| job.state.build().is_some()) => "queued",
        _ => "waiting",
    })
}
