//! The host's git cache: one bare repository for each project and origin, shared by all jobs of all workers that use
//! the same cache directory.
//!
//! A job's repositories take their objects from here (git's alternates), read-only. So nothing is ever removed from a
//! mirror, and a broken one is put aside, to be deleted when the last job that stands on it has ended.

use super::git::{Git, GitError};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Duration;

/// A fetch is tried so often, ...
const TRIES: u32 = 3;
/// ... with this pause.
const PAUSE: Duration = Duration::from_secs(1);
/// Counts the fetches that a mirror has seen.
const FETCHED: &str = "assay.fetched";
/// Locked, shared, by every job that stands on a mirror.
const USED: &str = "assay.used";

/// All mirrors.
#[derive(Debug, Clone)]
pub(in crate::exec) struct Cache {
    dir: Utf8PathBuf,
    git: Git,
}

/// An up-to-date mirror, and the promise that it stays.
#[derive(Debug)]
pub(in crate::exec) struct Mirror {
    /// The bare repository.
    pub(in crate::exec) path: Utf8PathBuf,
    /// Its name, unique in the cache.
    pub(in crate::exec) key: String,
    /// Where it comes from.
    pub(in crate::exec) url: String,
    /// Branches and their tips.
    pub(in crate::exec) heads: BTreeMap<String, String>,
    /// The branch that the origin's `HEAD` names.
    pub(in crate::exec) default: String,
    /// Held as long as somebody uses it.
    pub(in crate::exec) lease: std::fs::File,
}

impl Cache {
    /// Uses `dir`, which is made if it is not there.
    pub(in crate::exec) fn open(dir: Utf8PathBuf, local: bool) -> std::io::Result<Self> {
        fs::create_dir_all(&dir)?;
        let git = Git { writable: vec![dir.clone()], local, ..Git::default() };
        Ok(Self { dir, git })
    }

    /// The mirror of a project, fetched after this call began.
    pub(in crate::exec) async fn mirror(&self, origin: &str, project: &str) -> Result<Mirror, String> {
        self.locked(origin, project, false).await
    }

    /// The same after the mirror has turned out to be broken.
    pub(in crate::exec) async fn repaired(&self, origin: &str, project: &str) -> Result<Mirror, String> {
        self.locked(origin, project, true).await
    }

    async fn locked(&self, origin: &str, project: &str, broken: bool) -> Result<Mirror, String> {
        let url = repository(origin, project);
        let key = format!("{}-{}", project.replace('/', "%2F"), &hex::encode(Sha256::digest(&url))[..8]);
        let path = self.dir.join(format!("{key}.git"));
        let host = |error: std::io::Error| format!("the git cache cannot be used: {error}");
        let before = fetches(&path);
        let gate = lock(self.dir.join(format!("{key}.lock")), true).await.map_err(host)?;
        self.sweep(&key);
        let cannot = |error: GitError| format!("{project} cannot be fetched from {url}: {}", error.complaint);
        if broken {
            self.put_aside(&path, &key).map_err(host)?;
        }
        // Somebody else's fetch is as good as ours if it began after we came.
        if fetches(&path) < before + 2 {
            self.update(&url, &path, &key).await.map_err(cannot)?;
        }
        let heads = if let Ok(heads) = self.heads(&path).await {
            heads
        } else {
            self.put_aside(&path, &key).map_err(host)?;
            self.update(&url, &path, &key).await.map_err(cannot)?;
            self.heads(&path).await.map_err(cannot)?
        };
        let head = self.git.run(&path, &["symbolic-ref", "--short", "HEAD"]).await;
        let default = if heads.contains_key("master") {
            "master".to_owned()
        } else {
            head.map_or_else(|_| "master".into(), |head| head.trim().to_owned())
        };
        let lease = lock(path.join(USED), false).await.map_err(host)?;
        drop(gate);
        Ok(Mirror { path, key, url, heads, default, lease })
    }

    async fn heads(&self, path: &Utf8Path) -> Result<BTreeMap<String, String>, GitError> {
        let format = "--format=%(objectname) %(refname:lstrip=2)";
        let text = self.git.run(path, &["for-each-ref", format, "refs/heads"]).await?;
        let head =
            |line: &str| line.split_once(' ').map(|(commit, name)| (name.to_owned(), commit.to_owned()));
        Ok(text.lines().filter_map(head).collect())
    }

    /// Makes or fetches a mirror. One that does not work is made anew.
    async fn update(&self, url: &str, path: &Utf8Path, key: &str) -> Result<(), GitError> {
        if path.exists() {
            let Err(error) = self.fetch(url, path).await else { return Ok(()) };
            // Whose fault was it?
            self.git.run(&self.dir, &["ls-remote", "--heads", url]).await?;
            tracing::warn!(%error, url, "a mirror does not work; making it anew");
            self.put_aside(path, key)
                .map_err(|error| GitError { command: "fetch".into(), complaint: error.to_string() })?;
        }
        let fresh = self.dir.join(format!("{key}.aside-new-{}", uuid::Uuid::new_v4().simple()));
        self.git.run(&self.dir, &["init", "--quiet", "--bare", "--template=", fresh.as_str()]).await?;
        let head = self.tried(&["ls-remote", "--symref", url, "HEAD"]).await?;
        let branch = head.lines().find_map(|line| line.strip_prefix("ref: ")?.split_whitespace().next());
        if let Some(branch) = branch.filter(|branch| branch.starts_with("refs/heads/")) {
            self.git.run(&fresh, &["symbolic-ref", "HEAD", branch]).await?;
        }
        self.fetch(url, &fresh).await?;
        fs::rename(&fresh, path)
            .map_err(|error| GitError { command: "init".into(), complaint: error.to_string() })
    }

    async fn fetch(&self, url: &str, path: &Utf8Path) -> Result<(), GitError> {
        let path_arg = format!("--git-dir={path}");
        let refs = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.tried(&[
            &path_arg,
            "fetch",
            "--quiet",
            "--prune",
            "--no-write-fetch-head",
            url,
            refs[0],
            refs[1],
        ])
        .await?;
        let count = fetches(path) + 1;
        let written = fs::write(path.join(FETCHED), count.to_string());
        written.map_err(|error| GitError { command: "fetch".into(), complaint: error.to_string() })
    }

    /// Runs git against a remote, more than once if need be.
    async fn tried(&self, args: &[&str]) -> Result<String, GitError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.git.run(&self.dir, args).await {
                Err(error) if tries < TRIES && !error.is_no_repository() => {
                    tracing::info!(%error, "trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    /// Jobs that stand on it go on; the next ones get a new one.
    fn put_aside(&self, path: &Utf8Path, key: &str) -> std::io::Result<()> {
        if path.exists() {
            fs::rename(path, self.dir.join(format!("{key}.aside-{}", uuid::Uuid::new_v4().simple())))?;
        }
        self.sweep(key);
        Ok(())
    }

    /// Removes what was put aside and is not used any more.
    fn sweep(&self, key: &str) {
        let aside = format!("{key}.aside-");
        for entry in self.dir.read_dir_utf8().into_iter().flatten().flatten() {
            if !entry.file_name().starts_with(&aside) {
                continue;
            }
            let used = fs::File::open(entry.path().join(USED));
            if used.is_ok_and(|file| file.into_parts().0.try_lock().is_err()) {
                continue;
            }
            crate::attempt::remove_tree(entry.path());
        }
    }
}

/// The address of a project's repository.
pub(in crate::exec) fn repository(base: &str, project: &str) -> String {
    format!("{}/{project}", base.trim_end_matches('/'))
}

fn fetches(path: &Utf8Path) -> u64 {
    fs::read_to_string(path.join(FETCHED)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Waits for the lock of a file, which is made if it is not there.
pub(in crate::exec) async fn lock(path: Utf8PathBuf, exclusive: bool) -> std::io::Result<std::fs::File> {
    let work = move || {
        let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let file = file.into_parts().0;
        if exclusive {
            file.lock()?;
        } else {
            file.lock_shared()?;
        }
        Ok(file)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
