//! What all protocols share: the model, the repositories and the event streams, kept in step.

use super::faults::Faults;
use super::hub::Hub;
use super::model::{Event, Project, Refusal, Review, SubmitType, World};
use super::repos::{GitFailed, RefMove, Repos, ZERO};
use assay_proto::clock::Clock;
use std::sync::{Arc, PoisonError, Weak};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

impl From<GitFailed> for Refusal {
    fn from(failed: GitFailed) -> Self {
        Self::Internal(failed.to_string())
    }
}

/// The one server behind all protocols.
pub(crate) struct Core {
    pub(crate) this: Weak<Self>,
    /// The state; held while events are published, so that they come in the order of what they tell.
    pub(crate) world: Mutex<World>,
    pub(crate) repos: Repos,
    pub(crate) hub: Hub,
    pub(crate) faults: Faults,
    /// What is in its branch and not called merged yet: by whom, the change, and the commit.
    pub(crate) late: std::sync::Mutex<Vec<(String, u64, String)>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) any_key: bool,
    pub(crate) change_ref_events: bool,
    /// Connections that are to be closed at the end.
    pub(crate) sockets: std::sync::Mutex<Vec<std::sync::Weak<std::net::TcpStream>>>,
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Core {
    /// Does it to its end, also when who asked for it goes away meanwhile: no Gerrit leaves a branch moved and its change
    /// open because a client was killed.
    pub(crate) async fn to_its_end<T, F>(&self, act: impl FnOnce(Arc<Self>) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Some(core) = self.this.upgrade() else { unreachable!("it is asked something") };
        match self.tasks.spawn(act(core)).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Ends everything.
    pub(crate) fn end(&self) {
        self.cancel.cancel();
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap_or_else(PoisonError::into_inner));
        for socket in sockets.iter().filter_map(std::sync::Weak::upgrade) {
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Seconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().0 / 1_000_000
    }

    pub(crate) fn publish(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.hub.publish(event);
        }
    }

    /// Makes a project with an empty first commit, so that there is a branch.
    pub(crate) async fn create_project(
        &self,
        by: Option<&str>,
        name: &str,
        submit_type: SubmitType,
        head: &str,
    ) -> Result<(), Refusal> {
        let mut world = self.world.lock().await;
        if let Some(by) = by
            && !world.in_group(by, &world.rights.create_project)
        {
            return Err(Refusal::Forbidden("not permitted to create a project".into()));
        }
        if !Repos::is_name(name) {
            return Err(Refusal::BadRequest(format!("{name:?} cannot be the name of a project")));
        }
        if world.projects.contains_key(name) {
            return Err(Refusal::Conflict(format!("project {name} exists already")));
        }
        let head = if head.starts_with("refs/") { head.to_owned() } else { format!("refs/heads/{head}") };
        self.repos.init(name, &head).await?;
        let now = self.now();
        let first = match self.repos.resolve(name, &head).await? {
            Some(there) => there,
            None => self.first_commit(name, &head, now).await?,
        };
        world.projects.insert(
            name.to_owned(),
            Project { name: name.into(), submit_type, head: head.clone(), description: String::new() },
        );
        self.publish([
            World::project_created(name, &head, now),
            world.ref_updated(name, &head, ZERO, &first, by, now),
        ]);
        Ok(())
    }

    async fn first_commit(&self, project: &str, head: &str, now: i64) -> Result<String, Refusal> {
        let server = super::server_ident(now);
        let first = self.repos.write(project, &[], &[], &server, "Initial empty repository\n").await?;
        let moved = RefMove { name: head.to_owned(), old: ZERO.into(), new: first.clone() };
        self.repos.update(project, &[moved]).await?;
        Ok(first)
    }

    /// Votes and comments.
    pub(crate) async fn review(
        &self,
        user: &str,
        number: u64,
        patchset: u32,
        review: &Review,
    ) -> Result<(), Refusal> {
        let mut world = self.world.lock().await;
        let event = world.review(user, number, patchset, review, self.now())?;
        self.publish([event]);
        Ok(())
    }

    /// Gives up a change.
    pub(crate) async fn abandon(&self, user: &str, number: u64, reason: &str) -> Result<(), Refusal> {
        let mut world = self.world.lock().await;
        let event = world.abandon(user, number, reason, self.now())?;
        self.publish([event]);
        Ok(())
    }

    /// Takes up an abandoned change.
    pub(crate) async fn restore(&self, user: &str, number: u64, reason: &str) -> Result<(), Refusal> {
        let mut world = self.world.lock().await;
        let event = world.restore(user, number, reason, self.now())?;
        self.publish([event]);
        Ok(())
    }
}
