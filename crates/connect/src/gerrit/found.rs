//! What a look at a change tells about what happened to it lately: the events that the stream would have brought.

use super::convert::{about, change_id, ref_updated, status, whole_comment};
use super::key::{Key, identity};
use super::parse::{ApprovalAttr, ChangeAttr, CommentAttr, PatchsetAttr};
use crate::inbox::{News, Tips};
use assay_engine::gate::change::{Account, ChangeStatus};
use assay_engine::gate::config::EventKind;
use assay_engine::gate::ids::{BranchName, Oid, ProjectName, SourceName};
use assay_engine::ids::Timestamp;
use std::collections::BTreeMap;

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Find {
    pub(super) key: Key,
    /// Gerrit's time.
    pub(super) at: Timestamp,
    pub(super) news: News,
}

/// What a message on a change says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Review { patchset: u32, votes: Vec<ApprovalAttr> },
    Abandoned,
    Restored,
    Merged,
    Other,
}

/// What happened to a change since `cutoff`, which is Gerrit's time, in order.
pub(super) fn of_change(source: &SourceName, change: &ChangeAttr, cutoff: Timestamp) -> Vec<Find> {
    let number = change.number;
    let mut finds = Vec::new();
    let mut add = |key: Key, at: Timestamp, kind, patchset: Option<&PatchsetAttr>, by: &Account| {
        finds.push(Find { key, at, news: News::Event(Box::new(about(source, kind, change, patchset, by))) });
    };
    for patchset in &change.patchsets {
        if let Some(at) = patchset.created_on.filter(|at| *at >= cutoff) {
            let key = Key::once(identity::patchset(number, patchset.number));
            add(
                key,
                at,
                EventKind::PatchsetCreated,
                Some(patchset),
                patchset.uploader.as_ref().unwrap_or(&change.owner),
            );
        }
    }
    let mut merge_told = false;
    let mut reviews = Vec::new();
    for comment in &change.comments {
        let kind = read(comment);
        merge_told |= kind == Message::Merged;
        let Some(at) = comment.at.filter(|at| *at >= cutoff) else { continue };
        match kind {
            Message::Abandoned => {
                let key = Key::found(identity::abandoned(number), at);
                add(key, at, EventKind::ChangeAbandoned, None, &comment.by);
            }
            Message::Restored => {
                let key = Key::found(identity::restored(number), at);
                add(key, at, EventKind::ChangeRestored, None, &comment.by);
            }
            Message::Merged if status(change) == ChangeStatus::Merged => {
                let by = change.submitter.as_ref().unwrap_or(&comment.by);
                add(Key::once(identity::merged(number)), at, EventKind::ChangeMerged, None, by);
            }
            Message::Review { patchset, votes } => reviews.push((at, comment, patchset, votes)),
            Message::Merged | Message::Other => {}
        }
    }
    // No message says when it was merged: then something else may, or at least when it was touched.
    if status(change) == ChangeStatus::Merged && !merge_told {
        let submit = change.current_patchset.iter().flat_map(|now| &now.approvals);
        let submit = submit.clone().find(|vote| vote.kind.as_deref() == Some("SUBM"));
        let granted = submit.and_then(|vote| vote.granted_on);
        let at = change.submitted_on.or(granted).or(change.last_updated);
        let by = change.submitter.as_ref().or(submit.map(|vote| &vote.by));
        if let Some(at) = at.filter(|at| *at >= cutoff) {
            let nobody = Account::default();
            add(
                Key::once(identity::merged(number)),
                at,
                EventKind::ChangeMerged,
                None,
                by.unwrap_or(&nobody),
            );
        }
    }
    finds.extend(
        reviews
            .into_iter()
            .map(|(at, comment, patchset, votes)| review(source, change, comment, patchset, &votes, at)),
    );
    if let Some(at) = change.last_updated.filter(|_| status(change).is_open()) {
        // Votes may have been taken back, or it is no longer ready: nothing else tells.
        let key = Key::live(identity::changed("updated", number), Some(at));
        finds.push(Find { key, at, news: News::Changed(change_id(source, number)) });
    }
    finds.sort_by_key(|find| find.at);
    finds
}

fn review(
    source: &SourceName,
    change: &ChangeAttr,
    comment: &CommentAttr,
    patchset: u32,
    votes: &[ApprovalAttr],
    at: Timestamp,
) -> Find {
    let attr = PatchsetAttr { number: patchset, ..PatchsetAttr::default() };
    let mut event = about(source, EventKind::CommentAdded, change, Some(&attr), &comment.by);
    event.comment = Some(whole_comment(&comment.message, &comment.notes));
    event.approvals = votes.iter().filter_map(|vote| Some((vote.label.clone()?, vote.value))).collect();
    let identity = identity::comment(change.number, patchset, &comment.by, &comment.message, votes);
    Find { key: Key::found(identity, at), at, news: News::Event(Box::new(event)) }
}

/// Messages that Gerrit writes with a patchset in front although nobody said anything.
const NOT_SAID: &[&str] = &[
    "was rebased",
    "Commit message was updated",
    "Commit message was edited",
    "New patch set was added",
    "Published edit on patch set",
    "Cherry Picked from",
];

fn read(comment: &CommentAttr) -> Message {
    let text = comment.message.trim_start();
    let starts = |word: &str| {
        text.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(['\n', '\r', '.']))
    };
    match () {
        () if starts("Abandoned") => return Message::Abandoned,
        () if starts("Restored") => return Message::Restored,
        () if text.starts_with("Change has been successfully ") => return Message::Merged,
        () if comment.tag.as_ref().is_some_and(|tag| tag.starts_with("autogenerated:gerrit:")) => {
            return Message::Other;
        }
        () => {}
    }
    let head = text.strip_prefix("Patch Set ").and_then(|rest| rest.split_once(':'));
    let Some((patchset, rest)) = head.and_then(|(number, rest)| Some((number.parse().ok()?, rest))) else {
        return Message::Other;
    };
    let line = rest.lines().next().unwrap_or_default();
    if NOT_SAID.iter().any(|said| line.contains(said)) {
        return Message::Other;
    }
    let votes = line.split_whitespace().map_while(vote).collect();
    Message::Review { patchset, votes }
}

/// `Code-Review+2`, or `-Code-Review` for one that was taken back.
fn vote(word: &str) -> Option<ApprovalAttr> {
    let (label, value) = if let Some(label) = word.strip_prefix('-') {
        (label, 0)
    } else {
        let at = word.rfind(['+', '-'])?;
        (&word[..at], word[at..].trim_start_matches('+').parse().ok()?)
    };
    let named = label.starts_with(|c: char| c.is_ascii_uppercase())
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    named.then(|| ApprovalAttr { label: Some(label.to_owned()), value, ..ApprovalAttr::default() })
}

/// The refs of a project as they are now.
pub(super) type Refs = BTreeMap<BranchName, Oid>;

/// True for what is told only if all refs are.
pub(super) fn is_tag(name: &BranchName) -> bool {
    name.as_str().starts_with("refs/tags/")
}

/// What happened to the refs of a project, seen by where they stood; nothing if they were never seen.
pub(super) fn of_refs(
    source: &SourceName,
    project: &ProjectName,
    tips: &Tips,
    now: &Refs,
    at: Timestamp,
) -> Vec<Find> {
    const NONE: &str = "0000000000000000000000000000000000000000";
    let Some(before) = tips.0.get(project) else { return Vec::new() };
    let nobody = Account::default();
    let mut finds = Vec::new();
    let mut add = |name: &BranchName, old: &str, new: &str| {
        if let Some(event) = ref_updated(source, project.as_str(), name.as_str(), old, new, &nobody) {
            let key = Key::found(identity::ref_updated(&event), at);
            finds.push(Find { key, at, news: News::Event(Box::new(event)) });
        }
    };
    for (name, new) in now {
        match before.get(name) {
            Some(old) if old == new => {}
            Some(old) => add(name, old.as_str(), new.as_str()),
            None => add(name, NONE, new.as_str()),
        }
    }
    for (name, old) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
        add(name, old.as_str(), NONE);
    }
    finds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_tell_what_happened() {
        let message = |text: &str| read(&CommentAttr { message: text.to_owned(), ..CommentAttr::default() });
        let review = |patchset, votes: &[(&str, i32)]| Message::Review {
            patchset,
            votes: votes
                .iter()
                .map(|(label, value)| ApprovalAttr {
                    label: Some((*label).to_owned()),
                    value: *value,
                    ..ApprovalAttr::default()
                })
                .collect(),
        };
        for (text, expected) in [
            (
                "Patch Set 3: Code-Review+2 Workflow+1\n\nship it",
                review(3, &[("Code-Review", 2), ("Workflow", 1)]),
            ),
            ("Patch Set 1: Verified-1", review(1, &[("Verified", -1)])),
            ("Patch Set 1: -Code-Review", review(1, &[("Code-Review", 0)])),
            ("Patch Set 1:\n\nrecheck", review(1, &[])),
            ("Patch Set 1: recheck no+bug", review(1, &[])),
            ("Patch Set 2: Patch Set 1 was rebased", Message::Other),
            ("Uploaded patch set 2.", Message::Other),
            ("Abandoned", Message::Abandoned),
            ("Abandoned\n\nno longer wanted", Message::Abandoned),
            ("Abandoned hope", Message::Other),
            ("Restored", Message::Restored),
            ("Change has been successfully merged by X", Message::Merged),
            ("", Message::Other),
        ] {
            assert_eq!(message(text), expected, "{text:?}");
        }
    }

    fn kinds(change: &ChangeAttr, cutoff: i64) -> Vec<&'static str> {
        let finds = of_change(&"g".into(), change, Timestamp(cutoff));
        let word = |find: Find| match find.news {
            News::Event(event) => event.kind.word(),
            News::Changed(_) => "changed",
        };
        finds.into_iter().map(word).collect()
    }

    #[test]
    fn only_what_happened_since_the_cutoff_is_told() {
        let at = |time: i64| Some(Timestamp(time));
        let patchset =
            |number, time| PatchsetAttr { number, created_on: at(time), ..PatchsetAttr::default() };
        let said = |text: &str, time| CommentAttr {
            message: text.to_owned(),
            at: at(time),
            ..CommentAttr::default()
        };
        let mut change = ChangeAttr {
            number: 5,
            patchsets: vec![patchset(1, 10), patchset(2, 20)],
            comments: vec![
                said("Uploaded patch set 1.", 10),
                said("Patch Set 1:\n\nrecheck", 12),
                said("Abandoned", 14),
                said("Restored", 16),
                said("Patch Set 2: Code-Review+2", 22),
            ],
            last_updated: at(22),
            status: Some("NEW".to_owned()),
            ..ChangeAttr::default()
        };
        let late = ["change-restored", "patchset-created", "comment-added", "changed"];
        let early = ["patchset-created", "comment-added", "change-abandoned"];
        assert_eq!(kinds(&change, 15), late);
        assert_eq!(kinds(&change, 0), [&early[..], &late[..]].concat());
        // A comment long after the merge does not make it happen again.
        change.status = Some("MERGED".to_owned());
        change.comments.push(said("Change has been successfully merged by X", 30));
        change.comments.push(said("Patch Set 2:\n\nthanks", 40));
        assert_eq!(kinds(&change, 35), ["comment-added"]);
        assert_eq!(kinds(&change, 30), ["change-merged", "comment-added"]);
        // Without a message the time of the submit tells, and without that the last update.
        change.comments.clear();
        change.last_updated = at(40);
        assert_eq!(kinds(&change, 35), ["change-merged"]);
        change.submitted_on = at(30);
        assert!(kinds(&change, 35).is_empty());
    }
}
