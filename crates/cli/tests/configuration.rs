//! `assay import zuul`, `assay config check` and `assay gate play` as programs: what goes where, and the exit codes.

use camino::Utf8PathBuf;
use std::process::{Command, Output};

const LAYOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/tests/layouts/everything.yaml");
const WRONG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/tests/layouts/wrong.yaml");

fn assay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_assay")).args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_layout_is_shown_written_and_checked() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = Utf8PathBuf::from_path_buf(dir.path().join("config")).expect("UTF-8");
    let seen = assay(&["import", "zuul", LAYOUT, "--out", dir.as_str()]);
    assert_eq!(seen.status.code(), Some(0), "{}", text(&seen.stderr));
    let shown = text(&seen.stdout);
    assert!(shown.contains("queue \"integrated\" of gate: 2 projects, named by a job"), "{shown}");
    assert!(shown.contains("gate-nova-dsvm joins org/glance, org/nova"), "{shown}");
    assert!(text(&seen.stderr).contains("everything.yaml:3:18: note: `functions.py` is not executed"));

    let seen = assay(&["config", "check", dir.as_str()]);
    assert_eq!(seen.status.code(), Some(0), "{}", text(&seen.stdout));
    let said = text(&seen.stdout);
    assert!(said.contains("\n2 pipelines, 3 projects, "), "{said}");
    assert!(said.contains("warning: nothing says what to do for 8 jobs"), "{said}");

    // Nothing is overwritten.
    let seen = assay(&["import", "zuul", LAYOUT, "--out", dir.as_str()]);
    assert_eq!(seen.status.code(), Some(2), "{}", text(&seen.stderr));
}

#[test]
fn noop_and_functions_are_options() {
    let dir = tempfile::tempdir().expect("a directory");
    let functions = Utf8PathBuf::from_path_buf(dir.path().join("f.yaml")).expect("UTF-8");
    fs_err::write(&functions, "reusable_node: {labels: [kept]}\n").expect("written");
    let seen =
        assay(&["import", "zuul", LAYOUT, "--json", "--noop-joins", "--functions", functions.as_str()]);
    assert_eq!(seen.status.code(), Some(0), "{}", text(&seen.stderr));
    let all: serde_json::Value = serde_json::from_slice(&seen.stdout).expect("one document");
    let queues = all["pipelines"]["gate"]["queues"].as_array().expect("queues");
    assert_eq!(queues.len(), 1, "{queues:#?}");
    assert_eq!(all["jobs"]["gate-nova-dsvm"]["attempts"], 5);
}

#[test]
fn what_is_wrong_is_exit_code_2() {
    let seen = assay(&["import", "zuul", WRONG]);
    assert_eq!((seen.status.code(), seen.stdout.len()), (Some(2), 0));
    assert!(text(&seen.stderr).contains("did you mean `IndependentPipelineManager`?"));
    let seen = assay(&["import", "zuul", WRONG, "--json"]);
    assert_eq!(seen.status.code(), Some(2));
    let all: serde_json::Value = serde_json::from_slice(&seen.stdout).expect("one document");
    assert!(all["diagnostics"].as_array().is_some_and(|all| all.len() > 60));

    let seen = assay(&["config", "check", "--json", WRONG]);
    assert_eq!(seen.status.code(), Some(2));
    let all: serde_json::Value = serde_json::from_slice(&seen.stdout).expect("one document");
    let first = &all["findings"][0];
    assert!(first["file"] == WRONG && first["line"] == 1 && first["excerpt"] == "includes:", "{first:#}");
    assert_eq!(assay(&["config", "check", "/nowhere.yaml"]).status.code(), Some(4));
}

#[test]
fn a_scenario_that_is_not_as_expected_says_in_what() {
    const SCENARIO: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scenarios/gate/rejected-vote.yaml");
    let dir = tempfile::tempdir().expect("a directory");
    let file = Utf8PathBuf::from_path_buf(dir.path().join("wrong.yaml")).expect("UTF-8");
    let right = fs_err::read_to_string(SCENARIO).expect("the scenario");
    assert_eq!(assay(&["gate", "play", SCENARIO]).status.code(), Some(0));
    for (wrong, said) in [
        ("merged: [1, 2]", "merged: expected [1, 2], found [1, 2, 3]"),
        ("reports: {2: 77}", "reports on 2: expected 77, found 3"),
        ("said: {1: no such words}", "said on 1: expected \"no such words\", found "),
        ("refused: {1: nonsense}", "refused 1: expected \"nonsense\", found "),
        ("outcome: {2: nonsense}", "outcome of 2: expected \"nonsense\", found "),
        ("queue: {gate: [1]}", "expected [1], found []"),
    ] {
        let scenario = right.replace("expect: {merged: [1, 2, 3]}", &format!("expect: {{{wrong}}}"));
        assert_ne!(scenario, right);
        fs_err::write(&file, scenario).expect("written");
        let seen = assay(&["gate", "play", file.as_str()]);
        assert_eq!(seen.status.code(), Some(1), "{wrong}: {}", text(&seen.stdout));
        assert!(text(&seen.stdout).contains(said), "{wrong}: {}", text(&seen.stdout));
    }
}
