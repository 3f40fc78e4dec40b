//! How sources merge what the gate submits: asked of each, and compared with how the gate tests it.

use super::connections::Connections;
use super::lander::Pauses;
use super::ports::Trouble;
use super::repos::Repositories;
use crate::app::App;
use assay_connect::gerrit::{Merging, SubmitType};
use assay_engine::gate::config::{Config, LandingWay, Manager, MergeMode, Pipeline, Project};
use assay_engine::gate::ids::{ProjectName, SourceName};
use assay_formats::assay::MERGE_MODES;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A project into which a source merges what it is asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Submitted {
    source: SourceName,
    project: ProjectName,
    mode: MergeMode,
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
                    let why = mismatch(one.mode, found);
                    let mut status = app.gate.edit();
                    match why {
                        Some(why) => drop(status.merging.insert(one.project, why)),
                        None => drop(status.merging.remove(&one.project)),
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
        let pipeline = pipelines.iter().find(|one| project.pipelines.contains_key(&one.name))?;
        let (source, mode) = (pipeline.source.clone(), project.merge_mode);
        Some(Submitted { source, project: project.name.clone(), mode })
    };
    config.projects.values().filter_map(of).collect()
}

/// What is tested in another way than it is merged, with the remedy.
fn mismatch(mode: MergeMode, merging: Merging) -> Option<String> {
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
        let of =
            |mode, submit_type, content| mismatch(mode, Merging { submit_type: Some(submit_type), content });
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
        assert_eq!(mismatch(Ours::Merge, Merging::default()), None, "what is not known is no mismatch");
    }
}
