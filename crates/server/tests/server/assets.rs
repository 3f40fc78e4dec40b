//! Assets through the API: uploads that break off, versions, what jobs begin with, cleaning.

use crate::common::{Server, client, sha256};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const API: &str = "/api/assay/v1";

impl Server {
    async fn begin(&self, body: Value) -> (StatusCode, Value) {
        self.ask(Method::POST, &format!("{API}/assets/uploads"), Some(body)).await
    }

    /// Sends a piece as admin.
    async fn piece(&self, id: &str, offset: u64, bytes: &[u8]) -> (StatusCode, Value) {
        let request = client()
            .patch(self.url(&format!("{API}/assets/uploads/{id}")))
            .bearer_auth(&self.handle.admin_token)
            .header("Upload-Offset", offset)
            .body(bytes.to_vec());
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn complete(&self, id: &str) -> (StatusCode, Value) {
        self.ask(Method::POST, &format!("{API}/assets/uploads/{id}/complete"), None).await
    }

    /// Publishes bytes under a name.
    pub(crate) async fn publish(&self, name: &str, bytes: &[u8]) -> Value {
        let (status, begun) = self.begin(json!({"name": name, "size": bytes.len()})).await;
        assert_eq!(status, StatusCode::CREATED, "{begun}");
        let id = begun["id"].as_str().unwrap();
        self.piece(id, 0, bytes).await;
        let (status, asset) = self.complete(id).await;
        assert_eq!(status, StatusCode::CREATED, "{asset}");
        asset
    }

    async fn content(&self, path: &str, range: Option<&str>) -> (StatusCode, Vec<u8>) {
        let mut request = client().get(self.url(&format!("{API}/assets/{path}")));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().to_vec())
    }

    /// As a worker.
    pub(crate) async fn as_worker(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = client()
            .request(method, self.url(&format!("/worker/v1{path}")))
            .bearer_auth(&self.handle.worker_token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or(Value::Null))
    }

    async fn clean(&self, dry_run: bool) -> Value {
        let path = format!("{API}/assets/cleanup");
        let (status, report) = self.ask(Method::POST, &path, Some(json!({"dry_run": dry_run}))).await;
        assert_eq!(status, StatusCode::OK, "{report}");
        report
    }
}

#[tokio::test]
async fn an_upload_outlives_the_server() {
    let server = Server::start().await;
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let new = json!({"name": "disk.qcow2", "size": bytes.len(), "sha256": sha256(&bytes)});
    let (status, begun) = server.begin(new).await;
    assert_eq!((status, &begun["kind"], &begun["offset"]), (StatusCode::CREATED, &json!("hdd"), &json!(0)));
    let id = begun["id"].as_str().unwrap().to_owned();
    let (_, state) = server.piece(&id, 0, &bytes[..300_000]).await;
    assert_eq!(state["offset"], 300_000);
    let server = server.kill_and_restart().await;
    let response = client().head(server.url(&format!("{API}/assets/uploads/{id}"))).send().await.unwrap();
    assert_eq!(response.headers()["upload-offset"], "300000");
    let (status, fault) = server.piece(&id, 300_001, b"x").await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(
        fault["error"],
        "the upload has 300000 bytes, and bytes from 300001 on were sent; send from 300000 on"
    );
    let (status, fault) = server.complete(&id).await;
    assert_eq!(
        (status, fault["help"].as_str()),
        (StatusCode::BAD_REQUEST, Some("Send as many bytes as were announced."))
    );
    // The last answer was lost: a piece that overlaps is no error.
    server.piece(&id, 200_000, &bytes[200_000..]).await;
    let (status, asset) = server.complete(&id).await;
    assert_eq!(status, StatusCode::CREATED, "{asset}");
    assert_eq!(asset["sha256"], sha256(&bytes));
    assert_eq!(server.complete(&id).await.0, StatusCode::NOT_FOUND, "it is over");
    let server = server.kill_and_restart().await;
    assert_eq!(server.content("hdd/disk.qcow2/content", None).await, (StatusCode::OK, bytes.clone()));
    let part = server.content("hdd/disk.qcow2/content", Some("bytes=799990-")).await;
    assert_eq!(part, (StatusCode::PARTIAL_CONTENT, bytes[799_990..].to_vec()));
    let beyond = server.content("hdd/disk.qcow2/content", Some("bytes=900000-")).await;
    assert_eq!(beyond.0, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    let huge = json!({"name": "a.iso", "size": 1_u64 << 60});
    let (status, fault) = server.begin(huge).await;
    assert_eq!(status, StatusCode::INSUFFICIENT_STORAGE);
    assert!(fault["error"].as_str().unwrap().starts_with("the disk is full: "), "{fault}");
    for (name, said) in [("../a", "contains a slash"), ("", "is empty"), (".a", "begins with a dot")] {
        let (status, fault) = server.begin(json!({"name": name, "size": 1})).await;
        assert!(status.is_client_error() && fault.to_string().contains(said), "{name}: {status} {fault}");
    }
    let (_, begun) = server.begin(json!({"name": "a.iso", "size": 3, "sha256": sha256(b"abc")})).await;
    let id = begun["id"].as_str().unwrap();
    assert_eq!(server.piece(id, 0, b"abcd").await.0, StatusCode::BAD_REQUEST);
    server.piece(id, 0, b"abd").await;
    let (status, fault) = server.complete(id).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{fault}");
    // It begins anew.
    server.piece(id, 0, b"abc").await;
    assert_eq!(server.complete(id).await.0, StatusCode::CREATED);
    let path = format!("{API}/assets/uploads/{}", "0".repeat(32));
    assert_eq!(server.get(&path).await.0, StatusCode::NOT_FOUND);
    for path in ["/assets/iso/b.iso", "/assets/floppy/a.iso", "/assets/iso/a.iso/content?version=99"] {
        assert_eq!(server.get(&format!("{API}{path}")).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    // Who only looks can look.
    let new = json!({"name": "a.iso", "size": 1});
    let response =
        client().post(server.url(&format!("{API}/assets/uploads"))).json(&new).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(server.page(&format!("{API}/assets/iso/a.iso")).await.0, StatusCode::OK);
    // A worker publishes for a job that it has.
    let id = server.post_dummy().await;
    let new = json!({"name": "a.iso", "size": 1, "job": id, "setting": "PUBLISH_HDD_1"});
    assert_eq!(server.as_worker(Method::POST, "/assets/uploads", Some(new)).await.0, StatusCode::CONFLICT);
    assert_eq!(
        server.as_worker(Method::POST, &format!("/jobs/{id}/assets"), None).await.0,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn two_that_publish_one_name_are_two_versions() {
    let server = Server::start().await;
    let bytes: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 100_000]).collect();
    let one = |number: usize| {
        let (server, bytes) = (&server, &bytes[number]);
        async move {
            let (_, begun) = server.begin(json!({"name": "x.qcow2", "size": bytes.len()})).await;
            let id = begun["id"].as_str().unwrap().to_owned();
            for start in (0..bytes.len()).step_by(30_000) {
                server.piece(&id, start as u64, &bytes[start..bytes.len().min(start + 30_000)]).await;
            }
            // Twice at once: one of them publishes.
            let (first, second) = tokio::join!(server.complete(&id), server.complete(&id));
            let codes = [first.0, second.0];
            assert!(
                codes.contains(&StatusCode::CREATED) && codes.contains(&StatusCode::NOT_FOUND),
                "{codes:?}"
            );
        }
    };
    tokio::join!(one(0), one(1), one(2), one(3));
    let (_, detail) = server.get(&format!("{API}/assets/hdd/x.qcow2")).await;
    let versions = detail["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 4);
    for version in versions {
        let path = format!("hdd/x.qcow2/content?version={}", version["id"]);
        let (_, content) = server.content(&path, None).await;
        assert!(bytes.contains(&content), "whole bytes of one of them");
        assert_eq!(version["sha256"], sha256(&content));
    }
    let newest = server.content("hdd/x.qcow2/content", None).await.1;
    assert_eq!(versions[0]["sha256"], sha256(&newest));
    let (_, list) = server.get(&format!("{API}/assets?q=X.Q")).await;
    assert_eq!(list["assets"].as_array().unwrap().len(), 1);
    let (_, list) = server.get(&format!("{API}/assets?kind=hdd&versions=1")).await;
    assert_eq!(list["assets"].as_array().unwrap().len(), 4);
    // The page says which of them jobs get.
    let (_, page) = server.page("/files").await;
    assert_eq!(page.matches("hdd/x.qcow2</a>").count(), 4, "{page}");
    assert_eq!(page.matches("replaced by a newer one").count(), 3, "{page}");
}

#[tokio::test]
async fn a_job_keeps_what_it_began_with() -> anyhow::Result<()> {
    let server = Server::start().await;
    let old = server.publish("disk.qcow2", b"old").await;
    let settings =
        json!({"TEST": "t", "BACKEND": "dummy", "HDD_1": "disk.qcow2", "ISO": "no.iso", "HDD_2": "/a/b"});
    let id = server.post(settings).await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    let pin = format!("/jobs/{id}/assets");
    let (status, pinned) = server.as_worker(Method::POST, &pin, None).await;
    assert_eq!(status, StatusCode::OK, "{pinned}");
    let version = json!({"id": old["id"], "sha256": old["sha256"], "size": 3});
    let expected = json!({"assets": [
        {"setting": "HDD_1", "role": "reads", "kind": "hdd", "name": "disk.qcow2", "version": version},
        {"setting": "ISO", "role": "reads", "kind": "iso", "name": "no.iso", "version": null},
    ]});
    assert_eq!(pinned, expected);
    let new = server.publish("disk.qcow2", b"new").await;
    assert_eq!(
        server.as_worker(Method::POST, &pin, None).await.1,
        expected,
        "a second try begins with the same"
    );
    // What it needs stays; the other version goes.
    let (status, removed) = server.ask(Method::DELETE, &format!("{API}/assets/hdd/disk.qcow2"), None).await;
    assert_eq!((status, &removed), (StatusCode::OK, &json!({"removed": [new["id"]], "kept": [old["id"]]})));
    let blob = format!("/worker/v1/assets/blobs/{}", old["sha256"].as_str().unwrap());
    let response = client().get(server.url(&blob)).bearer_auth(&server.handle.worker_token).send().await?;
    assert_eq!(response.bytes().await?, "old");
    let (status, fault) = server.ask(Method::DELETE, &format!("{API}/assets/hdd/disk.qcow2"), None).await;
    assert_eq!(status, StatusCode::CONFLICT, "{fault}");
    // The worker publishes.
    let new = json!({"name": "made.qcow2", "size": 4, "job": id, "private_of": id, "setting": "STORE_HDD_1"});
    let (status, begun) = server.as_worker(Method::POST, "/assets/uploads", Some(new)).await;
    assert_eq!(status, StatusCode::CREATED, "{begun}");
    let name = format!("{id:08}-made.qcow2");
    assert_eq!(begun["name"], name);
    server.piece(begun["id"].as_str().unwrap(), 0, b"made").await;
    server.complete(begun["id"].as_str().unwrap()).await;
    let (_, used) = server.get(&format!("{API}/jobs/{id}/assets")).await;
    let settings: Vec<_> = used["assets"].as_array().unwrap().iter().map(|a| a["setting"].clone()).collect();
    assert_eq!(settings, ["HDD_1", "STORE_HDD_1"]);
    worker.finish(held, assay_engine::outcome::Outcome::Passed, None).await?;
    server.finished(id).await;
    let (status, _) = server.ask(Method::DELETE, &format!("{API}/assets/hdd/disk.qcow2"), None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        !server
            .dir
            .join(format!("assets/blobs/{}", &old["sha256"].as_str().unwrap()[..2]))
            .read_dir()?
            .any(|_| true)
    );
    Ok(())
}

#[tokio::test]
async fn cleaning_says_why() {
    let server = Server::start().await;
    server.publish("fixed.iso", b"fixed").await;
    let fix = format!("{API}/assets/iso/fixed.iso/fix");
    let (status, detail) = server.ask(Method::POST, &fix, Some(json!({"fixed": true}))).await;
    assert_eq!((status, &detail["versions"][0]["fixed"]), (StatusCode::OK, &json!(true)));
    server.publish("needed.iso", b"needed").await;
    let old = server.publish("old.iso", b"old").await;
    let job = server
        .post(json!({"TEST": "t", "BACKEND": "dummy", "WORKER_CLASS": "none", "ISO": "needed.iso"}))
        .await;
    let (_, left) = server.begin(json!({"name": "never", "size": 9})).await;
    let reasons = |report: &Value| -> Vec<String> {
        let verdicts = report["verdicts"].as_array().unwrap().iter();
        let mut said: Vec<_> = verdicts
            .map(|v| format!("{} {} {}", v["what"].as_str().unwrap(), v["keep"], v["why"].as_str().unwrap()))
            .collect();
        said.sort();
        said
    };
    assert_eq!(
        reasons(&server.clean(true).await),
        [
            "iso/fixed.iso true its name is fixed".to_owned(),
            format!("iso/needed.iso true job {job} has not ended and needs it"),
            "iso/old.iso true no job of a group uses it; it goes in 14 days".to_owned(),
        ]
    );
    server.clock.advance(14 * 24 * 3600 * 1_000_000);
    server.publish("young.iso", b"young").await;
    let would = server.clean(true).await;
    assert_eq!((&would["bytes"], &would["dry_run"]), (&json!(3), &json!(true)));
    assert_eq!(server.content("iso/old.iso/content", None).await.0, StatusCode::OK, "nothing has gone");
    assert_eq!(reasons(&server.clean(false).await), reasons(&would), "the same, carried out");
    assert_eq!(server.content("iso/old.iso/content", None).await.0, StatusCode::NOT_FOUND);
    let sha = old["sha256"].as_str().unwrap();
    assert!(!server.dir.join(format!("assets/blobs/{}/{}", &sha[..2], &sha[2..])).exists());
    for name in ["fixed", "needed", "young"] {
        assert_eq!(
            server.content(&format!("iso/{name}.iso/content"), None).await.0,
            StatusCode::OK,
            "{name}"
        );
    }
    let upload = format!("{API}/assets/uploads/{}", left["id"].as_str().unwrap());
    assert_eq!(server.get(&upload).await.0, StatusCode::NOT_FOUND, "nobody goes on with it");
}

#[tokio::test]
async fn groups_keep_what_their_budget_holds() -> anyhow::Result<()> {
    let server = Server::start().await;
    let group =
        |name: &str, gigabytes: u32| format!("/api/v1/job_groups?name={name}&size_limit_gb={gigabytes}");
    let mut groups = Vec::new();
    for (name, limit) in [("small", 0), ("large", 10)] {
        let (status, made) = server.ask(Method::POST, &group(name, limit), None).await;
        assert!(status.is_success(), "{made}");
        groups.push(made["id"].as_i64().unwrap());
    }
    let mut worker = server.worker("w1").connect(&[]).await?;
    for (name, group) in [("a.iso", groups[0]), ("b.iso", groups[1])] {
        server.publish(name, b"bytes").await;
        let path =
            format!("/api/v1/jobs?TEST=t&BACKEND=dummy&WORKER_CLASS=dummy&ISO={name}&_GROUP_ID={group}");
        let (status, posted) = server.ask(Method::POST, &path, None).await;
        assert!(status.is_success(), "{posted}");
        let held = worker.expect_assign().await?.held;
        let job = held.attempt.job;
        let (_, pinned) = server.as_worker(Method::POST, &format!("/jobs/{job}/assets"), None).await;
        assert_eq!(pinned["assets"][0]["name"], name);
        worker.finish(held, assay_engine::outcome::Outcome::Passed, None).await?;
        server.finished(job.0).await;
    }
    let report = server.clean(false).await;
    let said: Vec<_> = report["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["what"].as_str().unwrap(), v["why"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("iso/b.iso", "within the budget of group large, which has 10.7 GB left"),
            ("iso/a.iso", "more than the budget of group small, which has 0.0 GB left"),
        ]
    );
    assert_eq!(server.content("iso/a.iso/content", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.content("iso/b.iso/content", None).await.0, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn openqas_address_of_a_file_gives_its_bytes() {
    let server = Server::start().await;
    let job = server.post(json!({"TEST": "a", "BACKEND": "dummy", "ISO": "a.iso"})).await;
    let address = format!("/tests/{job}/asset/iso/a.iso");
    let get = async |range: Option<&str>| {
        let request = client().get(server.url(&address));
        let request = range.into_iter().fold(request, |request, range| request.header("range", range));
        let response = request.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().to_vec())
    };
    assert_eq!(get(None).await.0, StatusCode::NOT_FOUND);
    server.publish("a.iso", b"all of it").await;
    assert_eq!(get(None).await, (StatusCode::OK, b"all of it".to_vec()));
    assert_eq!(get(Some("bytes=4-5")).await, (StatusCode::PARTIAL_CONTENT, b"of".to_vec()));
    assert_eq!(get(Some("bytes=99-")).await.0, StatusCode::RANGE_NOT_SATISFIABLE);
}
