//! Starting jobs anew over the API: shown before it is done, done once, and known to the old jobs.

use crate::common::Server;
use crate::people::Key;
use assay_engine::outcome::Outcome;
use assay_fakes::Assigned;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn ask(server: &Server, path: &str, body: Value) -> Value {
    let (status, answer) = server.ask(Method::POST, &format!("/api/assay/v1/jobs/{path}"), Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    answer
}

#[tokio::test]
async fn a_restart_is_shown_then_done_and_done_once() -> anyhow::Result<()> {
    let server = Server::start().await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let Assigned { held, .. } = worker.expect_assign().await?;
    worker.finish(held, Outcome::Failed, Some("module shell failed")).await?;
    worker.expect_finished_ack(held.attempt).await?;
    server.finished(id).await;

    let plan = ask(&server, &format!("{id}/restart?plan=1"), json!({})).await;
    assert_eq!(plan["done"], json!(false));
    assert_eq!(plan["clones"][0]["why"], json!("it was asked for"));
    assert_eq!(plan["clones"][0].get("clone"), None);
    let (_, planned) = server.get(&format!("/api/assay/v1/jobs/{id}/restart")).await;
    assert_eq!(planned, plan, "the plan can be read");

    // Two operators at once: one clone, and both hear of it.
    let path = format!("{id}/restart");
    let options = json!({"set": {"EXTRA": "1"}, "priority": 7});
    let (first, second) =
        tokio::join!(ask(&server, &path, options.clone()), ask(&server, &path, options.clone()));
    let clone =
        |answer: &Value| answer["clones"][0]["clone"].as_i64().or(answer["exists"][0]["clone"].as_i64());
    let number = clone(&first).expect("a clone");
    assert_eq!(clone(&second), Some(number));
    let made = [&first, &second].iter().filter(|answer| answer["clones"][0].is_object()).count();
    assert_eq!(made, 1, "{first} {second}");
    let job = server.job(number).await;
    assert_eq!((job.priority, job.settings["EXTRA"].origin.as_str()), (7, "the restart"));

    // After a restart of the server it is still known.
    let server = server.kill_and_restart().await;
    let again = ask(&server, &path, json!({})).await;
    assert_eq!((clone(&again), again["clones"].as_array().map(Vec::len)), (Some(number), Some(0)));
    Ok(())
}

#[tokio::test]
async fn what_was_started_anew_and_passed_is_no_failure_of_its_build() -> anyhow::Result<()> {
    let server = Server::start().await;
    let settings =
        json!({"DISTRI": "d", "VERSION": "1", "BUILD": "77", "TEST": "boot", "WORKER_CLASS": "dummy"});
    let id = server.post(settings).await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let mut end = async |id: i64, outcome: Outcome| -> anyhow::Result<()> {
        let Assigned { held, .. } = worker.expect_assign().await?;
        worker.finish(held, outcome, None).await?;
        worker.expect_finished_ack(held.attempt).await?;
        server.finished(id).await;
        Ok(())
    };
    end(id, Outcome::Failed).await?;
    let clone =
        ask(&server, &format!("{id}/restart"), json!({})).await["clones"][0]["clone"].as_i64().unwrap();
    end(clone, Outcome::Passed).await?;
    let ids = |jobs: &Value| -> Vec<i64> {
        jobs.as_array().unwrap().iter().map(|job| job["id"].as_i64().unwrap()).collect()
    };
    for (query, want) in [
        ("build=77", vec![clone]),
        ("build=77&result=failed", vec![]),
        ("build=77&result=not_ok&todo=1", vec![]),
        ("build=77&result=passed", vec![clone]),
        ("build=77&comment=nobody", vec![]),
    ] {
        let (_, named) = server.get(&format!("/api/v1/jobs/overview?{query}")).await;
        let (_, matrix) = server.get(&format!("/tests/overview.json?{query}")).await;
        assert_eq!((ids(&named), ids(&matrix["jobs"])), (want.clone(), want), "{query}");
    }
    let (_, badge) = server.page("/tests/overview/badge?build=77&result__not=passed").await;
    assert!(badge.contains("tests: none"), "{badge}");
    Ok(())
}

#[tokio::test]
async fn a_comment_goes_with_what_is_started_anew_and_is_a_comment_like_any_other() -> anyhow::Result<()> {
    let server = Server::start().await;
    let bob = Key::make(&server, "bob", "operator", None).await;
    let id = server.post_dummy().await;
    let mut worker = server.worker("w1").connect(&[]).await?;
    let Assigned { held, .. } = worker.expect_assign().await?;
    worker.finish(held, Outcome::Failed, None).await?;
    worker.expect_finished_ack(held.attempt).await?;
    server.finished(id).await;
    let path = format!("/api/v1/jobs/{id}/restart");
    let long = "x".repeat(64 * 1024 + 1);
    for (text, want) in [(long.as_str(), 413), (" ", 400), ("\0", 400)] {
        let (status, answer) = bob.ask(&server, Method::POST, &path, &[("comment", text)]).await;
        assert_eq!(status, want, "{answer}");
        assert_eq!(server.get(&format!("/api/v1/jobs/{id}")).await.1["job"]["clone_id"], Value::Null);
    }
    // Twice: the second time nothing is started anew, and nothing is said.
    for _ in 0..2 {
        let form = [("comment", "boo#7 label:force_result:softfailed:again")];
        assert_eq!(bob.ask(&server, Method::POST, &path, &form).await.0, 200);
    }
    let (_, said) = server.get(&format!("/api/v1/jobs/{id}/comments")).await;
    assert_eq!((said.as_array().map(Vec::len), &said[0]["userName"]), (Some(1), &json!("bob")), "{said}");
    assert_eq!(server.get("/api/v1/bugs").await.1["bugs"], json!({"1": "boo#7"}));
    assert_eq!(server.job(id).await.result, "softfailed");
    let (_, audit) = server.get("/api/assay/v1/audit?event=comment_create").await;
    assert_eq!(audit["events"].as_array().map(Vec::len), Some(1), "{audit}");

    // Assay's own API; only what was named is commented.
    let clone = server.get(&format!("/api/v1/jobs/{id}")).await.1["job"]["clone_id"].as_i64().unwrap();
    let (status, answer) = server
        .ask(Method::POST, &format!("/api/assay/v1/jobs/{clone}/restart"), Some(json!({"comment": 7})))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    let copy = json!({"jobs": [clone], "options": {"copy_only": true, "force": true}, "comment": "boo#8"});
    let made = ask(&server, "restart", copy).await["clones"][0]["clone"].as_i64().unwrap();
    for (job, want) in [(clone, 1), (made, 0)] {
        let (_, said) = server.get(&format!("/api/v1/jobs/{job}/comments")).await;
        assert_eq!(said.as_array().map(Vec::len), Some(want), "{job}: {said}");
    }
    let unknown = json!({"jobs": [clone], "options": {"group": 9}});
    let (status, answer) = server.ask(Method::POST, "/api/assay/v1/jobs/restart", Some(unknown)).await;
    assert!(status == StatusCode::NOT_FOUND && answer.to_string().contains("no group 9"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_started_anew_is_named() {
    let server = Server::start().await;
    let api = "/api/assay/v1/jobs";
    for (path, body, status, text) in [
        ("99/restart", json!({}), StatusCode::NOT_FOUND, "no job 99"),
        ("restart", json!({"jobs": []}), StatusCode::BAD_REQUEST, "names no job"),
        ("1/restart", json!({"fource": true}), StatusCode::BAD_REQUEST, "unknown field `fource`"),
        ("x/restart", json!({}), StatusCode::NOT_FOUND, "not a job's number"),
        ("99/priority", json!({"priority": 1}), StatusCode::NOT_FOUND, "99"),
    ] {
        let (found, answer) = server.ask(Method::POST, &format!("{api}/{path}"), Some(body)).await;
        assert!(found == status && answer.to_string().contains(text), "{path}: {found} {answer}");
    }
    let id = server.post_dummy().await;
    let (status, job) =
        server.ask(Method::POST, &format!("{api}/{id}/priority"), Some(json!({"priority": -5}))).await;
    assert_eq!((status, &job["priority"]), (StatusCode::OK, &json!(-5)));
    let waits = ask(&server, &format!("{id}/restart"), json!({})).await;
    assert_eq!(waits["stays"][0]["why"], json!("it has not begun yet"));
}

#[tokio::test]
async fn what_people_do_to_jobs_is_noted_once_and_only_if_it_changes_something() {
    let server = Server::start().await;
    let bob = Key::make(&server, "bob", "operator", None).await;
    let id = server.post_dummy().await;
    let newest = async || {
        let (_, list) = server.get("/api/assay/v1/audit?limit=1").await;
        let event = &list["events"][0];
        (event["id"].as_i64().unwrap(), event["event"].clone(), event["data"].clone())
    };
    let copy = json!({"jobs": [id], "options": {"copy_only": true, "force": true}});
    let (own, theirs) = ("/api/assay/v1/jobs", "/api/v1/jobs");
    let dummy = json!({"settings": {"TEST": "a", "BACKEND": "dummy"}});
    // The address, what is sent, and what is noted of it; nothing if nothing has changed.
    let table = [
        (own.to_owned(), Some(dummy), Some(("job_create", json!({"id": 2, "name": "a"})))),
        (
            format!("{own}/{id}/priority"),
            Some(json!({"priority": 7})),
            Some(("job_update", json!({"id": 1, "name": "hello", "priority": 7}))),
        ),
        (format!("{own}/{id}/priority"), Some(json!({"priority": 7})), None),
        (format!("{theirs}/{id}/prio?prio=7"), None, None),
        (
            format!("{theirs}/{id}/prio?prio=8"),
            None,
            Some(("job_update", json!({"id": 1, "name": "hello", "priority": 8}))),
        ),
        (format!("{own}/{id}/restart"), None, None),
        (format!("{own}/restart?plan=1"), Some(copy.clone()), None),
        (format!("{own}/restart"), Some(copy), Some(("jobs_restart", json!([{"1": 3}])))),
        (format!("{theirs}/{id}/restart"), None, None),
        (format!("{own}/{id}/cancel"), None, Some(("job_cancel", json!({"id": 1, "name": "hello"})))),
        (format!("{own}/{id}/cancel"), None, None),
        (format!("{theirs}/{id}/cancel"), None, None),
        (format!("{theirs}/cancel?BUILD=none"), None, None),
        (format!("{theirs}/{id}/restart"), None, Some(("jobs_restart", json!([{"1": 4}])))),
        (format!("{theirs}/{id}/restart"), None, None),
        (format!("{own}/{id}/restart"), None, None),
        (format!("{theirs}/2/cancel"), None, Some(("job_cancel", json!({"id": 2, "name": "a"})))),
        (format!("{own}/2/restart"), None, Some(("jobs_restart", json!([{"2": 5}])))),
    ];
    for (path, body, want) in table {
        let before = newest().await.0;
        let (status, answer) = if path.starts_with(theirs) {
            bob.ask(&server, Method::POST, &path, &[]).await
        } else {
            let (status, answer) = server.ask(Method::POST, &path, body).await;
            (status.as_u16(), answer)
        };
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        let (number, event, data) = newest().await;
        match want {
            Some((word, told)) => {
                assert_eq!((number, event, data), (before + 1, json!(word), told), "{path}: {answer}");
            }
            None => assert_eq!(number, before, "{path} has noted {event} {data}"),
        }
    }
}

/// Names and values.
type Pairs = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn a_plan_warns_of_files_that_are_not_here() {
    let server = Server::start().await;
    let bob = Key::make(&server, "bob", "operator", None).await;
    server.publish("here.iso", b"x").await;
    let dummy = |more: &[(&str, &str)]| {
        let mut settings = json!({"TEST": "a", "BACKEND": "dummy", "ISO": "here.iso"});
        for (name, value) in more {
            settings[*name] = json!(value);
        }
        settings
    };
    let missing = "The file iso/gone.iso is not here, and job";
    // What the job reads, what the restart sets, and whether that is warned of.
    let table: [(Pairs, Pairs, bool); 5] = [
        (&[], &[], false),
        (&[("ISO_1", "gone.iso")], &[], true),
        (&[("ISO_1", "gone.iso")], &[("ISO_1", "here.iso")], false),
        (&[], &[("ISO", "gone.iso")], true),
        (&[("REPO_0", "gone-repo"), ("ISO_1", "/somewhere/gone.iso")], &[], false),
    ];
    for (settings, set, warned) in table {
        let id = server.post(dummy(settings)).await;
        server.ask(Method::POST, &format!("/api/assay/v1/jobs/{id}/cancel"), None).await;
        let set: serde_json::Map<_, _> =
            set.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let plan = ask(&server, &format!("{id}/restart?plan=1"), json!({ "set": set })).await;
        let warnings = plan["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), usize::from(warned), "{settings:?} {plan}");
        assert!(warnings.iter().all(|text| text.as_str().unwrap().starts_with(missing)), "{plan}");
        if warned && set.is_empty() {
            assert!(server.page(&format!("/jobs/{id}/restart")).await.1.contains(missing));
            let (_, told) = bob.ask(&server, Method::POST, &format!("/api/v1/jobs/{id}/restart"), &[]).await;
            assert!(told["warnings"].to_string().contains(missing), "{told}");
        }
    }
    // What another clone of the plan makes will be here.
    let form = [
        ("TEST:m", "make"),
        ("BACKEND:m", "dummy"),
        ("PUBLISH_HDD_1:m", "made.qcow2"),
        ("TEST:b", "boot"),
        ("BACKEND:b", "dummy"),
        ("HDD_1:b", "made.qcow2"),
        ("_START_AFTER:b", "m"),
    ];
    let (_, posted) = bob.ask(&server, Method::POST, "/api/v1/jobs", &form).await;
    let [make, boot] = ["m", "b"].map(|one| posted["ids"][one].as_i64().unwrap());
    server.ask(Method::POST, &format!("/api/assay/v1/jobs/{make}/cancel"), None).await;
    let plan = ask(&server, &format!("{boot}/restart?plan=1"), json!({})).await;
    assert_eq!((plan["clones"].as_array().unwrap().len(), &plan["warnings"]), (2, &json!([])), "{plan}");
    let alone = ask(&server, &format!("{boot}/restart?plan=1"), json!({"skip_parents": true})).await;
    assert_eq!(alone["warnings"].as_array().unwrap().len(), 1, "{alone}");
}
