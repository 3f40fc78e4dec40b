//! Rules for events: what is read, and everything that is wrong with a file at once.

use assay_engine::rules::{Message, PlannedEffect, plan};
use assay_formats::rules::load;
use proptest::prelude::*;
use serde_json::json;

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
fn all_that_is_wrong_is_said_at_once() {
    let text = "rules:\n  - name: a\n    when: {body.x: {regx: a}, body.y: {regex: '(?=a)'}}\n    run: {jb: {}}\n  - name: a\n    wen: {}\n    \
                run: [{job: {X: '{bdy.a}'}}]\n    batch: {window: 5 weeks}\n    once: twice\n  - {name: c, when: {body.z: {in: cs}}, run: {product: {DISTRI: '{a'}}}\n  - 5\n";
    let found = load(&[("r.yaml", text)]);
    assert!(found.rules.is_none());
    let all: Vec<String> = found.diagnostics.iter().map(ToString::to_string).collect();
    let all = all.join("\n");
    for expected in [
        "r.yaml:3:21: error: unknown key `regx` of a test; did you mean `regex`?",
        "look-around and back-references are not there",
        "unknown key `jb` of an entry of `run`; did you mean `job`?",
        "an entry of `run` has one of job, product",
        "a rule needs the key `when`",
        "a job needs the setting TEST",
        "there is no `bdy`; did you mean `body`?",
        "`window` is `5 weeks`; expected a time such as 30s, 15m or 2h",
        "`once` is `twice`; expected item or event",
        "there is no list `cs`",
        "`DISTRI`: `{` has no `}`",
        "a product needs the setting VERSION",
        "r.yaml:11:5: error: expected a mapping for a rule",
        "has no test; expected is, regex",
    ] {
        assert!(all.contains(expected), "{expected} is not in\n{all}");
    }
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
