//! Zuul's layout: what each rule means and what is refused.

mod synthetic;

use assay_engine::gate::config::{Config, Growth, Manager, MergeMode, Precedence, ReportAction};
use assay_formats::zuul::{Import, Options, expanded_json, import};
use serde_json::json;

const EVERYTHING: &str = include_str!("layouts/everything.yaml");

fn read(text: &str) -> Import {
    import(text, "l.yaml", &Options::default())
}

fn said(text: &str) -> Vec<String> {
    read(text).diagnostics.iter().map(ToString::to_string).collect()
}

fn good(text: &str) -> Config {
    let import = read(text);
    import.config.unwrap_or_else(|| panic!("{:#?}", import.diagnostics))
}

/// A layout with these sections besides two pipelines.
fn layout(rest: &str) -> String {
    format!(
        "pipelines:\n- {{name: check, manager: IndependentPipelineManager, trigger: {{}}}}\n- {{name: gate, manager: DependentPipelineManager, trigger: {{}}, success: {{gerrit: {{submit: true}}}}}}\n{rest}"
    )
}

#[test]
fn everything_is_read() {
    let config = good(EVERYTHING);
    let [check, gate] = config.pipelines.as_slice() else { panic!("two pipelines") };
    assert_eq!((check.manager, check.precedence), (Manager::Independent, Precedence::Low));
    assert_eq!(check.require.approvals[0].older_than_us, Some(48 * 3600 * 1_000_000));
    assert_eq!(check.require.approvals[1].labels, [("Code-Review".to_owned(), vec![1, 2])]);
    assert!(check.require.approvals[1].email.is_some());
    assert_eq!((check.require.open, check.require.current_patchset), (Some(true), Some(true)));
    let [upload, comment, refs, zuul, timer] = check.triggers.as_slice() else { panic!("five triggers") };
    assert_eq!((upload.events.len(), upload.branches.len()), (2, 2));
    assert_eq!(comment.approvals, [("approved".to_owned(), 1), ("verified".to_owned(), 1)]);
    assert_eq!((comment.usernames.len(), comment.require.len(), comment.reject.len()), (2, 1, 1));
    assert!(!refs.ignore_deletes && upload.ignore_deletes);
    assert_eq!((zuul.source.as_str(), zuul.pipelines[0].as_str()), ("zuul", "gate"));
    assert_eq!((timer.source.as_str(), timer.time.as_deref()), ("timer", Some("0 6 * * mon-fri")));
    let ReportAction::Review { labels, flags, .. } = &check.reporters.success[0] else { panic!("a review") };
    assert_eq!((labels.as_slice(), flags.len()), ([("verified".to_owned(), 1)].as_slice(), 1));
    assert!(matches!(&check.reporters.failure[1], ReportAction::Mail { to, .. } if to == "a@b"));
    assert_eq!(
        check.reporters.merge_failure,
        Some(vec![ReportAction::Sql { source: "results".into(), score: Some(-1) }])
    );
    assert_eq!((check.disable_after, check.messages.footer.as_str()), (Some(3), "-- \nfooter\n"));
    assert_eq!((gate.window.start, gate.window.floor), (10, 5));
    assert_eq!((gate.window.increase, gate.window.decrease), (Growth::Exponential(2), Growth::Linear(3)));
    assert_eq!(gate.triggers[0].comments[0].as_str(), "merge it");
    assert_eq!(gate.reporters.merge_failure, None);
    assert_eq!(config.projects["org/nova"].merge_mode, MergeMode::CherryPick);
    assert_eq!(config.projects["org/glance"].merge_mode, MergeMode::MergeResolve);
    let said = said(EVERYTHING);
    assert!(
        said.iter().all(|line| line.contains("note:") || line.contains("swift") || line.contains("Swift")),
        "{said:#?}"
    );
}

/// §1.6: the stanzas for many jobs add up in the order of the file, then the job's own.
#[test]
fn stanzas_add_up() {
    let config = good(EVERYTHING);
    let dsvm = &config.jobs["gate-nova-dsvm"];
    assert!(dsvm.voting && dsvm.hold_following && dsvm.semaphores.contains("dsvm"));
    assert_eq!((dsvm.attempts, dsvm.queue_name.as_deref()), (5, Some("integrated")));
    assert_eq!(dsvm.tags.iter().map(String::as_str).collect::<Vec<_>>(), ["all", "dsvm"]);
    assert_eq!(dsvm.parameter_function.as_deref(), Some("reusable_node"));
    assert_eq!((dsvm.skip_if.len(), dsvm.skip_if[0].all_files_match_any.len()), (2, 2));
    let unit = &config.jobs["gate-nova-unit27"];
    assert!(unit.single_use && unit.env["OFFLINE_NODE_WHEN_COMPLETE"] == "1" && !dsvm.single_use);

    let text = layout(
        "jobs:\n- {name: ^a, voting: false, branch: x, queue-name: q, attempts: 9}\n- {name: ab, branch: ''}\n- {name: ^ab, files: [f, g], voting: true, hold-following-changes: false}\n- {name: ^abc, branch: [y]}\nprojects:\n- {name: p, check: [ab, abc, abd]}\n",
    );
    let config = good(&text);
    let of = |name: &str| {
        let job = &config.jobs[name];
        let branches: Vec<&str> =
            job.branches.iter().map(assay_engine::gate::pattern::Pattern::as_str).collect();
        (job.voting, branches.join(","), job.files.len(), job.attempts, job.queue_name.clone())
    };
    assert!(!of("ab").0);
    assert_eq!(of("abc"), (true, "y".to_owned(), 2, 3, None));
    assert_eq!(of("abd"), (true, "x".to_owned(), 2, 3, None));
    let said = said(&text);
    assert!(said.iter().any(|line| line.contains("`^ab` fits `ab`, which stands above")), "{said:#?}");
    assert_eq!(said.iter().filter(|line| line.contains("has no effect")).count(), 2, "{said:#?}");
}

#[test]
fn trees_of_templates_come_first_and_merge() {
    let config = good(&layout(
        "project-templates:\n- {name: one, check: [a, {'b-{name}': [c]}]}\n- {name: two, check: [{'b-{name}': [d, c]}, a]}\nprojects:\n- {name: x/p, check: [e, {a: [f]}, [g, [h]]], template: [{name: two}, {name: one}]}\n- {name: q, check: []}\n",
    ));
    let all = expanded_json(&config);
    assert_eq!(
        all["pipelines"]["check"]["projects"]["x/p"],
        json!([{"job": "b-p", "children": ["d", "c"]}, {"job": "a", "children": ["f"]}, "e", "g", "h"])
    );
    assert_eq!(all["pipelines"]["check"]["projects"]["q"], json!([]));
}

#[test]
fn queues_are_explained() {
    let text = layout(
        "jobs: [{name: t, queue-name: T}]\nprojects:\n- {name: c, gate: [y, t]}\n- {name: a, gate: [x]}\n- {name: b, gate: [{x: [y]}]}\n- {name: d, gate: [noop]}\n- {name: e, gate: [noop, z]}\n- {name: f, check: [x]}\n- {name: g, gate: [z2, z3]}\n- {name: h, gate: [z3, z2]}\n",
    );
    let shape = |options: &Options| {
        let import = import(&text, "l.yaml", options);
        let queues = import.queues.iter().map(|queue| {
            let projects: Vec<&str> =
                queue.projects.iter().map(assay_engine::gate::ids::ProjectName::as_str).collect();
            let joins: Vec<String> =
                queue.joins.iter().map(|join| format!("{}={}", join.job, join.projects.len())).collect();
            format!(
                "{}{}: {} by {}",
                queue.name,
                if queue.named { "!" } else { "" },
                projects.join(" "),
                joins.join(" ")
            )
        });
        queues.collect::<Vec<_>>()
    };
    assert_eq!(shape(&Options::default()), ["T!: a b c by x=2 y=2", "g, h: g h by z2=2 z3=2"]);
    let noop = Options { noop_joins: true, ..Options::default() };
    assert_eq!(shape(&noop), ["T!: a b c by x=2 y=2", "d, e: d e by noop=2", "g, h: g h by z2=2 z3=2"]);
    let all = expanded_json(&good(&text));
    let queues = all["pipelines"]["gate"]["queues"].as_array().expect("queues");
    assert_eq!(queues.len(), 4);
    assert_eq!(queues[0], json!({"name": "T", "projects": ["a", "b", "c"]}));
    assert_eq!(queues[1], json!({"name": "d", "projects": ["d"]}));
    assert_eq!(all["pipelines"]["check"]["queues"], json!([]));
}

#[test]
fn queue_names_that_clash() {
    let said_of = |rest: &str| said(&layout(rest)).join("\n");
    let clash = said_of(
        "jobs: [{name: s, queue-name: S}, {name: t, queue-name: T}]\nprojects:\n- {name: a, gate: [s]}\n- {name: b, gate: [s, t]}\n",
    );
    assert!(
        clash.contains("more than one name for one change queue: `t` calls it `T`, `s` calls it `S`"),
        "{clash}"
    );
    let twice = said_of(
        "jobs: [{name: s, queue-name: Q}, {name: t, queue-name: Q}]\nprojects:\n- {name: a, gate: [s]}\n- {name: b, gate: [t]}\n",
    );
    assert!(twice.contains("warning: two queues of `gate` are called `Q`"), "{twice}");
}

#[test]
fn every_rule_at_once() {
    let text = include_str!("layouts/wrong.yaml");
    let import = read(text);
    assert!(import.config.is_none());
    let found: Vec<String> = import.diagnostics.iter().map(ToString::to_string).collect();
    // The file says in each line what is expected of it.
    let mut expected = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let Some((_, comment)) = text.split_once(" #! ") else { continue };
        expected.extend(comment.split(" #! ").map(|part| (line + 1, part.trim())));
    }
    assert!(expected.len() > 60, "{}", expected.len());
    let mut missing = Vec::new();
    for (line, part) in &expected {
        let at = format!("l.yaml:{line}:");
        if !found.iter().any(|found| found.starts_with(&at) && found.contains(part)) {
            missing.push(format!("{line}: {part}"));
        }
    }
    let lines: std::collections::BTreeSet<usize> = expected.iter().map(|(line, _)| *line).collect();
    let surplus: Vec<_> =
        import.diagnostics.iter().filter(|found| !lines.contains(&(found.line as usize))).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}\nsurplus {surplus:#?}\nfound {found:#?}"
    );
}

#[test]
fn whole_files_that_are_none() {
    for (text, expected) in [
        ("", "l.yaml: error: the file is empty"),
        ("- a", "l.yaml:1:1: error: expected a mapping for a layout, found a list"),
        ("{}", "l.yaml:1:1: error: a layout needs the key `pipelines`"),
        (
            "pipelines: {}\nprojects: []\n",
            "l.yaml:1:12: error: `pipelines`: expected a list, found a mapping",
        ),
        ("a: !!python/object:x {}\n", "l.yaml:1:"),
    ] {
        let said = said(text);
        assert!(said.iter().any(|line| line.starts_with(expected)), "{text:?}: {said:#?}");
        assert!(read(text).config.is_none());
    }
}

/// Ten thousand projects: the figures of the whole, so that a mistake of the generator is seen, too.
#[test]
fn ten_thousand_projects() {
    let text = synthetic::layout(10_000);
    let size = text.len();
    assert!((550_000..800_000).contains(&size), "{size} bytes");
    let config = good(&text);
    assert_eq!(config.projects.len(), 10_000);
    assert!(config.jobs.len() > 30_000, "{} jobs", config.jobs.len());
    assert!(config.jobs.values().any(|job| !job.voting) && config.jobs.values().all(|job| job.single_use));
    let gate = &config.pipelines[1];
    assert!(gate.queues.len() > 10, "{} queues", gate.queues.len());
}
