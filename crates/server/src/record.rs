//! Reads the `steps` stream for pages: whole at once for a page, line by line for the progress of a running job.

use assay_proto::api;
use assay_records::history::PastCommit;
use assay_records::step::{
    Artifact, ModuleFlags, ModulePlan, ModuleResult, Record, Step, StepBody, StepResult, TaskResult,
    TestCases,
};
use std::collections::BTreeMap;

/// A line longer than this is not a step; it is skipped, so that a broken worker cannot eat the server's memory.
const LONGEST_LINE: usize = 4 * 1024 * 1024;

/// What a run did, as far as it is known.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Run {
    /// In the order of the plan.
    pub(crate) modules: Vec<Module>,
    /// Facts about the machine, in reading order.
    pub(crate) facts: Vec<(String, String)>,
    /// Published files, in the order of publishing.
    pub(crate) artifacts: Vec<Artifact>,
    /// Files of test results, in the order of reading.
    pub(crate) results: Vec<TestCases>,
    /// What a task says of items.
    pub(crate) found: Vec<TaskResult>,
    /// The newest commits of fetched tests, and of needles with a repository of their own.
    pub(crate) histories: BTreeMap<String, Vec<PastCommit>>,
    /// Lines that could not be read.
    pub(crate) unreadable: usize,
}

/// A module and what it did.
#[derive(Debug, PartialEq)]
pub(crate) struct Module {
    pub(crate) plan: ModulePlan,
    pub(crate) result: ModuleResult,
    pub(crate) duration_us: Option<u64>,
    pub(crate) steps: Vec<Step>,
}

impl Module {
    fn planned(plan: ModulePlan) -> Self {
        Self { plan, result: ModuleResult::None, duration_us: None, steps: Vec::new() }
    }
}

impl Run {
    /// Reads JSON lines. A last line without its end is one that is still being written; it is left out.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut run = Self::default();
        for line in bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            match serde_json::from_slice(line) {
                Ok(record) => run.push(record),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => run.unreadable += 1,
            }
        }
        run
    }

    fn push(&mut self, record: Record) {
        match record {
            Record::Plan { modules } => self.modules.extend(modules.into_iter().map(Module::planned)),
            Record::Environment { facts } => self.facts.extend(facts),
            Record::ModuleStarted { module, .. } => self.module(&module).result = ModuleResult::Running,
            Record::Step(step) => self.module(&step.module.clone()).steps.push(*step),
            Record::ModuleEnded { module, result, duration_us, .. } => {
                let module = self.module(&module);
                (module.result, module.duration_us) = (result, Some(duration_us));
            }
            Record::Artifact(artifact) => self.artifacts.push(artifact),
            Record::TestCases(results) => self.results.push(results),
            Record::Result(result) => self.found.push(result),
            Record::History { what, commits } => drop(self.histories.insert(what, commits)),
        }
    }

    /// The module of this name; made if the plan did not name it, for example because the plan's line was lost.
    fn module(&mut self, name: &str) -> &mut Module {
        let at = self.modules.iter().position(|module| module.plan.name == name).unwrap_or_else(|| {
            let plan = ModulePlan { name: name.into(), file: String::new(), flags: ModuleFlags::default() };
            self.modules.push(Module::planned(plan));
            self.modules.len() - 1
        });
        &mut self.modules[at]
    }

    /// The run is over: what ran when it ended was stopped.
    pub(crate) fn ended(mut self) -> Self {
        for module in &mut self.modules {
            if module.result == ModuleResult::Running {
                module.result = ModuleResult::Cancelled;
            }
        }
        self
    }

    /// Where to look first: the failed step of the first module that failed, else the last step of a module that was
    /// stopped.
    pub(crate) fn first_failure(&self) -> Option<&Step> {
        let failed = self.modules.iter().find(|module| module.result == ModuleResult::Failed);
        let failed_step = |module: &&Module| module.steps.iter().any(|step| step.result == StepResult::Fail);
        let module = failed.or_else(|| self.modules.iter().find(failed_step)).or_else(|| {
            self.modules
                .iter()
                .find(|module| module.result == ModuleResult::Cancelled && !module.steps.is_empty())
        })?;
        module.steps.iter().find(|step| step.result == StepResult::Fail).or_else(|| module.steps.last())
    }

    /// Every step, in order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.modules.iter().flat_map(|module| &module.steps)
    }
}

/// Counts along as the stream grows, without keeping it.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    partial: Vec<u8>,
    overlong: bool,
    progress: Option<api::Progress>,
    last_step: Option<String>,
}

impl Tail {
    /// More of the stream, from where the last call ended.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !self.overlong {
                self.partial.extend_from_slice(piece);
            }
            self.overlong |= self.partial.len() > LONGEST_LINE;
            if piece.ends_with(b"\n") {
                if !std::mem::take(&mut self.overlong)
                    && let Ok(record) = serde_json::from_slice(&self.partial)
                {
                    self.count(&record);
                }
                self.partial.clear();
            }
        }
    }

    fn count(&mut self, record: &Record) {
        let progress =
            self.progress.get_or_insert(api::Progress { module: None, begun: 0, modules: 0, steps: 0 });
        match record {
            Record::Plan { modules } => progress.modules += modules.len(),
            Record::Environment { .. }
            | Record::History { .. }
            | Record::Artifact(_)
            | Record::TestCases(_)
            | Record::Result(_) => {}
            Record::ModuleStarted { module, .. } => {
                progress.begun += 1;
                progress.modules = progress.modules.max(progress.begun);
                progress.module = Some(module.clone());
            }
            Record::Step(step) => {
                progress.steps += 1;
                self.last_step = Some(step_title(step));
            }
            Record::ModuleEnded { .. } => progress.module = None,
        }
    }

    /// How far the run has come; `None` before the first record.
    pub(crate) fn progress(&self) -> Option<api::Progress> {
        self.progress.clone()
    }

    /// The newest step in a few words.
    pub(crate) fn last_step(&self) -> Option<&str> {
        self.last_step.as_deref()
    }
}

/// A step in a few words, for example `assert_screen grub-prompt`.
pub(crate) fn step_title(step: &Step) -> String {
    let what = step_subject(step);
    if what.is_empty() { step.call.clone() } else { format!("{} {what}", step.call) }
}

/// What a step was about, without its call: tags, patterns or a title.
pub(crate) fn step_subject(step: &Step) -> String {
    match &step.body {
        StepBody::Look { tags, .. } => tags.join(" or "),
        StepBody::Screenshot => String::new(),
        StepBody::Text { title, .. } => title.clone(),
        StepBody::Serial { patterns, .. } => patterns.join(" or "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"type":"plan","modules":[{"name":"boot","file":"tests/boot.star"},{"name":"shell","file":"tests/shell.star"}]}"#,
        "\n",
        r#"{"type":"environment","facts":[["accelerator","tcg"]]}"#,
        "\n",
        r#"{"type":"module_started","module":"boot","at_us":1}"#,
        "\n",
        r#"{"type":"step","module":"boot","number":1,"at_us":5,"duration_us":4,"call":"record_info","source":null,"result":"ok","screenshot":null,"body":{"kind":"text","title":"hello","output":"x"}}"#,
        "\n",
        r#"{"type":"module_ended","module":"boot","result":"passed","at_us":9,"duration_us":8}"#,
        "\n",
        r#"{"type":"module_started","module":"shell","at_us":10}"#,
        "\n",
        r#"{"type":"step","module":"shell","number":1,"at_us":15,"duration_us":4,"call":"assert_screen","source":null,"result":"fail","screenshot":null,"body":{"kind":"look","tags":["sh"],"timeout_s":3.0,"matched":null,"candidates":[]}}"#,
        "\n",
    );

    #[test]
    fn a_run_is_read_as_far_as_it_was_written() {
        let run = Run::parse(format!("{LINES}{{\"type\":\"module_en").as_bytes());
        assert_eq!(run.unreadable, 0, "an unfinished last line is no fault");
        assert_eq!(
            run.modules.iter().map(|m| (m.result, m.steps.len())).collect::<Vec<_>>(),
            [(ModuleResult::Passed, 1), (ModuleResult::Running, 1)]
        );
        assert_eq!(run.first_failure().map(|step| step.module.as_str()), Some("shell"));
        assert_eq!(run.ended().modules[1].result, ModuleResult::Cancelled);
    }

    #[test]
    fn published_files_and_results_are_kept_in_their_order() {
        let lines = concat!(
            r#"{"type":"artifact","path":"b","size":2,"sha256":"00","content_type":"text/plain","at_us":1}"#,
            "\n",
            r#"{"type":"test_cases","file":"j.xml","format":"junit","counts":{"failed":1},"failing":[{"name":"a.B.c","status":"failed","duration_us":5,"message":"no"}],"failing_left_out":0,"cases":"00","problems":[],"at_us":2}"#,
            "\n",
            r#"{"type":"artifact","path":"a","size":1,"sha256":"00","content_type":"text/plain","at_us":3}"#,
            "\n",
        );
        let run = Run::parse(lines.as_bytes());
        assert_eq!(run.artifacts.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(run.results[0].failing[0].name, "a.B.c");
        assert_eq!((run.unreadable, run.modules.len()), (0, 0));
    }

    #[test]
    fn broken_lines_are_counted_and_skipped() {
        let run = Run::parse(format!("what?\n\n{LINES}{{}}\n").as_bytes());
        assert_eq!((run.unreadable, run.modules.len()), (2, 2));
    }

    #[test]
    fn the_tail_gives_the_same_count_whatever_the_pieces() {
        for size in [1, 7, 100, 10_000] {
            let mut tail = Tail::default();
            LINES.as_bytes().chunks(size).for_each(|piece| tail.feed(piece));
            let progress = tail.progress().expect("records were fed");
            assert_eq!((progress.begun, progress.modules, progress.steps), (2, 2, 2), "pieces of {size}");
            assert_eq!(progress.module.as_deref(), Some("shell"));
            assert_eq!(tail.last_step(), Some("assert_screen sh"));
        }
    }

    #[test]
    fn an_endless_line_is_dropped_and_what_follows_is_read() {
        let mut tail = Tail::default();
        for _ in 0..6 {
            tail.feed(&vec![b'x'; 1024 * 1024]);
        }
        assert!(tail.partial.len() <= LONGEST_LINE + 1024 * 1024);
        tail.feed(b"\n");
        tail.feed(LINES.as_bytes());
        assert_eq!(tail.progress().map(|p| p.steps), Some(2));
    }
}
