//! Rules for events: what is read, and everything that is wrong with a file at once.

use assay_engine::product::over_global;
use assay_engine::rules::{Message, PlannedEffect, plan};
use assay_formats::rules::load;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const GOOD: &str = r#"
lists:
  written-in-c: [bash, coreutils]
rules:
  - name: analysis
    description: new defects in what is written in C
    when:
      topic: org.fedoraproject.*.buildsys.build.state.change
      body.new: 1
      body.name: {in: written-in-c, not: {regex: ^java}}
      any:
        - body.instance: primary
        - {body.instance: {exists: false}}
    fan-out: {arch: [x86_64, aarch64]}
    once: item
    limit: 4
    batch: {window: 15m, by: "{body.name}"}
    run:
      - job: {test: static_analysis, NVR: "{item.id}", ARCH: "{arch}"}
        priority: 40
      - product: {DISTRI: fedora, VERSION: "40", FLAVOR: build, ARCH: "{arch}"}
"#;

#[test]
fn a_whole_file() {
    let loaded = load(&[("rules.yaml", GOOD)]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let rules = loaded.rules.expect("no error");
    let body = json!({"name": "bash", "version": "5.2", "release": "1.fc40", "new": 1, "build_id": 7, "instance": "primary"});
    let message = |topic: &str| Message::new("a", "a", "1", topic, json!({}), body.clone());
    let found = plan(&rules, &message("org.fedoraproject.prod.buildsys.build.state.change"));
    assert_eq!((found.effects.len(), found.failed.len()), (4, 0), "{found:?}");
    assert_eq!(found.effects[0].key, "analysis/koji_build/bash-5.2-1.fc40/7/arch=x86_64/1:static_analysis");
    let PlannedEffect::Job { settings, priority } = &found.effects[0].effect else { panic!("a job") };
    assert_eq!((settings["NVR"].as_str(), *priority), ("bash-5.2-1.fc40", Some(40)));
    assert_eq!(found.effects[0].batch.as_ref().map(|batch| batch.window), Some(900_000_000));
    assert!(plan(&rules, &message("org.fedoraproject.prod.other")).effects.is_empty());
}

#[test]
fn a_task_looks_at_the_item_on_each_architecture() {
    let text = r##"
rules:
  - name: lint
    when: {topic: "#.build"}
    item: {type: koji_build, id: "{body.nvr}", revision: "{body.id|default:}"}
    fan-out: {arch: [x86_64, aarch64]}
    limit: 2
    batch: {window: 1m}
    run:
      - task: rpmlint
      - task:
          name: https://git.example.org/checks.git
          builds: "{body.others[].nvr}"
          baseline-tag: f44
          arch: noarch
          machine: fedora
          repositories: {a: "https://x/{body.nvr}", b: "https://y"}
          inputs: {level: strict}
          settings: {test: mine, WORKER_CLASS: other}
        priority: 7
"##;
    let loaded = load(&[("rules.yaml", text)]);
    assert!(loaded.diagnostics.is_empty(), "{:?}", loaded.diagnostics);
    let rules = loaded.rules.expect("no error");
    let body = json!({"nvr": "bash-5-1", "others": [{"nvr": "a-1-1"}, {"nvr": "b-1-1"}]});
    let found = plan(&rules, &Message::new("a", "a", "1", "x.build", json!({}), body));
    let jobs: Vec<_> = found
        .effects
        .iter()
        .map(|effect| match &effect.effect {
            PlannedEffect::Job { settings, priority } => (settings.clone(), *priority),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(jobs.len(), 4, "{found:?}");
    for (at, arch) in [(0, "x86_64"), (2, "aarch64")] {
        let (settings, priority) = &jobs[at];
        for (key, value) in [
            ("BACKEND", assay_proto::task_run::BACKEND),
            (assay_proto::task_run::TASK, "rpmlint"),
            ("TEST", "rpmlint"),
            ("BUILD", "bash-5-1"),
            ("ITEM", "bash-5-1"),
            ("ITEM_TYPE", "koji_build"),
            ("ARCH", arch),
        ] {
            assert_eq!(settings.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!((settings.get("ITEM_REVISION"), *priority), (None, None));
    }
    let (settings, priority) = &jobs[1];
    for (key, value) in [
        (assay_proto::task_run::TASK, "https://git.example.org/checks.git"),
        ("TEST", "mine"),
        (assay_proto::task_run::BUILDS, "a-1-1 b-1-1"),
        (assay_proto::task_run::BASELINE_TAG, "f44"),
        (assay_proto::task_run::MACHINE, "fedora"),
        (assay_proto::task_run::REPOSITORIES, "a=https://x/bash-5-1 b=https://y"),
        ("INPUT_LEVEL", "strict"),
        ("ARCH", "noarch"),
        ("WORKER_CLASS", "other"),
    ] {
        assert_eq!(settings.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(*priority, Some(7));
    assert_eq!(found.effects[0].key, "lint/koji_build/bash-5-1//arch=x86_64/1:rpmlint");
    assert_eq!((found.effects[0].limit, found.effects[0].batch.is_some()), (Some(2), true));
    assert_eq!(found.effects[0].effect.summary(), "task rpmlint of bash-5-1 on x86_64");
    let nothing = text.replace("    item: {type: koji_build", "    # {");
    let rules = load(&[("rules.yaml", &nothing)]).rules.expect("no error");
    let failed = plan(&rules, &Message::new("a", "a", "1", "x.build", json!({}), json!({}))).failed;
    assert!(failed[0].1.contains("the task rpmlint looks at an item, and none is known"), "{failed:?}");
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let text = "rules:\n  - name: a\n    when: {body.x: {regx: a}, body.y: {regex: '(?=a)'}, body.w: {}}\n    run: {jb: {}}\n  - name: a\n    wen: {}\n    \
                run: [{job: {X: '{bdy.a}'}}]\n    batch: {window: 5 weeks}\n    once: twice\n  - {name: c, when: {body.z: {in: cs}}, run: {product: {DISTRI: '{a'}}}\n  - 5\n  \
                - {name: d, when: {body.z: 1}, for-each: bdy.list, fan-out: {arch: bdy.arches}, item: {type: t, id: '{bdy.id}'}, \
                batch: {window: 1m, by: '{bdy.by}'}, run: {job: {TEST: t}}}\n";
    let found = load(&[("r.yaml", text)]);
    assert!(found.rules.is_none());
    let all: Vec<String> = found.diagnostics.iter().map(ToString::to_string).collect();
    let all = all.join("\n");
    for expected in [
        "r.yaml:3:21: error: unknown key `regx` of a test; did you mean `regex`?",
        "look-around and back-references are not there",
        "unknown key `jb` of an entry of `run`; did you mean `job`?",
        "an entry of `run` has one of job, task, product",
        "a rule needs the key `when`",
        "a job needs the setting TEST",
        "there is no `bdy`; did you mean `body`?",
        "`window` is `5 weeks`; expected a time such as 30s, 15m or 2h",
        "`once` is `twice`; expected item or event",
        "there is no list `cs`",
        "`DISTRI`: `{` has no `}`",
        "a product needs the setting VERSION",
        "{bdy.list}: there is no `bdy`; did you mean `body`?",
        "{bdy.arches}: there is no `bdy`",
        "{bdy.id}: there is no `bdy`",
        "{bdy.by}: there is no `bdy`",
        "r.yaml:11:5: error: expected a mapping for a rule",
        "has no test; expected is, regex",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
    assert_eq!(
        all.matches("has no test").count(),
        1,
        "of the others is said what is wrong with them:\n{all}"
    );
}

/// What a server that names the repository of tests in [settings] makes of the examples: each job has its tests.
#[test]
fn the_jobs_of_the_shipped_rules_have_their_tests() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/rules");
    let read = |file: &str| fs_err::read_to_string(format!("{examples}/{file}")).expect("it is there");
    let rules = load(&[("fedora.yaml", &read("fedora.yaml"))]).rules.expect("no error");
    let global = BTreeMap::from([("CASEDIR".to_owned(), "https://example.org/tests.git#main".to_owned())]);
    let expected: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&read("messages/expected.json")).expect("JSON");
    let mut seen = BTreeSet::new();
    for name in expected.keys() {
        let message: Value = serde_json::from_str(&read(&format!("messages/{name}.json"))).expect("JSON");
        let topic = message["topic"].as_str().expect("a topic");
        let message = Message::new("a", "a", name, topic, json!({}), message["body"].clone());
        for planned in plan(&rules, &message).effects {
            let PlannedEffect::Job { settings, .. } = &planned.effect else { continue };
            seen.insert(planned.rule.clone());
            let job = over_global(&global, settings).expect("settings");
            let tests = if job.get("BACKEND") == Some("task") { "TASK" } else { "CASEDIR" };
            assert!(job.get(tests).is_some() && job.get("TEST").is_some(), "{}: {job:?}", planned.rule);
        }
    }
    let needs = [
        "depcheck",
        "install-from-test-image",
        "kernel",
        "rpmlint",
        "static-analysis",
        "test-image",
        "upgrade",
        "upgradepath",
    ];
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), needs);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(rules:\n - name: a\n   when: )?[\\PC\n]{0,200}", cut in 0..GOOD.len()) {
        let loaded = load(&[("r.yaml", &text)]);
        prop_assert!(loaded.rules.is_some() || !loaded.diagnostics.is_empty());
        let torn = load(&[("r.yaml", &GOOD[..cut])]);
        prop_assert!(torn.rules.is_some() || !torn.diagnostics.is_empty());
    }
}
