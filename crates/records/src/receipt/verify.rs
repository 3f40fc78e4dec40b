//! Is this a receipt for that commit?

use serde::de::IgnoredAny;

use super::envelope::{Envelope, PAYLOAD_TYPE, decode, pae};
use super::statement::{
    Job, ObjectId, PREDICATE_TYPE, Point, Receipt, STATEMENT_TYPE, Statement, Subject, Waiver, Way,
    subject_name,
};
use super::trust::TrustFile;

/// No receipt is longer than this.
const MAX_BYTES: usize = 8 << 20;
/// No receipt has more signatures than this.
const MAX_SIGNATURES: usize = 32;

/// What the repository says: the commit that a receipt should be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The project.
    pub project: &'a str,
    /// The branch, without `refs/heads/`.
    pub branch: &'a str,
    /// The commit.
    pub commit: &'a ObjectId,
    /// Its tree, read from the repository.
    pub tree: &'a ObjectId,
}

/// Why a commit is not covered by a receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptProblem {
    /// There is none.
    #[error("there is no receipt for this commit")]
    Missing,
    /// It is too long, or has too many signatures.
    #[error("the receipt is too large")]
    TooLarge,
    /// The bytes are no envelope.
    #[error("the receipt is not a DSSE envelope: {0}")]
    NotJson(String),
    /// The payload or a signature is not base64.
    #[error("the receipt's {0} is not base64")]
    NotBase64(&'static str),
    /// The envelope holds something else.
    #[error("the envelope holds `{0}`, not an in-toto statement")]
    PayloadType(String),
    /// Nobody signed it.
    #[error("the receipt has no signature")]
    NoSignature,
    /// No signature is of a key of the trust file.
    #[error("the receipt is signed by a key that is not trusted: {0}")]
    UnknownKey(String),
    /// A trusted key is named, but did not make the signature.
    #[error("the signature of key {0} is wrong")]
    BadSignature(String),
    /// The key is not trusted for this project.
    #[error("key {key} may not sign for project {project}")]
    KeyNotForProject {
        /// The key's name.
        key: String,
        /// The project.
        project: String,
    },
    /// The payload is not a receipt.
    #[error("the signed text is not a receipt: {0}")]
    NotAReceipt(String),
    /// The predicate has another type.
    #[error("the signed statement is a `{0}`, not a receipt of a version that is known here")]
    PredicateType(String),
    /// It is for another project, branch or commit.
    #[error("the receipt is for {found}, not for {expected}")]
    OtherSubject {
        /// What was asked for.
        expected: String,
        /// What it is for.
        found: String,
    },
    /// The commit in the repository has another tree than the receipt says.
    #[error("the receipt says tree {receipt} landed; the commit has tree {repository}")]
    OtherTree {
        /// The tree in the receipt.
        receipt: ObjectId,
        /// The tree in the repository.
        repository: ObjectId,
    },
    /// What landed is not what was tested.
    #[error("tree {tested} was tested, tree {landed} landed")]
    TestedNotLanded {
        /// What was tested.
        tested: ObjectId,
        /// What landed.
        landed: ObjectId,
    },
    /// A way to land that is not known.
    #[error("it landed in the way `{0}`, which is not known here")]
    UnknownWay(String),
    /// Pushed, but not the tested commit.
    #[error("commit {tested} was tested, but commit {landed} was pushed")]
    OtherCommitPushed {
        /// What was tested.
        tested: ObjectId,
        /// What was pushed.
        landed: ObjectId,
    },
    /// The branch was not where the tests assumed it.
    #[error("the tests were made on top of {base}, but the branch was at {predecessor}")]
    BaseMoved {
        /// What the tested state was built on.
        base: ObjectId,
        /// The tip of the branch before the landing.
        predecessor: ObjectId,
    },
    /// A voting job did not pass, and nobody waived it.
    #[error("voting job {job} ended as `{outcome}` and nobody waived it")]
    JobNotPassed {
        /// The job.
        job: String,
        /// Its outcome.
        outcome: String,
    },
    /// A voting job ran on something else.
    #[error("voting job {job} ran on tree {tree}, not on the tested tree {tested}")]
    JobOnOtherTree {
        /// The job.
        job: String,
        /// What it ran on.
        tree: ObjectId,
        /// What was tested.
        tested: ObjectId,
    },
    /// The branch does not contain what it is said to have been before.
    #[error("the receipt says the branch was at {0} before, which is not among this commit's ancestors")]
    NotAnAncestor(ObjectId),
    /// The trust file's start is not in the branch.
    #[error("the branch does not contain {0}, the start that the trust file names")]
    StartNotInBranch(ObjectId),
}

impl ReceiptProblem {
    /// What to do about it, as a sentence.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Missing => {
                "Fetch refs/assay/receipts; if it is not there either, somebody pushed past the gate: ask who moved the branch."
            }
            Self::TooLarge
            | Self::NotJson(_)
            | Self::NotBase64(_)
            | Self::NoSignature
            | Self::NotAReceipt(_) => {
                "Fetch refs/assay/receipts again; if it stays so, the receipt was damaged or replaced: compare it with the server's copy."
            }
            Self::PayloadType(_) | Self::PredicateType(_) | Self::UnknownWay(_) => {
                "Use a version of assay that is at least as new as the server."
            }
            Self::UnknownKey(_) => {
                "If the server has a new key, add its line to the trust file; else treat the commit as unverified."
            }
            Self::BadSignature(_) => {
                "Treat the commit as unverified: the receipt was changed after it was signed."
            }
            Self::KeyNotForProject { .. } => {
                "Correct projects= in the trust file if that server may land here; else treat the commit as unverified."
            }
            Self::OtherSubject { .. } => {
                "Look for the right receipt; this one was copied from another landing."
            }
            Self::OtherTree { .. } | Self::TestedNotLanded { .. } | Self::OtherCommitPushed { .. } => {
                "Stop landing on this branch and compare the two trees: what landed was not tested."
            }
            Self::BaseMoved { .. } => {
                "Compare the base with what the branch was at: something landed between test and landing."
            }
            Self::JobNotPassed { .. } | Self::JobOnOtherTree { .. } => {
                "Run the job on this commit, and ask the server's operator why it was let through."
            }
            Self::NotAnAncestor(_) => {
                "Somebody rewrote the branch: compare it with the server's record of its tips."
            }
            Self::StartNotInBranch(_) => {
                "Correct the start in the trust file; if it is right, the branch was rewritten or set back."
            }
        }
    }
}

/// Checks a stored receipt against what the repository says.
///
/// This needs no clock: when a key should no longer count, it leaves the trust file. The caller still has to see that
/// the predecessor is an ancestor of the commit; [`audit`](super::audit()) does.
pub fn verify(bytes: &[u8], trust: &TrustFile, expected: &Expected<'_>) -> Result<Receipt, ReceiptProblem> {
    let payload = open(bytes, trust, expected.project)?;
    let receipt = read(&payload, expected)?;
    check(&receipt, expected)?;
    Ok(receipt)
}

/// The payload, if a trusted key signed it. Nothing in it is looked at before that.
fn open(bytes: &[u8], trust: &TrustFile, project: &str) -> Result<Vec<u8>, ReceiptProblem> {
    if bytes.len() > MAX_BYTES {
        return Err(ReceiptProblem::TooLarge);
    }
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| ReceiptProblem::NotJson(error.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(ReceiptProblem::PayloadType(short(&envelope.payload_type)));
    }
    let payload = decode(&envelope.payload).ok_or(ReceiptProblem::NotBase64("payload"))?;
    if envelope.signatures.is_empty() {
        return Err(ReceiptProblem::NoSignature);
    }
    if envelope.signatures.len() > MAX_SIGNATURES {
        return Err(ReceiptProblem::TooLarge);
    }
    let message = pae(&envelope.payload_type, &payload);
    let mut problem = None;
    for signature in &envelope.signatures {
        let sig = decode(&signature.sig).ok_or(ReceiptProblem::NotBase64("signature"))?;
        // The key id is only a hint: every trusted key is asked.
        match trust.keys.iter().find(|key| key.key.verifies(&message, &sig)) {
            Some(key) if key.covers(project) => return Ok(payload),
            Some(key) => {
                let key = key.display_name().to_owned();
                problem = Some(ReceiptProblem::KeyNotForProject { key, project: project.into() });
            }
            None => {
                let named = trust.keys.iter().find(|key| key.key_id == signature.keyid);
                problem.get_or_insert_with(|| match named {
                    Some(key) => ReceiptProblem::BadSignature(key.display_name().to_owned()),
                    None => ReceiptProblem::UnknownKey(short(&signature.keyid)),
                });
            }
        }
    }
    Err(problem.unwrap_or(ReceiptProblem::NoSignature))
}

/// The receipt in a payload, if it is about the commit.
fn read(payload: &[u8], expected: &Expected<'_>) -> Result<Receipt, ReceiptProblem> {
    let not_a_receipt = |error: serde_json::Error| ReceiptProblem::NotAReceipt(error.to_string());
    // First the outside, so that another predicate is named and not just refused.
    let statement: Statement<IgnoredAny> = serde_json::from_slice(payload).map_err(not_a_receipt)?;
    if statement.kind != STATEMENT_TYPE {
        return Err(ReceiptProblem::NotAReceipt(format!("its type is `{}`", short(&statement.kind))));
    }
    if statement.predicate_type != PREDICATE_TYPE {
        return Err(ReceiptProblem::PredicateType(short(&statement.predicate_type)));
    }
    let [subject] = &statement.subject[..] else {
        return Err(ReceiptProblem::NotAReceipt(format!("it has {} subjects", statement.subject.len())));
    };
    check_subject(subject, expected)?;
    let statement: Statement<Receipt> = serde_json::from_slice(payload).map_err(not_a_receipt)?;
    Ok(statement.predicate)
}

fn check_subject(subject: &Subject, expected: &Expected<'_>) -> Result<(), ReceiptProblem> {
    let name = subject_name(expected.project, expected.branch);
    let digest = |key: &str| subject.digest.get(key).map(String::as_str).unwrap_or_default();
    let commit = digest("gitCommit");
    if subject.name != name || commit != expected.commit.as_str() {
        return Err(ReceiptProblem::OtherSubject {
            expected: format!("{name} {}", expected.commit),
            found: format!("{} {}", short(&subject.name), short(commit)),
        });
    }
    if digest("gitTree") == expected.tree.as_str() {
        return Ok(());
    }
    let receipt = digest("gitTree")
        .parse()
        .map_err(|_| ReceiptProblem::NotAReceipt("its subject has no tree".into()))?;
    Err(ReceiptProblem::OtherTree { receipt, repository: expected.tree.clone() })
}

/// What a receipt claims must agree with itself and with its subject.
fn check(receipt: &Receipt, expected: &Expected<'_>) -> Result<(), ReceiptProblem> {
    let Receipt { base, tested, landed, predecessor, .. } = receipt;
    if receipt.project != expected.project
        || receipt.branch != expected.branch
        || landed.commit != *expected.commit
    {
        return Err(ReceiptProblem::OtherSubject {
            expected: format!("{} {}", subject_name(expected.project, expected.branch), expected.commit),
            found: format!("{} {}", short(&subject_name(&receipt.project, &receipt.branch)), landed.commit),
        });
    }
    if landed.tree != *expected.tree {
        let (receipt, repository) = (landed.tree.clone(), expected.tree.clone());
        return Err(ReceiptProblem::OtherTree { receipt, repository });
    }
    if tested.tree != landed.tree {
        let (tested, landed) = (tested.tree.clone(), landed.tree.clone());
        return Err(ReceiptProblem::TestedNotLanded { tested, landed });
    }
    check_way(&receipt.way, base, tested, landed, predecessor)?;
    receipt.jobs.iter().filter(|job| job.voting).try_for_each(|job| check_job(job, receipt))
}

fn check_way(
    way: &Way,
    base: &Point,
    tested: &Point,
    landed: &Point,
    before: &Point,
) -> Result<(), ReceiptProblem> {
    let moved = |base: &ObjectId, predecessor: &ObjectId| ReceiptProblem::BaseMoved {
        base: base.clone(),
        predecessor: predecessor.clone(),
    };
    match way {
        Way::Push if tested.commit != landed.commit => {
            let (tested, landed) = (tested.commit.clone(), landed.commit.clone());
            Err(ReceiptProblem::OtherCommitPushed { tested, landed })
        }
        Way::Push if base.commit != before.commit => Err(moved(&base.commit, &before.commit)),
        // The review system makes commits of its own, so that only the trees can be compared.
        Way::Push | Way::Submit if base.tree != before.tree => Err(moved(&base.tree, &before.tree)),
        Way::Push | Way::Submit => Ok(()),
        Way::Other(word) => Err(ReceiptProblem::UnknownWay(short(word))),
    }
}

fn check_job(job: &Job, receipt: &Receipt) -> Result<(), ReceiptProblem> {
    let passed = matches!(job.outcome.as_str(), "passed" | "softfailed");
    if !passed
        && !receipt
            .waivers
            .iter()
            .any(|waiver| waiver.job == job.name && counts(waiver, &receipt.times.landed))
    {
        let (job, outcome) = (short(&job.name), short(&job.outcome));
        return Err(ReceiptProblem::JobNotPassed { job, outcome });
    }
    if job.tree != receipt.tested.tree {
        let (tree, tested) = (job.tree.clone(), receipt.tested.tree.clone());
        return Err(ReceiptProblem::JobOnOtherTree { job: short(&job.name), tree, tested });
    }
    Ok(())
}

/// True if the waiver had not expired when the change landed.
fn counts(waiver: &Waiver, landed: &str) -> bool {
    let Some(expires) = &waiver.expires else { return true };
    match (expires.parse::<jiff::Timestamp>(), landed.parse::<jiff::Timestamp>()) {
        (Ok(expires), Ok(landed)) => landed < expires,
        _ => false,
    }
}

/// Foreign words in a message: one line, and not too long.
fn short(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
