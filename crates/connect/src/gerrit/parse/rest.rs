//! The answers of the REST API. Changes become the same [`ChangeAttr`] as those of SSH.

use super::attributes::WHOLE;
use super::{
    ApprovalAttr, ChangeAttr, CommentAttr, DependencyAttr, FileAttr, Obj, ParseError, PatchsetAttr,
    SubmitLabelAttr, SubmitRecordAttr, excerpt, json,
};
use assay_engine::ids::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The line that every answer begins with, so that no browser takes it for a script.
const PREFIX: &str = ")]}'";

/// A relative of a change: an ancestor, the change itself or a descendant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Related {
    /// Its number; none for a commit that is no change.
    pub number: Option<u64>,
    /// The patchset that is a relative.
    pub patchset: Option<u32>,
    /// Its newest patchset.
    pub current: Option<u32>,
    /// The `I…` id.
    pub change_id: Option<String>,
    /// The commit.
    pub commit: String,
    /// The commit's parents.
    pub parents: Vec<String>,
    /// The change's status.
    pub status: Option<String>,
}

/// The JSON of an answer, without the prefix.
pub fn rest_json(body: &str) -> Result<Value, ParseError> {
    let body = body.trim_start();
    json(body.strip_prefix(PREFIX).unwrap_or(body))
}

/// Reads one change.
pub fn change_info(body: &str) -> Result<ChangeAttr, ParseError> {
    let value = rest_json(body)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(body) })?;
    read_change(object).ok_or_else(|| missing_in_change(body))
}

/// Reads a list of changes, and whether there are more behind them.
pub fn change_infos(body: &str) -> Result<(Vec<ChangeAttr>, bool), ParseError> {
    let value = rest_json(body)?;
    let list = value
        .as_array()
        .ok_or_else(|| ParseError::Shape { expected: "a list of changes", line: excerpt(body) })?;
    let mut changes = Vec::with_capacity(list.len());
    let mut more = false;
    for object in list.iter().filter_map(Obj::of) {
        more |= object.flag("_more_changes");
        changes.push(read_change(object).ok_or_else(|| missing_in_change(body))?);
    }
    Ok((changes, more))
}

fn missing_in_change(body: &str) -> ParseError {
    let what = "a change of the REST API".to_owned();
    ParseError::Missing { what, field: "project, branch and _number", line: excerpt(body) }
}

/// Reads the relatives of a revision.
pub fn related(body: &str) -> Result<Vec<Related>, ParseError> {
    let value = rest_json(body)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(body) })?;
    let read = |object: Obj<'_>| {
        let commit = object.object("commit")?;
        Some(Related {
            number: object.number("_change_number"),
            patchset: object.number("_revision_number"),
            current: object.number("_current_revision_number"),
            change_id: object.text("change_id"),
            commit: commit.text("commit")?,
            parents: parents(commit),
            status: object.text("status"),
        })
    };
    Ok(object.objects("changes").filter_map(read).collect())
}

/// Reads the files of a revision.
pub fn files(body: &str) -> Result<Vec<FileAttr>, ParseError> {
    let value = rest_json(body)?;
    let shape = || ParseError::Shape { expected: "an object of files", line: excerpt(body) };
    Ok(read_files(value.as_object().ok_or_else(shape)?))
}

/// Reads the branches or tags of a project: full names and commits.
pub fn branches(body: &str) -> Result<Vec<(String, String)>, ParseError> {
    let value = rest_json(body)?;
    let list = value
        .as_array()
        .ok_or_else(|| ParseError::Shape { expected: "a list of refs", line: excerpt(body) })?;
    let read = |object: Obj<'_>| Some((object.text("ref")?, object.text("revision")?));
    let refs = list.iter().filter_map(Obj::of).filter_map(read);
    Ok(refs.filter(|(name, _)| name.starts_with("refs/")).collect())
}

/// Reads whether a revision could be merged; `None` if the answer does not say.
pub fn mergeable(body: &str) -> Result<Option<bool>, ParseError> {
    let value = rest_json(body)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(body) })?;
    Ok(object.value("mergeable").map(|_| object.flag("mergeable")))
}

/// How Gerrit merges changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitType {
    /// Only what stands on the branch.
    FastForwardOnly,
    /// With a merge commit, if there has to be one.
    MergeIfNecessary,
    /// With a merge commit.
    MergeAlways,
    /// As a commit made again, if it has to be.
    RebaseIfNecessary,
    /// As a commit made again.
    RebaseAlways,
    /// As a commit made again, whatever it stood on.
    CherryPick,
}

/// How changes of a project are merged, as far as Gerrit says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merging {
    /// Its labels, with the lowest and the highest vote.
    pub labels: BTreeMap<String, (i32, i32)>,
    /// The submit type.
    pub submit_type: Option<SubmitType>,
    /// Whether two changes of one file are merged.
    pub content: Option<bool>,
}

/// Reads how a project merges from its configuration. Old versions have a plain `submit_type` only.
pub fn merging(body: &str) -> Result<Merging, ParseError> {
    let value = rest_json(body)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(body) })?;
    let effective = object.object("default_submit_type").and_then(|kind| kind.text("value"));
    let submit_type = match effective.or_else(|| object.text("submit_type")).as_deref() {
        Some("FAST_FORWARD_ONLY") => Some(SubmitType::FastForwardOnly),
        Some("MERGE_IF_NECESSARY") => Some(SubmitType::MergeIfNecessary),
        Some("MERGE_ALWAYS") => Some(SubmitType::MergeAlways),
        Some("REBASE_IF_NECESSARY") => Some(SubmitType::RebaseIfNecessary),
        Some("REBASE_ALWAYS") => Some(SubmitType::RebaseAlways),
        Some("CHERRY_PICK") => Some(SubmitType::CherryPick),
        _ => None,
    };
    let content = object.object("use_content_merge").map(|content| content.flag("value"));
    Ok(Merging { submit_type, content, labels: BTreeMap::new() })
}

/// Reads which votes there are from a project: a map of labels, each with a map from values (`" 0"`, `"+1"`) to their
/// descriptions. Old versions have none.
pub fn labels(body: &str) -> Result<BTreeMap<String, (i32, i32)>, ParseError> {
    let value = rest_json(body)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(body) })?;
    let range = |label: &Value| {
        let values = Obj::of(label)?.object("values")?;
        let values = values.0.keys().filter_map(|value| value.trim().trim_start_matches('+').parse().ok());
        let values: Vec<i32> = values.collect();
        Some((*values.iter().min()?, *values.iter().max()?))
    };
    let labels = object.object("labels").map(|labels| labels.0.iter()).into_iter().flatten();
    Ok(labels.filter_map(|(name, label)| Some((name.clone(), range(label)?))).collect())
}

fn read_change(object: Obj<'_>) -> Option<ChangeAttr> {
    let status = object.text("status");
    let branch = object.text("branch")?;
    let patchsets = read_revisions(object);
    let current = object.text("current_revision");
    let mut current_patchset =
        patchsets.iter().find(|patchset| patchset.revision == current && current.is_some()).cloned();
    if let Some(patchset) = &mut current_patchset {
        patchset.approvals = read_votes(object);
    }
    let message = current
        .as_deref()
        .and_then(|current| object.object("revisions")?.object(current)?.object("commit")?.text("message"));
    Some(ChangeAttr {
        number: object.number("_number")?,
        project: object.text("project")?,
        branch: branch.strip_prefix("refs/heads/").unwrap_or(&branch).to_owned(),
        topic: object.text("topic"),
        change_id: object.text("change_id"),
        subject: object.text("subject"),
        owner: object.account("owner").unwrap_or_default(),
        url: object.text("url"),
        message,
        hashtags: object.texts("hashtags"),
        created_on: moment(object.text("created")),
        last_updated: moment(object.text("updated")),
        submitted_on: moment(object.text("submitted")),
        submitter: object.account("submitter"),
        open: status.as_deref().map(|status| matches!(status, "NEW" | "DRAFT" | "SUBMITTED")),
        status,
        private: object.flag("is_private"),
        wip: object.flag("work_in_progress"),
        sort_key: None,
        comments: object.objects("messages").map(read_message).collect(),
        current_patchset,
        patchsets,
        depends_on: Vec::<DependencyAttr>::new(),
        needed_by: Vec::new(),
        submit_records: read_rules(object),
    })
}

fn read_message(object: Obj<'_>) -> CommentAttr {
    CommentAttr {
        at: moment(object.text("date")),
        by: object.account("author").unwrap_or_default(),
        message: object.text("message").unwrap_or_default(),
        tag: object.text("tag"),
        patchset: object.number("_revision_number"),
        id: object.text("id"),
        notes: Vec::new(),
    }
}

/// Reads what was said on patchsets as a whole: the message that each belongs to, and the text.
pub fn notes(body: &str) -> Result<Vec<(String, String)>, ParseError> {
    let value = rest_json(body)?;
    let object =
        Obj::of(&value).ok_or_else(|| ParseError::Shape { expected: "an object", line: excerpt(body) })?;
    let read = |note: Obj<'_>| Some((note.text("change_message_id")?, note.text("message")?));
    Ok(object.objects(WHOLE).filter_map(read).collect())
}

fn read_revisions(object: Obj<'_>) -> Vec<PatchsetAttr> {
    let Some(revisions) = object.object("revisions") else { return Vec::new() };
    let read = |(sha, value): (&String, &Value)| {
        let revision = Obj::of(value)?;
        let commit = revision.object("commit");
        Some(PatchsetAttr {
            number: revision.number("_number")?,
            revision: Some(sha.clone()),
            parents: commit.map(parents).unwrap_or_default(),
            fetch_ref: revision.text("ref"),
            uploader: revision.account("uploader"),
            author: commit.and_then(|commit| commit.account("author")),
            created_on: moment(revision.text("created")),
            kind: revision.text("kind"),
            approvals: Vec::new(),
            files: revision.object("files").map(|files| read_files(files.0)),
            insertions: None,
            deletions: None,
        })
    };
    let mut list: Vec<PatchsetAttr> = revisions.0.iter().filter_map(read).collect();
    list.sort_by_key(|patchset| patchset.number);
    list
}

fn parents(commit: Obj<'_>) -> Vec<String> {
    commit.objects("parents").filter_map(|parent| parent.text("commit")).collect()
}

fn read_files(files: &Map<String, Value>) -> Vec<FileAttr> {
    let read = |(path, value): (&String, &Value)| {
        let object = Obj::of(value)?;
        let kind = match object.text("status").as_deref() {
            Some("A") => "ADDED",
            Some("D") => "DELETED",
            Some("R") => "RENAMED",
            Some("C") => "COPIED",
            Some("W") => "REWRITE",
            _ => "MODIFIED",
        };
        Some(FileAttr {
            file: path.clone(),
            kind: Some(kind.to_owned()),
            old: object.text("old_path"),
            insertions: object.number("lines_inserted").unwrap_or_default(),
            deletions: -object.number::<i64>("lines_deleted").unwrap_or_default().saturating_abs(),
        })
    };
    files.iter().filter_map(read).collect()
}

/// The votes of all labels; those without a value are only permissions.
fn read_votes(object: Obj<'_>) -> Vec<ApprovalAttr> {
    let Some(labels) = object.object("labels") else { return Vec::new() };
    let of_label = |(label, value): (&String, &Value)| {
        let votes = Obj::of(value).into_iter().flat_map(|object| object.objects("all"));
        let read = |vote: Obj<'_>| {
            let value = vote.number("value").filter(|value| *value != 0)?;
            Some(ApprovalAttr {
                label: Some(label.clone()),
                kind: None,
                value,
                old_value: None,
                granted_on: moment(vote.text("date")),
                by: vote.as_account(),
            })
        };
        votes.filter_map(read).collect::<Vec<_>>()
    };
    labels.0.iter().flat_map(of_label).collect()
}

/// What the submit rules say: requirements where Gerrit has them (since 3.5), else records, else what the labels show.
fn read_rules(object: Obj<'_>) -> Vec<SubmitRecordAttr> {
    if object.value("submit_requirements").is_some() {
        return vec![read_requirements(object)];
    }
    let records: Vec<SubmitRecordAttr> =
        object.objects("submit_records").map(SubmitRecordAttr::read).collect();
    if !records.is_empty() {
        return records;
    }
    object.object("labels").map(|labels| read_labels(object, labels)).into_iter().collect()
}

fn record(labels: Vec<SubmitLabelAttr>) -> SubmitRecordAttr {
    let ready = labels.iter().all(|label| matches!(label.status.as_str(), "OK" | "MAY"));
    let status = if ready { "OK" } else { "NOT_READY" };
    SubmitRecordAttr { status: status.to_owned(), labels, error: None }
}

fn read_labels(object: Obj<'_>, labels: Obj<'_>) -> SubmitRecordAttr {
    let of_label = |(label, value): (&String, &Value)| {
        let of = |name| Obj::of(value).is_some_and(|object| object.value(name).is_some());
        let status = match () {
            () if of("rejected") || of("blocking") => "REJECT",
            () if of("approved") => "OK",
            () if of("optional") => "MAY",
            () => "NEED",
        };
        SubmitLabelAttr { label: label.clone(), status: status.to_owned() }
    };
    let mut record = record(labels.0.iter().map(of_label).collect());
    if object.flag("submittable") {
        "OK".clone_into(&mut record.status);
    }
    record
}

fn read_requirements(object: Obj<'_>) -> SubmitRecordAttr {
    let mut list = Vec::new();
    for requirement in object.objects("submit_requirements") {
        let name = requirement.text("name").unwrap_or_default();
        let status = requirement.text("status").unwrap_or_default();
        let met = match status.as_str() {
            "SATISFIED" | "OVERRIDDEN" | "FORCED" => Some("OK"),
            "NOT_APPLICABLE" => Some("MAY"),
            _ => None,
        };
        let expression = requirement
            .object("submittability_expression_result")
            .and_then(|result| result.text("expression"))
            .unwrap_or_default();
        let mut labels = labels_of(&expression);
        if met.is_some() || labels.is_empty() {
            labels = vec![name];
        }
        for label in labels {
            let unmet = || if is_vetoed(object, &label) { "REJECT" } else { "NEED" };
            let status = if status == "ERROR" { "IMPOSSIBLE" } else { met.unwrap_or_else(unmet) };
            list.push(SubmitLabelAttr { label, status: status.to_owned() });
        }
    }
    record(list)
}

fn is_vetoed(object: Obj<'_>, label: &str) -> bool {
    let label = object.object("labels").and_then(|labels| labels.object(label));
    label.is_some_and(|label| label.value("rejected").is_some() || label.value("blocking").is_some())
}

/// The labels in an expression such as `label:Verified=MAX AND -label:Verified=MIN`, each once.
fn labels_of(expression: &str) -> Vec<String> {
    let mut labels = Vec::new();
    for word in expression.split(|c: char| c.is_whitespace() || c == '(' || c == ')') {
        let Some(rest) = word.trim_start_matches('-').strip_prefix("label:") else { continue };
        let rest = rest.trim_matches('"');
        let end = rest.find(['=', '<', '>', ',', '+']).unwrap_or(rest.len());
        let label = rest[..end].to_owned();
        if !label.is_empty() && !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// `2024-01-31 12:00:00.000000000`, always UTC.
fn moment(text: Option<String>) -> Option<Timestamp> {
    let time: jiff::civil::DateTime = text?.trim().parse().ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(zoned.timestamp().as_microsecond()))
}
