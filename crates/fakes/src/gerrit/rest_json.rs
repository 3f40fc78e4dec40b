//! Changes in the shape of Gerrit's REST interface.

use super::model::{Change, CommitInfo, Ident, LabelRule, LabelState, Patchset, Status, SubmitType, World};
use super::rest::is_merged;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What `o=` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are the options of the interface")]
pub(crate) struct Options {
    accounts: bool,
    current_revision: bool,
    all_revisions: bool,
    current_commit: bool,
    all_commits: bool,
    current_files: bool,
    all_files: bool,
    labels: bool,
    detailed_labels: bool,
    messages: bool,
    submittable: bool,
    requirements: bool,
}

impl Options {
    /// Reads the words; unknown ones ask for nothing.
    pub(crate) fn read<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let mut options = Self::default();
        for word in words {
            let flag = match word {
                "DETAILED_ACCOUNTS" => &mut options.accounts,
                "CURRENT_REVISION" => &mut options.current_revision,
                "ALL_REVISIONS" => &mut options.all_revisions,
                "CURRENT_COMMIT" => &mut options.current_commit,
                "ALL_COMMITS" => &mut options.all_commits,
                "CURRENT_FILES" => &mut options.current_files,
                "ALL_FILES" => &mut options.all_files,
                "LABELS" => &mut options.labels,
                "DETAILED_LABELS" => &mut options.detailed_labels,
                "MESSAGES" => &mut options.messages,
                "SUBMITTABLE" => &mut options.submittable,
                "SUBMIT_REQUIREMENTS" => &mut options.requirements,
                _ => continue,
            };
            *flag = true;
        }
        options
    }

    /// What `/detail` shows.
    pub(crate) fn detailed() -> Self {
        Self { accounts: true, labels: true, detailed_labels: true, messages: true, ..Self::default() }
    }
}

/// A time as REST writes it.
fn stamp(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    format!("{}.000000000", time.strftime("%Y-%m-%d %H:%M:%S"))
}

fn ident(ident: &Ident) -> Value {
    json!({ "name": ident.name, "email": ident.email, "date": stamp(ident.when), "tz": 0 })
}

impl World {
    /// An account.
    pub(crate) fn rest_account(&self, username: &str, detailed: bool) -> Value {
        match self.accounts.get(username) {
            None => json!({ "username": username }),
            Some(account) if detailed => json!({
                "_account_id": account.id,
                "name": account.name,
                "email": account.email,
                "username": account.username,
            }),
            Some(account) => json!({ "_account_id": account.id }),
        }
    }

    /// A change.
    pub(crate) fn rest_change(&self, change: &Change, options: Options) -> Value {
        let files = &change.current().commit.files;
        let mut out = json!({
            "id": change.triplet(),
            "triplet_id": change.triplet(),
            "project": change.project,
            "branch": change.branch,
            "hashtags": change.hashtags,
            "change_id": change.change_id,
            "subject": change.current().commit.subject(),
            "status": change.status.word(),
            "created": stamp(change.created_on),
            "updated": stamp(change.last_updated),
            "insertions": files.iter().map(|file| file.insertions).sum::<u64>(),
            "deletions": files.iter().map(|file| file.deletions).sum::<u64>(),
            "_number": change.number,
            "current_revision_number": change.current().number,
            "owner": self.rest_account(&change.owner, options.accounts),
            "submit_type": self.projects.get(&change.project).map_or(SubmitType::MergeIfNecessary, |p| p.submit_type).word(),
        });
        if !change.topic.is_empty() {
            out["topic"] = change.topic.clone().into();
        }
        if change.wip {
            out["work_in_progress"] = true.into();
        }
        if change.private {
            out["is_private"] = true.into();
        }
        if let Status::Merged { by, on, .. } = &change.status {
            out["submitted"] = stamp(*on).into();
            out["submitter"] = self.rest_account(by, options.accounts);
        }
        if options.submittable {
            let record = self.submit_record(change);
            out["submittable"] = (record.status == super::model::RecordStatus::Ok).into();
        }
        if options.labels || options.detailed_labels {
            out["labels"] = self.rest_labels(change, options);
        }
        if options.requirements {
            out["submit_requirements"] = self.rest_requirements(change);
        }
        if options.messages {
            out["messages"] = self.rest_messages(change);
        }
        if options.detailed_labels || options.accounts {
            let who: Vec<Value> =
                change.reviewers.iter().map(|who| self.rest_account(who, options.accounts)).collect();
            out["reviewers"] = if who.is_empty() { json!({}) } else { json!({ "REVIEWER": who }) };
        }
        if options.current_revision || options.all_revisions {
            out["current_revision"] = change.current().commit.id.clone().into();
            out["revisions"] = self.rest_revisions(change, options);
        }
        out
    }

    fn rest_revisions(&self, change: &Change, options: Options) -> Value {
        let mut out = Map::new();
        for patchset in &change.patchsets {
            let current = patchset.number == change.current().number;
            if !current && !options.all_revisions {
                continue;
            }
            let mut revision = json!({
                "kind": patchset.kind.word(),
                "_number": patchset.number,
                "created": stamp(patchset.created_on),
                "uploader": self.rest_account(&patchset.uploader, options.accounts),
                "ref": change.ref_of(patchset.number),
                "branch": format!("refs/heads/{}", change.branch),
                "fetch": self.rest_fetch(change, patchset.number),
            });
            if options.all_commits || options.current_commit && current {
                revision["commit"] = Self::rest_commit(&patchset.commit);
            }
            if options.all_files || options.current_files && current {
                revision["files"] = Self::rest_files(&patchset.commit);
            }
            out.insert(patchset.commit.id.clone(), revision);
        }
        out.into()
    }

    /// From where a patchset can be fetched.
    fn rest_fetch(&self, change: &Change, patchset: u32) -> Value {
        let (name, project) = (change.ref_of(patchset), &change.project);
        json!({
            "anonymous http": { "url": format!("{}/{project}", self.url), "ref": name },
            "ssh": { "url": format!("ssh://{}/{project}", self.ssh), "ref": name },
        })
    }

    /// A commit.
    pub(crate) fn rest_commit(commit: &CommitInfo) -> Value {
        let parents: Vec<Value> = commit.parents.iter().map(|id| json!({ "commit": id })).collect();
        json!({
            "commit": commit.id,
            "parents": parents,
            "author": ident(&commit.author),
            "committer": ident(&commit.committer),
            "subject": commit.subject(),
            "message": commit.message,
        })
    }

    /// The files of a commit.
    pub(crate) fn rest_files(commit: &CommitInfo) -> Value {
        let mut out = Map::new();
        let lines = commit.message.lines().count();
        out.insert(
            "/COMMIT_MSG".into(),
            json!({ "status": "A", "lines_inserted": lines, "size_delta": 0, "size": 0 }),
        );
        for file in &commit.files {
            let mut entry = json!({ "size_delta": 0, "size": 0 });
            // A modified file is the usual case and not marked.
            if file.letter != 'M' {
                entry["status"] = file.letter.to_string().into();
            }
            if file.insertions > 0 {
                entry["lines_inserted"] = file.insertions.into();
            }
            if file.deletions > 0 {
                entry["lines_deleted"] = file.deletions.into();
            }
            if let Some(old) = &file.old_path {
                entry["old_path"] = old.clone().into();
            }
            out.insert(file.path.clone(), entry);
        }
        out.into()
    }

    /// The messages on a change.
    pub(crate) fn rest_messages(&self, change: &Change) -> Value {
        let list = change.comments.iter().enumerate().map(|(at, comment)| {
            let mut out = json!({
                "id": format!("{:040x}", change.number * 1_000_000 + at as u64),
                "author": self.rest_account(&comment.by, true),
                "date": stamp(comment.on),
                "message": comment.text,
                "_revision_number": comment.patchset,
            });
            if let Some(tag) = &comment.tag {
                out["tag"] = tag.clone().into();
            }
            out
        });
        list.collect::<Vec<_>>().into()
    }

    fn rest_labels(&self, change: &Change, options: Options) -> Value {
        let mut out = Map::new();
        for rule in &self.labels {
            let mut label = json!({});
            let votes: Vec<_> =
                change.current().votes.iter().filter(|vote| vote.label == rule.name).collect();
            for vote in &votes {
                let word = match vote.value {
                    value if value == rule.max => "approved",
                    value if value == rule.min => "rejected",
                    value if value > 0 => "recommended",
                    _ => "disliked",
                };
                label[word] = self.rest_account(&vote.by, options.accounts);
            }
            if !rule.required {
                label["optional"] = true.into();
            }
            if votes.iter().any(|vote| vote.value == rule.min) && rule.required {
                label["blocking"] = true.into();
            }
            if options.detailed_labels {
                let all: Vec<Value> = votes
                    .iter()
                    .map(|vote| {
                        let mut one = self.rest_account(&vote.by, options.accounts);
                        one["value"] = vote.value.into();
                        one["date"] = stamp(vote.granted_on).into();
                        one
                    })
                    .collect();
                if !all.is_empty() {
                    label["all"] = all.into();
                }
                label["values"] = values(rule);
                label["default_value"] = 0.into();
            }
            out.insert(rule.name.clone(), label);
        }
        out.into()
    }

    fn rest_requirements(&self, change: &Change) -> Value {
        let mut out = Vec::new();
        for rule in self.labels.iter().filter(|rule| rule.required) {
            let state = super::model::labels::state(rule, change);
            let met = matches!(state, LabelState::Ok(_)) || is_merged(&change.status);
            let name = &rule.name;
            out.push(json!({
                "name": name,
                "status": if met { "SATISFIED" } else { "UNSATISFIED" },
                "is_legacy": false,
                "submittability_expression_result": {
                    "expression": format!("label:{name}=MAX AND -label:{name}=MIN"),
                    "fulfilled": met,
                    "status": if met { "PASS" } else { "FAIL" },
                },
            }));
        }
        out.into()
    }

    /// Changes that stand on one another with this one, the newest first; nothing if it stands alone.
    pub(crate) fn rest_related(&self, change: &Change, revision: &Patchset) -> Vec<Value> {
        let here: Vec<&Change> = self
            .changes
            .values()
            .filter(|other| other.project == change.project && other.branch == change.branch)
            .collect();
        let mut below = Vec::new();
        let mut parent = revision.commit.parents.first();
        while let Some(found) = parent.and_then(|id| self.on_branch(&change.project, &change.branch, id)) {
            let Some(patchset) = found.0.patchset(found.1) else { break };
            below.push((found.0, patchset));
            parent = patchset.commit.parents.first();
        }
        let mut above: Vec<(&Change, &Patchset)> = Vec::new();
        let mut known: BTreeSet<&str> = change.patchsets.iter().map(|one| one.commit.id.as_str()).collect();
        loop {
            let next = here.iter().find_map(|other| {
                let stands = |one: &&Patchset| {
                    !known.contains(one.commit.id.as_str())
                        && one.commit.parents.iter().any(|parent| known.contains(parent.as_str()))
                };
                let one = Some(other.current()).filter(stands)?;
                Some((*other, one))
            });
            let Some(next) = next else { break };
            known.insert(next.1.commit.id.as_str());
            above.push(next);
        }
        if below.is_empty() && above.is_empty() {
            return Vec::new();
        }
        let chain = above.into_iter().rev().chain([(change, revision)]).chain(below);
        chain.map(|(change, patchset)| related(change, patchset)).collect()
    }
}

fn related(change: &Change, patchset: &Patchset) -> Value {
    let parents: Vec<Value> = patchset.commit.parents.iter().map(|id| json!({ "commit": id })).collect();
    json!({
        "project": change.project,
        "change_id": change.change_id,
        "commit": {
            "commit": patchset.commit.id,
            "parents": parents,
            "author": ident(&patchset.commit.author),
            "subject": patchset.commit.subject(),
        },
        "_change_number": change.number,
        "_revision_number": patchset.number,
        "_current_revision_number": change.current().number,
        "status": change.status.word(),
    })
}

/// What each value of a label is called.
fn values(rule: &LabelRule) -> Value {
    let name = |value: i8| if value == 0 { " 0".to_owned() } else { format!("{value:+}") };
    let list = (rule.min..=rule.max)
        .map(|value| (name(value), Value::from(format!("{} {}", rule.name, name(value)))));
    list.collect::<Map<_, _>>().into()
}
