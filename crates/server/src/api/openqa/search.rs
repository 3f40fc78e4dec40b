//! `experimental/search`: where a word occurs among modules, suites, templates and groups.

use super::Wrong;
use super::job_view;
use super::params::Params;
use super::scheduling::yaml_of;
use crate::app::App;
use crate::catalog::Catalog;
use assay_engine::settings::is_secret_name;
use assay_store::{JobFilter, SettingsMap};
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// Searches of one address in a minute.
const A_MINUTE: u32 = 5;
/// Addresses that are remembered; with more all are forgotten.
const ADDRESSES: usize = 10_000;
/// The newest jobs whose modules are looked through.
const JOBS: u32 = 200;
/// Results in one answer, usually and at most.
const ROWS: (usize, usize) = (50, 1_000);
/// The longest word.
const LONGEST: usize = 200;

/// Who searches.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    /// How often within a minute.
    often: Mutex<HashMap<IpAddr, (i64, u32)>>,
    turn: tokio::sync::Mutex<()>,
}

impl Searches {
    /// Waits until nobody else looks through everything.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// False if it was too often.
    fn allows(&self, from: IpAddr, minute: i64) -> bool {
        let mut known = self.often.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES {
            known.clear();
        }
        let (last, times) = known.entry(from).or_insert((minute, 0));
        if *last != minute {
            (*last, *times) = (minute, 0);
        }
        *times += 1;
        *times <= A_MINUTE
    }
}

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/experimental/search", get(search))
}

/// Where the word was found, and the lines that have it.
struct Found {
    word: String,
    results: Vec<Value>,
}

impl Found {
    fn has(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.word)
    }

    /// Notes the lines of a text that have the word, or that its name has it.
    fn look(&mut self, place: &str, text: &str) {
        let lines: Map<_, _> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| self.has(line))
            .map(|(number, line)| ((number + 1).to_string(), json!(line)))
            .collect();
        if !lines.is_empty() || self.has(place) {
            self.results.push(json!({"occurrence": place, "contents": lines}));
        }
    }
}

/// One line for each setting; secrets are not looked through.
fn text_of(settings: &SettingsMap, description: Option<&str>) -> String {
    let shown = settings.iter().filter(|(key, _)| !is_secret_name(key));
    let mut lines: Vec<_> = shown.map(|(key, value)| format!("{key}={value}")).collect();
    lines.extend(description.map(str::to_owned));
    lines.join("\n")
}

fn look_at_catalog(catalog: &Catalog, found: &mut Found) {
    for suite in catalog.suites.values() {
        let text = text_of(&suite.settings, suite.description.as_deref());
        found.look(&format!("test suite {}", suite.name), &text);
    }
    for machine in catalog.machines.values() {
        found.look(&format!("machine {}", machine.name), &text_of(&machine.settings, None));
    }
    for product in catalog.products.values() {
        let key = crate::products::medium_key(product);
        found.look(&format!("product {key}"), &text_of(&product.settings, product.description.as_deref()));
    }
    for template in catalog.templates.values().filter(|template| !template.name.is_empty()) {
        let text = text_of(&template.settings, template.description.as_deref());
        found.look(&format!("job template {}", template.name), &text);
    }
    for group in catalog.groups.values().filter(|group| group.template.is_some()) {
        found.look(&format!("job group {}", group.name), &yaml_of(catalog, group, false));
    }
}

async fn look_at_modules(app: &App, found: &mut Found) -> Result<(), Wrong> {
    let jobs = app.store.jobs(&JobFilter { limit: JOBS, ..JobFilter::default() }).await?;
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for job in &jobs {
        let (modules, _) = job_view::modules_of(app, job).await?;
        for module in modules.iter().filter_map(|module| module["name"].as_str()) {
            if found.has(module) {
                let test = job.row.settings.get("TEST").unwrap_or_default();
                places.entry(module.to_owned()).or_default().insert(test.to_owned());
            }
        }
    }
    for (module, tests) in places {
        let lines: Map<_, _> =
            tests.into_iter().enumerate().map(|(at, test)| ((at + 1).to_string(), json!(test))).collect();
        found.results.push(json!({"occurrence": format!("job module {module}"), "contents": lines}));
    }
    Ok(())
}

async fn search(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    params: Params,
) -> Result<Json<Value>, Wrong> {
    let [word] = params.required(["q"])?;
    if word.len() > LONGEST {
        return Err(Wrong::parameters(&[], &["q"]));
    }
    let most = params.number::<usize>("limit")?.unwrap_or(ROWS.0).min(ROWS.1);
    if !app.searches.allows(peer.ip(), app.clock.now().0 / 60_000_000) {
        let error =
            format!("There were more than {A_MINUTE} searches within a minute; try again in the next one");
        return Err(Wrong::new(StatusCode::TOO_MANY_REQUESTS, error));
    }
    let mut found = Found { word: word.to_lowercase(), results: Vec::new() };
    look_at_catalog(&app.library.now(), &mut found);
    look_at_modules(&app, &mut found).await?;
    let total = found.results.len();
    found.results.truncate(most);
    Ok(Json(json!({"data": {"results": found.results, "total_count": total}})))
}
