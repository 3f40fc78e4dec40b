//! Words of the time line.

use assay_engine::gate::ids::Patchset;

/// Patchsets as Zuul writes them.
pub fn list(patchsets: &[Patchset]) -> String {
    let words: Vec<String> = patchsets.iter().map(ToString::to_string).collect();
    words.join(" ")
}

/// How a landing ended, in words.
pub(crate) fn land_word(result: &assay_engine::gate::io::LandResult) -> String {
    use assay_engine::gate::io::LandResult as R;
    match result {
        R::Landed { .. } => "landed".to_owned(),
        R::BaseMoved { project, branch, .. } => format!("{project} {branch} has moved"),
        R::Refused { why } => format!("refused: {why}"),
        R::TreeMismatch { project, branch, .. } => format!("{project} {branch} holds a tree nobody tested"),
        R::Partial { refused, why, .. } => format!("partly; {refused} refused: {why}"),
    }
}

/// How an item ended, in one word and the reason for an eviction.
pub fn outcome_word(outcome: &assay_engine::gate::item::ItemOutcome) -> String {
    use assay_engine::gate::item::ItemOutcome as O;
    match outcome {
        O::Landed { .. } => "landed".to_owned(),
        O::Passed => "passed".to_owned(),
        O::Failed => "failed".to_owned(),
        O::Evicted { reason } => format!("evicted: {reason}"),
        O::Refused { reason } => format!("refused: {reason}"),
    }
}
