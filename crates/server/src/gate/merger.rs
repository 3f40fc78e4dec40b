//! The merger: makes the speculative states that the gate asks for, in the order in which it asks.
//!
//! A state is one merge on the state below it. States are kept by their [`MergeId`] as long as the gate may build on
//! them; after a restart it says again which ones there are ([`Merge::Adopt`]), and they are found in the repositories.

use assay_engine::gate::ids::{MergeId, Uuid};
use assay_engine::gate::io::{Merge, MergeFailure, MergeRequest, Merged};
use std::collections::{BTreeSet, HashMap, HashSet};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What the merger merges with. Blocks its thread.
pub(crate) trait Machine: Send + 'static {
    /// Where every branch stands.
    type State: Clone + Send;

    /// Brings in what the requests need that is not there yet, in as few conversations as possible. What cannot be
    /// brought in is a failure of the request that needs it, and comes out there.
    fn prepare(&mut self, requests: &[&MergeRequest]);

    /// The branches as they are.
    fn start(&mut self, request: &MergeRequest) -> Result<Self::State, MergeFailure>;

    /// The request's changes on `below`.
    fn merge(
        &mut self,
        below: &Self::State,
        request: &MergeRequest,
    ) -> Result<(Self::State, Merged), MergeFailure>;

    /// The state that `merged` describes, on `below`; none if its commits are gone.
    fn adopt(&mut self, below: Option<&Self::State>, merged: &Merged) -> Option<Self::State>;

    /// Makes a state visible to workers under its name.
    fn publish(&mut self, state: &Self::State, identity: Uuid, merged: &Merged) -> Result<(), MergeFailure>;

    /// Removes the names of all states but these.
    fn collect(&mut self, keep: &BTreeSet<Uuid>);
}

/// States that may be forgotten before their names are removed: workers may still be fetching them.
const COLLECT_AFTER: usize = 64;

struct Made<S> {
    state: S,
    merged: Merged,
    identity: Uuid,
}

/// The states in the making.
pub(crate) struct Merger<M: Machine> {
    machine: M,
    made: HashMap<MergeId, Made<M::State>>,
    /// Those that cannot be made, and those that stood on one of them: nothing needs an answer on top of them.
    failed: HashSet<MergeId>,
    /// Names of the states forgotten since the last collection, and of those before it.
    forgotten: [BTreeSet<Uuid>; 2],
}

/// What came of a request.
pub(crate) type MergeAnswer = (MergeId, Result<Merged, MergeFailure>);

impl<M: Machine> Merger<M> {
    pub(crate) fn new(machine: M) -> Self {
        Self { machine, made: HashMap::new(), failed: HashSet::new(), forgotten: Default::default() }
    }

    /// Deals with what has come in together.
    pub(crate) fn take(&mut self, group: Vec<Merge>, mut answer: impl FnMut(MergeAnswer)) {
        let gone: HashSet<_> = group.iter().filter_map(forgotten).collect();
        let wanted: Vec<_> = group
            .iter()
            .filter_map(|merge| match merge {
                Merge::Make(request) if !gone.contains(&request.merge) => Some(request),
                _ => None,
            })
            .filter(|request| !self.made.contains_key(&request.merge))
            .collect();
        if !wanted.is_empty() {
            self.machine.prepare(&wanted);
        }
        for merge in group {
            match merge {
                // Asked for and taken back before its turn came.
                Merge::Make(request) if gone.contains(&request.merge) => {}
                Merge::Make(request) => {
                    if let Some(result) = self.make(&request) {
                        answer((request.merge, result));
                    }
                }
                Merge::Adopt { merge, ahead, merged, identity } => self.adopt(merge, ahead, merged, identity),
                Merge::Forget(merge) => self.forget(merge),
            }
        }
    }

    fn make(&mut self, request: &MergeRequest) -> Option<Result<Merged, MergeFailure>> {
        if let Some(made) = self.made.get(&request.merge) {
            return Some(Ok(made.merged.clone())); // asked again after a restart of the engine's state
        }
        if request.ahead.is_some_and(|ahead| self.failed.contains(&ahead)) {
            self.failed.insert(request.merge);
            return None;
        }
        match self.try_make(request) {
            Ok(made) => {
                let merged = made.merged.clone();
                self.failed.remove(&request.merge);
                self.made.insert(request.merge, made);
                Some(Ok(merged))
            }
            Err(failure) => {
                tracing::info!(merge = %request.merge, %failure, "a speculative state cannot be made");
                self.failed.insert(request.merge);
                Some(Err(failure))
            }
        }
    }

    fn try_make(&mut self, request: &MergeRequest) -> Result<Made<M::State>, MergeFailure> {
        let below = match request.ahead {
            None => self.machine.start(request)?,
            Some(ahead) => match self.made.get(&ahead) {
                Some(made) => made.state.clone(),
                None => return Err(below_is_gone(request, ahead)),
            },
        };
        let (state, merged) = self.machine.merge(&below, request)?;
        self.machine.publish(&state, request.identity, &merged)?;
        Ok(Made { state, merged, identity: request.identity })
    }

    fn adopt(&mut self, merge: MergeId, ahead: Option<MergeId>, merged: Merged, identity: Uuid) {
        if self.made.contains_key(&merge) {
            return;
        }
        let below = ahead.and_then(|ahead| self.made.get(&ahead)).map(|made| made.state.clone());
        let Some(state) = self.machine.adopt(below.as_ref(), &merged) else {
            // What is to stand on it will hear that it is gone.
            tracing::warn!(%merge, "the commits of a state are not in the repositories any more");
            return;
        };
        if let Err(failure) = self.machine.publish(&state, identity, &merged) {
            tracing::warn!(%merge, %failure, "an adopted state has no refs; its builds may not find it");
        }
        self.made.insert(merge, Made { state, merged, identity });
    }

    fn forget(&mut self, merge: MergeId) {
        self.failed.remove(&merge);
        if let Some(made) = self.made.remove(&merge) {
            self.forgotten[0].insert(made.identity);
        }
        if self.forgotten[0].len() >= COLLECT_AFTER {
            // The latest ones stay for one more round: a build that is being stopped may still look at them.
            self.forgotten.swap(0, 1);
            self.forgotten[0].clear();
            let live = self.made.values().map(|made| made.identity);
            self.machine.collect(&live.chain(self.forgotten[1].iter().copied()).collect());
        }
    }
}

fn forgotten(merge: &Merge) -> Option<MergeId> {
    match merge {
        Merge::Forget(merge) => Some(*merge),
        Merge::Make(_) | Merge::Adopt { .. } => None,
    }
}

fn below_is_gone(request: &MergeRequest, ahead: MergeId) -> MergeFailure {
    let project = request.changes.last().map(|change| change.project.clone());
    MergeFailure::Infrastructure {
        project: project.unwrap_or_else(|| "?".into()),
        why: format!("the state {ahead} below it is not in the repositories any more; it is tried again"),
    }
}

/// Merges what comes, until the end, on a thread that may block.
pub(crate) async fn run<M: Machine>(
    machine: M,
    mut requests: mpsc::UnboundedReceiver<Merge>,
    answers: mpsc::UnboundedSender<MergeAnswer>,
    end: CancellationToken,
) {
    let mut merger = Merger::new(machine);
    loop {
        let mut group = Vec::new();
        let count = tokio::select! {
            () = end.cancelled() => return,
            count = requests.recv_many(&mut group, usize::MAX) => count,
        };
        if count == 0 {
            return;
        }
        let answers = answers.clone();
        let work = tokio::task::spawn_blocking(move || {
            merger.take(group, |answer| {
                let _ = answers.send(answer);
            });
            merger
        });
        match work.await {
            Ok(back) => merger = back,
            Err(error) => {
                // The states are lost with it; a restart of the server makes them anew.
                tracing::error!(%error, "the merger has failed; restart the server, and report this as a bug");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::config::MergeMode;
    use assay_engine::gate::ids::{ChangeId, ItemId, Patchset};
    use assay_engine::gate::io::{Moved, Tip, ToMerge};

    /// A state is the list of the revisions in it; a revision `x…` conflicts, `f…` cannot be fetched.
    #[derive(Default)]
    struct Fake {
        prepared: Vec<usize>,
        published: BTreeSet<Uuid>,
        kept: Vec<usize>,
        gone: bool,
    }

    impl Machine for Fake {
        type State = Vec<String>;

        fn prepare(&mut self, requests: &[&MergeRequest]) {
            self.prepared.push(requests.len());
        }

        fn start(&mut self, request: &MergeRequest) -> Result<Self::State, MergeFailure> {
            if request.changes[0].revision.as_str().starts_with('f') {
                let why = "no answer".to_owned();
                return Err(MergeFailure::Infrastructure { project: "p".into(), why });
            }
            Ok(vec!["base".to_owned()])
        }

        fn merge(
            &mut self,
            below: &Self::State,
            request: &MergeRequest,
        ) -> Result<(Self::State, Merged), MergeFailure> {
            let change = &request.changes[0];
            if change.revision.as_str().starts_with('x') {
                let (change, paths) = (change.patchset.clone(), vec!["file".to_owned()]);
                return Err(MergeFailure::Conflict { change, paths });
            }
            let mut state = below.clone();
            state.push(change.revision.to_string());
            Ok((state.clone(), moved(&state)))
        }

        fn adopt(&mut self, below: Option<&Self::State>, merged: &Merged) -> Option<Self::State> {
            let mut state = below.cloned().unwrap_or_else(|| vec!["base".to_owned()]);
            state.push(merged.moved[0].tip.tree.to_string());
            (!self.gone).then_some(state)
        }

        fn publish(&mut self, _: &Self::State, identity: Uuid, _: &Merged) -> Result<(), MergeFailure> {
            self.published.insert(identity);
            Ok(())
        }

        fn collect(&mut self, keep: &BTreeSet<Uuid>) {
            self.kept.push(keep.len());
            self.published.retain(|identity| keep.contains(identity));
        }
    }

    fn moved(state: &[String]) -> Merged {
        let tip = |upto: usize| Tip {
            commit: state[..upto].join("+").into(),
            tree: state[upto - 1].clone().into(),
        };
        let (base, tip) = (tip(state.len() - 1), tip(state.len()));
        Merged { moved: vec![Moved { project: "p".into(), branch: "b".into(), base, tip }] }
    }

    fn id(item: i64) -> MergeId {
        MergeId { item: ItemId(item), buildset: 1 }
    }

    fn make(item: i64, ahead: Option<i64>, revision: &str) -> Merge {
        let change = ToMerge {
            patchset: Patchset { change: ChangeId { source: "s".into(), number: item as u64 }, patchset: 1 },
            project: "p".into(),
            branch: "b".into(),
            revision: revision.into(),
            fetch_ref: String::new(),
            mode: MergeMode::Merge,
        };
        Merge::Make(MergeRequest {
            merge: id(item),
            ahead: ahead.map(id),
            identity: Uuid(item as u128),
            changes: vec![change],
        })
    }

    /// `item=commit` for what was made, `item!` for a verdict, `item?` for a fault of ours.
    fn told(merger: &mut Merger<Fake>, group: Vec<Merge>) -> Vec<String> {
        let mut said = Vec::new();
        merger.take(group, |(merge, result)| {
            said.push(match result {
                Ok(merged) => format!("{}={}", merge.item, merged.moved[0].tip.commit),
                Err(MergeFailure::Infrastructure { .. }) => format!("{}?", merge.item),
                Err(_) => format!("{}!", merge.item),
            });
        });
        said
    }

    #[test]
    fn states_stand_on_each_other() {
        let mut merger = Merger::new(Fake::default());
        let chain = vec![make(1, None, "a"), make(2, Some(1), "b"), make(3, Some(2), "c")];
        assert_eq!(told(&mut merger, chain), ["1=base+a", "2=base+a+b", "3=base+a+b+c"]);
        assert_eq!(merger.machine.prepared, [3], "one preparation for all");
        // What stands on a conflict gets no answer; what stands beside it does.
        let chain =
            vec![make(4, Some(3), "x"), make(5, Some(4), "e"), make(6, Some(5), "g"), make(7, Some(3), "h")];
        assert_eq!(told(&mut merger, chain), ["4!", "7=base+a+b+c+h"]);
        assert_eq!(told(&mut merger, vec![make(8, None, "f")]), ["8?"]);
        // Asked again, as after a recovery of the driver: the same answer, and no work.
        assert_eq!(told(&mut merger, vec![make(2, Some(1), "b")]), ["2=base+a+b"]);
        assert_eq!(merger.machine.prepared, [3, 4, 1]);
        // A failed one is tried anew when it is asked for anew.
        assert_eq!(told(&mut merger, vec![make(8, None, "ok")]), ["8=base+ok"]);
        // Taken back before its turn.
        assert_eq!(told(&mut merger, vec![make(9, None, "i"), Merge::Forget(id(9))]), [""; 0]);
    }

    #[test]
    fn after_a_restart_states_are_adopted() {
        let mut merger = Merger::new(Fake::default());
        let merged = moved(&["base".to_owned(), "a".to_owned()]);
        let adopt = |item, merged: &Merged| Merge::Adopt {
            merge: id(item),
            ahead: None,
            merged: merged.clone(),
            identity: Uuid(item as u128),
        };
        assert_eq!(told(&mut merger, vec![adopt(1, &merged), make(2, Some(1), "b")]), ["2=base+a+b"]);
        assert!(merger.machine.published.contains(&Uuid(1)), "workers find it again");
        merger.machine.gone = true;
        let group = vec![adopt(3, &merged), make(4, Some(3), "c"), make(5, Some(77), "d")];
        assert_eq!(told(&mut merger, group), ["4?", "5?"], "nobody waits for ever");
    }

    #[test]
    fn names_of_old_states_are_removed_in_time() {
        let mut merger = Merger::new(Fake::default());
        for round in 0..3 {
            let items = || (0..COLLECT_AFTER as i64).map(move |item| round * 1000 + item);
            told(&mut merger, items().map(|item| make(item, None, "a")).collect());
            told(&mut merger, items().map(|item| Merge::Forget(id(item))).collect());
        }
        assert_eq!(merger.machine.kept, [COLLECT_AFTER; 3], "the latest ones for one more round");
        assert_eq!(merger.machine.published.len(), COLLECT_AFTER);
        assert!(merger.made.is_empty() && merger.failed.is_empty());
    }
}
