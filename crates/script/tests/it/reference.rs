//! The reference, the Starlark methods, the Python client and the documentation say the same.

use crate::common::{FakeHost, run, suite_of};
use assay_proto::driver::{FromDriver, Request, ToDriver};
use assay_script::{PYTHON_CLIENT, api_reference};
use camino::Utf8Path;

/// `(name, params)` of each call, as the reference writes it.
fn calls() -> Vec<(String, String)> {
    let reference = api_reference();
    let signature = |line: &str| {
        let (name, rest) = line.strip_prefix("| `t.")?.split_once('(')?;
        Some((name.to_owned(), rest.split_once(")`")?.0.to_owned()))
    };
    reference.lines().filter_map(signature).collect()
}

fn example(name: &str, param: &str) -> &'static str {
    match (name, param) {
        (_, "x" | "y" | "n" | "tasks" | "job") => "1",
        (_, "condition") => "True",
        (_, "function") => "lambda: True",
        ("power", "action") => "\"off\"",
        (_, "name") => "\"SET\"",
        _ => "\"text\"",
    }
}

fn log(body: &str) -> String {
    let (_dir, suite) = suite_of(body);
    let mut host = FakeHost::default();
    host.variables.insert("SET".to_owned(), "a,b".to_owned());
    // `fail` fails.
    let _ = run(&suite, &mut host);
    host.log()
}

/// What the reference calls a default is one: saying it changes nothing.
#[test]
fn defaults_are_those_of_the_reference() {
    let calls = calls();
    assert!(calls.len() > 40, "{calls:?}");
    for (name, params) in calls {
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for param in params.split(", ").filter(|param| !param.is_empty()) {
            if let Some((key, default)) = param.split_once('=') {
                long.push(format!("{key} = {default}"));
            } else {
                short.push(example(&name, param).to_owned());
            }
        }
        let brief = log(&format!("t.{name}({})", short.join(", ")));
        short.extend(long);
        assert_eq!(brief, log(&format!("t.{name}({})", short.join(", "))), "{name}");
        assert!(
            !brief.is_empty() || ["fail", "expect", "attempt", "retry"].contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn every_call_has_a_summary() {
    let reference = api_reference();
    let rows: Vec<&str> = reference.lines().filter(|line| line.starts_with("| `")).collect();
    for row in rows {
        let summary = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(summary.len() > 10, "{row}");
    }
}

/// The client's methods are the same, with the same parameters and defaults.
#[test]
fn python_has_the_same_signatures() {
    let script = format!(
        "{}\n\nimport inspect\nliteral = lambda value: json.dumps(value) if isinstance(value, str) else repr(value)\nfor name, method in inspect.getmembers(Machine, inspect.isfunction):\n    \
         if not name.startswith('_'):\n        \
         params = list(inspect.signature(method).parameters.values())[1:]\n        \
         text = ', '.join(p.name if p.default is p.empty else f'{{p.name}}={{literal(p.default)}}' for p in params)\n        \
         print(f'{{name}}({{text}})')\n",
        PYTHON_CLIENT.split("if __name__").next().unwrap()
    );
    let output = std::process::Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut expected: Vec<String> =
        calls().iter().map(|(name, params)| format!("{name}({params})")).collect();
    expected.sort();
    let text = String::from_utf8(output.stdout).unwrap();
    let actual: Vec<&str> = text.lines().collect();
    assert_eq!(actual, expected);
}

#[test]
fn documentation_contains_the_reference() {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/writing-tests.md");
    let Ok(text) = fs_err::read_to_string(&path) else { return };
    assert!(
        text.contains(api_reference().trim()),
        "docs/writing-tests.md is out of step; put this there:\n\n{}",
        api_reference()
    );
}

/// The protocol's examples are messages of the protocol.
#[test]
fn protocol_examples_are_messages() {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocols/test-driver.md");
    let text = fs_err::read_to_string(&path).unwrap();
    let (mut to, mut from) = (0, 0);
    for line in text.lines() {
        if let Some(json) = line.strip_prefix("→ ") {
            let message: ToDriver = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
            to += u32::from(serde_json::to_value(message).is_ok());
        } else if let Some(json) = line.strip_prefix("← ") {
            match serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}")) {
                FromDriver::Call { request, .. } => {
                    serde_json::from_value::<Request>(request.clone())
                        .unwrap_or_else(|e| panic!("{e}: {request}"));
                }
                FromDriver::Ready { .. } | FromDriver::Done { .. } => {}
            }
            from += 1;
        }
    }
    assert!(to >= 7 && from >= 6, "{to} {from}");
}
