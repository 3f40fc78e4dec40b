//! A scenario from its text to what came of it.

use crate::check::Violation;
use crate::oracle;
use crate::player::{PlayError, Player};
use crate::read::From;
use crate::scenario::{Scenario, Source};
use crate::world::{BuildState, Note};
use assay_engine::gate::config::Config;
use assay_formats::diagnostic::{Diagnostic, Sink};
use assay_formats::yaml::{self, Dialect, Rules};
use assay_formats::{assay, zuul};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How often the expensive checks run.
const WHOLE_EVERY: u64 = 1;

/// What came of a scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Played {
    /// What happened, in order.
    pub timeline: Vec<Note>,
    /// Every build.
    pub builds: Vec<PlayedBuild>,
    /// What Assay said.
    pub reports: Vec<PlayedReport>,
    /// Changes in the order in which they merged.
    pub merged: Vec<u64>,
    /// Differences from what the scenario expects.
    pub misses: Vec<String>,
    /// Invariants that did not hold.
    pub violations: Vec<Violation>,
}

impl Played {
    /// True if it came as expected.
    pub fn is_as_expected(&self) -> bool {
        self.misses.is_empty() && self.violations.is_empty()
    }
}

/// A build.
#[derive(Debug, Clone, Serialize)]
pub struct PlayedBuild {
    /// The job.
    pub job: String,
    /// The pipeline.
    pub pipeline: String,
    /// The changes in its tree, ahead first, own last.
    pub changes: Vec<String>,
    /// Its result; `CANCELLED`, or how far it is.
    pub result: String,
    /// Asked for, microseconds since the start.
    pub asked_us: i64,
    /// Over.
    pub ended_us: Option<i64>,
}

/// A report on a change.
#[derive(Debug, Clone, Serialize)]
pub struct PlayedReport {
    /// The change.
    pub change: u64,
    /// The patchset.
    pub patchset: u32,
    /// Label and value.
    pub labels: Vec<(String, i32)>,
    /// The words.
    pub message: String,
}

/// Reads a scenario; `file` is its name for the sentence of an error.
pub fn parse(text: &str, file: &str) -> Result<Scenario, String> {
    let mut sink = Sink::default();
    let index = sink.add_file(file, text);
    let node = yaml::parse(text, index, Rules::plain(Dialect::Yaml12), &mut sink);
    if sink.has_errors() {
        return Err(told(&sink.finish()));
    }
    let node = node.ok_or_else(|| format!("{file}: the file is empty; expected a scenario"))?;
    Scenario::deserialize(From(&node)).map_err(|error| format!("{file}:{error}"))
}

/// A scenario as a file.
pub fn write(scenario: &Scenario) -> String {
    // Every JSON document is YAML.
    serde_json::to_string_pretty(scenario).unwrap_or_default()
}

fn told(diagnostics: &[Diagnostic]) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Makes a configuration of what a scenario says; `file` gives the text of files that it names.
pub fn resolve(
    source: &Source,
    file: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Arc<Config>, String> {
    match source {
        Source::Compiled(config) => Ok(Arc::clone(config)),
        Source::Zuul(text) => from_zuul(text, "layout"),
        Source::Assay(text) => from_assay(text, "config"),
        Source::ZuulFile(name) => from_zuul(&file(name)?, name),
        Source::AssayFile(name) => from_assay(&file(name)?, name),
    }
}

fn from_zuul(text: &str, name: &str) -> Result<Arc<Config>, String> {
    let import = zuul::import(text, name, &zuul::Options::default());
    import.config.map(Arc::new).ok_or_else(|| told(&import.diagnostics))
}

fn from_assay(text: &str, name: &str) -> Result<Arc<Config>, String> {
    let loaded = assay::load(&[(name, text)]);
    loaded.config.map(Arc::new).ok_or_else(|| told(&loaded.diagnostics))
}

/// Plays a scenario with all checks; `file` gives the text of files that it names.
pub fn play(scenario: &Scenario, file: &dyn Fn(&str) -> Result<String, String>) -> Result<Played, PlayError> {
    let resolve = |source: &Source| resolve(source, file);
    let mut player = Player::new(scenario, &resolve)?;
    player.world.checks.whole_every = WHOLE_EVERY;
    player.world.notes = Some(Vec::new());
    player.play(scenario)?;
    let Player { mut world, misses, .. } = player;
    let mut violations = std::mem::take(&mut world.checks.violations);
    if violations.is_empty() {
        violations = oracle::differences(&mut world);
    }
    let since = |at: assay_engine::ids::Timestamp| at.micros_since(world.start);
    let builds = world.build_order.iter().map(|uuid| &world.builds[uuid]).map(|build| PlayedBuild {
        job: build.job.name.to_string(),
        pipeline: build.pipeline.to_string(),
        changes: build.changes.iter().map(ToString::to_string).collect(),
        result: match &build.phase {
            BuildState::Ended(result) => result.word.clone(),
            BuildState::Cancelled => "CANCELLED".to_owned(),
            BuildState::Held => "held".to_owned(),
            BuildState::Running => "running".to_owned(),
            BuildState::Queued => "queued".to_owned(),
        },
        asked_us: since(build.asked_at),
        ended_us: build.ended_at.map(since),
    });
    let reports = world.gerrit.changes.values().flat_map(|change| {
        change.reviews.iter().map(|review| PlayedReport {
            change: change.number,
            patchset: review.patchset,
            labels: review.labels.clone(),
            message: review.message.clone(),
        })
    });
    Ok(Played {
        builds: builds.collect(),
        reports: reports.collect(),
        merged: world.merged.clone(),
        timeline: world.notes.take().unwrap_or_default(),
        misses,
        violations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Step;
    use crate::simulate::{Size, plan};

    #[test]
    fn what_is_wrong_names_its_place() {
        for (text, expected) in [
            ("steps:\n- aprove: 1\n", "s.yaml:2:3: unknown variant `aprove`, expected one of `created`"),
            ("step: []\n", "s.yaml:1:1: unknown field `step`"),
            ("steps: []\nchanges: {a: {}}\n", "s.yaml:2:11: expected a number, found \"a\""),
            ("steps:\n- advance: 5 parsecs\n", "s.yaml:2:3: \"5 parsecs\" is not a length of time"),
            ("steps:\n- expect: {merged: [x]}\n", "s.yaml:2:21: invalid type: string \"x\", expected u64"),
            ("", "the file is empty"),
        ] {
            let found = parse(text, "s.yaml").expect_err(text);
            assert!(found.contains(expected), "{text:?}: {found}");
        }
    }

    #[test]
    fn written_scenarios_are_read_back() {
        for seed in 0..20 {
            let scenario = plan(seed, Size::Short);
            assert_eq!(parse(&write(&scenario), "s.json").as_ref(), Ok(&scenario));
        }
        let text = "steps:\n- unhold\n- created: [1, 2]\n- restart: idle\n- until: 90s\n";
        let steps = parse(text, "s").expect("a scenario").steps;
        assert!(matches!(steps[..], [Step::Unhold, Step::Created(_), Step::Restart(_), Step::Until(_)]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[a-z:{}\\[\\], \n-]{0,80}") {
            let _ = parse(&text, "s.yaml");
        }
    }
}
