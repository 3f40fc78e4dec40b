//! `assay run`: real machines, verdicts, and the record that is left behind.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use assay_records::journal::Entry;
use assay_records::step::{ModuleResult, StepBody, StepResult};
use assay_tests::{Place, RunRecord, Suite};
use serde_json::{Value, json};

/// cli; hlt: a machine on which nothing happens, for tests of everything around it.
const NOTHING: &[u8] = &[0xfa, 0xf4];

/// Runs a suite and reads its record.
async fn run(place: &Place, suite: &Suite, code: i32, more: &[&str]) -> (Value, RunRecord) {
    let out = place.join("out");
    let arguments = [&["run", suite.dir(), "--json", "--out", out.as_str()], more].concat();
    let summary = place.run(&arguments).await.expect(code).json();
    place.nothing_left().await;
    assert_eq!(summary["out"], out.as_str());
    (summary, RunRecord::read(&out))
}

fn results(summary: &Value) -> Vec<(&str, &str)> {
    let pair = |module| {
        let module: &Value = module;
        (module["name"].as_str().unwrap(), module["result"].as_str().unwrap())
    };
    summary["modules"].as_array().unwrap().iter().map(pair).collect()
}

#[tokio::test]
async fn the_grub_example_passes_twice_in_a_row_and_its_record_is_whole() {
    let place = Place::new();
    let example = assay_tests::repository().join("examples/grub");
    for _ in 0..2 {
        let out = place.join("out");
        let arguments = ["run", example.as_str(), "QEMU_NO_KVM=1", "--json", "--out", out.as_str()];
        let summary = place.run(&arguments).await.expect(0).json();
        place.nothing_left().await;
        let passed = [("boot", "passed"), ("commands", "passed"), ("halt", "passed")];
        assert_eq!((summary["outcome"].as_str(), results(&summary)), (Some("passed"), passed.to_vec()));

        let record = RunRecord::read(&out);
        assert_eq!(record.modules(), passed.map(|(name, _)| (name, ModuleResult::Passed)));
        assert_eq!(serde_json::from_str::<Value>(&record.text("result.json")).unwrap(), summary);
        let vars: Value = serde_json::from_str(&record.text("vars.json")).unwrap();
        assert_eq!(vars["QEMU_NO_KVM"], "1");
        assert_eq!(record.text("serial0.txt"), "", "GRUB does not use the serial line");
        let kept = fs_err::read_dir(out.join("blobs")).unwrap().count();
        assert_eq!(record.blobs().len(), kept, "a blob that nothing refers to");

        let looks: Vec<_> = record.steps().iter().filter_map(|step| needle_of(&step.body)).collect();
        assert_eq!(looks, ["grub-menu", "grub-prompt", "grub-echo", "grub-devices"]);
        let frames = record.journal.iter().filter(|line| matches!(line.entry, Entry::Frame { .. })).count();
        let keys = record.journal.iter().filter(|line| matches!(line.entry, Entry::Keys { .. })).count();
        assert!(frames > 3 && keys == 4, "{frames} frames, {keys} times keys");
        assert!(record.journal.is_sorted_by_key(|line| line.t), "the journal goes back in time");
    }
}

fn needle_of(body: &StepBody) -> Option<&str> {
    match body {
        StepBody::Look { matched: Some(hit), .. } => Some(&hit.name),
        _ => None,
    }
}

#[tokio::test]
async fn a_needle_that_does_not_match_fails_the_run_and_shows_how_near_it_came() {
    let place = Place::new();
    let suite = place.suite("s").grub().module(
        "menu",
        "",
        "t.assert_screen(\"grub-menu\", timeout = 60)
        t.assert_screen(\"grub-prompt\", timeout = 1)",
    );
    let (summary, record) = run(&place, &suite, 1, &[]).await;
    assert_eq!(summary["outcome"], "failed");
    assert_eq!(summary["reason"], "menu: no needle with the tags \"grub-prompt\" matched within 1 s");
    let steps = record.steps();
    let missed = steps.iter().find(|step| step.result == StepResult::Fail).unwrap();
    let StepBody::Look { matched: None, candidates, .. } = &missed.body else { panic!("{missed:?}") };
    assert_eq!(candidates[0].name, "grub-prompt");
    assert_eq!(candidates[0].areas.len(), 2);
    assert!(candidates[0].areas.iter().any(|area| !area.ok && area.similarity < 0.96), "{candidates:?}");
    let shot = missed.screenshot.as_ref().unwrap();
    assert_eq!((shot.width, shot.height), (720, 400));
    assert_eq!(missed.source.as_ref().map(|at| (at.file.as_str(), at.line)), Some(("tests/menu.star", 5)));
}

#[tokio::test]
async fn what_a_failure_means_is_the_modules_own_choice() {
    let place = Place::new();
    let with_post_fail = "test(name = \"b\", fatal = True)\n\n\
         def run(t: Machine):\n    t.fail(\"b fails\")\n\n\
         def post_fail(t: Machine):\n    t.record_info(\"collected\", \"evidence\")\n";
    let suite = place
        .suite("s")
        .guest(NOTHING)
        .module("a", "fatal = False, ignore_failure = True", "t.fail(\"a fails\")")
        .file("tests/b.star", with_post_fail)
        .module("c", "", "t.record_info(\"never\", \"\")")
        .module("d", "always_run = True", "t.record_info(\"always\", \"\")");
    let (summary, record) = run(&place, &suite, 1, &[]).await;
    let wanted = [("a", "failed"), ("b", "failed"), ("c", "skipped"), ("d", "passed")];
    assert_eq!(results(&summary), wanted);
    assert_eq!(summary["reason"], "b: b fails", "the failure of a does not count");
    let titles: Vec<&str> = record.steps().iter().filter_map(|step| title_of(&step.body)).collect();
    assert_eq!(titles, ["Test failed", "Test failed", "collected", "always"]);
}

fn title_of(body: &StepBody) -> Option<&str> {
    match body {
        StepBody::Text { title, .. } => Some(title),
        _ => None,
    }
}

#[tokio::test]
async fn a_failure_that_is_ignored_passes() {
    let place = Place::new();
    let suite = place
        .suite("s")
        .guest(NOTHING)
        .module("a", "fatal = False, ignore_failure = True", "t.fail(\"a fails\")")
        .module("b", "", "t.record_info(\"fine\", \"\")");
    let (summary, _) = run(&place, &suite, 0, &[]).await;
    assert_eq!(results(&summary), [("a", "failed"), ("b", "passed")]);
    assert_eq!(summary["outcome"], "passed");
}

#[tokio::test]
async fn a_workaround_is_a_soft_failure() {
    let place = Place::new();
    let suite = place
        .suite("s")
        .grub()
        .needle("grub-menu", |json| {
            json["properties"] = json!([{ "name": "workaround", "value": "bug#4711" }]);
        })
        .module("menu", "", "t.assert_screen(\"grub-menu\", timeout = 60)");
    let (summary, record) = run(&place, &suite, 0, &[]).await;
    assert_eq!(
        (summary["outcome"].as_str(), results(&summary)),
        (Some("softfailed"), vec![("menu", "softfailed")])
    );
    let soft = record.steps().into_iter().filter(|step| step.result == StepResult::Softfail);
    let texts: Vec<_> = soft
        .filter_map(|step| if let StepBody::Text { output, .. } = &step.body { Some(output) } else { None })
        .collect();
    assert!(texts.len() == 1 && texts[0].contains("bug#4711"), "{texts:?}");
}

#[tokio::test]
async fn secrets_are_nowhere_in_the_record() {
    let place = Place::new();
    let suite = place.suite("s").guest(NOTHING).module(
        "type",
        "",
        "t.type_password(\"hunter2hunter2\")
        t.type_password()
        t.type_string(\"swordfish99\", secret = True)
        t.enter_cmd(\"swordfish99\", secret = True)
        t.type_string(\"echo \" + t.get_required_var(\"_SECRET_KEY\"))
        t.set_var(\"_SECRET_LATER\", \"abracadabra77\")
        t.record_info(\"key\", t.get_required_var(\"_SECRET_KEY\"))
        t.diag(t.get_required_var(\"_SECRET_LATER\"))
        t.type_string(\"not a secret\")",
    );
    let settings = ["_SECRET_KEY=opensesame42", "PASSWORD=correcthorse5"];
    let (_, record) = run(&place, &suite, 0, &settings).await;
    for secret in ["hunter2hunter2", "swordfish99", "opensesame42", "correcthorse5", "abracadabra77"] {
        assert_eq!(record.holding(secret), [""; 0], "{secret}");
    }
    assert!(!record.holding("not a secret").is_empty(), "the search itself works");
}

#[tokio::test]
async fn a_python_module_drives_the_machine() {
    let place = Place::new();
    let python = "from assay import Machine, post_fail, test\n\n\
        @test(fatal=True, timeout=\"2m\")\n\
        def run(t: Machine) -> None:\n    \
            found = t.assert_screen(\"grub-menu\", timeout=60)\n    \
            assert found.needle == \"grub-menu\"\n    \
            t.send_key(\"c\")\n    \
            t.assert_screen(\"grub-prompt\", timeout=10)\n    \
            t.enter_cmd(\"echo hello from assay\")\n    \
            t.assert_screen(\"grub-echo\", timeout=10)\n    \
            print(\"said on stdout\")\n    \
            t.fail(\"enough\")\n\n\
        @post_fail\n\
        def collect(t: Machine) -> None:\n    \
            t.record_info(\"collected\", \"by python\")\n";
    let suite = place.suite("s").grub().file("tests/boot.py", python);
    let (summary, record) = run(&place, &suite, 1, &[]).await;
    assert_eq!(results(&summary), [("boot", "failed")]);
    assert_eq!(summary["reason"], "boot: enough");
    let looks: Vec<_> = record.steps().iter().filter_map(|step| needle_of(&step.body)).collect();
    assert_eq!(looks, ["grub-menu", "grub-prompt", "grub-echo"]);
    let titles: Vec<&str> = record.steps().iter().filter_map(|step| title_of(&step.body)).collect();
    assert_eq!(titles, ["Test failed", "collected"]);
    assert!(record.log().contains("said on stdout"), "{}", record.log());
}

#[tokio::test]
async fn the_schedule_chooses_and_orders() {
    let place = Place::new();
    let info = "t.record_info(\"ran\", \"\")";
    let suite =
        place.suite("s").guest(NOTHING).module("a", "", info).module("b", "", info).module("c", "", info);
    let (summary, _) = run(&place, &suite, 0, &["SCHEDULE=c,a"]).await;
    assert_eq!(results(&summary), [("c", "passed"), ("a", "passed")]);
}

#[tokio::test]
async fn a_needle_made_from_a_run_matches_in_the_next() {
    let place = Place::new();
    let suite = place.suite("s").grub().module("menu", "", "t.assert_screen(\"grub-menu\", timeout = 60)");
    let (_, record) = run(&place, &suite, 0, &[]).await;
    let step = record.steps()[0].number;
    let (out, name) = (place.join("out"), suite.join("needles/mine"));
    let step = format!("menu/{step}");
    let make = ["needle", "new", "--run", out.as_str(), "--step", &step, "--area", "50,304,560,48,match=90"];
    place.run(&[&make[..], &["--tag", "mine", name.as_str()]].concat()).await.expect(0).says("mine.json");
    let suite = suite.module("menu", "", "t.assert_screen(\"mine\", timeout = 60)");
    run(&place, &suite, 0, &[]).await;
    let scene = suite.join("needles/mine.png");
    let found = place.run(&["needle", "match", &format!("{name}.json"), scene.as_str(), "--json"]).await;
    let found = found.expect(0).json();
    assert_eq!(
        (found["matched"].as_bool(), found["areas"][0]["similarity"].as_f64()),
        (Some(true), Some(1.0))
    );
    let other = suite.join("needles/grub-prompt.png");
    place
        .run(&["needle", "match", &format!("{name}.json"), other.as_str()])
        .await
        .expect(1)
        .says("not matched");
}
