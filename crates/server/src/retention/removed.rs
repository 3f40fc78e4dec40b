//! What cleaning has taken of an attempt: a stream of its own beside what is left, so that the job's page can say what
//! was there, when it went, and why.

use super::part_of;
use crate::app::App;
use assay_engine::assets::retention::{Part, Verdict};
use assay_engine::ids::{JobId, Timestamp};
use assay_store::{StoreError, Streams};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where it is written, a line for each part.
pub(super) const REMOVED: &str = "removed.jsonl";

/// A part that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Removal {
    /// `logs`, `screenshots` or `results`.
    pub(crate) part: String,
    /// When it was removed.
    pub(crate) at: Timestamp,
    /// For example `older than 10 days`.
    pub(crate) why: String,
}

impl App {
    /// What has been removed of an attempt with these streams, the earliest first.
    pub(crate) async fn removals(&self, streams: Option<&Streams>) -> Result<Vec<Removal>, StoreError> {
        let Some(blob) = streams.and_then(|streams| streams.get(REMOVED)) else { return Ok(Vec::new()) };
        let text = self.blobs.get_verified(blob.sha256).await?.unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Notes in `kept` the parts that `before` had and that go by these verdicts.
    pub(super) async fn note_removals(
        &self,
        before: &Streams,
        kept: &mut Streams,
        verdicts: &[Verdict<(JobId, Part)>],
    ) -> Result<(), StoreError> {
        let had: BTreeSet<Part> =
            before.iter().filter(|(_, blob)| blob.size > 0).filter_map(|(name, _)| part_of(name)).collect();
        let gone = verdicts.iter().filter(|verdict| !verdict.keep && had.contains(&verdict.what.1));
        let new = gone.map(|verdict| Removal {
            part: verdict.what.1.word().to_owned(),
            at: self.clock.now(),
            why: verdict.why.to_string(),
        });
        let new: Vec<Removal> = new.collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for removal in self.removals(Some(before)).await?.iter().chain(&new) {
            text += &serde_json::to_string(removal).unwrap_or_default();
            text.push('\n');
        }
        kept.insert(REMOVED.to_owned(), self.blobs.put(text.into_bytes(), None).await?);
        Ok(())
    }
}
