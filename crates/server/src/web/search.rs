//! `/search`: one text, looked for in the names of everything: jobs, builds, groups, tables, results, needles.

use super::frame::{Badge, Frame, percent_encoded};
use super::needle_list;
use super::posts::badge;
use super::results::item_href;
use crate::app::App;
use crate::auth::Sender;
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::products::medium_key;
use askama::Template;
use assay_engine::ids::JobId;
use assay_store::{Condition, Field, JobFilter, JobSummary, NameFilter, ResultFilter, StoreError};
use axum::Router;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What is shown of each kind.
const SHOWN: usize = 20;
/// The newest jobs, and the newest results, with the text: scenarios, builds and items are those of these.
const LOOKED_AT: u32 = 200;
/// How long somebody waits for others' searches.
const TURN: Duration = Duration::from_secs(10);
/// The longest text, bytes.
const LONGEST: usize = 200;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/search", get(page))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    q: String,
}

/// Something that has the text.
struct Hit {
    href: String,
    name: String,
    about: String,
    badge: Option<Badge>,
}

impl Hit {
    fn new(href: String, name: &str) -> Self {
        Self { href, name: name.to_owned(), about: String::new(), badge: None }
    }

    fn about(self, about: &str) -> Self {
        Self { about: about.to_owned(), ..self }
    }
}

/// What was found of one kind.
struct Section {
    title: &'static str,
    hits: Vec<Hit>,
    /// There are more than are shown.
    more: bool,
    /// Where all of them are.
    whole: String,
}

impl Section {
    fn new(title: &'static str, whole: String, hits: impl IntoIterator<Item = Hit>) -> Self {
        let mut hits: Vec<_> = hits.into_iter().take(SHOWN + 1).collect();
        let more = hits.len() > SHOWN;
        hits.truncate(SHOWN);
        Self { title, hits, more, whole }
    }
}

/// A text that is looked for; small and capital letters are the same.
struct Wanted {
    /// As it was written.
    text: String,
    small: String,
    /// The same for an address.
    encoded: String,
}

impl Wanted {
    fn new(text: &str) -> Self {
        Self { text: text.to_owned(), small: text.to_lowercase(), encoded: percent_encoded(text) }
    }

    fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.small)
    }

    /// As a pattern for what is only found as it is written.
    fn pattern(&self) -> String {
        format!("*{}*", self.text)
    }
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    frame: Frame,
    q: String,
    sections: Vec<Section>,
}

async fn page(
    State(app): State<Arc<App>>,
    Extension(sender): Extension<Sender>,
    Query(asked): Query<Asked>,
) -> Response {
    super::page(&app, build(&app, &sender, asked.q.trim()).await)
}

async fn build(app: &App, sender: &Sender, q: &str) -> Result<SearchPage, Fault> {
    if q.len() > LONGEST {
        return Err(Fault::bad("The text is too long.", format!("Use at most {LONGEST} bytes.")));
    }
    let mut sections = Vec::new();
    if !q.is_empty() {
        let wanted = Wanted::new(q);
        // A text that nothing has is looked for in everything: that may keep one of the store's readers busy, not all.
        let turn = tokio::time::timeout(TURN, app.searches.turn()).await;
        let _turn = turn.map_err(|_| Fault::later("Others search.", 5))?;
        sections.extend(of_jobs(app, &wanted).await?);
        sections.extend(of_catalog(&app.library.now(), &wanted));
        sections.extend(of_results(app, &wanted).await?);
        if sender.is_operator() {
            sections.push(of_needles(app, &wanted).await?);
        }
    }
    sections.retain(|section| !section.hits.is_empty());
    Ok(SearchPage { frame: Frame::new(app.clock.now()), q: q.to_owned(), sections })
}

/// Jobs by number, name and reason, and the builds and scenarios of these.
async fn of_jobs(app: &App, wanted: &Wanted) -> Result<[Section; 3], Fault> {
    let mut jobs = Vec::new();
    if let Ok(number) = wanted.text.trim_start_matches('#').parse::<i64>() {
        let filter = JobFilter { ids: vec![JobId(number)], limit: 1, ..JobFilter::default() };
        jobs = app.store.summaries(&filter).await?;
    }
    let first = jobs.first().map(|job| job.id);
    let filter = JobFilter { text: Some(wanted.text.clone()), limit: LOOKED_AT, ..JobFilter::default() };
    let named = app.store.summaries(&filter).await?;
    jobs.extend(named.into_iter().filter(|job| Some(job.id) != first));
    let whole = format!("/tests?q={}", wanted.encoded);
    let hit = |job: &JobSummary| {
        let reason = job.reason.as_deref().unwrap_or_default();
        let hit = Hit::new(format!("/jobs/{}", job.id), &format!("#{} {}", job.id, job.name)).about(reason);
        Hit { badge: Some(badge(job)), ..hit }
    };
    Ok([
        Section::new("Jobs", whole.clone(), jobs.iter().map(hit)),
        Section::new("Builds", whole.clone(), builds(&app.library.now(), &jobs, wanted)),
        Section::new("Scenarios", whole, scenarios(&jobs, wanted)),
    ])
}

/// The builds of jobs whose names have the text; each leads to its matrix.
fn builds(catalog: &Catalog, jobs: &[JobSummary], wanted: &Wanted) -> Vec<Hit> {
    let mut known = BTreeSet::new();
    let hit = |job: &JobSummary| {
        let build = job.build.as_deref().filter(|build| wanted.is_in(build))?;
        let columns = [("distri", &job.distri), ("version", &job.version), ("build", &job.build)];
        let given = columns.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let mut query: Vec<_> =
            given.map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        query.extend(job.group.map(|group| format!("groupid={group}")));
        let group = job.group.and_then(|group| catalog.groups.get(&group.0));
        let product = [&job.distri, &job.version].map(|value| value.as_deref().unwrap_or_default()).join(" ");
        let about = group.map_or_else(|| product.clone(), |group| format!("{product} in {}", group.name));
        let hit = Hit::new(format!("/tests/overview?{}", query.join("&")), build).about(about.trim());
        known.insert(hit.href.clone()).then_some(hit)
    };
    jobs.iter().filter_map(hit).collect()
}

/// The scenarios of jobs whose names have the text; each leads to its jobs, beside the newest of them.
fn scenarios(jobs: &[JobSummary], wanted: &Wanted) -> Vec<Hit> {
    let mut known = BTreeSet::new();
    let hit = |job: &JobSummary| {
        let parts = [&job.distri, &job.version, &job.flavor, &job.arch, &job.test];
        let mut name = parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("-");
        if let Some(machine) = &job.machine {
            name = format!("{name}@{machine}");
        }
        let new = wanted.is_in(&name) && known.insert(name.clone());
        new.then(|| Hit::new(format!("/jobs/{}#previous", job.id), &name))
    };
    jobs.iter().filter_map(hit).collect()
}

/// Groups, and the tables that templates name. Settings are not looked through, there are secrets among them.
fn of_catalog(catalog: &Catalog, wanted: &Wanted) -> [Section; 4] {
    let has = |name: &str, description: Option<&String>| {
        wanted.is_in(name) || description.is_some_and(|text| wanted.is_in(text))
    };
    let parents = catalog.parents.values().filter(|one| has(&one.name, one.description.as_ref()));
    let parents = parents.map(|one| Hit::new(format!("/parent_group_overview/{}", one.id), &one.name));
    let groups = catalog.groups.values().filter(|one| has(&one.name, one.description.as_ref()));
    let groups = groups.map(|one| Hit::new(format!("/group_overview/{}", one.id), &one.name));
    let row = |table: &str, name: &str| Hit::new(format!("/admin/{table}?q={}", percent_encoded(name)), name);
    let suites = catalog.suites.values().filter(|one| has(&one.name, one.description.as_ref()));
    let suites =
        suites.map(|one| row("test_suites", &one.name).about(one.description.as_deref().unwrap_or_default()));
    let machines = catalog.machines.values().filter(|one| wanted.is_in(&one.name));
    let machines = machines.map(|one| row("machines", &one.name).about(&one.backend));
    let products = catalog.products.values().filter(|one| wanted.is_in(&medium_key(one).to_string()));
    // A table finds its rows by one cell.
    let products = products.map(|one| {
        Hit { name: medium_key(one).to_string(), ..row("products", &one.flavor) }.about(&one.name)
    });
    let whole = |table: &str| format!("/admin/{table}?q={}", wanted.encoded);
    [
        Section::new("Groups", format!("/?group={}", wanted.encoded), parents.chain(groups)),
        Section::new("Test suites", whole("test_suites"), suites),
        Section::new("Machines", whole("machines"), machines),
        Section::new("Products", "/admin/products".to_owned(), products),
    ]
}

/// Test cases, and what was tested.
async fn of_results(app: &App, wanted: &Wanted) -> Result<[Section; 2], Fault> {
    let like = vec![wanted.pattern()];
    let (results, limit) = (app.store.results(), SHOWN as u32 + 1);
    let cases = results.testcases(&NameFilter { like: like.clone(), limit, ..NameFilter::default() }).await?;
    let item = Condition { field: Field::Data("item".to_owned()), is: Vec::new(), like };
    let filter = ResultFilter { conditions: vec![item], limit: LOOKED_AT, ..ResultFilter::default() };
    // A short text is in more items than can be looked for; what else has it is shown all the same.
    let (found, too_many) = match results.results(&filter).await {
        Err(StoreError::TooBroad { most }) => (Vec::new(), Some(most)),
        found => (found?, None),
    };
    let too_many = too_many.map(|most| {
        let about = format!("More than {most} items have it: write more of the name.");
        Hit::new("/results".to_owned(), "too many to list").about(&about)
    });
    let mut items = BTreeSet::new();
    for result in found {
        let values = result.values();
        let first = |key: &str| values.get(key).and_then(|all| all.first()).cloned().unwrap_or_default();
        items.insert((first("item"), first("type")));
    }
    let encoded = percent_encoded(&wanted.pattern());
    let case = |name: &str| Hit::new(format!("/results?testcase={}", percent_encoded(name)), name);
    let cases = cases.iter().map(|one| case(&one.name));
    let items = items.iter().map(|(item, kind)| {
        let known = !kind.is_empty();
        let all = || format!("/results?item={}", percent_encoded(item));
        Hit::new(if known { item_href(kind, item) } else { all() }, item).about(kind)
    });
    Ok([
        Section::new("Test cases", format!("/results?testcase={encoded}"), cases),
        Section::new("Items", format!("/results?item={encoded}"), items.chain(too_many)),
    ])
}

async fn of_needles(app: &App, wanted: &Wanted) -> Result<Section, Fault> {
    let mut hits = Vec::new();
    for dir in app.recent_needles().await?.iter() {
        let fitting = dir.needles.iter().filter(|(name, one)| needle_list::has(&wanted.small, name, one));
        hits.extend(fitting.map(|(name, _)| {
            let href = format!("/admin/needles?q={}", percent_encoded(name));
            Hit::new(href, name).about(dir.place.as_str())
        }));
    }
    Ok(Section::new("Needles", format!("/admin/needles?q={}", wanted.encoded), hits))
}
