//! What becomes of jobs that have ended: logs, screenshots, results and at last the jobs go by the ages of their group,
//! later if their build is important. Gathers the facts, has them judged ([`assay_engine::assets::retention`]), and
//! carries the verdicts out.

mod lists;
mod removed;

pub(crate) use lists::is_shown;
pub(crate) use removed::Removal;

use crate::app::App;
use crate::catalog::Catalog;
use crate::web::{Tags, is_important};
use assay_engine::assets::retention::{self, Ages, Days, JobFact, Part, Verdict};
use assay_engine::ids::{AttemptId, GroupId, JobId};
use assay_engine::io::Input;
use assay_engine::job::StateWord;
use assay_engine::knowledge::words;
use assay_proto::api::assets::{CleanupReport, CleanupVerdict};
use assay_proto::worker::Stream;
use assay_store::blobs::Sha256;
use assay_store::{
    Comment, CommentTarget, GroupProperties, JobFilter, JobSummary, StoreError, StoredAttempt, Streams,
};
use lists::{FILES, SCREENS};
use removed::REMOVED;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often jobs are cleaned, and how soon after the start.
const EVERY: Duration = Duration::from_hours(24);
const FIRST: Duration = Duration::from_mins(30);
/// Jobs looked at in one go.
const PAGE: u32 = 1000;
/// A blob that was stored or sent again so lately may be named by a step that has not come yet.
const IDLE: Duration = Duration::from_hours(48);

/// Cleans until the server stops.
pub(crate) async fn watch(app: Arc<App>) {
    let clean = |app: Arc<App>| async move { app.clean_jobs(false).await };
    crate::assets::clean_every((FIRST, EVERY), "jobs", app, clean).await;
}

/// The part that a stream belongs to; none for the note of what is gone, which goes with the job.
fn part_of(stream: &str) -> Option<Part> {
    if stream == REMOVED {
        return None;
    }
    Some(if stream == Stream::Steps.file_name() {
        Part::Results
    } else if stream == SCREENS {
        Part::Screenshots
    } else {
        Part::Logs
    })
}

impl App {
    /// Removes what has had its time of jobs that have ended; `dry_run` only says so.
    pub(crate) async fn clean_jobs(&self, dry_run: bool) -> Result<CleanupReport, StoreError> {
        let rules = self.rules().await?;
        let mut report = CleanupReport { dry_run, verdicts: Vec::new(), bytes: 0 };
        let mut doomed = Doomed::default();
        let mut before = None;
        loop {
            let states = StateWord::ALL.into_iter().filter(|state| state.is_final()).collect();
            let filter = JobFilter { states, before, limit: PAGE, ..JobFilter::default() };
            let page = self.store.summaries(&filter).await?;
            before = page.last().map(|job| job.id);
            let linked = self.linked(&page).await?;
            for job in &page {
                let (report, doomed) = (&mut report, &mut doomed);
                self.judge(job, linked.contains(&job.id), &rules, report, doomed).await?;
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        for sha in self.unused(doomed).await? {
            let size = self.blobs.size(sha).await?.unwrap_or(0);
            if dry_run || self.blobs.remove_idle(sha, IDLE).await? {
                report.bytes += size;
            }
        }
        Ok(report)
    }

    async fn rules(&self) -> Result<Rules, StoreError> {
        let (first, last) = (CommentTarget::Group(1), CommentTarget::Group(i64::MAX));
        let tags = Tags::of(&self.store.knowledge().comments_within(first, last).await?);
        let mut parents = BTreeMap::new();
        for job in self.open_jobs().await? {
            for parent in &job.row.parents {
                parents.entry(parent.job).or_insert(job.row.id);
            }
        }
        Ok(Rules { catalog: self.library.now(), tags, parents })
    }

    /// Those of the jobs that somebody links to from elsewhere, as their comments say.
    async fn linked(&self, page: &[JobSummary]) -> Result<BTreeSet<JobId>, StoreError> {
        let ids: Vec<JobId> = page.iter().map(|job| job.id).collect();
        let comments = self.store.knowledge().comments_of_jobs(&ids).await?;
        let linked = comments.iter().filter(|comment| words::is_linked(&comment.text));
        let job = |comment: &Comment| match comment.target {
            CommentTarget::Job(job) => Some(job),
            _ => None,
        };
        Ok(linked.filter_map(job).collect())
    }

    pub(crate) async fn is_linked(&self, job: JobId) -> Result<bool, StoreError> {
        let comments = self.store.knowledge().comments(CommentTarget::Job(job)).await?;
        Ok(comments.iter().any(|comment| words::is_linked(&comment.text)))
    }

    /// Says what becomes of one job, and does it.
    async fn judge(
        &self,
        job: &JobSummary,
        linked: bool,
        rules: &Rules,
        report: &mut CleanupReport,
        doomed: &mut Doomed,
    ) -> Result<(), StoreError> {
        let attempts = self.store.attempts(job.id).await?;
        if attempts.iter().any(|attempt| attempt.streams.is_none()) {
            return Ok(()); // its streams are being closed
        }
        let sizes = sizes(&attempts);
        let mut fact = rules.fact(job, sizes.keys().copied().collect());
        let now = self.clock.now();
        let judged = |fact: &JobFact| retention::jobs(std::slice::from_ref(fact), now);
        let why = || Some("linked from elsewhere".to_owned());
        if fact.important.is_none() && linked {
            fact.important = why();
        }
        let mut verdicts = judged(&fact);
        let goes = verdicts.iter().any(|verdict| !verdict.keep);
        // Its page was read long before, and somebody may have linked to it since.
        if goes && fact.important.is_none() && self.is_linked(job.id).await? {
            fact.important = why();
            verdicts = judged(&fact);
        }
        let gone: BTreeSet<Part> =
            verdicts.iter().filter(|verdict| !verdict.keep).map(|verdict| verdict.what.1).collect();
        report.verdicts.extend(verdicts.iter().map(|verdict| told(verdict, &sizes)));
        if gone.is_empty() {
            return Ok(());
        }
        let mut reduced = Vec::new();
        for attempt in &attempts {
            let streams = attempt.streams.clone().unwrap_or_default();
            let mut kept = self.reduce(&streams, &gone, &mut doomed.blobs, report.dry_run).await?;
            if !report.dry_run && !gone.contains(&Part::Job) {
                self.note_removals(&streams, &mut kept, &verdicts).await?;
                let note = |streams: &Streams| streams.get(REMOVED).map(|blob| blob.sha256);
                doomed.blobs.extend(note(&streams).filter(|old| note(&kept) != Some(*old)));
            }
            reduced.push((attempt.row.id, kept));
        }
        if report.dry_run {
            doomed.parts.insert(job.id, gone);
        } else {
            self.carry_out(job.id, gone.contains(&Part::Job), reduced).await;
        }
        Ok(())
    }

    /// The streams without the parts that go.
    async fn reduce(
        &self,
        streams: &Streams,
        gone: &BTreeSet<Part>,
        going: &mut BTreeSet<Sha256>,
        dry_run: bool,
    ) -> Result<Streams, StoreError> {
        for (list, part) in [(SCREENS, Part::Screenshots), (FILES, Part::Logs)] {
            if gone.contains(&part) {
                going.extend(self.listed(streams, list).await?);
            }
        }
        let mut kept = Streams::new();
        for (name, blob) in streams {
            let note = gone.contains(&Part::Job) && name == REMOVED;
            if !note && part_of(name).is_none_or(|part| !gone.contains(&part)) {
                kept.insert(name.clone(), *blob);
                continue;
            }
            going.insert(blob.sha256);
            // An empty list says that there was one.
            if !lists::is_shown(name) && !dry_run {
                kept.insert(name.clone(), self.blobs.put(Vec::new(), None).await?);
            }
        }
        Ok(kept)
    }

    async fn carry_out(&self, job: JobId, whole: bool, reduced: Vec<(AttemptId, Streams)>) {
        if whole {
            if let Err(fault) = self.engine.ask(Input::DeleteJob { job }).await {
                tracing::warn!(%job, ?fault, "an old job cannot be removed yet");
            }
            return;
        }
        for (attempt, streams) in reduced {
            self.engine.closed(attempt, streams, Vec::new()).await;
        }
    }

    /// The blobs that nothing names any more.
    async fn unused(&self, doomed: Doomed) -> Result<BTreeSet<Sha256>, StoreError> {
        let Doomed { blobs: mut going, parts } = doomed;
        let (mut before, none) = (None, BTreeSet::new());
        loop {
            if going.is_empty() {
                return Ok(going);
            }
            let filter = JobFilter { before, limit: PAGE, ..JobFilter::default() };
            let page = self.store.summaries(&filter).await?;
            before = page.last().map(|job| job.id);
            for job in &page {
                for attempt in self.store.attempts(job.id).await? {
                    self.spare(&attempt, parts.get(&job.id).unwrap_or(&none), &mut going).await?;
                }
            }
            if page.len() < PAGE as usize {
                return Ok(going);
            }
        }
    }

    /// Takes what an attempt names out of `going`; the parts `gone` count as gone.
    async fn spare(
        &self,
        attempt: &StoredAttempt,
        gone: &BTreeSet<Part>,
        going: &mut BTreeSet<Sha256>,
    ) -> Result<(), StoreError> {
        let Some(streams) = &attempt.streams else {
            let steps = self.stream_len(attempt, Stream::Steps).await?;
            let text = self.read_stream(attempt, Stream::Steps, 0, steps as usize).await?;
            for sha in lists::hashes(&text) {
                going.remove(&sha);
            }
            return Ok(());
        };
        let stays = |name: &str| part_of(name).is_none_or(|part| !gone.contains(&part));
        for (_, blob) in streams.iter().filter(|(name, _)| stays(name)) {
            going.remove(&blob.sha256);
        }
        for list in [SCREENS, FILES].into_iter().filter(|list| stays(list)) {
            for sha in self.listed(streams, list).await? {
                going.remove(&sha);
            }
        }
        Ok(())
    }
}

/// What is there of each part, bytes; of pictures only how long their list is.
fn sizes(attempts: &[StoredAttempt]) -> BTreeMap<Part, u64> {
    let mut sizes = BTreeMap::new();
    for (name, blob) in attempts.iter().flat_map(|attempt| attempt.streams.iter().flatten()) {
        if let Some(part) = part_of(name).filter(|_| blob.size > 0) {
            *sizes.entry(part).or_default() += blob.size;
        }
    }
    sizes
}

fn told(verdict: &Verdict<(JobId, Part)>, sizes: &BTreeMap<Part, u64>) -> CleanupVerdict {
    let (job, part) = verdict.what;
    CleanupVerdict {
        what: format!("job {job}"),
        part: part.word().to_owned(),
        version: None,
        bytes: sizes.get(&part).copied().filter(|_| part != Part::Screenshots),
        keep: verdict.keep,
        why: verdict.why.to_string(),
    }
}

/// What goes.
#[derive(Default)]
struct Doomed {
    /// The blobs that it named; others may name them too.
    blobs: BTreeSet<Sha256>,
    /// What is still there because only a plan is made.
    parts: BTreeMap<JobId, BTreeSet<Part>>,
}

/// What the ages of jobs follow from.
struct Rules {
    catalog: Arc<Catalog>,
    tags: Tags,
    /// Jobs that open ones depend on.
    parents: BTreeMap<JobId, JobId>,
}

impl Rules {
    fn fact(&self, job: &JobSummary, has: Vec<Part>) -> JobFact {
        let important = job.group.and_then(|group| self.important(group, job));
        JobFact {
            job: job.id,
            ended_at: job.finished_at,
            ages: self.ages(job.group),
            important,
            parent_of: self.parents.get(&job.id).copied(),
            has,
        }
    }

    /// `tag:BUILD:important:why` on the group's page, or on that of its build.
    fn important(&self, group: GroupId, job: &JobSummary) -> Option<String> {
        let name = (job.version.clone().unwrap_or_default(), job.build.clone()?);
        let tags = self.tags.on(group, &name);
        let tag = tags.into_iter().find(|tag| is_important(tag))?;
        Some(tag.strip_prefix("important: ").map_or_else(|| "build tagged".to_owned(), str::to_owned))
    }

    /// What the group says, else its parent group, else openQA's usual ages. Screenshots go with the results unless
    /// the group says otherwise.
    fn ages(&self, group: Option<GroupId>) -> Ages {
        let group = group.and_then(|id| self.catalog.groups.get(&id.0));
        let parent = group.and_then(|group| self.catalog.parents.get(&group.parent?));
        let layers: Vec<&GroupProperties> =
            group.map(|group| &group.properties).into_iter().chain(parent.map(|p| &p.properties)).collect();
        let said = |read: fn(&GroupProperties) -> Option<i64>| {
            layers.iter().find_map(|layer| read(layer)).and_then(|days| Days::try_from(days).ok())
        };
        let usual = Ages::default();
        let ages = |[logs, screens, results, jobs]: [Option<Days>; 4], usual: [Days; 4]| {
            let results = results.unwrap_or(usual[2]);
            [logs.unwrap_or(usual[0]), screens.unwrap_or(results), results, jobs.unwrap_or(usual[3])]
        };
        let plain = [
            said(|p| p.keep_logs_in_days),
            said(|p| p.keep_screenshots_in_days),
            said(|p| p.keep_results_in_days),
            said(|p| p.keep_jobs_in_days),
        ];
        let important = [
            said(|p| p.keep_important_logs_in_days),
            said(|p| p.keep_important_screenshots_in_days),
            said(|p| p.keep_important_results_in_days),
            said(|p| p.keep_important_jobs_in_days),
        ];
        Ages { usual: ages(plain, usual.usual), important: ages(important, usual.important) }
    }
}
