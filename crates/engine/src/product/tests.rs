//! openQA's documented cases, and what is Assay's own.

use super::*;
use crate::relations::Relation::{Chained, DirectlyChained, Parallel};
use proptest::prelude::*;

fn map(text: &str) -> SettingsMap {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').expect("NAME=VALUE"));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn key(version: &str) -> MediumKey {
    let own = str::to_owned;
    MediumKey { distri: own("os"), version: own(version), flavor: own("DVD"), arch: own("x86_64") }
}

/// A catalog with the machines 64bit and uefi, the medium os-1-DVD-x86_64, and suites with templates on 64bit:
/// `name: SETTING=…` per line, `name@machine: …` for another machine.
fn catalog(suites: &str) -> Catalog {
    let mut catalog = Catalog { priorities: PriorityRules::none(), ..Catalog::default() };
    for name in ["64bit", "uefi"] {
        catalog.add_machine(Machine { name: name.into(), backend: "qemu".into(), ..Machine::default() });
    }
    catalog.add_medium(Medium { key: key("1"), ..Medium::default() });
    for line in suites.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, settings) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        let (name, machine) = name.split_once('@').unwrap_or((name, "64bit"));
        catalog.add_suite(Suite { name: name.into(), settings: map(settings), ..Suite::default() });
        catalog.add_template(Template {
            medium: key("1"),
            machine: Some(machine.into()),
            suite: Some(name.into()),
            ..Template::default()
        });
    }
    catalog
}

fn request(more: &str) -> Request {
    let mut all = map("DISTRI=OS VERSION=1 FLAVOR=DVD ARCH=x86_64 BUILD=7");
    all.extend(map(more));
    Request::parse(all).expect("a request")
}

fn post(catalog: &Catalog, more: &str) -> Plan {
    plan(catalog, &request(more))
}

fn names(plan: &Plan) -> Vec<String> {
    plan.jobs.iter().map(PlannedJob::label).collect()
}

fn value<'p>(plan: &'p Plan, job: usize, key: &str) -> Option<&'p str> {
    plan.jobs[job].settings.0.get(key).map(|setting| setting.value.as_str())
}

/// The one template's layers, and what becomes of them.
fn layered(product: &str, machine: &str, suite: &str, template: &str, posted: &str) -> Plan {
    let mut all = catalog(&format!("install: {suite}"));
    let own = |name: &str| all.machines[name].clone();
    let changed = Machine { settings: map(machine), ..own("64bit") };
    all.add_machine(changed);
    all.add_medium(Medium { key: key("1"), name: "medium".into(), settings: map(product) });
    all.templates.get_mut(&key("1")).expect("templates")[0].settings = map(template);
    all.global = map("LEVEL=global GLOBAL=1");
    post(&all, posted)
}

#[test]
fn precedence_and_provenance() {
    let l = ["LEVEL=product", "LEVEL=machine", "LEVEL=suite", "LEVEL=template", "LEVEL=posted"];
    for (level, expected) in
        [(0, "global"), (1, "product"), (2, "machine"), (3, "suite"), (4, "template"), (5, "posted")]
    {
        let at = |index: usize| if index < level { l[index] } else { "" };
        let plan = layered(at(0), at(1), at(2), at(3), at(4));
        assert_eq!(value(&plan, 0, "LEVEL"), Some(expected));
    }
    let plan = layered(l[0], l[1], l[2], l[3], l[4]);
    assert_eq!(
        plan.jobs[0].settings.0["LEVEL"].explain("LEVEL"),
        "LEVEL=posted from the request; overrides \"template\" from template install, \"suite\" from suite install, \
         \"machine\" from machine 64bit, \"product\" from product medium, \"global\" from the server's configuration"
    );
    for (key, expected) in [
        ("DISTRI", "os"),
        ("BACKEND", "qemu"),
        ("MACHINE", "64bit"),
        ("TEST", "install"),
        ("TEST_SUITE_NAME", "install"),
        ("GLOBAL", "1"),
        ("BUILD", "7"),
    ] {
        assert_eq!(value(&plan, 0, key), Some(expected), "{key}");
    }
}

#[test]
fn what_wins_in_each_case() {
    // product, machine, suite, template, posted, the setting, its value
    for (product, machine, suite, template, posted, key, expected) in [
        // A plus wins over what is posted, and among plusses the later source does.
        ("", "", "+A=suite", "A=template", "A=posted", "A", Some("suite")),
        ("+A=product", "", "+A=suite", "", "A=posted", "A", Some("suite")),
        ("+A=product", "", "+A=suite", "", "+A=posted", "A", Some("posted")),
        ("", "", "+A=x", "", "", "+A", None),
        // Worker classes are joined, and a posted one loses unless nobody else has one, or with a plus.
        (
            "WORKER_CLASS=p",
            "WORKER_CLASS=m,a",
            "WORKER_CLASS=a",
            "WORKER_CLASS=t",
            "",
            "WORKER_CLASS",
            Some("a,m,p,t"),
        ),
        ("WORKER_CLASS=p", "", "", "", "WORKER_CLASS=posted", "WORKER_CLASS", Some("p")),
        ("", "", "", "", "WORKER_CLASS=posted", "WORKER_CLASS", Some("posted")),
        ("WORKER_CLASS=p", "", "", "", "+WORKER_CLASS=posted", "WORKER_CLASS", Some("posted")),
        ("", "", "", "", "", "WORKER_CLASS", None),
        // What the template decides cannot be set, but renamed.
        ("", "", "TEST=other", "", "", "TEST", Some("install")),
        ("", "", "MACHINE=other PRIO=1", "", "", "PRIO", None),
        ("", "", "", "", "NAME=x PRIO=3 BACKEND=y", "BACKEND", Some("qemu")),
        ("", "", "+TEST=other", "", "", "TEST", Some("other")),
        ("", "", "", "", "+MACHINE=laptop", "MACHINE", Some("laptop")),
        // Empty values stay.
        ("A=x", "", "A=", "", "", "A", Some("")),
        // Placeholders.
        ("A=%B%-%B%", "B=%C%", "", "", "C=c", "A", Some("c-c")),
        ("A=%NOBODY%/%C%", "", "", "", "C=", "A", Some("%NOBODY%/")),
        ("A=%%B%%", "B=b", "", "", "", "A", Some("%B%")),
        ("A=%%%B%%%", "B=b", "", "", "", "A", Some("%%B%%")),
        ("A=%%B%", "B=b", "", "", "", "A", Some("%b")),
        ("A=%B%%C%", "B=b", "C=c", "", "", "A", Some("bc")),
        ("A=100%", "B=%A%", "", "", "", "B", Some("100%")),
        ("A=%D%", "D=%%B%%", "B=b", "", "", "A", Some("%B%")),
        ("A=%+B%", "+B=b", "", "", "", "A", Some("%+B%")),
        ("A=%B%", "+B=plus", "", "", "B=posted", "A", Some("plus")),
        ("A=%TEST%@%MACHINE%-%BUILD%", "", "", "", "", "A", Some("install@64bit-7")),
        ("+TEST=%DISTRI%-%VERSION%", "", "", "", "", "TEST", Some("os-1")),
        ("", "", "+TEST=%DISTRI%-%VERSION%", "", "", "TEST", Some("os-1")),
        // Downloads.
        ("", "", "", "", "ISO_URL=https://a.b/c/d%20e.iso?f", "ISO", Some("d e.iso")),
        ("", "", "", "", "HDD_1_DECOMPRESS_URL=https://a.b/d.qcow2.xz", "HDD_1", Some("d.qcow2")),
        ("", "", "", "ISO=own.iso", "ISO_URL=https://a.b/c.iso", "ISO", Some("own.iso")),
        ("", "", "", "", "NOFILE_URL=https://a.b/c.iso", "NOFILE", None),
    ] {
        let plan = layered(product, machine, suite, template, posted);
        assert_eq!(plan.failed, [], "{key}");
        assert_eq!(value(&plan, 0, key), expected, "{product} {machine} {suite} {template} {posted}");
    }
}

#[test]
fn a_plus_is_told_where_it_has_won() {
    let plan = layered("", "+QEMURAM=2048 +ALONE=1", "", "", "QEMURAM=1024");
    let explained = |key: &str| plan.jobs[0].settings.0[key].explain(key);
    assert_eq!(
        explained("QEMURAM"),
        "QEMURAM=2048 from machine 64bit, which says it with +; overrides \"1024\" from the request"
    );
    assert_eq!(explained("ALONE"), "ALONE=1 from machine 64bit");
}

/// What openQA itself has made of the same settings (`tests/product/openqa-settings.pl`, version 4.6 of January 2023).
#[test]
fn as_openqa_does() {
    let cases = include_str!("../../tests/product/openqa-settings.jsonl");
    let (mut same, mut circles) = (0, 0);
    for line in cases.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let layer =
            |name: &str| -> SettingsMap { serde_json::from_value(case[name].clone()).expect("settings") };
        let mut all = catalog("install:");
        all.add_medium(Medium { key: key("1"), settings: layer("product"), ..Medium::default() });
        let machine = all.machines["64bit"].clone();
        all.add_machine(Machine { settings: layer("machine"), ..machine });
        let suite = all.suites["install"].clone();
        all.add_suite(Suite { settings: layer("suite"), ..suite });
        all.templates.get_mut(&key("1")).expect("templates")[0].settings = layer("template");
        let plan = plan(&all, &Request::parse(layer("post")).expect("a request"));
        assert_eq!(plan.jobs.is_empty(), case["err"] == true, "{line}\n{:?}", plan.failed);
        let Some(job) = plan.jobs.first() else {
            circles += 1;
            continue;
        };
        let mut mine = job.settings.plain();
        for value in mine.values_mut() {
            // That version leaves nothing of what nobody sets.
            for name in ["A", "B", "C", "D", "LONG_NAME"] {
                *value = value.replace(&format!("%{name}%"), "");
            }
        }
        let mut theirs = layer("out");
        if let Some(classes) = theirs.get_mut("WORKER_CLASS") {
            // And it names a class twice that two sources name.
            let single: BTreeSet<&str> = classes.split(',').collect();
            *classes = single.into_iter().collect::<Vec<_>>().join(",");
        }
        assert_eq!(mine, theirs, "{line}");
        same += 1;
    }
    assert_eq!((same, circles), (90, 20));
}

#[test]
fn placeholders_that_cannot_be_filled_in() {
    let bomb = (0..40).map(|n| format!("A{n}=%A{m}%%A{m}% ", m = n + 1)).collect::<Vec<_>>().concat();
    let deep = (0..200).map(|n| format!("A{n:03}=%A{:03}% ", n + 1)).collect::<Vec<_>>().concat();
    for (settings, expected) in [
        ("A=%A%", "The key A contains a circular reference, its value is %A% (A → A)"),
        ("A=%B% B=%C% C=x%B%", "The key B contains a circular reference, its value is %C% (B → C → B)"),
        (
            "A=%_SECRET_B% _SECRET_B=%A%x",
            "The key A contains a circular reference, its value is %_SECRET_B% (A → _SECRET_B → A)",
        ),
        ("NOTE=x%_SECRET_A% _SECRET_A=b", "NOTE would make _SECRET_A public; call it _SECRET_NOTE"),
        (
            "A=%B% B=%C% C=%ROOT_PASSWORD% ROOT_PASSWORD=%_SECRET_A% _SECRET_A=b",
            "C would make ROOT_PASSWORD public; call it _SECRET_C",
        ),
        (format!("{bomb} A40=xxxxxxxx").as_str(), "grows beyond 262144 bytes"),
        (&deep, "through more than 100 placeholders"),
    ] {
        let plan = post(&catalog(&format!("install: {settings}\nother:")), "");
        assert_eq!(names(&plan), ["other@64bit"]);
        assert!(plan.failed[0].problems[0].contains(expected), "{:?}", plan.failed);
    }
    let plan = post(&catalog("install: A=%B% C=%B%/%20x%\nother: A=%B%"), "");
    assert_eq!(plan.notes, ["A has %B%, which nobody sets (2 jobs)", "C has %B%, which nobody sets"]);
}

#[test]
fn the_worker_fills_in_what_is_left() {
    let filled = |text: &str| {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        fill_in(&pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    };
    let filled_a = |text: &str| filled(text).unwrap()["A"].clone();
    for (settings, expected) in [
        ("A=%B%,%C% B=b C=x%B%", "b,xb"),
        ("A=x%B%y", "xy"),
        ("A=%%B%% B=b", "%B%"),
        ("A=100%,%d%b%,a%20b%20c%,%E2%82%AC", "100%,%d%b%,a%20b%20c%,%E2%82%AC"),
    ] {
        assert_eq!(filled_a(settings), expected, "{settings}");
    }
    assert!(filled("A=%_SECRET_B% _SECRET_B=b").unwrap_err().contains("_SECRET_A"));
}

#[test]
fn lists_are_searched_one_by_one() {
    assert_eq!(search_values("FEATURES[]", "a, b,,c"), ["a", "b", "c"]);
    assert_eq!(search_values("WORKER_CLASS", "tap,x"), ["tap", "x"]);
    assert_eq!(search_values("DESKTOP", "a,b"), ["a,b"]);
}

#[test]
fn which_jobs_are_made() {
    let all = catalog(
        "client: PARALLEL_WITH=server
         server: START_AFTER_TEST=install
         install:
         install@uefi:
         update: START_DIRECTLY_AFTER_TEST=install
         alone@uefi: START_AFTER_TEST=install@64bit
         empty: START_AFTER_TEST=",
    );
    for (posted, expected) in [
        ("", "install@64bit server@64bit client@64bit install@uefi update@64bit alone@uefi empty@64bit"),
        ("TEST=client", "install@64bit server@64bit client@64bit"),
        ("TEST=client _SKIP_CHAINED_DEPS=1", "server@64bit client@64bit"),
        ("TEST=update,empty", "install@64bit update@64bit empty@64bit"),
        ("MACHINE=uefi", "install@64bit install@uefi alone@uefi"),
        ("TEST=install MACHINE=uefi", "install@uefi"),
        ("TEST=server _INCLUDE_CHILDREN=1", "install@64bit server@64bit client@64bit"),
        ("TEST=server _INCLUDE_CHILDREN=1 _SKIP_CHAINED_DEPS=1", "server@64bit client@64bit"),
        ("TEST=nothing", ""),
    ] {
        let plan = post(&all, posted);
        assert_eq!(names(&plan).join(" "), expected, "{posted}");
        assert_eq!(plan.failed, []);
        assert_eq!(plan.jobs.len() + plan.left_out.len(), 7, "{posted}");
    }
    let plan = post(&all, "TEST=client");
    assert_eq!(plan.jobs[1].parents, [(Chained, 0)]);
    assert_eq!(plan.jobs[2].parents, [(Parallel, 1)]);
    assert_eq!(plan.left_out[0], LeftOut { job: "install@uefi".into(), why: LeftOutWhy::Test });
    let plan = post(&all, "TEST=instal");
    assert_eq!(plan.notes, ["TEST=instal: no template of this product makes that (did you mean install?)"]);
    assert_eq!(plan.refused, None);
    assert_eq!(post(&all, "TEST=x _FAIL_IF_NO_JOBS=1").refused, Some(Refused::NoJobs));
}

#[test]
fn parents_on_other_machines() {
    let all = catalog(
        "one: START_AFTER_TEST=only
         only@uefi:
         both:
         both@uefi:
         three: START_AFTER_TEST=both@uefi,both:64bit
         wrong: PARALLEL_WITH=only@64bit,both
         typo: START_AFTER_TEST=bot,both",
    );
    let plan = post(&all, "");
    assert_eq!(
        names(&plan),
        ["only@uefi", "one@64bit", "both@64bit", "both@uefi", "three@64bit", "wrong@64bit", "typo@64bit"]
    );
    assert_eq!(plan.jobs[1].parents, [(Chained, 0)]);
    assert_eq!(
        plan.notes,
        ["one@64bit: START_AFTER_TEST=only: only runs on uefi only, and is taken from there"]
    );
    assert_eq!(plan.jobs[4].parents, [(Chained, 2), (Chained, 3)]);
    // Jobs whose parent is missing are made, with their other parents.
    assert_eq!(plan.jobs[5].parents, [(Parallel, 2)]);
    assert_eq!(plan.jobs[6].parents, [(Chained, 2)]);
    let failed: Vec<(Option<usize>, &str)> =
        plan.failed.iter().map(|failed| (failed.made, failed.problems[0].as_str())).collect();
    assert_eq!(
        failed,
        [
            (
                Some(5),
                "PARALLEL_WITH=only@64bit not found: only does not run on 64bit, but on uefi; write for example only@uefi"
            ),
            (
                Some(6),
                "START_AFTER_TEST=bot not found: this post has no scenario bot (did you mean both?); correct the name, or add a \
                 template for it"
            ),
        ]
    );
}

#[test]
fn clusters_that_can_never_run() {
    let plan = post(
        &catalog(
            "a: START_AFTER_TEST=b
             b: PARALLEL_WITH=c
             c: START_AFTER_TEST=a
             first: WORKER_CLASS=x
             next: WORKER_CLASS=y START_DIRECTLY_AFTER_TEST=first
             good: START_AFTER_TEST=fine
             fine:",
        ),
        "",
    );
    assert_eq!(names(&plan), ["fine@64bit", "good@64bit"]);
    let problem = |job: &str| {
        let failed = plan.failed.iter().find(|failed| failed.job == job).expect("a failure");
        assert_eq!(failed.made, None);
        failed.problems[0].clone()
    };
    for job in ["a@64bit", "b@64bit", "c@64bit"] {
        assert!(
            problem(job).contains("a@64bit starts after b@64bit, which runs in parallel with c@64bit, which starts after a@64bit"),
            "{}",
            problem(job)
        );
    }
    assert!(problem("next@64bit").contains("needs the classes y and first@64bit needs x"));
    assert_eq!(plan.failed.len(), 5);
}

#[test]
fn parents_that_could_not_be_made() {
    let all = catalog(
        "f: A=%A%
         j: START_AFTER_TEST=f,first,nosuch
         k: PARALLEL_WITH=j
         first:
         next: START_DIRECTLY_AFTER_TEST=f WORKER_CLASS=x
         on: START_AFTER_TEST=nosuch
         other: START_AFTER_TEST=first",
    );
    let plan = post(&all, "");
    assert_eq!(names(&plan), ["first@64bit", "on@64bit", "other@64bit"]);
    let problems = |plan: &Plan, job: &str| {
        let failed = plan.failed.iter().find(|failed| failed.job == job);
        failed.map(|failed| (failed.made, failed.problems.join(" | "))).unwrap_or_default()
    };
    let (made, own) = problems(&plan, "f@64bit");
    assert!(made.is_none() && own.starts_with("The key A contains a circular reference"), "{own}");
    let nosuch = "START_AFTER_TEST=nosuch not found: this post has no scenario nosuch; correct the name, or add a template for it";
    // Everything that is wrong is said at once.
    let expected = format!("START_AFTER_TEST: f@64bit could not be made: {own} | {nosuch}");
    assert_eq!(problems(&plan, "j@64bit"), (None, expected));
    let expected = "PARALLEL_WITH: j@64bit could not be made, because f@64bit could not";
    assert_eq!(problems(&plan, "k@64bit"), (None, expected.to_owned()));
    let expected = format!("START_DIRECTLY_AFTER_TEST: f@64bit could not be made: {own}");
    assert_eq!(problems(&plan, "next@64bit"), (None, expected));
    // A name that nothing has keeps no job from being made.
    assert_eq!(problems(&plan, "on@64bit"), (Some(1), nosuch.to_owned()));

    // It fails as well where only its child was asked for, and not where nothing was that needs it.
    let plan = post(&all, "TEST=next");
    assert_eq!((names(&plan).len(), problems(&plan, "f@64bit")), (0, (None, own)));
    let plan = post(&all, "TEST=first");
    assert_eq!((plan.failed.len(), plan.left_out.len()), (0, 6));
    // Without it there is nothing to miss.
    let plan = post(&all, "TEST=j _SKIP_CHAINED_DEPS=1");
    assert_eq!((names(&plan), plan.failed.len()), (vec!["j@64bit".to_owned()], 0));
}

#[test]
fn of_a_parallel_cluster_all_are_made_or_none() {
    let problems = |plan: &Plan, job: &str| {
        let failed = plan.failed.iter().find(|failed| failed.job == job).expect("a failure");
        assert_eq!(failed.made, None);
        failed.problems.join(" | ")
    };
    // That counts although something else is wrong with the client.
    for beside in
        ["PARALLEL_WITH=server", "PARALLEL_WITH=%WHO% WHO=server", "PARALLEL_WITH=server@64bit,nosuch"]
    {
        let all = catalog(&format!(
            "install:
             server: START_AFTER_TEST=install
             client: A=%A% {beside}
             other: PARALLEL_WITH=server
             after: START_AFTER_TEST=other
             alone:"
        ));
        let plan = post(&all, "");
        assert_eq!(names(&plan), ["install@64bit", "alone@64bit"], "{beside}");
        let own = problems(&plan, "client@64bit");
        assert!(own.starts_with("The key A contains") && !own.contains(" | "), "{own}");
        let expected = format!("client@64bit, which runs in parallel with it, could not be made: {own}");
        assert_eq!(problems(&plan, "server@64bit"), expected);
        for (job, relative) in [("other", "PARALLEL_WITH: server"), ("after", "START_AFTER_TEST: other")] {
            let expected = format!("{relative}@64bit could not be made, because client@64bit could not");
            assert_eq!(problems(&plan, &format!("{job}@64bit")), expected);
        }
        // What was not asked for is not missed, and what cannot be made brings nobody along.
        assert_eq!(names(&post(&all, "TEST=server")), ["install@64bit", "server@64bit"]);
        let plan = post(&all, "TEST=client");
        assert_eq!((plan.jobs.len(), plan.failed.len(), plan.left_out.len()), (0, 1, 5));
        assert_eq!(names(&post(&all, "TEST=server _INCLUDE_CHILDREN=1")), ["install@64bit"]);
    }

    // The child may be missed for the sake of its own parent.
    let plan = post(&catalog("disk: A=%A%\nserver:\nclient: PARALLEL_WITH=server START_AFTER_TEST=disk"), "");
    assert_eq!(names(&plan), [""; 0]);
    assert_eq!(
        problems(&plan, "server@64bit"),
        "client@64bit, which runs in parallel with it, could not be made, because disk@64bit could not"
    );
    let own = problems(&plan, "disk@64bit");
    let expected = format!("START_AFTER_TEST: disk@64bit could not be made: {own}");
    assert_eq!(problems(&plan, "client@64bit"), expected);
}

#[test]
fn all_that_is_wrong_in_a_circle_is_said() {
    let plan = post(&catalog("d: PARALLEL_WITH=e,nosuch\ne: PARALLEL_WITH=d"), "");
    assert_eq!(names(&plan), [""; 0]);
    let [d, e] = plan.failed.as_slice() else { panic!("{:?}", plan.failed) };
    assert!(d.problems[0].contains("depend on each other in a circle"), "{d:?}");
    assert!(d.problems[1].starts_with("PARALLEL_WITH=nosuch not found"), "{d:?}");
    assert_eq!((d.problems.len(), e.problems.len(), d.made, e.made), (2, 1, None, None));
}

#[test]
fn chains_are_planned_with_direct_parents() {
    let plan = post(&catalog("b: START_DIRECTLY_AFTER_TEST=a\na:"), "");
    assert_eq!(names(&plan), ["a@64bit", "b@64bit"]);
    assert_eq!(plan.jobs[1].parents, [(DirectlyChained, 0)]);
    // A job of the same name twice: the child waits for both.
    let plan = post(&catalog("x: +TEST=a\na:\nb: START_AFTER_TEST=a"), "");
    assert_eq!(plan.jobs[2].parents, [(Chained, 0), (Chained, 1)]);
}

#[test]
fn products_exactly_then_by_pattern() {
    let mut all = catalog("install:");
    for version in ["*", "15-*", "15-SP*"] {
        all.add_medium(Medium { key: key(version), ..Medium::default() });
        let suite = Some("install".to_owned());
        all.add_template(Template {
            medium: key(version),
            machine: Some("64bit".into()),
            suite,
            ..Template::default()
        });
    }
    for (version, expected) in
        [("1", "1"), ("2", "*"), ("15-3", "15-*"), ("15-SP4", "15-SP*"), ("x15-SP4", "*")]
    {
        let plan = post(&all, &format!("VERSION={version}"));
        assert_eq!(plan.medium, Some(key(expected)));
        assert_eq!(value(&plan, 0, "VERSION"), Some(version));
    }
    for (pattern, text, fits) in [
        ("a*b", "ab", true),
        ("a*b", "axxb", true),
        ("a*b", "a", false),
        ("*a*", "xax", true),
        ("ab*ba", "aba", false),
        ("a", "ab", false),
        ("*", "", true),
    ] {
        assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
    }
    let refused = post(&all, "FLAVOR=DVDs").refused.expect("refused").to_string();
    assert_eq!(
        refused,
        "there is no product os-1-DVDs-x86_64 (did you mean os-1-DVD-x86_64?); add the product, or correct DISTRI, VERSION, FLAVOR and ARCH"
    );
}

#[test]
fn groups_and_priorities() {
    let mut all = catalog(
        "a: MAX_JOB_TIME=14400\nb: CASEDIR=/x\nc: MAX_JOB_TIME=7200 CASEDIR=https://x\nd: MAX_JOB_TIME=7200 TIMEOUT_SCALE=2",
    );
    all.priorities = PriorityRules::default();
    let group = |name: &str, parent: Option<&str>, priority| Group {
        name: name.into(),
        parent: parent.map(str::to_owned),
        default_priority: priority,
        ..Group::default()
    };
    all.groups.insert(GroupId(1), group("stable", None, Some(40)));
    all.groups.insert(GroupId(2), group("more", Some("Development"), None));
    let templates = all.templates.get_mut(&key("1")).expect("templates");
    templates[0].group = Some(GroupId(1));
    templates[1].group = Some(GroupId(2));
    templates[2].priority = Some(30);
    let plan = post(&all, "");
    let told: Vec<String> = plan.jobs.iter().map(|job| job.priority.to_string()).collect();
    assert_eq!(
        told,
        [
            "40 from the group, +100 for MAX_JOB_TIME=14400 = 140",
            "50 by default, +15 for CASEDIR=/x, +50 for the group Development / more = 115",
            "30 from the template",
            "50 by default, +100 for MAX_JOB_TIME=7200 with TIMEOUT_SCALE=2 = 150",
        ]
    );
    assert_eq!(value(&plan, 0, "_PRIORITY_EXPLANATION"), Some(told[0].as_str()));
    assert_eq!(value(&plan, 2, "_PRIORITY_EXPLANATION"), None);

    let posted = post(&all, "_PRIORITY=5");
    assert!(posted.jobs.iter().all(|job| job.priority.value() == 5));

    for (filter, expected) in
        [("_GROUP_ID=1", "a@64bit"), ("_GROUP=more", "b@64bit"), ("_GROUP=none _GROUP_ID=2", "b@64bit")]
    {
        let plan = post(&all, filter);
        assert_eq!(names(&plan).join(" "), expected);
        assert_eq!(plan.left_out.len(), 3);
    }
    for (filter, expected) in [
        ("_GROUP=stabel", "there is no job group stabel (did you mean stable?)"),
        ("_GROUP_ID=9", "there is no job group 9"),
    ] {
        assert!(post(&all, filter).refused.expect("refused").to_string().starts_with(expected));
    }
    for bad in ["x", "A:b", "A:1:2:3"] {
        assert!(PriorityRules::read_scales(bad).is_err(), "{bad}");
    }
    assert!(PriorityRules::read_matches("A:1:x").is_err() && PriorityRules::read_groups("who:x:1").is_err());
}

#[test]
fn what_a_request_says() {
    let read = |text: &str| Request::parse(map(text));
    assert_eq!(read("distri=x ARCH="), Err(BadRequest::Missing(vec!["VERSION", "FLAVOR", "ARCH"])));
    let all = "distri=X version=1 flavor=f arch=a";
    let request =
        read(&format!("{all} __note=n test=a,b _PRIORITY=-3 Iso=x.iso _OBSOLETE=0")).expect("a request");
    assert_eq!(request.settings, map("ARCH=a DISTRI=x FLAVOR=f ISO=x.iso VERSION=1"));
    assert_eq!(request.product_only, map("__NOTE=n"));
    assert_eq!((request.tests.len(), request.priority, request.old_builds), (2, Some(-3), OldBuilds::Stay));
    for (more, expected) in [
        ("_PRIORITY=high", "_PRIORITY=high is no whole number"),
        ("TEST=a _OBSOLETE=1", "TEST together with _OBSOLETE would"),
        ("TEST=a _DEPRIORITIZEBUILD=1", "add _FORCE_DEPRIORITIZEBUILD=1"),
    ] {
        let error = read(&format!("{all} {more}")).expect_err(more).to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(read(&format!("{all} TEST=a _OBSOLETE=1 _FORCE_OBSOLETE=1")).is_ok());
    let covered =
        read(&format!("{all} _SECRET_X=1 MY_PASSWORD=2 +_SECRET_Y=3")).expect("a request").covered();
    for key in ["_SECRET_X", "MY_PASSWORD", "+_SECRET_Y"] {
        assert_eq!(covered[key], "***", "{key}");
    }
}

#[test]
fn old_builds_end_or_step_back() {
    let all = catalog("a:");
    let open = |job, build: &str, priority, commented, group: Option<i64>| OpenJob {
        job: JobId(job),
        settings: map(&format!("DISTRI=os VERSION=1 FLAVOR=DVD ARCH=x86_64 BUILD={build}")),
        group: group.map(GroupId),
        priority,
        commented,
    };
    let mut jobs = vec![
        open(1, "6", 50, false, None),
        open(2, "6", 50, true, None),
        open(3, "5", 91, false, Some(1)),
        open(4, "4", 90, false, Some(1)),
        open(5, "7", 100, false, Some(2)),
    ];
    jobs[0].settings.insert("ARCH".into(), "arm".into());
    let tags = BTreeSet::from([
        BuildTag { group: GroupId(1), build: "1-4".into() },
        BuildTag { group: GroupId(1), build: "7".into() },
    ]);
    for (posted, expected) in [
        ("", vec![]),
        (
            "_OBSOLETE=1",
            vec![
                (2, Fate::Spared(Spared::Commented)),
                (3, Fate::Obsoleted),
                (4, Fate::Spared(Spared::Tagged)),
                (5, Fate::Obsoleted),
            ],
        ),
        ("_OBSOLETE=1 _ONLY_OBSOLETE_SAME_BUILD=1", vec![(5, Fate::Obsoleted)]),
        (
            "_DEPRIORITIZEBUILD=1",
            vec![
                (2, Fate::Spared(Spared::Commented)),
                (3, Fate::Obsoleted),
                (4, Fate::Spared(Spared::Tagged)),
                (5, Fate::Obsoleted),
            ],
        ),
        (
            "_DEPRIORITIZEBUILD=1 _DEPRIORITIZE_LIMIT=101",
            vec![
                (2, Fate::Spared(Spared::Commented)),
                (3, Fate::StepsBack(101)),
                (4, Fate::Spared(Spared::Tagged)),
                (5, Fate::Obsoleted),
            ],
        ),
    ] {
        let plan = post(&all, posted);
        let found = plan.old_builds.map(|obsolete| fates(&obsolete, &jobs, &tags)).unwrap_or_default();
        let found: Vec<_> = found.into_iter().map(|old| (old.job, old.fate)).collect();
        let expected: Vec<_> = expected.into_iter().map(|(job, fate)| (JobId(job), fate)).collect();
        assert_eq!(found, expected, "{posted}");
    }
    assert_eq!(post(&all, "BUILD= _OBSOLETE=1").old_builds, None, "without a build there are no older ones");
    let (old, name) = (jobs[4].job, "install@64bit".to_owned());
    for (fate, expected) in [
        (Fate::Obsoleted, "would end as obsoleted"),
        (Fate::StepsBack(60), "would step back to priority 60"),
        (Fate::Spared(Spared::Tagged), "would stay: its build is tagged"),
    ] {
        let old = OldJob { job: old, name: name.clone(), build: "7".into(), fate };
        assert_eq!(old.sentence(), format!("job 5, install@64bit of build 7, {expected}"));
    }
}

#[test]
fn flags_that_are_probably_meant_otherwise() {
    let all = catalog("a:");
    for (posted, expected) in [
        ("_OBSOLETE=1 _GROUP_ID=0 _SECRET_X=1 _URL=x __OBSOLTE=1", vec![]),
        (
            "_OBSOLTE=1",
            vec!["_OBSOLTE is no flag and becomes a setting of the jobs (did you mean _OBSOLETE?)"],
        ),
        (
            "_deprioritize_build=1",
            vec![
                "_DEPRIORITIZE_BUILD is no flag and becomes a setting of the jobs (did you mean _DEPRIORITIZEBUILD?)",
            ],
        ),
        ("_OBSOLETE=maybe", vec!["_OBSOLETE=maybe counts as _OBSOLETE=1; only 0 or nothing switches it off"]),
        (
            "_SKIP_CHAINED_DEPS=no",
            vec!["_SKIP_CHAINED_DEPS=no counts as _SKIP_CHAINED_DEPS=1; only 0 or nothing switches it off"],
        ),
    ] {
        assert_eq!(request(posted).doubtful_flags(), expected, "{posted}");
    }
    assert_eq!(post(&all, "_OBSOLTE=1").notes, request("_OBSOLTE=1").doubtful_flags());
}

#[test]
fn files_of_jobs() {
    for (key, value, kind) in [
        ("ISO", "a", Some(FileKind::Iso)),
        ("ISO_12", "a", Some(FileKind::Iso)),
        ("ISO_", "a", None),
        ("HDD_1", "a", Some(FileKind::Hdd)),
        ("HDD", "a", None),
        ("UEFI_PFLASH_VARS", "v.qcow2", Some(FileKind::Hdd)),
        ("UEFI_PFLASH_CODE", "/usr/share/x", None),
        ("REPO_0", "a", Some(FileKind::Repo)),
        ("REPO_X", "a", None),
        ("ASSET_1", "a", Some(FileKind::Other)),
        ("KERNEL", "a", Some(FileKind::Other)),
        ("NAME", "a", None),
    ] {
        assert_eq!(kind_of(key, value), kind, "{key}");
    }
    let plan = post(
        &catalog("a:\nb:\nc: ISO_URL=https://x/own.iso\nd: PUBLISH_HDD_1=x/y"),
        "ISO_URL=https://x/y.iso HDD_1_DECOMPRESS_URL=http://x/z.img.xz HDD_1=name.img",
    );
    let found: Vec<_> = plan
        .downloads
        .iter()
        .map(|it| (it.download.url.as_str(), it.download.name.as_str(), it.download.unpack, it.jobs.clone()))
        .collect();
    assert_eq!(
        found,
        [
            ("http://x/z.img.xz", "name.img", true, vec![0, 1, 2]),
            ("https://x/y.iso", "y.iso", false, vec![0, 1, 2])
        ]
    );
    assert!(plan.failed[0].problems[0].starts_with("PUBLISH_HDD_1=x/y has a `/` in it"));
}

#[test]
fn unknown_names_fail_their_template_only() {
    let mut all = catalog("install:\nother:");
    let templates = all.templates.get_mut(&key("1")).expect("templates");
    templates[0].machine = Some("64bits".into());
    templates[0].suite = Some("instal".into());
    let plan = post(&all, "");
    assert_eq!(names(&plan), ["other@64bit"]);
    assert_eq!(
        plan.failed[0].problems,
        [
            "the machine 64bits does not exist (did you mean 64bit?); add it, or name another one in the template",
            "the test suite instal does not exist (did you mean install?); add it, or name another one in the template"
        ]
    );
    assert_eq!(post(&all, "TEST=other").failed, []);
}

#[test]
fn scenario_definitions_keep_the_order_and_say_so() {
    let mut all = catalog("");
    all.origin = Origin::Scenarios;
    all.add_medium(Medium { key: key("1"), settings: map("A=product B=same"), ..Medium::default() });
    let template = |name: &str, machine: Option<&str>| Template {
        name: name.into(),
        medium: key("1"),
        machine: machine.map(str::to_owned),
        settings: map("A=template B=same"),
        ..Template::default()
    };
    all.add_template(template("one", Some("elsewhere")));
    all.add_template(template("two", None));
    let plan = post(&all, "");
    assert_eq!(names(&plan), ["one@elsewhere", "two"]);
    assert_eq!((value(&plan, 0, "A"), value(&plan, 1, "TEST_SUITE_NAME")), (Some("template"), None));
    assert_eq!(plan.notes.len(), 1);
    assert!(
        plan.notes[0].starts_with("A: the job template's value counts; in openQA")
            && plan.notes[0].ends_with("(2 jobs)")
    );
}

#[test]
fn a_plan_becomes_one_input() {
    let request = request("ISO_URL=https://x/y.iso _OBSOLETE=1 __N=1 _SECRET_A=x");
    let plan = plan(&catalog("b: START_AFTER_TEST=a\na: RETRY=2:flaky\nc: A=%A%"), &request);
    let Input::PostProduct { jobs, run, obsolete } =
        plan.into_input(&request, "me", BTreeSet::from([JobId(3)]))
    else {
        panic!("a post")
    };
    assert_eq!(jobs.len(), 2);
    assert_eq!((jobs[0].retries, jobs[0].priority), (2, Some(50)));
    assert_eq!(jobs[1].parents, [(Chained, ParentRef::Posted(0))]);
    assert_eq!(jobs[0].hold, Some(crate::rows::Hold::Assets { names: vec!["y.iso".into()], trouble: None }));
    assert_eq!((run.settings["__N"].as_str(), run.settings["_OBSOLETE"].as_str()), ("1", "1"));
    assert_eq!(run.settings["_SECRET_A"], "***");
    assert_eq!((run.failed.len(), run.left_out.len(), run.by.as_str()), (1, 0, "me"));
    assert_eq!(obsolete.expect("old builds").spared, BTreeSet::from([JobId(3)]));
}

#[test]
fn a_thousand_jobs_and_long_chains() {
    let suites: String = (0..1000)
        .map(|n| match n % 10 {
            0 => format!("t{n}: A=%B%-{n} B=%VERSION% WORKER_CLASS=x C=1 D=2 E=3 F=4 G=5 H=6\n"),
            _ => format!("t{n}: START_AFTER_TEST=t{} A=%B% B=%VERSION% C=1 D=2 E=3 F=4 G=5 H=6\n", n - 1),
        })
        .collect();
    let plan = post(&catalog(&suites), "HDD_1=x ISO=y");
    assert_eq!((plan.jobs.len(), plan.failed.len()), (1000, 0));
    let chain =
        (0..5000).map(|n| format!("t{n}: START_AFTER_TEST=t{}\n", n + 1)).collect::<Vec<_>>().concat();
    let plan = post(&catalog(&format!("{chain}t5000:")), "");
    assert_eq!(names(&plan)[0], "t5000@64bit");
    assert_eq!(plan.jobs.len(), 5001);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]

    /// Whatever is written into settings: there is a plan, its parents come first, and every template is accounted for.
    #[test]
    fn any_settings(
        suites in prop::collection::vec(("[ab]{1,2}", prop::collection::vec(
            ("(\\+?[ABC]|START_AFTER_TEST|PARALLEL_WITH|START_DIRECTLY_AFTER_TEST|WORKER_CLASS|\\+TEST|ISO_URL)", "[%ABab,@:6/é]{0,8}"), 0..5)), 0..6),
        filter in "(TEST=[ab]{1,2}|MACHINE=64bit|_SKIP_CHAINED_DEPS=1|_INCLUDE_CHILDREN=1|X=1)",
    ) {
        let mut all = catalog("");
        for (at, (name, settings)) in suites.iter().enumerate() {
            let suite = format!("s{at}");
            all.add_suite(Suite { name: suite.clone(), settings: settings.iter().cloned().collect(), ..Suite::default() });
            all.add_template(Template {
                name: name.clone(),
                medium: key("1"),
                machine: Some("64bit".into()),
                suite: Some(suite),
                ..Template::default()
            });
        }
        let plan = post(&all, &filter);
        if suites.is_empty() {
            let refused = matches!(plan.refused, Some(Refused::NoTemplates { .. }));
            prop_assert!(refused);
        } else {
            prop_assert_eq!(&plan.refused, &None);
        }
        for (place, job) in plan.jobs.iter().enumerate() {
            prop_assert!(job.parents.iter().all(|(_, parent)| *parent < place));
            prop_assert!(job.settings.check().is_ok());
        }
        let unmade = plan.failed.iter().filter(|failed| failed.made.is_none()).count();
        prop_assert_eq!(plan.jobs.len() + unmade + plan.left_out.len(), suites.len());
    }
}

#[test]
fn a_job_without_a_product_has_the_settings_of_all_jobs() {
    let map = |pairs: &[(&str, &str)]| -> SettingsMap {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let global = map(&[
        ("CASEDIR", "https://x/t.git#%VERSION%"),
        ("TIMEOUT_SCALE", "3"),
        ("TEST", "no"),
        ("+QEMURAM", "2048"),
    ]);
    let posted = map(&[("TEST", "kernel"), ("VERSION", "44"), ("TIMEOUT_SCALE", "5"), ("QEMURAM", "1")]);
    let job = over_global(&global, &posted).expect("settings");
    for (key, value) in [
        ("CASEDIR", "https://x/t.git#44"),
        ("TEST", "kernel"),
        ("TIMEOUT_SCALE", "5"),
        ("QEMURAM", "2048"),
        ("VERSION", "44"),
    ] {
        assert_eq!(job.get(key), Some(value), "{key}");
    }
    assert_eq!(job.0["TIMEOUT_SCALE"].over, [(Provenance::Global, "3".to_owned())]);
    let circle = over_global(&map(&[]), &map(&[("A", "%B%"), ("B", "%A%")])).expect_err("a circle");
    assert!(circle.contains("circular reference"), "{circle}");
}
