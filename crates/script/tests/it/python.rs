//! Modules in Python, end to end: the client, the sandbox, and programs that misbehave.

use crate::common::{Dir, FakeHost, temporary, write_suite};
use assay_proto::driver::{CallError, CallErrorKind, Request};
use assay_script::{External, Function, RunError, Sandbox, Suite, TestErrorKind};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Some build machines forbid user namespaces; there, what needs the sandbox is left out and says so.
static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| {
    let mut probe = Command::new("bwrap");
    probe.args(["--unshare-all", "--ro-bind", "/", "/", "true"]).stderr(Stdio::null());
    if probe.status().is_ok_and(|status| status.success()) {
        Sandbox::Bubblewrap
    } else {
        eprintln!("bubblewrap does not work here: the tests run without it");
        Sandbox::Unsandboxed
    }
});

/// A program that writes to the protocol behind the client's back.
const RAW: &str = "import os\n\ndef send(data, fd=4):\n    data = data if isinstance(data, bytes) else data.encode()\n    \
    while data:\n        data = data[os.write(fd, data):]\n";

fn load(text: &str, sandbox: Sandbox) -> (Dir, Suite) {
    let dir = temporary();
    write_suite(&dir.path, text);
    let suite = Suite::load(&dir.path, None).unwrap_or_else(|errors| panic!("{errors:?}")).0;
    let client_dir = dir.path.join("client");
    fs_err::create_dir(&client_dir).unwrap();
    let external = External { client_dir: Some(client_dir), sandbox };
    (dir, suite.external(external))
}

/// A module whose `run` has this body.
fn module(body: &str) -> (Dir, Suite) {
    let indented: String = body.lines().map(|line| format!("    {line}\n")).collect();
    let head = "import os, sys, time, raw\nfrom assay import *\nfrom assay import test\n\n@test()\ndef run(t: Machine):\n";
    load(&format!("=== tests/a.py\n{head}{indented}=== lib/raw.py\n{RAW}"), *SANDBOX)
}

fn run(suite: &Suite, host: &mut FakeHost) -> Result<(), RunError> {
    suite.run(&suite.modules()[0], Function::Run, host)
}

fn told(result: Result<(), RunError>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(RunError::Test { message, source_line, kind, .. }) => {
            let place =
                source_line.map_or("nowhere".to_owned(), |source| format!("{}:{}", source.file, source.line));
            format!("{kind:?} at {place}: {message}")
        }
        Err(RunError::Call { error, .. }) => format!("{:?}: {}", error.kind, error.message),
        Err(RunError::Driver { message, backtrace }) => format!("driver: {message}\n{backtrace}"),
    }
}

fn verdict(body: &str) -> (String, FakeHost) {
    let (_dir, suite) = module(body);
    let mut host = FakeHost::default();
    let told = told(run(&suite, &mut host));
    (told, host)
}

/// The same text as Starlark and as Python asks the same of the machine.
#[test]
fn both_languages_make_the_same_calls() {
    for body in [include_str!("../bodies/short.star"), include_str!("../bodies/long.star")] {
        let prepare = || {
            let mut host = FakeHost::default();
            host.variables.insert("LIST".to_owned(), "a,b;c,,".to_owned());
            host.variables.insert("SET".to_owned(), "yes".to_owned());
            host
        };
        let (_dir, starlark) = crate::common::suite_of(body);
        let mut expected = prepare();
        crate::common::run(&starlark, &mut expected).unwrap();
        let (_dir, python) = module(body);
        let mut actual = prepare();
        assert_eq!(told(run(&python, &mut actual)), "ok");
        let plain = |host: &FakeHost| -> Vec<String> {
            let line =
                |line: &str| line.split(" @ ").next().unwrap().replace("[\\\"", "['").replace("\\\"", "'");
            host.log().lines().map(|text| line(text).replace("['", "[").replace('\'', "")).collect()
        };
        assert_eq!(plain(&actual), plain(&expected));
        let first = actual.calls[0].stack.last().unwrap();
        assert_eq!((first.file.as_str(), first.line), ("tests/a.py", 7));
    }
}

#[test]
fn answers_errors_and_prints() {
    let body = r#"
m = t.assert_screen("x")
assert (m.needle, m.tags, m.error) == ("grub-prompt-1", ["grub", "prompt"], 0.01)
assert (m.areas[0].x, m.areas[0].y, m.areas[0].w, m.areas[0].h, m.areas[0].similarity) == (1, 2, 30, 40, 0.98)
assert t.check_screen("y") is None
print("printed"); print("to stderr", file=sys.stderr); os.system("echo by a child")
try:
    t.assert_and_click("x")
except Failed as error:
    t.diag(str(error))
try:
    t.send_key("nosuch")
except UsageError as error:
    t.diag(str(error))
try:
    t.mouse_click("lft")
except UsageError as error:
    t.diag(str(error))
a = t.attempt(lambda: t.fail("mine"))
t.diag(f"{a.ok} {a.error}")
sys.stdin.read()
"#;
    let (_dir, suite) = module(body);
    let mut host = FakeHost::default()
        .answer("check_screen", Ok(serde_json::Value::Null))
        .answer("assert_and_click", Err(CallError::failed("none matched")))
        .answer("send_key", Err(CallError::usage("there is no key nosuch")));
    assert_eq!(told(run(&suite, &mut host)), "ok");
    let mut said: Vec<String> = host
        .calls
        .iter()
        .filter_map(|call| match &call.request {
            Request::Diag { message } => Some(format!("{}: {message}", call.name)),
            _ => None,
        })
        .collect();
    // What is printed and what is called come through two pipes.
    said.sort();
    let unknown = said.iter().position(|line| line.contains("lft")).unwrap();
    assert!(said.remove(unknown).contains("unknown variant `lft`"), "{said:?}");
    let expected = [
        "diag: False mine",
        "diag: none matched",
        "diag: there is no key nosuch",
        "print: by a child",
        "print: printed",
        "print: to stderr",
    ];
    assert_eq!(said, expected);
}

#[test]
fn ends_of_a_test() {
    let table = [
        ("t.fail('why')", "Failed at tests/a.py:7: why"),
        ("assert 1 == 2, 'unequal'", "Failed at tests/a.py:7: AssertionError: unequal"),
        ("def inner():\n    return {}['k']\ninner()", "TestBug at tests/a.py:8: KeyError: 'k'"),
        ("t.mouse_set(-1, 0)", "TestBug at tests/a.py:7: the call `mouse_set` cannot be understood"),
        ("t._ask('nosuch')", "TestBug at tests/a.py:7: the machine has no call `nosuch`"),
        (
            "t._ask('asert_screen')",
            "TestBug at tests/a.py:7: the machine has no call `asert_screen`; did you mean",
        ),
        (
            "t._ask('assert_and_click', tags='x', clicktme=3)",
            "TestBug at tests/a.py:7: the call `assert_and_click` cannot",
        ),
        ("sys.exit(3)", "TestBug at tests/a.py:7: SystemExit: 3"),
        (
            "os._exit(3)",
            "driver: the program of tests/a.py ended without saying that it was done (exit status: 3)",
        ),
        (
            "os.kill(os.getpid(), 9)",
            "driver: the program of tests/a.py ended without saying that it was done",
        ),
        (
            "raw.send('{\"type\": \"ca'); os._exit(0)",
            "driver: the program of tests/a.py ended in the middle of a line",
        ),
        (
            "print('last words', file=sys.stderr); os._exit(1)",
            "driver: the program of tests/a.py ended without",
        ),
    ];
    for (body, expected) in table {
        let (told, _) = verdict(body);
        assert!(told.starts_with(expected), "{body}\n{told}");
    }
    let (told, _) = verdict("print('last words', file=sys.stderr); os._exit(1)");
    assert!(told.ends_with("last words\n"), "{told}");
}

#[test]
fn tracebacks_show_the_source() {
    let (_dir, suite) = module("t.fail('why')");
    let Err(RunError::Test { backtrace, kind: TestErrorKind::Failed, .. }) =
        run(&suite, &mut FakeHost::default())
    else {
        panic!("must fail")
    };
    assert!(backtrace.contains("t.fail('why')"), "{backtrace}");
}

#[test]
fn lines_that_are_no_messages() {
    // The client takes each refusal for the answer to a call: here nobody waits for one, so the test reads them.
    let refused = "import json\nc = t._channel\n";
    let table = [
        (r#"raw.send("hello\n")"#, "the line is no message of the protocol"),
        (r#"raw.send("{}\n")"#, "the line is no message of the protocol"),
        (r#"raw.send("\n")"#, "the line is no message of the protocol"),
        (r#"raw.send(b"\xff\xfe\n")"#, "the line is not UTF-8"),
        (r#"raw.send(b"x" * 100_000_000 + b"\n")"#, "the line of 100000000 bytes is too long"),
        (r#"raw.send('{"type": "ready", "protocol": 1, "name": "a"}\n')"#, "`ready` comes once"),
        (
            r#"t.diag("first"); raw.send('{"type": "call", "id": 1, "request": {"call": "diag", "args": {"message": "x"}}}\n')"#,
            "the call has the number 1, and numbers grow: the last one was 1",
        ),
    ];
    for (line, expected) in table {
        let body = format!(
            "{refused}{line}\nanswer = c.receive()\nt.diag(json.dumps(answer['error']))\nt.save_screenshot()"
        );
        let (told, host) = verdict(&body);
        assert_eq!(told, "ok", "{line}");
        assert!(host.log().contains(expected), "{line}\n{}", host.log());
        assert!(matches!(host.calls.last().unwrap().request, Request::SaveScreenshot {}), "it goes on");
    }
    let (told, _) = verdict("raw.send('nonsense\\n' * 200)\ntime.sleep(1000)");
    assert!(
        told.starts_with("driver: the program of tests/a.py sent more than 100 lines that are no messages"),
        "{told}"
    );
    let flood = r#"raw.send('{"type": "call", "id": %d, "request": {"call": "get_var", "args": {"name": "X"}}}\n' % i)"#;
    let (told, _) = verdict(&format!("for i in range(1, 1000000):\n    {flood}"));
    assert!(told.starts_with("driver: the program of tests/a.py does not read the answers"), "{told}");
}

#[test]
fn silence_is_ended_by_the_host() {
    let body = "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\nt.diag(f'{os.getpid()} {child.pid}')\n\
                while True:\n    try:\n        time.sleep(1000)\n    except BaseException:\n        pass";
    let indented: String = body.lines().map(|line| format!("    {line}\n")).collect();
    // Without the sandbox the process numbers are the system's own.
    let text = format!(
        "=== tests/a.py\nimport os, time\nfrom assay import Machine, test\n@test()\ndef run(t: Machine):\n{indented}"
    );
    let (_dir, suite) = load(&text, Sandbox::Unsandboxed);
    let mut host = FakeHost { cancel_after_calls: Some(1), ..FakeHost::default() };
    assert_eq!(told(run(&suite, &mut host)), "Cancelled: stopped by the operator");
    let Request::Diag { message } = &host.calls[0].request else { panic!("{}", host.log()) };
    for pid in message.split(' ') {
        // The signal is sent when `run` returns; its effect takes the kernel a moment.
        let state = || fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = || state().is_empty() || state().contains(") Z ");
        let ended = (0..1_000_000).any(|_| {
            std::thread::yield_now();
            gone()
        });
        assert!(ended, "{pid} lives on: {}", state());
    }
}

#[test]
fn infrastructure_errors_end_the_run_at_once() {
    let (_dir, suite) = module("try:\n    t.save_screenshot()\nexcept BaseException:\n    time.sleep(1000)");
    let mut host = FakeHost::default().answer("save_screenshot", Err(CallError::infrastructure("QEMU died")));
    let Err(RunError::Call { error, .. }) = run(&suite, &mut host) else { panic!("must end") };
    assert_eq!(error.kind, CallErrorKind::Infrastructure);
}

#[test]
fn the_sandbox_holds() {
    if *SANDBOX == Sandbox::Unsandboxed {
        return;
    }
    let body = r#"
import socket
def refused(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return "allowed"
t.diag("write " + refused(lambda: open("/suite/tests/new.py", "w")))
t.diag("usr " + refused(lambda: open("/usr/new", "w")))
t.diag("home " + refused(lambda: os.listdir("/root")))
t.diag("passwd " + refused(lambda: open("/etc/passwd")))
t.diag("net " + refused(lambda: socket.create_connection(("192.0.2.1", 80), 1)))
t.diag("tmp " + refused(lambda: open("/tmp/new", "w")))
t.diag("env " + " ".join(sorted(os.environ)))
t.diag("top " + " ".join(sorted(os.listdir("/"))))
t.diag("interfaces " + " ".join(name for _, name in socket.if_nameindex()))
t.diag("processes " + str(os.getpid() < 10))
"#;
    let (told, host) = verdict(body);
    assert_eq!(told, "ok");
    let log = host.log();
    for line in [
        "write OSError",
        "usr OSError",
        "home FileNotFoundError",
        "passwd FileNotFoundError",
        "net OSError",
        "tmp allowed",
        "interfaces lo",
        "processes True",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
    let environment = log.lines().find(|line| line.contains("\"env ")).unwrap();
    assert!(!environment.contains("CARGO") && !environment.contains("USER "), "{environment}");
}

#[test]
fn post_fail_runs_in_a_process_of_its_own() {
    let text = "=== tests/a.py\nfrom assay import Machine, post_fail, test\n@test(name='x', fatal=False, timeout='2m')\n\
                def run(t: Machine):\n    t.fail('x')\n@post_fail\ndef collect(t: Machine):\n    t.save_screenshot()\n";
    let (_dir, suite) = load(text, *SANDBOX);
    let module = &suite.modules()[0];
    assert_eq!((module.name.as_str(), module.timeout, module.has_post_fail), ("x", Some(120.0), true));
    let mut host = FakeHost::default();
    suite.run(module, Function::PostFail, &mut host).unwrap();
    assert_eq!(host.log(), "save_screenshot {} @ tests/a.py:7\n");
}

#[test]
fn broken_modules_are_found_before_boot() {
    let text = "=== tests/a.py\n@test()\ndef run(t):\n    x = = 1\n=== tests/b.py\nimport nosuch\n@test()\ndef run(t): pass\n\
                === tests/c.py\nfrom assay import test\nif False:\n    pass\nx = 1\n'''\n@test()\n'''\n\
                === tests/d.py\nfrom assay import Machine, test\n@test()\ndef run(t: Machine): pass\n\
                === tests/e.py\nfrom assay import test\n@test(name='other')\ndef run(t): pass\nimport assay\n\
                assay._module.declared['name'] = 'changed'\n=== tests/f.py\nimport os\nfrom assay import test\n\
                os._exit(9)\n@test()\ndef run(t): pass\n=== tests/g.star\ntest()\ndef run(t: Machine):\n    pass\n";
    let (_dir, suite) = load(text, *SANDBOX);
    let told: Vec<String> = suite.check_external().iter().map(ToString::to_string).collect();
    let expected = [
        "tests/a.py:3: error: SyntaxError: invalid syntax",
        "tests/b.py:1: error: ModuleNotFoundError: No module named 'nosuch'",
        "tests/c.py: error: the file has no function with @test",
        "tests/e.py: error: the program of tests/e.py declares itself otherwise than `@test` in its source",
        "tests/f.py: error: the program of tests/f.py ended without saying that it was done (exit status: 9)",
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let text = "=== tests/a.py\nfrom assay import test\n@test()\ndef run(t): pass\n";
    let dir = temporary();
    write_suite(&dir.path, text);
    let suite = Suite::load(&dir.path, None).unwrap().0;
    let told = told(run(&suite, &mut FakeHost::default()));
    assert!(
        told.starts_with("driver: a test in another language needs a directory for its client"),
        "{told}"
    );
    let nowhere = External { client_dir: Some("/nowhere/at/all".into()), sandbox: Sandbox::Unsandboxed };
    let told = self::told(run(&suite.external(nowhere), &mut FakeHost::default()));
    assert!(told.starts_with("driver: cannot write the Python client"), "{told}");
}

/// Random lines from the program: each is refused or answered, and the test goes on to its end.
#[test]
fn random_lines() {
    let body = r#"
import random, json
pieces = ['{', '}', '"type"', ':', '"call"', ',', '"id"', '1', '-1', '1e400', 'null', '"request"', '"done"', '[', ']',
          '"ready"', '"args"', '"diag"', '"stack"', '\\', '"', 'é', '\u0000', ' ', '{"type":"call","id":', '"message"',
          '{"type":"call","id":7,"request":{"call":"diag","args":{"message":"x"}}}', '99999999999999999999']
for seed in range(8):
    rng = random.Random(seed)
    for _ in range(12):
        line = ''.join(rng.choice(pieces) for _ in range(rng.randrange(1, 12)))
        raw.send(line + '\n')
        answer = t._channel.receive()
        assert answer['type'] in ('error', 'answer'), answer
t._channel.last = 10 ** 9
t.save_screenshot()
"#;
    let (told, host) = verdict(body);
    assert_eq!(told, "ok");
    assert!(matches!(host.calls.last().unwrap().request, Request::SaveScreenshot {}));
}
