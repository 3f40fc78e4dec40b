//! The merger.

use super::World;
use super::agenda::Delivery;
use super::records::StateRecord;
use crate::chance::happens;
use crate::check::Violation;
use crate::git::Speculation;
use assay_engine::gate::ids::MergeId;
use assay_engine::gate::io::{Input, Merge, MergeFailure, MergeRequest};
use std::rc::Rc;

impl World {
    pub(super) fn merge(&mut self, merge: Merge) {
        match merge {
            Merge::Make(request) => self.make_merge(&request),
            Merge::Adopt { merge, identity, merged, .. } => {
                if let Some(state) = self.states.get(&identity) {
                    self.merger.insert(merge, Rc::clone(state));
                } else {
                    self.checks.found(Violation::new(
                        "I28",
                        format!("{merge} is to be adopted and was never made: {merged:?}"),
                    ));
                }
            }
            Merge::Forget(merge) => {
                self.merger.remove(&merge);
            }
        }
    }

    pub(super) fn make_merge(&mut self, request: &MergeRequest) {
        let below = match request.ahead {
            None => {
                let branches = self.git.branches.iter();
                let elsewhere = Rc::new(branches.map(|branch| branch.content.clone()).collect());
                Rc::new(StateRecord { speculation: Speculation::default(), elsewhere })
            }
            Some(ahead) => match self.merger.get(&ahead) {
                Some(state) => Rc::clone(state),
                // It failed or is forgotten; nobody waits for this one.
                None => return,
            },
        };
        let delay = self.span(self.timing.merge);
        let broken = request.changes.iter().find(|change| self.broken.contains(&change.project));
        let unlucky = happens(self.chance(), self.faults.merger);
        let failing = broken.or_else(|| request.changes.first().filter(|_| unlucky));
        let result = if let Some(change) = failing {
            let why = "the repository cannot be fetched".to_owned();
            Err(MergeFailure::Infrastructure { project: change.project.clone(), why })
        } else {
            self.git.speculate(&below.speculation, &request.changes).map(|(speculation, merged)| {
                let state = Rc::new(StateRecord { speculation, elsewhere: Rc::clone(&below.elsewhere) });
                self.merger.insert(request.merge, Rc::clone(&state));
                self.states.insert(request.identity, state);
                merged
            })
        };
        let answer = Input::Merged { merge: request.merge, result };
        self.maybe_twice(delay, &answer);
        self.later(delay, Delivery::Answer(answer));
    }

    /// True if an answer of the merger is under way.
    pub(crate) fn is_awaited(&self, id: MergeId) -> bool {
        self.agenda.iter().any(|pending| {
            matches!(&pending.0.what, Delivery::Answer(Input::Merged { merge, .. }) if *merge == id)
        })
    }
}
