use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn message(topic: &str, body: Value) -> Message {
    Message::new("fedora", "fedora", "id-1", topic, json!({}), body)
}

fn field(expr: &str, test: Test) -> Cond {
    Cond::Field { expr: Expr::parse(expr).unwrap(), test, line: 7 }
}

fn one_of(values: &[&str]) -> Test {
    Test::OneOf(values.iter().map(ToString::to_string).collect())
}

fn topic(pattern: &str) -> Cond {
    Cond::Topic(vec![TopicPattern::new(pattern)])
}

fn rule(when: Cond, settings: &[(&str, &str)]) -> Rule {
    let template = |(key, value): &(&str, &str)| (key.to_string(), Template::parse(value).unwrap());
    Rule {
        name: "r".to_owned(),
        description: String::new(),
        place: "rules.yaml:1".to_owned(),
        enabled: true,
        when,
        each: None,
        only: None,
        item: None,
        fan_out: Vec::new(),
        once: Once::Item,
        batch: None,
        limit: None,
        run: vec![Action::Job { settings: settings.iter().map(template).collect(), priority: None }],
    }
}

fn set(rules: Vec<Rule>) -> RuleSet {
    RuleSet { rules: rules.into_iter().map(Arc::new).collect(), hash: String::new() }
}

#[test]
fn topics() {
    for (pattern, topic, fits) in [
        ("a.b", "a.b", true),
        ("a.b", "a.b.c", false),
        ("a.*", "a.b", true),
        ("a.*", "a", false),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("#.c", "a.b.c", true),
        ("#.c", "c", true),
        ("a.#.z", "a.b.c.z", true),
        ("a.#.z", "a.b.c", false),
        ("*.*", "a", false),
        ("#", "", true),
    ] {
        assert_eq!(TopicPattern::new(pattern).matches(topic), fits, "{pattern} {topic}");
    }
    for (a, b, overlap) in [
        ("a.#", "a.b.*", true),
        ("a.*", "b.*", false),
        ("#.x", "#.y", false),
        ("*.x", "a.#", true),
        ("#", "a", true),
    ] {
        assert_eq!(TopicPattern::new(a).overlaps(&TopicPattern::new(b)), overlap, "{a} {b}");
        assert_eq!(TopicPattern::new(b).overlaps(&TopicPattern::new(a)), overlap, "{b} {a}");
    }
}

#[test]
fn expressions() {
    let body = json!({"n": 5, "t": true, "z": null, "l": [{"nvr": "bash-5.2-1.fc40"}, {"nvr": "vim-enhanced-9-2"}], "s": "a/b/C"});
    let message = message("x", body);
    let context = message.context(None);
    for (text, expected) in [
        ("{body.n}-{body.t}", Ok("5-true")),
        ("{body.l[].nvr}", Ok("bash-5.2-1.fc40 vim-enhanced-9-2")),
        ("{body.l[].nvr|nvr-name|join:,}", Ok("bash,vim-enhanced")),
        ("{body.l.0.nvr|nvr-release}", Ok("1.fc40")),
        ("{body.l.1.nvr|nvr-version}", Ok("9")),
        ("{body.l|count}", Ok("2")),
        ("{body.s|basename|lower}", Ok("c")),
        ("{body.s|replace:/:-}", Ok("a-b-C")),
        ("{body.z|default:no}", Ok("no")),
        ("{{{topic}}}", Ok("{x}")),
        ("{body.z}", Err("body.z")),
        ("{body.l[].none}", Err("body.l[].none")),
    ] {
        let rendered = Template::parse(text).unwrap().render(&context);
        assert_eq!(rendered.as_deref().map_err(|error| error.expr.as_str()), expected, "{text}");
    }
    for (text, problem) in [
        ("{}", "empty"),
        ("{body.a", "no `}`"),
        ("{body.a|uper}", "no filter `uper`"),
        ("{body..a}", "empty name"),
        ("{body.a|replace:x}", "two texts"),
    ] {
        let error = Template::parse(text).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn what_passes_and_why_not() {
    let message = message("org.x.update", json!({"a": "testing", "n": 7, "list": ["x", "y"], "none": null}));
    let context = message.context(None);
    let not = |test| Test::Not(Box::new(test));
    for (cond, why) in [
        (topic("org.#"), None),
        (topic("com.#"), Some("topic is org.x.update, not com.#")),
        (field("body.a", one_of(&["stable", "testing"])), None),
        (field("body.a", one_of(&["stable"])), Some("body.a is testing, expected \"stable\" (line 7)")),
        (field("body.list", one_of(&["y"])), None),
        (field("body.list", not(one_of(&["y"]))), Some("body.list is x, y, expected not \"y\" (line 7)")),
        (field("body.list[]", one_of(&["z"])), Some("body.list[] is x, y, expected \"z\" (line 7)")),
        (field("body.none", Test::Exists(false)), None),
        (field("body.b", Test::Exists(true)), Some("body.b is not there, expected anything (line 7)")),
        (field("body.b", not(one_of(&["x"]))), None),
        (field("body.n", Test::All(vec![Test::Least(7), Test::Most(7)])), None),
        (field("body.n", Test::Least(8)), Some("body.n is 7, expected at least 8 (line 7)")),
        (field("body.a", Test::Regex(RegexTest::new("^test").unwrap())), None),
        (field("body.a", Test::Glob(Glob::new("t?st*").unwrap())), None),
        (
            field("body.a", Test::Glob(Glob::new("t.*").unwrap())),
            Some("body.a is testing, expected t.* (line 7)"),
        ),
        (
            Cond::Any(vec![topic("a"), topic("b")]),
            Some("none of these: topic is org.x.update, not a; topic is org.x.update, not b"),
        ),
        (Cond::Not(Box::new(topic("#"))), Some("this is so, and must not be: topic #")),
    ] {
        let found = cond.why_not(message.topic(), &context);
        assert_eq!(found.as_ref().map(|why| why.0.as_str()), why, "{cond}");
        assert_eq!(cond.is_met(message.topic(), &context), why.is_none(), "{cond}");
    }
}

#[test]
fn keys_say_what_is_the_same() {
    let mut fanned =
        rule(topic("#.update.edit"), &[("TEST", "lint"), ("NVR", "{each.nvr}"), ("ARCH", "{arch}")]);
    fanned.each = Some(Expr::parse("body.update.builds").unwrap());
    fanned.only = Some(field("each.nvr|nvr-name", one_of(&["kernel"])));
    let values = |values: &[&str]| FanOut::Values(values.iter().map(ToString::to_string).collect());
    fanned.fan_out = vec![("arch".to_owned(), values(&["x86_64", "aarch64"]))];
    let rules = set(vec![fanned.clone()]);
    let body =
        json!({"update": {"alias": "FEDORA-1", "builds": [{"nvr": "kernel-6-1"}, {"nvr": "bash-5-1"}]}});
    let one = plan(&rules, &Message::new("a", "bus", "1", "org.bodhi.update.edit", json!({}), body.clone()));
    let two = plan(&rules, &Message::new("b", "bus", "2", "org.bodhi.update.edit", json!({}), body.clone()));
    let keys = |plan: &Plan| plan.effects.iter().map(|effect| effect.key.clone()).collect::<Vec<_>>();
    assert_eq!(
        keys(&one),
        [
            "r/bodhi_update/FEDORA-1/bash-5-1 kernel-6-1/arch=x86_64/1:lint",
            "r/bodhi_update/FEDORA-1/bash-5-1 kernel-6-1/arch=aarch64/1:lint"
        ]
    );
    assert_eq!(keys(&one), keys(&two), "another message about the same thing");
    let PlannedEffect::Job { settings, .. } = &one.effects[1].effect else { panic!("a job") };
    let get = |key: &str| settings.get(key).map(String::as_str);
    assert_eq!(
        (get("NVR"), get("ARCH"), get("ITEM_TYPE")),
        (Some("kernel-6-1"), Some("aarch64"), Some("bodhi_update"))
    );
    assert_eq!((get("ASSAY_RULE"), get("ASSAY_EVENT")), (Some("r"), Some("bus/1")));
    fanned.once = Once::Event;
    let rules = set(vec![fanned]);
    let again =
        |key| plan(&rules, &Message::new("a", "bus", key, "org.bodhi.update.edit", json!({}), body.clone()));
    assert_ne!(keys(&again("1")), keys(&again("2")));
}

/// The keys of the effects of a rule for these messages: their ids, and their bodies.
fn keys_of<'b>(topic_of_all: &str, messages: impl IntoIterator<Item = (&'b str, Value)>) -> Vec<String> {
    let rules = set(vec![rule(topic("#"), &[("TEST", "t")])]);
    let key = |(id, body): (&str, Value)| {
        plan(&rules, &Message::new("s", "bus", id, topic_of_all, json!({}), body)).effects.remove(0).key
    };
    messages.into_iter().map(key).collect()
}

#[test]
fn each_coming_into_a_tag_counts() {
    let tagged = |nvr: &str| {
        let (name, version, release) = split_nvr(nvr).unwrap();
        json!({"tag": "f44", "build_id": 7, "name": name, "version": version, "release": release})
    };
    let (bash, sed) = (tagged("bash-5-1"), tagged("sed-4-1"));
    let keys = keys_of(
        "o.buildsys.tag",
        [("1", bash.clone()), ("2", sed), ("3", bash.clone()), ("1", bash.clone())],
    );
    assert_eq!(keys[0], "r/koji_tag/f44/bash-5-1/bus/1/1:t");
    assert_eq!(keys[1], "r/koji_tag/f44/sed-4-1/bus/2/1:t");
    assert_ne!(keys[2], keys[0], "it came again");
    assert_eq!(keys[3], keys[0], "the same message");
    // Another source told it first, in a message of its own.
    let late = Message::new("s", "bus", "4", "o.buildsys.tag", json!({}), bash);
    assert!(late.is_told_twice());
    let rules = set(vec![rule(topic("#"), &[("TEST", "t")])]);
    assert_eq!(plan(&rules, &late.first_told_as("bus", "1")).effects[0].key, keys[0]);
    let mut own = rule(topic("#"), &[("TEST", "t")]);
    let template = |text: &str| Template::parse(text).unwrap();
    own.item =
        Some(ItemTemplate { kind: template("x"), id: template("y"), revision: template("{body.build_id}") });
    let said =
        plan(&set(vec![own]), &Message::new("s", "bus", "5", "o.buildsys.tag", json!({}), tagged("a-1-1")));
    assert_eq!(said.effects[0].key, "r/x/y/7/1:t", "the rule says what counts");
}

#[test]
fn each_job_of_an_item_ends_by_itself() {
    let ended = |id: u64, test: &str, arch: &str, result: &str, restart_of: Option<u64>| {
        json!({
            "id": id, "test": test, "arch": arch, "result": result, "item_type": "koji_build", "item": "bash-5-1",
            "revision": "7", "restart_of": restart_of, "settings": {"DISTRI": "fedora", "FLAVOR": "dvd"},
        })
    };
    let arches = ["x86_64", "aarch64", "ppc64le", "s390x"];
    let four = arches
        .iter()
        .zip(["1", "2", "3", "4"])
        .map(|(arch, id)| (id, ended(1, "image", arch, "passed", None)));
    let keys = keys_of("assay.job.done", four);
    assert_eq!(keys[0], "r/koji_build/bash-5-1/7/fedora dvd x86_64 image passed/1:t");
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    let more = keys_of(
        "assay.job.done",
        [
            ("5", ended(5, "image", "x86_64", "passed", None)),
            ("6", ended(6, "image", "x86_64", "failed", None)),
            ("7", ended(7, "image", "x86_64", "passed", Some(1))),
            ("8", ended(8, "t", "x86_64", "passed", None)),
            ("9", ended(9, "t", "x86_64", "passed", None)),
        ],
    );
    assert_eq!(more[0], keys[0], "posted once more, and as before");
    assert!(!keys.contains(&more[1]), "another result");
    assert!(!keys.contains(&more[2]) && more[2].contains("bus/7"), "a restart: {}", more[2]);
    let retry = |number: u64| {
        let mut body = ended(10, "image", "x86_64", "failed", Some(6));
        body["retry"] = number.into();
        body
    };
    let tries = keys_of("assay.job.done", [("10", retry(1)), ("11", retry(2)), ("12", retry(1))]);
    assert!(tries[0] != more[1] && tries[0] != tries[1], "{tries:?}");
    assert_eq!(tries[0], tries[2], "of a rule's own jobs with RETRY there is an end, too");
    // The rule's own job fits the rule: it comes to an end all the same.
    assert_eq!(more[3], more[4]);
}

#[test]
fn a_message_that_lacks_something_fails_its_rule_only() {
    let good = Rule { name: "good".to_owned(), ..rule(topic("#"), &[("TEST", "a")]) };
    let rules = set(vec![rule(topic("#"), &[("TEST", "{body.missing}")]), good]);
    let plan = plan(&rules, &message("x", json!({})));
    assert_eq!(plan.matched, ["good"]);
    assert!(plan.failed[0].1.contains("the message has no body.missing"), "{:?}", plan.failed);
    let huge = Rule { each: Some(Expr::parse("body.l").unwrap()), ..rule(topic("#"), &[("TEST", "t")]) };
    let many: Vec<u32> = (0..2_000).collect();
    let plan = super::plan(&set(vec![huge]), &message("x", json!({"l": many})));
    assert!(plan.failed[0].1.contains("more than 1000"), "{:?}", plan.failed);
}

#[test]
fn windows_join_what_differs() {
    let job = |nvr: &str| PlannedEffect::Job {
        settings: BTreeMap::from([("TEST".into(), "depcheck".into()), ("NVRS".into(), nvr.to_owned())]),
        priority: None,
    };
    let Some(PlannedEffect::Job { settings, .. }) = merge(&[job("a"), job("b"), job("a")]) else { panic!() };
    assert_eq!((settings["TEST"].as_str(), settings["NVRS"].as_str()), ("depcheck", "a b"));
    assert_eq!(merge(&[]), None);
}

#[test]
fn what_can_never_match() {
    let all = |conds: Vec<Cond>| Cond::All(conds);
    let regex = |text| Test::Regex(RegexTest::new(text).unwrap());
    for (cond, expected) in [
        (
            all(vec![field("body.a", one_of(&["x"])), field("body.a", one_of(&["y"]))]),
            "body.a cannot be \"x\" and \"y\"",
        ),
        (all(vec![field("body.a", one_of(&["x"])), field("body.a", regex("^y"))]), "cannot be"),
        (
            all(vec![field("body.a", Test::Exists(false)), field("body.a", one_of(&["y"]))]),
            "must not be there",
        ),
        (all(vec![topic("a.b"), topic("a.*.c")]), "no topic fits both"),
        (all(vec![topic("a.b"), Cond::Not(Box::new(topic("a.#")))]), "must not be a.#"),
        (all(vec![topic("org.z")]), "no source brings"),
        (Cond::Any(vec![]), "one of nothing"),
        (field("bdy.a", one_of(&["x"])), "reads `bdy`"),
        (
            all(vec![field("body.n", Test::Least(5)), field("body.n", Test::Most(4))]),
            "at least 5 and at most 4",
        ),
        (field("body.a", Test::All(vec![one_of(&["x"]), Test::Not(Box::new(one_of(&["x"])))])), "cannot be"),
        (field("source", one_of(&["nowhere"])), "no source is called so; there are fedora, jobs"),
        (
            all(vec![topic("a.buildsys.build.state.change"), field("item.type", one_of(&["compose"]))]),
            "are about items of the type koji_build",
        ),
    ] {
        let topics = [TopicPattern::new("org.a.#"), TopicPattern::new("a.#")];
        let sources = ["fedora".to_owned(), "jobs".to_owned()];
        let known = check::Known { topics: Some(&topics), sources: Some(&sources) };
        let rules = set(vec![rule(cond.clone(), &[("TEST", "t")])]);
        let found = check::check(&rules, known);
        let said: Vec<_> = found.iter().map(|finding| finding.problem.as_str()).collect();
        assert!(said.len() == 1 && said[0].contains(expected), "{cond}: {said:?}");
    }
    for cond in [
        topic("org.*.b"),
        Cond::Any(vec![
            all(vec![field("body.a", one_of(&["x"])), field("body.a", one_of(&["y"]))]),
            topic("a"),
        ]),
        all(vec![field("body.l[]", one_of(&["x"])), field("body.l[]", one_of(&["y"]))]),
        Cond::Not(Box::new(all(vec![field("body.a", one_of(&["x"])), field("body.a", one_of(&["y"]))]))),
        all(vec![field("body.a", Test::Exists(true)), field("body.a", one_of(&["y"]))]),
        all(vec![field("body.a", Test::Not(Box::new(one_of(&["y"])))), field("body.a", Test::Exists(false))]),
        all(vec![topic("#.buildsys.tag"), field("item.type", one_of(&["koji_tag"]))]),
        all(vec![topic("#.buildsys.tag"), field("item.type", Test::Not(Box::new(one_of(&["koji_tag"]))))]),
    ] {
        let rules = set(vec![rule(cond.clone(), &[("TEST", "t")])]);
        assert_eq!(check::check(&rules, check::Known::default()), [], "{cond}");
    }
}

#[test]
fn topics_that_can_hardly_match() {
    for (pattern, odd) in [
        ("org.fedoraproject.prod.bodhi*", "in `bodhi*` it stands for nothing"),
        ("org.a.*b", "in `*b` it stands for nothing"),
        ("org.##", "in `##` it stands for nothing"),
        ("org.a..b", "a word empty"),
        ("org.a.", "a word empty"),
        ("", "a word empty"),
    ] {
        let rules = set(vec![rule(Cond::Not(Box::new(topic(pattern))), &[("TEST", "t")])]);
        let found = check::check(&rules, check::Known::default());
        assert!(found.len() == 1 && found[0].problem.contains(odd), "{pattern}: {found:?}");
    }
    for pattern in ["#", "*", "org.*.b.#", "a-b_c.d"] {
        assert_eq!(TopicPattern::new(pattern).is_odd(), None, "{pattern}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z.{}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", body in any_json()) {
        let message = message("a.b", body);
        if let Ok(template) = Template::parse(&text) {
            let _ = template.render(&message.context(None));
        }
        let pattern = TopicPattern::new(text.clone());
        prop_assert!(pattern.overlaps(&pattern));
        let _ = (pattern.matches(&text), RegexTest::new(&text), derive(&text, &json!({"artifact": {"type": text}})));
        prop_assert!(Glob::new(&text).unwrap().matches(&text) || text.contains(['*', '?']) );
    }

    #[test]
    fn a_rule_that_is_said_to_be_never_met_is_not(
        values in prop::collection::vec(("[ab]", prop::bool::ANY, "[xy]{1}"), 1..5),
        body in prop::collection::btree_map("[ab]", "[xy]{1}", 0..3),
    ) {
        let conds = values.iter().map(|(name, wanted, value)| {
            let cond = field(&format!("body.{name}"), one_of(&[value]));
            if *wanted { cond } else { Cond::Not(Box::new(cond)) }
        });
        let rules = set(vec![rule(Cond::All(conds.collect()), &[("TEST", "t")])]);
        let met = !plan(&rules, &message("t", json!(body))).matched.is_empty();
        prop_assert!(!met || check::check(&rules, check::Known::default()).is_empty());
    }
}

#[test]
fn composes_and_updates_once_more() {
    let template = |text: &str| Template::parse(text).unwrap();
    let update = |force: &str| UpdateTemplate {
        id: template("{body.update.alias}"),
        release: template("F44"),
        builds: template("{body.update.builds[].nvr}"),
        groups: template("{body.groups|default:}"),
        critpath: template("{body.critpath|default:}"),
        automatic: template("{body.automatic|default:}"),
        force: template(force),
    };
    let of = |id: &str, once: Once, force: &str, more: Value| {
        let mut body = json!({"update": {"alias": "F-1", "builds": [{"nvr": "a-1-1"}]}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let message = Message::new("s", "bus", id, "org.bodhi.update.x", json!({}), body);
        let rules = set(vec![Rule {
            once,
            run: vec![Action::Update(Box::new(update(force)))],
            ..rule(Cond::All(vec![]), &[])
        }]);
        plan(&rules, &message).effects.remove(0)
    };
    let asked = "{body.again|default:}";
    let usual = of("1", Once::Item, asked, json!({"again": false}));
    assert_eq!((usual.key.as_str(), &usual.force), ("r/bodhi_update/F-1/a-1-1/1:", &None));
    assert_eq!(of("2", Once::Item, asked, json!({})).key, usual.key, "one update, whichever message");
    for (once, more) in [(Once::Item, json!({"again": true})), (Once::Event, json!({}))] {
        let forced = of("3", once, asked, more);
        assert_eq!(
            (forced.key.as_str(), forced.force.as_deref()),
            ("r/bodhi_update/F-1/bus/3/1:", Some("bus/3"))
        );
        let third = forced.again(2);
        assert_eq!(
            (third.key.as_str(), third.force.as_deref()),
            ("r/bodhi_update/F-1/bus/3/1:#2", Some("bus/3#2"))
        );
    }
    // The key of a large one ends like that of a replay, and is none.
    let builds: Vec<Value> =
        (0..40).map(|number| json!({"nvr": format!("package-{number}-1.0-1.fc44")})).collect();
    let large = of("4", Once::Item, asked, json!({"update": {"alias": "F-1", "builds": builds}}));
    assert!(large.key.len() == 401 && large.key.contains('#') && large.force.is_none(), "{}", large.key);
    assert_eq!(large.again(1).force.as_deref(), Some("1"));
    for (more, expected) in [
        (json!({}), (vec![], false, None)),
        (json!({"groups": "core kde", "critpath": true}), (vec!["core", "kde"], true, None)),
        (json!({"groups": null, "critpath": true, "automatic": true}), (vec![], true, Some(true))),
        (json!({"critpath": false, "automatic": false}), (vec![], false, Some(false))),
    ] {
        let planned = of("5", Once::Item, asked, more.clone());
        let PlannedEffect::Update { groups, critpath, automatic, .. } = &planned.effect else {
            panic!("an update")
        };
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        assert_eq!((groups, *critpath, *automatic), expected, "{more}");
    }
}
