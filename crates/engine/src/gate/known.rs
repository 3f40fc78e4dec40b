//! Indexes over what is known of changes, so that an event costs what it touches.

use super::change::{ChangeFacts, DependsOn};
use super::ids::{ChangeId, Patchset};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who names whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// Changes by Change-Id in lower case.
    twins: BTreeMap<String, BTreeSet<ChangeId>>,
    /// Changes by what they stand on or name.
    naming: BTreeMap<Name, BTreeSet<ChangeId>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Parent(ChangeId),
    ChangeId(String),
    Number(u64),
}

fn names(facts: &ChangeFacts) -> Vec<Name> {
    let parents = facts.parents.iter().map(|parent| Name::Parent(parent.change.clone()));
    let footers = facts.depends_on().into_iter().map(|footer| match footer {
        DependsOn::ChangeId { id } => Name::ChangeId(id.to_lowercase()),
        DependsOn::Url { number, .. } => Name::Number(number),
    });
    parents.chain(footers).collect()
}

impl Known {
    pub(super) fn add(&mut self, facts: &ChangeFacts) {
        if let Some(id) = &facts.change_id {
            self.twins.entry(id.to_lowercase()).or_default().insert(facts.id.clone());
        }
        for name in names(facts) {
            self.naming.entry(name).or_default().insert(facts.id.clone());
        }
    }

    pub(super) fn remove(&mut self, facts: &ChangeFacts) {
        if let Some(id) = &facts.change_id {
            drop_from(&mut self.twins, &id.to_lowercase(), &facts.id);
        }
        for name in names(facts) {
            drop_from(&mut self.naming, &name, &facts.id);
        }
    }

    /// Changes with this Change-Id.
    pub(super) fn twins(&self, change_id: &str) -> impl Iterator<Item = &ChangeId> {
        self.twins.get(&change_id.to_lowercase()).into_iter().flatten()
    }

    /// Changes that may need `facts`.
    pub(super) fn naming(&self, facts: &ChangeFacts) -> BTreeSet<ChangeId> {
        let mut keys = vec![Name::Parent(facts.id.clone()), Name::Number(facts.id.number)];
        keys.extend(facts.change_id.as_ref().map(|id| Name::ChangeId(id.to_lowercase())));
        keys.iter().filter_map(|key| self.naming.get(key)).flatten().cloned().collect()
    }
}

fn drop_from<K: Ord>(map: &mut BTreeMap<K, BTreeSet<ChangeId>>, key: &K, id: &ChangeId) {
    if let Some(ids) = map.get_mut(key) {
        ids.remove(id);
        if ids.is_empty() {
            map.remove(key);
        }
    }
}

/// The latest patchsets of which something is remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest {
    set: BTreeSet<Patchset>,
    order: VecDeque<Patchset>,
}

impl Latest {
    const KEPT: usize = 1_000;

    /// True if it is new.
    pub(super) fn add(&mut self, patchset: Patchset) -> bool {
        let is_new = self.set.insert(patchset.clone());
        if is_new {
            self.order.push_back(patchset);
        }
        if self.order.len() > Self::KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
        is_new
    }

    pub(super) fn contains(&self, patchset: &Patchset) -> bool {
        self.set.contains(patchset)
    }
}
