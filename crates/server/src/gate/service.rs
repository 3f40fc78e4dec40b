//! Starts the loops and holds what they share.

use super::auditor::{self, Auditor, Wishes};
use super::connections::{Connections, Files, Prepared};
use super::decider::Driver;
use super::hub::Ends;
use super::intake::{Ears, Intake};
use super::lander::{Lander, Pauses};
use super::load::{Loaded, load};
use super::mail::Post;
use super::merger::{self, MergeAnswer, Wish};
use super::merging;
use super::outbox::Outbox;
use super::ports::{Decider, Facts, Undecided};
use super::receipts::{Receipts, StoredLedger};
use super::repos::{RepoMachine, Repositories};
use super::settings::{self, Connection, GateSettings, Settings};
use super::status::Alarm;
use super::timers::{self, Timers};
use super::warm;
use crate::ServerError;
use crate::app::App;
use crate::datadir::DataDir;
use crate::fault::Fault;
use assay_connect::gerrit::{Gerrit, SourceOptions};
use assay_connect::{Arrival, Batch, Cursor, Inbox, InboxError, News, Source as _, Start, Tips};
use assay_engine::gate::change::RefUpdate;
use assay_engine::gate::config::{Config, EventKind};
use assay_engine::gate::ids::{BranchName, ItemId, ProjectName, SourceName};
use assay_engine::gate::io::{Input, LandRequest, LandResult};
use assay_engine::ids::Timestamp;
use assay_engine::sched::limits::Limits;
use assay_formats::diagnostic::Diagnostic;
use assay_records::receipt::{PublicKey, Signer};
use assay_store::Epoch;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// What is prepared before the server serves.
pub(crate) struct Plan {
    settings: Settings,
    file: Option<Utf8PathBuf>,
    connections: Connections,
    repositories: Repositories,
    signer: Arc<Signer>,
    epoch: Epoch,
    pauses: Pauses,
}

/// The loops that run.
pub(crate) struct Loops {
    app: std::sync::Weak<App>,
    file: Option<Utf8PathBuf>,
    settings: Mutex<GateSettings>,
    /// Where the server answers, if the settings do not say.
    address: String,
    staging: Arc<AtomicBool>,
    post: Post,
    connections: Connections,
    /// The sources that are listened to.
    wired: Mutex<BTreeMap<SourceName, Wired>>,
    decider: Arc<dyn Decider>,
    pub(super) repositories: Repositories,
    pub(super) intake: Arc<Intake>,
    signer: Arc<Signer>,
    timers: Arc<Notify>,
    audit: Arc<Wishes>,
    /// Landings under way, and what ends them by force.
    landing: Mutex<BTreeMap<ItemId, CancellationToken>>,
    /// One reading at a time.
    reading: tokio::sync::Mutex<()>,
    /// Ends the questions how projects are merged.
    asking: Mutex<CancellationToken>,
    pauses: Pauses,
}

/// A source that is listened to.
struct Wired {
    connection: Connection,
    files: Files,
    projects: BTreeSet<ProjectName>,
    end: CancellationToken,
    gone: tokio::task::JoinHandle<()>,
}

/// What a reading of the configuration came to.
#[derive(Debug, Clone)]
pub(crate) struct Reloaded {
    /// Its hash, if it is in force now.
    pub(crate) hash: Option<String>,
    /// Everything that was found.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Plan {
    /// Reads `assay.toml` and opens what the loops need.
    pub(crate) fn prepare(
        data: &DataDir,
        file: Option<&Utf8Path>,
        clock: &Arc<dyn assay_proto::clock::Clock>,
        epoch: Epoch,
        pauses: Option<(Duration, Duration)>,
    ) -> Result<Self, ServerError> {
        let settings = match file {
            Some(file) => settings::read(file).map_err(ServerError::config)?,
            None => Settings::default(),
        };
        let directory = data.path();
        let broken = |error: &dyn std::fmt::Display| ServerError::Gate(error.to_string());
        let state = data.subdirectory("gate")?;
        let connections =
            Connections::new(&settings.connections, &state, clock).map_err(|error| broken(&error))?;
        let repositories =
            Repositories::open(directory, settings.connections.clone()).map_err(|error| broken(&error))?;
        let signer = Arc::new(data.receipt_key()?);
        let pauses = pauses.map_or_else(Pauses::default, |(first, most)| Pauses { first, most });
        Ok(Self {
            settings,
            file: file.map(ToOwned::to_owned),
            connections,
            repositories,
            signer,
            epoch,
            pauses,
        })
    }

    /// How many jobs may run at once.
    pub(crate) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    /// Who is told what was decided.
    pub(crate) fn reports(&self) -> crate::reporting::settings::ReportSettings {
        self.settings.reports.clone()
    }

    /// Where people reach this server, if the configuration says it.
    pub(crate) fn url(&self) -> Option<&str> {
        self.settings.gate.url.as_deref()
    }

    /// The part that is not the gate's.
    pub(crate) fn events(&self) -> crate::events::settings::EventSettings {
        self.settings.events.clone()
    }
}

/// Starts the loops. `address` is where the server answers, if the configuration does not say.
pub(crate) fn start(app: &Arc<App>, plan: Plan, ends: Ends, address: &str) {
    let Plan { settings, file, connections, repositories, signer, epoch, pauses } = plan;
    let end = app.shutdown.clone();
    let decider: Arc<dyn Decider> = Arc::new(Driver { engine: app.engine.clone(), store: app.store.clone() });
    let sources = connections.clone();
    let connections = Arc::new(connections);
    let at = (app.store.clone(), epoch);
    let (wishes, early) = mpsc::unbounded_channel();
    let ears = Arc::new(Foresight { repositories: repositories.clone(), wishes });
    let (intake, incoming) =
        Intake::new(at, app.clock.clone(), decider.clone(), connections.clone(), pauses, app.clone(), ears);
    let news = Arc::new(Notify::new());
    let receipts = Receipts {
        store: app.store.clone(),
        epoch,
        clock: app.clock.clone(),
        signer: signer.clone(),
        ground: Arc::new(repositories.clone()),
        repositories: repositories.clone(),
        pauses,
        news,
    };
    app.gate.edit().staging = settings.gate.staging;
    let staging = Arc::new(AtomicBool::new(settings.gate.staging));
    let post = app.reporting.post.clone();
    post.set(settings.mail);
    app.downloads.set(settings.downloads);
    app.library.set_global(settings.jobs);
    app.once.require(settings.once);
    app.referers.set(settings.referers);
    app.task_runs.set(settings.tasks);
    app.results.configure(settings.results, settings.gate.url.as_deref().unwrap_or(address));
    app.providers.set(settings.sign_in, settings.gate.url.as_deref().unwrap_or(address));
    let loops = Loops {
        app: Arc::downgrade(app),
        file,
        settings: Mutex::new(settings.gate),
        address: address.to_owned(),
        staging: staging.clone(),
        post: post.clone(),
        connections: sources,
        wired: Mutex::default(),
        decider: decider.clone(),
        repositories: repositories.clone(),
        intake: intake.clone(),
        signer: signer.clone(),
        timers: Arc::new(Notify::new()),
        audit: Arc::default(),
        landing: Mutex::default(),
        reading: tokio::sync::Mutex::default(),
        asking: Mutex::default(),
        pauses,
    };
    let (timers, audit) = (loops.timers.clone(), loops.audit.clone());
    drop(app.gate.loops.set(loops));

    let Ends { merges, landings, mut refreshes, mut offers } = ends;
    let (answers, answers_in) = mpsc::unbounded_channel();
    let machine = RepoMachine::new(repositories.clone(), app.clock.clone(), app.gate.watch());
    app.tasks.spawn(merger::run(Arc::new(machine), merges, early, answers, end.clone()));
    app.tasks.spawn(answer(decider.clone(), answers_in, end.clone()));
    app.tasks.spawn(intake.clone().run(incoming, end.clone()));
    let asking = intake.clone();
    let no_more = end.clone();
    app.tasks.spawn(async move {
        loop {
            tokio::select! {
                () = no_more.cancelled() => return,
                changes = refreshes.recv() => match changes {
                    Some(changes) => changes.into_iter().for_each(|change| asking.refresh(change)),
                    None => return,
                },
                offer = offers.recv() => match offer {
                    Some((merged, project)) => asking.offer(merged, project),
                    None => return,
                },
            }
        }
    });
    let lander = Lander {
        ground: Arc::new(repositories.clone()),
        reviews: connections.clone(),
        ledger: Arc::new(StoredLedger(app.store.clone())),
        pauses,
    };
    app.tasks.spawn(land(app.clone(), lander, receipts.clone(), landings, staging.clone(), end.clone()));
    let status = app.clone();
    let note = move |project: &ProjectName, why: Option<&str>| {
        let unpublished = &mut status.gate.edit().unpublished;
        match why {
            Some(why) => drop(unpublished.insert(project.clone(), why.to_owned())),
            None => drop(unpublished.remove(project)),
        }
    };
    app.tasks.spawn(receipts.publish(note, end.clone()));
    let outbox = Outbox {
        store: app.store.clone(),
        epoch,
        clock: app.clock.clone(),
        reviews: connections.clone(),
        pauses,
        post,
        staging,
        doubtful: Arc::default(),
    };
    app.tasks.spawn(outbox.run(app.gate.reports.clone(), end.clone()));
    let auditor = Auditor { app: app.clone(), epoch, signer, repositories, wishes: audit };
    app.tasks.spawn(begin(app.clone(), settings.connections, auditor, timers, end));
}

/// Puts the configuration in force, and then begins with what needs it.
async fn begin(
    app: Arc<App>,
    connections: BTreeMap<SourceName, Connection>,
    auditor: Auditor,
    timers: Arc<Notify>,
    end: CancellationToken,
) {
    if let Some(loops) = app.gate.loops.get() {
        // What earlier landings need is known whether or not there is a configuration now.
        loops.repositories.learn(&app.gate().config);
        // Sources are listened to whether or not the configuration is good.
        if loops.reload().await.hash.is_none() {
            match loops.connections.prepare(&connections) {
                Ok(prepared) => loops.connect(&app, &connections, prepared),
                Err(why) => tracing::error!(%why, "no source is listened to"),
            }
        }
    }
    app.tasks.spawn(prune(app.clone(), auditor.epoch, end.clone()));
    app.tasks.spawn(keep_time(app.clone(), timers, end.clone()));
    app.tasks.spawn(hear_hangups(app.clone(), end.clone()));
    app.tasks.spawn(auditor.run(end));
}

/// Reads the configuration again whenever somebody sends SIGHUP.
async fn hear_hangups(app: Arc<App>, end: CancellationToken) {
    let hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    let mut hangups = match hangups {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be heard; use the API to read the configuration again");
            return;
        }
    };
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            heard = hangups.recv() => if heard.is_none() { return },
        }
        if let Some(Reloaded { hash: Some(hash), diagnostics }) = app.reload_gate().await {
            tracing::info!(hash, findings = diagnostics.len(), "the configuration is in force");
        }
    }
}

impl App {
    /// Reads the gate's configuration again; `None` while the server starts.
    pub(crate) async fn reload_gate(&self) -> Option<Reloaded> {
        Some(self.gate.loops.get()?.reload().await)
    }

    /// What sources say of changes; `None` while the server starts.
    pub(crate) fn sources(&self) -> Option<Arc<dyn Facts>> {
        Some(self.gate.loops.get()?.intake.facts.clone())
    }

    /// Where people push changes for a project's repository; `None` while the server starts.
    pub(crate) fn git_address(&self, project: &ProjectName) -> Option<String> {
        self.gate.loops.get()?.repositories.address(project)
    }

    /// Ends the alarm about commits of a branch that no receipt covers; the alarm that was.
    pub(crate) async fn acknowledge(
        &self,
        project: &ProjectName,
        branch: &BranchName,
    ) -> Result<Option<Alarm>, Fault> {
        let loops = self.gate.loops.get().ok_or_else(|| Fault::later("The server is starting.", 1))?;
        Ok(auditor::acknowledge(self, loops.intake.epoch, &loops.audit, project, branch).await?)
    }

    /// Lets go of an item whose landing was ended by force.
    pub(crate) fn end_landing(&self, item: ItemId) {
        if let Some(landing) = self.gate.loops.get().and_then(|loops| loops.landing().remove(&item)) {
            landing.cancel();
        }
    }

    /// Where a branch stands now, as an update of it.
    pub(crate) async fn ref_now(&self, project: &str, branch: &str) -> Result<RefUpdate, String> {
        use super::ports::Ground as _;
        let loops = self.gate.loops.get().ok_or("the gate starts")?;
        let (project, name) = (ProjectName::from(project), BranchName::from(branch));
        let tip = loops.repositories.look(&project, &name).await.map_err(|trouble| trouble.0)?;
        let tip = tip.ok_or_else(|| format!("{project} has no branch {name}"))?;
        let old = "0".repeat(40).as_str().into();
        Ok(RefUpdate { project, name, old, new: tip.commit })
    }

    /// The key that receipts are signed with; `None` while the server starts.
    pub(crate) fn receipt_key(&self) -> Option<PublicKey> {
        Some(self.gate.loops.get()?.signer.public_key())
    }
}

/// Gives the merger's answers to the gate; those that come together go together.
async fn answer(
    decider: Arc<dyn Decider>,
    mut answers: mpsc::UnboundedReceiver<MergeAnswer>,
    end: CancellationToken,
) {
    const TOGETHER: usize = 256;
    let mut some = Vec::with_capacity(TOGETHER);
    loop {
        let count = tokio::select! {
            () = end.cancelled() => return,
            count = answers.recv_many(&mut some, TOGETHER) => count,
        };
        if count == 0 {
            return;
        }
        let inputs =
            some.drain(..).map(|(merge, result)| decider.decide(Input::Merged { merge, result }, None));
        for told in futures_util::future::join_all(inputs).await {
            if let Err(Undecided::Refused(why)) = told {
                tracing::error!(why, "the gate does not take a speculative state");
            }
        }
    }
}

/// Lands what is to be landed, each item by itself.
async fn land(
    app: Arc<App>,
    lander: Lander,
    receipts: Receipts,
    mut requests: mpsc::UnboundedReceiver<LandRequest>,
    staging: Arc<AtomicBool>,
    end: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            () = end.cancelled() => return,
            request = requests.recv() => request,
        };
        let (Some(request), Some(loops)) = (request, app.gate.loops.get()) else { return };
        // Asked for again after the engine's state was made anew: one is enough.
        let mine = end.child_token();
        match loops.landing().entry(request.item) {
            Entry::Occupied(_) => continue,
            Entry::Vacant(place) => drop(place.insert(mine.clone())),
        }
        let (app, lander, receipts) = (app.clone(), lander.clone(), receipts.clone());
        let staging = staging.load(Ordering::Relaxed);
        app.clone().tasks.spawn(async move {
            tokio::select! {
                () = mine.cancelled() => drop(app.gate.edit().landings.remove(&request.item)),
                () = land_one(&app, &lander, &receipts, &request, staging) => {}
            }
        });
    }
}

async fn land_one(app: &App, lander: &Lander, receipts: &Receipts, request: &LandRequest, staging: bool) {
    let note = |why: Option<&str>| {
        let mut status = app.gate.edit();
        match why {
            Some(why) => drop(status.landings.insert(request.item, why.to_owned())),
            None => drop(status.landings.remove(&request.item)),
        }
    };
    // What an earlier server has landed is signed for all the same.
    let idle = staging.then_some("this server is staging (mode in assay.toml): it lands nothing");
    let result = lander.land(request, idle, &note).await;
    // Before the gate hears of it: after that nobody would ask again for the receipt.
    let mut tries = 0;
    while let Err(trouble) = receipts.sign(request, &result, &app.gate()).await {
        tries += 1;
        tracing::error!(item = %request.item, why = %trouble, "what landed has no receipt yet");
        note(Some(&trouble.0));
        tokio::time::sleep(lander.pauses.after(tries)).await;
    }
    note(None);
    if matches!(result, LandResult::Landed { .. }) && !staging {
        lander.tell(request, &note).await;
    }
    tracing::info!(item = %request.item, ?result, "a landing has ended");
    let Some(loops) = app.gate.loops.get() else { return };
    // The next request for this item, should there be one, is a new one.
    loops.landing().remove(&request.item);
    if let Err(Undecided::Refused(why)) =
        loops.decider.decide(Input::Landed { item: request.item, result }, None).await
    {
        tracing::error!(why, "the gate does not take the end of a landing");
    }
    loops.audit.wish(request.members.iter().map(|landing| landing.project.clone()));
}

/// Has what an event tells of fetched while the event is stored and its source is asked for facts.
struct Foresight {
    repositories: Repositories,
    wishes: mpsc::UnboundedSender<(ProjectName, Wish)>,
}

impl Ears for Foresight {
    fn hear(&self, source: &SourceName, arrival: &Arrival) {
        if let News::Event(event) = &arrival.news
            && matches!(event.kind, EventKind::RefUpdated | EventKind::ChangeMerged)
        {
            self.repositories.have_moved();
        }
        if let Some(made) = arrival.made.as_ref().filter(|made| self.repositories.knows(&made.project)) {
            drop(self.wishes.send(Wish::early(source.clone(), made.clone())));
        }
    }
}

/// Where a source's events go.
struct SourceInbox {
    intake: Arc<Intake>,
    source: SourceName,
}

const EVENTS: &str = "events";
const TIPS: &str = "tips";

#[async_trait::async_trait]
impl Inbox for SourceInbox {
    async fn store(&self, batch: &Batch) -> Result<(), InboxError> {
        let cursor = batch.cursor.as_ref().map(|cursor| (EVENTS.to_owned(), Some(cursor.to_text())));
        let tips = batch.tips.as_ref().map(|tips| (TIPS.to_owned(), Some(tips.to_text())));
        let cursors: Vec<_> = cursor.into_iter().chain(tips).collect();
        let received = self.intake.receive(&self.source, &batch.arrivals, &cursors).await;
        received.map_err(|error| InboxError(error.to_string()))
    }
}

/// Reads a source's events from where the inbox has got to.
async fn listen(
    app: Arc<App>,
    name: SourceName,
    gerrit: Gerrit,
    projects: BTreeSet<ProjectName>,
    end: CancellationToken,
) {
    let Some(loops) = app.gate.loops.get() else { return };
    let cursors = loop {
        match app.store.gate().cursors(&name).await {
            Ok(cursors) => break cursors,
            Err(error) => tracing::warn!(source = %name, %error, "cannot tell how far events have been read"),
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    };
    let start = Start {
        cursor: cursors.get(EVENTS).and_then(|text| Cursor::from_text(text).ok()),
        tips: cursors.get(TIPS).and_then(|text| Tips::from_text(text).ok()).unwrap_or_default(),
    };
    let mut source = gerrit.source(SourceOptions { projects, ..SourceOptions::default() }, start);
    app.gate.edit().sources.insert(name.clone(), source.health());
    let inbox = SourceInbox { intake: loops.intake.clone(), source: name };
    source.run(&inbox, &end).await;
}

/// Removes events that were dealt with long ago, now and every hour.
async fn prune(app: Arc<App>, epoch: Epoch, end: CancellationToken) {
    const AT_ONCE: u32 = 1000;
    const PAUSE: Duration = Duration::from_hours(1);
    const DAY: i64 = 86_400_000_000;
    loop {
        let Some(loops) = app.gate.loops.get() else { return };
        let keep = loops.settings().keep_events;
        let before = Timestamp(app.clock.now().0 - i64::from(keep.get()) * DAY);
        let mut removed = 0;
        loop {
            let count = app.store.gate().prune_events(epoch, before, AT_ONCE).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "old events cannot be removed; it is tried again");
                0
            });
            removed += count;
            if count < AT_ONCE || end.is_cancelled() {
                break;
            }
        }
        if removed > 0 {
            tracing::info!(removed, days = keep.get(), "old events are removed");
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Puts due times into the inbox.
async fn keep_time(app: Arc<App>, changed: Arc<Notify>, end: CancellationToken) {
    let source = SourceName::from(timers::SOURCE);
    loop {
        let timers = Timers::new(&app.gate().config);
        let wait = match look_at_clock(&app, &timers, &source).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "due times cannot be stored; they are tried again");
                Duration::from_secs(2)
            }
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Stores what is due; how long until the next.
async fn look_at_clock(
    app: &App,
    timers: &Timers,
    source: &SourceName,
) -> Result<Duration, assay_store::StoreError> {
    const LONGEST: Duration = Duration::from_mins(1); // clocks may be set
    let Some(loops) = app.gate.loops.get() else { return Ok(LONGEST) };
    let now = app.clock.now();
    let seen = app.store.gate().cursors(source).await?.remove(timers::CURSOR);
    let seen = seen.and_then(|text| text.parse().ok()).map_or(now, assay_engine::ids::Timestamp);
    let due = timers.due(seen, now);
    let Some(next) = timers.next(now) else { return Ok(LONGEST) };
    let cursor = (timers::CURSOR.to_owned(), Some(now.0.to_string()));
    loops.intake.receive(source, &due, &[cursor]).await?;
    Ok(Duration::from_micros((next.0 - now.0).max(1000) as u64).min(LONGEST))
}

impl Loops {
    fn landing(&self) -> std::sync::MutexGuard<'_, BTreeMap<ItemId, CancellationToken>> {
        self.landing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the configuration again. A bad one leaves the one before in force.
    pub(crate) async fn reload(&self) -> Reloaded {
        let _alone = self.reading.lock().await;
        let Some(app) = self.app.upgrade() else { return Reloaded { hash: None, diagnostics: Vec::new() } };
        let (settings, Loaded { config, mut diagnostics }) = self.read().await;
        let hash = config.as_ref().map(|config| config.hash.clone());
        let mut in_force = false;
        if let Some(config) = config {
            match self.put_in_force(&app, config, settings).await {
                Ok(()) => {
                    in_force = true;
                    diagnostics.extend(crate::results::known::unknown(&app).await);
                }
                Err(why) => diagnostics.extend(settings::unreadable(Utf8Path::new("configuration"), &why)),
            }
        }
        for diagnostic in diagnostics.iter().filter(|_| !in_force) {
            tracing::error!(%diagnostic, "the configuration is not taken; the one before stays in force");
        }
        // About the whole, such as jobs that nobody has defined; the rest is on the gate's page.
        for diagnostic in diagnostics.iter().filter(|found| in_force && found.line == 0) {
            tracing::warn!(%diagnostic, "the configuration is taken");
        }
        let mut status = app.gate.edit();
        status.config.in_force = in_force;
        status.config.diagnostics.clone_from(&diagnostics);
        if in_force {
            status.config.loaded_at = Some(app.clock.now());
            status.config.hash.clone_from(&hash);
        }
        Reloaded { hash: hash.filter(|_| in_force), diagnostics }
    }

    fn settings(&self) -> GateSettings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the files say; without a file for the server, the configuration as the server was started with.
    async fn read(&self) -> (Option<Settings>, Loaded) {
        let read = match self.file.as_deref().map(settings::read) {
            None => None,
            Some(Ok(read)) => Some(read),
            Some(Err(diagnostics)) => return (None, Loaded { config: None, diagnostics }),
        };
        let gate = read.as_ref().map_or_else(|| self.settings(), |read| read.gate.clone());
        let url = gate.url.clone().unwrap_or_else(|| self.address.clone());
        let nothing = Loaded { config: None, diagnostics: Vec::new() };
        let loaded = tokio::task::spawn_blocking(move || load(&gate, &url)).await.unwrap_or(nothing);
        (read, loaded)
    }

    async fn put_in_force(
        &self,
        app: &Arc<App>,
        config: Config,
        settings: Option<Settings>,
    ) -> Result<(), String> {
        // What may fail comes before what cannot be taken back.
        let prepared = settings.as_ref().map(|settings| self.connections.prepare(&settings.connections));
        let prepared = prepared.transpose().map_err(|error| error.to_string())?;
        self.repositories.learn(&config);
        let known = app.gate().config.clone();
        // Nothing is configured and nothing ever was: no reason to store that.
        if *known != config {
            let configured = self.decider.decide(Input::Configure(Arc::new(config)), None).await;
            configured.map_err(|why| why.to_string())?;
        }
        if let (
            Some(Settings {
                connections,
                gate,
                mail,
                sign_in,
                downloads,
                results,
                limits,
                jobs,
                once,
                referers,
                tasks,
                events: _,
                reports: _,
            }),
            Some(prepared),
        ) = (settings, prepared)
        {
            app.limit(limits).await;
            app.downloads.set(downloads);
            app.library.set_global(jobs);
            app.once.require(once);
            app.referers.set(referers);
            app.task_runs.set(tasks);
            self.connect(app, &connections, prepared);
            self.post.set(mail);
            app.results.configure(results, gate.url.as_deref().unwrap_or(&self.address));
            app.providers.set(sign_in, gate.url.as_deref().unwrap_or(&self.address));
            self.staging.store(gate.staging, Ordering::Relaxed);
            app.gate.edit().staging = gate.staging;
            *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = gate;
        }
        self.ask_how_projects_merge(app);
        self.timers.notify_one();
        self.audit.wish(app.gate().config.projects.keys().cloned());
        Ok(())
    }

    /// Has their sources asked how what is submitted will be merged, from the beginning.
    fn ask_how_projects_merge(&self, app: &Arc<App>) {
        let end = app.shutdown.child_token();
        let before =
            std::mem::replace(&mut *self.asking.lock().unwrap_or_else(PoisonError::into_inner), end.clone());
        before.cancel();
        let (connections, repositories) = (self.connections.clone(), self.repositories.clone());
        app.tasks.spawn(merging::learn(app.clone(), connections, repositories, self.pauses, end));
    }

    /// Listens to these sources: one that is there and the same goes on undisturbed, one that is different or gone ends.
    fn connect(
        &self,
        app: &Arc<App>,
        wanted: &BTreeMap<SourceName, Connection>,
        mut prepared: BTreeMap<SourceName, Prepared>,
    ) {
        let mut wired = self.wired.lock().unwrap_or_else(PoisonError::into_inner);
        let projects: BTreeSet<_> = app.gate().config.projects.keys().cloned().collect();
        let stays = |name: &SourceName, one: &Wired| {
            wanted.get(name) == Some(&one.connection)
                && prepared.get(name).is_some_and(|prepared| prepared.files == one.files)
                && one.projects == projects
        };
        let mut ending: BTreeMap<SourceName, tokio::task::JoinHandle<()>> = BTreeMap::new();
        for (name, one) in wired.extract_if(.., |name, one| !stays(name, one)) {
            tracing::info!(source = %name, "no longer listened to as it was");
            one.end.cancel();
            // One that is to be different stays until the new one takes its place: nobody finds it missing.
            if !wanted.contains_key(&name) {
                self.connections.remove(&name);
            }
            app.gate.edit().sources.remove(&name);
            ending.insert(name, one.gone);
        }
        self.repositories.connect(wanted.clone());
        for (name, connection) in wanted {
            if wired.contains_key(name) {
                continue;
            }
            let Some(Prepared { gerrit, files }) = prepared.remove(name) else { continue };
            self.connections.put(name.clone(), gerrit.clone());
            let end = app.shutdown.child_token();
            let before = ending.remove(name);
            let state = self.repositories.state().to_owned();
            let warm = warm::keep(connection.clone(), state, name.to_string(), end.clone());
            let listen = listen(app.clone(), name.clone(), gerrit, projects.clone(), end.clone());
            let gone = app.tasks.spawn(async move {
                // Two that read the same source would both move its cursor.
                if let Some(before) = before {
                    let _ = before.await;
                }
                futures_util::future::join(warm, listen).await;
            });
            let (connection, projects) = (connection.clone(), projects.clone());
            wired.insert(name.clone(), Wired { connection, files, projects, end, gone });
        }
    }
}
