//! How sources merge what the gate submits: asked of each, and compared with how the gate tests it.

use super::connections::Connections;
use super::lander::Pauses;
use super::ports::Trouble;
use super::repos::Repositories;
use crate::app::App;
use assay_connect::gerrit::{Merging, SubmitType};
use assay_engine::gate::config::{
    Config, LandingWay, Manager, MergeMode, Pipeline, Project, ReportAction, normal_label,
};
use assay_engine::gate::ids::{ProjectName, SourceName};
use assay_formats::assay::MERGE_MODES;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A project into which a source merges what it is asked to.
#[derive(Debug, Clone)]
struct Submitted {
    source: SourceName,
    project: ProjectName,
    mode: MergeMode,
    /// The pipelines that do it.
    pipelines: Vec<Arc<Pipeline>>,
}

/// Asks for every project that is landed in by submit, one after the other, until each has been told. What differs is put
/// among the gate's troubles.
pub(super) async fn learn(
    app: Arc<App>,
    connections: Connections,
    repositories: Repositories,
    pauses: Pauses,
    end: CancellationToken,
) {
    let mut wanted = submitted(&app.gate().config);
    let is_wanted = |name: &ProjectName| wanted.iter().any(|one| one.project == *name);
    app.gate.edit().merging.retain(|project, _| is_wanted(project));
    let mut tries = 0;
    loop {
        let (mut left, mut failed) = (Vec::new(), Vec::<Submitted>::new());
        for one in wanted {
            // A source that does not answer is not asked for all of its projects in vain.
            if failed.iter().any(|other| other.source == one.source) {
                left.push(one);
                continue;
            }
            let asked = tokio::select! {
                () = end.cancelled() => return,
                asked = connections.merging(&one.source, &one.project) => asked,
            };
            match asked {
                Ok(found) => {
                    let found = found.unwrap_or_default();
                    repositories.merges_content(&one.project, found.content);
                    let mut all: Vec<String> = mismatch(one.mode, &found).into_iter().collect();
                    all.extend(one.pipelines.iter().flat_map(|pipeline| votes(pipeline, &found.labels)));
                    let mut status = app.gate.edit();
                    if all.is_empty() {
                        status.merging.remove(&one.project);
                    } else {
                        status.merging.insert(one.project, all);
                    }
                }
                Err(Trouble(why)) => {
                    tracing::debug!(project = %one.project, why, "how it is merged cannot be asked now");
                    failed.push(one);
                }
            }
        }
        left.extend(failed);
        if left.is_empty() {
            return;
        }
        wanted = left;
        tries += 1;
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(pauses.after(tries)) => {}
        }
    }
}

/// The projects that a dependent pipeline has its source merge into.
fn submitted(config: &Config) -> Vec<Submitted> {
    let landing =
        |one: &&Arc<Pipeline>| one.manager == Manager::Dependent && one.landing == LandingWay::Submit;
    let pipelines: Vec<_> = config.pipelines.iter().filter(landing).collect();
    let of = |project: &Arc<Project>| {
        let has = |one: &&&Arc<Pipeline>| project.pipelines.contains_key(&one.name);
        let pipelines: Vec<_> = pipelines.iter().filter(has).map(|one| Arc::clone(one)).collect();
        let (source, mode) = (pipelines.first()?.source.clone(), project.merge_mode);
        Some(Submitted { source, project: project.name.clone(), mode, pipelines })
    };
    config.projects.values().filter_map(of).collect()
}

/// What is tested in another way than it is merged, with the remedy.
fn mismatch(mode: MergeMode, merging: &Merging) -> Option<String> {
    use MergeMode as Ours;
    use SubmitType as Theirs;
    let theirs = merging.submit_type?;
    let merges = matches!(theirs, Theirs::MergeIfNecessary | Theirs::MergeAlways);
    let fits = match mode {
        // With contents merged, these come to the same tree.
        Ours::Merge | Ours::MergeResolve => merges && merging.content != Some(false),
        Ours::MergeIfNecessary | Ours::MergeAlways => merges,
        Ours::CherryPick => theirs == Theirs::CherryPick,
        Ours::FastForwardOnly => theirs == Theirs::FastForwardOnly,
        Ours::RebaseIfNecessary | Ours::RebaseAlways => {
            matches!(theirs, Theirs::RebaseIfNecessary | Theirs::RebaseAlways)
        }
    };
    if fits {
        return None;
    }
    let remedy = word(match theirs {
        Theirs::FastForwardOnly => Ours::FastForwardOnly,
        Theirs::MergeIfNecessary => Ours::MergeIfNecessary,
        Theirs::MergeAlways => Ours::MergeAlways,
        Theirs::RebaseIfNecessary => Ours::RebaseIfNecessary,
        Theirs::RebaseAlways => Ours::RebaseAlways,
        Theirs::CherryPick => Ours::CherryPick,
    });
    let content = if merging.content == Some(false) { ", without merging contents" } else { "" };
    Some(format!(
        "it is tested as merge-mode {} and merged by its source as {remedy}{content}: what passed may be refused; set \
         merge-mode: {remedy}",
        word(mode)
    ))
}

/// Votes of a pipeline's success that its source does not take, or that are less than a submit usually needs.
fn votes(pipeline: &Pipeline, labels: &BTreeMap<String, (i32, i32)>) -> Vec<String> {
    let mut found = Vec::new();
    for action in &pipeline.reporters.success {
        let ReportAction::Review { source, labels: votes, submit: true, .. } = action else { continue };
        if *source != pipeline.source {
            continue;
        }
        for (label, vote) in votes {
            // Layouts write them in lower case.
            let same = |(name, _): &(&String, &(i32, i32))| normal_label(name) == normal_label(label);
            let Some((label, (low, high))) = labels.iter().find(same) else { continue };
            let name = &pipeline.name;
            let consequence = if vote < low || vote > high {
                "the vote is refused"
            } else if vote < high {
                "what passed may be refused"
            } else {
                continue;
            };
            found.push(format!(
                "{name} votes {label} {vote:+}, and {label} goes from {low:+} to {high:+} there: {consequence}; set \
                 success: [{{review: {{{label}: {high}}}, submit: true}}]"
            ));
        }
    }
    found
}

fn word(mode: MergeMode) -> &'static str {
    MERGE_MODES.iter().find(|(_, known)| *known == mode).map_or("?", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tested_in_another_way_than_it_is_merged() {
        use MergeMode as Ours;
        use SubmitType as Theirs;
        let of = |mode, submit_type, content| {
            let merging = Merging { submit_type: Some(submit_type), content, ..Merging::default() };
            mismatch(mode, &merging)
        };
        for (mode, theirs, content, fits) in [
            (Ours::MergeResolve, Theirs::MergeIfNecessary, Some(true), true),
            (Ours::MergeResolve, Theirs::MergeAlways, None, true),
            (Ours::MergeResolve, Theirs::MergeIfNecessary, Some(false), false),
            (Ours::MergeIfNecessary, Theirs::MergeIfNecessary, Some(false), true),
            (Ours::MergeResolve, Theirs::FastForwardOnly, Some(true), false),
            (Ours::FastForwardOnly, Theirs::FastForwardOnly, Some(true), true),
            (Ours::FastForwardOnly, Theirs::MergeIfNecessary, Some(true), false),
            (Ours::Merge, Theirs::CherryPick, Some(true), false),
            (Ours::CherryPick, Theirs::CherryPick, Some(true), true),
            (Ours::RebaseAlways, Theirs::RebaseIfNecessary, Some(true), true),
            (Ours::MergeAlways, Theirs::RebaseAlways, Some(true), false),
        ] {
            assert_eq!(of(mode, theirs, content).is_none(), fits, "{mode:?} {theirs:?} {content:?}");
        }
        let said = of(Ours::MergeResolve, Theirs::FastForwardOnly, Some(true)).unwrap();
        assert!(
            said.contains("merge-mode merge-resolve") && said.ends_with("merge-mode: fast-forward-only"),
            "{said}"
        );
        assert_eq!(mismatch(Ours::Merge, &Merging::default()), None, "what is not known is no mismatch");
    }

    #[test]
    fn votes_that_are_refused_or_too_low() {
        let said = |votes: &[(&str, i32)], submit| {
            let votes = votes.iter().map(|(label, vote)| ((*label).to_owned(), *vote)).collect();
            let source = SourceName::from("gerrit");
            let action = ReportAction::Review { source, labels: votes, submit, flags: Vec::new() };
            let yaml = "pipelines: [gate]\nprojects: {p: {gate: [noop]}}\n";
            let config = assay_formats::assay::load(&[("gate.yaml", yaml)]).config.unwrap();
            let mut pipeline = (*config.pipelines[0]).clone();
            pipeline.reporters.success = vec![action];
            super::votes(&pipeline, &BTreeMap::from([("Verified".to_owned(), (-2, 2))]))
        };
        for (vote, word) in [(2, ""), (1, "may be refused"), (3, "is refused"), (-3, "is refused")] {
            let found = said(&[("Verified", vote)], true);
            assert_eq!(found.len(), usize::from(!word.is_empty()), "{vote}: {found:?}");
            for one in found {
                assert!(
                    one.contains(word) && one.ends_with("[{review: {Verified: 2}, submit: true}]"),
                    "{one}"
                );
            }
        }
        assert_eq!(said(&[("verified", 1)], true), said(&[("Verified", 1)], true), "layouts write it so");
        assert!(said(&[("Verified", 1)], false).is_empty(), "nothing is submitted with it");
        assert!(said(&[("Unknown", 1)], true).is_empty(), "what is not known is no mismatch");
    }
}
