//! What is under way, in the order in which it is due.

use assay_engine::gate::ids::{ChangeId, Uuid};
use assay_engine::gate::io::{Event, Input, LandRequest, Report};
use assay_engine::ids::Timestamp;

/// Something under way.
#[derive(Debug)]
pub(crate) enum Delivery {
    Event(Box<Event>),
    Facts(Vec<ChangeId>),
    Answer(Input),
    BuildStarts(Uuid),
    BuildEnds(Uuid),
    Land(Box<LandRequest>),
    Report(Box<Report>),
}

impl Delivery {
    /// What the server itself would have to remember to do it: gone with its memory.
    pub(super) fn is_volatile(&self) -> bool {
        matches!(self, Self::Facts(_) | Self::Answer(_) | Self::Land(_) | Self::Report(_))
    }
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) due: Timestamp,
    pub(super) order: u64,
    pub(super) what: Delivery,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}
