//! Jobs by number. Their rows are large and the nodes of a tree are never full, so each row is kept apart from the tree.

use crate::ids::JobId;
use crate::rows::JobRow;
use std::collections::BTreeMap;
use std::ops::{Index, RangeToInclusive};

#[derive(Debug, Clone, Default)]
pub(super) struct Table(BTreeMap<JobId, Box<JobRow>>);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "asked as the maps beside it are")]
impl Table {
    pub(super) fn get(&self, id: &JobId) -> Option<&JobRow> {
        self.0.get(id).map(|row| &**row)
    }

    pub(super) fn get_mut(&mut self, id: &JobId) -> Option<&mut JobRow> {
        self.0.get_mut(id).map(|row| &mut **row)
    }

    pub(super) fn contains_key(&self, id: &JobId) -> bool {
        self.0.contains_key(id)
    }

    pub(super) fn insert(&mut self, row: JobRow) {
        self.0.insert(row.id, Box::new(row));
    }

    pub(super) fn remove(&mut self, id: &JobId) -> Option<JobRow> {
        self.0.remove(id).map(|row| *row)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = JobId> {
        self.0.keys().copied()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &JobRow> {
        self.0.values().map(|row| &**row)
    }

    /// Those up to `last`.
    pub(super) fn range(&self, last: RangeToInclusive<JobId>) -> impl Iterator<Item = &JobRow> {
        self.0.range(last).map(|(_, row)| &**row)
    }
}

impl Index<&JobId> for Table {
    type Output = JobRow;
    fn index(&self, id: &JobId) -> &JobRow {
        &self.0[id]
    }
}

impl FromIterator<JobRow> for Table {
    fn from_iter<I: IntoIterator<Item = JobRow>>(rows: I) -> Self {
        Self(rows.into_iter().map(|row| (row.id, Box::new(row))).collect())
    }
}
