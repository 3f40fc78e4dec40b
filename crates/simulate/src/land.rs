//! How changes get into their branches: by a submit or by a push, and what the lander sees when it looks.

use crate::gerrit::{OWN_LOGIN, person};
use crate::git::BranchIx;
use crate::world::World;
use assay_engine::gate::change::ChangeStatus;
use assay_engine::gate::config::{EventKind, LandingWay, ReportAction};
use assay_engine::gate::ids::{Oid, Patchset};
use assay_engine::gate::io::{InBranch, Input, LandRequest, LandResult, Landing, Tip};

/// A branch that a landing moves.
struct Target {
    branch: BranchIx,
    base: Tip,
    tested: Tip,
}

impl World {
    /// Looks first; does what is still to be done; looks again.
    pub(crate) fn land(&mut self, request: LandRequest) {
        let result = self.try_land(&request);
        self.checks.landing_done(&request, &result);
        self.note("land", |_| {
            let members: Vec<Patchset> =
                request.members.iter().map(|member| member.patchset.clone()).collect();
            format!("{}: {}", crate::world::list(&members), crate::world::land_word(&result))
        });
        self.landing_answer(Input::Landed { item: request.item, result });
    }

    fn try_land(&mut self, request: &LandRequest) -> LandResult {
        let open: Vec<&Landing> = request.members.iter().filter(|member| !self.is_in(member)).collect();
        let targets = self.targets(request);
        if open.is_empty() {
            // The words that go with it may have been lost by the crash that this is the look after.
            request.reports.iter().for_each(|report| self.tell(report));
            return self.look(request);
        }
        for target in &targets {
            let touched = request.members.iter().any(|member| {
                self.git.find_branch(&member.project, &member.branch) == Some(target.branch)
                    && self.is_in(member)
            });
            let real = &self.git.branches[target.branch];
            let stands = match request.way {
                LandingWay::Submit => real.tip.tree == target.base.tree,
                LandingWay::Push => real.tip.commit == target.base.commit,
            };
            if !touched && !stands {
                let (project, branch) = (real.project.clone(), real.name.clone());
                return LandResult::BaseMoved { project, branch, found: real.tip.clone() };
            }
        }
        let together: Vec<u64> = request.members.iter().map(|member| member.patchset.change.number).collect();
        let granted: Vec<&str> = request
            .reports
            .iter()
            .filter_map(|report| match &report.action {
                ReportAction::Review { labels, .. } => Some(labels.iter().map(|(label, _)| label.as_str())),
                _ => None,
            })
            .flatten()
            .collect();
        for member in &open {
            if let Some(why) = self.gerrit.obstacle(&member.patchset, &together, &granted) {
                return self.refusal(request, member, why);
            }
        }
        match request.way {
            LandingWay::Submit => self.submit_all(request, &together),
            LandingWay::Push => self.push_all(request, &targets),
        }
    }

    fn submit_all(&mut self, request: &LandRequest, together: &[u64]) -> LandResult {
        request.reports.iter().for_each(|report| self.tell(report));
        for member in &request.members {
            if self.is_in(member) {
                continue;
            }
            let number = member.patchset.change.number;
            let told = self.gerrit.changes.get_mut(&number).and_then(|change| change.refuse.take());
            let unlucky = self.is_unlucky(self.faults.refusal);
            let refused = told.or_else(|| unlucky.then(|| "internal server error".to_owned()));
            let refused = refused.or_else(|| self.gerrit.obstacle(&member.patchset, together, &[]));
            if let Some(why) = refused {
                return self.refusal(request, member, why);
            }
            if self.is_unlucky(self.faults.sneak) {
                self.checks.sneaked = true;
                self.foreign_push(&member.project, &member.branch, &[], &[]);
            }
            if let Err(why) = self.submit(&member.patchset) {
                return self.refusal(request, member, why);
            }
        }
        self.look(request)
    }

    fn push_all(&mut self, request: &LandRequest, targets: &[Target]) -> LandResult {
        for member in &request.members {
            let number = member.patchset.change.number;
            let told = self.gerrit.changes.get_mut(&number).and_then(|change| change.refuse.take());
            if let Some(why) = told {
                return self.refusal(request, member, why);
            }
        }
        for target in targets {
            let old = self.git.branches[target.branch].tip.commit.clone();
            if self.git.push(target.branch, &target.tested.commit).is_none() {
                let why = format!("there is no commit {}", target.tested.commit);
                return LandResult::Refused { why };
            }
            self.ref_moved(target.branch, old);
        }
        for member in &request.members {
            self.is_merged(member.patchset.change.number);
        }
        request.reports.iter().for_each(|report| self.tell(report));
        self.look(request)
    }

    fn refusal(&self, request: &LandRequest, member: &Landing, why: String) -> LandResult {
        let landed = self.those_in(request);
        if landed.is_empty() {
            LandResult::Refused { why }
        } else {
            LandResult::Partial { landed, refused: member.patchset.clone(), why }
        }
    }

    /// The members that are in their branches.
    fn those_in(&self, request: &LandRequest) -> Vec<InBranch> {
        let members = request.members.iter().filter(|member| self.is_in(member));
        let place = |member: &Landing| InBranch {
            patchset: member.patchset.clone(),
            project: member.project.clone(),
            branch: member.branch.clone(),
            tip: self
                .merged_tips
                .get(&member.patchset.change.number)
                .map_or_else(|| member.tested.clone(), |(_, tip)| tip.clone()),
        };
        members.map(place).collect()
    }

    fn targets(&mut self, request: &LandRequest) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for member in &request.members {
            let branch = self.git.branch(&member.project, &member.branch);
            match targets.iter_mut().find(|target| target.branch == branch) {
                Some(target) => target.tested = member.tested.clone(),
                None => {
                    targets.push(Target { branch, base: member.base.clone(), tested: member.tested.clone() });
                }
            }
        }
        targets
    }

    fn is_in(&self, member: &Landing) -> bool {
        let change = self.gerrit.changes.get(&member.patchset.change.number);
        change.is_some_and(|change| {
            change.status == ChangeStatus::Merged && change.newest().oid == member.revision
        })
    }

    /// All members are in: is each branch's tree, right after the last of them went in, the tested one?
    fn look(&mut self, request: &LandRequest) -> LandResult {
        let targets = self.targets(request);
        for target in &targets {
            let tip = self.landed_tip(target.branch, request);
            let real = &self.git.branches[target.branch];
            let found = tip.unwrap_or_else(|| real.tip.clone());
            if found.tree != target.tested.tree {
                let (project, branch) = (real.project.clone(), real.name.clone());
                let mut landed = self.those_in(request);
                landed.retain(|one| {
                    let own = request.members.iter().find(|member| member.patchset == one.patchset);
                    own.is_some_and(|own| own.tested.tree == one.tip.tree)
                });
                return LandResult::TreeMismatch { project, branch, found, landed };
            }
        }
        let tip = |world: &Self, member: &Landing| {
            let branch = world.git.find_branch(&member.project, &member.branch).unwrap_or_default();
            let found = world.landed_tip(branch, request);
            found.unwrap_or_else(|| world.git.branches[branch].tip.clone())
        };
        LandResult::Landed { tips: request.members.iter().map(|member| tip(self, member)).collect() }
    }

    /// Where a branch stood right after the last of the members went in.
    fn landed_tip(&self, branch: BranchIx, request: &LandRequest) -> Option<Tip> {
        let ours = |number: &&u64| {
            request.members.iter().any(|member| member.patchset.change.number == **number)
                && self.merged_tips.get(number).is_some_and(|(own, _)| *own == branch)
        };
        let last = self.merged.iter().rev().find(ours)?;
        self.merged_tips.get(last).map(|(_, tip)| tip.clone())
    }

    /// A submit without a gate.
    pub(crate) fn submit_alone(&mut self, patchset: &Patchset) {
        if self.gerrit.obstacle(patchset, &[], &[]).is_none() {
            let _ = self.submit(patchset);
        }
    }

    fn submit(&mut self, patchset: &Patchset) -> Result<(), String> {
        let number = patchset.change.number;
        let Some(change) = self.gerrit.changes.get(&number) else { return Err("not found".to_owned()) };
        let branch = change.branch_ix;
        let revision = change.newest().revision;
        let real = &self.git.branches[branch];
        let old = real.tip.commit.clone();
        let content = self
            .git
            .merge(&real.content, revision)
            .map_err(|paths| format!("merge conflict in {}", paths.join(", ")))?;
        self.git.set(branch, content);
        self.is_merged(number);
        self.ref_moved(branch, old);
        Ok(())
    }

    /// A change is in its branch now, and everybody hears of it.
    fn is_merged(&mut self, number: u64) {
        let Some(change) = self.gerrit.changes.get_mut(&number) else { return };
        change.status = ChangeStatus::Merged;
        let branch = change.branch_ix;
        self.merged.push(number);
        self.merged_tips.insert(number, (branch, self.git.branches[branch].tip.clone()));
        let event = self.gerrit.event(EventKind::ChangeMerged, number, &person(OWN_LOGIN));
        self.announce(event);
    }

    fn ref_moved(&mut self, branch: BranchIx, old: Oid) {
        let real = &self.git.branches[branch];
        let (project, name) = (real.project.clone(), real.name.clone());
        let new = real.tip.commit.clone();
        let event = self.gerrit.ref_event(&project, &name, old, new);
        self.announce(event);
    }

    /// Somebody merges a change by hand. As at Gerrit, one whose parent is not merged cannot be.
    pub fn merge_by_hand(&mut self, number: u64) {
        let changes = &self.gerrit.changes;
        let open = |(parent, _): &(u64, u32)| {
            changes.get(parent).is_some_and(|parent| parent.status != ChangeStatus::Merged)
        };
        if changes.get(&number).is_some_and(|change| change.newest().parents.iter().any(open)) {
            self.note("push", |_| format!("nobody can merge change {number}: its parent is not merged"));
            return;
        }
        let patchset = self
            .gerrit
            .changes
            .get(&number)
            .map(|change| Patchset { change: self.gerrit.id(number), patchset: change.current() });
        if let Some(patchset) = patchset {
            self.note("push", |_| format!("somebody merges change {number}"));
            let _ = self.submit(&patchset);
        }
    }
}
