//! The pollers of `assay.toml`.

use super::settings::PollKind;
use assay_connect::events::bodhi::Bodhi;
use assay_connect::events::composes::Composes;
use assay_connect::events::datagrepper::Datagrepper;
use assay_connect::events::git::Git;
use assay_connect::events::koji::Koji;
use assay_connect::events::poll::Poller;

/// Prepares one; nothing is asked yet.
pub(super) fn poller(what: &PollKind) -> Result<Box<dyn Poller>, String> {
    Ok(match what {
        PollKind::Datagrepper { url, topics, overlap, settle } => {
            Box::new(Datagrepper::new(url, topics, *overlap, *settle)?)
        }
        PollKind::Composes { url, releases, prefix } => Box::new(Composes::new(url, releases, prefix)?),
        PollKind::Koji { url, prefix, tags } => Box::new(Koji::new(url, prefix)?.with_tags(tags)),
        PollKind::Bodhi { url, releases, prefix } => Box::new(Bodhi::new(url, releases, prefix)?),
        PollKind::Git { url, branches } => Box::new(Git::new(url, branches)?),
    })
}
