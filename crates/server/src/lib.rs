//! The server: jobs come in, workers get them, pages and the API show everything.
//!
//! [`serve`] runs one on a data directory:
//!
//! | in the directory | what |
//! |---|---|
//! | `assay.db` | the database, unless [`ServerConfig::store_url`] names another |
//! | `assets/` | images and other files that jobs read and publish |
//! | `blobs/` | pictures, needles, closed logs, by content |
//! | `spool/` | logs that still grow |
//! | `git/` | repositories of gated projects, with the speculative states |
//! | `gate/` | keys of hosts seen at the first connection |
//! | `keys/receipts` | signs receipts; made at the first start, mode 0600 |
//! | `keys/secrets` | seals the secrets of API keys in the database; made at the first start, mode 0600 |
//! | `tokens/admin`, `tokens/worker` | made at the first start, mode 0600 |
//! | `server.json` | [`ServerFile`]: where the server answers, as long as it runs |
//! | `lock` | held by the running server |
//!
//! The parts: `driver` owns the engine's state and is the only one that decides; `hub` talks with workers
//! (`docs/protocols/worker.md`); `gate` carries out what the engine's gate wants done; `people` and `catalog` are what is known and set up; `api` is
//! `/api/assay/v1` and openQA's `/api/v1`; `web` is the pages.

mod api;
mod app;
mod assets;
mod auth;
mod catalog;
mod company;
mod datadir;
mod downloads;
mod driver;
mod events;
mod fault;
mod gate;
mod groups;
mod hub;
mod knowledge;
mod live;
mod needle_list;
mod needles;
mod people;
mod present;
mod products;
mod record;
mod referers;
mod remarks;
mod reporting;
mod results;
mod retention;
mod streams;
mod tasks;
mod templates;
mod told;
mod web;
mod whom;

pub use datadir::ServerFile;
pub use events::{EventSources, event_sources};

use app::App;
use assay_engine::io::Input;
use assay_engine::state::State;
use assay_engine::work::Timing;
use assay_proto::clock::{Clock, SystemClock};
use assay_store::blobs::{Blobs, LocalBlobs};
use assay_store::spool::Spool;
use assay_store::{Store, StoreError};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, put};
use axum::serve::ListenerExt;
use camino::{Utf8Path, Utf8PathBuf};
use catalog::Library;
use datadir::DataDir;
use people::People;
use people::oidc::Providers;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Events that a slow reader may be behind before it is told to look at everything again.
const EVENTS: usize = 1024;
/// How long connections may take to end when the server stops.
const FAREWELL: Duration = Duration::from_secs(3);

/// How to serve.
pub struct ServerConfig {
    /// The data directory; made if it is not there.
    pub data: Utf8PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `postgres://…` or `sqlite:PATH`; `assay.db` in the data directory if not given.
    pub store_url: Option<String>,
    /// `assay.toml`: what is gated. Without it nothing is.
    pub config: Option<Utf8PathBuf>,
    /// The pauses before what failed outside is tried again: the first, and the longest.
    pub pauses: Option<(Duration, Duration)>,
    /// Requests from this machine act as admin.
    pub trust_loopback: bool,
    /// A store that is open already, in place of one at `store_url`.
    pub store: Option<Arc<dyn Store>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Leases.
    pub timing: Timing,
    /// Told once the server answers.
    pub ready: Option<oneshot::Sender<ServerHandle>>,
}

impl ServerConfig {
    /// The usual: SQLite, the machine's clock, tokens for everybody.
    pub fn new(data: Utf8PathBuf, listen: SocketAddr) -> Self {
        Self {
            data,
            listen,
            store_url: None,
            config: None,
            pauses: None,
            store: None,
            trust_loopback: false,
            clock: Arc::new(SystemClock),
            timing: Timing::default(),
            ready: None,
        }
    }
}

/// A server that answers.
#[derive(Clone)]
pub struct ServerHandle {
    /// Where.
    pub address: SocketAddr,
    /// For example `http://127.0.0.1:9526`.
    pub url: String,
    /// For `Authorization: Bearer …` of people and programs.
    pub admin_token: String,
    /// For workers.
    pub worker_token: String,
    engine: driver::Engine,
    app: std::sync::Weak<App>,
}

impl std::fmt::Debug for ServerHandle {
    /// Without the tokens, so that no log ever has them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle")
            .field("address", &self.address)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl ServerHandle {
    /// Makes the server look at its clock; returns when it has dealt with everything that was due. For clocks that are
    /// moved by hand.
    pub async fn tick(&self) {
        // A refusal means that the server stops, and then nothing is due any more.
        let _ = self.engine.ask(Input::Tick).await;
        if let Some(app) = self.app.upgrade() {
            app.reporting.wake();
            app.results.wake();
        }
    }
}

/// Why a server cannot start, or ended other than by request. Each is one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The port is taken, or is nobody's to take.
    #[error("cannot listen on {listen}: {source}; {help}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
        /// What to do.
        help: &'static str,
    },
    /// Another server is there.
    #[error(
        "a server already runs on {path}{other}; use that one, stop it, or give this one another directory with --data"
    )]
    InUse {
        /// The data directory.
        path: Utf8PathBuf,
        /// What is known of it.
        other: String,
    },
    /// The data directory cannot be used.
    #[error("cannot use {path}: {source}; give a directory that you may write to with --data")]
    Data {
        /// The file or directory.
        path: Utf8PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A token was edited.
    #[error(
        "{path} does not hold a token of 64 hex digits; remove the file, and a new token is made at the next start"
    )]
    BadToken {
        /// The file.
        path: Utf8PathBuf,
    },
    /// The key that signs receipts was edited.
    #[error(
        "{path} is no key: {why}; without the old key, remove the file: a new key is made at the next start, and those who \
         verify receipts have to trust it too"
    )]
    BadKey {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key that secrets are sealed with was edited.
    #[error(
        "{path} does not hold a key of 64 hex digits; restore it from a backup, or remove it: a new key is made at the \
         next start, and every API key has to be made anew"
    )]
    BadSeal {
        /// The file.
        path: Utf8PathBuf,
    },
    /// `assay.toml`.
    #[error("the server's configuration is wrong:\n{0}")]
    Config(String),
    /// Something that the gate needs.
    #[error("the gate cannot start: {0}")]
    Gate(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another server took over.
    #[error("another server has taken over the database; this one has stopped, so that only one decides")]
    Deposed,
    /// A fault of the engine that does not go away.
    #[error(
        "the server's engine panics at every step, so it has stopped; report it as a bug with the server's log and a copy \
         of the database"
    )]
    Engine,
    /// The listener broke.
    #[error("the listener failed: {0}")]
    Serve(#[source] std::io::Error),
}

impl ServerError {
    fn config(diagnostics: Vec<assay_formats::diagnostic::Diagnostic>) -> Self {
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        Self::Config(lines.join("\n"))
    }
}

/// Opens the data directory. A child of a killed server that is between fork and exec holds the lock for a moment more;
/// that is waited for.
async fn open_data(path: &Utf8Path) -> Result<DataDir, ServerError> {
    for _ in 0..100 {
        match DataDir::open(path) {
            Err(ServerError::InUse { .. }) if datadir::named_server_is_gone(path) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
    DataDir::open(path)
}

/// Serves until `shutdown`.
pub async fn serve(config: ServerConfig, shutdown: CancellationToken) -> Result<(), ServerError> {
    let data = open_data(&config.data).await?;
    let tokens = data.tokens()?;
    let listener = listen(config.listen).await?;
    let address = listener.local_addr().map_err(ServerError::Serve)?;
    let store = match config.store {
        Some(store) => store,
        None => assay_store::open(&config.store_url.unwrap_or_else(|| data.database_url())).await?,
    };
    let blobs: Arc<dyn Blobs> = Arc::new(LocalBlobs::open(&config.data)?);
    let spool = Spool::open(&config.data, blobs.clone())?;

    let (engine, inbox) = driver::channel();
    let (hub, ends) = gate::Hub::new();
    let stop = shutdown.child_token();
    let tasks = TaskTracker::new();
    let (downloads, wishes) = downloads::Downloads::new();
    let epoch = store.acquire_leadership().await?;
    let people =
        People::load(store.clone(), epoch, data.seal()?, config.clock.clone(), tasks.clone()).await?;
    let (results, posted) = results::Results::new(store.results().last_result().await?, epoch);
    let plan = gate::Plan::prepare(&data, config.config.as_deref(), &config.clock, epoch, config.pauses)?;
    let app = Arc::new(App {
        results,
        people: Arc::new(people),
        referers: referers::Referers::default(),
        providers: Providers::new(config.clock.clone()),
        library: Library::load(store.clone(), epoch).await?,
        guard: auth::Guard::new(&tokens, config.trust_loopback, address),
        data: config.data.canonicalize_utf8().unwrap_or_else(|_| config.data.clone()),
        once: auth::once::Once::new(config.clock.now()),
        store: store.clone(),
        blobs,
        spool,
        assets: assets::Assets::open(&config.data, store.clone())?,
        downloads,
        task_runs: tasks::Tasks::default(),
        engine: engine.clone(),
        hub: hub::Hub::default(),
        live: live::LiveAttempts::default(),
        closers: app::Closers::default(),
        rewriting: tokio::sync::Mutex::default(),
        told: told::Told::default(),
        searches: api::openqa::Searches::default(),
        looks: needle_list::Looks::default(),
        gate: hub,
        limits: std::sync::Mutex::new(plan.limits().clone()),
        outside: events::Hub::new(epoch),
        reporting: reporting::Hub::new(epoch),
        trouble: std::sync::Mutex::default(),
        events: broadcast::Sender::new(EVENTS),
        recent: std::sync::Mutex::default(),
        clock: config.clock.clone(),
        shutdown: stop.clone(),
        tasks,
    });
    let pauses =
        config.pauses.map_or_else(gate::Pauses::default, |(first, most)| gate::Pauses { first, most });
    let rows = driver::seeded(store.load().await?, &app).await?;
    app.assets.lead(epoch).await?;
    app.sweep_spool().await?;
    for attempt in rows.attempts.iter().filter(|attempt| attempt.end.is_none()) {
        app.take_up(attempt.id).await?;
    }
    let unclosed = store.unclosed().await?;
    let state = State::rebuild(rows, config.timing, config.clock.now());
    app.gate.publish(state.gate().snapshot());
    let url = format!("http://{}", reachable(address));
    let outside = plan.events();
    reporting::configure(&app, plan.reports(), plan.url().unwrap_or(&url));
    reporting::people::load(&app).await?;
    // First, as it puts the settings in force by which jobs become results.
    gate::start(&app, plan, ends, &url);
    let driver = app.tasks.spawn(driver::drive(app.clone(), inbox, state, epoch, stop.clone()));
    app.tasks.spawn(assets::watch(app.clone()));
    app.tasks.spawn(retention::watch(app.clone()));
    app.tasks.spawn(results::write(app.clone(), posted));
    app.tasks.spawn(results::anew::follow(app.clone(), pauses));
    for attempt in unclosed {
        app.close_streams(attempt);
    }

    app.tasks.spawn(downloads::watch(app.clone(), wishes, pauses));
    events::start(&app, outside)?;
    reporting::start(&app, pauses);
    data.announce(&url).map_err(|source| ServerError::Data { path: config.data.clone(), source })?;
    tracing::info!(url, data = %config.data, "serving");
    if let Some(ready) = config.ready {
        let (admin_token, worker_token) = (tokens.admin, tokens.worker);
        let _ = ready.send(ServerHandle {
            address,
            url,
            admin_token,
            worker_token,
            engine,
            app: Arc::downgrade(&app),
        });
    }
    let listener = listener.tap_io(|socket| {
        // Small answers must not wait for more; without this each event would be late by up to 40 ms.
        let _ = socket.set_nodelay(true);
    });
    let service = routes(app.clone()).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
    let ended = converge(serving.into_future(), driver, &stop).await;
    stop.cancel();
    app.tasks.close();
    if tokio::time::timeout(FAREWELL, app.tasks.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time; they are cut");
    }
    if tokio::time::timeout(FAREWELL, store.close()).await.is_err() {
        tracing::warn!("the database could not be closed in time");
    }
    ended
}

/// Waits for the end of the listener and of the driver; each ends the other.
async fn converge(
    serving: impl Future<Output = std::io::Result<()>>,
    mut driver: tokio::task::JoinHandle<driver::Ended>,
    stop: &CancellationToken,
) -> Result<(), ServerError> {
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        served = &mut serving => {
            stop.cancel();
            served.map_err(ServerError::Serve)?;
            tokio::time::timeout(FAREWELL, &mut driver).await.unwrap_or_else(|_| {
                tracing::warn!("the database did not answer in time; what was on its way to it is cut");
                driver.abort();
                Ok(driver::Ended::Asked)
            })
        }
        ended = &mut driver => {
            stop.cancel();
            // Connections that do not end by themselves are dropped with the listener.
            let _ = tokio::time::timeout(FAREWELL, serving).await;
            ended
        }
    };
    match ended {
        Ok(driver::Ended::Asked) => Ok(()),
        Ok(driver::Ended::Deposed) => Err(ServerError::Deposed),
        Ok(driver::Ended::Broken) => Err(ServerError::Engine),
        Err(error) => Err(ServerError::Serve(std::io::Error::other(error))),
    }
}

async fn listen(listen: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(listen).await.map_err(|source| {
        let help = match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program has the port: stop it, or use --listen 127.0.0.1:0 for a free one"
            }
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need privileges: use --listen 127.0.0.1:0 for a free one"
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "this machine does not have that address: use --listen 127.0.0.1:0"
            }
            _ => "use --listen 127.0.0.1:0 for a free port on this machine only",
        };
        ServerError::Listen { listen, source, help }
    })
}

/// An address to reach the server at from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn routes(app: Arc<App>) -> Router {
    let workers = Router::new()
        .route("/ws", get(hub::socket::connect))
        .route("/blobs/{sha256}", put(hub::blobs::put).get(hub::blobs::get))
        .layer(DefaultBodyLimit::disable())
        .merge(api::assets::worker_router())
        .layer(axum::middleware::from_fn(auth::workers_only));
    Router::new()
        .merge(web::router())
        .merge(gate::router())
        .merge(events::api::hooks().layer(axum::middleware::from_fn(fault::as_faults)))
        .merge(reporting::people::router())
        .nest("/api/assay/v1", api::router())
        .nest("/api/v1", api::openqa::router())
        .merge(api::openqa::files::router())
        .merge(api::resultsdb::router())
        .merge(api::waivers::router())
        .merge(api::decision::router())
        .nest("/worker/v1", workers)
        .route("/healthz", get(api::healthz))
        .route("/health", get(api::healthz))
        .route("/metrics", get(api::metrics))
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::find_role))
        .layer(axum::middleware::from_fn(web::safe_headers))
        .with_state(app)
}
