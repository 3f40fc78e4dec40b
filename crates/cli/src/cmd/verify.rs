//! `assay verify`: walks a branch of a plain clone, without any server, and names each commit without a valid receipt.

use crate::exit::{CliError, Code};
use crate::{Common, ui};
use assay_git::{BranchName, CommitId, History, HistoryError};
use assay_records::receipt::{Audit, CommitFacts, Envelope, ObjectId, TrustFile, audit};
use base64::Engine as _;
use camino::Utf8PathBuf;
use fs_err as fs;
use serde::Serialize;

/// Commits that are searched for a receipt to learn the project's name from.
const SEARCHED: usize = 1000;

/// Check that everything on a branch of a clone was tested as it landed.
#[derive(clap::Args)]
#[command(
    after_help = "The clone needs the receipts: git fetch origin refs/assay/receipts:refs/assay/receipts\n\n\
                  Examples:\n  assay key show >trust                     the server's key, once\n  \
                  assay verify . master --trust trust\n  \
                  assay verify nova.git stable/1 --trust trust --project openstack/nova --since 8c1e0d4f6b7a29330e5d1c2b3a49586772819abc"
)]
pub(crate) struct Verify {
    /// A clone, with or without a work tree.
    #[arg(value_name = "REPO")]
    repository: Utf8PathBuf,
    /// The branch.
    branch: String,
    /// Keys that may sign, and where branches begin to have receipts (docs/protocols/receipt.md).
    #[arg(long, value_name = "FILE")]
    trust: Utf8PathBuf,
    /// The project's name (default: the one that the newest receipt names; it is printed).
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Only commits after this one.
    #[arg(long, value_name = "COMMIT")]
    since: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict {
    project: String,
    branch: String,
    tip: String,
    /// Every commit is covered by a valid receipt.
    verified: bool,
    covered: Vec<CoveredCommit>,
    uncovered: Vec<UncoveredCommit>,
}

#[derive(Serialize)]
struct CoveredCommit {
    commit: String,
    /// The commit that the branch was at before; everything in between is covered too.
    predecessor: String,
    changes: Vec<String>,
    way: String,
    landed: String,
    server: String,
}

#[derive(Serialize)]
struct UncoveredCommit {
    commit: String,
    problem: String,
    remedy: &'static str,
}

impl From<HistoryError> for CliError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::NotARepository { .. }
            | HistoryError::NoBranch { .. }
            | HistoryError::NoReceipts { .. } => Self::not_found(error.to_string()),
            HistoryError::Unreadable { .. } => Self::infrastructure(error.to_string()),
        }
    }
}

impl Verify {
    pub(crate) fn run(self, common: &Common) -> Result<Code, CliError> {
        let branch: BranchName =
            self.branch.parse().map_err(|error: assay_git::NameError| CliError::usage(error.to_string()))?;
        let text = fs::read_to_string(&self.trust).map_err(|error| CliError::not_found(error.to_string()))?;
        // Before anything else: a wrong trust file is worth nothing.
        self.parse(&text)?;
        let history = History::open(&self.repository)?;
        let tip = history.branch(&branch)?;
        history.receipts()?;
        let project = match &self.project {
            Some(project) => project.clone(),
            None => named_by_receipts(&history, tip)?,
        };
        let trust = match &self.since {
            Some(since) => self.parse(&since_then(&text, &project, branch.as_str(), since)?)?,
            None => self.parse(&text)?,
        };
        let tip_id = object(&tip);
        let found = audit(
            &project,
            branch.as_str(),
            &tip_id,
            &trust,
            |commit| facts(&history, commit),
            |old, new| {
                // A commit that cannot be one of this repository is no ancestor.
                let (Ok(old), Ok(new)) = (commit(old), commit(new)) else { return Ok(false) };
                Ok::<_, CliError>(history.is_ancestor(old, new)?)
            },
        )?;
        let verdict = verdict(&project, branch.as_str(), &tip_id, &found);
        if common.json {
            ui::print_json(&verdict);
        } else {
            print(&verdict);
        }
        Ok(if found.is_clean() { Code::Ok } else { Code::Negative })
    }

    fn parse(&self, text: &str) -> Result<TrustFile, CliError> {
        TrustFile::parse(text).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|error| format!("{}: {error}", self.trust)).collect();
            CliError::usage(lines.join("\n"))
        })
    }
}

fn object(commit: &CommitId) -> ObjectId {
    // A commit id is always an object id.
    commit.to_string().parse().unwrap_or_else(|_| unreachable!("{commit} is an object id"))
}

fn commit(id: &ObjectId) -> Result<CommitId, CliError> {
    id.as_str().parse().map_err(|error: assay_git::NameError| CliError::infrastructure(error.to_string()))
}

fn facts(history: &History, id: &ObjectId) -> Result<CommitFacts, CliError> {
    let commit = commit(id)?;
    let tree = history.tree_of(commit)?.to_string();
    Ok(CommitFacts {
        tree: tree.parse().map_err(|_| CliError::infrastructure(format!("{tree} is not a tree's id")))?,
        first_parent: history.first_parent(commit)?.map(|parent| object(&parent)),
        receipt: history.receipt_bytes(commit)?,
    })
}

/// The project that the newest receipt is about. Nothing is believed of it: every receipt has to name this same project.
fn named_by_receipts(history: &History, tip: CommitId) -> Result<String, CliError> {
    let mut next = Some(tip);
    for _ in 0..SEARCHED {
        let Some(commit) = next else { break };
        if let Some(bytes) = history.receipt_bytes(commit)?
            && let Some(project) = project_of(&bytes)
        {
            return Ok(project);
        }
        next = history.first_parent(commit)?;
    }
    Err(CliError::usage(format!(
        "none of the newest {SEARCHED} commits has a receipt that names a project; give its name with --project, and fetch \
         refs/assay/receipts if it is old"
    )))
}

fn project_of(receipt: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(receipt).ok()?;
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope.payload).ok()?;
    let statement: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    statement["predicate"]["project"].as_str().map(str::to_owned)
}

/// The trust file with another start of one branch.
fn since_then(text: &str, project: &str, branch: &str, since: &str) -> Result<String, CliError> {
    let since: CommitId =
        since.parse().map_err(|error: assay_git::NameError| CliError::usage(error.to_string()))?;
    let is_start = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.starts_with(&["start", project, branch])
    };
    let others = text.lines().filter(|line| !is_start(line));
    let own = format!("start {project} {branch} {since}");
    Ok(others.chain([own.as_str()]).collect::<Vec<_>>().join("\n"))
}

fn verdict(project: &str, branch: &str, tip: &ObjectId, found: &Audit) -> Verdict {
    Verdict {
        project: project.to_owned(),
        branch: branch.to_owned(),
        tip: tip.to_string(),
        verified: found.is_clean(),
        covered: (found.covered.iter())
            .map(|covered| CoveredCommit {
                commit: covered.commit.to_string(),
                predecessor: covered.receipt.predecessor.commit.to_string(),
                changes: (covered.receipt.changes.iter())
                    .map(|change| format!("{},{}", change.number, change.patchset))
                    .collect(),
                way: covered.receipt.way.clone().into(),
                landed: covered.receipt.times.landed.clone(),
                server: covered.receipt.server.id.clone(),
            })
            .collect(),
        uncovered: (found.uncovered.iter())
            .map(|uncovered| UncoveredCommit {
                commit: uncovered.commit.to_string(),
                problem: uncovered.problem.to_string(),
                remedy: uncovered.problem.remedy(),
            })
            .collect(),
    }
}

fn print(verdict: &Verdict) {
    println!("{} {} at {}", verdict.project, verdict.branch, verdict.tip);
    for uncovered in &verdict.uncovered {
        println!("✘ {}  {}\n  {}", uncovered.commit, uncovered.problem, uncovered.remedy);
    }
    let landings = match verdict.covered.len() {
        1 => "1 landing has a valid receipt".to_owned(),
        several => format!("{several} landings have valid receipts"),
    };
    match verdict.uncovered.len() {
        0 => println!("✔ {landings}, and nothing else is on the branch"),
        1 => println!("{landings}; 1 commit has none"),
        several => println!("{landings}; {several} commits have none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_one_branch_is_replaced() {
        let (old, new) = ("a".repeat(40), "b".repeat(40));
        let text = format!("ed25519 KEY\nstart p master {old} # once\n start p other {old}\n");
        let changed = since_then(&text, "p", "master", &new).expect("a commit");
        assert_eq!(changed, format!("ed25519 KEY\n start p other {old}\nstart p master {new}"));
        assert!(since_then(&text, "p", "master", "short").is_err());
    }

    #[test]
    fn a_receipt_names_its_project_or_nothing() {
        let payload = base64::engine::general_purpose::STANDARD.encode(r#"{"predicate":{"project":"a/b"}}"#);
        let receipt = format!(r#"{{"payloadType":"x","payload":"{payload}","signatures":[]}}"#);
        assert_eq!(project_of(receipt.as_bytes()).as_deref(), Some("a/b"));
        for bytes in [&b""[..], b"{}", br#"{"payloadType":"x","payload":"!","signatures":[]}"#] {
            assert_eq!(project_of(bytes), None);
        }
    }
}
