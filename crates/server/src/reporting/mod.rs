//! Who is told what was decided: rows of the outbox, written with what decides, told by one task per target.
//!
//! ```text
//! driver, results, waivers, decisions, comments ─▶ facts ─▶ outbox (in the deciding transaction) ─▶ one task per target
//! ```
//! A target is told in order. What it does not confirm is told again, under the same key, until it does or somebody gives
//! it up.

pub(crate) mod api;
pub(crate) mod build;
mod deliver;
pub(crate) mod facts;
pub(crate) mod people;
pub(crate) mod settings;
mod tellers;
mod words;

use crate::app::App;
use crate::gate::Pauses;
use crate::gate::mail::Post;
use assay_engine::report::people::Notices;
use assay_store::Epoch;
use camino::Utf8PathBuf;
use settings::{Driver, ReportSettings, Web};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use tokio::sync::Notify;

/// The note of what is not sent because this server is staging.
pub(crate) const STAGED: &str = "staging: logged, not sent";

/// How telling one target goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    /// What is being done.
    pub(crate) doing: String,
    /// Why it does not work.
    pub(crate) trouble: Option<String>,
}

/// The tasks that tell, as the rest of the server knows them.
pub(crate) struct Hub {
    settings: OnceLock<ReportSettings>,
    pub(crate) epoch: Epoch,
    /// The way to the mail server.
    pub(crate) post: Post,
    health: Mutex<BTreeMap<String, Health>>,
    /// What people want to hear of.
    people: RwLock<Arc<BTreeMap<String, Notices>>>,
    /// There is something for people.
    letters: Notify,
    /// There is something to tell, or something is to be told at once.
    news: Mutex<BTreeMap<String, Arc<Notify>>>,
}

impl Hub {
    pub(crate) fn new(epoch: Epoch) -> Self {
        Self {
            settings: OnceLock::new(),
            epoch,
            post: Post::default(),
            health: Mutex::default(),
            people: RwLock::default(),
            letters: Notify::new(),
            news: Mutex::default(),
        }
    }

    pub(crate) fn settings(&self) -> Option<&ReportSettings> {
        self.settings.get().filter(|settings| !settings.reporters.is_empty())
    }

    /// Also where nobody is told anything.
    pub(crate) fn all_settings(&self) -> Option<&ReportSettings> {
        self.settings.get()
    }

    pub(crate) fn is_staging(&self) -> bool {
        self.settings.get().is_some_and(|settings| settings.staging)
    }

    /// The account of Matrix that speaks to people: that of the first reporter that has one.
    pub(crate) fn matrix(&self) -> Option<(Web, Utf8PathBuf)> {
        self.settings.get()?.reporters.values().find_map(|reporter| match &reporter.driver {
            Driver::Matrix { web, token, .. } => Some((web.clone(), token.clone())),
            _ => None,
        })
    }

    /// What people want to hear of.
    pub(crate) fn people(&self) -> Arc<BTreeMap<String, Notices>> {
        self.people.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_people(&self, people: BTreeMap<String, Notices>) {
        *self.people.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(people);
    }

    fn health(&self) -> MutexGuard<'_, BTreeMap<String, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, target: &str, doing: &str, trouble: Option<String>) {
        self.health().insert(target.to_owned(), Health { doing: doing.to_owned(), trouble });
    }

    /// The clock was moved: all look at what is due.
    pub(crate) fn wake(&self) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        news.values().for_each(|notify| notify.notify_one());
        self.letters.notify_one();
    }

    /// Something for these targets was stored, or is to be told at once.
    pub(crate) fn stored<'a>(&self, targets: impl Iterator<Item = &'a str>) {
        let news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        for target in targets {
            if target.starts_with(people::PREFIX) {
                self.letters.notify_one();
            }
            if let Some(notify) = news.get(target) {
                notify.notify_one();
            }
        }
    }
}

/// Puts the settings in force; before anything is decided.
pub(crate) fn configure(app: &App, mut settings: ReportSettings, url: &str) {
    url.trim_end_matches('/').clone_into(&mut settings.speaker.url);
    if settings.speaker.name.is_empty() {
        "Assay".clone_into(&mut settings.speaker.name);
    }
    drop(app.reporting.settings.set(settings));
}

/// Starts a task for each target.
pub(crate) fn start(app: &Arc<App>, pauses: Pauses) {
    let Some(settings) = app.reporting.settings.get().cloned() else { return };
    for (name, reporter) in settings.reporters {
        let news = Arc::new(Notify::new());
        let mut all = app.reporting.news.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), news.clone());
        drop(all);
        let teller = tellers::Teller::new(reporter.driver);
        app.tasks.spawn(deliver::run(app.clone(), name, teller, news, pauses));
    }
    app.tasks.spawn(people::run(app.clone(), pauses));
    app.tasks.spawn(deliver::prune(app.clone(), settings.keep_days.unwrap_or(30)));
}
