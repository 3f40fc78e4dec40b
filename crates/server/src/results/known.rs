//! The test cases that somebody knows, and policies that name others: nothing could ever fulfil those.

use crate::app::App;
use assay_formats::diagnostic::Diagnostic;
use assay_formats::policy::KnownTests;
use assay_store::{NameFilter, StoreError};
use std::collections::BTreeSet;

/// What test cases of jobs begin with, by what they are about.
const SPACES: [&str; 4] = ["compose", "update", "build", "fcosbuild"];

/// The tests that somebody knows: results there are, and jobs that would be made.
pub(crate) async fn tests(app: &App) -> Result<KnownTests, StoreError> {
    let filter = NameFilter { limit: 100_000, ..NameFilter::default() };
    let mut testcases: BTreeSet<String> =
        app.store.results().testcases(&filter).await?.into_iter().map(|testcase| testcase.name).collect();
    for template in super::decisions::templates(&app.library.now()) {
        for space in SPACES {
            testcases.insert(format!("{space}.{}", template.testcase));
        }
    }
    Ok(KnownTests { testcases })
}

/// What the policies that are in force name and nobody knows, with the places. A server that knows no test at all yet says
/// nothing: it is new.
pub(crate) async fn unknown(app: &App) -> Vec<Diagnostic> {
    let Some(path) = app.results.settings().policies.clone() else { return Vec::new() };
    let known = match tests(app).await {
        Ok(known) if known.testcases.is_empty() => return Vec::new(),
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "it is not known which tests there are, and so not whether policies name others");
            return Vec::new();
        }
    };
    // They were read without an error a moment ago; what has become of them since then the next reading says.
    let loaded = super::settings::load(&path, Some(&known)).map(|loaded| loaded.diagnostics);
    let found: Vec<Diagnostic> =
        loaded.unwrap_or_default().into_iter().filter(|found| !found.is_error()).collect();
    for diagnostic in &found {
        tracing::warn!(%diagnostic, "a policy is in force that cannot be fulfilled");
    }
    found
}
