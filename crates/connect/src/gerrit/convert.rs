//! From Gerrit's words to the gate's.

use super::parse::{ChangeAttr, PatchsetAttr, StreamEvent, SubmitRecordAttr, What};
use crate::inbox::MadePatchset;
use assay_engine::gate::change::{
    Account, Approval, ChangeFacts, ChangeStatus, LabelStatus, RefUpdate, SubmitLabel, SubmitRecord,
};
use assay_engine::gate::config::EventKind;
use assay_engine::gate::ids::{BranchName, ChangeId, Oid, Patchset, SourceName};
use assay_engine::gate::io::Event;
use assay_engine::ids::Timestamp;
use std::collections::BTreeSet;

/// What a line of the event stream means for the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Events; several only for a batch of refs.
    Events(Vec<Event>),
    /// Something about a change is different, and nothing is triggered.
    Changed(ChangeId),
    /// Events were lost.
    Dropped,
    /// Nothing.
    Nothing,
}

/// What an event means.
pub fn meaning(source: &SourceName, event: &StreamEvent) -> Meaning {
    let changed = |change: &ChangeAttr| Meaning::Changed(change_id(source, change.number));
    let one = |event: Event| Meaning::Events(vec![event]);
    match &event.what {
        What::PatchsetCreated { change, patchset, uploader } => {
            one(about(source, EventKind::PatchsetCreated, change, Some(patchset), uploader))
        }
        What::DraftPublished { change, patchset, uploader } => {
            one(about(source, EventKind::DraftPublished, change, Some(patchset), uploader))
        }
        What::CommentAdded { change, patchset, author, approvals, comment, patchset_comments } => {
            let mut event = about(source, EventKind::CommentAdded, change, Some(patchset), author);
            event.comment = Some(whole_comment(comment, patchset_comments));
            let named = approvals.iter().filter_map(|vote| Some((vote.label.clone()?, vote.value)));
            event.approvals = named.collect();
            one(event)
        }
        What::ChangeMerged { change, patchset, submitter, .. } => {
            one(about(source, EventKind::ChangeMerged, change, Some(patchset), submitter))
        }
        What::ChangeAbandoned { change, patchset, abandoner, .. } => {
            one(about(source, EventKind::ChangeAbandoned, change, patchset.as_deref(), abandoner))
        }
        What::ChangeRestored { change, patchset, restorer, .. } => {
            one(about(source, EventKind::ChangeRestored, change, patchset.as_deref(), restorer))
        }
        What::RefUpdated { submitter, update } => Meaning::Events(
            ref_updated(source, &update.project, &update.name, &update.old, &update.new, submitter)
                .into_iter()
                .collect(),
        ),
        What::BatchRefUpdated { submitter, updates } => {
            let events = updates.iter().filter_map(|update| {
                ref_updated(source, &update.project, &update.name, &update.old, &update.new, submitter)
            });
            Meaning::Events(events.collect())
        }
        What::ReviewerDeleted { change, .. }
        | What::VoteDeleted { change, .. }
        | What::TopicChanged { change, .. }
        | What::HashtagsChanged { change, .. }
        | What::WipStateChanged { change, .. }
        | What::PrivateStateChanged { change, .. }
        | What::MergeFailed { change, .. } => changed(change),
        What::DroppedOutput => Meaning::Dropped,
        What::ReviewerAdded { .. }
        | What::ProjectCreated { .. }
        | What::ProjectHeadUpdated { .. }
        | What::RefReplicated { .. }
        | What::Unknown { .. } => Meaning::Nothing,
    }
}

/// A change's name.
pub fn change_id(source: &SourceName, number: u64) -> ChangeId {
    ChangeId { source: source.clone(), number }
}

/// An event about a change. Without a patchset of its own it is about the newest one that is known.
pub(super) fn about(
    source: &SourceName,
    kind: EventKind,
    change: &ChangeAttr,
    patchset: Option<&PatchsetAttr>,
    by: &Account,
) -> Event {
    let mut event = Event::new(source.clone(), kind);
    let patchset = patchset.or(change.current_patchset.as_ref()).map_or(1, |patchset| patchset.number);
    event.change = Some(Patchset { change: change_id(source, change.number), patchset });
    event.by = by.clone();
    event
}

/// The patchset that an event tells of, if it is new and the event says where it is.
pub(super) fn made(event: &StreamEvent) -> Option<MadePatchset> {
    match &event.what {
        What::PatchsetCreated { change, patchset, .. } => Some(MadePatchset {
            project: change.project.as_str().into(),
            revision: patchset.revision.as_deref()?.into(),
            fetch_ref: patchset.fetch_ref.clone()?,
        }),
        _ => None,
    }
}

/// A comment with what was said on the patchset as a whole, which is where triggers look.
pub(super) fn whole_comment(comment: &str, patchset_comments: &[String]) -> String {
    let mut whole = comment.to_owned();
    for more in patchset_comments.iter().filter(|more| !comment.contains(more.as_str())) {
        whole.push('\n');
        whole.push_str(more);
    }
    whole
}

/// A ref as the gate names it; `None` for those that only Gerrit itself uses.
pub(super) fn ref_name(name: &str) -> Option<BranchName> {
    const INTERNAL: &[&str] = &[
        "refs/changes/",
        "refs/meta/",
        "refs/users/",
        "refs/groups/",
        "refs/sequences/",
        "refs/starred-changes/",
        "refs/draft-comments/",
        "refs/cache-automerge/",
        "refs/notes/",
        "refs/assay/",
    ];
    if name == "HEAD" || INTERNAL.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    Some(name.strip_prefix("refs/heads/").unwrap_or(name).into())
}

/// The event of a ref that moved.
pub(super) fn ref_updated(
    source: &SourceName,
    project: &str,
    name: &str,
    old: &str,
    new: &str,
    by: &Account,
) -> Option<Event> {
    let mut event = Event::new(source.clone(), EventKind::RefUpdated);
    let name = ref_name(name)?;
    event.ref_update = Some(RefUpdate { project: project.into(), name, old: old.into(), new: new.into() });
    event.by = by.clone();
    Some(event)
}

/// Where a change stands.
pub(super) fn status(change: &ChangeAttr) -> ChangeStatus {
    match change.status.as_deref() {
        Some("MERGED") => ChangeStatus::Merged,
        Some("ABANDONED") => ChangeStatus::Abandoned,
        Some("DRAFT") => ChangeStatus::Draft,
        _ => ChangeStatus::New,
    }
}

/// A change's facts; `None` if its newest patchset was not told. `parents` are filled in by whoever knows which of them
/// are unmerged; `base_url` makes an address where the change has none.
pub fn facts(
    source: &SourceName,
    change: &ChangeAttr,
    base_url: Option<&str>,
    as_of: Timestamp,
) -> Option<ChangeFacts> {
    let current = change.current_patchset.as_ref()?;
    let number = change.number;
    let made_up = || base_url.map(|base| format!("{base}/c/{}/+/{number}", change.project));
    let fetch_ref = || format!("refs/changes/{:02}/{number}/{}", number % 100, current.number);
    let message = change.message.clone().unwrap_or_default();
    let subject = || message.lines().next().unwrap_or_default().to_owned();
    Some(ChangeFacts {
        id: change_id(source, number),
        current_patchset: current.number,
        revision: current.revision.clone()?.into(),
        fetch_ref: current.fetch_ref.clone().unwrap_or_else(fetch_ref),
        project: change.project.as_str().into(),
        branch: change.branch.as_str().into(),
        change_id: change.change_id.clone(),
        subject: change.subject.clone().unwrap_or_else(subject),
        message,
        url: change.url.clone().or_else(made_up),
        owner: change.owner.clone(),
        topic: change.topic.clone(),
        status: status(change),
        wip: change.wip,
        approvals: current.approvals.iter().map(approval).collect(),
        submit_records: change.submit_records.iter().map(submit_record).collect(),
        files: changed_files(current),
        parents: Vec::new(),
        as_of,
    })
}

pub(super) fn approval(vote: &super::parse::ApprovalAttr) -> Approval {
    Approval {
        label: vote.label.clone(),
        value: vote.value,
        by: vote.by.clone(),
        granted_at: vote.granted_on,
    }
}

fn changed_files(patchset: &PatchsetAttr) -> Option<Vec<String>> {
    let listed = patchset.files.as_ref()?.iter().map(|file| file.file.clone());
    let files: Vec<String> = listed.filter(|file| file != "/COMMIT_MSG" && file != "/MERGE_LIST").collect();
    // Of a merge Gerrit tells only what the automatic merge would have made differently.
    (patchset.parents.len() < 2 || !files.is_empty()).then_some(files)
}

fn submit_record(record: &SubmitRecordAttr) -> SubmitRecord {
    let error = |why: String| SubmitRecord::Error { why };
    match record.status.as_str() {
        "OK" | "FORCED" => SubmitRecord::Ok,
        "NOT_READY" => SubmitRecord::NotReady {
            labels: record
                .labels
                .iter()
                .map(|label| SubmitLabel { label: label.label.clone(), status: label_status(&label.status) })
                .collect(),
        },
        "CLOSED" => error("the change is closed".to_owned()),
        word => error(record.error.clone().unwrap_or_else(|| format!("Gerrit's submit rule says {word:?}"))),
    }
}

/// Why the rules would not let a patchset be merged. Every record has to agree: a plug-in's rule has one of its own. Labels
/// that are `granted` may be missing or vetoed.
pub(super) fn not_submittable(
    change: &ChangeAttr,
    patchset: u32,
    granted: &BTreeSet<String>,
) -> Option<String> {
    let number = change.number;
    let status = status(change);
    if !status.is_open() {
        return Some(format!("change {number} is {}", status.word()));
    }
    if change.wip {
        return Some(format!("change {number} is work in progress"));
    }
    let newest = change.current_patchset.as_ref().map(|now| now.number);
    if let Some(newest) = newest.filter(|newest| *newest != patchset) {
        return Some(format!("{number},{patchset} is not the newest patchset; {newest} is"));
    }
    let records = change.submit_records.iter().map(submit_record);
    let missing: Vec<String> = records.flat_map(|record| record.missing(granted)).collect();
    (!missing.is_empty()).then(|| format!("change {number} cannot be submitted: {}", missing.join(", ")))
}

/// A word that we do not know lets nothing pass.
fn label_status(word: &str) -> LabelStatus {
    match word {
        "OK" => LabelStatus::Ok,
        "MAY" => LabelStatus::May,
        "NEED" => LabelStatus::Need,
        "REJECT" => LabelStatus::Reject,
        _ => LabelStatus::Impossible,
    }
}

/// The Oid of a text, for callers outside.
pub(super) fn oid(text: &str) -> Oid {
    text.into()
}
