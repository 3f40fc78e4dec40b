//! Running Starlark modules against a fake host.

use crate::common::{FakeHost, describe, golden, hit, on_big_stack, run, suite, suite_of};
use assay_proto::driver::{Call, CallError, Request};
use assay_script::{Function, Limits, RunError, Suite};
use serde_json::{Value, json};
use std::time::Duration;

fn told(result: Result<(), RunError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(RunError::Test { message, source_line, kind, .. }) => {
            let place =
                source_line.map_or("nowhere".to_owned(), |source| format!("{}:{}", source.file, source.line));
            format!("{kind:?} at {place}: {message}")
        }
        Err(other) => format!("{other:?}"),
    }
}

/// Runs a body on a host whose clock moves by itself, so that endless loops reach their bound.
fn verdict(body: &str) -> String {
    let (_dir, suite) = suite_of(body);
    let mut host = FakeHost { tick: Duration::from_millis(500), ..FakeHost::default() };
    told(run(&suite, &mut host))
}

/// Every call with nothing but what it needs, and every call with everything said.
#[test]
fn calls_and_their_defaults() {
    let bodies = [
        ("calls-short", include_str!("../bodies/short.star")),
        ("calls-long", include_str!("../bodies/long.star")),
    ];
    for (name, body) in bodies {
        let (_dir, suite) = suite_of(body);
        let mut host = FakeHost::default();
        host.variables.insert("LIST".to_owned(), "a,b;c,,".to_owned());
        host.variables.insert("SET".to_owned(), "yes".to_owned());
        assert_eq!(told(run(&suite, &mut host)), "ok");
        golden(&format!("golden/{name}.txt"), &host.log());
    }
}

#[test]
fn every_call_is_in_the_goldens() {
    let reference = assay_script::api_reference();
    let names = reference.lines().filter_map(|line| line.strip_prefix("| `t.")?.split('(').next());
    let bodies = concat!(include_str!("../bodies/short.star"), include_str!("../bodies/long.star"));
    let missing: Vec<&str> = names.filter(|name| bodies.matches(&format!("t.{name}(")).count() < 2).collect();
    let without_arguments = [
        "save_screenshot",
        "eject_cd",
        "freeze_vm",
        "resume_vm",
        "get_children",
        "get_parents",
        "get_current_job_id",
    ];
    let missing: Vec<&&str> = missing.iter().filter(|name| !without_arguments.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn answers_have_their_shapes() {
    let body = r#"
m = t.assert_screen("x")
a = m.areas[0]
t.diag("%s %s %s %s %s %s %s %s" % (m.needle, m.tags, m.error, a.x, a.y, a.w, a.h, a.similarity))
t.diag(str(t.check_screen("y")))
t.diag(str(m) + " " + str(a))
t.diag(t.wait_serial("x"))
t.diag(str(t.get_var("UNSET")) + t.get_var("UNSET", "default") + str(t.get_var("UNSET", 3)))
t.diag(str(t.get_var_array("UNSET")))
print("printed", 1, None)
"#;
    let (_dir, suite) = suite_of(body);
    let mut host = FakeHost::default().answer("check_screen", Ok(Value::Null));
    assert_eq!(told(run(&suite, &mut host)), "ok");
    let said: Vec<&str> = host
        .calls
        .iter()
        .filter_map(|call| match &call.request {
            Request::Diag { message } => Some(message.as_str()),
            _ => None,
        })
        .collect();
    let expected = [
        r#"grub-prompt-1 ["grub", "prompt"] 0.01 1 2 30 40 0.98"#,
        "None",
        r#"Match("grub-prompt-1", error = 0.01) Area(x = 1, y = 2, w = 30, h = 40, similarity = 0.98)"#,
        "text up to the match",
        "Nonedefault3",
        "[]",
        "printed 1 None",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_wrong_answer_is_the_hosts_fault() {
    let (_dir, suite) = suite_of("t.assert_screen('x')");
    let mut host = FakeHost::default().answer("assert_screen", Ok(json!({"name": 3})));
    let Err(RunError::Call { error, .. }) = run(&suite, &mut host) else { panic!("must fail") };
    assert_eq!(error.kind, assay_proto::driver::CallErrorKind::Infrastructure);
    assert!(error.message.starts_with("the host's answer to `assert_screen` has the wrong shape"), "{error}");
}

#[test]
fn stacks_lead_from_run_to_the_call() {
    let (_dir, suite) = suite(
        "=== tests/a.star\nload(\"//lib/l.star\", \"login\")\ntest()\ndef run(t: Machine):\n    login(t)\n\
         === lib/l.star\ndef login(t: Machine):\n    inner(t)\ndef inner(t: Machine):\n    \
         t.attempt(lambda: t.send_key(\"ret\"))\n",
    );
    let mut host = FakeHost::default();
    assert_eq!(told(run(&suite, &mut host)), "ok");
    assert_eq!(
        describe(&host.calls[0]),
        r#"send_key {"do_wait":false,"key":"ret"} @ tests/a.star:4 > lib/l.star:2 > lib/l.star:4 > lib/l.star:4"#
    );
}

#[test]
fn failures_have_place_and_backtrace() {
    let (_dir, suite) = suite(
        "=== tests/a.star\nload(\"//lib/l.star\", \"login\")\ntest()\ndef run(t: Machine):\n    login(t)\n\
         === lib/l.star\ndef login(t: Machine):\n    t.assert_screen(\"login\")\n",
    );
    let mut host = FakeHost::default().answer("assert_screen", Err(CallError::failed("no needle matched")));
    let Err(RunError::Test { backtrace, .. }) = run(&suite, &mut host) else { panic!("must fail") };
    golden("golden/backtrace.txt", &backtrace);
    let mut host = FakeHost::default().answer("assert_screen", Err(CallError::failed("no needle matched")));
    assert_eq!(told(run(&suite, &mut host)), "Failed at lib/l.star:2: no needle matched");
}

#[test]
fn verdicts() {
    let table = [
        ("t.fail('why')", "Failed at tests/a.star:3: why"),
        ("t.expect(1 == 1, 'fine')", "ok"),
        ("t.expect([], 'empty')", "Failed at tests/a.star:3: empty"),
        ("fail('plain')", "Failed at tests/a.star:3: plain"),
        ("1 // 0", "TestBug at tests/a.star:3: Floor division by zero: 1 // 0"),
        ("x = [1][3]", "TestBug at tests/a.star:3: Index `3` is out of bound"),
        (
            "t.get_required_var('ISO')",
            "Failed at tests/a.star:3: the variable ISO is not set; set it: ISO=...",
        ),
        ("t.assert_screen('')", "TestBug at tests/a.star:3: `tags` is empty"),
        ("t.assert_screen([])", "TestBug at tests/a.star:3: `tags` is an empty list"),
        ("t.assert_screen(['a', ' '])", "TestBug at tests/a.star:3: `tags` has an empty text in its list"),
        (
            "t.assert_screen('a', timeout = -1)",
            "TestBug at tests/a.star:3: `timeout` is -1; it must be between 0 and 2592000 seconds",
        ),
        (
            "t.assert_screen('a', timeout = float('nan'))",
            "TestBug at tests/a.star:3: `timeout` is NaN; it must be between 0 and 2592000 seconds",
        ),
        ("t.mouse_set(-1, 3)", "TestBug at tests/a.star:3: `x` is -1; it must not be negative"),
        (
            "t.mouse_click('le' + 'ft2')",
            "TestBug at tests/a.star:3: `button` cannot be \"left2\"; did you mean `left`?",
        ),
        (
            "t.retry(0, lambda: 1)",
            "TestBug at tests/a.star:3: `n` is 0; `retry` runs the function at least once",
        ),
        ("t.diag('a' + t.get_var('X', '1')[5:])", "ok"),
    ];
    for (body, expected) in table {
        assert_eq!(verdict(body), expected, "{body}");
    }
}

#[test]
fn attempt_catches_failures_and_wrong_calls_only() {
    let body = r#"
r = t.attempt(lambda: t.assert_screen("x"))
t.diag("%s %s %s" % (r.ok, r.value, r.error))
r = t.attempt(lambda: t.mouse_set(-1, 0))
t.diag("%s %s" % (r.ok, r.error))
r = t.attempt(lambda: t.fail("mine"))
t.diag("%s %s" % (r.ok, r.error))
r = t.attempt(lambda: 7)
t.diag("%s %s %s" % (r.ok, r.value, r.error))
t.attempt(lambda: 1 // 0)
"#;
    let (_dir, suite) = suite_of(body);
    let mut host = FakeHost::default().answer("assert_screen", Err(CallError::failed("none matched")));
    assert_eq!(told(run(&suite, &mut host)), "TestBug at tests/a.star:12: Floor division by zero: 1 // 0");
    let log = host.log();
    for line in
        ["False None none matched", "False `x` is -1; it must not be negative", "False mine", "True 7 None"]
    {
        assert!(log.contains(line), "{log}");
    }
    for fatal in [CallError::cancelled("stopped"), CallError::infrastructure("QEMU died")] {
        let (_dir, suite) = suite_of("t.attempt(lambda: t.attempt(lambda: t.assert_screen('x')))");
        let mut host = FakeHost::default().answer("assert_screen", Err(fatal.clone()));
        let Err(RunError::Call { error, .. }) = run(&suite, &mut host) else { panic!("{fatal} was caught") };
        assert_eq!(error, fatal);
    }
}

#[test]
fn retry_repeats_failures_and_gives_the_last_one() {
    let (_dir, suite) = suite_of("t.diag(t.retry(3, lambda: t.assert_screen('x')).needle)");
    let failed = |text: &str| Err(CallError::failed(text));
    let mut host = FakeHost::default()
        .answer("assert_screen", failed("1"))
        .answer("assert_screen", failed("2"))
        .answer("assert_screen", Ok(hit()));
    assert_eq!(told(run(&suite, &mut host)), "ok");
    assert_eq!(host.calls.len(), 4);
    let mut host = FakeHost::default().answer("assert_screen", failed("again"));
    assert_eq!(told(run(&suite, &mut host)), "Failed at tests/a.star:3: again");
    assert_eq!(host.calls.len(), 3);
    let mut host = FakeHost::default().answer("assert_screen", Err(CallError::usage("no such needle")));
    assert_eq!(told(run(&suite, &mut host)), "TestBug at tests/a.star:3: no such needle");
    assert_eq!(host.calls.len(), 1, "a wrong call stays wrong");
}

/// Looks, waits for a change since it looked, looks again; ends in time.
#[test]
fn until_waits_for_changes() {
    let (_dir, suite) = suite_of("t.diag(t.until(lambda: t.wait_serial('x', 0), timeout = 5, interval = 2))");
    let none = || Ok(Value::Null);
    let host = || FakeHost::default().answer("wait_serial", none()).answer("wait_serial", none());
    let mut good = host().answer("wait_serial", Ok("found".into()));
    assert_eq!(told(run(&suite, &mut good)), "ok");
    let names: Vec<String> = good.calls.iter().map(brief).collect();
    let round = ["screen_reference", "wait_serial"];
    let waits = ["wait_screen_change 1 2", "wait_screen_change 2 2"];
    let expected = [round[0], round[1], waits[0], round[0], round[1], waits[1], round[0], round[1], "diag"];
    assert_eq!(names, expected);
    let mut slow = FakeHost { tick: Duration::from_millis(200), ..host() };
    let told = told(run(&suite, &mut slow));
    assert_eq!(told, "Failed at tests/a.star:3: what `until` waits for did not come true within 5 s");
    let last_wait = slow.calls.iter().rev().find(|call| brief(call).starts_with("wait_screen_change"));
    let Some(Request::WaitScreenChange { timeout, .. }) = last_wait.map(|call| &call.request) else {
        panic!()
    };
    assert!(*timeout < 2.0, "the last wait ends with the time: {timeout}");
}

fn brief(call: &Call) -> String {
    match &call.request {
        Request::WaitScreenChange { reference, timeout, .. } => {
            format!("wait_screen_change {} {timeout}", reference.unwrap_or_default())
        }
        request => serde_json::to_value(request).unwrap()["call"].as_str().unwrap().to_owned(),
    }
}

#[test]
fn bounds() {
    let endless = "computed for 30 s without a call to the machine; is there an endless loop?";
    let memory = "the test needs more than 256 MiB of memory; does a list or a text grow without end?";
    let deep = "calls are nested more than 60 deep; does a function call itself without end?";
    let table = [
        ("for i in range(1000000000):\n    pass", "3", endless),
        ("x = [i for i in range(1000000000) if i < 0]", "3", endless),
        ("for i in range(100000):\n    for j in range(100000):\n        k = i * j", "5", endless),
        ("s = 'aaaaaaaaaaaaaaaa'\nfor i in range(60):\n    s = s + s", "5", memory),
        ("x = []\nfor i in range(1000000000):\n    x.append('item %d' % i * 2000)", "5", memory),
        ("def f(n):\n    return f(n + 1)\nf(0)", "4", deep),
        ("def f(n):\n    return t.attempt(lambda: f(n + 1))\nf(0)", "4", deep),
    ];
    for (body, line, expected) in table {
        let expected = format!("TestBug at tests/a.star:{line}: {expected} (tests/a.star:{line})");
        assert_eq!(verdict(body), expected, "{body}");
    }
}

/// A call to the machine starts the time again.
#[test]
fn patience_is_for_computing_only() {
    let (_dir, suite) =
        suite_of("for i in range(100):\n    for j in range(1500):\n        pass\n    t.diag('still here')");
    let mut host = FakeHost { tick: Duration::from_secs(4), ..FakeHost::default() };
    assert_eq!(told(run(&suite, &mut host)), "ok");
    assert!(host.now.get() > Duration::from_mins(5));
}

#[test]
fn cancelling_reaches_computation_and_calls() {
    for body in [
        "for i in range(1000000000):\n    pass",
        "for i in range(1000000000):\n    t.attempt(lambda: t.diag('x'))",
    ] {
        let (_dir, suite) = suite_of(body);
        let mut host = FakeHost { cancel_after: Some(20), ..FakeHost::default() };
        let Err(RunError::Call { error, .. }) = run(&suite, &mut host) else { panic!("must stop") };
        assert_eq!(error.message, "stopped by the operator");
    }
}

#[test]
fn limits_can_be_set() {
    let (_dir, suite) = suite_of("def f(n):\n    return f(n - 1) if n else 0\nf(20)");
    let suite = suite.limits(Limits { depth: 15, ..Limits::default() });
    let told = told(run(&suite, &mut FakeHost::default()));
    assert!(told.contains("calls are nested more than 15 deep"), "{told}");
}

#[test]
fn post_fail_runs_by_itself() {
    let (_dir, suite) = suite(
        "=== tests/a.star\ntest()\ndef run(t: Machine):\n    pass\ndef post_fail(t: Machine):\n    t.save_screenshot()\n",
    );
    assert!(suite.modules()[0].has_post_fail);
    let mut host = FakeHost::default();
    on_big_stack(|| suite.run(&suite.modules()[0], Function::PostFail, &mut host)).unwrap();
    assert_eq!(host.log(), "save_screenshot {} @ tests/a.star:5\n");
}

#[test]
fn a_suite_can_be_shared() {
    fn shared<T: Send + Sync>(_: &T) {}
    let (_dir, suite) = suite_of("t.diag('x')");
    shared::<Suite>(&suite);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(told(run(&suite, &mut FakeHost::default())), "ok"));
        }
    });
}
