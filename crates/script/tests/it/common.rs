//! Shared by the tests: a fake host that records calls, and suites written in one text.

use assay_proto::driver::{Call, CallError, Request};
use assay_script::{Function, Host, RunError, Suite};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A host whose machine does what the test of the test wants.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) calls: Vec<Call>,
    /// Answers by author's name of the call; the last one of a list stays.
    pub(crate) answers: BTreeMap<String, Vec<Result<Value, CallError>>>,
    pub(crate) variables: BTreeMap<String, String>,
    /// Time passes by this whenever somebody looks at the clock.
    pub(crate) tick: Duration,
    pub(crate) now: Cell<Duration>,
    /// Says so after it was asked so often.
    pub(crate) cancel_after: Option<u32>,
    pub(crate) asked: Cell<u32>,
    /// Says so after so many calls.
    pub(crate) cancel_after_calls: Option<usize>,
    pub(crate) references: u64,
}

impl FakeHost {
    pub(crate) fn answer(mut self, name: &str, answer: Result<Value, CallError>) -> Self {
        self.answers.entry(name.to_owned()).or_default().push(answer);
        self
    }

    /// `name {args}` of each call, one a line.
    pub(crate) fn log(&self) -> String {
        self.calls.iter().map(|call| format!("{}\n", describe(call))).collect()
    }
}

/// A call as one line: author's name, request, place.
pub(crate) fn describe(call: &Call) -> String {
    let request = serde_json::to_value(&call.request).unwrap();
    let wire = request["call"].as_str().unwrap();
    let alias = if wire == call.name { String::new() } else { format!(" as {wire}") };
    let place: Vec<String> =
        call.stack.iter().map(|source| format!("{}:{}", source.file, source.line)).collect();
    format!("{}{alias} {} @ {}", call.name, request["args"], place.join(" > "))
}

pub(crate) fn hit() -> Value {
    json!({
        "name": "grub-prompt-1", "tags": ["grub", "prompt"], "error": 0.01, "json": null, "png": null,
        "areas": [{"x": 1, "y": 2, "w": 30, "h": 40, "similarity": 0.98, "ok": true}]
    })
}

impl Host for FakeHost {
    fn call(&mut self, call: Call) -> Result<Value, CallError> {
        let scripted = self.answers.get_mut(&call.name);
        let answer = match (scripted, &call.request) {
            (Some(answers), _) if answers.len() > 1 => answers.remove(0),
            (Some(answers), _) => answers[0].clone(),
            (None, Request::GetVar { name, default }) => {
                Ok(self.variables.get(name).cloned().or(default.clone()).into())
            }
            (None, Request::SetVar { name, value }) => {
                self.variables.insert(name.clone(), value.clone());
                Ok(Value::Null)
            }
            (None, Request::ScreenReference {}) => {
                self.references += 1;
                Ok(self.references.into())
            }
            (None, request) => Ok(usual(request)),
        };
        self.calls.push(call);
        answer
    }

    fn cancelled(&self) -> Option<CallError> {
        self.asked.set(self.asked.get() + 1);
        let asked = self.cancel_after.is_some_and(|limit| self.asked.get() > limit);
        let called = self.cancel_after_calls.is_some_and(|limit| self.calls.len() >= limit);
        (asked || called).then(|| CallError::cancelled("stopped by the operator"))
    }

    fn clock(&self) -> Duration {
        self.now.set(self.now.get() + self.tick);
        self.now.get()
    }
}

fn usual(request: &Request) -> Value {
    match request {
        Request::AssertScreen(_)
        | Request::CheckScreen(_)
        | Request::AssertAndClick { .. }
        | Request::SendKeyUntilNeedlematch { .. } => hit(),
        Request::MatchHasTag { .. }
        | Request::WaitScreenChange { .. }
        | Request::AssertScreenChange { .. }
        | Request::WaitStillScreen(_)
        | Request::AssertStillScreen(_)
        | Request::CheckShutdown { .. }
        | Request::Lock { .. } => Value::Bool(true),
        Request::GetChildren {} | Request::GetChildrenByState { .. } | Request::GetParents {} => {
            json!([{"id": 2, "state": "running"}, {"id": 3, "state": "done"}])
        }
        Request::GetJobInfo { job } => {
            json!({"id": job, "name": "client", "settings": {"TEST": "client"}, "url": "http://s/7"})
        }
        Request::GetCurrentJobId {} => json!(1),
        Request::WaitSerial { .. } => "text up to the match".into(),
        _ => Value::Null,
    }
}

/// Files, each after a line `=== path`.
pub(crate) fn write_suite(dir: &Utf8Path, text: &str) {
    for (name, content) in sections(text) {
        let path = dir.join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }
}

pub(crate) fn sections(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            found.push((name.trim(), String::new()));
        } else if let Some((_, content)) = found.last_mut() {
            content.push_str(line);
            content.push('\n');
        }
    }
    found
}

pub(crate) struct Dir {
    pub(crate) path: Utf8PathBuf,
    _keep: tempfile::TempDir,
}

pub(crate) fn temporary() -> Dir {
    let keep = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(keep.path().to_owned()).unwrap().canonicalize_utf8().unwrap();
    Dir { path, _keep: keep }
}

/// A suite with one Starlark module whose `run` has this body.
pub(crate) fn suite_of(body: &str) -> (Dir, Suite) {
    let indented: String = body.lines().map(|line| format!("    {line}\n")).collect();
    suite(&format!("=== tests/a.star\ntest()\ndef run(t: Machine):\n{indented}"))
}

pub(crate) fn suite(text: &str) -> (Dir, Suite) {
    let dir = temporary();
    write_suite(&dir.path, text);
    match Suite::load(&dir.path, None) {
        Ok((suite, _)) => (dir, suite),
        Err(errors) => panic!("{}", errors.iter().map(|e| format!("{e}\n")).collect::<String>()),
    }
}

pub(crate) fn run(suite: &Suite, host: &mut FakeHost) -> Result<(), RunError> {
    on_big_stack(|| suite.run(&suite.modules()[0], Function::Run, host))
}

pub(crate) fn on_big_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(assay_script::STACK_SIZE);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// Compares with the file; `UPDATE_GOLDEN=1` writes it instead.
pub(crate) fn golden(path: &str, actual: &str) {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, actual).unwrap();
        return;
    }
    let expected = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{path} differs; UPDATE_GOLDEN=1 accepts\n--- expected\n{expected}--- actual\n{actual}"
    );
}
