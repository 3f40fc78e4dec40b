//! What a push does: to `refs/for/` it makes changes and patchsets, to other refs it moves them.

use super::core::Core;
use super::model::{Change, CommitInfo, Event, Kind, NewChange, Refusal, Review, World};
use super::repos::{GitFailed, RefMove, ZERO};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

/// A command of a push.
pub(crate) type Command = RefMove;

/// What came of a push.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Per ref.
    pub(crate) results: Vec<(String, Result<(), String>)>,
    /// What the user reads.
    pub(crate) text: String,
}

/// What is written behind `refs/for/`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Target {
    /// Branch.
    pub(crate) branch: String,
    topic: Option<String>,
    reviewers: Vec<String>,
    hashtags: Vec<String>,
    message: Option<String>,
    labels: Vec<(String, i8)>,
    base: Vec<String>,
    wip: Option<bool>,
    private: Option<bool>,
}

impl Target {
    /// Reads a ref with its options and the options of the push.
    pub(crate) fn parse(name: &str, options: &[String]) -> Option<Result<Self, String>> {
        let rest = ["refs/for/", "refs/publish/", "refs/drafts/"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))?;
        let (branch, inside) = rest.split_once('%').unwrap_or((rest, ""));
        let branch = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let mut target = Self { branch: branch.to_owned(), ..Self::default() };
        let all = inside.split(',').chain(options.iter().map(String::as_str));
        for option in all.filter(|option| !option.is_empty()) {
            if let Err(why) = target.set(option) {
                return Some(Err(why));
            }
        }
        Some(Ok(target))
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "topic" => self.topic = Some(value.to_owned()),
            "r" | "reviewer" => self.reviewers.push(value.to_owned()),
            "t" | "hashtag" => self.hashtags.push(value.to_owned()),
            "m" | "message" => self.message = Some(unescape(value)),
            "l" | "label" => {
                self.labels.push(label_value(value).ok_or_else(|| format!("label {value} has no number"))?);
            }
            "base" => self.base.push(value.to_owned()),
            "wip" | "work-in-progress" => self.wip = Some(true),
            "ready" => self.wip = Some(false),
            "private" => self.private = Some(true),
            "remove-private" => self.private = Some(false),
            "cc"
            | "notify"
            | "notify-to"
            | "notify-cc"
            | "no-publish-comments"
            | "publish-comments"
            | "np"
            | "publish"
            | "trace"
            | "deadline" => {}
            _ => return Err(format!("\"{name}\" is not an option of a push for review")),
        }
        Ok(())
    }
}

/// Reads `LABEL=V`, `LABEL+V`, `LABEL-V`, or `LABEL` for one.
pub(crate) fn label_value(text: &str) -> Option<(String, i8)> {
    let split = match text.split_once('=') {
        Some(pair) => Some(pair),
        None => text
            .rfind(['+', '-'])
            .map(|at| text.split_at(at))
            .filter(|(_, number)| number.parse::<i8>().is_ok()),
    };
    let (label, number) = split.unwrap_or((text, "1"));
    Some((label.to_owned(), number.parse().ok()?))
}

/// In a ref, a blank is an underscore or a plus, anything else is escaped with percent signs.
fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'_' | b'+' => out.push(b' '),
            b'%' => {
                let pair: Vec<u8> = bytes.by_ref().take(2).collect();
                let value = std::str::from_utf8(&pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.extend(value);
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What becomes of a commit that was pushed for review.
enum Step {
    New { change_id: String, commit: CommitInfo },
    Next { number: u64, commit: CommitInfo, kind: Kind },
    Same { number: u64 },
}

impl From<GitFailed> for String {
    fn from(failed: GitFailed) -> Self {
        failed.to_string()
    }
}

impl Core {
    /// Does what a push asks for. The objects are in the repository already.
    pub(crate) async fn receive(
        &self,
        user: &str,
        project: &str,
        commands: &[Command],
        options: &[String],
        atomic: bool,
    ) -> Outcome {
        let (user, project) = (user.to_owned(), project.to_owned());
        let (commands, options) = (commands.to_vec(), options.to_vec());
        let act = |core: Arc<Self>| async move {
            core.receive_now(&user, &project, &commands, &options, atomic).await
        };
        self.to_its_end(act).await
    }

    async fn receive_now(
        &self,
        user: &str,
        project: &str,
        commands: &[Command],
        options: &[String],
        atomic: bool,
    ) -> Outcome {
        let mut world = self.world.lock().await;
        let mut outcome = Outcome::default();
        let mut direct = Vec::new();
        for command in commands {
            match Target::parse(&command.name, options) {
                Some(target) => {
                    let result = match target {
                        Ok(target) => {
                            self.for_review(&mut world, user, project, command, &target, &mut outcome.text)
                                .await
                        }
                        Err(why) => Err(why),
                    };
                    outcome.results.push((command.name.clone(), result));
                }
                None => match self.may_move(&world, user, project, command).await {
                    Ok(()) => direct.push(command.clone()),
                    Err(why) => outcome.results.push((command.name.clone(), Err(why))),
                },
            }
        }
        if atomic && outcome.results.iter().any(|(_, result)| result.is_err()) {
            let failed = direct.drain(..).map(|command| (command.name, Err("atomic push failed".to_owned())));
            outcome.results.extend(failed);
        }
        let batches = if atomic { vec![direct] } else { direct.into_iter().map(|one| vec![one]).collect() };
        for batch in batches {
            let result = self.move_refs(&mut world, user, project, &batch).await;
            for command in batch {
                outcome.results.push((command.name, result.clone()));
            }
        }
        outcome
    }

    async fn may_move(
        &self,
        world: &World,
        user: &str,
        project: &str,
        command: &Command,
    ) -> Result<(), String> {
        let Command { name, old, new } = command;
        let closed = ["refs/changes/", "refs/fake/", "refs/for/", "refs/meta/", "refs/users/"];
        if !name.starts_with("refs/") || closed.iter().any(|prefix| name.starts_with(prefix)) {
            return Err("this ref cannot be pushed to".into());
        }
        if !world.in_group(user, &world.rights.push) {
            return Err(format!("prohibited: {user} may not push to {name}; push to refs/for/ for review"));
        }
        let there = self.repos.resolve(project, name).await?.unwrap_or_else(|| ZERO.to_owned());
        if there != *old {
            return Err(format!("stale: {name} is at {there}, expected {old}"));
        }
        let forward = old == ZERO
            || new != ZERO
                && !name.starts_with("refs/tags/")
                && self.repos.is_ancestor(project, old, new).await.unwrap_or(false);
        if forward || world.in_group(user, &world.rights.force_push) {
            return Ok(());
        }
        Err(if new == ZERO { "not permitted: delete" } else { "non-fast-forward" }.into())
    }

    /// Moves refs, tells of it, and marks what has landed by it.
    pub(crate) async fn move_refs(
        &self,
        world: &mut World,
        user: &str,
        project: &str,
        moves: &[RefMove],
    ) -> Result<(), String> {
        if moves.is_empty() {
            return Ok(());
        }
        let mut heads: BTreeMap<String, String> = self.repos.refs(project).await?.into_iter().collect();
        heads.retain(|name, _| name.starts_with("refs/heads/"));
        self.repos.update(project, moves).await.map_err(|_| "failed to update ref")?;
        let now = self.now();
        for RefMove { name, old, new } in moves {
            self.publish([world.ref_updated(project, name, old, new, Some(user), now)]);
        }
        for RefMove { name, old, new } in moves {
            let Some(branch) = name.strip_prefix("refs/heads/").filter(|_| new != ZERO) else { continue };
            let known = if old == ZERO { heads.values().cloned().collect() } else { vec![old.clone()] };
            self.close_landed(world, user, project, branch, new, &known).await?;
        }
        Ok(())
    }

    /// Marks the changes as merged whose commits have come into a branch without a submit.
    async fn close_landed(
        &self,
        world: &mut World,
        user: &str,
        project: &str,
        branch: &str,
        tip: &str,
        known: &[String],
    ) -> Result<(), String> {
        let now = self.now();
        for (commit, message) in self.repos.history(project, tip, known).await? {
            let by_commit = world.on_branch(project, branch, &commit).map(|(change, _)| change.number);
            let number = if let Some(number) = by_commit {
                number
            } else {
                let footer = CommitInfo { message, ..CommitInfo::default() };
                let ids = footer.footers("Change-Id");
                let Some(change) = ids.last().and_then(|id| world.by_change_id(project, branch, id)) else {
                    continue;
                };
                let (number, open) = (change.number, change.is_open());
                if open {
                    let info = self.repos.info(project, &commit).await?;
                    self.add_version(world, user, number, info, Kind::Rework).await?;
                }
                number
            };
            if world.change(number).is_ok_and(Change::is_open) {
                let event = world.merged(user, number, tip, now).map_err(|refusal| refusal.to_string())?;
                self.publish([event]);
            }
        }
        Ok(())
    }

    /// Adds a patchset with its ref, without an event.
    pub(crate) async fn add_version(
        &self,
        world: &mut World,
        user: &str,
        number: u64,
        commit: CommitInfo,
        kind: Kind,
    ) -> Result<u32, GitFailed> {
        let id = commit.id.clone();
        let Ok(patchset) = world.add_patchset(number, commit, user, kind, self.now()) else { return Ok(0) };
        let Ok(change) = world.change(number) else { return Ok(0) };
        let new = RefMove { name: change.ref_of(patchset), old: ZERO.into(), new: id };
        self.repos.update(&change.project.clone(), &[new]).await?;
        Ok(patchset)
    }

    async fn for_review(
        &self,
        world: &mut World,
        user: &str,
        project: &str,
        command: &Command,
        target: &Target,
        text: &mut String,
    ) -> Result<(), String> {
        if command.new == ZERO {
            return Err("a push for review cannot delete".into());
        }
        if self.repos.tip(project, &target.branch).await?.is_none() {
            return Err(format!("branch {} not found", target.branch));
        }
        let mut known = self.repos.heads(project).await?;
        known.extend(target.base.iter().cloned());
        let mut steps = Vec::new();
        let mut seen = BTreeSet::new();
        for commit in self.repos.commits(project, &[&command.new], &known).await? {
            steps.push(self.plan(world, project, target, &commit, &mut seen, text).await?);
        }
        self.carry_out(world, user, project, target, steps, text).await
    }

    /// Decides what becomes of one commit.
    async fn plan(
        &self,
        world: &World,
        project: &str,
        target: &Target,
        id: &str,
        seen: &mut BTreeSet<String>,
        text: &mut String,
    ) -> Result<Step, String> {
        if let Some((change, patchset)) = world.on_branch(project, &target.branch, id) {
            return match (change.is_open(), patchset == change.current().number) {
                (true, true) => {
                    seen.insert(change.change_id.clone());
                    Ok(Step::Same { number: change.number })
                }
                (true, false) => Err(format!("commit {id} is an old patch set of change {}", change.number)),
                (false, _) => Err(format!("change {} closed", world.change_url(change))),
            };
        }
        let commit = self.repos.info(project, id).await?;
        let change_id = match commit.footers("Change-Id").as_slice() {
            [] => {
                advise(world, id, &commit, text);
                return Err(format!("commit {}: missing Change-Id in message footer", &id[..7]));
            }
            [one] if is_change_id(one) => (*one).to_owned(),
            [_] => return Err(format!("commit {}: invalid Change-Id line in message footer", &id[..7])),
            _ => return Err(format!("commit {}: multiple Change-Id lines in message footer", &id[..7])),
        };
        if !seen.insert(change_id.clone()) {
            return Err(format!("same Change-Id in multiple changes: {change_id}; squash the commits"));
        }
        let Some(change) = world.by_change_id(project, &target.branch, &change_id) else {
            return Ok(Step::New { change_id, commit });
        };
        if !change.is_open() {
            return Err(format!("change {} closed", world.change_url(change)));
        }
        let kind = self.repos.kind(project, &change.current().commit, &commit).await?;
        Ok(Step::Next { number: change.number, commit, kind })
    }

    async fn carry_out(
        &self,
        world: &mut World,
        user: &str,
        project: &str,
        target: &Target,
        steps: Vec<Step>,
        text: &mut String,
    ) -> Result<(), String> {
        let now = self.now();
        let (mut refs, mut lines, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let (mut new, mut updated) = (0, 0);
        let mut touched = Vec::new();
        for step in steps {
            let (number, word) = match step {
                Step::New { change_id, commit } => {
                    new += 1;
                    let (project, branch) = (project.to_owned(), target.branch.clone());
                    let made = NewChange { project, branch, change_id, owner: user.to_owned(), commit };
                    (world.add_change(made, now), " [NEW]")
                }
                Step::Next { number, commit, kind } => {
                    updated += 1;
                    world.add_patchset(number, commit, user, kind, now).map_err(|why| why.to_string())?;
                    (number, "")
                }
                Step::Same { number } => {
                    touched.push((number, false, false));
                    continue;
                }
            };
            touched.push((number, word == " [NEW]", true));
            let change = world.change(number).map_err(|why| why.to_string())?;
            let (name, id) = (change.ref_of(change.current().number), change.current().commit.id.clone());
            refs.push(RefMove { name, old: ZERO.into(), new: id });
            lines.push(format!("  {} {}{word}", world.change_url(change), change.current().commit.subject()));
        }
        if new + updated == 0 && !target.changes_something() {
            return Err("no new changes".into());
        }
        self.repos.update(project, &refs).await?;
        if self.change_ref_events {
            for moved in &refs {
                events.push(world.ref_updated(project, &moved.name, ZERO, &moved.new, Some(user), now));
            }
        }
        for (number, is_new, is_version) in touched {
            target
                .apply(world, user, number, is_new, is_version, now, &mut events)
                .map_err(|why| why.to_string())?;
        }
        self.publish(events);
        let _ = write!(
            text,
            "\nProcessing changes: refs: 1, new: {new}, updated: {updated}, done\n\nSUCCESS\n\n"
        );
        let _ = writeln!(text, "{}\n", lines.join("\n"));
        Ok(())
    }
}

impl Target {
    fn changes_something(&self) -> bool {
        self.topic.is_some()
            || self.wip.is_some()
            || self.private.is_some()
            || self.message.is_some()
            || !(self.hashtags.is_empty() && self.reviewers.is_empty() && self.labels.is_empty())
    }

    /// Sets what the push said about the change, and tells of everything.
    #[expect(clippy::too_many_arguments, reason = "one caller, in a loop over changes")]
    fn apply(
        &self,
        world: &mut World,
        user: &str,
        number: u64,
        is_new: bool,
        is_version: bool,
        now: i64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        // What a new change begins with is no event of its own.
        let mut later = Vec::new();
        if let Some(topic) = &self.topic {
            later.extend(world.set_topic(user, number, topic, now)?);
        }
        if let Some(wip) = self.wip {
            later.extend(world.set_wip(user, number, wip, now)?);
        }
        if let Some(private) = self.private {
            later.extend(world.set_private(user, number, private, now)?);
        }
        if !self.hashtags.is_empty() {
            later.extend(world.set_hashtags(user, number, &self.hashtags, &[], now)?);
        }
        if is_new {
            later.clear();
        }
        if is_version {
            events.push(world.patchset_created(number, now)?);
        }
        events.extend(later);
        for reviewer in &self.reviewers {
            events.extend(world.add_reviewer(user, number, reviewer, now)?);
        }
        if self.message.is_some() || !self.labels.is_empty() {
            let message = self.message.clone().unwrap_or_default();
            let review = Review { message, labels: self.labels.clone(), strict: true, ..Review::default() };
            let patchset = world.change(number)?.current().number;
            events.push(world.review(user, number, patchset, &review, now)?);
        }
        Ok(())
    }
}

impl World {
    /// Sets a topic; empty for none.
    pub fn set_topic(
        &mut self,
        user: &str,
        number: u64,
        topic: &str,
        now: i64,
    ) -> Result<Option<Event>, Refusal> {
        let change = self.change_mut(number)?;
        if change.topic == topic {
            return Ok(None);
        }
        let old = std::mem::replace(&mut change.topic, topic.to_owned());
        change.last_updated = now;
        let members = vec![("changer", self.account_json(user)), ("oldTopic", old.into())];
        self.change_event("topic-changed", number, members, now).map(Some)
    }

    /// Marks a change as not ready, or as ready.
    pub fn set_wip(
        &mut self,
        user: &str,
        number: u64,
        wip: bool,
        now: i64,
    ) -> Result<Option<Event>, Refusal> {
        let change = self.change_mut(number)?;
        if std::mem::replace(&mut change.wip, wip) == wip {
            return Ok(None);
        }
        change.last_updated = now;
        let members = vec![("changer", self.account_json(user))];
        self.change_event("wip-state-changed", number, members, now).map(Some)
    }

    /// Hides a change, or shows it.
    pub fn set_private(
        &mut self,
        user: &str,
        number: u64,
        private: bool,
        now: i64,
    ) -> Result<Option<Event>, Refusal> {
        let change = self.change_mut(number)?;
        if std::mem::replace(&mut change.private, private) == private {
            return Ok(None);
        }
        change.last_updated = now;
        let members = vec![("changer", self.account_json(user))];
        self.change_event("private-state-changed", number, members, now).map(Some)
    }

    /// Adds and removes hashtags.
    pub fn set_hashtags(
        &mut self,
        user: &str,
        number: u64,
        add: &[String],
        remove: &[String],
        now: i64,
    ) -> Result<Option<Event>, Refusal> {
        let change = self.change_mut(number)?;
        let added: Vec<&String> = add.iter().filter(|tag| change.hashtags.insert((*tag).clone())).collect();
        let removed: Vec<&String> = remove.iter().filter(|tag| change.hashtags.remove(*tag)).collect();
        if added.is_empty() && removed.is_empty() {
            return Ok(None);
        }
        change.last_updated = now;
        let all = json!(change.hashtags);
        let members = vec![
            ("editor", self.account_json(user)),
            ("added", json!(added)),
            ("removed", json!(removed)),
            ("hashtags", all),
        ];
        self.change_event("hashtags-changed", number, members, now).map(Some)
    }

    /// Asks somebody for a review.
    pub fn add_reviewer(
        &mut self,
        user: &str,
        number: u64,
        reviewer: &str,
        now: i64,
    ) -> Result<Option<Event>, Refusal> {
        let reviewer = self.find_account(reviewer)?;
        let change = self.change_mut(number)?;
        if !change.reviewers.insert(reviewer.clone()) {
            return Ok(None);
        }
        change.last_updated = now;
        let members = vec![("reviewer", self.account_json(&reviewer)), ("adder", self.account_json(user))];
        self.change_event("reviewer-added", number, members, now).map(Some)
    }

    /// Takes somebody from the reviewers, with all votes.
    pub fn remove_reviewer(
        &mut self,
        user: &str,
        number: u64,
        reviewer: &str,
        now: i64,
    ) -> Result<Event, Refusal> {
        let reviewer = self.find_account(reviewer)?;
        let change = self.change_mut(number)?;
        if !change.reviewers.remove(&reviewer) {
            return Err(Refusal::NotFound(format!("reviewer {reviewer}")));
        }
        let mut gone = Vec::new();
        change.current_mut().votes.retain(|vote| {
            if vote.by == reviewer {
                gone.push((vote.label.clone(), vote.value));
            }
            vote.by != reviewer
        });
        change.last_updated = now;
        let members = vec![
            ("reviewer", self.account_json(&reviewer)),
            ("remover", self.account_json(user)),
            ("approvals", taken(&gone)),
            ("comment", format!("Removed reviewer {reviewer}").into()),
        ];
        self.change_event("reviewer-deleted", number, members, now)
    }

    /// Takes back one vote of somebody.
    pub fn delete_vote(
        &mut self,
        user: &str,
        number: u64,
        reviewer: &str,
        label: &str,
        now: i64,
    ) -> Result<Event, Refusal> {
        let reviewer = self.find_account(reviewer)?;
        let change = self.change_mut(number)?;
        let votes = &mut change.current_mut().votes;
        let at = votes.iter().position(|vote| vote.by == reviewer && vote.label.eq_ignore_ascii_case(label));
        let vote =
            at.map(|at| votes.remove(at)).ok_or_else(|| Refusal::NotFound(format!("vote on {label}")))?;
        change.last_updated = now;
        let members = vec![
            ("reviewer", self.account_json(&reviewer)),
            ("remover", self.account_json(user)),
            ("approvals", taken(&[(vote.label.clone(), vote.value)])),
            ("comment", format!("Removed {}{:+} by {reviewer}", vote.label, vote.value).into()),
        ];
        self.change_event("vote-deleted", number, members, now)
    }

    /// The username of an account named by username, address or number.
    pub fn find_account(&self, name: &str) -> Result<String, Refusal> {
        let found = self.accounts.values().find(|account| {
            account.username == name || account.email == name || account.id.to_string() == name
        });
        found
            .map(|account| account.username.clone())
            .ok_or_else(|| Refusal::BadRequest(format!("{name} does not identify a registered user")))
    }
}

fn taken(votes: &[(String, i8)]) -> serde_json::Value {
    let list = votes.iter().map(|(label, value)| {
        json!({ "type": label, "description": label, "value": "0", "oldValue": value.to_string() })
    });
    list.collect::<Vec<_>>().into()
}

fn is_change_id(text: &str) -> bool {
    let digits = text.strip_prefix('I').unwrap_or_default();
    digits.len() == 40 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Says how to get the hook that adds a Change-Id.
fn advise(world: &World, id: &str, commit: &CommitInfo, text: &mut String) {
    let (host, port) = world.ssh.rsplit_once(':').unwrap_or((&world.ssh, "29418"));
    let _ = write!(
        text,
        "\nERROR: commit {}: missing Change-Id in message footer\n\n\
         The commit \"{}\" has no Change-Id line, so it cannot be told which change it belongs to.\n\
         Let a hook add one to every commit you make:\n\
         \u{20} scp -O -p -P {port} {host}:hooks/commit-msg \"$(git rev-parse --git-dir)/hooks/\"\n\
         or\n\
         \u{20} curl -Lo \"$(git rev-parse --git-dir)/hooks/commit-msg\" {}/tools/hooks/commit-msg\n\
         \u{20} chmod +x \"$(git rev-parse --git-dir)/hooks/commit-msg\"\n\
         then run git commit --amend --no-edit and push again.\n",
        &id[..7],
        commit.subject(),
        world.url,
    );
}
