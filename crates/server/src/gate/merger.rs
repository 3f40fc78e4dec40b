//! The merger: makes the speculative states that the gate asks for, in the order in which it asks.
//!
//! A state is one merge on the state below it. States are kept by their [`MergeId`] as long as the gate may build on
//! them; after a restart it says again which ones there are ([`Merge::Adopt`]), and they are found in the repositories.
//!
//! Projects are fetched beside each other, each by one conversation at a time; a request is merged when what it needs
//! has come, or cannot come. A remote that hangs holds up its own project and what stands on that, and nothing else.

use assay_connect::MadePatchset;
use assay_engine::gate::ids::{MergeId, Oid, ProjectName, SourceName, Uuid};
use assay_engine::gate::io::{Merge, MergeFailure, MergeRequest, Merged};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the merger merges with. Blocks its thread.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Where every branch stands.
    type State: Clone + Send;

    /// Brings in what is wished of one project and not there yet, in as few conversations as possible and within a
    /// deadline; why it could not be done, by the request that needs it. Not called for a project that is being fetched.
    fn fetch(&self, project: &ProjectName, wishes: &[Wish]) -> HashMap<MergeId, String>;

    /// The branches as they were fetched.
    fn start(&self, request: &MergeRequest) -> Result<Self::State, MergeFailure>;

    /// The request's changes on `below`.
    fn merge(
        &self,
        below: &Self::State,
        request: &MergeRequest,
    ) -> Result<(Self::State, Merged), MergeFailure>;

    /// The state that `merged` describes, on `below`; none if its commits are gone.
    fn adopt(&self, below: Option<&Self::State>, merged: &Merged) -> Option<Self::State>;

    /// Makes a state visible to workers under its name.
    fn publish(&self, state: &Self::State, identity: Uuid, merged: &Merged) -> Result<(), MergeFailure>;

    /// Removes the names of all states but these.
    fn collect(&self, keep: &BTreeSet<Uuid>);
}

/// What is to be fetched of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// For whom; nobody yet if it is fetched because it may be needed soon.
    pub(crate) merge: Option<MergeId>,
    pub(crate) source: SourceName,
    /// Revisions, and where they are found.
    pub(crate) changes: Vec<(Oid, String)>,
    pub(crate) branches: Branches,
}

/// How the branches must have been fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Branches {
    /// At some time.
    Once,
    /// A moment ago.
    Lately,
    /// Anew.
    Now,
}

impl Wish {
    /// What may be needed soon.
    pub(crate) fn early(source: SourceName, made: MadePatchset) -> (ProjectName, Self) {
        let changes = vec![(made.revision, made.fetch_ref)];
        (made.project, Self { merge: None, source, changes, branches: Branches::Now })
    }

    /// What a request needs, project by project.
    fn of(request: &MergeRequest) -> BTreeMap<ProjectName, Self> {
        // What stands on nothing stands on the branches as they are now.
        let branches = if request.ahead.is_none() { Branches::Lately } else { Branches::Once };
        let mut wishes: BTreeMap<ProjectName, Self> = BTreeMap::new();
        for change in &request.changes {
            let wish = wishes.entry(change.project.clone()).or_insert_with(|| Self {
                merge: Some(request.merge),
                source: change.patchset.change.source.clone(),
                changes: Vec::new(),
                branches,
            });
            wish.changes.push((change.revision.clone(), change.fetch_ref.clone()));
        }
        wishes
    }
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
    machine: Arc<M>,
    made: HashMap<MergeId, Made<M::State>>,
    /// Those that cannot be made, and those that stood on one of them: nothing needs an answer on top of them.
    failed: HashSet<MergeId>,
    /// Names of the states forgotten since the last collection, and of those before it.
    forgotten: [BTreeSet<Uuid>; 2],
}

/// What came of a request.
pub(crate) type MergeAnswer = (MergeId, Result<Merged, MergeFailure>);

/// Something that can be done without the network.
#[derive(Debug)]
enum Ready {
    /// With why what it needs could not be fetched, if that is so.
    Make(Box<MergeRequest>, Option<MergeFailure>),
    Adopt {
        merge: MergeId,
        ahead: Option<MergeId>,
        merged: Merged,
        identity: Uuid,
    },
    Forget(MergeId),
}

impl<M: Machine> Merger<M> {
    pub(crate) fn new(machine: Arc<M>) -> Self {
        Self { machine, made: HashMap::new(), failed: HashSet::new(), forgotten: Default::default() }
    }

    /// Deals with what has become ready together.
    fn take(&mut self, group: Vec<Ready>, mut answer: impl FnMut(MergeAnswer)) {
        let gone = |ready: &Ready| if let Ready::Forget(merge) = ready { Some(*merge) } else { None };
        let gone: HashSet<_> = group.iter().filter_map(gone).collect();
        for ready in group {
            match ready {
                // Asked for and taken back before its turn came.
                Ready::Make(request, _) if gone.contains(&request.merge) => {}
                Ready::Make(request, in_vain) => {
                    if let Some(result) = self.make(&request, in_vain) {
                        answer((request.merge, result));
                    }
                }
                Ready::Adopt { merge, ahead, merged, identity } => self.adopt(merge, ahead, merged, identity),
                Ready::Forget(merge) => self.forget(merge),
            }
        }
    }

    fn make(
        &mut self,
        request: &MergeRequest,
        in_vain: Option<MergeFailure>,
    ) -> Option<Result<Merged, MergeFailure>> {
        if let Some(made) = self.made.get(&request.merge) {
            return Some(Ok(made.merged.clone())); // asked again after a restart of the engine's state
        }
        if request.ahead.is_some_and(|ahead| self.failed.contains(&ahead)) {
            self.failed.insert(request.merge);
            return None;
        }
        match in_vain.map_or_else(|| self.make_or_fall(request), Err) {
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

    /// A fault of ours in one state does not end the merger: nothing is kept of a state that is not finished.
    fn make_or_fall(&mut self, request: &MergeRequest) -> Result<Made<M::State>, MergeFailure> {
        let project = || request.changes.last().map_or_else(|| "?".into(), |change| change.project.clone());
        caught(|| self.try_make(request))
            .unwrap_or_else(|why| Err(MergeFailure::Infrastructure { project: project(), why }))
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

/// What `work` gives, or what it says when it panics; the panic itself is in the log.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        format!("the merger has failed ({text}); report this as a bug")
    })
}

fn below_is_gone(request: &MergeRequest, ahead: MergeId) -> MergeFailure {
    let project = request.changes.last().map(|change| change.project.clone());
    MergeFailure::Infrastructure {
        project: project.unwrap_or_else(|| "?".into()),
        why: format!("the state {ahead} below it is not in the repositories any more; it is tried again"),
    }
}

/// What waits for what it needs.
#[derive(Default)]
struct Desk {
    /// Requests in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    by_merge: HashMap<MergeId, u64>,
    next: u64,
    lanes: HashMap<ProjectName, Lane>,
    ready: Vec<Ready>,
}

struct Waiting {
    request: Box<MergeRequest>,
    /// Projects that are not fetched yet.
    open: BTreeSet<ProjectName>,
    in_vain: Option<MergeFailure>,
}

/// What is fetched of one project.
#[derive(Default)]
struct Lane {
    busy: bool,
    wishes: Vec<Wish>,
}

impl Desk {
    fn take(&mut self, merge: Merge) {
        match merge {
            Merge::Make(request) => {
                let wishes = Wish::of(&request);
                let open = wishes.keys().cloned().collect();
                for (project, wish) in wishes {
                    self.wish(project, wish);
                }
                self.remove(request.merge);
                self.by_merge.insert(request.merge, self.next);
                let waiting = Waiting { request: Box::new(request), open, in_vain: None };
                self.waiting.insert(self.next, waiting);
                self.next += 1;
            }
            Merge::Adopt { merge, ahead, merged, identity } => {
                self.ready.push(Ready::Adopt { merge, ahead, merged, identity });
            }
            Merge::Forget(merge) => {
                self.remove(merge);
                self.ready.push(Ready::Forget(merge));
            }
        }
    }

    fn remove(&mut self, merge: MergeId) -> Option<Waiting> {
        let order = self.by_merge.remove(&merge)?;
        self.waiting.remove(&order)
    }

    fn wish(&mut self, project: ProjectName, wish: Wish) {
        self.lanes.entry(project).or_default().wishes.push(wish);
    }

    /// What is to be fetched now; these projects are busy until it is said that they were fetched.
    fn begin_fetches(&mut self) -> Vec<(ProjectName, Vec<Wish>)> {
        let idle = self.lanes.iter_mut().filter(|(_, lane)| !lane.busy && !lane.wishes.is_empty());
        idle.map(|(project, lane)| {
            lane.busy = true;
            (project.clone(), std::mem::take(&mut lane.wishes))
        })
        .collect()
    }

    /// A project was fetched, for these requests; in vain for some of them.
    fn fetched(&mut self, project: &ProjectName, for_whom: &[MergeId], in_vain: &HashMap<MergeId, String>) {
        match self.lanes.get_mut(project) {
            Some(lane) if !lane.wishes.is_empty() => lane.busy = false,
            _ => drop(self.lanes.remove(project)),
        }
        for merge in for_whom {
            let waiting = self.by_merge.get(merge).and_then(|order| self.waiting.get_mut(order));
            let Some(waiting) = waiting else { continue };
            waiting.open.remove(project);
            if let Some(why) = in_vain.get(merge) {
                let (project, why) = (project.clone(), why.clone());
                waiting.in_vain = Some(MergeFailure::Infrastructure { project, why });
            }
        }
    }

    /// What can be done now, each after what it stands on.
    fn ready(&mut self) -> Vec<Ready> {
        loop {
            let can = |waiting: &Waiting| {
                let below = waiting.request.ahead.is_some_and(|ahead| self.by_merge.contains_key(&ahead));
                waiting.open.is_empty() && !below
            };
            let Some(merge) = self.waiting.values().find(|one| can(one)).map(|one| one.request.merge) else {
                return std::mem::take(&mut self.ready);
            };
            if let Some(Waiting { request, in_vain, .. }) = self.remove(merge) {
                self.ready.push(Ready::Make(request, in_vain));
            }
        }
    }
}

/// Merges what comes, until the end, on threads that may block. `early` is what may be needed soon.
pub(crate) async fn run<M: Machine>(
    machine: Arc<M>,
    mut requests: mpsc::UnboundedReceiver<Merge>,
    mut early: mpsc::UnboundedReceiver<(ProjectName, Wish)>,
    answers: mpsc::UnboundedSender<MergeAnswer>,
    end: CancellationToken,
) {
    let mut desk = Desk::default();
    let mut merger = Some(Merger::new(machine.clone()));
    let mut merging: JoinSet<Merger<M>> = JoinSet::new();
    let mut fetching = JoinSet::new();
    loop {
        for (project, wishes) in desk.begin_fetches() {
            let machine = machine.clone();
            fetching.spawn_blocking(move || {
                let in_vain = caught(|| machine.fetch(&project, &wishes)).unwrap_or_else(|why| {
                    wishes.iter().filter_map(|wish| Some((wish.merge?, why.clone()))).collect()
                });
                (project, wishes, in_vain)
            });
        }
        if let Some(mut idle) = merger.take() {
            let group = desk.ready();
            if group.is_empty() {
                merger = Some(idle);
            } else {
                let answers = answers.clone();
                merging.spawn_blocking(move || {
                    idle.take(group, |answer| drop(answers.send(answer)));
                    idle
                });
            }
        }
        let mut group = Vec::new();
        tokio::select! {
            () = end.cancelled() => return,
            count = requests.recv_many(&mut group, usize::MAX) => {
                if count == 0 {
                    return;
                }
                for merge in group {
                    desk.take(merge);
                }
            }
            Some((project, wish)) = early.recv() => desk.wish(project, wish),
            Some(fetched) = fetching.join_next(), if !fetching.is_empty() => match fetched {
                Ok((project, wishes, in_vain)) => {
                    let for_whom: Vec<_> = wishes.iter().filter_map(|wish| wish.merge).collect();
                    desk.fetched(&project, &for_whom, &in_vain);
                }
                Err(error) => return fell(&error, &end),
            },
            Some(merged) = merging.join_next(), if !merging.is_empty() => match merged {
                Ok(back) => merger = Some(back),
                Err(error) => return fell(&error, &end),
            },
        }
    }
}

/// The states are lost with it, and nothing would ever land again: the server ends, and its next start makes them anew.
fn fell(error: &tokio::task::JoinError, end: &CancellationToken) {
    if !end.is_cancelled() {
        tracing::error!(%error, "the merger has failed, so the server ends; start it again, and report this as a bug");
        end.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::config::MergeMode;
    use assay_engine::gate::ids::{ChangeId, ItemId, Patchset};
    use assay_engine::gate::io::{Moved, Tip, ToMerge};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A state is the list of the revisions in it; a revision `x…` conflicts, `f…` cannot be fetched.
    #[derive(Default)]
    struct Fake {
        /// Projects with the number of wishes of each fetch.
        fetched: Mutex<Vec<(String, usize)>>,
        published: Mutex<BTreeSet<Uuid>>,
        kept: Mutex<Vec<usize>>,
        gone: AtomicBool,
        /// The first fetch of the project `hangs` waits until the other end is dropped.
        hung: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
    }

    impl Machine for Fake {
        type State = Vec<String>;

        fn fetch(&self, project: &ProjectName, wishes: &[Wish]) -> HashMap<MergeId, String> {
            self.fetched.lock().unwrap().push((project.to_string(), wishes.len()));
            assert_ne!(project.as_str(), "panics", "a bug in a fetch");
            if project.as_str() != "hangs" {
                return HashMap::new();
            }
            let hung = self.hung.lock().unwrap().take();
            hung.map(|hung| hung.recv());
            wishes.iter().filter_map(|wish| Some((wish.merge?, "the deadline".to_owned()))).collect()
        }

        fn start(&self, request: &MergeRequest) -> Result<Self::State, MergeFailure> {
            if request.changes[0].revision.as_str().starts_with('f') {
                let why = "no answer".to_owned();
                return Err(MergeFailure::Infrastructure { project: "p".into(), why });
            }
            Ok(vec!["base".to_owned()])
        }

        fn merge(
            &self,
            below: &Self::State,
            request: &MergeRequest,
        ) -> Result<(Self::State, Merged), MergeFailure> {
            let change = &request.changes[0];
            assert!(!change.revision.as_str().starts_with('!'), "a bug in a merge");
            if change.revision.as_str().starts_with('x') {
                let (change, paths) = (change.patchset.clone(), vec!["file".to_owned()]);
                return Err(MergeFailure::Conflict { change, paths });
            }
            let mut state = below.clone();
            state.push(change.revision.to_string());
            Ok((state.clone(), moved(&state)))
        }

        fn adopt(&self, below: Option<&Self::State>, merged: &Merged) -> Option<Self::State> {
            let mut state = below.cloned().unwrap_or_else(|| vec!["base".to_owned()]);
            state.push(merged.moved[0].tip.tree.to_string());
            (!self.gone.load(Ordering::Relaxed)).then_some(state)
        }

        fn publish(&self, _: &Self::State, identity: Uuid, _: &Merged) -> Result<(), MergeFailure> {
            self.published.lock().unwrap().insert(identity);
            Ok(())
        }

        fn collect(&self, keep: &BTreeSet<Uuid>) {
            self.kept.lock().unwrap().push(keep.len());
            self.published.lock().unwrap().retain(|identity| keep.contains(identity));
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
        make_of("p", item, ahead, revision)
    }

    fn make_of(project: &str, item: i64, ahead: Option<i64>, revision: &str) -> Merge {
        let change = ToMerge {
            patchset: Patchset { change: ChangeId { source: "s".into(), number: item as u64 }, patchset: 1 },
            project: project.into(),
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
        let ready = |merge| match merge {
            Merge::Make(request) => Ready::Make(Box::new(request), None),
            Merge::Adopt { merge, ahead, merged, identity } => {
                Ready::Adopt { merge, ahead, merged, identity }
            }
            Merge::Forget(merge) => Ready::Forget(merge),
        };
        let mut said = Vec::new();
        merger.take(group.into_iter().map(ready).collect(), |answer| said.push(shown(answer)));
        said
    }

    fn shown((merge, result): MergeAnswer) -> String {
        match result {
            Ok(merged) => format!("{}={}", merge.item, merged.moved[0].tip.commit),
            Err(MergeFailure::Infrastructure { .. }) => format!("{}?", merge.item),
            Err(_) => format!("{}!", merge.item),
        }
    }

    #[tokio::test]
    async fn a_remote_that_hangs_holds_up_nothing_else() {
        let machine = Arc::new(Fake::default());
        let (ask, requests) = mpsc::unbounded_channel();
        let (foresee, early) = mpsc::unbounded_channel();
        let (answers, mut told) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let (release, hung) = std::sync::mpsc::channel();
        *machine.hung.lock().unwrap() = Some(hung);
        // All are there before the merger begins: one fetch for what is wished of a project by then.
        let group = [
            make_of("hangs", 1, None, "a"),
            make(2, Some(1), "b"),
            make(3, None, "c"),
            make(4, Some(3), "d"),
            make_of("hangs", 5, None, "e"),
            Merge::Forget(id(5)),
        ];
        for merge in group {
            ask.send(merge).expect("it runs");
        }
        tasks.spawn(run(machine.clone(), requests, early, answers, CancellationToken::new()));
        let mut next = async || shown(told.recv().await.expect("it runs"));
        assert_eq!((next().await, next().await), ("3=base+c".to_owned(), "4=base+c+d".to_owned()));
        // What is fetched early is nobody's, and what comes after it needs its own look.
        let made = MadePatchset { project: "q".into(), revision: "f".into(), fetch_ref: "refs/f".to_owned() };
        foresee.send(Wish::early("s".into(), made)).expect("it runs");
        ask.send(make(6, Some(4), "f")).expect("it runs");
        assert_eq!(next().await, "6=base+c+d+f");
        drop(release);
        assert_eq!(next().await, "1?", "and what stands on it needs no answer");
        // In order after that.
        ask.send(make_of("hangs", 7, None, "g")).expect("it runs");
        assert_eq!(next().await, "7?");
        let fetched = machine.fetched.lock().unwrap();
        let of = |project: &str| -> Vec<usize> {
            fetched.iter().filter(|one| one.0 == project).map(|one| one.1).collect()
        };
        assert_eq!((of("hangs"), of("p"), of("q")), (vec![2, 1], vec![3, 1], vec![1]), "{fetched:?}");
    }

    #[tokio::test]
    async fn a_bug_in_one_state_is_no_end_of_the_others() {
        let (ask, requests) = mpsc::unbounded_channel();
        let (_foresee, early) = mpsc::unbounded_channel();
        let (answers, mut told) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let end = CancellationToken::new();
        tasks.spawn(run(Arc::new(Fake::default()), requests, early, answers, end.clone()));
        for (merge, expected) in [
            (make_of("panics", 1, None, "a"), "1?"),
            (make(2, None, "!"), "2?"),
            (make(3, None, "c"), "3=base+c"),
        ] {
            ask.send(merge).expect("it runs");
            assert_eq!(shown(told.recv().await.expect("it runs")), expected);
        }
        assert!(!end.is_cancelled());
    }

    #[test]
    fn states_stand_on_each_other() {
        let mut merger = Merger::new(Arc::new(Fake::default()));
        let chain = vec![make(1, None, "a"), make(2, Some(1), "b"), make(3, Some(2), "c")];
        assert_eq!(told(&mut merger, chain), ["1=base+a", "2=base+a+b", "3=base+a+b+c"]);
        // What stands on a conflict gets no answer; what stands beside it does.
        let chain =
            vec![make(4, Some(3), "x"), make(5, Some(4), "e"), make(6, Some(5), "g"), make(7, Some(3), "h")];
        assert_eq!(told(&mut merger, chain), ["4!", "7=base+a+b+c+h"]);
        assert_eq!(told(&mut merger, vec![make(8, None, "f")]), ["8?"]);
        // Asked again, as after a recovery of the driver: the same answer, and no work.
        assert_eq!(told(&mut merger, vec![make(2, Some(1), "b")]), ["2=base+a+b"]);
        // A failed one is tried anew when it is asked for anew.
        assert_eq!(told(&mut merger, vec![make(8, None, "ok")]), ["8=base+ok"]);
        // Taken back before its turn.
        assert_eq!(told(&mut merger, vec![make(9, None, "i"), Merge::Forget(id(9))]), [""; 0]);
    }

    #[test]
    fn after_a_restart_states_are_adopted() {
        let mut merger = Merger::new(Arc::new(Fake::default()));
        let merged = moved(&["base".to_owned(), "a".to_owned()]);
        let adopt = |item, merged: &Merged| Merge::Adopt {
            merge: id(item),
            ahead: None,
            merged: merged.clone(),
            identity: Uuid(item as u128),
        };
        assert_eq!(told(&mut merger, vec![adopt(1, &merged), make(2, Some(1), "b")]), ["2=base+a+b"]);
        assert!(merger.machine.published.lock().unwrap().contains(&Uuid(1)), "workers find it again");
        merger.machine.gone.store(true, Ordering::Relaxed);
        let group = vec![adopt(3, &merged), make(4, Some(3), "c"), make(5, Some(77), "d")];
        assert_eq!(told(&mut merger, group), ["4?", "5?"], "nobody waits for ever");
    }

    #[test]
    fn names_of_old_states_are_removed_in_time() {
        let mut merger = Merger::new(Arc::new(Fake::default()));
        for round in 0..3 {
            let items = || (0..COLLECT_AFTER as i64).map(move |item| round * 1000 + item);
            told(&mut merger, items().map(|item| make(item, None, "a")).collect());
            told(&mut merger, items().map(|item| Merge::Forget(id(item))).collect());
        }
        assert_eq!(
            *merger.machine.kept.lock().unwrap(),
            [COLLECT_AFTER; 3],
            "the latest ones for one more round"
        );
        assert_eq!(merger.machine.published.lock().unwrap().len(), COLLECT_AFTER);
        assert!(merger.made.is_empty() && merger.failed.is_empty());
    }
}
