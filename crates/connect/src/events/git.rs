//! Branches of a git repository: where each stands.

use super::poll::{Polled, Poller, number_of};
use super::{Incoming, Received, polled};
use assay_engine::ids::Timestamp;
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(1);

/// Why a repository says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing came within so many seconds.
    #[error("git does not answer within {0} s")]
    Silent(u64),
    /// It refuses, or git does not work here.
    #[error("{0}")]
    Failed(String),
}

/// Asks with `git ls-remote`.
#[derive(Debug)]
pub struct Git {
    url: String,
    branches: Vec<String>,
}

impl Git {
    /// Of an address that git understands; all branches if none is named.
    pub fn new(url: &str, branches: &[String]) -> Result<Self, String> {
        if url.starts_with('-') || url.starts_with("ext::") || url.is_empty() {
            return Err(format!("{url:?} is no address of a repository"));
        }
        Ok(Self { url: url.to_owned(), branches: branches.to_vec() })
    }

    async fn branches(&self) -> Result<BTreeMap<String, String>, String> {
        let said = ls_remote(&["--heads", "--", &self.url], PATIENCE).await;
        Ok(read(&said.map_err(|error| error.to_string())?, &self.branches))
    }
}

/// Where a branch, a tag or `HEAD` of a repository stands; `None` if there is none of this name.
pub async fn commit_of(url: &str, reference: &str) -> Result<Option<String>, NoAnswer> {
    commit_within(PATIENCE, url, reference).await
}

async fn commit_within(patience: Duration, url: &str, reference: &str) -> Result<Option<String>, NoAnswer> {
    Git::new(url, &[]).map_err(NoAnswer::Failed)?;
    let names = [
        reference.to_owned(),
        format!("refs/heads/{reference}"),
        format!("refs/tags/{reference}^{{}}"),
        format!("refs/tags/{reference}"),
    ];
    let args: Vec<&str> = ["--", url].into_iter().chain(names.iter().map(String::as_str)).collect();
    let said = ls_remote(&args, patience).await?;
    let line = |name: &String| {
        said.lines().find_map(|line| line.split_once('\t').filter(|(_, found)| found == name))
    };
    Ok(names.iter().find_map(line).map(|(commit, _)| commit.to_owned()))
}

async fn ls_remote(args: &[&str], patience: Duration) -> Result<String, NoAnswer> {
    let mut command = Command::new("git");
    command.arg("ls-remote").args(args).env("GIT_TERMINAL_PROMPT", "0").kill_on_drop(true);
    let ended = tokio::time::timeout(patience, command.output()).await;
    let ended = ended.map_err(|_| NoAnswer::Silent(patience.as_secs()))?;
    let ended = ended.map_err(|error| NoAnswer::Failed(format!("git cannot be started: {error}")))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(NoAnswer::Failed(format!("git ls-remote: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// The commits of branches.
pub fn read(text: &str, wanted: &[String]) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (commit, name) = line.split_once('\t')?;
        let branch = name.strip_prefix("refs/heads/")?;
        let good = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        let wanted = wanted.is_empty() || wanted.iter().any(|one| one == branch);
        (good && wanted).then(|| (branch.to_owned(), commit.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[async_trait]
impl Poller for Git {
    async fn poll(&self, cursors: &BTreeMap<String, String>, now: Timestamp) -> Result<Polled, String> {
        const FIRST: &str = "first look";
        const LOOKED: &str = "looked";
        let branches = self.branches().await?;
        let mut received = Received::default();
        let first = !cursors.contains_key(FIRST);
        let since = Timestamp(number_of(cursors, LOOKED).unwrap_or(0).min(now.0));
        received.cursors.push((LOOKED.to_owned(), Some(now.0.to_string())));
        for (branch, commit) in &branches {
            let name = format!("branch/{branch}");
            let before = cursors.get(&name);
            if before == Some(commit) {
                continue;
            }
            received.cursors.push((name, Some(commit.clone())));
            // What was there before anybody listened is no news.
            if !first {
                let found = moved(&self.url, branch, before, commit, now);
                received.messages.push(Incoming { since: Some(since), ..found });
            }
        }
        let gone = cursors
            .keys()
            .filter(|name| name.strip_prefix("branch/").is_some_and(|branch| !branches.contains_key(branch)));
        received.cursors.extend(gone.map(|name| (name.clone(), None)));
        if first {
            received.cursors.push((FIRST.to_owned(), Some("done".to_owned())));
        }
        Ok(Polled { received, more: false, trouble: None })
    }
}

fn moved(url: &str, branch: &str, before: Option<&String>, commit: &str, now: Timestamp) -> Incoming {
    let body = json!({"repository": url, "branch": branch, "old": before, "new": commit});
    // A branch that comes back to a commit has moved again, also if it comes from where it came from before. What is told
    // is stored with the cursor, so no other look tells it.
    let key = format!("{branch}/{}/{commit}/{}", before.map_or("", String::as_str), now.0);
    polled(&key, "git.branch.moved", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_git() {
        let commit = "a".repeat(40);
        let text =
            format!("{commit}\trefs/heads/main\n{commit}\trefs/heads/f/x\nnonsense\nab\trefs/heads/y\n");
        assert_eq!(read(&text, &[]).into_keys().collect::<Vec<_>>(), ["f/x", "main"]);
        assert_eq!(read(&text, &["main".to_owned()]).len(), 1);
        assert!(Git::new("--upload-pack=x", &[]).is_err());
    }

    #[tokio::test]
    async fn silence_is_told_from_refusal() {
        let quiet = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("git://{}/x", quiet.local_addr().expect("an address"));
        let asked = commit_within(Duration::from_millis(1), &url, "main").await;
        assert_eq!(asked, Err(NoAnswer::Silent(0)));
        let asked = commit_of("file:///nowhere/at/all", "main").await;
        assert!(matches!(asked, Err(NoAnswer::Failed(_))), "{asked:?}");
    }
}
