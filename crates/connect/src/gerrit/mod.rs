//! Gerrit: its events in, facts about changes, votes and submits out. SSH for every version, REST for newer ones.
//!
//! Every call has a deadline and an error that names the remedy; a slow or hung Gerrit holds up nobody but the caller.

mod cache;
pub mod convert;
mod error;
mod found;
mod gather;
mod hostkey;
mod key;
pub mod parse;
mod report;
mod rest;
mod review;
mod source;
mod ssh;

pub use error::{GerritError, ReviewError};
pub use gather::{GatherOptions, Gathered};
pub use hostkey::HostKeys;
pub use key::Key;
pub use parse::{Merging, SubmitType};
pub use rest::{RestLogin, RestOptions};
pub use review::{Change, Posted, Review, SubmitOutcome};
pub use source::{GerritSource, Health, Link, SourceOptions};
pub use ssh::SshOptions;

use self::cache::Cache;
use self::parse::{ChangeAttr, CommentAttr, DependencyAttr, QueryLine, Related};
use self::rest::Rest;
use self::ssh::{Commands, quoted};
use assay_engine::gate::ids::SourceName;
use assay_proto::clock::Clock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a Gerrit is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct GerritOptions {
    /// What the configuration calls it.
    pub source: SourceName,
    /// SSH: events, and everything else unless there is `rest`.
    pub ssh: SshOptions,
    /// REST: if given, queries, reviews and submits go this way.
    pub rest: Option<RestOptions>,
    /// The longest that a query may take, with all its tries.
    pub query: Duration,
    /// The longest that a review may take.
    pub review: Duration,
    /// The longest that a submit may take.
    pub submit: Duration,
    /// So many bytes are the longest message that Gerrit takes.
    pub message_limit: usize,
    /// How far relatives of a change are looked for.
    pub gather: GatherOptions,
    /// So many queries at once, and besides so many reviews and submits.
    pub at_once: usize,
}

impl GerritOptions {
    /// The usual times and limits.
    pub fn new(source: &str, ssh: SshOptions) -> Self {
        Self {
            source: source.into(),
            ssh,
            rest: None,
            query: Duration::from_mins(1),
            review: Duration::from_mins(1),
            submit: Duration::from_mins(5),
            message_limit: 16_056,
            gather: GatherOptions::default(),
            at_once: 4,
        }
    }
}

/// A Gerrit. Clones are the same one.
#[derive(Clone)]
pub struct Gerrit {
    shared: Arc<Shared>,
}

struct Shared {
    options: GerritOptions,
    clock: Arc<dyn Clock>,
    ssh: Commands,
    rest: Option<Rest>,
    cache: Mutex<Cache>,
    /// Queries and what changes something wait in lanes of their own: the one hangs more often than the other.
    queries: Semaphore,
    writes: Semaphore,
    /// `gerrit review` knows `--tag`, as far as we have seen.
    has_tags: AtomicBool,
    /// Questions so far.
    asked: AtomicU64,
}

impl Gerrit {
    /// Prepares it; nothing is connected yet.
    pub fn new(options: GerritOptions, clock: Arc<dyn Clock>) -> Result<Self, GerritError> {
        let rest = options.rest.clone().map(Rest::new).transpose()?;
        let shared = Shared {
            clock,
            ssh: Commands::new(options.ssh.clone()),
            rest,
            cache: Mutex::new(Cache::new(options.gather.life)),
            queries: Semaphore::new(options.at_once.max(1)),
            writes: Semaphore::new(options.at_once.max(1)),
            has_tags: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            options,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What the configuration calls it.
    pub fn source_name(&self) -> &SourceName {
        &self.shared.options.source
    }

    /// Gerrit's version: the cheapest question there is.
    pub async fn version(&self) -> Result<String, GerritError> {
        const WHAT: &str = "its version";
        let deadline = self.shared.options.query;
        if let Some(rest) = &self.shared.rest {
            return rest.version(deadline).await;
        }
        let output = self.shared.ssh.run(WHAT, "gerrit version", deadline).await?;
        let text = output.text();
        let version = text.trim().strip_prefix("gerrit version ").map(str::to_owned);
        version.ok_or_else(|| GerritError::Nonsense { what: WHAT.to_owned(), why: output.complaint() })
    }

    /// All changes that fit a query, each with its newest patchset, votes and submit rules.
    pub async fn query(&self, query: &str) -> Result<Vec<ChangeAttr>, GerritError> {
        self.shared.rows(query, Detail::Facts).await
    }

    /// Branches and tags of a project with their tips, by full name.
    pub async fn refs(&self, project: &str) -> Result<Vec<(String, String)>, GerritError> {
        self.shared.refs(project).await.map(|(refs, _)| refs)
    }

    /// How many questions it was asked so far, each page of an answer counted.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Forgets what was asked before.
    pub fn forget(&self) {
        self.shared.cache().clear();
    }
}

/// How much a query asks of each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// What facts are made of.
    Facts,
    /// What has happened to it: all patchsets and messages.
    History,
}

/// More pages of one answer than this are a mistake.
const MOST_PAGES: usize = 200;
/// Old versions do not say whether there is more; with fewer rows there is not.
const SURELY_ALL: usize = 50;

impl Shared {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The beginning of the addresses that people use.
    fn base_url(&self) -> Option<&str> {
        self.rest.as_ref().map(Rest::url)
    }

    /// True if an address in a footer is one of this Gerrit's.
    fn is_ours(&self, url: &str) -> bool {
        let host = host_of(url);
        let own = self.base_url().map(host_of);
        let ssh = self.options.ssh.host.as_str();
        let aliases = self.options.gather.hosts.iter().map(String::as_str);
        let without_port = host.split(':').next().unwrap_or(host);
        own.into_iter().chain([ssh]).chain(aliases).any(|name| name == host || name == without_port)
    }

    /// The addresses by which other changes may name this one.
    fn addresses(&self, change: &ChangeAttr) -> Vec<String> {
        let mut addresses: Vec<String> = change.url.iter().cloned().collect();
        if let Some(base) = self.base_url() {
            addresses.push(format!("{base}/c/{}/+/{}", change.project, change.number));
            addresses.push(format!("{base}/{}", change.number));
        }
        addresses.retain(|address| !address.contains('"'));
        addresses.sort();
        addresses.dedup();
        addresses
    }

    async fn lane<'a>(
        &self,
        lane: &'a Semaphore,
        what: &str,
        deadline: Duration,
    ) -> Result<(SemaphorePermit<'a>, Duration), GerritError> {
        let late = || GerritError::TimedOut { what: what.to_owned(), after: deadline, sent: false };
        let begun = tokio::time::Instant::now();
        let permit = tokio::time::timeout(deadline, lane.acquire()).await.map_err(|_| late())?;
        let permit = permit.map_err(|_| late())?;
        Ok((permit, deadline.saturating_sub(begun.elapsed())))
    }

    /// All rows of a query.
    async fn rows(&self, query: &str, detail: Detail) -> Result<Vec<ChangeAttr>, GerritError> {
        let (_permit, deadline) = self.lane(&self.queries, "a query", self.options.query).await?;
        let mut rows: Vec<ChangeAttr> = Vec::new();
        let mut place = Place::Start;
        for _ in 0..MOST_PAGES {
            let (page, more) = self.page(query, &place, detail, deadline).await?;
            let next = match page.last().and_then(|last| last.sort_key.clone()) {
                Some(key) => Place::Behind(key),
                None => Place::Skip(rows.len() + page.len()),
            };
            let done = page.is_empty() || !more.unwrap_or(page.len() >= SURELY_ALL);
            rows.extend(page);
            if done {
                break;
            }
            place = next;
        }
        // What was updated meanwhile may be on two pages; the first is the newer.
        let mut seen = std::collections::HashSet::new();
        rows.retain(|row| seen.insert(row.number));
        if let Some(rest) = self.rest.as_ref().filter(|_| detail == Detail::History) {
            for row in rows.iter_mut().filter(|row| row.comments.iter().any(CommentAttr::has_notes)) {
                self.asked.fetch_add(1, Ordering::Relaxed);
                match rest.notes(row.number, deadline).await {
                    Ok(notes) => add_notes(row, notes),
                    // Versions before 2.16 have no such comments.
                    Err(GerritError::Refused { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(rows)
    }

    async fn page(
        &self,
        query: &str,
        place: &Place,
        detail: Detail,
        deadline: Duration,
    ) -> Result<(Vec<ChangeAttr>, Option<bool>), GerritError> {
        const WHAT: &str = "a query";
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(rest) = &self.rest {
            let skip = if let Place::Skip(skip) = place { *skip } else { 0 };
            let (rows, more) = rest.query(query, skip, detail == Detail::History, deadline).await?;
            return Ok((rows, Some(more)));
        }
        let flags = match detail {
            Detail::Facts => "--dependencies --files --submit-records",
            Detail::History => "--patch-sets --all-approvals --comments",
        };
        let end = match place {
            Place::Start => format!("-- {}", quoted(query)),
            Place::Skip(skip) => format!("-S {skip} -- {}", quoted(query)),
            Place::Behind(key) => format!("-- {}", quoted(&format!("({query}) resume_sortkey:{key}"))),
        };
        let command =
            format!("gerrit query --format json --commit-message --current-patch-set {flags} {end}");
        let output = self.ssh.run(WHAT, &command, deadline).await?;
        if !output.is_ok() && output.out.is_empty() {
            return Err(self.failed(WHAT, &output.complaint()));
        }
        read_page(&output.text(), query)
    }

    /// Rows with their relatives by git, and whether all that stand on them are among those.
    async fn rows_with_relatives(
        &self,
        query: &str,
        chains: &mut Chains,
    ) -> Result<Vec<(ChangeAttr, bool)>, GerritError> {
        let rows = self.rows(query, Detail::Facts).await?;
        let Some(rest) = &self.rest else {
            return Ok(rows.into_iter().map(|row| (row, true)).collect());
        };
        let mut out = Vec::with_capacity(rows.len());
        for mut row in rows {
            let open = convert::status(&row).is_open();
            let revision = row.current_patchset.as_ref().and_then(|now| now.revision.clone());
            let parents = row.current_patchset.as_ref().map_or(0, |now| now.parents.len());
            let Some(revision) = revision.filter(|_| open) else {
                out.push((row, true));
                continue;
            };
            if !chains.contains_key(&revision) || parents > 1 {
                let (_permit, deadline) = self.lane(&self.queries, "a query", self.options.query).await?;
                self.asked.fetch_add(1, Ordering::Relaxed);
                let chain =
                    Arc::new(Chain { of: revision.clone(), all: rest.related(row.number, deadline).await? });
                if let Some(now) = row.current_patchset.as_mut().filter(|_| parents > 1) {
                    // Of a merge the list of the change itself has only what was merged by hand.
                    now.files = Some(rest.files(row.number, &revision, deadline).await?);
                }
                for relative in &chain.all {
                    chains.entry(relative.commit.clone()).or_insert_with(|| chain.clone());
                }
                chains.insert(revision.clone(), chain);
            }
            let mut whole = false;
            if let Some(chain) = chains.get(&revision) {
                relate(&mut row, &revision, &chain.all);
                whole = chain.tells_all_of(&revision);
            }
            out.push((row, whole));
        }
        Ok(out)
    }

    /// Branches and tags; false if tags are not told.
    async fn refs(&self, project: &str) -> Result<(Vec<(String, String)>, bool), GerritError> {
        const WHAT: &str = "the branches of a project";
        let (_permit, deadline) = self.lane(&self.queries, WHAT, self.options.query).await?;
        let (refs, all) = if let Some(rest) = &self.rest {
            rest.refs(project, deadline).await?
        } else {
            let command = format!("git-upload-pack {}", quoted(&format!("/{project}")));
            let enough = |bytes: &[u8]| bytes.ends_with(b"0000") && parse::advertised_refs(bytes).is_some();
            let output = self.ssh.run_until(WHAT, &command, deadline, enough).await?;
            let refused = || GerritError::Refused {
                what: format!("to show the branches of {project}"),
                why: output.complaint(),
            };
            (parse::advertised_refs(&output.out).ok_or_else(refused)?, true)
        };
        let ours = refs.into_iter().filter(|(name, _)| convert::ref_name(name).is_some());
        Ok((ours.collect(), all))
    }
}

fn add_notes(row: &mut ChangeAttr, notes: Vec<(String, String)>) {
    for (message, note) in notes {
        let of = row.comments.iter_mut().find(|comment| comment.id.as_ref() == Some(&message));
        if let Some(comment) = of {
            comment.notes.push(note);
        }
    }
}

/// Where a page begins.
enum Place {
    Start,
    Skip(usize),
    /// Old versions.
    Behind(String),
}

/// The rows of a page; whether there are more, if Gerrit says.
fn read_page(text: &str, query: &str) -> Result<(Vec<ChangeAttr>, Option<bool>), GerritError> {
    let mut rows = Vec::new();
    let mut stats = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match parse::query_line(line).map_err(|error| GerritError::nonsense("a query", &error))? {
            QueryLine::Change(change) => rows.push(*change),
            QueryLine::Stats(found) => stats = Some(found),
            QueryLine::Error { message } => {
                let what = format!("the query {}", parse::excerpt(query));
                return Err(GerritError::Refused { what, why: message });
            }
            QueryLine::Unknown { .. } => {}
        }
    }
    let stats = stats.ok_or_else(|| GerritError::Nonsense {
        what: "a query".to_owned(),
        why: "the last line, with the count, is missing: the answer is cut off".to_owned(),
    })?;
    Ok((rows, stats.more))
}

/// The chains that were told, by each of their commits.
type Chains = HashMap<String, Arc<Chain>>;

/// What stands below and above a commit.
struct Chain {
    /// The commit that was asked about.
    of: String,
    all: Vec<Related>,
}

impl Chain {
    /// True if all that stand on a commit are in it: if it is the one that was asked about, or stands on that.
    fn tells_all_of(&self, commit: &str) -> bool {
        let mut open = vec![commit];
        let mut seen = std::collections::HashSet::new();
        while let Some(commit) = open.pop() {
            if commit == self.of {
                return true;
            }
            if seen.insert(commit) {
                let found = self.all.iter().filter(|relative| relative.commit == commit);
                open.extend(found.flat_map(|relative| relative.parents.iter().map(String::as_str)));
            }
        }
        false
    }
}

/// Fills in what a change's place in a chain tells.
fn relate(row: &mut ChangeAttr, revision: &str, chain: &[Related]) {
    let dependency = |relative: &Related| {
        Some(DependencyAttr {
            number: relative.number?,
            patchset: relative.patchset,
            change_id: relative.change_id.clone(),
            revision: Some(relative.commit.clone()),
            is_current: relative.current.zip(relative.patchset).map(|(current, own)| current == own),
        })
    };
    let own: Vec<&str> = chain
        .iter()
        .filter(|relative| relative.number == Some(row.number))
        .map(|relative| relative.commit.as_str())
        .chain([revision])
        .collect();
    let parents = row.current_patchset.as_ref().map_or(&[] as &[String], |now| &now.parents);
    let is_parent = |relative: &&Related| parents.contains(&relative.commit);
    let is_child = |relative: &&Related| {
        relative.number != Some(row.number)
            && relative.parents.iter().any(|parent| own.contains(&parent.as_str()))
    };
    row.depends_on = chain.iter().filter(is_parent).filter_map(dependency).collect();
    row.needed_by = chain.iter().filter(is_child).filter_map(dependency).collect();
}

/// The host of an address, with its port.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    host.rsplit('@').next().unwrap_or(host)
}
