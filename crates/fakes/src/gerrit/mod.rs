//! A Gerrit that is good enough for `git-review`, for Zuul's client code and for ours: a model of changes and votes
//! behind real SSH, git and HTTP, with switches for everything that goes wrong between a gate and its review server.

mod commands;
mod core;
mod faults;
mod hub;
pub mod model;
mod push;
pub mod repos;
mod ssh;
mod submit;
mod wire;

pub use faults::{SubmitTrouble, Trouble};
pub use hub::Mishap;
pub use model::{
    Account, Change, Ident, LabelRule, Numbers, Patchset, Review, Rights, Status, SubmitType, Vote,
};

use self::core::Core;
use self::repos::{RefMove, Repos, ZERO};
use anyhow::{Context as _, bail};
use assay_proto::clock::{Clock, SystemClock};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
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
pub struct FakeGerrit {
    core: Arc<Core>,
    ssh: SocketAddr,
    http: SocketAddr,
    host_key: String,
}

impl Drop for FakeGerrit {
    fn drop(&mut self) {
        self.core.cancel.cancel();
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
        let core = Arc::new(Core {
            world: Mutex::new(world),
            repos: Repos::new(&options.dir),
            hub: hub::Hub::default(),
            faults: faults::Faults::default(),
            clock: options.clock,
            any_key: options.any_key,
            change_ref_events: options.change_ref_events,
            cancel: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        core.tasks.spawn(ssh::serve(core.clone(), ssh, key));
        drop(http);
        Ok(Self { core, ssh: ssh_addr, http: http_addr, host_key })
    }

    /// Ends it and waits until all connections are closed.
    pub async fn stop(self) {
        self.core.cancel.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }

    /// Where SSH is.
    pub fn ssh(&self) -> SocketAddr {
        self.ssh
    }

    /// Where HTTP is: `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The server's public key in OpenSSH's one-line form.
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// The line for a file of known hosts.
    pub fn known_host(&self) -> String {
        format!("[{}]:{} {}\n", self.ssh.ip(), self.ssh.port(), self.host_key)
    }

    /// Where a project's repository is.
    pub fn repository(&self, project: &str) -> Utf8PathBuf {
        self.core.repos.path(project)
    }

    /// Makes a project with an empty first commit on `master`; a repository that is there already is used as it is.
    pub async fn project(&self, name: &str, submit_type: SubmitType) -> anyhow::Result<()> {
        Ok(self.core.create_project(None, name, submit_type, "master").await?)
    }

    /// Changes how a project lands changes.
    pub async fn set_submit_type(&self, project: &str, submit_type: SubmitType) -> anyhow::Result<()> {
        let mut world = self.core.world.lock().await;
        world.projects.get_mut(project).with_context(|| format!("no project {project}"))?.submit_type =
            submit_type;
        Ok(())
    }

    /// Adds an account, or a key or group to it by giving it anew.
    pub async fn account(&self, mut account: Account) {
        let mut world = self.core.world.lock().await;
        if account.id == 0 {
            account.id = 1_000_001 + world.accounts.len() as u64;
        }
        world.accounts.insert(account.username.clone(), account);
    }

    /// Makes a branch at a commit.
    pub async fn branch(&self, project: &str, branch: &str, commit: &str) -> anyhow::Result<()> {
        self.force_push(project, branch, commit).await
    }

    /// What a branch points to.
    pub async fn tip(&self, project: &str, branch: &str) -> anyhow::Result<String> {
        let tip = self.core.repos.tip(project, branch).await?;
        tip.with_context(|| format!("{project} has no branch {branch}"))
    }

    /// Makes a commit that no ref points to: these files over those of its parent.
    pub async fn commit(
        &self,
        project: &str,
        parent: &str,
        files: &[(&str, Option<&str>)],
        message: &str,
    ) -> anyhow::Result<String> {
        // The repository's scratch ref serves one at a time.
        let _world = self.core.world.lock().await;
        let who = Ident { when: self.core.now(), ..server_ident(0) };
        Ok(self.core.repos.write(project, &[parent], files, &who, message).await?)
    }

    /// Moves a branch whatever it is at, as somebody with every right.
    pub async fn force_push(&self, project: &str, branch: &str, commit: &str) -> anyhow::Result<()> {
        let mut world = self.core.world.lock().await;
        Ok(self.core.set_branch(&mut world, project, branch, commit).await?)
    }

    /// Deletes a branch.
    pub async fn delete_branch(&self, project: &str, branch: &str) -> anyhow::Result<()> {
        let old = self.tip(project, branch).await?;
        let moved = RefMove { name: format!("refs/heads/{branch}"), old, new: ZERO.into() };
        let mut world = self.core.world.lock().await;
        self.core.move_refs(&mut world, FOREIGN, project, &[moved]).await.map_err(anyhow::Error::msg)
    }

    /// Makes a change or a patchset as a push for review would.
    pub async fn upload(&self, user: &str, upload: &Upload) -> anyhow::Result<Uploaded> {
        let parent = match &upload.on {
            Some(commit) => commit.clone(),
            None => self.tip(&upload.project, &upload.branch).await?,
        };
        let (change_id, who) = {
            let world = self.core.world.lock().await;
            let change_id = match upload.version_of {
                Some(number) => world.change(number)?.change_id.clone(),
                None => new_change_id(&upload.project, &upload.subject, world.last_number),
            };
            let account = world.accounts.get(user).with_context(|| format!("no account {user}"))?;
            let who =
                Ident { name: account.name.clone(), email: account.email.clone(), when: self.core.now() };
            (change_id, who)
        };
        let mut message = format!("{}\n\n", upload.subject);
        for line in &upload.footers {
            message.push_str(&format!("{line}\n"));
        }
        message.push_str(&format!("Change-Id: {change_id}\n"));
        let files: Vec<(&str, Option<&str>)> =
            upload.files.iter().map(|(path, content)| (path.as_str(), content.as_deref())).collect();
        let revision = {
            let _world = self.core.world.lock().await;
            self.core.repos.write(&upload.project, &[&parent], &files, &who, &message).await?
        };
        let name = format!("refs/for/{}", upload.branch);
        let command = RefMove { name, old: ZERO.into(), new: revision.clone() };
        let outcome = self.core.receive(user, &upload.project, &[command], &[], false).await;
        if let Some((_, Err(why))) = outcome.results.first() {
            bail!("the upload was refused: {why}");
        }
        let world = self.core.world.lock().await;
        let (change, patchset) = world
            .on_branch(&upload.project, &upload.branch, &revision)
            .context("the upload made no change")?;
        Ok(Uploaded { number: change.number, patchset, revision, change_id })
    }

    /// A change as it is now.
    pub async fn change(&self, number: u64) -> anyhow::Result<Change> {
        Ok(self.core.world.lock().await.change(number)?.clone())
    }

    /// Votes on the current patchset.
    pub async fn vote(&self, user: &str, number: u64, labels: &[(&str, i8)]) -> anyhow::Result<()> {
        self.review(user, number, labels, "").await
    }

    /// Comments on the current patchset.
    pub async fn comment(&self, user: &str, number: u64, message: &str) -> anyhow::Result<()> {
        self.review(user, number, &[], message).await
    }

    /// Votes and comments on the current patchset.
    pub async fn review(
        &self,
        user: &str,
        number: u64,
        labels: &[(&str, i8)],
        message: &str,
    ) -> anyhow::Result<()> {
        let patchset = self.change(number).await?.current().number;
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), *value)).collect();
        let review = Review { message: message.into(), labels, strict: true, ..Review::default() };
        Ok(self.core.review(user, number, patchset, &review).await?)
    }

    /// Gives up a change.
    pub async fn abandon(&self, user: &str, number: u64) -> anyhow::Result<()> {
        Ok(self.core.abandon(user, number, "").await?)
    }

    /// Takes up an abandoned change.
    pub async fn restore(&self, user: &str, number: u64) -> anyhow::Result<()> {
        Ok(self.core.restore(user, number, "").await?)
    }

    /// Lands the current patchset as a submit does.
    pub async fn submit(&self, user: &str, number: u64) -> anyhow::Result<()> {
        let patchset = self.change(number).await?.current().number;
        self.core.submit(user, number, patchset).await?;
        Ok(())
    }

    /// The next `count` events are dropped, doubled, delayed or reordered.
    pub fn befall_events(&self, mishap: Mishap, count: usize) {
        self.core.hub.befall(mishap, count);
    }

    /// Sends what was delayed or waited to be reordered, and ends all mishaps.
    pub fn release_events(&self) {
        self.core.hub.release();
    }

    /// Tells all streams that events were lost.
    pub async fn send_dropped_output(&self) {
        let event = self.core.world.lock().await.dropped_output(self.core.now());
        self.core.publish([event]);
    }

    /// Ends all event streams; their connections are cut.
    pub fn close_event_streams(&self) {
        self.core.hub.close_all();
    }

    /// The next `count` requests (all, without a number) whose point begins with `point` meet this. Points are
    /// `ssh:query`, `ssh:review`, `ssh:stream-events`, `ssh:upload-pack`, `ssh:receive-pack` and so on, and
    /// `http:GET /changes/…`, `http:POST …` without `/a`.
    pub fn trouble(&self, point: &str, trouble: Trouble, count: Option<usize>) {
        self.core.faults.answer(point, trouble, count);
    }

    /// Lets slow answers go and ends all troubles with answers.
    pub fn release_answers(&self) {
        self.core.faults.release();
    }

    /// Waits until so many requests have met a trouble, from the beginning on.
    pub async fn until_troubles(&self, count: usize) -> anyhow::Result<()> {
        let mut met = self.core.faults.watch();
        let wait = met.wait_for(|met| *met >= count);
        tokio::time::timeout(DEADLINE, wait).await.context("fewer requests met a trouble")??;
        Ok(())
    }

    /// What happens to the next submit in a project; several wait for one another.
    pub fn next_submit(&self, project: &str, trouble: SubmitTrouble) {
        self.core.faults.submit(project, trouble);
    }

    /// Refuses all logins, or stops to.
    pub fn refuse_logins(&self, on: bool) {
        self.core.faults.refuse_logins(on);
    }

    /// Everything that happened, whether it was sent or not.
    pub fn events(&self) -> Vec<Value> {
        self.core.hub.log()
    }

    /// Waits for an event that has happened or will.
    pub async fn until_event(&self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let mut count = self.core.hub.watch();
        let look = async {
            loop {
                count.mark_unchanged();
                if let Some(event) = self.events().into_iter().find(&wanted) {
                    return Ok(event);
                }
                count.changed().await?;
            }
        };
        tokio::time::timeout(DEADLINE, look).await.context("no such event happened")?
    }

    /// Waits until exactly so many event streams are open.
    pub async fn until_streams(&self, count: usize) -> anyhow::Result<()> {
        let mut counts = self.core.hub.watch();
        let wait = counts.wait_for(|(_, streams)| *streams == count);
        tokio::time::timeout(DEADLINE, wait).await.context("the number of event streams is another")??;
        Ok(())
    }
}

fn new_change_id(project: &str, subject: &str, last: u64) -> String {
    let digest = Sha256::digest(format!("{project}\0{subject}\0{last}"));
    format!("I{}", hex::encode(&digest[..20]))
}
