//! The pages, as a browser without JavaScript gets them.

use crate::common::{Server, client, has, run};
use assay_engine::outcome::Outcome;
use assay_engine::work::WorkPhase;
use assay_fakes::Connection;
use assay_proto::worker::Stream;
use assay_records::step::{Artifact, FailingCase, ModuleResult, Record, StepResult, TestCases};
use reqwest::StatusCode;
use serde_json::json;

/// A job that failed in its second module.
async fn failed_job(server: &Server) -> anyhow::Result<(i64, Connection, [String; 2])> {
    let id = server
        .post(json!({"TEST": "grub", "BACKEND": "dummy", "CASEDIR": "my tests", "APPEND": "it's"}))
        .await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    worker.phase(held, WorkPhase::Running).await?;
    let shot = server.put_blob(&run::screen(1, 6)).await;
    let needle = server.put_blob(&run::screen(2, 6)).await;
    let json = br#"{"area":[{"type":"match","xpos":60,"ypos":96,"width":420,"height":60},{"type":"exclude","xpos":1,"ypos":2,"width":3,"height":4}]}"#;
    let json = server.put_blob(json).await;
    let near = run::hit("prompt-dark", 0.9123, false, Some(&needle), Some(&json));
    let steps = run::lines(&[
        run::plan(&["boot", "shell & co", "halt"]),
        run::started("boot", 1),
        run::found("boot", 1, "grub", &shot, run::hit("grub", 1.0, true, None, None)),
        run::ended("boot", ModuleResult::Passed, 10, 9),
        run::started("shell & co", 11),
        run::serial("shell & co", 1, "login: ", Some("debian login: ")),
        run::missed(
            "shell & co",
            2,
            "prompt",
            &shot,
            vec![near, run::hit("prompt-old", 0.3, false, None, None)],
        ),
        run::text("shell & co", 3, "why", "backtrace", StepResult::Fail),
        run::ended("shell & co", ModuleResult::Failed, 20, 9),
        run::ended("halt", ModuleResult::Skipped, 20, 0),
    ]);
    worker.append(held, Stream::Steps, 0, &steps).await?;
    worker.append(held, Stream::Log, 0, "line of the log\n".repeat(9000).as_bytes()).await?;
    worker.finish(held, Outcome::Failed, Some("module shell & co failed")).await?;
    worker.expect_finished_ack(held.attempt).await?;
    server.finished(id).await;
    Ok((id, worker, [shot, needle]))
}

#[tokio::test]
async fn an_empty_server_says_how_to_begin() {
    let server = Server::start().await;
    let (status, page) = server.page("/").await;
    assert_eq!(status, StatusCode::OK);
    has(&page, &["No jobs yet", "assay job post", "assay worker"]);
}

#[tokio::test]
async fn a_failed_job_leads_to_its_failure() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, _, [shot, needle]) = failed_job(&server).await?;
    let step = format!("/jobs/{id}/steps/shell%20%26%20co/2");
    let (_, page) = server.page(&format!("/jobs/{id}")).await;
    has(
        &page,
        &[
            &format!("id=\"first-failure\" href=\"{step}\""),
            "module shell &#38; co failed",
            "id=\"step/shell &#38; co/2\"",
            "<rect class=\"miss\" x=\"56\" y=\"92\" width=\"420\" height=\"60\"/>",
            "debian login: ",
            "… the beginning is in the file",
            "assay run &#39;my tests&#39; &#39;APPEND=it&#39;\\&#39;&#39;s&#39;",
            "skipped",
        ],
    );
    assert!(page.len() < 200_000, "long logs are cut: {} bytes", page.len());
    let (status, page) = server.page(&step).await;
    assert_eq!(status, StatusCode::OK);
    has(
        &page,
        &[
            "91.2 %",
            "1: 91.2 %",
            "prompt-dark",
            "prompt-old",
            &shot,
            &needle,
            "<rect class=\"exclude\" x=\"1\" y=\"2\" width=\"3\" height=\"4\"/>",
            "tests/shell &#38; co.star:8",
            "30 s",
            &format!("rel=\"prev\" href=\"/jobs/{id}/steps/shell%20%26%20co/1\""),
        ],
    );
    let (_, other) = server.page(&format!("{step}?needle=1")).await;
    has(&other, &["30 %", "picture was not kept"]);
    Ok(())
}

#[tokio::test]
async fn the_list_is_filtered_by_its_address() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (id, _worker, _) = failed_job(&server).await?;
    let waiting = server.post(json!({"TEST": "elsewhere", "WORKER_CLASS": "qemu_s390x"})).await;
    let (failed, waits) = (format!("id=\"job-{id}\""), format!("id=\"job-{waiting}\""));
    let (_, page) = server.page("/").await;
    has(&page, &[&failed, &waits, "offers class qemu_s390x", "module shell"]);
    for (path, shown, hidden) in [
        ("/tests?state=finished", &failed, &waits),
        ("/tests?state=scheduled", &waits, &failed),
        ("/tests?result=failed", &failed, &waits),
        ("/tests?q=ELSEWHERE", &waits, &failed),
    ] {
        let (_, page) = server.page(path).await;
        assert!(page.contains(shown.as_str()) && !page.contains(hidden.as_str()), "{path}");
    }
    let (_, page) = server.page("/tests?result=passed").await;
    has(&page, &["No job fits"]);
    Ok(())
}

#[tokio::test]
async fn old_addresses_lead_to_the_job() {
    let server = Server::start().await;
    server.post_dummy().await;
    for path in ["/tests/1", "/t1"] {
        let response = client().get(server.url(path)).send().await.unwrap();
        assert_eq!(response.headers()["location"], "/jobs/1", "{path}");
    }
    let (status, page) = server.page("/jobs/77").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    has(&page, &["There is no job 77."]);
}

#[tokio::test]
async fn a_broken_record_is_shown_as_far_as_it_goes() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    let gone = "0".repeat(64);
    let mut steps = b"\xff\xfe not json\n".to_vec();
    steps.extend(run::lines(&[run::looked("lost plan", 1, &gone)]));
    steps.extend(b"{\"type\":\"step\",\"mod");
    worker.append(held, Stream::Steps, 0, &steps).await?;
    worker.finish(held, Outcome::Incomplete, Some("broken")).await?;
    worker.expect_finished_ack(held.attempt).await?;
    server.finished(id).await;
    let (status, page) = server.page(&format!("/jobs/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    has(&page, &["lost plan", "1 line of the record could not be read"]);
    assert_eq!(server.page(&format!("/jobs/{id}/steps/lost%20plan/1")).await.0, StatusCode::OK);
    Ok(())
}

/// What a shell job published.
async fn published(server: &Server) -> (Vec<Record>, [String; 2]) {
    let report = server.put_blob(b"a report").await;
    let cases = server.put_blob(b"[]").await;
    let failing = |name: &str, message: &str| FailingCase {
        name: name.into(),
        status: "failed".into(),
        duration_us: Some(2_500_000),
        message: message.into(),
    };
    let records = vec![
        Record::Artifact(Artifact {
            path: "out/a <b>.txt".into(),
            size: 8,
            sha256: report.clone(),
            content_type: "text/plain".into(),
            at_us: 1,
        }),
        Record::TestCases(TestCases {
            file: "junit.xml".into(),
            format: "junit".into(),
            counts: [("passed".to_owned(), 7), ("failed".to_owned(), 4)].into(),
            failing: vec![
                failing("pkg.Class.case", "expected <1>\n\u{1b}[31mgot 2"),
                failing("pkg.silent", ""),
            ],
            failing_left_out: 2,
            cases: cases.clone(),
            problems: vec!["line 3: cut off".into()],
            at_us: 2,
        }),
    ];
    (records, [report, cases])
}

#[tokio::test]
async fn a_shell_job_shows_its_console_files_and_tests() -> anyhow::Result<()> {
    let server = Server::start().await;
    let settings =
        json!({"TEST": "unit", "BACKEND": "shell", "WORKER_CLASS": "dummy", "LOG_PATH": "not/of/the/gate"});
    let id = server.post(settings).await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    worker.phase(held, WorkPhase::Running).await?;
    let console = b"2026-11-21 04:30:00.123 | building & testing\n";
    worker.append(held, Stream::Console, 0, console).await?;
    worker.expect_acked(held.attempt, Stream::Console, console.len() as u64).await?;
    let stream = format!("/api/assay/v1/jobs/{id}/streams/console.txt?attempt=1");
    let (_, page) = server.page(&format!("/jobs/{id}")).await;
    has(&page, &[&format!("<a href=\"{stream}\">Live console</a>"), "data-follow=\"", "End of the console"]);
    assert!(!page.contains("live-picture") && !page.contains("id=\"tests\""), "it has neither yet:\n{page}");

    let (records, [report, cases]) = published(&server).await;
    worker.append(held, Stream::Steps, 0, &run::lines(&records)).await?;
    worker.finish(held, Outcome::Failed, Some("exit code 1")).await?;
    worker.expect_finished_ack(held.attempt).await?;
    server.finished(id).await;
    let (_, page) = server.page(&format!("/jobs/{id}")).await;
    has(
        &page,
        &[
            &format!("<a href=\"{stream}\">Console</a>"),
            "| building &#38; testing",
            "href=\"#console\"",
            "href=\"#tests\"",
            &format!(
                "<a href=\"/api/assay/v1/blobs/{report}\">out/a &#60;b&#62;.txt</a></th><td>8 bytes</td>"
            ),
            "<span class=\"quiet\">4 failed, 7 passed</span>",
            &format!("<a href=\"/api/assay/v1/blobs/{cases}\">every test</a>"),
            "pkg.Class.case <span class=\"quiet\">2.5 s</span></summary>",
            ">expected &#60;1&#62;\ngot 2</pre>",
            "pkg.silent <span class=\"quiet\">2.5 s</span></p>",
            "2 more failed",
            "line 3: cut off",
        ],
    );
    for absent in ["/logs/", "id=\"serial\"", "id=\"reproduce\""] {
        assert!(!page.contains(absent), "the page has {absent:?}");
    }
    Ok(())
}

#[tokio::test]
async fn lists_hear_of_changes() -> anyhow::Result<()> {
    let server = Server::start().await;
    let mut events = client().get(server.url("/api/assay/v1/events")).send().await?;
    let id = server.post_dummy().await;
    let mut heard = String::new();
    while !heard.contains(&format!("{{\"type\":\"job\",\"id\":{id}}}")) {
        heard.push_str(&String::from_utf8_lossy(&events.chunk().await?.expect("the stream goes on")));
    }
    Ok(())
}

/// What changes after a page was made and before it listens is not lost: it hears that it has missed something. A browser
/// that comes back says the same count again, and looks at everything by itself.
#[tokio::test]
async fn a_page_hears_of_what_changed_before_it_listened() -> anyhow::Result<()> {
    let server = Server::start().await;
    let first = server.post_dummy().await;
    let priority = format!("/api/assay/v1/jobs/{first}/priority");
    let change = async |priority_now: usize| {
        let (status, answer) =
            server.ask(reqwest::Method::POST, &priority, Some(json!({ "priority": priority_now }))).await;
        assert!(status.is_success(), "{answer}");
    };
    let paths = ["/tests", "/workers", "/tests/overview", &format!("/jobs/{first}")];
    for (number, path) in paths.into_iter().enumerate() {
        let (_, page) = server.page(path).await;
        let listens = page.split("data-events=\"").nth(1).expect("it changes").split('"').next().unwrap();
        let listens = listens.replace("&#38;", "&");
        change(2 * number).await;
        for (again, missed) in [(false, true), (true, false)] {
            let mut request = client().get(server.url(&listens));
            if again {
                request = request.header("last-event-id", "0");
            }
            let mut events = request.send().await?;
            if again {
                change(2 * number + 1).await;
            }
            let mut heard = String::new();
            while !heard.contains("data: ") {
                heard.push_str(&String::from_utf8_lossy(&events.chunk().await?.expect("the stream goes on")));
            }
            let all_of_it = "id: 0\n\ndata: {\"type\":\"missed\"}";
            assert_eq!(heard.starts_with(all_of_it), missed, "{path} {again}: {heard:?}");
        }
    }
    Ok(())
}
