//! openQA's API, as its clients use it.

use crate::common::{Server, asking, client};
use crate::people::{Form, Key, with_form};
use assay_engine::outcome::Outcome;
use assay_proto::worker::WorkPhase;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const POST: Method = Method::POST;
const GET: Method = Method::GET;

/// A machine, two suites of which one starts after the other, a product, and their templates.
pub(crate) async fn catalog(server: &Server, admin: &Key) {
    let rows: [(&str, &[(&str, &str)]); 6] = [
        ("machines", &[("name", "64bit"), ("backend", "dummy"), ("settings[WORKER_CLASS]", "dummy")]),
        ("test_suites", &[("name", "install")]),
        ("test_suites", &[("name", "update"), ("settings[START_AFTER_TEST]", "install")]),
        ("products", &[("distri", "fedora"), ("version", "*"), ("arch", "x86_64"), ("flavor", "universal")]),
        (
            "job_templates",
            &[
                ("group_name", "fedora"),
                ("machine_name", "64bit"),
                ("test_suite_name", "install"),
                ("distri", "fedora"),
                ("version", "*"),
                ("arch", "x86_64"),
                ("flavor", "universal"),
                ("prio", "40"),
            ],
        ),
        (
            "job_templates",
            &[
                ("group_name", "fedora"),
                ("machine_name", "64bit"),
                ("test_suite_name", "update"),
                ("distri", "fedora"),
                ("version", "*"),
                ("arch", "x86_64"),
                ("flavor", "universal"),
            ],
        ),
    ];
    for (table, form) in rows {
        let (status, body) = admin.ask(server, POST, &format!("/api/v1/{table}"), form).await;
        assert_eq!(status, 200, "{table} {form:?}: {body}");
        assert!(body["id"].is_i64(), "{body}");
    }
}

pub(crate) const PRODUCT: [(&str, &str); 5] =
    [("DISTRI", "fedora"), ("VERSION", "43"), ("FLAVOR", "universal"), ("ARCH", "x86_64"), ("BUILD", "43.1")];

#[tokio::test]
async fn tables_are_written_read_and_found_wrong() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let (_, machines) =
        admin.ask(&server, GET, "/api/v1/machines?name=64bit&backend=dummy&settings[X]=1", &[]).await;
    let row = json!({"id": 1, "name": "64bit", "backend": "dummy", "settings": [{"key": "WORKER_CLASS", "value": "dummy"}]});
    assert_eq!(machines, json!({"Machines": [row]}));
    assert_eq!(admin.ask(&server, GET, "/api/v1/machines?name=other", &[]).await.1, json!({"Machines": []}));
    let (_, templates) = admin.ask(&server, GET, "/api/v1/job_templates?test_suite_name=install", &[]).await;
    let template = &templates["JobTemplates"][0];
    assert_eq!((&template["group_name"], &template["prio"]), (&json!("fedora"), &json!(40)));
    assert_eq!(template["test_suite"], json!({"id": 1, "name": "install"}));

    let cases: [(Method, &str, Form<'_>, u16, &str); 12] = [
        (POST, "machines", &[("name", "x")], 400, "Erroneous parameters (backend missing)"),
        (
            POST,
            "products",
            &[("distri", "d")],
            400,
            "Erroneous parameters (version missing, arch missing, flavor missing)",
        ),
        (POST, "machines", &[("name", "64bit"), ("backend", "q")], 409, "another one of that name"),
        (POST, "job_groups", &[("name", "fedora")], 409, "already"),
        (
            POST,
            "job_groups",
            &[("name", "x"), ("keep_logs_in_days", "many")],
            400,
            "keep_logs_in_days invalid",
        ),
        (
            POST,
            "job_groups",
            &[("name", "x"), ("keep_logs_in_days", "9"), ("keep_results_in_days", "3")],
            400,
            "keep_logs_in_days",
        ),
        (
            POST,
            "job_groups",
            &[("name", "x"), ("keep_logs_in_days", "900")],
            400,
            "keep_logs_in_days would be 900, keep_results_in_days is 365",
        ),
        (
            POST,
            "parent_groups",
            &[("name", "x"), ("default_keep_jobs_in_days", "300")],
            400,
            "keep_results_in_days would be 365, keep_jobs_in_days is 300",
        ),
        (
            POST,
            "job_templates",
            &[
                ("group_name", "g"),
                ("machine_name", "no"),
                ("test_suite_name", "nor"),
                ("distri", "d"),
                ("version", "v"),
                ("arch", "a"),
                ("flavor", "f"),
            ],
            400,
            "no machine \"no\", no test suite \"nor\", no product d-v-f-a",
        ),
        (
            POST,
            "job_templates",
            &[
                ("group_name", "other"),
                ("machine_name", "64bit"),
                ("test_suite_name", "update"),
                ("distri", "fedora"),
                ("version", "*"),
                ("arch", "x86_64"),
                ("flavor", "universal"),
            ],
            409,
            "update@64bit for fedora-*-universal-x86_64 is in group \"fedora\" already",
        ),
        (Method::DELETE, "machines/99", &[], 404, "Not found"),
        (GET, "machines?limit=0", &[], 400, "Limit exceeds maximum"),
    ];
    for (method, path, form, want, text) in cases {
        let (status, body) = admin.ask(&server, method.clone(), &format!("/api/v1/{path}"), form).await;
        assert_eq!(status, want, "{method} {path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{method} {path}: {body}");
    }
    let body = json!({"name": "uefi", "backend": "qemu", "settings": [{"key": "UEFI", "value": "1"}]});
    let (status, made) = server.ask(POST, "/api/v1/machines", Some(body)).await;
    assert_eq!((status, &made["id"]), (StatusCode::OK, &json!(2)));
    let (_, changed) = server
        .ask(
            Method::PUT,
            "/api/v1/machines/2",
            Some(json!({"name": "uefi", "backend": "kvm", "settings": {"A": "b"}})),
        )
        .await;
    assert_eq!(changed["result"], 1);
    let server = server.kill_and_restart().await;
    let (_, machines) = server.get("/api/v1/machines/2").await;
    let row = json!({"id": 2, "name": "uefi", "backend": "kvm", "settings": [{"key": "A", "value": "b"}]});
    assert_eq!(machines, json!({"Machines": [row]}));
}

#[tokio::test]
async fn a_product_becomes_jobs_that_run_in_their_order() -> anyhow::Result<()> {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    let operator = Key::make(&server, "o", "operator", None).await;
    catalog(&server, &admin).await;
    // As the old client sends it: everything in the query.
    let query = "/api/v1/isos?DISTRI=fedora&VERSION=43&FLAVOR=universal&ARCH=x86_64&BUILD=43.1&NOTE=a+b";
    let (status, posted) = operator.ask(&server, POST, query, &[]).await;
    assert_eq!((status, &posted["count"], &posted["ids"]), (200, &json!(2), &json!([1, 2])), "{posted}");
    let (_, second) =
        operator.ask(&server, POST, "/api/v1/isos", &[&PRODUCT[..], &[("async", "1")]].concat()).await;
    assert_eq!(second["scheduled_product_id"], 2);
    let (_, run) = operator.ask(&server, GET, "/api/v1/isos/2", &[]).await;
    assert_eq!(
        (&run["status"], &run["results"]["successful_job_ids"]),
        (&json!("scheduled"), &json!([3, 4]))
    );

    let (_, job) = operator.ask(&server, GET, "/api/v1/jobs/2", &[]).await;
    let job = &job["job"];
    assert_eq!(
        (&job["state"], &job["test"], &job["group"]),
        (&json!("scheduled"), &json!("update"), &json!("fedora"))
    );
    assert_eq!((&job["parents"]["Chained"], &job["blocked_by_id"]), (&json!([1]), &json!(1)));
    assert_eq!((&job["settings"]["NOTE"], &job["settings"]["MACHINE"]), (&json!("a b"), &json!("64bit")));
    let mut worker = server.worker("w").connect(&[]).await?;
    for want in [1, 3] {
        let held = worker.expect_assign().await?.held;
        assert_eq!(held.attempt.job.0, want);
        worker.finish(held, if want == 1 { Outcome::Passed } else { Outcome::Failed }, None).await?;
        worker.expect_finished_ack(held.attempt).await?;
    }
    let held = worker.expect_assign().await?.held;
    assert_eq!(held.attempt.job.0, 2, "released by the end of job 1; job 4 is not");
    worker.finish(held, Outcome::Passed, None).await?;
    for (job, state, result) in
        [(1, "done", "passed"), (2, "done", "passed"), (3, "done", "failed"), (4, "cancelled", "skipped")]
    {
        server.finished(job).await;
        let (_, status) =
            operator.ask(&server, GET, &format!("/api/v1/experimental/jobs/{job}/status"), &[]).await;
        assert_eq!((&status["state"], &status["result"]), (&json!(state), &json!(result)), "job {job}");
    }
    let lists: [(&str, &[i64]); 7] = [
        ("", &[1, 2, 3, 4]),
        ("?latest=1", &[3, 4]),
        ("?result=passed", &[1, 2]),
        ("?state=done&test=install&build=43.1", &[1, 3]),
        ("?ids=1,4", &[1, 4]),
        ("?groupid=1&limit=2", &[3, 4]),
        ("?group=nosuch", &[]),
    ];
    for (query, want) in lists {
        let (status, list) = operator.ask(&server, GET, &format!("/api/v1/jobs{query}"), &[]).await;
        assert_eq!(status, 200, "{query}: {list}");
        let ids: Vec<_> =
            list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, want, "{query}");
    }
    let (_, overview) =
        operator.ask(&server, GET, "/api/v1/jobs/overview?distri=fedora&version=43", &[]).await;
    assert_eq!(
        overview.as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect::<Vec<_>>(),
        [3, 4]
    );
    let (_, builds) = operator.ask(&server, GET, "/api/v1/job_groups/1/build_results", &[]).await;
    let build = &builds["build_results"][0];
    let counts =
        ["failed", "skipped", "passed", "total", "all_passed"].map(|name| build[name].as_i64().unwrap());
    assert_eq!((&build["build"], counts), (&json!("43.1"), [1, 1, 0, 2, 0]), "{builds}");
    let page = client().get(server.url("/api/v1/jobs?limit=2&test=install&offset=1")).send().await?;
    let links = page.headers()["link"].to_str()?.to_owned();
    assert!(
        links.contains("rel=\"first\"") && links.contains("rel=\"prev\"") && !links.contains("rel=\"next\""),
        "{links}"
    );
    Ok(())
}

#[tokio::test]
async fn posts_of_products_that_cannot_be() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    let (status, body) = admin.ask(&server, POST, "/api/v1/isos", &PRODUCT[..2]).await;
    assert_eq!(status, 400);
    assert!(body["error"].as_str().unwrap().contains("FLAVOR, ARCH"), "{body}");
    let (status, body) = admin.ask(&server, POST, "/api/v1/isos", &PRODUCT).await;
    assert_eq!((status, &body["count"], &body["ids"]), (200, &json!(0), &json!([])), "{body}");
    assert!(body["error"].as_str().unwrap().contains("no product"), "{body}");
    let (_, list) = admin.ask(&server, GET, "/api/v1/jobs", &[]).await;
    assert_eq!(list, json!({"jobs": []}));
}

#[tokio::test]
async fn several_jobs_in_one_request() {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    catalog(&server, &Key::make(&server, "a", "admin", None).await).await;
    // As openqa-clone-job sends it.
    let form = [
        ("TEST:7", "child"),
        ("TEST:8", "parent"),
        ("_START_AFTER:7", "8"),
        ("BACKEND", "dummy"),
        ("CLONED_FROM:7", "http:%2F%2Fx%2Ftests%2F7"),
        ("is_clone_job", "1"),
    ];
    let (status, made) = operator.ask(&server, POST, "/api/v1/jobs", &form).await;
    assert_eq!(status, 200, "{made}");
    let id = |suffix: &str| made["ids"][suffix].as_i64().unwrap();
    let (_, child) = operator.ask(&server, GET, &format!("/api/v1/jobs/{}", id("7")), &[]).await;
    assert_eq!(child["job"]["parents"]["Chained"], json!([id("8")]));
    assert_eq!(child["job"]["settings"]["CLONED_FROM"], "http://x/tests/7");
    let (_, parent) = operator.ask(&server, GET, &format!("/api/v1/jobs/{}", id("8")), &[]).await;
    assert_eq!(parent["job"]["children"]["Chained"], json!([id("7")]));
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("BACKEND", "dummy")], "TEST field mandatory"),
        (&[("TEST", "a"), ("A", "%B%"), ("B", "%A%")], "circular reference"),
        (&[("TEST", "a"), ("NOTE", "%_SECRET_A%"), ("_SECRET_A", "b")], "call it _SECRET_NOTE"),
        (
            &[
                ("TEST", "install"),
                ("DISTRI", "fedora"),
                ("VERSION", "43"),
                ("FLAVOR", "universal"),
                ("ARCH", "x86_64"),
                ("A", "%A%"),
            ],
            "circular reference",
        ),
        (&[("TEST:1", "a"), ("_PARALLEL:1", "2")], "suffix"),
        (&[("TEST:1", "a"), ("TEST:2", "b"), ("_START_AFTER:1", "2"), ("_START_AFTER:2", "1")], "circle"),
        (&[("TEST", "a"), ("_GROUP_ID", "77")], "no job group"),
        (&[("TEST", "a"), ("_START_AFTER_JOBS", "4711")], "4711"),
    ];
    for (form, text) in cases {
        let (status, body) = operator.ask(&server, POST, "/api/v1/jobs", form).await;
        assert_eq!(status, 400, "{form:?}: {body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{form:?}: {body}");
    }
    let (_, list) = operator.ask(&server, GET, "/api/v1/jobs", &[]).await;
    assert_eq!(list["jobs"].as_array().unwrap().len(), 2, "nothing was made of any of these");
    // Of a product that there is not: what counts more counts more, and placeholders are filled in.
    let form =
        [("TEST", "plain"), ("VERSION", "9"), ("A", "x"), ("+A", "v%VERSION%"), ("WORKER_CLASS", "none")];
    let (_, made) = operator.ask(&server, POST, "/api/v1/jobs", &form).await;
    let plain = server.job(made["id"].as_i64().unwrap()).await;
    assert_eq!((plain.settings["A"].value.as_str(), plain.settings.contains_key("+A")), ("v9", false));

    let (_, prio) = operator.ask(&server, POST, "/api/v1/jobs/1/prio", &[("prio", "7")]).await;
    assert_eq!(prio, json!({"result": 1}));
    let (_, cancelled) = operator.ask(&server, POST, "/api/v1/jobs/cancel", &[("TEST", "parent")]).await;
    assert_eq!(cancelled, json!({"result": 1}));
    let (status, restarted) =
        operator.ask(&server, POST, &format!("/api/v1/jobs/{}/restart", id("8")), &[]).await;
    assert_eq!(status, 200, "{restarted}");
    let whole = restarted["result"][0].as_object().unwrap();
    let both = [id("7").to_string(), id("8").to_string()];
    assert!(whole.len() == 2 && both.iter().all(|old| whole.contains_key(old)), "the child too: {restarted}");
    let clone = &whole[&both[1]];
    assert_eq!(restarted["test_url"][0][&both[1]], json!(format!("/tests/{clone}")), "{restarted}");
}

#[tokio::test]
async fn what_was_started_anew_is_told_by_job_of_the_request() -> anyhow::Result<()> {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let running = server.post_dummy().await;
    let mut worker = server.worker("w").connect(&[]).await?;
    let held = worker.expect_assign().await?.held;
    assert_eq!(held.attempt.job.0, running);
    worker.phase(held, WorkPhase::Running).await?;
    let runs = asking(async || (server.job(running).await.state == "running").then_some(()));
    runs.await.expect("it runs");
    let mut ended = Vec::new();
    for (test, after) in [("parent", None), ("child", Some(0)), ("other", None)] {
        let parent = after.map(|at: usize| i64::to_string(&ended[at]));
        let mut form = vec![("TEST", test), ("WORKER_CLASS", "none")];
        form.extend(parent.as_deref().map(|parent| ("_START_DIRECTLY_AFTER_JOBS", parent)));
        let (_, made) = operator.ask(&server, POST, "/api/v1/jobs", &form).await;
        ended.push(made["id"].as_i64().unwrap());
    }
    operator.ask(&server, POST, "/api/v1/jobs/cancel", &[("WORKER_CLASS", "none")]).await;
    let [parent, child, other] = ended[..] else { unreachable!() };
    let clone = |told: &Value, at: usize, old: i64| told["result"][at][old.to_string()].as_i64();

    // A running job goes on, unless a copy is asked for: that ends nothing.
    let path = format!("/api/v1/jobs/{running}/duplicate");
    let (status, told) = operator.ask(&server, POST, &path, &[]).await;
    assert_eq!((status, &told["result"], told.get("id")), (200, &json!([]), None), "{told}");
    assert!(told["warnings"][0].as_str().unwrap().contains("left alone"), "{told}");
    let (_, copied) = operator.ask(&server, POST, &path, &[("clone", "0")]).await;
    assert!(copied["id"].as_i64().is_some() && copied["id"] == copied["result"][0][running.to_string()]);
    assert_eq!(server.job(running).await.state, "running");

    // A direct child asks about its parent, but not by the old address.
    let (status, _) = operator.ask(&server, POST, &format!("/api/v1/jobs/{child}/restart"), &[]).await;
    assert_eq!(status, 409);
    let (status, told) = operator.ask(&server, POST, &format!("/api/v1/jobs/{child}/duplicate"), &[]).await;
    assert_eq!((status, told["result"].as_array().map(Vec::len)), (200, Some(1)), "{told}");
    assert!(clone(&told, 0, parent).is_some() && told["id"].as_i64() == clone(&told, 0, child), "{told}");

    let jobs = format!("{other},{child}");
    let (_, told) = operator.ask(&server, POST, "/api/v1/jobs/restart", &[("jobs", &jobs)]).await;
    assert!(clone(&told, 0, other).is_some() && clone(&told, 1, child).is_some(), "{told}");
    assert_eq!(told["test_url"].as_array().map(Vec::len), Some(2), "{told}");
    Ok(())
}

#[tokio::test]
async fn comments_are_said_shown_safely_and_limited() {
    let server = Server::start().await;
    let ann = Key::make(&server, "ann", "operator", None).await;
    let bob = Key::make(&server, "bob", "viewer", None).await;
    server.post_dummy().await;
    let path = "/api/v1/jobs/1/comments";
    let script = "<script>alert(1)</script> boo#12";
    let (status, made) = ann.ask(&server, POST, path, &[("text", script)]).await;
    assert_eq!((status, &made["id"]), (200, &json!(1)));
    let (_, list) = bob.ask(&server, GET, path, &[]).await;
    assert_eq!(
        (&list[0]["text"], &list[0]["userName"], &list[0]["bugrefs"]),
        (&json!(script), &json!("ann"), &json!(["boo#12"]))
    );
    assert!(!list[0]["renderedMarkdown"].as_str().unwrap().contains("<script"));
    assert_eq!(list[0]["created"], "2026-11-21 00:00:00 +0000");
    let (status, _) = bob.ask(&server, Method::PUT, "/api/v1/jobs/1/comments/1", &[("text", "mine")]).await;
    assert_eq!(status, 403, "only the author");
    let huge = "x".repeat(50 * 1024 * 1024);
    for (text, want) in [(huge.as_str(), 413), (&huge[..70_000], 413), ("", 400), (" ", 400), ("a\0b", 400)] {
        // A server that has heard enough may close the connection before it has been told everything.
        let now = (server.clock_micros() / 1_000_000).to_string();
        let answer = with_form(ann.signed(&server, POST, path, &now), &[("text", text)]).send().await;
        match answer {
            Ok(answer) => assert_eq!(answer.status().as_u16(), want, "{} bytes", text.len()),
            Err(error) => assert!(text.len() > 1_000_000, "{error}"),
        }
    }
    let forced = [("text", "label:force_result:passed:known")];
    assert_eq!(bob.ask(&server, POST, path, &forced).await.0, 403);
    let (status, body) = ann.ask(&server, POST, path, &forced).await;
    assert_eq!(status, 409, "the job has not ended: {body}");
    ann.ask(&server, POST, "/api/v1/jobs/1/cancel", &[]).await;
    assert_eq!(ann.ask(&server, POST, path, &forced).await.0, 200);
    let (_, job) = ann.ask(&server, GET, "/api/v1/jobs/1", &[]).await;
    assert_eq!(job["job"]["result"], "passed");

    // What was meant to give a result and names none is refused, before anything is kept; on a group it says nothing.
    let wrong = [("text", "see label:force_result:splendid:boo#1")];
    assert_eq!(bob.ask(&server, POST, path, &wrong).await.0, 403, "who may not force hears that first");
    let (status, body) = ann.ask(&server, POST, path, &wrong).await;
    let error = body["error"].as_str().unwrap();
    assert!(
        status == 400 && error.contains("Invalid result 'splendid'") && error.contains("softfailed"),
        "{error}"
    );
    let own = Some(json!({"text": wrong[0].1}));
    let (status, body) = server.ask(POST, "/api/assay/v1/jobs/1/comments", own).await;
    assert!(status == 400 && body["error"].as_str().unwrap().contains("softfailed"), "{body}");
    let (_, list) = ann.ask(&server, GET, path, &[]).await;
    let first = list.as_array().unwrap()[0]["id"].clone();
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    assert_eq!(ann.ask(&server, Method::PUT, &format!("{path}/{first}"), &wrong).await.0, 400);
    let admin = Key::make(&server, "root", "admin", None).await;
    admin.ask(&server, POST, "/api/v1/job_groups", &[("name", "g")]).await;
    assert_eq!(bob.ask(&server, POST, "/api/v1/groups/1/comments", &wrong).await.0, 200);
}

#[tokio::test]
async fn templates_of_a_group_as_yaml() {
    let server = Server::start().await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    admin.ask(&server, POST, "/api/v1/job_groups", &[("name", "yaml")]).await;
    let text = "defaults:\n  x86_64:\n    machine: 64bit\n    priority: 30\nproducts:\n  one:\n    distri: fedora\n    flavor: universal\n    version: '*'\n\
                scenarios:\n  x86_64:\n    one:\n    - other:\n        testsuite: install\n        settings:\n          A: 'b'\n";
    let root = "/api/v1/job_templates_scheduling";
    let form = |text: &'static str, more: &'static [(&'static str, &'static str)]| {
        [&[("name", "yaml"), ("template", text), ("schema", "JobTemplates-01.yaml")][..], more].concat()
    };
    let wrong = "products:\n  one: {distri: fedora, flavor: universal, version: '*'}\nscenarios:\n  x86_64:\n    one:\n    - nosuch:\n        machine: 65bit\n";
    let (status, body) = admin.ask(&server, POST, root, &form(wrong, &[])).await;
    assert_eq!(status, 400, "{body}");
    let all = body["error"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(all.contains("nosuch") && all.contains("65bit"), "everything at once: {all}");
    let (status, preview) = admin.ask(&server, POST, root, &form(text, &[("preview", "1")])).await;
    assert_eq!((status, &preview["preview"]), (200, &json!(1)), "{preview}");
    let (_, none) = admin.ask(&server, GET, "/api/v1/job_templates?group_name=yaml", &[]).await;
    assert_eq!(none, json!({"JobTemplates": []}), "a preview changes nothing");
    let (status, saved) = admin.ask(&server, POST, root, &form(text, &[])).await;
    assert_eq!(status, 200, "{saved}");
    let (_, again) = admin.ask(&server, POST, root, &form(text, &[])).await;
    assert_eq!(
        (&again["ids"], &again["changes"]),
        (&saved["ids"], &Value::Null),
        "what says the same keeps its number"
    );
    let (_, got) = admin.ask(&server, GET, &format!("{root}/yaml"), &[]).await;
    assert_eq!(got, json!(text));
    let (status, _) = admin.ask(&server, POST, root, &form(text, &[("reference", "something older")])).await;
    assert_eq!(status, 400);
    let (_, every) = admin.ask(&server, GET, root, &[]).await;
    assert!(every["fedora"].as_str().unwrap().contains("update"), "made from the tables: {every}");
    let yaml =
        client().get(server.url(&format!("{root}/yaml"))).header("accept", "text/yaml").send().await.unwrap();
    assert!(yaml.headers()["content-type"].to_str().unwrap().starts_with("text/yaml"));
    let (status, body) = admin.ask(&server, Method::DELETE, "/api/v1/machines/1", &[]).await;
    assert_eq!((status, body["error"].as_str().unwrap().contains("yaml")), (400, true), "{body}");
    let one = saved["ids"][0].as_i64().unwrap();
    let (status, body) =
        admin.ask(&server, Method::DELETE, &format!("/api/v1/job_templates/{one}"), &[]).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["error"].as_str().unwrap().contains("YAML"), "{body}");
}

#[tokio::test]
async fn scenarios_in_a_post_take_the_place_of_templates() {
    const YAML: &str = "products:
  live:
    distri: fedora
    flavor: universal
    version: '43'
    arch: x86_64
machines:
  64bit:
    backend: dummy
    settings: { WORKER_CLASS: dummy }
job_templates:
  smoke: { product: live, machine: 64bit, settings: { WHERE: repository } }
";
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let admin = Key::make(&server, "a", "admin", None).await;
    catalog(&server, &admin).await;
    let posted = async |name: &str, value: &str| {
        let form = [&PRODUCT[..], &[(name, value)]].concat();
        operator.ask(&server, POST, "/api/v1/isos", &form).await
    };
    let (status, body) = posted("SCENARIO_DEFINITIONS_YAML", YAML).await;
    assert_eq!((status, &body["count"]), (200, &json!(1)), "{body}");
    let (_, job) = server.get(&format!("/api/v1/jobs/{}", body["ids"][0])).await;
    let settings = &job["job"]["settings"];
    assert_eq!((&settings["TEST"], &settings["WHERE"]), (&json!("smoke"), &json!("repository")), "{job}");
    assert!(settings.get("SCENARIO_DEFINITIONS_YAML").is_none(), "{job}");
    let (status, run) =
        operator.ask(&server, GET, &format!("/api/v1/isos/{}", body["scheduled_product_id"]), &[]).await;
    assert_eq!((status, &run["settings"]["BUILD"]), (200, &json!("43.1")), "{run}");
    // Posted again, it is the repository's scenarios again, not the server's templates.
    let earlier = body["scheduled_product_id"].to_string();
    let again = [("scheduled_product_clone_id", earlier.as_str()), ("BUILD", "43.2")];
    let (status, body) = operator.ask(&server, POST, "/api/v1/isos", &again).await;
    assert_eq!((status, &body["count"]), (200, &json!(1)), "{body}");
    let (_, job) = server.get(&format!("/api/v1/jobs/{}", body["ids"][0])).await;
    let settings = &job["job"]["settings"];
    assert_eq!((&settings["WHERE"], &settings["BUILD"]), (&json!("repository"), &json!("43.2")), "{job}");
    // Without scenarios of its own it is a post of the templates, as it was.
    let (_, body) = operator.ask(&server, POST, "/api/v1/isos", &PRODUCT).await;
    assert_eq!(body["count"], json!(2), "{body}");
    let earlier = body["scheduled_product_id"].to_string();
    let again = [("scheduled_product_clone_id", earlier.as_str()), ("BUILD", "43.3")];
    assert_eq!(operator.ask(&server, POST, "/api/v1/isos", &again).await.1["count"], json!(2));
    // Secrets are not kept, so they have to be given again.
    let secret = YAML.replace("WHERE: repository", "_SECRET_KEY: sesame");
    let (_, body) = posted("SCENARIO_DEFINITIONS_YAML", &secret).await;
    assert_eq!(body["count"], json!(1), "{body}");
    let earlier = body["scheduled_product_id"].to_string();
    let (_, run) = operator.ask(&server, GET, &format!("/api/v1/isos/{earlier}"), &[]).await;
    assert!(!run.to_string().contains("sesame"), "{run}");
    let again = [("scheduled_product_clone_id", earlier.as_str()), ("BUILD", "43.4")];
    let (status, body) = operator.ask(&server, POST, "/api/v1/isos", &again).await;
    assert_eq!(status, 400, "{body}");
    assert!(body["error"].as_str().unwrap().contains("give SCENARIO_DEFINITIONS_YAML again"), "{body}");
    let again = [&again[..], &[("SCENARIO_DEFINITIONS_YAML", secret.as_str())]].concat();
    assert_eq!(operator.ask(&server, POST, "/api/v1/isos", &again).await.1["count"], json!(1));
    let none = [("scheduled_product_clone_id", "999")];
    assert_eq!(operator.ask(&server, POST, "/api/v1/isos", &none).await.0, 404);

    for (name, value, text) in [
        (
            "SCENARIO_DEFINITIONS_YAML",
            "machines: {m: {}}\njob_templates: {}",
            "SCENARIO_DEFINITIONS_YAML:1:15",
        ),
        ("SCENARIO_DEFINITIONS_YAML", "a: [", "SCENARIO_DEFINITIONS_YAML:2:1"),
        ("SCENARIO_DEFINITIONS_YAML_FILE", "/etc/passwd", "send the text"),
    ] {
        let (status, body) = posted(name, value).await;
        assert_eq!(status, 400, "{body}");
        assert!(body["error"].as_str().unwrap().contains(text), "{body}");
    }
}

#[tokio::test]
async fn assets_are_listed_and_only_admins_remove_them() {
    let server = Server::start().await;
    let operator = Key::make(&server, "o", "operator", None).await;
    let admin = Key::make(&server, "a", "admin", None).await;
    for bytes in [&b"one"[..], b"two, newer", b"other"] {
        let name = if bytes == b"other" { "b.iso" } else { "a.iso" };
        server.publish(name, bytes).await;
    }
    let (_, list) = server.get("/api/v1/assets").await;
    let told: Vec<_> =
        list["assets"].as_array().unwrap().iter().map(|row| (&row["name"], &row["size"])).collect();
    assert_eq!(told, [(&json!("a.iso"), &json!(10)), (&json!("b.iso"), &json!(5))]);
    let (_, page) = server.get("/api/v1/assets?limit=1&offset=1").await;
    assert_eq!((page["assets"].as_array().unwrap().len(), &page["assets"][0]["name"]), (1, &json!("b.iso")));
    let (_, named) = server.get("/api/v1/assets/iso/a.iso").await;
    assert_eq!((&named["type"], &named["size"]), (&json!("iso"), &json!(10)));
    let id = named["id"].as_i64().unwrap();
    let by_id = format!("/api/v1/assets/{id}");
    assert_eq!(server.get(&by_id).await.1, named);

    let ours = "/api/assay/v1/assets";
    let cases: [(&Key, Method, String, Form<'_>, u16); 11] = [
        (&operator, Method::DELETE, by_id.clone(), &[], 403),
        (&operator, POST, "/api/v1/assets/cleanup".into(), &[], 403),
        (&operator, Method::DELETE, format!("{ours}/iso/a.iso"), &[], 403),
        (&operator, POST, "/api/v1/assets".into(), &[("type", "iso"), ("name", "a.iso")], 200),
        (&operator, POST, "/api/v1/assets".into(), &[("type", "iso"), ("name", "c.iso")], 400),
        (&operator, POST, "/api/v1/assets".into(), &[("type", "iso")], 400),
        (&admin, GET, "/api/v1/assets/iso/no.iso".into(), &[], 404),
        (&admin, GET, "/api/v1/assets/nokind/a.iso".into(), &[], 404),
        (&admin, POST, "/api/v1/assets/cleanup".into(), &[], 200),
        (&admin, Method::DELETE, by_id, &[], 200),
        (&admin, Method::DELETE, "/api/v1/assets/iso/a.iso".into(), &[], 404),
    ];
    for (who, method, path, form, want) in cases {
        let (status, body) = who.ask(&server, method.clone(), &path, form).await;
        assert_eq!(status, want, "{} {method} {path}: {body}", who.user);
    }
    let (status, _) = admin.ask(&server, Method::DELETE, "/api/v1/assets/iso/b.iso", &[]).await;
    assert_eq!((status, server.get("/api/v1/assets").await.1), (200, json!({"assets": []})));
}
