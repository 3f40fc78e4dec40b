//! The lander: makes what passed part of its branch, as the tested tree or not at all.
//!
//! It always looks before it acts, and looks again afterwards; so a landing that was cut off anywhere is finished, or
//! found to be finished, by simply beginning again. What cannot be known now is asked again until it can be.

use super::ports::{Ground, Ledger, Move, Pushed, Reviews, Standing, Submitted, Told, Trouble};
use assay_engine::gate::change::{ChangeStatus, Subject};
use assay_engine::gate::config::{LandingWay, ReportAction};
use assay_engine::gate::ids::{BranchName, Patchset, ProjectName};
use assay_engine::gate::io::{InBranch, LandRequest, LandResult, Landing, Report, Tip};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The pause before another try: doubling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), most: Duration::from_secs(30) }
    }
}

impl Pauses {
    /// After so many tries.
    pub(crate) fn after(self, tries: u32) -> Duration {
        self.first.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(self.most)
    }
}

/// Lands what passed.
#[derive(Clone)]
pub(crate) struct Lander {
    pub(crate) ground: Arc<dyn Ground>,
    pub(crate) reviews: Arc<dyn Reviews>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) pauses: Pauses,
}

/// So often a change whose tested tree is in its branch may be seen and not be called merged by its source: a quarter of
/// an hour. Only when somebody else pushed the very same does it never come.
const LATE: u32 = 36;

/// So often votes are given again that are gone when the source refuses. Each report of another pipeline about the change
/// can take one away: its start, its end, those of a second round.
const VOTES: u32 = 8;

/// One try of a request.
#[derive(Clone, Copy)]
struct Try<'a> {
    request: &'a LandRequest,
    /// Why nothing may be done.
    idle: Option<&'a str>,
    /// How often a change was seen in its branch that its source does not call merged.
    late: &'a AtomicU32,
}

/// How far a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Where {
    /// In its branch as this commit, which has the tested tree.
    Landed(Tip),
    /// Its source says that it is merged, and its branch never had the tested tree.
    Mismatch(Tip),
    /// Nothing is done, and nothing speaks against it.
    Open,
    /// Nothing is done, and its branch stands elsewhere.
    Moved(Tip),
    /// Nothing is done, and it may not be.
    Refused(String),
}

impl Lander {
    /// Lands a request, however long it takes. `note` hears what keeps it, and `None` when that is over.
    ///
    /// With `idle`, which says why, nothing is done: what an earlier server has landed is found, the rest is refused.
    pub(crate) async fn land(
        &self,
        request: &LandRequest,
        idle: Option<&str>,
        note: &(dyn Fn(Option<&str>) + Sync),
    ) -> LandResult {
        let (mut tries, late) = (0, AtomicU32::new(0));
        loop {
            let landed = match request.way {
                LandingWay::Submit => self.submit(Try { request, idle, late: &late }).await,
                LandingWay::Push => self.push(request, idle).await,
            };
            match landed {
                Ok(result) => {
                    note(None);
                    return result;
                }
                Err(Trouble(why)) => {
                    tracing::warn!(item = %request.item, why, "a landing cannot go on now; it is tried again");
                    note(Some(&why));
                    tries += 1;
                    tokio::time::sleep(self.pauses.after(tries)).await;
                }
            }
        }
    }

    /// Tells the votes that go with a push, however long it takes: they come after what they speak of is in its branch
    /// and has its receipt. A submit has needed them, so they are told.
    pub(crate) async fn tell(&self, request: &LandRequest, note: &(dyn Fn(Option<&str>) + Sync)) {
        if request.way != LandingWay::Push {
            return;
        }
        for report in reviews_of(request) {
            let mut tries = 0;
            loop {
                match self.tell_of_landed(report).await {
                    Told::Done(_) | Told::Skipped(_) => break,
                    Told::Never(why) => {
                        tracing::warn!(item = %request.item, about = %report.about, why, "a report of a landing cannot be told");
                        break;
                    }
                    Told::Later(why) => {
                        tracing::warn!(item = %request.item, why, "what landed cannot be reported now; it is tried again");
                        note(Some(&why));
                        tries += 1;
                        tokio::time::sleep(self.pauses.after(tries)).await;
                    }
                }
            }
        }
        note(None);
    }

    /// Tells a report of what is in its branch. What was tested may not be the newest patchset any more: a push that made
    /// it anew has put that on top. Then it takes no votes, and is told without them.
    async fn tell_of_landed(&self, report: &Report) -> Told {
        let told = self.reviews.tell(report, true).await;
        let Told::Never(why) = &told else { return told };
        if report.action.labels().next().is_none() {
            return told;
        }
        let words = Report { action: report.action.without_votes(), ..report.clone() };
        tracing::warn!(about = %report.about, why, "the votes of a landing are refused; it is told without them");
        match self.reviews.tell(&words, true).await {
            Told::Never(also) => Told::Never(format!("{why}; without votes: {also}")),
            told => told,
        }
    }

    async fn submit(&self, this: Try<'_>) -> Result<LandResult, Trouble> {
        let Try { request, idle, .. } = this;
        let mut progress = Progress::default();
        // Everything is looked at before anything is done.
        let mut branches = BTreeSet::new();
        let mut open = Vec::new();
        for landing in &request.members {
            let first_on_branch = branches.insert((&landing.project, &landing.branch));
            match self.look(landing, first_on_branch, this).await? {
                Where::Landed(tip) => progress.landed.push((landing, tip)),
                Where::Open => open.push(landing),
                other => {
                    if let Some(end) = progress.end(landing, other) {
                        return Ok(end);
                    }
                }
            }
        }
        if let Some(refusal) = progress.refusal() {
            return Ok(refusal);
        }
        if let Some(why) = idle {
            return Ok(progress.ends_here(request, open.first().copied(), why));
        }
        // The votes that the submits need come first; with nothing left to submit, they are still owed.
        for report in reviews_of(request) {
            let landing = open.iter().find(|landing| subject(landing) == report.about);
            let told = match landing {
                Some(_) => self.reviews.tell(report, true).await,
                None => self.tell_of_landed(report).await,
            };
            match told {
                Told::Done(_) | Told::Skipped(_) => {}
                Told::Later(why) => return Err(Trouble(why)),
                Told::Never(why) => {
                    let Some(landing) = landing else {
                        // What is in its branch stays there, whether its source takes votes on it or not.
                        tracing::warn!(item = %request.item, about = %report.about, why, "a report of a landing cannot be told");
                        continue;
                    };
                    let end = progress.end(landing, Where::Refused(why));
                    return Ok(end.or_else(|| progress.refusal()).unwrap_or_else(|| progress.done(request)));
                }
            }
        }
        if progress.landed.is_empty()
            && open.len() > 1
            && let Some((landing, why)) = self.refused_beforehand(&open, this).await?
        {
            return Ok(progress.ends_here(request, Some(landing), &why));
        }
        for landing in open {
            match self.submit_one(landing, this).await? {
                Where::Landed(tip) => progress.landed.push((landing, tip)),
                Where::Open => return Err(Trouble(format!("{} is not merged yet", landing.patchset))),
                other => {
                    let end = progress.end(landing, other);
                    return Ok(end.or_else(|| progress.refusal()).unwrap_or_else(|| progress.done(request)));
                }
            }
        }
        Ok(progress.done(request))
    }

    /// Asks for all members before the first is submitted whether their source would refuse any: half of them in their
    /// branches is worse than none.
    async fn refused_beforehand<'a>(
        &self,
        open: &[&'a Landing],
        this: Try<'_>,
    ) -> Result<Option<(&'a Landing, String)>, Trouble> {
        let mut branches = BTreeSet::new();
        for landing in open {
            // A later one is merged into what the earlier ones make of the branch.
            let merge = branches.insert((&landing.project, &landing.branch));
            let mut why = self.reviews.would_refuse(&landing.patchset, merge, &BTreeSet::new()).await?;
            for _ in 0..VOTES {
                if why.is_none() || !self.vote_again(landing, this.request).await? {
                    break;
                }
                why = self.reviews.would_refuse(&landing.patchset, merge, &BTreeSet::new()).await?;
            }
            let Some(why) = why else { continue };
            // A submit of the server before may have come through by now; then there is no way back.
            let mut branches = BTreeSet::new();
            for other in open {
                let first_on_branch = branches.insert((&other.project, &other.branch));
                if self.look(other, first_on_branch, this).await? != Where::Open {
                    return Err(Trouble(format!("{} changed at this moment", other.patchset)));
                }
            }
            return Ok(Some((landing, why)));
        }
        Ok(None)
    }

    /// Gives those votes of a landing again that are gone; true if there were any.
    async fn vote_again(&self, landing: &Landing, request: &LandRequest) -> Result<bool, Trouble> {
        let mut gone = Vec::new();
        for report in reviews_of(request).filter(|report| report.about == subject(landing)) {
            if !self.reviews.stands(report).await? {
                gone.push(report);
            }
        }
        for report in &gone {
            if let Told::Later(why) = self.reviews.tell(report, false).await {
                return Err(Trouble(why));
            }
        }
        Ok(!gone.is_empty())
    }

    /// Submits a member that was open a moment ago. Never answers [`Where::Open`] unless that is to be looked at again.
    ///
    /// A report of another pipeline about the same change may have come between our vote and the submit, or between a
    /// crash and now, and taken the vote's place: a refusal counts while the votes stand. Else they are given again.
    async fn submit_one(&self, landing: &Landing, this: Try<'_>) -> Result<Where, Trouble> {
        let mut voted = 0;
        loop {
            match self.look(landing, true, this).await? {
                Where::Open => {}
                other => return Ok(other),
            }
            match self.reviews.submit(&landing.patchset, &landing.revision).await {
                Submitted::Done => return self.look(landing, true, this).await,
                Submitted::InDoubt(why) => return Err(Trouble(why)),
                Submitted::Refused(why) => {
                    if voted == VOTES || !self.vote_again(landing, this.request).await? {
                        return self.look_after_refusal(landing, this, why).await;
                    }
                    voted += 1;
                }
            }
        }
    }

    /// A refusal may mean that it is merged already, or moved.
    async fn look_after_refusal(
        &self,
        landing: &Landing,
        this: Try<'_>,
        why: String,
    ) -> Result<Where, Trouble> {
        Ok(match self.look(landing, true, this).await? {
            Where::Open => Where::Refused(why),
            other => other,
        })
    }

    /// How far a member is, by what its source says and where its branch stands.
    async fn look(&self, landing: &Landing, first_on_branch: bool, this: Try<'_>) -> Result<Where, Trouble> {
        let change = &landing.patchset;
        let Some(standing) = self.reviews.standing(&change.change).await? else {
            return Ok(Where::Refused(no_change(landing)));
        };
        let Some(tip) = self.ground.look(&landing.project, &landing.branch).await? else {
            return Ok(Where::Refused(no_branch(landing)));
        };
        if standing.status != ChangeStatus::Merged {
            if let Some(why) = not_open(landing, &standing) {
                return Ok(Where::Refused(why));
            }
            // The branch of a later member will stand where the earlier one takes it.
            if tip.tree == landing.base.tree || !first_on_branch {
                return Ok(Where::Open);
            }
            // A submit whose answer was lost may have come through between the two looks.
            let standing = self.reviews.standing(&change.change).await?;
            if standing.is_some_and(|standing| standing.status == ChangeStatus::Merged) {
                return Err(Trouble(format!("{change} was merged at this moment")));
            }
            // A source moves the branch first, and says that the change is merged when its index knows it.
            if this.late.load(Ordering::Relaxed) < LATE
                && self.landed_here(landing, &tip, this).await?.is_some()
            {
                this.late.fetch_add(1, Ordering::Relaxed);
                return Err(Trouble(format!(
                    "{change} is in {} as it was tested, and its source does not call it merged yet; if somebody else \
                     pushed the same, abandon it",
                    landing.branch
                )));
            }
            return Ok(Where::Moved(tip));
        }
        if tip.tree == landing.tested.tree {
            return Ok(Where::Landed(tip));
        }
        // Somebody may have been faster with the next commit, or with a revert, than we with this look.
        if let Some(landed) = self.landed_here(landing, &tip, this).await? {
            return Ok(Where::Landed(landed));
        }
        if tip.tree == landing.base.tree {
            return Err(Trouble(format!("{change} is merged, and {} does not show it yet", landing.branch)));
        }
        Ok(Where::Mismatch(tip))
    }

    /// The commit on the way to the tip that this request has made of its branch. What another item has landed looks the
    /// same, where a change was reverted and landed again; its receipt tells them apart.
    async fn landed_here(&self, landing: &Landing, tip: &Tip, this: Try<'_>) -> Result<Option<Tip>, Trouble> {
        let Some(landed) = self.ground.landed_as(landing, tip).await? else { return Ok(None) };
        if self.ground.contains(&landing.project, &landing.base.commit, &landed.commit).await? {
            return Ok(None);
        }
        let by = self.ledger.signed_for(&landing.project, &landing.branch, &landed.commit).await?;
        Ok(by.is_none_or(|by| by == this.request.item).then_some(landed))
    }

    async fn push(&self, request: &LandRequest, idle: Option<&str>) -> Result<LandResult, Trouble> {
        let mut progress = Progress::default();
        let groups = by_project(&request.members);
        let mut open = Vec::new();
        for group in &groups {
            match self.look_at_group(group).await? {
                Group::Landed => progress.landed.extend(group.iter().map(|one| (*one, one.tested.clone()))),
                Group::Open => open.push(group),
                Group::Not(landing, place) => {
                    if let Some(end) = progress.end(landing, place) {
                        return Ok(end);
                    }
                }
            }
        }
        if let Some(refusal) = progress.refusal() {
            return Ok(refusal);
        }
        if let Some(why) = idle {
            let first = open.first().and_then(|group| group.first()).copied();
            return Ok(progress.ends_here(request, first, why));
        }
        if let Some((landing, why)) = self.vetoed(&open, request).await? {
            return Ok(progress.ends_here(request, Some(landing), &why));
        }
        if progress.landed.is_empty() && open.len() > 1 {
            for group in &open {
                let Some(first) = group.first() else { continue };
                match self.ground.try_push(&first.project, &moves(group)).await? {
                    Pushed::Done => {}
                    Pushed::Stale => return Err(Trouble(format!("{} moved at this moment", first.project))),
                    Pushed::InDoubt(why) => return Err(Trouble(why)),
                    Pushed::Rejected(why) => return Ok(progress.ends_here(request, Some(*first), &why)),
                }
            }
        }
        for group in open {
            let Some(first) = group.first() else { continue };
            match self.ground.push(&first.project, &moves(group)).await? {
                Pushed::Done => {}
                Pushed::Stale => return Err(Trouble(format!("{} moved at this moment", first.project))),
                Pushed::InDoubt(why) => return Err(Trouble(why)),
                Pushed::Rejected(why) => {
                    let end = progress.end(first, Where::Refused(why));
                    return Ok(end.or_else(|| progress.refusal()).unwrap_or_else(|| progress.done(request)));
                }
            }
            match self.look_at_group(group).await? {
                Group::Landed => progress.landed.extend(group.iter().map(|one| (*one, one.tested.clone()))),
                _ => return Err(Trouble(format!("{} does not show what was pushed yet", first.project))),
            }
        }
        Ok(progress.done(request))
    }

    /// Asks whether the source of a change that is to be pushed would merge it, once it has the votes that go with the push:
    /// nobody else looks whether one was withdrawn, or a veto given, since it was let in.
    async fn vetoed<'a>(
        &self,
        open: &[&Vec<&'a Landing>],
        request: &LandRequest,
    ) -> Result<Option<(&'a Landing, String)>, Trouble> {
        let granted: BTreeSet<String> =
            request.reports.iter().flat_map(|report| report.action.labels()).collect();
        for group in open {
            for landing in *group {
                let Some(why) = self.reviews.would_refuse(&landing.patchset, false, &granted).await? else {
                    continue;
                };
                // A push of the server before may have come through by now; then there is no way back.
                return match self.look_at_group(group).await? {
                    Group::Open => Ok(Some((*landing, why))),
                    _ => Err(Trouble(format!("{} changed at this moment", landing.patchset))),
                };
            }
        }
        Ok(None)
    }

    /// How far the members of one project are: they move together or not at all.
    async fn look_at_group<'a>(&self, group: &[&'a Landing]) -> Result<Group<'a>, Trouble> {
        let (mut landed, mut first) = (true, BTreeSet::new());
        for landing in group {
            let last = group.iter().rev().find(|other| other.branch == landing.branch).unwrap_or(landing);
            let Some(tip) = self.ground.look(&landing.project, &landing.branch).await? else {
                return Ok(Group::Not(landing, Where::Refused(no_branch(landing))));
            };
            if self.ground.contains(&landing.project, &tip.commit, &last.tested.commit).await? {
                continue;
            }
            if first.insert(&landing.branch) && tip.commit != landing.base.commit {
                return Ok(Group::Not(landing, Where::Moved(tip)));
            }
            let Some(standing) = self.reviews.standing(&landing.patchset.change).await? else {
                return Ok(Group::Not(landing, Where::Refused(no_change(landing))));
            };
            if standing.status == ChangeStatus::Merged {
                // A push whose answer was lost may have come through since the branch was looked at.
                let tip = self.ground.look(&landing.project, &landing.branch).await?;
                if let Some(tip) = tip
                    && self.ground.contains(&landing.project, &tip.commit, &last.tested.commit).await?
                {
                    continue;
                }
                let why = format!("{} is merged already, and not as it was tested", landing.patchset);
                return Ok(Group::Not(landing, Where::Refused(why)));
            }
            landed = false;
            if let Some(why) = not_open(landing, &standing) {
                return Ok(Group::Not(landing, Where::Refused(why)));
            }
        }
        Ok(if landed { Group::Landed } else { Group::Open })
    }
}

/// How far the members of one project are.
enum Group<'a> {
    Landed,
    Open,
    Not(&'a Landing, Where),
}

/// What has come of a request so far.
#[derive(Default)]
struct Progress<'a> {
    landed: Vec<(&'a Landing, Tip)>,
    refused: Option<(&'a Landing, Where)>,
}

impl<'a> Progress<'a> {
    fn those_in(&self) -> Vec<InBranch> {
        let place = |(landing, tip): &(&Landing, Tip)| InBranch {
            patchset: landing.patchset.clone(),
            project: landing.project.clone(),
            branch: landing.branch.clone(),
            tip: tip.clone(),
        };
        self.landed.iter().map(place).collect()
    }

    /// Notes why a member is not landed; the end, if that is one whatever the others are.
    fn end(&mut self, landing: &'a Landing, place: Where) -> Option<LandResult> {
        if let Where::Mismatch(found) = place {
            let (project, branch) = (landing.project.clone(), landing.branch.clone());
            return Some(LandResult::TreeMismatch { project, branch, found, landed: self.those_in() });
        }
        self.refused.get_or_insert((landing, place));
        None
    }

    /// The end, if a member may not land.
    fn refusal(&self) -> Option<LandResult> {
        let (landing, place) = self.refused.as_ref()?;
        let (project, branch) = (landing.project.clone(), landing.branch.clone());
        if self.landed.is_empty() {
            return Some(match place {
                Where::Moved(found) => LandResult::BaseMoved { project, branch, found: found.clone() },
                other => LandResult::Refused { why: why_not(other, &project, &branch) },
            });
        }
        Some(LandResult::Partial {
            landed: self.those_in(),
            refused: landing.patchset.clone(),
            why: why_not(place, &project, &branch),
        })
    }

    /// Nothing more may be done: what is in stays in, and `open` is refused.
    fn ends_here(&mut self, request: &LandRequest, open: Option<&'a Landing>, why: &str) -> LandResult {
        let end = open.and_then(|landing| self.end(landing, Where::Refused(why.to_owned())));
        end.or_else(|| self.refusal()).unwrap_or_else(|| self.done(request))
    }

    /// Everything has landed: the tips in the request's order.
    fn done(&self, request: &LandRequest) -> LandResult {
        let tip = |landing: &Landing| {
            let found = self.landed.iter().find(|(one, _)| one.patchset == landing.patchset);
            found.map_or_else(|| landing.tested.clone(), |(_, tip)| tip.clone())
        };
        LandResult::Landed { tips: request.members.iter().map(tip).collect() }
    }
}

fn why_not(place: &Where, project: &ProjectName, branch: &BranchName) -> String {
    match place {
        Where::Refused(why) => why.clone(),
        Where::Moved(found) | Where::Mismatch(found) => {
            format!("{project} {branch} stands at {}, where nobody tested it", found.commit)
        }
        Where::Open | Where::Landed(_) => "it is not merged".to_owned(),
    }
}

fn no_change(landing: &Landing) -> String {
    format!("{} does not know {} any more", landing.patchset.change.source, landing.patchset)
}

fn no_branch(landing: &Landing) -> String {
    format!("{} has no branch {} any more", landing.project, landing.branch)
}

fn not_open(landing: &Landing, standing: &Standing) -> Option<String> {
    let Patchset { patchset, .. } = landing.patchset;
    if standing.status == ChangeStatus::Abandoned {
        return Some(format!("{} was abandoned", landing.patchset));
    }
    (standing.patchset != patchset)
        .then(|| format!("{} is not the newest patchset; {} is", landing.patchset, standing.patchset))
}

/// The votes that go with a landing; what is told elsewhere is reported when it has landed.
fn subject(landing: &Landing) -> Subject {
    Subject::Change(landing.patchset.clone())
}

fn reviews_of(request: &LandRequest) -> impl Iterator<Item = &Report> {
    request.reports.iter().filter(|report| matches!(report.action, ReportAction::Review { .. }))
}

fn by_project(members: &[Landing]) -> Vec<Vec<&Landing>> {
    let mut groups: Vec<Vec<&Landing>> = Vec::new();
    for landing in members {
        match groups
            .iter_mut()
            .find(|group| group.first().is_some_and(|first| first.project == landing.project))
        {
            Some(group) => group.push(landing),
            None => groups.push(vec![landing]),
        }
    }
    groups
}

/// One move for each branch: from where its first member begins to where its last one ends.
fn moves(group: &[&Landing]) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for landing in group {
        match moves.iter_mut().find(|one| one.branch == landing.branch) {
            Some(one) => one.to = landing.tested.commit.clone(),
            None => moves.push(Move {
                branch: landing.branch.clone(),
                from: landing.base.commit.clone(),
                to: landing.tested.commit.clone(),
            }),
        }
    }
    moves
}
