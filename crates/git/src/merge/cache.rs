//! Trees of merges that were made before: by what they start from, the revision, and the way.

use super::{Outcome, Strategy};
use crate::name::ProjectName;
use gix::ObjectId;
use std::collections::HashMap;

/// Two generations of this many at most: what was not asked for during a whole generation is forgotten.
const GENERATION: usize = 8192;

/// What a merge starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Base {
    /// A merge depends on the history.
    Commit(ObjectId),
    /// A pick does not.
    Tree(ObjectId),
}

/// What decides a merge's tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) project: ProjectName,
    pub(crate) base: Base,
    pub(crate) revision: ObjectId,
    pub(crate) strategy: Strategy,
}

/// See above.
#[derive(Default)]
pub(crate) struct Cache {
    young: HashMap<Key, Outcome>,
    old: HashMap<Key, Outcome>,
}

impl Cache {
    pub(crate) fn get(&mut self, key: &Key) -> Option<Outcome> {
        if let Some(outcome) = self.young.get(key) {
            return Some(outcome.clone());
        }
        let outcome = self.old.remove(key)?;
        self.put(key.clone(), outcome.clone());
        Some(outcome)
    }

    pub(crate) fn put(&mut self, key: Key, outcome: Outcome) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, outcome);
    }

    /// Forgets a project's trees, because they may have been removed.
    pub(crate) fn forget(&mut self, project: &ProjectName) {
        self.young.retain(|key, _| key.project != *project);
        self.old.retain(|key, _| key.project != *project);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays() {
        let key = |number: usize| {
            let id = ObjectId::from_hex(format!("{number:040x}").as_bytes()).expect("an id");
            let project = "p".parse().expect("a name");
            Key { project, base: Base::Tree(id), revision: id, strategy: Strategy::Ort }
        };
        let mut cache = Cache::default();
        let tree = key(7).revision;
        cache.put(key(0), Ok(tree));
        cache.put(key(1), Ok(tree));
        for number in 2..3 * GENERATION {
            cache.put(key(number), Ok(tree));
            assert_eq!(cache.get(&key(0)), Some(Ok(tree)), "after {number}");
        }
        assert_eq!(cache.get(&key(1)), None);
        assert!(cache.young.len() <= GENERATION && cache.old.len() <= GENERATION);
        cache.forget(&"p".parse().expect("a name"));
        assert_eq!(cache.get(&key(0)), None);
    }
}
