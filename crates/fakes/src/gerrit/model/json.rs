//! Events and query results in the shape of Gerrit's SSH interface.

use super::{
    Account, Change, CommitInfo, Event, Ident, Inline, Numbers, Patchset, Refusal, SubmitRecord, Vote, World,
};
use serde_json::{Map, Value, json};

/// What a query wants to know beside the change itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the flags of a command line")]
pub struct Wanted {
    /// `--all-approvals`
    pub all_approvals: bool,
    /// `--comments`
    pub comments: bool,
    /// `--commit-message`
    pub commit_message: bool,
    /// `--current-patch-set`
    pub current_patch_set: bool,
    /// `--dependencies`
    pub dependencies: bool,
    /// `--files`
    pub files: bool,
    /// `--patch-sets`
    pub patch_sets: bool,
    /// `--submit-records`
    pub submit_records: bool,
    /// `--all-reviewers`
    pub all_reviewers: bool,
}

/// Sets a member of an object.
fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(map) = object {
        map.insert(name.to_owned(), value.into());
    }
}

impl World {
    fn number(&self, number: u64) -> Value {
        match self.numbers {
            Numbers::Strings => Value::String(number.to_string()),
            Numbers::Integers => number.into(),
        }
    }

    /// An account.
    pub fn account_json(&self, username: &str) -> Value {
        match self.accounts.get(username) {
            Some(Account { name, email, username, .. }) => {
                json!({ "name": name, "email": email, "username": username })
            }
            None => json!({ "username": username }),
        }
    }

    fn ident_json(&self, ident: &Ident) -> Value {
        match self.accounts.values().find(|account| account.email == ident.email) {
            Some(account) => self.account_json(&account.username),
            None => json!({ "name": ident.name, "email": ident.email }),
        }
    }

    /// Where people look at a change.
    pub fn change_url(&self, change: &Change) -> String {
        match self.numbers {
            Numbers::Strings => format!("{}/{}", self.url, change.number),
            Numbers::Integers => format!("{}/c/{}/+/{}", self.url, change.project, change.number),
        }
    }

    /// The change as it is in events.
    pub fn change_json(&self, change: &Change) -> Value {
        let mut object = json!({
            "project": change.project,
            "branch": change.branch,
            "id": change.change_id,
            "number": self.number(change.number),
            "subject": change.current().commit.subject(),
            "owner": self.account_json(&change.owner),
            "url": self.change_url(change),
            "commitMessage": change.current().commit.message,
            "createdOn": change.created_on,
            "status": change.status.word(),
        });
        if !change.topic.is_empty() {
            set(&mut object, "topic", change.topic.clone());
        }
        if !change.hashtags.is_empty() {
            set(&mut object, "hashtags", change.hashtags.iter().cloned().collect::<Vec<_>>());
        }
        for (name, on) in [("wip", change.wip), ("private", change.private)] {
            if on {
                set(&mut object, name, true);
            }
        }
        object
    }

    /// A patchset as it is in events.
    pub fn patchset_json(&self, change: &Change, patchset: &Patchset) -> Value {
        let files = &patchset.commit.files;
        json!({
            "number": self.number(patchset.number.into()),
            "revision": patchset.commit.id,
            "parents": patchset.commit.parents,
            "ref": change.ref_of(patchset.number),
            "uploader": self.account_json(&patchset.uploader),
            "author": self.ident_json(&patchset.commit.author),
            "createdOn": patchset.created_on,
            "kind": patchset.kind.word(),
            "sizeInsertions": files.iter().map(|file| file.insertions).sum::<u64>(),
            "sizeDeletions": -(files.iter().map(|file| file.deletions).sum::<u64>() as i64),
        })
    }

    fn vote_json(&self, vote: &Vote) -> Value {
        json!({
            "type": vote.label,
            "description": vote.label,
            "value": vote.value.to_string(),
            "grantedOn": vote.granted_on,
            "by": self.account_json(&vote.by),
        })
    }

    fn event(kind: &'static str, now: i64, members: Vec<(&str, Value)>) -> Event {
        let mut body = Map::new();
        body.insert("type".into(), kind.into());
        body.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
        body.insert("eventCreatedOn".into(), now.into());
        Event { kind, body: Value::Object(body) }
    }

    /// An event about a change, with its change and patchset.
    fn about(
        &self,
        kind: &'static str,
        number: u64,
        patchset: Option<u32>,
        now: i64,
        mut members: Vec<(&str, Value)>,
    ) -> Result<Event, Refusal> {
        let change = self.change(number)?;
        let patchset = patchset.and_then(|number| change.patchset(number)).unwrap_or(change.current());
        members.insert(0, ("patchSet", self.patchset_json(change, patchset)));
        members.insert(0, ("change", self.change_json(change)));
        // What Gerrit calls the place of a change since 2.15.
        if self.numbers == Numbers::Integers {
            members.push(("project", change.project.clone().into()));
            members.push(("refName", format!("refs/heads/{}", change.branch).into()));
            members.push(("changeKey", json!({ "id": change.change_id })));
        }
        Ok(Self::event(kind, now, members))
    }

    /// A version was pushed.
    pub fn patchset_created(&self, number: u64, now: i64) -> Result<Event, Refusal> {
        let uploader = self.account_json(&self.change(number)?.current().uploader);
        self.about("patchset-created", number, None, now, vec![("uploader", uploader)])
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; each is a member of the event")]
    pub(super) fn comment_added(
        &self,
        number: u64,
        patchset: u32,
        user: &str,
        text: &str,
        applied: &[(String, i8, i8)],
        inline: &[Inline],
        now: i64,
    ) -> Result<Event, Refusal> {
        let mut members = vec![("author", self.account_json(user)), ("comment", text.into())];
        let approvals: Vec<Value> = applied
            .iter()
            .map(|(label, value, old)| {
                let mut vote = json!({ "type": label, "description": label, "value": value.to_string() });
                if old != value {
                    set(&mut vote, "oldValue", old.to_string());
                }
                vote
            })
            .collect();
        if !approvals.is_empty() {
            members.push(("approvals", approvals.into()));
        }
        if !inline.is_empty() {
            let mut by_file = Map::new();
            for one in inline {
                let list = by_file.entry(one.file.clone()).or_insert_with(|| json!([]));
                if let Value::Array(list) = list {
                    list.push(json!({ "message": one.message, "line": one.line }));
                }
            }
            members.push(("patchSetComments", Value::Object(by_file)));
        }
        self.about("comment-added", number, Some(patchset), now, members)
    }

    pub(super) fn change_merged(
        &self,
        number: u64,
        user: &str,
        commit: &str,
        now: i64,
    ) -> Result<Event, Refusal> {
        let members = vec![("submitter", self.account_json(user)), ("newRev", commit.into())];
        self.about("change-merged", number, None, now, members)
    }

    /// An event with one account and, if there is one, a reason.
    pub(super) fn with_reason(
        &self,
        kind: &'static str,
        role: &str,
        user: &str,
        number: u64,
        reason: &str,
        now: i64,
    ) -> Result<Event, Refusal> {
        let mut members = vec![(role, self.account_json(user))];
        if !reason.is_empty() {
            members.push(("reason", reason.into()));
        }
        self.about(kind, number, None, now, members)
    }

    /// An event about a change with any members.
    pub fn change_event(
        &self,
        kind: &'static str,
        number: u64,
        members: Vec<(&str, Value)>,
        now: i64,
    ) -> Result<Event, Refusal> {
        self.about(kind, number, None, now, members)
    }

    /// A ref has moved; forty zeros mean that there is none.
    pub fn ref_updated(
        &self,
        project: &str,
        name: &str,
        old: &str,
        new: &str,
        by: Option<&str>,
        now: i64,
    ) -> Event {
        // Branches go without refs/heads in the old shape.
        let shown = match self.numbers {
            Numbers::Strings => name.strip_prefix("refs/heads/").unwrap_or(name),
            Numbers::Integers => name,
        };
        let update = json!({ "oldRev": old, "newRev": new, "refName": shown, "project": project });
        let mut members: Vec<(&str, Value)> = Vec::new();
        if let Some(by) = by {
            members.push(("submitter", self.account_json(by)));
        }
        members.push(("refUpdate", update));
        Self::event("ref-updated", now, members)
    }

    /// A project was made.
    pub fn project_created(project: &str, head: &str, now: i64) -> Event {
        Self::event("project-created", now, vec![("projectName", project.into()), ("headName", head.into())])
    }

    /// Events were lost: look again.
    pub fn dropped_output(now: i64) -> Event {
        Self::event("dropped-output", now, Vec::new())
    }

    /// A row of a query's answer.
    pub fn row(&self, change: &Change, wanted: Wanted) -> Value {
        let mut row = self.change_json(change);
        if let (false, Value::Object(map)) = (wanted.commit_message, &mut row) {
            map.remove("commitMessage");
        }
        set(&mut row, "lastUpdated", change.last_updated);
        set(&mut row, "open", change.is_open());
        if self.numbers == Numbers::Strings {
            set(&mut row, "sortKey", super::query::sort_key(change));
        }
        if wanted.comments {
            let comments: Vec<Value> = change
                .comments
                .iter()
                .map(|comment| {
                    json!({
                        "timestamp": comment.on,
                        "reviewer": self.account_json(&comment.by),
                        "message": comment.text,
                    })
                })
                .collect();
            set(&mut row, "comments", comments);
        }
        if wanted.current_patch_set {
            set(&mut row, "currentPatchSet", self.full_patchset(change, change.current(), wanted, true));
        }
        if wanted.patch_sets {
            let all = |patchset| self.full_patchset(change, patchset, wanted, wanted.all_approvals);
            set(&mut row, "patchSets", change.patchsets.iter().map(all).collect::<Vec<_>>());
        }
        if wanted.all_reviewers {
            let reviewers: Vec<Value> = change.reviewers.iter().map(|who| self.account_json(who)).collect();
            set(&mut row, "allReviewers", reviewers);
        }
        if wanted.dependencies {
            self.add_dependencies(change, &mut row);
        }
        if wanted.submit_records {
            set(&mut row, "submitRecords", vec![self.record_json(&self.submit_record(change))]);
        }
        row
    }

    fn full_patchset(&self, change: &Change, patchset: &Patchset, wanted: Wanted, votes: bool) -> Value {
        let mut object = self.patchset_json(change, patchset);
        if votes && !patchset.votes.is_empty() {
            let votes: Vec<Value> = patchset.votes.iter().map(|vote| self.vote_json(vote)).collect();
            set(&mut object, "approvals", votes);
        }
        if wanted.files {
            set(&mut object, "files", files_json(&patchset.commit));
        }
        if wanted.comments {
            let inline: Vec<Value> = change
                .comments
                .iter()
                .filter(|comment| comment.patchset == patchset.number)
                .flat_map(|comment| {
                    comment.inline.iter().map(|one| {
                        json!({
                            "file": one.file,
                            "line": one.line,
                            "reviewer": self.account_json(&comment.by),
                            "message": one.message,
                        })
                    })
                })
                .collect();
            if !inline.is_empty() {
                set(&mut object, "comments", inline);
            }
        }
        object
    }

    fn add_dependencies(&self, change: &Change, row: &mut Value) {
        let on: Vec<Value> = (change.current().commit.parents.iter())
            .filter_map(|parent| self.change_of_commit(&change.project, parent))
            .map(|(other, patchset)| self.dependency_json(other, patchset, true))
            .collect();
        let by: Vec<Value> = self
            .changes
            .values()
            .filter(|other| other.project == change.project && other.number != change.number)
            .filter(|other| {
                other
                    .current()
                    .commit
                    .parents
                    .iter()
                    .any(|parent| change.patchsets.iter().any(|patchset| patchset.commit.id == *parent))
            })
            .map(|other| self.dependency_json(other, other.current().number, false))
            .collect();
        for (name, list) in [("dependsOn", on), ("neededBy", by)] {
            if !list.is_empty() {
                set(row, name, list);
            }
        }
    }

    fn dependency_json(&self, change: &Change, patchset: u32, on: bool) -> Value {
        let revision = change.patchset(patchset).map(|patchset| patchset.commit.id.clone());
        let mut object = json!({
            "id": change.change_id,
            "number": self.number(change.number),
            "revision": revision,
            "ref": change.ref_of(patchset),
        });
        if on {
            set(&mut object, "isCurrentPatchSet", change.current().number == patchset);
        }
        object
    }

    fn record_json(&self, record: &SubmitRecord) -> Value {
        let labels: Vec<Value> = record
            .labels
            .iter()
            .map(|(label, state)| {
                let mut object = json!({ "label": label, "status": state.word() });
                if let Some(by) = state.by() {
                    set(&mut object, "by", self.account_json(by));
                }
                object
            })
            .collect();
        let mut object = json!({ "status": record.status.word() });
        if !labels.is_empty() {
            set(&mut object, "labels", labels);
        }
        object
    }
}

fn files_json(commit: &CommitInfo) -> Vec<Value> {
    let message = json!({
        "file": "/COMMIT_MSG",
        "type": "ADDED",
        "insertions": commit.message.lines().count(),
        "deletions": 0,
    });
    let mut list = vec![message];
    for file in &commit.files {
        let kind = match file.letter {
            'A' => "ADDED",
            'D' => "DELETED",
            'R' => "RENAMED",
            'C' => "COPIED",
            'T' => "REWRITE",
            _ => "MODIFIED",
        };
        let mut object = json!({
            "file": file.path,
            "type": kind,
            "insertions": file.insertions,
            "deletions": -(file.deletions as i64),
        });
        if let Some(old) = &file.old_path {
            set(&mut object, "fileOld", old.clone());
        }
        list.push(object);
    }
    list
}
