//! What is kept of a job.

use super::bench::{Bench, Never, phase, run, task};
use assay_records::step::{ModuleResult, Record};
use fs_err as fs;

#[tokio::test]
async fn artifacts_are_published_however_the_job_ends() {
    let bench = Bench::new();
    let outside = bench.path().join("outside");
    fs::write(&outside, "not yours").unwrap();
    let script = format!(
        "mkdir -p logs/deep; echo one > logs/one.log; echo two > logs/deep/page.html; echo no > other
         ln -s one.log logs/inside; ln -s {outside} logs/outside; ln -s /etc/passwd logs/passwd; ln -s nowhere logs/dangling
         ln -s / logs/root; mkfifo logs/fifo; printf x > $'logs/\\xff'; mkdir logs/closed; echo z > logs/closed/z; exit 1"
    );
    let mut task = task(&script);
    task.collect = phase(&["echo three > logs/three"]);
    task.artifacts = vec!["logs/**".into(), "*.xml".into()];
    let ended = bench.run_at(&task, &Never).await;
    assert_eq!(ended.outcome(), "failed");
    let wanted = [
        ("logs/closed/z", "z\n"),
        ("logs/deep/page.html", "two\n"),
        ("logs/inside", "one\n"),
        ("logs/one.log", "one\n"),
        ("logs/three", "three\n"),
    ];
    let published = &ended.artifacts;
    let published: Vec<_> = published.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert_eq!(published, wanted, "{}", ended.console);
    for refusal in [
        "logs/outside is not published: it is a link",
        "logs/passwd is not published: it is a link out of the workspace",
        "logs/root is not published: it is a link out of the workspace",
        "logs/dangling is not published: it is a link to nothing",
        "logs/fifo is not published: it is no plain file",
        "1 names in the workspace are not UTF-8",
        "published 5 files, 20 bytes",
    ] {
        assert!(ended.console.contains(refusal), "{refusal}: {}", ended.console);
    }
    let kinds: Vec<_> = ended
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Artifact(artifact) => Some((artifact.size, artifact.content_type.as_str())),
            _ => None,
        })
        .collect();
    assert!(
        kinds.contains(&(4, "text/html; charset=utf-8")) && kinds.contains(&(4, "text/plain; charset=utf-8"))
    );
    let softly = |record: &Record| matches!(record, Record::ModuleEnded { module, result: ModuleResult::Softfailed, .. } if module == "artifacts");
    assert!(ended.records.iter().any(softly));
}

#[tokio::test]
async fn a_failure_is_kept_where_somebody_asked_for_it() {
    let held = |bench: &Bench| bench.path().join("held/attempt/workspace/trace");
    for (script, asked, kept) in [
        ("echo x > trace; exit 1", true, true),
        ("echo x > trace; exit 1", false, false),
        ("echo x > trace", true, false),
    ] {
        let bench = Bench::new();
        let mut attempt = bench.attempt(&task(script));
        if asked {
            attempt.settings.insert("HOLD_WORKSPACE".into(), "autohold 1 by alice: look".into());
        }
        let report = assay_worker::exec::shell::run(&attempt).await;
        assert_eq!(held(&bench).exists(), kept, "{script} {asked} {report:?}");
        let said = bench.console().contains("autohold 1 by alice: look");
        assert_eq!(said, kept, "{}", bench.console());
    }
}

#[tokio::test]
async fn artifacts_are_bounded_in_number_and_bytes() {
    let mut task = task("for i in $(seq 100 180); do echo $i > $i; done; head -c 3000 /dev/zero > 0-large");
    task.artifacts = vec!["**".into()];
    task.limits.artifacts = 20;
    task.limits.artifact_bytes = 2000;
    let ended = run(&task).await;
    assert_eq!((ended.outcome(), ended.artifacts.len()), ("passed", 20), "{}", ended.console);
    assert!(ended.console.contains("120 is not published: there are more files than limits.artifacts=20"));
    assert!(
        ended.console.contains(
            "0-large is not published: all together would have more than limits.artifact_bytes=2000"
        ),
        "{}",
        ended.console
    );
    assert!(ended.console.contains("[assay] 12 more are not published\n"), "{}", ended.console);
}

#[tokio::test]
async fn test_results_are_read() {
    let mut task = task(
        r#"cat > junit.xml <<'E'
<testsuite name="s"><testcase classname="a.B" name="good" time="0.5"/>
<testcase classname="a.B" name="bad"><failure message="no hunter2!">trace</failure></testcase></testsuite>
E
printf 'TAP version 13\n1..2\nok 1 - one\nnot ok 2 - two\n' | gzip > out.tap.gz
echo nothing > empty.xml; exit 1"#,
    );
    task.secrets.insert("S".into(), super::bench::secret("hunter2"));
    task.results = vec!["*.xml".into(), "*.tap.gz".into()];
    let ended = run(&task).await;
    let read: Vec<_> = ended
        .records
        .iter()
        .filter_map(|record| match record {
            Record::TestCases(cases) => Some(cases),
            _ => None,
        })
        .collect();
    assert_eq!(read.len(), 2, "{}", ended.console);
    assert_eq!((read[0].file.as_str(), read[0].format.as_str()), ("junit.xml", "junit"));
    assert_eq!(read[0].counts, [("failed".to_owned(), 1), ("passed".to_owned(), 1)].into());
    assert_eq!(
        (read[0].failing[0].name.as_str(), read[0].failing[0].message.as_str()),
        ("a.B.bad", "no ***!")
    );
    assert_eq!((read[1].file.as_str(), read[1].failing[0].status.as_str()), ("out.tap.gz", "failed"));
    assert!(ended.console.contains("junit.xml (junit): 1 failed, 1 passed\n"), "{}", ended.console);
    assert!(ended.console.contains("empty.xml holds no test results"), "{}", ended.console);
    let published: Vec<_> = ended.artifacts.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(published, ["empty.xml", "out.tap.gz"], "the other holds a secret");
}
