//! A Gerrit that is good enough for `git-review`, for Zuul's client code and for ours: a model of changes and votes
//! behind real SSH, git and HTTP, with switches for everything that goes wrong between a gate and its review server.

mod commands;
mod control;
mod core;
mod faults;
mod handle;
mod http;
mod hub;
pub mod model;
mod push;
pub mod repos;
mod rest;
mod rest_json;
mod serve;
mod ssh;
mod submit;
#[cfg(test)]
mod tests;
mod wire;

pub use self::serve::{ServeOptions, serve};
pub use faults::{SubmitTrouble, Trouble};
pub use handle::Handle;
pub use hub::Mishap;
pub use model::{
    Account, Change, Ident, LabelRule, Numbers, Patchset, Review, Rights, Status, SubmitType, Vote,
};

use self::core::Core;
use self::repos::Repos;
use anyhow::Context as _;
use assay_proto::clock::{Clock, SystemClock};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The hook that adds a Change-Id.
pub const COMMIT_MSG_HOOK: &str = include_str!("commit-msg");
/// Who pushes when a test says that somebody else did.
pub const FOREIGN: &str = "foreign";
/// The longest that a test may wait for something that it says will happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// What a fake Gerrit begins with.
#[derive(Clone)]
pub struct Options {
    /// Where the repositories are.
    pub dir: Utf8PathBuf,
    /// Who there is.
    pub accounts: Vec<Account>,
    /// Any key opens an account that exists.
    pub any_key: bool,
    /// The shape of numbers in events and queries.
    pub numbers: Numbers,
    /// Labels of every project.
    pub labels: Vec<LabelRule>,
    /// Who may do what beside voting.
    pub rights: Rights,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Most rows of one answer to a query.
    pub page: usize,
    /// Also tell of the refs of changes, as newer servers do.
    pub change_ref_events: bool,
    /// The number of the first change.
    pub first_number: u64,
    /// Port for SSH, zero for any.
    pub ssh_port: u16,
    /// Port for HTTP, zero for any.
    pub http_port: u16,
}

impl Options {
    /// The usual labels and rights, nobody with an account.
    pub fn new(dir: impl AsRef<Utf8Path>) -> Self {
        Self {
            dir: dir.as_ref().to_owned(),
            accounts: Vec::new(),
            any_key: false,
            numbers: Numbers::default(),
            labels: LabelRule::usual(),
            rights: Rights::default(),
            clock: Arc::new(SystemClock),
            page: 500,
            change_ref_events: false,
            first_number: 1,
            ssh_port: 0,
            http_port: 0,
        }
    }

    /// The same with one more account.
    #[must_use]
    pub fn with(mut self, account: Account) -> Self {
        self.accounts.push(account);
        self
    }
}

impl Account {
    /// An account in no group.
    pub fn new(username: &str) -> Self {
        Self {
            id: 0,
            username: username.into(),
            name: username.into(),
            email: format!("{username}@fake.example"),
            groups: BTreeSet::new(),
            keys: Vec::new(),
            password: None,
        }
    }

    /// The same in these groups: `core` reviews and submits, `ci` verifies and lands, `admin` does the rest.
    #[must_use]
    pub fn in_groups(mut self, groups: &[&str]) -> Self {
        self.groups.extend(groups.iter().map(|group| (*group).to_owned()));
        self
    }

    /// The same with a public key in OpenSSH's one-line form.
    #[must_use]
    pub fn with_key(mut self, line: &str) -> Self {
        self.keys.push(line.trim().to_owned());
        self
    }

    /// The same with a password for HTTP.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }
}

/// A change to be made without a git client.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// Project.
    pub project: String,
    /// Branch.
    pub branch: String,
    /// First line of the message.
    pub subject: String,
    /// Lines below, for example `Depends-On:`.
    pub footers: Vec<String>,
    /// Path and content; no content removes the file.
    pub files: Vec<(String, Option<String>)>,
    /// Its parent; the branch's tip unless said.
    pub on: Option<String>,
    /// It is a new version of this change.
    pub version_of: Option<u64>,
}

impl Upload {
    /// A change of one file on a branch's tip.
    pub fn new(project: &str, branch: &str, subject: &str, path: &str, content: &str) -> Self {
        Self {
            project: project.into(),
            branch: branch.into(),
            subject: subject.into(),
            files: vec![(path.into(), Some(content.into()))],
            ..Self::default()
        }
    }

    /// The same on another parent.
    #[must_use]
    pub fn on(mut self, commit: &str) -> Self {
        self.on = Some(commit.into());
        self
    }

    /// The same as a new version of a change.
    #[must_use]
    pub fn version_of(mut self, number: u64) -> Self {
        self.version_of = Some(number);
        self
    }

    /// The same with a line at the end of the message.
    #[must_use]
    pub fn footer(mut self, line: &str) -> Self {
        self.footers.push(line.into());
        self
    }
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The change.
    pub number: u64,
    /// Its patchset.
    pub patchset: u32,
    /// The commit.
    pub revision: String,
    /// Its Change-Id.
    pub change_id: String,
}

/// A running fake Gerrit; it ends when this is dropped.
pub struct FakeGerrit(Handle);

impl std::ops::Deref for FakeGerrit {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl Drop for FakeGerrit {
    fn drop(&mut self) {
        self.0.core.end();
    }
}

/// Whom the server's own commits are by.
pub(crate) fn server_ident(when: i64) -> Ident {
    Ident { name: "Fake Gerrit".into(), email: "gerrit@fake.example".into(), when }
}

impl FakeGerrit {
    /// Starts it on loopback.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        fs_err::create_dir_all(&options.dir)?;
        let ssh = TcpListener::bind((Ipv4Addr::LOCALHOST, options.ssh_port)).await?;
        let http = TcpListener::bind((Ipv4Addr::LOCALHOST, options.http_port)).await?;
        let (ssh_addr, http_addr) = (ssh.local_addr()?, http.local_addr()?);
        let key = ssh::new_key()?;
        let host_key = key.public_key().to_openssh().context("the server's key cannot be written")?;
        let mut accounts = BTreeMap::new();
        let foreign = Account::new(FOREIGN).in_groups(&["admin"]);
        for (at, mut account) in options.accounts.into_iter().chain([foreign]).enumerate() {
            if account.id == 0 {
                account.id = 1_000_001 + at as u64;
            }
            accounts.insert(account.username.clone(), account);
        }
        let world = model::World {
            accounts,
            projects: BTreeMap::new(),
            changes: BTreeMap::new(),
            labels: options.labels,
            rights: options.rights,
            numbers: options.numbers,
            url: format!("http://{http_addr}"),
            ssh: ssh_addr.to_string(),
            page: options.page,
            last_number: options.first_number.saturating_sub(1),
            by_commit: BTreeMap::new(),
        };
        let core = Arc::new_cyclic(|this| Core {
            this: this.clone(),
            world: Mutex::new(world),
            repos: Repos::new(&options.dir),
            hub: hub::Hub::default(),
            faults: faults::Faults::default(),
            late: std::sync::Mutex::default(),
            clock: options.clock,
            any_key: options.any_key,
            change_ref_events: options.change_ref_events,
            sockets: std::sync::Mutex::default(),
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        core.tasks.spawn(ssh::serve(core.clone(), ssh, key));
        let handle = Handle { core: core.clone(), ssh: ssh_addr, http: http_addr, host_key };
        core.tasks.spawn(http::serve(handle.clone(), http));
        Ok(Self(handle))
    }

    /// Ends it and waits until all connections are closed.
    pub async fn stop(self) {
        self.0.core.end();
        self.0.core.tasks.close();
        self.0.core.tasks.wait().await;
    }
}
