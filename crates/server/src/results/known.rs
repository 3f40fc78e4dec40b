//! The test cases that somebody knows, and policies that name others: nothing could ever fulfil those.

use crate::app::App;
use assay_engine::decision::{Policies, space};
use assay_formats::diagnostic::Diagnostic;
use assay_formats::policy::KnownTests;
use assay_store::{NameFilter, StoreError};
use std::collections::BTreeSet;

/// What jobs are about by custom that no policy need name.
const KINDS: [&str; 3] = ["build", "fcosbuild", "change"];
/// Names that are read.
const MOST: u32 = 100_000;

/// What test cases of jobs begin with, by what they may be about.
fn spaces(policies: &Policies) -> BTreeSet<String> {
    let known = policies.subject_types.iter().map(|kind| kind.id.clone());
    let named = policies.policies.iter().flat_map(|policy| &policy.subject_types);
    let named = named.filter(|pattern| !pattern.contains(['*', '?', '[']));
    let named = named.map(|name| policies.subject_type(name).id);
    let all = known.chain(named).chain(KINDS.map(str::to_owned));
    all.map(|kind| space(&kind).to_owned()).collect()
}

/// The tests that somebody knows: results there are, and jobs that would be made. With it, whether these are all.
async fn read(app: &App) -> Result<(KnownTests, bool), StoreError> {
    let filter = NameFilter { limit: MOST, ..NameFilter::default() };
    let found = app.store.results().testcases(&filter).await?;
    let are_all = found.len() < MOST as usize;
    let mut testcases: BTreeSet<String> = found.into_iter().map(|testcase| testcase.name).collect();
    let spaces = spaces(&app.results.settings().decisions);
    for template in super::decisions::templates(&app.library.now()) {
        testcases.extend(spaces.iter().map(|space| format!("{space}.{}", template.testcase)));
    }
    Ok((KnownTests { testcases }, are_all))
}

/// The tests that somebody knows, as far as they can be listed.
pub(crate) async fn tests(app: &App) -> Result<KnownTests, StoreError> {
    Ok(read(app).await?.0)
}

/// All tests that somebody knows; none if there are too many to say that nobody knows another.
pub(crate) async fn all_tests(app: &App) -> Result<Option<KnownTests>, StoreError> {
    Ok(Some(read(app).await?).filter(|(_, are_all)| *are_all).map(|(known, _)| known))
}

/// What the policies that are in force name and nobody knows, with the places. A server that knows no test at all yet says
/// nothing: it is new.
pub(crate) async fn unknown(app: &App) -> Vec<Diagnostic> {
    let Some(path) = app.results.settings().policies.clone() else { return Vec::new() };
    let known = match all_tests(app).await {
        Ok(Some(known)) if !known.testcases.is_empty() => known,
        Ok(_) => return Vec::new(),
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
