//! Timers: the due times of timer triggers, each once, over restarts too.

use assay_connect::{Arrival, News};
use assay_engine::gate::config::{Config, EventKind};
use assay_engine::gate::ids::{PipelineName, ProjectName, SourceName};
use assay_engine::gate::io::Event;
use assay_engine::ids::Timestamp;
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use std::collections::{BTreeMap, BTreeSet};

/// The source of due times.
pub(crate) const SOURCE: &str = "timer";
/// The cursor: up to when everything due is in the inbox.
pub(crate) const CURSOR: &str = "due";

/// When something is due, and for whom.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// By the cron line as it is configured.
    lines: BTreeMap<String, Line>,
}

#[derive(Debug)]
struct Line {
    cron: Cron,
    projects: BTreeSet<ProjectName>,
    /// For the log.
    pipelines: BTreeSet<PipelineName>,
}

impl Timers {
    /// The timers of a configuration. A line that cannot be read is left out; the configuration's reader has refused it.
    pub(crate) fn new(config: &Config) -> Self {
        let mut timers = Self::default();
        for pipeline in &config.pipelines {
            let lines = pipeline.triggers.iter().filter(|trigger| trigger.source.as_str() == SOURCE);
            for text in lines.filter_map(|trigger| trigger.time.as_deref()) {
                let projects = config.projects.values().filter(|project| {
                    project.pipelines.get(&pipeline.name).is_some_and(|jobs| !jobs.is_empty())
                });
                let names = projects.map(|project| project.name.clone());
                match timers.lines.get_mut(text) {
                    Some(line) => {
                        line.projects.extend(names);
                        line.pipelines.insert(pipeline.name.clone());
                    }
                    None => match parse(text) {
                        Ok(cron) => {
                            let pipelines = BTreeSet::from([pipeline.name.clone()]);
                            timers
                                .lines
                                .insert(text.to_owned(), Line { cron, projects: names.collect(), pipelines });
                        }
                        Err(why) => tracing::error!(line = text, why, "a timer cannot be read"),
                    },
                }
            }
        }
        timers
    }

    /// When something is due next, after `from`.
    pub(crate) fn next(&self, from: Timestamp) -> Option<Timestamp> {
        self.lines.values().filter_map(|line| next(&line.cron, from)).min()
    }

    /// What became due after `from` and not after `to`. Of a line whose time came several times, as when the server was
    /// down, only the latest.
    pub(crate) fn due(&self, from: Timestamp, to: Timestamp) -> Vec<Arrival> {
        let mut due = Vec::new();
        for (text, line) in &self.lines {
            let Some(at) = latest(&line.cron, from, to) else { continue };
            tracing::debug!(line = text, pipelines = ?line.pipelines, "due");
            for project in &line.projects {
                let timer = Some((project.clone(), text.clone()));
                let event = Event { timer, ..Event::new(SourceName::from(SOURCE), EventKind::Timer) };
                let key = format!("{} {text} {project}", at.0);
                due.push(Arrival { key, at, news: News::Event(Box::new(event)), made: None });
            }
        }
        due
    }
}

/// Zuul's order: seconds, if there are any, come last.
pub(crate) fn parse(text: &str) -> Result<Cron, String> {
    let mut fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() == 6
        && let Some(seconds) = fields.pop()
    {
        fields.insert(0, seconds);
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).build();
    parser.parse(&fields.join(" ")).map_err(|error| error.to_string())
}

fn zoned(at: Timestamp) -> Option<jiff::Zoned> {
    let at = jiff::Timestamp::from_microsecond(at.0).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::UTC))
}

fn stamp(at: &jiff::Zoned) -> Timestamp {
    Timestamp(at.timestamp().as_microsecond())
}

pub(crate) fn next(cron: &Cron, after: Timestamp) -> Option<Timestamp> {
    cron.find_next_occurrence(&zoned(after)?, false).ok().map(|at| stamp(&at))
}

pub(crate) fn latest(cron: &Cron, from: Timestamp, to: Timestamp) -> Option<Timestamp> {
    let at = stamp(&cron.find_previous_occurrence(&zoned(to)?, true).ok()?);
    (at > from && at <= to).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_engine::gate::config::{JobNode, MergeMode, Project, Trigger};
    use std::sync::Arc;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    /// Of these lines, with two projects that have jobs and one that has none.
    fn timers(lines: &[&str]) -> Timers {
        let trigger = |line: &&str| Trigger { time: Some((*line).to_owned()), ..Trigger::of(SOURCE.into()) };
        let mut config = Config::default();
        config.pipelines.push(Arc::new(super::super::testing::pipeline("periodic", |pipeline| {
            pipeline.triggers = lines.iter().map(trigger).collect();
        })));
        for (name, jobs) in [("a", 1), ("b", 1), ("c", 0)] {
            let node = JobNode { job: "j".into(), children: Vec::new() };
            let pipelines = BTreeMap::from([("periodic".into(), vec![node; jobs])]);
            let project = Project { name: name.into(), merge_mode: MergeMode::Merge, pipelines };
            config.projects.insert(name.into(), Arc::new(project));
        }
        Timers::new(&config)
    }

    fn keys(timers: &Timers, from: &str, to: &str) -> Vec<String> {
        let due = timers.due(at(from), at(to)).into_iter().map(|arrival| arrival.key);
        due.map(|key| key.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn due_times() {
        let daily = timers(&["0 6 * * *"]);
        assert_eq!(daily.next(at("2026-11-21T00:00:00Z")), Some(at("2026-11-21T06:00:00Z")));
        assert_eq!(daily.next(at("2026-11-21T06:00:00Z")), Some(at("2026-11-22T06:00:00Z")));
        let due = ["0 6 * * * a", "0 6 * * * b"];
        assert_eq!(keys(&daily, "2026-11-21T05:59:59Z", "2026-11-21T06:00:00Z"), due);
        assert_eq!(keys(&daily, "2026-11-21T06:00:00Z", "2026-11-22T05:59:59Z"), [""; 0], "each once");
        assert_eq!(
            keys(&daily, "2026-11-01T00:00:00Z", "2026-11-21T12:00:00Z"),
            due,
            "after a long pause, once"
        );
        // The same key whenever it is found out: the inbox takes it once.
        let first = daily.due(at("2026-11-20T12:00:00Z"), at("2026-11-21T06:00:00Z"));
        let again = daily.due(at("2026-11-20T12:00:00Z"), at("2026-11-21T09:00:00Z"));
        assert_eq!(first[0].key, again[0].key);
        let seconds = timers(&["*/5 * * * * 30"]);
        assert_eq!(seconds.next(at("2026-11-21T00:00:00Z")), Some(at("2026-11-21T00:00:30Z")));
        assert_eq!(seconds.next(at("2026-11-21T00:00:30Z")), Some(at("2026-11-21T00:05:30Z")));
        assert_eq!(timers(&["no cron"]).next(at("2026-11-21T00:00:00Z")), None);
        assert_eq!(timers(&[]).due(at("2026-11-20T00:00:00Z"), at("2026-11-21T00:00:00Z")).len(), 0);
    }
}
