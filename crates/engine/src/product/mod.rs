//! Scheduling by product: a request, a catalog, and the jobs that follow from them, each setting with its provenance.
//!
//! [`plan()`] is pure and says everything: the jobs with their relations, what could not be made, what was left out and
//! why. Posting a product is carrying out such a plan ([`Plan::into_input`]); a dry run only shows it. The rules are
//! openQA's; what differs is in `docs/coming-from-openqa.md`.

mod catalog;
mod compose;
pub(crate) mod files;
mod old_builds;
mod priority;
mod relate;
mod request;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Group, Machine, Medium, MediumKey, Origin, SettingsMap, Suite, Template};
pub use compose::{fill_in, finish, over_global, search_values};
pub use files::{Download, FileKind, downloads_of, is_output, kind_of};
pub use old_builds::{BuildTag, Fate, OldJob, OpenJob, Spared, fates, spared};
pub use priority::{
    BadRule, GroupMatch, GroupProperty, Match, Priority, PriorityBase, PriorityPart, PriorityRules, Scale,
};
pub use request::{BadRequest, DEPRIORITIZE_LIMIT, Definitions, GroupFilter, OldBuilds, REQUIRED, Request};

use crate::ids::{GroupId, JobId};
use crate::io::{Input, NewJob, Obsolete};
use crate::relations::{Node, ParentRef, Relation};
use crate::rows::{ProductRun, RunProblem};
use crate::settings::{COVERED, Provenance, Setting, Settings, is_secret_name};
use compose::{Broken, Composed, compose};
use relate::{Candidate, Choice};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why nothing at all is made of a request. `Display` says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "refused")]
pub enum Refused {
    /// No medium fits.
    #[error(
        "there is no product {wanted}{hint}; add the product, or correct DISTRI, VERSION, FLAVOR and ARCH"
    )]
    NoProduct {
        /// What was asked for.
        wanted: MediumKey,
        /// The one that is most like it, as a part of the sentence.
        hint: String,
    },
    /// No group fits.
    #[error("there is no job group {group}{hint}; correct _GROUP or _GROUP_ID, or leave it out")]
    NoGroup {
        /// What was asked for.
        group: String,
        /// The one that is most like it, as a part of the sentence.
        hint: String,
    },
    /// Nothing runs for the medium.
    #[error("there are no templates for the product {medium}{within}; add them to a job group")]
    NoTemplates {
        /// The medium.
        medium: MediumKey,
        /// The group, as a part of the sentence.
        within: String,
    },
    /// No job came out, and `_FAIL_IF_NO_JOBS` is set.
    #[error("no jobs would be made, and _FAIL_IF_NO_JOBS is set; see what was left out and why")]
    NoJobs,
}

/// A job to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// Its final `TEST`.
    pub test: String,
    /// Its final `MACHINE`; empty if there is none.
    pub machine: String,
    /// Its settings.
    pub settings: Settings,
    /// How urgent it is, and why.
    pub priority: Priority,
    /// Its group.
    pub group: Option<GroupId>,
    /// What it depends on, by place in the plan; parents come first.
    pub parents: Vec<(Relation, usize)>,
}

impl PlannedJob {
    /// For example `install@64bit`.
    pub fn label(&self) -> String {
        label(&self.test, &self.machine)
    }
}

/// Something that is not as it was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// For example `install@64bit`.
    pub job: String,
    /// Its place in the plan, if it is made all the same: a job runs without a parent that nothing would make.
    pub made: Option<usize>,
    /// One sentence each.
    pub problems: Vec<String>,
}

/// Why a template makes no job this time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutWhy {
    /// `TEST` names others.
    Test,
    /// `MACHINE` names others.
    Machine,
    /// It belongs to another group than the one that is meant.
    Group(Option<GroupId>),
}

/// A template that makes no job this time. `Display` tells why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// For example `install@64bit`.
    pub job: String,
    /// Why.
    pub why: LeftOutWhy,
}

impl LeftOut {
    /// One sentence.
    pub fn sentence(&self) -> String {
        match &self.why {
            LeftOutWhy::Test => "TEST names other scenarios, and none of them depends on this one".to_owned(),
            LeftOutWhy::Machine => {
                "MACHINE names other machines, and nothing chosen depends on this one".to_owned()
            }
            LeftOutWhy::Group(Some(group)) => {
                format!("it belongs to group {group}, and another one is meant")
            }
            LeftOutWhy::Group(None) => "it belongs to no group, and one is meant".to_owned(),
        }
    }
}

/// A file to fetch, and who waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedDownload {
    /// The file.
    #[serde(flatten)]
    pub download: Download,
    /// The jobs that wait, by place in the plan.
    pub jobs: Vec<usize>,
}

/// What comes of a request.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The medium that fits.
    pub medium: Option<MediumKey>,
    /// The jobs to make, parents first.
    pub jobs: Vec<PlannedJob>,
    /// What could not be made, or not as it was meant.
    pub failed: Vec<Failed>,
    /// What was not asked for.
    pub left_out: Vec<LeftOut>,
    /// What is worth knowing, for people.
    pub notes: Vec<String>,
    /// Why nothing is made.
    pub refused: Option<Refused>,
    /// What happens to open jobs of older builds, without what is spared.
    #[serde(skip)]
    pub old_builds: Option<Obsolete>,
    /// The open jobs of older builds that are meant, where somebody has looked for them ([`fates`]).
    #[serde(default)]
    pub old_jobs: Vec<OldJob>,
    /// What has to be fetched first.
    pub downloads: Vec<PlannedDownload>,
}

/// Finds out what comes of `request`.
pub fn plan(catalog: &Catalog, request: &Request) -> Plan {
    let mut plan = Plan::default();
    if let Err(refused) = plan.fill(catalog, request) {
        plan.refused = Some(refused);
    } else if plan.jobs.is_empty() && request.fail_if_no_jobs {
        plan.refused = Some(Refused::NoJobs);
    }
    plan
}

/// A candidate, with its settings or what is wrong with them.
struct Made<'c> {
    template: &'c Template,
    test: String,
    machine: String,
    composed: Result<Composed, Broken>,
}

impl<'c> Made<'c> {
    fn of(template: &'c Template, composed: Result<Composed, Broken>) -> Self {
        let (test, machine) = match &composed {
            Ok(composed) => {
                let get = |key: &str| composed.settings.get(key).unwrap_or_default().to_owned();
                (get("TEST"), get("MACHINE"))
            }
            // Its final names are not known.
            Err(_) => (template.test().to_owned(), template.machine.clone().unwrap_or_default()),
        };
        Self { template, test, machine, composed }
    }

    fn candidate(&self) -> Candidate<'_> {
        let settings = match &self.composed {
            Ok(composed) => Ok(&composed.settings),
            Err(broken) => Err(broken.parallel_with.as_str()),
        };
        Candidate { test: &self.test, machine: &self.machine, settings }
    }

    fn node(&self, parents: &[(Relation, usize)]) -> Node {
        let classes = self.candidate().settings.ok().and_then(|settings| settings.get("WORKER_CLASS"));
        Node {
            name: label(&self.test, &self.machine),
            classes: classes.unwrap_or_default().to_owned(),
            parents: parents.to_vec(),
        }
    }

    fn problems(&self) -> &[String] {
        self.composed.as_ref().err().map_or(&[][..], |broken| broken.problems.as_slice())
    }
}

impl Plan {
    fn fill(&mut self, catalog: &Catalog, request: &Request) -> Result<(), Refused> {
        for key in request.ignored.keys() {
            self.notes.push(format!("{key} cannot be posted and does not count; the template decides it"));
        }
        self.notes.extend(request.doubtful_flags());
        let medium = self.find_medium(catalog, request)?;
        self.medium = Some(medium.key.clone());
        let templates = self.find_templates(catalog, request, medium)?;
        let compose = |template| Made::of(template, compose(catalog, request, medium, template));
        self.select(catalog, request, templates.into_iter().map(compose).collect());
        self.note_unknown_names(request);
        self.old_builds = old_builds::decide(request, &self.jobs);
        self.list_downloads();
        Ok(())
    }

    /// The medium with exactly this version, else the one whose pattern says the most.
    fn find_medium<'c>(&mut self, catalog: &'c Catalog, request: &Request) -> Result<&'c Medium, Refused> {
        let wanted = MediumKey {
            distri: request.get("DISTRI").to_owned(),
            version: request.get("VERSION").to_owned(),
            flavor: request.get("FLAVOR").to_owned(),
            arch: request.get("ARCH").to_owned(),
        };
        if let Some(medium) = catalog.media.get(&wanted) {
            return Ok(medium);
        }
        let alike = |key: &MediumKey| {
            key.distri == wanted.distri && key.flavor == wanted.flavor && key.arch == wanted.arch
        };
        let fits = |key: &MediumKey| alike(key) && glob(&key.version, &wanted.version);
        let mut found: Vec<&Medium> = catalog.media.values().filter(|medium| fits(&medium.key)).collect();
        let says = |medium: &&Medium| medium.key.version.chars().filter(|c| *c != '*').count();
        found.sort_by_key(|medium| std::cmp::Reverse(says(medium)));
        let Some((first, others)) = found.split_first() else {
            let names: Vec<String> = catalog.media.keys().map(ToString::to_string).collect();
            let hint = nearest(&wanted.to_string(), names.iter().map(String::as_str));
            return Err(Refused::NoProduct { wanted, hint });
        };
        self.notes.push(format!("no product has the version {}; {} is taken", wanted.version, first.key));
        for other in others {
            self.notes.push(format!("{} fits as well, but says less", other.key));
        }
        Ok(first)
    }

    fn find_templates<'c>(
        &mut self,
        catalog: &'c Catalog,
        request: &Request,
        medium: &Medium,
    ) -> Result<Vec<&'c Template>, Refused> {
        let templates = catalog.templates.get(&medium.key).map_or(&[][..], Vec::as_slice);
        let Some(filter) = &request.group else {
            if templates.is_empty() {
                let within = String::new();
                return Err(Refused::NoTemplates { medium: medium.key.clone(), within });
            }
            return Ok(templates.iter().collect());
        };
        let groups = find_groups(catalog, filter)?;
        let meant = |template: &&Template| template.group.is_some_and(|group| groups.contains(&group));
        let (meant, others): (Vec<_>, Vec<_>) = templates.iter().partition(meant);
        self.left_out.extend(others.into_iter().map(|template| LeftOut {
            job: label(template.test(), template.machine.as_deref().unwrap_or_default()),
            why: LeftOutWhy::Group(template.group),
        }));
        if meant.is_empty() {
            let within = match filter {
                GroupFilter::Id(id) => format!(" in group {id}"),
                GroupFilter::Name(name) => format!(" in the group {name}"),
            };
            return Err(Refused::NoTemplates { medium: medium.key.clone(), within });
        }
        Ok(meant)
    }

    /// Applies the filters and dependencies; what is left becomes the jobs.
    fn select(&mut self, catalog: &Catalog, request: &Request, made: Vec<Made<'_>>) {
        let candidates: Vec<Candidate<'_>> = made.iter().map(Made::candidate).collect();
        let related = relate::relate(&candidates, request);
        let choices = relate::choose(&candidates, &related.parents, request);
        let chosen = |place: usize| matches!(choices[place], Choice::Chosen | Choice::Along);
        let parents = |place: usize| if chosen(place) { &related.parents[place][..] } else { &[][..] };
        let nodes: Vec<Node> =
            made.iter().enumerate().map(|(place, made)| made.node(parents(place))).collect();
        let own: Vec<&[String]> = made.iter().map(Made::problems).collect();
        let unmade = relate::unmade(&nodes, &own);
        // From here on only what is made counts: its parents are made as well.
        let kept = |place: usize| chosen(place) && unmade[place].is_empty();
        let parents = |place: usize| if kept(place) { related.parents[place].clone() } else { Vec::new() };
        let parents: Vec<_> = (0..made.len()).map(parents).collect();
        let order: Vec<usize> =
            relate::parents_first(&parents).into_iter().filter(|place| kept(*place)).collect();
        let mut at = vec![0; made.len()];
        for (index, place) in order.iter().enumerate() {
            at[*place] = index;
        }
        for (place, node) in nodes.into_iter().enumerate() {
            let job = node.name;
            match choices[place] {
                Choice::Test => self.left_out.push(LeftOut { job, why: LeftOutWhy::Test }),
                Choice::Machine => self.left_out.push(LeftOut { job, why: LeftOutWhy::Machine }),
                Choice::Chosen | Choice::Along => {
                    let problems = [unmade[place].as_slice(), related.missing[place].as_slice()].concat();
                    if !problems.is_empty() {
                        let made = kept(place).then(|| at[place]);
                        self.failed.push(Failed { job, made, problems });
                    }
                }
            }
        }
        let notes = related.notes.into_iter().filter(|(place, _)| kept(*place));
        self.notes.extend(notes.map(|(_, note)| note));
        let mut made: Vec<Option<Made<'_>>> = made.into_iter().map(Some).collect();
        for place in order {
            let Some(made) = made[place].take() else { continue };
            let parents = parents[place].iter().map(|(relation, parent)| (*relation, at[*parent])).collect();
            self.add_job(catalog, request, made, parents);
        }
        self.join_notes();
    }

    fn add_job(
        &mut self,
        catalog: &Catalog,
        request: &Request,
        made: Made<'_>,
        parents: Vec<(Relation, usize)>,
    ) {
        let Made { template, test, machine, composed: Ok(composed) } = made else { return };
        let Composed { mut settings, unset, differs } = composed;
        let group = template.group.and_then(|id| catalog.groups.get(&id));
        let own = template.machine.as_ref().and_then(|name| catalog.machines.get(name)?.priority);
        let inherited = group.and_then(|group| group.default_priority);
        let (from, base) = priority::base(request.priority, template.priority, own, inherited);
        let parts = match from {
            PriorityBase::Request => Vec::new(),
            _ => catalog.priorities.parts(&settings, group),
        };
        let priority = Priority { from, base, parts };
        explain(&mut settings, &priority);
        for (key, name) in unset {
            self.notes.push(format!("{key} has %{name}%, which nobody sets"));
        }
        for key in differs {
            self.notes.push(format!(
                "{key}: the job template's value counts; in openQA's scenario definitions the product's or machine's would"
            ));
        }
        self.jobs.push(PlannedJob { test, machine, settings, priority, group: template.group, parents });
    }

    /// Says once what is true of many jobs.
    fn join_notes(&mut self) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for note in &self.notes {
            *seen.entry(note.clone()).or_default() += 1;
        }
        let mut notes = Vec::with_capacity(seen.len());
        for note in std::mem::take(&mut self.notes) {
            match seen.remove(&note) {
                Some(1) => notes.push(note),
                Some(count) => notes.push(format!("{note} ({count} jobs)")),
                None => {}
            }
        }
        self.notes = notes;
    }

    /// Filters that name what no template makes.
    fn note_unknown_names(&mut self, request: &Request) {
        let mut tests: BTreeSet<&str> = BTreeSet::new();
        let mut machines: BTreeSet<&str> = BTreeSet::new();
        for job in &self.jobs {
            tests.insert(&job.test);
            machines.insert(&job.machine);
        }
        let others = self.left_out.iter().map(|left| &left.job).chain(self.failed.iter().map(|one| &one.job));
        for job in others {
            let (test, machine) = job.rsplit_once('@').unwrap_or((job, ""));
            tests.insert(test);
            machines.insert(machine);
        }
        let mut notes = Vec::new();
        for (key, wanted, known) in
            [("TEST", &request.tests, &tests), ("MACHINE", &request.machines, &machines)]
        {
            for name in wanted.iter().filter(|name| !known.contains(name.as_str())) {
                let hint = nearest(name, known.iter().copied());
                notes.push(format!("{key}={name}: no template of this product makes that{hint}"));
            }
        }
        self.notes.extend(notes);
    }

    fn list_downloads(&mut self) {
        let mut wanted: BTreeMap<Download, Vec<usize>> = BTreeMap::new();
        for (place, job) in self.jobs.iter().enumerate() {
            for download in files::downloads(&job.settings) {
                wanted.entry(download).or_default().push(place);
            }
        }
        let planned = wanted.into_iter().map(|(download, jobs)| PlannedDownload { download, jobs });
        self.downloads = planned.collect();
    }

    /// The one input that makes all of it, or nothing. One that was refused makes nothing but the row that says why.
    pub fn into_input(mut self, request: &Request, by: &str, spared: BTreeSet<JobId>) -> Input {
        self.take_input(request, by, spared)
    }

    /// The same; what was not made stays in the plan, the jobs and downloads do not.
    pub fn take_input(&mut self, request: &Request, by: &str, spared: BTreeSet<JobId>) -> Input {
        if self.refused.is_some() {
            self.jobs.clear();
            self.old_builds = None;
        }
        self.downloads.clear();
        let planned = std::mem::take(&mut self.jobs);
        let jobs = planned.into_iter().map(|job| {
            let mut new = NewJob::new(job.settings);
            new.priority = Some(job.priority.value());
            new.group = job.group;
            new.parents = job
                .parents
                .into_iter()
                .map(|(relation, parent)| (relation, ParentRef::Posted(parent)))
                .collect();
            new
        });
        let jobs = jobs.collect();
        let failed = self.failed.iter().map(|failed| RunProblem {
            job: failed.job.clone(),
            made: failed.made,
            problems: failed.problems.clone(),
        });
        let left_out = self.left_out.iter().map(|left| RunProblem {
            job: left.job.clone(),
            made: None,
            problems: vec![left.sentence()],
        });
        let run = ProductRun {
            settings: request.covered(),
            by: by.to_owned(),
            failed: failed.collect(),
            left_out: left_out.collect(),
            refused: self.refused.as_ref().map(ToString::to_string),
            webhook: request.webhook.clone(),
        };
        let obsolete = self.old_builds.take().map(|obsolete| Obsolete { spared, ..obsolete });
        Input::PostProduct { jobs, run, obsolete }
    }
}

impl Request {
    /// What was posted, flags and filters with it, secrets covered.
    pub fn covered(&self) -> SettingsMap {
        let cover = |key: &str, value: &str| {
            if is_secret_name(key) { COVERED.to_owned() } else { value.to_owned() }
        };
        self.posted.iter().map(|(key, value)| (key.clone(), cover(key, value))).collect()
    }
}

fn explain(settings: &mut Settings, priority: &Priority) {
    if !priority.parts.is_empty() {
        let setting = Setting::new(priority.to_string(), Provenance::Default);
        settings.0.insert("_PRIORITY_EXPLANATION".to_owned(), setting);
    }
}

/// What a job is called: `install@64bit`.
pub fn label(test: &str, machine: &str) -> String {
    if machine.is_empty() { test.to_owned() } else { format!("{test}@{machine}") }
}

fn find_groups(catalog: &Catalog, filter: &GroupFilter) -> Result<BTreeSet<GroupId>, Refused> {
    let fits = |id: GroupId, group: &Group| match filter {
        GroupFilter::Id(wanted) => id.0 == *wanted,
        GroupFilter::Name(name) => group.name == *name || group.full_name() == *name,
    };
    let found: BTreeSet<GroupId> =
        catalog.groups.iter().filter(|(id, group)| fits(**id, group)).map(|(id, _)| *id).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let (group, hint) = match filter {
        GroupFilter::Id(id) => (id.to_string(), String::new()),
        GroupFilter::Name(name) => {
            let names = catalog.groups.values().map(|group| group.name.as_str());
            (name.clone(), nearest(name, names))
        }
    };
    Err(Refused::NoGroup { group, hint })
}

/// True if `pattern`, in which `*` stands for anything, is `text`.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.len() >= last.len() && text.ends_with(last)
}

/// ` (did you mean X?)`, if something known is like `name`.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    /// More would take too long, if many names are wrong.
    const MOST: usize = 2000;
    let alike = known.take(MOST).map(|other| (strsim::jaro_winkler(other, name), other));
    let best = alike.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(alike, _)| *alike > 0.8);
    best.map(|(_, other)| format!(" (did you mean {other}?)")).unwrap_or_default()
}
