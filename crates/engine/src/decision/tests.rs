//! Decisions by table.

use super::*;

fn found(id: i64, testcase: &str, scenario: Option<&str>, outcome: &str) -> Found {
    Found {
        id,
        testcase: testcase.into(),
        at: Timestamp(id),
        outcome: outcome.into(),
        scenario: scenario.map(Into::into),
        ..Found::default()
    }
}

fn waived(id: i64, testcase: &str, scenario: Option<&str>) -> Waived {
    Waived {
        id,
        testcase: testcase.into(),
        scenario: scenario.map(Into::into),
        product_version: "fedora-40".into(),
        waived: true,
        expires_at: None,
    }
}

fn passing(testcase: &str, scenario: Option<&str>) -> Rule {
    Rule::Passing(PassingRule {
        testcase: testcase.into(),
        scenario: scenario.map(Into::into),
        ..PassingRule::default()
    })
}

fn policy(id: &str, rules: Vec<Rule>) -> Policy {
    Policy {
        id: id.into(),
        product_versions: vec!["fedora-*".into()],
        contexts: vec!["push".into()],
        subject_types: vec!["koji_build".into()],
        rules,
        ..Policy::default()
    }
}

fn ask(kind: &str, item: &str) -> Question {
    Question {
        product_version: "fedora-40".into(),
        contexts: vec!["push".into()],
        subjects: vec![Subject { kind: kind.into(), item: item.into() }],
        at: Timestamp(1000),
        ..Question::default()
    }
}

/// Each requirement as `word testcase[scenario]`.
fn words(decision: &Decision) -> Vec<String> {
    let word = |one: &Requirement| {
        let scenario = one.scenario.as_ref().map(|scenario| format!("[{scenario}]")).unwrap_or_default();
        format!("{} {}{scenario}", one.word().trim_start_matches("test-result-"), one.testcase)
    };
    decision.requirements.iter().map(word).collect()
}

/// A rule's scenario, results, waivers, and what comes of them.
type Case = (Option<&'static str>, Vec<Found>, Vec<Waived>, &'static [&'static str], &'static str);

#[test]
fn the_newest_result_of_every_scenario_counts() {
    let rules = |scenario| vec![policy("p", vec![passing("t", scenario)])];
    let cases: Vec<Case> = vec![
        (None, vec![], vec![], &["missing t"], "Of 1 required test, 1 result missing"),
        (
            None,
            vec![found(1, "u", None, "PASSED")],
            vec![],
            &["missing t"],
            "Of 1 required test, 1 result missing",
        ),
        (
            None,
            vec![found(2, "t", None, "PASSED"), found(1, "t", None, "FAILED")],
            vec![],
            &["passed t"],
            "All required tests (1 total) have passed or been waived",
        ),
        (
            None,
            vec![
                found(3, "t", Some("b"), "FAILED"),
                found(2, "t", Some("a"), "INFO"),
                found(1, "t", Some("b"), "PASSED"),
            ],
            vec![],
            &["failed t[b]", "passed t[a]"],
            "Of 2 required tests, 1 test failed",
        ),
        (
            Some("a"),
            vec![found(3, "t", Some("b"), "FAILED"), found(2, "t", Some("a"), "RUNNING")],
            vec![],
            &["missing t[a]"],
            "Of 1 required test, 1 result missing",
        ),
        (
            None,
            vec![found(1, "t", None, "CRASHED")],
            vec![],
            &["failed t"],
            "Of 1 required test, 1 test failed",
        ),
        (None, vec![found(1, "t", None, "ERROR")], vec![], &["errored t"], "Of 1 required test, 1 error"),
        (
            None,
            vec![],
            vec![waived(1, "t", None)],
            &["missing-waived t"],
            "All required tests (1 total) have passed or been waived",
        ),
        (
            None,
            vec![found(1, "t", Some("a"), "FAILED")],
            vec![waived(1, "t", Some("a"))],
            &["failed-waived t[a]"],
            "All required tests (1 total) have passed or been waived",
        ),
        (
            None,
            vec![found(1, "t", Some("a"), "FAILED")],
            vec![waived(1, "t", Some("b"))],
            &["failed t[a]"],
            "Of 1 required test, 1 test failed",
        ),
        (
            None,
            vec![],
            vec![Waived { waived: false, ..waived(2, "t", None) }, waived(1, "t", None)],
            &["missing t"],
            "Of 1 required test, 1 result missing",
        ),
        (
            None,
            vec![],
            vec![Waived { expires_at: Some(Timestamp(1000)), ..waived(1, "t", None) }],
            &["missing t"],
            "Of 1 required test, 1 result missing",
        ),
        (
            None,
            vec![],
            vec![Waived { product_version: "fedora-39".into(), ..waived(1, "t", None) }],
            &["missing t"],
            "Of 1 required test, 1 result missing",
        ),
    ];
    for (number, (scenario, results, waivers, want, summary)) in cases.into_iter().enumerate() {
        let policies = Policies { policies: rules(scenario), ..Policies::default() };
        let decision = decide(
            &policies,
            &ask("koji_build", "bash-5-1"),
            &[Known { results, waivers, ..Known::default() }],
            &[],
        );
        assert_eq!(
            (words(&decision), decision.summary()),
            (want.iter().map(ToString::to_string).collect(), summary.to_owned()),
            "case {number}"
        );
    }
}

#[test]
fn what_is_ignored_does_not_count() {
    let policies = Policies { policies: vec![policy("p", vec![passing("t", None)])], ..Policies::default() };
    let known = [Known {
        results: vec![found(2, "t", None, "FAILED"), found(1, "t", None, "PASSED")],
        waivers: vec![waived(7, "t", None)],
        ..Known::default()
    }];
    let ask = |results: &[i64], waivers: &[i64]| Question {
        ignored_results: results.iter().copied().collect(),
        ignored_waivers: waivers.iter().copied().collect(),
        ..ask("brew-build", "bash-5-1")
    };
    for (results, waivers, want) in [
        (&[][..], &[][..], "failed-waived t"),
        (&[], &[7], "failed t"),
        (&[2], &[7], "passed t"),
        (&[1, 2], &[7], "missing t"),
    ] {
        assert_eq!(words(&decide(&policies, &ask(results, waivers), &known, &[])), [want]);
    }
}

#[test]
fn policies_add_up_and_equal_rules_count_once() {
    let mut other = policy("q", vec![passing("t", None), passing("u", None)]);
    other.packages = vec!["ba*".into()];
    let mut excluded = policy("r", vec![passing("v", None)]);
    excluded.excluded_packages = vec!["bash".into()];
    let mut late = policy("s", vec![]);
    late.rules = vec![Rule::Passing(PassingRule {
        testcase: "w".into(),
        valid_since: Some(Timestamp(2000)),
        ..PassingRule::default()
    })];
    let policies = Policies {
        policies: vec![policy("p", vec![passing("t", None)]), other, excluded, late],
        ..Policies::default()
    };
    let known = [Known::default()];
    let decision = decide(&policies, &ask("koji_build", "bash-5-1"), &known, &[]);
    assert_eq!(words(&decision), ["excluded excluded", "missing t", "missing u"]);
    let by = |number: usize| decision.requirements[number].policies.join(",");
    assert_eq!([by(0), by(1)], ["r", "p,q"]);
    assert_eq!(decision.summary(), "Of 2 required tests, 2 results missing");
    assert_eq!((decision.policies.join(","), decision.uncovered.len()), ("p,q,r,s".to_owned(), 0));
    let zsh = decide(&policies, &ask("koji_build", "zsh-5-1"), &known, &[]);
    assert_eq!(words(&zsh), ["missing t", "missing v"]);
    // A policy applies also to what it wants nothing of.
    let only = |left_out: &[&str]| {
        let excluded_packages = left_out.iter().map(|name| (*name).to_owned()).collect();
        let rules = vec![passing("t", None)];
        let one = Policy { packages: vec!["zsh".into()], excluded_packages, ..policy("p", rules) };
        let policies = Policies { policies: vec![one], ..Policies::default() };
        let decision = decide(&policies, &ask("koji_build", "bash-5-1"), &known, &[]);
        assert!(decision.uncovered.is_empty() && decision.is_satisfied(), "{decision:?}");
        (words(&decision), decision.summary())
    };
    let nothing = "No tests are required".to_owned();
    assert_eq!(only(&[]), (vec![], nothing.clone()));
    assert_eq!(only(&["bash"]), (vec!["excluded excluded".to_owned()], nothing));
    // Where nothing applies that is an error, but for updates.
    assert_eq!(decide(&policies, &ask("compose", "x"), &known, &[]).uncovered.len(), 1);
    let update = decide(&policies, &ask("bodhi_update", "x"), &known, &[]);
    assert_eq!((update.uncovered.len(), update.summary()), (0, "No tests are required".to_owned()));
}

#[test]
fn rules_from_templates_require_what_would_run() {
    let template = |flavor: &str, test: &str| Template {
        group: "fedora".into(),
        distri: "fedora".into(),
        version: "*".into(),
        flavor: flavor.into(),
        arch: "x86_64".into(),
        test: test.into(),
        testcase: test.into(),
        scenario: Some(format!("fedora.{flavor}.x86_64.64bit")),
    };
    let templates =
        [template("updates-server", "boot"), template("updates-server", "login"), template("iso", "boot")];
    let rule = TemplateRule {
        flavor: Some("updates-*".into()),
        group: Some("fedora".into()),
        ..TemplateRule::default()
    };
    let question = Question {
        rules: Some(vec![Rule::Templates(rule), passing("update.boot", None)]),
        contexts: vec![],
        ..ask("bodhi_update", "F-1")
    };
    let results = vec![found(1, "update.boot", Some("fedora.updates-server.x86_64.64bit"), "PASSED")];
    let decision =
        decide(&Policies::default(), &question, &[Known { results, ..Known::default() }], &templates);
    assert_eq!(
        words(&decision),
        [
            "passed update.boot[fedora.updates-server.x86_64.64bit]",
            "missing update.login[fedora.updates-server.x86_64.64bit]",
            "passed update.boot[fedora.updates-server.x86_64.64bit]",
        ]
    );
}

/// What concerns whom, by policies for builds of any Fedora and for composes of two.
fn scoped() -> Policies {
    let compose = Policy {
        product_versions: vec!["fedora-40".into(), "fedora-rawhide".into()],
        contexts: vec!["release".into()],
        subject_types: vec!["compose".into()],
        ..policy("composes", vec![])
    };
    let update = Policy {
        product_versions: vec!["fedora-4?".into()],
        contexts: vec!["testing".into(), "stable".into()],
        subject_types: vec!["bodhi_update".into()],
        ..policy("updates", vec![])
    };
    let bash = Policy { packages: vec!["bash".into()], ..policy("builds", vec![]) };
    Policies { policies: vec![compose, update, bash], ..Policies::default() }
}

#[test]
fn results_are_evidence_of_subjects() {
    let policies = scoped();
    for (data, wanted) in [
        (&[("type", "koji_build"), ("item", "bash-5-1.fc40")][..], "koji_build bash-5-1.fc40"),
        (&[("type", "brew-build"), ("item", "bash-5-1.fc40")], "koji_build bash-5-1.fc40"),
        (&[("original_spec_nvr", "bash-5-1.fc40")], "koji_build bash-5-1.fc40"),
        (&[("type", "koji_build"), ("item", "sed-5-1.fc40")], ""),
        (
            &[("type", "compose"), ("item", "x.iso"), ("productmd.compose.id", "F-1")],
            "compose F-1,compose x.iso",
        ),
        (&[("type", "bodhi_update"), ("item", "FEDORA-1")], "bodhi_update FEDORA-1"),
        (&[("type", "nobody's"), ("item", "x")], ""),
        (&[("item", "x")], ""),
    ] {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect();
        let found: Vec<_> =
            policies.subjects_of(&data).iter().map(|one| format!("{} {}", one.kind, one.item)).collect();
        assert_eq!(found.join(","), wanted, "{data:?}");
    }
    assert!(
        Policies::default().subjects_of(&[("type".to_owned(), vec!["compose".to_owned()])].into()).is_empty()
    );
}

#[test]
fn subjects_belong_to_releases() {
    let policies = scoped();
    for (kind, item, versions, wanted) in [
        ("compose", "Fedora-40-20240401.0", &[][..], "fedora-40 release"),
        ("compose", "Fedora-Rawhide-20240401.n.0", &[], "fedora-rawhide release"),
        ("compose", "Fedora-Cloud-40-20240401.0", &[], "fedora-40 release"),
        // Of what tells no release: each that a policy names.
        ("compose", "Other-7-20240401.0", &[], "fedora-40 release,fedora-rawhide release"),
        ("compose", "nightly", &[], "fedora-40 release,fedora-rawhide release"),
        ("compose", "nightly", &["Rawhide"], "fedora-rawhide release"),
        ("bodhi_update", "FEDORA-2024-1", &[], ""),
        ("bodhi_update", "FEDORA-41-20240401", &[], ""),
        ("bodhi_update", "FEDORA-2024-1", &["40"], "fedora-40 stable,fedora-40 testing"),
        ("bodhi_update", "FEDORA-2024-1", &["39"], ""),
        ("koji_build", "bash-5-1.fc40", &[], "fedora-40 push"),
        ("brew-build", "bash-5-1.fc40.1", &[], "fedora-40 push"),
        ("koji_build", "bash-5-1.eln140", &[], "fedora-eln push"),
        ("koji_build", "bash-5-1.el9_4", &[], ""),
        ("koji_build", "sed-5-1.fc40", &[], ""),
    ] {
        let subject = Subject { kind: kind.into(), item: item.into() };
        let versions = versions.iter().map(|version| (*version).to_owned()).collect();
        let found: Vec<_> = policies
            .purposes(&subject, &versions)
            .iter()
            .map(|(release, context)| format!("{release} {context}"))
            .collect();
        assert_eq!(found.join(","), wanted, "{kind} {item} {versions:?}");
    }
}

#[test]
fn decisions_change_with_what_they_are_made_by() {
    let timed = Rule::Passing(PassingRule {
        testcase: "t".into(),
        valid_since: Some(Timestamp(10)),
        valid_until: Some(Timestamp(20)),
        ..PassingRule::default()
    });
    let made = Rule::Templates(TemplateRule { group: Some("g".into()), ..TemplateRule::default() });
    let late = Policy { contexts: vec!["late".into()], ..policy("b", vec![made]) };
    let policies = Policies { policies: vec![policy("a", vec![timed]), late], ..Policies::default() };
    let template = |group: &str| Template { group: group.into(), ..Template::default() };
    let changed = |(templates, at): (&[Template], i64), (others, later): (&[Template], i64)| {
        let (one, other) =
            (policies.bases(templates, Timestamp(at)), policies.bases(others, Timestamp(later)));
        one.into_iter()
            .filter(|(context, basis)| other[context] != *basis)
            .map(|(context, _)| context)
            .collect::<Vec<_>>()
    };
    assert_eq!(changed((&[], 1), (&[], 9)), [] as [&str; 0]);
    assert_eq!(changed((&[], 9), (&[], 10)), ["push"]);
    assert_eq!(changed((&[], 10), (&[], 20)), ["push"]);
    assert_eq!(changed((&[], 1), (&[template("g")], 1)), ["late"]);
    assert_eq!(changed((&[], 1), (&[template("another")], 1)), [] as [&str; 0]);
    for (after, next) in [(0, Some(10)), (10, Some(20)), (20, None)] {
        assert_eq!(policies.next_change(Timestamp(after)), next.map(Timestamp));
    }
    assert!(policies.look_at_templates() && !scoped().look_at_templates());
}
