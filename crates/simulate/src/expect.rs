//! Compares what came of a scenario with what it expects.

use crate::scenario::Expect;
use crate::world::{BuildState, World, list, outcome_word};
use assay_engine::gate::change::Subject;
use assay_engine::gate::ids::{ChangeId, PipelineName};
use assay_engine::gate::item::{Item, ItemPhase};
use assay_engine::gate::snapshot::ChangeQueue;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// One sentence for each difference.
pub(crate) fn misses(world: &World, expect: &Expect) -> Vec<String> {
    let mut misses = Misses { world, found: Vec::new() };
    misses.changes(expect);
    misses.builds(expect);
    misses.queues(expect);
    misses.words(expect);
    misses.found
}

struct Misses<'w> {
    world: &'w World,
    found: Vec<String>,
}

impl Misses<'_> {
    fn equal<T: PartialEq + Debug + ?Sized>(&mut self, what: &str, expected: &T, found: &T) {
        if expected != found {
            self.found.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    fn holds(&mut self, what: &str, words: &str, text: &str) {
        if !text.to_lowercase().contains(&words.to_lowercase()) {
            self.found.push(format!("{what}: expected {words:?}, found {text:?}"));
        }
    }

    fn changes(&mut self, expect: &Expect) {
        let world = self.world;
        if let Some(merged) = &expect.merged {
            self.equal("merged", merged, &world.merged);
        }
        for (number, status) in &expect.status {
            let found = world.gerrit.changes.get(number).map_or("none", |change| change.status.word());
            self.equal(&format!("status of {number}"), status.as_str(), found);
        }
        for (number, count) in &expect.reports {
            let found = world.gerrit.changes.get(number).map_or(0, |change| change.reviews.len());
            self.equal(&format!("reports on {number}"), count, &found);
        }
        for (number, votes) in &expect.votes {
            for (label, value) in votes {
                let change = world.gerrit.changes.get(number);
                let reviews = change.into_iter().flat_map(|change| change.reviews.iter().rev());
                let given = reviews
                    .flat_map(|review| &review.labels)
                    .find(|(own, _)| own.eq_ignore_ascii_case(label));
                let found = given.map_or(0, |(_, value)| *value);
                self.equal(&format!("vote {label} on {number}"), value, &found);
            }
        }
    }

    fn builds(&mut self, expect: &Expect) {
        let world = self.world;
        let all = || world.build_order.iter().map(|uuid| &world.builds[uuid]);
        if let Some(builds) = &expect.builds {
            let found = all().map(|build| {
                let word = match &build.phase {
                    BuildState::Ended(result) => result.word.as_str(),
                    BuildState::Cancelled => "CANCELLED",
                    BuildState::Held => "held",
                    BuildState::Queued | BuildState::Running => "running",
                };
                format!("{} {} {word}", build.job.name, list(&build.changes)).replace("  ", " ")
            });
            self.bags("builds", builds, found.collect());
        }
        if let Some(running) = &expect.running {
            let live = all().filter(|build| build.is_live());
            let found = live
                .map(|build| format!("{} {}", build.job.name, list(&build.changes)).trim_end().to_owned());
            self.bags("running", running, found.collect());
        }
        if let Some(kept) = &expect.kept {
            let failed = |build: &&crate::world::BuildRecord| matches!(&build.phase, BuildState::Ended(result) if !result.is_success());
            let held = all().filter(failed).filter(|build| build.hold.is_some());
            let found = held
                .map(|build| format!("{} {}", build.job.name, list(&build.changes)).trim_end().to_owned());
            self.bags("kept", kept, found.collect());
        }
        if let Some(count) = expect.build_count {
            self.equal("build-count", &count, &world.build_order.len());
        }
        for (job, count) in &expect.ended {
            let ended = all().filter(|build| {
                build.job.name.as_str() == job && matches!(build.phase, BuildState::Ended(_))
            });
            self.equal(&format!("ended {job}"), count, &ended.count());
        }
    }

    /// The same things, whatever their order.
    fn bags(&mut self, what: &str, expected: &[String], found: Vec<String>) {
        let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
        for text in expected {
            *counts.entry(text).or_default() += 1;
        }
        for text in &found {
            *counts.entry(text).or_default() -= 1;
        }
        for (text, count) in counts {
            match count {
                0 => {}
                missing if missing > 0 => self.found.push(format!("{what}: {missing} × missing: {text}")),
                surplus => self.found.push(format!("{what}: {} × too many: {text}", -surplus)),
            }
        }
    }

    fn queues(&mut self, expect: &Expect) {
        let snapshot = self.world.gate.held();
        for (name, numbers) in &expect.queue {
            let items = self.items(name);
            let found: Vec<u64> = items.iter().flat_map(|item| &item.changes).map(number_of).collect();
            self.equal(&format!("queue {name}"), numbers, &found);
        }
        for (name, count) in &expect.items {
            let found = self.items(name).len();
            self.equal(&format!("items of {name}"), count, &found);
        }
        for (number, ahead) in &expect.ahead {
            let item = self.live_item(*number);
            let below = item.and_then(|item| item.ahead).and_then(|ahead| snapshot.items.get(&ahead));
            let found = below.and_then(|item| item.changes.last()).map_or(0, number_of);
            self.equal(&format!("ahead of {number}"), ahead, &found);
        }
        for (name, window) in &expect.window {
            let found: Vec<u32> = self.queues_named(name).map(|queue| queue.window).collect();
            if found.iter().any(|found| found != window) || found.is_empty() {
                self.found.push(format!("window of {name}: expected {window}, found {found:?}"));
            }
        }
        for (name, words) in &expect.held {
            let holds: Vec<String> = self
                .queues_named(name)
                .filter_map(|queue| queue.hold.as_ref())
                .map(|(why, _)| why.to_string())
                .collect();
            let text = if holds.is_empty() { "no".to_owned() } else { holds.join("; ") };
            self.holds(&format!("hold of {name}"), words, &text);
        }
    }

    fn words(&mut self, expect: &Expect) {
        let world = self.world;
        for (number, words) in &expect.said {
            let change = world.gerrit.changes.get(number);
            let all: Vec<&str> = change
                .into_iter()
                .flat_map(|change| &change.reviews)
                .map(|review| review.message.as_str())
                .collect();
            for words in words.all() {
                self.holds(&format!("said on {number}"), words, &all.join("\n---\n"));
            }
        }
        for (number, words) in &expect.unsaid {
            let change = world.gerrit.changes.get(number);
            for review in change.into_iter().flat_map(|change| &change.reviews) {
                for words in words.all().iter().filter(|words| review.message.contains(words.as_str())) {
                    self.found.push(format!("unsaid on {number}: found {words:?} in {:?}", review.message));
                }
            }
        }
        for (number, words) in &expect.refused {
            let of = (*number != 0).then_some(*number);
            let all: Vec<String> = world
                .refused
                .iter()
                .filter(|(change, _, _)| *change == of)
                .map(|(_, pipeline, why)| format!("{pipeline}: {why}"))
                .collect();
            self.holds(&format!("refused {number}"), words, &all.join("; "));
        }
        for (number, words) in &expect.waits {
            let snapshot = world.gate.held();
            let wait = self.live_item(*number).map(|item| snapshot.why(item.id));
            let text = wait.and_then(|waits| waits.first().map(ToString::to_string));
            self.holds(&format!("wait of {number}"), words, &text.unwrap_or_else(|| "nothing".to_owned()));
        }
        for (number, words) in &expect.outcome {
            let ended = world.database.ended.values().rev().find(|item| has(item, *number));
            let text = ended.map(|item| match &item.phase {
                ItemPhase::Ended(end) => {
                    let why: Vec<String> = end.failures.iter().map(ToString::to_string).collect();
                    format!("{} {} {}", item.pipeline, outcome_word(&end.outcome), why.join(", "))
                }
                _ => String::new(),
            });
            self.holds(&format!("outcome of {number}"), words, &text.unwrap_or_else(|| "none".to_owned()));
        }
    }

    /// The items of a pipeline, queue by queue.
    fn items(&self, pipeline: &str) -> Vec<&Item> {
        let snapshot = self.world.gate.held();
        let name = PipelineName::from(pipeline);
        let queues = snapshot.queues.iter().filter(|((own, _), _)| *own == name);
        let ids: Vec<_> = queues.flat_map(|(_, queue)| &queue.items).collect();
        let mut items: Vec<&Item> =
            ids.into_iter().filter_map(|id| snapshot.items.get(id)).map(AsRef::as_ref).collect();
        items.sort_by_key(|item| (item.position, item.id));
        items
    }

    fn queues_named(&self, name: &str) -> impl Iterator<Item = &ChangeQueue> {
        let (pipeline, queue) = match name.split_once('/') {
            Some((pipeline, queue)) => (pipeline.to_owned(), Some(queue.to_owned())),
            None => (name.to_owned(), None),
        };
        let fits = move |own: &str, own_queue: &str| {
            own == pipeline && queue.as_ref().is_none_or(|queue| queue == own_queue)
        };
        let queues = &self.world.gate.held().queues;
        queues
            .iter()
            .filter(move |((own, name), _)| fits(own.as_str(), name.as_str()))
            .map(|(_, queue)| queue)
    }

    /// A change's live item; of a dependent pipeline if there are several.
    fn live_item(&self, number: u64) -> Option<&Item> {
        let snapshot = self.world.gate.held();
        let all = || snapshot.items.values().map(AsRef::as_ref).filter(|item| has(item, number));
        let shared = |item: &&Item| {
            let pipeline = snapshot.pipeline(&item.pipeline);
            pipeline
                .is_some_and(|pipeline| pipeline.manager == assay_engine::gate::config::Manager::Dependent)
        };
        all().find(shared).or_else(|| all().next())
    }
}

fn number_of(change: &assay_engine::gate::item::ItemChange) -> u64 {
    let id: &ChangeId = &change.merge.patchset.change;
    id.number
}

fn has(item: &Item, number: u64) -> bool {
    match &item.subject {
        Subject::Change(patchset) if patchset.change.number == number => true,
        _ => item.changes.iter().any(|change| number_of(change) == number),
    }
}
