//! What operators do to jobs by the forms of pages, how they look through a scenario, and people with their keys.

use crate::common::{Server, client};
use crate::people::Key;
use assay_engine::outcome::Outcome;
use assay_fakes::{Assigned, Connection};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

/// A form of a page, sent with this token; the status, where it leads, and the page.
async fn send(server: &Server, token: &str, path: &str, form: &[(&str, &str)]) -> (u16, String, String) {
    let request = client().post(server.url(path)).bearer_auth(token);
    let answer = crate::people::with_form(request, form).send().await.unwrap();
    let to = answer.headers().get(header::LOCATION).map(|value| value.to_str().unwrap().to_owned());
    (answer.status().as_u16(), to.unwrap_or_default(), answer.text().await.unwrap())
}

async fn page(server: &Server, token: &str, path: &str) -> String {
    let answer = client().get(server.url(path)).bearer_auth(token).send().await.unwrap();
    let (status, page) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{path}: {page}");
    page
}

async fn end(server: &Server, worker: &mut Connection, outcome: Outcome) -> i64 {
    let Assigned { held, job, .. } = worker.expect_assign().await.unwrap();
    worker.finish(held, outcome, None).await.unwrap();
    worker.expect_finished_ack(held.attempt).await.unwrap();
    server.finished(job.0).await;
    job.0
}

fn settings(test: &str, class: &str) -> Value {
    json!({"DISTRI": "d", "VERSION": "1", "BUILD": "7", "TEST": test, "WORKER_CLASS": class})
}

#[tokio::test]
async fn a_job_is_cancelled_and_prioritised_on_its_page() {
    let server = Server::start().await;
    let admin = server.handle.admin_token.clone();
    let id = server.post(settings("a", "nobody")).await;
    let path = format!("/jobs/{id}");
    let anonymous = server.page(&path).await.1;
    assert!(!anonymous.contains("id=\"cancel\"") && !anonymous.contains("id=\"priority\""), "{anonymous}");
    let seen = page(&server, &admin, &path).await;
    assert!(
        seen.contains("id=\"cancel\"") && seen.contains("name=\"priority\" type=\"number\" value=\"50\"")
    );
    let answer = client().post(server.url(&format!("{path}/cancel"))).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(&server, &admin, &format!("{path}/priority"), &[("priority", "x")]).await.0, 400);
    let done = send(&server, &admin, &format!("{path}/priority"), &[("priority", "-3")]).await;
    assert_eq!((done.0, done.1.as_str(), server.job(id).await.priority), (303, path.as_str(), -3));
    // Twice: what is over is over.
    for _ in 0..2 {
        let done = send(&server, &admin, &format!("{path}/cancel"), &[]).await;
        assert_eq!((done.0, done.1.as_str()), (303, path.as_str()));
    }
    assert_eq!(server.job(id).await.result, "user_cancelled");
    let seen = page(&server, &admin, &path).await;
    assert!(!seen.contains("id=\"cancel\"") && !seen.contains("id=\"priority\""), "{seen}");
    let (_, audit) = server.get("/api/assay/v1/audit?event=job_cancel").await;
    assert_eq!(audit["events"].as_array().map(Vec::len), Some(1), "{audit}");
    assert_eq!(send(&server, &admin, "/jobs/99/cancel", &[]).await.0, 404);
}

#[tokio::test]
async fn failures_of_a_matrix_are_commented_and_started_anew_together() {
    let server = Server::start().await;
    let admin = server.handle.admin_token.clone();
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    for (test, outcome) in [("a", Outcome::Failed), ("b", Outcome::Passed), ("c", Outcome::Incomplete)] {
        server.post(settings(test, "dummy")).await;
        end(&server, &mut worker, outcome).await;
    }
    let waits = server.post(settings("d", "nobody")).await;
    let path = "/tests/overview?build=7";
    assert!(!server.page(path).await.1.contains("id=\"acts\""), "others only look");
    let seen_of = |page: &str| {
        let value = page.split("name=\"seen\" value=\"").nth(1).unwrap_or_else(|| panic!("{page}"));
        value.split('"').next().unwrap().to_owned()
    };
    let shown = page(&server, &admin, path).await;
    for part in ["all 2 failures shown", "Start all 2 anew", "Cancel the job that has not ended"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let seen = seen_of(&shown);
    let act = async |path: &str, act: &str, say: &str, seen: &str| {
        send(&server, &admin, path, &[("act", act), ("say", say), ("seen", seen)]).await
    };
    let comments = async |job: i64| {
        server.get(&format!("/api/v1/jobs/{job}/comments")).await.1.as_array().unwrap().len()
    };
    assert_eq!(act(path, "comment", " ", &seen).await.0, 400);
    assert_eq!(act(path, "explode", "x", &seen).await.0, 400);
    assert_eq!(act(path, "comment", "boo#1\r\nagain", &seen).await.1, path);
    assert_eq!([comments(1).await, comments(2).await, comments(3).await], [1, 0, 1]);
    // What is chosen by the address counts: of these failures one is left.
    let one = format!("{path}&result=incomplete");
    let seen_one = seen_of(&page(&server, &admin, &one).await);
    // Meanwhile another one fails: nothing is done, and the text is still there.
    server.post(settings("e", "dummy")).await;
    end(&server, &mut worker, Outcome::Incomplete).await;
    let (status, _, shown) = act(&one, "restart", "because", &seen_one).await;
    assert_eq!(status, 200);
    assert!(
        shown.contains("Meanwhile other jobs have failed") && shown.contains(">because</textarea>"),
        "{shown}"
    );
    assert_eq!(server.get("/api/v1/jobs/3").await.1["job"]["clone_id"], Value::Null);
    assert_eq!(act(&one, "restart", "because", &seen_of(&shown)).await.1, one);
    for (job, cloned, said) in [(1, false, 1), (3, true, 2), (5, true, 1)] {
        let (_, told) = server.get(&format!("/api/v1/jobs/{job}")).await;
        assert_eq!((told["job"]["clone_id"].is_i64(), comments(job).await), (cloned, said), "{job}: {told}");
    }
    // The clones may run, so only what waits for nobody is chosen.
    let open = format!("{path}&test=d");
    assert_eq!(act(&open, "cancel", "", "").await.1, open);
    assert_eq!(server.job(waits).await.result, "user_cancelled");
    let answer = client().post(server.url(path)).body("act=cancel").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_scenario_is_looked_through() {
    let server = Server::start().await;
    let mut worker = server.worker("w1").connect(&[]).await.unwrap();
    for number in 1..=30 {
        server.post(settings("a", "dummy")).await;
        let outcome = if number % 10 == 0 { Outcome::Failed } else { Outcome::Passed };
        end(&server, &mut worker, outcome).await;
    }
    let rows = |page: &str| page.matches("<tr id=\"scenario-").count();
    let first = server.page("/jobs/30").await.1;
    assert_eq!(rows(&first), 21);
    let more = first.split("<a href=\"").find(|part| part.contains("older ones")).unwrap();
    let more = more.split('"').next().unwrap().replace("&#38;", "&");
    let all = server.page(&more).await.1;
    assert!(rows(&all) == 30 && !all.contains("older ones"), "{more}: {all}");
    let around = server.page("/jobs/15?next_limit=2&previous_limit=3").await.1;
    assert!(rows(&around) == 6 && around.contains("older ones") && around.contains("newer ones"));
    let failures = server.page("/jobs/30?history_result=not_ok").await.1;
    assert!(rows(&failures) == 3 && failures.contains("all results"), "{failures}");
    assert_eq!(server.page("/jobs/30?history_result=splendid").await.0, StatusCode::BAD_REQUEST);
    // Lists of Assay's API by what scripts need.
    let ids = async |query: &str| {
        let (status, list) = server.get(&format!("/api/assay/v1/jobs?limit=100&{query}")).await;
        (status.as_u16(), list["jobs"].as_array().map_or(0, Vec::len))
    };
    for (query, want) in [
        ("build=7", (200, 30)),
        ("build=7&result=not_ok", (200, 3)),
        ("state=pending", (200, 0)),
        ("test=a,b&machine=", (200, 30)),
        ("test=b", (200, 0)),
        ("group=nobody", (404, 0)),
        ("result=fine", (400, 0)),
    ] {
        assert_eq!(ids(query).await, want, "{query}");
    }
}

#[tokio::test]
async fn people_make_keys_of_their_own_and_admins_give_roles() {
    let server = Server::start().await;
    let admin = server.handle.admin_token.clone();
    let ann = Key::make(&server, "ann", "viewer", None).await;
    let (status, made) = server
        .ask(Method::POST, "/api/assay/v1/setup-tokens", Some(json!({"user": "ann", "role": "viewer"})))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let browser = client();
    let form = async |cookie: &str, path: &str, form: &[(&str, &str)]| {
        let request =
            browser.post(server.url(path)).header("cookie", cookie).header("origin", server.url(""));
        let answer = crate::people::with_form(request, form).send().await.unwrap();
        let set = answer.headers().get(header::SET_COOKIE).map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), set.unwrap_or_default(), answer.text().await.unwrap())
    };
    let (status, cookie, _) = form("", "/login", &[("token", made["token"].as_str().unwrap())]).await;
    assert_eq!(status, 303);
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let (status, _, page_of) = form(&cookie, "/login/keys", &[("days", "30")]).await;
    assert_eq!(status, 200, "{page_of}");
    let part = |name: &str| {
        let rest = page_of.split(&format!("{name} = ")).nth(1).unwrap_or_else(|| panic!("{page_of}"));
        rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
    };
    let (key, secret) = (part("key"), part("secret"));
    let bearer = format!("ann:{key}:{secret}");
    let whoami = async |token: &str| {
        let answer = client().get(server.url("/api/v1/users/me/api_keys")).bearer_auth(token);
        answer.send().await.unwrap().status().as_u16()
    };
    assert_eq!(whoami(&bearer).await, 200);
    for (path, fields, want) in [
        ("/login/keys", &[("days", "100000")][..], 400),
        ("/login/keys/revoke", &[("key", "0000000000000000")], 404),
        ("/admin/users", &[("user", "ann"), ("role", "admin")], 403),
    ] {
        assert_eq!(form(&cookie, path, fields).await.0, want, "{path}");
    }
    assert_eq!(form(&cookie, "/login/keys/revoke", &[("key", &key)]).await.0, 303);
    assert_eq!(whoami(&bearer).await, 403);
    assert_eq!(form("", "/login/keys", &[]).await.0, 401, "nobody has a key");

    assert!(page(&server, &admin, "/admin/users").await.contains("Role of ann"));
    assert_eq!(server.page("/admin/users").await.0, StatusCode::UNAUTHORIZED);
    for (user, role, want) in [("ann", "operator", 303), ("nobody", "viewer", 404), ("ann", "king", 400)] {
        assert_eq!(
            send(&server, &admin, "/admin/users", &[("user", user), ("role", role)]).await.0,
            want,
            "{user} {role}"
        );
    }
    let (status, _) = ann.ask(&server, Method::POST, "/api/v1/jobs", &[("TEST", "a")]).await;
    assert_eq!(status, 200, "an operator now");
    // Who signs out is noted too.
    assert_eq!(form(&cookie, "/logout", &[]).await.0, 303);
    let (_, audit) = server.get("/api/assay/v1/audit?user=ann").await;
    let words: Vec<_> = audit["events"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(words, ["user_login", "user_update", "user_update", "job_create", "user_logout"], "{audit}");
}
