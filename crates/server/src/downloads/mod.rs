//! Files that jobs wait for: `ISO_URL`, `HDD_1_DECOMPRESS_URL` and their like.
//!
//! That a job is held is stored with the job, and the engine names what has to be fetched when the job is made and again
//! after each start: there is no other list of downloads. What has come of a file is kept in `assets/downloads` and
//! continued. A file that several jobs wait for is fetched once; one that is an asset already is not fetched.

mod fetch;
pub(crate) mod settings;
mod unpack;

use crate::app::App;
use crate::gate::Pauses;
use assay_connect::http::Http;
use assay_engine::assets::{AssetKey, AssetKind, AssetName};
use assay_engine::ids::JobId;
use assay_engine::io::Input;
use assay_engine::product::{Download, PlannedDownload};
use camino::{Utf8Path, Utf8PathBuf};
use fetch::Failure;
use fs_err as fs;
use settings::DownloadSettings;
use sha2::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// Files on their way at once.
const AT_ONCE: usize = 4;
/// Tries without anything having come until it is given up.
const TRIES: u32 = 8;
/// What nobody has gone on with for so long is dropped.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// The files that are wanted.
#[derive(Debug)]
pub(crate) struct Downloads {
    wishes: mpsc::UnboundedSender<Wish>,
    settings: Mutex<Arc<DownloadSettings>>,
    wanted: Mutex<BTreeMap<Download, BTreeSet<JobId>>>,
}

/// A job and what it waits for.
pub(crate) struct Wish {
    job: JobId,
    downloads: Vec<Download>,
}

impl Downloads {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Wish>) {
        let (wishes, hear) = mpsc::unbounded_channel();
        (Self { wishes, settings: Mutex::default(), wanted: Mutex::default() }, hear)
    }

    /// A job is held for these.
    pub(crate) fn want(&self, job: JobId, downloads: Vec<Download>) {
        let _ = self.wishes.send(Wish { job, downloads });
    }

    /// What of these can never be fetched here, as a sentence each: their hosts are not in `[downloads]`.
    pub(crate) fn refused<'d>(
        &self,
        downloads: impl IntoIterator<Item = &'d PlannedDownload>,
    ) -> Vec<String> {
        let settings = self.settings();
        let sentence = |planned: &PlannedDownload| {
            let why = fetch::never(&settings, &planned.download.url)?;
            let (name, jobs) = (&planned.download.name, planned.jobs.len());
            let whose =
                if jobs == 1 { "the job that waits".into() } else { format!("the {jobs} jobs that wait") };
            Some(format!("{name} cannot be fetched, and {whose} for it will end as incomplete: {why}"))
        };
        downloads.into_iter().filter_map(sentence).collect()
    }

    /// From where files may be fetched from now on.
    pub(crate) fn set(&self, settings: DownloadSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    fn settings(&self) -> Arc<DownloadSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wanted(&self) -> MutexGuard<'_, BTreeMap<Download, BTreeSet<JobId>>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self, download: &Download) -> BTreeSet<JobId> {
        self.wanted().get(download).cloned().unwrap_or_default()
    }
}

/// Fetches until the server stops.
pub(crate) async fn watch(app: Arc<App>, mut wishes: mpsc::UnboundedReceiver<Wish>, pauses: Pauses) {
    let dir = app.data.join("assets/downloads");
    if let Err(error) = sweep(dir.clone()).await {
        tracing::error!(%error, "what was left of downloads cannot be swept");
    }
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut open: BTreeMap<JobId, BTreeSet<Download>> = BTreeMap::new();
    let mut work: JoinSet<(Download, Result<(), String>)> = JoinSet::new();
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            Some(Wish { job, downloads }) = wishes.recv() => {
                if downloads.is_empty() {
                    release(&app, job, None).await;
                    continue;
                }
                for download in &downloads {
                    let mut wanted = app.downloads.wanted();
                    let is_new = !wanted.contains_key(download);
                    wanted.entry(download.clone()).or_default().insert(job);
                    if is_new {
                        let (app, dir, room) = (app.clone(), dir.clone(), room.clone());
                        let download = download.clone();
                        work.spawn(async move {
                            let got = get(&app, &dir, &download, &room, pauses).await;
                            (download, got)
                        });
                    }
                }
                open.insert(job, downloads.into_iter().collect());
            }
            Some(Ok((download, got))) = work.join_next(), if !work.is_empty() => {
                let jobs = app.downloads.wanted().remove(&download).unwrap_or_default();
                for job in jobs {
                    let Some(left) = open.get_mut(&job) else { continue };
                    left.remove(&download);
                    if left.is_empty() || got.is_err() {
                        open.remove(&job);
                        release(&app, job, got.clone().err()).await;
                    }
                }
            }
        }
    }
}

async fn release(app: &App, job: JobId, failed: Option<String>) {
    app.engine.tell(Input::Release { job, failed }).await;
}

/// Drops what nobody goes on with.
async fn sweep(dir: Utf8PathBuf) -> std::io::Result<()> {
    let sweep = move || {
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > KEPT {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(sweep).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// Makes an asset of a file, however often it takes; the error says for good why not.
async fn get(
    app: &App,
    dir: &Utf8Path,
    download: &Download,
    room: &Semaphore,
    pauses: Pauses,
) -> Result<(), String> {
    let told = |why: String| format!("{} from {}: {why}", download.name, download.url);
    let name: AssetName = download.name.parse().map_err(|error| told(format!("{error}")))?;
    let kind = AssetKind::from_word(download.kind.word()).unwrap_or(AssetKind::Other);
    let asset = AssetKey { kind, name };
    let part = dir.join(hex::encode(sha2::Sha256::digest(format!("{download:?}"))));
    let mut fruitless = 0;
    loop {
        let had = length(&part).await;
        let tried = {
            let _turn = room.acquire().await;
            attempt(app, download, &asset, &part).await
        };
        let why = match tried {
            Ok(()) => return Ok(()),
            Err(Failure::ForGood(why)) => {
                drop_part(&part).await;
                return Err(told(why));
            }
            Err(Failure::ForNow(why)) => why,
        };
        fruitless = if length(&part).await > had { 1 } else { fruitless + 1 };
        if fruitless >= TRIES {
            return Err(told(format!("given up after {TRIES} tries: {why}")));
        }
        let pause = pauses.after(fruitless);
        tracing::warn!(file = download.name, url = download.url, why, "a download failed; it is tried again");
        let trouble = format!("{} is tried again in {} s: {why}", download.name, pause.as_secs().max(1));
        for job in app.downloads.jobs(download) {
            app.engine.tell(Input::FetchFails { job, why: trouble.clone() }).await;
        }
        tokio::time::sleep(pause).await;
    }
}

async fn length(part: &Utf8Path) -> u64 {
    fs::tokio::metadata(part).await.map_or(0, |metadata| metadata.len())
}

async fn drop_part(part: &Utf8Path) {
    for path in [part.to_owned(), part.with_extension("tag"), part.with_extension("out")] {
        let _ = fs::tokio::remove_file(path).await;
    }
}

/// One try.
async fn attempt(app: &App, download: &Download, asset: &AssetKey, part: &Utf8Path) -> Result<(), Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::ForNow(error.to_string());
    if !app.assets.versions(asset).await.map_err(|error| broken(&error))?.is_empty() {
        return Ok(());
    }
    let mut wanted = false;
    for job in app.downloads.jobs(download) {
        let row = app.store.job(job).await.map_err(|error| broken(&error))?;
        wanted |= row.is_some_and(|job| job.row.hold.is_some() && !job.row.state.is_final());
    }
    if !wanted {
        return Err(Failure::ForGood("no job waits for it any more".to_owned()));
    }
    let settings = app.downloads.settings();
    let http = Http::new(true, settings.ca_file.as_deref(), 0)
        .or_else(|why| if download.url.starts_with("http://") { Http::new(false, None, 0) } else { Err(why) })
        .map_err(Failure::ForGood)?;
    fetch::fetch(&http, &settings, &download.url, part).await?;
    let ready = if download.unpack {
        let (packed, out, most) = (part.to_owned(), part.with_extension("out"), settings.most);
        let plain = out.clone();
        let unpacked = tokio::task::spawn_blocking(move || unpack::unpack(&packed, &plain, most)).await;
        unpacked.map_err(|error| broken(&error))?.map_err(Failure::ForGood)?;
        out
    } else {
        part.to_owned()
    };
    let version = app.assets.import(asset, &ready, app.clock.now()).await;
    let version = version.map_err(|error| broken(&error))?;
    app.published(&version).await;
    tracing::info!(url = download.url, %asset, sha256 = %version.blob.sha256, "downloaded");
    drop_part(part).await;
    Ok(())
}
