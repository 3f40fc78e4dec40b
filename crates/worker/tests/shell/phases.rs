//! Which phases run, with what, and what they come to.

use super::bench::{Bench, Never, phase, run, secret, task};
use assay_proto::task::{Phase, ShellStep, Task};
use assay_records::step::{ModuleResult, Record, StepBody};
use camino::{Utf8Path, Utf8PathBuf};

/// A job of these scripts; an empty one leaves its phase out.
fn job(pre: &str, run: &str, post: &str, collect: &str) -> Task {
    let one = |script: &str| if script.is_empty() { Phase::default() } else { phase(&[script]) };
    Task {
        name: "job".into(),
        pre: one(pre),
        run: one(run),
        post: one(post),
        collect: one(collect),
        ..Task::default()
    }
}

#[tokio::test]
async fn phases_run_in_order_and_come_to_a_verdict() {
    let say = |what: &str| format!("echo +{what}:$ASSAY_OUTCOME");
    let (pre, main, post, collect) = (say("pre"), say("run"), say("post"), say("collect"));
    let fail = |what: &str| format!("{}; false; echo unreachable", say(what));
    let table = [
        (job(&pre, &main, &post, &collect), "passed product", "", "pre: run: post:passed collect:passed"),
        (job("", &main, "", ""), "passed product", "", "run:"),
        (
            job(&fail("pre"), &main, &post, &collect),
            "incomplete infrastructure",
            "pre: step 1: exit code 1",
            "pre: post:incomplete collect:incomplete",
        ),
        (
            job(&pre, &fail("run"), &post, &collect),
            "failed product",
            "run: step 1: exit code 1",
            "pre: run: post:failed collect:failed",
        ),
        (job("", "exit 7", &fail("post"), ""), "failed product", "run: step 1: exit code 7", "post:failed"),
        (
            job("", &main, &fail("post"), &collect),
            "failed test",
            "post: step 1: exit code 1",
            "run: post:passed collect:failed",
        ),
        (job("", &main, "", &fail("collect")), "passed product", "", "run: collect:passed"),
        (
            job("", "kill -9 $$", "", ""),
            "failed product",
            "run: step 1: exit code 137: killed by signal 9",
            "",
        ),
        (
            job("", "no-such-command", "", ""),
            "failed product",
            "run: step 1: exit code 127: a command was not found",
            "",
        ),
    ];
    for (task, verdict, reason, order) in table {
        let ended = run(&task).await;
        let class = ended.report.class.word();
        assert_eq!(format!("{} {class}", ended.outcome()), verdict, "{}", ended.console);
        assert_eq!(ended.reason(), reason, "{}", ended.console);
        let said = ended.console.lines().filter_map(|line| line.strip_prefix('+'));
        assert_eq!(said.collect::<Vec<_>>().join(" "), order, "{}", ended.console);
        let last = ended.console.lines().last().unwrap();
        assert!(last.starts_with(&format!("[assay] ended {}", ended.outcome())), "{last}");
    }
}

#[tokio::test]
async fn steps_are_run_by_their_shell_and_the_first_failure_ends_the_phase() {
    let step = |name: Option<&str>, shell: Option<&str>, script: &str| ShellStep {
        name: name.map(str::to_owned),
        shell: shell.map(str::to_owned),
        script: script.to_owned(),
    };
    let mut task = task("");
    task.env.insert("GREETING".into(), "it's $HOME\n`two` \"lines\"".into());
    task.env.insert("UID".into(), "bash keeps this one".into());
    task.run.steps = vec![
        step(
            Some("bash"),
            None,
            "printf '%s\\n' \"$GREETING\"; echo $- | tr -dc e; echo; (sleep infinity) & echo $! > pid",
        ),
        step(
            None,
            None,
            "#!/usr/bin/env python3\nimport os\nprint('py', os.environ['BUILD_TIMEOUT'], os.getcwd())",
        ),
        step(Some("sh"), Some("/bin/sh -x"), "kill -0 $(cat pid); false\necho out; echo err >&2; cat"),
        step(None, None, "exit 3"),
        step(None, None, "echo unreachable"),
    ];
    let ended = run(&task).await;
    assert_eq!(ended.reason(), "run: step 4: exit code 3", "{}", ended.console);
    let wanted = "[assay] run: bash\nit's $HOME\n`two` \"lines\"\ne\n[assay] run: bash: ok\n[assay] run: step 2\n\
                  py 1800000 /workspace\n[assay] run: step 2: ok\n[assay] run: sh\n";
    assert!(ended.console.starts_with(wanted), "{}", ended.console);
    assert!(
        ended.console.contains("+ false\n+ echo out\nout\n+ echo err\nerr\n+ cat\n[assay] run: sh: ok\n")
    );
    assert!(!ended.console.contains("unreachable"), "{}", ended.console);
    let steps: Vec<_> = ended
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Step(step) => match &step.body {
                StepBody::Text { title, output } => {
                    Some(format!("{} {}: {title} ({output})", step.module, step.number))
                }
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(steps[0], "run 1: bash: ok (console lines 2 to 4)");
    assert_eq!(steps[3], "run 4: step 4: exit code 3 (printed nothing)");
    let results: Vec<_> = ended
        .records
        .iter()
        .filter_map(|record| match record {
            Record::ModuleEnded { module, result, .. } => Some((module.as_str(), *result)),
            _ => None,
        })
        .collect();
    assert_eq!(results, [("run", ModuleResult::Failed)]);
}

#[tokio::test]
async fn a_secret_is_given_as_asked_and_shown_nowhere() {
    let value = "s3cret-v/lue+1";
    let show = |phase: &str| format!("echo {phase}=${{TOKEN:-none}}");
    let mut task = job(&show("pre"), "", &show("post"), &show("collect"));
    let script = "echo run=$TOKEN; printf %s \"${TOKEN:0:5}\"; sync; printf '%s\\n' \"${TOKEN:5}\"; \
                  printf %s \"u:$TOKEN\" | base64; python3 -c \
                  'import os,urllib.parse as u; print(u.quote(os.environ[\"TOKEN\"], safe=\"\"))' >&2; \
                  mkdir logs; echo $TOKEN > logs/leak; echo fine > logs/fine; touch \"logs/${TOKEN//\\//-}\" logs/s3cret; \
                  cat /proc/*/environ /proc/*/cmdline /run/assay/* > logs/own 2>/dev/null || true; exit 4";
    task.run = phase(&[script]);
    task.run.steps[0].name = Some(format!("with {value}"));
    task.run.secrets = vec!["TOKEN".into()];
    task.secrets.insert("TOKEN".into(), secret(value));
    task.artifacts = vec!["logs/**".into()];
    let bench = Bench::new();
    let ended = bench.run_at(&task, &Never).await;
    assert_eq!(ended.reason(), "run: with ***: exit code 4");
    for line in ["pre=none", "run=***", "post=none", "collect=none"] {
        assert!(ended.console.lines().any(|one| one == line), "{line}: {}", ended.console);
    }
    assert!(ended.console.contains("logs/leak is not published: it holds a secret"), "{}", ended.console);
    let published: Vec<_> = ended.artifacts.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        published,
        ["logs/fine", "logs/s3cret", "logs/s3cret-v-lue+1"],
        "own has it in the environment"
    );
    for entry in walk(&ended.dir) {
        let bytes = fs_err::read(&entry).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for spelling in [value, "czNjcmV0LXYvbHVlKz", "s3cret-v%2Flue"] {
            assert!(!text.contains(spelling), "{spelling} in {entry}");
        }
    }
}

fn walk(dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let entries = dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap().into_path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
