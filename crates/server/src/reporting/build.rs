//! Build reports: what the store knows of a build and of the one before it.

use super::settings::Decide;
use super::words::{Words, escaped};
use crate::app::App;
use crate::fault::Fault;
use crate::results::conventions;
use crate::web::frame::percent_encoded;
use assay_engine::decision::Subject;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::knowledge::words::bugrefs;
use assay_engine::report::build::{
    Build, BuildJob, BuildReport, BuildVerdict, ReportLine, RequiredTest, SystemFacts, compare, text,
};
use assay_engine::report::{BuildFact, is_like};
use assay_records::step::ModuleResult;
use assay_store::{CommentTarget, JobFilter, StoreError, StoredJob};
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The most jobs of a build that are looked at.
const MOST_JOBS: u32 = 5_000;
/// The most jobs whose records are read, and the most bytes of a file in them.
const MOST_READ: usize = 400;
const MOST_BYTES: u64 = 4 << 20;

/// Jobs that are looked through for the build before, so many at a time: between two composes there are many updates.
const PAGE: u32 = 1_000;
const PAGES: usize = 40;

/// What nobody has to be told: a page that is not there, or a mail that is not sent.
pub(super) fn nothing(why: &str) -> Fault {
    Fault::not_found(format!("There is nothing to report: {why}."), "Ask for the whole report.")
}

/// A job's medium: `FLAVOR ARCH`.
fn medium(job: &StoredJob) -> Option<String> {
    let get = |key: &str| job.row.settings.get(key);
    Some(format!("{} {}", get("FLAVOR")?, get("ARCH").unwrap_or_default()))
}

/// Which report is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) build: String,
    pub(crate) distri: Option<String>,
    pub(crate) version: Option<String>,
    /// Compared with this one in place of the one before.
    pub(crate) against: Option<String>,
    /// Media that have to be there.
    pub(crate) expected: Vec<String>,
    /// Only jobs whose settings are like these.
    pub(crate) only: BTreeMap<String, Vec<String>>,
    /// No jobs with a setting that is like one of these.
    pub(crate) without: BTreeMap<String, Vec<String>>,
}

impl Asked {
    /// The newest jobs of a build of this product.
    fn jobs(&self, build: &str) -> JobFilter {
        let of = |text: &Option<String>| text.iter().cloned().collect::<Vec<_>>();
        JobFilter {
            distri: of(&self.distri),
            version: of(&self.version),
            build: vec![build.to_owned()],
            latest: true,
            limit: MOST_JOBS,
            ..JobFilter::default()
        }
    }

    /// True if a job is part of the report.
    fn wants(&self, job: &StoredJob) -> bool {
        let row = &job.row;
        let fits = |(key, patterns): (&String, &Vec<String>)| match key.as_str() {
            "group" => row.group.is_some_and(|group| is_like(patterns, &group.0.to_string())),
            key => row.settings.get(key).is_some_and(|value| is_like(patterns, value)),
        };
        self.only.iter().all(fits) && !self.without.iter().any(fits)
    }

    pub(crate) fn of(fact: &BuildFact) -> Self {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            build: fact.build.clone(),
            distri: some(&fact.distri),
            version: some(&fact.version),
            only: fact.only.clone(),
            without: fact.without.clone(),
            ..Self::default()
        }
    }
}

/// Where a build's report is.
pub(crate) fn address(url: &str, build: &str) -> String {
    format!("{url}/reports/builds/{}", percent_encoded(build))
}

impl App {
    /// The report of a build.
    pub(crate) async fn build_report(&self, asked: &Asked) -> Result<BuildReport, Fault> {
        let all = self.store.jobs(&asked.jobs(&asked.build)).await?;
        let media: BTreeSet<String> = all.iter().filter_map(medium).collect();
        let some = !all.is_empty();
        let jobs: Vec<StoredJob> = all.into_iter().filter(|job| asked.wants(job)).collect();
        if some && jobs.is_empty() {
            return Err(nothing("no job of the build is wanted"));
        }
        let Some(first) = jobs.iter().map(|job| job.row.id).min() else {
            return Err(Fault::not_found(
                format!("There are no jobs of the build {:?}.", asked.build),
                "See the builds on the front page; distri and version narrow it down.",
            ));
        };
        let against = match &asked.against {
            Some(build) => Some(build.clone()),
            None => self.build_before(&jobs, first, &asked.build).await?,
        };
        let earlier = match &against {
            Some(build) => self.store.jobs(&asked.jobs(build)).await?,
            None => Vec::new(),
        };
        let earlier: Vec<StoredJob> = earlier.into_iter().filter(|job| asked.wants(job)).collect();
        if asked.against.is_some() && earlier.is_empty() {
            return Err(Fault::not_found(
                format!("There are no jobs of the build {:?} to compare with.", against.unwrap_or_default()),
                "See the builds on the front page.",
            ));
        }
        let now = self.build_of(&asked.build, &jobs, true).await?;
        let before = match &against {
            Some(build) => Some(self.build_of(build, &earlier, false).await?),
            None => None,
        };
        let verdicts = self.verdicts(&jobs).await?;
        let mut expected = asked.expected.clone();
        let flavors = asked.only.get("FLAVOR");
        if asked.only.is_empty() || flavors.is_some() {
            let is_wanted = |medium: &String| {
                let (flavor, arch) = medium.split_once(' ').unwrap_or((medium, ""));
                let not = |key: &str, value: &str| {
                    asked.without.get(key).is_some_and(|patterns| is_like(patterns, value))
                };
                flavors.is_none_or(|flavors| is_like(flavors, flavor))
                    && !not("FLAVOR", flavor)
                    && !not("ARCH", arch)
            };
            expected.extend(self.expected_media(&asked.build).into_iter().filter(is_wanted));
        }
        let mut report = compare(&now, before.as_ref(), verdicts, &expected);
        // Another team's are not missing.
        report.missing_images.retain(|medium| !media.contains(medium));
        report.url = address(&self.results.settings().url, &asked.build);
        Ok(report)
    }

    /// What tells a build's result from another: how each of its tests has ended, and what is decided.
    pub(crate) async fn build_state(&self, asked: &Asked) -> Result<String, StoreError> {
        let jobs = self.store.jobs(&asked.jobs(&asked.build)).await?;
        let mut parts: Vec<String> = self
            .verdicts(&jobs)
            .await?
            .into_iter()
            .map(|verdict| format!("{} {} {}", verdict.product_version, verdict.context, verdict.satisfied))
            .collect();
        for job in jobs.iter().filter(|job| asked.wants(job)) {
            let outcome = job.row.state.end().map_or("", |end| end.outcome.openqa());
            parts.push(format!("{} {outcome}", job.row.settings.to_settings().job_name()));
        }
        parts.sort();
        let hash = hex::encode(sha2::Sha256::digest(parts.join("\n")));
        Ok(hash[..16].to_owned())
    }

    /// Media that a build has to have, as `[[reports.expect]]` says.
    fn expected_media(&self, build: &str) -> Vec<String> {
        let settings = self.reporting.all_settings();
        let expect = settings.into_iter().flat_map(|settings| &settings.expect);
        expect.filter(|one| is_like(&one.builds, build)).flat_map(|one| one.media.clone()).collect()
    }

    /// The build before this one in its series: of the same kind of compose, or of the same package. Updates have none.
    async fn build_before(
        &self,
        jobs: &[StoredJob],
        first: JobId,
        build: &str,
    ) -> Result<Option<String>, StoreError> {
        let of = |key: &str| {
            let values = jobs.iter().filter_map(|job| job.row.settings.get(key).map(str::to_owned));
            values.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        };
        let kind = jobs.first().map(|job| conventions::subject(&job.row.settings).kind);
        let Some(series) = conventions::series(kind.as_deref().unwrap_or("build"), build) else {
            return Ok(None);
        };
        let mut before = Some(first);
        for _ in 0..PAGES {
            let filter = JobFilter {
                distri: of("DISTRI"),
                version: of("VERSION"),
                before,
                limit: PAGE,
                ..JobFilter::default()
            };
            let earlier = self.store.summaries(&filter).await?;
            before = earlier.last().map(|job| job.id);
            let full = earlier.len() == PAGE as usize;
            let is_it = |one: &String| {
                one != build
                    && conventions::series(conventions::kind_of(one, &series), one).as_ref() == Some(&series)
            };
            if let Some(found) = earlier.into_iter().filter_map(|job| job.build).find(is_it) {
                return Ok(Some(found));
            }
            if !full {
                break;
            }
        }
        Ok(None)
    }

    async fn build_of(&self, name: &str, jobs: &[StoredJob], whole: bool) -> Result<Build, StoreError> {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.row.id).collect();
        let mut bugs: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
        if whole && !ids.is_empty() {
            for comment in self.store.knowledge().comments_of_jobs(&ids).await? {
                if let CommentTarget::Job(job) = comment.target {
                    bugs.entry(job.0).or_default().extend(bugrefs(&comment.text));
                }
            }
        }
        let mut build = Build { name: name.to_owned(), jobs: Vec::new() };
        let mut read = 0;
        for job in jobs {
            let fact = super::facts::job(&job.row, 0, Timestamp(0));
            let mut one = BuildJob::of(&fact);
            one.scenario = conventions::scenario(|key| fact.get(key));
            one.bugs = bugs.remove(&one.id).unwrap_or_default().into_iter().collect();
            if one.outcome.is_some() && read < MOST_READ {
                read += 1;
                self.read_record(job.row.id, &mut one).await?;
            }
            build.jobs.push(one);
        }
        Ok(build)
    }

    /// Modules that did not pass, and what the test found out about its system.
    async fn read_record(&self, job: JobId, one: &mut BuildJob) -> Result<(), StoreError> {
        let run = self.last_run(job).await?;
        let bad = |result| matches!(result, ModuleResult::Failed | ModuleResult::Softfailed);
        let modules = run.modules.iter().filter(|module| bad(module.result));
        one.modules = modules.map(|module| module.plan.name.clone()).collect();
        let mut facts = SystemFacts::default();
        let mut any = false;
        for file in run.artifacts.iter().filter(|file| file.size <= MOST_BYTES) {
            let named = [".log", ".txt"].iter().any(|end| file.path.ends_with(end));
            if let (true, Ok(sha)) = (named, file.sha256.parse())
                && SystemFacts::default().read(&file.path, "")
                && let Some(bytes) = self.blobs.get_verified(sha).await?
            {
                any |= facts.read(&file.path, &String::from_utf8_lossy(&bytes));
            }
        }
        one.system = any.then_some(facts);
        Ok(())
    }

    /// Decides about what these jobs test as `[[reports.decide]]` says, and remembers it. What cannot be decided now stays
    /// as it was decided last.
    async fn decide_now(&self, decide: &Decide, subjects: &BTreeSet<(String, String)>, jobs: &[StoredJob]) {
        let get = |key: &str| jobs.iter().find_map(|job| job.row.settings.get(key)).unwrap_or_default();
        let version = decide
            .product_version
            .replace("{VERSION}", &get("VERSION").to_lowercase())
            .replace("{DISTRI}", &get("DISTRI").to_lowercase());
        let contexts = std::slice::from_ref(&decide.context);
        let purposes = [(version.clone(), decide.context.clone())].into();
        for (kind, item) in subjects.iter().take(20) {
            let subject = Subject { kind: kind.clone(), item: item.clone() };
            // What no policy is about has no verdict.
            if self.results.settings().decisions.applicable(&subject, &version, contexts).is_empty() {
                continue;
            }
            if let Err(error) = self.decide_anew(&subject, Some(&purposes)).await {
                tracing::warn!(item = subject.item, %error, "a decision cannot be remembered");
            }
        }
    }

    /// What is decided about what these jobs test: the newest decision for each release and purpose.
    async fn verdicts(&self, jobs: &[StoredJob]) -> Result<Vec<BuildVerdict>, StoreError> {
        let mut subjects = BTreeSet::new();
        for job in jobs {
            let subject = conventions::subject(&job.row.settings);
            subjects.insert((subject.kind, subject.item));
        }
        if let Some(settings) = self.reporting.all_settings() {
            for decide in &settings.decide {
                self.decide_now(decide, &subjects, jobs).await;
            }
        }
        let mut verdicts = Vec::new();
        for (kind, item) in subjects.into_iter().take(20) {
            let mut seen = BTreeSet::new();
            for row in self.store.results().decisions(&[kind], &item, 50).await? {
                if !seen.insert((row.product_version.clone(), row.context.clone())) {
                    continue;
                }
                let required: Vec<RequiredTest> = serde_json::from_str(&row.body).unwrap_or_default();
                verdicts.push(BuildVerdict {
                    context: row.context,
                    product_version: row.product_version,
                    satisfied: row.satisfied,
                    summary: row.summary,
                    required,
                });
            }
        }
        Ok(verdicts)
    }
}

/// The lists of a report that are not empty, with their titles.
pub(crate) fn lists(report: &BuildReport) -> Vec<(&'static str, &'static str, &[ReportLine])> {
    let all: [(&str, &str, &[ReportLine]); 8] = [
        ("new", "New failures", &report.new_failures),
        ("old", "Old failures", &report.old_failures),
        ("new-soft", "New soft failures", &report.new_soft),
        ("old-soft", "Old soft failures", &report.old_soft),
        ("fixed", "Newly passing", &report.fixed),
        ("skipped", "Not run", &report.skipped),
        ("open", "Not ended yet", &report.open),
        ("gone", "Only in the build before", &report.gone),
    ];
    all.into_iter().filter(|(_, _, lines)| !lines.is_empty()).collect()
}

/// The report as HTML for mails: without styles of ours, in the reader's light or dark.
pub(crate) fn html(report: &BuildReport, url: &str) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{0}</title></head><body><h1><a href=\"{1}\">{0}</a></h1><p>{2}</p>",
        escaped(&report.build),
        escaped(&report.url),
        escaped(&report.summary())
    );
    if let Some(against) = &report.against {
        let _ = write!(out, "<p>Compared with {}.</p>", escaped(against));
    }
    if !report.missing_images.is_empty() {
        out.push_str("<h2>Missing images</h2><ul>");
        for image in &report.missing_images {
            let _ = write!(out, "<li>{}</li>", escaped(image));
        }
        out.push_str("</ul>");
    }
    if !report.verdicts.is_empty() {
        out.push_str("<h2>Decisions</h2><ul>");
        for verdict in &report.verdicts {
            let word = if verdict.satisfied { "passes" } else { "does not pass" };
            let _ = write!(
                out,
                "<li><strong>{word}</strong> {} ({}): {}</li>",
                escaped(&verdict.context),
                escaped(&verdict.product_version),
                escaped(&verdict.summary)
            );
        }
        out.push_str("</ul>");
    }
    for (_, title, lines) in lists(report) {
        let _ = write!(out, "<h2>{title}: {}</h2><ul>", lines.len());
        for line in lines {
            let gating = if line.gating { " <strong>required</strong>" } else { "" };
            let _ = write!(
                out,
                "<li><a href=\"{}/jobs/{}\">{}</a>{gating} {}</li>",
                escaped(url),
                line.job,
                escaped(&line.name),
                escaped(&line.notes.join("; "))
            );
        }
        out.push_str("</ul>");
    }
    for change in &report.system {
        let _ = write!(out, "<h2>System changes in {}</h2><ul>", escaped(&change.name));
        for what in &change.changes {
            let _ = write!(out, "<li>{}</li>", escaped(what));
        }
        out.push_str("</ul>");
    }
    out.push_str("</body></html>\n");
    out
}

/// The report for people.
pub(crate) fn words(report: &BuildReport, url: &str) -> Words {
    Words {
        headline: format!("{}: {}", report.build, report.summary()),
        url: Some(report.url.clone()),
        text: text(report, url),
        html: Some(html(report, url)),
    }
}
