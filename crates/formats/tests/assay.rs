//! Assay's own YAML: what it means, what is refused, and that what is written is read back as the same.

use assay_engine::gate::config::{
    Config, EventKind, Growth, LandingWay, Manager, MergeMode, Precedence, ReportAction,
};
use assay_engine::gate::ids::{JobName, SemaphoreName};
use assay_formats::assay::{load, load_over, to_files};
use assay_formats::{remarks, zuul};
use camino::Utf8PathBuf;
use serde_json::{Value, json};

fn good(text: &str) -> Config {
    let loaded = load(&[("a.yaml", text)]);
    let said: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    loaded.config.unwrap_or_else(|| panic!("{said:#?}"))
}

fn said(text: &str) -> Vec<String> {
    load(&[("a.yaml", text)]).diagnostics.iter().map(ToString::to_string).collect()
}

/// Written and read again.
fn again(config: &Config) -> Config {
    let files = to_files(config);
    let sources: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let loaded = load(&sources);
    let said: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    let read = loaded.config.unwrap_or_else(|| panic!("{said:#?}"));
    Config { hash: config.hash.clone(), places: config.places.clone(), ..read }
}

fn assert_same(ours: &Config, expected: &Config) {
    for (ours, expected) in ours.pipelines.iter().zip(&expected.pipelines) {
        assert_eq!(ours, expected);
    }
    for (name, expected) in &expected.jobs {
        assert_eq!(ours.jobs.get(name), Some(expected));
    }
    for (name, expected) in &expected.projects {
        assert_eq!(ours.projects.get(name), Some(expected));
    }
    assert_eq!(ours, expected);
}

/// The examples of the documentation, in their order.
fn documented() -> Vec<String> {
    let file = Utf8PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gating.md"));
    let text = fs_err::read_to_string(file).expect("the page");
    let blocks = text.split("```yaml\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_documented_examples_work() {
    let examples = documented();
    assert!(examples.len() >= 2, "{}", examples.len());
    for example in &examples {
        assert!(said(example).is_empty(), "{:#?}\n{example}", said(example));
        let config = good(example);
        assert_same(&again(&config), &config);
    }
    // The first is the shortest gate there is.
    let first = good(&examples[0]);
    let names: Vec<&str> = first.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    assert_eq!(names, ["check", "gate"]);
    assert!(first.jobs.values().any(|job| job.task.is_some()));
}

const EVERYTHING: &str = r#"
landing: push
pipelines:
  - check
  - template: gate
    name: land
    source: review
    window: {start: 5, floor: 2, ceiling: 40, increase: {exponential: 2}, decrease: {linear: 3}}
  - name: nightly
    manager: serial
    precedence: high
    description: |
      Two
      lines
    trigger:
      - time: "0 6 * * mon-fri"
      - event: project-change-merged
        require: {username: "^ci$", older-than: 2h, Verified: [-1, -2]}
      - source: other
        event: ref-.*
        branch: [a, b]
        ref: ^refs/tags/
        ignore-deletes: false
        comment: (?i)x
        email: "@x"
        username: me
        approval: [{Code-Review: 2}, {Verified: 1}]
        reject: [{email: y, newer-than: 1d}]
    require: {open: false, current-patchset: true, status: [NEW, DRAFT], approval: {Code-Review: 2}}
    reject: [{Code-Review: -2}]
    start: {review: {}}
    success:
      - {review: {Verified: 1}, source: other, submit: true, flags: {notify: NONE, force-message: ""}}
      - {mail: a@b, from: c@d, subject: "{change} ok"}
    failure: {sql: -1, source: db}
    merge-failure: {sql: {}}
    disabled: [{mail: x@y, source: relay}]
    messages: {success: "Good: yes", failure: no, merge-failure: "a\nb", footer: " x "}
    dequeue-on-new-patchset: false
    ignore-dependencies: true
    disable-after: 4
    landing: submit
queues:
  - {name: all, projects: [org/a, org/b], allow-cycles: true}
templates:
  basic: {check: unit, land: [unit, {image: [boot, noop]}]}
projects:
  org/a: {templates: basic, check: [lint], merge-mode: cherry-pick}
  org/b: {templates: [basic], nightly: boot}
semaphores: {lab: 3}
jobs:
  unit: {run: make check}
  lint:
    run: [make lint, {name: style, script: "./style\n", shell: /usr/bin/python3}]
    voting: false
    attempts: 1
    files: ["^src/"]
    branches: ^master$
    skip-if: {project: ^org/a$, branch: x, all-files-match-any: [^docs/, .*\.md]}
    hold-following-changes: true
    semaphores: lab
    success-message: GOOD
    failure-message: BAD
    success-pattern: "https://x/{change.number}"
    failure-pattern: y
    tags: [t1]
  image:
    pre: {steps: apt-get update, budget: 5m}
    run: |
      #!/bin/sh
        indented
      make
    post: {steps: [a, b], budget: 1h, grace: 10, secrets: [TOKEN]}
    collect: cp -r /var/log "$WORKSPACE/logs"
    budget: 2h
    grace: 45s
    secrets: [KEY, TOKEN]
    env: {A: "1", B: 2, C: "yes", D: ""}
    labels: [big, kvm]
    single-use: true
    projects: [org/b, {name: org/c, dest: c, branch: stable, tree: old}]
    clonemap: {name: "org/(.*)", dest: '\1'}
    workspace-budget: 10m
    artifacts: [logs/**]
    results: [junit.xml]
    network: host
    limits: {disk: 5 GiB, log: 1 MiB, processes: 100, memory: 2 GB, artifacts: 10, artifact-bytes: 7}
  pure: {run: make, hermetic: true, projects: org/b}
  boot: {imported: true, env: {X: y}, parameter-function: f, queue-name: q, labels: l}
"#;

#[test]
fn everything_is_read() {
    let config = good(EVERYTHING);
    let [check, land, nightly] = config.pipelines.as_slice() else { panic!("three pipelines") };
    assert_eq!((check.manager, check.landing), (Manager::Independent, LandingWay::Push));
    assert_eq!(land.name.as_str(), "land");
    assert_eq!(
        (land.manager, land.landing, land.precedence),
        (Manager::Dependent, LandingWay::Push, Precedence::High)
    );
    assert!(land.triggers.iter().all(|trigger| trigger.source.as_str() == "review"));
    assert_eq!((land.window.start, land.window.ceiling), (5, Some(40)));
    assert_eq!((land.window.increase, land.window.decrease), (Growth::Exponential(2), Growth::Linear(3)));
    assert_eq!((land.queues.len(), land.queues[0].projects.len(), land.queues[0].allow_cycles), (1, 2, true));
    assert!(check.queues.is_empty() && nightly.queues.len() == 1);

    let [timer, merged, other] = nightly.triggers.as_slice() else { panic!("three triggers") };
    assert_eq!((timer.source.as_str(), timer.time.as_deref()), ("timer", Some("0 6 * * mon-fri")));
    assert!(timer.events[0].matches_start(EventKind::Timer.word()));
    assert_eq!(merged.source.as_str(), "zuul");
    assert_eq!(merged.require[0].older_than_us, Some(7_200_000_000));
    assert_eq!(merged.require[0].labels, [("Verified".to_owned(), vec![-1, -2])]);
    assert_eq!((other.source.as_str(), other.ignore_deletes), ("other", false));
    assert_eq!(other.approvals, [("Code-Review".to_owned(), 2), ("Verified".to_owned(), 1)]);
    assert_eq!(nightly.description.as_deref(), Some("Two\nlines\n"));
    assert_eq!(nightly.messages.failure, "no");
    assert_eq!(
        nightly.reporters.merge_failure,
        Some(vec![ReportAction::Sql { source: "sql".into(), score: None }])
    );
    assert_eq!(nightly.landing, LandingWay::Submit);

    let a = &config.projects["org/a"];
    assert_eq!(a.merge_mode, MergeMode::CherryPick);
    let names =
        |pipeline: &str| a.pipelines[pipeline].iter().map(|node| node.job.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names("check"), names("land")),
        (vec!["unit".to_owned(), "lint".into()], vec!["unit".into(), "image".into()])
    );
    assert_eq!(a.pipelines["land"][1].children.len(), 2);
    assert!(config.jobs.contains_key("noop") && config.jobs["boot"].task.is_none());
    let image = &config.jobs["image"];
    assert!(config.jobs["pure"].hermetic && image.single_use && image.env.is_empty());
    let projects: Vec<&str> =
        image.projects.iter().map(assay_engine::gate::ids::ProjectName::as_str).collect();
    assert_eq!(projects, ["org/b", "org/c"]);
    assert_eq!(config.semaphores["lab"], 3);
}

/// What its result depends on is in its evidence, or it is not hermetic.
#[test]
fn a_hermetic_job_depends_on_its_trees_only() {
    let imported = said("jobs:\n  a: {imported: true, hermetic: true}\n");
    assert!(imported[0].contains("is hermetic and has `imported`"), "{imported:?}");
    for (more, what) in [
        ("projects: [{name: b, branch: stable}]", "`branch` or `tree: old` of a project"),
        ("projects: [{name: b, tree: old}]", "`branch` or `tree: old` of a project"),
        ("network: host", "`network: host`"),
        ("secrets: [KEY]", "`secrets`"),
        ("post: {steps: [a], secrets: [KEY]}", "`secrets`"),
    ] {
        let text = format!("jobs:\n  a: {{run: x, hermetic: true, {more}}}\n");
        let found = said(&text);
        assert!(
            found.iter().any(|found| found.contains(&format!("is hermetic and has {what}"))),
            "{found:?}"
        );
        let found = said(&text.replace("hermetic: true, ", ""));
        assert!(!found.iter().any(|found| found.contains("hermetic")), "{found:?}");
    }
}

#[test]
fn what_is_written_is_read_back() {
    let config = good(EVERYTHING);
    assert_same(&again(&config), &config);
}

/// The shape is `assay_proto::task::Task`'s.
#[test]
fn the_task_is_what_a_worker_reads() {
    let config = good(EVERYTHING);
    let task: Value =
        serde_json::from_str(config.jobs["image"].task.as_deref().expect("a task")).expect("JSON");
    let expected = json!({
        "name": "image",
        "pre": {"steps": [{"script": "apt-get update"}], "budget_s": 300},
        "run": {
            "steps": [{"script": "#!/bin/sh\n  indented\nmake\n"}],
            "budget_s": 7200, "grace_s": 45, "secrets": ["KEY", "TOKEN"],
        },
        "post": {"steps": [{"script": "a"}, {"script": "b"}], "budget_s": 3600, "grace_s": 10, "secrets": ["TOKEN"]},
        "collect": {"steps": [{"script": "cp -r /var/log \"$WORKSPACE/logs\""}]},
        "env": {"A": "1", "B": "2", "C": "yes", "D": ""},
        "workspace": {
            "origin": "",
            "projects": [{"name": "org/b"}, {"name": "org/c", "dest": "c", "branch": "stable", "tree": "old"}],
            "clonemap": [{"name": "org/(.*)", "dest": "\\1"}],
            "budget_s": 600,
        },
        "artifacts": ["logs/**"],
        "results": ["junit.xml"],
        "network": "host",
        "limits": {
            "disk_bytes": 5_368_709_120_u64, "log_bytes": 1_048_576, "processes": 100,
            "memory_bytes": 2_000_000_000, "artifacts": 10, "artifact_bytes": 7,
        },
    });
    assert_eq!(task, expected);
    for job in config.jobs.values() {
        let Some(text) = &job.task else { continue };
        let mut task: assay_proto::task::Task = serde_json::from_str(text).expect("a task");
        for phase in assay_proto::task::PhaseName::ALL {
            for name in &task.phase(phase).secrets.clone() {
                task.secrets.insert(name.clone(), assay_proto::task::Secret("x".into()));
            }
        }
        task.check().unwrap_or_else(|error| panic!("{}: {error}", job.name));
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = r"
landing: pull
pipelines:
  - chek
  - name: gate
    manager: dependant
    trigger:
      - event: coment-added
      - {time: '* * *'}
      - {event: patchset-created, ref: x, brunch: y}
      - {comment: '(unclosed'}
    success: [{revue: {}}, {review: {A: b}}]
    window: {floor: 0, increase: {cubic: 1}}
  - name: check
    manager: independent
    trigger: []
  - name: templates
    manager: serial
    trigger: []
queues:
  - {name: q, projects: [nova, nona], pipelines: [gat, check]}
  - {name: r, projects: [nova], pipelines: gate}
  - {name: r, projects: [nova], pipelines: gate}
projects:
  nova:
    merge-mode: cherry
    check: [unti, {loop: [unit, {loop: x}]}, unit]
    gaet: unit
    templates: no-such
jobs:
  unit: {run: x, voting: maybe, attempts: 0, labls: y, env: {A-B: 1}, secrets: [1x]}
  idle: {}
  loop: {run: {steps: [], budget: soon}, limits: {disk: 3 parsecs}, projects: [x y, {nam: z}]}
  both: {run: x, imported: true}
  late: {run: {script: x}, collect: {steps: x, secrets: [A]}}
  a b: {run: x}
jobbs: {}
";
    let said = said(text);
    let expected = [
        "2:10: error: `landing` is `pull`; expected submit or push",
        "4:5: error: there is no built-in pipeline `chek`; expected one, or a mapping that describes it; did you mean `check`?",
        "6:14: error: `manager` is `dependant`; expected independent, dependent, supercedent or serial; did you mean `dependent`?",
        "8:16: error: there is no event `coment-added`; did you mean `comment-added`?",
        "9:16: error: `time` is no cron line: 3 fields",
        "10:9: error: `ref` restricts an event that has none",
        "10:43: error: unknown key `brunch` of a trigger; did you mean `branch`?",
        "11:19: error: `comment` is no regular expression",
        "12:15: error: expected exactly one of `review`, `mail` and `sql`",
        "12:41: error: `A`: expected a vote",
        "13:21: error: `floor` is 0; expected a whole number from 1 on",
        "13:35: error: unknown key `cubic` of the growth of a window",
        "17:5: error: `templates` is a key of projects",
        "21:32: error: there is no project `nona`; did you mean `nova`?",
        "21:51: error: there is no pipeline `gat`; did you mean `gate`?",
        "21:56: error: `check` has no queues",
        "23:5: error: the queue `r` is already in `gate`",
        "23:5: error: `nova` is already in the queue `r` of `gate`",
        "25:3: error: in `check` the job `loop` waits for itself: loop → loop",
        "26:17: error: `merge-mode` is `cherry`",
        "27:13: error: there is no job `unti`; did you mean `unit`?",
        "27:40: error: there is no job `x`",
        "28:5: error: unknown key `gaet` of a project; expected the name of a pipeline; did you mean `gate`?",
        "29:16: error: there is no template `no-such`",
        "31:26: error: `voting`: expected true or false, found text",
        "31:43: error: `attempts` is 0",
        "31:46: error: unknown key `labls` of a job; did you mean `labels`?",
        "31:67: error: `A-B` is no name of a variable",
        "31:81: error: `1x` is no name of a variable",
        "32:3: error: the job `idle` does nothing",
        "33:23: error: `run` has no step",
        "33:35: error: `budget`: expected a time",
        "33:57: error: `disk`: expected a size",
        "34:3: error: `imported` says",
        "35:58: error: `collect` gets no secrets",
        "36:3: error: the job's name `a b` is empty or holds blanks",
        "37:1: error: unknown key `jobbs` of a configuration; did you mean `jobs`?",
    ];
    for expected in expected {
        let expected = format!("a.yaml:{expected}");
        assert!(said.iter().any(|line| line.starts_with(&expected)), "missing: {expected}\n{said:#?}");
    }
    // And nothing that follows from another finding only.
    assert!(said.len() <= expected.len() + 6, "{said:#?}");
}

#[test]
fn files_are_one_configuration() {
    let sources =
        [("b.yaml", "jobs:\n  unit: {run: x}\n"), ("a.yaml", "pipelines: [check]\njobs: {unit: {run: y}}\n")];
    let loaded = load(&sources);
    assert!(loaded.config.is_none());
    let said: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["a.yaml:2:8: error: the job `unit` is already in b.yaml:2; expected it once"]);
    assert_eq!(
        said_of_nothing(),
        [
            "a.yaml: error: there is nothing in it; expected `pipelines`, `projects` and `jobs` (docs/gating.md)"
        ]
    );
}

fn said_of_nothing() -> Vec<String> {
    said("# nothing\n")
}

#[test]
fn an_imported_layout_is_written_and_read_back() {
    let text = include_str!("layouts/everything.yaml");
    let import = zuul::import(text, "layout.yaml", &zuul::Options::default());
    let config = import.config.unwrap_or_else(|| panic!("{:#?}", import.diagnostics));
    assert_same(&again(&config), &config);
}

#[test]
fn what_is_wrong_with_a_value_that_another_one_hides_is_said_too() {
    let text = "pipelines: [check]\nprojects:\n  a:\n    check: [unit]\n    check: [unit, more]\njobs:\n  unit:\n    run: make\n    \
                atempts: 2\n    voting: perhaps\n  more: {run: x}\n  unit: {run: make, budget: soon}\n";
    let found = assay_formats::assay::load(&[("f", text)]).diagnostics;
    let found: Vec<(u32, &str)> = found.iter().map(|one| (one.line, one.code)).collect();
    let lines: Vec<u32> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [5, 9, 10, 12, 12], "{found:?}");
    assert_eq!(found.iter().filter(|(_, code)| *code == "duplicate-key").count(), 2, "{found:?}");
}

#[test]
fn jobs_beside_a_layout_say_what_its_jobs_do() {
    let layout = "pipelines:\n  - name: check\n    manager: IndependentPipelineManager\n    trigger: {gerrit: [{event: patchset-created}]}\n\
                  jobs:\n  - {name: unit, voting: false, branch: ^master$, failure-message: Broken, mutex: db}\n\
                  projects:\n  - {name: a, check: [unit, lint, noop]}\n";
    let import = zuul::import(layout, "layout.yaml", &zuul::Options::default());
    let layout = import.config.expect("a layout");
    let over = |text: &str| load_over(Some(layout.clone()), &[("jobs.yaml", text)]);
    let remarks = |config: &Config| -> Vec<String> {
        remarks(config, "layout.yaml").iter().map(ToString::to_string).collect()
    };
    assert!(remarks(&layout)[0].contains("for 2 jobs (lint, unit)"), "{:?}", remarks(&layout));

    let text = "jobs:\n  unit: {run: make, labels: [big], failure-message: Very broken, single-use: true}\n\
                semaphores: {db: 2}\n";
    let read = over(text);
    assert!(read.diagnostics.is_empty(), "{:?}", read.diagnostics);
    let config = read.config.expect("a configuration");
    let (before, unit) = (&layout.jobs[&JobName::from("unit")], &config.jobs[&JobName::from("unit")]);
    assert!(unit.task.is_some() && unit.labels.contains("big"));
    assert_eq!(unit.failure_message.as_deref(), Some("Very broken"));
    assert_eq!(
        (unit.voting, &unit.branches, &unit.semaphores),
        (false, &before.branches, &before.semaphores),
        "what is not said stays"
    );
    assert_eq!(config.semaphores[&SemaphoreName::from("db")], 2);
    assert_eq!((&config.pipelines, &config.projects), (&layout.pipelines, &layout.projects));
    assert_ne!(config.hash, layout.hash);
    let said = remarks(&config);
    assert!(
        said[0].contains("for 1 job (lint)") && said[1].contains("`single-use` of 1 job (unit)"),
        "{said:?}"
    );

    for (text, expected) in [
        ("projects: {a: {check: [unit]}}\n", "jobs.yaml:1:1: error: `projects` stands in the layout"),
        (
            "jobs: {unti: {run: make}}\n",
            "jobs.yaml:1:8: warning: no project of the layout has the job `unti`",
        ),
        ("jobs: {unit: {voting: true}}\n", "jobs.yaml:1:8: error: the job `unit` does nothing"),
        ("jbos: {}\n", "jobs.yaml:1:1: error: "),
    ] {
        let read = over(text);
        let said = read.diagnostics.first().map(ToString::to_string).unwrap_or_default();
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(read.config.is_none(), expected.contains("error"), "{text}");
    }
}

/// Zuul's people name jobs by expressions; so they can say what they do.
#[test]
fn expressions_beside_a_layout_define_many_jobs_at_once() {
    let layout = "pipelines:\n  - name: check\n    manager: IndependentPipelineManager\n    trigger: {gerrit: [{event: patchset-created}]}\n\
                  jobs:\n  - {name: gate-b-pep8, voting: false}\n\
                  projects:\n  - {name: a, check: [gate-a-pep8, gate-a-docs, noop]}\n  - {name: b, check: [gate-b-pep8, odd]}\n";
    let layout = zuul::import(layout, "layout.yaml", &zuul::Options::default()).config.expect("a layout");
    let over = |text: &str| load_over(Some(layout.clone()), &[("jobs.yaml", text)]);
    let read = over(
        "jobs:\n  ^.*-pep8$: {run: tox -e pep8, attempts: 2}\n  gate-a-docs: {run: own}\n  ^gate-.*: {run: never}\n  \
         ^od: {run: odd, imported: maybe}\n",
    );
    let said: Vec<String> = read.diagnostics.iter().map(ToString::to_string).collect();
    // A fault is said once, and an expression that has nothing left is named.
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].starts_with("jobs.yaml:4:3: warning: `^gate-.*` fits no job of the layout"), "{said:#?}");
    assert!(said[1].starts_with("jobs.yaml:5:") && said[1].contains("error: `imported`"), "{said:#?}");

    let read = over(
        "jobs:\n  ^gate-a-docs: {run: never}\n  ^gate-: {run: tox}\n  gate-a-docs: {run: own}\n  odd: {run: x}\n",
    );
    let config = read.config.expect("a configuration");
    let task = |name: &str| config.jobs[&JobName::from(name)].task.as_deref().unwrap_or_default().to_owned();
    for (job, script) in
        [("gate-a-pep8", "tox"), ("gate-b-pep8", "tox"), ("gate-a-docs", "own"), ("odd", "\"x\"")]
    {
        assert!(task(job).contains(script), "{job}: {}", task(job));
    }
    assert!(!config.jobs[&JobName::from("gate-b-pep8")].voting, "what is not said stays");
    assert_eq!(config.jobs[&JobName::from("gate-b-pep8")].name.as_str(), "gate-b-pep8");
    assert!(!config.jobs.contains_key(&JobName::from("^gate-")) && task("noop").is_empty());
    let said: Vec<String> = over("jobs: {'^(': {run: x, bogus: 1}, '^a [b]': {run: y}}\n")
        .diagnostics
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[0].starts_with("jobs.yaml:1:8: error: `^(` is no regular expression"), "{said:#?}");
    assert!(
        said[1].contains("unknown key `bogus`") && said[2].contains("warning: `^a [b]` fits no job"),
        "{said:#?}"
    );
}

#[test]
fn what_is_never_run_is_named_and_expressions_are_for_layouts() {
    let text =
        "pipelines: [check]\nprojects: {a: {check: [unit]}}\njobs:\n  unit: {run: x}\n  idle: {run: x}\n";
    let loaded = load(&[("a.yaml", text)]);
    let found: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["a.yaml:5:3: warning: no project has the job `idle`, so it is never run"]);
    assert!(loaded.config.is_some());
    let found = said(&text.replace("idle", "^i.*"));
    assert!(found[0].starts_with("a.yaml:5:3: error: `^i.*` is an expression"), "{found:?}");
}

#[test]
fn what_stands_twice_beside_a_layout_is_refused_as_in_a_whole_configuration() {
    let layout = "pipelines:\n  - name: check\n    manager: IndependentPipelineManager\n    trigger: {gerrit: [{event: patchset-created}]}\n\
                  projects:\n  - {name: a, check: [unit, lint]}\n";
    let layout = zuul::import(layout, "layout.yaml", &zuul::Options::default()).config.expect("a layout");
    let whole = "pipelines: [check]\nprojects: {a: {check: [unit, lint]}}\n";
    let unit = "jobs:\n  unit: {run: make}\n";
    for (files, expected) in [
        // One mapping, with a mistake in the value that does not count.
        (
            &["jobs:\n  unit:\n    run: make\n    atempts: 2\n  lint: {run: x}\n  unit: {run: make}\n"][..],
            &[("f0", 4, "unknown-key"), ("f0", 6, "duplicate-key")][..],
        ),
        (&["jobs:\n  unit: {run: make, run: make all}\n  lint: {run: x}\n"], &[("f0", 2, "duplicate-key")]),
        (
            &["jobs:\n  unit: {run: make}\njobs:\n  lint: {run: x}\n  unit: {run: x}\n"],
            &[("f0", 3, "duplicate-key")],
        ),
        // Two files.
        (&[unit, "jobs:\n  lint: {run: x}\n  unit: {run: make}\n"], &[("f1", 3, "duplicate-name")]),
        (
            &["jobs: {unit: {run: make}, lint: {run: x}}\nsemaphores: {db: 1}\n", "semaphores:\n  db: 2\n"],
            &[("f1", 2, "duplicate-name")],
        ),
    ] {
        let names: Vec<String> = (0..files.len()).map(|at| format!("f{at}")).collect();
        let beside: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(files.iter().copied()).collect();
        let read = load_over(Some(layout.clone()), &beside);
        assert!(read.config.is_none(), "{files:?}");
        let whole: Vec<(&str, &str)> = [("whole", whole)].into_iter().chain(beside).collect();
        for found in [&read.diagnostics, &load(&whole).diagnostics] {
            let found: Vec<(&str, u32, &str)> = (found.iter())
                .filter(|one| one.is_error())
                .map(|one| (one.file.as_str(), one.line, one.code))
                .collect();
            // In a whole configuration the jobs of a mapping that does not count are missed as well.
            let found: Vec<_> = found.into_iter().filter(|one| one.2 != "unknown-job").collect();
            assert_eq!(found, expected, "{files:?}");
        }
    }
}
