//! The rest of openQA's API: bugs, locks, search, notes and refusals, webhooks, workers, secrets, bad input.

use crate::common::run::{ended, found, hit, lines, plan, started};
use crate::common::{Server, asking, client};
use crate::openqa::{PRODUCT, catalog};
use crate::people::{Form, Key};
use assay_engine::outcome::Outcome;
use assay_engine::work::WorkPhase;
use assay_fakes::{Assigned, Connection};
use assay_proto::worker::{Room, Stream};
use assay_records::step::ModuleResult;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const POST: Method = Method::POST;
const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

/// A worker with so many slots.
async fn worker(server: &Server, slots: u32) -> Connection {
    let mut worker = server.worker("w1");
    worker.slots = slots;
    worker.connect(&[]).await.unwrap()
}

/// As the test of a job asks; status and text.
async fn by_test(server: &Server, token: &str, method: Method, path: &str) -> (u16, String) {
    let request = client().request(method, server.url(&format!("/api/v1/{path}")));
    let answer = request.header("x-api-jobtoken", token).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn bugs_are_noted_found_and_told_about() {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let job = server.post_dummy().await;
    let path = format!("/api/v1/jobs/{job}/comments");
    let (status, _) = operator
        .ask(&server, POST, &path, &[("text", "see boo#1 and https://bugzilla.suse.com/show_bug.cgi?id=2")])
        .await;
    assert_eq!(status, 200);
    let (_, bugs) = server.get("/api/v1/bugs").await;
    assert_eq!(bugs["bugs"].as_object().unwrap().len(), 2, "{bugs}");
    assert_eq!(bugs["bugs"]["1"], "boo#1");

    // What nobody has asked the tracker about is worth it; what was just asked about is not, until an hour has passed.
    let (_, worth) = server.get("/api/v1/bugs?refreshable=1").await;
    assert_eq!(worth["bugs"].as_object().unwrap().len(), 2);
    let told: Form<'_> = &[("title", "It breaks"), ("open", "1"), ("refreshed", "1"), ("existing", "1")];
    assert_eq!(operator.ask(&server, PUT, "/api/v1/bugs/1", told).await, (200, json!({"id": 1})));
    let (_, worth) = server.get("/api/v1/bugs?refreshable=1").await;
    assert_eq!(worth["bugs"].as_object().unwrap().len(), 1);
    server.pass(3_601).await;
    let (_, worth) = server.get("/api/v1/bugs?refreshable=1&delta=3600").await;
    assert_eq!(worth["bugs"].as_object().unwrap().len(), 2);
    let (_, new) = server.get("/api/v1/bugs?created_since=60").await;
    assert_eq!(new["bugs"], json!({}));
    let (_, bug) = server.get("/api/v1/bugs/1").await;
    assert_eq!(
        (&bug["title"], &bug["open"], &bug["assigned"]),
        (&json!("It breaks"), &json!(1), &Value::Null)
    );

    let viewer = Key::make(&server, "v", "viewer", None).await;
    let cases: [(&Key, Method, &str, Form<'_>, u16, &str); 7] = [
        (&operator, POST, "bugs", &[("bugid", "gh#os/tests#7")], 200, ""),
        (&operator, POST, "bugs", &[("bugid", "boo#1")], 409, "another one"),
        (&operator, POST, "bugs", &[("bugid", "nothing")], 400, "bugid invalid"),
        (&operator, PUT, "bugs/1", &[("open", "perhaps")], 400, "open invalid"),
        (&operator, GET, "bugs/99", &[], 404, "Bug does not exist"),
        (&operator, DELETE, "bugs/99", &[], 404, "Bug does not exist"),
        (&viewer, POST, "bugs", &[("bugid", "boo#3")], 403, "Operator level required"),
    ];
    for (key, method, path, form, want, text) in cases {
        let (status, body) = key.ask(&server, method.clone(), &format!("/api/v1/{path}"), form).await;
        assert!(status == want && body.to_string().contains(text), "{method} {path}: {status} {body}");
    }
    assert_eq!(operator.ask(&server, DELETE, "/api/v1/bugs/1", &[]).await.0, 200);
    let server = server.kill_and_restart().await;
    assert_eq!(server.get("/api/v1/bugs/1").await.0, 404);
}

#[tokio::test]
async fn tests_of_a_cluster_meet_over_http() -> anyhow::Result<()> {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let form: Form<'_> = &[
        ("TEST:a", "server"),
        ("BACKEND:a", "dummy"),
        ("TEST:b", "client"),
        ("BACKEND:b", "dummy"),
        ("_PARALLEL:b", "a"),
    ];
    let (status, posted) = operator.ask(&server, POST, "/api/v1/jobs", form).await;
    assert_eq!(status, 200, "{posted}");
    let mut worker = worker(&server, 2).await;
    let (one, two) = (worker.expect_assign().await?, worker.expect_assign().await?);
    let (a, b) = if posted["ids"]["a"] == one.job.0 { (one, two) } else { (two, one) };
    for job in [&a, &b] {
        worker.phase(job.held, WorkPhase::Running).await?;
        server.until(job.job.0, "running", |job| job.state == "running").await;
    }
    let (token_a, token_b) = (a.settings["JOBTOKEN"].as_str(), b.settings["JOBTOKEN"].as_str());
    assert_ne!(token_a, token_b);
    let (_, shown) = server.get(&format!("/api/v1/jobs/{}", a.job.0)).await;
    assert!(!shown.to_string().contains(token_a), "the token is nobody else's");
    assert_eq!(by_test(&server, token_a, GET, "whoami").await.1, json!({"id": a.job.0}).to_string());

    let children = json!({"jobs": {b.job.0.to_string(): "running"}}).to_string();
    let (only_a, only_b) = (json!({"jobs": [a.job.0]}).to_string(), json!({"jobs": [b.job.0]}).to_string());
    let where_b = format!("mutex/m?action=lock&where={}", b.job.0);
    for (token, method, path, status, text) in [
        (token_a, GET, "mm/children", 200, children.as_str()),
        (token_a, GET, "mm/children/running", 200, &only_b),
        (token_a, GET, "mm/children/done", 200, "{\"jobs\":[]}"),
        (token_a, GET, "mm/children/odd", 400, "not a state"),
        (token_b, GET, "mm/parents", 200, &only_a),
        (token_b, POST, "mutex/m?action=lock", 409, "nack"),
        (token_a, POST, "mutex?name=m", 200, "ack"),
        (token_a, POST, "mutex?name=m", 409, "nack"),
        (token_b, POST, "mutex/m?action=lock", 200, "ack"),
        (token_a, POST, "mutex/m?action=lock", 409, "nack"),
        (token_a, POST, "mutex/m?action=unlock", 409, "nack"),
        (token_b, POST, "mutex/m?action=unlock", 200, "ack"),
        (token_a, POST, &where_b, 409, "nack"),
        (token_a, POST, "mutex/m?action=lock", 200, "ack"),
        (token_a, POST, "mutex/m?action=steal", 400, "action invalid"),
        (token_a, POST, "barrier?name=b", 400, "tasks missing"),
        (token_a, POST, "barrier?name=b&tasks=2", 200, "ack"),
        (token_a, POST, "barrier/b", 409, "nack"),
        (token_a, POST, "barrier/b", 409, "nack"),
        (token_b, POST, "barrier/b", 200, "ack"),
        (token_a, POST, "barrier/b", 200, "ack"),
        (token_a, POST, "barrier/b", 409, "nack"),
        (token_b, DELETE, "barrier/b", 200, "ack"),
        (token_b, POST, "barrier/b", 409, "nack"),
        ("1-1-00", GET, "whoami", 403, "jobtoken"),
        ("", GET, "whoami", 403, "jobtoken"),
        ("x", POST, "mutex?name=m", 403, "jobtoken"),
    ] {
        let (found, said) = by_test(&server, token, method.clone(), path).await;
        assert!(found == status && said.contains(text), "{method} {path}: {found} {said}");
    }
    // The tokens count as long as the attempt: after the end there is nothing to ask.
    worker.finish(b.held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(b.held.attempt).await?;
    assert_eq!(by_test(&server, token_b, GET, "whoami").await.0, 403);
    let gone = format!("mutex/n?action=lock&where={}", b.job.0);
    assert_eq!(by_test(&server, token_a, POST, &gone).await.0, 410, "its maker has ended");
    let server = server.kill_and_restart().await;
    assert_eq!(by_test(&server, token_a, GET, "whoami").await.0, 200, "it outlives the server");
    Ok(())
}

#[tokio::test]
async fn posts_are_noted_cancelled_and_remembered_when_refused() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let (_, posted) = admin.ask(&server, POST, "/api/v1/isos", &PRODUCT).await;
    assert_eq!(posted["ids"], json!([1, 2]));
    let by = [
        ("distri", "fedora"),
        ("version", "43"),
        ("flavor", "universal"),
        ("arch", "x86_64"),
        ("build", "43.1"),
    ];
    let note = [&by[..], &[("note", "the mirror was <b>broken</b>")]].concat();
    assert_eq!(admin.ask(&server, PUT, "/api/v1/experimental/isos/note", &note).await.0, 200);
    let missing = admin.ask(&server, PUT, "/api/v1/experimental/isos/note", &by).await;
    assert!(missing.0 == 400 && missing.1.to_string().contains("note missing"), "{missing:?}");

    // One that comes to nothing is remembered with the reason, and is not the newest that counts.
    let odd: Vec<_> =
        PRODUCT.iter().map(|&(key, value)| (key, if key == "FLAVOR" { "odd" } else { value })).collect();
    let (status, refused) = admin.ask(&server, POST, "/api/v1/isos", &odd).await;
    assert_eq!((status, &refused["scheduled_product_id"]), (200, &json!(2)), "{refused}");
    let (_, row) = admin.ask(&server, GET, "/api/v1/isos/2", &[]).await;
    assert_eq!((&row["status"], &row["results"]["successful_job_ids"]), (&json!("fatal_error"), &json!([])));
    assert!(row["results"]["error"].as_str().unwrap().contains("odd"), "{row}");
    let none = [&PRODUCT[..], &[("TEST", "nothing"), ("_FAIL_IF_NO_JOBS", "1")]].concat();
    assert_eq!(admin.ask(&server, POST, "/api/v1/isos", &none).await.0, 400);
    let stats = "/api/v1/isos/job_stats?distri=fedora&version=43&flavor=universal&arch=x86_64&build=43.1";
    let (_, stats) = admin.ask(&server, GET, stats, &[]).await;
    assert_eq!(stats["scheduled"]["none"]["job_ids"], json!([1, 2]), "{stats}");

    assert_eq!(admin.ask(&server, POST, "/api/v1/isos/1/cancel", &[]).await.1, json!({"result": 2}));
    let server = server.kill_and_restart().await;
    let (_, row) = admin.ask(&server, GET, "/api/v1/isos/1", &[]).await;
    assert_eq!((&row["status"], &row["note"]), (&json!("cancelled"), &json!("the mirror was <b>broken</b>")));
    assert_eq!(row["cancelled_by"], "a");
    assert_eq!(server.job(1).await.state, "cancelled");
    assert_eq!(admin.ask(&server, POST, "/api/v1/isos/99/cancel", &[]).await.0, 404);
}

/// GitHub's event, signed with this secret.
async fn hook(server: &Server, key: &Key, action: &str, secret: &str, query: &str) -> (u16, Value) {
    let body = json!({"action": action, "pull_request": {"id": 77, "html_url": "https://x/pull/1", "head": {
        "sha": "abc", "repo": {"full_name": "os/tests", "clone_url": "https://x/os/tests.git"}}}})
    .to_string();
    let mac =
        ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let (user, password) = (&key.user, format!("{}:{}", key.public, key.secret));
    let request = client().post(server.url(&format!("/api/v1/webhooks/product?{query}")));
    let request = request.basic_auth(user, Some(password)).header("x-github-event", "pull_request");
    let request = request.header("x-hub-signature-256", format!("sha256={}", hex::encode(mac.as_ref())));
    let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_pull_request_posts_a_product_and_ends_it() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let secret = format!("o:{}:{}", operator.public, operator.secret);
    let query = "DISTRI=fedora&VERSION=43&FLAVOR=universal&ARCH=x86_64&TEST=install";
    let (status, wrong) = hook(&server, &operator, "opened", "other", query).await;
    assert!(status == 403 && wrong["error"].as_str().unwrap().contains("secret"), "{status} {wrong}");
    let (status, posted) = hook(&server, &operator, "opened", &secret, query).await;
    assert_eq!((status, &posted["ids"]), (200, &json!([1])), "{posted}");
    let job = server.job(1).await;
    assert_eq!(job.settings["BUILD"].value, "os/tests#abc");
    assert_eq!(job.settings["CASEDIR"].value, "https://x/os/tests.git#abc");
    assert_eq!(job.priority, 100);
    let (_, posted) = hook(&server, &operator, "synchronize", &secret, query).await;
    assert_eq!(posted["ids"], json!([2]), "the next commit");
    assert_eq!(server.job(1).await.state, "cancelled");
    let (_, closed) = hook(&server, &operator, "closed", &secret, query).await;
    assert_eq!(closed["cancelled"], 1);
    assert_eq!(server.job(2).await.state, "cancelled");
    let (status, wrong) = hook(&server, &operator, "opened", &secret, "DISTRI=fedora").await;
    assert!(status == 400 && wrong["error"].as_str().unwrap().contains("VERSION"), "{wrong}");
    let (_, run) = operator.ask(&server, GET, "/api/v1/isos/2", &[]).await;
    assert_eq!((&run["webhook_id"], &run["status"]), (&json!("gh:pr:77"), &json!("cancelled")));
}

#[tokio::test]
async fn lists_tell_modules_and_lead_from_page_to_page() -> anyhow::Result<()> {
    let server = Server::start().await;
    let (one, two) = (server.post_dummy().await, server.post_dummy().await);
    let mut worker = worker(&server, 1).await;
    for (id, result) in [(one, ModuleResult::Passed), (two, ModuleResult::Failed)] {
        let Assigned { held, .. } = worker.expect_assign().await?;
        worker.phase(held, WorkPhase::Running).await?;
        let step = found("boot", 1, "grub", &"0".repeat(64), hit("grub", 1.0, true, None, None));
        let records = [plan(&["boot"]), started("boot", 1), step, ended("boot", result, 10, 9)];
        let length = worker.append(held, Stream::Steps, 0, &lines(&records)).await?;
        worker.expect_acked(held.attempt, Stream::Steps, length).await?;
        worker.finish(held, Outcome::Passed, None).await?;
        worker.expect_finished_ack(held.attempt).await?;
        server.finished(id).await;
    }
    let waiting = server.post(json!({"TEST": "later", "WORKER_CLASS": "none"})).await;
    // Twice: the second time from texts that were kept.
    for _ in 0..2 {
        let (_, list) = server.get("/api/v1/jobs").await;
        let results: Vec<_> =
            list["jobs"].as_array().unwrap().iter().map(|job| job["modules"].clone()).collect();
        assert_eq!(results[0][0]["result"], "passed", "{list}");
        assert_eq!((&results[1][0]["name"], &results[1][0]["result"]), (&json!("boot"), &json!("failed")));
        assert_eq!(results[2], json!([]));
    }
    let ids = |list: &Value| -> Vec<i64> {
        list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
    };
    for (query, want) in [
        ("modules=boot", vec![one, two]),
        ("modules=boot&modules_result=failed", vec![two]),
        ("modules_result=passed,failed&limit=1", vec![two]),
        ("modules_result=passed,failed&limit=1&offset=1", vec![one]),
        ("modules=nothing", vec![]),
        ("ids=1,2,3&test=later", vec![waiting]),
    ] {
        let (_, list) = server.get(&format!("/api/v1/jobs?{query}")).await;
        assert_eq!(ids(&list), want, "{query}");
    }
    assert_eq!(server.get("/api/v1/jobs?modules_result=odd").await.0, 400);
    // The matrix has the newest of each scenario, by the same filters.
    // The clock stands still here: all of them were posted at this moment.
    let until_now = format!("t={}", server.job(one).await.created);
    let before_all = "t=2001-09-09%2001:46:40";
    for (query, want) in [
        ("modules=boot", vec![two]),
        ("modules=boot&modules_result=failed", vec![two]),
        ("modules=boot&modules_result=passed", vec![]),
        ("modules_result=failed,softfailed&test=later", vec![]),
        ("modules=nothing", vec![]),
        ("module_re=^bo%2Bt$", vec![two]),
        ("module_re=^boot&modules_result=passed", vec![]),
        ("module_re=tests/b", vec![two]),
        ("failed_modules=boot", vec![two]),
        ("failed_modules=boot,other&module_re=nothing", vec![]),
        ("failed_modules=other", vec![]),
        (until_now.as_str(), vec![waiting, two]),
        (before_all, vec![]),
        ("", vec![waiting, two]),
    ] {
        let (_, list) = server.get(&format!("/tests/overview.json?{query}")).await;
        assert_eq!(ids(&list), want, "{query}: {list}");
        let (_, page) = server.page(&format!("/tests/overview?{query}")).await;
        for job in [two, waiting] {
            assert_eq!(
                page.contains(&format!("href=\"/jobs/{job}\"")),
                want.contains(&job),
                "{query}: {page}"
            );
        }
    }
    let (_, named) = server.get("/api/v1/jobs/overview?modules=boot&modules_result=failed").await;
    assert_eq!(
        named.as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect::<Vec<_>>(),
        [two]
    );
    for wrong in ["modules_result=odd", "module_re=(", "module_re=(a{999}){999}", "t=yesterday"] {
        assert_eq!(server.get(&format!("/tests/overview.json?{wrong}")).await.0, 400, "{wrong}");
    }

    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    for (path, next) in [
        ("jobs?limit=2", Some("/api/v1/jobs?limit=2&offset=2")),
        ("jobs?limit=2&offset=2", None),
        ("test_suites?limit=1&name=install", None),
        ("test_suites?limit=1", Some("/api/v1/test_suites?limit=1&offset=1")),
        ("job_templates?limit=1", Some("/api/v1/job_templates?limit=1&offset=1")),
        ("bugs?limit=5", None),
    ] {
        let answer = client().get(server.url(&format!("/api/v1/{path}"))).send().await?;
        let link = answer.headers()["link"].to_str()?.to_owned();
        let is_there = link.contains("rel=\"next\"");
        assert_eq!(is_there, next.is_some(), "{path}: {link}");
        assert!(next.is_none_or(|next| link.contains(&format!("<{next}>"))), "{path}: {link}");
        assert_eq!(link.contains("rel=\"prev\""), path.contains("offset"), "{path}: {link}");
    }
    Ok(())
}

#[tokio::test]
async fn set_done_ends_what_runs_and_what_waits() -> anyhow::Result<()> {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let form: Form<'_> = &[
        ("TEST:a", "first"),
        ("BACKEND:a", "dummy"),
        ("TEST:b", "second"),
        ("BACKEND:b", "dummy"),
        ("_START_AFTER:b", "a"),
    ];
    operator.ask(&server, POST, "/api/v1/jobs", form).await;
    let mut worker = worker(&server, 1).await;
    let Assigned { held, job, .. } = worker.expect_assign().await?;
    worker.phase(held, WorkPhase::Running).await?;
    server.until(1, "running", |job| job.state == "running").await;
    assert_eq!(job.0, 1);
    let path = "/api/v1/jobs/1/set_done";
    for (form, status, text) in [
        (&[("result", "odd")][..], 400, "result invalid"),
        (&[], 400, "result missing"),
        (&[("result", "passed"), ("worker_id", "1")], 400, "Refusing to set result of job 1"),
        (&[("result", "passed"), ("reason", "seen by eye")], 200, "seen by eye"),
    ] {
        let (found, body) = operator.ask(&server, POST, path, form).await;
        assert!(found == status && body.to_string().contains(text), "{form:?}: {found} {body}");
    }
    let why = worker.expect_cancel(held).await?;
    assert!(why.contains("by o"), "{why}");
    worker.finish(held, Outcome::UserCancelled, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    let done = server.finished(1).await;
    assert_eq!((done.state.as_str(), done.result.as_str()), ("done", "passed"));
    assert!(done.reason.unwrap().contains("seen by eye"));
    let Assigned { job, .. } = worker.expect_assign().await?;
    assert_eq!(job.0, 2, "what was to follow follows");
    // One that waits ends at once; one that has ended gets another result.
    let waits = server.post(json!({"TEST": "x", "WORKER_CLASS": "none"})).await;
    for result in ["failed", "softfailed"] {
        let path = format!("/api/v1/jobs/{waits}/set_done");
        assert_eq!(operator.ask(&server, POST, &path, &[("result", result)]).await.0, 200);
        assert_eq!(server.finished(waits).await.result, result);
    }
    Ok(())
}

#[tokio::test]
async fn workers_are_drained_and_forgotten() -> anyhow::Result<()> {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let mut worker = worker(&server, 2).await;
    server.post_dummy().await;
    let Assigned { held, .. } = worker.expect_assign().await?;
    let (status, drained) =
        server.ask(POST, "/api/assay/v1/workers/w1/drain", Some(json!({"drained": true}))).await;
    assert_eq!((status.as_u16(), &drained["workers"][0]["drained_by"]), (200, &json!("admin")));
    let waits = server.post_dummy().await;
    assert_eq!(
        server.job(waits).await.reason.as_deref(),
        Some(
            "all 2 slots with class dummy are drained; end that with `assay worker drain w1 --end`, or start another worker"
        )
    );
    assert_eq!(drained["workers"][0].get("disk"), None, "it did not say");
    let room = Room { pool: 25 << 29, cache: 1 << 30, shared: false };
    worker.heartbeat_with(&[held], room).await?;
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    assert_eq!(server.job(waits).await.state, "scheduled", "it gets nothing new");
    let disk = json!({"pool": 25_u64 << 29, "cache": 1 << 30, "shared": false});
    assert_eq!(server.get("/api/assay/v1/workers").await.1["workers"][0]["disk"], disk);
    let (_, page) = server.page("/workers").await;
    assert!(page.contains("12.5 GiB for machines, 1.0 GiB for assets free"), "{page}");
    for part in [
        "drained by admin",
        "0 of 2 slots, 2 drained",
        "2 of 2 get nothing new",
        "no worker that is online and not drained",
    ] {
        assert!(page.contains(part), "the page lacks {part:?}:\n{page}");
    }
    assert!(!page.contains("would fit"), "{page}");

    let (_, workers) = server.get("/api/v1/workers").await;
    let id = workers["workers"][1]["id"].as_i64().unwrap();
    let path = format!("/api/v1/workers/{id}");
    let (status, refused) = operator.ask(&server, DELETE, &path, &[]).await;
    assert_eq!((status, &refused["error"]), (400, &json!("Worker w1 status is not offline.")));
    assert_eq!(server.ask(DELETE, "/api/assay/v1/workers/w1", None).await.0.as_u16(), 409);
    let server = server.kill_and_restart().await;
    let mut worker = crate::openqa_more::worker(&server, 2).await;
    assert_eq!(
        server.get("/api/assay/v1/workers").await.1["workers"][0]["drained_by"],
        "admin",
        "it is kept"
    );
    server.ask(POST, "/api/assay/v1/workers/w1/drain", Some(json!({"drained": false}))).await;
    let Assigned { held, job, .. } = worker.expect_assign().await?;
    assert_eq!(job.0, waits);
    worker.finish(held, Outcome::Passed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    worker.vanish();
    let gone = async || {
        (server.get("/api/assay/v1/workers").await.1["workers"][0]["online"] != json!(true)).then_some(())
    };
    asking(gone).await.expect("the worker is seen to be gone");
    assert_eq!(operator.ask(&server, DELETE, &path, &[]).await.0, 200);
    let server = server.kill_and_restart().await;
    assert_eq!(server.get("/api/v1/workers").await.1, json!({"workers": []}));
    assert_eq!(operator.ask(&server, POST, "/api/v1/workers", &[("host", "x")]).await.0, 501);
    let none = server.ask(POST, "/api/assay/v1/workers/w9/drain", Some(json!({"drained": true}))).await;
    assert!(none.0.as_u16() == 404 && none.1.to_string().contains("no worker w9"), "{none:?}");
    Ok(())
}

/// YAML of a group with a secret, once in plain sight and once escaped.
fn yaml(secret: &str) -> String {
    format!(
        "products:\n  f:\n    distri: fedora\n    flavor: universal\n    version: '*'\nscenarios:\n  x86_64:\n    f:\n    - install:\n        machine: 64bit\n        settings: {{\"{secret}\": sesame-3, PLAIN: seen}}\n"
    )
}

#[tokio::test]
async fn secrets_in_templates_are_for_those_who_may_see_them() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let viewer = Key::make(&server, "v", "viewer", None).await;
    catalog(&server, &admin).await;
    for (path, form) in [
        (
            "machines",
            &[
                ("name", "m"),
                ("backend", "dummy"),
                ("settings[_SECRET_A]", "sesame-1"),
                ("settings[+_SECRET_C]", "sesame-4"),
                ("settings[OPEN]", "seen"),
            ][..],
        ),
        ("test_suites", &[("name", "s"), ("settings[ROOT_PASSWORD]", "sesame-2")]),
        ("job_groups", &[("name", "yaml")]),
    ] {
        assert_eq!(admin.ask(&server, POST, &format!("/api/v1/{path}"), form).await.0, 200);
    }
    for spelling in ["_SECRET_B", "\\x5FSECRET_B"] {
        let text = yaml(spelling);
        let form = [("name", "yaml"), ("schema", "JobTemplates-01.yaml"), ("template", text.as_str())];
        let (status, saved) = admin.ask(&server, POST, "/api/v1/job_templates_scheduling", &form).await;
        // The same suite is in the group of tables already; there the templates of the catalog are in the way.
        if status != 200 {
            let (_, all) = admin.ask(&server, GET, "/api/v1/job_templates", &[]).await;
            for template in all["JobTemplates"].as_array().unwrap() {
                admin.ask(&server, DELETE, &format!("/api/v1/job_templates/{}", template["id"]), &[]).await;
            }
            let again = admin.ask(&server, POST, "/api/v1/job_templates_scheduling", &form).await;
            assert_eq!(again.0, 200, "{saved} {again:?}");
        }
        for path in [
            "/api/v1/machines",
            "/api/v1/machines/2",
            "/api/v1/test_suites",
            "/api/v1/job_templates",
            "/api/v1/job_templates_scheduling",
            "/api/v1/job_templates_scheduling/yaml",
            "/api/v1/job_groups",
            "/api/v1/job_groups/2",
            "/api/v1/job_groups/2/build_results",
            "/api/assay/v1/templates",
            "/admin/machines",
            "/admin/test_suites",
            "/admin/job_templates/2",
            "/api/v1/experimental/search?q=sesame",
        ] {
            let anonymous = client().get(server.url(path)).send().await.unwrap().text().await.unwrap();
            assert!(!anonymous.contains("sesame-"), "{path} tells everybody: {anonymous}");
            let (_, seen) = viewer.ask(&server, GET, path, &[]).await;
            assert!(!seen.to_string().contains("sesame-"), "{path} tells viewers: {seen}");
        }
        for path in [
            "/api/v1/jobs?job_setting=_SECRET_A%3Dsesame-1",
            "/api/v1/jobs/overview?job_setting=_SECRET_A%3Dsesame-1",
            "/tests/overview?job_setting=_SECRET_A%3Dsesame-1",
            "/api/v1/job_settings/jobs?key=_SECRET_A&value=sesame-1",
            "/api/v1/job_settings/jobs?key=ROOT_PASSWORD&list_value=sesame-2",
        ] {
            let status = client().get(server.url(path)).send().await.unwrap().status();
            assert_eq!(status, 400, "{path}: who may ask for a secret can guess it");
        }
        let (_, seen) = viewer.ask(&server, GET, "/api/v1/job_templates_scheduling/yaml", &[]).await;
        assert!(seen.to_string().contains("PLAIN") && seen.to_string().contains("***"), "{seen}");
    }
    for path in ["/api/v1/machines/2", "/api/v1/job_templates_scheduling/yaml", "/api/assay/v1/templates"] {
        let (_, seen) = operator.ask(&server, GET, path, &[]).await;
        assert!(seen.to_string().contains("sesame-"), "{path}: {seen}");
    }
    // What covers a secret is no secret: loading what a viewer has dumped would lose it.
    let covered: Form<'_> = &[("name", "m"), ("backend", "dummy"), ("settings[_SECRET_A]", "***")];
    let (status, refused) = admin.ask(&server, PUT, "/api/v1/machines/2", covered).await;
    assert!(status == 400 && refused.to_string().contains("_SECRET_A"), "{refused}");
    let dump =
        client().get(server.url("/api/assay/v1/templates")).send().await.unwrap().text().await.unwrap();
    let body = json!({"files": [{"name": "dump.json", "text": dump}]});
    let (status, refused) = server.ask(POST, "/api/assay/v1/templates", Some(body)).await;
    assert!(status.as_u16() == 422 && refused.to_string().contains("***"), "{status} {refused}");
    let (_, machine) = admin.ask(&server, GET, "/api/v1/machines/2", &[]).await;
    assert!(machine.to_string().contains("sesame-1"), "nothing was lost: {machine}");
}

#[tokio::test]
async fn what_covers_a_secret_is_no_secret() {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let own: Form<'_> =
        &[("TEST", "s"), ("_SECRET_A", "sesame"), ("EMPTY_PASSWORD", ""), ("WORKER_CLASS", "none")];
    let (_, made) = operator.ask(&server, POST, "/api/v1/jobs", own).await;
    let original = made["id"].as_i64().unwrap();
    let secrets = async |id: &Value| {
        let path = format!("/api/v1/jobs/{id}?unredacted=1");
        let job = operator.ask(&server, GET, &path, &[]).await.1;
        ["_SECRET_A", "EMPTY_PASSWORD"].map(|key| job["job"]["settings"][key].as_str().map(str::to_owned))
    };
    let seen = operator.ask(&server, GET, &format!("/api/v1/jobs/{original}"), &[]).await.1;
    assert_eq!(seen["job"]["settings"]["_SECRET_A"], "***", "what openqa-clone-job reads");

    // As openqa-clone-job posts it: here it is known whose secret that is.
    let clone = async |from: String, extra: Form<'_>| {
        let (key, from) = (format!("CLONED_FROM:{original}"), format!("{from}/tests/{original}"));
        let named =
            ["TEST", "_SECRET_A", "EMPTY_PASSWORD", "WORKER_CLASS"].map(|name| format!("{name}:{original}"));
        let mut form = vec![("is_clone_job", "1"), (key.as_str(), from.as_str())];
        form.extend(named.iter().map(String::as_str).zip(["s", "***", "***", "none"]));
        form.extend_from_slice(extra);
        operator.ask(&server, POST, "/api/v1/jobs", &form).await
    };
    let (status, made) = clone(server.url(""), &[]).await;
    assert_eq!(status, 200, "{made}");
    let found = secrets(&made["ids"][original.to_string()]).await;
    assert_eq!(found, [Some("sesame".to_owned()), Some(String::new())], "{made}");
    let token = format!("_SECRET_A:{original}");
    for from in ["https://openqa.example".to_owned(), server.url("/x")] {
        let (status, refused) = clone(from, &[(token.as_str(), "***")]).await;
        let error = refused["error"].as_str().unwrap();
        assert!(status == 400 && error.contains("only covers a secret"), "{refused}");
    }

    // Whoever posts it else means something else.
    let product = [&PRODUCT[..], &[("_SECRET_A", "***")]].concat();
    let posts: [(&str, Form<'_>); 4] = [
        ("/api/v1/jobs", &[("TEST", "s"), ("_SECRET_A", "***")]),
        ("/api/v1/isos", &product),
        (&format!("/api/v1/jobs/{original}/restart"), &[("set", "_SECRET_A=***")]),
        (&format!("/api/v1/jobs/{original}/duplicate"), &[("set", "ROOT_PASSWORD=***")]),
    ];
    for (path, form) in posts {
        let (status, refused) = operator.ask(&server, POST, path, form).await;
        let error = refused["error"].as_str().unwrap();
        assert!(status == 400 && error.contains("only covers a secret"), "{path}: {refused}");
    }
    let posts = [
        ("jobs", json!({"settings": {"TEST": "s", "_SECRET_A": "***"}})),
        ("jobs", json!({"use_catalog": true, "settings": {"TEST": "s", "_SECRET_A": "***"}})),
        (
            "products",
            json!({"settings": {"DISTRI": "d", "VERSION": "1", "FLAVOR": "f", "ARCH": "a", "_SECRET_A": "***"}}),
        ),
        ("jobs/restart", json!({"jobs": [original], "options": {"set": {"_SECRET_A": "***"}}})),
    ];
    for (path, body) in posts {
        let (status, refused) = server.ask(POST, &format!("/api/assay/v1/{path}"), Some(body)).await;
        assert_eq!(status.as_u16(), 400, "{path}: {refused}");
        assert!(refused["help"].as_str().unwrap().contains("leave the setting out"), "{path}: {refused}");
    }
    let (_, list) = operator.ask(&server, GET, "/api/v1/jobs", &[]).await;
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(2), "{list}");
}

#[tokio::test]
async fn what_is_said_of_templates_names_file_and_line() {
    let tables = r#"{"Machines": [{"name": "m", "backend": "dummy", "settings": []}],
 "Products": [{"name": "", "distri": "d", "version": "1", "flavor": "f", "arch": "a", "settings": []}],
 "TestSuites": [{"name": "aa", "settings": [{"key": "START_AFTER_TEST", "value": "bb"}]},
  {"name": "bb", "settings": [{"key": "START_AFTER_TEST", "value": "aa"}]}, {"name": "cc", "settings": []}],
 "JobTemplates": [
  {"group_name": "g", "machine_name": "m", "distri": "d", "version": "1", "flavor": "f", "arch": "a", "test_suite_name": "aa"},
  {"group_name": "g", "machine_name": "m", "distri": "d", "version": "1", "flavor": "f", "arch": "a", "test_suite_name": "bb"},
  {"group_name": "g", "machine_name": "m", "distri": "d", "version": "1", "flavor": "f", "arch": "a", "test_suite_name": "cc",
   "settings": [{"key": "START_AFTER_TEST", "value": "nowhere"}]}]}"#;
    let fif = r#"{"Machines": {"m": {"backend": "dummy", "settings": {}}},
"Products": {"p": {"distri": "d", "version": "2", "flavor": "f", "arch": "a", "settings": {}}},
"Profiles": {"q": {"machine": "m", "product": "p"}},
"TestSuites": {
 "x": {"profiles": {"q": 40}, "settings": {"START_AFTER_TEST": "nowhere"}},
 "y": {"profiles": {"q": 40}, "settings": {}}}}"#;
    let without = fif.replace(", \"settings\": {}}}}", "}}}").replace("\"y\"", "\"yy\"");
    let within = r#"{"JobGroups": [
 {"group_name": "h", "template": "defaults: {a: {machine: m, priority: 1}}\nproducts: {p: {distri: d, flavor: f, version: '1'}}\nscenarios: {a: {p: [{dd: {testsuite: cc, settings: {START_AFTER_TEST: nowhere}}}]}}"}]}"#;
    let scenarios = "products: {p: {distri: d, version: '1', flavor: f, arch: a}}
machines: {m: {backend: dummy}}
job_templates:
  aa: {product: p, machine: m, settings: {START_AFTER_TEST: bb}}
  bb: {product: p, machine: m, settings: {START_AFTER_TEST: aa}}
  cc: {product: p, machine: m, settings: {START_AFTER_TEST: nowhere}}
  dd: {product: p, machine: m}
";
    let server = Server::start().await;
    let check = async |name: &str, text: &str, check: bool| {
        let body = json!({"files": [{"name": name, "text": text}], "check": check});
        let (status, said) = server.ask(POST, "/api/assay/v1/templates", Some(body)).await;
        (status.as_u16(), said)
    };
    let lines = |said: &Value| -> Vec<String> {
        said["warnings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect()
    };
    let (status, said) = check("t.json", tables, false).await;
    assert_eq!(status, 200, "{said}");
    for start in ["t.json:6:3: warning: aa@m", "t.json:7:3: warning: bb@m", "t.json:8:3: warning: cc@m"] {
        assert!(lines(&said).iter().any(|line| line.starts_with(start)), "{start}: {said}");
    }
    let (status, said) = check("f.json", fif, true).await;
    assert_eq!(status, 200, "{said}");
    assert!(
        lines(&said).iter().any(|line| line.starts_with("f.json:5:2") && line.contains("warning: x@m")),
        "{said}"
    );
    let (status, said) = check("f.json", &without, true).await;
    assert_eq!(status, 422, "{said}");
    let (found, more) = (said["error"].as_str().unwrap_or_default(), "there is no test suite yy");
    assert!(found.lines().any(|line| line.starts_with("f.json:6:2") && line.contains(more)), "{said}");
    let (status, said) = check("in.json", within, true).await;
    assert_eq!(status, 200, "{said}");
    let start = "in.json:2:34: warning: in the YAML of the group h: dd@m";
    assert!(lines(&said).iter().any(|line| line.starts_with(start)), "{said}");
    let (status, said) = check("s.yaml", scenarios, true).await;
    assert_eq!(status, 200, "{said}");
    for start in ["s.yaml:4:3: warning: aa@m", "s.yaml:5:3: warning: bb@m", "s.yaml:6:3: warning: cc@m"] {
        assert!(lines(&said).iter().any(|line| line.starts_with(start)), "{start}: {said}");
    }
    assert!(!lines(&said).iter().any(|line| line.contains("dd@m")), "{said}");
    assert!(lines(&said).iter().any(|line| line.ends_with("2 jobs of 4 scenarios")), "{said}");
    // What a group keeps is held to the same rules as elsewhere.
    for (days, want, text) in
        [(500, 422, "group \\\"k\\\": keep_logs_in_days would be 500"), (-1, 422, "k"), (9, 200, "")]
    {
        let properties = json!({"keep_logs_in_days": days, "keep_screenshots_in_days": 3, "keep_important_screenshots_in_days": 0});
        let dump = json!({"JobGroups": [{"group_name": "k", "properties": properties}]}).to_string();
        let (status, said) = check("k.json", &dump, false).await;
        assert!(status == want && said.to_string().contains(text), "{days}: {status} {said}");
    }
}

#[tokio::test]
async fn who_follows_a_job_is_told_of_its_newest_clone() {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let first = server.post(json!({"TEST": "x", "WORKER_CLASS": "none"})).await;
    let mut last = first;
    for _ in 0..2 {
        let path = format!("/api/v1/jobs/{last}/cancel");
        assert_eq!(operator.ask(&server, POST, &path, &[]).await.0, 200);
        let (status, made) = operator.ask(&server, POST, &format!("/api/v1/jobs/{last}/restart"), &[]).await;
        assert_eq!(status, 200, "{made}");
        last = made["result"][0][last.to_string()].as_i64().unwrap();
    }
    // A copy that the old job knows nothing of is not where it leads.
    let copy = json!({"jobs": [first], "options": {"copy_only": true, "force": true}});
    let (status, made) = server.ask(POST, "/api/assay/v1/jobs/restart", Some(copy)).await;
    assert_eq!((status.as_u16(), made["clones"].as_array().map(Vec::len)), (200, Some(1)), "{made}");
    for (query, want) in [("", first), ("?follow=0", first), ("?follow=1", last)] {
        for (path, within) in
            [("jobs/ID", true), ("jobs/ID/details", true), ("experimental/jobs/ID/status", false)]
        {
            let path = path.replace("ID", &first.to_string());
            let (status, told) = server.get(&format!("/api/v1/{path}{query}")).await;
            let job = if within { &told["job"] } else { &told };
            assert_eq!((status.as_u16(), &job["id"]), (200, &json!(want)), "{path}{query}: {told}");
        }
    }
    let (_, told) = server.get(&format!("/api/v1/jobs/{last}?follow=1")).await;
    assert_eq!((&told["job"]["id"], &told["job"]["state"]), (&json!(last), &json!("scheduled")), "{told}");
    assert_eq!(server.get("/api/v1/jobs/99?follow=1").await.0.as_u16(), 404);
}

#[tokio::test]
async fn words_are_searched_for_but_not_too_often() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let (status, found) = server.get("/api/v1/experimental/search?q=INSTALL").await;
    assert_eq!(status.as_u16(), 200);
    let text = found.to_string();
    assert!(text.contains("test suite install") && text.contains("START_AFTER_TEST=install"), "{text}");
    assert_eq!(server.get("/api/v1/experimental/search").await.0.as_u16(), 400);
    for _ in 0..4 {
        assert_eq!(server.get("/api/v1/experimental/search?q=x").await.0.as_u16(), 200);
    }
    assert_eq!(server.get("/api/v1/experimental/search?q=x").await.0.as_u16(), 429);
    server.pass(60).await;
    assert_eq!(server.get("/api/v1/experimental/search?q=x").await.0.as_u16(), 200);
}

#[tokio::test]
async fn one_text_finds_everything_by_its_name() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    assert_eq!(admin.ask(&server, POST, "/api/v1/isos", &PRODUCT).await.0, 200);
    let data = json!({"item": "install-1-1", "type": "koji_build"});
    let result = json!({"testcase": "dist.install-check", "outcome": "PASSED", "data": data});
    let (status, told) = server.ask(POST, "/api/v2.0/results", Some(result)).await;
    assert_eq!(status.as_u16(), 201, "{told}");
    let many: Vec<_> = (0..21).map(|number| json!({"settings": {"TEST": format!("many{number}")}})).collect();
    let (status, told) = server.ask(POST, "/api/assay/v1/jobs", Some(json!(many))).await;
    assert_eq!(status.as_u16(), 201, "{told}");
    let table: [(&str, &[&str]); 9] = [
        (
            "INSTALL",
            &[
                "<h2>Jobs</h2><a class=\"push quiet\" href=\"/tests?q=INSTALL\">whole list</a>",
                " fedora-43-universal-x86_64-Build43.1-install@64bit</a>",
                "#previous\">fedora-43-universal-x86_64-install@64bit</a>",
                "<a href=\"/admin/test_suites?q=install\">install</a>",
            ],
        ),
        (
            "install",
            &[
                "<a href=\"/results?testcase=dist.install-check\">dist.install-check</a>",
                "<a href=\"/item?type=koji_build&#38;item=install-1-1\">install-1-1</a>",
            ],
        ),
        ("43.1", &["/tests/overview?distri=fedora&#38;version=43&#38;build=43.1&#38;groupid=1\">43.1</a>"]),
        ("fedora", &["<a href=\"/group_overview/1\">fedora</a>", ">fedora-*-universal-x86_64</a>"]),
        ("64BIT", &["<a href=\"/admin/machines?q=64bit\">64bit</a></td><td class=\"why\">dummy</td>"]),
        ("many", &["<h2>Jobs</h2><span class=\"quiet\">the first 20</span>"]),
        ("%232", &["<a href=\"/jobs/2\">#2 "]),
        ("%3Cscript%3E", &["Nothing is called like that", "value=\"&#60;script&#62;\""]),
        ("", &["Finds jobs, builds"]),
    ];
    for (q, parts) in table {
        let (status, page) = server.page(&format!("/search?q={q}")).await;
        assert_eq!(status.as_u16(), 200, "{q}: {page}");
        for part in parts {
            assert!(page.contains(part), "{q}: the page lacks {part:?}:\n{page}");
        }
    }
    assert_eq!(server.page(&format!("/search?q={}", "x".repeat(201))).await.0.as_u16(), 400);
}

#[tokio::test]
async fn what_people_write_is_text_and_has_an_end() {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let job = server.post(json!({"TEST": "x", "NOTE": "<script>alert(1)</script>", "WORKER_CLASS": "none", "DISTRI": "x", "BUILD": "1", "VERSION": "<img src=x onerror=alert(2)>"})).await;
    let path = format!("/api/v1/jobs/{job}/comments");
    let label = "label:<script>alert(3)</script> boo#1\"><svg onload=alert(4)> javascript:alert(5)";
    assert_eq!(operator.ask(&server, POST, &path, &[("text", label)]).await.0, 200);
    for page in [
        format!("/jobs/{job}"),
        "/tests".to_owned(),
        "/tests/overview?distri=x".to_owned(),
        format!("/jobs/{job}/history"),
    ] {
        let (_, html) = server.page(&page).await;
        for bad in ["<script>alert", "<svg onload", "<img src=x", "href=\"javascript:"] {
            assert!(!html.contains(bad), "{page} has {bad}");
        }
        let cell = html.contains("class=\"cell ");
        assert_eq!(cell, page.starts_with("/tests/overview"), "{page}");
    }
    let (_, comments) = server.get(&path).await;
    assert_eq!(comments[0]["text"], label, "programs get it as it was written");
    assert!(!comments[0]["renderedMarkdown"].as_str().unwrap().contains("<script>"), "{comments}");

    // 50 MB: refused while it comes, by either door, and nothing is stored.
    let big = "x".repeat(50 * 1024 * 1024);
    for (path, body) in [
        (path.clone(), format!("text={big}")),
        (format!("/api/assay/v1/jobs/{job}/comments"), format!("{{\"text\":\"{big}\"}}")),
    ] {
        let kind =
            if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let request = client().post(server.url(&path)).bearer_auth(&server.handle.admin_token);
        match request.header("content-type", kind).body(body).send().await {
            Ok(answer) => assert_eq!(answer.status().as_u16(), 413, "{path}"),
            // The connection is closed while the rest is still being sent.
            Err(error) => assert!(error.is_request() || error.is_body(), "{error}"),
        }
    }
    let long = "y".repeat(70_000);
    let (status, refused) = operator.ask(&server, POST, &path, &[("text", &long)]).await;
    assert!(status == 413 && refused.to_string().contains("65536"), "{status} {refused}");
    let (_, comments) = server.get(&path).await;
    assert_eq!(comments.as_array().unwrap().len(), 1);
    let (status, made) =
        server.ask(POST, &format!("/api/assay/v1/jobs/{job}/comments"), Some(json!({"text": "boo#7"}))).await;
    assert_eq!((status.as_u16(), &made["bugs"]), (201, &json!(["boo#7"])));
    let (_, list) = server.get(&format!("/api/assay/v1/jobs/{job}/comments")).await;
    assert_eq!(list["comments"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_pattern_that_would_explode_is_refused_or_answered_at_once() {
    let server = Server::start().await;
    server.post(json!({"TEST": "a".repeat(60), "WORKER_CLASS": "none", "DISTRI": "x", "BUILD": "1"})).await;
    let (status, made) = server.ask(POST, "/api/v1/job_groups", Some(json!({"name": "a".repeat(100)}))).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    for (query, want) in [
        ("module_re=(a%2B)%2B$", 200),
        ("module_re=(%5Cw%7B1000%7D)%7B1000%7D", 400),
        ("group_glob=*a*a*a*a*b", 200),
    ] {
        for path in ["/api/v1/jobs", "/tests/overview"] {
            let answer = client().get(server.url(&format!("{path}?{query}"))).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), want, "{path}?{query}");
        }
    }
}

#[tokio::test]
async fn settings_of_the_server_are_the_weakest() {
    let dir = tempfile::tempdir().unwrap();
    let file = camino::Utf8PathBuf::from_path_buf(dir.path().join("assay.toml")).unwrap();
    let write = |text: &str| fs_err::write(&file, text).unwrap();
    write(
        "[settings]\nCASEDIR = \"https://example.org/t.git#%VERSION%\"\nWORKER_CLASS = \"other\"\nPRIO_NOTE = 3\nBUILD = \"x\"\n",
    );
    let server = Server::start_with(|config| config.config = Some(file.clone())).await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let planned = async || {
        let settings: serde_json::Map<_, _> =
            PRODUCT.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let body = json!({ "settings": settings });
        let (status, plan) = server.ask(Method::POST, "/api/assay/v1/products/plan", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{plan}");
        plan["jobs"][0]["settings"].clone()
    };
    let found = planned().await;
    assert_eq!(found["CASEDIR"]["value"], "https://example.org/t.git#43");
    assert_eq!((&found["PRIO_NOTE"]["value"], &found["BUILD"]["value"]), (&json!("3"), &json!("43.1")));
    // A job that is posted alone for a product that there is has them, too.
    let form = [&PRODUCT[..], &[("TEST", "install"), ("MACHINE", "64bit")]].concat();
    let (_, posted) = admin.ask(&server, Method::POST, "/api/v1/jobs", &form).await;
    let job = server.job(posted["id"].as_i64().unwrap()).await;
    assert_eq!(job.settings["CASEDIR"].value, "https://example.org/t.git#43");
    assert_eq!(job.settings["CASEDIR"].origin, "the server's configuration");
    write("[settings]\nPRIO_NOTE = 4\n");
    let (status, reloaded) = server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert_eq!(status, StatusCode::OK, "{reloaded}");
    let found = planned().await;
    assert_eq!((&found["PRIO_NOTE"]["value"], &found["CASEDIR"]), (&json!("4"), &json!(null)));
    write("[settings]\nprio = 4\n");
    let (_, reloaded) = server.ask(Method::POST, "/api/assay/v1/gate/reload", None).await;
    assert!(reloaded.to_string().contains("is no name of a setting"), "{reloaded}");
    assert_eq!(planned().await["PRIO_NOTE"]["value"], "4", "what was in force stays");
}

#[tokio::test]
async fn the_newest_job_and_badges() {
    let server = Server::start().await;
    for (test, build) in [("a", "1"), ("a", "2"), ("b", "2")] {
        server.post(json!({"TEST": test, "BACKEND": "dummy", "BUILD": build, "WORKER_CLASS": "none"})).await;
    }
    server.ask(Method::POST, "/api/assay/v1/jobs/2/cancel", None).await;
    let get = async |path: &str| {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(std::time::Duration::from_mins(1)).build().unwrap();
        let answer = client.get(server.url(path)).send().await.unwrap();
        let field = |name: &str| {
            answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        let (to, kind) = (field("location"), field("content-type"));
        (answer.status().as_u16(), to, kind, answer.text().await.unwrap())
    };
    for (path, want) in [
        ("/tests/latest", "/jobs/3"),
        ("/tests/latest?test=a", "/jobs/2"),
        ("/tests/latest?test=a&build=1", "/jobs/1"),
    ] {
        let (status, to, ..) = get(path).await;
        assert_eq!((status, to.as_str()), (303, want), "{path}");
    }
    for (path, want) in [
        ("/tests/latest/badge?test=a", "tests: user_cancelled"),
        ("/tests/1/badge?show_build=1&label=%3Cme%3E", "&#60;me&#62;: scheduled (1)"),
        ("/tests/overview/badge", "tests: scheduled"),
        ("/tests/overview/badge?test=none", "tests: none"),
    ] {
        let (status, _, kind, svg) = get(path).await;
        assert_eq!((status, kind.as_str()), (200, "image/svg+xml"), "{path}: {svg}");
        assert!(svg.starts_with("<svg ") && svg.contains(want) && !svg.contains("<me>"), "{path}: {svg}");
    }
    for (path, want) in
        [("/tests/latest?test=none", 404), ("/tests/99/badge", 404), ("/tests/latest?state=odd", 400)]
    {
        assert_eq!(get(path).await.0, want, "{path}");
    }
}
