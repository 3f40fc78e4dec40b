//! A review system without network: changes, patchsets, votes, submit rules, and what it tells of them.

use crate::git::{BranchIx, Git, RevIx};
use assay_engine::gate::change::{
    Account, Approval, ChangeFacts, ChangeStatus, LabelStatus, RefUpdate, SubmitLabel, SubmitRecord,
};
use assay_engine::gate::config::EventKind;
use assay_engine::gate::ids::{BranchName, ChangeId, Oid, Patchset, ProjectName, SourceName};
use assay_engine::gate::io::Event;
use assay_engine::ids::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The login that Assay votes with.
pub const OWN_LOGIN: &str = "assay";

/// A `Depends-On` footer to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Footer {
    /// By the Change-Id of the change with this number.
    Id(u64),
    /// By its address.
    Url(u64),
}

/// One patchset.
#[derive(Debug, Clone)]
pub struct PatchsetModel {
    /// Its commit.
    pub revision: RevIx,
    /// The commit's id.
    pub oid: Oid,
    /// The changes that are its git parents.
    pub parents: Vec<(u64, u32)>,
    /// Changed files; none for a merge commit.
    pub files: Option<Vec<String>>,
    /// The commit message.
    pub message: String,
}

/// One change.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its number.
    pub number: u64,
    /// The `I…` id.
    pub change_id: String,
    /// The project.
    pub project: ProjectName,
    /// The branch.
    pub branch: BranchName,
    /// The branch's number.
    pub branch_ix: BranchIx,
    /// First line of its message.
    pub subject: String,
    /// Where it stands.
    pub status: ChangeStatus,
    /// Work in progress.
    pub wip: bool,
    /// All patchsets.
    pub patchsets: Vec<PatchsetModel>,
    /// The votes on the newest.
    pub approvals: Vec<Approval>,
    /// What was said on it by Assay, in order.
    pub reviews: Vec<Review>,
    /// The next submit is refused with these words.
    pub refuse: Option<String>,
}

/// What Assay said on a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// On which patchset.
    pub patchset: u32,
    /// The votes.
    pub labels: Vec<(String, i32)>,
    /// The words.
    pub message: String,
}

impl Change {
    /// The newest patchset.
    pub fn newest(&self) -> &PatchsetModel {
        &self.patchsets[self.patchsets.len() - 1]
    }

    /// The newest patchset's number.
    pub fn current(&self) -> u32 {
        self.patchsets.len() as u32
    }
}

/// The review system.
#[derive(Debug)]
pub struct Gerrit {
    /// Its name in the configuration.
    pub source: SourceName,
    /// All changes.
    pub changes: BTreeMap<u64, Change>,
    /// What a submit needs: label, lowest and highest value.
    pub labels: Vec<(String, i32, i32)>,
    needed_by: BTreeMap<u64, BTreeSet<u64>>,
    by_id: BTreeMap<String, BTreeSet<u64>>,
    id_needed_by: BTreeMap<String, BTreeSet<u64>>,
}

/// A patchset to upload.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// The changes that are its git parents; patchset 0 for the newest.
    pub parents: Vec<(u64, u32)>,
    /// Its footers.
    pub footers: Vec<Footer>,
    /// Changed files.
    pub files: Option<Vec<String>>,
    /// What it touches.
    pub conflicts: Vec<String>,
}

/// The `I…` id of the change with this number, unless it was given another.
pub fn change_id(number: u64) -> String {
    format!("I{number:040}")
}

impl Gerrit {
    /// An empty one.
    pub fn new(source: SourceName) -> Self {
        let label = |name: &str, lowest, highest| (name.to_owned(), lowest, highest);
        Self {
            source,
            changes: BTreeMap::new(),
            labels: vec![label("Approved", -1, 1), label("Code-Review", -2, 2), label("Verified", -2, 2)],
            needed_by: BTreeMap::new(),
            by_id: BTreeMap::new(),
            id_needed_by: BTreeMap::new(),
        }
    }

    /// The id of change `number`.
    pub fn id(&self, number: u64) -> ChangeId {
        ChangeId { source: self.source.clone(), number }
    }

    /// A new change, without patchset; it is not to be seen before [`Self::upload`].
    pub fn create(
        &mut self,
        git: &mut Git,
        number: u64,
        project: &ProjectName,
        branch: &BranchName,
        id: Option<&str>,
    ) {
        let change_id = id.map_or_else(|| change_id(number), str::to_owned);
        self.by_id.entry(change_id.clone()).or_default().insert(number);
        let change = Change {
            number,
            change_id,
            project: project.clone(),
            branch: branch.clone(),
            branch_ix: git.branch(project, branch),
            subject: format!("change {number}"),
            status: ChangeStatus::New,
            wip: false,
            patchsets: Vec::new(),
            approvals: Vec::new(),
            reviews: Vec::new(),
            refuse: None,
        };
        self.changes.insert(number, change);
    }

    /// A new patchset on the branch's tip and the parents. The votes are gone.
    pub fn upload(&mut self, git: &mut Git, number: u64, upload: Upload) -> Option<Patchset> {
        let branch = self.changes.get(&number)?.branch_ix;
        let mut base = git.branches[branch].content.clone();
        let mut parents = Vec::new();
        for (parent, patchset) in upload.parents {
            let model = self.changes.get(&parent)?;
            let patchset = if patchset == 0 { model.current() } else { patchset };
            let below = model.patchsets.get(patchset.checked_sub(1)? as usize)?;
            base.extend(&git.revisions[below.revision].base);
            base.insert(below.revision);
            parents.push((parent, patchset));
        }
        let mut message = self.changes[&number].subject.clone();
        message.push_str("\n\n");
        for footer in &upload.footers {
            let line = match footer {
                Footer::Id(other) => {
                    let id = self
                        .changes
                        .get(other)
                        .map_or_else(|| change_id(*other), |change| change.change_id.clone());
                    self.id_needed_by.entry(id.clone()).or_default().insert(number);
                    format!("Depends-On: {id}\n")
                }
                Footer::Url(other) => {
                    self.needed_by.entry(*other).or_default().insert(number);
                    format!("Depends-On: https://review.example.org/{other}\n")
                }
            };
            message.push_str(&line);
        }
        for (parent, _) in &parents {
            self.needed_by.entry(*parent).or_default().insert(number);
        }
        let id = self.id(number);
        let change = self.changes.get_mut(&number)?;
        message += "Change-Id: ";
        message += &change.change_id;
        message.push('\n');
        let patchset = Patchset { change: id, patchset: change.current() + 1 };
        let mut keys = upload.conflicts;
        // Two patchsets of one change never go together.
        keys.push(format!("change {number}"));
        let revision = git.upload(base, &keys, Some(patchset.clone()));
        let oid = git.revisions[revision].oid.clone();
        change.approvals.clear();
        change.patchsets.push(PatchsetModel { revision, oid, parents, files: upload.files, message });
        Some(patchset)
    }

    /// A vote of `by` on the newest patchset, in place of an older one.
    pub fn vote(&mut self, number: u64, label: &str, value: i32, by: &Account, now: Timestamp) {
        let Some(change) = self.changes.get_mut(&number) else { return };
        let same = |old: &Approval| old.label.as_deref() == Some(label) && old.by.username == by.username;
        change.approvals.retain(|old| !same(old));
        if value != 0 {
            change.approvals.push(Approval {
                label: Some(label.to_owned()),
                value,
                by: by.clone(),
                granted_at: Some(now),
            });
        }
    }

    /// What the submit rules say.
    pub fn record(&self, change: &Change) -> SubmitRecord {
        if !change.status.is_open() {
            return SubmitRecord::Error { why: "change is closed".to_owned() };
        }
        let labels: Vec<SubmitLabel> = self
            .labels
            .iter()
            .map(|(label, lowest, highest)| {
                let votes: Vec<i32> = change
                    .approvals
                    .iter()
                    .filter(|vote| vote.label.as_deref() == Some(label))
                    .map(|vote| vote.value)
                    .collect();
                let status = if votes.contains(lowest) {
                    LabelStatus::Reject
                } else if votes.contains(highest) {
                    LabelStatus::Ok
                } else {
                    LabelStatus::Need
                };
                SubmitLabel { label: label.clone(), status }
            })
            .collect();
        if labels.iter().all(|label| label.status == LabelStatus::Ok) {
            SubmitRecord::Ok
        } else {
            SubmitRecord::NotReady { labels }
        }
    }

    /// What is in the way of submitting this patchset with those of `together`, once the labels of `granted` are given;
    /// nothing if it could be.
    pub fn obstacle(&self, patchset: &Patchset, together: &[u64], granted: &[&str]) -> Option<String> {
        let Some(change) = self.changes.get(&patchset.change.number) else {
            return Some(format!("change {} not found", patchset.change));
        };
        if !change.status.is_open() {
            return Some(format!("change is {}", change.status.word().to_lowercase()));
        }
        if change.current() != patchset.patchset {
            return Some(format!("patch set {} is not current", patchset.patchset));
        }
        if change.wip {
            return Some("change is work in progress".to_owned());
        }
        if let SubmitRecord::NotReady { labels } = self.record(change) {
            let missing: Vec<&str> = labels
                .iter()
                .filter(|label| label.status != LabelStatus::Ok && !granted.contains(&label.label.as_str()))
                .map(|label| label.label.as_str())
                .collect();
            if !missing.is_empty() {
                return Some(format!("needs {}", missing.join(", ")));
            }
        }
        let open = |(number, _): &&(u64, u32)| {
            self.changes.get(number).is_some_and(|parent| parent.status != ChangeStatus::Merged)
                && !together.contains(number)
        };
        let parent = change.newest().parents.iter().find(open);
        parent.map(|(number, _)| format!("depends on change {number}, which is not merged"))
    }

    /// Changes that `number` needs, whatever their state.
    pub fn needs(&self, number: u64) -> BTreeSet<u64> {
        let Some(change) = self.changes.get(&number).filter(|change| change.current() > 0) else {
            return BTreeSet::new();
        };
        let newest = change.newest();
        let mut needs: BTreeSet<u64> = newest.parents.iter().map(|(parent, _)| *parent).collect();
        for line in newest.message.lines() {
            if let Some(id) = line.strip_prefix("Depends-On: I") {
                needs.extend(self.by_id.get(&format!("I{id}")).into_iter().flatten());
            } else if let Some(url) = line.strip_prefix("Depends-On: ") {
                needs.extend(url.rsplit('/').next().and_then(|number| number.parse::<u64>().ok()));
            }
        }
        needs
    }

    fn neighbours(&self, number: u64) -> BTreeSet<u64> {
        let mut all = self.needs(number);
        all.extend(self.needed_by.get(&number).into_iter().flatten());
        if let Some(change) = self.changes.get(&number) {
            all.extend(self.id_needed_by.get(&change.change_id).into_iter().flatten());
        }
        all
    }

    /// Facts of a change and of everything that it needs or that needs it, over any number of steps.
    pub fn facts_around(&self, number: u64, now: Timestamp) -> Vec<ChangeFacts> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        let mut open = vec![number];
        while let Some(next) = open.pop() {
            if !seen.insert(next) {
                continue;
            }
            let Some(facts) = self.facts(next, now) else { continue };
            // History behind a merged change is of no interest.
            if next == number || facts.status != ChangeStatus::Merged {
                open.extend(self.neighbours(next));
            }
            order.push(facts);
        }
        order
    }

    /// What it says of a change now.
    pub fn facts(&self, number: u64, now: Timestamp) -> Option<ChangeFacts> {
        let change = self.changes.get(&number).filter(|change| change.current() > 0)?;
        let newest = change.newest();
        let parent = |(number, patchset): &(u64, u32)| {
            let open = self.changes.get(number)?.status != ChangeStatus::Merged;
            open.then(|| Patchset { change: self.id(*number), patchset: *patchset })
        };
        Some(ChangeFacts {
            id: self.id(number),
            current_patchset: change.current(),
            revision: newest.oid.clone(),
            fetch_ref: format!("refs/changes/{:02}/{number}/{}", number % 100, change.current()),
            project: change.project.clone(),
            branch: change.branch.clone(),
            change_id: Some(change.change_id.clone()),
            subject: change.subject.clone(),
            message: newest.message.clone(),
            url: Some(format!("https://review.example.org/{number}")),
            owner: person("owner"),
            topic: None,
            status: change.status,
            wip: change.wip,
            approvals: change.approvals.clone(),
            submit_records: vec![self.record(change)],
            files: newest.files.clone(),
            parents: newest.parents.iter().filter_map(parent).collect(),
            as_of: now,
        })
    }

    /// An event about the newest patchset of a change; its facts are asked for when it is delivered.
    pub fn event(&self, kind: EventKind, number: u64, by: &Account) -> Event {
        let mut event = Event::new(self.source.clone(), kind);
        let current = self.changes.get(&number).map(Change::current);
        event.change = current.map(|patchset| Patchset { change: self.id(number), patchset });
        event.by = by.clone();
        event
    }

    /// What the other open changes of a project are told when one has merged.
    pub fn open_of(&self, merged: &Patchset, project: &ProjectName) -> Vec<Event> {
        let other = |change: &&Change| {
            change.project == *project
                && change.status.is_open()
                && change.current() > 0
                && change.number != merged.change.number
        };
        let tell = |change: &Change| {
            let kind = EventKind::ProjectChangeMerged;
            Event { source: "zuul".into(), ..self.event(kind, change.number, &Account::default()) }
        };
        self.changes.values().filter(other).map(tell).collect()
    }

    /// The event of a ref that moved.
    pub fn ref_event(&self, project: &ProjectName, name: &BranchName, old: Oid, new: Oid) -> Event {
        let mut event = Event::new(self.source.clone(), EventKind::RefUpdated);
        event.ref_update = Some(RefUpdate { project: project.clone(), name: name.clone(), old, new });
        event.by = person("pusher");
        event
    }
}

/// Somebody of this login.
pub fn person(login: &str) -> Account {
    Account {
        name: Some(login.to_owned()),
        email: Some(format!("{login}@example.org")),
        username: Some(login.to_owned()),
    }
}
