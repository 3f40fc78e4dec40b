//! The pollers of `assay.toml`.

use super::settings::PollKind;
use assay_connect::events::datagrepper::Datagrepper;
use assay_connect::events::poll::Poller;

/// Prepares one; nothing is asked yet.
pub(super) fn poller(what: &PollKind) -> Result<Box<dyn Poller>, String> {
    Ok(match what {
        PollKind::Datagrepper { url, topics, overlap, settle } => {
            Box::new(Datagrepper::new(url, topics, *overlap, *settle)?)
        }
    })
}
