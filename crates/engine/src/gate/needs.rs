//! What a change needs: its unmerged git parents and what its footers name, and the circles that makes.

use super::Gate;
use super::change::{ChangeFacts, ChangeStatus, DependsOn};
use super::ids::{ChangeId, ItemId, Patchset};
use super::reason::EnqueueRefusal;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Changes that go in together, and in which order: what a change needs comes before it. The members of a circle are
/// one group.
pub(super) type Groups = Vec<Vec<ChangeId>>;

impl Gate {
    /// The unmerged changes that a change needs directly, in order. `strict`: a footer that names nothing is refused.
    pub(super) fn direct_needs(
        &self,
        facts: &ChangeFacts,
        strict: bool,
    ) -> Result<Vec<Patchset>, EnqueueRefusal> {
        let change = facts.patchset();
        let mut needs: Vec<Patchset> = Vec::new();
        for parent in &facts.parents {
            let known = self.held.changes.get(&parent.change);
            let is_in = known.is_some_and(|known| known.status == ChangeStatus::Merged);
            if is_in || self.landed.contains(parent) {
                continue;
            }
            if let Some(known) = known.filter(|known| known.current_patchset != parent.patchset && strict) {
                let current = known.current_patchset;
                return Err(EnqueueRefusal::OutdatedNeed { change, needed: parent.clone(), current });
            }
            needs.push(parent.clone());
        }
        for footer in facts.depends_on() {
            let named = self.named(facts, &footer);
            if named.is_empty() && strict {
                return Err(EnqueueRefusal::UnknownNeed { change, what: footer.to_string() });
            }
            let open = named.into_iter().filter(|named| named.status != ChangeStatus::Merged);
            needs.extend(open.map(ChangeFacts::patchset).filter(|need| !self.landed.contains(need)));
        }
        needs.retain(|need| need.change != facts.id);
        let mut seen = BTreeSet::new();
        needs.retain(|need| seen.insert(need.change.clone()));
        Ok(needs)
    }

    fn named(&self, facts: &ChangeFacts, footer: &DependsOn) -> Vec<&ChangeFacts> {
        match footer {
            DependsOn::Url { number, .. } => {
                let id = ChangeId { source: facts.id.source.clone(), number: *number };
                self.held.changes.get(&id).map(AsRef::as_ref).into_iter().collect()
            }
            DependsOn::ChangeId { id } => {
                let of_source = |known: &&ChangeFacts| known.id.source == facts.id.source;
                let twins = self.known.twins(id).filter_map(|twin| self.held.changes.get(twin));
                let all: Vec<&ChangeFacts> = twins.map(AsRef::as_ref).filter(of_source).collect();
                // An abandoned twin on another branch is no need while an open or merged one is there.
                let alive: Vec<&ChangeFacts> =
                    all.iter().copied().filter(|known| known.status != ChangeStatus::Abandoned).collect();
                if alive.is_empty() { all } else { alive }
            }
        }
    }

    /// Everything unmerged that `change` needs, and itself, grouped and in order (Tarjan's strongly connected
    /// components, which come out with what is needed first).
    pub(super) fn needs_in_order(&self, change: &ChangeId, strict: bool) -> Result<Groups, EnqueueRefusal> {
        let mut search =
            Search { gate: self, strict, numbers: BTreeMap::new(), stack: Vec::new(), groups: Vec::new() };
        search.visit(change)?;
        Ok(search.groups)
    }

    /// The shortest way around a circle, from its first member back to it.
    pub(super) fn circle(&self, group: &[ChangeId]) -> Vec<Patchset> {
        let first = &group[0];
        let mut reached_from: BTreeMap<ChangeId, ChangeId> = BTreeMap::new();
        let mut open = VecDeque::from([first.clone()]);
        let mut last = None;
        while let Some(id) = open.pop_front().filter(|_| last.is_none()) {
            let Some(facts) = self.held.changes.get(&id) else { continue };
            for need in self.direct_needs(facts, false).unwrap_or_default() {
                if need.change == *first {
                    last = Some(id.clone());
                } else if group.contains(&need.change) && !reached_from.contains_key(&need.change) {
                    reached_from.insert(need.change.clone(), id.clone());
                    open.push_back(need.change);
                }
            }
        }
        let back = std::iter::successors(last.as_ref(), |id| reached_from.get(*id));
        let mut path: Vec<&ChangeId> = std::iter::once(first).chain(back).collect();
        path.reverse();
        let current = |id: &&ChangeId| self.held.changes.get(*id).map(|facts| facts.patchset());
        path.iter().filter_map(current).collect()
    }

    /// Known open changes that need `change` directly, by number.
    pub(super) fn needing(&self, change: &ChangeId) -> Vec<ChangeId> {
        let Some(facts) = self.held.changes.get(change) else { return Vec::new() };
        let needs_it = |facts: &&ChangeFacts| {
            facts.status.is_open()
                && facts.id != *change
                && self
                    .direct_needs(facts, false)
                    .is_ok_and(|needs| needs.iter().any(|need| need.change == *change))
        };
        let candidates = self.known.naming(facts);
        let candidates = candidates.iter().filter_map(|id| self.held.changes.get(id)).map(AsRef::as_ref);
        candidates.filter(needs_it).map(|facts| facts.id.clone()).collect()
    }

    /// How the needs of an item's changes differ from those it was let in with.
    pub(super) fn needs_changed(&self, id: ItemId) -> Option<String> {
        let item = self.held.items.get(&id)?;
        for own in &item.changes {
            let facts = self.held.changes.get(&own.merge.patchset.change)?;
            if facts.current_patchset != own.merge.patchset.patchset {
                continue;
            }
            for need in self.direct_needs(facts, false).ok()? {
                let is_known = item.needs.iter().any(|known| known.change == need.change)
                    || item.has_change(&need.change);
                // Of what landed and was forgotten since, nothing is known.
                let is_open = self.held.changes.contains_key(&need.change) && !self.landed.contains(&need);
                if !is_known && is_open {
                    return Some(format!("it needs {need} now"));
                }
            }
        }
        None
    }
}

struct Search<'a> {
    gate: &'a Gate,
    strict: bool,
    /// Order of the visit and the lowest that can be reached.
    numbers: BTreeMap<ChangeId, (usize, usize)>,
    stack: Vec<ChangeId>,
    groups: Groups,
}

/// No chain of needs is followed further.
const DEEPEST: usize = 1_000;

impl Search<'_> {
    fn visit(&mut self, id: &ChangeId) -> Result<usize, EnqueueRefusal> {
        let number = self.numbers.len();
        self.numbers.insert(id.clone(), (number, number));
        self.stack.push(id.clone());
        let facts = self.gate.held.changes.get(id).cloned();
        let Some(facts) = facts.filter(|_| self.stack.len() <= DEEPEST) else {
            return Err(EnqueueRefusal::Unknown { change: id.clone() });
        };
        let mut lowest = number;
        for need in self.gate.direct_needs(&facts, self.strict)? {
            match self.numbers.get(&need.change) {
                Some((seen, _)) if self.stack.contains(&need.change) => lowest = lowest.min(*seen),
                Some(_) => {}
                None => lowest = lowest.min(self.visit(&need.change)?),
            }
        }
        self.numbers.insert(id.clone(), (number, lowest));
        if lowest == number {
            let start = self.stack.iter().position(|other| other == id).unwrap_or(0);
            let mut group = self.stack.split_off(start);
            group.sort();
            self.groups.push(group);
        }
        Ok(lowest)
    }
}
