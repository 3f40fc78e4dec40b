//! What the API and the pages need of the gate's loops.

use crate::app::App;
use crate::fault::Fault;
use assay_engine::gate::change::ChangeFacts;
use assay_engine::gate::ids::{ChangeId, Oid};
use assay_engine::gate::item::{Item, ItemOutcome, ItemPhase, MergeState};
use assay_engine::gate::reason::EvictReason;
use assay_records::receipt::{Expected, ObjectId, TrustFile, verify};
use assay_store::StoredReceipt;
use std::time::Duration;

/// How long a source may take to answer an operator.
const PATIENCE: Duration = Duration::from_secs(20);

impl App {
    /// What the source of a change says of it, and of what it needs and what needs it.
    pub(crate) async fn facts_of(&self, change: &ChangeId) -> Result<Vec<ChangeFacts>, Fault> {
        let sources = self.sources().ok_or_else(|| Fault::later("The server is starting.", 1))?;
        let asked = tokio::time::timeout(PATIENCE, sources.facts(change)).await;
        let why = match asked {
            Ok(Ok(facts)) if !facts.is_empty() => return Ok(facts),
            Ok(Ok(_)) => {
                let error = format!("{} does not know change {}.", change.source, change.number);
                return Err(Fault::not_found(error, "Correct the number, or name another source."));
            }
            Ok(Err(trouble)) => trouble.to_string(),
            Err(_) => format!("it did not answer within {} s", PATIENCE.as_secs()),
        };
        Err(Fault::later(
            format!("{} cannot be asked about change {}: {why}.", change.source, change.number),
            10,
        ))
    }

    /// Checks a receipt with the server's own key against what landed.
    pub(crate) fn check_receipt(&self, item: &Item, receipt: &StoredReceipt) -> Result<(), String> {
        let key = self.receipt_key().ok_or("the server is starting")?;
        let trust = TrustFile::parse(&key.to_trust_line("server")).map_err(|_| "the key is not usable")?;
        let ItemPhase::Ended(end) = &item.phase else { return Err("its item has not ended".to_owned()) };
        let tree = landed_tree(item, &end.outcome, receipt)?;
        let id = |text: &str| text.parse::<ObjectId>().map_err(|error| error.to_string());
        let (commit, tree) = (id(receipt.commit.as_str())?, id(tree.as_str())?);
        let expected = Expected {
            project: receipt.project.as_str(),
            branch: receipt.branch.as_str(),
            commit: &commit,
            tree: &tree,
        };
        verify(receipt.body.as_bytes(), &trust, &expected).map(drop).map_err(|problem| problem.to_string())
    }
}

/// The tree that a receipt must be about, by what became of its item.
fn landed_tree<'a>(
    item: &'a Item,
    outcome: &'a ItemOutcome,
    receipt: &StoredReceipt,
) -> Result<&'a Oid, &'static str> {
    match outcome {
        ItemOutcome::Landed { tips } => {
            let tip = tips.iter().find(|tip| tip.commit == receipt.commit);
            tip.map(|tip| &tip.tree).ok_or("its item landed otherwise")
        }
        // Of a part of it there are receipts: for the branches that have the tree that was tested.
        ItemOutcome::Evicted { reason: EvictReason::Partial { .. } | EvictReason::TreeMismatch { .. } } => {
            let MergeState::Done(merged) = &item.buildset.state else {
                return Err("its item was not merged");
            };
            let here = merged
                .moved
                .iter()
                .rev()
                .find(|moved| moved.project == receipt.project && moved.branch == receipt.branch);
            here.map(|moved| &moved.tip.tree).ok_or("its item has nothing on that branch")
        }
        _ => Err("its item has not landed"),
    }
}
