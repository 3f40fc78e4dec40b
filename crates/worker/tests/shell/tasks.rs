//! Task runs: what a task gets, what becomes of what it says, and what bad ones come to.

use super::bench::{Bench, Ended, Never, Served, When};
use assay_proto::task::PhaseName;
use assay_records::step::Record;
use camino::Utf8PathBuf;
use fs_err as fs;
use std::os::unix::fs::PermissionsExt;

const HEADER: &str = "name: probe\ntestcase: dist.probe\ntakes: [koji_build, bodhi_update]\nrun: ./run\n";

/// A folder with a task in it.
fn folder(bench: &Bench, header: &str, script: &str) -> Utf8PathBuf {
    let dir = bench.path().join("probe");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("task.yaml"), header).unwrap();
    fs::write(dir.join("run"), format!("#!/bin/bash\n{script}\n")).unwrap();
    fs::set_permissions(dir.join("run"), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

async fn run(bench: &Bench, header: &str, script: &str, more: &[(&str, &str)]) -> Ended {
    let dir = folder(bench, header, script);
    let usual = [
        ("BACKEND", "task"),
        ("TASK_DIR", dir.as_str()),
        ("ITEM", "hello-1.0-1"),
        ("ITEM_TYPE", "koji_build"),
        ("TASK_NAMESPACES", "dist.probe"),
    ];
    bench.run_task(&[&usual[..], more].concat(), &Never).await
}

/// Test case, outcome and item of each result.
fn results(ended: &Ended) -> Vec<(String, String, String)> {
    let result = |record: &Record| match record {
        Record::Result(one) => Some((one.testcase.clone(), one.outcome.clone(), one.data["item"].join(","))),
        _ => None,
    };
    ended.records.iter().filter_map(result).collect()
}

fn lines(results: &[(String, String, String)]) -> Vec<String> {
    results.iter().map(|(testcase, outcome, item)| format!("{testcase} {outcome} {item}")).collect()
}

#[tokio::test]
async fn a_task_gets_its_input_and_its_results_are_taken() {
    let bench = Bench::new();
    let rpms = bench.path().join("rpms");
    fs::create_dir(&rpms).unwrap();
    for name in [
        "hello-1.0-1.x86_64.rpm",
        "hello-1.0-1.src.rpm",
        "hello-debuginfo-1.0-1.x86_64.rpm",
        "hello-1.0-1.s390x.rpm",
        "x.log",
    ] {
        fs::write(rpms.join(name), name).unwrap();
    }
    let header =
        format!("{HEADER}input: {{packages: [binary, source], baseline: optional}}\nneeds: [root]\n");
    let script = r#"
[ $(id -u) = 0 ] && [ -w . ] && ! mount -o remount,rw / 2>/dev/null || exit 9
python3 - <<'END'
import json, os, sys
given = json.load(open(os.environ["ASSAY_INPUT"]))
print("input", given["item"], given["type"], given["revision"], given["arch"], given["inputs"], given["baseline"])
print("packages", sorted(os.path.basename(one["path"]) + " " + one["kind"] for one in given["packages"]))
assert all(open(one["path"]).read() == os.path.basename(one["path"]) for one in given["packages"])
open(given["artifacts"] + "/log.txt", "w").write("kept")
json.dump({"results": [
    {"testcase": "dist.probe", "outcome": "passed", "note": "fine", "artifact": "log.txt"},
    {"checkname": "dist.probe.sub", "outcome": "INFO", "item": "FEDORA-1", "type": "bodhi_update", "scenario": "s"},
]}, open(given["results"] + "/r.yaml", "w"))
open(given["results"] + "/t.tap", "w").write("1..2\nok 1 - one\nok 2 - two # SKIP no\n")
open(given["results"] + "/u.xml", "w").write('<testsuite><testcase classname="A" name="three"/></testsuite>')
END
"#;
    let more = [("PACKAGES_URL", rpms.as_str()), ("ITEM_REVISION", "7"), ("INPUT_LEVEL", "high")];
    let ended = run(&bench, &header, script, &more).await;
    assert_eq!(ended.outcome(), "passed", "{}\n{}", ended.reason(), ended.console);
    assert!(
        ended.console.contains("input hello-1.0-1 koji_build 7 x86_64 {'level': 'high'} None"),
        "{}",
        ended.console
    );
    let packages = "packages ['hello-1.0-1.src.rpm source', 'hello-1.0-1.x86_64.rpm binary']";
    assert!(ended.console.contains(packages), "{}", ended.console);
    assert_eq!(
        lines(&results(&ended)),
        [
            "dist.probe PASSED hello-1.0-1",
            "dist.probe.sub INFO FEDORA-1",
            "dist.probe.one PASSED hello-1.0-1",
            "dist.probe.A.three PASSED hello-1.0-1"
        ]
    );
    assert!(ended.artifacts.contains(&("artifacts/log.txt".into(), "kept".into())), "{:?}", ended.artifacts);
    let logs: Vec<_> = ended
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Result(one) => Some(one.artifact.clone()),
            _ => None,
        })
        .collect();
    let files = ["artifacts/log.txt", "", "results/t.tap", "results/u.xml"];
    assert_eq!(logs, files.map(|file| (!file.is_empty()).then(|| file.to_owned())));
}

/// Packages of the build before are of the build that the job names or, if it names none or they are of several, of those
/// that they name themselves; never of the build that is looked at.
#[tokio::test]
async fn packages_of_the_build_before_are_not_of_the_new_one() {
    let header = format!("{HEADER}input: {{packages: source, baseline: optional}}\n");
    let script = r#"
python3 - <<'END'
import json, os
given = json.load(open(os.environ["ASSAY_INPUT"]))
print("new", *(one["build"] for one in given["packages"]))
print("old", given["baseline"]["build"], *sorted(one["build"] for one in given["baseline"]["packages"]))
END
printf '%s' 'results: [{outcome: PASSED}]' > /workspace/results/r.yaml
"#;
    let one = ["hello-0.9-1"].as_slice();
    let two = ["hello-0.9-1", "other-2-1"].as_slice();
    for (before, named, said) in [
        (one, "", "old hello-0.9-1 hello-0.9-1"),
        (one, "hello-0.9-1.fc44", "old hello-0.9-1.fc44 hello-0.9-1.fc44"),
        (two, "", "old None hello-0.9-1 other-2-1"),
        (two, "hello-0.9-1", "old hello-0.9-1 hello-0.9-1 other-2-1"),
    ] {
        let bench = Bench::new();
        for (dir, builds) in [("new", ["hello-1.0-1"].as_slice()), ("old", before)] {
            let dir = bench.path().join(dir);
            fs::create_dir(&dir).unwrap();
            for build in builds {
                fs::write(dir.join(format!("{build}.src.rpm")), "").unwrap();
            }
        }
        let (new, old) = (bench.path().join("new"), bench.path().join("old"));
        let more = [("PACKAGES_URL", new.as_str()), ("BASELINE_URL", old.as_str()), ("BASELINE", named)];
        let ended = run(&bench, &header, script, &more).await;
        assert_eq!(ended.outcome(), "passed", "{}\n{}", ended.reason(), ended.console);
        let lines: Vec<&str> = ended.console.lines().collect();
        assert!(lines.contains(&"new hello-1.0-1") && lines.contains(&said), "{said}: {}", ended.console);
    }
}

/// What repositories hold is in the workspace. The packages themselves are there only if the task cannot fetch them from
/// where they are.
#[tokio::test]
async fn what_repositories_hold_is_there_for_the_task() {
    let bench = Bench::new();
    let (top, repodata) = (bench.path().join("f44"), bench.path().join("f44/repodata"));
    fs::create_dir_all(&repodata).unwrap();
    let list =
        |kind: &str| format!("<data type=\"{kind}\"><location href=\"repodata/{kind}.xml.gz\"/></data>");
    let kinds = ["primary", "filelists", "other"];
    fs::write(repodata.join("repomd.xml"), format!("<repomd>{}</repomd>", kinds.map(list).concat())).unwrap();
    for kind in kinds {
        fs::write(repodata.join(format!("{kind}.xml.gz")), kind).unwrap();
    }
    fs::write(top.join("a-1-1.noarch.rpm"), "a").unwrap();
    let served = Served::start(bench.path());
    let script = r#"
python3 - <<'END'
import json, os
for one in json.load(open(os.environ["ASSAY_INPUT"]))["repositories"]:
    files = sorted(os.path.relpath(os.path.join(dir, name), one["path"]) for dir, _, names in os.walk(one["path"]) for name in names)
    print(one["name"], one["url"], *files)
END
printf '%s' 'results: [{outcome: PASSED}]' > /workspace/results/r.yaml
"#;
    let repositories = format!("here={top} there={}/f44/", served.url);
    let header = format!("{HEADER}input: {{repositories: true}}\n");
    let ended = run(&bench, &header, script, &[("REPOSITORIES", &repositories)]).await;
    assert_eq!(ended.outcome(), "passed", "{}\n{}", ended.reason(), ended.console);
    let lists = "repodata/filelists.xml.gz repodata/primary.xml.gz repodata/repomd.xml";
    for line in [
        format!("here file:///workspace/repositories/here a-1-1.noarch.rpm {lists}"),
        format!("there {}/f44 {lists}", served.url),
    ] {
        assert!(ended.console.lines().any(|said| said == line), "{line}: {}", ended.console);
    }
}

/// What a task says, and what the job is then: outcome, class, a part of the reason, results that are kept.
#[tokio::test]
async fn what_a_task_says_decides() {
    let yaml = |text: &str| format!("printf '%b' '{text}' > /workspace/results/r.yaml");
    let table: Vec<(String, &str, &str, &[&str])> = vec![
        (
            yaml("results: [{outcome: FAILED, note: torn}]"),
            "failed product",
            "dist.probe FAILED: torn",
            &["dist.probe FAILED hello-1.0-1"],
        ),
        (
            yaml("results: [{outcome: FAILED}]") + "; exit 1",
            "failed product",
            "1 of 1 results",
            &["dist.probe FAILED hello-1.0-1"],
        ),
        (
            yaml("results: [{outcome: NEEDS_INSPECTION}]"),
            "failed product",
            "NEEDS_INSPECTION",
            &["dist.probe NEEDS_INSPECTION hello-1.0-1"],
        ),
        (
            yaml("results: [{outcome: ERROR, note: no disk}]"),
            "incomplete test",
            "no disk",
            &["dist.probe ERROR hello-1.0-1"],
        ),
        (
            yaml("results: [{outcome: PASSED}]") + "; exit 3",
            "incomplete test",
            "the task crashed: run: probe: exit code 3",
            &["dist.probe PASSED hello-1.0-1"],
        ),
        ("true".into(), "incomplete test", "the task wrote no results", &[]),
        (
            "rm -r /workspace/results; ln -s /etc /workspace/results".into(),
            "incomplete test",
            "is no folder any more",
            &[],
        ),
        (
            "ln -s /etc/passwd /workspace/results/r.yaml; mkfifo /workspace/results/f.tap".into(),
            "incomplete test",
            "wrote no results",
            &[],
        ),
        (yaml("results:\\n- {outcome: PASSED\\n"), "incomplete test", "r.yaml:", &[]),
        (
            yaml("results:\\n- {outcome: GOOD}"),
            "incomplete test",
            "r.yaml:2: dist.probe: there is no outcome \"GOOD\"",
            &[],
        ),
        (yaml("results: [{outcome: WAIVED}]"), "incomplete test", "assay waiver create", &[]),
        (
            "printf '1..1\\nnot ok 1 - slow # TODO bug 7\\n' > /workspace/results/t.tap".into(),
            "passed product",
            "",
            &["dist.probe.slow INFO hello-1.0-1"],
        ),
        ("echo cannot go on >&2; exit 3".into(), "incomplete test", "exit code 3: cannot go on", &[]),
        (
            yaml(
                "results: [{outcome: PASSED}, {testcase: dist.depcheck, outcome: PASSED}, {testcase: pkg.bash, outcome: PASSED}]",
            ),
            "incomplete test",
            "the result dist.depcheck is refused: the namespaces of",
            &["dist.probe PASSED hello-1.0-1"],
        ),
        (
            yaml("results: [{testcase: scratch.mine, outcome: PASSED}]"),
            "passed product",
            "",
            &["scratch.mine PASSED hello-1.0-1"],
        ),
        ("echo what > /workspace/results/r.txt".into(), "incomplete test", "r.txt holds no results", &[]),
    ];
    for (script, outcome, reason, kept) in table {
        let ended = run(&Bench::new(), HEADER, &script, &[]).await;
        assert_eq!(
            format!("{} {}", ended.outcome(), ended.report.class.word()),
            outcome,
            "{script}: {}",
            ended.reason()
        );
        assert!(ended.reason().contains(reason), "{script}: {}", ended.reason());
        assert_eq!(lines(&results(&ended)), kept, "{script}");
    }
}

/// The header, what is said of it, and settings.
type Refused = (String, &'static str, &'static [(&'static str, &'static str)]);

#[tokio::test]
async fn what_cannot_be_run_is_refused() {
    let table: Vec<Refused> = vec![
        (
            HEADER.into(),
            "takes koji_build, bodhi_update, and hello-1.0-1 is a compose",
            &[("ITEM_TYPE", "compose")],
        ),
        ("name: x\ntakes: []\n".into(), "task.yaml:2:8: error: `takes` is empty", &[]),
        (HEADER.replace("./run", "./missing"), "no file that can be run", &[]),
        (HEADER.replace("dist.probe", "dist.other"), "the result dist.other is refused", &[]),
        (format!("{HEADER}input: {{packages: binary}}\n"), "the job has no KOJI_TOPURL", &[]),
        (
            format!("{HEADER}input: {{packages: binary}}\n"),
            "is no build",
            &[("KOJI_TOPURL", "/srv"), ("ITEM", "hello")],
        ),
        (
            format!("{HEADER}input: {{packages: binary}}\n"),
            "hello-1.0-1 has nothing for x86_64",
            &[("KOJI_TOPURL", "/nonexistent")],
        ),
        (
            format!("{HEADER}input: {{packages: binary}}\n"),
            "is not there",
            &[("PACKAGES_URL", "/nonexistent")],
        ),
        (
            format!("{HEADER}input: {{packages: binary}}\n"),
            "nothing says which builds belong",
            &[("ITEM_TYPE", "bodhi_update")],
        ),
        (format!("{HEADER}input: {{baseline: required}}\n"), "name it with --baseline NVR", &[]),
        (format!("{HEADER}input: {{repositories: true}}\n"), "name them with --repository NAME=DIR", &[]),
        (
            format!("{HEADER}input: {{repositories: true}}\n"),
            "no repository of packages",
            &[("REPOSITORIES", "a=/usr")],
        ),
        (HEADER.into(), "has no ITEM", &[("ITEM", "")]),
    ];
    for (header, wanted, more) in table {
        let ended = run(&Bench::new(), &header, "true", more).await;
        assert_eq!(
            (ended.outcome(), ended.report.class.word()),
            ("incomplete", "test"),
            "{header}: {}",
            ended.reason()
        );
        assert!(ended.reason().contains(wanted), "{header}: {}", ended.reason());
    }
}

#[tokio::test]
async fn bad_tasks_harm_nobody() {
    let good = "printf '%s' 'results: [{outcome: PASSED}]' > /workspace/results/r.yaml";
    let forks = format!("{HEADER}resources: {{processes: 60}}\n");
    let ended = run(&Bench::new(), &forks, "for i in $(seq 400); do sleep infinity & done; wait", &[]).await;
    assert_eq!((ended.outcome(), ended.report.class.word()), ("incomplete", "test"), "{}", ended.reason());
    // The kernel refuses more to an unprivileged worker's task; to root's it does not, and the worker kills it.
    let told = ended.reason().ends_with("and may run 60 (limits.processes)");
    assert!(told || ended.console.contains("fork: retry"), "{} {}", ended.reason(), ended.console);

    let fills = format!("{HEADER}resources: {{disk: 8 MiB}}\n");
    let script = "for i in $(seq 20); do head -c 4M /dev/zero > work-$i; done; sleep infinity";
    let ended = run(&Bench::new(), &fills, script, &[]).await;
    assert_eq!(ended.outcome(), "incomplete", "{}", ended.reason());
    assert!(ended.reason().contains("bytes of disk, and may fill"), "{}", ended.reason());

    // Ten gigabytes: what is beyond the limit is read as fast as it comes and thrown away, so that the task ends soon.
    let script = format!("dd if=/dev/zero bs=1M count=10240 status=none; {good}");
    let ended = run(&Bench::new(), HEADER, &script, &[]).await;
    assert_eq!(ended.outcome(), "passed", "{}", ended.reason());
    assert!(ended.console.len() < 80 << 20, "{}", ended.console.len());
    let said = ended.console.lines().find(|line| line.ends_with(" bytes of the console were left out"));
    let left_out = said.and_then(|line| line.split(' ').find_map(|word| word.parse::<u64>().ok()));
    // All that was printed is accounted for: a byte that cannot be shown takes three of those that are kept.
    let (printed, kept) = (10_u64 << 30, 64_u64 << 20);
    assert!(left_out.is_some_and(|bytes| (printed - kept..printed).contains(&bytes)), "{said:?}");

    let bench = Bench::new();
    let dir = folder(
        &bench,
        HEADER,
        &format!("trap 'echo still here' TERM; {good}; echo ready; while :; do sleep 1000 & wait; done"),
    );
    let settings = [("TASK_DIR", dir.as_str()), ("ITEM", "x-1-1"), ("ITEM_TYPE", "koji_build")];
    let pace = When { bench: &bench, phase: PhaseName::Run, budget: "ready", grace: "still here" };
    let ended = bench.run_task(&settings, &pace).await;
    assert_eq!(
        (ended.outcome(), ended.report.class.word()),
        ("timeout_exceeded", "test"),
        "{}",
        ended.reason()
    );
    assert!(ended.console.contains("of grace, killed"), "{}", ended.console);
    assert_eq!(lines(&results(&ended)), ["dist.probe PASSED x-1-1"], "what it had said until then is kept");
}
