//! Repositories for workers over HTTP: what git's smart protocol asks of a server, without the HTTP.
//!
//! `GET PROJECT/info/refs?service=git-upload-pack` is answered with [`advertisement_head`] and the bytes of
//! [`Service::Advertise`], `POST PROJECT/git-upload-pack` with those of [`Service::Fetch`] for the request's body (which
//! the caller has unzipped). Both with the types of [`Service::content_type`], and never cached.
//!
//! Branches, tags and speculative states are shown, nothing else. That hides names, it does not guard secrets: in
//! protocol version 2 a client may ask for any object whose id it knows.

use crate::error::GitError;
use crate::name::ProjectName;
use crate::repos::Repos;
use crate::run::kill_group;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::Sleep;

/// What of the smart protocol is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The references, or in version 2 the capabilities.
    Advertise,
    /// One round of a fetch.
    Fetch,
}

impl Service {
    /// The answer's content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Advertise => "application/x-git-upload-pack-advertisement",
            Self::Fetch => "application/x-git-upload-pack-result",
        }
    }
}

/// What stands before the bytes of [`Service::Advertise`].
pub fn advertisement_head() -> &'static [u8] {
    b"001e# service=git-upload-pack\n0000"
}

/// Starts git on a repository; the answer is read from what is returned. `protocol` is the request's `Git-Protocol`.
///
/// Dropping the answer kills git. At the deadline git is killed, too, and reading gives an error.
pub fn upload_pack(
    repos: &Repos,
    project: &ProjectName,
    service: Service,
    protocol: Option<&str>,
    body: impl AsyncRead + Send + 'static,
    deadline: Duration,
) -> Result<Answer, GitError> {
    let repository = repos.repository(project)?;
    let mut env = Vec::new();
    if let Some(protocol) = protocol.filter(|text| is_protocol(text)) {
        env.push(("GIT_PROTOCOL".to_owned(), protocol.to_owned()));
    }
    let mut command = repos.0.git.command(&env);
    for hidden in ["refs", "!refs/heads", "!refs/tags", "!refs/zuul"] {
        command.args(["-c", &format!("uploadpack.hideRefs={hidden}")]);
    }
    command.args(["-c", "uploadpack.allowFilter=true", "upload-pack", "--strict", "--stateless-rpc"]);
    if service == Service::Advertise {
        command.arg("--http-backend-info-refs");
    }
    command.arg(repository.path.as_str()).current_dir(&repository.path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        Command::from(command).kill_on_drop(true).spawn().map_err(|source| GitError::NoGit { source })?;
    let stdin = child.stdin.take();
    let out = child.stdout.take().ok_or_else(|| std::io::Error::other("git has no standard output"))?;
    let mut feeding = JoinSet::new();
    if let (Some(mut stdin), Service::Fetch) = (stdin, service) {
        feeding.spawn(async move {
            let mut body = Box::pin(body);
            // A client that breaks off, and a git that wants no more, both end it.
            let _ = tokio::io::copy(&mut body, &mut stdin).await;
            let _ = stdin.shutdown().await;
        });
    }
    let project = project.clone();
    let late = Box::pin(tokio::time::sleep(deadline));
    Ok(Answer {
        stage: Stage::Talking(Box::new((Group(child), out))),
        _feeding: feeding,
        late,
        project,
        deadline,
    })
}

/// `version=2` and the like; it becomes part of git's environment.
fn is_protocol(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"=:.-".contains(&b))
}

/// git's process group; dropping it kills git and what it has started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Without an id it was waited for already.
        if let Some(id) = self.0.id() {
            kill_group(id);
        }
    }
}

/// What git answers. It ends well only if git did: else reading gives an error, so that what came is not taken for whole.
pub struct Answer {
    stage: Stage,
    _feeding: JoinSet<()>,
    late: Pin<Box<Sleep>>,
    project: ProjectName,
    deadline: Duration,
}

type Ending = Pin<Box<dyn Future<Output = std::io::Result<ExitStatus>> + Send>>;

enum Stage {
    Talking(Box<(Group, ChildStdout)>),
    /// All was read; git's status is waited for.
    Ending(Ending),
    Ended,
}

impl Answer {
    /// The process, as long as it talks.
    pub fn process(&self) -> Option<u32> {
        if let Stage::Talking(talk) = &self.stage { talk.0.0.id() } else { None }
    }
}

impl AsyncRead for Answer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.stage, Stage::Ended) && this.late.as_mut().poll(cx).is_ready() {
            this.stage = Stage::Ended;
            let (project, after) = (this.project.clone(), this.deadline);
            let error = GitError::Timeout { project, doing: "serving", after };
            return Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, error)));
        }
        if let Stage::Talking(talk) = &mut this.stage {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut talk.1).poll_read(cx, buffer))?;
            if buffer.filled().len() > before || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Stage::Talking(mut talk) = std::mem::replace(&mut this.stage, Stage::Ended) {
                this.stage = Stage::Ending(Box::pin(async move { talk.0.0.wait().await }));
            }
        }
        if let Stage::Ending(ending) = &mut this.stage {
            let status = ready!(ending.as_mut().poll(cx))?;
            this.stage = Stage::Ended;
            if !status.success() {
                let text = format!("git upload-pack of {} ended with {status}", this.project);
                return Poll::Ready(Err(std::io::Error::other(text)));
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols() {
        assert!(is_protocol("version=2") && is_protocol("version=2:key"));
        assert!(
            !is_protocol("version=2\nLD_PRELOAD=x") && !is_protocol(&"v".repeat(65)) && !is_protocol("é")
        );
    }
}
