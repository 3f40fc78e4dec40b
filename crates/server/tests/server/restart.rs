//! Starting jobs anew over the API: shown before it is done, done once, and known to the old jobs.

use crate::common::Server;
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
async fn what_cannot_be_started_anew_is_named() {
    let server = Server::start().await;
    let api = "/api/assay/v1/jobs";
    for (path, body, status, text) in [
        ("99/restart", json!({}), StatusCode::BAD_REQUEST, "no job 99"),
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
