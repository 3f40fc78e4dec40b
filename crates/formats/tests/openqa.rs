//! openQA's files: what they mean, what is said of wrong ones, and that written ones are read back the same.

use assay_engine::product::{
    Catalog, Machine, Medium, MediumKey, PriorityRules, Request, Suite, Template, plan,
};
use assay_formats::diagnostic::Diagnostic;
use assay_formats::openqa::fif::GroupRules;
use assay_formats::openqa::{Changes, GroupFacts, GroupFile, Grouped, Known, fif, group, scenarios, tables};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const GROUP: &str = include_str!("openqa/group.yaml");
const WRONG: &str = include_str!("openqa/wrong.yaml");
const SCENARIOS: &str = include_str!("openqa/scenarios.yaml");
const FIF: &str = include_str!("openqa/fif.json");
const UPDATES: &str = include_str!("openqa/fif-updates.json");
const PERL: &str = include_str!("openqa/tables.pl");

fn shown(found: &[Diagnostic]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|&name| name.to_owned()).collect()
}

fn known() -> Known {
    Known {
        machines: names(&["64bit", "uefi", "aarch64", "aarch64-hpc"]),
        suites: names(&["install", "upgrade"]),
        media: names(&["demo-15.10-DVD-x86_64", "demo-*-NET-x86_64", "demo-*-NET-aarch64"]),
    }
}

/// A template in a line.
fn line(template: &Template) -> String {
    let settings: Vec<String> =
        template.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!(
        "{} {}@{} ({}) {:?} {}",
        template.medium,
        template.test(),
        template.machine.as_deref().unwrap_or("-"),
        template.suite.as_deref().unwrap_or("-"),
        template.priority,
        settings.join(" ")
    )
}

#[test]
fn a_group() {
    let loaded = group::load("group.yaml", GROUP, Some(&known()));
    assert_eq!(shown(&loaded.diagnostics), [""; 0]);
    let templates = loaded.value.expect("templates");
    let upgrade = "+HDD_1=%DISTRI%-%VERSION%@%MACHINE%.qcow2 DESKTOP=gnome NUMDISKS=2 QEMURAM=2048 START_AFTER_TEST=install";
    assert_eq!(
        templates.iter().map(line).collect::<Vec<_>>(),
        [
            "demo-15.10-DVD-x86_64 install@64bit (install) Some(55) NUMDISKS=1".to_owned(),
            "demo-15.10-DVD-x86_64 install@uefi (install) Some(40) NUMDISKS=1".to_owned(),
            format!("demo-15.10-DVD-x86_64 upgrade_gnome@64bit (upgrade) Some(55) {upgrade}"),
            format!("demo-15.10-DVD-x86_64 upgrade_gnome@uefi (upgrade) Some(55) {upgrade}"),
            "demo-15.10-DVD-x86_64 bare@64bit (-) Some(55) NUMDISKS=1 SCHEDULE=bare.yaml".to_owned(),
            "demo-*-NET-x86_64 install@64bit (install) Some(55) NETWORK=1 NUMDISKS=1".to_owned(),
            "demo-*-NET-aarch64 install@aarch64 (install) Some(10) NETWORK=1".to_owned(),
            "demo-*-NET-aarch64 install@aarch64-hpc (install) Some(10) NETWORK=1".to_owned(),
        ]
    );
    assert_eq!(templates[2].description, "Maintainer (Somebody)");
    assert_eq!((templates[0].name.as_str(), templates[2].name.as_str()), ("", "upgrade_gnome"));
}

#[test]
fn everything_that_is_wrong_with_a_group_at_once() {
    let loaded = group::load("g", WRONG, Some(&known()));
    assert!(loaded.value.is_none());
    assert_eq!(
        shown(&loaded.diagnostics),
        [
            "g:1:1: error: unknown key `scenarioss` of a job group; did you mean `scenarios`?",
            "g:3:3: error: `X86` is no architecture; expected small letters, digits and `_`, as in `x86_64`",
            "g:4:5: error: the default of an architecture needs the key `priority`",
            "g:7:5: error: a product needs the key `flavor`",
            "g:8:5: error: unknown key `flavour` of a product; did you mean `flavor`?",
            "g:9:14: error: `version`: expected text, found a list",
            "g:10:3: warning: the product `unused` has no scenarios",
            "g:17:9: error: the test suite `instal` does not exist; expected one that does; did you mean `install`?",
            "g:17:9: error: the scenario `instal` has no machine, and `defaults` of x86_64 has none; add `machine`",
            "g:19:20: error: the machine `64bits` does not exist; expected one that does; did you mean `64bit`?",
            "g:21:13: error: `low` is no name of a setting; expected capital letters, digits and `_`",
            "g:22:21: error: the value of `NUMBER` is a whole number; settings are text: put it in quotes",
            "g:23:19: error: `LIST`: expected text, found a list",
            "g:24:21: error: `priority`: expected a whole number, found text",
            "g:25:9: error: expected one scenario for each `-`; indent what belongs to it further",
            "g:28:9: error: the scenario `install` is there twice for demo-DVD on 64bit; give one of them another name, with `testsuite: install`",
            "g:29:9: error: the scenario `nowhere` has no machine, and `defaults` of x86_64 has none; add `machine`",
            "g:30:9: error: `what?` is no name of a scenario; expected letters, digits, spaces, and `_ * . + -`",
            "g:31:5: error: the product `demo-DVDs` is not among `products`; expected one that is; did you mean `demo-DVD`?",
            "g:32:9: error: the scenario `install` has no machine, and `defaults` of x86_64 has none; add `machine`",
            "g:33:46: error: `low` is no name of a setting; expected capital letters, digits and `_`",
            "g:34:28: error: the machine `64bits` does not exist; expected one that does; did you mean `64bit`?",
            "g:35:9: error: the scenario `install` is there twice for demo-DVDs on 64bit; give one of them another name, with `testsuite: install`",
        ]
    );
    for (text, expected) in [
        ("", "g: error: there is nothing in it; expected `products` and `scenarios`"),
        ("products: {}\n", "g:1:1: error: a job group needs the key `scenarios`"),
        ("[]", "g:1:1: error: expected a mapping for a job group, found a list"),
        (
            "products: {}\nscenarios: {a: {}}\nscenarios: {}",
            "g:3:1: error: the key `scenarios` already stands in line 2; expected it once",
        ),
    ] {
        assert_eq!(shown(&group::load("g", text, None).diagnostics), [expected]);
    }
}

#[test]
fn a_group_is_written_as_openqa_does() {
    let templates = group::load("g", GROUP, None).value.expect("templates");
    let text = group::dump(&templates[..5]);
    assert_eq!(
        text,
        "defaults:
  x86_64: {machine: 64bit, priority: 55}
products:
  demo-15.10-DVD-x86_64:
    distri: demo
    flavor: DVD
    version: \"15.10\"
scenarios:
  x86_64:
    demo-15.10-DVD-x86_64:
      - install:
          settings: {NUMDISKS: \"1\"}
      - install:
          machine: uefi
          priority: 40
          settings: {NUMDISKS: \"1\"}
      - upgrade_gnome:
          settings:
            \"+HDD_1\": \"%DISTRI%-%VERSION%@%MACHINE%.qcow2\"
            DESKTOP: gnome
            NUMDISKS: \"2\"
            QEMURAM: \"2048\"
            START_AFTER_TEST: install
          testsuite: upgrade
          description: \"Maintainer (Somebody)\"
      - upgrade_gnome:
          machine: uefi
          settings:
            \"+HDD_1\": \"%DISTRI%-%VERSION%@%MACHINE%.qcow2\"
            DESKTOP: gnome
            NUMDISKS: \"2\"
            QEMURAM: \"2048\"
            START_AFTER_TEST: install
          testsuite: upgrade
          description: \"Maintainer (Somebody)\"
      - bare:
          settings: {NUMDISKS: \"1\", SCHEDULE: bare.yaml}
          testsuite: null
"
    );
}

#[test]
fn scenario_definitions_are_planned() {
    let loaded = scenarios::load("s", SCENARIOS);
    assert_eq!(
        shown(&loaded.diagnostics),
        [
            "s:26:22: warning: the machine `elsewhere` is not among `machines`; its jobs get nothing but its name"
        ]
    );
    let catalog = Catalog { priorities: PriorityRules::none(), ..loaded.value.expect("a catalog") };
    let posted = [("DISTRI", "demo"), ("VERSION", "1"), ("FLAVOR", "DVD"), ("ARCH", "x86_64")];
    let plan = plan(&catalog, &Request::parse(posted).expect("a request"));
    assert_eq!((&plan.refused, plan.failed.len()), (&None, 0));
    let told: Vec<String> =
        plan.jobs.iter().map(|job| format!("{} {}", job.label(), job.priority.value())).collect();
    assert_eq!(told, ["install@64bit 40", "other@64bit 70", "other@elsewhere 70", "free 50"]);
    let plain = plan.jobs[0].settings.plain();
    assert_eq!((plain["FROM"].as_str(), plain["WORKER_CLASS"].as_str()), ("template", "a,b,c"));
    assert_eq!(plain["QEMURAM"], "1024");
    assert_eq!(plan.jobs[3].parents.len(), 1);
    assert!(plan.notes.iter().any(|note| note.starts_with("FROM: the job template's value counts")));

    let (_, placed) = scenarios::load_placed("s", SCENARIOS).value.expect("definitions");
    let lines = SCENARIOS.lines().collect::<Vec<_>>();
    assert_eq!(placed.len(), plan.jobs.len());
    for (template, place) in placed {
        let line = lines[place.line as usize - 1].trim_start();
        assert!(line.starts_with(template.test()), "{} is not at {line:?}", template.test());
    }

    for (text, expected) in [
        ("products: {}", "s:1:1: error: a file of scenarios needs the key `job_templates`"),
        (
            "job_templates:\n  a: {product: demo}",
            "s:2:16: error: the product `demo` is not among `products`; expected one that is",
        ),
        ("job_templates:\n  a: {machine: x}", "s:2:3: warning: `a` has no product, so it is never scheduled"),
        (
            "job_templates:\n  a: {prodct: x}",
            "s:2:7: error: unknown key `prodct` of a job template; did you mean `product`?",
        ),
        ("machines: {m: {}}\njob_templates: {}", "s:1:15: error: a machine needs the key `backend`"),
        (
            "products: {p: {distri: d, version: 1, flavor: f}}\njob_templates: {}",
            "s:1:15: error: a product needs the key `arch`",
        ),
    ] {
        let found = shown(&scenarios::load("s", text).diagnostics);
        assert!(found.iter().any(|found| found == expected), "{found:#?}");
    }
}

#[test]
fn fedoras_files_over_each_other() {
    let loaded = fif::load(&[("f", FIF), ("u", UPDATES)], &GroupRules::fedora(), Some(&Known::default()));
    assert_eq!(
        shown(&loaded.diagnostics),
        [
            "u:5:5: warning: the test suite `elsewhere` has profiles, but no file says what its settings are; load the file that does as well"
        ]
    );
    let changes = loaded.value.expect("changes");
    let told: Vec<String> =
        changes.templates.iter().map(|it| format!("{}: {}", it.group, line(&it.template))).collect();
    assert_eq!(
        told,
        [
            "fedora: fedora-*-Server-x86_64 base@64bit (base) None ",
            "Fedora Updates: fedora-*-updates-server-x86_64 base@64bit (base) Some(40) ",
            "Fedora Updates: fedora-*-updates-server-x86_64 elsewhere@64bit (elsewhere) Some(1) ",
            "fedora: fedora-*-Server-x86_64 install@64bit (install) Some(30) ",
            "Fedora AArch64: fedora-*-Server-aarch64 install@aarch64 (install) Some(5) ",
        ]
    );
    let product = |name: &str| changes.media.iter().find(|it| it.name == name).expect("a product");
    assert_eq!(product("server").settings["PACKAGE_SET"], "own");
    assert_eq!(product("server-arm").settings["PACKAGE_SET"], "default");
    assert_eq!(changes.machines[0].settings["QEMURAM"], "2048");
    let base = changes.suites.iter().find(|suite| suite.name == "base").expect("a suite");
    assert_eq!((base.settings["START_AFTER_TEST"].as_str(), changes.suites.len()), ("", 2));

    let wrong = FIF
        .replace("\"server-64bit\": {\"machine\": \"64bit\"", "\"server-64bit\": {\"machine\": \"64bits\"")
        .replace("\"all\": 20", "\"al\": 20")
        .replace(
            "\"profiles\": {\"server-64bit\": 0}",
            "\"profiles\": {\"server-32bit\": \"x\", \"sever-64bit\": 1}",
        );
    let found = fif::load(&[("f", &wrong)], &GroupRules::one("g"), None).diagnostics;
    assert_eq!(
        shown(&found),
        [
            "f:14:5: error: the machine `64bits` is not among `Machines`; did you mean `64bit`?",
            "f:20:36: error: the group of profiles `al` is not among `ProfileGroups`; did you mean `all`?",
            "f:21:43: error: `server-32bit`: expected a whole number, found text",
            "f:21:48: error: the profile `sever-64bit` is not among `Profiles`; did you mean `server-64bit`?",
        ]
    );
}

#[test]
fn tables_in_perl_and_json() {
    let loaded = tables::load("t", PERL, Some(&Known::default()));
    assert_eq!(shown(&loaded.diagnostics), [""; 0]);
    let changes = loaded.value.expect("changes");
    let told: Vec<String> =
        changes.templates.iter().map(|it| format!("{}: {}", it.group, line(&it.template))).collect();
    assert_eq!(
        told,
        [
            "demo: demo-1-DVD-x86_64 install@64bit (install) Some(50) ",
            // Old files have priorities at suites, and no group.
            "demo-1: demo-1-DVD-x86_64 upgrade@64bit (upgrade) Some(44) ",
        ]
    );
    assert_eq!(changes.suites[1].description, "it's $good");
    assert_eq!(changes.suites[1].settings["+HDD_1"], "%A%@x");
    assert_eq!(changes.machines[0].settings["QEMURAM"], "1024");
    assert_eq!(changes.groups[0].templates.len(), 1);
    let again = tables::load("t", &tables::dump(&changes), Some(&Known::default()));
    assert_eq!(shown(&again.diagnostics), [""; 0]);
    assert_eq!(again.value.map(without_places), Some(without_places(changes)));

    let wrong = r#"{
      "Machines": [{"name": "m"}, {"name": "n", "backend": "q", "settings": [{"key": "a", "value": "1"}, {"key": "B"}, {"kee": "C"}]}],
      "JobTemplates": [{"prio": "x", "machine": {"name": "o"}, "test_suite": {"name": "t"}, "product": {"distri": "d"}}],
      "JobGroups": [{"group_name": "g", "template": "products: {}\nscenarioz: {}"}],
      "Tests": []
    }"#;
    let found = tables::load("t", wrong, Some(&Known::default())).diagnostics;
    let expected = [
        "t:2:20: error: a machine needs the key `backend`",
        "t:2:78: error: `a` is no name of a setting",
        "t:2:106: error: a setting needs the key `value`",
        "t:2:120: error: a setting needs the key `key`",
        "t:2:121: error: unknown key `kee` of a setting; did you mean `key`?",
        "t:3:24: error: the machine `o` does not exist",
        "t:3:33: error: `prio`: expected a whole number",
        "t:4:53: error: in the YAML of the group g, line 2, column 1: unknown key `scenarioz` of a job group (did you mean `scenarios`?)",
        "t:5:7: error: unknown key `Tests` of openQA's tables",
    ];
    let found = shown(&found);
    for expected in expected {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}\nis not in {found:#?}");
    }
}

/// Whatever is read is explained, and what is taken can be written and read again.
fn read(text: &str) {
    let explained = |taken: bool, found: &[Diagnostic]| {
        assert_eq!(taken, !found.iter().any(Diagnostic::is_error), "{found:#?}");
        assert!(found.iter().all(|found| !found.message.is_empty()));
    };
    let loaded = group::load("f", text, None);
    explained(loaded.value.is_some(), &loaded.diagnostics);
    if let Some(templates) = loaded.value {
        same_group(templates);
    }
    let loaded = scenarios::load("f", text);
    explained(loaded.value.is_some(), &loaded.diagnostics);
    let loaded = fif::load(&[("f", text), ("g", text)], &GroupRules::fedora(), None);
    explained(loaded.value.is_some(), &loaded.diagnostics);
    let loaded = tables::load("f", text, None);
    explained(loaded.value.is_some(), &loaded.diagnostics);
    if let Some(changes) = loaded.value {
        same_tables(changes);
    }
}

fn same_group(mut templates: Vec<Template>) {
    let text = group::dump(&templates);
    let again = group::load("f", &text, None);
    let mut read = again.value.unwrap_or_else(|| panic!("{text}\n{:#?}", again.diagnostics));
    for all in [&mut templates, &mut read] {
        all.sort_by_cached_key(|template| {
            (template.medium.clone(), template.test().to_owned(), template.machine.clone())
        });
    }
    assert_eq!(read, templates, "{text}");
}

/// What is read from another text stands elsewhere.
fn without_places(mut changes: Changes) -> Changes {
    changes.templates.iter_mut().for_each(|it| it.at.clear());
    changes.groups.iter_mut().for_each(|it| it.at.clear());
    changes
}

fn same_tables(changes: Changes) {
    let text = tables::dump(&changes);
    let again = tables::load("f", &text, None);
    let read = again.value.unwrap_or_else(|| panic!("{text}\n{:#?}", again.diagnostics));
    let (mut changes, mut read) = (without_places(changes), without_places(read));
    for all in [&mut changes, &mut read] {
        all.templates.sort_by_cached_key(|it| format!("{it:?}"));
    }
    assert_eq!(read, changes, "{text}");
}

/// A file with some of its lines replaced, doubled, moved or left out.
fn mutated(text: &'static str) -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..8_u8,
        any::<prop::sample::Index>(),
        "[-:{}\\[\\]&*!|>'\" a1#,=$@\\\\é]{0,4}",
    );
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        for (at, kind, other, piece) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match kind {
                0 if lines.len() > 1 => {
                    lines.remove(at);
                }
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => lines[at] = piece,
                4 => lines[at] = lines[at].trim_start().into(),
                5 => lines[at] += &piece,
                _ => {
                    let cut = lines[at].char_indices().map(|(at, _)| at).nth(other % 20).unwrap_or(0);
                    lines[at].insert_str(cut, &piece);
                }
            }
        }
        lines.join("\n")
    })
}

fn settings() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("\\+?[A-Z_][A-Z0-9_]{0,4}", "[ -~\n\té]{0,12}", 0..4)
}

fn key() -> impl Strategy<Value = MediumKey> {
    ("[a-c-]{1,3}", "[1*.-]{1,4}", "[A-B -]{1,3}", "[a-b_]{1,2}")
        .prop_map(|(distri, version, flavor, arch)| MediumKey { distri, version, flavor, arch })
}

fn template() -> impl Strategy<Value = Template> {
    let text = "[a-c][a-c0-9_. +-]{0,4}";
    (key(), text, text, prop::option::of(text), prop::option::of(-9..99_i32), "[ -~\n]{0,9}", settings())
        .prop_map(|(medium, test, machine, suite, priority, description, settings)| {
            let name = if suite.as_ref() == Some(&test) { String::new() } else { test };
            Template {
                name,
                medium,
                machine: Some(machine),
                suite,
                group: None,
                priority,
                description,
                settings,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in "[ -~\n\t\r\u{0}é\u{feff}]{0,300}") {
        read(&text);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn data_like_text(text in "(\\{|\\}|\\[|\\]|,|:|\\(|\\)| x |9999|=>|'|\"|\\\\|\\\\u12|\\\\x\\{|q\\(|qq|undef|1|-|a| |\n|#|\\$|@|Machines|name|settings){0,40}") {
        read(&text);
    }

    #[test]
    fn mutated_groups(text in mutated(GROUP)) {
        read(&text);
    }

    #[test]
    fn mutated_scenarios(text in mutated(SCENARIOS)) {
        read(&text);
    }

    #[test]
    fn mutated_fif(text in mutated(FIF)) {
        read(&text);
    }

    #[test]
    fn mutated_perl(text in mutated(PERL)) {
        read(&text);
    }

    #[test]
    fn written_groups_are_read_the_same(templates in prop::collection::vec(template(), 0..8)) {
        let mut seen = BTreeSet::new();
        let unique = |it: &Template| (it.medium.clone(), it.machine.clone(), it.test().to_owned());
        same_group(templates.into_iter().filter(|it| seen.insert(unique(it))).collect());
    }

    #[test]
    fn written_tables_are_read_the_same(
        machines in prop::collection::btree_map("[a-c ]{1,3}", settings(), 0..3),
        suites in prop::collection::btree_map("[a-c é]{1,3}", (settings(), "[ -~\n]{0,5}"), 0..3),
        media in prop::collection::btree_map(key(), settings(), 0..3),
        templates in prop::collection::vec(template(), 0..5),
        text in "[ -~é\u{1}\u{2028}😀]{1,9}",
    ) {
        let mut seen = BTreeSet::new();
        let unique = |it: &Template| (it.medium.clone(), it.machine.clone(), it.name.clone(), it.suite.clone());
        let templates = templates.into_iter().filter(|it| seen.insert(unique(it)));
        same_tables(Changes {
            machines: machines.into_iter().map(|(name, settings)| Machine { name, backend: text.clone(), settings, priority: None }).collect(),
            media: media.into_iter().map(|(key, settings)| Medium { key, name: text.clone(), settings }).collect(),
            suites: suites.into_iter().map(|(name, (settings, description))| Suite { name, description, settings }).collect(),
            templates: templates.map(|template| Grouped { group: text.clone(), template, at: String::new() }).collect(),
            facts: vec![GroupFacts { name: text.clone(), parent: Some(text.clone()), description: None, sort_order: Some(7), numbers: [("keep_jobs_in_days".to_owned(), 9)].into() }],
            groups: vec![GroupFile { name: text, text: "products: {}\nscenarios: {}\n".into(), templates: Vec::new(), at: String::new() }],
        });
    }
}

/// Inputs whose reading could cost far more than their size.
#[test]
fn what_grows() {
    let many = 10_000;
    let scenarios: Vec<String> = (0..many).map(|at| format!("    - s{at}: {{machine: m}}\n")).collect();
    let unknown: Vec<String> = (0..many).map(|at| format!("    - j{at}\n")).collect();
    let head = "products: {p: {distri: d, flavor: f, version: '1'}}\nscenarios:\n x86_64:\n  p:\n";
    let bomb = (1..40).fold(".a0: &a0 {A: b}\n".to_owned(), |text, at| {
        text + &format!(".a{at}: &a{at} [*a{0}, *a{0}]\n", at - 1)
    });
    for text in [
        format!("{head}{}", scenarios.concat()),
        format!("{head}{}", unknown.concat()),
        bomb,
        "[".repeat(many),
        "{a=>".repeat(many),
        "q(".repeat(many),
        "{\"a\":[".repeat(many),
        format!("[{}", "1,".repeat(many)),
        "\"".to_owned() + &"\\".repeat(many),
    ] {
        read(&text);
    }
    let known = Known { suites: (0..2000).map(|at| format!("suite{at}")).collect(), ..Known::default() };
    let loaded = group::load("f", &format!("{head}{}", unknown.concat()), Some(&known));
    assert!(loaded.diagnostics.len() >= many);
}
