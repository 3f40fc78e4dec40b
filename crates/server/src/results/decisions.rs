//! Decisions about what results are of.

use crate::app::App;
use assay_store::NewResult;

impl App {
    /// These results have been stored.
    pub(crate) fn found(&self, _results: &[NewResult]) {}
}
