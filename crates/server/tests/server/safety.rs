//! Who may do what, and what a browser is told.

use crate::common::{Server, asking, client};
use crate::knowledge::git;
use assay_engine::outcome::Outcome;
use assay_proto::worker::Stream;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const JOBS: &str = "/api/assay/v1/jobs";
const BODY: &str = r#"{"settings":{"TEST":"a"}}"#;

async fn post(server: &Server, fields: &[(&str, &str)]) -> u16 {
    let mut request = client().post(server.url(JOBS)).body(BODY);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn changes_need_the_admin_token() {
    let server = Server::start().await;
    let bearer = |token: &str| format!("Bearer {token}");
    let (admin, worker) = (bearer(&server.handle.admin_token), bearer(&server.handle.worker_token));
    assert_eq!(post(&server, &[]).await, 401);
    assert_eq!(post(&server, &[("authorization", &bearer(&"0".repeat(64)))]).await, 401);
    assert_eq!(post(&server, &[("authorization", &worker)]).await, 401);
    assert_eq!(post(&server, &[("authorization", &admin)]).await, 201);
    let refusal = client().post(server.url(JOBS)).body(BODY).send().await.unwrap();
    assert_eq!(refusal.headers()["www-authenticate"], "Bearer");
    assert!(refusal.text().await.unwrap().contains("tokens/admin"), "says where the token is");
    let cancel = client().post(server.url("/api/assay/v1/jobs/1/cancel")).send().await.unwrap();
    assert_eq!(cancel.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.page(JOBS).await.0, StatusCode::OK, "reading is open");
    assert_eq!(server.page("/worker/v1/blobs/x").await.0, StatusCode::UNAUTHORIZED);
}

/// A worker says that a task has found something under names that are another repository's, which an honest one would have
/// kept back: that is no result here.
#[tokio::test]
async fn a_worker_gives_a_task_no_names_that_are_not_its_own() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let checks = file.with_file_name("checks");
    fs_err::create_dir(&checks)?;
    git(&checks, &["init", "--quiet"]);
    git(&checks, &["commit", "--quiet", "--allow-empty", "-m", "checks"]);
    let own = format!("[[tasks.namespace]]\nprefix = \"dist\"\nrepositories = [\"{checks}\"]\n");
    fs_err::write(&file, own)?;
    let server = Server::start_with(|config| config.config = Some(file)).await;
    let settings = json!({"BACKEND": "task", "TASK": checks, "TASK_COMMIT": git(&checks, &["rev-parse", "HEAD"]),
        "TEST": "probe", "ITEM": "bash-5-1", "ITEM_TYPE": "koji_build"});
    server.post(settings).await;
    let mut worker = server.worker("w");
    worker.classes = vec!["shell".to_owned()];
    let mut worker = worker.connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    let found = ["pkg.bash.unit", "distant.probe", "dist.probe", "scratch.mine"].map(|testcase| {
        let data = json!({"item": ["bash-5-1"], "type": ["koji_build"]});
        let line =
            json!({"type": "result", "testcase": testcase, "outcome": "PASSED", "data": data, "at_us": 1});
        format!("{line}\n")
    });
    let lines = found.concat();
    worker.append(held, Stream::Steps, 0, lines.as_bytes()).await?;
    worker.expect_acked(held.attempt, Stream::Steps, lines.len() as u64).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    let mut names = BTreeSet::new();
    let found = asking(async || {
        let (_, all) = server.get("/api/v2.0/results?item=bash-5-1&limit=100").await;
        let name = |one: &Value| one["testcase"]["name"].as_str().unwrap().to_owned();
        names = all["data"].as_array().unwrap().iter().map(name).collect();
        (names.len() >= 3).then_some(())
    });
    found.await;
    assert_eq!(names, ["dist.probe", "koji_build.probe", "scratch.mine"].map(str::to_owned).into());
    Ok(())
}

#[tokio::test]
async fn trust_in_loopback_is_no_way_in_for_other_sites() {
    let server = Server::start_with(|config| config.trust_loopback = true).await;
    let own = server.handle.url.clone();
    assert_eq!(post(&server, &[]).await, 201);
    assert_eq!(post(&server, &[("origin", &own)]).await, 201);
    assert_eq!(post(&server, &[("origin", "http://evil.example")]).await, 403);
    assert_eq!(post(&server, &[("origin", "http://127.0.0.1:1")]).await, 403);
    assert_eq!(post(&server, &[("origin", "null")]).await, 403);
    assert_eq!(post(&server, &[("sec-fetch-site", "cross-site")]).await, 403);
    assert_eq!(post(&server, &[("host", "evil.example")]).await, 421);
    let rebound = client().get(server.url("/")).header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    let worker = client().put(server.url("/worker/v1/blobs/x")).body("x").send().await.unwrap();
    assert_eq!(worker.status(), StatusCode::UNAUTHORIZED, "workers need their token all the same");
}

#[tokio::test]
async fn browsers_are_told_to_run_nothing() {
    let server = Server::start().await;
    let evil = b"<html><script>alert(1)</script></html>";
    let sha = server.put_blob(evil).await;
    let blob = client().get(server.url(&format!("/api/assay/v1/blobs/{sha}"))).send().await.unwrap();
    assert_eq!(blob.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(blob.headers()["x-content-type-options"], "nosniff");
    assert_eq!(blob.headers()["content-security-policy"], "default-src 'none'; sandbox");
    let page = client().get(server.url("/")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"));
    let html = page.text().await.unwrap();
    assert!(
        !html.contains("<style") && !html.contains("style=") && !html.contains("onclick"),
        "nothing inline"
    );
    for (path, kind) in [("/assets/assay.css", "text/css"), ("/assets/assay.js", "text/javascript")] {
        let asset = client().request(Method::GET, server.url(path)).send().await.unwrap();
        assert!(asset.headers()["content-type"].to_str().unwrap().starts_with(kind), "{path}");
    }
    assert_eq!(server.page("/assets/..%2Flib.rs").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tokens_are_not_printed() {
    let server = Server::start().await;
    let printed = format!("{:?}", server.handle);
    assert!(printed.contains(&server.handle.url), "{printed}");
    assert!(!printed.contains(&server.handle.admin_token) && !printed.contains(&server.handle.worker_token));
}

#[tokio::test]
async fn a_damaged_picture_is_not_shown() {
    let server = Server::start().await;
    let sha = server.put_blob(b"as it was").await;
    let address = format!("/api/assay/v1/blobs/{sha}");
    assert_eq!(server.page(&address).await, (StatusCode::OK, "as it was".to_owned()));
    fs_err::write(server.dir.join("blobs").join(&sha[..2]).join(&sha[2..]), "as it is!").unwrap();
    let (status, text) = server.page(&address).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{text}");
    assert!(text.contains("is damaged"), "{text}");
}
