//! The header of a task: `task.yaml` beside its program.
//!
//! ```yaml
//! name: rpmlint
//! description: what rpmlint says of every package of a build
//! testcase: dist.rpmlint
//! takes: [koji_build, bodhi_update]
//! run: ./rpmlint.py
//! input: {packages: [binary, source], baseline: optional, repositories: false}
//! timeout: 10m
//! resources: {memory: 2 GiB, disk: 10 GiB}
//! needs: [network]
//! ```

use crate::assay::quantity;
use crate::diagnostic::{Diagnostic, Sink};
use crate::read::{Fields, Reader, one_or_more};
use crate::yaml::{self, Dialect, Node, Rules};
use std::collections::BTreeSet;

/// The name of the file.
pub const FILE: &str = "task.yaml";
/// How long a task may run unless it says so.
const TIMEOUT: u64 = 30 * 60;
/// The longest time that it may ask for: a day.
const LONGEST: u64 = 24 * 60 * 60;

/// What a task says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskHeader {
    /// What it is called.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whom to ask about it.
    pub maintainer: String,
    /// The name of its result, and the beginning of the names of further ones.
    pub testcase: String,
    /// Types of items that it can look at.
    pub takes: Vec<String>,
    /// The program, relative to the header.
    pub run: String,
    /// What is fetched for it.
    pub packages: BTreeSet<PackageKind>,
    /// Whether it compares with the build before.
    pub baseline: Wanted,
    /// Whether it reads repositories of packages.
    pub repositories: bool,
    /// Seconds.
    pub timeout_s: u64,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of disk.
    pub disk: Option<u64>,
    /// Processes at one time.
    pub processes: Option<u64>,
    /// What it cannot do without.
    pub needs: BTreeSet<Need>,
}

/// What a job gives a task.
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer<'a> {
    /// What is looked at.
    pub item: &'a str,
    /// What kind of thing that is.
    pub kind: &'a str,
    /// The build before is known, or asked for.
    pub baseline: bool,
    /// Repositories of packages are named.
    pub repositories: bool,
    /// A machine that is thrown away afterwards.
    pub machine: bool,
    /// It is run by `assay run`, with options in place of a job's settings.
    pub by_hand: bool,
}

impl TaskHeader {
    /// True if it must not run on a machine that others use.
    pub fn needs_machine(&self) -> bool {
        self.needs.contains(&Need::Destructive) || self.needs.contains(&Need::OwnMachine)
    }

    /// Why the task does not run with this; none if it does.
    pub fn refuses(&self, offer: &Offer<'_>) -> Option<String> {
        let name = &self.name;
        if !self.takes.iter().any(|kind| kind == offer.kind) {
            let takes = self.takes.join(", ");
            return Some(format!("the task {name} takes {takes}, and {} is a {}", offer.item, offer.kind));
        }
        if self.needs_machine() && !offer.machine {
            return Some(format!(
                "the task {name} needs a machine of its own; give the job TASK_MACHINE, the name of a section [tasks.machine.NAME] of \
                 assay.toml, or WORKER_CLASS=shell,disposable and start on such a machine: assay worker --class shell,disposable --once"
            ));
        }
        if self.baseline == Wanted::Required && !offer.baseline {
            let with = if offer.by_hand { "--baseline NVR, or --baseline-packages DIR" } else { "BASELINE" };
            return Some(format!("the task {name} compares with the build before; name it with {with}"));
        }
        if self.repositories && !offer.repositories {
            let with =
                if offer.by_hand { "--repository NAME=DIR or NAME=URL" } else { "REPOSITORIES=NAME=ADDRESS" };
            return Some(format!("the task {name} reads repositories; name them with {with}"));
        }
        None
    }
}

/// Packages of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackageKind {
    /// Those of the architecture, and those of none.
    Binary,
    /// The source package.
    Source,
    /// Symbols for debuggers.
    Debug,
}

/// How much something is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// Not at all.
    #[default]
    No,
    /// If it is there.
    Optional,
    /// The task cannot run without it.
    Required,
}

/// What a task cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// To be root, in a namespace of its own.
    Root,
    /// The host's network.
    Network,
    /// It may break the machine that it runs on.
    Destructive,
    /// A machine that nobody else uses.
    OwnMachine,
}

const KINDS: [(&str, PackageKind); 3] =
    [("binary", PackageKind::Binary), ("source", PackageKind::Source), ("debug", PackageKind::Debug)];
const WANTED: [(&str, Wanted); 3] =
    [("no", Wanted::No), ("optional", Wanted::Optional), ("required", Wanted::Required)];
const NEEDS: [(&str, Need); 4] = [
    ("root", Need::Root),
    ("network", Need::Network),
    ("destructive", Need::Destructive),
    ("own-machine", Need::OwnMachine),
];

/// Reads a header. None if there is an error; everything that was found, in the order of the file.
pub fn load(name: &str, text: &str) -> (Option<TaskHeader>, Vec<Diagnostic>) {
    let mut sink = Sink::default();
    let file = sink.add_file(name, text);
    let root = yaml::parse(text, file, Rules::plain(Dialect::Yaml12), &mut sink);
    let mut reader = Reader::new(&mut sink, Dialect::Yaml12);
    let header = root.and_then(|root| header(&mut reader, &root));
    if header.is_none() && !sink.has_errors() {
        let place = crate::diagnostic::Place { file, line: 1, column: 1 };
        sink.error("empty", place, "the header is empty; it needs at least name, testcase, takes and run");
    }
    let failed = sink.has_errors();
    (header.filter(|_| !failed), sink.finish())
}

fn header(reader: &mut Reader<'_, '_>, root: &Node) -> Option<TaskHeader> {
    let mut fields = reader.fields(root, "a task")?;
    let mut needed = |reader: &mut Reader<'_, '_>, key: &'static str| {
        let node = reader.required(&mut fields, key)?;
        reader.name(node, key).map(|text| (text.to_owned(), node.place))
    };
    let name = needed(reader, "name");
    let testcase = needed(reader, "testcase");
    let run = needed(reader, "run");
    if let Some((text, place)) = &testcase {
        let odd = |part: &str| {
            part.is_empty() || part.contains(|c: char| !(c.is_ascii_alphanumeric() || "-_/".contains(c)))
        };
        if text.split('.').any(odd) {
            let message = format!(
                "`testcase` is `{text}`; expected words with dots between them, for example dist.rpmlint"
            );
            reader.sink.error("testcase", *place, message);
        }
    }
    if let Some((text, place)) = &run
        && (text.starts_with('/') || text.split('/').any(|part| part == ".."))
    {
        let message = format!("`run` is `{text}`; expected a program beside the header, for example ./run");
        reader.sink.error("run", *place, message);
    }
    let takes = reader.required(&mut fields, "takes").map(|node| {
        let takes: Vec<String> = reader.texts(node, "takes").into_iter().map(str::to_owned).collect();
        if takes.is_empty() {
            let message = "`takes` is empty; expected types of items, for example koji_build";
            reader.sink.error("takes", node.place, message);
        }
        takes
    });
    let mut told = |reader: &mut Reader<'_, '_>, key: &'static str| {
        fields.get(key).and_then(|node| reader.text(node, key)).unwrap_or_default().to_owned()
    };
    let (description, maintainer) = (told(reader, "description"), told(reader, "maintainer"));
    let (packages, baseline, repositories) = input(reader, &mut fields);
    let timeout_s = timeout(reader, &mut fields);
    let (memory, disk, processes) = resources(reader, &mut fields);
    let needs = fields.get("needs").map(|node| words(reader, node, "needs", &NEEDS)).unwrap_or_default();
    reader.finish(fields);
    Some(TaskHeader {
        name: name?.0,
        description,
        maintainer,
        testcase: testcase?.0,
        takes: takes?,
        run: run?.0,
        packages,
        baseline,
        repositories,
        timeout_s,
        memory,
        disk,
        processes,
        needs,
    })
}

fn words<T: Copy + Ord>(
    reader: &mut Reader<'_, '_>,
    node: &Node,
    what: &str,
    known: &[(&str, T)],
) -> BTreeSet<T> {
    one_or_more(node).into_iter().filter_map(|node| reader.word(node, what, known)).collect()
}

fn input(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> (BTreeSet<PackageKind>, Wanted, bool) {
    let nothing = (BTreeSet::new(), Wanted::No, false);
    let Some(mut fields) = fields.get("input").and_then(|node| reader.fields(node, "`input`")) else {
        return nothing;
    };
    let packages =
        fields.get("packages").map(|node| words(reader, node, "packages", &KINDS)).unwrap_or_default();
    let baseline = fields.get("baseline").and_then(|node| reader.word(node, "baseline", &WANTED));
    let repositories = fields.get("repositories").and_then(|node| reader.boolean(node, "repositories"));
    reader.finish(fields);
    (packages, baseline.unwrap_or_default(), repositories.unwrap_or_default())
}

fn timeout(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> u64 {
    let Some(node) = fields.get("timeout") else { return TIMEOUT };
    let Some(seconds) = quantity::seconds(reader, node, "timeout") else { return TIMEOUT };
    if !(1..=LONGEST).contains(&seconds) {
        reader.sink.error("duration", node.place, "`timeout`: expected a time from 1s to 24h");
    }
    seconds
}

type Resources = (Option<u64>, Option<u64>, Option<u64>);

fn resources(reader: &mut Reader<'_, '_>, fields: &mut Fields<'_>) -> Resources {
    let Some(mut fields) = fields.get("resources").and_then(|node| reader.fields(node, "`resources`")) else {
        return (None, None, None);
    };
    let mut size = |reader: &mut Reader<'_, '_>, key| {
        fields.get(key).and_then(|node| quantity::bytes(reader, node, key))
    };
    let (memory, disk) = (size(reader, "memory"), size(reader, "disk"));
    let processes = fields.get("processes").and_then(|node| reader.number(node, "processes", 1));
    reader.finish(fields);
    (memory, disk, processes.map(u64::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
name: abicheck
description: what libraries offer may not go away
testcase: dist.abicheck
takes: [koji_build]
run: ./abicheck.py
input:
  packages: [binary, debug]
  baseline: optional
  repositories: true
timeout: 20m
resources: {memory: 6 GiB, disk: 10 GiB, processes: 200}
needs: [root, network]
";

    #[test]
    fn a_whole_header() {
        let (header, found) = load("task.yaml", GOOD);
        let header = header.unwrap_or_else(|| panic!("{found:#?}"));
        assert_eq!((header.testcase.as_str(), header.timeout_s), ("dist.abicheck", 1200));
        assert_eq!(header.packages, BTreeSet::from([PackageKind::Binary, PackageKind::Debug]));
        assert_eq!((header.baseline, header.repositories), (Wanted::Optional, true));
        assert_eq!((header.memory, header.processes), (Some(6 << 30), Some(200)));
        assert_eq!(header.needs, BTreeSet::from([Need::Root, Need::Network]));
        let short = "{name: x, testcase: scratch.x, takes: koji_build, run: run}";
        let header = load("task.yaml", short).0.expect("the shortest header");
        assert_eq!((header.takes[0].as_str(), header.timeout_s), ("koji_build", 1800));
    }

    #[test]
    fn what_a_job_lacks_is_named_as_whoever_runs_it_says_it() {
        let header = load("task.yaml", &GOOD.replace("optional", "required")).0.expect("a header");
        let offer = Offer { item: "x-1-1", kind: "koji_build", ..Offer::default() };
        for (baseline, by_hand, wanted) in [
            (false, false, "name it with BASELINE"),
            (false, true, "name it with --baseline NVR"),
            (true, false, "name them with REPOSITORIES=NAME=ADDRESS"),
            (true, true, "name them with --repository NAME=DIR"),
        ] {
            let said = header.refuses(&Offer { baseline, by_hand, ..offer }).expect("it lacks something");
            assert!(said.contains(wanted), "{said}");
        }
        assert_eq!(header.refuses(&Offer { baseline: true, repositories: true, ..offer }), None);
    }

    #[test]
    fn everything_wrong_is_said_with_its_place() {
        let text = "name: x\ntestcase: dist rpmlint\nrun: ../x\ntakes: []\ntimeout: 3d\nneeds: [rot]\ninput: {packages: [src], baselin: no}\nresources: {memory: much}\nextra: 1\n";
        let (header, found) = load("task.yaml", text);
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(header.is_none());
        for part in [
            "task.yaml:2:11: error: `testcase` is `dist rpmlint`",
            "task.yaml:3:6: error: `run` is `../x`",
            "task.yaml:4:8: error: `takes` is empty",
            "task.yaml:5:10: error: `timeout`: expected a time from 1s to 24h",
            "task.yaml:6:9: error: `needs` is `rot`",
            "did you mean `root`?",
            "`packages` is `src`; expected binary, source or debug",
            "did you mean `baseline`?",
            "task.yaml:8:21: error: `memory`: expected a size",
            "task.yaml:9:1: error: unknown key `extra`",
        ] {
            assert!(found.iter().any(|one| one.contains(part)), "{part}: {found:#?}");
        }
        for (text, wanted) in
            [("", "the header is empty"), ("- a", "expected a mapping"), ("name: x", "needs the key `takes`")]
        {
            let (header, found) = load("task.yaml", text);
            assert!(
                header.is_none() && found.iter().any(|one| one.to_string().contains(wanted)),
                "{text}: {found:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_may_stand_in_a_header(text in "(name: x\n|testcase: |a\\.b\n|takes: \\[|\\]\n|needs: root\n|timeout: 5m\n|input:\n|  packages: binary\n|resources: \\{|memory: 1 GiB\\}\n|run: r\n|\\PC{0,20}\n){0,12}") {
            let (header, found) = load("task.yaml", &text);
            assert_eq!(header.is_none(), found.iter().any(Diagnostic::is_error));
        }
    }
}
