//! Posting products: from the catalog and a request to one input of the engine.

use crate::app::App;
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::whom::Ask;
use assay_engine::ids::{GroupId, JobId, ProductRunId};
use assay_engine::io::{Answer, Input, Obsolete};
use assay_engine::job::StateWord;
use assay_engine::knowledge::words;
use assay_engine::outcome::Outcome;
use assay_engine::product::{self, BuildTag, MediumKey, OpenJob, Plan, Request};
use assay_engine::reason::EndReason;
use assay_store::{CommentTarget, JobFilter, JobSummary, SettingsMap, StoreError};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The most open jobs that a post looks at as old builds.
const MOST_OLD: u32 = 100_000;

/// What came of a post.
pub(crate) struct Posted {
    pub(crate) run: ProductRunId,
    pub(crate) jobs: Vec<JobId>,
    /// Jobs of older builds that were ended or have stepped back.
    pub(crate) obsoleted: Vec<JobId>,
    /// As it was carried out.
    pub(crate) plan: Plan,
}

/// A post that was refused: nothing was made but its row.
pub(crate) struct NotPosted {
    pub(crate) run: ProductRunId,
    pub(crate) plan: Plan,
}

/// The catalog as the planner wants it.
pub(crate) fn for_planning(catalog: &Catalog) -> product::Catalog {
    let mut planned = product::Catalog { global: SettingsMap::clone(&catalog.global), ..Default::default() };
    for row in catalog.machines.values() {
        planned.add_machine(machine(row));
    }
    for row in catalog.suites.values() {
        planned.add_suite(suite(row));
    }
    for row in catalog.products.values() {
        planned.add_medium(medium(row));
    }
    for row in catalog.groups.values() {
        let parent = row.parent.and_then(|id| catalog.parents.get(&id));
        planned.groups.insert(
            GroupId(row.id),
            product::Group {
                name: row.name.clone(),
                parent: parent.map(|parent| parent.name.clone()),
                description: row.description.clone().unwrap_or_default(),
                default_priority: crate::groups::usual_priority(catalog, row),
            },
        );
    }
    for row in catalog.templates.values() {
        let Some(medium) = catalog.products.get(&row.product) else { continue };
        planned.add_template(product::Template {
            name: row.name.clone(),
            medium: medium_key(medium),
            machine: catalog.machines.get(&row.machine).map(|machine| machine.name.clone()),
            suite: row.test_suite.and_then(|id| catalog.suites.get(&id)).map(|suite| suite.name.clone()),
            group: Some(GroupId(row.group)),
            priority: row.prio,
            description: row.description.clone().unwrap_or_default(),
            settings: row.settings.clone(),
        });
    }
    planned
}

/// A machine as the planner wants it.
pub(crate) fn machine(row: &assay_store::Machine) -> product::Machine {
    product::Machine {
        name: row.name.clone(),
        backend: row.backend.clone(),
        settings: row.settings.clone(),
        priority: None,
    }
}

/// A suite as the planner wants it.
pub(crate) fn suite(row: &assay_store::TestSuite) -> product::Suite {
    product::Suite {
        name: row.name.clone(),
        description: row.description.clone().unwrap_or_default(),
        settings: row.settings.clone(),
    }
}

/// A product as the planner wants it.
pub(crate) fn medium(row: &assay_store::Product) -> product::Medium {
    product::Medium { key: medium_key(row), name: row.name.clone(), settings: row.settings.clone() }
}

/// What makes a product unique.
pub(crate) fn medium_key(row: &assay_store::Product) -> MediumKey {
    MediumKey {
        distri: row.distri.clone(),
        version: row.version.clone(),
        flavor: row.flavor.clone(),
        arch: row.arch.clone(),
    }
}

/// What people know the product of a post by: `fedora-43-Server-x86_64`.
pub(crate) fn product_posted(settings: &SettingsMap) -> String {
    ["DISTRI", "VERSION", "FLAVOR", "ARCH"].map(|key| settings.get(key).map_or("", String::as_str)).join("-")
}

/// What the audit log says of a post.
pub(crate) fn noted(run: ProductRunId, settings: &SettingsMap) -> Value {
    let build = settings.get("BUILD");
    json!({"scheduled_product_id": run.0, "product": product_posted(settings), "build": build})
}

fn open(job: &JobSummary, commented: bool) -> OpenJob {
    let main = [
        ("DISTRI", &job.distri),
        ("VERSION", &job.version),
        ("FLAVOR", &job.flavor),
        ("ARCH", &job.arch),
        ("TEST", &job.test),
        ("MACHINE", &job.machine),
        ("BUILD", &job.build),
    ];
    let settings = main.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
    OpenJob { job: job.id, settings: settings.collect(), group: job.group, priority: job.priority, commented }
}

impl App {
    /// What a post would come to now.
    pub(crate) fn plan_product(&self, request: &Request) -> Plan {
        self.fetchable(product::plan(&for_planning(&self.library.now()), request))
    }

    /// The plan of a post that a rule or a schedule wants; or why nothing comes of it.
    pub(crate) fn plan_wanted(&self, settings: SettingsMap) -> Result<(Request, Plan), String> {
        let request = Request::parse(settings).map_err(|bad| bad.to_string())?;
        let plan = self.plan_product(&request);
        if let Some(refused) = &plan.refused {
            return Err(refused.to_string());
        }
        // Its jobs would end before they begin.
        let mut files = plan.downloads.iter().map(|planned| &planned.download.url);
        match files.find(|url| url.starts_with("file:")) {
            Some(url) => Err(format!(
                "{url} cannot be fetched, only what is at http or https: have a web server serve it, for example \
                 `python3 -m http.server`, and name its address"
            )),
            None => Ok((request, plan)),
        }
    }

    /// The plan with a note of each file that this server will not fetch.
    fn fetchable(&self, mut plan: Plan) -> Plan {
        plan.notes.extend(self.downloads.refused(&plan.downloads));
        plan
    }

    /// Posts a product: everything, or nothing. A plan that is refused is the error; that it was posted is noted.
    pub(crate) async fn post_product(
        &self,
        request: &Request,
        by: &str,
    ) -> Result<Result<Posted, NotPosted>, Fault> {
        self.post_planned(self.plan_product(request), request, by).await
    }

    /// What a post of these scenario definitions would come to now. Groups are the server's.
    pub(crate) fn plan_scenarios(&self, request: &Request, mut scenarios: product::Catalog) -> Plan {
        let own = for_planning(&self.library.now());
        (scenarios.groups, scenarios.global) = (own.groups, own.global);
        self.fetchable(product::plan(&scenarios, request))
    }

    /// The same for a post that has been planned.
    pub(crate) async fn post_planned(
        &self,
        mut plan: Plan,
        request: &Request,
        by: &str,
    ) -> Result<Result<Posted, NotPosted>, Fault> {
        let spared = match &plan.old_builds {
            Some(obsolete) if plan.refused.is_none() => self.spared(obsolete).await?,
            _ => BTreeSet::new(),
        };
        let input = self.resolve_tasks(plan.take_input(request, by, spared), Ask::Others).await?;
        match self.engine.ask(input).await? {
            Answer::Product { run, .. } if plan.refused.is_some() => Ok(Err(NotPosted { run, plan })),
            Answer::Product { run, jobs, obsoleted } => Ok(Ok(Posted { run, jobs, obsoleted, plan })),
            other => {
                tracing::error!(answer = ?other, "the engine gave an answer to another question");
                let error = "The engine gave a strange answer.";
                Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error, "Report it as a bug."))
            }
        }
    }

    /// Jobs of old builds that stay: somebody has commented on them, or tagged their build.
    pub(crate) async fn spared(&self, obsolete: &Obsolete) -> Result<BTreeSet<JobId>, Fault> {
        let (jobs, tags) = self.open_of(obsolete).await?;
        Ok(jobs.iter().filter(|job| product::spared(job, &tags).is_some()).map(|job| job.job).collect())
    }

    /// Says in a plan what becomes of the open jobs of older builds.
    pub(crate) async fn tell_old_jobs(&self, plan: &mut Plan) -> Result<(), Fault> {
        if let Some(obsolete) = plan.old_builds.as_ref().filter(|_| plan.refused.is_none()) {
            let (jobs, tags) = self.open_of(obsolete).await?;
            plan.old_jobs = product::fates(obsolete, &jobs, &tags);
            plan.old_jobs.sort_by_key(|old| old.job);
        }
        Ok(())
    }

    /// The open jobs of a product, and the tags of builds in their groups.
    async fn open_of(&self, obsolete: &Obsolete) -> Result<(Vec<OpenJob>, BTreeSet<BuildTag>), Fault> {
        let of = |key: &str| obsolete.matching.get(key).cloned().into_iter().collect::<Vec<_>>();
        let filter = JobFilter {
            states: StateWord::ALL.into_iter().filter(|state| !state.is_final()).collect(),
            distri: of("DISTRI"),
            version: of("VERSION"),
            flavor: of("FLAVOR"),
            arch: of("ARCH"),
            build: of("BUILD"),
            limit: MOST_OLD,
            ..JobFilter::default()
        };
        let jobs = self.store.summaries(&filter).await?;
        let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
        let mut commented = BTreeSet::new();
        for comment in self.store.knowledge().comments_of_jobs(&ids).await? {
            if let CommentTarget::Job(job) = comment.target {
                commented.insert(job);
            }
        }
        let mut tags = BTreeSet::new();
        for group in jobs.iter().filter_map(|job| job.group).collect::<BTreeSet<_>>() {
            let comments = self.store.knowledge().comments(CommentTarget::Group(group.0)).await?;
            tags.extend(words::tagged(group, comments.iter().map(|comment| comment.text.as_str())));
        }
        Ok((jobs.iter().map(|job| open(job, commented.contains(&job.id))).collect(), tags))
    }

    /// Whether a group has jobs.
    pub(crate) async fn group_has_jobs(&self, group: i64) -> Result<bool, StoreError> {
        let filter = JobFilter { groups: vec![Some(GroupId(group))], limit: 1, ..JobFilter::default() };
        Ok(!self.store.summaries(&filter).await?.is_empty())
    }

    /// A person gives a job another result; jobs that have not ended keep theirs.
    pub(crate) async fn force(
        self: &Arc<Self>,
        job: JobId,
        (outcome, why): (Outcome, Option<&str>),
        by: &str,
    ) -> Result<(), Fault> {
        let reason = why.unwrap_or_default().to_owned();
        self.engine.ask(Input::ForceResult { job, outcome, by: by.to_owned(), reason }).await?;
        let (name, old) = self.before_forced(job).await?;
        let noted = json!({
            "id": job.0, "name": name, "result": outcome.openqa(), "old_result": old.map(Outcome::openqa),
            "reason": why,
        });
        self.audit(by, "job_update_result", noted);
        Ok(())
    }

    /// The name of a job, and the result that it had before a person gave it another.
    pub(crate) async fn before_forced(&self, job: JobId) -> Result<(String, Option<Outcome>), StoreError> {
        let Some(job) = self.store.job(job).await? else { return Ok((String::new(), None)) };
        let before = match job.row.state.end().map(|end| &end.reason) {
            Some(EndReason::Forced { before, .. }) => Some(*before),
            _ => None,
        };
        Ok((job.row.name, before))
    }
}
