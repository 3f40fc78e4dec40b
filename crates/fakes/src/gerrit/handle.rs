//! What a test can ask of a running server, and make it do.

use super::core::Core;
use super::faults::{SubmitTrouble, Trouble};
use super::hub::Mishap;
use super::model::{Account, Change, Ident, Review, SubmitType, World};
use super::repos::{RefMove, ZERO};
use super::{DEADLINE, FOREIGN, Upload, Uploaded, server_ident};
use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// A running server; as many as wanted of the same one.
#[derive(Clone)]
pub struct Handle {
    pub(super) core: Arc<Core>,
    pub(super) ssh: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) host_key: String,
}

impl Handle {
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
            let _ = writeln!(message, "{line}");
        }
        let _ = writeln!(message, "Change-Id: {change_id}");
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
        // In the order of what else is told.
        let _world = self.core.world.lock().await;
        let event = World::dropped_output(self.core.now());
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

    /// The same for a request that comes after `skip` others of that point.
    pub fn trouble_later(&self, point: &str, trouble: Trouble, skip: usize, count: Option<usize>) {
        self.core.faults.answer_later(point, trouble, skip, count);
    }

    /// How many requests have met a trouble, from the beginning on.
    pub fn troubles(&self) -> usize {
        *self.core.faults.watch().borrow()
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

    /// Calls the changes merged whose submits were [`SubmitTrouble::Late`].
    pub async fn finish_merges(&self) -> anyhow::Result<()> {
        Ok(self.core.finish_merges().await?)
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
