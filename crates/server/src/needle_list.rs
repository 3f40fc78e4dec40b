//! Which needles there are, and which steps compared them with a screen last.
//!
//! Steps are in the records of jobs, not in the database: the newest jobs are looked through, each of them once.

use crate::app::App;
use crate::fault::Fault;
use crate::needles::needle_dir;
use crate::record::Run;
use assay_engine::ids::{JobId, Timestamp};
use assay_engine::job::StateWord;
use assay_git::checkout::{Checkout, Commit};
use assay_records::step::StepBody;
use assay_screen::NeedleJson;
use assay_store::{JobFilter, StoreError, StoredJob};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

/// The newest jobs with needles that are looked through, and the newest of all among which they are sought.
pub(crate) const JOBS: usize = 200;
const ENDED: u32 = 1_000;
/// What directories may have in them, all together, before the rest is left out.
const ENTRIES: usize = 50_000;
/// Folders within folders that are looked into.
const DEPTH: usize = 32;
/// So many seconds the list is good enough for a search.
const RECENT: i64 = 60;
/// The largest JSON file that is read, bytes.
const LARGEST: u64 = 1 << 20;

/// A step that compared a needle with its screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) job: JobId,
    /// When the job ended.
    pub(crate) at: Timestamp,
    pub(crate) module: String,
    pub(crate) step: u32,
}

/// What is known of a needle.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KnownNeedle {
    pub(crate) tags: Vec<String>,
    /// Its file, below the directory; `None` if it is not there, or is not on this host.
    pub(crate) file: Option<String>,
    /// The last step that compared it with a screen.
    pub(crate) seen: Option<Sight>,
    /// The last step that found it.
    pub(crate) matched: Option<Sight>,
}

/// Needles by their names.
pub(crate) type Needles = BTreeMap<String, KnownNeedle>;

/// What was read before.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// Of jobs whose records stay as they are.
    jobs: tokio::sync::Mutex<BTreeMap<JobId, Arc<Needles>>>,
    /// The whole list, and when it was made.
    list: std::sync::Mutex<Option<(Timestamp, Arc<Vec<NeedleDir>>)>>,
}

/// The needles of one directory.
#[derive(Debug)]
pub(crate) struct NeedleDir {
    /// The directory, or the address that it is fetched from.
    pub(crate) place: Utf8PathBuf,
    /// It is on this host, so that its files are known.
    pub(crate) here: bool,
    /// All of its files are known: what is not among them is not there.
    pub(crate) whole: bool,
    /// The last commit to it, if it is in a checkout.
    pub(crate) commit: Option<Commit>,
    pub(crate) needles: Needles,
}

/// The needles of a run's steps.
fn looked_at(job: JobId, at: Timestamp, run: &Run) -> Needles {
    let mut needles = Needles::new();
    for step in run.steps() {
        let StepBody::Look { matched, candidates, .. } = &step.body else { continue };
        let sight = Sight { job, at, module: step.module.clone(), step: step.number };
        let hits = matched.iter().map(|hit| (hit, true)).chain(candidates.iter().map(|hit| (hit, false)));
        for (hit, found) in hits {
            let needle = needles.entry(hit.name.clone()).or_default();
            needle.tags.clone_from(&hit.tags);
            needle.seen = Some(sight.clone());
            if found {
                needle.matched = Some(sight.clone());
            }
        }
    }
    needles
}

/// Adds what an older job says.
fn add(known: &mut Needles, older: &Needles) {
    for (name, needle) in older {
        let newer = known.entry(name.clone()).or_insert_with(|| needle.clone());
        if newer.matched.is_none() {
            newer.matched.clone_from(&needle.matched);
        }
    }
}

/// What the needles of several branches of a repository have in common.
fn place(dir: Utf8PathBuf) -> Utf8PathBuf {
    match dir.as_str().split_once('#') {
        Some((address, _)) if address.contains("://") => address.into(),
        _ => dir,
    }
}

/// The JSON files below a folder, as long as there is something `left` of what may be looked at; false if these are not all.
fn collect(dir: &Utf8Path, left: &mut usize, files: &mut Vec<Utf8PathBuf>) -> bool {
    let mut open = vec![(dir.to_owned(), 0)];
    let mut whole = true;
    while let Some((dir, depth)) = open.pop() {
        let Ok(entries) = dir.read_dir_utf8() else {
            whole = false;
            continue;
        };
        for entry in entries.flatten() {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !entry.file_name().starts_with('.') {
                if depth < DEPTH {
                    open.push((entry.path().to_owned(), depth + 1));
                } else {
                    whole = false;
                }
            } else if entry.path().extension() == Some("json") {
                // What a link leads to is not looked at.
                whole &= kind.is_file();
                files.extend(kind.is_file().then(|| entry.path().to_owned()));
            }
        }
    }
    whole
}

/// A file, if it is a needle.
fn parsed(file: &Utf8Path, name: &str) -> Option<NeedleJson> {
    if fs::metadata(file).ok()?.len() > LARGEST {
        return None;
    }
    NeedleJson::parse(name, &fs::read(file).ok()?).ok()
}

impl NeedleDir {
    /// What jobs say of needles, and what their directory says, if it is on this host.
    fn read(place: Utf8PathBuf, mut needles: Needles, data: &Utf8Path, left: &mut usize) -> Self {
        let here = place.is_absolute() && place.is_dir();
        let mut files = Vec::new();
        let whole = here && collect(&place, left, &mut files);
        for file in files {
            let name = file.file_stem().unwrap_or_default();
            let json = parsed(&file, name);
            // Other files may be JSON, too.
            if json.is_none() && !needles.contains_key(name) {
                continue;
            }
            let needle = needles.entry(name.to_owned()).or_default();
            needle.tags = json.map_or_else(|| std::mem::take(&mut needle.tags), |json| json.tags);
            needle.file = Some(file.strip_prefix(&place).unwrap_or(&file).to_string());
        }
        // What jobs leave in the data directory could make git run programs as the server.
        let outside = here && place.canonicalize_utf8().is_ok_and(|dir| !dir.starts_with(data));
        let checkout = outside.then(|| Checkout::of(&place).ok()).flatten();
        let commit = checkout.and_then(|checkout| checkout.newest().ok().flatten());
        Self { place, here, whole, commit, needles }
    }
}

impl App {
    /// The needles that a job's steps looked at, and whether its record stays as it is.
    async fn looks_of(&self, job: &StoredJob) -> Result<(Arc<Needles>, bool), StoreError> {
        let Some(attempt) = self.store.attempts(job.row.id).await?.pop() else {
            return Ok((Arc::default(), true));
        };
        let at = job.row.state.end().map_or(job.row.created_at, |end| end.at);
        let run = self.run_of(&attempt).await?;
        Ok((Arc::new(looked_at(job.row.id, at, &run)), attempt.streams.is_some()))
    }

    /// What was known of needles a moment ago, or else now.
    pub(crate) async fn recent_needles(&self) -> Result<Arc<Vec<NeedleDir>>, Fault> {
        let list = self.looks.list.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match list {
            Some((at, list)) if self.clock.now().micros_since(at) < RECENT * 1_000_000 => Ok(list),
            _ => self.known_needles().await,
        }
    }

    /// The needles of the newest jobs that have ended, by the directories that they are from.
    pub(crate) async fn known_needles(&self) -> Result<Arc<Vec<NeedleDir>>, Fault> {
        let states = StateWord::ALL.into_iter().filter(|state| state.is_final()).collect();
        let ended = self.store.jobs(&JobFilter { states, limit: ENDED, ..JobFilter::default() }).await?;
        let with_needles = ended.iter().filter_map(|job| Some((needle_dir(&job.row.settings)?, job)));
        let with_needles: Vec<_> = with_needles.take(JOBS).collect();
        let mut dirs: BTreeMap<Utf8PathBuf, Needles> = BTreeMap::new();
        let mut known = self.looks.jobs.lock().await;
        let mut used = BTreeSet::new();
        for (dir, job) in with_needles {
            let id = job.row.id;
            let looks = match known.get(&id) {
                Some(looks) => looks.clone(),
                None => match self.looks_of(job).await {
                    Ok((looks, settled)) => {
                        // At once: whoever asks may not wait for all of them.
                        if settled {
                            known.insert(id, looks.clone());
                        }
                        looks
                    }
                    Err(error) => {
                        tracing::warn!(job = id.0, %error, "its needles cannot be read");
                        continue;
                    }
                },
            };
            used.insert(id);
            add(dirs.entry(place(dir)).or_default(), &looks);
        }
        known.retain(|id, _| used.contains(id));
        drop(known);
        let data = self.data.clone();
        let mut left = ENTRIES;
        let read = move |(place, needles)| NeedleDir::read(place, needles, &data, &mut left);
        let list: Vec<NeedleDir> = tokio::task::spawn_blocking(move || dirs.into_iter().map(read).collect())
            .await
            .map_err(|_| Fault::bad("The needles cannot be listed.", "Report it as a bug."))?;
        let list = Arc::new(list);
        let made = Some((self.clock.now(), Arc::clone(&list)));
        *self.looks.list.lock().unwrap_or_else(PoisonError::into_inner) = made;
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_job_that_found_a_needle_counts() {
        let sight = |job| Some(Sight { job: JobId(job), at: Timestamp(job), module: "m".into(), step: 1 });
        let of = |seen, matched: Option<i64>| {
            let needle =
                KnownNeedle { seen: sight(seen), matched: matched.and_then(sight), ..KnownNeedle::default() };
            Needles::from([("a".to_owned(), needle)])
        };
        let mut known = Needles::new();
        for older in [of(3, None), of(2, Some(2)), of(1, Some(1))] {
            add(&mut known, &older);
        }
        assert_eq!(known, of(3, Some(2)));
    }

    #[test]
    fn branches_of_a_repository_are_one_place() {
        for (dir, expected) in [
            ("https://h/t.git#main/needles", "https://h/t.git"),
            ("https://h/t.git/needles", "https://h/t.git/needles"),
            ("/tests#1/needles", "/tests#1/needles"),
        ] {
            assert_eq!(place(dir.into()).as_str(), expected);
        }
    }
}
